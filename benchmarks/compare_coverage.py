"""How often `mos-recbole compare` errs, on simulated models of which the truth is known: they do not differ.

`python benchmarks/compare_coverage.py` writes results/compare_coverage/coverage.csv: for numbers of seeds and users and
the shares of the difference's variance that are users', seeds' and their interaction's, in how many of 100 repetitions
the 95 % interval misses the truth. Nominal is 5. Of some cases also for the bootstrap of the tables' intervals.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from mos_recbole.evaluation import bootstrap_mean, compare_means

SEEDS = ((2, 2), (3, 3), (5, 5), (1, 5), (2, 10))
SHARES = ((1, 0, 0), (0, 1, 0.02), (0, 0, 1), (0.5, 0, 0.5), (1 / 3, 1 / 3, 1 / 3), (0, 0.5, 0.5), (0.2, 0.2, 0.6))


@dataclass(frozen=True)
class Case:
    """Two simulated models. Of the difference of their means, `users`, `seeds` and `interaction` are variances."""

    seeds_A: int
    seeds_B: int
    n_users: int
    users: float
    seeds: float
    interaction: float


def misses(case: Case, repetitions: int, bootstrap: bool) -> dict[str, float]:
    """Returns the case with the shares of intervals, in %, that miss the truth."""
    generator = np.random.default_rng([int(100 * number) for number in asdict(case).values()])
    # Small cases have users with 1 to 7 queries each, large ones one each.
    size_U = generator.integers(1, 8, case.n_users) if case.n_users < 150 else np.ones(case.n_users, int)
    user_Q = np.repeat(np.arange(case.n_users), size_U)
    # As many users of equal size give a mean over queries the same variance.
    users_alike = len(user_Q) ** 2 / (size_U**2).sum()

    def side(mean_U: np.ndarray, n_seeds: int, by_chance: bool) -> np.ndarray:
        of_seeds = generator.normal(size=(n_seeds, 1)) * np.sqrt(case.seeds / 2 * n_seeds)
        of_both = generator.normal(size=(n_seeds, case.n_users)) * np.sqrt(case.interaction / 2 * n_seeds * users_alike)
        return (mean_U + (of_seeds + of_both) * by_chance)[:, user_Q]

    missed = missed_by_bootstrap = 0
    for _ in range(repetitions):
        mean_U = 3 * generator.normal(size=case.n_users)
        # A side with one seed stands for a model without chance, such as Pop.
        first_SQ = side(mean_U, case.seeds_A, case.seeds_A > 1)
        apart_U = generator.normal(size=case.n_users) * np.sqrt(case.users * users_alike)
        second_SQ = side(mean_U + apart_U, case.seeds_B, True)
        difference = compare_means(first_SQ, second_SQ, user_Q)
        missed += not difference.low <= 0 <= difference.high
        if bootstrap:
            interval = bootstrap_mean(second_SQ - first_SQ, user_Q, resamples=500)
            missed_by_bootstrap += not interval.low <= 0 <= interval.high
    row = asdict(case) | {"repetitions": repetitions, "missed_%": 100 * missed / repetitions}
    return row | ({"missed_by_bootstrap_%": 100 * missed_by_bootstrap / repetitions} if bootstrap else {})


def main() -> None:
    """Runs all cases and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=2000, help="of each case (default: 2000)")
    parser.add_argument("--output", type=Path, default=Path("results/compare_coverage"), metavar="FOLDER")
    options = parser.parse_args()
    cases = [Case(*seeds, n_users, *shares) for n_users, seeds, shares in product((60, 300), SEEDS, SHARES)]
    # The bootstrap takes long; few repetitions of few cases show what it is like.
    by_bootstrap = [Case(n, n, 300, *shares) for n, shares in product((2, 3, 5), SHARES[1:6])]
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(misses, cases, [options.repetitions] * len(cases), [False] * len(cases)))
        count = max(1, options.repetitions // 8)
        rows += pool.map(misses, by_bootstrap, [count] * len(by_bootstrap), [True] * len(by_bootstrap))
    options.output.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows).round(3)
    table.to_csv(options.output / "coverage.csv", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
