"""Runs the trials of a sweep file by Ray Tune, selects on validation, writes tables and figures. After an interruption,
the same command continues.

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
"""

import argparse
import sys
from pathlib import Path

from mos_recbole.cli.parser import Parser, Several

# Options that take the place of the file's `resources`.
_PREFIX = "resources."
_RESOURCES = (
    ("cpus-per-trial", int, "N", "cores and PyTorch threads of a trial"),
    ("gpus-per-trial", float, "X", "GPUs of a trial; 0.25: four trials share one"),
    ("max-concurrent", int, "N", "largest number of trials at a time (default: as many as fit)"),
    ("fuse", int, "N", "train up to N trials of equal shape as one (default: 1)"),
)
SUMMARY = "run the trials of a sweep file by Ray Tune, write tables and figures"
INTERRUPTED = "the same command continues after the last epoch"


def add_options(parser: Parser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a sweep file (docs/sweeps.md)")
    parser.add_argument("--dry-run", action="store_true", help="print the trials and an estimate of the cost, and stop")
    parser.add_argument("--name", metavar="NAME", help="name of the sweep and its folder (default: the file's name)")
    parser.add_argument("--dataset", action=Several, help="names or folders, in place of the file's")
    parser.add_argument("--seeds", help="in place of the file's")
    for name, kind, metavar, text in _RESOURCES:
        dest = _PREFIX + name.replace("-", "_")
        parser.add_argument(f"--{name}", type=kind, dest=dest, metavar=metavar, help=text)
    parser.add_argument("--address", metavar="ADDRESS", help="a running Ray cluster, or auto (default: start Ray here)")
    parser.add_argument("--storage", metavar="PLACE", help="path or URI for runs, if machines share no results folder")
    parser.add_argument("--retry-failed", action="store_true", help="repeat the trials that failed before")
    parser.add_argument("--dashboard", action="store_true", help="start Ray's dashboard, for this machine only")
    parser.add_argument("--wandb", metavar="PROJECT", help="also log to Weights & Biases")
    parser.add_argument("--mlflow", metavar="EXPERIMENT", help="also log to MLflow, at MLFLOW_TRACKING_URI")
    parser.add_shared("--plugin", "--output", "--quiet", "--key=value")


def call(options: argparse.Namespace) -> int:
    from mos_recbole.sweep import ClusterOptions, Planner, prepare_ray, preview, read_sweep_file

    resources = {
        key.removeprefix(_PREFIX): value
        for key, value in vars(options).items()
        if key.startswith(_PREFIX) and value is not None
    }
    plugins = [str(plugin.absolute()) for plugin in options.plugin]
    changes = {"name": options.name, "datasets": options.dataset, "seeds": options.seeds, "plugins": plugins or None}
    sweep = read_sweep_file(
        options.file, {key: value for key, value in changes.items() if value is not None} | {"resources": resources}
    )
    planner = Planner(sweep, options.file, options.settings)
    if options.dry_run:
        print(preview(planner, local=options.address is None))
        return 0
    prepare_ray(options.address)
    from mos_recbole.report import write_sweep_report
    from mos_recbole.sweep.driver import run_sweep
    from mos_recbole.sweep.loggers import make_loggers

    folder = options.output / sweep.name
    trials = run_sweep(
        planner,
        folder,
        ClusterOptions(options.address, options.storage, options.dashboard),
        loggers=make_loggers(options.wandb, options.mlflow),
        quiet=options.quiet,
        retry_failed=options.retry_failed,
    )
    written = write_sweep_report(folder)
    print((folder / "best.md").read_text(encoding="utf-8"))
    print(f"Files in {folder}: {', '.join(str(path.relative_to(folder)) for path in written)}")
    failed = [trial for trial in trials if trial.status(folder) == "failed"]
    for trial in failed:
        print(f"trial {trial.number} failed {trial.attempts} times: {trial.error}", file=sys.stderr)
    return 1 if failed else 0
