"""RecBole's ranking metrics for queries with one target, as per-query arrays first and means second."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mos_recbole.evaluation.metric_names import parse_metric


def _recall(rank: np.ndarray, k: int) -> np.ndarray:
    return (rank <= k).astype(np.float64)


def _ndcg(rank: np.ndarray, k: int) -> np.ndarray:
    return np.where(rank <= k, 1.0 / np.log2(rank + 1.0), 0.0)


def _mrr(rank: np.ndarray, k: int) -> np.ndarray:
    return np.where(rank <= k, 1.0 / rank, 0.0)


def _precision(rank: np.ndarray, k: int) -> np.ndarray:
    return (rank <= k) / k


# With one target a query, Hit equals Recall and MAP equals MRR. All four of RecBole's names are kept.
_FROM_RANK: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "recall": _recall,
    "hit": _recall,
    "ndcg": _ndcg,
    "mrr": _mrr,
    "map": _mrr,
    "precision": _precision,
}


@dataclass(frozen=True)
class CatalogueCounts:
    """What the metrics of recommended lists know of the catalogue.

    Attributes:
        train_counts: int64 [n_items], how often training holds each item; item 0 is padding.
        tail_ratio: RecBole's `tail_ratio`: up to 1 the share of the trained items that form the tail (the rarest,
            ties by item id), above 1 the largest count of a tail item.
    """

    train_counts: np.ndarray
    tail_ratio: float = 0.1

    def in_tail(self) -> np.ndarray:
        """Returns a mask [n_items]; items that training lacks are not in the tail (as in RecBole)."""
        trained = np.flatnonzero(self.train_counts)
        if self.tail_ratio > 1:
            tail = trained[self.train_counts[trained] <= self.tail_ratio]
        else:
            rarest_first = trained[np.argsort(self.train_counts[trained], kind="stable")]
            tail = rarest_first[: max(int(len(trained) * self.tail_ratio), 1)]
        mask = np.zeros(len(self.train_counts), dtype=bool)
        mask[tail] = True
        return mask


def _average_popularity(top: np.ndarray, catalogue: CatalogueCounts) -> np.ndarray:
    return catalogue.train_counts[top].mean(axis=1)


def _tail_percentage(top: np.ndarray, catalogue: CatalogueCounts) -> np.ndarray:
    return catalogue.in_tail()[top].mean(axis=1)


_FROM_LIST: dict[str, Callable[[np.ndarray, CatalogueCounts], np.ndarray]] = {
    "averagepopularity": _average_popularity,
    "tailpercentage": _tail_percentage,
}


def _item_coverage(top: np.ndarray, n_items: int) -> float:
    return len(np.unique(top)) / n_items


def _shannon_entropy(top: np.ndarray, n_items: int) -> float:
    share = np.unique(top, return_counts=True)[1] / top.size
    # RecBole divides the entropy by the number of recommended items.
    return float(-(share * np.log(share)).sum() / len(share))


def _gini_index(top: np.ndarray, n_items: int) -> float:
    count = np.sort(np.unique(top, return_counts=True)[1])
    place = np.arange(n_items - len(count) + 1, n_items + 1)
    return float(((2 * place - n_items - 1) * count).sum() / top.size / n_items)


# Properties of all lists together: no value per query, no interval. The padding counts as an item, as in RecBole.
_OF_ALL_LISTS: dict[str, Callable[[np.ndarray, int], float]] = {
    "itemcoverage": _item_coverage,
    "shannonentropy": _shannon_entropy,
    "giniindex": _gini_index,
}


def compute_metrics(
    metrics: list[str],
    rank: np.ndarray,
    mean_rank: np.ndarray,
    n_candidates: np.ndarray,
    top_items: np.ndarray | None = None,
    catalogue: CatalogueCounts | None = None,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Returns the metrics' values, and for those that are means the per-query arrays they are the means of.

    The arrays have no NaN but GAUC's, where the target is the only candidate.

    Args:
        metrics: names such as "NDCG@10".
        rank: float64 [B], the targets' ranks from 1, by the protocol's tie rule; inf for a target that is no candidate,
            which counts as a miss: 0 in every metric of ranks.
        mean_rank: float64 [B], with ties at their mean, as GAUC's definition wants.
        n_candidates: int64 [B], the target included.
        top_items: int64 [B, k], with k at least the largest cut-off, for metrics of the lists.
        catalogue: for the same.

    Raises:
        ValueError: no queries, or a metric that needs top_items without them.
    """
    if not len(rank):
        raise ValueError("metrics of no queries are undefined")
    values: dict[str, float] = {}
    per_query: dict[str, np.ndarray] = {}
    for metric in metrics:
        name, k = parse_metric(metric)
        if k is None:
            # A target without rivals has no AUC; such queries are left out of the mean, as in RecBole.
            others = np.where(n_candidates > 1, n_candidates - 1.0, np.nan)
            per_query[metric] = np.maximum(n_candidates - mean_rank, 0.0) / others
        elif name in _FROM_RANK:
            per_query[metric] = _FROM_RANK[name](rank, k)
        elif top_items is None or catalogue is None or top_items.shape[1] < min(k, len(catalogue.train_counts)):
            raise ValueError(f"{metric} needs the {k} best items of every query and the catalogue's counts")
        elif name in _FROM_LIST:
            per_query[metric] = _FROM_LIST[name](top_items[:, :k], catalogue)
        else:
            values[metric] = _OF_ALL_LISTS[name](top_items[:, :k], len(catalogue.train_counts))
    values |= {metric: float(np.nanmean(array)) for metric, array in per_query.items()}
    return {metric: values[metric] for metric in metrics}, per_query
