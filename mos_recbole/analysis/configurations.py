"""Configurations: runs that differ in the seed only, how they are told apart, and their test metrics."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd

from mos_recbole.analysis.outcomes import TABLE_METRICS, checked_metrics, iterate_query_values, user_numbers
from mos_recbole.errors import InputError
from mos_recbole.evaluation import Interval, bootstrap_mean, counts_interval
from mos_recbole.results import RunResult


def group_by_configuration(records: Iterable[RunResult]) -> list[list[RunResult]]:
    """Returns the runs of every configuration, by seed; a run given twice is no second observation.

    A configuration is a model with its settings, the seed apart, its code and its protocol.
    """
    groups: dict[tuple[object, ...], list[RunResult]] = {}
    # By seed, so that the same runs are resampled in the same order whatever order they were given in.
    for record in sorted({record.run_id: record for record in records}.values(), key=lambda record: record.seed):
        settings = tuple((key, str(value)) for key, value in record.settings.items() if key != "seed")
        groups.setdefault((record.model, record.code, record.protocol_hash, settings), []).append(record)
    return list(groups.values())


def attributes(record: RunResult) -> dict[str, object]:
    """Returns what a run may be told apart by: its settings, and its seed, code, protocol and run id."""
    others = {"seed": record.seed, "code": record.code, "protocol": record.protocol_hash, "run": record.run_id}
    return record.settings | others


def differing_settings(records: Sequence[RunResult]) -> list[str]:
    """Returns the settings in which configurations differ; "code" where the code does.

    "protocol" is among them only where nothing else tells them apart: settings say more than a hash.
    """
    candidates = [attributes(record) for record in records]
    keys = list(dict.fromkeys(key for one in candidates for key in one if key not in ("model", "seed", "run")))
    differing = [key for key in keys if len({str(one.get(key)) for one in candidates}) > 1]
    without_protocol = [key for key in differing if key != "protocol"]

    def told_apart_by(keys: list[str]) -> int:
        return len({tuple(str(one.get(key)) for key in keys) for one in candidates})

    return without_protocol if told_apart_by(without_protocol) == told_apart_by(differing) else differing


def describe(record: RunResult, keys: Iterable[str]) -> str:
    """Returns "GRU4RecMoS mos_heads=4 code=0.1.0": the model and some of its `attributes`."""
    values = attributes(record)
    return " ".join([record.model, *(f"{key}={values.get(key)}" for key in keys)])


def labels(groups: Sequence[Sequence[RunResult]]) -> list[str]:
    """Returns the configurations' names: the model, with the settings in which those of the same model differ."""
    names = []
    for runs in groups:
        rivals = [other[0] for other in groups if other[0].model == runs[0].model]
        names.append(describe(runs[0], differing_settings(rivals)))
    return names


@dataclass(frozen=True)
class ConfigurationRow:
    """A configuration with its test metrics.

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
    the 95 % bootstrap interval over users, and over seeds where there are several (`evaluation.bootstrap_mean`, and
    `counts_interval` of metrics of all lists together).

    Raises:
        InputError: no records, runs of different protocols, an unknown metric or one that needs what the runs do not
            keep, or outcomes that are missing or not of the same queries.
    """
    if not records:
        raise InputError("no finished runs to compare")
    protocols = {record.protocol_hash for record in records}
    if len(protocols) > 1:
        differ = sorted({f"{record.protocol_hash}: {record.dataset} {record.protocol}" for record in records})
        raise InputError("runs of different protocols do not belong in one table; choose one of\n" + "\n".join(differ))
    groups = group_by_configuration(records)
    first_seen = list(dict.fromkeys(record.model for record in records))
    labelled = zip(labels(groups), groups, strict=True)
    in_order = sorted(labelled, key=lambda group: (first_seen.index(group[1][0].model), _natural(group[0])))
    # One after the other: of millions of queries, not all fit into memory.
    names = checked_metrics(metrics)
    found = iterate_query_values([run for _, runs in in_order for run in runs], names)
    return [
        ConfigurationRow(label, tuple(runs), _intervals(islice(found, len(runs)), names, runs[0]))
        for label, runs in in_order
    ]


def metric_intervals(runs: Sequence[RunResult], metrics: Sequence[str]) -> dict[str, Interval]:
    """Returns the metrics of runs that differ in the seed only, each with its interval over users and seeds.

    Raises:
        InputError: the runs' outcomes are not of the same queries.
    """
    return _intervals(iterate_query_values(runs, metrics), metrics, runs[0])


def _intervals(
    runs: Iterable[tuple[pd.DataFrame, dict[str, np.ndarray]]], metrics: Sequence[str], first: RunResult
) -> dict[str, Interval]:
    """Returns the metrics of some of `iterate_query_values`, the first run's first.

    Queries without a value (GAUC) are left out.
    """
    rows = []
    for table, values in runs:
        user_Q = user_numbers(table)
        rows.append(values)
    intervals = {}
    for metric in metrics:
        values_SQ = np.stack([row[metric] for row in rows])
        if values_SQ.ndim == 3:
            intervals[metric] = counts_interval(metric, values_SQ, user_Q, first.n_items)
            continue
        defined = ~np.isnan(values_SQ).any(axis=0)
        intervals[metric] = bootstrap_mean(values_SQ[:, defined], user_Q[defined])
    return intervals


def _natural(label: str) -> list[tuple[int, str]]:
    """Returns a sort key by which mos_heads=2 comes before mos_heads=16."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", label)]
