"""The report of a sweep, from its files alone: every trial, every configuration, the best ones, and figures.

All but the costs is the same however often a sweep is repeated, and so, byte for byte, are best.* and table.*.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mos_recbole.analysis.outcomes import asked_metrics
from mos_recbole.analysis.selection import Comparison
from mos_recbole.analysis.sweep_frame import STATUSES, ConfigurationResult, Sweep, last_words, plain, read_sweep
from mos_recbole.evaluation import needs_top_items, parse_metric
from mos_recbole.io import atomic_write
from mos_recbole.progress import ProgressBar
from mos_recbole.report.formatting import arrow, format_range, interval_cell, interval_columns, number_cell, words
from mos_recbole.report.table import Cell, Table, escape_markdown

_FIGURES_FOLDER = "figures"
_NONE = Cell("–", np.nan)
_BESIDE = ("compared on", "compared", "tried", "trial", "parameters", "epochs")


@dataclass(frozen=True)
class SweepReport:
    """What `write_sweep_report` has written.

    Attributes:
        files: in the sweep's folder.
        best: the best configurations, a table a data set.
        dispensable: columns of these that a narrow terminal need not show, the first one first.
    """

    files: tuple[Path, ...]
    best: tuple[Table, ...]
    dispensable: tuple[str, ...]


def write_sweep_report(folder: Path, *, figures: bool = True) -> SweepReport:
    """Returns the report of a sweep, all written into its folder.

    The sweep may be under way: the report is of what there is. Each file is written atomically, tables before figures.

    Args:
        folder: of the sweep.
        figures: whether to draw figures too.

    Raises:
        InputError: the folder holds no sweep, a file of it is broken, or results cannot be compared.
    """
    read = read_sweep(folder)
    metrics = _test_metrics(read)
    rows = read.configurations(metrics)
    table = _configurations_table(read, rows, metrics)
    paths = [folder / "trials.csv", folder / "trials.parquet"]
    with atomic_write(paths[0]) as temporary:
        read.frame.to_csv(temporary, index=False, lineterminator="\n")
    with atomic_write(paths[1]) as temporary:
        read.frame.to_parquet(temporary, index=False)
    best = _best_tables(read, rows, metrics)
    texts = {"best.md": _best_text(read, best), "best.tex": "\n".join(one.latex() for one in best.values())}
    texts |= {"table.md": table.markdown()}
    texts |= {"table.csv": table.csv(), "table.tex": table.latex()}
    for name, text in texts.items():
        paths.append(folder / name)
        with atomic_write(paths[-1]) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    if figures:
        paths += _write_figures(read, folder / _FIGURES_FOLDER)
    less = [f"test {metric} {arrow(metric)}" for metric in metrics[::-1] if metric != read.plan.metric]
    return SweepReport(tuple(paths), tuple(best.values()), (*_BESIDE, *less, "seeds"))


def _write_figures(sweep: Sweep, folder: Path) -> list[Path]:
    # Here and not above, so that tables do not wait for matplotlib.
    from mos_recbole.report.figures import save_figure
    from mos_recbole.report.figures.sweep import draw_sweep

    folder.mkdir(exist_ok=True)
    paths: list[Path] = []
    with ProgressBar("drawing figures"):
        for figure in draw_sweep(sweep.frame, sweep.columns, sweep.logs, sweep.plan.metric, sweep.plan.mode):
            paths += save_figure(figure, folder)
    return paths


def _test_metrics(sweep: Sweep) -> list[str]:
    """Returns the metrics that tables show: those asked for, and the sweep's own, where outcomes tell them."""
    own, asked = sweep.plan.metric, asked_metrics(list(sweep.runs.values()))
    told = [metric for metric in asked if parse_metric(metric)[0].needs != "distance_sums"]
    return list(dict.fromkeys([*told, *([] if needs_top_items(own) else [own])]))


