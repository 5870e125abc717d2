"""Evaluates the recommended lists of another program by the protocol of the runs here.

What it writes is a run like any other: ls, table, compare, slice and report take it (docs/after-training.md).

LISTS is a .csv, .tsv, .parquet or .jsonl file with the columns user, item and rank or score, or a TREC run file.
Queries without a list count as misses. If there are scores, lists are ordered by them and equal scores are ties. A
column position says which of a user's queries a list is for, as in outcomes.parquet and in the files of `recommend
--held-out`.

examples:
  the lists of another library, beside your own runs
    %(prog)s lists.csv --name SASRec-RecTools --dataset ml-100k
  with the split and the protocol of your runs, from their file; three seeds are three files
    %(prog)s lists-1.parquet --name GRU4Rec-official --dataset dataset/beauty --config my.yaml --seed=1
"""

import argparse
import logging

from mos_recbole.cli.output import complete_runs
from mos_recbole.cli.parser import Parser, path

_log = logging.getLogger(__name__)

LOADS = "mos_recbole.experiment"


def add_options(parser: Parser) -> None:
    parser.add_argument("lists", type=path, metavar="LISTS", help="file of lists")
    parser.add_argument("--name", required=True, metavar="NAME", help="what tables call the model")
    parser.add_argument("--dataset", default="ml-100k", help="name or folder (default: ml-100k, built in)")
    parser.add_shared("--config", "--output", "--key=value")


def call(options: argparse.Namespace) -> int:
    from mos_recbole.experiment import score_lists
    from mos_recbole.report import comparison_table
    from mos_recbole.settings import load_data_settings

    settings = load_data_settings(options.dataset, options.config, options.settings)
    for warning in settings.warnings:
        _log.warning(warning)
    record = score_lists(options.lists, options.name, settings, options.output)
    metrics = complete_runs([record], settings.asked_metrics, settings.values["data_path"], notes=False)
    print(comparison_table([record], metrics).text())
    print(f"\nFiles (record, outcomes): {record.folder}")
    return 0
