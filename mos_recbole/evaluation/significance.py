"""The difference between two models' mean metrics on the same queries, tested over users and seeds."""

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from mos_recbole.evaluation.intervals import Interval


@dataclass(frozen=True)
class Difference:
    """How much larger the second of two means is.

    Attributes:
        effect: second mean less first.
        low, high: confidence interval of the effect.
        p_value: two-sided, of the null hypothesis that the means over all users and seeds are equal.
        standard_error, degrees_of_freedom: of the effect; interval and p value are those of Student's t.
        over_seeds: whether both sides have several seeds. If not, nothing is said of other seeds of the side with one.
    """

    effect: float
    low: float
    high: float
    p_value: float
    standard_error: float
    degrees_of_freedom: float
    over_seeds: bool

    @property
    def p_over_seeds(self) -> float | None:
        """The p value; None where a side has one seed, since other seeds of it may differ as much from each other."""
        return self.p_value if self.over_seeds else None

    @property
    def detectable(self) -> float:
        """The smallest effect that a test at the 5 % level finds with a probability of 80 %, by Student's t."""
        return float(special.stdtrit(self.degrees_of_freedom, (0.975, 0.8)).sum() * self.standard_error)

    def is_within(self, margin: float, level: float = 0.05) -> bool:
        """Returns whether two one-sided tests at this level put the effect within ± margin (Schuirmann 1987)."""
        reach = float(special.stdtrit(self.degrees_of_freedom, 1 - level)) * self.standard_error
        return abs(self.effect) + reach < margin


def compare_means(
    first_SQ: np.ndarray, second_RQ: np.ndarray, user_Q: np.ndarray, *, level: float = 0.95
) -> Difference:
    """Returns the difference of two means over seeds and queries, with its interval and its test.

    Users and seeds are random, queries are what their users bring. Both sides share the users; each has seeds of its
    own, and a seed of one has nothing in common with the same number on the other side. The variance of the effect is
    put together from

        users        of the difference per user, averaged over seeds: by the jackknife that leaves out one user at a
                     time, which for equal numbers of queries is the variance of a mean; its degrees of freedom are
                     the users' number, counted by `effective_number`, less one, since a user with many queries
                     weighs like several
        seeds        of the mean per seed, of either side with several seeds, over its number of seeds
        interaction  of what is neither a user's nor a seed's, which is contained in users and in seeds alike

    as users + seeds - interaction, but no less than users or seeds: both are unbiased or too small each, so that the
    larger of them is a floor below which only chance can lead. The degrees of freedom are those of Satterthwaite
    (Biometrics Bulletin 1946) for this sum. It is the test of Clark's min F' (Journal of Verbal Learning and Verbal
    Behavior 1973) for two random factors, with the deviation that min F' leaves the interaction counted twice: where
    seeds rank users' targets differently without differing in the mean, that makes its intervals wider by a factor of
    up to the square root of 2. What is left of this is on the safe side (figures in docs/statistics.md).

    A side with one seed contributes no seeds' part: right for a model without chance, and for others the result says
    nothing of other seeds (`over_seeds`). Where nothing varies, the interval is a point, and the p value 1 for equal
    means and 0 for others.

    Args:
        first_SQ: one row a seed, one column a query.
        second_RQ: the same queries in the same order.
        user_Q: the queries' users, any integers.
        level: of confidence.

    Raises:
        ValueError: shapes that do not fit, no seed, values that are not finite, or fewer than two users.
    """
    sums, size_U = sums_by_user(first_SQ, second_RQ, user_Q)
    estimate = estimate_difference(sums, size_U)
    over_seeds = all(len(sum_SU) > 1 for sum_SU in sums)
    # Equal values leave rounding errors, which must not be tested against each other.
    rounding = 1e-12 * max(np.abs(first_SQ).max(), np.abs(second_RQ).max())
    if estimate.standard_error <= rounding:
        effect = 0.0 if abs(estimate.effect) <= rounding else estimate.effect
        return Difference(effect, effect, effect, float(effect == 0), 0.0, estimate.degrees_of_freedom, over_seeds)
    half_width = estimate.quantile(level) * estimate.standard_error
    return Difference(
        effect=estimate.effect,
        low=estimate.effect - half_width,
        high=estimate.effect + half_width,
        p_value=float(2 * special.stdtr(estimate.degrees_of_freedom, -abs(estimate.effect) / estimate.standard_error)),
        standard_error=estimate.standard_error,
        degrees_of_freedom=estimate.degrees_of_freedom,
        over_seeds=over_seeds,
    )


