"""The trials and configurations of a sweep as typed rows, from its files alone.

All but the costs is the same however often a sweep is repeated.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from mos_recbole.analysis.configurations import group_intervals
from mos_recbole.analysis.selection import (
    Comparison,
    Configuration,
    compare_configurations,
    finished_runs,
    group_configurations,
    validation_scores,
)
from mos_recbole.evaluation import Interval
from mos_recbole.results import RunResult, SweepPlan, Trial, TrialStatus, best_row, read_plan, read_trials

Mode = Literal["max", "min"]

COST_COLUMNS = (
    "attempts",
    "train_seconds",
    "eval_seconds",
    "wall_seconds",
    "train_processor_seconds",
    "eval_processor_seconds",
    "peak_resident_MB",
    "peak_gpu_MB",
    "device",
)
"""The columns of `trials_frame` that differ between repetitions of a sweep; the others do not."""

STATUSES: tuple[TrialStatus, ...] = ("finished", "stopped", "failed", "unfinished")
_LOG_COLUMNS = ("epoch", "loss", "train_seconds", "eval_seconds", "best")
_LEADING = {"number": "int64", "model": "object", "dataset": "object", "seed": "int64"}
_COUNTS = dict.fromkeys(("epochs", "best_epoch", "model_parameters"), "Int64")
_COSTS = {"attempts": "int64", **dict.fromkeys(COST_COLUMNS[1:-1], "float64"), "device": "object"}
_OWN_COLUMNS = {*_LEADING, *_COUNTS, *_COSTS, "status", "run_id", "error", "seeds", "seeds_finished"}


@dataclass(frozen=True)
class ConfigurationResult:
    """What came out of a configuration.

    Attributes:
        runs: its finished runs, by seed.
        seeds: number of seeds that are planned so far.
        statuses: of its trials.
        epochs: of its finished trials, of all where none finished; empty before the first epoch.
        valid: the mean validation score; of the best epochs so far where no trial finished; NaN without any.
        test: metrics with intervals, empty where no trial finished.
    """

    configuration: Configuration
    runs: tuple[RunResult, ...]
    seeds: int
    statuses: tuple[TrialStatus, ...]
    epochs: tuple[int, ...]
    valid: float
    test: dict[str, Interval]


@dataclass(frozen=True)
class Sweep:
    """The files of a sweep, read once. It may be under way.

    Attributes:
        runs: records of finished trials, by the trial's number.
        logs: training logs, by the trial's number, where an epoch was trained.
        columns: the swept parameters that trials have, in the order of the plan, each with its column in `frame`.
    """

    plan: SweepPlan
    trials: list[Trial]
    statuses: dict[int, TrialStatus]
    runs: dict[int, RunResult]
    logs: dict[int, pd.DataFrame]
    columns: dict[str, str]

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Every data set and model with its configurations, compared on validation."""
        return compare_configurations(self.plan, self.trials, validation_scores(self.runs, self.plan.metric))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The frame of `trials_frame`."""
        rows = [self._row(trial) for trial in self.trials]
        scores = dict.fromkeys(name for row in rows for name in row if name.startswith(("valid ", "test ")))
        metrics = sorted({f"valid {self.plan.metric}": None} | scores, key=lambda name: name.startswith("test "))
        before = {name: pd.Series([row.get(name) for row in rows], dtype=kind) for name, kind in _LEADING.items()}
        swept = {column: _parameter_column(key, self.trials) for key, column in self.columns.items()}
        others = {"status": "object", "run_id": "object", **_COUNTS, **dict.fromkeys(metrics, "float64")}
        others |= {"error": "object", **_COSTS}
        after = {name: pd.Series([row.get(name) for row in rows], dtype=kind) for name, kind in others.items()}
        return pd.DataFrame(before | swept | after)

    def finished(self, configuration: Configuration) -> list[RunResult]:
        """Returns the records of a configuration by seed, so that the bootstrap of the same runs is the same."""
        runs = [self.runs[trial.number] for trial in configuration.trials if trial.number in self.runs]
        return sorted(runs, key=lambda run: run.seed)

    def configurations(self, metrics: Sequence[str]) -> list[ConfigurationResult]:
        """Returns all configurations by data set and model, comparable ones first, best validation first.

        Args:
            metrics: of the test, to be computed from the outcomes.

        Raises:
            InputError: outcomes are missing, or on one data set they are not of the same queries.
        """
        intervals = self._intervals(metrics)
        sign = -1 if self.plan.mode == "max" else 1
        results = []
        for comparison in self.comparisons:
            scores = {configuration.number: score for configuration, score in comparison.ranked}
            others = [one for one in comparison.configurations if one.number not in scores]
            scores |= {one.number: self._mean_so_far(one) for one in others}
            others.sort(
                key=lambda one: (not self.finished(one), np.isnan(scores[one.number]), sign * scores[one.number])
            )
            ranked = [configuration for configuration, _ in comparison.ranked]
            results += [self._result(one, scores[one.number], intervals) for one in (*ranked, *others)]
        return results

    def _result(
        self, configuration: Configuration, valid: float, intervals: Mapping[int, dict[str, Interval]]
    ) -> ConfigurationResult:
        numbers = [trial.number for trial in configuration.trials]
        runs = self.finished(configuration)
        so_far = self.frame.set_index("number").loc[numbers, "epochs"].dropna()
        return ConfigurationResult(
            configuration,
            runs=tuple(runs),
            seeds=len(numbers),
            statuses=tuple(self.statuses[number] for number in numbers),
            epochs=tuple([run.epochs for run in runs] or so_far.tolist()),
            valid=valid,
            test=intervals.get(configuration.number, {}),
        )

    def _mean_so_far(self, configuration: Configuration) -> float:
        """Returns a configuration's mean validation score: of its finished trials, or of all where none finished."""
        numbers = [trial.number for trial in configuration.trials]
        finished = [number for number in numbers if number in self.runs]
        return float(self.frame.set_index("number").loc[finished or numbers, f"valid {self.plan.metric}"].mean())

    def _row(self, trial: Trial) -> dict[str, Any]:
        """Returns what `trials_frame` says of a trial, its swept parameters apart."""
        row = {key: getattr(trial, key) for key in (*_LEADING, "run_id", "error", "attempts")}
        row["status"] = self.statuses[trial.number]
        run, log = self.runs.get(trial.number), self.logs.get(trial.number)
        if run is not None:
            return {
                **row,
                **{"epochs": run.epochs, "best_epoch": run.best_epoch, "model_parameters": run.parameters},
                **{f"valid {name}": metric.value for name, metric in run.valid.items()},
                **{f"test {name}": metric.value for name, metric in run.test.items()},
                **{name: getattr(run, name) for name in COST_COLUMNS if name in RunResult.model_fields},
                **{f"peak_{kind}_MB": size / 1e6 for kind, size in run.peak_memory_bytes.items()},
            }
        if log is not None and len(log):
            row |= {"epochs": int(log["epoch"].iloc[-1])}
            row |= {name: float(log[name].sum()) for name in ("train_seconds", "eval_seconds")}
            best = best_row(log, self.plan.metric, self.plan.mode)
            if best is not None:
                row |= {"best_epoch": int(best["epoch"])}
                row |= {f"valid {name}": float(best[name]) for name in log.columns if name not in _LOG_COLUMNS}
        return row

    def _intervals(self, metrics: Sequence[str]) -> dict[int, dict[str, Interval]]:
        """Returns the test metrics with intervals of all configurations of which a trial finished, by their numbers."""
        by_dataset: dict[str, list[Configuration]] = {}
        for configuration in group_configurations(self.trials):
            if self.finished(configuration):
                by_dataset.setdefault(configuration.dataset, []).append(configuration)
        return {
            one.number: intervals
            for alike in by_dataset.values()
            for one, intervals in zip(alike, group_intervals([*map(self.finished, alike)], metrics), strict=True)
        }


