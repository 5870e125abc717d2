"""Lists the finished runs of a results folder, oldest first."""

import argparse
from pathlib import Path

from mos_recbole.cli.parser import Parser

SUMMARY = "list the finished runs of a results folder"


def add_options(parser: Parser) -> None:
    parser.add_argument("output", nargs="?", default="results", type=Path, metavar="FOLDER", help="default: results")


def call(options: argparse.Namespace) -> int:
    # Results alone: the rooms above them wait for PyTorch.
    from tabulate import tabulate

    from mos_recbole.results import find_records

    rows = [
        {
            "run": record.run_id,
            "model": record.model,
            "data": record.dataset,
            "seed": record.seed,
            "epochs": f"{record.best_epoch}/{record.epochs}",
            "stopped": (record.stopped or "").replace("_", " "),
            f"valid {record.valid_metric}": f"{record.valid[record.valid_metric].value:.4f}" if record.valid else "",
            "protocol": record.protocol_hash,
            "finished": record.finished[:19],
        }
        for record in find_records(options.output)
    ]
    table = tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True)
    print(table if rows else f"no finished runs in {options.output}")
    return 0
