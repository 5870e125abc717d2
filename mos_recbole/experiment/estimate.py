"""What a run will cost, before it runs: a cut run is measured, in a folder that is then removed."""

import contextlib
import copy
import gc
import logging
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mos_recbole.data import Segments
from mos_recbole.errors import InputError
from mos_recbole.experiment import run
from mos_recbole.experiment.build import build_model, count_trainable
from mos_recbole.experiment.machine import choose_device, peak_memory, reset_peak_memory, waited_seconds
from mos_recbole.experiment.run import KEPT_ITEMS, Run
from mos_recbole.experiment.run_data import RunData
from mos_recbole.results import RunResult, find_records
from mos_recbole.settings import Settings
from mos_recbole.training import (
    BenchmarkTrainer,
    EpochReport,
    FusedTrial,
    Moment,
    StepTimer,
    TimedLoader,
    TrainLoader,
    random_state,
    score_batch_size,
    train_fused,
)

# Steps so small that no weight changes by much: a model that would diverge is timed like others.
_NO_LEARNING = {"learning_rate": 1e-8, "final_fit": "none"}


@dataclass(frozen=True)
class Estimate:
    """What a run will cost, or several that are trained as one; of the latter, all their times together.

    Attributes:
        parameters: trainable ones, of one run.
        memory_bytes: the peak, as records have it: "resident" and, on a GPU, "gpu".
        once_seconds: for data, model, test and outcomes.
        epoch_seconds: for training an epoch and writing its files.
        valid_seconds: for a validation.
        unvalidated_epochs: at the beginning, before early stopping counts.
        quiet: the share of these seconds in which no other process was in the way.
    """

    parameters: int
    memory_bytes: dict[str, int]
    once_seconds: float
    epoch_seconds: float
    valid_seconds: float
    unvalidated_epochs: int
    quiet: float

    def epochs(self, settings: Settings, earlier: Sequence[int] = ()) -> tuple[int, int]:
        """Returns the fewest epochs that a run may need, and the most.

        Args:
            settings: of the run.
            earlier: how many epochs earlier runs needed; the fewest take the place of the fewest that are possible.
        """
        values, most = settings.values, settings.values["epochs"] + self.unvalidated_epochs
        if not settings.validates:
            return most, most
        # The first validation is the best so far, and one more than stopping_step without a better one end training.
        possible = self.unvalidated_epochs + values["eval_step"] * (values["stopping_step"] + 2)
        return min([most, *(earlier or [possible])]), most

    def seconds(self, runs: Sequence[Settings], earlier: Sequence[int] = ()) -> tuple[float, float]:
        """Returns how long it takes: with the fewest epochs on a quiet machine, with the most on this one as it is.

        Args:
            runs: of the estimate, or of the same size.
            earlier: as of `epochs`.
        """
        fewest, most = zip(*(self.epochs(one, earlier) for one in runs), strict=True)
        return self.quiet * self._seconds(runs[0], max(fewest), 1), self._seconds(runs[0], max(most), max(most))

    def _seconds(self, one: Settings, epochs: int, best_epoch: int) -> float:
        validations = (epochs - self.unvalidated_epochs) / one.values["eval_step"] if one.validates else 0.0
        trained = epochs + (best_epoch if one.values["final_fit"] != "none" else 0)
        return self.once_seconds + trained * self.epoch_seconds + math.ceil(validations) * self.valid_seconds


