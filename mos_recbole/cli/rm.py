"""Removes runs, finished or not, after a question.

It shows the files with their sizes first: record, outcomes, items, training log and checkpoints. Other files in a
run's folder stay. A trial that is removed is trained again by its sweep.

examples:
  two runs, by the first digits of their ids (mos-recbole ls shows them)
    %(prog)s 1f799023 d54d47c5
  all runs of a folder, without a question
    %(prog)s results/old/runs/* --yes
"""

import argparse
import sys
from pathlib import Path

from mos_recbole.cli.parser import Parser
from mos_recbole.errors import InputError

INTERRUPTED = "runs that were removed by then are gone"


def add_options(parser: Parser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or six digits or more of its id")
    parser.add_argument("--yes", action="store_true", help="remove without a question")
    parser.add_shared("--results")


def call(options: argparse.Namespace) -> int:
    # Results alone, as for ls.
    from mos_recbole.results import files_of_run, find_run_folder, remove_runs

    # All are found before anything is asked or removed.
    found = {folder.resolve(): folder for folder in (find_run_folder(name, options.results) for name in options.runs)}
    total = 0
    for folder in found.values():
        sizes = {path.name: path.lstat().st_size for path in files_of_run(folder)}
        total += sum(sizes.values())
        print(f"{folder}{_trial_of(folder)}\n  {', '.join(f'{name} {_size(size)}' for name, size in sizes.items())}")
    what = f"{len(found)} {'run' if len(found) == 1 else 'runs'}, {_size(total)}"
    if not options.yes and not _agrees(f"Remove {what}? [y/N] "):
        print("Nothing was removed.")
        return 0
    for folder in remove_runs(list(found.values())):
        print(f"{folder} stays, with {', '.join(sorted(path.name for path in folder.iterdir()))}")
    print(f"Removed {what}.")
    return 0


def _agrees(question: str) -> bool:
    """Returns whether the user answers yes. Raises InputError where nobody can answer."""
    print(question, end="", flush=True)
    answer = "" if sys.stdin is None else sys.stdin.readline()
    if not answer:
        print()
        raise InputError("nobody answered, and nothing was removed; expected an answer, or --yes")
    return answer.strip().lower() in ("y", "yes")


def _trial_of(folder: Path) -> str:
    """Returns of which sweep a run is a trial, in words; "" for others."""
    from mos_recbole.results import SWEEP_FILE, TRIALS_FOLDER

    sweep = folder.resolve().parent.parent
    is_trial = (sweep / SWEEP_FILE).is_file() and (sweep / TRIALS_FOLDER / f"{folder.name.rpartition('-')[2]}.json")
    return f", a trial of the sweep {sweep.name}, which trains it again" if is_trial and is_trial.is_file() else ""


def _size(size: int) -> str:
    """Returns "812 B", "1.2 kB" or "3.4 MB"."""
    number, units = float(size), ["B", "kB", "MB", "GB"]
    while number >= 1000 and len(units) > 1:
        number /= 1000
        units.pop(0)
    return f"{number:.0f} {units[0]}" if units[0] == "B" else f"{number:.1f} {units[0]}"
