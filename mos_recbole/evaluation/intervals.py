"""Confidence intervals of mean metrics, over users and seeds."""

from collections.abc import Iterable
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
    return bootstrap_means([values_SQ], user_Q, level=level, resamples=resamples, seed=seed)[0]


def bootstrap_means(
    values_ASQ: Iterable[np.ndarray],
    user_Q: np.ndarray,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Interval]:
    """Returns `bootstrap_mean` of each of many arrays of equal shape, by the same draws of users and seeds.

    What takes long is to draw; of the arrays only sums over users' queries are kept, so that they may come one by one.
    """
    users, user_Q = np.unique(user_Q, return_inverse=True)
    n_users = len(users)
    size_U = np.bincount(user_Q, minlength=n_users).astype(np.float64)
    means, sums = [], []
    for values_SQ in values_ASQ:
        means.append(float(values_SQ.mean()))
        sums.append(np.stack([np.bincount(user_Q, weights=row, minlength=n_users) for row in values_SQ]))
    if not sums:
        return []
    sum_ASU = np.stack(sums)
    n_arrays, n_seeds, _ = sum_ASU.shape
    generator = np.random.default_rng(seed)
    mean_nA = np.empty((resamples, n_arrays))
    # In blocks: resamples x users weights can be large.
    block = max(1, 2**24 // n_users)
    for start in range(0, resamples, block):
        n = min(block, resamples - start)
        weight_nU = generator.multinomial(n_users, np.full(n_users, 1 / n_users), size=n).astype(np.float64)
        weight_nS = generator.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n) / n_seeds
        sum_nAS = (weight_nU @ sum_ASU.reshape(-1, n_users).T).reshape(n, n_arrays, n_seeds)
        mean_nA[start : start + n] = np.einsum("nas,ns->na", sum_nAS, weight_nS) / (weight_nU @ size_U)[:, None]
    low_A, high_A = np.quantile(mean_nA, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [Interval(*bounds) for bounds in zip(means, low_A.tolist(), high_A.tolist(), strict=True)]
