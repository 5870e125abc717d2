"""How often the intervals and tests of `mos-recbole compare` and `slice` err, on simulated models with known truth.

`python benchmarks/studies/coverage.py` writes to results/coverage:

    means.csv  normal outcomes; the difference is 0; users, seeds and their interaction contribute known variances
    cells.csv  hits of rare, middling and frequent targets in cells with few and many users, who have one query each or
               unequal numbers; the second model is no different or better; also the relative difference, by Fieller's
               interval and by the delta method, and the cells that tables mark as small
    null.csv   hits of one and the same model with two sets of seeds, of which some matter and some do not
    printed.csv  the same hits: every interval that tables print, with two, three and five seeds
    pooled.csv  two models whose seeds alone matter, of equal and of different variances: the degrees of freedom by
               Satterthwaite, pooled over the two, and pooled over eight models of a table, four of either variance

`--parts printed pooled` runs these alone.

Percentages are of repetitions in which a 95 % interval misses the truth, or a test at the 5 % level rejects it: nominal
are 5. The standard error of a percentage around 5 is .7 for 1,000 repetitions, 1.0 for 500.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from mos_recbole.analysis.slices import FEWEST_THAT_DIFFER, FEWEST_USERS
from mos_recbole.evaluation import (
    bootstrap_difference,
    compare_counts,
    compare_means,
    counts_interval,
    effective_number,
    mean_interval,
    relative_difference,
    sign_flip_test,
    sign_test,
)

RESAMPLES = 499

# ---------------------------------------------------------------------------------------------------- normal outcomes


@dataclass(frozen=True)
class Means:
    """Two simulated models. Of the difference of their means, `users`, `seeds` and `interaction` are variances."""

    seeds_A: int
    seeds_B: int
    n_users: int
    users: float
    seeds: float
    interaction: float


SEEDS = ((1, 1), (2, 2), (3, 3), (5, 5), (1, 5), (2, 10))
SHARES = ((1, 0, 0), (0, 1, 0.02), (0, 0, 1), (0.5, 0, 0.5), (1 / 3, 1 / 3, 1 / 3), (0, 0.5, 0.5), (0.2, 0.2, 0.6))
MEANS = [
    Means(*seeds, n_users, *shares)
    for n_users, seeds, shares in product((60, 300), SEEDS, SHARES)
    if seeds != (1, 1) or shares == (1, 0, 0)
]


def of_means(case: Means, repetitions: int) -> dict[str, float]:
    """Returns the case with the shares, in %, of intervals that miss and of tests that reject the truth."""
    generator = _generator(case)
    # Small cases have users with 1 to 7 queries each, large ones one each.
    size_U = generator.integers(1, 8, case.n_users) if case.n_users < 150 else np.ones(case.n_users, int)
    user_Q = np.repeat(np.arange(case.n_users), size_U)
    # As many users of equal size give a mean over queries the same variance.
    users_alike = len(user_Q) ** 2 / (size_U**2).sum()

    def side(mean_U: np.ndarray, n_seeds: int, by_chance: bool) -> np.ndarray:
        of_seeds = generator.normal(size=(n_seeds, 1)) * np.sqrt(case.seeds / 2 * n_seeds)
        of_both = generator.normal(size=(n_seeds, case.n_users)) * np.sqrt(case.interaction / 2 * n_seeds * users_alike)
        return (mean_U + (of_seeds + of_both) * by_chance)[:, user_Q]

    wrong: Counter[str] = Counter()
    for _ in range(repetitions):
        mean_U = 3 * generator.normal(size=case.n_users)
        # A side with one seed stands for a model without chance, such as Pop.
        first_SQ = side(mean_U, case.seeds_A, case.seeds_A > 1)
        apart_U = generator.normal(size=case.n_users) * np.sqrt(case.users * users_alike)
        second_SQ = side(mean_U + apart_U, case.seeds_B, case.seeds_B > 1)
        wrong += _errors(first_SQ, second_SQ, user_Q, truth=0.0)
        wrong["flips"] += sign_flip_test(first_SQ, second_SQ, user_Q, flips=RESAMPLES) <= 0.05
    return _row(case, wrong, repetitions, ("t", "bootstrap", "flips"))


# ---------------------------------------------------------------------------------------------------- hits


@dataclass(frozen=True)
class Hits:
    """Two simulated models' hits: whether a score exceeds 0, which is the sum of normal parts.

    Attributes:
        n_seeds: of each side.
        sizes: of users: "one" query; "geometric" with mean 5; "lognormal", one user in 100 with 33 times the median.
        level: mean score of the first model; of the second it is `apart` more.
        differ: standard deviation of what users add to the second model's score alone.
        seed_deviation: of what a seed adds to all scores of a model.
    """

    n_users: int
    sizes: str
    level: float
    apart: float = 0.0
    differ: float = 0.3
    seed_deviation: float = 0.03
    n_seeds: int = 5


# Of users and of queries, which both models share; of seeds within users, and of seeds within queries.
_USERS, _QUERIES, _INTERACTION, _NOISE = 0.7, 1.0, 0.2, 0.7

CELLS = [
    Hits(n_users, sizes, level, apart)
    for n_users, sizes, level, apart in product(
        (20, 60, 200, 600), ("one", "geometric", "lognormal"), (-3.0, -1.5, 0.5), (0.0, 0.3)
    )
]
NULL = [
    Hits(n_users, sizes, -0.5, 0.0, 0.0, seed_deviation, n_seeds)
    for n_users, sizes, seed_deviation, n_seeds in product(
        (60, 600), ("one", "lognormal"), (0.0, 0.03, 0.1), (1, 2, 3, 5)
    )
]


def draw_hits(case: Hits, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns both sides' hits, float64 [seeds, Q], and the queries' users."""
    draw_sizes: dict[str, Callable[[], np.ndarray]] = {
        "one": lambda: np.ones(case.n_users, int),
        "geometric": lambda: generator.geometric(0.2, case.n_users),
        "lognormal": lambda: np.ceil(generator.lognormal(2, 1.5, case.n_users)).astype(int),
    }
    user_Q = np.repeat(np.arange(case.n_users), draw_sizes[case.sizes]())
    n_queries = len(user_Q)
    shared_Q = (_USERS * generator.normal(size=case.n_users))[user_Q] + _QUERIES * generator.normal(size=n_queries)
    apart_Q = case.apart + (case.differ * generator.normal(size=case.n_users))[user_Q]
    sides = [
        case.level
        + shared_Q
        + shift
        + case.seed_deviation * generator.normal(size=(case.n_seeds, 1))
        + (_INTERACTION * generator.normal(size=(case.n_seeds, case.n_users)))[:, user_Q]
        + _NOISE * generator.normal(size=(case.n_seeds, n_queries))
        for shift in (0.0, apart_Q)
    ]
    return (sides[0] > 0).astype(float), (sides[1] > 0).astype(float), user_Q


