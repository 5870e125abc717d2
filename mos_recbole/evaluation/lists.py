"""Recommended lists, and what metrics look up about their items."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

# Pairs of items whose distances are in memory at a time.
_PAIRS = 2**22


@dataclass(frozen=True)
class Lists:
    """The recommended items of some queries, and what metrics of lists look up.

    Attributes:
        items: integers [B, k], the best first; 0 where a query has no further ones.
        train_counts: int64 [V], how often training holds each item; item 0 is padding.
        tail_ratio: RecBole's `tail_ratio`: up to 1 the share of the trained items that form the tail (the rarest,
            ties by item id; 0: a tenth), above 1 the largest count of a tail item.
        in_history: bool [B, k], whether the user had the item before the target; None where that is not known.
        distance_sums: float64 [B, k], of each item the distances to those before it in the list, added up
            (`distance_sums`); None where they are not known.
    """

    items: np.ndarray
    train_counts: np.ndarray
    tail_ratio: float = 0.1
    in_history: np.ndarray | None = None
    distance_sums: np.ndarray | None = None

    def top(self, k: int) -> "Lists":
        """Returns the best k items of every list."""
        seen, sums = self.in_history, self.distance_sums
        return replace(
            self,
            items=self.items[:, :k],
            in_history=None if seen is None else seen[:, :k],
            distance_sums=None if sums is None else sums[:, :k],
        )

    @property
    def n_items(self) -> int:
        """V, the padding included."""
        return len(self.train_counts)

    def mean(self, values_Bk: np.ndarray) -> np.ndarray:
        """Returns the mean over every list's items, float64 [B]; NaN for an empty list."""
        is_item = self.items > 0
        total, n = np.where(is_item, values_Bk, 0).sum(axis=1), is_item.sum(axis=1)
        mean: np.ndarray = np.divide(total, n, out=np.full(len(total), np.nan), where=n > 0)
        return mean

    def in_tail(self) -> np.ndarray:
        """Returns a mask [V]; items that training lacks are not in the tail (as in RecBole)."""
        trained = np.flatnonzero(self.train_counts)
        if self.tail_ratio > 1:
            tail = trained[self.train_counts[trained] <= self.tail_ratio]
        else:
            rarest_first = trained[np.argsort(self.train_counts[trained], kind="stable")]
            share = self.tail_ratio or 0.1  # as RecBole takes 0
            tail = rarest_first[: max(int(len(trained) * share), 1)]
        mask = np.zeros(self.n_items, dtype=bool)
        mask[tail] = True
        return mask


def distance_sums(items_Bk: np.ndarray, distance: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Returns of each item of a list the distances to those before it, added up, float64 [B, k]; 0 for padding.

    Args:
        items_Bk: as `Lists.items`.
        distance: of pairs of items, int arrays [P] each (`ItemDistance`).
    """
    before, place = np.triu_indices(items_Bk.shape[1], k=1)
    sums_Bk = np.zeros(items_Bk.shape)
    step = max(1, _PAIRS // max(1, len(place)))
    for start in range(0, len(items_Bk), step):
        items_bk = items_Bk[start : start + step]
        first, second = items_bk[:, before], items_bk[:, place]
        there = (first > 0) & (second > 0)
        query, pair = np.nonzero(there)
        flat = query * items_bk.shape[1] + place[pair]
        found = np.bincount(flat, distance(first[there], second[there]), minlength=items_bk.size)
        sums_Bk[start : start + step] = found.reshape(items_bk.shape)
    return sums_Bk
