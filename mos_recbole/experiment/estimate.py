"""What a run will cost, before it runs: a cut run is measured, in a folder that is then removed."""

import copy
import gc
import logging
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from mos_recbole.data import Segments
from mos_recbole.errors import InputError
from mos_recbole.experiment import run
from mos_recbole.experiment.build import build_model, count_trainable
from mos_recbole.experiment.machine import choose_device, peak_memory, reset_peak_memory
from mos_recbole.experiment.run import Run
from mos_recbole.experiment.run_data import RunData
from mos_recbole.experiment.timing import Span, StepTimer, TimedLoader, Watch
from mos_recbole.progress import log_from
from mos_recbole.results import RunResult, find_records
from mos_recbole.settings import Settings
from mos_recbole.training import (
    EpochReport,
    FusedTrial,
    Selection,
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
        once: for data, model, test and outcomes.
        epoch: for training an epoch and writing its files.
        validation: for a validation.
        unvalidated_epochs: at the beginning, before early stopping counts.
        imports: what the first run of a process has to load; none where it was loaded before.
    """

    parameters: int
    memory_bytes: dict[str, int]
    once: Span
    epoch: Span
    validation: Span
    unvalidated_epochs: int
    imports: Span = field(default_factory=Span)

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

    def seconds(self, runs: Sequence[Settings], earlier: Sequence[int] = ()) -> Span:
        """Returns how long it takes: with the fewest epochs on a quiet machine, with the most on this one as it is.

        Args:
            runs: of the estimate, or of the same size.
            earlier: as of `epochs`.
        """
        fewest, most = zip(*(self.epochs(one, earlier) for one in runs), strict=True)
        soonest = max(fewest) if runs[0].values["chosen_epoch"] == "last" else 1
        least, longest = self.span(runs[0], max(fewest), soonest), self.span(runs[0], max(most), max(most))
        return Span(least.quiet, longest.busy)

    def span(self, settings: Settings, epochs: int, best_epoch: int) -> Span:
        """Returns how long it takes with so many epochs, of which a final fit would have `best_epoch`."""
        validations = 0
        if settings.validates:
            validations = math.ceil((epochs - self.unvalidated_epochs) / settings.values["eval_step"])
        trained = epochs + (best_epoch if settings.values["final_fit"] != "none" else 0)
        return self.once + self.epoch * trained + self.validation * validations


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
    watch = Watch()
    torch.optim.SGD([torch.zeros(1)])  # the first optimizer of a process makes PyTorch import its compiler
    imports, watch = watch.read(), Watch()
    chosen = choose_device(device)
    data = RunData(runs[0], chosen)
    with tempfile.TemporaryDirectory() as folder, log_from(run.__name__, logging.WARNING):
        opened = [
            Run(replace(one, values=one.values | _NO_LEARNING), Path(folder, str(number)), chosen, data=data)
            for number, one in enumerate(runs)
        ]
        trainers = [one.open(resume=False) for one in opened]
        timer = StepTimer(seconds, chosen)
        loaders = _timed_loaders(opened, timer)
        data.distance  # noqa: B018 - made once, whatever the number of queries
        once = watch.read()
        cut = _cut(data, score_batch_size(opened[0].model, data.config, data.dataset.item_num))
        unvalidated = trainers[0].unvalidated_epochs
        for one, trainer in zip(opened, trainers, strict=True):
            one.data = cut
            trainer.epochs, trainer.eval_step, trainer.unvalidated_epochs = 2, 1, 0
        epoch, validation = _time_epoch(opened, loaders, timer)
        peak = peak_memory(chosen)
        reset_peak_memory()
        watch = Watch()
        record = opened[0].close()
        closed, closing_peak = watch.read(), peak_memory(chosen)
        closing_peak["resident"] += _bytes_of_further_outcomes(record, data)
    more_valid, more_test = (
        getattr(data.split, side).n_targets / max(getattr(cut.split, side).n_targets, 1) for side in ("valid", "test")
    )
    return Estimate(
        parameters=count_trainable(opened[0].model),
        memory_bytes={kind: max(peak[kind], closing_peak[kind]) for kind in peak},
        once=once + closed * more_test * len(runs),
        epoch=epoch + timer.left,
        validation=validation * more_valid,
        unvalidated_epochs=unvalidated,
        imports=imports,
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


def _time_epoch(runs: Sequence[Run], loaders: Sequence[TrainLoader], timer: StepTimer) -> tuple[Span, Span]:
    """Returns how long the second of two cut epochs took, files included, and its validation."""
    watch, epoch = Watch(), Span()
    trained: list[Span] = []
    validations: list[Span] = []

    def end(report: EpochReport) -> None:
        nonlocal watch, epoch
        if report.epoch == 1:
            trained.clear()
            validations.clear()
            watch = Watch()
            timer.start()
        epoch = sum(trained, watch.read())

    def timed(selection: Selection | None) -> Selection | None:
        if selection is None:
            return None
        given = selection.validate

        def validate() -> dict[str, float]:
            nonlocal watch
            trained.append(watch.read())
            watch = Watch()
            metrics = given()
            validations.append(watch.read())
            watch = Watch()
            return metrics

        return replace(selection, validate=validate)

    selections = [timed(one.selection()) for one in runs]
    if len(runs) == 1:
        runs[0].trainer.fit(loaders[0], selections[0], end)
    else:
        parts = zip(runs, loaders, selections, strict=True)
        trials = [
            FusedTrial(one.trainer, loader, selection, end, random_state(one.device))
            for one, loader, selection in parts
        ]
        for _, diverged in train_fused(trials):
            assert diverged is None, diverged
    return epoch, sum(validations, Span())


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
    lists = record.top_items().items.shape[1] * (np.int32().nbytes + np.bool_().nbytes)
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
