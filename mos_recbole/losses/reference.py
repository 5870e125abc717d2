"""The mixture cross-entropy written down as its formula: the truth that faster implementations are tested against."""

import torch


def mixture_nll_reference(
    components_BKd: torch.Tensor,
    log_prior_BK: torch.Tensor,
    weight_Vd: torch.Tensor,
    target_B: torch.Tensor,
    bias_V: torch.Tensor | None,
) -> torch.Tensor:
    """Returns -log Σ_k π_bk softmax_v(z_bk·w_v + bias_v)[y_b], shape [B], by autograd through B x K x V numbers.

    Works in log space throughout, so it neither overflows nor needs an epsilon.
    """
    logits_BKV = components_BKd @ weight_Vd.T
    logits_BKV = logits_BKV.to(torch.promote_types(logits_BKV.dtype, torch.float32))
    if bias_V is not None:
        logits_BKV = logits_BKV + bias_V
    log_prob_BKV = torch.log_softmax(logits_BKV, dim=-1)
    log_prob_BK = log_prob_BKV.gather(-1, target_B[:, None, None].expand(-1, logits_BKV.shape[1], 1)).squeeze(-1)
    return -torch.logsumexp(log_prior_BK + log_prob_BK, dim=-1)
