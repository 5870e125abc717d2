"""Target ranks of a mixture by Triton's kernels, without the scores of all items; importing it imports Triton."""

import torch
import triton

from mos_recbole.losses import triton_kernels as kernels
from mos_recbole.losses.tiles import BITS
from mos_recbole.losses.triton_mixture import kernel_constants, normalise, product_precision
from mos_recbole.losses.triton_support import check_factors

# How many items a program counts among, a multiple of a tile's.
_SPAN = 1024


@torch.no_grad()
def mixture_target_counts(
    components: torch.Tensor,
    log_prior: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    bias: torch.Tensor | None,
    ruled_out: torch.Tensor,
    seen: torch.Tensor | None = None,
    *,
    with_scores: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Returns how the targets fare among the candidates, under a mixture as of `mixture_cross_entropy`.

    Two passes over the items, 4·B·K·V·d operations: the first for the normalisers, the second makes every item's
    probability, compares it with the target's and forgets it. Beyond inputs and results the memory is O(B·K).
    Probabilities that differ by rounding alone may be counted as tied, or not.

    Args:
        components: [B, K, d], float32 or bfloat16.
        log_prior: [B, K], log of the mixture weights; -inf switches a component off.
        weight: [V, d], of the components' type.
        target: [B], int64 item ids.
        bias: [V] or None, added to every component's logits.
        ruled_out: bool [V], the items that are no candidates of any query.
        seen: bool [B, V], further items that are none, or None.
        with_scores: whether to return scores too.

    Returns:
        The candidates other than the target with a higher probability, int64 [B], and those with the same, int64 [B];
        the target's log-probability in nats, float32 [B], NaN where any logit of the query is; and scores float32
        [B, V] in the order of the probabilities, -inf for what is no candidate, those below 2^-126 of the best tied
        at 0, for K > 1.

    Raises:
        ValueError: types other than float32 or bfloat16, the same for both factors.
    """
    check_factors(components, weight)
    components, weight, target = components.contiguous(), weight.contiguous(), target.contiguous()
    bias = None if bias is None else bias.float().contiguous()
    (n_queries, n_components, width), n_items, device = components.shape, len(weight), weight.device
    constants = kernel_constants(weight.dtype, width, bias is not None, product_precision(weight.dtype))
    largest_BK, others_BK, target_logit_BK = normalise(components, weight, bias, target, constants)
    relative_BK = target_logit_BK - largest_BK
    log_normaliser_BK = torch.log(others_BK + torch.exp2(relative_BK * BITS))
    log_prob_B = torch.logsumexp(log_prior.float() + (relative_BK - log_normaliser_BK), dim=1)
    bits_BK = (log_prior.float() - log_normaliser_BK) * BITS
    # A target of probability 0 is compared as such.
    target_bits_B = (log_prob_B * BITS).masked_fill(log_prob_B.isneginf(), 0.0)
    better_B, tied_B = torch.zeros(2, n_queries, dtype=torch.int32, device=device)
    scores_BV = torch.empty(n_queries, n_items, device=device) if with_scores else None
    grid = (triton.cdiv(n_queries, constants["BLOCK_R"]), triton.cdiv(n_items, _SPAN))
    with torch.cuda.device_of(weight):
        kernels.count_better[grid](
            components,
            weight,
            bias,
            target,
            largest_BK,
            target_logit_BK,
            bits_BK - target_bits_B[:, None],
            bits_BK - bits_BK.amax(dim=1, keepdim=True),
            ruled_out.to(torch.uint8),
            None if seen is None else seen.view(torch.uint8),
            better_B,
            tied_B,
            scores_BV,
            n_queries,
            n_items,
            n_components,
            ONE_COMPONENT=n_components == 1,
            HAS_SEEN=seen is not None,
            WITH_SCORES=with_scores,
            SPAN=_SPAN,
            **constants,
        )
    return better_B.long(), tied_B.long(), log_prob_B, scores_BV
