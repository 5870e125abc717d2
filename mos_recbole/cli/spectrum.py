"""Measures the rank of trained models' log-probabilities.

It computes them for all items and the same validation queries. It shows the singular values of that matrix, raw and
centred, its numerical and effective rank, and how much of it is beyond rank d + 1 (docs/spectrum.md). It needs the
runs' checkpoints and their data.

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
import sys

from mos_recbole.cli.output import print_table
from mos_recbole.cli.parser import Parser
from mos_recbole.cli.trained_runs import add_trained_run_options, ask_groups

LOADS = "mos_recbole.experiment.spectra"
INTERRUPTED = "nothing was written"


def add_options(parser: Parser) -> None:
    add_trained_run_options(parser, "spectrum")


def call(options: argparse.Namespace) -> int:
    from mos_recbole.analysis import MeasuredGroup, Spectra
    from mos_recbole.experiment.spectra import SpectrumPlan, measure_run
    from mos_recbole.report import spectra_table, write_spectra

    plan = SpectrumPlan(options.queries, options.seed, options.method, options.components)
    output = options.output or options.results[0] / "spectrum"
    measured = ask_groups(
        options, output, "measuring", lambda run, path: measure_run(run, plan, device=options.device, data_path=path)
    )
    spectra = Spectra(tuple(MeasuredGroup(*one) for one in measured), options.seed)
    written = write_spectra(spectra, output)
    print_table(spectra_table(spectra), options.format)
    print(f"files in {output}: {', '.join(path.name for path in written)}", file=sys.stderr)
    return 0