def mean_interval(values_SQ: np.ndarray, user_Q: np.ndarray, *, level: float = 0.95) -> Interval:
    """Returns the mean over seeds and queries with its interval, over users and, where there are several, over seeds.

    The variance has the parts that `compare_means` describes. The half width is the root of the sum of squares of those
    that the users' part and what seeds add to it have alone, by Student's t with the degrees of freedom of each. Of the
    interaction, which is in both, half is taken off: with all of it off, two seeds that are alike by chance would count
    as no chance at all. Satterthwaite's degrees of freedom would err for the same reason (docs/statistics.md).

    With one seed the interval says nothing of what another seed would give. One user says nothing of others: the
    interval is infinite. No query says nothing at all: the mean is NaN.

    Raises:
        ValueError: shapes that do not fit, no seed, or values that are not finite.
    """
    if len(np.unique(user_Q)) < 2:
        return Interval(float(values_SQ.mean()) if len(user_Q) else np.nan, -np.inf, np.inf)
    sums, size_U = sums_by_user(np.zeros((1, len(user_Q))), values_SQ, user_Q)
    estimate = estimate_difference(sums, size_U)
    of_seeds = max(0.0, estimate.seed_part - estimate.interaction / 2)
    freedom = np.array([max(1.0, effective_number(size_U) - 1), max(1, len(values_SQ) - 1)])
    half_width = float(np.sqrt(special.stdtrit(freedom, (1 + level) / 2) ** 2 @ [estimate.user_variance, of_seeds]))
    return Interval(estimate.effect, estimate.effect - half_width, estimate.effect + half_width)


def relative_difference(
    first_SQ: np.ndarray, second_RQ: np.ndarray, user_Q: np.ndarray, *, level: float = 0.95
) -> Interval | None:
    """Returns (B - A) / A of the means A and B over seeds and queries, with its interval; None where A is not above 0.

    The interval spans every ratio r for which `compare_means` would not tell B from r A (Fieller, "Some problems in
    interval estimation", JRSS B 1954), so that it takes into account that A is an estimate too. It ends at -1, metrics
    being no less than 0. It excludes 0 only where the difference's own interval does, and then nearly always: ratios
    that are not excluded can be two pieces, small ones and large ones, and it spans both. Where the data do not tell A
    from 0, it has no upper bound (infinity).

    Args:
        first_SQ, second_RQ, user_Q, level: as for `compare_means`; the values are 0 or more.

    Raises:
        ValueError: as `compare_means`.
    """
    (first_SU, second_RU), size_U = sums_by_user(first_SQ, second_RQ, user_Q)
    first, second = (sums.sum() / len(sums) for sums in (first_SU, second_RU))
    if first <= 0:
        return None
    ratio = float(second / first)

    def beyond(r: float) -> float:
        """Above 0 where B differs significantly from r A."""
        estimate = estimate_difference([r * first_SU, second_RU], size_U)
        return abs(estimate.effect) - estimate.quantile(level) * estimate.standard_error

    alone = estimate_difference([np.zeros_like(second_RU), first_SU], size_U)
    told = alone.effect > alone.quantile(level) * alone.standard_error
    if told and beyond(ratio) > -1e-12 * second_RU.max(initial=0):
        return Interval(ratio - 1, ratio - 1, ratio - 1)
    # What is not excluded can be several pieces: an end is looked for beyond 1 where 1 is not excluded.
    inner, outer = (ratio, ratio) if beyond(1) > 0 else (min(ratio, 1.0), max(ratio, 1.0))
    low = optimize.brentq(beyond, 0, inner) if beyond(0) > 0 else 0.0
    high = max(2 * outer, 1.0) if told else np.inf
    while high < _UNBOUNDED and beyond(high) < 0:
        high *= 2
    high = optimize.brentq(beyond, outer, high) if high < _UNBOUNDED else np.inf
    return Interval(ratio - 1, float(low) - 1, float(high) - 1)


def is_equivalent(
    first_SQ: np.ndarray, second_RQ: np.ndarray, user_Q: np.ndarray, margin: float, *, level: float = 0.05
) -> bool:
    """Returns whether (B - A) / A is shown to be within ± margin: by two one-sided tests at this level.

    They reject where the interval of `relative_difference` at 1 - 2 level lies within (Schuirmann, Journal of
    Pharmacokinetics and Biopharmaceutics 1987), which takes into account that A is an estimate too.

    Raises:
        ValueError: as `compare_means`.
    """
    found = relative_difference(first_SQ, second_RQ, user_Q, level=1 - 2 * level)
    return found is not None and -margin < found.low and found.high < margin


def effect_size(first_SQ: np.ndarray, second_RQ: np.ndarray, user_Q: np.ndarray, *, level: float = 0.95) -> Interval:
    """Returns d_z: the difference in standard deviations of users' differences, with its interval.

    Users' differences are averaged over seeds first, so that d_z grows with the number of seeds where users' outcomes
    depend on them. Users with many queries weigh more, as in the mean: d_z is of the ratio estimator's residuals, and
    for equal numbers of queries the usual one (Cohen 1988). The interval adds to `compare_means`' standard error that
    of the standard deviation, d_z² / 2 (n - 1), as for normal differences. Where users do not differ, d_z is 0 for
    equal means and infinite for others.

    Raises:
        ValueError: as `compare_means`.
    """
    difference = compare_means(first_SQ, second_RQ, user_Q, level=level)
    sums, size_U = sums_by_user(first_SQ, second_RQ, user_Q)
    estimate = estimate_difference(sums, size_U)
    if estimate.user_deviation <= 1e-12 * max(np.abs(first_SQ).max(), np.abs(second_RQ).max()):
        size = float(np.copysign(np.inf, difference.effect)) if difference.effect else 0.0
        return Interval(size, size, size)
    size = difference.effect / estimate.user_deviation
    variance = (difference.standard_error / estimate.user_deviation) ** 2
    half_width = estimate.quantile(level) * np.sqrt(variance + size**2 / (2 * max(1, effective_number(size_U) - 1)))
    return Interval(size, float(size - half_width), float(size + half_width))


