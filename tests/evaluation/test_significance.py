"""Relative differences, effect sizes, resampling and sign tests: against SciPy, by their properties, in simulations."""

import importlib.util
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mos_recbole.evaluation import (
    bootstrap_difference,
    compare_counts,
    compare_means,
    effect_size,
    effective_number,
    is_equivalent,
    mean_interval,
    relative_difference,
    sign_flip_test,
    sign_test,
)

_SCRIPT = Path(__file__).parents[2] / "benchmarks" / "studies" / "coverage.py"


def hits(n_users: int = 40, n_seeds: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two sides' hits of users with 1 to 5 queries, the second a little better."""
    generator = np.random.default_rng(seed)
    user = np.repeat(np.arange(n_users), generator.integers(1, 6, n_users))
    chance = generator.beta(2, 3, n_users)[user]
    first, second = (generator.random((n_seeds, len(user))) < chance + more for more in (0.0, 0.1))
    return first.astype(float), second.astype(float), user


# ---------------------------------------------------------------------------------------------------- means


def test_the_interval_of_a_mean_is_students() -> None:
    """One seed, one query a user: SciPy's t interval."""
    values = np.random.default_rng(1).normal(size=25)
    found = mean_interval(values[None], np.arange(25))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 24, values.mean(), stats.sem(values)))
    assert found.mean == pytest.approx(values.mean())


@pytest.mark.parametrize("of_seeds", [0.0, 5.0])
def test_the_interval_of_a_mean_has_a_part_of_users_and_one_of_seeds(of_seeds: float) -> None:
    """Three seeds, one query a user, in loops; of the interaction, which is in both, half is taken off the seeds'."""
    generator = np.random.default_rng(3)
    values = generator.normal(size=20) + of_seeds * generator.normal(size=(3, 1)) + generator.normal(size=(3, 20))
    users, seeds = values.mean(axis=0).var(ddof=1) / 20, values.mean(axis=1).var(ddof=1) / 3
    squares = sum(
        (values[s, u] - values[s].mean() - values[:, u].mean() + values.mean()) ** 2
        for s in range(3)
        for u in range(20)
    )
    seeds = max(0.0, seeds - squares / (2 * 19) / (3 * 20) / 2)
    half = np.sqrt(stats.t.ppf(0.975, 19) ** 2 * users + stats.t.ppf(0.975, 2) ** 2 * seeds)
    found = mean_interval(values, np.arange(20))
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert (seeds > 0) == (of_seeds > 0)


def test_one_user_says_nothing_of_others() -> None:
    found = mean_interval(np.array([[1.0, 0.0]]), np.array([7, 7]))
    assert (found.mean, found.low, found.high) == (0.5, -np.inf, np.inf)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_users_are_counted_by_weight(size: list[int]) -> None:
    """As many as there are where they are equal, else fewer, and one at least."""
    number = effective_number(np.array(size))
    assert 1 <= number <= len(size) + 1e-9
    assert effective_number(np.full(len(size), 3)) == pytest.approx(len(size))
    assert (number == pytest.approx(len(size))) == (len(set(size)) == 1)


# ---------------------------------------------------------------------------------------------------- relative


def test_the_relative_interval_inverts_the_test() -> None:
    """At its ends B is just significantly different from the ratio times A."""
    first, second, user = hits()
    found = relative_difference(first, second, user)
    assert found.mean == pytest.approx(second.mean() / first.mean() - 1)
    for end in (found.low, found.high):
        assert compare_means((1 + end) * first, second, user).p_value == pytest.approx(0.05, abs=1e-6)
    assert compare_means((1 + found.low - 0.01) * first, second, user).p_value < 0.05
    assert compare_means((1 + found.high + 0.01) * first, second, user).p_value < 0.05
    wider = relative_difference(first, second, user, level=0.99)
    assert wider.low < found.low < found.high < wider.high


