"""What a sweep will cost, judged by a few training steps of some of its trials."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mos_recbole.experiment import time_training
from mos_recbole.sweep.plan import PlannedTrial

# Sizes of a model that are timed, for each batch size; others are interpolated.
_TIMED_SIZES = 3


@dataclass(frozen=True)
class Cost:
    """How long a sweep takes at most, in seconds, on this machine.

    Attributes:
        total: training of all trials to their last epoch.
        elapsed: the same, as many at a time as asked for.
        longest: the longest trial.
    """

    total: float
    elapsed: float
    longest: float


def estimate_cost(trials: Sequence[PlannedTrial], concurrent: int, device: str) -> Cost:
    """Returns what the trials cost at most: early stopping, a scheduler and a faster machine make it less.

    Of each model and batch size the smallest, a middle and the largest trial are timed for a second each. Validation is
    not counted.
    """
    groups: dict[tuple[str, str, int], list[PlannedTrial]] = {}
    for planned in trials:
        key = (planned.trial.model, planned.trial.dataset, planned.settings.values["train_batch_size"])
        groups.setdefault(key, []).append(planned)
    seconds: list[float] = []
    for members in groups.values():
        by_work = {planned.work: planned for planned in members}
        works = sorted(by_work)
        picked = sorted({works[round(place)] for place in np.linspace(0, len(works) - 1, _TIMED_SIZES)})
        timed = [time_training(by_work[work].settings, device) for work in picked]
        seconds += np.interp([planned.work for planned in members], picked, timed).tolist()
    # At least the longest; else shared out evenly.
    elapsed = max(math.fsum(seconds) / max(concurrent, 1), max(seconds))
    return Cost(math.fsum(seconds), elapsed, max(seconds))