def read_sweep(folder: Path) -> Sweep:
    """Returns the sweep in a folder.

    Raises:
        InputError: the folder holds no sweep, or a file of it is broken.
    """
    plan, trials = read_plan(folder), read_trials(folder)
    runs = finished_runs(folder, trials)
    # By the records that were read: another trial may have finished since.
    statuses: dict[int, TrialStatus] = {
        trial.number: "finished" if trial.number in runs else (trial.ended or "unfinished") for trial in trials
    }
    logs = {trial.number: log for trial in trials if (log := trial.training_log(folder)) is not None}
    used = dict.fromkeys(key for trial in trials for key in trial.parameters)
    planned = list(plan.space)
    keys = sorted(used, key=lambda key: planned.index(key) if key in planned else len(planned))
    return Sweep(plan, trials, statuses, runs, logs, {key: _parameter_name(key) for key in keys})


def trials_frame(folder: Path) -> pd.DataFrame:
    """Returns one row per trial of a sweep, by number: what was tried, how it ended, what came out and what it cost.

    A swept parameter's column has the parameter's name, with " (swept)" behind it where another column has that name;
    where a trial lacks the parameter it is empty. Metrics are "valid NDCG@10" and "test NDCG@10", the latter of
    finished trials only. Of others, `epochs` is how many there are so far and validation that of the best of them. The
    costs, `COST_COLUMNS`, failed attempts among them, come last; times are in seconds, memory in MB of 10^6 bytes.

    Raises:
        InputError: the folder holds no sweep, or a file of it is broken.
    """
    return read_sweep(folder).frame


