"""The outcomes of runs: the same queries in the same rows, and the metrics that target ranks decide."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from mos_recbole.errors import InputError
from mos_recbole.evaluation import canonical_metric, compute_metrics, needs_top_items
from mos_recbole.results import KEY_COLUMNS, REQUIRED_COLUMNS, RunResult

TABLE_METRICS = ("Recall@10", "NDCG@10", "MRR@10", "Recall@100")

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
    first = None
    for run in runs:
        table = run.outcomes()
        if missing := [column for column in REQUIRED_COLUMNS if column not in table]:
            raise InputError(f"{run.folder}: its outcomes have no column {', '.join(missing)}")
        table["mean_rank"] = table["rank"] + _TO_MEAN[run.protocol["tie_rule"]] * table["tied"]
        if first is None:
            first = table[_KEY]
        elif not _same_queries(table, first) and len(table) == len(first):
            # As a rule runs write their queries in one order; here is one that did not.
            table = table.sort_values(_KEY).set_index(first.sort_values(_KEY).index).sort_index()
        if not _same_queries(table, first):
            raise InputError(f"{run.folder}: its outcomes are of other queries than {runs[0].folder}'s")
        yield table


def _same_queries(table: pd.DataFrame, other: pd.DataFrame) -> bool:
    return len(table) == len(other) and all(
        (table[column].to_numpy() == other[column].to_numpy()).all() for column in _KEY
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


def rank_metrics(metrics: Sequence[str]) -> list[str]:
    """Returns the metrics in RecBole's spelling, each once. Raises InputError for those that ranks do not decide."""
    try:
        names = list(dict.fromkeys(canonical_metric(metric) for metric in metrics))
    except ValueError as error:
        raise InputError(str(error)) from error
    of_lists = [name for name in names if needs_top_items(name)]
    if of_lists:
        raise InputError(
            f"metric {', '.join(of_lists)}: about the recommended lists, while runs keep the ranks of the targets; "
            "expected Recall, Hit, NDCG, MRR, MAP or Precision with a cut-off, or GAUC"
        )
    return names
