"""Measures what the order of interactions of equal time does to a metric: the same data and models, the ties in other
orders (setting `tie_order`). Reads the results of finished runs and sweeps.

example:
  python benchmarks/studies/ties.py results/article/ml-100k/heads results/article/ml-100k/ties-random
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from mos_recbole.analysis import aligned_outcomes, group_by_configuration, labels, metric_values, user_numbers
from mos_recbole.errors import InputError
from mos_recbole.evaluation import Difference, Interval, compare_means, holm, mean_interval
from mos_recbole.report import Table
from mos_recbole.report.formatting import (
    difference_cell,
    format_count,
    interval_cell,
    interval_columns,
    number_cell,
    p_value_cell,
    words,
)
from mos_recbole.report.table import TABLE_FORMATS
from mos_recbole.results import RunResult, find_records

_ORDERS = ("file", "random", "reverse")


@dataclass(frozen=True)
class TieRow:
    """A configuration with the ties in one order.

    Attributes:
        label: the model, with the settings in which the table's configurations differ.
        order: the setting `tie_order`.
        n_seeds: runs.
        mean: of the metric over all queries.
        tied, untied: over the queries whose target has the time of the item before it, and over the others; None where
            there are none.
        difference: from the order of the file, on the targets that are queries in both orders; None for the file's own,
            and where these targets are of fewer than two users.
        adjusted_p_value: of `difference`, by Holm's method over all rows.
        n_common: targets that are queries in both orders.
    """

    label: str
    order: str
    n_seeds: int
    mean: Interval
    tied: Interval | None
    untied: Interval | None
    difference: Difference | None
    adjusted_p_value: float | None
    n_common: int


@dataclass(frozen=True)
class TieEffects:
    """A metric by the order of ties. `tie_effects` returns it.

    Attributes:
        protocol_hash: of the runs in the order of the file.
        tied_share: share of the interactions of the data that share their time with another of the same user.
        tied_test_share: share of the test's targets, in the order of the file, that have the time of the item before.
    """

    dataset: str
    protocol_hash: str
    metric: str
    rows: tuple[TieRow, ...]
    tied_share: float
    tied_test_share: float


def ties_table(effects: TieEffects) -> Table:
    """Returns a table with a row per configuration and order."""
    rows = [
        {
            "model": words(row.label),
            "ties": words(row.order),
            "seeds": number_cell(row.n_seeds, "d"),
            effects.metric: interval_cell(row.mean),
            "tied targets": interval_cell(row.tied) if row.tied else words("none"),
            "others": interval_cell(row.untied) if row.untied else words("none"),
            "less the file's order [95 %]": difference_cell(row.difference),
            "p": p_value_cell(row.difference.p_value if row.difference else None),
            "p (Holm)": p_value_cell(row.adjusted_p_value),
        }
        for row in effects.rows
    ]
    frame = pd.DataFrame(
        [
            {
                "model": row.label,
                "ties": row.order,
                "seeds": row.n_seeds,
                **interval_columns(effects.metric, row.mean),
                **interval_columns("tied targets", row.tied),
                **interval_columns("others", row.untied),
                **interval_columns("less the file's order", _as_interval(row.difference)),
                "p": row.difference.p_value if row.difference else None,
                "p (Holm)": row.adjusted_p_value,
                "common targets": row.n_common or None,
            }
            for row in effects.rows
        ]
    )
    return Table("ties", f"{effects.metric} by the order of equal times", _caption(effects), rows, frame)


def _as_interval(difference: Difference | None) -> Interval | None:
    return None if difference is None else Interval(difference.effect, difference.low, difference.high)


def _caption(effects: TieEffects) -> str:
    """Returns what the table's numbers mean, in a few lines."""
    common = min((row.n_common for row in effects.rows if row.difference is not None), default=0)
    return (
        f"{effects.dataset}: {effects.tied_share:.1%} of the interactions share their time with another of the same "
        f"user, and {effects.tied_test_share:.1%} of the test's targets have the time of the item before them: which "
        "of the two is first is the file's choice. Test means ± half the width of the 95 % interval over "
        "users and seeds; models are trained and tested on the same interactions with ties in the file's order, "
        "in one random order, and in the file's order backwards.\n"
        f"less the file's order: on the {format_count(common, 'target')} or more that are queries in both; p: "
        "two-sided, of the null hypothesis that the order leaves the mean over all users and seeds as it is; users "
        "are the unit, seeds the second level; Holm's correction over this table."
    )


