"""Shows where models differ: a test metric by one or two columns of their outcomes.

Every cell has intervals and, of two models, a test. docs/results.md lists the columns, docs/comparing.md describes
the tests.

examples:
  where two models differ: four bins of equally many queries, by the target's count in training
    %(prog)s GRU4RecSoftmax GRU4RecMoS --by train_count --metric Recall@100
  your own bins, [0, 814], (814, 4976], ...
    %(prog)s GRU4RecSoftmax GRU4RecMoS --by train_count:0,814,4976,13865,71317
  several metrics, a table each
    %(prog)s GRU4RecSoftmax GRU4RecMoS --by train_count --metrics NDCG@10 Novelty@10
  two columns crossed, without rare targets (quote the condition, because > has a meaning in the shell)
    %(prog)s GRU4RecSoftmax GRU4RecMoS --by train_count:4 --by previous_distance:3 --where 'train_count>814'
  three models beside each other, without tests
    %(prog)s GRU4RecSoftmax GRU4RecMoS SASRecMoS --by train_count
  one model, with a cell for every value
    %(prog)s GRU4RecMoS --by context_length:each
"""

import argparse

from mos_recbole.cli.output import complete_runs, print_tables
from mos_recbole.cli.parser import Parser

LOADS = "mos_recbole.report"
_BY = "a column with a number of quantile bins (default: 4), edges e0,e1,... or each; once or twice"


def add_options(parser: Parser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="one or more, named as for compare; two are tested against each other"
    )
    parser.section("runs")
    parser.add_shared("--results", "--dataset", "--best")
    parser.section("what is shown")
    parser.add_argument("--by", action="append", required=True, metavar="COLUMN[:BINS]", help=_BY)
    parser.add_shared("--metric", "--metrics", "--where", "--data-path", "--margin")
    parser.add_table()


def call(options: argparse.Namespace) -> int:
    from mos_recbole.analysis import find_run_groups, leading_metric, parse_condition, parse_slice_by, slice_groups
    from mos_recbole.report import slices_table

    by, where = [parse_slice_by(text) for text in options.by], [parse_condition(text) for text in options.where]
    groups = find_run_groups(options.runs, options.results, dataset=options.dataset, best=options.best)
    asked = [*([options.metric] if options.metric else []), *(options.metrics or [])]
    runs = [run for group in groups for run in group.runs]
    metrics = complete_runs(runs, asked or [leading_metric(runs)], options.data_path)
    margin = options.margin / 100
    print_tables([slices_table(slice_groups(groups, metric, by, where, margin)) for metric in metrics], options)
    return 0
