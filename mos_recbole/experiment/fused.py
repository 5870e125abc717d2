"""Several runs trained as one, each with the record that it would have alone."""

import contextlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from mos_recbole.errors import InputError, TrainingDiverged
from mos_recbole.experiment.machine import choose_device, reset_peak_memory
from mos_recbole.experiment.run import Run
from mos_recbole.experiment.run_data import RunData
from mos_recbole.io import exclusive_lock, require_writable
from mos_recbole.results import RunResult
from mos_recbole.settings import Settings
from mos_recbole.training import (
    EpochReport,
    FusedTrial,
    TrainLoader,
    kept_apart_by,
    not_fusable,
    random_state,
    train_fused,
)


def run_fused(
    runs: Sequence[Settings],
    *,
    output: str | Path = "results",
    device: str = "auto",
    resume: bool = False,
    patience: float = 0.0,
    on_epoch: Callable[[int, EpochReport], None] = lambda place, report: None,
    on_end: Callable[[int, RunResult | TrainingDiverged], None] = lambda place, outcome: None,
    show_progress: bool = False,
) -> list[RunResult | TrainingDiverged]:
    """Returns the records of runs that were trained as one; for a run that diverged, its error. The others go on.

    The numbers are those of `run_experiment` for each of them, up to rounding. So are the files: a run that was begun
    with others can be resumed alone, and the other way round. Each run's `train_seconds` are its share of the time.

    Args:
        runs: of equal shape: they differ in `training.fusable.MAY_DIFFER` alone.
        output, device, resume, patience, show_progress: as of `run_experiment`, for all runs.
        on_epoch: called after every epoch of a run, with the run's index and the report.
        on_end: called as soon as a run has ended, with its index and what is returned for it.

    Raises:
        InputError: runs that cannot be trained as one, and what `run_experiment` raises of each.
    """
    _require_fusable(runs)
    chosen_device = choose_device(device)
    outcomes: dict[int, RunResult | TrainingDiverged] = {}

    def end(index: int, outcome: RunResult | TrainingDiverged) -> None:
        outcomes[index] = outcome
        on_end(index, outcome)

    require_writable(Path(output))
    data = RunData(runs[0], chosen_device)
    opened = [Run(settings, Path(output), chosen_device, data=data) for settings in runs]
    reset_peak_memory()
    with contextlib.ExitStack() as locks:
        # In one order, so that two processes with some of the same runs do not wait for each other.
        for run in sorted(opened, key=lambda run: run.folder.name):
            locks.enter_context(exclusive_lock(run.folder, patience))
        trials: dict[FusedTrial, int] = {}
        loaders: dict[int, TrainLoader] = {}
        for index, run in enumerate(opened):
            if (record := run.finished(resume)) is not None:
                end(index, record)
                continue
            trainer, seed = run.open(resume), run.config["seed"]
            if seed not in loaders:
                loaders[seed] = run.train_loader()
            random = random_state(chosen_device)
            trials[FusedTrial(trainer, loaders[seed], run.selection(), partial(on_epoch, index), random)] = index
        for trial, diverged in train_fused(list(trials), show_progress):
            end(trials[trial], diverged or _closed(opened[trials[trial]]))
    return [outcomes[index] for index in range(len(runs))]


def _closed(run: Run) -> RunResult | TrainingDiverged:
    """Returns the record of a trained run, or why it has none."""
    try:
        return run.close()
    except TrainingDiverged as error:
        return error


def _require_fusable(runs: Sequence[Settings]) -> None:
    """Raises InputError where runs cannot be trained as one."""
    if faults := list(dict.fromkeys(fault for settings in runs if (fault := not_fusable(settings)) is not None)):
        raise InputError("\n".join(faults))
    if keys := kept_apart_by(runs):
        raise InputError(f"runs of different {', '.join(keys)} cannot be trained as one")
    if len({json.dumps(settings.identity(), sort_keys=True) for settings in runs}) < len(runs):
        raise InputError("two of the runs are the same run")
