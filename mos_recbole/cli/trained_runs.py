"""The commands that ask several finished runs' models: how the runs are named, and how their models are asked."""

import argparse
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mos_recbole.cli.parser import Parser
from mos_recbole.progress import tracked

if TYPE_CHECKING:
    from mos_recbole.analysis import RunGroup
    from mos_recbole.results import RunResult

Answer = TypeVar("Answer")

_METHOD = "all singular values, or the largest with their error (default: exact up to a smaller side of 4096)"
_QUERIES = "number of validation queries (default: twice the number of items, at most 2048)"


def add_trained_run_options(parser: Parser, folder: str) -> None:
    """Adds what names the runs and how the matrix of their log-probabilities is decomposed.

    Args:
        parser: of the command.
        folder: name of the output's folder in the first results folder.
    """
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="as for compare; a model stands for all its configurations"
    )
    parser.section("runs")
    parser.add_shared("--results")
    parser.add_argument("--dataset", help="only runs on this data set; its folder, if that is not in dataset/")
    parser.add_shared("--plugin", "--device")
    parser.section("what is measured")
    parser.add_argument("--queries", type=int, metavar="N", help=_QUERIES)
    parser.add_argument("--method", default="auto", choices=("auto", "exact", "randomised"), help=_METHOD)
    parser.add_argument("--components", type=int, metavar="K", help="values that randomised finds (default: 512)")
    parser.add_shared("--seed")
    parser.section("output")
    parser.add_argument("--output", default=None, help=f"for files (default: {folder} in the first results folder)")
    parser.add_shared("--format")


def ask_groups(
    options: argparse.Namespace, output: Path, doing: str, ask: "Callable[[RunResult, str | None], Answer]"
) -> "list[tuple[RunGroup, tuple[Answer, ...]]]":
    """Returns each configuration that the options name with an answer a run.

    Args:
        options: of `add_trained_run_options`.
        output: where files will be written, which is checked before anything is measured.
        doing: what the progress bar says.
        ask: from a run and its `data_path` to the answer.

    Raises:
        InputError: runs that are not there or not of one protocol, or an output that cannot be written to.
    """
    from mos_recbole.analysis import find_trained_groups
    from mos_recbole.data import dataset_place
    from mos_recbole.io import require_writable
    from mos_recbole.models import load_plugin

    for plugin in options.plugin:
        load_plugin(plugin)
    name, data_path = (None, None) if options.dataset is None else dataset_place(options.dataset)
    groups = find_trained_groups(options.runs, options.results, name)
    require_writable(output)
    runs = tracked([run for group in groups for run in group.runs], doing, "runs")
    answers = (ask(run, data_path) for run in runs)
    return [(group, tuple(islice(answers, len(group.runs)))) for group in groups]
