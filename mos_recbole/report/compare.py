"""The comparison of runs in pairs: paired tests on the same queries, across seeds, corrected for their number."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from tabulate import tabulate

from mos_recbole.errors import InputError
from mos_recbole.evaluation import Difference, compare_means
from mos_recbole.metric_names import metric_direction
from mos_recbole.report.formats import format_count, format_difference, format_p_value
from mos_recbole.report.queries import Condition, rank_metrics, read_queries
from mos_recbole.report.sides import Side
from mos_recbole.report.tables import TABLE_METRICS


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
                "B - A [95 % interval]": format_difference(row.difference),
                "relative": f"{100 * row.difference.effect / row.first_mean:+.1f} %" if row.first_mean else "n/a",
                "p": format_p_value(row.difference.p_value),
                "p (Holm)": format_p_value(row.adjusted_p_value),
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
            format_count(numbers.pop(), "seed")
            if len(numbers) == 1
            else "seeds (" + ", ".join(f"{side.label}: {len(side.runs)}" for side in self.sides) + ")"
        )
        lines = [
            f"B - A: difference of the means over {seeds} and {format_count(self.n_queries, 'query', 'queries')} of "
            f"{format_count(self.n_users, 'user')}, the same for all; its interval is not adjusted for the number of "
            "comparisons.",
            f"p: two-sided, of the null hypothesis that A and B have the same mean over all users"
            f"{' and seeds' if several else ''}. Users are the unit, paired"
            + ("; seeds are random too, those of A independent of those of B" if several else "")
            + "; Student's t with Satterthwaite's degrees of freedom (after Clark's min F').",
            f"p (Holm): corrected by Holm's method for the {format_count(len(self.rows), 'comparison')} of this table.",
        ]
        if single:
            lines.append(f"With one seed, nothing is said of other seeds of {', '.join(single)}.")
        chosen = [side.label for side in self.sides if side.by_validation]
        if chosen:
            lines.append(f"Configurations chosen by validation: {', '.join(chosen)}.")
        return "\n".join(lines)


def compare_sides(
    sides: Sequence[Side], metrics: Sequence[str] = TABLE_METRICS, where: Sequence[Condition] = ()
) -> Comparisons:
    """Returns the differences of all pairs of sides in all metrics, each with its test (`evaluation.compare_means`).

    The metrics are recomputed from the outcomes files. GAUC leaves out queries whose target is the only candidate.

    Args:
        sides: two or more, evaluated by one protocol.
        metrics: any that are computed from target ranks, whatever metrics and cut-offs the runs were configured with.
        where: conditions; only queries that fulfil all are compared.

    Raises:
        InputError: fewer than two sides, a run on two of them, different protocols or queries, a metric that is
            unknown or needs the recommended lists, outcomes that are missing or of one user, or a condition that no
            query fulfils.
    """
    if len(sides) < 2:
        raise InputError("a comparison needs two sides or more")
    names = rank_metrics(metrics)
    queries = read_queries(sides, names, where=where)
    users = queries.user_Q
    pairs = []
    for metric in names:
        values = [of_side[metric] for of_side in queries.values]
        defined = np.logical_and.reduce([~np.isnan(one).any(axis=0) for one in values])
        for a, b in combinations(range(len(sides)), 2):
            first, second = values[a][:, defined], values[b][:, defined]
            try:
                difference = compare_means(first, second, users[defined])
            except ValueError as error:
                raise InputError(f"{metric}: {error}") from error
            pairs.append((a, b, metric, float(first.mean()), float(second.mean()), difference))
    pairs.sort(key=lambda pair: pair[:2])
    adjusted = holm([difference.p_value for *_, difference in pairs])
    rows = [
        Comparison(sides[a].label, sides[b].label, metric, first_mean, second_mean, difference, adjusted_p_value)
        for (a, b, metric, first_mean, second_mean, difference), adjusted_p_value in zip(pairs, adjusted, strict=True)
    ]
    return Comparisons(tuple(sides), tuple(rows), n_queries=len(users), n_users=queries.n_users)


def join_comparisons(parts: Sequence[Comparisons]) -> Comparisons:
    """Returns comparisons as one table, p values corrected for all of its rows.

    Args:
        parts: one or more, of one protocol.
    """
    sides = {side.label: side for part in parts for side in part.sides}
    assert len({side.runs[0].protocol_hash for side in sides.values()}) == 1
    rows = [row for part in parts for row in part.rows]
    adjusted = holm([row.difference.p_value for row in rows])
    joined = [replace(row, adjusted_p_value=p_value) for row, p_value in zip(rows, adjusted, strict=True)]
    return Comparisons(tuple(sides.values()), tuple(joined), parts[0].n_queries, parts[0].n_users)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p values corrected for their number by Holm's method, in the same order."""
    if not p_values:
        return []
    # Here and not above, so that the other tables do not wait for it.
    from statsmodels.stats.multitest import multipletests

    return [float(p_value) for p_value in multipletests(p_values, method="holm")[1]]
