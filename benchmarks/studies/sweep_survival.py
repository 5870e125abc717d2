"""Kills a sweep again and again, starts it with the same command, and compares what comes out.

    python benchmarks/studies/sweep_survival.py    # the quick sweep, killed three times
    python benchmarks/studies/sweep_survival.py my.yaml --kills 5 --seed 1 --epochs=5
    python benchmarks/studies/sweep_survival.py --undisturbed results/ml-100k-quick    # against a run

The sweep is run once undisturbed, and once killed by `kill -9`: the driver, a worker (a process that trains), the
driver, and so on. After a worker nothing is done, Ray Tune is to go on by itself; after the driver the same command is
given again at once, while processes of the killed one are still there. The moments are random: shares of all epochs of
the undisturbed sweep are drawn by --seed, and a kill comes within a second of when that many have been trained.

Compared are best.md, table.md, and trials.csv without its costs; and whether the files of runs that had finished before
a kill were touched, and how often each trial finished. Searches in which earlier trials decide about later ones (optuna
and asha) have no table to compare with.

Writes kills.csv, trials.csv and summary.md into --output; the sweeps are in its folders undisturbed/ and killed/.
Exit status 1 if anything differs.
"""

import argparse
import csv
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from mos_recbole.analysis import COST_COLUMNS
from mos_recbole.results import LOG_FILE, RECORD_FILE, RUNS_FOLDER, SWEEP_FILE, find_records, read_plan, read_trials

_SCRIPT = Path(__file__).parents[1] / "sweep.py"
_QUICK = Path(__file__).parents[2] / "configs" / "sweeps" / "ml-100k-quick.yaml"
_LOOK_EVERY = 0.05
# Files of a report that are the same, byte for byte, however often a sweep is repeated.
_SAME = ("best.md", "table.md")


@dataclass
class Watch:
    """What happens to the records of a sweep's runs.

    Attributes:
        folder: of the sweep.
        finishes: how often each run was seen to finish, by the run's name.
        kept: content and time of writing of all files of the runs that had finished at a kill.
    """

    folder: Path
    finishes: Counter[str] = field(default_factory=Counter)
    kept: dict[Path, tuple[int, bytes]] = field(default_factory=dict)
    _records: dict[str, tuple[int, int]] = field(default_factory=dict)

    def look(self) -> None:
        """Notes records that are new: a record that is written again is another file."""
        for path in (self.folder / RUNS_FOLDER).glob(f"*/{RECORD_FILE}"):
            found = path.stat()
            if self._records.get(path.parent.name) != (found.st_ino, found.st_mtime_ns):
                self._records[path.parent.name] = found.st_ino, found.st_mtime_ns
                self.finishes[path.parent.name] += 1

    def keep(self) -> None:
        """Notes the files of all runs that have finished so far; those noted before stay as they were."""
        for record in (self.folder / RUNS_FOLDER).glob(f"*/{RECORD_FILE}"):
            for path in record.parent.iterdir():
                if path.name != ".lock":
                    self.kept.setdefault(path, (path.stat().st_mtime_ns, path.read_bytes()))

    def touched(self) -> list[Path]:
        """Returns which of the noted files are no longer what they were."""
        return [
            path
            for path, (written, content) in self.kept.items()
            if not path.exists() or path.stat().st_mtime_ns != written or path.read_bytes() != content
        ]

    def epochs(self) -> int:
        """Returns how many epochs have been trained, by the training logs."""
        logs = (self.folder / RUNS_FOLDER).glob(f"*/{LOG_FILE}")
        return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in logs)


