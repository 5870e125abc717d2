"""What every output head offers to models and to the evaluation."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from mos_recbole.heads.scorer import MixtureScorer, mixture_log_prob
from mos_recbole.losses import mixture_cross_entropy, sampled_mixture_cross_entropy


class OutputHead(nn.Module, ABC):
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

    @abstractmethod
    def components(self, state_Nd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the component vectors [N, K, d] and the log mixture weights [N, K]."""

    def loss(self, state_Nd: torch.Tensor, weight_Vd: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
        """Returns the mean negative log-probability of the targets, a scalar in nats."""
        components_NKd, log_prior_NK = self.components(state_Nd)
        return mixture_cross_entropy(components_NKd, log_prior_NK, weight_Vd, target_N, bias=self.item_bias)

    def sampled_loss(
        self,
        state_Nd: torch.Tensor,
        weight_Vd: torch.Tensor,
        target_N: torch.Tensor,
        sampled_M: torch.Tensor,
        log_expected_count_M: torch.Tensor,
    ) -> torch.Tensor:
        """Returns an estimate of `loss` from M sampled items, see `losses.sampled_mixture_cross_entropy`."""
        components_NKd, log_prior_NK = self.components(state_Nd)
        return sampled_mixture_cross_entropy(
            components_NKd, log_prior_NK, weight_Vd, target_N, sampled_M, log_expected_count_M, bias=self.item_bias
        )

    def log_prob(self, state_Nd: torch.Tensor, weight_Vd: torch.Tensor) -> torch.Tensor:
        """Returns the log-probabilities of all items, [N, V], in nats, at least float32. For evaluation only."""
        return mixture_log_prob(*self.components(state_Nd), weight_Vd, self.item_bias)

    def scorer(self, weight_Vd: torch.Tensor) -> MixtureScorer:
        """Returns what scores all items for the components of a few states, in the order of `log_prob`."""
        return MixtureScorer(weight_Vd, self.item_bias, self.n_components)
