"""The table of slices."""

from collections.abc import Iterator, Mapping
from string import ascii_uppercase
from typing import Any

import numpy as np
import pandas as pd

from mos_recbole.analysis.compare import Verdict
from mos_recbole.analysis.slices import FEWEST_THAT_DIFFER, FEWEST_USERS, Outside, SliceBy, Slices
from mos_recbole.analysis.slices import Cell as Part
from mos_recbole.evaluation import Interval, metric_direction, parse_metric
from mos_recbole.report.comparisons import cautions
from mos_recbole.report.formatting import (
    NOTHING,
    difference_cell,
    format_count,
    interval_cell,
    interval_columns,
    number_cell,
    p_value_cell,
    relative_cell,
    words,
)
from mos_recbole.report.table import Cell, Table


def slices_table(slices: Slices) -> Table:
    """Returns a table with a row per cell and one for all of them."""
    parts = [*zip(slices.cells, slices.adjusted_p_values, slices.verdicts, strict=True)]
    if slices.total is not None:
        parts.append((slices.total, None, None))
    columns = " and ".join(_columns(slices))
    return Table(
        name=f"slices-{slices.metric}",
        title=f"{slices.metric} by {columns}",
        caption="\n".join([*_caption(slices), *_notes(slices)]),
        rows=[_cells(slices, *part) for part in parts],
        frame=pd.DataFrame([_numbers(slices, *part) for part in parts]),
    )


def _columns(slices: Slices) -> list[str]:
    return [by.column for by in slices.by]


def _cells(slices: Slices, part: Part, adjusted: float | None, verdict: Verdict | None) -> Mapping[str, Cell]:
    row = {
        column: words(label, axis.index(label) if label in axis else None)
        for column, axis, label in zip(_columns(slices), slices.axes, part.labels, strict=True)
    }
    row |= {
        "queries": number_cell(part.n_queries, ","),
        "users": Cell(f"{part.n_users:,}{' *' if part.small else ''}", part.n_users),
    }
    if len(part.means) != 2:
        names = [slices.metric] if len(part.means) == 1 else [f"mean {letter}" for letter in ascii_uppercase]
        cells = [_mean_cell(mean) if np.isnan(mean.low) else interval_cell(mean) for mean in part.means]
        return row | {f"{name} ± 95 %": cell for name, cell in zip(names, cells, strict=False)}
    return row | {
        "mean A": _mean_cell(part.means[0]),
        "mean B": _mean_cell(part.means[1]),
        "B - A [95 % interval]": difference_cell(part.difference),
        "relative [95 % interval]": relative_cell(part.relative) if part.difference else NOTHING,
        "p": p_value_cell(part.difference.p_over_seeds if part.difference else None),
        "p (Holm)": p_value_cell(adjusted),
        "verdict": NOTHING if verdict is None else words(verdict),
    }


def _mean_cell(mean: Interval) -> Cell:
    return NOTHING if np.isnan(mean.mean) else number_cell(mean.mean, ".4f")


def _caption(slices: Slices) -> Iterator[str]:
    """Yields what the table's numbers mean, line by line."""
    paired = len(slices.labels) == 2
    names = ", ".join(f"{letter}: {label}" for letter, label in zip(ascii_uppercase, slices.labels, strict=False))
    yield (
        f"{slices.metric} ({metric_direction(slices.metric)} is better) by {' and '.join(_columns(slices))}. {names}."
    )
    yield "Intervals: 95 %, Student's t over users" + (
        ", paired, and seeds; not adjusted for the number of cells. Relative: (B - A) / A (Fieller's interval)."
        if paired
        else " and seeds."
    )
    if paired:
        tests = sum(p_value is not None for p_value in slices.adjusted_p_values)
        yield (
            "p: two-sided, of the null hypothesis that A and B have the same mean in the cell; p (Holm): corrected "
            f"by Holm's method for the {format_count(tests, 'cell')} tested. verdict: better or worse by p (Holm) < "
            f".05; else equivalent where two one-sided tests at 5 % put the relative difference within ± "
            f"{100 * slices.margin:g} %; else undecided."
        )
    if any(cell.small for cell in slices.cells):
        yield (
            f"*: too small for its interval to be trusted: fewer than {FEWEST_USERS} users, counted by weight "
            "(Kish's effective number)"
            + (f", or fewer than {FEWEST_THAT_DIFFER} in whom A and B differ." if paired else ".")
        )


def _notes(slices: Slices) -> Iterator[str]:
    """Yields which queries are in no cell, and what is to be known of the groups."""
    if slices.where:
        found = slices.n_queries + slices.n_undefined
        total = found + slices.n_left_out
        yield f"Only the {found:,} of {total:,} queries with {' and '.join(map(str, slices.where))}."
    if slices.n_undefined:
        why = parse_metric(slices.metric)[0].undefined
        yield f"{slices.n_undefined:,} queries, whose {why}, have no {slices.metric}."
    for by, axis, outside in zip(slices.by, slices.axes, slices.outside, strict=True):
        yield from _notes_on_bins(by, len(axis), outside, slices.n_queries)
    yield from cautions(slices.groups)
    if empty := sum(cell.n_queries == 0 for cell in slices.cells):
        yield f"{format_count(empty, 'cell')} of {len(slices.cells)} without queries."


def _notes_on_bins(by: SliceBy, n_bins: int, outside: Outside, n_queries: int) -> Iterator[str]:
    if outside.n_missing:
        yield f"{outside.n_missing:,} of {n_queries:,} queries have no {by.column}."
    if outside.n_outside:
        yield f"{outside.n_outside:,} of {n_queries:,} queries are outside of the bins of {by.column}."
    if isinstance(by.bins, int) and n_bins < by.bins:
        yield f"{by.column}: {n_bins} of {by.bins} bins, since many queries have equal values."


def _numbers(slices: Slices, part: Part, adjusted: float | None, verdict: Verdict | None) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(_columns(slices), part.labels, strict=True))
    row |= {"metric": slices.metric} | dict(zip(ascii_uppercase, slices.labels, strict=False))
    row |= {"queries": part.n_queries, "users": part.n_users}
    for letter, mean in zip(ascii_uppercase, part.means, strict=False):
        row |= interval_columns(f"mean {letter}", mean)
    if len(part.means) == 2:
        test = part.difference
        difference = None if test is None else Interval(test.effect, test.low, test.high)
        row |= {
            **interval_columns("B - A", difference),
            "standard error": test.standard_error if test else np.nan,
            **interval_columns("relative", part.relative),
            "p": np.nan if test is None or test.p_over_seeds is None else test.p_over_seeds,
            "p (Holm)": np.nan if adjusted is None else adjusted,
            "equivalent": part.equivalent,
            "verdict": verdict,
        }
    return row | {"small": part.small}
