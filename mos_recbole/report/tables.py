"""The comparison table and the list of runs."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd
from tabulate import tabulate

from mos_recbole.errors import InputError
from mos_recbole.evaluation import Interval, bootstrap_mean, compute_metrics, metric_direction
from mos_recbole.report.configurations import group_by_configuration, labels
from mos_recbole.results import RunResult

TABLE_METRICS = ("Recall@10", "NDCG@10", "MRR@10", "Recall@100")


@dataclass(frozen=True)
class ConfigurationRow:
    """A configuration in the comparison table.

    Attributes:
        label: model, with the settings in which configurations of the model differ.
        runs: by seed.
        intervals: test metrics by name.
    """

    label: str
    runs: tuple[RunResult, ...]
    intervals: dict[str, Interval]


def configuration_rows(records: Sequence[RunResult], metrics: Sequence[str] = TABLE_METRICS) -> list[ConfigurationRow]:
    """Returns a row per model and settings, with test metrics; runs that differ in the seed only share a row.

    The metrics are recomputed from the outcomes files, whatever cut-offs the runs were configured with; an interval is
    the 95 % bootstrap interval over users, and over seeds where there are several (`evaluation.bootstrap_mean`).

    Raises:
        InputError: no records, runs of different protocols, or outcomes that are missing or not of the same queries.
    """
    if not records:
        raise InputError("no finished runs to compare")
    protocols = {record.protocol_hash for record in records}
    if len(protocols) > 1:
        differ = sorted({f"{record.protocol_hash}: {record.dataset} {record.protocol}" for record in records})
        raise InputError("runs of different protocols cannot stand in one table; choose one of\n" + "\n".join(differ))
    groups = group_by_configuration(records)
    first_seen = list(dict.fromkeys(record.model for record in records))
    labelled = zip(labels(groups), groups, strict=True)
    in_order = sorted(labelled, key=lambda group: (first_seen.index(group[1][0].model), _natural(group[0])))
    # One after the other: of millions of queries, not all fit into memory.
    tables = iterate_aligned_outcomes([run for _, runs in in_order for run in runs])
    return [
        ConfigurationRow(label, tuple(runs), _intervals(islice(tables, len(runs)), metrics)) for label, runs in in_order
    ]


def comparison_table(records: Sequence[RunResult], tablefmt: str = "github") -> str:
    """Returns a table with a row per model and settings: parameters, epochs, training time, test metrics ± interval.

    Args:
        records: of finished runs, as of `configuration_rows`.
        tablefmt: one of tabulate's formats, or "csv".

    Raises:
        InputError: as `configuration_rows`.
    """
    rows = comparison_cells(configuration_rows(records))
    if tablefmt == "csv":
        return pd.DataFrame(rows).to_csv(index=False).rstrip("\n")
    return tabulate(rows, headers="keys", tablefmt=tablefmt, disable_numparse=True, colalign=["left"] + ["right"] * 8)


def comparison_cells(rows: Sequence[ConfigurationRow]) -> list[dict[str, str]]:
    """Returns the rows of the comparison table as text, by column; ± is half the width of the interval."""
    return [
        {
            "model": row.label,
            "parameters": f"{row.runs[0].parameters:,}",
            "seeds": str(len(row.runs)),
            "epochs": _range([run.epochs for run in row.runs]),
            "training time": _duration(float(np.median([run.train_seconds for run in row.runs]))),
            **{
                f"{metric} {'↑' if metric_direction(metric) == 'higher' else '↓'}": format_interval(interval)
                for metric, interval in row.intervals.items()
            },
        }
        for row in rows
    ]


def metric_intervals(runs: Sequence[RunResult], metrics: Sequence[str]) -> dict[str, Interval]:
    """Returns the metrics of runs that differ in the seed only, each with its interval over users and seeds.

    Raises:
        InputError: the runs' outcomes are not of the same queries.
    """
    return _intervals(iterate_aligned_outcomes(runs), metrics)


def _intervals(tables: Iterable[pd.DataFrame], metrics: Sequence[str]) -> dict[str, Interval]:
    """Returns the metrics of some tables of `aligned_outcomes`; queries without a metric (GAUC) are left out of it."""
    rows: list[list[np.ndarray]] = []
    for table in tables:
        user_Q = user_numbers(table)
        rows.append([metric_values([table], metric)[0] for metric in metrics])
    intervals = {}
    for metric, *of_metric in zip(metrics, *rows, strict=True):
        values_SQ = np.stack(of_metric)
        defined = ~np.isnan(values_SQ).any(axis=0)
        intervals[metric] = bootstrap_mean(values_SQ[:, defined], user_Q[defined])
    return intervals


def aligned_outcomes(runs: Sequence[RunResult]) -> list[pd.DataFrame]:
    """Returns the outcomes of runs of one protocol, a row a query, the same query in the same row.

    The column `mean_rank` is added: the rank with ties at their mean, whatever the protocol's rule for them.

    Raises:
        InputError: outcomes that are missing, or not of the same queries.
    """
    return list(iterate_aligned_outcomes(runs))


def iterate_aligned_outcomes(runs: Sequence[RunResult]) -> Iterator[pd.DataFrame]:
    """Yields `aligned_outcomes` one by one: those of millions of queries need not be in memory together."""
    first = None
    for run in runs:
        table = run.outcomes()
        if missing := [column for column in _NEEDED if column not in table]:
            raise InputError(f"{run.folder}: its outcomes have no column {', '.join(missing)}")
        to_mean = {"optimistic": 0.5, "mean": 0.0, "pessimistic": -0.5}[run.protocol["tie_rule"]]
        table["mean_rank"] = table["rank"] + to_mean * table["tied"]
        if first is None:
            first = table[_QUERY]
        elif not _same_queries(table, first) and len(table) == len(first):
            # As a rule runs write their queries in one order; here is one that did not.
            table = table.sort_values(_QUERY).set_index(first.sort_values(_QUERY).index).sort_index()
        if not _same_queries(table, first):
            raise InputError(f"{run.folder}: its outcomes are of other queries than {runs[0].folder}'s")
        yield table


_QUERY = ["user", "position", "target"]
_NEEDED = (*_QUERY, "rank", "tied", "candidates")


def _same_queries(table: pd.DataFrame, other: pd.DataFrame) -> bool:
    return len(table) == len(other) and all(
        (table[column].to_numpy() == other[column].to_numpy()).all() for column in _QUERY
    )


def user_numbers(table: pd.DataFrame) -> np.ndarray:
    """Returns the number of every query's user, from 0."""
    return pd.factorize(table["user"], sort=True)[0]


