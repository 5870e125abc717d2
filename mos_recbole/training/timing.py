"""How long an epoch takes, by some of its real steps."""

import time
from collections.abc import Iterator
from itertools import islice

import torch
from recbole.data.interaction import Interaction

from mos_recbole.training.loaders import TrainLoader

# Steps of the first epoch, which are slower than later ones: memory is allocated, kernels are chosen.
_WARM_UP = 3


class StepTimer:
    """Cuts epochs short and tells how long the rest of them would have taken.

    Before `start` an epoch is a few steps of warm-up. Then it ends with the first step after so many seconds.

    Args:
        seconds: how long to measure.
        device: that trains.

    Attributes:
        steps: how many were timed.
        left: seconds that the rest of the epochs would have taken.
    """

    def __init__(self, seconds: float, device: torch.device) -> None:
        self.seconds, self.device = seconds, device
        self.steps, self.left = 0, 0.0
        self._started = self._ended = False
        self._deadline = time.perf_counter() + seconds

    def start(self) -> None:
        """Ends the warm-up."""
        self._started, self._ended = True, False
        self._deadline = time.perf_counter() + self.seconds

    def cut(self, loader: TrainLoader, number: int) -> Iterator[tuple[Interaction, int]]:
        """Yields the beginning of an epoch and counts its steps."""
        batches = loader.epoch(number)
        done, steps, began = 0, 0, time.perf_counter()
        for batch, n_targets in batches if self._started else islice(batches, _WARM_UP):
            if not steps:
                began = time.perf_counter()
            yield batch, n_targets
            done, steps = done + n_targets, steps + 1
            if self._is_over(steps):
                break
        self._ended = True
        if self._started:
            self._wait()
            self.steps += steps
            self.left += (time.perf_counter() - began) * max(0.0, loader.n_targets / max(done, 1) - 1)

    def follow(self, loader: TrainLoader, number: int) -> Iterator[tuple[Interaction, int]]:
        """Yields as many batches of an epoch as `cut` does, asked for in turns with it."""
        for batch in loader.epoch(number):
            if self._ended:
                return
            yield batch

    def _is_over(self, steps: int) -> bool:
        """Returns whether the time is up after so many steps of an epoch."""
        if self.device.type == "cuda":
            # Waiting after each step would be what takes the time.
            if steps.bit_count() > 1 and steps % 16:
                return False
            self._wait()
        return time.perf_counter() > self._deadline

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class TimedLoader:
    """A loader whose epochs are cut short by a timer.

    Args:
        loader: the whole epochs.
        timer: of this loader, or of the one that it follows, whose batches are asked for before its own.
        follows: whether there is another one.
    """

    def __init__(self, loader: TrainLoader, timer: StepTimer, *, follows: bool = False) -> None:
        self.loader, self.n_targets = loader, loader.n_targets
        self._cut = timer.follow if follows else timer.cut

    def epoch(self, number: int) -> Iterator[tuple[Interaction, int]]:
        """Yields the beginning of an epoch."""
        return self._cut(self.loader, number)
