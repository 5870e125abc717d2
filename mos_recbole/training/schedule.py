"""The learning rate over a training: a function of how much of it is done, without state."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """A learning rate that rises to its peak in a straight line, and then stays there or falls to zero.

    Attributes:
        shape: after the peak.
        warmup: share of the training until the peak.
    """

    shape: Literal["constant", "linear", "cosine"] = "constant"
    warmup: float = 0.0

    @property
    def varies(self) -> bool:
        """Whether the rate is not the same in all steps."""
        return self.shape != "constant" or self.warmup > 0

    def rate(self, done: float) -> float:
        """Returns the learning rate as a share of its peak.

        Args:
            done: share of the training, from 0 to 1.
        """
        if done < self.warmup:
            return done / self.warmup
        left = (1 - min(done, 1.0)) / (1 - self.warmup)
        if self.shape == "linear":
            return left
        return (1 - math.cos(math.pi * left)) / 2 if self.shape == "cosine" else 1.0
