"""Tables of published numbers beside ours."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from mos_recbole.analysis.compare import compare_groups
from mos_recbole.analysis.configurations import ConfigurationRow
from mos_recbole.analysis.reference import Reference
from mos_recbole.analysis.study import Section
from mos_recbole.errors import InputError
from mos_recbole.report.formatting import (
    interval_cell,
    interval_columns,
    number_cell,
    p_value_cell,
    relative_cell,
    words,
)
from mos_recbole.report.table import Cell, Table


def reference_tables(
    references: Sequence[Reference], section: Section, rows: Mapping[str, ConfigurationRow]
) -> list[Table]:
    """Returns the published numbers and the published differences beside ours, where there are any.

    Args:
        references: what was published on the section's data set.
        section: our runs.
        rows: our configurations with their test metrics, by label.
    """
    tables = [_numbers_table(references, section, rows), _differences_table(references, section)]
    return [table for table in tables if table.rows]


def _numbers_table(references: Sequence[Reference], section: Section, rows: Mapping[str, ConfigurationRow]) -> Table:
    cells: list[dict[str, Cell]] = []
    records: list[dict[str, Any]] = []
    for reference in references:
        for row in reference.rows:
            for group in reference.find(section, row):
                here = rows[group.label].intervals[row.metric]
                protocol = _protocol(reference, group.runs[0])
                cells.append(
                    {
                        "model": words(group.label),
                        "metric": words(row.metric),
                        "source": words(reference.source),
                        "published": number_cell(row.value, ".4f"),
                        "here": interval_cell(here),
                        "here - published": number_cell(here.mean - row.value, "+.4f"),
                        "protocol": words(protocol),
                    }
                )
                own = {"model": group.label, **row.settings, "metric": row.metric}
                own |= {"source": reference.source, "published": row.value, **interval_columns("here", here)}
                records.append(own | {"here - published": here.mean - row.value, "protocol": protocol})
    caption = (
        f"{_sources(references)} Here: test metrics of the configuration that validation chose, but where the "
        "published settings are another's, which has them in its name; means over seeds and "
        f"queries ± half the width of the 95 % interval. {_PROTOCOL} "
        + " ".join(dict.fromkeys(reference.notes for reference in references if reference.notes))
    )
    return Table("reference", "Beside published numbers", caption.strip(), cells, pd.DataFrame(records))


def _differences_table(references: Sequence[Reference], section: Section) -> Table:
    cells: list[dict[str, Cell]] = []
    records: list[dict[str, Any]] = []
    found = [
        (reference, difference, pair)
        for reference in references
        for difference in reference.differences
        if (pair := reference.find_pair(section, difference)) is not None
    ]
    missing: list[str] = []
    for reference, difference, pair in found:
        queries = difference.where or "all"
        relative, p_value = None, None
        try:
            (compared,) = compare_groups(pair, [difference.metric], difference.conditions).rows
            relative, p_value = compared.relative, compared.difference.p_over_seeds
        except InputError as error:
            # Kept runs may lack the column, or small data the queries; the other numbers stand.
            missing.append(f"n/a: {error}.")
        protocol = _protocol(reference, pair[1].runs[0])
        cells.append(
            {
                "A": words(pair[0].label),
                "B": words(pair[1].label),
                "metric": words(difference.metric),
                "queries": words(queries),
                "source": words(reference.source),
                "published": Cell(f"{100 * difference.relative:+.2f} %", difference.relative),
                "here [95 %]": relative_cell(relative),
                "p": p_value_cell(p_value),
                "protocol": words(protocol),
            }
        )
        own = {"A": pair[0].label, "B": pair[1].label, **difference.settings, "metric": difference.metric}
        own |= {"queries": queries, "source": reference.source, "published": difference.relative}
        tested = {"p": p_value, "protocol": protocol}
        records.append(own | interval_columns("here", relative) | tested)
    caption = (
        f"Relative differences (B - A) / A. {_sources(reference for reference, *_ in found)} Here: with the 95 % "
        "interval over users and seeds, given this training set. p: two-sided, not corrected, of the null hypothesis "
        "that both have the same mean over all users and seeds; users are the unit, seeds the second level; none where "
        f"a side has one seed. {_PROTOCOL}"
    )
    caption = "\n".join(dict.fromkeys([caption, *missing]))
    return Table("reference-differences", "Beside published differences", caption, cells, pd.DataFrame(records))


def _sources(references: Iterable[Reference]) -> str:
    """Returns who published what, a sentence each."""
    cited = dict.fromkeys(f"{reference.source}: {reference.citation}." for reference in references)
    return " ".join(cited)


_PROTOCOL = (
    "Protocol: where ours differs from the published one, as far as the reference file tells it; numbers of different "
    "protocols cannot be compared."
)


def _protocol(reference: Reference, run: Any) -> str:
    return "; ".join(reference.protocol.differences(run)) or "the same"
