"""Experiment trackers: what every trial's run is called there, its settings, its curves and its final metrics."""

import importlib.util
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from ray import tune
from ray.tune.experiment import Trial as RayTrial

from mos_recbole.errors import InputError
from mos_recbole.results import read_record, run_label
from mos_recbole.sweep.ledger import Ledger
from mos_recbole.sweep.plan import PlannedTrial
from mos_recbole.sweep.trial import EPOCH, ERROR, FINISHED, MEMBERS, VALID, runs_of

TENSORBOARD_FOLDER = "tensorboard"
_log = logging.getLogger(__name__)

Ended = Literal["finished", "stopped", "failed", "interrupted"]


@dataclass(frozen=True)
class Tracked:
    """A trial's run as trackers see it.

    Attributes:
        name: for people: the data set where there are several, the model, the swept parameters and the seed.
        varied: model, data set, seed and swept parameters.
        settings: all settings that can change the numbers.
        run_id: of the run, the same after an interruption.
        sweep: name of the sweep.
        folder: of the sweep.
    """

    name: str
    varied: Mapping[str, Any]
    settings: Mapping[str, Any]
    run_id: str
    sweep: str
    folder: Path


class Tracker(Protocol):
    """One place where runs are logged. Several runs are open at a time."""

    def start(self, run: Tracked) -> None:
        """Opens a run, or opens it again after an interruption."""

    def log(self, run: Tracked, epoch: int, metrics: Mapping[str, float]) -> None:
        """Adds the values after an epoch."""

    def end(self, run: Tracked, how: Ended, epoch: int, metrics: Mapping[str, float]) -> None:
        """Adds final values, and closes the run."""


def make_loggers(wandb_project: str | None, mlflow_experiment: str | None) -> list[Tracker]:
    """Returns the trackers that are named.

    Raises:
        InputError: the tracker's package is not installed.
    """
    loggers: list[Tracker] = []
    if wandb_project is not None:
        _require("wandb")
        loggers.append(WandB(wandb_project))
    if mlflow_experiment is not None:
        _require("mlflow")
        loggers.append(MLflow(mlflow_experiment))
    return loggers


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise InputError(f"--{package}: the package {package} is not installed; expected pip install {package}")


class TrackerCallback(tune.Callback):
    """Tells trackers of a sweep's trials: validation after each epoch, test metrics of those that have finished.

    A tracker that fails is left out from then on, with a warning: a sweep does not end for want of a network.

    Args:
        ledger: of the sweep.
        trackers: that are told.
    """

    def __init__(self, ledger: Ledger, trackers: Sequence[Tracker]) -> None:
        self._ledger, self._trackers = ledger, list(trackers)
        self._open: dict[str, Tracked] = {}
        self._epochs: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        # As of LedgerCallback.
        return {}

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        for run in runs_of(trial):
            if run not in self._open and not self._ledger.has_record(run):
                self._open[run] = tracked(self._ledger, self._ledger.trials[run])
                self._tell("start", self._open[run])

    def on_trial_result(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: dict[str, Any], **info: Any
    ) -> None:
        for run, report in result.get(MEMBERS, {trial.config["trial"]["run"]: result}).items():
            if run not in self._open or ERROR in report:
                continue
            repeated = report[EPOCH] <= self._epochs.get(run, 0)  # by another attempt, with the same values
            self._epochs[run] = report[EPOCH]
            if report.get(FINISHED):
                self._end(run, "finished")
            if run not in self._open or repeated:
                continue
            metrics = {key: value for key, value in report.items() if key == "loss" or key.startswith(VALID)}
            self._tell("log", self._open[run], self._epochs[run], metrics)

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        for run in runs_of(trial):
            self._end(run, "stopped")

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        for run in runs_of(trial):
            self._end(run, "failed")

    def close(self) -> None:
        """Closes runs that an interruption left open."""
        for run in list(self._open):
            self._end(run, "interrupted")

    def _end(self, run: str, how: Ended) -> None:
        if run not in self._open:
            return
        one, epoch, metrics = self._open.pop(run), self._epochs.pop(run, 0), dict[str, float]()
        if self._ledger.has_record(run):
            how, record = "finished", read_record(self._ledger.trials[run].trial.folder(self._ledger.folder))
            metrics = {f"best_{VALID}{name}": metric.value for name, metric in record.valid.items()}
            metrics |= {f"test/{name}": metric.value for name, metric in record.test.items()}
        self._tell("end", one, how, epoch, metrics)

    def _tell(self, what: Literal["start", "log", "end"], *arguments: Any) -> None:
        for tracker in list(self._trackers):
            try:
                getattr(tracker, what)(*arguments)
            except Exception as error:  # of whatever kind a tracker's package has
                self._trackers.remove(tracker)
                name, said = type(tracker).__name__, " ".join(str(error).split())
                _log.warning("%s is not used any more in this sweep: %s", name, said or type(error).__name__)


def tracked(ledger: Ledger, one: PlannedTrial) -> Tracked:
    """Returns a trial as trackers see it; its name is that of no other trial of the sweep."""
    trial, names = one.trial, [_name(ledger, other) for other in ledger.trials.values()]
    name = _name(ledger, one)
    return Tracked(
        name=name if names.count(name) == 1 else f"{name} {trial.run_id}",
        varied={"model": trial.model, "dataset": trial.dataset, **trial.parameters, "seed": trial.seed},
        settings=one.settings.identity() | {"seed": trial.seed},
        run_id=trial.run_id,
        sweep=ledger.sweep.name,
        folder=ledger.folder,
    )


