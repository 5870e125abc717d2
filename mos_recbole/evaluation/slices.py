"""Bins of a column's values, by which queries are sliced."""

from dataclasses import dataclass
from itertools import pairwise
from math import floor, log10

import numpy as np

# A quantile is rounded by at most this share of the narrowest bin, so that labels are short and yet exact.
_ROUNDING = 0.01


@dataclass(frozen=True)
class Bins:
    """Intervals [e0, e1], (e1, e2], (e2, e3], ...: closed on the right, the first one on the left too.

    Attributes:
        edges: two or more, increasing; infinite ones are allowed. Only a single bin may have equal edges: [5, 5].

    Raises:
        ValueError: other edges.
    """

    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        increasing = all(low < high for low, high in pairwise(self.edges))
        point = len(self.edges) == 2 and self.edges[0] == self.edges[1]
        if len(self.edges) < 2 or not (increasing or point):
            raise ValueError(f"edges {', '.join(map(_number, self.edges))}; expected two or more, increasing")

    @property
    def labels(self) -> list[str]:
        """The bins in the notation of intervals: "[0, 814]", "(814, 4976]"."""
        edges = [_number(edge) for edge in self.edges]
        return [f"{'(' if i else '['}{edges[i]}, {edges[i + 1]}]" for i in range(len(edges) - 1)]

    def place(self, values_Q: np.ndarray) -> np.ndarray:
        """Returns the number of every value's bin, int64 [Q], from 0; -1 for values outside of all and for NaN."""
        values_Q = np.asarray(values_Q, dtype=np.float64)
        # NaN is sorted behind the last edge.
        bin_Q = np.searchsorted(self.edges, values_Q, side="left").astype(np.int64) - 1
        bin_Q[bin_Q == len(self.edges) - 1] = -1
        bin_Q[values_Q == self.edges[0]] = 0
        return bin_Q


def quantile_bins(values_Q: np.ndarray, n: int) -> Bins:
    """Returns at most n bins that hold about equally many of the values and together all of them, NaN apart.

    Edges are values that occur (the inverse of the empirical distribution function), so that those of whole numbers are
    whole. Equal edges are merged: of values with many ties there are fewer bins. Edges of other numbers are rounded to
    few decimals, outwards at the lower end and up elsewhere, so that no tie is torn from its bin.

    Args:
        values_Q: numbers, infinite ones included.
        n: number of bins, from 1.

    Raises:
        ValueError: n below 1, or no value that is not NaN.
    """
    if n < 1:
        raise ValueError(f"{n} bins; expected 1 or more")
    values_Q = np.asarray(values_Q, dtype=np.float64)
    values_Q = np.sort(values_Q[~np.isnan(values_Q)])
    if not len(values_Q):
        raise ValueError("no values to take quantiles of")
    # In whole numbers, where np.quantile's shares are rounded: the rank of i / n of the values is a ceiling.
    rank = [1, *(-(-len(values_Q) * i // n) for i in range(1, n + 1))]
    edges = np.unique(values_Q[np.array(rank) - 1]).tolist()
    return Bins((edges[0], edges[0]) if len(edges) == 1 else tuple(_shorten(edges)))


def _shorten(edges: list[float]) -> list[float]:
    finite = [edge for edge in edges if np.isfinite(edge)]
    narrowest = min((high - low for low, high in pairwise(finite)), default=0.0)
    if narrowest == 0 or all(edge.is_integer() for edge in finite):
        return edges
    decimals = -floor(log10(_ROUNDING * narrowest))
    rounded = [_round(edges[0], decimals, up=False), *(_round(edge, decimals, up=True) for edge in edges[1:])]
    # Where doubles have no such decimals, rounding could lose a value or a bin.
    exact = rounded[0] <= edges[0] and rounded[-1] >= edges[-1] and len(set(rounded)) == len(edges)
    return rounded if exact else edges


def _round(edge: float, decimals: int, up: bool) -> float:
    if not np.isfinite(edge):
        return edge
    nearest = round(edge, decimals)
    if nearest == edge or (nearest > edge) == up:
        return nearest
    return round(nearest + (1 if up else -1) * 10.0**-decimals, decimals)


def _number(edge: float) -> str:
    text = format(edge, ".15g")
    return text if float(text) == edge else repr(edge)
