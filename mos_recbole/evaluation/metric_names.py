"""RecBole's ranking metrics by name: spelling, cut-offs, and which value is better."""

from typing import Literal

# GAUC is the only one without a cut-off.
METRICS = (
    "Recall", "Hit", "NDCG", "MRR", "MAP", "Precision", "GAUC",
    "ItemCoverage", "AveragePopularity", "ShannonEntropy", "GiniIndex", "TailPercentage",
)  # fmt: skip
_SPELLING = {name.lower(): name for name in METRICS}
_SMALLER_IS_BETTER = {"averagepopularity", "giniindex"}
_OF_LISTS = {"itemcoverage", "averagepopularity", "shannonentropy", "giniindex", "tailpercentage"}


def parse_metric(text: str) -> tuple[str, int | None]:
    """Returns RecBole's name in lower case and the cut-off: "NDCG@10" -> ("ndcg", 10), "GAUC" -> ("gauc", None).

    Raises:
        ValueError: an unknown name, a cut-off that is missing, superfluous or no positive whole number.
    """
    name, at, cut = text.lower().partition("@")
    if name not in _SPELLING:
        raise ValueError(f"unknown metric {text!r}; expected one of {', '.join(METRICS)}")
    if (name == "gauc") == bool(at) or (at and (not cut.isdecimal() or int(cut) < 1)):
        raise ValueError(f"metric {text!r}; expected {_SPELLING[name] + ('' if name == 'gauc' else '@10')}")
    return name, int(cut) if at else None


def canonical_metric(text: str) -> str:
    """Returns the metric in RecBole's spelling: "ndcg@10" -> "NDCG@10". Raises as `parse_metric`."""
    name, k = parse_metric(text)
    return _SPELLING[name] if k is None else f"{_SPELLING[name]}@{k}"


def expand_metrics(metrics: list[str] | str, topk: list[int] | int) -> list[str]:
    """Returns every metric at every cut-off, in RecBole's spelling: Recall@10, Recall@100, NDCG@10, ...

    Raises:
        ValueError: an unknown metric, or one that brings its own cut-off.
    """
    names = []
    for metric in [metrics] if isinstance(metrics, str) else metrics:
        name = _SPELLING.get(metric.lower())
        if name is None:
            parse_metric(metric)
            raise ValueError(f"metric {metric!r} has a cut-off; cut-offs are set by topk")
        names += [name] if name == "GAUC" else [f"{name}@{k}" for k in ([topk] if isinstance(topk, int) else topk)]
    return list(dict.fromkeys(names))


def metric_direction(metric: str) -> Literal["higher", "lower"]:
    """Returns "higher" or "lower": which value of the metric is better (RecBole's convention)."""
    return "lower" if parse_metric(metric)[0] in _SMALLER_IS_BETTER else "higher"


def needs_top_items(metric: str) -> bool:
    """Returns whether the metric is about the recommended lists, not only about the target's rank."""
    return parse_metric(metric)[0] in _OF_LISTS
