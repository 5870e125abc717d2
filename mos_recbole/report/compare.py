"""The comparison of runs in pairs: paired tests on the same queries, across seeds, corrected for their number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from mos_recbole.errors import InputError
from mos_recbole.evaluation import Difference, compare_means
from mos_recbole.metric_names import canonical_metric, metric_direction, needs_top_items
from mos_recbole.report.sides import Side
from mos_recbole.report.tables import TABLE_METRICS, aligned_outcomes, metric_values, user_numbers
from mos_recbole.results import RunResult


@dataclass(frozen=True)
class Comparison:
    """A metric of two sides, A and B.

    Attributes:
        difference: of B from A, with interval and p value as if it were the only one.
        adjusted_p_value: corrected by Holm's method for all comparisons made together.
    """

    first: str
    second: str
    metric: str
    first_mean: float
    second_mean: float
    difference: Difference
    adjusted_p_value: float


@dataclass(frozen=True)
class Comparisons:
    """All pairs of some sides by some metrics, pair by pair. `compare_sides` returns it."""

    sides: tuple[Side, ...]
    rows: tuple[Comparison, ...]
    n_queries: int
    n_users: int

    def table(self, tablefmt: str = "github") -> str:
        """Returns a table with a row a comparison, in one of tabulate's formats or as "csv"."""
        cells = [
            {
                "A": row.first,
                "B": row.second,
                "metric": f"{row.metric} {'↑' if metric_direction(row.metric) == 'higher' else '↓'}",
                "mean A": f"{row.first_mean:.4f}",
                "mean B": f"{row.second_mean:.4f}",
                "B - A [95 % interval]": _interval(row.difference),
                "relative": f"{100 * row.difference.effect / row.first_mean:+.1f} %" if row.first_mean else "n/a",
                "p": _p_value(row.difference.p_value),
                "p (Holm)": _p_value(row.adjusted_p_value),
            }
            for row in self.rows
        ]
        if tablefmt == "csv":
            return pd.DataFrame(cells).to_csv(index=False).rstrip("\n")
        alignment = ["left"] * 3 + ["right"] * 6
        return tabulate(cells, headers="keys", tablefmt=tablefmt, disable_numparse=True, colalign=alignment)

    def caption(self) -> str:
        """Returns what the table's numbers mean, in a few lines."""
        single = [side.label for side in self.sides if len(side.runs) == 1]
        several = len(single) < len(self.sides)
        numbers = {len(side.runs) for side in self.sides}
        seeds = (
            _count(numbers.pop(), "seed")
            if len(numbers) == 1
            else "seeds (" + ", ".join(f"{side.label}: {len(side.runs)}" for side in self.sides) + ")"
        )
        lines = [
            f"B - A: difference of the means over {seeds} and {_count(self.n_queries, 'query', 'queries')} of "
            f"{_count(self.n_users, 'user')}, the same for all; its interval is not adjusted for the number of "
            "comparisons.",
            f"p: two-sided, of the null hypothesis that A and B have the same mean over all users"
            f"{' and seeds' if several else ''}. Users are the unit, paired"
            + ("; seeds are random too, those of A independent of those of B" if several else "")
            + "; Student's t with Satterthwaite's degrees of freedom (after Clark's min F').",
            f"p (Holm): corrected by Holm's method for the {_count(len(self.rows), 'comparison')} of this table.",
        ]
        if single:
            lines.append(f"With one seed, nothing is said of other seeds of {', '.join(single)}.")
        chosen = [side.label for side in self.sides if side.by_validation]
        if chosen:
            lines.append(f"Configurations chosen by validation: {', '.join(chosen)}.")
        return "\n".join(lines)


