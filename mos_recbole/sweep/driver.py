"""Runs a sweep: plans it, hands its trials to Ray Tune, keeps account of them in the sweep's folder."""

import contextlib
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import filelock
import numpy as np
from ray import cloudpickle, tune
from ray.exceptions import RayActorError, RayTaskError
from ray.tune.experiment import Trial as RayTrial
from ray.tune.logger import TBXLoggerCallback

from mos_recbole.analysis.selection import best_trial_configurations
from mos_recbole.errors import InputError
from mos_recbole.io import require_writable
from mos_recbole.results import RECORD_FILE, SWEEP_FILE, SweepPlan, Trial, read_plan, read_trials
from mos_recbole.sweep.cluster import Capacity, cluster
from mos_recbole.sweep.fusing import fused_groups
from mos_recbole.sweep.plan import PlannedTrial, Planner
from mos_recbole.sweep.progress import SweepProgress
from mos_recbole.sweep.scheduler import AshaPerModel
from mos_recbole.sweep.search import OptunaPerModel
from mos_recbole.sweep.storage import Storage
from mos_recbole.sweep.sweep_file import SweepFile
from mos_recbole.sweep.trial import BEST, EPOCH, ERROR, FINISHED, MEMBERS, describe_group, run_trial

# Ray's own files, such as TensorBoard's, below the sweep's folder.
_RAY_FOLDER = "ray"


@dataclass(frozen=True)
class Place:
    """Where a sweep runs.

    Attributes:
        address: of a Ray cluster, "auto", or None to start Ray on this machine.
        storage: path or URI where runs are kept; None for the sweep's folder, which all machines then share.
        dashboard: whether to show Ray's dashboard, on loopback.
        loggers: further callbacks of Ray Tune, for W&B or MLflow.
    """

    address: str | None = None
    storage: str | None = None
    dashboard: bool = False
    loggers: Sequence[tune.Callback] = field(default_factory=tuple)


def run_sweep(
    sweep: SweepFile,
    planner: Planner,
    folder: Path,
    place: Place,
    progress: SweepProgress,
    *,
    retry_failed: bool = False,
) -> list[Trial]:
    """Returns the trials of a sweep, all of them ended; goes on from whatever its folder holds.

    Args:
        sweep: the sweep.
        planner: of the sweep.
        folder: for its results.
        place: where it runs.
        progress: what to show.
        retry_failed: whether trials that failed in an earlier sitting are tried again.

    Raises:
        InputError: anything the user gave that cannot be used, before any trial starts.
    """
    plan, planned = planner.plan(), planner.trials()
    for warning in dict.fromkeys(warning for one in planned for warning in one.settings.warnings):
        progress.note(f"warning: {warning}")
    storage = Storage(place.storage, sweep.name) if place.storage is not None else None
    if storage is not None:
        storage.require_writable()
    require_writable(folder)
    try:
        lock = filelock.FileLock(folder / ".lock").acquire(blocking=False)
    except filelock.Timeout:
        raise InputError(f"{folder}: another process is at work on this sweep") from None
    with lock:
        _check_plan(folder, plan)
        books = _Books(sweep, plan, planner, folder, storage, progress, retry_failed)
        books.open(planned)
        # Nothing is fetched into a folder before it is the sweep's: a refusal below would leave it to nobody.
        known = (folder / SWEEP_FILE).exists()
        if known:
            books.look()
            books.write()
        if not known or books.work_left():
            with cluster(place.address, sweep.resources, dashboard=place.dashboard) as capacity:
                if not known:
                    plan.write(folder)
                    books.look()
                    books.write()
                _run_all(books, place, capacity)
    return read_trials(folder)


def _run_all(books: "_Books", place: Place, capacity: Capacity) -> None:
    with books.progress:
        fuse = books.sweep.resources.fuse
        of = f"groups of up to {fuse} trials" if fuse > 1 else "trials"
        books.progress.note(f"{capacity.trials_at_a_time} {of} at a time")
        if capacity.gpus and not books.sweep.resources.gpus_per_trial:
            books.progress.note(f"{capacity.gpus:g} GPUs are there, and none is used; --gpus-per-trial uses them")
        if books.unfinished(of_search=True) or books.to_suggest() > 0:
            _tune(books, place, of_search=True)
        if books.sweep.adaptive:
            for one in books.seeds_of_winners():
                books.register(one)
            if books.unfinished(of_search=False):
                _tune(books, place, of_search=False)


