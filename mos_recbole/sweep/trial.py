"""Trials in a worker process: runs that report validation metrics, and no test metrics, to Ray Tune."""

import contextlib
import gc
import getpass
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune.experiment import Trial as RayTrial

from mos_recbole.errors import InputError, TrainingDiverged
from mos_recbole.experiment import data_facts, run_experiment, run_fused, run_name
from mos_recbole.models import load_plugin, resolve_model
from mos_recbole.results import RUNS_FOLDER, RunResult
from mos_recbole.settings import Settings
from mos_recbole.sweep.plan import PlannedTrial
from mos_recbole.sweep.storage import Storage
from mos_recbole.training import EpochReport

# Keys of a report, beside the validation metrics: the epoch, the best validation so far, whether the trial is finished.
EPOCH, BEST, FINISHED = "epoch", "best_valid", "finished"
# What the names of validation metrics begin with.
VALID = "valid/"
# Of trials that are trained as one: the reports of its members, by run, and the error of one that failed.
MEMBERS, ERROR = "members", "error"

# How many seconds a trial waits for the worker of a driver that was killed; Ray ends such workers within a few.
_PATIENCE = 60.0


def describe(planned: PlannedTrial) -> dict[str, Any]:
    """Returns the trial as Ray shows it, with everything that a worker needs to run it."""
    trial = planned.trial
    return {
        "run": trial.run,
        "model": trial.model,
        "dataset": trial.dataset,
        "seed": trial.seed,
        "parameters": trial.parameters,  # by themselves, since a plugin's may have any name
        "settings": planned.settings.values,
        "unknown": planned.settings.unknown,
        "asked_metrics": planned.settings.asked_metrics,
    }


def describe_group(group: Sequence[PlannedTrial]) -> dict[str, Any]:
    """Returns the same for trials that are trained as one."""
    if len(group) == 1:
        return describe(group[0])
    members = [describe(planned) for planned in group]
    return {"run": f"{members[0]['run']}+{len(members) - 1}", MEMBERS: members}


def runs_of(trial: RayTrial) -> list[str]:
    """Returns the names of the runs of a trial of Ray's."""
    return [one["run"] for one in trial.config["trial"].get(MEMBERS, [trial.config["trial"]])]


def run_trial(
    config: dict[str, Any],
    *,
    folder: str,
    storage: str | None,
    sweep: str,
    device: str,
    threads: int,
    working_directory: str,
    plugins: Sequence[str],
) -> None:
    """Trains and evaluates one trial, or several as one, from where an earlier attempt ended.

    Args:
        config: with "trial", as `describe_group` returns it.
        folder: the sweep's results folder; unused where there is a storage.
        storage: where runs are kept, or None for the folder.
        sweep: name of the sweep.
        device: of the run.
        threads: number of PyTorch threads.
        working_directory: of the driver; paths in settings are relative to it.
        plugins: files of heads and encoders.

    Raises:
        InputError: this machine's code, packages or data are not those of the driver.
        TrainingDiverged: a trial diverged; raised after all others of its group have ended.
    """
    trial = config["trial"]
    members = trial.get(MEMBERS, [trial])
    if Path(working_directory).is_dir():
        os.chdir(working_directory)
    torch.set_num_threads(threads)
    for plugin in plugins:
        load_plugin(Path(plugin))
    runs = {
        one["run"]: Settings(
            resolve_model(one["model"]),
            one["dataset"],
            one["settings"],
            unknown=one["unknown"],
            asked_metrics=tuple(one["asked_metrics"]),
        )
        for one in members
    }
    fingerprint = data_facts(next(iter(runs.values()))).fingerprint  # trials that are trained as one have the same data
    for planned, settings in runs.items():
        name = run_name(settings, fingerprint, torch.device(device).type)
        if name != planned:
            raise InputError(
                f"the trial is run {name} here, but {planned} where the sweep was started: expected the same data, "
                "and the same version of this package, PyTorch, RecBole and NumPy on all machines"
            )
    try:
        if storage is None:
            _run(runs, Path(folder), device, lambda run: None)
        else:
            _run_in_storage(runs, Storage(storage, sweep), sweep, trial["run"], device)
    finally:
        # The process may run another trial.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _run_in_storage(runs: Mapping[str, Settings], storage: Storage, sweep: str, name: str, device: str) -> None:
    # The same folder for every attempt on this machine, so that a killed one leaves nothing behind for long.
    scratch = private_folder(f"mos_recbole-{getpass.getuser()}") / sweep / name
    for run in runs:
        storage.fetch(scratch / RUNS_FOLDER / run, checkpoints=True)
    _run(runs, scratch, device, lambda run: storage.push(scratch / RUNS_FOLDER / run))
    shutil.rmtree(scratch, ignore_errors=True)


def private_folder(name: str) -> Path:
    """Returns a folder of this name, among temporary files, that only this user can enter; made where it is missing.

    Raises:
        InputError: somebody else made one of that name, or it is something else.
    """
    folder = Path(tempfile.gettempdir()) / name
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise InputError(f"{folder}: belongs to somebody else; expected TMPDIR to name another folder")
    folder.chmod(0o700)
    return folder


def _run(runs: Mapping[str, Settings], output: Path, device: str, save: Callable[[str], None]) -> None:
    """Runs trials and reports on them.

    Raises:
        TrainingDiverged: some did; raised after all others have ended, so that another attempt is theirs alone.
    """
    names, several = list(runs), len(runs) > 1

    def report(run: str, epoch: int, metrics: dict[str, Any]) -> None:
        content = {MEMBERS: {run: {EPOCH: epoch, **metrics}}} if several else metrics
        tune.report({EPOCH: epoch, **content})

    def after_epoch(index: int, epoch: EpochReport) -> None:
        run = names[index]
        save(run)
        if epoch.best_score is not None:
            report(run, epoch.epoch, {"loss": epoch.loss, **_named(epoch.valid or {}), BEST: epoch.best_score})

    def after_run(index: int, outcome: RunResult | TrainingDiverged) -> None:
        run = names[index]
        if isinstance(outcome, TrainingDiverged):
            report(run, 0, {ERROR: f"{type(outcome).__name__}: {outcome}"})
            return
        save(run)
        valid = {name: metric.value for name, metric in outcome.valid.items()}
        report(run, outcome.epochs, {**_named(valid), BEST: valid[outcome.valid_metric], FINISHED: True})

    options: dict[str, Any] = {"output": output, "device": device, "resume": True, "patience": _PATIENCE}
    if not several:
        after_run(0, run_experiment(runs[names[0]], on_epoch=partial(after_epoch, 0), **options))
        return
    outcomes = run_fused(list(runs.values()), on_epoch=after_epoch, on_end=after_run, **options)
    if diverged := [outcome for outcome in outcomes if isinstance(outcome, TrainingDiverged)]:
        raise diverged[0]


def _named(valid: Mapping[str, float]) -> dict[str, float]:
    """Returns validation metrics by their names in a report."""
    return {f"{VALID}{name}": value for name, value in valid.items()}
