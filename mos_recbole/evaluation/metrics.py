"""Metrics of queries with one target, RecBole's and others, as per-query arrays first and means second."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mos_recbole.evaluation.lists import Lists

Kind = Literal["rank", "auc", "loss", "list", "counts"]


@dataclass(frozen=True)
class MetricSpec:
    """A metric, RecBole's by RecBole's name and convention.

    Attributes:
        name: in RecBole's spelling.
        kind: what `compute` takes and returns. "rank": targets' ranks [B] and k, to [B]. "auc": targets' mean ranks [B]
            and numbers of candidates [B], to [B]; no cut-off. "loss": targets' log-probabilities [B], to [B]; no
            cut-off. "list": the best k items as `Lists`, to [B].
            "counts": how often each item is recommended [V], to one number for all lists together.
        compute: the metric.
        direction: which value is better.
        most: the end of its range, which starts at 0.
        needs: the optional attribute of `Lists` that it reads, if any.
        source: where it is from, if it is not RecBole's.
        undefined: which queries have none, if any; they are NaN, and left out of means.
    """

    name: str
    kind: Kind
    compute: Callable[..., Any]
    direction: Literal["higher", "lower"] = "higher"
    most: float = 1.0
    needs: Literal["in_history", "distance_sums", None] = None
    source: str = ""
    undefined: str = ""

    @property
    def is_mean(self) -> bool:
        """Whether it is the mean of one value a query."""
        return self.kind != "counts"

    @property
    def has_cut_off(self) -> bool:
        """Whether it is of the best k items."""
        return self.kind not in ("auc", "loss")

    @property
    def of_lists(self) -> bool:
        """Whether it is about the recommended lists, not only about the target's rank."""
        return self.kind in ("list", "counts")


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
    # A target that is no candidate is a miss, whatever it would have had for rivals.
    return np.where(np.isinf(mean_rank), 0.0, auc)


def _average_popularity(lists: Lists) -> np.ndarray:
    return lists.mean(lists.train_counts[lists.items])


def _tail_percentage(lists: Lists) -> np.ndarray:
    return lists.mean(lists.in_tail()[lists.items])


def _novelty(lists: Lists) -> np.ndarray:
    # An item that training lacks counts as if training held it once.
    counts = np.maximum(lists.train_counts, 1)
    return lists.mean((np.log2(max(1, lists.train_counts.sum())) - np.log2(counts))[lists.items])


def _repeat_share(lists: Lists) -> np.ndarray:
    assert lists.in_history is not None
    return lists.mean(lists.in_history)


def _exploration_share(lists: Lists) -> np.ndarray:
    return 1.0 - _repeat_share(lists)


def _intra_list_diversity(lists: Lists) -> np.ndarray:
    assert lists.distance_sums is not None
    n = (lists.items > 0).sum(axis=1)
    n_pairs = n * (n - 1) / 2
    diversity: np.ndarray = np.divide(
        lists.distance_sums.sum(axis=1), n_pairs, out=np.full(len(n), np.nan), where=n_pairs > 0
    )
    return diversity


# For the metrics of all lists together, RecBole counts the padding among the catalogue's items.
def _item_coverage(count_V: np.ndarray) -> float:
    return int((count_V > 0).sum()) / len(count_V)


def _shannon_entropy(count_V: np.ndarray) -> float:
    share = count_V[count_V > 0] / count_V.sum()
    # RecBole divides the entropy by the number of recommended items.
    return float(-(share * np.log(share)).sum() / len(share))


def _gini_index(count_V: np.ndarray) -> float:
    n_items, count = len(count_V), np.sort(count_V[count_V > 0])
    place = np.arange(n_items - len(count) + 1, n_items + 1)
    return float(((2 * place - n_items - 1) * count).sum() / count.sum() / n_items)


_LOSS = "mean negative log-probability of the targets, nats"
_DISTANCE = "Ziegler et al., WWW 2005, by the distance of `evaluation.distance`"
_REPEATS = "Li et al., A Next Basket Recommendation Reality Check, TOIS 2023"

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
        MetricSpec("GAUC", "auc", _gauc, undefined="target is the only candidate"),
        MetricSpec("Loss", "loss", np.negative, "lower", math.inf, source=_LOSS, undefined="target is no candidate"),
        MetricSpec("ItemCoverage", "counts", _item_coverage),
        MetricSpec("AveragePopularity", "list", _average_popularity, "lower", math.inf),
        MetricSpec("ShannonEntropy", "counts", _shannon_entropy),
        MetricSpec("GiniIndex", "counts", _gini_index, "lower"),
        MetricSpec("TailPercentage", "list", _tail_percentage),
        MetricSpec(
            *("Novelty", "list", _novelty, "higher", math.inf),
            source="Vargas and Castells, RecSys 2011: mean self-information",
        ),
        MetricSpec(
            *("IntraListDiversity", "list", _intra_list_diversity),
            needs="distance_sums",
            source=_DISTANCE,
            undefined="list has fewer than two items",
        ),
        MetricSpec("RepeatShare", "list", _repeat_share, "lower", needs="in_history", source=_REPEATS),
        MetricSpec("ExplorationShare", "list", _exploration_share, needs="in_history", source=_REPEATS),
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
    if spec.has_cut_off != bool(at) or (at and (not cut.isdecimal() or int(cut) < 1)):
        raise ValueError(f"metric {text!r}; expected {spec.name + ('@10' if spec.has_cut_off else '')}")
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
        names += [f"{spec.name}@{k}" for k in cuts] if spec.has_cut_off else [spec.name]
    return list(dict.fromkeys(names))


