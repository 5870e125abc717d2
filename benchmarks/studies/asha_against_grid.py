"""What successive halving finds beside the full grid, and for how many epochs.

`python benchmarks/studies/asha_against_grid.py` runs configs/sweeps/ml-100k-grid.yaml and ml-100k-asha.yaml (or goes on
with them), and writes results/asha_against_grid/summary.csv: epochs trained by both, the validation score of both
choices with the seed that both used, the place of ASHA's choice in the grid, and the noise of that choice's score over
seeds.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

import pandas as pd

from mos_recbole.analysis.selection import compare_configurations, finished_runs, validation_scores
from mos_recbole.results import read_plan, read_trials

ROOT = Path(__file__).parents[2]


def epochs_trained(folder: Path, seed: int) -> int:
    """Returns the epochs that all trials of a sweep with this seed have trained."""
    logs = [trial.training_log(folder) for trial in read_trials(folder) if trial.seed == seed]
    return sum(len(log) for log in logs if log is not None)


def summarise(grid: Path, asha: Path) -> dict[str, object]:
    """Returns the figures of both sweeps, which have the same configurations of one model on one data set."""
    plan = read_plan(grid)
    seed = plan.seeds[0]
    (grid_choice,), (asha_choice,) = (
        compare_configurations(plan, read_trials(folder), validation_scores(finished_runs(folder, trials), plan.metric))
        for folder in (grid, asha)
        for trials in [read_trials(folder)]
    )
    by_parameters = {str(one.parameters): (place, score) for place, (one, score) in enumerate(grid_choice.ranked, 1)}
    best, best_score = grid_choice.ranked[0]
    chosen = asha_choice.ranked[0][0]
    place, chosen_score = by_parameters[str(chosen.parameters)]
    runs = finished_runs(asha, chosen.trials)
    over_seeds = [run.valid[plan.metric].value for run in runs.values()]
    full, halved = epochs_trained(grid, seed), epochs_trained(asha, seed)
    return {
        "configurations": len(grid_choice.configurations),
        "epochs of the grid": full,
        "epochs of ASHA": halved,
        "share of the epochs": halved / full,
        "grid's best": str(best.parameters),
        f"its valid {plan.metric}": best_score,
        "ASHA's choice": str(chosen.parameters),
        f"its valid {plan.metric} in the grid": chosen_score,
        "its place in the grid": place,
        "shortfall": best_score - chosen_score,
        "standard deviation of one seed's score": statistics.stdev(over_seeds),
        "seeds": len(over_seeds),
    }


def main() -> None:
    """Runs both sweeps and writes the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results"), metavar="FOLDER", help="(default: results)")
    options = parser.parse_args()
    for name in ("ml-100k-grid", "ml-100k-asha"):
        file = ROOT / "configs" / "sweeps" / f"{name}.yaml"
        command = [sys.executable, str(ROOT / "benchmarks" / "sweep.py"), str(file), "--output", str(options.output)]
        subprocess.run(command, check=True)
    figures = summarise(options.output / "ml-100k-grid", options.output / "ml-100k-asha")
    folder = options.output / "asha_against_grid"
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(figures.items(), columns=["figure", "value"])
    table.to_csv(folder / "summary.csv", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
