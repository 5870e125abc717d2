"""One trial in a worker process: a run that reports validation after every epoch, and the test set to nobody."""

import gc
import getpass
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from ray import tune

from mos_recbole.errors import InputError
from mos_recbole.experiment import Messages, data_fingerprint, run_experiment, run_name
from mos_recbole.models import load_plugin, resolve_model
from mos_recbole.results import RUNS_FOLDER
from mos_recbole.settings import Settings
from mos_recbole.sweep.plan import PlannedTrial
from mos_recbole.sweep.storage import Storage
from mos_recbole.training import EpochReport

# What a trial reports beside its validation metrics: the epoch, the best validation so far, whether it is done.
EPOCH, BEST, FINISHED = "epoch", "best_valid", "finished"

# How long a trial waits for the worker of a driver that was killed, in seconds; Ray ends such workers within a few.
_PATIENCE = 60.0


def describe(planned: PlannedTrial) -> dict[str, Any]:
    """Returns the trial as Ray, TensorBoard and others show it, with all that a worker needs to run it."""
    trial = planned.trial
    return {
        "run": trial.run,
        "model": trial.model,
        "dataset": trial.dataset,
        "seed": trial.seed,
        **trial.parameters,
        "settings": planned.settings.values,
    }


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
    """Trains and evaluates one trial; goes on from what an earlier attempt left.

    Args:
        config: with "trial", as `describe` returns it.
        folder: the sweep's results folder; unused where there is a storage.
        storage: where runs are kept, or None for the folder.
        sweep: name of the sweep.
        device: of the run.
        threads: PyTorch's.
        working_directory: of the driver, to which settings' paths are relative.
        plugins: the files of heads and encoders that models may be made of.

    Raises:
        InputError: this machine's code, packages or data are not those of the driver.
    """
    trial = config["trial"]
    if Path(working_directory).is_dir():
        os.chdir(working_directory)
    torch.set_num_threads(threads)
    for plugin in plugins:
        load_plugin(Path(plugin))
    settings = Settings(resolve_model(trial["model"]), trial["dataset"], trial["settings"])
    name = run_name(settings, data_fingerprint(settings), torch.device(device).type)
    if name != trial["run"]:
        raise InputError(
            f"the trial is run {name} here, but {trial['run']} where the sweep was started: "
            "expected the same data, and the same version of this package, PyTorch, RecBole and NumPy on all machines"
        )
    try:
        if storage is None:
            _run(settings, Path(folder), device, lambda: None)
        else:
            _run_in_storage(settings, Storage(storage, sweep), sweep, name, device)
    finally:
        # The process may run another trial.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _run_in_storage(settings: Settings, storage: Storage, sweep: str, name: str, device: str) -> None:
    # The same folder for every attempt on this machine, so that one that was killed leaves nothing behind for long.
    scratch = Path(tempfile.gettempdir()) / f"mos_recbole-{getpass.getuser()}" / sweep / name
    folder = scratch / RUNS_FOLDER / name
    storage.fetch(folder, checkpoints=True)
    _run(settings, scratch, device, lambda: storage.push(folder))
    shutil.rmtree(scratch, ignore_errors=True)


def _run(settings: Settings, output: Path, device: str, save: Callable[[], None]) -> None:
    def report(epoch: EpochReport) -> None:
        save()
        if epoch.best_score is not None:
            _report(epoch.epoch, {"loss": epoch.loss, **(epoch.valid or {}), BEST: epoch.best_score})

    messages = Messages(epoch=report)
    record = run_experiment(settings, output=output, device=device, resume=True, patience=_PATIENCE, messages=messages)
    save()
    valid = {name: metric.value for name, metric in record.valid.items()}
    _report(record.epochs, {**valid, BEST: valid[record.valid_metric], FINISHED: True})


def _report(epoch: int, metrics: dict[str, Any]) -> None:
    # TensorBoard counts by timesteps_total, which goes on after an interruption; Ray's iterations start again.
    tune.report({EPOCH: epoch, "timesteps_total": epoch, **metrics})