def _check_plan(folder: Path, plan: SweepPlan) -> None:
    """Raises InputError where the folder holds something else than this sweep."""
    if not (folder / SWEEP_FILE).exists():
        # A first call that was killed may have left a lock or temporary files.
        if any(not path.name.startswith(".") for path in folder.iterdir()):
            raise InputError(f"{folder}: holds other results than a sweep's; expected an empty folder, or none")
        return
    there = read_plan(folder)
    ours = SweepPlan.model_validate_json(plan.model_dump_json())
    differing = [key for key in SweepPlan.model_fields if getattr(there, key) != getattr(ours, key)]
    if differing:
        raise InputError(
            f"{folder}: holds another sweep, which differs in {', '.join(differing)}; "
            "expected the same sweep, or another name or output"
        )


class _Books:
    """The account of a sweep's trials: in memory, and in their files."""

    def __init__(
        self,
        sweep: SweepFile,
        plan: SweepPlan,
        planner: Planner,
        folder: Path,
        storage: Storage | None,
        progress: SweepProgress,
        retry_failed: bool,
    ) -> None:
        self.sweep, self.plan, self.planner, self.folder = sweep, plan, planner, folder
        self.storage, self.progress, self.retry_failed = storage, progress, retry_failed
        self.planned: dict[str, PlannedTrial] = {}

    def open(self, planned: list[PlannedTrial]) -> None:
        """Takes in the trials that are planned and those of earlier sittings.

        Raises:
            InputError: a trial of an earlier sitting was made by other code, packages, data or kind of device.
        """
        self.planned = {one.trial.run: one for one in planned}
        datasets = {Path(dataset).name: dataset for dataset in self.planner.datasets}
        for trial in read_trials(self.folder) if (self.folder / SWEEP_FILE).exists() else []:
            if trial.run not in self.planned:
                again = self.planner.trial(
                    trial.number, trial.model, datasets[trial.dataset], trial.seed, trial.parameters
                )
                if again.trial.run != trial.run:
                    raise InputError(
                        f"{self.folder}: holds trials of other code, package versions, data or device than these "
                        f"(run {trial.run}, now {again.trial.run}); expected the same ones, or another name or output"
                    )
                self.planned[trial.run] = again
            if trial.ended == "failed" and self.retry_failed:
                trial = trial.model_copy(update={"ended": None, "error": None, "attempts": 0})
            self._set(trial)

    def look(self) -> None:
        """Looks up how all trials stand, in the storage too."""
        for one in self.planned.values():
            if self.storage is not None and not (one.trial.folder(self.folder) / RECORD_FILE).exists():
                self.storage.fetch(one.trial.folder(self.folder), checkpoints=False)
            self._show(one)

    def _show(self, one: PlannedTrial) -> None:
        status = one.trial.status(self.folder)
        if status == "unfinished":
            self.progress.add(one.trial, one.epochs)
        else:
            self.progress.add_ended(
                one.trial, status, one.trial.best_validation(self.folder, self.plan.metric, self.plan.mode)
            )

    def best_validation(self, trial: Trial) -> float | None:
        """Returns a trial's best validation so far."""
        return trial.best_validation(self.folder, self.plan.metric, self.plan.mode)

    def _set(self, trial: Trial) -> None:
        self.planned[trial.run] = PlannedTrial(trial, self.planned[trial.run].settings)

    def write(self) -> None:
        """Writes the files of trials that are new or have changed."""
        written = {trial.run: trial for trial in read_trials(self.folder)}
        for one in self.planned.values():
            if one.trial != written.get(one.trial.run):
                one.trial.write(self.folder)

    def register(self, one: PlannedTrial) -> None:
        """Takes in a new trial."""
        self.planned[one.trial.run] = one
        one.trial.write(self.folder)
        self.progress.add(one.trial, one.epochs)

    @property
    def _optuna(self) -> bool:
        return self.sweep.search.method == "optuna"

    def unfinished(self, *, of_search: bool) -> list[PlannedTrial]:
        """Returns what is still to be run, in the order in which to start it.

        Args:
            of_search: whether of the search itself, or of the further seeds of an adaptive search's winners.
        """
        trials = list(self.planned.values())
        if self.sweep.stopping.scheduler == "none":
            # The longest first, so that no long trial is left for the end.
            trials.sort(key=lambda one: -one.work)
        else:
            # Successive halving compares a trial with those before it; a grid's order would make these all alike.
            order = np.random.default_rng(self.sweep.search.seed).permutation(len(trials))
            trials = [trials[place] for place in order]
        return [
            one for one in trials if one.trial.status(self.folder) == "unfinished" and self._of_search(one) == of_search
        ]

    def _of_search(self, one: PlannedTrial) -> bool:
        return one.trial.seed == self.plan.seeds[0] or not self.sweep.adaptive

    def searched(self) -> list[PlannedTrial]:
        """Returns the trials of the search itself."""
        return [one for one in self.planned.values() if self._of_search(one)]

    def to_suggest(self) -> int:
        """Returns how many trials Optuna has still to suggest; a small space has fewer than asked for."""
        if not self._optuna:
            return 0
        known = Counter((one.trial.model, one.trial.dataset) for one in self.searched())
        return sum(
            max(0, len(self.planner.configurations(model, dataset)) - known[model, Path(dataset).name])
            for model, dataset in self.planner.keys
        )

    def seeds_of_winners(self) -> list[PlannedTrial]:
        """Returns the missing trials of the best configuration of each model and data set with the other seeds."""
        best = best_trial_configurations(self.folder) if len(self.plan.seeds) > 1 else []
        datasets = {Path(dataset).name: dataset for dataset in self.planner.datasets}
        number = max((one.trial.number for one in self.planned.values()), default=0)
        missing: list[PlannedTrial] = []
        for trial in best:
            for seed in self.plan.seeds[1:]:
                following = number + len(missing) + 1
                one = self.planner.trial(following, trial.model, datasets[trial.dataset], seed, trial.parameters)
                if one.trial.run not in self.planned:
                    missing.append(one)
        return missing

    def work_left(self) -> bool:
        """Returns whether anything is to be run, by what is known before it has run."""
        if any(self.unfinished(of_search=of_search) for of_search in (True, False)) or self.to_suggest() > 0:
            return True
        return self.sweep.adaptive and bool(self.seeds_of_winners())

    def change(self, run: str, **changes: Any) -> None:
        """Changes a trial, in its file too."""
        self._set(self.planned[run].trial.model_copy(update=changes))
        self.planned[run].trial.write(self.folder)


