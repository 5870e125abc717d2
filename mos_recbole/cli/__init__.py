"""The command line: parses, calls, prints."""

import argparse
import logging
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mos_recbole import __version__
from mos_recbole.cli.log import log_for_run, log_on_stderr
from mos_recbole.errors import InputError, TrainingDiverged

if TYPE_CHECKING:
    from mos_recbole.report import Comparisons, Slices, Spectra

_log = logging.getLogger(__name__)

_OWN_OPTIONS = frozenset(
    {
        "model",
        "head",
        "plugin",
        "dataset",
        "config",
        "seeds",
        "output",
        "device",
        "resume",
        "quiet",
        "format",
        "protocol",
        "results",
        "best",
        "name",
        "cpus-per-trial",
        "gpus-per-trial",
        "max-concurrent",
        "address",
        "storage",
        "wandb",
        "mlflow",
        "zip",
        "data-path",
    }
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

_SWEEP_EXAMPLES = """\
examples:
  eight trials on ml-100k, as many at a time as there are cores
    %(prog)s configs/sweeps/ml-100k-quick.yaml
  what it would run, and about how long that takes
    %(prog)s configs/sweeps/article.yaml --dry-run
  four trials on each GPU of this machine
    %(prog)s configs/sweeps/article.yaml --dataset dataset/ml-25m --gpus-per-trial 0.25
  on a running Ray cluster whose machines keep their checkpoints in a bucket
    %(prog)s configs/sweeps/article.yaml --address auto --storage s3://bucket/sweeps
  after an interruption of any kind: the same command again
"""

_PREPARE_EXAMPLES = """\
MovieLens: ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest-small, ml-latest. Its data may be used for research and may
not be redistributed: who downloads them agrees to GroupLens's terms, which are in the README that comes with each.

examples:
  the data of the article, from GroupLens (250 MB) into dataset/ml-25m
    %(prog)s ml-25m --download
  out of an archive that is on this machine
    %(prog)s ml-25m --zip ~/Downloads/ml-25m.zip
  as the runs with these settings need it
    %(prog)s ml-25m --config my.yaml '--val_interval={rating: "[2.0,inf)"}'
  your own data: is the file right, how much is in it?
    %(prog)s dataset/beauty
"""

_SYNTH_EXAMPLES = """\
examples:
  log-probabilities of rank 64 over 500 items, 5,000 users
    %(prog)s --rank 64 --users 5000 --items 500 --out dataset/rank64
  next items that are hard to tell (4.5 nats), and a tenth of what contexts say lost
    %(prog)s --rank 64 --users 5000 --items 500 --entropy 4.5 --noise 0.1 --out dataset/hard
  users who keep to groups of items
    %(prog)s --rank 64 --users 5000 --items 500 --diversity 0.3 --out dataset/narrow
"""

_COMPARE_EXAMPLES = """\
examples:
  two models, each over its seeds
    %(prog)s GRU4RecSoftmax GRU4RecMoS
  several settings of one model, in results of your own
    %(prog)s GRU4RecMoS:mos_heads=2 GRU4RecMoS:mos_heads=4 --results my-results --metrics NDCG@10 Recall@100
  the configurations that validation chose, in a sweep on several data sets
    %(prog)s GRU4RecSoftmax GRU4RecMoS SASRec --results my-sweep --dataset ml-100k --best
  without the rare targets (in quotation marks: > is the shell's too)
    %(prog)s GRU4RecSoftmax GRU4RecMoS --where 'train_count>814'
"""

_SLICE_EXAMPLES = """\
examples:
  where do two models differ: by how often training holds the target, in four bins of equally many queries
    %(prog)s GRU4RecSoftmax GRU4RecMoS --by train_count --metric Recall@100
  by bins of your own, [0, 814], (814, 4976], ...
    %(prog)s GRU4RecSoftmax GRU4RecMoS --by train_count:0,814,4976,13865,71317
  two columns crossed, rare targets left out (in quotation marks: > is the shell's too)
    %(prog)s GRU4RecSoftmax GRU4RecMoS --by train_count:4 --by previous_distance:3 --where 'train_count>814'
  one model alone, a cell for every value
    %(prog)s GRU4RecMoS --by context_length:each
"""


_REPORT_EXAMPLES = """\
examples:
  a page, tables and figures of all runs below results/, in results/report
    %(prog)s results
  of two sweeps, by another metric, in a folder of its own
    %(prog)s results/article results/more-seeds --metric NDCG@10 --output study
"""


_SPECTRUM_EXAMPLES = """\
examples:
  the rank of what softmax and mixtures say, every configuration that results/ has, over d and K
    %(prog)s GRU4RecSoftmax GRU4RecMoS
  one configuration, one run
    %(prog)s GRU4RecMoS:embedding_size=32,mos_heads=4 results/runs/GRU4RecSoftmax-ml-100k-seed1-84b3...
  data that are in a folder of their own, and more queries
    %(prog)s SASRecSoftmax SASRecMoS --dataset data/beauty --queries 4096
  a large catalogue: the 1,024 largest singular values, with the error that they have
    %(prog)s SASRecMoS --dataset data/ml-25m --queries 20000 --method randomised --components 1024
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0; 1 where training diverged; 2 for input that cannot be used; 130 after Ctrl-C."""
    # Before PyTorch is loaded: by default its OpenMP threads wait for each other busily for long, which on a machine
    # that other programs use too makes the small steps of a recurrent network ten times slower and more.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    parser = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Before argparse, which takes an argument with a space in it for a positional one.
    settings = [argument for argument in given if _is_setting(argument, given[0])]
    options, rest = parser.parse_known_args([argument for argument in given if argument not in settings])
    if rest:
        parser.error(f"argument {rest[0]!r} not understood; settings are given as --key=value")
    if settings and options.command not in ("run", "sweep", "prepare"):
        parser.error(f"argument {settings[0]!r}: {options.command} takes no settings")
    if _several() and options.command != "run":
        parser.error(f"{options.command} is done by one process; several, as torchrun starts them, do a run together")
    try:
        with log_on_stderr(_log_level(options)):
            return options.call(options, settings)
    except InputError as error:
        _print_failure(f"{parser.prog}: error: {error}")
        return 2
    except TrainingDiverged as error:
        _print_failure(f"{parser.prog}: training failed: {error}")
        return 1
    except KeyboardInterrupt:
        again = {
            "sweep": "the same command goes on from the last epoch",
            "prepare": "nothing half-made is left, and a download goes on by the same command",
            "synth": "nothing half-made is left",
            "spectrum": "nothing was written",
        }.get(options.command, "--resume goes on from the last epoch")
        _print_failure(f"{parser.prog}: interrupted; {again}")
        return 130


def _several() -> bool:
    """Returns whether this is one of several processes that do the same run, as torchrun starts them."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def _is_first() -> bool:
    """Returns whether this is the one of them that shows what the run does."""
    return not _several() or os.environ.get("RANK", "0") == "0"


def _log_level(options: argparse.Namespace) -> int:
    """Returns the level from which this process shows what the package logs."""
    if not _is_first():
        return logging.CRITICAL
    return logging.WARNING if getattr(options, "quiet", False) else logging.INFO


def _speaks_of_failure() -> bool:
    """Returns whether this process is to say why it ends: of several, the first that fails."""
    if not _several():
        return True
    from mos_recbole.training.processes import first_to_fail

    return first_to_fail()


def _print_failure(text: str) -> None:
    if _speaks_of_failure():
        print(text, file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if _speaks_of_failure():
            super().error(message)
        sys.exit(2)


def _is_setting(argument: str, command: str) -> bool:
    """Returns whether an argument is a --key=value that is none of this program's own options."""
    key = re.match(r"--([^\s=]+)=", argument)
    # To `run`, metrics is RecBole's key.
    own = {"compare": ("metrics", "where"), "slice": ("by", "metric", "where"), "report": ("metric",)}
    own["spectrum"] = ("queries", "seed", "method", "components")
    own["synth"] = ("rank", "users", "items", "out", "diversity", "noise", "entropy", "length", "seed")
    return key is not None and key[1] not in _OWN_OPTIONS and key[1] not in own.get(command, ())


def run_main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status of `mos-recbole run` with these arguments."""
    return main(["run", *(sys.argv[1:] if arguments is None else arguments)])


def sweep_main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status of `mos-recbole sweep` with these arguments."""
    return main(["sweep", *(sys.argv[1:] if arguments is None else arguments)])


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
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
        help="an encoder with a head, such as GRU4RecMoS or NARMSoftmax; any sequential or general model of RecBole; "
        "with --head, an encoder",
    )
    run.add_argument(
        "--head",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="put these heads on every --model: softmax, mos, ...",
    )
    run.add_argument(
        "--match-parameters",
        action="store_true",
        help="widen or narrow the models after the first until they have about as many parameters as it",
    )
    _add_plugin(run)
    run.add_argument("--dataset", default="ml-100k", metavar="NAME", help="name or folder (default: ml-100k, built in)")
    run.add_argument("--config", nargs="+", default=[], metavar="FILE", help="RecBole YAML files")
    run.add_argument("--seeds", nargs="+", type=int, metavar="N", help="one run per model and seed (default: 2020)")
    run.add_argument("--output", default="results", type=Path, metavar="FOLDER", help="for results (default: results)")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    run.add_argument("--resume", action="store_true", help="keep finished runs, continue unfinished ones")
    run.add_argument("--quiet", action="store_true", help="no progress, for logs: the table only")
    run.add_argument("--key=value", dest="_", action="store_const", const=None, help="any setting, by RecBole's key")
    run.set_defaults(call=_run)

    sweep = commands.add_parser(
        "sweep",
        help="run the trials of a sweep file by Ray Tune, write tables and figures",
        description="Runs the trials of a sweep file by Ray Tune, selects on validation, writes tables and figures. "
        "Goes on where it was interrupted.",
        epilog=_SWEEP_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    sweep.add_argument("file", type=Path, metavar="FILE", help="of the sweep (docs/sweeps.md)")
    sweep.add_argument("--dry-run", action="store_true", help="print the trials and an estimate of the cost, and end")
    sweep.add_argument("--name", metavar="NAME", help="of the sweep and its folder (default: the file's name)")
    sweep.add_argument("--dataset", nargs="+", metavar="NAME", help="names or folders, instead of the file's")
    sweep.add_argument("--seeds", nargs="+", type=int, metavar="N", help="instead of the file's")
    _add_plugin(sweep)
    sweep.add_argument(
        "--output", default="results", type=Path, metavar="FOLDER", help="for results (default: results)"
    )
    sweep.add_argument("--cpus-per-trial", type=int, metavar="N", help="cores of a trial, and its PyTorch threads")
    sweep.add_argument("--gpus-per-trial", type=float, metavar="X", help="GPUs of a trial; 0.25: four share one")
    sweep.add_argument("--max-concurrent", type=int, metavar="N", help="most trials at a time (default: what fits)")
    sweep.add_argument("--fuse", type=int, metavar="N", help="train up to N trials of equal shape as one (default: 1)")
    sweep.add_argument(
        "--address", metavar="ADDRESS", help="of a running Ray cluster, or auto (default: start Ray here)"
    )
    sweep.add_argument(
        "--storage", metavar="PLACE", help="path or URI for runs, where machines share no results folder"
    )
    sweep.add_argument("--retry-failed", action="store_true", help="try again what failed in an earlier sitting")
    sweep.add_argument("--dashboard", action="store_true", help="with Ray's dashboard, on this machine only")
    sweep.add_argument("--wandb", metavar="PROJECT", help="log to Weights & Biases too")
    sweep.add_argument("--mlflow", metavar="EXPERIMENT", help="log to MLflow too, at MLFLOW_TRACKING_URI")
    sweep.add_argument("--quiet", action="store_true", help="no progress, for logs: the tables only")
    sweep.add_argument("--key=value", dest="_", action="store_const", const=None, help="any setting, by RecBole's key")
    sweep.set_defaults(call=_sweep)

    prepare = commands.add_parser(
        "prepare",
        help="fetch or unpack MovieLens, check a data set, prepare it for runs",
        description="Makes a release of MovieLens a data set, from the web or an archive, or takes any data set that "
        "is there; checks it, prepares it for the runs to come, and prints how much is in it.",
        epilog=_PREPARE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    prepare.add_argument("dataset", metavar="NAME", help="a release of MovieLens, or the name or folder of a data set")
    source = prepare.add_mutually_exclusive_group()
    source.add_argument("--zip", type=Path, metavar="FILE", help="take it out of this archive")
    source.add_argument("--download", action="store_true", help="fetch the archive from GroupLens")
    prepare.add_argument("--data-path", metavar="FOLDER", help="where the data set's folder is (default: dataset)")
    prepare.add_argument(
        "--allow-modified", action="store_true", help="take data that are not as published, such as a subset"
    )
    prepare.add_argument("--config", nargs="+", default=[], metavar="FILE", help="RecBole YAML files")
    prepare.add_argument(
        "--key=value", dest="_", action="store_const", const=None, help="any setting, by RecBole's key"
    )
    prepare.set_defaults(call=_prepare)

    synth = commands.add_parser(
        "synth",
        help="make a data set whose next items have log-probabilities of a known rank",
        description="Draws users' sequences from a process over items whose next-item log-probabilities have a known "
        "rank, and writes them as an atomic data set with the truth beside it: the probabilities, their entropy, and "
        "the best loss, Recall and NDCG that a model can reach (docs/planted_rank.md).",
        epilog=_SYNTH_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    synth.add_argument("--rank", type=int, required=True, metavar="R", help="of the log-probabilities, 1 to V")
    synth.add_argument("--users", type=int, required=True, metavar="N", help="3 or more")
    synth.add_argument("--items", type=int, required=True, metavar="V", help="2 or more")
    synth.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the new data set")
    synth.add_argument(
        "--diversity",
        type=float,
        default=1.0,
        metavar="X",
        help="from 0, where an item has much to do with the one before, to 1, where it has nothing (default: 1)",
    )
    synth.add_argument(
        "--noise", type=float, default=0.0, metavar="Y", help="share of what contexts say that is lost (default: 0)"
    )
    synth.add_argument(
        "--entropy",
        type=float,
        metavar="NATS",
        help="of the next item, before the noise (default: two thirds of what popularity alone gives)",
    )
    synth.add_argument(
        "--length", type=float, default=20.0, metavar="L", help="mean interactions of a user, above 4 (default: 20)"
    )
    synth.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")
    synth.set_defaults(call=_synth)

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

    compare = commands.add_parser(
        "compare",
        help="test runs or models against each other, in pairs",
        description="Compares two or more runs or models of one protocol in pairs: the difference of their test "
        "metrics on the same queries and across seeds, with its interval, its p value, and Holm's correction.",
        epilog=_COMPARE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    compare.add_argument(
        "sides",
        nargs="+",
        metavar="SIDE",
        help="two or more: a run's folder, a run id or six or more of its first digits, a model (its runs over all "
        "seeds), or Model:key=value,key=value where there are runs with several settings",
    )
    compare.add_argument(
        "--results", nargs="+", default=[Path("results")], type=Path, metavar="FOLDER", help="(default: results)"
    )
    compare.add_argument("--dataset", metavar="NAME", help="only runs on this data set")
    compare.add_argument("--best", action="store_true", help="for each model the configuration best on validation")
    compare.add_argument("--metrics", nargs="+", metavar="NAME", help="any of target ranks (default: those of table)")
    compare.add_argument("--where", nargs="+", default=[], metavar="CONDITION", help="only queries with column>number")
    compare.add_argument(
        "--format", default="github", choices=("github", "simple", "latex", "csv"), help="(default: github)"
    )
    compare.set_defaults(call=_compare)

    slices = commands.add_parser(
        "slice",
        help="a metric by columns of the outcomes: where do two models differ?",
        description="Slices a test metric of one or two models by one or two columns of their outcomes "
        "(docs/results.md lists them), with intervals and tests in every cell.",
        epilog=_SLICE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    slices.add_argument("sides", nargs="+", metavar="SIDE", help="one or two, named as for compare")
    slices.add_argument(
        "--by",
        action="append",
        required=True,
        metavar="COLUMN[:BINS]",
        help="a column, and a number of quantile bins (default: 4), edges e0,e1,... or each; once or twice",
    )
    slices.add_argument("--metric", default="Recall@100", metavar="NAME", help="of target ranks (default: Recall@100)")
    slices.add_argument("--where", nargs="+", default=[], metavar="CONDITION", help="only queries with column>number")
    slices.add_argument(
        "--results", nargs="+", default=[Path("results")], type=Path, metavar="FOLDER", help="(default: results)"
    )
    slices.add_argument("--dataset", metavar="NAME", help="only runs on this data set")
    slices.add_argument("--best", action="store_true", help="for each model the configuration best on validation")
    slices.add_argument(
        "--format", default="github", choices=("github", "simple", "latex", "csv"), help="(default: github)"
    )
    slices.set_defaults(call=_slice)

    report = commands.add_parser(
        "report",
        help="tables, figures and one page of what runs and sweeps found",
        description="Makes tables (Markdown, LaTeX, CSV), figures (PNG, SVG) and one page (report.html) from the files "
        "of finished runs: every model against the baseline head, and where the two differ (docs/report.md).",
        epilog=_REPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    report.add_argument("folders", nargs="+", type=Path, metavar="RESULTS", help="folders of runs or sweeps")
    report.add_argument(
        "--output", type=Path, metavar="FOLDER", help="of the report (default: report in the first results folder)"
    )
    report.add_argument(
        "--metric", default="Recall@100", metavar="NAME", help="of slices and figures (default: Recall@100)"
    )
    report.set_defaults(call=_report)

    spectrum = commands.add_parser(
        "spectrum",
        help="the rank of what trained models say: singular values of their log-probabilities",
        description="Computes the log-probabilities that trained models give all items for the same validation "
        "queries, the singular values of that matrix, raw and centred, its numerical and effective rank, and how much "
        "of it is beyond rank d + 1 (docs/spectrum.md). Needs the runs' checkpoints and their data.",
        epilog=_SPECTRUM_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    spectrum.add_argument(
        "runs", nargs="+", metavar="RUN", help="named as for compare; a model stands for all its configurations"
    )
    spectrum.add_argument(
        "--results", nargs="+", default=[Path("results")], type=Path, metavar="FOLDER", help="(default: results)"
    )
    spectrum.add_argument(
        "--dataset", metavar="NAME", help="only runs on this data set; its folder, if not in dataset/"
    )
    spectrum.add_argument(
        "--queries", type=int, metavar="N", help="validation queries (default: two an item, at most 2048)"
    )
    spectrum.add_argument("--seed", type=int, default=0, metavar="N", help="by which queries are drawn (default: 0)")
    spectrum.add_argument(
        "--method",
        default="auto",
        choices=("auto", "exact", "randomised"),
        help="all singular values, or the largest ones with their error (default: exact up to a smaller side of 4096)",
    )
    spectrum.add_argument(
        "--components", type=int, metavar="K", help="largest values that randomised finds (default: 512)"
    )
    _add_plugin(spectrum)
    spectrum.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    spectrum.add_argument(
        "--output", type=Path, metavar="FOLDER", help="for files (default: spectrum in the first results folder)"
    )
    spectrum.add_argument(
        "--format", default="github", choices=("github", "simple", "latex", "csv"), help="(default: github)"
    )
    spectrum.set_defaults(call=_spectrum)
    return parser


def _add_plugin(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--plugin",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="FILE",
        help="your own heads or encoders (docs/plugins.md)",
    )


def _run(options: argparse.Namespace, overrides: list[str]) -> int:
    # Here and not above, so that --help and ls do not wait for PyTorch.
    from mos_recbole.cli.progress import EpochProgress
    from mos_recbole.experiment import Messages, count_parameters, load_settings, run_experiment
    from mos_recbole.experiment.matching import match_parameters
    from mos_recbole.models import load_plugin, model_name
    from mos_recbole.report import comparison_table
    from mos_recbole.training.processes import only_first_traceback

    quiet = options.quiet or not _is_first()
    if _several():
        only_first_traceback()
    for plugin in options.plugin:
        load_plugin(plugin)
    # A model or a seed that is named twice runs once.
    models = dict.fromkeys(options.model)
    if options.head:
        models = dict.fromkeys(model_name(encoder, head) for encoder in models for head in options.head)
    seeds = [[f"--seed={seed}"] for seed in dict.fromkeys(options.seeds or [])] or [[]]
    runs = [
        load_settings(model, options.dataset, options.config, [*overrides, *seed], beside=models)
        for model in models
        for seed in seeds
    ]
    if options.match_parameters:
        n_parameters = count_parameters(runs[0])
        runs = [one if one.model == runs[0].model else match_parameters(one, n_parameters) for one in runs]
    for warning in (warning for one in runs for warning in one.warnings):
        _log.warning(warning)
    records, failures = [], []
    for number, one in enumerate(runs, start=1):
        name = f"[{number}/{len(runs)}] {one.model} seed {one.values['seed']}"
        with log_for_run(name), EpochProgress(name, one, quiet=quiet) as progress:
            messages = Messages(progress.draws, _log.info, progress.epoch)
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
    if not _is_first():
        return 1 if failures else 0
    protocol = records[0].protocol
    print(f"\nTest metrics on {records[0].dataset}, {protocol['split']['name']}, full ranking; ± 95 % interval")
    print(comparison_table(records))
    print("\nFiles (record, outcomes, training log, checkpoints):")
    for record in records:
        print(f"  {record.folder}")
    for failure in failures:
        print(f"training failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _sweep(options: argparse.Namespace, overrides: list[str]) -> int:
    from mos_recbole.sweep import Planner, prepare_ray, preview, read_sweep_file

    resources = {
        key: value
        for key in ("cpus_per_trial", "gpus_per_trial", "max_concurrent", "fuse")
        if (value := getattr(options, key)) is not None
    }
    plugins = [str(plugin.absolute()) for plugin in options.plugin]
    changes = {"name": options.name, "datasets": options.dataset, "seeds": options.seeds, "plugins": plugins or None}
    sweep = read_sweep_file(
        options.file, {key: value for key, value in changes.items() if value is not None} | {"resources": resources}
    )
    planner = Planner(sweep, options.file, overrides)
    if options.dry_run:
        print(preview(planner, local=options.address is None))
        return 0
    prepare_ray(options.address)
    from mos_recbole.report import write_sweep_report
    from mos_recbole.sweep.driver import Place, run_sweep
    from mos_recbole.sweep.loggers import make_loggers
    from mos_recbole.sweep.progress import SweepProgress

    folder = options.output / sweep.name
    place = Place(options.address, options.storage, options.dashboard, make_loggers(options.wandb, options.mlflow))
    progress = SweepProgress(sweep.metric, planner.plan().mode, quiet=options.quiet)
    trials = run_sweep(sweep, planner, folder, place, progress, retry_failed=options.retry_failed)
    written = write_sweep_report(folder)
    print((folder / "best.md").read_text(encoding="utf-8"))
    print(f"Files in {folder}: {', '.join(str(path.relative_to(folder)) for path in written)}")
    failed = [trial for trial in trials if trial.status(folder) == "failed"]
    for trial in failed:
        print(f"trial {trial.number} failed {trial.attempts} times: {trial.error}", file=sys.stderr)
    return 1 if failed else 0


def _prepare(options: argparse.Namespace, overrides: list[str]) -> int:
    import torch

    from mos_recbole.data import SequenceDataset
    from mos_recbole.data.cache import entry_of
    from mos_recbole.data.movielens import obtain
    from mos_recbole.experiment import load_settings
    from mos_recbole.models import own_model_names

    if options.data_path is not None and "/" in options.dataset:
        raise InputError(f"--data-path {options.data_path}: {options.dataset} is a folder already; expected a name")
    place = [] if options.data_path is None else [f"--data_path={options.data_path}"]
    # Any model will do: they all learn from the same data.
    model, *others = own_model_names()
    settings = load_settings(model, options.dataset, options.config, [*overrides, *place], beside=others)
    for warning in settings.warnings:
        _log.warning(warning)
    config = settings.recbole_config(torch.device("cpu"))
    folder = Path(config["data_path"])
    file = obtain(
        folder,
        archive=options.zip,
        download=options.download,
        allow_modified=options.allow_modified,
        note=_log.info,
    )
    data = SequenceDataset(config)
    print(f"{settings.dataset}: {data.summary(data.split()).describe()}")
    print(f"file:          {file.path}" + (f" ({file.check})" if file.check else ""))
    entry = entry_of(data.sequences.items)
    print(f"prepared data: {entry or 'none, these settings go through RecBole in every run'}")
    again = [*(["--config", *options.config] if options.config else []), *overrides]
    dataset = options.dataset if options.data_path is None else str(folder)
    print(f"next:          {shlex.join(['mos-recbole', 'run', '--model', 'GRU4RecMoS', '--dataset', dataset, *again])}")
    return 0


def _synth(options: argparse.Namespace, _: list[str]) -> int:
    from mos_recbole.synthetic import write_planted

    truth = write_planted(
        options.out,
        rank=options.rank,
        n_users=options.users,
        n_items=options.items,
        diversity=options.diversity,
        noise=options.noise,
        entropy=options.entropy,
        mean_length=options.length,
        seed=options.seed,
    )
    log, best = truth["log"], truth["leave_one_out"]["test"]
    print(f"{options.out}: {log['interactions']:,} interactions of {options.users:,} users with {log['items']:,} items")
    print(f"log-probabilities: rank {truth['rank']}; a softmax of width {max(1, truth['rank'] - 1)} can represent them")
    print(f"entropy:           {truth['entropy']:.4f} nats; without the context {truth['popularity_loss']:.4f}")
    reached = ", ".join(f"{name} {best[name]:.4f}" for name in ("Recall@10", "NDCG@10"))
    print(f"best on the test:  loss {best['loss']:.4f}, {reached} (leave-one-out)")
    print(f"diversity:         {log['previous_distance']:.4f}, the mean distance of targets to the item before")
    # A name without a slash would be looked for in the folder dataset.
    place = str(options.out) if "/" in str(options.out) else f"./{options.out}"
    again = ["mos-recbole", "run", "--model", "GRU4RecMoS", "--dataset", place]
    print(f"next:              {shlex.join(again)}")
    return 0


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


def _compare(options: argparse.Namespace, _: list[str]) -> int:
    from mos_recbole.report import compare_sides, find_sides, parse_condition
    from mos_recbole.report.tables import TABLE_METRICS

    where = [parse_condition(text) for text in options.where]
    sides = find_sides(options.sides, options.results, dataset=options.dataset, best=options.best)
    _print_table(compare_sides(sides, options.metrics or TABLE_METRICS, where), options.format)
    return 0


def _slice(options: argparse.Namespace, _: list[str]) -> int:
    from mos_recbole.report import find_sides, parse_condition, parse_slice_by, slice_sides

    by, where = [parse_slice_by(text) for text in options.by], [parse_condition(text) for text in options.where]
    sides = find_sides(options.sides, options.results, dataset=options.dataset, best=options.best)
    _print_table(slice_sides(sides, options.metric, by, where), options.format)
    return 0


def _report(options: argparse.Namespace, _: list[str]) -> int:
    from mos_recbole.report import write_report

    page, *others = write_report(options.folders, options.output, options.metric)
    print(f"{page}\nand {len(others)} files of tables and figures beside it, in tables/ and figures/")
    return 0


def _spectrum(options: argparse.Namespace, _: list[str]) -> int:
    from mos_recbole.experiment.spectra import SpectrumPlan, measure_run
    from mos_recbole.io import require_writable
    from mos_recbole.models import load_plugin
    from mos_recbole.report import MeasuredSide, Spectra, find_spectrum_sides, write_spectra

    for plugin in options.plugin:
        load_plugin(plugin)
    plan = SpectrumPlan(options.queries, options.seed, options.method, options.components)
    dataset = None if options.dataset is None else Path(options.dataset)
    sides = find_spectrum_sides(options.runs, options.results, None if dataset is None else dataset.name)
    output = options.output or options.results[0] / "spectrum"
    require_writable(output)
    data_path = dataset.parent if dataset is not None and "/" in options.dataset else None

    measured = [
        MeasuredSide(
            side,
            tuple(
                measure_run(run, plan, device=options.device, data_path=data_path, note=_log.info) for run in side.runs
            ),
        )
        for side in sides
    ]
    spectra = Spectra(tuple(measured), options.seed)
    written = write_spectra(spectra, output)
    _print_table(spectra, options.format)
    print(f"files in {output}: {', '.join(path.name for path in written)}", file=sys.stderr)
    return 0


def _print_table(result: "Comparisons | Slices | Spectra", tablefmt: str) -> None:
    print(result.table(tablefmt))
    if tablefmt == "csv":  # which has no place for it
        print(result.caption(), file=sys.stderr)
    elif tablefmt == "latex":
        print("\n".join(f"% {line}" for line in result.caption().splitlines()))
    else:
        print(f"\n{result.caption()}")