def start(file: Path, output: Path, rest: Sequence[str]) -> subprocess.Popen:
    """Starts the sweep."""
    command = [sys.executable, str(_SCRIPT), str(file), "--output", str(output), *rest]
    print(shlex.join(["python", *command[1:]]), file=sys.stderr, flush=True)
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def workers_of(driver: subprocess.Popen) -> list[psutil.Process]:
    """Returns the processes that train; Ray puts what an actor does into its command line."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            if any("ImplicitFunc" in part for part in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def run_undisturbed(file: Path, output: Path, rest: Sequence[str]) -> Path:
    """Returns the folder of the sweep after a run in one go."""
    if start(file, output, rest).wait():
        sys.exit("the undisturbed sweep failed")
    (plan,) = output.glob(f"*/{SWEEP_FILE}")
    return plan.parent


def run_killed(
    file: Path, output: Path, rest: Sequence[str], watch: Watch, moments: Sequence[int], generator: np.random.Generator
) -> list[dict[str, object]]:
    """Returns a row for each kill, after the sweep has come to its end.

    Args:
        file, output, rest: of the sweep.
        watch: of its folder.
        moments: numbers of trained epochs after which to kill.
        generator: for the time between an epoch's end and the kill, and the choice of a worker.
    """
    rows: list[dict[str, object]] = []
    began = time.monotonic()
    driver = start(file, output, rest)
    for number, moment in enumerate(moments):
        while watch.epochs() < moment and driver.poll() is None:
            watch.look()
            time.sleep(_LOOK_EVERY)
        time.sleep(float(generator.uniform(0, 1)))
        # A worker is there once a trial has begun.
        workers = workers_of(driver) if number % 2 else []
        while number % 2 and not workers and driver.poll() is None:
            watch.look()
            time.sleep(_LOOK_EVERY)
            workers = workers_of(driver)
        watch.look()
        watch.keep()
        if driver.poll() is not None:
            print(f"kill {number + 1}: too late, the sweep has ended", file=sys.stderr)
            break
        victim = workers[int(generator.integers(len(workers)))].pid if workers else driver.pid
        rows.append(
            {
                "kill": number + 1,
                "victim": "worker" if workers else "driver",
                "seconds": round(time.monotonic() - began, 1),
                "epochs": watch.epochs(),
                "finished_trials": len(watch.finishes),
            }
        )
        print(f"kill {rows[-1]}", file=sys.stderr, flush=True)
        os.kill(victim, signal.SIGKILL)
        if not workers:
            driver.wait()
            driver = start(file, output, rest)
    while driver.poll() is None:
        watch.look()
        time.sleep(_LOOK_EVERY)
    watch.look()
    if driver.returncode:
        print(f"the sweep ended with status {driver.returncode}", file=sys.stderr)
    return rows


def table_of(folder: Path) -> list[dict[str, str]]:
    """Returns trials.csv without the costs, in which failed attempts are counted too."""
    with (folder / "trials.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{key: text for key, text in row.items() if key not in COST_COLUMNS} for row in rows]


def differences(undisturbed: Path, killed: Path, watch: Watch) -> list[str]:
    """Returns a sentence for each thing that is not as it should be."""
    found = []
    if not (killed / "trials.csv").exists():
        return ["the killed sweep did not come to its end"]
    one, other = table_of(undisturbed), table_of(killed)
    if one != other:
        rows = [row["number"] for row, twin in zip(one, other, strict=False) if row != twin]
        found.append(f"trials.csv differs: {len(one)} and {len(other)} rows, trials {', '.join(rows)}")
    found += [f"{name} differs" for name in _SAME if (undisturbed / name).read_bytes() != (killed / name).read_bytes()]
    found += [f"{path} was touched after its run had finished" for path in watch.touched()]
    for trial in read_trials(killed):
        if trial.status(killed) == "finished" and watch.finishes[trial.run] != 1:
            found.append(f"trial {trial.number} finished {watch.finishes[trial.run]} times")
    return found


def summary(
    name: str, kills: Sequence[dict[str, object]], trials: pd.DataFrame, seconds: str, found: Sequence[str]
) -> str:
    """Returns what came out, in Markdown."""
    finished = int(trials["finished"].sum())
    lines = [
        f"# The sweep {name}, killed {len(kills)} times",
        "",
        "| kill | victim | after seconds | epochs trained | trials finished |",
        "| ---: | --- | ---: | ---: | ---: |",
        *("| " + " | ".join(str(cell) for cell in row.values()) + " |" for row in kills),
        "",
        f"- {len(trials)} trials, of which {finished} finished; {int(trials['resumed'].sum())} of them had gone on "
        f"from a checkpoint; each finished {' or '.join(map(str, sorted(set(trials['times_finished']))))} times.",
        f"- {int(trials['finished_before_last_kill'].sum())} had finished before the last kill; "
        f"{'none of their files was touched' if not any('touched' in one for one in found) else 'files were touched'}.",
        f"- Tables {'differ' if any('differs' in one for one in found) else 'are identical'}, costs apart.",
        f"- {seconds}",
        *(["", "## Not as it should be", "", *(f"- {one}" for one in found)] if found else []),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("file", nargs="?", type=Path, default=_QUICK, metavar="FILE", help="of the sweep")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--undisturbed", type=Path, metavar="FOLDER", help="of the same sweep, run before")
    parser.add_argument("--output", type=Path, default=Path("results/sweep_survival"))
    options, rest = parser.parse_known_args()
    if (options.output / "killed").exists():
        parser.error(f"{options.output / 'killed'}: is there; expected a new folder, or one without it")
    options.output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    undisturbed = options.undisturbed or run_undisturbed(options.file, options.output / "undisturbed", rest)
    took = [f"undisturbed {time.monotonic() - began:.0f} s"] if options.undisturbed is None else []
    plan = read_plan(undisturbed)
    if plan.search.get("method") == "optuna" or plan.stopping:
        parser.error("earlier trials decide about later ones in this sweep; expected a grid or a random search")

    generator = np.random.default_rng(options.seed)
    epochs = sum(record.epochs for record in find_records(undisturbed))
    moments = sorted(int(share * epochs) for share in generator.uniform(0.02, 0.95, options.kills))
    killed = options.output / "killed" / plan.name
    watch = Watch(killed)
    began = time.monotonic()
    kills = run_killed(options.file, options.output / "killed", rest, watch, moments, generator)
    took.append(f"killed {time.monotonic() - began:.0f} s")
    found = differences(undisturbed, killed, watch)
    if len(kills) < options.kills:
        found.append(f"only {len(kills)} of {options.kills} kills came before the sweep's end")

    records = {record.folder.name: record for record in find_records(killed)} if killed.exists() else {}
    before = {path.parent.name for path in watch.kept}
    trials = pd.DataFrame(
        {
            "number": trial.number,
            "run": trial.run,
            "finished": trial.run in records,
            "finished_before_last_kill": trial.run in before,
            "times_finished": watch.finishes[trial.run],
            "resumed": trial.run in records and records[trial.run].resumed,
            "failed_attempts": trial.attempts,
        }
        for trial in read_trials(killed)
    )
    pd.DataFrame(kills).to_csv(options.output / "kills.csv", index=False)
    trials.to_csv(options.output / "trials.csv", index=False)
    text = summary(plan.name, kills, trials, "Wall time: " + ", ".join(took) + ".", found)
    (options.output / "summary.md").write_text(text, encoding="utf-8")
    print(text)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