def swept_columns(frame: pd.DataFrame) -> list[str]:
    """Returns the columns of swept parameters of a `trials_frame` or of several as `join_trials` joins them."""
    names = list(map(str, frame))
    return names[names.index("seed") + 1 : names.index("status")]


def join_trials(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Returns the rows of several frames as `trials_frame`, with every swept parameter that any of them has."""
    swept = dict.fromkeys(name for frame in frames for name in swept_columns(frame))
    joined = pd.concat(frames, ignore_index=True)
    before = list(frames[0].loc[:, :"seed"])
    return joined[[*before, *swept, *(name for name in joined if name not in {*before, *swept})]]


def pareto_frontier(seconds: pd.Series, score: pd.Series, mode: Mode) -> list[Any]:
    """Returns the index labels of the trials that no other trial beats in time and score, fastest first.

    Trials that lack either are not among them.
    """
    signed = score if mode == "max" else -score
    in_order = (
        pd.DataFrame({"seconds": seconds, "signed": signed})
        .dropna()
        .sort_values(["seconds", "signed"], ascending=[True, False], kind="stable")
    )
    best_before = in_order["signed"].cummax().shift(fill_value=-np.inf)
    return in_order.index[in_order["signed"] > best_before].tolist()


def plain(value: Any) -> str:
    """Returns a setting's value as text that tells it from any other value: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def last_words(error: str | None) -> str:
    """Returns what an error says in one line: a traceback's last one; "" for None."""
    lines = [line.strip() for line in (error or "").splitlines() if line.strip()]
    return lines[-1] if lines and lines[0].startswith("Traceback") else " ".join(lines)


def _parameter_name(key: str) -> str:
    """Returns the column of a swept parameter, apart from the frame's own columns."""
    taken = key in _OWN_COLUMNS or key.startswith(("valid ", "test "))
    return f"{key} (swept)" if taken else key


def _parameter_column(key: str, trials: Sequence[Trial]) -> pd.Series:
    """Returns a swept parameter by trial, NA where a trial lacks it: whole numbers, numbers, truth values or text."""
    values = [trial.parameters.get(key) for trial in trials]
    kinds = {type(trial.parameters[key]) for trial in trials if key in trial.parameters}
    if kinds == {int}:
        return pd.Series(values, dtype="Int64")
    if kinds <= {int, float}:
        return pd.Series(values, dtype="float64")
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean")
    texts = [plain(trial.parameters[key]) if key in trial.parameters else None for trial in trials]
    return pd.Series(texts, dtype="object")
