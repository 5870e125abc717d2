"""Checks of a difference without assuming that means over users are normal, and the correction for many tests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mos_recbole.evaluation.intervals import Interval
from mos_recbole.evaluation.significance import estimate_difference, sums_by_user

# Users x samples that are in memory at a time.
_BLOCK = 2**22


@dataclass(frozen=True)
class SignTest:
    """In how many users the second side has more and less than the first, whatever by how much.

    Attributes:
        p_value: two-sided, of the null hypothesis that of the users in whom the sides differ half have more.
    """

    higher: int
    lower: int
    p_value: float


def bootstrap_difference(
    first_SQ: np.ndarray,
    second_RQ: np.ndarray,
    user_Q: np.ndarray,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Returns the difference of two means over seeds and queries with a paired bootstrap interval (percentiles).

    Users are resampled with all their queries, on both sides alike. Seeds are too few to be resampled: drawn with
    replacement, S seeds show only (S - 1) / S of their variance, and drawing S - 1 (Rao and Wu, JASA 1988) mends the
    variance but not the tails, which few values cannot have. So what seeds contribute beyond the interaction that the
    users already bear is drawn from Student's t with its Satterthwaite degrees of freedom (what that makes of the
    coverage is in docs/statistics.md). A side with one seed contributes nothing, as in `compare_means`.

    Args:
        first_SQ, second_RQ, user_Q, level: as for `compare_means`.
        resamples: how many bootstrap samples.
        seed: of the resampling.

    Raises:
        ValueError: as `compare_means`.
    """
    sums, size_U = sums_by_user(first_SQ, second_RQ, user_Q)
    estimate = estimate_difference(sums, size_U)
    column_U2 = np.stack([_difference(sums), size_U], axis=1)
    n_users = len(size_U)
    generator = np.random.default_rng(seed)
    sampled = []
    for n in _blocks(resamples, n_users):
        drawn_nU = generator.integers(n_users, size=(n, n_users)) + n_users * np.arange(n)[:, None]
        weight_nU = np.bincount(drawn_nU.ravel(), minlength=n * n_users).reshape(n, n_users)
        difference_n, size_n = (weight_nU @ column_U2).T
        sampled.append(difference_n / size_n)
    mean_n = np.concatenate(sampled)
    if estimate.seed_variance > 0:
        mean_n += np.sqrt(estimate.seed_variance) * generator.standard_t(estimate.seed_freedom, resamples)
    low, high = np.quantile(mean_n, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate.effect, float(low), float(high))


def sign_flip_test(
    first_SQ: np.ndarray, second_RQ: np.ndarray, user_Q: np.ndarray, *, flips: int = 9999, seed: int = 0
) -> float:
    """Returns the two-sided p value of a permutation test that exchanges the two sides, user by user.

    The null hypothesis: users' differences, averaged over the seeds there are, are symmetric about 0. The statistic is
    the difference of the means; exchanging a user's sides flips the sign of the user's share. Exact, by all exchanges,
    where there are at most `flips` + 1 of them; else by `flips` random ones, the observed one counted too (Phipson and
    Smyth, Statistical Applications in Genetics and Molecular Biology 2010), so that no p value is below
    1 / (`flips` + 1). **Seeds are taken as given**: that these seeds differ is enough to reject.

    SciPy's `permutation_test` gives the same, but takes 40 times as long for 20,000 users.

    Raises:
        ValueError: as `compare_means`.
    """
    sums, _ = sums_by_user(first_SQ, second_RQ, user_Q)
    difference_U = _difference(sums)
    difference_U = difference_U[_differs(difference_U, sums)]  # of others the sign does not matter
    n_users = len(difference_U)
    total = difference_U.sum()
    at_least = abs(total) - 1e-9 * np.abs(difference_U).sum()
    if 2**n_users <= flips + 1:
        bits = (np.arange(2**n_users)[:, None] >> np.arange(n_users)) & 1
        return float((np.abs(2 * (bits @ difference_U) - total) >= at_least).mean())
    generator = np.random.default_rng(seed)
    extreme = 1
    for n in _blocks(flips, n_users):
        bytes_n = generator.integers(256, size=(n, -(-n_users // 8)), dtype=np.uint8)
        exchanged_nU = np.unpackbits(bytes_n, axis=1, count=n_users)
        extreme += int((np.abs(2 * (exchanged_nU @ difference_U) - total) >= at_least).sum())
    return extreme / (flips + 1)


def sign_test(first_SQ: np.ndarray, second_RQ: np.ndarray, user_Q: np.ndarray) -> SignTest:
    """Returns the exact binomial test of how many users have more and less on the second side, given the seeds.

    Raises:
        ValueError: as `compare_means`.
    """
    sums, _ = sums_by_user(first_SQ, second_RQ, user_Q)
    difference_U = _difference(sums)
    differs_U = _differs(difference_U, sums)
    higher = int((difference_U[differs_U] > 0).sum())
    lower = int(differs_U.sum()) - higher
    p_value = float(stats.binomtest(higher, higher + lower).pvalue) if higher + lower else 1.0
    return SignTest(higher, lower, p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p values corrected for their number by Holm's method (Scandinavian Journal of Statistics 1979), in order.

    Each is the least level at which its hypothesis is rejected while the probability of any false rejection among all
    of them stays below that level.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(order))
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1) if len(order) else []
    return adjusted.tolist()


def _difference(sums: list[np.ndarray]) -> np.ndarray:
    difference_U: np.ndarray = sums[1].mean(axis=0) - sums[0].mean(axis=0)
    return difference_U


def _differs(difference_U: np.ndarray, sums: list[np.ndarray]) -> np.ndarray:
    """Returns in which users the sides differ by more than rounding."""
    rounding = 1e-12 * max(float(np.abs(sum_SU).max()) for sum_SU in sums)
    differs_U: np.ndarray = np.abs(difference_U) > rounding
    return differs_U


def _blocks(total: int, width: int) -> Iterator[int]:
    size = max(1, _BLOCK // width)
    for start in range(0, total, size):
        yield min(size, total - start)