def _tune(books: _Books, place: Place, *, of_search: bool) -> None:
    """Runs what is unfinished by Ray Tune: of the search, with what Optuna suggests, or of its winners."""
    sweep, unfinished = books.sweep, books.unfinished(of_search=of_search)
    resources = sweep.resources
    optuna = of_search and sweep.search.method == "optuna"
    if optuna:
        number = max((one.trial.number for one in books.planned.values()), default=0) + 1
        ended = [
            (one, books.best_validation(one.trial))
            for one in books.searched()
            if one.trial.status(books.folder) != "unfinished"
        ]
        search: Any = OptunaPerModel(books.planner, unfinished, ended, number, books.register)
        books.progress.expect(len(books.planned) + books.to_suggest())
    trainable = tune.with_parameters(
        run_trial,
        folder=str(books.folder.resolve()),
        storage=None if books.storage is None else books.storage.place,
        sweep=sweep.name,
        device=books.planner.device_type,
        threads=resources.cpus_per_trial,
        working_directory=str(Path.cwd()),
        plugins=[str(plugin) for plugin in books.planner.plugins],
    )
    bookkeeper = _Bookkeeper(books)
    # Where trials are handed out one by one, so that a scheduler has its order, there are no groups.
    groups = fused_groups(unfinished, resources.fuse) if resources.fuse > 1 else [[one] for one in unfinished]
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial}),
        param_space={} if optuna else {"trial": tune.grid_search([describe_group(group) for group in groups])},
        tune_config=tune.TuneConfig(
            search_alg=search if optuna else None,
            num_samples=-1 if optuna else 1,
            scheduler=_asha(books) if of_search and sweep.stopping.scheduler == "asha" else None,
            max_concurrent_trials=resources.max_concurrent,
            # The next trial of a worker process need not import PyTorch and RecBole again.
            reuse_actors=True,
            trial_name_creator=_name_of,
            trial_dirname_creator=_name_of,
        ),
        run_config=tune.RunConfig(
            name=_RAY_FOLDER,
            storage_path=str(books.folder.resolve()),
            failure_config=tune.FailureConfig(max_failures=sweep.retries),
            callbacks=[bookkeeper, TBXLoggerCallback(), *place.loggers],
            verbose=0,
        ),
    )
    with bookkeeper.interruptible():
        tuner.fit()
    # Ray Tune also returns where a signal told it to.
    if books.unfinished(of_search=of_search) or (optuna and not search.exhausted):
        raise KeyboardInterrupt


def _name_of(trial: RayTrial) -> str:
    return trial.config["trial"]["run"]


def _runs_of(trial: RayTrial) -> list[str]:
    """Returns the runs of a trial of Ray's: one, or those that are trained as one."""
    return [one["run"] for one in trial.config["trial"].get(MEMBERS, [trial.config["trial"]])]


def _asha(books: _Books) -> AshaPerModel:
    """Returns the scheduler, with what earlier sittings have seen."""
    plan, keys = books.plan, books.planner.keys
    last_epoch = {(model, Path(dataset).name): books.planner.epochs(model, dataset) for model, dataset in keys}
    scheduler = AshaPerModel(books.sweep.stopping, last_epoch, plan.mode)
    for one in books.searched():
        log = one.trial.training_log(books.folder)
        if log is not None:
            scheduler.remember((one.trial.model, one.trial.dataset), one.trial.run, log, plan.metric, plan.mode)
    return scheduler


