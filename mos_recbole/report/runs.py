"""The table of configurations with their test metrics."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mos_recbole.analysis.configurations import ConfigurationRow, configuration_rows
from mos_recbole.analysis.outcomes import TABLE_METRICS
from mos_recbole.progress import format_duration
from mos_recbole.report.formatting import (
    NOTHING,
    arrow,
    format_range,
    interval_cell,
    interval_columns,
    number_cell,
    words,
)
from mos_recbole.report.table import Cell, Table
from mos_recbole.results import RunResult, code_name, setting_columns


def comparison_table(records: Sequence[RunResult], metrics: Sequence[str] = TABLE_METRICS) -> Table:
    """Returns a table, without caption, with a row per model and settings: runs that differ in the seed share it.

    Args:
        records: of runs of one protocol.
        metrics: that it shows, in any spelling.

    Raises:
        InputError: as `configuration_rows`.
    """
    return configurations_table(configuration_rows(records, metrics))


def configurations_table(
    rows: Sequence[ConfigurationRow],
    metrics: Sequence[str] | None = None,
    caption: str = "",
    *,
    short: bool = False,
) -> Table:
    """Returns a table with a row per configuration: test metrics ± interval, epochs, median training time, parameters.

    Args:
        rows: of `configuration_rows`.
        metrics: of the rows' metrics those that are shown; all by default.
        caption: of the table.
        short: show the settings as short columns, behind the metrics, and not in the name.
    """
    shown = [list(row.intervals) if metrics is None else list(metrics) for row in rows]
    frame = pd.DataFrame(
        [
            {
                "model": row.label,
                "parameters": row.runs[0].parameters,
                "seeds": len(row.runs),
                "epochs": sum(run.epochs for run in row.runs) / len(row.runs),
                "train_seconds": sum(run.train_seconds for run in row.runs) / len(row.runs),
                **{
                    column: value
                    for metric in names
                    for column, value in interval_columns(metric, row.intervals[metric]).items()
                },
            }
            for row, names in zip(rows, shown, strict=True)
        ]
    )
    columns, stands_for = setting_columns([row.runs[0] for row in rows]) if short else ({}, "")
    # Labels name it only where configurations of one model differ in it.
    tell_code = len({row.runs[0].code for row in rows}) > 1
    cells = []
    for number, (row, names) in enumerate(zip(rows, shown, strict=True)):
        values = {f"{metric} {arrow(metric)}": interval_cell(row.intervals[metric]) for metric in names}
        if short:
            cells.append({"model": words(row.runs[0].model), **values, **setting_cells(columns, number), **_costs(row)})
        else:
            code = {"code": words(code_name(row.runs[0]))} if tell_code else {}
            cells.append({"model": words(row.label), **code, **_costs(row), **values})
    return Table("models", "Configurations", "\n".join(filter(None, [caption, stands_for])), cells, frame)


def setting_cells(columns: Mapping[str, Sequence[object]], row: int) -> dict[str, Cell]:
    """Returns the cells of a row of `setting_columns`."""
    return {name: _setting_cell(values[row]) for name, values in columns.items()}


def setting_words(runs: Sequence[RunResult]) -> list[str]:
    """Returns the settings in which runs differ in words, of each run: "K 4, d 64, learning rate 0.002"."""
    columns, _ = setting_columns(runs)
    rows = [{name: cell.text for name, cell in setting_cells(columns, row).items()} for row in range(len(runs))]
    return [", ".join(f"{name} {text}" for name, text in row.items() if text != NOTHING.text) for row in rows]


def _setting_cell(value: object) -> Cell:
    if value is None:
        return NOTHING
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(f"{value:g}" if isinstance(value, float) else str(value), float(str(value)) if number else None)


def _costs(row: ConfigurationRow) -> dict[str, Cell]:
    epochs = [run.epochs for run in row.runs]
    seconds = float(np.median([run.train_seconds for run in row.runs]))
    return {
        "parameters": number_cell(row.runs[0].parameters, ","),
        "seeds": number_cell(len(row.runs), "d"),
        "epochs": Cell(format_range(epochs), min(epochs)),
        "training time": Cell(format_duration(seconds), seconds),
    }
