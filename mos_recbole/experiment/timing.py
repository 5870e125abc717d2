"""How long an epoch takes, by some of its real steps, and how long it would take if other processes were not there."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from recbole.data.interaction import Interaction

from mos_recbole.training import Moment, TrainLoader

# Steps of the first epoch, which are slower than later ones: memory is allocated, kernels are chosen.
_WARM_UP = 3
# On a busy machine, the time to measure becomes so many times as long.
_PATIENCE = 3.0


@dataclass(frozen=True)
class Span:
    """How long something took, in seconds.

    Attributes:
        quiet: without the time in which threads of this process were ready to run and had no core.
        busy: by the clock on the wall.
    """

    quiet: float = 0.0
    busy: float = 0.0

    def __add__(self, other: "Span") -> "Span":
        return Span(self.quiet + other.quiet, self.busy + other.busy)

    def __mul__(self, factor: float) -> "Span":
        return Span(self.quiet * factor, self.busy * factor)

    def __sub__(self, other: "Span") -> "Span":
        return Span(max(0.0, self.quiet - other.quiet), max(0.0, self.busy - other.busy))


class Watch:
    """Measures from now on."""

    def __init__(self) -> None:
        self._began, self._waited = Moment.now(), _waited_seconds()

    def read(self) -> Span:
        """Returns what has passed."""
        passed, waited = self._began.passed(), _waited_seconds() - self._waited
        # Several threads may have waited at the same time; all of them together do not work faster than this.
        least = passed.processor_seconds / torch.get_num_threads()
        return Span(min(passed.seconds, max(passed.seconds - waited, least)), passed.seconds)


def _waited_seconds() -> float:
    """Returns how long threads of this process were ready to run and had no core, as Linux counts; elsewhere 0."""
    waited = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended
            waited += int(path.read_text(encoding="ascii").split()[1])
    return waited / 1e9


class StepTimer:
    """Cuts epochs short and tells how long the rest of them would have taken.

    Before `start` an epoch is a few steps of warm-up. Then it ends with the first step after so many seconds.

    Args:
        seconds: how long to measure, on a machine without other processes.
        device: that trains.

    Attributes:
        steps: how many were timed.
        left: how long the rest of the epochs would have taken.
    """

    def __init__(self, seconds: float, device: torch.device) -> None:
        self.seconds, self.device = seconds, device
        self.steps, self.left = 0, Span()
        self._started = self._ended = False
        self._watch = Watch()

    def start(self) -> None:
        """Ends the warm-up."""
        self._started, self._ended = True, False
        self._watch = Watch()

    def cut(self, loader: TrainLoader, number: int) -> Iterator[tuple[Interaction, int]]:
        """Yields the beginning of an epoch and counts its steps."""
        batches = loader.epoch(number)
        done, steps, watch = 0, 0, Watch()
        for batch, n_targets in batches if self._started else islice(batches, _WARM_UP):
            if not steps:
                watch = Watch()
            yield batch, n_targets
            done, steps = done + n_targets, steps + 1
            if self._is_over(steps):
                break
        self._ended = True
        if self._started:
            self._wait()
            self.steps += steps
            self.left += watch.read() * max(0.0, loader.n_targets / max(done, 1) - 1)

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
        passed = self._watch.read()
        return passed.quiet > self.seconds or passed.busy > _PATIENCE * self.seconds

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
