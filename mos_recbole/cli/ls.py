"""Lists the finished runs of a results folder."""

import argparse
from pathlib import Path

from mos_recbole.cli.parser import Parser

SUMMARY = "list the finished runs of a results folder"


def add_options(parser: Parser) -> None:
    parser.add_argument("output", nargs="?", default="results", type=Path, metavar="FOLDER", help="default: results")


def call(options: argparse.Namespace) -> int:
    from mos_recbole.report import runs_table
    from mos_recbole.results import find_records

    records = find_records(options.output)
    print(runs_table(records) if records else f"no finished runs in {options.output}")
    return 0
