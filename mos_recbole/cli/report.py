"""Makes one page, tables and figures from the files of finished runs.

Every model is compared with the baseline head, and sliced to show where the two differ (docs/report.md).

examples:
  a page, tables and figures of all runs below results/, in results/report
    %(prog)s results
  with published numbers beside yours
    %(prog)s results/article --reference configs/references/biarnes-ml-25m.yaml
  your own head against the mixture of softmaxes instead of the softmax
    %(prog)s results --baseline mos
  of two sweeps, by other metrics (the first is drawn), in another folder
    %(prog)s results/article results/more-seeds --metrics NDCG@10 Novelty@10 --output study
"""

import argparse

from mos_recbole.cli.output import complete_runs
from mos_recbole.cli.parser import Parser, Several, path

LOADS = "mos_recbole.report"


def add_options(parser: Parser) -> None:
    parser.add_results()
    parser.section("output")
    parser.add_argument("--output", default=None, help="for the report (default: report in the first results folder)")
    parser.section("what is shown")
    parser.add_argument(
        "--reference",
        action=Several,
        default=[],
        type=path,
        metavar="FILE",
        help="YAML files of published numbers to show beside yours",
    )
    parser.add_argument(
        "--baseline", metavar="HEAD_OR_MODEL", help="what others are compared with (default: the head softmax)"
    )
    parser.add_shared("--metric", "--metrics", "--data-path", "--cost", "--margin")


def call(options: argparse.Namespace) -> int:
    from mos_recbole.analysis import asked_metrics
    from mos_recbole.report import write_report
    from mos_recbole.results import find_records

    records = [record for folder in options.results for record in find_records(folder)]
    if records:
        shown = options.metrics or asked_metrics(records)
        complete_runs(records, [*([options.metric] if options.metric else []), *shown], options.data_path)
    page, *others = write_report(
        options.results,
        options.output,
        options.metric,
        options.reference,
        options.baseline,
        options.metrics,
        options.cost,
        options.margin / 100,
    )
    print(f"{page}\nand {len(others)} files of tables and figures beside it, in tables/ and figures/")
    return 0
