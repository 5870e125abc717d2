"""What a sweep adds to its trials: many short trials under Ray Tune.

    OMP_NUM_THREADS=1 python benchmarks/speed/sweep_overhead.py --trials 100 1000

A trial is an epoch of BPR on ml-100k, about a second. For each number of trials the whole command runs, from its
imports to its last table. What it takes beyond the trials' own time, divided by their number, is the overhead. Writes
results/sweep_overhead/.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
import yaml
from measure import device_name, versions

from mos_recbole.results import find_records

SWEEP = {
    "models": ["BPR"],
    "datasets": ["ml-100k"],
    "settings": {"epochs": 1, "embedding_size": 8},
    "seeds": [1],
    "metric": "NDCG@10",
}


def measure(n_trials: int, concurrent: int, folder: Path) -> dict[str, float]:
    """Returns the times of a sweep and of its trials, in seconds."""
    file = folder / f"{n_trials}.yaml"
    rates = [1e-3 + 1e-5 * number for number in range(n_trials)]
    file.write_text(yaml.safe_dump(SWEEP | {"space": {"learning_rate": {"grid": rates}}}), encoding="utf-8")
    command = [sys.executable, "-m", "mos_recbole", "sweep", str(file), "--cpus-per-trial", "1"]
    command += ["--max-concurrent", str(concurrent), "--output", str(folder / "results"), "--quiet"]
    started = time.perf_counter()
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    # The driver's own time, without that of its children: Ray's processes and the trials.
    _, status, usage = os.wait4(driver.pid, 0)
    wall = time.perf_counter() - started
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    trials = [record.wall_seconds for record in find_records(folder / "results" / file.stem)]
    assert len(trials) == n_trials
    return {
        "trials": n_trials,
        "concurrent": concurrent,
        "seconds": wall,
        "seconds of a trial": sum(trials) / n_trials,
        "overhead, seconds a trial": (wall * concurrent - sum(trials)) / n_trials,
        "driver, processor-seconds a trial": (usage.ru_utime + usage.ru_stime) / n_trials,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--concurrent", type=int, default=2, help="trials at a time (default: 2)")
    parser.add_argument("--output", type=Path, default=Path("results/sweep_overhead"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for n_trials in options.trials:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(n_trials, options.concurrent, Path(folder)))
        table = pd.DataFrame(rows).assign(device=device_name(torch.device("cpu")), versions=versions())
        table.to_csv(options.output / "sweep_overhead.csv", index=False, float_format="%.4g")
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".3g"))


if __name__ == "__main__":
    main()