def _name(ledger: Ledger, one: PlannedTrial) -> str:
    trial, space = one.trial, ledger.plan.space
    # What has the value of another parameter says nothing new.
    varied = {key: value for key, value in trial.parameters.items() if "same_as" not in space.get(key, {})}
    label = run_label(trial.model, varied, trial.seed)
    return label if len(ledger.plan.datasets) == 1 else f"{trial.dataset} {label}"


class TensorBoard:
    """Event files below `<sweep>/tensorboard`, a folder for each run; settings and final metrics under HPARAMS."""

    def __init__(self) -> None:
        self._writers: dict[str, Any] = {}

    def start(self, run: Tracked) -> None:
        self._writers.pop(run.run_id, None)

    def log(self, run: Tracked, epoch: int, metrics: Mapping[str, float]) -> None:
        self._add(self._writer(run, epoch), epoch, metrics)

    def end(self, run: Tracked, how: Ended, epoch: int, metrics: Mapping[str, float]) -> None:
        from tensorboardX.summary import hparams

        if how == "finished":
            writer = self._writer(run, epoch + 1)
            self._add(writer, epoch, metrics)
            kinds = str | int | float
            plain = {key: value if isinstance(value, kinds) else str(value) for key, value in run.varied.items()}
            for summary in hparams(plain, metrics):
                writer.add_summary(summary)
        if run.run_id in self._writers:
            self._writers.pop(run.run_id).close()

    def _add(self, writer: Any, epoch: int, metrics: Mapping[str, float]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        # add_scalar would make NDCG_10 of NDCG@10.
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()]
        writer.add_summary(Summary(value=values), epoch)
        writer.flush()

    def _writer(self, run: Tracked, epoch: int) -> Any:
        """Returns the writer of a run; a new one makes void what an interrupted one wrote from this epoch on."""
        from tensorboardX import FileWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        if run.run_id not in self._writers:
            name = re.sub(r'[/\\:*?"<>|]', "_", run.name)
            # The name of a folder has at most 255 bytes on most file systems.
            name = name if len(name.encode()) <= 200 else f"{name[:60]}... {run.run_id}"
            # Files are named by the second, and two sessions may share one.
            writer = FileWriter(str(run.folder / TENSORBOARD_FOLDER / name), filename_suffix=f".{time.time_ns()}")
            writer.add_event(Event(step=epoch, file_version="brain.Event:2"))
            writer.add_event(Event(step=epoch, session_log=SessionLog(status=SessionLog.START)))
            self._writers[run.run_id] = writer
        return self._writers[run.run_id]


class WandB:
    """Weights & Biases: a group for each sweep; a run goes on by its id.

    Args:
        project: of the runs.
    """

    def __init__(self, project: str) -> None:
        self._project = project
        self._runs: dict[str, Any] = {}

    def start(self, run: Tracked) -> None:
        import wandb

        self._runs[run.run_id] = opened = wandb.init(
            project=self._project,
            group=run.sweep,
            name=run.name,
            id=run.run_id,
            config={**run.settings, **run.varied},
            dir=str(run.folder),
            resume="allow",
            # Several runs are open at a time.
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True),
        )
        opened.define_metric("*", step_metric=EPOCH)

    def log(self, run: Tracked, epoch: int, metrics: Mapping[str, float]) -> None:
        self._runs[run.run_id].log({EPOCH: epoch, **metrics})

    def end(self, run: Tracked, how: Ended, epoch: int, metrics: Mapping[str, float]) -> None:
        opened = self._runs.pop(run.run_id)
        opened.summary.update({"ended": how, **metrics})
        opened.finish(exit_code=0 if how in ("finished", "stopped") else 1)


class MLflow:
    """MLflow at MLFLOW_TRACKING_URI. Its names have no @: NDCG_10.

    Args:
        experiment: of the runs; made where there is none.
    """

    def __init__(self, experiment: str) -> None:
        self._experiment = experiment
        self._client: Any = None
        self._runs: dict[str, str] = {}

    def start(self, run: Tracked) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        if self._client is None:
            self._client = MlflowClient()
        known = self._client.get_experiment_by_name(self._experiment)
        experiment = known.experiment_id if known is not None else self._client.create_experiment(self._experiment)
        earlier = self._client.search_runs([experiment], f"tags.mos_recbole_run = '{run.run_id}'")
        if earlier:
            self._runs[run.run_id] = earlier[0].info.run_id
            self._client.set_terminated(earlier[0].info.run_id, status="RUNNING")
            return
        tags = {"mos_recbole_run": run.run_id, "sweep": run.sweep}
        made = self._client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
        params = {key: str(value)[:500] for key, value in {**run.settings, **run.varied}.items()}
        self._client.log_batch(made, params=[Param(key, value) for key, value in params.items()])
        self._runs[run.run_id] = made

    def log(self, run: Tracked, epoch: int, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        values = [Metric(key.replace("@", "_"), value, now, epoch) for key, value in metrics.items()]
        self._client.log_batch(self._runs[run.run_id], metrics=values)

    def end(self, run: Tracked, how: Ended, epoch: int, metrics: Mapping[str, float]) -> None:
        self.log(run, epoch, metrics)
        status = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}[how]
        self._client.set_terminated(self._runs.pop(run.run_id), status=status)
