"""The report of a sweep, from its files alone: every trial, every configuration, the best ones, and figures.

All but the costs is the same however often a sweep is repeated, and so, byte for byte, are best.md and table.*.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from mos_recbole.analysis import TABLE_METRICS, aligned_outcomes, metric_intervals, metric_values, user_numbers
from mos_recbole.analysis.selection import (
    Comparison,
    Configuration,
    compare_configurations,
    finished_runs,
    group_configurations,
    validation_scores,
)
from mos_recbole.evaluation import Interval, bootstrap_means, metric_direction, needs_top_items
from mos_recbole.io import atomic_write
from mos_recbole.report.formatting import format_interval
from mos_recbole.report.markup import latex_table, markdown
from mos_recbole.results import RunResult, SweepPlan, Trial, read_plan, read_trials

COST_COLUMNS = (
    "attempts",
    "train_seconds",
    "eval_seconds",
    "wall_seconds",
    "peak_resident_MB",
    "peak_gpu_MB",
    "device",
)
"""The columns of `trials_frame` that differ between repetitions of a sweep; the others do not."""

_FIGURES_FOLDER = "figures"
_STATUSES = ("finished", "stopped", "failed", "unfinished")
_LOG_COLUMNS = ("epoch", "loss", "train_seconds", "eval_seconds", "best")
_OWN_COLUMNS = {
    *("number", "model", "dataset", "seed", "status", "run_id", "epochs", "best_epoch", "model_parameters"),
    *("seeds", "seeds_finished", "error"),
    *COST_COLUMNS,
}


def write_sweep_report(folder: Path) -> list[Path]:
    """Returns the files of the report, all written into the sweep's folder.

    The sweep may be under way: the report is of what there is. Each file is written atomically, tables before figures.

    Raises:
        InputError: the folder holds no sweep, a file of it is broken, or results cannot be compared.
    """
    # Here and not above, so that tables do not wait for matplotlib.
    from mos_recbole.report.figures import sweep_figures
    from mos_recbole.report.style import save_figure

    sweep = _Sweep.read(folder)
    rows = _table_rows(sweep)
    paths = [
        folder / name for name in ("trials.csv", "trials.parquet", "best.md", "table.md", "table.csv", "table.tex")
    ]
    with atomic_write(paths[0]) as temporary:
        sweep.frame.to_csv(temporary, index=False, lineterminator="\n")
    with atomic_write(paths[1]) as temporary:
        sweep.frame.to_parquet(temporary, index=False)
    contents = (_best_text(sweep), _table_markdown(sweep, rows), _table_csv(sweep, rows), _table_latex(sweep, rows))
    for path, content in zip(paths[2:], contents, strict=True):
        with atomic_write(path) as temporary:
            temporary.write_text(content, encoding="utf-8", newline="\n")
    figures = folder / _FIGURES_FOLDER
    figures.mkdir(exist_ok=True)
    columns = {key: _parameter_name(key) for key in sweep.parameters}
    drawn = sweep_figures(sweep.frame, columns, sweep.logs, sweep.plan.metric, sweep.plan.mode)
    for name, figure in drawn.items():
        paths += save_figure(figure, figures, name)
    return paths


def trials_frame(folder: Path) -> pd.DataFrame:
    """Returns one row per trial of a sweep, by number: what was tried, how it ended, what came out and what it cost.

    A swept parameter's column has the parameter's name, with " (swept)" behind it where another column has that name;
    where a trial lacks the parameter it is empty. Metrics are "valid NDCG@10" and "test NDCG@10", the latter of
    finished trials only. Of others, `epochs` is how many there are so far and validation that of the best of them. The
    costs, `COST_COLUMNS`, failed attempts among them, come last; times are in seconds, memory in MB of 10^6 bytes.

    Raises:
        InputError: the folder holds no sweep, or a file of it is broken.
    """
    return _Sweep.read(folder).frame


@dataclass(frozen=True)
class _Sweep:
    """The files of a sweep, read once.

    Attributes:
        runs: records of finished trials, by the trial's number.
        logs: training logs, by the trial's number, where an epoch was trained.
        parameters: the swept parameters that trials have, in the order of the plan.
    """

    plan: SweepPlan
    trials: list[Trial]
    statuses: dict[int, str]
    runs: dict[int, RunResult]
    logs: dict[int, pd.DataFrame]
    parameters: list[str]

    @classmethod
    def read(cls, folder: Path) -> "_Sweep":
        plan, trials = read_plan(folder), read_trials(folder)
        runs = finished_runs(folder, trials)
        # By the records that were read: another trial may have finished since.
        statuses = {
            trial.number: "finished" if trial.number in runs else (trial.ended or "unfinished") for trial in trials
        }
        logs = {trial.number: log for trial in trials if (log := trial.training_log(folder)) is not None}
        used = dict.fromkeys(key for trial in trials for key in trial.parameters)
        parameters = sorted(used, key=lambda key: list(plan.space).index(key) if key in plan.space else len(plan.space))
        return cls(plan, trials, statuses, runs, logs, parameters)

    @cached_property
    def comparisons(self) -> list[Comparison]:
        return compare_configurations(self.plan, self.trials, validation_scores(self.runs, self.plan.metric))

    @cached_property
    def frame(self) -> pd.DataFrame:
        rows = [self._row(trial) for trial in self.trials]
        selected = f"valid {self.plan.metric}"
        found = dict.fromkeys(
            [selected, *(name for row in rows for name in row if name.startswith(("valid ", "test ")))]
        )
        metrics = sorted(found, key=lambda name: name.startswith("test "))
        columns: dict[str, pd.Series] = {}

        def add(names: Iterable[str], dtype: str) -> None:
            for name in names:
                columns[name] = pd.Series([row.get(name) for row in rows], dtype=dtype)

        add(["number"], "int64")
        add(["model", "dataset"], "object")
        add(["seed"], "int64")
        for key in self.parameters:
            columns[_parameter_name(key)] = _parameter_column(key, self.trials)
        add(["status", "run_id"], "object")
        add(["epochs", "best_epoch", "model_parameters"], "Int64")
        add(metrics, "float64")
        add(["error"], "object")
        add(COST_COLUMNS[:1], "int64")
        add(COST_COLUMNS[1:-1], "float64")
        add(COST_COLUMNS[-1:], "object")
        return pd.DataFrame(columns)

    def _row(self, trial: Trial) -> dict[str, Any]:
        """Returns what `trials_frame` says of a trial, its swept parameters apart."""
        row: dict[str, Any] = {
            **{"number": trial.number, "model": trial.model, "dataset": trial.dataset, "seed": trial.seed},
            **{"status": self.statuses[trial.number], "run_id": trial.run_id},
            **{"error": trial.error, "attempts": trial.attempts},
        }
        run, log = self.runs.get(trial.number), self.logs.get(trial.number)
        if run is not None:
            memory = {f"peak_{kind}_MB": size / 1e6 for kind, size in run.peak_memory_bytes.items()}
            return {
                **row,
                **{"epochs": run.epochs, "best_epoch": run.best_epoch, "model_parameters": run.parameters},
                **{f"valid {name}": metric.value for name, metric in run.valid.items()},
                **{f"test {name}": metric.value for name, metric in run.test.items()},
                **{name: getattr(run, name) for name in ("train_seconds", "eval_seconds", "wall_seconds", "device")},
                **memory,
            }
        if log is not None and len(log):
            row |= {"epochs": int(log["epoch"].iloc[-1])}
            row |= {name: float(log[name].sum()) for name in ("train_seconds", "eval_seconds")}
            best = log[log["best"] == 1]
            if len(best):
                row |= {"best_epoch": int(best["epoch"].iloc[-1])}
                row |= {f"valid {name}": float(best[name].iloc[-1]) for name in log.columns if name not in _LOG_COLUMNS}
        return row

    def finished(self, configuration: Configuration) -> list[RunResult]:
        """Returns the records of a configuration by seed, so that the bootstrap of the same runs is the same."""
        runs = [self.runs[trial.number] for trial in configuration.trials if trial.number in self.runs]
        return sorted(runs, key=lambda run: run.seed)

    def count(self, status: str) -> int:
        return list(self.statuses.values()).count(status)


def _parameter_name(key: str) -> str:
    """Returns the column of a swept parameter, apart from the report's own columns."""
    taken = key in _OWN_COLUMNS or key.startswith(("valid ", "test "))
    return f"{key} (swept)" if taken else key