class _Bookkeeper(tune.Callback):
    """Writes down how trials end as Ray Tune tells of it."""

    def __init__(self, books: _Books) -> None:
        self._books = books
        self._interrupted = False
        # Runs that have finished, and what was last said of those that failed, of trials that are trained as one.
        self._ended: set[str] = set()
        self._errors: dict[str, str] = {}

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Makes Ctrl-C count inside: Python drops a KeyboardInterrupt in a destructor, of which Ray has many."""

        def interrupt(number: int, frame: FrameType | None) -> None:
            self._interrupted = True
            raise KeyboardInterrupt

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles callbacks for its own way of going on, which is not ours.
        return {}

    def on_step_end(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        self._books.progress.refresh()
        if self._interrupted:
            raise KeyboardInterrupt

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        for run in self._unfinished(trial):
            self._books.progress.started(run)

    def on_trial_result(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: dict[str, Any], **info: Any
    ) -> None:
        for run, told in result.get(MEMBERS, {_name_of(trial): result}).items():
            if run in self._ended:  # of an earlier attempt of its group
                continue
            if ERROR in told:
                self._errors[run] = _without_folders(told[ERROR], trial)
                continue
            self._books.progress.epoch(run, told[EPOCH], told[BEST])
            if MEMBERS in result and told.get(FINISHED):  # the others go on
                self._finish(run)

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        runs = _runs_of(trial)
        if len(runs) == 1 and not (trial.last_result or {}).get(FINISHED):
            # Before anything that may go wrong: the decision is the scheduler's, who forgets it.
            self._books.change(runs[0], ended="stopped", error=None)
            self._fetch(runs[0])
            self._books.progress.ended(runs[0], "stopped")
            return
        for run in runs:
            self._finish(run)

    def _finish(self, run: str) -> None:
        """Notes that a run has finished, once."""
        if run in self._ended:
            return
        self._ended.add(run)
        if self._has_record(run):
            self._books.change(run, error=None)
            self._books.progress.ended(run, "finished")
        else:
            error = "finished on another machine, and left no record here; expected --storage, or a shared folder"
            self._books.change(run, ended="failed", error=error)
            self._books.progress.ended(run, "failed", error)

    def on_trial_recover(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        said = _error_of(trial)
        for run in self._unfinished(trial):
            error = self._errors.pop(run, said)
            self._books.change(run, attempts=self._books.planned[run].trial.attempts + 1, error=error)
            self._books.progress.retried(run, error)

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        said = _error_of(trial)
        for run in self._unfinished(trial):
            error, attempts = self._errors.pop(run, said), self._books.planned[run].trial.attempts + 1
            if self._has_record(run):  # its process ended between the record and the report of it
                self._books.change(run, error=None, attempts=attempts)
                self._books.progress.ended(run, "finished")
                continue
            self._books.change(run, ended="failed", error=error, attempts=attempts)
            self._books.progress.ended(run, "failed", error)

    def _unfinished(self, trial: RayTrial) -> list[str]:
        """Returns the runs of a trial of Ray's that have not been said to have finished."""
        return [run for run in _runs_of(trial) if run not in self._ended]

    def _has_record(self, run: str) -> bool:
        self._fetch(run)
        return (self._books.planned[run].trial.folder(self._books.folder) / RECORD_FILE).exists()

    def _fetch(self, run: str) -> None:
        """Copies a run from the storage, if there is one."""
        if self._books.storage is None:
            return
        try:
            self._books.storage.fetch(self._books.planned[run].trial.folder(self._books.folder), checkpoints=False)
        except OSError as error:
            self._books.progress.note(f"{run}: not copied from the storage ({error}); the same command copies it")


def _error_of(trial: RayTrial) -> str:
    """Returns what a trial's last failure said, on one line, without paths of its run's folder."""
    # Ray's own accessor looks where it copies the file to later.
    pickled = Path(trial.pickled_error_file or "")
    if pickled.is_file():
        error = cloudpickle.loads(pickled.read_bytes())
        pickled.unlink()  # not every failure leaves one
    else:
        error = None
    if isinstance(error, RayActorError):
        return "its process was killed, or its machine was lost"
    if isinstance(error, RayTaskError) and error.cause is not None:
        said = f"{type(error.cause).__name__}: {error.cause}"
    else:
        texts = Path(trial.error_file or "").read_text(encoding="utf-8").split("Failure # ")
        said = texts[-1].partition("\n")[2] or "no message"
    return _without_folders(said, trial)


def _without_folders(said: str, trial: RayTrial) -> str:
    """Returns what a failure said on one line, without paths of runs' folders."""
    for run in _runs_of(trial):
        said = re.sub(rf"\S*{re.escape(run)}/", "", said)
    return " ".join(said.split())