def _configurations_table(sweep: Sweep, rows: Sequence[ConfigurationResult], metrics: Sequence[str]) -> Table:
    """Returns all configurations by data set and model; the first row of a model is the one that best.md has."""
    compared = "; ".join(
        f"{comparison.model} on {comparison.dataset}: {', '.join(str(seed) for seed in comparison.seeds)}"
        for comparison in sweep.comparisons
        if comparison.ranked
    )
    caption = (
        f"All configurations, by data set and model, the best validation {sweep.plan.metric} first: the first row of "
        "a model is the chosen one. Validation of finished configurations is the mean over the seeds on which they "
        f"were compared ({compared or 'none yet'}), of others the best that they reached so far. Test metrics are "
        "means over all finished seeds ± half the width of the 95 % interval over users and seeds."
    )
    cells = [_configuration_cells(sweep, row, metrics) for row in rows]
    frame = pd.DataFrame([_configuration_numbers(sweep, row, metrics) for row in rows])
    return Table("table", f"Configurations of {sweep.plan.name}", caption if rows else "No trials yet.", cells, frame)


def _configuration_cells(sweep: Sweep, row: ConfigurationResult, metrics: Sequence[str]) -> dict[str, Cell]:
    one = row.configuration
    swept = {
        column: Cell(_short(one.parameters[key])) if key in one.parameters else _NONE
        for key, column in sweep.columns.items()
    }
    seeds = str(len(row.runs)) if len(row.runs) == row.seeds else f"{len(row.runs)} of {row.seeds}"
    tests = {metric: interval_cell(row.test[metric]) if row.test else _NONE for metric in metrics}
    return {
        "model": words(one.model),
        "data set": words(one.dataset),
        **swept,
        "seeds": Cell(seeds, len(row.runs)),
        "status": Cell(_status(row)),
        "epochs": Cell(format_range(row.epochs), row.epochs[0]) if row.epochs else _NONE,
        f"valid {sweep.plan.metric} {_better(sweep)}": _NONE if np.isnan(row.valid) else number_cell(row.valid, ".4f"),
        **{f"test {metric} {arrow(metric)}": cell for metric, cell in tests.items()},
    }


def _configuration_numbers(sweep: Sweep, row: ConfigurationResult, metrics: Sequence[str]) -> dict[str, Any]:
    given = row.configuration.parameters
    numbers: dict[str, Any] = {
        "model": row.configuration.model,
        "dataset": row.configuration.dataset,
        **{column: plain(given[key]) if key in given else None for key, column in sweep.columns.items()},
        "seeds_finished": len(row.runs),
        "seeds": row.seeds,
        "status": _status(row),
        "epochs": format_range(row.epochs) if row.epochs else "",
        f"valid {sweep.plan.metric}": row.valid,
    }
    for metric in metrics:
        numbers |= interval_columns(f"test {metric}", row.test.get(metric))
    return numbers


def _best_tables(sweep: Sweep, rows: Sequence[ConfigurationResult], metrics: Sequence[str]) -> dict[str, Table]:
    """Returns the best configuration of every model, a table a data set; of those that have a finished trial."""
    results = {row.configuration.number: row for row in rows}
    cells: dict[str, list[dict[str, Cell]]] = {}
    for one in sweep.comparisons:
        if one.ranked:
            best = _best_cells(sweep, one, results[one.ranked[0][0].number], metrics)
            cells.setdefault(one.dataset, []).append(best)
    return {dataset: Table("best", dataset, "", of_data, pd.DataFrame()) for dataset, of_data in cells.items()}