def _parameter_column(key: str, trials: Sequence[Trial]) -> pd.Series:
    """Returns a swept parameter by trial, NA where a trial lacks it: whole numbers, numbers, truth values or text."""
    given = [trial.parameters[key] for trial in trials if key in trial.parameters]
    kinds = {type(value) for value in given}
    if kinds == {int}:
        return pd.Series([trial.parameters.get(key) for trial in trials], dtype="Int64")
    if kinds <= {int, float}:
        return pd.Series([trial.parameters.get(key) for trial in trials], dtype="float64")
    if kinds == {bool}:
        return pd.Series([trial.parameters.get(key) for trial in trials], dtype="boolean")
    values = [_plain(trial.parameters[key]) if key in trial.parameters else None for trial in trials]
    return pd.Series(values, dtype="object")


def _plain(value: Any) -> str:
    """Returns a setting's value as text that tells it from any other value: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


# ------------------------------------------------------------------------------------------------- best.md


def _best_text(sweep: _Sweep) -> str:
    plan, metrics = sweep.plan, _test_metrics(sweep.plan)
    better = "higher" if plan.mode == "max" else "lower"
    counts = ", ".join(f"{sweep.count(status)} {status}" for status in _STATUSES)
    parts = [
        f"# Best configurations of {markdown(plan.name)}",
        f"For every data set and model the configuration with the best mean validation {plan.metric} "
        f"({better} is better); the test set had no part in the choice. Configurations are compared on the same seeds, "
        "those under *compared on*: the plan's first seed with which any finished, and the others with which all that "
        "finished with it did. Test metrics are those of the chosen configuration over all its *seeds*, ± half the "
        "width of the 95 % bootstrap interval over users and, where there are several, seeds.",
        f"{len(sweep.trials)} trials: {counts}.",
        "**Caveat.** The best of n validation scores is optimistic, the more so the larger n (*tried*): it is the "
        "extreme of n scores with noise in them. The test score of the configuration so chosen is not, as long as "
        "nothing is chosen by test scores, this sweep over another one included.",
    ]
    if not sweep.runs:
        parts.append("No trial has finished, so there is nothing to choose from.")
    for dataset in dict.fromkeys(comparison.dataset for comparison in sweep.comparisons):
        of_dataset = [comparison for comparison in sweep.comparisons if comparison.dataset == dataset]
        rows = [_best_row(sweep, comparison, metrics) for comparison in of_dataset if comparison.ranked]
        without = [markdown(comparison.model) for comparison in of_dataset if not comparison.ranked]
        parts.append(f"## {markdown(dataset)}")
        if rows:
            parts.append(_tabulate(rows, "github"))
        if without:
            parts.append(f"No trial has finished of {', '.join(without)}.")
    failed = [trial for trial in sweep.trials if sweep.statuses[trial.number] == "failed"]
    if failed:
        lines = [
            f"- trial {trial.number}, {markdown(trial.model)} on {markdown(trial.dataset)}, "
            f"{markdown(_settings_text(trial.parameters))}, seed {trial.seed}: {markdown(_last_words(trial.error))}"
            for trial in failed
        ]
        parts += ["## Failed trials", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _best_row(sweep: _Sweep, comparison: Comparison, metrics: Sequence[str]) -> dict[str, str]:
    best, score = comparison.ranked[0]
    tried = [
        configuration
        for configuration in comparison.configurations
        if any(sweep.statuses[trial.number] != "unfinished" for trial in configuration.trials)
    ]
    runs = sweep.finished(best)
    intervals = metric_intervals(runs, metrics)
    arrow = "↑" if sweep.plan.mode == "max" else "↓"
    seeds = ", ".join(str(seed) for seed in comparison.seeds)
    return {
        "model": markdown(comparison.model),
        "configuration": markdown(_settings_text(best.parameters)),
        "trial": str(best.number),
        "tried": str(len(tried)),
        "compared": str(len(comparison.ranked)),
        "compared on": f"seed {seeds}" if len(comparison.seeds) == 1 else f"seeds {seeds}",
        f"valid {sweep.plan.metric} {arrow}": f"{score:.4f}",
        "seeds": str(len(runs)),
        "parameters": f"{runs[0].parameters:,}",
        "epochs": _span([run.epochs for run in runs]),
        **{f"test {metric} {_arrow(metric)}": format_interval(intervals[metric]) for metric in metrics},
    }


def _last_words(error: str | None) -> str:
    """Returns what an error says in one line: a traceback's last one."""
    lines = [line.strip() for line in (error or "no message").splitlines() if line.strip()]
    return lines[-1] if lines[0].startswith("Traceback") else " ".join(lines)


