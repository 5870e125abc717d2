"""How often a model is called different from itself: runs of one configuration, some seeds against other seeds.

    python benchmarks/studies/null_comparisons.py results/article/ml-100k/heads \
        --output results/null_comparisons/ml-100k.csv

Of every configuration with four seeds or more, all pairs of single seeds (as a study with one seed a model compares,
and as the article did) and all divisions of the seeds into two groups of two or more are compared by `compare_means`
and by sign flips. What differs is chance alone, so that a test at the 5 % level should reject in about 5 % of the
comparisons; those of one configuration share runs, and are not independent. Writes a row a configuration and prints the
sums.
"""

import argparse
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pandas as pd

from mos_recbole.analysis import aligned_outcomes, group_by_configuration, labels, metric_values, user_numbers
from mos_recbole.evaluation import compare_means, sign_flip_test
from mos_recbole.results import find_records

LEVEL = 0.05
FLIPS = 999


def divisions(n_seeds: int) -> Iterator[tuple[str, list[int], list[int]]]:
    """Yields seeds against other seeds, with the kind of the comparison."""
    seeds = range(n_seeds)
    for one, other in combinations(seeds, 2):
        yield "one seed a side", [one], [other]
    for size in range(2, n_seeds // 2 + 1):
        for chosen in combinations(seeds, size):
            rest = [seed for seed in seeds if seed not in chosen]
            # Halves come twice, once from either side.
            if len(rest) > size or chosen[0] == 0:
                yield "several seeds a side", list(chosen), rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="RESULTS")
    parser.add_argument("--metric", default="Recall@100")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    groups = [
        runs
        for folder in options.folders
        for runs in group_by_configuration(find_records(folder))
        if len({run.seed for run in runs}) >= 4
    ]
    if not groups:
        parser.error("no configuration has four seeds or more")
    rows = []
    datasets = dict.fromkeys(runs[0].dataset for runs in groups)
    rivals = [[runs for runs in groups if runs[0].dataset == dataset] for dataset in datasets]
    for label, runs in (pair for of_dataset in rivals for pair in zip(labels(of_dataset), of_dataset, strict=True)):
        tables = aligned_outcomes(runs)
        values_SQ, users = metric_values(tables, options.metric), user_numbers(tables[0])
        for kind, first, second in divisions(len(runs)):
            sides = values_SQ[first], values_SQ[second]
            difference = compare_means(*sides, users)
            rows.append(
                {
                    "dataset": runs[0].dataset,
                    "configuration": label,
                    "kind": kind,
                    "comparisons": 1,
                    "rejected by t, %": 100 * (difference.p_value < LEVEL),
                    "rejected by sign flips, %": 100 * (sign_flip_test(*sides, users, flips=FLIPS) < LEVEL),
                    "largest difference": abs(difference.effect),
                }
            )
    table = pd.DataFrame(rows)
    sums = {"comparisons": "sum", "largest difference": "max"} | {
        column: "mean" for column in table if str(column).startswith("rejected")
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    table.groupby(["dataset", "configuration", "kind"], sort=False).agg(sums).reset_index().round(4).to_csv(
        options.output, index=False, lineterminator="\n"
    )
    print(table.groupby(["dataset", "kind"]).agg(sums).round(4).to_string())


if __name__ == "__main__":
    main()
