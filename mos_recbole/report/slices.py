"""A metric sliced by columns of the outcomes: where are two models different, and by how much?"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from mos_recbole.errors import InputError
from mos_recbole.evaluation import (
    Bins,
    Difference,
    Interval,
    compare_means,
    effective_number,
    mean_interval,
    metric_direction,
    quantile_bins,
    relative_difference,
    sign_test,
)
from mos_recbole.report.compare import holm
from mos_recbole.report.formats import (
    format_count,
    format_difference,
    format_p_value,
    format_relative,
    interval_numbers,
)
from mos_recbole.report.queries import Condition, Queries, is_numeric, rank_metrics, read_queries
from mos_recbole.report.sides import Side
from mos_recbole.report.tables import format_interval

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
        means: of every side, with the interval of Student's t over users and seeds; NaN without queries, and the
            interval with fewer than two users.
        difference: of the second side from the first (`evaluation.compare_means`); None with one side or fewer than
            two users.
        relative: (B - A) / A with its interval (`evaluation.relative_difference`); None where there is no difference or
            A is 0.
        small: whether intervals and p values are not to be trusted; `Slices.caption` has the rule.
    """

    labels: tuple[str, ...]
    n_queries: int
    n_users: int
    means: tuple[Interval, ...]
    difference: Difference | None
    relative: Interval | None
    small: bool


@dataclass(frozen=True)
class Slices:
    """A metric of one or two sides by one or two columns. `slice_sides` returns it.

    Attributes:
        axes: the labels of every column's bins.
        cells: row-major over the axes, every combination, those without queries too.
        total: all cells together.
        notes: on queries that are in no cell, and the like.
    """

    metric: str
    by: tuple[SliceBy, ...]
    axes: tuple[tuple[str, ...], ...]
    sides: tuple[str, ...]
    cells: tuple[Cell, ...]
    total: Cell | None = None
    notes: tuple[str, ...] = ()

    @property
    def adjusted_p_values(self) -> list[float | None]:
        """The cells' p values, corrected by Holm's method for their number; None where there is no test."""
        adjusted = iter(holm([cell.difference.p_value for cell in self.cells if cell.difference is not None]))
        return [None if cell.difference is None else next(adjusted) for cell in self.cells]

    def frame(self) -> pd.DataFrame:
        """Returns a row a cell, with all numbers as they are."""
        cells = zip(self.cells, self.adjusted_p_values, strict=True)
        return pd.DataFrame([self._numbers(cell, adjusted) for cell, adjusted in cells])

    def table(self, tablefmt: str = "github") -> str:
        """Returns a table with a row a cell and one for all of them, in one of tabulate's formats or as "csv"."""
        rows = [*zip(self.cells, self.adjusted_p_values, strict=True)]
        if self.total is not None:
            rows.append((self.total, None))
        if tablefmt == "csv":
            return pd.DataFrame([self._numbers(*row) for row in rows]).to_csv(index=False).rstrip("\n")
        texts = [self._texts(*row) for row in rows]
        alignment = ["left"] * len(self.by) + ["right"] * (len(texts[0]) - len(self.by))
        return tabulate(texts, headers="keys", tablefmt=tablefmt, disable_numparse=True, colalign=alignment)

    def caption(self) -> str:
        """Returns what the table's numbers mean, in a few lines."""
        paired = len(self.sides) == 2
        names = ", ".join(f"{letter}: {side}" for letter, side in zip("AB", self.sides, strict=False))
        arrow = "higher" if metric_direction(self.metric) == "higher" else "lower"
        lines = [
            f"{self.metric} ({arrow} is better) by {' and '.join(by.column for by in self.by)}. {names}.",
            "Intervals: 95 %, Student's t over users"
            + (
                ", paired, and seeds; not adjusted for the number of cells. Relative: (B - A) / A (Fieller's interval)."
                if paired
                else " and seeds."
            ),
        ]
        if paired:
            tests = sum(cell.difference is not None for cell in self.cells)
            lines.append(
                "p: two-sided, of the null hypothesis that A and B have the same mean in the cell; p (Holm): corrected "
                f"by Holm's method for the {format_count(tests, 'cell')} tested."
            )
        if any(cell.small for cell in self.cells):
            lines.append(
                f"*: too small for its interval to be trusted: fewer than {FEWEST_USERS} users, counted by weight "
                "(Kish's effective number)"
                + (f", or fewer than {FEWEST_THAT_DIFFER} in whom A and B differ." if paired else ".")
            )
        return "\n".join([*lines, *self.notes])

    def _numbers(self, cell: Cell, adjusted: float | None) -> dict[str, Any]:
        row: dict[str, Any] = dict(zip((by.column for by in self.by), cell.labels, strict=True))
        row |= {"metric": self.metric} | dict(zip("AB", self.sides, strict=False))
        row |= {"queries": cell.n_queries, "users": cell.n_users}
        for letter, mean in zip("AB", cell.means, strict=False):
            row |= interval_numbers(f"mean {letter}", mean)
        if len(self.sides) == 2:
            test = cell.difference
            row |= {
                "B - A": test.effect if test else np.nan,
                "B - A low": test.low if test else np.nan,
                "B - A high": test.high if test else np.nan,
                "standard error": test.standard_error if test else np.nan,
                **interval_numbers("relative", cell.relative),
                "p": test.p_value if test else np.nan,
                "p (Holm)": np.nan if adjusted is None else adjusted,
            }
        return row | {"small": cell.small}

    def _texts(self, cell: Cell, adjusted: float | None) -> dict[str, str]:
        row = dict(zip((by.column for by in self.by), cell.labels, strict=True))
        row |= {"queries": f"{cell.n_queries:,}", "users": f"{cell.n_users:,}{' *' if cell.small else ''}"}
        means = [_mean(mean, with_interval=len(self.sides) == 1) for mean in cell.means]
        if len(self.sides) == 1:
            return row | {f"{self.metric} ± 95 %": means[0]}
        row |= {"mean A": means[0], "mean B": means[1]}
        test = cell.difference
        return row | {
            "B - A [95 % interval]": format_difference(test) if test else "-",
            "relative [95 % interval]": format_relative(cell.relative) if test else "-",
            "p": format_p_value(test.p_value) if test else "-",
            "p (Holm)": "-" if adjusted is None else format_p_value(adjusted),
        }


