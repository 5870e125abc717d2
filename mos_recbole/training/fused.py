"""Several trials trained as one: their steps together, and everything else each by itself."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from mos_recbole.errors import TrainingDiverged
from mos_recbole.models import OwnRandom, Stack
from mos_recbole.training.checkpoint import random_state, restore_random_state
from mos_recbole.training.loaders import TrainLoader
from mos_recbole.training.trainer import LOOK_EVERY, BenchmarkTrainer, EpochReport


@dataclass(eq=False)
class FusedTrial:
    """A trial of a fused training; of equal shape with the others (`fusable.shape_of`).

    Attributes:
        trainer: with the trial's model, optimizer, early stopping and files; may have been resumed.
        train_loader: the batches of each epoch. Trials that have the same one, and are in the same epoch, share them.
        validate, valid_metric, higher_is_better, callback: as of `BenchmarkTrainer.fit`.
        random: the state of all random sources as the trial alone would have it (`checkpoint.random_state`).
    """

    trainer: BenchmarkTrainer
    train_loader: TrainLoader
    validate: Callable[[], dict[str, float]]
    valid_metric: str
    higher_is_better: bool
    callback: Callable[[EpochReport], None]
    random: dict[str, Any]

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Makes the random sources the trial's own for a while."""
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
    """Yields each trial as it ends, its model at its best epoch; or with how its training diverged.

    Each goes through its own epochs to its own end, as `BenchmarkTrainer.fit` would lead it; the others go on. Where
    one is left, it goes on alone.

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
        began = time.perf_counter()
        losses = _alone(going[0]) if len(going) == 1 else _together(going, show_progress)
        seconds = (time.perf_counter() - began) / len(going)
        for trial, loss in zip(list(going), losses, strict=True):
            try:
                if isinstance(loss, TrainingDiverged):
                    raise loss
                _close(trial, loss, seconds)
            except TrainingDiverged as error:
                going.remove(trial)
                yield trial, error


def _close(trial: FusedTrial, loss: float, seconds: float) -> None:
    """Validates and writes down a trial's epoch, whose share of the time in training is so many seconds."""
    epoch = trial.trainer.next_epoch
    assert epoch is not None
    with trial.alone():
        trial.trainer.close_epoch(
            epoch, loss, seconds, trial.validate, trial.valid_metric, trial.higher_is_better, trial.callback
        )


def _alone(trial: FusedTrial) -> list[float | TrainingDiverged]:
    """Trains one epoch of a trial and returns its mean loss, or how it diverged."""
    epoch = trial.trainer.next_epoch
    assert epoch is not None
    try:
        with trial.alone():
            return [trial.trainer._train_epoch(trial.train_loader, epoch)]
    except TrainingDiverged as error:
        return [error]


class _Account:
    """A trial's part in a pass: its epoch, its place in the random numbers, its loss so far or how it diverged."""

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

    def look(self) -> float:
        """Returns the mean loss so far, and notes where it is none."""
        try:
            return self.trainer.finite(self.total / max(self.done, 1), self.epoch)
        except TrainingDiverged as error:
            self.diverged = error
            return float("nan")

    def close(self) -> float | TrainingDiverged:
        """Returns the epoch's mean loss, or how it diverged, and hands on the random numbers."""
        self.trial.random[self._source] = self.random.state
        loss = self.look()
        return self.diverged or loss


def _together(trials: Sequence[FusedTrial], show_progress: bool) -> list[float | TrainingDiverged]:
    """Trains one epoch of each trial and returns their mean losses, or how they diverged."""
    accounts = [_Account(trial) for trial in trials]
    for account in accounts:
        account.model.train()
    device = accounts[0].trainer.device
    outside, looked = random_state(device), time.perf_counter()
    stacked: list[_Account] = []
    bar = tqdm(
        total=sum(trial.train_loader.n_targets for trial in trials),
        desc=f"{len(trials)} trials, epoch {max(account.epoch for account in accounts)}",
        unit=" targets",
        unit_scale=True,
        disable=not show_progress,
        leave=False,
        dynamic_ncols=True,
    )
    with bar:
        for step in _steps(accounts):
            stepping = [account for account, _, _ in step]
            if stepping != stacked:
                stacked = stepping
                stack = Stack([account.model for account in stacked], [account.random for account in stacked])
            for account in stacked:
                account.model.zero_grad(set_to_none=True)
            losses = torch.stack(stack.losses([batch for _, batch, _ in step]))
            losses.sum().backward()  # of the sum, every model gets the gradients of its own loss
            for (account, _, n_targets), loss in zip(step, losses.detach().double(), strict=True):
                account.trainer.update(account.trainer.optimizer)
                account.total += loss * n_targets
                account.done += n_targets
                bar.update(n_targets)
            if time.perf_counter() - looked > LOOK_EVERY:
                looked = time.perf_counter()
                best = min(account.look() for account in accounts)
                bar.set_postfix(loss=f"{best:.4f}")
    restore_random_state(outside, device)
    return [account.close() for account in accounts]


def _steps(accounts: Sequence[_Account]) -> Iterator[list[tuple[_Account, Any, int]]]:
    """Yields the steps of a pass: the trials that take part in it, each with its batch and the number of its targets.

    A trial whose epoch has fewer steps sits out the last ones, one that has diverged all that follow.
    """
    streams = {_stream(account): account.trial.train_loader.epoch(account.epoch) for account in accounts}
    while True:
        going = [account for account in accounts if account.diverged is None]
        found = {key: next(streams[key], None) for key in dict.fromkeys(_stream(account) for account in going)}
        step = [(account, *batch) for account in going if (batch := found[_stream(account)]) is not None]
        if not step:
            return
        yield step


def _stream(account: _Account) -> tuple[int, int]:
    return id(account.trial.train_loader), account.epoch
