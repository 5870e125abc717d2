"""RecBole's ranking metrics for queries with one target, as per-query arrays first and means second."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np


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


@dataclass(frozen=True)
class MetricSpec:
    """A metric by RecBole's name and convention.

    Attributes:
        name: in RecBole's spelling.
        kind: what `compute` takes and returns. "rank": targets' ranks [B] and k, to [B]. "auc": targets' mean ranks [B]
            and numbers of candidates [B], to [B]; no cut-off. "list": top items [B, k], 0 for none, and the
            catalogue, to [B].
            "lists": the same, to one number for all lists together, which has no interval.
        compute: the metric.
        direction: which value is better.
    """

    name: str
    kind: Literal["rank", "auc", "list", "lists"]
    compute: Callable[..., Any]
    direction: Literal["higher", "lower"] = "higher"


def _recall(rank: np.ndarray, k: int) -> np.ndarray:
    return (rank <= k).astype(np.float64)


def _ndcg(rank: np.ndarray, k: int) -> np.ndarray:
    return np.where(rank <= k, 1.0 / np.log2(rank + 1.0), 0.0)


def _mrr(rank: np.ndarray, k: int) -> np.ndarray:
    return np.where(rank <= k, 1.0 / rank, 0.0)


def _precision(rank: np.ndarray, k: int) -> np.ndarray:
    return (rank <= k) / k


def _gauc(mean_rank: np.ndarray, n_candidates: np.ndarray) -> np.ndarray:
    # A target without rivals has no AUC; such queries are left out of the mean, as in RecBole.
    others = np.where(n_candidates > 1, n_candidates - 1.0, np.nan)
    auc: np.ndarray = np.maximum(n_candidates - mean_rank, 0.0) / others
    return auc


def _mean_of_items(value_V: np.ndarray, top: np.ndarray) -> np.ndarray:
    is_item = top > 0
    total = np.where(is_item, value_V[top], 0).sum(axis=1)
    mean: np.ndarray = np.divide(total, is_item.sum(axis=1), out=np.full(len(top), np.nan), where=is_item.any(axis=1))
    return mean


def _average_popularity(top: np.ndarray, catalogue: CatalogueCounts) -> np.ndarray:
    return _mean_of_items(catalogue.train_counts, top)


def _tail_percentage(top: np.ndarray, catalogue: CatalogueCounts) -> np.ndarray:
    return _mean_of_items(catalogue.in_tail(), top)


# For the metrics of all lists together, RecBole counts the padding among the catalogue's items.
def _item_coverage(top: np.ndarray, catalogue: CatalogueCounts) -> float:
    return len(np.unique(top[top > 0])) / len(catalogue.train_counts)


def _shannon_entropy(top: np.ndarray, catalogue: CatalogueCounts) -> float:
    count = np.unique(top[top > 0], return_counts=True)[1]
    share = count / count.sum()
    # RecBole divides the entropy by the number of recommended items.
    return float(-(share * np.log(share)).sum() / len(share))


def _gini_index(top: np.ndarray, catalogue: CatalogueCounts) -> float:
    n_items, count = len(catalogue.train_counts), np.sort(np.unique(top[top > 0], return_counts=True)[1])
    place = np.arange(n_items - len(count) + 1, n_items + 1)
    return float(((2 * place - n_items - 1) * count).sum() / count.sum() / n_items)


# With one target a query, Hit equals Recall and MAP equals MRR. All four of RecBole's names are kept.
METRICS: dict[str, MetricSpec] = {
    spec.name.lower(): spec
    for spec in (
        MetricSpec("Recall", "rank", _recall),
        MetricSpec("Hit", "rank", _recall),
        MetricSpec("NDCG", "rank", _ndcg),
        MetricSpec("MRR", "rank", _mrr),
        MetricSpec("MAP", "rank", _mrr),
        MetricSpec("Precision", "rank", _precision),
        MetricSpec("GAUC", "auc", _gauc),
        MetricSpec("ItemCoverage", "lists", _item_coverage),
        MetricSpec("AveragePopularity", "list", _average_popularity, "lower"),
        MetricSpec("ShannonEntropy", "lists", _shannon_entropy),
        MetricSpec("GiniIndex", "lists", _gini_index, "lower"),
        MetricSpec("TailPercentage", "list", _tail_percentage),
    )
}
"""By name in lower case."""


def parse_metric(text: str) -> tuple[MetricSpec, int | None]:
    """Returns a metric and its cut-off: "ndcg@10" -> (NDCG, 10), "GAUC" -> (GAUC, None).

    Raises:
        ValueError: an unknown name, a cut-off that is missing, superfluous or no positive whole number.
    """
    name, at, cut = text.lower().partition("@")
    spec = METRICS.get(name)
    if spec is None:
        raise ValueError(f"unknown metric {text!r}; expected one of {', '.join(one.name for one in METRICS.values())}")
    has_cut_off = spec.kind != "auc"
    if has_cut_off != bool(at) or (at and (not cut.isdecimal() or int(cut) < 1)):
        raise ValueError(f"metric {text!r}; expected {spec.name + ('@10' if has_cut_off else '')}")
    return spec, int(cut) if at else None


def canonical_metric(text: str) -> str:
    """Returns the metric in RecBole's spelling: "ndcg@10" -> "NDCG@10". Raises as `parse_metric`."""
    spec, k = parse_metric(text)
    return spec.name if k is None else f"{spec.name}@{k}"


