"""The table of configurations with their test metrics."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mos_recbole.analysis.configurations import ConfigurationRow, configuration_rows
from mos_recbole.analysis.outcomes import TABLE_METRICS
from mos_recbole.report.formatting import (
    arrow,
    format_duration,
    format_range,
    interval_cell,
    interval_columns,
    number_cell,
    words,
)
from mos_recbole.report.table import Cell, Table
from mos_recbole.results import RunResult


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
    rows: Sequence[ConfigurationRow], metrics: Sequence[str] | None = None, caption: str = ""
) -> Table:
    """Returns a table with a row per configuration: parameters, epochs, median training time, test metrics ± interval.

    Args:
        rows: of `configuration_rows`.
        metrics: of the rows' metrics those that are shown; all by default.
        caption: of the table.
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
    cells = [_cells(row, names) for row, names in zip(rows, shown, strict=True)]
    return Table("models", "Models", caption, cells, frame)


def _cells(row: ConfigurationRow, metrics: Sequence[str]) -> dict[str, Cell]:
    epochs = [run.epochs for run in row.runs]
    n_early = sum(run.stopped == "early_stopping" for run in row.runs)
    early = f" ({'' if n_early == len(epochs) else f'{n_early} of {len(epochs)} '}stopped early)" if n_early else ""
    seconds = float(np.median([run.train_seconds for run in row.runs]))
    return {
        "model": words(row.label),
        "parameters": number_cell(row.runs[0].parameters, ","),
        "seeds": number_cell(len(row.runs), "d"),
        "epochs": Cell(format_range(epochs) + early, min(epochs)),
        "training time": Cell(format_duration(seconds), seconds),
        **{f"{metric} {arrow(metric)}": interval_cell(row.intervals[metric]) for metric in metrics},
    }