def true_means(case: Hits) -> tuple[float, float]:
    """Returns the means of both sides over all users and seeds."""
    variance = _USERS**2 + _QUERIES**2 + _INTERACTION**2 + _NOISE**2 + case.seed_deviation**2
    first = stats.norm.cdf(case.level / np.sqrt(variance))
    return first, stats.norm.cdf((case.level + case.apart) / np.sqrt(variance + case.differ**2))


def of_cells(case: Hits, repetitions: int) -> dict[str, float]:
    """Returns the case with the shares, in %, of intervals that miss; also among cells that are not marked as small."""
    generator = _generator(case)
    first, second = true_means(case)
    truth = second / first - 1
    wrong: Counter[str] = Counter()
    trusted = 0
    for _ in range(repetitions):
        first_SQ, second_SQ, user_Q = draw_hits(case, generator)
        errors = _errors(first_SQ, second_SQ, user_Q, truth=second - first)
        relative = relative_difference(first_SQ, second_SQ, user_Q)
        if relative is None:  # no hit of the first model: the table says so
            errors["undefined"] = 1
        else:
            errors["relative"] = not relative.low <= truth <= relative.high
            errors["unbounded"] = np.isinf(relative.high)
            # The delta method's standard error is that of B - (1 + relative) A, over the mean of A.
            scaled = compare_means((1 + relative.mean) * first_SQ, second_SQ, user_Q)
            quantile = special.stdtrit(scaled.degrees_of_freedom, 0.975)
            delta = quantile * scaled.standard_error / first_SQ.mean()
            errors["relative_delta"] = abs(relative.mean - truth) > delta
        signs = sign_test(first_SQ, second_SQ, user_Q)
        small = effective_number(np.bincount(user_Q)) < FEWEST_USERS or signs.higher + signs.lower < FEWEST_THAT_DIFFER
        wrong += errors
        if not small:
            trusted += 1
            wrong["t_not_small"] += errors["t"]
            wrong["relative_not_small"] += errors["relative"]
    row = _row(case, wrong, repetitions, ("t", "bootstrap", "relative", "relative_delta", "unbounded", "undefined"))
    among = max(trusted, 1)
    return row | {
        "mean_A": first,
        "true_relative_%": 100 * truth,
        "small_%": 100 - 100 * trusted / repetitions,
        **{f"{name}_%": 100 * wrong[name] / among for name in ("t_not_small", "relative_not_small") if trusted},
    }


