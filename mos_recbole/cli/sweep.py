"""Runs the trials of a sweep file by Ray Tune, selects on validation, writes tables and figures.

After an interruption, the same command continues (docs/sweeps.md).

examples:
  eight trials on ml-100k, one on every core at a time
    %(prog)s configs/sweeps/ml-100k-quick.yaml
  show the trials and an estimate of the time, and train nothing
    %(prog)s configs/sweeps/article.yaml --dry-run
  four trials on each GPU of this machine
    %(prog)s configs/sweeps/article.yaml --dataset dataset/ml-25m --gpus-per-trial 0.25
  on a running Ray cluster, with checkpoints in a bucket
    %(prog)s configs/sweeps/article.yaml --address auto --storage s3://bucket/sweeps
  after any interruption: the same command again
  make a sweep file of one of RecBole's tuning files
    %(prog)s my_sweep.yaml --from-recbole hyper.test --model SASRec GRU4RecMoS --config my_settings.yaml
"""

import argparse
import logging
import os
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mos_recbole.cli.parser import Parser, Several, path
from mos_recbole.errors import InputError

if TYPE_CHECKING:
    from mos_recbole.report import SweepReport

_log = logging.getLogger(__name__)

# Options that take the place of the file's `resources`.
_PREFIX = "resources."
_RESOURCES = (
    ("cpus-per-trial", int, "N", "cores and PyTorch threads of a trial"),
    ("gpus-per-trial", float, "X", "GPUs of a trial; 0.25: four trials share one"),
    ("max-concurrent", int, "N", "largest number of trials at a time (default: as many as fit)"),
    ("fuse", int, "N", "train up to N trials of equal shape as one (default: 1)"),
)
_FROM_RECBOLE = "make FILE of RecBole's tuning file (hyper.test) and stop; without FILE print it; needs --model"
INTERRUPTED = "the same command continues after the last epoch"


def add_options(parser: Parser) -> None:
    parser.add_argument("file", type=path, nargs="?", metavar="FILE", help="a sweep file (docs/sweeps.md)")
    parser.section("the sweep")
    parser.add_argument("--from-recbole", type=path, metavar="TUNING", help=_FROM_RECBOLE)
    parser.add_argument("--dry-run", action="store_true", help="print the trials and an estimate of the cost, and stop")
    parser.add_argument("--name", metavar="NAME", help="name of the sweep and its folder (default: the file's name)")
    parser.add_argument("--retry-failed", action="store_true", help="repeat the trials that failed before")
    parser.section("in place of the file's")
    parser.add_argument("--model", action=Several, metavar="NAME", help="models")
    parser.add_argument("--config", help="RecBole YAML files")
    parser.add_argument("--dataset", action=Several, help="names, folders or files")
    parser.add_argument("--seeds", help="seeds")
    parser.add_argument("--samples", type=int, metavar="N", help="configurations of each model on each data set")
    parser.add_shared("--key=value", "--skip-bad-lines", "--plugin")
    parser.section("resources")
    for name, kind, metavar, text in _RESOURCES:
        dest = _PREFIX + name.replace("-", "_")
        parser.add_argument(f"--{name}", type=kind, dest=dest, metavar=metavar, help=text)
    parser.add_argument("--address", metavar="ADDRESS", help="a running Ray cluster, or auto (default: start Ray here)")
    parser.add_argument("--storage", metavar="PLACE", help="path or URI for runs, if machines share no results folder")
    parser.section("output")
    parser.add_shared("--output")
    parser.add_argument("--dashboard", action="store_true", help="start Ray's dashboard, for this machine only")
    parser.add_argument("--wandb", metavar="PROJECT", help="also log to Weights & Biases")
    parser.add_argument("--mlflow", metavar="EXPERIMENT", help="also log to MLflow, at MLFLOW_TRACKING_URI")


