"""The commands that ask one finished run's model: how the run is named, and how it is loaded."""

import argparse
from typing import TYPE_CHECKING

from mos_recbole.cli.parser import Parser
from mos_recbole.errors import InputError

if TYPE_CHECKING:
    from mos_recbole.experiment import TrainedRun
    from mos_recbole.results import RunResult

_RUN = "folder of a run, six digits or more of its id, or a model (Model:key=value) that has one run"
_DATASET = "only runs on this data set; its folder, if that is not in dataset/"


def add_run_options(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help=_RUN)
    parser.add_argument("--dataset", metavar="NAME", help=_DATASET)
    parser.add_argument("--force", action="store_true", help="write over an output that exists")
    parser.add_shared("--results", "--plugin", "--device")


def find_one_run(options: argparse.Namespace) -> "RunResult":
    """Returns the record of the one run that the options name.

    Raises:
        InputError: there is none, or several.
    """
    from mos_recbole.analysis import find_run_groups
    from mos_recbole.data import dataset_place
    from mos_recbole.models import load_plugin

    for plugin in options.plugin:
        load_plugin(plugin)
    dataset = None if options.dataset is None else dataset_place(options.dataset)[0]
    (group,) = find_run_groups([options.run], options.results, dataset=dataset, best=None)
    if len(group.runs) > 1:
        listed = "\n".join(f"  {run.run_id}  {run.folder}" for run in group.runs)
        raise InputError(f"{options.run}: {len(group.runs)} runs, of different seeds; choose one of\n{listed}")
    return group.runs[0]


def load_one_run(options: argparse.Namespace) -> "TrainedRun":
    """Returns the run that the options name, with its model and its data.

    Raises:
        InputError: as `find_one_run` and `load_run`.
    """
    from mos_recbole.data import dataset_place
    from mos_recbole.experiment import load_run

    data_path = None if options.dataset is None else dataset_place(options.dataset)[1]
    return load_run(find_one_run(options), options.device, data_path)