def estimate_cost(runs: Sequence[Settings], device: str = "auto", seconds: float = 3.0) -> Estimate:
    """Returns what a run will cost, or several that are trained as one.

    The cut run trains for a few steps of each of two epochs, of which the second is timed, ranks a batch of queries and
    writes all its files. Prepared data stay in their cache, nothing else.

    Args:
        runs: one, or several of equal shape.
        device: as of `run_experiment`.
        seconds: how long to train, a step at least.

    Raises:
        InputError: as `run_experiment`.
    """
    gc.collect()
    reset_peak_memory()
    began = time.perf_counter()
    chosen = choose_device(device)
    data = RunData(runs[0], chosen)
    with tempfile.TemporaryDirectory() as folder, _silently():
        opened = [
            Run(replace(one, values=one.values | _NO_LEARNING), Path(folder, str(number)), chosen, data=data)
            for number, one in enumerate(runs)
        ]
        trainers = [one.open(resume=False) for one in opened]
        timer = StepTimer(seconds, chosen)
        loaders = _timed_loaders(opened, timer)
        data.distance  # noqa: B018 - made once, whatever the number of queries
        once = time.perf_counter() - began
        cut = _cut(data, score_batch_size(opened[0].model, data.config, data.dataset.item_num))
        unvalidated = trainers[0].unvalidated_epochs
        for one, trainer in zip(opened, trainers, strict=True):
            one.data = cut
            trainer.epochs, trainer.eval_step, trainer.unvalidated_epochs = 2, 1, 0
        started, waited = Moment.now(), waited_seconds()
        epoch = _time_epoch(opened, trainers, loaders, timer)
        peak, trained = peak_memory(chosen), Moment.now()
        reset_peak_memory()
        record = opened[0].close()
        closed, passed, waited = trained.passed().seconds, started.passed(), waited_seconds() - waited
        closing_peak = peak_memory(chosen)
        closing_peak["resident"] += _bytes_of_further_outcomes(record, data)
    more_valid, more_test = (
        getattr(data.split, side).n_targets / max(getattr(cut.split, side).n_targets, 1) for side in ("valid", "test")
    )
    validation = trainers[0].reports[1].eval_seconds if runs[0].validates else 0.0
    closing = (closed - validation) * more_test + validation * more_valid
    own = sum(trainer.reports[1].eval_seconds for trainer in trainers)
    return Estimate(
        parameters=count_trainable(opened[0].model),
        memory_bytes={kind: max(peak[kind], closing_peak[kind]) for kind in peak},
        once_seconds=once + len(runs) * closing,
        epoch_seconds=epoch - own + timer.left,
        valid_seconds=own * more_valid if runs[0].validates else 0.0,
        unvalidated_epochs=unvalidated,
        # With several threads, they may have waited at the same time.
        quiet=min(
            1.0, max(1 - waited / passed.seconds, passed.processor_seconds / passed.seconds / torch.get_num_threads())
        ),
    )


def _timed_loaders(runs: Sequence[Run], timer: StepTimer) -> list[TimedLoader]:
    """Returns the loaders of runs, which runs of one seed share."""
    of_seed: dict[int, TimedLoader] = {}
    for one in runs:
        seed = one.config["seed"]
        if seed not in of_seed:
            loader = one.train_loader()
            one.trainer.introduce(loader)
            of_seed[seed] = TimedLoader(loader, timer, follows=bool(of_seed))
    return [of_seed[one.config["seed"]] for one in runs]


def _time_epoch(
    runs: Sequence[Run], trainers: Sequence[BenchmarkTrainer], loaders: Sequence[TrainLoader], timer: StepTimer
) -> float:
    """Returns how long the second of two cut epochs took, its validation and its files included, in seconds."""
    ends: list[float] = []

    def end(report: EpochReport) -> None:
        ends.append(time.perf_counter())
        timer.start()

    if len(runs) == 1:
        trainers[0].fit(loaders[0], runs[0].selection(), end)
    else:
        parts = zip(runs, trainers, loaders, strict=True)
        trials = [
            FusedTrial(trainer, loader, one.selection(), end, random_state(trainer.device))
            for one, trainer, loader in parts
        ]
        for _, diverged in train_fused(trials):
            assert diverged is None, diverged
    return ends[-1] - ends[len(runs) - 1]


def _cut(data: RunData, n_queries: int) -> RunData:
    """Returns the same data with about so many queries, or all if there are fewer, evenly spread over the users."""
    some = copy.copy(data)
    some.__dict__.pop("valid_queries", None)

    def fewer(side: Segments) -> Segments:
        step = max(1, side.n_targets // n_queries)
        parts = (side.user, side.context_start, side.target_start, side.target_stop)
        return Segments(*(part[::step] for part in parts))

    some.split = replace(data.split, valid=fewer(data.split.valid), test=fewer(data.split.test))
    return some


def _bytes_of_further_outcomes(record: RunResult, data: RunData) -> int:
    """Returns the memory that the outcomes of the queries take of which a cut run has none."""
    frame = record.outcomes()
    lists = KEPT_ITEMS * (np.int32().nbytes + np.bool_().nbytes)
    bytes_each = frame.memory_usage(index=False, deep=True).sum() / len(frame) + lists
    return int(bytes_each * (data.split.test.n_targets - len(frame)))


def earlier_epochs(settings: Settings, results: Path) -> list[int]:
    """Returns how many epochs runs in a results folder needed that stopped early: of the model, data and patience."""
    keys = ("stopping_step", "eval_step", "valid_metric")
    try:
        records = find_records(results)
    except InputError:  # there is none, or one is broken, which other commands say
        return []
    return [
        record.epochs
        for record in records
        if (record.model, record.dataset, record.stopped) == (settings.model, settings.dataset, "early_stopping")
        and all(record.settings.get(key) == settings.values[key] for key in keys)
    ]


def count_parameters(settings: Settings) -> int:
    """Returns the number of trainable parameters of a model with these settings, as records have it.

    Raises:
        InputError: as `run_experiment`.
    """
    data = RunData(settings, torch.device("cpu"))
    return count_trainable(build_model(settings, data.config, data))


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """Keeps what runs say to themselves while the context is open."""
    logger = logging.getLogger(run.__name__)
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