def metric_direction(metric: str) -> Literal["higher", "lower"]:
    """Returns which value of the metric is better (RecBole's convention)."""
    return parse_metric(metric)[0].direction


def needs_top_items(metric: str) -> bool:
    """Returns whether the metric is about the recommended lists, not only about the target's rank."""
    return parse_metric(metric)[0].of_lists


def query_values(
    metric: str,
    rank: np.ndarray,
    mean_rank: np.ndarray,
    n_candidates: np.ndarray,
    lists: Lists | None = None,
    log_probability: np.ndarray | None = None,
) -> np.ndarray:
    """Returns what the metric is computed from, query by query.

    For a mean its values, float64 [B], NaN for GAUC where the target is the only candidate, for the loss where it is
    none, and for metrics of lists that are empty. For a metric of all lists together the recommended items, integers
    [B, k].

    Args:
        metric: a name such as "NDCG@10".
        rank: float64 [B], the targets' ranks from 1, by the protocol's tie rule; inf for a target that is no candidate,
            which counts as a miss: 0 in every metric of ranks.
        mean_rank: float64 [B], with ties at their mean, as GAUC's definition wants.
        n_candidates: int64 [B], the target included.
        lists: for metrics of lists: at least as long as the cut-off.
        log_probability: float [B], of the targets in nats, for the loss; NaN for a target that is no candidate.

    Raises:
        ValueError: a metric of lists without them, the loss without log-probabilities, or without what else is needed.
    """
    spec, k = parse_metric(metric)
    values: np.ndarray
    if spec.kind == "loss":
        if log_probability is None or (np.isfinite(rank) & np.isnan(log_probability)).any():
            raise ValueError(f"{metric} needs log-probabilities, which a model without a head does not give")
        values = spec.compute(log_probability.astype(np.float64))
    elif k is None:
        values = spec.compute(mean_rank, n_candidates)
    elif spec.kind == "rank":
        values = spec.compute(rank, k)
    elif lists is None or lists.items.shape[1] < min(k, lists.n_items - 1):
        raise ValueError(f"{metric} needs the {k} best items of every query")
    elif spec.needs is not None and getattr(lists, spec.needs) is None:
        raise ValueError(f"{metric} needs {spec.needs} of the recommended items")
    else:
        values = spec.compute(lists.top(k)) if spec.is_mean else lists.items[:, :k]
    return values


def metric_of_counts(metric: str, items: np.ndarray, n_items: int) -> float:
    """Returns a metric of all lists together, given the recommended items, integers of any shape, 0 for none."""
    count_V = np.bincount(items.ravel(), minlength=n_items)
    count_V[0] = 0
    return float(parse_metric(metric)[0].compute(count_V))


def compute_metrics(
    metrics: list[str],
    rank: np.ndarray,
    mean_rank: np.ndarray,
    n_candidates: np.ndarray,
    lists: Lists | None = None,
    log_probability: np.ndarray | None = None,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Returns the metrics' values, and for those that are means the per-query arrays they are the means of.

    A metric that no query has is NaN: GAUC where every target is the only candidate, the loss where none is one, the
    diversity of lists of one item.

    Args:
        metrics: names such as "NDCG@10".
        rank, mean_rank, n_candidates, lists, log_probability: as of `query_values`.

    Raises:
        ValueError: no queries, and as `query_values`.
    """
    if not len(rank):
        raise ValueError("metrics of no queries are undefined")
    values: dict[str, float] = {}
    per_query: dict[str, np.ndarray] = {}
    for metric in metrics:
        found = query_values(metric, rank, mean_rank, n_candidates, lists, log_probability)
        if lists is not None and not parse_metric(metric)[0].is_mean:
            values[metric] = metric_of_counts(metric, found, lists.n_items)
        else:
            per_query[metric] = found
            defined = found[~np.isnan(found)]
            values[metric] = float(defined.mean()) if len(defined) else math.nan
    return values, per_query
