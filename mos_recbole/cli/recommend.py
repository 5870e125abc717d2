"""Recommends items by a finished run's model, for users of its data or for new sequences.

It needs the run's checkpoint and its data (docs/after-training.md). The lists have the columns query, rank, item and
score: the log-probability, or what RecBole's own classes score. They go to standard output as CSV, or to a file.

examples:
  ten items for two users
    %(prog)s results/runs/GRU4RecMoS-ml-100k-seed2020-84b3... --users 196 186
  for all users, without what they know already, as a Parquet file
    %(prog)s GRU4RecMoS --all-users --filter-seen --output lists.parquet
  for new users: a line a sequence, the oldest item first, names with spaces between them
    %(prog)s GRU4RecMoS --sequences new.txt --k 20 --output lists.csv
  for the queries of the test, as `score` takes them
    %(prog)s GRU4RecMoS --held-out test --k 100 --output lists.parquet
"""

import argparse
import logging
import sys

from mos_recbole.cli.one_run import add_run_options, load_one_run
from mos_recbole.cli.parser import Parser, Several, path
from mos_recbole.errors import InputError

_log = logging.getLogger(__name__)

LOADS = "mos_recbole.experiment.recommend"
_FILE = "new sequences: a line each, items with spaces between them; .jsonl: lists, or objects with query and items"
_HELD_OUT = "the queries that the run itself was selected (valid) or judged by (test), with their positions"
_OUTPUT = ".csv, .parquet or .jsonl (default: CSV on standard output)"
INTERRUPTED = "no file was written"


def add_options(parser: Parser) -> None:
    parser.section("for whom")
    queries = parser.add_mutually_exclusive_group(required=True)
    queries.add_argument("--users", action=Several, nargs="+", metavar="NAME", default=None, help="of the data")
    queries.add_argument("--sequences", type=path, metavar="FILE", help=_FILE)
    queries.add_argument("--all-users", action="store_true", help="all users of the data")
    queries.add_argument("--held-out", choices=["valid", "test"], help=_HELD_OUT)
    parser.section("the lists")
    parser.add_argument("--k", type=int, default=10, metavar="N", help="items a list (default: 10)")
    parser.add_argument(
        "--filter-seen",
        action=argparse.BooleanOptionalAction,
        help="leave out items of the query's history (default: as in the run)",
    )
    parser.add_argument("--strict", action="store_true", help="refuse sequences with unknown items")
    parser.add_argument("--output", type=path, default=None, metavar="FILE", help=_OUTPUT)
    parser.section("options")
    add_run_options(parser)


def call(options: argparse.Namespace) -> int:
    from mos_recbole.experiment.recommend import SUFFIXES, read_sequences, recommend, write_lists, write_rows
    from mos_recbole.io import require_new

    if options.output is not None:
        if options.output.suffix not in SUFFIXES:
            raise InputError(f"--output {options.output}: expected a name that ends in {', '.join(SUFFIXES)}")
        require_new(options.output, options.force)
    run = load_one_run(options)
    sequences = None if options.sequences is None else read_sequences(options.sequences)
    lists = recommend(run, sequences, options.users, options.k, options.filter_seen, options.strict, options.held_out)
    if options.output is None:
        if sys.stdout is None:
            raise InputError("standard output is closed; expected one that can be written to, or --output")
        write_rows(lists, sys.stdout.buffer, ".csv")
        return 0
    _log.info(f"{write_lists(lists, options.output):,} rows in {options.output}")
    return 0