# ------------------------------------------------------------------------------------------------- table.*


@dataclass(frozen=True)
class _TableRow:
    """A configuration in the table.

    Attributes:
        seeds: how many are planned so far; finished is how many of them are.
        status: how its trials ended, where none finished.
        valid: the mean validation score; of the best epochs so far where no trial finished; NaN without any.
        test: with intervals, or None where no trial finished.
    """

    configuration: Configuration
    finished: int
    seeds: int
    status: str
    epochs: str
    valid: float
    test: dict[str, Interval] | None


def _table_rows(sweep: _Sweep) -> list[_TableRow]:
    """Returns all configurations by data set and model, comparable ones first, best validation first.

    So the first row of each model is the configuration that best.md has.
    """
    intervals = _all_intervals(sweep)
    frame = sweep.frame.set_index("number")
    sign = -1 if sweep.plan.mode == "max" else 1
    rows = []
    for comparison in sweep.comparisons:
        scores = {configuration.number: score for configuration, score in comparison.ranked}
        others = [one for one in comparison.configurations if one.number not in scores]
        scores |= {one.number: _mean_so_far(sweep, frame, one) for one in others}
        others.sort(key=lambda one: (not sweep.finished(one), np.isnan(scores[one.number]), sign * scores[one.number]))
        for configuration in [*(configuration for configuration, _ in comparison.ranked), *others]:
            numbers = [trial.number for trial in configuration.trials]
            runs = sweep.finished(configuration)
            epochs = [run.epochs for run in runs] or frame.loc[numbers, "epochs"].dropna().tolist()
            rows.append(
                _TableRow(
                    configuration,
                    finished=len(runs),
                    seeds=len(numbers),
                    status="" if runs else _ended([sweep.statuses[number] for number in numbers]),
                    epochs=_span(epochs) if epochs else "",
                    valid=scores[configuration.number],
                    test=intervals.get(configuration.number),
                )
            )
    return rows