def of_null(case: Hits, repetitions: int) -> dict[str, float]:
    """Returns the case with the shares, in %, of comparisons of a model with itself that are called significant."""
    generator = _generator(case)
    wrong: Counter[str] = Counter()
    for _ in range(repetitions):
        first_SQ, second_SQ, user_Q = draw_hits(case, generator)
        wrong += _errors(first_SQ, second_SQ, user_Q, truth=0.0)
        wrong["flips"] += sign_flip_test(first_SQ, second_SQ, user_Q, flips=RESAMPLES) <= 0.05
        wrong["signs"] += sign_test(first_SQ, second_SQ, user_Q).p_value <= 0.05
    return _row(case, wrong, repetitions, ("t", "bootstrap", "flips", "signs"))


# ---------------------------------------------------------------------------------------------------- printed

_PRINTED_USERS: tuple[tuple[int, str], ...] = ((60, "one"), (600, "one"), (60, "lognormal"))
PRINTED = [
    Hits(n_users, sizes, -0.5, 0.0, 0.3, seed_deviation, n_seeds)
    for (n_users, sizes), seed_deviation, n_seeds in product(_PRINTED_USERS, (0.0, 0.1, 0.3), (2, 3, 5))
]
_ITEMS, _LISTS = 80, 5


def of_printed(case: Hits, repetitions: int) -> dict[str, float]:
    """Returns the case with the shares, in %, of printed intervals that miss: means, differences, ratios, and
    means and differences of coverage, whose truth is the mean of all repetitions."""
    generator = _generator(case)
    first, second = true_means(case)
    wrong: Counter[str] = Counter()
    coverage = []
    for repetition in range(repetitions):
        first_SQ, second_SQ, user_Q = draw_hits(case, generator)
        mean = mean_interval(second_SQ, user_Q)
        difference = compare_means(first_SQ, second_SQ, user_Q)
        relative = relative_difference(first_SQ, second_SQ, user_Q)
        wrong["mean"] += not mean.low <= second <= mean.high
        wrong["difference"] += not difference.low <= second - first <= difference.high
        wrong["relative"] += relative is None or not relative.low <= second / first - 1 <= relative.high
        if case.sizes == "one" and repetition < repetitions // 5:
            coverage.append(_coverage_intervals(case, generator))
    row = _row(case, wrong, repetitions, ("mean", "difference", "relative"))
    if coverage:
        low, mean, high, low_of_difference, high_of_difference = np.array(coverage).T
        row["coverage_%"] = 100 * float(((mean.mean() < low) | (mean.mean() > high)).mean())
        row["coverage_difference_%"] = 100 * float(((low_of_difference > 0) | (high_of_difference < 0)).mean())
    return row