_UNBOUNDED = 1e6  # a ratio that stands for infinity


@dataclass(frozen=True)
class Estimate:
    """An effect with the parts of its variance, as `compare_means` describes them.

    Attributes:
        user_variance: what users contribute.
        seed_part: what seeds contribute.
        interaction: what is in the users' part and in the seeds' alike.
        seed_freedom: the degrees of freedom of the seeds' part; 0 without one.
        user_deviation: standard deviation of users' differences, per query of a user with the mean number of them.
    """

    effect: float
    standard_error: float
    degrees_of_freedom: float
    user_variance: float
    seed_part: float
    interaction: float
    seed_freedom: float
    user_deviation: float

    @property
    def seed_variance(self) -> float:
        """What seeds contribute beyond the interaction, which users bear too; 0 or more."""
        return max(0.0, self.seed_part - self.interaction)

    def quantile(self, level: float) -> float:
        """Returns by how many standard errors the interval extends to either side."""
        return float(special.stdtrit(self.degrees_of_freedom, (1 + level) / 2))


def sums_by_user(
    first_SQ: np.ndarray, second_RQ: np.ndarray, user_Q: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Returns the sums over users' queries of both sides, [seeds, U] each, and the number of queries, [U].

    Raises:
        ValueError: as `compare_means`.
    """
    for values in (first_SQ, second_RQ):
        if values.ndim != 2 or not len(values) or values.shape[1:] != user_Q.shape:
            raise ValueError(f"values {values.shape} of {user_Q.shape} users; expected a row a seed, a column a query")
        if not np.isfinite(values).all():
            raise ValueError("values that are not finite cannot be compared")
    users, user_Q = np.unique(user_Q, return_inverse=True)
    if len(users) < 2:
        raise ValueError("a test over users needs two users or more")
    sums = [np.stack([np.bincount(user_Q, row, len(users)) for row in values]) for values in (first_SQ, second_RQ)]
    return sums, np.bincount(user_Q)


def estimate_difference(sums: list[np.ndarray], size_U: np.ndarray) -> Estimate:
    """Returns the second mean less the first, given `sums_by_user`."""
    n_users, n_queries = len(size_U), size_U.sum()
    difference_U = sums[1].mean(axis=0) - sums[0].mean(axis=0)
    effect = difference_U.sum() / n_queries
    residual_U = difference_U - effect * size_U
    user_part = (n_users - 1) / n_users * ((residual_U / (n_queries - size_U)) ** 2).sum()
    user_freedom = max(1.0, effective_number(size_U) - 1)
    spread = user_part**2 / user_freedom  # of the variance itself, as Satterthwaite estimates it

    seed_part = seed_spread = interaction = 0.0
    for sum_SU in sums:
        n_seeds = len(sum_SU)
        if n_seeds == 1:
            continue
        mean_S = sum_SU.sum(axis=1) / n_queries
        residual_SU = sum_SU - mean_S[:, None] * size_U
        residual_SU -= residual_SU.mean(axis=0)
        of_seeds = mean_S.var(ddof=1) / n_seeds
        of_both = n_users / (n_users - 1) * (residual_SU**2).sum() / n_queries**2 / (n_seeds - 1) / n_seeds
        seed_spread += of_seeds**2 / (n_seeds - 1)
        spread += of_both**2 / ((n_seeds - 1) * (n_users - 1))
        seed_part += of_seeds
        interaction += of_both
    spread += seed_spread
    variance = max(user_part, seed_part, user_part + seed_part - interaction)
    return Estimate(
        effect=float(effect),
        standard_error=float(np.sqrt(variance)),
        # No part has fewer than one, which the formula does not know where the interaction is more than all else.
        degrees_of_freedom=max(1.0, float(variance**2 / spread)) if spread > 0 and variance > 0 else user_freedom,
        user_variance=float(user_part),
        seed_part=float(seed_part),
        interaction=float(interaction),
        seed_freedom=float(seed_part**2 / seed_spread) if seed_spread > 0 else 0.0,
        user_deviation=float(residual_U.std(ddof=1) * n_users / n_queries),
    )


def effective_number(size_U: np.ndarray) -> float:
    """Returns as how many users with equally many queries these count: their number, or fewer (Kish 1965)."""
    return float(size_U.sum() ** 2 / (size_U.astype(np.float64) ** 2).sum())
