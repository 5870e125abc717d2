"""Heads that are mixtures of softmaxes over dot products."""

from abc import abstractmethod

import torch

from mos_recbole.heads.base import OutputHead
from mos_recbole.heads.counter import MixtureCounter
from mos_recbole.heads.scorer import MixtureScorer, mixture_log_prob
from mos_recbole.losses import MixtureImplementation, mixture_cross_entropy, sampled_mixture_cross_entropy


class MixtureHead(OutputHead):
    """p(v|c) = Σ_k π_k softmax_v(z_k·w_v + b_v): a head says how a state becomes K component vectors and K weights.

    The loss and the ranking of all such heads are `losses.mixture_cross_entropy` and `MixtureScorer`, or with
    "triton" `MixtureCounter`.

    Attributes:
        loss_impl: the implementation of the loss.
    """

    loss_impl: MixtureImplementation = "auto"

    @abstractmethod
    def components(self, state_Nd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the component vectors [N, K, d] and the log mixture weights [N, K]."""

    def item_vectors(self, weight_Vd: torch.Tensor) -> torch.Tensor:
        """Returns the vectors w [V, d] of all items, given the item table; the table itself unless overridden."""
        return weight_Vd

    def penalty(self, log_prior_NK: torch.Tensor) -> torch.Tensor:
        """Returns what the method adds to the loss in training, given a batch's log mixture weights; 0 unless
        overridden."""
        return log_prior_NK.new_zeros(())

    def loss(self, state_Nd: torch.Tensor, weight_Vd: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
        components_NKd, log_prior_NK = self.components(state_Nd)
        item_Vd = self.item_vectors(weight_Vd)
        nll = mixture_cross_entropy(
            components_NKd, log_prior_NK, item_Vd, target_N, bias=self.item_bias, impl=self.loss_impl
        )
        return nll + self.penalty(log_prior_NK) if self.training else nll

    def sampled_loss(
        self,
        state_Nd: torch.Tensor,
        weight_Vd: torch.Tensor,
        target_N: torch.Tensor,
        sampled_M: torch.Tensor,
        log_expected_count_M: torch.Tensor,
    ) -> torch.Tensor:
        components_NKd, log_prior_NK = self.components(state_Nd)
        item_Vd = self.item_vectors(weight_Vd)
        nll = sampled_mixture_cross_entropy(
            components_NKd, log_prior_NK, item_Vd, target_N, sampled_M, log_expected_count_M, bias=self.item_bias
        )
        return nll + self.penalty(log_prior_NK) if self.training else nll

    def log_prob(self, state_Nd: torch.Tensor, weight_Vd: torch.Tensor) -> torch.Tensor:
        return mixture_log_prob(*self.components(state_Nd), self.item_vectors(weight_Vd), self.item_bias)

    def queries(self, state_Nd: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.components(state_Nd)

    def scorer(self, weight_Vd: torch.Tensor) -> MixtureScorer | MixtureCounter:
        if self.loss_impl == "triton":
            return MixtureCounter(self.item_vectors(weight_Vd), self.item_bias)
        return MixtureScorer(self.item_vectors(weight_Vd), self.item_bias, self.n_components)
