"""How much time a sweep has left: from the work that remains, and from what trials have taken so far."""

import heapq
import math
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

import numpy as np

from mos_recbole.sweep.plan import Key, PlannedTrial

# How strongly the fit of times by settings is drawn to the guess, in trials.
_SHRINKAGE = 0.2
# The guess: seconds an epoch grow with the root of a width or a number of heads, and fall a little with the batch.
_BY_SIZE, _BY_BATCH = 0.5, -0.25


@dataclass
class _Watched:
    """What was seen of a trial.

    Attributes:
        began: when it began in this session: when the trial before it made room for it.
        epochs: of its reports in this session, each with its time; the epoch with which it began first.
        first: whether no trial was before it, so that its process has still to load everything.
        beside: seconds that it took beside its epochs; None until it has ended.
    """

    began: float
    epochs: list[tuple[int, float]]
    first: bool
    beside: float | None = None

    @property
    def is_rough(self) -> bool:
        """Whether the seconds of its epochs are not told from what comes before the first one."""
        return len(self.epochs) < 3

    @property
    def epoch_seconds(self) -> float | None:
        """Seconds an epoch, without what comes before the first one where that is known."""
        (start, began), *reports = self.epochs
        if not reports:
            return None
        if reports[-1][0] > reports[0][0]:
            start, began = reports[0]
        epoch, end = reports[-1]
        return (end - began) / max(1, epoch - start)


class Pace:
    """Times of trials, by the clock of this process.

    Args:
        at_a_time: how many trials run at once.
        earlier: of trials of earlier sessions the seconds an epoch, by run.
        beside: of trials that finished in earlier sessions the seconds that they took beside their epochs.
    """

    def __init__(self, at_a_time: int, earlier: Mapping[str, float], beside: Sequence[float] = ()) -> None:
        self._at_a_time = at_a_time
        self._freed = deque[float]()
        self._watched: dict[str, _Watched] = {}
        self._earlier, self._earlier_beside = dict(earlier), list(beside)

    def start(self, run: str, epoch: int) -> None:
        """Notes that a trial begins after an epoch."""
        first = not self._freed
        began = time.monotonic() if first else self._freed.popleft()
        self._watched[run] = _Watched(began, [(epoch, began)], first)

    def report(self, run: str, epoch: int) -> None:
        """Notes that a trial has ended an epoch."""
        self._watched[run].epochs.append((epoch, time.monotonic()))

    def end(self, run: str) -> None:
        """Notes that a trial has ended."""
        self._freed.append(time.monotonic())
        if (seen := self._watched.get(run)) is not None and seen.epoch_seconds is not None:
            trained = seen.epochs[-1][0] - seen.epochs[0][0]
            seen.beside = max(0.0, time.monotonic() - seen.began - trained * seen.epoch_seconds)

    def seconds_left(
        self,
        ended: Mapping[str, tuple[PlannedTrial, int]],
        running: Mapping[str, tuple[PlannedTrial, int]],
        waiting: Sequence[tuple[PlannedTrial, int]],
        unknown: int = 0,
    ) -> float | None:
        """Returns the seconds until all trials have ended; None where too little has been seen.

        A trial takes its epochs, as many as those of its model took on average, times the seconds of an epoch, which
        are fitted to the settings of its model's trials. One that took all that it had stands for all of any other's.
        Trials run as many at a time as there is room for.

        Args:
            ended: trials with the epochs that they took, by run, without failed ones.
            running: trials that run, with their last epoch, by run.
            waiting: trials that have still to begin, in their order, with the epoch after which they do.
            unknown: number of trials that are not known yet.
        """
        everything = {**ended, **running}
        known = self._epoch_seconds(everything)
        if not known:
            return None
        took: dict[Key, list[float]] = {}
        for one, epochs in ended.values():
            took.setdefault(one.key, []).append(epochs if epochs < one.epochs else math.inf)
        models = {one.key for one, _ in (*running.values(), *waiting)}
        fits = {key: _Fit([(everything[run][0], known[run]) for run in known], key) for key in models}
        beside, now = self._beside(), time.monotonic()

        @cache  # Both trials that wait and that have ended may be thousands.
        def expected(key: Key, most: int) -> float:
            return fmean(min(most, epochs) for epochs in took.get(key, [math.inf]))

        def left(one: PlannedTrial, done: int, run: str = "") -> float:
            epochs = max(expected(one.key, one.epochs) - done, 1.0 if done < one.epochs else 0.0)
            own = known.get(run) or fits[one.key].seconds(one)
            reports = self._watched[run].epochs[1:] if run in self._watched else []
            spent = now - reports[-1][1] if reports else 0.0
            return max(0.0, (beside or 0.0) * (0.5 if run else 1.0) + epochs * own - spent)

        loads = [left(one, done, run) for run, (one, done) in running.items()]
        self._at_a_time = max(self._at_a_time, len(loads))
        loads += [0.0] * (self._at_a_time - len(loads))
        new = [left(one, done) for one, done in waiting]
        if beside is None and new and self._loading() > fmean(new):
            return None  # such short trials are judged after the first that has not its process to load
        typical = fmean(new or loads or [0.0]) if unknown else 0.0
        heapq.heapify(loads)
        for seconds in [*new, *[typical] * unknown]:
            heapq.heapreplace(loads, loads[0] + seconds)
        return max(loads)

    def _epoch_seconds(self, runs: Iterable[str]) -> dict[str, float]:
        """Returns the seconds an epoch of the trials of which they are known.

        Rough ones only where all are, and not of the first trials, which are about loading.
        """
        known = {run: self._earlier[run] for run in runs if run in self._earlier}
        seen = {run: self._watched[run] for run in runs if run in self._watched}
        good = {run: one.epoch_seconds for run, one in seen.items() if not one.is_rough}
        rough = {} if good or known else {run: one.epoch_seconds for run, one in seen.items() if not one.first}
        return known | {run: seconds for run, seconds in (good | rough).items() if seconds is not None}

    def _beside(self) -> float | None:
        """Returns the seconds that a trial takes beside its epochs, as far as that is known."""
        seen = list(self._watched.values())
        others = [one.beside for one in seen if one.beside is not None and not one.first] or self._earlier_beside
        return fmean(others) if others else None

    def _loading(self) -> float:
        """Returns the seconds until the first trials had ended an epoch, the most of them."""
        return max(
            (one.epochs[1][1] - one.began for one in list(self._watched.values()) if one.epochs[1:]), default=0.0
        )


