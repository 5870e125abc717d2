"""The outcomes of runs: the same queries in the same rows, and the metrics that follow from them."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from mos_recbole.errors import InputError
from mos_recbole.evaluation import Lists, canonical_metric, parse_metric, query_values
from mos_recbole.progress import tracked
from mos_recbole.results import KEY_COLUMNS, REQUIRED_COLUMNS, RunResult

TABLE_METRICS = ("Recall@10", "NDCG@10", "MRR@10", "Recall@100")
LEADING_METRIC = "NDCG@10"

# To the mean of tied ranks, in ties, from the rank by each of the protocol's rules.
_TO_MEAN = {"optimistic": 0.5, "mean": 0.0, "pessimistic": -0.5}
_KEY = list(KEY_COLUMNS)


def aligned_outcomes(runs: Sequence[RunResult]) -> list[pd.DataFrame]:
    """Returns the outcomes of runs of one protocol, a row a query, the same query in the same row.

    The column `mean_rank` is added: the rank with ties at their mean, whatever the protocol's rule for them.

    Raises:
        InputError: outcomes that are missing, or not of the same queries.
    """
    return list(iterate_aligned_outcomes(runs))


def iterate_aligned_outcomes(runs: Sequence[RunResult]) -> Iterator[pd.DataFrame]:
    """Yields `aligned_outcomes` one by one: those of millions of queries need not be in memory together."""
    for table, _ in _aligned(runs):
        yield table


def iterate_query_values(
    runs: Sequence[RunResult], metrics: Sequence[str]
) -> Iterator[tuple[pd.DataFrame, dict[str, np.ndarray]]]:
    """Yields of every run its aligned outcomes and by metric what `evaluation.query_values` returns.

    Raises:
        InputError: as `aligned_outcomes`, and lists that the run does not keep or that are too short for a metric.
    """
    of_lists = [metric for metric in metrics if parse_metric(metric)[0].of_lists]
    for run, (table, rows) in zip(runs, _aligned(runs), strict=True):
        lists = _lists(run, rows, of_lists) if of_lists else None
        yield table, {metric: _values(table, metric, lists) for metric in metrics}


def _values(table: pd.DataFrame, metric: str, lists: Lists | None = None) -> np.ndarray:
    rank, mean_rank, n_candidates = (table[column].to_numpy() for column in ("rank", "mean_rank", "candidates"))
    log_probability = table["log_probability"].to_numpy() if "log_probability" in table else None
    if metric == "Loss" and (log_probability is None or np.isnan(log_probability).all()):
        return np.full(len(table), np.nan)  # a model without a head
    try:
        values = query_values(metric, rank, mean_rank, n_candidates, lists, log_probability)
    except ValueError as error:
        raise InputError(str(error)) from error
    n_cut, all_are = _cut_off(table, metric)
    return np.full(len(table), np.nan) if n_cut and all_are else values


def list_notes(table: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """Returns what is to be said of lists of another program that end before a target and before a metric's cut-off.

    Of such a query the metric is not known, at most that it is no less than with a miss. Where all lists are too short
    for a metric, tables have none (`iterate_query_values`).

    Args:
        table: the outcomes.
        metrics: in RecBole's spelling.
    """
    found = {metric: _cut_off(table, metric) for metric in metrics}
    notes = []
    if never := [metric for metric, (n_cut, all_are) in found.items() if n_cut and all_are]:
        notes.append(f"no list is long enough for {', '.join(never)}: lower bounds, which tables leave out")
    for metric, (n_cut, all_are) in found.items():
        if n_cut and not all_are:
            notes.append(f"{n_cut:,} of {len(table):,} lists are too short for {metric}, which is a lower bound")
    return notes


def _cut_off(table: pd.DataFrame, metric: str) -> tuple[int, bool]:
    """Returns of how many lists a metric is not known, since they end before the target and the cut-off; and whether
    all lists end before the cut-off. A query without a list is a miss."""
    kind, k = parse_metric(metric)
    if "list_length" not in table or kind.of_lists or metric == "Loss":
        return 0, False
    n_candidates, length = (table[column].to_numpy() for column in ("candidates", "list_length"))
    is_short = length < (n_candidates if k is None else np.minimum(k, n_candidates))
    is_cut = np.isinf(table["rank"].to_numpy()) & (length > 0) & is_short
    return int(is_cut.sum()), bool(is_short.all())


def _lists(run: RunResult, rows: np.ndarray, metrics: Sequence[str]) -> Lists:
    """Returns the recommended lists of the queries in these rows of a run's outcomes."""
    if not run.keeps_lists():
        raise InputError(
            f"{run.folder}: an earlier version wrote the run without recommended lists; {', '.join(metrics)} need them"
        )
    top = run.top_items().rows(rows)
    kept, n_items = top.items.shape[1], len(top.train_counts)
    k, longest = max((parse_metric(metric)[1] or 0, metric) for metric in metrics)
    if kept < min(k, n_items - 1):
        raise InputError(f"{run.folder}: keeps the {kept} best items of every query; {longest} needs more of them")
    # Lists of all candidates may be shorter than the cut-off; runs are to have lists of one length.
    items, in_history = (np.pad(one, ((0, 0), (0, max(0, k - kept)))) for one in (top.items, top.in_history))
    sums = None
    if far := [metric for metric in metrics if parse_metric(metric)[0].needs == "distance_sums"]:
        sums = run.distance_sums()
        deepest = max(parse_metric(metric)[1] or 0 for metric in far)
        if sums is None or len(sums) < len(rows) or sums.shape[1] < min(kept, deepest):
            raise InputError(f"{run.folder}: has no distances for {', '.join(far)}; mos-recbole table computes them")
        sums = np.pad(sums[rows], ((0, 0), (0, max(0, k - sums.shape[1]))))
    return Lists(items, top.train_counts, run.settings.get("tail_ratio", 0.1), in_history, sums)


