"""Lists finished runs, the newest first.

Columns are what the runs differ in. What is the same in all of them stands below.

examples:
  the runs in results/, or in the results folders in it
    %(prog)s
  those of a sweep, the best on validation first
    %(prog)s results/ml-100k-quick --sort metric
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mos_recbole.cli.parser import Parser

if TYPE_CHECKING:
    from mos_recbole.results import RunResult

_DIGITS = 8  # of a run's id
_MOST_SETTINGS, _WIDEST = 6, 16  # settings that have columns, and letters of their values


def add_options(parser: Parser) -> None:
    parser.add_results()
    parser.add_argument(
        "--sort", choices=("newest", "metric"), default="newest", help="newest, or best on validation (default: newest)"
    )
    parser.add_shared("--dataset")


def call(options: argparse.Namespace) -> int:
    # Results alone: the rooms above them wait for PyTorch.
    from mos_recbole.results import find_records, folders_below, results_folders

    found = {record.folder: record for folder in options.results for record in find_records(folder)}
    records = [record for record in found.values() if options.dataset in (None, record.dataset)]
    records.sort(key=lambda record: record.finished, reverse=True)
    if options.sort == "metric":
        records.sort(key=_by_validation)
    if records:
        _print(records)
    else:
        others = sorted({record.dataset for record in found.values()})
        on = f" on {options.dataset!r}; there are runs on {', '.join(others)}" if others else ""
        print(f"no finished runs in {', '.join(map(str, options.results))}{on}")
    read = {place for folder in options.results for place in results_folders(folder)}
    if others := [str(place) for folder in options.results for place in folders_below(folder) if place not in read]:
        print(f"More runs are in {', '.join(others)}.")
    return 0


def _by_validation(record: "RunResult") -> tuple[bool, str, float]:
    """Returns a sort key by which the best come first, metric by metric, and last those without validation."""
    metric = record.valid.get(record.valid_metric)
    sign = -1 if metric is not None and metric.direction == "higher" else 1
    return metric is None, record.valid_metric, 0.0 if metric is None else sign * metric.value


def _print(records: "Sequence[RunResult]") -> None:
    from tabulate import tabulate

    from mos_recbole.results import RUNS_FOLDER, code_name, format_parameter, setting_columns, varied_settings

    facts = {
        "data": [record.dataset for record in records],
        "seed": [str(record.seed) for record in records],
        "code": [code_name(record) for record in records],
        "protocol": [record.protocol_hash for record in records],
        "folder": [
            str(folder.parent if folder.name == RUNS_FOLDER else folder)
            for folder in (record.folder.parent for record in records)
        ],
    }
    keys = [key for key in varied_settings(records) if key not in ("dataset", "code", "protocol")]
    settings, stands_for = setting_columns(records, keys)
    varied = {}
    for name, values in settings.items():
        texts = ["" if value is None else format_parameter(value) for value in values]
        if len(set(texts) - {""}) > 1:
            varied[name] = texts
    fitting = [name for name, values in varied.items() if max(map(len, values)) <= _WIDEST]
    shown = {name: varied[name] for name in fitting[:_MOST_SETTINGS]}
    short = {record.run_id[:_DIGITS] for record in records}
    digits = _DIGITS if len(short) == len({record.run_id for record in records}) else None
    rows = [
        {
            "run": record.run_id[:digits],
            "model": record.model,
            **{name: values[row] for name, values in shown.items()},
            **{name: values[row] for name, values in facts.items() if len(set(values)) > 1 and name != "folder"},
            "epochs": f"{record.best_epoch}/{record.epochs}",
            f"valid {record.valid_metric}": f"{record.valid[record.valid_metric].value:.4f}" if record.valid else "",
            "finished": record.finished[:16].replace("T", " "),
            **{name: values[row] for name, values in facts.items() if len(set(values)) > 1 and name == "folder"},
        }
        for row, record in enumerate(records)
    ]
    print(tabulate(rows, headers="keys", tablefmt="simple", disable_numparse=True))
    same = [f"{name} {values[0]}" for name, values in facts.items() if len(set(values)) == 1]
    lines = [f"The same in all: {', '.join(same)}." if same else "", stands_for if shown else ""]
    if left := [name for name in varied if name not in shown]:
        lines.append(f"Different too: {', '.join(left)}.")
    print("\n" + "\n".join(filter(None, lines)))