def _coverage_intervals(case: Hits, generator: np.random.Generator) -> tuple[float, ...]:
    """Returns the interval of a model's item coverage with its mean, and that of the difference from the same model."""
    popularity = 1 / np.arange(1, _ITEMS)

    def side() -> np.ndarray:
        seeds = []
        for _ in range(case.n_seeds):
            score_V = np.log(popularity) + 3 * case.seed_deviation * generator.normal(size=_ITEMS - 1)
            score_UV = score_V + generator.gumbel(size=(case.n_users, _ITEMS - 1))
            seeds.append(1 + np.argsort(-score_UV, axis=1)[:, :_LISTS])
        return np.stack(seeds)

    users, (first, second) = np.arange(case.n_users), (side(), side())
    own = counts_interval("ItemCoverage@5", first, users, _ITEMS)
    _, difference = compare_counts("ItemCoverage@5", first, second, users, _ITEMS)
    return own.low, own.mean, own.high, difference.low, difference.high


@dataclass(frozen=True)
class Pooled:
    """Two models whose seeds alone matter, with their standard deviations."""

    n_seeds: int
    deviation_A: float
    deviation_B: float


POOLED = [Pooled(n, 1.0, other) for n, other in product((2, 3, 5), (1.0, 1.5, 2.0, 4.0))]


def of_pooled(case: Pooled, repetitions: int) -> dict[str, float]:
    """Returns the case with the shares, in %, of tests that reject the truth, by how degrees of freedom are counted."""
    generator, n = _generator(case), case.n_seeds
    deviation_G = np.array([case.deviation_A, case.deviation_B] * 4)
    values = generator.normal(size=(20 * repetitions, 8, n)) * deviation_G[:, None]
    mean, variance = values.mean(axis=2), values.var(axis=2, ddof=1)
    pair = variance[:, :2] / n
    error = np.sqrt(pair.sum(axis=1))
    t = np.abs(mean[:, 1] - mean[:, 0])
    freedom = pair.sum(axis=1) ** 2 / (pair**2 / (n - 1)).sum(axis=1)
    p_values = {
        "satterthwaite": 2 * stats.t.sf(t / error, freedom),
        "pooled_pair": 2 * stats.t.sf(t / error, 2 * (n - 1)),
        "pooled_table": 2 * stats.t.sf(t / np.sqrt(2 * variance.mean(axis=1) / n), 8 * (n - 1)),
    }
    rates = {f"{name}_%": 100 * float((p <= 0.05).mean()) for name, p in p_values.items()}
    return asdict(case) | {"repetitions": len(t)} | rates


# ---------------------------------------------------------------------------------------------------- all


def _errors(first_SQ: np.ndarray, second_SQ: np.ndarray, user_Q: np.ndarray, truth: float) -> Counter[str]:
    interval = compare_means(first_SQ, second_SQ, user_Q)
    resampled = bootstrap_difference(first_SQ, second_SQ, user_Q, resamples=RESAMPLES)
    return Counter(t=not interval.low <= truth <= interval.high, bootstrap=not resampled.low <= truth <= resampled.high)


def _generator(case: Means | Hits | Pooled) -> np.random.Generator:
    return np.random.default_rng([*repr(case).encode()])


def _row(case: Means | Hits, wrong: Counter[str], repetitions: int, names: tuple[str, ...]) -> dict[str, float]:
    return (
        asdict(case)
        | {"repetitions": repetitions}
        | {f"{name}_%": 100 * int(wrong[name]) / repetitions for name in names}
    )


_PARTS: dict[str, tuple[Callable[..., dict[str, float]], Sequence[Any], int]] = {
    "means": (of_means, MEANS, 2),
    "null": (of_null, NULL, 1),
    "cells": (of_cells, CELLS, 1),
    "printed": (of_printed, PRINTED, 2),
    "pooled": (of_pooled, POOLED, 2),
}


def main() -> None:
    """Runs all cases and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=500, help="of a case (default: 500); twice for means.csv")
    parser.add_argument("--output", type=Path, default=Path("results/coverage"), metavar="FOLDER")
    parser.add_argument("--parts", nargs="+", choices=list(_PARTS), default=list(_PARTS), help="default: all")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        for name in options.parts:
            simulate, cases, times = _PARTS[name]
            rows = pool.map(partial(simulate, repetitions=times * options.repetitions), cases)
            table = pd.DataFrame(rows).round(3)
            table.to_csv(options.output / f"{name}.csv", index=False)
            print(f"{name}.csv\n{table.to_string(index=False)}\n", flush=True)


if __name__ == "__main__":
    main()
