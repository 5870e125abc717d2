"""Confidence intervals of mean metrics, over users and seeds."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; `half_width` is what stands behind ± in a table."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def bootstrap_mean(
    values_SQ: np.ndarray, user_Q: np.ndarray, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Returns the mean over seeds and queries with a percentile bootstrap interval.

    Users are resampled, not queries, because a user's queries are not independent; with several seeds, seeds and users
    are resampled independently of each other: the pigeonhole bootstrap for crossed factors (Owen, "The pigeonhole
    bootstrap", Annals of Applied Statistics 2007). It overstates the part of the variance that is neither the users'
    nor the seeds', and understates the seeds' part by the factor (S - 1) / S, so that with few seeds whose means differ
    much it is too narrow. With one seed the interval says nothing of what another seed would give.

    Args:
        values_SQ: one row a seed, one column a query.
        user_Q: the queries' users, any integers.
        level: of confidence.
        resamples: how many bootstrap samples.
        seed: of the resampling.
    """
    n_seeds = len(values_SQ)
    users, user_Q = np.unique(user_Q, return_inverse=True)
    size_U = np.bincount(user_Q, minlength=len(users)).astype(np.float64)
    sum_SU = np.stack([np.bincount(user_Q, weights=row, minlength=len(users)) for row in values_SQ])
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    # In blocks: resamples x users weights can be large.
    block = max(1, 2**24 // len(users))
    for start in range(0, resamples, block):
        n = min(block, resamples - start)
        weight_nU = generator.multinomial(len(users), np.full(len(users), 1 / len(users)), size=n)
        weight_nS = generator.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n) / n_seeds
        means[start : start + n] = ((weight_nS @ sum_SU) * weight_nU).sum(axis=1) / (weight_nU @ size_U)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values_SQ.mean()), float(low), float(high))
