"""A metric sliced by columns of the outcomes: where are two models different, and by how much?"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from string import ascii_uppercase

import numpy as np
import pandas as pd

from mos_recbole.analysis.compare import MARGIN, Verdict, require_margin, verdict_of
from mos_recbole.analysis.outcomes import mean_metric
from mos_recbole.analysis.queries import Condition, Queries, is_numeric, read_queries
from mos_recbole.analysis.run_groups import RunGroup
from mos_recbole.errors import InputError
from mos_recbole.evaluation import (
    Bins,
    Difference,
    Interval,
    compare_means,
    effective_number,
    holm,
    is_equivalent,
    mean_interval,
    quantile_bins,
    relative_difference,
    sign_test,
)
from mos_recbole.progress import tracked
from mos_recbole.results import OUTCOME_COLUMNS

_MOST_BINS = 100
_MOST_CELLS = 1000

# Below these, intervals may miss the truth much more often than they say (results/coverage/cells.csv).
FEWEST_USERS = 30
FEWEST_THAT_DIFFER = 10


@dataclass(frozen=True)
class SliceBy:
    """A column and how its values are grouped.

    Attributes:
        column: of outcomes.parquet.
        bins: a number of bins, by quantiles over the queries; their edges, [e0, e1], (e1, e2], ...; or None: every
            value is a cell of its own.
    """

    column: str
    bins: int | tuple[float, ...] | None = 4


@dataclass(frozen=True)
class Cell:
    """The queries of one combination of bins.

    Attributes:
        labels: of its bins, one an axis.
        means: of every group, with the interval of Student's t over users and seeds; NaN without queries, and the
            interval with fewer than two users.
        difference: of the second group from the first (`evaluation.compare_means`); None unless there are
            two groups and two users.
        relative: (B - A) / A with its interval (`evaluation.relative_difference`); None where there is no difference or
            A is 0.
        equivalent: whether two one-sided tests at 5 % put (B - A) / A within the margin (`evaluation.is_equivalent`).
        small: whether intervals and p values are not to be trusted: fewer than `FEWEST_USERS` users by Kish's effective
            number, or fewer than `FEWEST_THAT_DIFFER` users in whom the groups differ.
    """

    labels: tuple[str, ...]
    n_queries: int
    n_users: int
    means: tuple[Interval, ...]
    difference: Difference | None
    relative: Interval | None
    small: bool
    equivalent: bool = False


@dataclass(frozen=True)
class Outside:
    """The queries that are in no bin of a column: those without a value, and those whose value is outside."""

    n_missing: int = 0
    n_outside: int = 0


@dataclass(frozen=True)
class Slices:
    """A metric of groups of runs by one or two columns. `slice_groups` returns it.

    Attributes:
        axes: the labels of every column's bins.
        labels: of the groups, as tables and figures call them.
        cells: row-major over the axes, every combination, those without queries too.
        total: all cells together.
        outside: for every column the queries in none of its bins.
        where: conditions that all queries fulfil; `n_left_out` queries do not.
        margin: of relative differences that count as equivalent.
        n_queries: that fulfil them and have the metric; `n_undefined` have none.
    """

    metric: str
    by: tuple[SliceBy, ...]
    axes: tuple[tuple[str, ...], ...]
    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    total: Cell | None = None
    groups: tuple[RunGroup, ...] = ()
    outside: tuple[Outside, ...] = ()
    where: tuple[Condition, ...] = ()
    n_queries: int = 0
    n_left_out: int = 0
    n_undefined: int = 0
    margin: float = MARGIN

    @property
    def verdicts(self) -> list[Verdict | None]:
        """What is shown of the second group in every cell, as `Comparison.verdict`; None where there is no p value."""
        return [
            None
            if cell.difference is None
            else verdict_of(self.metric, cell.difference.effect, adjusted, cell.equivalent)
            for cell, adjusted in zip(self.cells, self.adjusted_p_values, strict=True)
        ]

    @property
    def adjusted_p_values(self) -> list[float | None]:
        """The cells' p values, corrected by Holm's method for their number; None where there is none."""
        p_values = [None if cell.difference is None else cell.difference.p_over_seeds for cell in self.cells]
        adjusted = iter(holm([p_value for p_value in p_values if p_value is not None]))
        return [None if p_value is None else next(adjusted) for p_value in p_values]


def slice_groups(
    groups: Sequence[RunGroup],
    metric: str,
    by: Sequence[SliceBy],
    where: Sequence[Condition] = (),
    margin: float = MARGIN,
) -> Slices:
    """Returns a metric of groups of runs in the cells of one or two columns, and the difference of two groups.

    The metric is recomputed from the outcomes files. Queries that have no such metric (GAUC, where the target is the
    only candidate) and queries outside of all bins are in no cell; the result counts them.

    Args:
        groups: one or more, evaluated by one protocol.
        metric: any that is the mean of a value a query.
        by: one or two columns.
        where: conditions; only queries that fulfil all are sliced, and quantiles are taken over these.
        margin: of relative differences that count as equivalent, above 0.

    Raises:
        InputError: what `compare_groups` refuses, a column that is missing or is a model's answer, bins that a column
            cannot have, or none of whose bins has a query.
    """
    if not 1 <= len(groups) <= len(ascii_uppercase):
        raise InputError(f"{len(groups)} groups of runs; expected 1 to {len(ascii_uppercase)}")
    require_margin(margin)
    columns = [one.column for one in by]
    if not 1 <= len(by) <= 2 or len(set(columns)) < len(by):
        raise InputError(f"slices by {', '.join(columns) or 'nothing'}; expected one column or two different ones")
    name = mean_metric(metric)
    return slice_queries(read_queries(groups, [name], columns, where), groups, name, by, where, margin)


def slice_queries(
    queries: Queries,
    groups: Sequence[RunGroup],
    name: str,
    by: Sequence[SliceBy],
    where: Sequence[Condition] = (),
    margin: float = MARGIN,
) -> Slices:
    """Returns `slice_groups` of queries that were read before, as several slices of the same ones are.

    Args:
        queries: of `read_queries`, with the metric called `name` and the columns of `by`.
        groups, by, where, margin: as of `slice_groups`.

    Raises:
        InputError: bins that a column cannot have, or none of whose bins has a query.
    """
    columns = [one.column for one in by]
    values = [of_group[name] for of_group in queries.values]
    defined = np.logical_and.reduce([~np.isnan(one).any(axis=0) for one in values])
    if not defined.any():
        raise InputError(f"{name} is defined for none of {len(defined):,} queries")
    axes, places, outside = zip(*(_bin(one, queries.columns[one.column][defined]) for one in by), strict=True)
    shape = [len(axis) for axis in axes]
    if prod(shape) > _MOST_CELLS:
        raise InputError(f"{prod(shape):,} cells; expected at most {_MOST_CELLS:,}")
    inside = np.logical_and.reduce([place_Q >= 0 for place_Q in places])
    if not inside.any():
        raise InputError(f"no query is in a bin of both {' and '.join(columns)}")
    chosen = np.flatnonzero(defined)[inside]
    values, user_Q = [one[:, chosen] for one in values], queries.user_Q[chosen]
    cell_Q = np.ravel_multi_index([place_Q[inside] for place_Q in places], shape)
    by_cell = np.argsort(cell_Q, kind="stable")
    ends = np.cumsum(np.bincount(cell_Q, minlength=prod(shape)))
    parts = list(zip(product(*axes), np.split(by_cell, ends[:-1]), strict=True))
    cells = [
        _cell(labels, [one[:, rows] for one in values], user_Q[rows], margin)
        for labels, rows in tracked(parts, "slicing", "cells")
    ]
    return Slices(
        metric=name,
        by=tuple(by),
        axes=axes,
        labels=tuple(group.label for group in groups),
        cells=tuple(cells),
        total=_cell(("all",) * len(by), values, user_Q, margin),
        groups=tuple(groups),
        outside=outside,
        where=tuple(where),
        n_queries=int(defined.sum()),
        n_left_out=queries.n_left_out,
        n_undefined=int((~defined).sum()),
        margin=margin,
    )


def parse_slice_by(text: str) -> SliceBy:
    """Returns what "column", "column:4", "column:0,814,4976" or "column:each" stands for.

    Raises:
        InputError: other text.
    """
    column, colon, bins = text.partition(":")
    if column and not colon:
        return SliceBy(column)
    if column and bins.strip() == "each":
        return SliceBy(column, None)
    if column and bins.strip().isdecimal():
        return SliceBy(column, int(bins))
    try:
        edges = tuple(float(edge) for edge in bins.split(","))
    except ValueError:
        edges = ()
    if not column or len(edges) < 2:
        raise InputError(
            f"slices by {text!r} not understood; expected COLUMN, COLUMN:4 (quantiles), COLUMN:0,814,inf (edges) or "
            "COLUMN:each (every value)"
        )
    return SliceBy(column, edges)


def _bin(by: SliceBy, values_Q: np.ndarray) -> tuple[tuple[str, ...], np.ndarray, Outside]:
    """Returns the labels of a column's bins, every query's bin or -1, and the queries that are in none."""
    missing_Q = np.asarray(pd.isna(values_Q))
    n_missing = int(missing_Q.sum())
    if n_missing == len(values_Q):
        raise InputError(f"column {by.column}: no query has a value")
    if by.bins is None:
        place_Q, found = pd.factorize(values_Q, sort=True)
        return tuple(map(str, found)), place_Q, Outside(n_missing)
    if not is_numeric(values_Q):
        raise InputError(
            f"column {by.column} holds text, which has no bins; {by.column}:each takes every value as a cell"
        )
    bins = _bins(by, values_Q)
    place_Q = bins.place(values_Q)
    n_outside = int((place_Q < 0).sum()) - n_missing
    if n_outside + n_missing == len(values_Q):
        low, high = np.nanmin(values_Q), np.nanmax(values_Q)
        raise InputError(
            f"column {by.column}: no query is in {', '.join(bins.labels)}; values are from {low:g} to {high:g}"
        )
    known = OUTCOME_COLUMNS.get(by.column)
    labels = tuple(bins.labels)
    if known is not None and known.bin_names and known.edges == by.bins:
        labels = known.bin_names
    return labels, place_Q, Outside(n_missing, n_outside)


def _bins(by: SliceBy, values_Q: np.ndarray) -> Bins:
    if isinstance(by.bins, int) and not 1 <= by.bins <= _MOST_BINS:
        raise InputError(
            f"column {by.column}: {by.bins:,} bins; expected 1 to {_MOST_BINS}, or two or more edges: "
            f"{by.column}:0,{by.bins},inf"
        )
    try:
        return quantile_bins(values_Q, by.bins) if isinstance(by.bins, int) else Bins(by.bins or ())
    except ValueError as error:
        raise InputError(f"column {by.column}: {error}") from error


def _cell(labels: tuple[str, ...], values: Sequence[np.ndarray], user_Q: np.ndarray, margin: float) -> Cell:
    """Returns the cell of some queries, given the values of the groups, [seeds, queries] each."""
    users, user_Q, size_U = np.unique(user_Q, return_inverse=True, return_counts=True)
    n_users = len(users)
    if n_users < 2:
        means = tuple(Interval(float(one.mean()) if one.size else np.nan, np.nan, np.nan) for one in values)
        return Cell(labels, len(user_Q), n_users, means, None, None, small=n_users > 0)
    small = effective_number(size_U) < FEWEST_USERS
    difference = relative = None
    equivalent = False
    if len(values) == 2:
        first, second = values
        difference = compare_means(first, second, user_Q)
        relative = relative_difference(first, second, user_Q)
        equivalent = is_equivalent(first, second, user_Q, margin)
        signs = sign_test(first, second, user_Q)
        small = small or signs.higher + signs.lower < FEWEST_THAT_DIFFER
    means = tuple(mean_interval(one, user_Q) for one in values)
    return Cell(labels, len(user_Q), n_users, means, difference, relative, small, equivalent)
