"""Confidence intervals."""

from dataclasses import dataclass

import numpy as np
from scipy import special


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; `half_width` is what stands behind ± in a table."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def student_interval(values_S: np.ndarray, *, level: float = 0.95) -> Interval:
    """Returns the mean of independent values with Student's interval; of one value it has no width."""
    n, mean = len(values_S), float(values_S.mean())
    if n < 2:
        return Interval(mean, mean, mean)
    half_width = float(special.stdtrit(n - 1, (1 + level) / 2)) * float(values_S.std(ddof=1)) / n**0.5
    return Interval(mean, mean - half_width, mean + half_width)
