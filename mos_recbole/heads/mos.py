"""Mixture of Softmaxes, and Mixture of Contexts, its control."""

from typing import Literal

import torch
from torch import nn

from mos_recbole.heads.mixture import MixtureHead


class _ProjectedHead(MixtureHead):
    """K vectors and weights of a state, the parameters that MoS and MoC share."""

    def __init__(
        self,
        n_items: int,
        width: int,
        n_components: int,
        *,
        activation: Literal["tanh", "identity"] = "tanh",
        dropout: float = 0.0,
        item_bias: bool = False,
    ) -> None:
        super().__init__(n_items, width, item_bias=item_bias)
        self.n_vectors = n_components
        self.projection = nn.Linear(width, n_components * width, bias=False)
        self.prior = nn.Linear(width, n_components, bias=False)
        self.activation = {"tanh": nn.Tanh(), "identity": nn.Identity()}[activation]
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Starts each U_k at 2 I + N(0, 1 / 4d) and M at N(0, 1 / d).

        So the components are near tanh(2h) at first: as different from each other as the noise makes them, and close
        enough to the state that the item table gets the gradients that a softmax would give it. Measured beside
        Glorot's start in docs/experiments.md.
        """
        noise_Kdd = torch.randn(self.n_vectors, self.width, self.width) / (2 * self.width**0.5)
        with torch.no_grad():
            self.projection.weight.copy_((noise_Kdd + 2 * torch.eye(self.width)).flatten(0, 1))
            nn.init.normal_(self.prior.weight, std=self.width**-0.5)

    def vectors(self, state_Nd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the vectors tanh(U_k h) [N, K, d] and the log weights log softmax(M h) [N, K]."""
        vector_NKd = self.projection(state_Nd).view(-1, self.n_vectors, self.width)
        prior_NK = self.prior(state_Nd)
        log_prior_NK = torch.log_softmax(prior_NK.to(torch.promote_types(prior_NK.dtype, torch.float32)), dim=-1)
        return self.dropout(self.activation(vector_NKd)), log_prior_NK


class MoSHead(_ProjectedHead):
    """p(v|c) = Σ_k π_k(c) softmax_v(tanh(U_k h_c)·w_v + b_v), with π(c) = softmax(M h_c).

    Yang et al., "Breaking the Softmax Bottleneck: A High-Rank RNN Language Model", ICLR 2018, eq. 2. Parameters:
    K·d·d for the projections U and K·d for M, no biases; cost: K times the softmax's.

    Deviation: U_k starts as a multiple of the identity plus noise instead of Glorot's uniform, see `reset_parameters`.

    Args:
        n_items: V, the padding item 0 included.
        width: d, of the state and of the item table.
        n_components: K.
        activation: "tanh" as in the paper, or "identity".
        dropout: share of the component vectors' entries dropped in training.
        item_bias: whether every item has a learned bias, shared by the components.
    """

    @property
    def n_components(self) -> int:
        return self.n_vectors

    def components(self, state_Nd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.vectors(state_Nd)


class MoCHead(_ProjectedHead):
    """p(v|c) = softmax_v((Σ_k π_k(c) tanh(U_k h_c))·w_v + b_v): the mixture is of the contexts' vectors.

    Mixture of Contexts, the control of Yang et al., ICLR 2018, section 2.3 and eq. 3: for the same K the parameters of
    `MoSHead` and its start, yet a softmax's bound on the rank, d + 1 (d + 2 with the bias). What MoS gains over MoC is
    owed to rank; what MoC gains over a softmax, to capacity. Cost: the softmax's, and 2·K·d·d operations a query.

    Args:
        n_items, width, n_components, activation, dropout, item_bias: as of `MoSHead`.
    """

    single_logit = True

    def components(self, state_Nd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        vector_NKd, log_prior_NK = self.vectors(state_Nd)
        context_N1d = log_prior_NK.exp().to(vector_NKd.dtype)[:, None, :] @ vector_NKd
        return context_N1d, log_prior_NK.new_zeros(len(state_Nd), 1)