@pytest.mark.parametrize("seed", range(30))
def test_relative_and_absolute_agree(seed: int) -> None:
    """Both intervals exclude 0 or neither does; exchanged sides have the reciprocal ratio's interval."""
    first, second, user = hits(n_users=30, seed=seed)
    difference = compare_means(first, second, user)
    there, back = relative_difference(first, second, user), relative_difference(second, first, user)
    assert (difference.low > 0) == (there.low > 0)
    assert (difference.high < 0) == (there.high < 0)
    assert there.low <= there.mean <= there.high
    expected = (1 / (1 + back.high) - 1, 1 / (1 + back.low) - 1)
    assert (there.low, there.high) == pytest.approx(expected, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_the_relative_interval_spans_all_ratios_that_are_not_told_apart(n_seeds: int) -> None:
    """Of rare hits too; it is bounded above exactly where the data tell A from 0, and tight where it is."""
    n_unbounded = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        user = np.arange(12)
        rare = generator.random(12) ** generator.integers(1, 9)
        first, second = (np.where(generator.random((n_seeds, 12)) < rare, generator.random(12), 0) for _ in range(2))
        found = relative_difference(first, second, user)
        if found is None:
            continue
        told = compare_means(np.zeros_like(second), first, user).p_value < 0.05
        assert math.isfinite(found.high) == told
        n_unbounded += not told
        ratios = np.concatenate([np.linspace(0, 4, 60), np.geomspace(4, 1e4, 20)])
        accepted = [ratio for ratio in ratios if compare_means(ratio * first, second, user).p_value > 0.0501]
        assert all(found.low - 1e-9 <= ratio - 1 <= found.high + 1e-9 for ratio in accepted)
        excludes = compare_means(first, second, user).p_value < 0.05
        if told and excludes != (found.low > 0 or found.high < 0):
            raise AssertionError(seed)
    assert 10 < n_unbounded < 50


@pytest.mark.parametrize("seed", range(60))
def test_sides_that_agree_have_no_difference(seed: int) -> None:
    """In every seed and query: what rounding leaves of their variance is no variance."""
    generator = np.random.default_rng(seed)
    values = np.repeat([generator.random(18) if seed % 2 else generator.integers(0, 2, 18) * 1.0], 3, axis=0)
    user = np.arange(18)
    found = compare_means(values, values, user)
    assert (found.effect, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert 1 <= found.degrees_of_freedom <= 17
    relative = relative_difference(values, values, user)
    assert relative is None or (relative.mean, relative.low, relative.high) == (0, 0, 0)


def test_a_ratio_of_one_is_in_the_relative_interval_wherever_no_difference_is_told() -> None:
    """And where one is told, both intervals exclude 0, but for few: there the accepted ratios are two pieces."""
    disagree = 0
    for seed in range(400):
        generator = np.random.default_rng(seed)
        first = generator.random((1, 12))
        second = generator.choice([0.5, 1.0, 2.0]) * generator.random((2, 12)) * generator.random((2, 1))
        differs = compare_means(first, second, np.arange(12)).p_value < 0.05
        found = relative_difference(first, second, np.arange(12))
        excludes = found.low > 0 or found.high < 0
        assert differs or not excludes
        disagree += differs != excludes
    assert disagree <= 4


def test_ratios_in_two_pieces() -> None:
    """A user has most of both sides. B is told from some multiples of A, but not from the largest: A may be 0."""
    user, first, second = np.arange(7), np.array([[0.1, 1 / 6, 1 / 6, 0, 0, 1, 0]]), np.eye(7)[[5]]
    accepted = [compare_means(ratio * first, second, user).p_value > 0.05 for ratio in (0.5, 1.15, 1e3)]
    assert accepted == [True, False, True]
    found = relative_difference(first, second, user)
    assert (found.low, found.high) == (-1, math.inf)


def test_relative_to_little_or_nothing() -> None:
    """No interval above 0 for what may be 0; none at all for 0; a point where nothing varies; -100 % for no hits."""
    user = np.arange(30)
    nothing, once, always = np.zeros((2, 30)), np.eye(1, 30).repeat(2, axis=0), np.ones((2, 30))
    assert relative_difference(nothing, once, user) is None
    found = relative_difference(once, always, user)
    assert (found.mean, found.high) == (pytest.approx(29), math.inf)
    assert found.low > 0
    found = relative_difference(once, np.roll(once, 5), user)
    assert (found.low, found.mean, found.high) == (-1, pytest.approx(0), math.inf)
    found = relative_difference(always, 1.5 * always, user)
    assert (found.low, found.mean, found.high) == (0.5, 0.5, 0.5)
    found = relative_difference(always, nothing, user)
    assert (found.low, found.mean, found.high) == (-1, -1, -1)


# ---------------------------------------------------------------------------------------------------- effect size


def test_effect_size_is_cohens() -> None:
    """One query a user: mean over standard deviation of the differences; the interval excludes 0 where p < .05."""
    generator = np.random.default_rng(3)
    first, second = generator.normal([[0], [0.4]], size=(2, 50))
    found = effect_size(first[None], second[None], np.arange(50))
    apart = second - first
    assert found.mean == pytest.approx(apart.mean() / apart.std(ddof=1))
    half = stats.t.ppf(0.975, 49) * np.sqrt(1 / 50 + found.mean**2 / 98)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))
    repeated = effect_size(first.repeat(3)[None], second.repeat(3)[None], np.arange(50).repeat(3))
    assert (repeated.low, repeated.high) == pytest.approx((found.low, found.high))