def expand_metrics(metrics: list[str] | str, topk: list[int] | int) -> list[str]:
    """Returns every metric at every cut-off, in RecBole's spelling: Recall@10, Recall@100, NDCG@10, ...

    Raises:
        ValueError: an unknown metric, or one that brings its own cut-off.
    """
    names = []
    for metric in [metrics] if isinstance(metrics, str) else metrics:
        spec = METRICS.get(metric.lower())
        if spec is None:
            parse_metric(metric)
            raise ValueError(f"metric {metric!r} has a cut-off; cut-offs are set by topk")
        cuts = [topk] if isinstance(topk, int) else topk
        names += [spec.name] if spec.kind == "auc" else [f"{spec.name}@{k}" for k in cuts]
    return list(dict.fromkeys(names))


def metric_direction(metric: str) -> Literal["higher", "lower"]:
    """Returns which value of the metric is better (RecBole's convention)."""
    return parse_metric(metric)[0].direction


def needs_top_items(metric: str) -> bool:
    """Returns whether the metric is about the recommended lists, not only about the target's rank."""
    return parse_metric(metric)[0].kind in ("list", "lists")


def compute_metrics(
    metrics: list[str],
    rank: np.ndarray,
    mean_rank: np.ndarray,
    n_candidates: np.ndarray,
    top_items: np.ndarray | None = None,
    catalogue: CatalogueCounts | None = None,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Returns the metrics' values, and for those that are means the per-query arrays they are the means of.

    The arrays have NaN for GAUC where the target is the only candidate, and for metrics of lists without candidates.

    Args:
        metrics: names such as "NDCG@10".
        rank: float64 [B], the targets' ranks from 1, by the protocol's tie rule; inf for a target that is no candidate,
            which counts as a miss: 0 in every metric of ranks.
        mean_rank: float64 [B], with ties at their mean, as GAUC's definition wants.
        n_candidates: int64 [B], the target included.
        top_items: integers [B, k], with k at least the largest cut-off, for metrics of the lists; 0 after the last
            candidate of a query with fewer.
        catalogue: for the same.

    Raises:
        ValueError: no queries, or a metric that needs top_items without them.
    """
    if not len(rank):
        raise ValueError("metrics of no queries are undefined")
    values: dict[str, float] = {}
    per_query: dict[str, np.ndarray] = {}
    for metric in metrics:
        spec, k = parse_metric(metric)
        if k is None:
            per_query[metric] = spec.compute(mean_rank, n_candidates)
        elif spec.kind == "rank":
            per_query[metric] = spec.compute(rank, k)
        elif top_items is None or catalogue is None or top_items.shape[1] < min(k, len(catalogue.train_counts)):
            raise ValueError(f"{metric} needs the {k} best items of every query and the catalogue's counts")
        elif spec.kind == "list":
            per_query[metric] = spec.compute(top_items[:, :k], catalogue)
        else:
            values[metric] = spec.compute(top_items[:, :k], catalogue)
    values |= {metric: float(np.nanmean(array)) for metric, array in per_query.items()}
    return {metric: values[metric] for metric in metrics}, per_query
