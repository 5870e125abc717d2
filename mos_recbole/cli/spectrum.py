"""Computes the log-probabilities that trained models give all items for the same validation queries; the singular
values of that matrix, raw and centred; its numerical and effective rank; and how much of it is beyond rank d + 1
(docs/spectrum.md). Needs the runs' checkpoints and their data.

examples:
  the rank of two models' output, for every configuration in results/, over d and K
    %(prog)s GRU4RecSoftmax GRU4RecMoS
  one configuration and one run
    %(prog)s GRU4RecMoS:embedding_size=32,mos_heads=4 results/runs/GRU4RecSoftmax-ml-100k-seed1-84b3...
  data in a folder of their own, and more queries
    %(prog)s SASRecSoftmax SASRecMoS --dataset data/beauty --queries 4096
  a large catalogue: the 1,024 largest singular values, with their error
    %(prog)s SASRecMoS --dataset data/ml-25m --queries 20000 --method randomised --components 1024
"""

import argparse
import logging
import sys
from itertools import islice
from pathlib import Path

from mos_recbole.cli.output import print_table
from mos_recbole.cli.parser import Parser
from mos_recbole.progress import tracked

_log = logging.getLogger(__name__)

SUMMARY = "measure the rank of trained models: singular values of their log-probabilities"
_QUERIES = "number of validation queries (default: twice the number of items, at most 2048)"
_METHOD = "all singular values, or the largest with their error (default: exact up to a smaller side of 4096)"
INTERRUPTED = "nothing was written"


def add_options(parser: Parser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="as for compare; a model stands for all its configurations"
    )
    parser.add_argument("--dataset", help="only runs on this data set; its folder, if that is not in dataset/")
    parser.add_argument("--queries", type=int, metavar="N", help=_QUERIES)
    parser.add_argument("--method", default="auto", choices=("auto", "exact", "randomised"), help=_METHOD)
    parser.add_argument("--components", type=int, metavar="K", help="values that randomised finds (default: 512)")
    parser.add_argument("--output", default=None, help="for files (default: spectrum in the first results folder)")
    parser.add_shared("--results", "--seed", "--plugin", "--device", "--format")


def call(options: argparse.Namespace) -> int:
    from mos_recbole.analysis import MeasuredGroup, Spectra, find_spectrum_groups
    from mos_recbole.data import dataset_name, is_table
    from mos_recbole.experiment.spectra import SpectrumPlan, measure_run
    from mos_recbole.io import require_writable
    from mos_recbole.models import load_plugin
    from mos_recbole.report import spectra_table, write_spectra

    for plugin in options.plugin:
        load_plugin(plugin)
    plan = SpectrumPlan(options.queries, options.seed, options.method, options.components)
    name, data_path = None, None
    if options.dataset is not None:
        name, data_path = dataset_name(options.dataset), options.dataset if is_table(options.dataset) else None
        if data_path is None and "/" in options.dataset:
            data_path = str(Path(options.dataset).parent)
    groups = find_spectrum_groups(options.runs, options.results, name)
    output = options.output or options.results[0] / "spectrum"
    require_writable(output)
    runs = tracked([run for group in groups for run in group.runs], "measuring", "runs")
    spectra_of_runs = (measure_run(run, plan, device=options.device, data_path=data_path) for run in runs)
    measured = [MeasuredGroup(group, tuple(islice(spectra_of_runs, len(group.runs)))) for group in groups]
    spectra = Spectra(tuple(measured), options.seed)
    written = write_spectra(spectra, output)
    print_table(spectra_table(spectra), options.format)
    print(f"files in {output}: {', '.join(path.name for path in written)}", file=sys.stderr)
    return 0