def test_effect_size_where_users_do_not_differ() -> None:
    user = np.arange(9)
    assert effect_size(np.ones((2, 9)), np.ones((2, 9)), user).mean == 0
    assert effect_size(np.ones((2, 9)), np.zeros((2, 9)), user).mean == -math.inf


def test_the_interval_of_the_effect_size_covers() -> None:
    """Normal differences with d = .5, 40 users: it misses in about 5 % of 1,000 samples."""
    generator = np.random.default_rng(4)
    missed = 0
    for _ in range(1000):
        found = effect_size(np.zeros((1, 40)), 0.5 + generator.normal(size=(1, 40)), np.arange(40))
        missed += not found.low <= 0.5 <= found.high
    assert 0.03 <= missed / 1000 <= 0.075


# ---------------------------------------------------------------------------------------------------- signs


def users_sums(first: np.ndarray, second: np.ndarray, user: np.ndarray) -> np.ndarray:
    return np.array([(second - first)[:, user == one].sum() for one in np.unique(user)])


@pytest.mark.parametrize("seed", range(5))
def test_sign_flips_are_scipys(seed: int) -> None:
    """Few users: all exchanges, exactly; many: about what SciPy draws, and the same for the same seed."""
    few = hits(n_users=9, seed=seed)
    exact = stats.permutation_test((users_sums(*few),), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_test(*few) == pytest.approx(exact.pvalue)
    many = hits(n_users=60, seed=seed)
    drawn = stats.permutation_test(
        (users_sums(*many),), lambda x, axis: x.sum(axis), permutation_type="samples", n_resamples=9999, vectorized=True
    )
    assert sign_flip_test(*many) == pytest.approx(drawn.pvalue, abs=0.025)
    assert sign_flip_test(*many, seed=7) == sign_flip_test(*many, seed=7)


def test_users_without_a_difference_leave_the_flips_exact() -> None:
    """Five of a thousand users differ, all one way: 2 of 32 exchanges are as extreme."""
    first, users = np.zeros((1, 1000)), np.arange(1000)
    second = first + (users < 5) * 0.1
    assert sign_flip_test(first, second, users) == 2 / 32


def test_drawn_flips_agree_with_all_flips() -> None:
    """Twelve users: 4,096 exchanges, of which 999 are drawn."""
    case = hits(n_users=12, seed=3)
    assert sign_flip_test(*case, flips=999) == pytest.approx(sign_flip_test(*case), abs=0.05)


def test_sign_flips_at_the_ends() -> None:
    """Equal sides: 1; a difference in all of many users: the least that can be said."""
    first, second, user = hits(n_users=200)
    assert sign_flip_test(first, first, user) == 1
    assert sign_flip_test(np.zeros_like(first), second + 0.1, user) == 1 / 10_000
    # Sums of thirds, which rounding must not tell apart: every exchange is as extreme as the observed one.
    assert sign_flip_test(np.zeros((3, 1)).repeat(2, 1), np.full((3, 2), [[0.1, -0.1]]), np.arange(2)) == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_sign_test_is_binomial(seed: int) -> None:
    """SciPy's, of users with more and with less; ties are left out."""
    case = hits(n_users=30, seed=seed)
    sums = users_sums(*case).round(9)
    found = sign_test(*case)
    assert (found.higher, found.lower) == ((sums > 0).sum(), (sums < 0).sum())
    assert found.p_value == pytest.approx(stats.binomtest(found.higher, found.higher + found.lower).pvalue)
    back = sign_test(case[1], case[0], case[2])
    assert (back.higher, back.lower, back.p_value) == (found.lower, found.higher, found.p_value)


def test_the_sign_test_of_equal_sides() -> None:
    first, _, user = hits()
    found = sign_test(first, first, user)
    assert (found.higher, found.lower, found.p_value) == (0, 0, 1)


# ---------------------------------------------------------------------------------------------------- equivalence


def test_equivalence_is_two_one_sided_tests() -> None:
    """One seed, one query a user, no doubt about A: two t tests against ± the margin, by SciPy."""
    generator = np.random.default_rng(3)
    first, users = np.full((1, 200), 0.5), np.arange(200)
    second = first + generator.normal(0.001, 0.02, 200)
    # The two tests reject at 5 % where the interval of 90 % is within, which that of 95 % need not be.
    between = (abs(second.mean() - 0.5) + 1.8 * stats.sem(second[0])) / 0.5
    for margin in (0.002, 0.005, between, 0.008, 0.02):
        p_values = [
            stats.ttest_1samp(second[0], 0.5 * (1 - margin), alternative="greater").pvalue,
            stats.ttest_1samp(second[0], 0.5 * (1 + margin), alternative="less").pvalue,
        ]
        assert is_equivalent(first, second, users, margin) == (max(p_values) < 0.05)
        assert compare_means(first, second, users).is_within(0.5 * margin) == (max(p_values) < 0.05)


def test_what_is_detectable_is_found_in_80_percent() -> None:
    """Repetitions with a true difference of the size that the first says."""
    generator, users = np.random.default_rng(4), np.arange(100)
    zero = np.zeros((1, 100))
    size = compare_means(zero, generator.normal(0, 1, (1, 100)), users).detectable
    assert size == pytest.approx(0.28, abs=0.05)
    found = [compare_means(zero, generator.normal(0.2830, 1, (1, 100)), users).p_value < 0.05 for _ in range(300)]
    assert 0.73 < np.mean(found) < 0.87


# ---------------------------------------------------------------------------------------------------- bootstrap


def test_the_bootstrap_of_users_is_close_to_students() -> None:
    """One seed a side and many users: the same interval but for chance; repeatable; narrower at a lower level."""
    first, second, user = hits(n_users=400, n_seeds=1)
    found, expected = bootstrap_difference(first, second, user), compare_means(first, second, user)
    assert found.mean == pytest.approx(expected.effect)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.1 * expected.standard_error)
    assert found == bootstrap_difference(first, second, user)
    assert found != bootstrap_difference(first, second, user, seed=1)
    assert bootstrap_difference(first, second, user, level=0.5).half_width < 0.5 * found.half_width


