"""Tables of published numbers beside ours."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mos_recbole.analysis.compare import compare_groups
from mos_recbole.analysis.configurations import ConfigurationRow
from mos_recbole.analysis.reference import Reference
from mos_recbole.analysis.study import Section
from mos_recbole.report.formatting import (
    interval_cell,
    interval_columns,
    number_cell,
    p_value_cell,
    relative_cell,
    words,
)
from mos_recbole.report.table import Cell, Table


def reference_tables(reference: Reference, section: Section, rows: Mapping[str, ConfigurationRow]) -> list[Table]:
    """Returns the published numbers and the published differences beside ours, where there are any.

    Args:
        reference: what was published.
        section: our runs.
        rows: our configurations with their test metrics, by label.
    """
    tables = [_numbers_table(reference, section, rows), _differences_table(reference, section)]
    return [table for table in tables if table.rows]


def _numbers_table(reference: Reference, section: Section, rows: Mapping[str, ConfigurationRow]) -> Table:
    cells: list[dict[str, Cell]] = []
    records: list[dict[str, Any]] = []
    for row in reference.rows:
        for group in reference.find(section, row):
            here = rows[group.label].intervals[row.metric]
            protocol = _protocol(reference, group.runs[0])
            cells.append(
                {
                    "model": words(group.label),
                    "metric": words(row.metric),
                    reference.source: number_cell(row.value, ".4f"),
                    "here": interval_cell(here),
                    f"here - {reference.source}": number_cell(here.mean - row.value, "+.4f"),
                    "protocol": words(protocol),
                }
            )
            own = {"model": group.label, **row.settings, "metric": row.metric, reference.source: row.value}
            records.append(
                own
                | interval_columns("here", here)
                | {f"here - {reference.source}": here.mean - row.value, "protocol": protocol}
            )
    caption = (
        f"{reference.source}: {reference.citation}. Here: test metrics, means over seeds and queries ± half the width "
        f"of the 95 % interval. {_PROTOCOL} {reference.notes}"
    )
    title = f"Beside {reference.source}"
    return Table("reference", title, caption.strip(), cells, pd.DataFrame(records))


def _differences_table(reference: Reference, section: Section) -> Table:
    cells: list[dict[str, Cell]] = []
    records: list[dict[str, Any]] = []
    for difference in reference.differences:
        pair = reference.find_pair(section, difference)
        if pair is None:
            continue
        (compared,) = compare_groups(pair, [difference.metric], difference.conditions).rows
        queries = difference.where or "all"
        protocol = _protocol(reference, pair[1].runs[0])
        cells.append(
            {
                "A": words(pair[0].label),
                "B": words(pair[1].label),
                "metric": words(difference.metric),
                "queries": words(queries),
                reference.source: Cell(f"{100 * difference.relative:+.2f} %", difference.relative),
                "here [95 %]": relative_cell(compared.relative),
                "p": p_value_cell(compared.difference.p_over_seeds),
                "protocol": words(protocol),
            }
        )
        own = {"A": pair[0].label, "B": pair[1].label, **difference.settings, "metric": difference.metric}
        own |= {"queries": queries, reference.source: difference.relative}
        tested = {"p": compared.difference.p_over_seeds, "protocol": protocol}
        records.append(own | interval_columns("here", compared.relative) | tested)
    caption = (
        f"Relative differences (B - A) / A. {reference.source}: {reference.citation}. Here: with the 95 % interval "
        "over users and seeds, given this training set. p: two-sided, not corrected, of the null hypothesis that both "
        "have the same mean over all users and seeds; users are the unit, seeds the second level; none where a side "
        f"has one seed. {_PROTOCOL}"
    )
    title = f"The differences of {reference.source}"
    return Table("reference-differences", title, caption, cells, pd.DataFrame(records))


_PROTOCOL = (
    "Protocol: where ours differs from the published one, as far as the reference file tells it; numbers of different "
    "protocols cannot be compared."
)


def _protocol(reference: Reference, run: Any) -> str:
    return "; ".join(reference.protocol.differences(run)) or "the same"
