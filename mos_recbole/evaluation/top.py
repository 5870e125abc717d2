"""The best items of every query, in an order without chance: by score, and by name among equal scores."""

import torch

from mos_recbole.evaluation.ranks import ScoreIsNaN, Scorer, best_items, seen_of


def top_lists(
    scorer: Scorer,
    queries: tuple[torch.Tensor, ...],
    k: int,
    name_order_V: torch.Tensor,
    seen: tuple[torch.Tensor, torch.Tensor] | None = None,
    excluded_V: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns what `top_lists_by_scores` does, scoring a few queries at a time.

    The scores are log-probabilities in float64, where they are equal for the same items only as the scorer's are.

    Args:
        scorer: of the model's head.
        queries: what the scorer takes, tensors whose first dimension is B.
        k, name_order_V, excluded_V: as in `top_lists_by_scores`.
        seen: as there, sorted by query number.
    """
    items, scores = [], []
    for start in range(0, len(queries[0]), scorer.n_queries):
        stop = start + scorer.n_queries
        scores_bV, log_prob = scorer(*(tensor[start:stop] for tensor in queries))
        item_bk, score_bk = top_lists_by_scores(scores_bV, k, name_order_V, seen_of(seen, start, stop), excluded_V)
        items.append(item_bk)
        scores.append(log_prob(score_bk.double().T).T)
    return torch.cat(items), torch.cat(scores)


def top_lists_by_scores(
    scores_BV: torch.Tensor,
    k: int,
    name_order_V: torch.Tensor,
    seen: tuple[torch.Tensor, torch.Tensor] | None = None,
    excluded_V: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the best items, int64 [B, k], 0 where there are fewer candidates than k, and their scores [B, k].

    Args:
        scores_BV: of all items, floating point, which are overwritten; item 0 is padding and never a candidate. -inf
            is a legal score.
        k: at most V.
        name_order_V: int64, each item's place in the order of the names.
        seen: (query number, item id) pairs that are no candidates.
        excluded_V: bool, the items that are no candidates of any query.

    Raises:
        ScoreIsNaN: a score is NaN, which has no place in a ranking.
    """
    _rule_out(scores_BV, seen, excluded_V)
    item_Bk, score_Bk = _best_by_name(scores_BV, k, name_order_V)
    if bool(score_Bk.isneginf().any()):
        # A candidate's -inf must stay above those that are none.
        scores_BV.clamp_(min=torch.finfo(scores_BV.dtype).min)
        _rule_out(scores_BV, seen, excluded_V)
        item_Bk, score_Bk = _best_by_name(scores_BV, k, name_order_V)
        item_Bk = item_Bk.masked_fill(score_Bk.isneginf(), 0)
        score_Bk.masked_fill_(score_Bk == torch.finfo(scores_BV.dtype).min, -torch.inf)
    return item_Bk, score_Bk


def _rule_out(
    scores_BV: torch.Tensor, seen: tuple[torch.Tensor, torch.Tensor] | None, excluded_V: torch.Tensor | None
) -> None:
    """Gives what is no candidate the score -inf."""
    scores_BV[:, 0] = -torch.inf
    if excluded_V is not None:
        scores_BV.masked_fill_(excluded_V, -torch.inf)
    if seen is not None:
        scores_BV[seen] = -torch.inf


def _best_by_name(scores_BV: torch.Tensor, k: int, name_order_V: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the items [B, k] with the largest scores and these, both by score, then by name."""
    # One more than asked for tells whether the last place is contested.
    item_Bk = best_items(scores_BV, min(k + 1, scores_BV.shape[1])).long()
    score_Bk = scores_BV.gather(1, item_Bk)
    # NaN is larger than every number to `topk`.
    is_nan_B = score_Bk.isnan().any(dim=1)
    if bool(is_nan_B.any()):
        raise ScoreIsNaN(f"the score of an item for query {int(is_nan_B.nonzero()[0])} of the batch is NaN")
    contested_b = (score_Bk[:, k - 1] == score_Bk[:, -1]).nonzero().squeeze(1) if score_Bk.shape[1] > k else ()
    item_Bk = item_Bk[:, :k]
    if len(contested_b):
        scores_bV, last_b1 = scores_BV[contested_b], score_Bk[contested_b, k - 1, None]
        # Those above the last score first, then those with it by their names.
        place_bV = torch.where(scores_bV == last_b1, name_order_V, scores_BV.shape[1])
        place_bV.masked_fill_(scores_bV > last_b1, -1)
        item_Bk[contested_b] = place_bV.topk(k, dim=1, largest=False).indices
    item_Bk = item_Bk.gather(1, name_order_V[item_Bk].argsort(dim=1))
    score_Bk, order_Bk = scores_BV.gather(1, item_Bk).sort(dim=1, descending=True, stable=True)
    return item_Bk.gather(1, order_Bk), score_Bk