def test_a_difference_that_all_queries_share_is_certain() -> None:
    """However many queries the users of a sample bring."""
    first, _, user = hits(n_seeds=1)
    found = bootstrap_difference(first, first + 0.25, user)
    assert (found.mean, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))


def test_few_seeds_are_not_understated() -> None:
    """Users all alike: Welch's interval over the seeds, of which resampling shows half with two."""
    first, second = np.array([0.0, 0.2]), np.array([0.5, 0.9])
    expected = stats.ttest_ind(second, first, equal_var=False).confidence_interval()
    found = bootstrap_difference(*(side[:, None].repeat(50, 1) for side in (first, second)), np.arange(50))
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=0.3)


def test_metrics_of_all_lists_are_compared_user_by_user_and_seed_by_seed() -> None:
    """Of equal sides nothing varies; of users who are all alike the seeds do, as in Welch's test by SciPy."""
    generator, users = np.random.default_rng(5), np.arange(30)
    lists = generator.integers(1, 40, (1, 30, 4))
    _, same = compare_counts("ItemCoverage@4", lists, lists, users, 41)
    assert (same.effect, same.low, same.high, same.p_value, same.standard_error) == (0, 0, 0, 1, 0)

    def alike(lengths: list[int]) -> np.ndarray:
        """Returns lists of so many items, the same of every user of a seed."""
        return np.stack([np.where(np.arange(9) < n, np.arange(1, 10), 0) * np.ones((30, 1), int) for n in lengths])

    first, second = [2, 4, 5], [5, 9]
    expected = stats.ttest_ind(np.array(second) / 41, np.array(first) / 41, equal_var=False)
    means, found = compare_counts("ItemCoverage@9", alike(first), alike(second), users, 41)
    assert means == pytest.approx((np.mean(first) / 41, np.mean(second) / 41))
    assert found.effect == pytest.approx(means[1] - means[0])
    assert (found.p_value, found.degrees_of_freedom) == pytest.approx((expected.pvalue, expected.df))
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.over_seeds


# ---------------------------------------------------------------------------------------------------- coverage