def _mean_so_far(sweep: _Sweep, frame: pd.DataFrame, configuration: Configuration) -> float:
    """Returns a configuration's mean validation score: of its finished trials, or of all where none finished."""
    numbers = [trial.number for trial in configuration.trials]
    finished = [number for number in numbers if number in sweep.runs]
    return float(frame.loc[finished or numbers, f"valid {sweep.plan.metric}"].mean())


def _ended(statuses: Sequence[str]) -> str:
    """Returns "stopped", or "1 stopped, 2 failed" where trials ended differently."""
    counts = {status: statuses.count(status) for status in _STATUSES if status in statuses}
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{n} {status}" for status, n in counts.items())


def _table_cells(sweep: _Sweep, row: _TableRow) -> dict[str, str]:
    """Returns a row as text for readers, not yet escaped for any format."""
    configuration, arrow = row.configuration, "↑" if sweep.plan.mode == "max" else "↓"
    given = configuration.parameters
    test = {metric: format_interval(interval) for metric, interval in row.test.items()} if row.test else {}
    return {
        "model": configuration.model,
        "data set": configuration.dataset,
        **{_parameter_name(key): _short(given[key]) if key in given else "–" for key in sweep.parameters},
        "seeds": str(row.finished) if row.finished == row.seeds else f"{row.finished} of {row.seeds}",
        "status": row.status or "finished",
        "epochs": row.epochs or "–",
        f"valid {sweep.plan.metric} {arrow}": "–" if np.isnan(row.valid) else f"{row.valid:.4f}",
        **{f"test {metric} {_arrow(metric)}": test.get(metric, "–") for metric in _test_metrics(sweep.plan)},
    }


def _table_caption(sweep: _Sweep) -> str:
    compared = "; ".join(
        f"{comparison.model} on {comparison.dataset}: {', '.join(str(seed) for seed in comparison.seeds)}"
        for comparison in sweep.comparisons
        if comparison.ranked
    )
    return (
        f"All configurations, by data set and model, the best validation {sweep.plan.metric} first: the first row of "
        "a model is the chosen one. Validation of finished configurations is the mean over the seeds on which they "
        f"were compared ({compared or 'none yet'}), of others the best that they reached so far. Test metrics are "
        "means over all finished seeds ± half the width of the 95 % bootstrap interval over users and seeds."
    )


def _table_markdown(sweep: _Sweep, rows: Sequence[_TableRow]) -> str:
    cells = [{markdown(key): markdown(text) for key, text in _table_cells(sweep, row).items()} for row in rows]
    table = _tabulate(cells, "github") if cells else "No trials yet."
    return f"# Configurations of {markdown(sweep.plan.name)}\n\n{markdown(_table_caption(sweep))}\n\n{table}\n"


