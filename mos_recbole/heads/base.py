"""What every output head offers to models and to the evaluation."""

import torch
from torch import nn

from mos_recbole.losses import mixture_cross_entropy


class OutputHead(nn.Module):
    """A mixture of K softmaxes over V items; a head says how a state becomes K component vectors and K weights.

    The item table [V, d] is an argument of every method, so that it can be the encoder's own (tied) or another one.

    Args:
        n_items: V, the padding item 0 included.
        item_bias: whether every item has a learned bias, shared by the components.
    """

    n_components: int = 1

    def __init__(self, n_items: int, *, item_bias: bool) -> None:
        super().__init__()
        self.item_bias = nn.Parameter(torch.zeros(n_items)) if item_bias else None

    def components(self, state_Nd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the component vectors [N, K, d] and the log mixture weights [N, K]."""
        raise NotImplementedError

    def loss(self, state_Nd: torch.Tensor, weight_Vd: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
        """Returns the mean negative log-probability of the targets, a scalar in nats."""
        components_NKd, log_prior_NK = self.components(state_Nd)
        return mixture_cross_entropy(components_NKd, log_prior_NK, weight_Vd, target_N, bias=self.item_bias)

    def log_prob(self, state_Nd: torch.Tensor, weight_Vd: torch.Tensor) -> torch.Tensor:
        """Returns the log-probabilities of all items, [N, V], in nats, at least float32.

        For evaluation: it works in place, so that gradients through it are refused.
        """
        components_NKd, log_prior_NK = self.components(state_Nd)
        logits_NKV = (components_NKd @ weight_Vd.T).to(torch.promote_types(components_NKd.dtype, torch.float32))
        if self.item_bias is not None:
            logits_NKV += self.item_bias
        log_prob_NKV = logits_NKV.sub_(torch.logsumexp(logits_NKV, dim=-1, keepdim=True))
        return torch.logsumexp(log_prob_NKV.add_(log_prior_NK[..., None]), dim=1)
