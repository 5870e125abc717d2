"""Metrics of all recommended lists together, such as coverage: differences and intervals by the bootstrap."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse, special

from mos_recbole.evaluation.intervals import Interval
from mos_recbole.evaluation.metrics import metric_of_counts, parse_metric
from mos_recbole.evaluation.significance import Difference, effective_number

# Bootstrap samples whose counts are in memory at a time.
_BLOCK = 20


def compare_counts(
    metric: str,
    first_SQk: np.ndarray,
    second_RQk: np.ndarray,
    user_Q: np.ndarray,
    n_items: int,
    *,
    level: float = 0.95,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[tuple[float, float], Difference]:
    """Returns the means over seeds of both sides, and the difference of the second from the first.

    The variance is what users contribute, by the bootstrap: users are resampled with all their lists, on both sides
    alike; plus what each side's seeds contribute, the variance of the values per seed over their number. Interval and p
    value are those of Student's t with Satterthwaite's degrees of freedom, about the difference itself: samples of the
    bootstrap hold fewer different users, so that the lists of each cover less of the catalogue.

    Args:
        metric: a name such as "ItemCoverage@10".
        first_SQk: the recommended items, integers, by seed, query and place; 0 for none.
        second_RQk: the same of the other side, for the same queries.
        user_Q: the queries' users, any integers.
        n_items: V, the padding included.
        level: of confidence.
        resamples: how many bootstrap samples.
        seed: of the resampling.

    Raises:
        ValueError: fewer than two users.
    """
    users, user_Q, size_U = np.unique(user_Q, return_inverse=True, return_counts=True)
    if len(users) < 2:
        raise ValueError("a test over users needs two users or more")
    sides = (first_SQk, second_RQk)
    values = [np.array([metric_of_counts(metric, items_Qk, n_items) for items_Qk in side]) for side in sides]
    means = [float(one.mean()) if len(one) else 0.0 for one in values]
    sampled = _sampled_means(metric, sides, user_Q, len(users), n_items, resamples, seed)
    freedom = effective_number(size_U) - 1
    parts = [(float((sampled[1] - sampled[0]).var(ddof=1)), max(1.0, freedom))]
    parts += [(float(one.var(ddof=1)) / len(one), len(one) - 1) for one in values if len(one) > 1]
    variance = sum(part for part, _ in parts)
    effect, error = means[1] - means[0], float(np.sqrt(variance))
    over_seeds = all(len(one) > 1 for one in values)
    if variance == 0:
        difference = Difference(effect, effect, effect, float(effect == 0), 0.0, freedom, over_seeds)
        return (means[0], means[1]), difference
    degrees = variance**2 / sum(part**2 / df for part, df in parts)
    half_width = float(special.stdtrit(degrees, (1 + level) / 2)) * error
    p_value = float(2 * special.stdtr(degrees, -abs(effect) / error))
    difference = Difference(effect, effect - half_width, effect + half_width, p_value, error, degrees, over_seeds)
    return (means[0], means[1]), difference


def counts_interval(metric: str, items_SQk: np.ndarray, user_Q: np.ndarray, n_items: int) -> Interval:
    """Returns the mean over seeds with the interval that `compare_counts` gives differences. Arguments as there.

    One user says nothing of others: the interval is infinite.
    """
    if len(np.unique(user_Q)) < 2:
        means = [metric_of_counts(metric, items_Qk, n_items) for items_Qk in items_SQk]
        return Interval(float(np.mean(means)), -np.inf, np.inf)
    _, difference = compare_counts(metric, items_SQk[:0], items_SQk, user_Q, n_items)
    return Interval(difference.effect, difference.low, difference.high)


def _sampled_means(
    metric: str,
    sides: Sequence[np.ndarray],
    user_Q: np.ndarray,
    n_users: int,
    n_items: int,
    resamples: int,
    seed: int,
) -> list[np.ndarray]:
    """Returns each side's mean over seeds in every bootstrap sample of users, float64 [resamples]; 0 without seeds."""
    compute = parse_metric(metric)[0].compute
    counts = [[_counts_by_user(items_Qk, user_Q, n_users, n_items) for items_Qk in side] for side in sides]
    generator = np.random.default_rng(seed)
    means = [np.zeros(resamples) for _ in sides]
    for start in range(0, resamples, _BLOCK):
        n = min(_BLOCK, resamples - start)
        weight_nU = generator.multinomial(n_users, np.full(n_users, 1 / n_users), size=n)
        for mean_n, by_seed in zip(means, counts, strict=True):
            for count_VU in by_seed:
                sample_Vn = count_VU @ weight_nU.T
                mean_n[start : start + n] += [compute(sample_V) / len(by_seed) for sample_V in sample_Vn.T]
    return means


def _counts_by_user(items_Qk: np.ndarray, user_Q: np.ndarray, n_users: int, n_items: int) -> sparse.csr_array:
    """Returns how often each item is in each user's lists, int64 [V, U]."""
    query, place = np.nonzero(items_Qk)
    where = (items_Qk[query, place], user_Q[query])
    return sparse.csr_array((np.ones(len(query), dtype=np.int64), where), shape=(n_items, n_users))
