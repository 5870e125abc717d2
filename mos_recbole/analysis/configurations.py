"""Configurations: runs that differ in the seed only, how they are told apart, and their test metrics."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from mos_recbole.analysis.outcomes import TABLE_METRICS, checked_metrics, iterate_query_values, user_numbers
from mos_recbole.errors import InputError
from mos_recbole.evaluation import Interval, counts_interval, mean_interval, metric_direction
from mos_recbole.results import RunResult, attributes, differing_settings


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


def require_one_run_a_seed(label: str, runs: Iterable[RunResult]) -> None:
    """Raises InputError where two runs of a configuration have the same seed, as on two devices, or lists that were
    scored twice under a name."""
    by_seed: dict[int, list[RunResult]] = {}
    for run in runs:
        by_seed.setdefault(run.seed, []).append(run)
    for seed, repeated in by_seed.items():
        if len(repeated) > 1:
            lines = "\n".join(f"  {run.run_id}  {run.folder}" for run in repeated)
            raise InputError(
                f"{label}: seed {seed} appears {len(repeated)} times, and one seed is one observation; choose one of\n"
                + lines
            )


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

    def has(self, metric: str) -> bool:
        """Returns whether any query has the metric: RecBole's own classes have no loss."""
        return not np.isnan(self.intervals[metric].mean)


def configuration_rows(records: Sequence[RunResult], metrics: Sequence[str] = TABLE_METRICS) -> list[ConfigurationRow]:
    """Returns a row per model and settings, with test metrics; runs that differ in the seed only share a row.

    The metrics are recomputed from the outcomes files, whatever cut-offs the runs were configured with; an interval is
    the 95 % interval over users, and over seeds where there are several (`evaluation.mean_interval`, and
    `counts_interval` of metrics of all lists together).

    Raises:
        InputError: no records, runs of different protocols, a seed that a configuration has twice, an unknown metric or
            one that needs what the runs do not keep, or outcomes that are missing or not of the same queries.
    """
    if not records:
        raise InputError("no finished runs to compare")
    protocols = Counter(record.protocol_hash for record in records)
    if len(protocols) > 1:
        examples = {record.protocol_hash: record for record in records[::-1]}
        lines = []
        for key, one in sorted(examples.items()):
            data = f"{one.dataset} {one.data.get('fingerprint', '')[:16]}".strip()
            lines.append(f"{key}: {data}, {one.protocol}, {protocols[key]} of the runs, such as {one.folder}")
        raise InputError(
            "runs of different protocols do not belong in one table; choose one by --protocol:\n" + "\n".join(lines)
        )
    groups = group_by_configuration(records)
    first_seen = list(dict.fromkeys(record.model for record in records))
    labelled = list(zip(labels(groups), groups, strict=True))
    for label, runs in labelled:
        require_one_run_a_seed(label, runs)
    in_order = sorted(labelled, key=lambda group: (first_seen.index(group[1][0].model), _natural(group[0])))
    names = checked_metrics(metrics)
    intervals = group_intervals([runs for _, runs in in_order], names)
    return [ConfigurationRow(label, tuple(runs), own) for (label, runs), own in zip(in_order, intervals, strict=True)]


def best_first(rows: Iterable[ConfigurationRow], metric: str) -> list[ConfigurationRow]:
    """Returns configurations with the best mean of a metric first, and those without it last."""
    sign = -1 if metric_direction(metric) == "higher" else 1
    return sorted(rows, key=lambda row: sign * row.intervals[metric].mean if row.has(metric) else np.inf)


def metric_intervals(runs: Sequence[RunResult], metrics: Sequence[str]) -> dict[str, Interval]:
    """Returns the metrics of runs that differ in the seed only, each with its interval over users and seeds.

    Raises:
        InputError: the runs' outcomes are not of the same queries.
    """
    return group_intervals([runs], metrics)[0]


def group_intervals(groups: Sequence[Sequence[RunResult]], metrics: Sequence[str]) -> list[dict[str, Interval]]:
    """Returns `metric_intervals` of several configurations on the same queries.

    Queries without a metric (GAUC) are left out of it.
    """
    if not groups:
        return []
    # One after the other: of millions of queries, not all fit into memory.
    runs = iterate_query_values([groups[0][0], *(run for group in groups for run in group)], metrics)
    user_Q = user_numbers(next(runs)[0])
    found = []
    for group in groups:
        own = [of_run for _, of_run in islice(runs, len(group))]
        values = {metric: np.stack([of_run[metric] for of_run in own]) for metric in metrics}
        found.append({metric: _interval(metric, one, user_Q, group[0]) for metric, one in values.items()})
    return found


def _interval(metric: str, values_SQ: np.ndarray, user_Q: np.ndarray, run: RunResult) -> Interval:
    if values_SQ.ndim == 3:
        return counts_interval(metric, values_SQ, user_Q, run.n_items)
    defined_Q = ~np.isnan(values_SQ).any(axis=0)
    return mean_interval(values_SQ[:, defined_Q], user_Q[defined_Q])


def _natural(label: str) -> list[tuple[int, str]]:
    """Returns a sort key by which mos_heads=2 comes before mos_heads=16."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", label)]
