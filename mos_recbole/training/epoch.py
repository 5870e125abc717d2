"""What an epoch is judged by, and what it reports."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Moment:
    """Readings of the clocks, or what has passed on them, in seconds.

    Attributes:
        seconds: of the clock on the wall.
        processor_seconds: of all cores together that this process has used.
    """

    seconds: float
    processor_seconds: float

    @classmethod
    def now(cls) -> "Moment":
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: "Moment") -> "Moment":
        return Moment(self.seconds + other.seconds, self.processor_seconds + other.processor_seconds)

    def passed(self, shares: int = 1) -> "Moment":
        """Returns what has passed since this moment, or one of so many equal shares of it."""
        now = Moment.now()
        return Moment((now.seconds - self.seconds) / shares, (now.processor_seconds - self.processor_seconds) / shares)


@dataclass(frozen=True)
class EpochReport:
    """What one epoch showed; for the callback and the training log.

    Attributes:
        epoch: from 1.
        loss: mean over the targets of the epoch, in nats.
        train_seconds, eval_seconds: time in training and in validation; of trials that are trained as one, each has an
            equal share of the time in training.
        train_processor_seconds, eval_processor_seconds: the same by the processor's time, of all cores together.
        valid: the validation metrics, or None where the epoch was not validated.
        best: whether it is the chosen epoch so far: by `chosen_epoch`, that of the best validation or the last one; the
            last without validation.
        best_score: the best value so far of the metric that selection goes by, or None before the first validation.
    """

    epoch: int
    loss: float
    train_seconds: float
    eval_seconds: float
    train_processor_seconds: float
    eval_processor_seconds: float
    valid: dict[str, float] | None
    best: bool
    best_score: float | None


@dataclass(frozen=True)
class Selection:
    """What the chosen epoch and early stopping go by.

    Attributes:
        validate: returns the validation metrics of the model as it stands.
        metric: the one that counts.
        higher_is_better: its direction.
        last: whether the last epoch is chosen, however validation went.
    """

    validate: Callable[[], dict[str, float]]
    metric: str
    higher_is_better: bool
    last: bool = False