def compare_sides(sides: Sequence[Side], metrics: Sequence[str] = TABLE_METRICS) -> Comparisons:
    """Returns the differences of all pairs of sides in all metrics, each with its test (`evaluation.compare_means`).

    The metrics are recomputed from the outcomes files. GAUC leaves out queries whose target is the only candidate.

    Args:
        sides: two or more, evaluated by one protocol.
        metrics: any that are computed from target ranks, whatever metrics and cut-offs the runs were configured with.

    Raises:
        InputError: fewer than two sides, a run on two of them, different protocols or queries, a metric that is
            unknown or needs the recommended lists, or outcomes that are missing or of one user.
    """
    if len(sides) < 2:
        raise InputError("a comparison needs two sides or more")
    names = _metric_names(metrics)
    _require_distinct_runs(sides)
    _require_one_protocol(sides)
    tables = iter(aligned_outcomes([run for side in sides for run in side.runs]))
    tables_of = [[next(tables) for _ in side.runs] for side in sides]
    users = user_numbers(tables_of[0][0])
    pairs = []
    for metric in names:
        values = [metric_values(of_side, metric) for of_side in tables_of]
        defined = np.logical_and.reduce([~np.isnan(one).any(axis=0) for one in values])
        for a, b in combinations(range(len(sides)), 2):
            first, second = values[a][:, defined], values[b][:, defined]
            try:
                difference = compare_means(first, second, users[defined])
            except ValueError as error:
                raise InputError(f"{metric}: {error}") from error
            pairs.append((a, b, metric, float(first.mean()), float(second.mean()), difference))
    pairs.sort(key=lambda pair: pair[:2])
    adjusted = _holm([difference.p_value for *_, difference in pairs])
    rows = [
        Comparison(sides[a].label, sides[b].label, metric, first_mean, second_mean, difference, adjusted_p_value)
        for (a, b, metric, first_mean, second_mean, difference), adjusted_p_value in zip(pairs, adjusted, strict=True)
    ]
    return Comparisons(tuple(sides), tuple(rows), n_queries=len(users), n_users=int(users.max()) + 1)


def join_comparisons(parts: Sequence[Comparisons]) -> Comparisons:
    """Returns the comparisons of one protocol's pairs as one table, p values corrected for all of its rows.

    Raises:
        InputError: no comparisons, or sides of different protocols.
    """
    if not parts:
        raise InputError("no comparisons to join")
    sides = tuple({side.label: side for part in parts for side in part.sides}.values())
    _require_one_protocol(sides)
    rows = [row for part in parts for row in part.rows]
    adjusted = _holm([row.difference.p_value for row in rows])
    joined = [replace(row, adjusted_p_value=p_value) for row, p_value in zip(rows, adjusted, strict=True)]
    return Comparisons(sides, tuple(joined), parts[0].n_queries, parts[0].n_users)


def _metric_names(metrics: Sequence[str]) -> list[str]:
    """Returns the metrics in RecBole's spelling, each once. Raises InputError for those that ranks do not decide."""
    try:
        names = list(dict.fromkeys(canonical_metric(metric) for metric in metrics))
    except ValueError as error:
        raise InputError(str(error)) from error
    of_lists = [name for name in names if needs_top_items(name)]
    if of_lists:
        raise InputError(
            f"metric {', '.join(of_lists)}: about the recommended lists, while runs keep the ranks of the targets; "
            "expected Recall, Hit, NDCG, MRR, MAP or Precision with a cut-off, or GAUC"
        )
    return names


def _require_distinct_runs(sides: Sequence[Side]) -> None:
    """Raises InputError if two sides have a run in common."""
    seen: dict[str, Side] = {}
    for side in sides:
        for run in side.runs:
            if run.run_id in seen:
                raise InputError(
                    f"run {run.run_id} is on two sides, {seen[run.run_id].label} and {side.label}: what is compared "
                    "must be different runs"
                )
        seen |= {run.run_id: side for run in side.runs}


def _require_one_protocol(sides: Sequence[Side]) -> None:
    """Raises InputError, with what differs, if the sides' numbers may not be compared."""
    first = sides[0]
    faults = [
        f"{first.label} and {side.label}: {'; '.join(_protocol_differences(first.runs[0], side.runs[0]))}"
        for side in sides[1:]
        if side.runs[0].protocol_hash != first.runs[0].protocol_hash
    ]
    if faults:
        raise InputError("\n".join(["sides of different protocols cannot be compared", *faults]))


def _protocol_differences(first: RunResult, second: RunResult) -> Iterator[str]:
    """Yields in what two runs' protocols and data differ: "filter_seen: True and False"."""
    if first.dataset != second.dataset:
        yield f"data set: {first.dataset} and {second.dataset}"
    yield from _differences(first.protocol, second.protocol)
    yield from _differences({"data": first.data}, {"data": second.data})


def _differences(first: dict[str, Any], second: dict[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys([*first, *second]):
        ours, theirs = first.get(key), second.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            yield from (f"{key} {difference}" for difference in _differences(ours, theirs))
        elif ours != theirs:
            yield f"{key}: {ours} and {theirs}"


def _holm(p_values: list[float]) -> list[float]:
    # Here and not above, so that the other tables do not wait for it.
    from statsmodels.stats.multitest import multipletests

    return [float(p_value) for p_value in multipletests(p_values, method="holm")[1]]


def _interval(difference: Difference) -> str:
    return f"{difference.effect:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def _p_value(p_value: float) -> str:
    return "<0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


def _count(number: int, name: str, plural: str | None = None) -> str:
    return f"{number:,} {name if number == 1 else plural or name + 's'}"