def metric_values(tables: Sequence[pd.DataFrame], metric: str) -> np.ndarray:
    """Returns a metric that is computed from ranks, float64: a row a table of `aligned_outcomes`, a column a query."""
    rows = []
    for table in tables:
        rank, mean_rank, candidates = (table[column].to_numpy() for column in ("rank", "mean_rank", "candidates"))
        rows.append(compute_metrics([metric], rank, mean_rank, candidates)[1][metric])
    return np.stack(rows)


def runs_table(records: Sequence[RunResult], tablefmt: str = "simple") -> str:
    """Returns a table with a row per run, oldest first."""
    rows = [
        {
            "run": record.run_id,
            "model": record.model,
            "data": record.dataset,
            "seed": record.seed,
            "epochs": f"{record.best_epoch}/{record.epochs}",
            f"valid {record.valid_metric}": f"{record.valid[record.valid_metric].value:.4f}",
            "protocol": record.protocol_hash,
            "finished": record.finished[:19],
        }
        for record in records
    ]
    return tabulate(rows, headers="keys", tablefmt=tablefmt, disable_numparse=True)


def format_interval(interval: Interval) -> str:
    """Returns "0.0712 ± 0.0131"."""
    return f"{interval.mean:.4f} ± {interval.half_width:.4f}"


def _natural(label: str) -> list[tuple[int, str]]:
    """Returns a sort key by which mos_heads=2 comes before mos_heads=16."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", label)]


def _range(values: list[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)}-{max(values)}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"
