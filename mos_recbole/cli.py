"""The command line: parses, calls, prints."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mos_recbole import __version__
from mos_recbole.errors import InputError, TrainingDiverged

_OWN_OPTIONS = frozenset(
    {"model", "dataset", "config", "seeds", "output", "device", "resume", "quiet", "format", "protocol"}
)

_RUN_EXAMPLES = """\
examples:
  the main job: GRU4Rec with a Mixture-of-Softmaxes head on the ml-100k that RecBole carries
    %(prog)s --model GRU4RecMoS
  against its control and RecBole's own class, five seeds
    %(prog)s --model GRU4RecMoS GRU4RecSoftmax GRU4Rec --seeds 1 2 3 4 5
  any setting, by RecBole's key
    %(prog)s --model GRU4RecMoS --embedding_size=32 --mos_heads=8 --learning_rate=1e-3
  settings from RecBole YAML files, later ones over earlier ones, arguments over all
    %(prog)s --model SASRecMoS --config configs/base.yaml configs/SASRecMoS.yaml --epochs=50
  your own data: the folder dataset/beauty with beauty.inter in it
    %(prog)s --model GRU4RecMoS --dataset dataset/beauty
  go on after an interruption, keeping what is finished
    %(prog)s --model GRU4RecMoS GRU4RecSoftmax --seeds 1 2 3 --resume
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0; 1 where training diverged; 2 for input that cannot be used; 130 after Ctrl-C."""
    # Before PyTorch is loaded: by default its OpenMP threads wait for each other busily for long, which on a machine
    # that other programs use too makes the small steps of a recurrent network ten times slower and more.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    parser = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Before argparse, which takes an argument with a space in it for a positional one.
    settings = [argument for argument in given if _is_setting(argument)]
    options, rest = parser.parse_known_args([argument for argument in given if not _is_setting(argument)])
    if rest:
        parser.error(f"argument {rest[0]!r} not understood; settings are given as --key=value")
    if settings and options.command != "run":
        parser.error(f"argument {settings[0]!r}: {options.command} takes no settings")
    try:
        return options.call(options, settings)
    except InputError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    except TrainingDiverged as error:
        print(f"{parser.prog}: training failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; --resume goes on from the last epoch", file=sys.stderr)
        return 130


def _is_setting(argument: str) -> bool:
    """Returns whether an argument is a --key=value that is none of this program's own options."""
    key = re.match(r"--([^\s=]+)=", argument)
    return key is not None and key[1] not in _OWN_OPTIONS


def run_main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status of `mos-recbole run` with these arguments."""
    return main(["run", *(sys.argv[1:] if arguments is None else arguments)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mos-recbole",
        description="Measures what the output layer does to sequential recommenders.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="train models, evaluate them by one protocol, print a table",
        description="Trains one or more models on a data set, evaluates them by one protocol and prints a table.",
        epilog=_RUN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    run.add_argument(
        "--model",
        nargs="+",
        required=True,
        metavar="NAME",
        help="GRU4RecMoS, GRU4RecSoftmax, SASRecMoS, SASRecSoftmax, or any sequential or general model of RecBole",
    )
    run.add_argument("--dataset", default="ml-100k", metavar="NAME", help="name or folder (default: ml-100k, built in)")
    run.add_argument("--config", nargs="+", default=[], metavar="FILE", help="RecBole YAML files")
    run.add_argument("--seeds", nargs="+", type=int, metavar="N", help="one run per model and seed (default: 2020)")
    run.add_argument("--output", default="results", type=Path, metavar="FOLDER", help="for results (default: results)")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    run.add_argument("--resume", action="store_true", help="keep finished runs, continue unfinished ones")
    run.add_argument("--quiet", action="store_true", help="no progress, for logs: the table only")
    run.add_argument("--key=value", dest="_", action="store_const", const=None, help="any setting, by RecBole's key")
    run.set_defaults(call=_run)

    listing = commands.add_parser("ls", help="list the finished runs of a results folder", allow_abbrev=False)
    listing.add_argument("output", nargs="?", default="results", type=Path, metavar="FOLDER", help="default: results")
    listing.set_defaults(call=_list)

    table = commands.add_parser(
        "table", help="rebuild the comparison table from the files of finished runs", allow_abbrev=False
    )
    table.add_argument("folders", nargs="*", default=[Path("results")], type=Path, metavar="FOLDER")
    table.add_argument("--dataset", metavar="NAME", help="only runs on this data set")
    table.add_argument("--protocol", metavar="HASH", help="only runs of this protocol, as ls shows it")
    table.add_argument(
        "--format", default="github", choices=("github", "simple", "latex", "csv"), help="(default: github)"
    )
    table.set_defaults(call=_table)
    return parser


def _run(options: argparse.Namespace, overrides: list[str]) -> int:
    # Here and not above, so that --help and ls do not wait for PyTorch.
    from mos_recbole.experiment import Messages, load_settings, run_experiment
    from mos_recbole.progress import EpochProgress
    from mos_recbole.report import comparison_table

    # A model or a seed that is named twice runs once.
    seeds = [[f"--seed={seed}"] for seed in dict.fromkeys(options.seeds or [])] or [[]]
    runs = [
        load_settings(model, options.dataset, options.config, [*overrides, *seed], beside=options.model)
        for model in dict.fromkeys(options.model)
        for seed in seeds
    ]
    if not options.quiet:
        for warning in dict.fromkeys(warning for one in runs for warning in one.warnings):
            print(f"warning: {warning}", file=sys.stderr)
    records, failures = [], []
    for number, one in enumerate(runs, start=1):
        name = f"[{number}/{len(runs)}] {one.model} seed {one.values['seed']}"
        with EpochProgress(name, one, quiet=options.quiet) as progress:
            messages = Messages(progress.draws, progress.note, progress.epoch)
            try:
                record = run_experiment(
                    one, output=options.output, device=options.device, resume=options.resume, messages=messages
                )
            except TrainingDiverged as error:  # the other runs go on
                failures.append(f"{one.model} seed {one.values['seed']}: {error}")
                continue
        records.append(record)
    if failures and not records:
        raise TrainingDiverged("; ".join(failures))
    protocol = records[0].protocol
    print(f"\nTest metrics on {records[0].dataset}, {protocol['split']['name']}, full ranking; ± 95 % interval")
    print(comparison_table(records))
    print("\nFiles (record, outcomes, training log, checkpoints):")
    for record in records:
        print(f"  {record.folder}")
    for failure in failures:
        print(f"training failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _list(options: argparse.Namespace, _: list[str]) -> int:
    from mos_recbole.report import runs_table
    from mos_recbole.results import find_records

    records = find_records(options.output)
    print(runs_table(records) if records else f"no finished runs in {options.output}")
    return 0


def _table(options: argparse.Namespace, _: list[str]) -> int:
    from mos_recbole.report import comparison_table
    from mos_recbole.results import find_records

    records = [record for folder in options.folders for record in find_records(folder)]
    if options.dataset is not None:
        records = [record for record in records if record.dataset == options.dataset]
    if options.protocol is not None:
        records = [record for record in records if record.protocol_hash == options.protocol]
    print(comparison_table(records, options.format))
    return 0
