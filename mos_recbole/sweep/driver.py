"""Runs a sweep: checks its folder, starts Ray, and lets Ray Tune run what is unfinished."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as RayTrial

from mos_recbole.analysis.partners import Trained, partner_notes
from mos_recbole.errors import InputError
from mos_recbole.io import exclusive_lock, require_writable
from mos_recbole.results import SWEEP_FILE, Trial, read_trials
from mos_recbole.sweep.callback import LedgerCallback
from mos_recbole.sweep.cluster import ClusterOptions, cluster, trials_at_a_time
from mos_recbole.sweep.fusing import fused_groups
from mos_recbole.sweep.ledger import Ledger
from mos_recbole.sweep.loggers import TensorBoard, Tracker, TrackerCallback
from mos_recbole.sweep.plan import PlannedTrial, Planner
from mos_recbole.sweep.progress import SweepProgress
from mos_recbole.sweep.scheduler import AshaPerModel
from mos_recbole.sweep.search import OptunaPerModel
from mos_recbole.sweep.storage import Storage
from mos_recbole.sweep.sweep_file import Resources
from mos_recbole.sweep.trial import describe_group, run_trial

_log = logging.getLogger(__name__)

# Ray's own files, below the sweep's folder.
_RAY_FOLDER = "ray"


def run_sweep(
    planner: Planner,
    folder: Path,
    options: ClusterOptions,
    *,
    loggers: Sequence[Tracker] = (),
    quiet: bool = False,
    retry_failed: bool = False,
) -> list[Trial]:
    """Returns the trials of a sweep, all of them ended; resumes whatever its folder holds.

    Args:
        planner: of the sweep.
        folder: for its results.
        options: where and how Ray runs.
        loggers: trackers beside TensorBoard.
        quiet: whether to show no progress.
        retry_failed: whether trials that failed in an earlier session are tried again.

    Raises:
        InputError: anything the user gave that cannot be used, before any trial starts.
    """
    sweep, planned = planner.sweep, planner.trials()
    runs = [one.settings for one in planned]
    trained = [Trained(one.model, one.encoder, one.baseline, one.values["train_mode"]) for one in runs]
    of_runs = dict.fromkeys(warning for one in runs for warning in one.warnings)
    for warning in [*planner.warnings(), *of_runs, *partner_notes(trained)]:
        _log.warning(warning)
    storage = Storage(options.storage, sweep.name) if options.storage is not None else None
    if storage is not None:
        storage.require_writable()
    require_writable(folder)
    with exclusive_lock(folder, 0, "sweep"):
        _require_sweep(folder)
        # Nothing is written to a new folder before Ray runs: after a refusal, it must not look like a sweep's.
        new = not (folder / SWEEP_FILE).exists()
        ledger = Ledger(planner, planned, folder, storage, retry_failed=retry_failed)
        if not new:
            ledger.fetch_all()
            _log_growth(ledger)
        if new or ledger.work_left():
            with cluster(options) as machines:
                fitting = trials_at_a_time(machines, sweep.resources)
                if new:
                    ledger.fetch_all()
                ledger.save()
                _log_capacity(sweep.resources, fitting, sum(machine.get("GPU", 0) for machine in machines))
                at_a_time = fitting * sweep.resources.fuse
                with SweepProgress(ledger, at_a_time=at_a_time, quiet=quiet) as progress:
                    _run_unfinished(ledger, progress, loggers)
        else:
            ledger.save()
    return read_trials(folder)


def _require_sweep(folder: Path) -> None:
    """Raises InputError where the folder holds something else than a sweep."""
    # A first call that was killed may have left a lock or temporary files.
    if not (folder / SWEEP_FILE).exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise InputError(f"{folder}: holds other results than a sweep's; expected an empty folder, or none")


def _log_growth(ledger: Ledger) -> None:
    if ledger.added:
        _log.info("%d trials are there already, %d are added", len(ledger.trials) - ledger.added, ledger.added)
    if ledger.left_alone:
        _log.info("%d unfinished trials are left alone, since the sweep file does not plan them", ledger.left_alone)


def _log_capacity(resources: Resources, fitting: int, gpus: float) -> None:
    what = "trial" if resources.fuse == 1 else "group"
    of = "" if resources.fuse == 1 else f" of up to {resources.fuse} trials"
    _log.info("%d %s%s%s at a time", fitting, what, "s" * (fitting != 1), of)
    if gpus and not resources.gpus_per_trial:
        _log.info("%g GPUs are not used; --gpus-per-trial uses them", gpus)


def _run_unfinished(ledger: Ledger, progress: SweepProgress, loggers: Sequence[Tracker]) -> None:
    """Runs the search; then, where it is adaptive, its winners with the further seeds."""
    if ledger.unfinished() or ledger.to_suggest():
        _tune(ledger, progress, loggers)
    for one in ledger.missing_winners():
        ledger.add(one)
    if ledger.unfinished(winners=True):
        _tune(ledger, progress, loggers, winners=True)


def _tune(ledger: Ledger, progress: SweepProgress, loggers: Sequence[Tracker], *, winners: bool = False) -> None:
    """Runs by Ray Tune what is unfinished of the search, with what Optuna suggests, or of its winners.

    Raises:
        KeyboardInterrupt: Ray Tune ended before everything was run, as it does after a signal.
    """
    resources, unfinished = ledger.sweep.resources, ledger.unfinished(winners=winners)
    search = _optuna(ledger, unfinished) if ledger.sweep.search.method == "optuna" and not winners else None
    scheduler = _asha(ledger) if ledger.sweep.stopping.scheduler == "asha" and not winners else None
    groups = fused_groups(unfinished, resources.fuse) if resources.fuse > 1 else [[one] for one in unfinished]
    callback, trackers = LedgerCallback(ledger, progress), TrackerCallback(ledger, [TensorBoard(), *loggers])
    tuner = tune.Tuner(
        tune.with_resources(_trainable(ledger), {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial}),
        param_space={} if search else {"trial": tune.grid_search([describe_group(group) for group in groups])},
        tune_config=tune.TuneConfig(
            search_alg=search,
            num_samples=-1 if search else 1,
            scheduler=scheduler,
            max_concurrent_trials=resources.max_concurrent,
            # The next trial of a worker process need not import PyTorch and RecBole again.
            reuse_actors=True,
            trial_name_creator=_name_of,
            trial_dirname_creator=_name_of,
        ),
        run_config=tune.RunConfig(
            name=_RAY_FOLDER,
            storage_path=str(ledger.folder.resolve()),
            failure_config=tune.FailureConfig(max_failures=ledger.sweep.retries),
            callbacks=[callback, trackers],
            verbose=0,
        ),
    )
    try:
        with callback.interruptible():
            tuner.fit()
    finally:
        trackers.close()
    if ledger.unfinished(winners=winners) or (search is not None and not search.exhausted):
        raise KeyboardInterrupt


def _trainable(ledger: Ledger) -> Any:
    """Returns what Ray Tune runs for each trial."""
    planner = ledger.planner
    return tune.with_parameters(
        run_trial,
        folder=str(ledger.folder.resolve()),
        storage=None if ledger.storage is None else ledger.storage.place,
        sweep=ledger.sweep.name,
        device=planner.device_type,
        threads=ledger.sweep.resources.cpus_per_trial,
        working_directory=str(Path.cwd()),
        plugins=[str(plugin) for plugin in planner.plugins],
    )


def _name_of(trial: RayTrial) -> str:
    return trial.config["trial"]["run"]


def _optuna(ledger: Ledger, unfinished: list[PlannedTrial]) -> OptunaPerModel:
    """Returns the search algorithm, with the results of earlier sessions."""
    ended = [(one, ledger.best_validation(one)) for one in _searched(ledger) if ledger.status(one) != "unfinished"]
    return OptunaPerModel(ledger.planner, unfinished, ended, ledger.next_number(), ledger.add)


def _searched(ledger: Ledger) -> list[PlannedTrial]:
    """Returns the trials of the first seed, but for models that are there already and not among those of now."""
    return [one for one in ledger.searched() if one.key in ledger.planner.known]


def _asha(ledger: Ledger) -> AshaPerModel:
    """Returns the scheduler, with the reports of earlier sessions."""
    plan, planner = ledger.plan, ledger.planner
    scheduler = AshaPerModel(ledger.sweep.stopping, {key: planner.epochs(*key) for key in planner.known}, plan.mode)
    for one in _searched(ledger):
        log = one.trial.training_log(ledger.folder)
        if log is not None:
            scheduler.remember(one.key, one.trial.run, log, plan.metric, plan.mode)
    return scheduler