def _best_text(sweep: Sweep, best: Mapping[str, Table]) -> str:
    """Returns best.md."""
    plan = sweep.plan
    better = "higher" if plan.mode == "max" else "lower"
    statuses = list(sweep.statuses.values())
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in STATUSES)
    parts = [
        f"# Best configurations of {escape_markdown(plan.name)}",
        f"For every data set and model the configuration with the best mean validation {plan.metric} "
        f"({better} is better); the test set had no part in the choice. Configurations are compared on the same seeds, "
        "those under *compared on*: the plan's first seed with which any finished, and the others with which all that "
        "finished with it did. Test metrics are those of the chosen configuration over all its *seeds*, ± half the "
        "width of the 95 % interval over users and, where there are several, seeds.",
        f"{len(sweep.trials)} trials: {counts}.",
        "**Caveat.** The best of n validation scores is optimistic, the more so the larger n (*tried*): it is the "
        "extreme of n scores with noise in them. The test score of the configuration so chosen is not, as long as "
        "nothing is chosen by test scores, this sweep over another one included.",
    ]
    if not sweep.runs:
        parts.append("No trial has finished, so there is nothing to choose from.")
    for dataset in dict.fromkeys(comparison.dataset for comparison in sweep.comparisons):
        comparisons = [one for one in sweep.comparisons if one.dataset == dataset]
        without = [escape_markdown(one.model) for one in comparisons if not one.ranked]
        parts.append(f"## {escape_markdown(dataset)}")
        if dataset in best:
            parts.append(best[dataset].grid("github", escape_markdown))
        if without:
            parts.append(f"No trial has finished of {', '.join(without)}.")
    failed = [trial for trial in sweep.trials if sweep.statuses[trial.number] == "failed"]
    if failed:
        lines = [
            f"- trial {trial.number}, {escape_markdown(trial.model)} on {escape_markdown(trial.dataset)}, "
            f"{escape_markdown(_settings_text(trial.parameters))}, seed {trial.seed}: "
            f"{escape_markdown(last_words(trial.error) or 'no message')}"
            for trial in failed
        ]
        parts += ["## Failed trials", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _best_cells(
    sweep: Sweep, comparison: Comparison, result: ConfigurationResult, metrics: Sequence[str]
) -> dict[str, Cell]:
    begun = [
        any(sweep.statuses[trial.number] != "unfinished" for trial in configuration.trials)
        for configuration in comparison.configurations
    ]
    seeds = ", ".join(str(seed) for seed in comparison.seeds)
    return {
        "model": words(comparison.model),
        "configuration": words(_settings_text(result.configuration.parameters)),
        "trial": number_cell(result.configuration.number, "d"),
        "tried": number_cell(sum(begun), "d"),
        "compared": number_cell(len(comparison.ranked), "d"),
        "compared on": Cell(f"seed {seeds}" if len(comparison.seeds) == 1 else f"seeds {seeds}"),
        f"valid {sweep.plan.metric} {_better(sweep)}": number_cell(result.valid, ".4f"),
        "seeds": number_cell(len(result.runs), "d"),
        "parameters": number_cell(result.runs[0].parameters, ",d"),
        "epochs": Cell(format_range(result.epochs), result.epochs[0]),
        **{f"test {metric} {arrow(metric)}": interval_cell(result.test[metric]) for metric in metrics},
    }


def _status(row: ConfigurationResult) -> str:
    """Returns "finished", "stopped", or "1 stopped, 2 failed" where trials ended differently."""
    if row.runs:
        return "finished"
    counts = {status: row.statuses.count(status) for status in STATUSES if status in row.statuses}
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{n} {status}" for status, n in counts.items())


def _better(sweep: Sweep) -> str:
    return "↑" if sweep.plan.mode == "max" else "↓"


def _settings_text(parameters: Mapping[str, Any]) -> str:
    """Returns "learning_rate=0.005, mos_heads=4", in full precision."""
    return ", ".join(f"{key}={plain(value)}" for key, value in parameters.items()) or "no swept parameters"


def _short(value: Any) -> str:
    """Returns a setting's value for a table, numbers to four digits; table.csv has all of them."""
    return f"{value:.4g}" if isinstance(value, float) else plain(value)
