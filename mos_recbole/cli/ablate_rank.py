"""Shows whether trained models use their rank: cuts their log-probabilities to lower ranks and scores what is left.

The nearest matrix of rank r replaces the log-probabilities of all items for the test queries. The directions that
stay are those of the validation queries (docs/ablate_rank.md). It needs the runs' checkpoints and their data.

examples:
  softmax and mixture side by side, cut to 1, 2, 4, ..., d, d + 1, ..., every configuration in results/
    %(prog)s GRU4RecSoftmax GRU4RecMoS
  one configuration at two ranks, with more metrics
    %(prog)s GRU4RecMoS:embedding_size=16,mos_heads=4 --ranks 16 17 --metrics NDCG@10 Recall@100
  a large catalogue: the 1,024 leading directions of 20,000 validation queries
    %(prog)s SASRecMoS --dataset data/ml-25m --queries 20000 --method randomised --components 1024
"""

import argparse
import sys

from mos_recbole.cli.output import print_table
from mos_recbole.cli.parser import Parser, Several
from mos_recbole.cli.trained_runs import add_trained_run_options, ask_groups

LOADS = "mos_recbole.experiment"
INTERRUPTED = "nothing was written"
_RANKS = "to cut to (default: 1, 2, 4, ... and d, d + 1)"


def add_options(parser: Parser) -> None:
    add_trained_run_options(parser, "ablate_rank")
    parser.section("what is measured")
    parser.add_argument("--ranks", action=Several, type=int, metavar="R", help=_RANKS)
    parser.add_argument("--metrics", help="of targets' ranks (default: NDCG@10)")


def call(options: argparse.Namespace) -> int:
    from mos_recbole.analysis import AblatedGroup, RankAblation, checked_metrics
    from mos_recbole.experiment.rank_ablation import ablate_run
    from mos_recbole.experiment.spectra import SpectrumPlan
    from mos_recbole.report import rank_ablation_table, write_rank_ablation

    plan = SpectrumPlan(options.queries, options.seed, options.method, options.components)
    metrics = checked_metrics(options.metrics or ["NDCG@10"])
    output = options.output or options.results[0] / "ablate_rank"
    cut = ask_groups(
        options,
        output,
        "cutting",
        lambda run, path: ablate_run(run, metrics, plan, options.ranks, device=options.device, data_path=path),
    )
    ablation = RankAblation(tuple(AblatedGroup(*one) for one in cut), options.seed)
    written = write_rank_ablation(ablation, output)
    print_table(rank_ablation_table(ablation), options.format)
    print(f"files in {output}: {', '.join(path.name for path in written)}", file=sys.stderr)
    return 0