@pytest.fixture(scope="module")
def coverage() -> ModuleType:
    """The script that measures coverage."""
    spec = importlib.util.spec_from_file_location("coverage_of_tests", _SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seeds", [(2, 2), (5, 5)])
@pytest.mark.parametrize("shares", [(1, 0, 0), (0, 1, 0.02), (1 / 3, 1 / 3, 1 / 3)])
def test_means_are_covered(coverage: ModuleType, seeds: tuple[int, int], shares: tuple[float, ...]) -> None:
    """t and bootstrap miss the truth in 5 % or fewer; 300 repetitions have a standard error of 1.3 %."""
    row = coverage.of_means(coverage.Means(*seeds, 60, *shares), 300)
    assert row["t_%"] <= 9
    assert row["bootstrap_%"] <= 10
    if shares == (1, 0, 0):  # what is a user's is neither under- nor overstated
        assert min(row["t_%"], row["bootstrap_%"], row["flips_%"]) >= 1
        assert row["flips_%"] <= 9
    if shares == (0, 1, 0.02):  # flips take the seeds as given
        assert row["flips_%"] > 50


@pytest.mark.parametrize("sizes", ["one", "geometric", "lognormal"])
@pytest.mark.parametrize("level", [-1.5, 0.5])
def test_cells_are_covered(coverage: ModuleType, sizes: str, level: float) -> None:
    """Difference and relative difference of two models in a cell of 100 users."""
    row = coverage.of_cells(coverage.Hits(100, sizes, level, 0.3), 200)
    assert 0.5 <= row["t_%"] <= 11
    assert 0.5 <= row["relative_%"] <= 11


def test_cells_where_intervals_fail_are_marked(coverage: ModuleType) -> None:
    """Ten users and few hits: the interval of the difference is often a point at 0."""
    row = coverage.of_cells(coverage.Hits(10, "one", -3.0, 0.3), 100)
    assert row["t_%"] > 15
    assert row["small_%"] == 100


@pytest.mark.parametrize("n_seeds", [2, 5])
def test_a_model_does_not_differ_from_itself(coverage: ModuleType, n_seeds: int) -> None:
    """Two sets of seeds that matter: t and bootstrap say so rarely, flips often."""
    row = coverage.of_null(coverage.Hits(200, "one", -0.5, 0.0, 0.0, 0.1, n_seeds), 250)
    assert row["t_%"] <= 9
    assert row["bootstrap_%"] <= 10
    assert row["flips_%"] > 9
    quiet = coverage.of_null(coverage.Hits(200, "one", -0.5, 0.0, 0.0, 0.0, n_seeds), 250)
    assert max(quiet["t_%"], quiet["bootstrap_%"], quiet["flips_%"], quiet["signs_%"]) <= 10


@pytest.mark.parametrize("n_seeds", [2, 3])
def test_printed_intervals_hold_with_few_seeds(coverage: ModuleType, n_seeds: int) -> None:
    """Where seeds matter most; the standard error is 1.5 %."""
    row = coverage.of_printed(coverage.Hits(60, "one", -0.5, 0.0, 0.3, 0.3, n_seeds), 200)
    assert max(row[f"{name}_%"] for name in ("mean", "difference", "relative")) <= 10


def test_no_interval_is_wider_than_one_seed_more_can_tell() -> None:
    """Sides with equal means a user, whose seeds disagree about each: the formula alone gives next to no freedom."""
    generator = np.random.default_rng(0)
    noise = generator.normal(size=40)
    noise += 1e-3 - noise.mean()
    first = np.stack([noise, -noise])
    found = compare_means(first, -first, np.arange(40))
    assert found.effect == pytest.approx(0, abs=1e-12)
    assert found.degrees_of_freedom == 1
    assert 0 < found.high - found.low < 100 * found.standard_error


def test_pooling_the_seeds_would_reject_too_often(coverage: ModuleType) -> None:
    """Why degrees of freedom are Satterthwaite's: models' seeds differ in variance."""
    row = coverage.of_pooled(coverage.Pooled(2, 1.0, 4.0), 1000)
    assert row["satterthwaite_%"] <= 6
    assert min(row["pooled_pair_%"], row["pooled_table_%"]) > 6


@pytest.mark.slow
def test_the_script(tmp_path: Path) -> None:
    """Writes a row a case."""
    command = [sys.executable, str(_SCRIPT), "--repetitions", "2", "--output", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    for name in ("means", "cells", "null", "printed", "pooled"):
        table = pd.read_csv(tmp_path / f"{name}.csv")
        (rates, *_) = (table[column] for column in table if column.endswith("_%"))
        assert rates.between(0, 100).all()
