"""The comparison of runs in pairs: paired tests on the same queries, across seeds, corrected for their number."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from tabulate import tabulate

from mos_recbole.errors import InputError
from mos_recbole.evaluation import (
    Difference,
    Interval,
    SignTest,
    bootstrap_difference,
    compare_means,
    effect_size,
    holm,
    metric_direction,
    relative_difference,
    sign_flip_test,
    sign_test,
)
from mos_recbole.report.formats import format_count, format_difference, format_p_value, interval_numbers
from mos_recbole.report.queries import Condition, rank_metrics, read_queries
from mos_recbole.report.sides import Side
from mos_recbole.report.tables import TABLE_METRICS


@dataclass(frozen=True)
class Comparison:
    """A metric of two sides, A and B.

    Attributes:
        difference: of B from A, with interval and p value as if it were the only one.
        adjusted_p_value: corrected by Holm's method for all comparisons made together.
        relative: (B - A) / A; None where A is 0.
        effect_size: d_z, the difference in standard deviations of users' differences.
        bootstrap: the difference with its bootstrap interval.
        sign_flip_p_value: of the permutation test over users, which takes the seeds as given.
        signs: in how many users B is better and worse.
    """

    first: str
    second: str
    metric: str
    first_mean: float
    second_mean: float
    difference: Difference
    adjusted_p_value: float
    relative: Interval | None
    effect_size: Interval
    bootstrap: Interval
    sign_flip_p_value: float
    signs: SignTest


@dataclass(frozen=True)
class Comparisons:
    """All pairs of some sides by some metrics, pair by pair. `compare_sides` returns it."""

    sides: tuple[Side, ...]
    rows: tuple[Comparison, ...]
    n_queries: int
    n_users: int
    where: tuple[Condition, ...] = ()
    n_left_out: int = 0

    def frame(self) -> pd.DataFrame:
        """Returns a row a comparison, with all numbers as they are."""
        return pd.DataFrame([_numbers(row) for row in self.rows])

    def table(self, tablefmt: str = "github") -> str:
        """Returns a table with a row a comparison, in one of tabulate's formats; all of `frame` as "csv"."""
        if tablefmt == "csv":
            return self.frame().to_csv(index=False).rstrip("\n")
        cells = [
            {
                "A": row.first,
                "B": row.second,
                "metric": f"{row.metric} {'↑' if metric_direction(row.metric) == 'higher' else '↓'}",
                "mean A": f"{row.first_mean:.4f}",
                "mean B": f"{row.second_mean:.4f}",
                "B - A [95 % interval]": format_difference(row.difference),
                "relative": f"{100 * row.relative.mean:+.2f} %" if row.relative else "n/a",
                "d_z": f"{row.effect_size.mean:+.3f}",
                "p": format_p_value(row.difference.p_value),
                "p (Holm)": format_p_value(row.adjusted_p_value),
                "p (flips)": format_p_value(row.sign_flip_p_value),
            }
            for row in self.rows
        ]
        alignment = ["left"] * 3 + ["right"] * 8
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
            "comparisons. d_z: in standard deviations of users' differences.",
            f"p: two-sided, of the null hypothesis that A and B have the same mean over all users"
            f"{' and seeds' if several else ''}. Users are the unit, paired"
            + ("; seeds are random too, those of A independent of those of B" if several else "")
            + "; Student's t with Satterthwaite's degrees of freedom (after Clark's min F').",
            "p (Holm), the one to report: p corrected by Holm's method for the "
            f"{format_count(len(self.rows), 'comparison')} of this table.",
            "p (flips): of the null hypothesis that users' differences are symmetric about 0, by flips of their signs; "
            "assumes no normality, but takes the seeds as given: of other seeds it says nothing. Not corrected.",
        ]
        if self.where:
            total = self.n_queries + self.n_left_out
            lines.append(f"Only the {self.n_queries:,} of {total:,} queries with {' and '.join(map(str, self.where))}.")
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
    rows = []
    for metric in names:
        values = [of_side[metric] for of_side in queries.values]
        defined = np.logical_and.reduce([~np.isnan(one).any(axis=0) for one in values])
        for a, b in combinations(range(len(sides)), 2):
            first, second = values[a][:, defined], values[b][:, defined]
            try:
                row = _compare(sides[a].label, sides[b].label, metric, first, second, users[defined])
            except ValueError as error:
                raise InputError(f"{sides[a].label} and {sides[b].label}, {metric}: {error}") from error
            rows.append((a, b, row))
    rows.sort(key=lambda numbered: numbered[:2])
    adjusted = holm([row.difference.p_value for *_, row in rows])
    return Comparisons(
        sides=tuple(sides),
        rows=tuple(replace(row, adjusted_p_value=p_value) for (*_, row), p_value in zip(rows, adjusted, strict=True)),
        n_queries=len(users),
        n_users=queries.n_users,
        where=tuple(where),
        n_left_out=queries.n_left_out,
    )


def _compare(
    first: str, second: str, metric: str, first_SQ: np.ndarray, second_RQ: np.ndarray, user_Q: np.ndarray
) -> Comparison:
    """Returns the comparison as if it were the only one."""
    difference = compare_means(first_SQ, second_RQ, user_Q)
    return Comparison(
        first=first,
        second=second,
        metric=metric,
        first_mean=float(first_SQ.mean()),
        second_mean=float(second_RQ.mean()),
        difference=difference,
        adjusted_p_value=difference.p_value,
        relative=relative_difference(first_SQ, second_RQ, user_Q),
        effect_size=effect_size(first_SQ, second_RQ, user_Q),
        bootstrap=bootstrap_difference(first_SQ, second_RQ, user_Q),
        sign_flip_p_value=sign_flip_test(first_SQ, second_RQ, user_Q),
        signs=sign_test(first_SQ, second_RQ, user_Q),
    )


def _numbers(row: Comparison) -> dict[str, str | float]:
    return {
        "A": row.first,
        "B": row.second,
        "metric": row.metric,
        "mean A": row.first_mean,
        "mean B": row.second_mean,
        "B - A": row.difference.effect,
        "B - A low": row.difference.low,
        "B - A high": row.difference.high,
        "standard error": row.difference.standard_error,
        "degrees of freedom": row.difference.degrees_of_freedom,
        "bootstrap low": row.bootstrap.low,
        "bootstrap high": row.bootstrap.high,
        **interval_numbers("relative", row.relative),
        **interval_numbers("d_z", row.effect_size),
        "p": row.difference.p_value,
        "p (Holm)": row.adjusted_p_value,
        "p (flips)": row.sign_flip_p_value,
        "p (signs)": row.signs.p_value,
        "users better": row.signs.better,
        "users worse": row.signs.worse,
    }


def join_comparisons(parts: Sequence[Comparisons]) -> Comparisons:
    """Returns comparisons as one table, p values corrected for all of its rows.

    Args:
        parts: one or more, of the same queries.
    """
    sides = {side.label: side for part in parts for side in part.sides}
    assert len({side.runs[0].protocol_hash for side in sides.values()}) == 1
    rows = [row for part in parts for row in part.rows]
    adjusted = holm([row.difference.p_value for row in rows])
    joined = [replace(row, adjusted_p_value=p_value) for row, p_value in zip(rows, adjusted, strict=True)]
    return replace(parts[0], sides=tuple(sides.values()), rows=tuple(joined))
