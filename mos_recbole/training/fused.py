"""Several trials trained as one: their steps are computed together, everything else for each alone."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from mos_recbole.errors import TrainingDiverged
from mos_recbole.models import OwnRandom, Stack
from mos_recbole.progress import ProgressBar
from mos_recbole.training.checkpoint import random_state, restore_random_state
from mos_recbole.training.epoch import EpochReport, Moment, Selection
from mos_recbole.training.loaders import TrainLoader
from mos_recbole.training.memory import step_must_fit
from mos_recbole.training.trainer import READ_LOSS_EVERY, BenchmarkTrainer


@dataclass(eq=False)
class FusedTrial:
    """A trial of a fused training; of equal shape with the others (`fusable.shape_of`).

    Attributes:
        trainer: with the trial's model, optimizer, early stopping and files; may have been resumed.
        train_loader: the batches of each epoch. Trials that have the same one, and are in the same epoch, share them.
        selection, on_epoch: as of `BenchmarkTrainer.fit`.
        random: the state of all random sources as the trial alone would have it (`checkpoint.random_state`).
    """

    trainer: BenchmarkTrainer
    train_loader: TrainLoader
    selection: Selection | None
    on_epoch: Callable[[EpochReport], None]
    random: dict[str, Any]

    @contextmanager
    def own_random_state(self) -> Iterator[None]:
        """Lets random numbers come from the trial's own sources while the context is open."""
        device = self.trainer.device
        outside = random_state(device)
        restore_random_state(self.random, device)
        try:
            yield
        finally:
            self.random = random_state(device)
            restore_random_state(outside, device)


def train_fused(
    trials: Sequence[FusedTrial], show_progress: bool = False
) -> Iterator[tuple[FusedTrial, TrainingDiverged | None]]:
    """Yields each trial as it ends: with None and its model at its best epoch, or with the error by which it diverged.

    Each goes through its own epochs to its own end, as in `BenchmarkTrainer.fit`, while the others go on. The last one
    left goes on alone.

    Args:
        trials: of equal shape.
        show_progress: whether to draw a progress bar.
    """
    going = list(trials)
    while going:
        for trial in [one for one in going if one.trainer.next_epoch is None]:
            going.remove(trial)
            trial.trainer.load_best()
            yield trial, None
        if not going:
            return
        began = Moment.now()
        losses = _train_alone(going[0]) if len(going) == 1 else _train_together(going, show_progress)
        trained = began.passed(shares=len(going))
        for trial, loss in zip(list(going), losses, strict=True):
            try:
                if isinstance(loss, TrainingDiverged):
                    raise loss
                _close(trial, loss, trained)
            except TrainingDiverged as error:
                going.remove(trial)
                yield trial, error


def _close(trial: FusedTrial, loss: float, trained: Moment) -> None:
    """Validates a trial's epoch and writes its files; `trained` is its share of the time in training."""
    epoch = trial.trainer.next_epoch
    assert epoch is not None
    with trial.own_random_state():
        trial.trainer.close_epoch(epoch, loss, trained, trial.selection, trial.on_epoch)


def _train_alone(trial: FusedTrial) -> list[float | TrainingDiverged]:
    """Trains one epoch of a trial and returns its mean loss, or the error by which it diverged."""
    epoch = trial.trainer.next_epoch
    assert epoch is not None
    try:
        with trial.own_random_state():
            return [trial.trainer._train_epoch(trial.train_loader, epoch)]
    except TrainingDiverged as error:
        return [error]


class _TrialEpoch:
    """An epoch of a trial under way: its random numbers, its loss so far, the error by which it diverged."""

    def __init__(self, trial: FusedTrial) -> None:
        trainer = trial.trainer
        assert trainer.next_epoch is not None
        self.trial, self.trainer, self.model, self.epoch = trial, trainer, trainer.model, trainer.next_epoch
        self.random = OwnRandom(trial.random[self._source], trainer.device)
        self.total = torch.zeros((), device=trainer.device, dtype=torch.float64)
        self.done = 0
        self.diverged: TrainingDiverged | None = None

    @property
    def _source(self) -> str:
        return "cuda" if self.trainer.device.type == "cuda" else "torch"

    def running_loss(self) -> float:
        """Returns the mean loss so far; NaN where the trial diverged, which is kept in `diverged`."""
        try:
            return self.trainer.finite(self.total / max(self.done, 1), self.epoch)
        except TrainingDiverged as error:
            self.diverged = error
            return float("nan")

    def close(self) -> float | TrainingDiverged:
        """Returns the epoch's mean loss, or the error by which it diverged; keeps the state of the random numbers."""
        self.trial.random[self._source] = self.random.state
        loss = self.running_loss()
        return self.diverged or loss


def _train_together(trials: Sequence[FusedTrial], show_progress: bool) -> list[float | TrainingDiverged]:
    """Trains one epoch of each trial and returns their mean losses, or the errors by which they diverged."""
    epochs = [_TrialEpoch(trial) for trial in trials]
    for one in epochs:
        one.model.train()
    device = epochs[0].trainer.device
    outside, last_read = random_state(device), time.perf_counter()
    stacked: list[_TrialEpoch] = []
    name = f"{len(trials)} trials, epoch {max(one.epoch for one in epochs)}"
    total = sum(trial.train_loader.n_targets for trial in trials)
    with ProgressBar(name, total, "targets", show=show_progress) as bar:
        for step in _steps(epochs):
            stepping = [one for one, _, _ in step]
            if stepping != stacked:
                stacked = stepping
                stack = Stack([one.model for one in stacked], [one.random for one in stacked])
            for one in stacked:
                one.model.zero_grad(set_to_none=True)
            with nullcontext() if any(one.done for one in epochs) else step_must_fit(device):
                losses = torch.stack(stack.losses([batch for _, batch, _ in step]))
                losses.sum().backward()  # of the sum, every model gets the gradients of its own loss
            for (one, _, n_targets), loss in zip(step, losses.detach().double(), strict=True):
                part = (one.done + n_targets / 2) / one.trial.train_loader.n_targets
                one.trainer.set_rate(one.trainer.optimizer, one.epoch, part)
                one.trainer.update(one.trainer.optimizer)
                one.total += loss * n_targets
                one.done += n_targets
                bar.advance(n_targets)
            if time.perf_counter() - last_read > READ_LOSS_EVERY:
                last_read = time.perf_counter()
                best = min(one.running_loss() for one in epochs)
                bar.advance(0, f"loss {best:.4f}")
    restore_random_state(outside, device)
    return [one.close() for one in epochs]


def _steps(epochs: Sequence[_TrialEpoch]) -> Iterator[list[tuple[_TrialEpoch, Any, int]]]:
    """Yields the steps of an epoch: the trials that take part, each with its batch and its number of targets.

    A trial with fewer steps takes no part in the last ones, a trial that has diverged in none that follow.
    """
    streams = {_stream(one): one.trial.train_loader.epoch(one.epoch) for one in epochs}
    while True:
        going = [one for one in epochs if one.diverged is None]
        found = {key: next(streams[key], None) for key in dict.fromkeys(_stream(one) for one in going)}
        step = [(one, *batch) for one in going if (batch := found[_stream(one)]) is not None]
        if not step:
            return
        yield step


def _stream(one: _TrialEpoch) -> tuple[int, int]:
    return id(one.trial.train_loader), one.epoch