def tie_effects(records: Sequence[RunResult], metric: str = "Recall@100") -> list[TieEffects]:
    """Returns the effects of the order of ties, one for each data set and split with runs in several orders.

    Args:
        records: of finished runs, of any data sets; configurations without runs in the order of the file are left out.
        metric: any that is computed from target ranks.

    Raises:
        InputError: outcomes are missing, or those of one configuration and order are not of the same queries.
    """
    configurations: dict[str, dict[str, list[RunResult]]] = {}
    for runs in group_by_configuration(records):
        order = runs[0].settings.get("tie_order")
        if order is not None:  # else a run of before there was this setting
            configurations.setdefault(_but_for_order(runs[0]), {}).setdefault(order, []).extend(runs)
    by_protocol: dict[tuple[str, str], list[dict[str, list[RunResult]]]] = {}
    for orders in configurations.values():
        if "file" in orders and len(orders) > 1:
            first = orders["file"][0]
            by_protocol.setdefault((first.dataset, first.protocol_hash), []).append(orders)
    return [_effects(several, metric) for several in by_protocol.values()]


# Of the data, whose fingerprint is another in every order.
_COUNTS = ("users", "items", "interactions")


def _but_for_order(record: RunResult) -> str:
    """Returns what runs have in common that differ in seed and order of ties only."""
    settings = {key: str(value) for key, value in sorted(record.settings.items()) if key not in ("tie_order", "seed")}
    counts = [record.data.get(key) for key in _COUNTS]
    return str([record.dataset, counts, record.protocol, record.model, record.code, settings])


def _effects(configurations: Sequence[dict[str, list[RunResult]]], metric: str) -> TieEffects:
    first = configurations[0]["file"][0]
    names = labels([orders["file"] for orders in configurations])
    rows = []
    for label, orders in zip(names, configurations, strict=True):
        reference = aligned_outcomes(orders["file"])
        found = sorted(orders.items(), key=lambda item: _ORDERS.index(item[0]))
        rows += [_row(label, order, runs, reference, metric) for order, runs in found]
    p_values = {number: row.difference.p_value for number, row in enumerate(rows) if row.difference is not None}
    adjusted = dict(zip(p_values, holm([*p_values.values()]), strict=True))
    return TieEffects(
        dataset=first.dataset,
        protocol_hash=first.protocol_hash,
        metric=metric,
        rows=tuple(replace(row, adjusted_p_value=adjusted.get(number)) for number, row in enumerate(rows)),
        tied_share=first.data["tied_share"],
        tied_test_share=float((first.outcomes()["time_gap"] == 0).mean()),
    )


def _row(label: str, order: str, runs: Sequence[RunResult], reference: Sequence[pd.DataFrame], metric: str) -> TieRow:
    tables = aligned_outcomes(runs)
    if "time_gap" not in tables[0]:
        raise InputError(f"{runs[0].folder}: its outcomes have no column time_gap")
    values_SQ, users = metric_values(tables, metric), user_numbers(tables[0])
    is_tied = tables[0]["time_gap"].to_numpy() == 0
    defined = ~np.isnan(values_SQ).any(axis=0)  # of GAUC, a target that is the only candidate has none

    def mean_of(chosen: np.ndarray) -> Interval | None:
        chosen = chosen & defined
        return mean_interval(values_SQ[:, chosen], users[chosen]) if chosen.any() else None

    difference, n_common = None, 0
    if order != "file":
        reference_SQ = metric_values(reference, metric)
        theirs, ours = _common_rows(reference[0], tables[0])
        both = defined[ours] & ~np.isnan(reference_SQ[:, theirs]).any(axis=0)
        theirs, ours = theirs[both], ours[both]
        n_common = len(ours)
        if len(np.unique(users[ours])) > 1:
            difference = compare_means(reference_SQ[:, theirs], values_SQ[:, ours], users[ours])
    return TieRow(
        label=label,
        order=order,
        n_seeds=len(runs),
        mean=mean_interval(values_SQ[:, defined], users[defined]),
        tied=mean_of(is_tied),
        untied=mean_of(~is_tied),
        difference=difference,
        adjusted_p_value=None,
        n_common=n_common,
    )


def _common_rows(first: pd.DataFrame, second: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows of either table with the same user and target, equal ones in turn."""
    keys = []
    for table in (first, second):
        key = table[["user", "target"]].assign(row=np.arange(len(table)))
        keys.append(key.assign(time=key.groupby(["user", "target"]).cumcount()))
    both = keys[0].merge(keys[1], on=["user", "target", "time"], suffixes=("_first", "_second"))
    return both["row_first"].to_numpy(), both["row_second"].to_numpy()


def main() -> int:
    """Prints a table for each data set and split with runs in several orders of ties."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="RESULTS", help="folders of runs or sweeps")
    parser.add_argument("--metric", default="Recall@100", help="computed from target ranks (default: Recall@100)")
    parser.add_argument("--format", default="github", choices=TABLE_FORMATS, help="default: github")
    options = parser.parse_args()
    try:
        records = [record for folder in options.folders for record in find_records(folder)]
        found = tie_effects(records, options.metric)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    if not found:
        print("no configuration has runs with tie_order: file and with another order", file=sys.stderr)
        return 2
    print("\n\n".join(ties_table(effects).text(options.format) for effects in found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
