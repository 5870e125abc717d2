"""Where targets stand in the full ranking."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mos_recbole.evaluation.protocol import TieRule

# Scores of one chunk of queries; times K while a mixture's components are alive.
_CHUNK_BYTES = 32 * 2**20


class ScoreIsNaN(ValueError):
    """A model gives an item no score."""


@dataclass(frozen=True)
class TargetRanks:
    """How every query's target fares against the candidates.

    Attributes:
        better: int64 [B], candidates with a higher score than the target.
        tied: int64 [B], other candidates with the target's score.
        n_candidates: int64 [B], the target included.
        target_score: float [B].
        top_items: int64 [B, k], the items in the order of their scores, or None where not asked for.
    """

    better: torch.Tensor
    tied: torch.Tensor
    n_candidates: torch.Tensor
    target_score: torch.Tensor
    top_items: torch.Tensor | None = None

    def ranks(self, tie_rule: TieRule) -> torch.Tensor:
        """Returns the ranks, float64 [B], 1 for the best."""
        ties_above = {"optimistic": 0.0, "mean": 0.5, "pessimistic": 1.0}[tie_rule]
        return 1.0 + self.better.double() + ties_above * self.tied.double()

    @staticmethod
    def cat(parts: list["TargetRanks"]) -> "TargetRanks":
        """Returns the results of several batches as one, on the CPU."""
        tops = [part.top_items for part in parts if part.top_items is not None]
        return TargetRanks(
            better=torch.cat([part.better for part in parts]).cpu(),
            tied=torch.cat([part.tied for part in parts]).cpu(),
            n_candidates=torch.cat([part.n_candidates for part in parts]).cpu(),
            target_score=torch.cat([part.target_score for part in parts]).cpu(),
            top_items=torch.cat(tops).cpu() if tops else None,
        )


def rank_targets_by_scores(
    scores_BV: torch.Tensor,
    target_B: torch.Tensor,
    seen: tuple[torch.Tensor, torch.Tensor] | None = None,
    top_k: int = 0,
) -> TargetRanks:
    """Returns the targets' ranks, given the scores of all items. Overwrites the scores of items that do not compete.

    Args:
        scores_BV: one row a query; item 0 is padding and never a candidate. -inf is a legal score.
        target_B: int64 item ids.
        seen: (query number, item id) pairs that are no candidates, in any order, repeated or not; a query's own target
            stays one.
        top_k: how many of the best items to return.

    Raises:
        ScoreIsNaN: a score is NaN, which has no place in a ranking.
    """
    target_B1 = target_B[:, None]
    target_score_B1 = scores_BV.gather(1, target_B1)
    out = torch.zeros_like(scores_BV, dtype=torch.bool)
    out[:, 0] = True
    if seen is not None:
        out[seen] = True
        out.scatter_(1, target_B1, False)
    # NaN compares false with everything: a model that failed would otherwise rank every target first.
    if scores_BV.isnan().any():
        query = int(scores_BV.isnan().any(dim=1).nonzero()[0])
        raise ScoreIsNaN(f"the score of an item for query {query} of the batch is NaN")
    better_B = ((scores_BV > target_score_B1) & ~out).sum(dim=1)
    equal_B = ((scores_BV == target_score_B1) & ~out).sum(dim=1)
    top_items = None
    if top_k:
        # A candidate's -inf must stay above those that are none.
        scores_BV.clamp_(min=torch.finfo(scores_BV.dtype).min).masked_fill_(out, -torch.inf)
        top_items = scores_BV.topk(min(top_k, scores_BV.shape[1]), dim=1).indices
    n_candidates_B = scores_BV.shape[1] - out.sum(dim=1)
    return TargetRanks(better_B, equal_B - 1, n_candidates_B, target_score_B1.squeeze(1), top_items)


def rank_targets(
    score: Callable[[torch.Tensor], torch.Tensor],
    state_Bd: torch.Tensor,
    target_B: torch.Tensor,
    n_items: int,
    n_components: int = 1,
    seen: tuple[torch.Tensor, torch.Tensor] | None = None,
    top_k: int = 0,
) -> TargetRanks:
    """Returns the targets' ranks, scoring a few queries at a time: memory does not grow with the number of queries.

    Args:
        score: [b, d] states -> [b, V] scores.
        state_Bd: the queries' states.
        target_B: int64 item ids.
        n_items: V.
        n_components: how many [b, V] buffers `score` needs, K for a mixture.
        seen: as in `rank_targets_by_scores`, sorted by query number.
        top_k: as in `rank_targets_by_scores`.
    """
    step = max(1, _CHUNK_BYTES // (4 * n_items * n_components))
    parts = []
    for start in range(0, len(target_B), step):
        stop = min(start + step, len(target_B))
        chunk_seen = None
        if seen is not None:
            first, last = torch.searchsorted(seen[0], torch.tensor([start, stop], device=seen[0].device)).tolist()
            chunk_seen = (seen[0][first:last] - start, seen[1][first:last])
        parts.append(rank_targets_by_scores(score(state_Bd[start:stop]), target_B[start:stop], chunk_seen, top_k))
    return TargetRanks.cat(parts)