def call(options: argparse.Namespace) -> int:
    changes = _changes(options)
    if options.from_recbole is not None:
        return _convert(options, changes)
    if options.file is None:
        raise InputError("no sweep file; expected FILE, as in configs/sweeps, or --from-recbole with a tuning file")
    _log.info("%s: loading PyTorch and RecBole", options.file)
    from mos_recbole.sweep import ClusterOptions, plan_sweep, prepare_ray, preview

    planner = plan_sweep(options.file, changes, options.settings)
    folder = options.output / planner.sweep.name
    if options.dry_run:
        print(preview(planner, local=options.address is None, folder=folder))
        return 0
    _log.info("Sweep %s: results go to %s", planner.sweep.name, folder)
    prepare_ray(options.address)
    from mos_recbole.report import write_sweep_report
    from mos_recbole.results import SWEEP_FILE
    from mos_recbole.sweep.driver import run_sweep
    from mos_recbole.sweep.loggers import make_loggers

    try:
        trials = run_sweep(
            planner,
            folder,
            ClusterOptions(options.address, options.storage, options.dashboard),
            loggers=make_loggers(options.wandb, options.mlflow),
            quiet=options.quiet,
            retry_failed=options.retry_failed,
        )
    except KeyboardInterrupt:
        if (folder / SWEEP_FILE).exists():
            files = write_sweep_report(folder, figures=False).files
            _log.info("Tables of what has finished: %s", _listed(folder, files))
        raise
    print_end(folder, write_sweep_report(folder))
    failed = [trial for trial in trials if trial.status(folder) == "failed"]
    for trial in failed:
        print(f"trial {trial.number} failed {trial.attempts} times: {trial.error}", file=sys.stderr)
    return 1 if failed else 0


def print_end(folder: Path, report: "SweepReport") -> None:
    """Prints the best configurations, the files, and the next commands."""
    from mos_recbole.report import print_fitted
    from mos_recbole.results import read_plan

    plan = read_plan(folder)
    if sys.stdout.isatty():
        left_out: dict[str, None] = {}
        print(f"\nBest configurations by validation {plan.metric}, test metrics ± 95 % interval")
        for table in report.best:
            left_out |= dict.fromkeys(print_fitted(table, report.dispensable))
        also = f" It also has: {', '.join(left_out)}." if left_out else ""
        print(f"best.md says how they were chosen.{also}")
    else:
        print((folder / "best.md").read_text(encoding="utf-8"))
    print(f"Files in {folder}: {_listed(folder, report.files)}")
    commands = [["report", str(folder)]]
    if len(plan.models) > 1:
        for dataset in plan.datasets:
            only = ["--dataset", dataset] if len(plan.datasets) > 1 else []
            commands.insert(-1, ["compare", *plan.models, "--results", str(folder), *only, "--best"])
    print("\n".join(["Next:", *(f"  {shlex.join(['mos-recbole', *command])}" for command in commands)]))


def _listed(folder: Path, files: Sequence[Path]) -> str:
    """Returns the names of files in a folder, and how many there are in folders of it."""
    names = [path.name for path in files if path.parent == folder]
    below = Counter(path.parent.name for path in files if path.parent != folder)
    return ", ".join([*names, *(f"{count} files in {name}/" for name, count in below.items())])


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the keys of a sweep file that options take the place of."""
    changes = {
        "name": options.name,
        "models": options.model,
        "datasets": options.dataset,
        "seeds": options.seeds,
        "config": [os.path.abspath(file) for file in options.config] or None,
        "search": None if options.samples is None else {"samples": options.samples},
        "plugins": [str(plugin.absolute()) for plugin in options.plugin] or None,
    }
    resources = {
        key.removeprefix(_PREFIX): value
        for key, value in vars(options).items()
        if key.startswith(_PREFIX) and value is not None
    }
    changes["resources"] = resources or None
    return {key: value for key, value in changes.items() if value is not None}


def _convert(options: argparse.Namespace, changes: dict[str, Any]) -> int:
    """Writes or prints the sweep file of a tuning file of RecBole."""
    from mos_recbole.io import atomic_write, os_errors_as_input_errors
    from mos_recbole.sweep import sweep_from_recbole

    of_sweeps = ("dry_run", "retry_failed", "address", "storage", "dashboard", "wandb", "mlflow")
    if others := [f"--{name.replace('_', '-')}" for name in of_sweeps if getattr(options, name)]:
        raise InputError(f"{', '.join(others)}: goes with a sweep, and --from-recbole makes a file for one and stops")
    file = options.file
    if file is not None and file.exists():
        raise InputError(f"{file} is there already; expected the name of a new file")
    folder = Path.cwd() if file is None else file.parent
    text = sweep_from_recbole(options.from_recbole, changes, options.settings, folder)
    if file is None:
        print(text, end="")
        return 0
    with os_errors_as_input_errors(file, "a file that can be written"), atomic_write(file) as path:
        path.write_text(text, encoding="utf-8")
    print(f"{file} is written. Next: {shlex.join(['mos-recbole', 'sweep', str(file), '--dry-run'])}")
    return 0
