"""The comparison of runs in pairs: paired tests on the same queries, across seeds, corrected for their number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal

import numpy as np

from mos_recbole.analysis.outcomes import TABLE_METRICS, checked_metrics
from mos_recbole.analysis.queries import Condition, read_queries
from mos_recbole.analysis.run_groups import RunGroup
from mos_recbole.errors import InputError
from mos_recbole.evaluation import (
    Difference,
    Interval,
    SignTest,
    bootstrap_difference,
    compare_counts,
    compare_means,
    effect_size,
    holm,
    is_equivalent,
    metric_direction,
    relative_difference,
    sign_flip_test,
    sign_test,
)
from mos_recbole.progress import tracked

MARGIN = 0.01
"""Differences within ± 1 % are called equivalent, where nothing else is asked for."""

Verdict = Literal["better", "worse", "equivalent", "undecided"]


@dataclass(frozen=True)
class Comparison:
    """A metric of two groups of runs, A and B.

    Attributes:
        difference: of B from A, with interval and p value as if it were the only one.
        relative: (B - A) / A; None where A is 0.
        margin: of the relative difference, within which A and B count as equivalent.
        equivalent: whether two one-sided tests at 5 % show that they are.
        adjusted_p_value: corrected by Holm's method for all comparisons made together; None where a side has one seed.
        effect_size: d_z, the difference in standard deviations of users' differences. None, as are those below, for a
            metric of all lists together, of which users have no values (`evaluation.compare_counts`).
        bootstrap: the difference with its bootstrap interval.
        sign_flip_p_value: of the permutation test over users, which takes the seeds as given.
        signs: in how many users B has more and less.
    """

    first: str
    second: str
    metric: str
    first_mean: float
    second_mean: float
    difference: Difference
    relative: Interval | None
    margin: float
    equivalent: bool
    adjusted_p_value: float | None = None
    effect_size: Interval | None = None
    bootstrap: Interval | None = None
    sign_flip_p_value: float | None = None
    signs: SignTest | None = None

    @property
    def detectable(self) -> float:
        """The smallest relative difference that is found with a probability of 80 %; NaN where A is 0."""
        return self.difference.detectable / self.first_mean if self.first_mean else np.nan

    @property
    def verdict(self) -> Verdict | None:
        """What is shown of B against A at 5 %, p corrected; None where a side has one seed."""
        return verdict_of(self.metric, self.difference.effect, self.adjusted_p_value, self.equivalent)

    @property
    def users_better_and_worse(self) -> tuple[int, int] | None:
        """In how many users B is better and worse than A; None of a metric of all lists together."""
        if self.signs is None:
            return None
        counts = (self.signs.higher, self.signs.lower)
        return counts if metric_direction(self.metric) == "higher" else counts[::-1]


def require_margin(margin: float) -> None:
    """Raises InputError for a margin of relative differences that is none."""
    if not 0 < margin < 1:
        raise InputError(f"--margin {100 * margin:g}; expected a percentage above 0 and below 100")


def verdict_of(metric: str, effect: float, adjusted_p_value: float | None, equivalent: bool) -> Verdict | None:
    """Returns what is shown of an effect at 5 %, p corrected; None without a p value."""
    if adjusted_p_value is None:
        return None
    if adjusted_p_value < 0.05:
        return "better" if (effect > 0) == (metric_direction(metric) == "higher") else "worse"
    return "equivalent" if equivalent else "undecided"


@dataclass(frozen=True)
class Comparisons:
    """All pairs of some groups by some metrics, pair by pair. `compare_groups` returns it.

    Attributes:
        where: conditions that all queries fulfil.
        n_left_out: queries that do not fulfil them.
        undefined: groups of which no query has a metric, by the metric; they have no rows of it.
        n_undefined: queries that lack a metric in some other group, by the metric; its rows are without them.
    """

    groups: tuple[RunGroup, ...]
    rows: tuple[Comparison, ...]
    n_queries: int
    n_users: int
    where: tuple[Condition, ...] = ()
    n_left_out: int = 0
    undefined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    n_undefined: Mapping[str, int] = field(default_factory=dict)


def compare_groups(
    groups: Sequence[RunGroup],
    metrics: Sequence[str] = TABLE_METRICS,
    where: Sequence[Condition] = (),
    margin: float = MARGIN,
) -> Comparisons:
    """Returns the differences of all pairs of groups in all metrics, each with its test (`evaluation.compare_means`).

    The metrics are recomputed from the outcomes files. A group of which no query has a metric, as RecBole's own classes
    have no loss, has no rows of it; else queries without a value in any of the groups are left out.

    Args:
        groups: two or more, evaluated by one protocol.
        metrics: any, whatever metrics and cut-offs the runs were configured with.
        where: conditions; only queries that fulfil all are compared.
        margin: of relative differences that count as equivalent, above 0.

    Raises:
        InputError: fewer than two groups, a margin that is none, a run in two groups, different protocols or queries, a
            metric that is unknown or needs what the runs do not keep, outcomes that are missing or of one user, or a
            condition that no query fulfils, or metrics none of which any two groups have.
    """
    if len(groups) < 2:
        raise InputError("a comparison needs two or more groups of runs, such as two models")
    require_margin(margin)
    names = checked_metrics(metrics)
    queries = read_queries(groups, names, where=where)
    users = queries.user_Q
    rows = []
    defined, having = {}, {}
    for metric in names:
        of_groups = [of_group[metric] for of_group in queries.values]
        axes = (0, 2) if of_groups[0].ndim == 3 else 0
        of_queries = [~np.isnan(one).any(axis=axes) for one in of_groups]
        having[metric] = {number for number, one in enumerate(of_queries) if one.any()}
        defined[metric] = np.logical_and.reduce([of_queries[number] for number in having[metric]] or [False])
    pairs = [
        ((a, b), metric)
        for a, b in combinations(range(len(groups)), 2)
        for metric in names
        if {a, b} <= having[metric] and defined[metric].any()
    ]
    if not pairs:
        of = " and ".join(group.label for group in groups) if len(groups) == 2 else "any two groups"
        raise InputError(f"{', '.join(names)} is defined for none of {len(users):,} queries of {of}")
    undefined = {
        metric: tuple(group.label for number, group in enumerate(groups) if number not in having[metric])
        for metric in names
        if len(having[metric]) < len(groups)
    }
    n_undefined = {metric: n for _, metric in pairs if (n := len(users) - int(defined[metric].sum()))}
    for (a, b), metric in tracked(pairs, "testing differences", "tests"):
        first, second = (queries.values[number][metric][:, defined[metric]] for number in (a, b))
        try:
            rows.append(_compare((groups[a], groups[b]), metric, first, second, users[defined[metric]], margin))
        except ValueError as error:
            raise InputError(f"{groups[a].label} and {groups[b].label}, {metric}: {error}") from error
    return Comparisons(
        groups=tuple(groups),
        rows=_adjusted(rows),
        n_queries=len(users),
        n_users=queries.n_users,
        where=tuple(where),
        n_left_out=queries.n_left_out,
        undefined=undefined,
        n_undefined=n_undefined,
    )


def _compare(
    groups: tuple[RunGroup, RunGroup],
    metric: str,
    first_SQ: np.ndarray,
    second_RQ: np.ndarray,
    user_Q: np.ndarray,
    margin: float,
) -> Comparison:
    """Returns the comparison as if it were the only one."""
    first, second = (group.label for group in groups)
    if first_SQ.ndim == 3:
        n_items = groups[0].runs[0].n_items
        means, difference = compare_counts(metric, first_SQ, second_RQ, user_Q, n_items)
        equivalent = difference.is_within(margin * abs(means[0]))
        return Comparison(first, second, metric, *means, difference, None, margin, equivalent)
    difference = compare_means(first_SQ, second_RQ, user_Q)
    return Comparison(
        first=first,
        second=second,
        metric=metric,
        first_mean=float(first_SQ.mean()),
        second_mean=float(second_RQ.mean()),
        difference=difference,
        relative=relative_difference(first_SQ, second_RQ, user_Q),
        margin=margin,
        equivalent=is_equivalent(first_SQ, second_RQ, user_Q, margin),
        effect_size=effect_size(first_SQ, second_RQ, user_Q),
        bootstrap=bootstrap_difference(first_SQ, second_RQ, user_Q),
        sign_flip_p_value=sign_flip_test(first_SQ, second_RQ, user_Q),
        signs=sign_test(first_SQ, second_RQ, user_Q),
    )


def join_comparisons(parts: Sequence[Comparisons]) -> Comparisons:
    """Returns comparisons as one table, p values corrected for all of its rows.

    Args:
        parts: one or more, of the same queries.
    """
    groups = {group.label: group for part in parts for group in part.groups}
    assert len({group.runs[0].protocol_hash for group in groups.values()}) == 1
    rows = [row for part in parts for row in part.rows]
    undefined: dict[str, tuple[str, ...]] = {}
    n_undefined: dict[str, int] = {}
    for part in parts:
        for metric, number in part.n_undefined.items():
            n_undefined[metric] = max(number, n_undefined.get(metric, 0))
        for metric, having_none in part.undefined.items():
            undefined[metric] = tuple(dict.fromkeys([*undefined.get(metric, ()), *having_none]))
    return replace(
        parts[0], groups=tuple(groups.values()), rows=_adjusted(rows), undefined=undefined, n_undefined=n_undefined
    )


def _adjusted(rows: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Returns comparisons with their p values corrected for the number of those that have one."""
    p_values = [row.difference.p_over_seeds for row in rows]
    adjusted = iter(holm([p_value for p_value in p_values if p_value is not None]))
    return tuple(
        replace(row, adjusted_p_value=None if p_value is None else next(adjusted))
        for row, p_value in zip(rows, p_values, strict=True)
    )
