"""Compares runs or models in pairs: the difference of their test metrics, with its interval and its p value.

They must be of one protocol. Differences are on the same queries and across seeds; p values are corrected by Holm's
method (docs/comparing.md).

examples:
  two models, over the seeds of each
    %(prog)s GRU4RecSoftmax GRU4RecMoS
  several settings of one model, from your own results
    %(prog)s GRU4RecMoS:mos_heads=2 GRU4RecMoS:mos_heads=4 --results my-results --metrics NDCG@10 Recall@100
  the configurations that are best on validation, from a sweep over several data sets
    %(prog)s GRU4RecSoftmax GRU4RecMoS SASRec --results my-sweep --dataset ml-100k --best
  without rare targets (quote the condition, because > has a meaning in the shell)
    %(prog)s GRU4RecSoftmax GRU4RecMoS --where 'train_count>814'
"""

import argparse

from mos_recbole.cli.output import complete_runs, print_tables
from mos_recbole.cli.parser import Parser

LOADS = "mos_recbole.report"
_RUN = (
    "two or more: a run's folder; a run id or its first six or more digits; a model, over all its seeds; "
    "or Model:key=value,key=value if there are runs with several settings"
)


def add_options(parser: Parser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help=_RUN)
    parser.section("runs")
    parser.add_shared("--results", "--dataset", "--best")
    parser.section("what is shown")
    parser.add_shared("--metrics", "--where", "--margin", "--data-path")
    parser.add_table()


def call(options: argparse.Namespace) -> int:
    from mos_recbole.analysis import compare_groups, find_run_groups, parse_condition
    from mos_recbole.report import comparisons_table

    where = [parse_condition(text) for text in options.where]
    groups = find_run_groups(options.runs, options.results, dataset=options.dataset, best=options.best)
    runs = [run for group in groups for run in group.runs]
    metrics = complete_runs(runs, options.metrics, options.data_path)
    print_tables([comparisons_table(compare_groups(groups, metrics, where, options.margin / 100))], options)
    return 0
