"""Where targets stand in the full ranking."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch

from mos_recbole.evaluation.protocol import TieRule


class ScoreIsNaN(ValueError):
    """A model gives an item no score."""


@dataclass(frozen=True)
class TargetRanks:
    """How every query's target fares against the candidates.

    Attributes:
        better: int64 [B], candidates with a higher score than the target; all, where it is none itself.
        tied: int64 [B], other candidates with the target's score.
        n_candidates: int64 [B], the target included where it is one.
        target_score: float [B]; NaN where the target is no candidate.
        top_items: int32 [B, k], the candidates in the order of their scores, then 0 where there are fewer than k; or
            None where not asked for.
    """

    better: torch.Tensor
    tied: torch.Tensor
    n_candidates: torch.Tensor
    target_score: torch.Tensor
    top_items: torch.Tensor | None = None

    def ranks(self, tie_rule: TieRule) -> torch.Tensor:
        """Returns the ranks, float64 [B], 1 for the best; inf for a target that is no candidate."""
        ties_above = {"optimistic": 0.0, "mean": 0.5, "pessimistic": 1.0}[tie_rule]
        rank_B = 1.0 + self.better.double() + ties_above * self.tied.double()
        return rank_B.masked_fill(self.better >= self.n_candidates, torch.inf)

    def without(self, is_none_B: torch.Tensor) -> "TargetRanks":
        """Returns the same but for targets, bool [B], that are no candidates: all others are better than they are."""
        return replace(
            self,
            better=torch.where(is_none_B, self.n_candidates, self.better),
            tied=self.tied.masked_fill(is_none_B, 0),
            target_score=self.target_score.masked_fill(is_none_B, torch.nan),
        )

    def room_for(self, n_queries: int) -> "TargetRanks":
        """Returns results of the same kind for so many queries, on the CPU, 0 until others are put in."""

        def room(tensor: torch.Tensor) -> torch.Tensor:
            return torch.zeros(n_queries, *tensor.shape[1:], dtype=tensor.dtype)

        return TargetRanks(
            room(self.better),
            room(self.tied),
            room(self.n_candidates),
            room(self.target_score),
            None if self.top_items is None else room(self.top_items),
        )

    def put(self, place: slice | torch.Tensor, part: "TargetRanks") -> None:
        """Takes over the results of some queries, given where they belong."""
        for mine, theirs in zip(vars(self).values(), vars(part).values(), strict=True):
            if mine is not None:
                mine[place] = theirs.to(mine.device)


def rank_targets_by_scores(
    scores_BV: torch.Tensor,
    target_B: torch.Tensor,
    seen: tuple[torch.Tensor, torch.Tensor] | None = None,
    top_k: int = 0,
    excluded_V: torch.Tensor | None = None,
) -> TargetRanks:
    """Returns the targets' ranks, given the scores of all items, which are overwritten.

    Args:
        scores_BV: one row a query, floating point; item 0 is padding and never a candidate. -inf is a legal score.
        target_B: int64 item ids.
        seen: (query number, item id) pairs that are no candidates, in any order, repeated or not; a query's own target
            stays one.
        top_k: how many of the best items to return.
        excluded_V: bool, the items that are no candidates of any query, not even as its target.

    Raises:
        ScoreIsNaN: a score is NaN, which has no place in a ranking.
    """
    target_B1 = target_B[:, None]
    target_score_B1 = scores_BV.gather(1, target_B1)
    # NaN compares false with everything: a model that failed would otherwise rank every target first.
    smallest_B = scores_BV.amin(dim=1)
    is_nan_B = smallest_B.isnan()
    if is_nan_B.any():
        raise ScoreIsNaN(f"the score of an item for query {int(is_nan_B.nonzero()[0])} of the batch is NaN")
    # A candidate's -inf must stay above those that are none.
    if smallest_B.isneginf().any():
        scores_BV.clamp_(min=torch.finfo(scores_BV.dtype).min)
    clamped_B1 = scores_BV.gather(1, target_B1)
    n_candidates_B = torch.full_like(target_B, scores_BV.shape[1] - 1)
    scores_BV[:, 0] = -torch.inf
    if excluded_V is not None:
        scores_BV.masked_fill_(excluded_V, -torch.inf)
        n_candidates_B -= excluded_V[1:].sum()
        if seen is not None:
            query, item = seen
            seen = query[~excluded_V[item]], item[~excluded_V[item]]
    if seen is not None:
        n_candidates_B -= _remove(scores_BV, target_B, *seen)
    better_B, equal_B = _count(scores_BV, clamped_B1)
    tied_B, target_score_B = equal_B - 1, target_score_B1.squeeze(1)
    top_items = best_items(scores_BV, min(top_k, scores_BV.shape[1])) if top_k else None
    found = TargetRanks(better_B, tied_B, n_candidates_B, target_score_B, top_items)
    return found if excluded_V is None else found.without(excluded_V[target_B])


# Scores that are compared at a time on a CPU, so that the outcomes are still in a core's cache when they are added up.
_COMPARED = 2**18


def _count(scores_BV: torch.Tensor, target_score_B1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns how many scores are larger than the target's and how many equal it, both int64 [B]."""
    n_queries, n_items = scores_BV.shape
    # No more ones than float32 adds up exactly. In floating point: to add up booleans takes ten times as long.
    step = max(1, _COMPARED // max(1, n_queries)) if scores_BV.device.type == "cpu" else 2**24
    exact = torch.promote_types(scores_BV.dtype, torch.float32)
    holds_Bv = torch.empty(n_queries, min(step, n_items), dtype=exact, device=scores_BV.device)
    counts = torch.zeros(2, n_queries, dtype=torch.int64, device=scores_BV.device)
    for scores_Bv in scores_BV.split(step, dim=1):
        out = holds_Bv[:, : scores_Bv.shape[1]]
        for count_B, compare in zip(counts, (torch.gt, torch.eq), strict=True):
            count_B += compare(scores_Bv, target_score_B1, out=out).sum(dim=1).long()
    larger_B, equal_B = counts
    return larger_B, equal_B


def _remove(scores_BV: torch.Tensor, target_B: torch.Tensor, query: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
    """Gives the pairs, less padding and the queries' targets, the score -inf; returns how many they are, int64 [B]."""
    removed = (item != 0) & (item != target_B[query])
    query, item = torch.stack([query[removed], item[removed]]).unique(dim=1)
    scores_BV[query, item] = -torch.inf
    return torch.bincount(query, minlength=len(target_B))


# A block's largest score stands for it in a first selection, which takes a third of the time of `topk` at V = 40,000.
_BLOCK = 16


def best_items(scores_BV: torch.Tensor, top_k: int) -> torch.Tensor:
    """Returns the best items in the order of their scores, int32 [B, top_k]; 0 for those whose score is -inf."""
    n_queries, n_items = scores_BV.shape
    n_blocks = n_items // _BLOCK
    if n_blocks < 4 * top_k or scores_BV.device.type != "cpu":
        score_Bk, item_Bk = scores_BV.topk(top_k, dim=1)
        return item_Bk.masked_fill_(score_Bk.isneginf(), 0).int()
    # Block j holds the items j, j + n_blocks, j + 2 n_blocks, ... The best items are in the top_k blocks with the
    # largest maxima, or else in the rest, which belongs to no block.
    whole = n_blocks * _BLOCK
    largest_Bj = scores_BV[:, :whole].view(n_queries, _BLOCK, n_blocks).amax(dim=1)
    block_Bk = largest_Bj.topk(top_k, dim=1, sorted=False).indices
    within = torch.arange(0, whole, n_blocks)
    rest = torch.arange(whole, n_items).expand(n_queries, -1)
    item_Bc = torch.cat([(block_Bk[:, :, None] + within).flatten(1), rest], dim=1)
    score_Bk, place_Bk = scores_BV.gather(1, item_Bc).topk(top_k, dim=1)
    return item_Bc.gather(1, place_Bk).masked_fill_(score_Bk.isneginf(), 0).int()


class Scorer(Protocol):
    """Scores all items for a few queries; see `heads.Scorer`."""

    n_queries: int

    def __call__(self, *queries: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]: ...


@runtime_checkable
class TargetCounter(Protocol):
    """Compares all items of a few queries with the target; see `heads.TargetCounter`."""

    n_items: int
    n_queries: int

    def count(
        self,
        queries: tuple[torch.Tensor, ...],
        target_b: torch.Tensor,
        ruled_out_V: torch.Tensor,
        seen_bV: torch.Tensor | None,
        with_scores: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]: ...


def _rank_by_counts(
    counter: TargetCounter,
    queries: tuple[torch.Tensor, ...],
    target_B: torch.Tensor,
    seen: tuple[torch.Tensor, torch.Tensor] | None,
    top_k: int,
    excluded_V: torch.Tensor | None,
) -> TargetRanks:
    """Returns what `rank_targets_by_scores` does, without the scores unless for the best items.

    `target_score` is the log-probability.
    """
    ruled_out_V = torch.zeros(counter.n_items, dtype=torch.bool, device=target_B.device)
    if excluded_V is not None:
        ruled_out_V |= excluded_V
    ruled_out_V[0] = True
    n_candidates_B = torch.full_like(target_B, counter.n_items) - ruled_out_V.sum()
    seen_BV = None
    if seen is not None:
        seen_BV = torch.zeros(len(target_B), counter.n_items, dtype=torch.bool, device=target_B.device)
        seen_BV[seen] = True
        seen_BV.scatter_(1, target_B[:, None], False)
        n_candidates_B -= (seen_BV & ~ruled_out_V).sum(dim=1)
    better_B, tied_B, log_prob_B, scores_BV = counter.count(queries, target_B, ruled_out_V, seen_BV, top_k > 0)
    # NaN compares false with everything: a model that failed would otherwise rank every target first.
    is_nan_B = log_prob_B.isnan()
    if is_nan_B.any():
        raise ScoreIsNaN(f"the score of an item for query {int(is_nan_B.nonzero()[0])} of the batch is NaN")
    top_items = None if scores_BV is None else best_items(scores_BV, min(top_k, counter.n_items))
    found = TargetRanks(better_B, tied_B, n_candidates_B, log_prob_B, top_items)
    return found if excluded_V is None else found.without(excluded_V[target_B])


def seen_of(
    seen: tuple[torch.Tensor, torch.Tensor] | None, start: int, stop: int
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Returns the (query number, item id) pairs of the queries from start to stop, which are numbered from 0 then.

    Args:
        seen: pairs sorted by query number, or None.
        start, stop: numbers of queries.
    """
    if seen is None:
        return None
    first, last = torch.searchsorted(seen[0], torch.tensor([start, stop], device=seen[0].device)).tolist()
    return seen[0][first:last] - start, seen[1][first:last]


def rank_targets(
    scorer: Scorer | TargetCounter,
    queries: tuple[torch.Tensor, ...],
    target_B: torch.Tensor,
    seen: tuple[torch.Tensor, torch.Tensor] | None = None,
    top_k: int = 0,
    excluded_V: torch.Tensor | None = None,
) -> TargetRanks:
    """Returns the targets' ranks, scoring a few queries at a time: memory does not grow with the number of queries.

    `target_score` is the log-probability.

    Args:
        scorer: of the model's head; scores all items, or compares them with the targets.
        queries: what the scorer takes, tensors whose first dimension is B.
        target_B: int64 item ids.
        seen: as in `rank_targets_by_scores`, sorted by query number.
        top_k, excluded_V: as in `rank_targets_by_scores`.
    """
    found: TargetRanks | None = None
    counts = isinstance(scorer, TargetCounter)
    step = max(1, len(target_B)) if counts and seen is None and not top_k else scorer.n_queries
    for start in range(0, max(1, len(target_B)), step):
        chunk = slice(start, min(start + step, len(target_B)))
        chunk_seen = seen_of(seen, chunk.start, chunk.stop)
        chunk_queries = tuple(tensor[chunk] for tensor in queries)
        if isinstance(scorer, TargetCounter):
            part = _rank_by_counts(scorer, chunk_queries, target_B[chunk], chunk_seen, top_k, excluded_V)
        else:
            scores_bV, log_prob = scorer(*chunk_queries)
            part = rank_targets_by_scores(scores_bV, target_B[chunk], chunk_seen, top_k, excluded_V)
            part = replace(part, target_score=log_prob(part.target_score))
        found = found or part.room_for(len(target_B))
        found.put(chunk, part)
    assert found is not None, "a chunk, be it empty"
    return found
