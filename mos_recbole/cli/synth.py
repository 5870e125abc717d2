"""Makes a data set whose next-item log-probabilities have a known rank.

It draws users' sequences and writes them as an atomic data set. The truth is beside it: the probabilities, their
entropy, and the best loss, Recall and NDCG that a model can reach (docs/planted_rank.md).

examples:
  log-probabilities of rank 64 over 500 items, 5,000 users
    %(prog)s --rank 64 --users 5000 --items 500 --out dataset/rank64
  next items that are hard to predict (4.5 nats), with a tenth of the context's information lost
    %(prog)s --rank 64 --users 5000 --items 500 --entropy 4.5 --noise 0.1 --out dataset/hard
  users who stay within groups of items
    %(prog)s --rank 64 --users 5000 --items 500 --diversity 0.3 --out dataset/narrow
"""

import argparse
import shlex

from mos_recbole.cli.parser import Parser, path

_DIVERSITY = "from 0, where an item is close to the one before, to 1, where it is unrelated (default: 1)"
_DECAY = "the k-th singular value of what contexts say is in proportion to k^-A (default: 0, all are equal)"
_ENTROPY = "of the next item, before the noise (default: two thirds of what item popularity alone gives)"
INTERRUPTED = "no partial data are left"


def add_options(parser: Parser) -> None:
    parser.add_argument("--rank", type=int, required=True, metavar="R", help="rank of the log-probabilities, 1 to V")
    parser.add_argument("--users", type=int, required=True, metavar="N", help="number of users, 3 or more")
    parser.add_argument("--items", type=int, required=True, metavar="V", help="number of items, 2 or more")
    parser.add_argument("--out", type=path, required=True, metavar="DIR", help="folder of the new data set")
    parser.section("the process")
    parser.add_argument("--diversity", type=float, default=1.0, metavar="X", help=_DIVERSITY)
    parser.add_argument("--noise", type=float, default=0.0, metavar="Y", help="share of the context lost (default: 0)")
    parser.add_argument("--decay", type=float, default=0.0, metavar="A", help=_DECAY)
    parser.add_argument("--entropy", type=float, metavar="NATS", help=_ENTROPY)
    parser.add_argument("--length", type=float, default=20.0, metavar="L", help="mean length of a user (default: 20)")
    parser.add_argument("--seed")


def call(options: argparse.Namespace) -> int:
    from mos_recbole.synthetic import write_planted

    truth = write_planted(
        options.out,
        rank=options.rank,
        n_users=options.users,
        n_items=options.items,
        diversity=options.diversity,
        noise=options.noise,
        decay=options.decay,
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
    print(f"next:              {shlex.join(['mos-recbole', 'run', '--model', 'GRU4RecMoS', '--dataset', place])}")
    return 0