def slice_sides(sides: Sequence[Side], metric: str, by: Sequence[SliceBy], where: Sequence[Condition] = ()) -> Slices:
    """Returns a metric of one or two sides in the cells of one or two columns.

    The metric is recomputed from the outcomes files. Queries that have no such metric (GAUC, where the target is the
    only candidate) and queries outside of all bins are in no cell; the caption counts them.

    Args:
        sides: one, or two evaluated by one protocol.
        metric: any that is computed from target ranks.
        by: one or two columns.
        where: conditions; only queries that fulfil all are sliced, and quantiles are taken over these.

    Raises:
        InputError: what `compare_sides` refuses, a column that is missing or is a model's answer, bins that a column
            cannot have, or none of whose bins has a query.
    """
    if not 1 <= len(sides) <= 2:
        raise InputError(f"{len(sides)} sides; expected one or two")
    columns = [one.column for one in by]
    if not 1 <= len(by) <= 2 or len(set(columns)) < len(by):
        raise InputError(f"slices by {', '.join(columns) or 'nothing'}; expected one column or two different ones")
    (name,) = rank_metrics([metric])
    return slice_queries(read_queries(sides, [name], columns, where), sides, name, by, where)


def slice_queries(
    queries: Queries, sides: Sequence[Side], name: str, by: Sequence[SliceBy], where: Sequence[Condition] = ()
) -> Slices:
    """Returns `slice_sides` of queries that were read before, as several slices of the same ones are.

    Args:
        queries: of `read_queries`, with the metric called `name` and the columns of `by`.
        sides, by, where: as of `slice_sides`.

    Raises:
        InputError: bins that a column cannot have, or none of whose bins has a query.
    """
    columns = [one.column for one in by]
    values = [of_side[name] for of_side in queries.values]
    defined = np.logical_and.reduce([~np.isnan(one).any(axis=0) for one in values])
    if not defined.any():
        raise InputError(f"{name} is defined for none of {format_count(len(defined), 'query', 'queries')}")
    axes, places, notes = [], [], []
    if where:
        total = len(defined) + queries.n_left_out
        notes.append(f"Only the {len(defined):,} of {total:,} queries with {' and '.join(map(str, where))}.")
    if not defined.all():
        notes.append(f"{(~defined).sum():,} queries, whose target is the only candidate, have no {name}.")
    for one in by:
        labels, place_Q, note = _axis(one, queries.columns[one.column][defined])
        axes.append(labels)
        places.append(place_Q)
        notes += note
    if prod(map(len, axes)) > _MOST_CELLS:
        raise InputError(f"{prod(map(len, axes)):,} cells; expected at most {_MOST_CELLS:,}")
    inside = np.logical_and.reduce([place_Q >= 0 for place_Q in places])
    if not inside.any():
        raise InputError(f"no query is in a bin of both {' and '.join(columns)}")
    chosen = np.flatnonzero(defined)[inside]
    values, user_Q = [one[:, chosen] for one in values], queries.user_Q[chosen]
    cell_Q = np.ravel_multi_index([place_Q[inside] for place_Q in places], [len(labels) for labels in axes])
    by_cell = np.argsort(cell_Q, kind="stable")
    ends = np.cumsum(np.bincount(cell_Q, minlength=prod(map(len, axes))))
    cells = [
        _cell(labels, [one[:, rows] for one in values], user_Q[rows])
        for labels, rows in zip(product(*axes), np.split(by_cell, ends[:-1]), strict=True)
    ]
    single = [side.label for side in sides if len(side.runs) == 1]
    if single:
        notes.append(f"With one seed, nothing is said of other seeds of {', '.join(single)}.")
    validated = [side.label for side in sides if side.by_validation]
    if validated:
        notes.append(f"Configurations chosen by validation: {', '.join(validated)}.")
    empty = sum(cell.n_queries == 0 for cell in cells)
    if empty:
        notes.append(f"{format_count(empty, 'cell')} of {len(cells)} without queries.")
    return Slices(
        metric=name,
        by=tuple(by),
        axes=tuple(axes),
        sides=tuple(side.label for side in sides),
        cells=tuple(cells),
        total=_cell(("all",) * len(by), values, user_Q),
        notes=tuple(notes),
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


def _axis(by: SliceBy, values_Q: np.ndarray) -> tuple[tuple[str, ...], np.ndarray, list[str]]:
    """Returns the labels of a column's bins, every query's bin or -1, and what the caption should say of them."""
    missing_Q = np.asarray(pd.isna(values_Q))
    n_missing = int(missing_Q.sum())
    if n_missing == len(values_Q):
        raise InputError(f"column {by.column}: no query has a value")
    notes = [f"{n_missing:,} of {len(values_Q):,} queries have no {by.column}."] if n_missing else []
    if by.bins is None:
        place_Q, found = pd.factorize(values_Q, sort=True)
        return tuple(map(str, found)), place_Q, notes
    if not is_numeric(values_Q):
        raise InputError(
            f"column {by.column} holds text, which has no bins; {by.column}:each takes every value as a cell"
        )
    bins = _bins(by, values_Q)
    place_Q = bins.place(values_Q)
    outside = int((place_Q < 0).sum()) - n_missing
    if outside + n_missing == len(values_Q):
        low, high = np.nanmin(values_Q), np.nanmax(values_Q)
        raise InputError(
            f"column {by.column}: no query is in {', '.join(bins.labels)}; values are from {low:g} to {high:g}"
        )
    if outside:
        notes.append(f"{outside:,} of {len(values_Q):,} queries are outside of the bins of {by.column}.")
    if isinstance(by.bins, int) and len(bins.labels) < by.bins:
        notes.append(f"{by.column}: {len(bins.labels)} of {by.bins} bins, since many queries have equal values.")
    return tuple(bins.labels), place_Q, notes


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


def _cell(labels: tuple[str, ...], values: Sequence[np.ndarray], user_Q: np.ndarray) -> Cell:
    """Returns the cell of some queries, given the values of one or two sides, [seeds, queries] each."""
    users, user_Q, size_U = np.unique(user_Q, return_inverse=True, return_counts=True)
    n_users = len(users)
    if n_users < 2:
        means = tuple(Interval(float(one.mean()) if one.size else np.nan, np.nan, np.nan) for one in values)
        return Cell(labels, len(user_Q), n_users, means, None, None, small=n_users > 0)
    small = effective_number(size_U) < FEWEST_USERS
    difference = relative = None
    if len(values) == 2:
        first, second = values
        difference = compare_means(first, second, user_Q)
        relative = relative_difference(first, second, user_Q)
        signs = sign_test(first, second, user_Q)
        small = small or signs.better + signs.worse < FEWEST_THAT_DIFFER
    means = tuple(mean_interval(one, user_Q) for one in values)
    return Cell(labels, len(user_Q), n_users, means, difference, relative, small)


def _mean(mean: Interval, with_interval: bool) -> str:
    if np.isnan(mean.mean):
        return "-"
    return format_interval(mean) if with_interval and not np.isnan(mean.low) else f"{mean.mean:.4f}"