def _table_latex(sweep: _Sweep, rows: Sequence[_TableRow]) -> str:
    cells = [_table_cells(sweep, row) for row in rows]
    table = _tabulate(cells, "latex_booktabs") if cells else ""
    return latex_table(table, _table_caption(sweep))


def _table_csv(sweep: _Sweep, rows: Sequence[_TableRow]) -> str:
    """Returns the table in full precision, each interval as its mean and its two ends."""
    records = []
    for row in rows:
        given = row.configuration.parameters
        records.append(
            {
                "model": row.configuration.model,
                "dataset": row.configuration.dataset,
                **{_parameter_name(key): _plain(given[key]) if key in given else None for key in sweep.parameters},
                "seeds_finished": row.finished,
                "seeds": row.seeds,
                "status": row.status or "finished",
                "epochs": row.epochs,
                f"valid {sweep.plan.metric}": row.valid,
                **{
                    f"test {metric}{end}": getattr(row.test[metric], name) if row.test else None
                    for metric in _test_metrics(sweep.plan)
                    for end, name in (("", "mean"), (" low", "low"), (" high", "high"))
                },
            }
        )
    return pd.DataFrame(records).to_csv(index=False, lineterminator="\n") if records else ""


# ------------------------------------------------------------------------------------------------- test metrics


def _test_metrics(plan: SweepPlan) -> list[str]:
    """Returns the metrics that tables show: the usual ones, and the sweep's own where outcomes tell it."""
    return list(dict.fromkeys([*TABLE_METRICS, *([] if needs_top_items(plan.metric) else [plan.metric])]))


def _all_intervals(sweep: _Sweep) -> dict[int, dict[str, Interval]]:
    """Returns the test metrics with intervals of all configurations of which a trial finished, by their numbers.

    They are those of `metric_intervals`, in a fraction of its time: what takes long is to draw the users, and
    configurations on the same data with as many seeds have the same draws.

    Raises:
        InputError: outcomes are missing, or on one data set they are not of the same queries.
    """
    metrics = _test_metrics(sweep.plan)
    alike: dict[tuple[str, int], list[Configuration]] = {}
    for configuration in group_configurations(sweep.trials):
        if runs := sweep.finished(configuration):
            alike.setdefault((configuration.dataset, len(runs)), []).append(configuration)
    first_runs: dict[str, RunResult] = {}
    intervals: dict[int, dict[str, Interval]] = {}
    for (dataset, n_seeds), configurations in alike.items():
        first_run = first_runs.setdefault(dataset, sweep.finished(configurations[0])[0])
        user_Q = user_numbers(aligned_outcomes([first_run])[0])
        # In batches: the sums of many configurations by metric, seed and user can be large.
        batch = max(1, 2**25 // (len(metrics) * n_seeds * len(user_Q)))
        for start in range(0, len(configurations), batch):
            chosen = configurations[start : start + batch]
            values = (
                metric_values(tables, metric)
                for one in chosen
                for tables in [aligned_outcomes([first_run, *sweep.finished(one)])[1:]]
                for metric in metrics
            )
            found = iter(bootstrap_means(values, user_Q))
            intervals |= {one.number: {metric: next(found) for metric in metrics} for one in chosen}
    return intervals


# ------------------------------------------------------------------------------------------------- text


def _tabulate(rows: Sequence[Mapping[str, str]], tablefmt: str) -> str:
    """Returns a table whose first two columns, which are words, are to the left, and the others to the right."""
    alignment = ["left"] * 2 + ["right"] * (len(rows[0]) - 2)
    return tabulate(rows, headers="keys", tablefmt=tablefmt, disable_numparse=True, colalign=alignment)


def _settings_text(parameters: Mapping[str, Any]) -> str:
    """Returns "learning_rate=0.005, mos_heads=4", in full precision."""
    return ", ".join(f"{key}={_plain(value)}" for key, value in parameters.items()) or "no swept parameters"


def _short(value: Any) -> str:
    """Returns a setting's value for a table, numbers to four digits; table.csv has all of them."""
    return f"{value:.4g}" if isinstance(value, float) else _plain(value)


def _arrow(metric: str) -> str:
    return "↑" if metric_direction(metric) == "higher" else "↓"


def _span(values: Sequence[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)}-{max(values)}"
