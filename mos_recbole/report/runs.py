"""The table of configurations with their test metrics."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from mos_recbole.analysis.configurations import ConfigurationRow, configuration_rows
from mos_recbole.analysis.costs import Cost, cost_named, on_front
from mos_recbole.analysis.outcomes import TABLE_METRICS
from mos_recbole.evaluation import Interval
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
from mos_recbole.report.provenance import protocol_line
from mos_recbole.report.table import Cell, Table
from mos_recbole.results import RunResult, code_name, setting_columns

METRICS_CAPTION = (
    "Test metrics by full ranking: means over seeds and queries ± half the width of the 95 % interval over "
    "users and, where there are several, seeds."
)


def comparison_table(
    records: Sequence[RunResult], metrics: Sequence[str] = TABLE_METRICS, cost: str | None = None
) -> Table:
    """Returns a table with a row per model and settings: runs that differ in the seed share it.

    Args:
        records: of runs of one protocol.
        metrics: that it shows, in any spelling.
        cost: one of `analysis.COSTS`, to be shown with the front of the first metric and it, which the caption
            explains; None for the training time alone.

    Raises:
        InputError: as `configuration_rows`, or an unknown cost.
    """
    kind = None if cost is None else cost_named(cost)
    rows = configuration_rows(records, metrics)
    front = [] if kind is None else [front_caption(next(iter(rows[0].intervals)), kind)]
    caption = "\n".join([protocol_line(records[0]), METRICS_CAPTION, *front])
    return configurations_table(rows, None, caption, cost=kind)


def front_caption(metric: str, cost: Cost) -> str:
    """Returns what the column of a cost and the mark of the front mean."""
    return (
        f"{cost.label.capitalize()}: {cost.help}, mean over seeds ± half the width of Student's 95 % interval. "
        f"★: no other row has as good a {metric} for as little; intervals have no part in it."
    )


def configurations_table(
    rows: Sequence[ConfigurationRow],
    metrics: Sequence[str] | None = None,
    caption: str = "",
    *,
    short: bool = False,
    cost: Cost | None = None,
) -> Table:
    """Returns a table with a row per configuration: test metrics ± interval, epochs, mean training time, parameters.

    Args:
        rows: of `configuration_rows`.
        metrics: of the rows' metrics those that are shown; all by default.
        caption: of the table.
        short: show the settings as short columns, behind the metrics, and not in the name.
        cost: shown in place of the training time, with a star in the rows on the front of the first metric and it.
    """
    shown = [list(row.intervals) if metrics is None else list(metrics) for row in rows]
    frame = pd.DataFrame(
        [
            {
                "model": row.label,
                "parameters": row.runs[0].parameters if row.runs[0].was_trained else None,
                "seeds": len(row.runs),
                "epochs": _mean_cost(row, lambda run: run.epochs),
                "train_seconds": _mean_cost(row, lambda run: run.train_seconds),
                **{
                    column: value
                    for metric in names
                    for column, value in interval_columns(metric, row.intervals[metric]).items()
                },
            }
            for row, names in zip(rows, shown, strict=True)
        ]
    )
    marks = [False] * len(rows)
    if cost is not None:
        marks = on_front(rows, shown[0][0], cost)
        means = [interval_columns(f"{cost.name} cost", cost.interval(row.runs)) for row in rows]
        frame = frame.join(pd.DataFrame(means)).assign(front=marks)
    columns, stands_for = setting_columns([row.runs[0] for row in rows]) if short else ({}, "")
    # Labels name it only where configurations of one model differ in it.
    tell_code = len({row.runs[0].code for row in rows}) > 1
    cells = []
    for number, (row, names) in enumerate(zip(rows, shown, strict=True)):
        values = {f"{metric} {arrow(metric)}": interval_cell(row.intervals[metric]) for metric in names}
        if short:
            settings = setting_cells(columns, number)
            costs = _costs(row, cost, marks[number])
            # Beside the settings, one of which is called epochs too.
            costs = {"trained epochs" if name == "epochs" else name: cell for name, cell in costs.items()}
            cells.append({"model": words(row.runs[0].model), **values, **settings, **costs})
        else:
            code = {"code": words(code_name(row.runs[0]))} if tell_code else {}
            cells.append({"model": words(row.label), **code, **_costs(row, cost, marks[number]), **values})
    return Table("models", "Configurations", "\n".join(filter(None, [caption, stands_for])), cells, frame)


def _mean_cost(row: ConfigurationRow, of: Callable[[RunResult], float]) -> float | None:
    """Returns the mean over the runs of what training took; None of lists that another program made."""
    return sum(map(of, row.runs)) / len(row.runs) if row.runs[0].was_trained else None


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


def _costs(row: ConfigurationRow, cost: Cost | None, is_on_front: bool) -> dict[str, Cell]:
    epochs = [run.epochs for run in row.runs]
    trained = row.runs[0].was_trained
    cells = {
        "parameters": number_cell(row.runs[0].parameters, ",") if trained else NOTHING,
        "seeds": number_cell(len(row.runs), "d"),
        "epochs": Cell(format_range(epochs), min(epochs)) if trained else NOTHING,
    }
    if cost is None and not trained:
        return {**cells, "training time": NOTHING}
    if cost is None:
        seconds = np.mean([run.train_seconds for run in row.runs]).item()
        return {**cells, "training time": Cell(format_duration(seconds), seconds)}
    return {**cells, cost.header: cost_cell(cost.interval(row.runs), is_on_front)}


def cost_cell(interval: Interval | None, is_on_front: bool) -> Cell:
    """Returns "★ 35.2 ± 1.1", without the half of the interval where it has no width."""
    if interval is None:
        return NOTHING
    mean, half = (
        f"{value:,.0f}" if value >= 100 else f"{value:.{digits}g}"
        for value, digits in ((interval.mean, 3), (interval.half_width, 2))
    )
    return Cell("★ " * is_on_front + (f"{mean} ± {half}" if interval.half_width else mean), interval.mean)