class _Fit:
    """Seconds an epoch by the settings of a model's trials: a power law, whose exponents are drawn to a guess.

    Args:
        trials: with their seconds an epoch.
        key: of the model; all trials stand for it where it has none yet.
    """

    def __init__(self, trials: Sequence[tuple[PlannedTrial, float]], key: Key) -> None:
        own = [trial for trial in trials if trial[0].key == key] or list(trials)
        self._names = sorted({name for one, _ in own for name in _sizes(one.trial.parameters)})
        rows = np.array([self._row(one) for one, _ in own])
        logs = np.log([max(seconds, 1e-6) for _, seconds in own])
        self._centre, self._mean = rows.mean(axis=0), logs.mean()
        centred = rows - self._centre
        gram = centred.T @ centred + _SHRINKAGE * np.eye(len(self._names))
        guess = np.array([_guess(name, [one.trial.parameters.get(name) for one, _ in own]) for name in self._names])
        self._slopes = guess + np.linalg.solve(gram, centred.T @ (logs - self._mean - centred @ guess))
        # The mean of times is more than the exponential of the mean of their logarithms.
        self._factor = float(np.exp(logs - self._mean - centred @ self._slopes).mean())

    def seconds(self, one: PlannedTrial) -> float:
        return self._factor * float(np.exp(self._mean + (self._row(one) - self._centre) @ self._slopes))

    def _row(self, one: PlannedTrial) -> np.ndarray:
        sizes = _sizes(one.trial.parameters)
        return np.array([sizes.get(name, 0.0) for name in self._names])


def _guess(name: str, values: Sequence[Any]) -> float:
    """Returns the exponent of a parameter as far as its name and its values tell."""
    if name.endswith("batch_size"):
        return _BY_BATCH
    return _BY_SIZE if all(isinstance(value, int) for value in values) else 0.0


def _sizes(parameters: Mapping[str, Any]) -> dict[str, float]:
    """Returns the natural logarithms of the parameters that are numbers above 0."""
    return {
        key: math.log(value)
        for key, value in parameters.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    }