def _aligned(runs: Sequence[RunResult]) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Yields of every run its aligned outcomes and from which row of the file each row is."""
    first = None
    for run in tracked(runs, "reading outcomes", "runs"):
        table = run.outcomes()
        if missing := [column for column in REQUIRED_COLUMNS if column not in table]:
            raise InputError(f"{run.folder}: its outcomes have no column {', '.join(missing)}")
        table["mean_rank"] = table["rank"] + _TO_MEAN[run.protocol["tie_rule"]] * table["tied"]
        rows = np.arange(len(table))
        if first is None:
            first = table[_KEY]
        elif not _same_queries(table, first) and len(table) == len(first):
            # As a rule runs write their queries in one order; here is one that did not.
            rows[first.sort_values(_KEY).index] = table.sort_values(_KEY).index
            table = table.iloc[rows].reset_index(drop=True)
        if not _same_queries(table, first):
            raise InputError(f"{run.folder}: its outcomes are of other queries than {runs[0].folder}'s")
        yield table, rows


def _same_queries(table: pd.DataFrame, other: pd.DataFrame) -> bool:
    return len(table) == len(other) and all(
        (table[column].to_numpy() == other[column].to_numpy()).all() for column in _KEY
    )


def user_numbers(table: pd.DataFrame) -> np.ndarray:
    """Returns the number of every query's user, from 0."""
    return pd.factorize(table["user"], sort=True)[0]


def metric_values(tables: Sequence[pd.DataFrame], metric: str) -> np.ndarray:
    """Returns a metric that is computed from ranks, float64: a row a table of `aligned_outcomes`, a column a query."""
    return np.stack([_values(table, metric) for table in tables])


def asked_metrics(runs: Sequence[RunResult]) -> list[str]:
    """Returns the metrics that all runs were asked for when they were trained, or else the usual ones."""
    asked = [name for name in runs[0].asked_metrics if all(name in run.asked_metrics for run in runs)] if runs else []
    return asked or list(TABLE_METRICS)


def checked_metrics(metrics: Sequence[str]) -> list[str]:
    """Returns the metrics in RecBole's spelling, each once. Raises InputError for an unknown one."""
    try:
        return list(dict.fromkeys(canonical_metric(metric) for metric in metrics))
    except ValueError as error:
        raise InputError(str(error)) from error


def leading_metric(runs: Sequence[RunResult], metrics: Sequence[str] = ()) -> str:
    """Returns what findings, slices and figures are of, in RecBole's spelling.

    It is the first of the metrics that is a mean over queries, where there are any; or else what all runs were selected
    by, if that follows from ranks.
    """
    chosen = {run.valid_metric for run in runs if run.was_trained}
    names = checked_metrics(metrics) or [name for name in chosen if len(chosen) == 1 and name != "Loss"]
    return next((name for name in names if parse_metric(name)[0].is_mean), LEADING_METRIC)


def mean_metric(metric: str) -> str:
    """Returns a metric in RecBole's spelling. Raises InputError for one that is not the mean of a value a query."""
    (name,) = checked_metrics([metric])
    if not parse_metric(name)[0].is_mean:
        raise InputError(
            f"metric {name}: a number for all lists together, which queries do not share in; expected the mean of a "
            "value a query, such as NDCG@10 or AveragePopularity@10"
        )
    return name
