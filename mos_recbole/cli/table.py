"""Makes the comparison table again, from the files of finished runs.

examples:
  of all runs below results/
    %(prog)s
  of one folder, by other metrics, as files for a paper
    %(prog)s results/ml-100k-d32 --metrics MAP@5 NDCG@20 --output tables
"""

import argparse

from mos_recbole.cli.output import complete_runs, print_tables
from mos_recbole.cli.parser import Parser

LOADS = "mos_recbole.report"


def add_options(parser: Parser) -> None:
    parser.add_results()
    parser.add_shared("--dataset")
    parser.add_argument("--protocol", metavar="HASH", help="only runs of this protocol, as ls shows it")
    parser.section("what is shown")
    parser.add_shared("--metrics", "--cost", "--data-path")
    parser.add_table()


def call(options: argparse.Namespace) -> int:
    from mos_recbole.report import comparison_table
    from mos_recbole.results import find_records

    records = [record for folder in options.results for record in find_records(folder)]
    if options.dataset is not None:
        records = [record for record in records if record.dataset == options.dataset]
    if options.protocol is not None:
        records = [record for record in records if record.protocol_hash == options.protocol]
    metrics = complete_runs(records, options.metrics, options.data_path)
    print_tables([comparison_table(records, metrics, options.cost)], options)
    return 0
