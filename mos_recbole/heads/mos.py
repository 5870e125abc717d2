"""Mixture of Softmaxes, and Mixture of Contexts, its control."""

import torch

from mos_recbole.heads.mixture import MixtureHead
from mos_recbole.heads.projection import MIXTURE_SETTINGS, ProjectedHead
from mos_recbole.heads.spec import HeadSpec


class MoSHead(ProjectedHead, MixtureHead):
    """p(v|c) = Σ_k π_k(c) softmax_v(tanh(U_k h_c)·w_v + b_v), with π(c) = softmax(M h_c).

    Yang, Dai, Salakhutdinov and Cohen, "Breaking the Softmax Bottleneck: A High-Rank RNN Language Model", ICLR 2018,
    section 2.4. Parameters: K·d·d for the projections U and K·d for M, no biases. Cost: K times the softmax's.

    Deviation: U_k starts as a multiple of the identity plus noise instead of Glorot's uniform, see
    `projection.start_near_identity`.

    Args:
        n_items, width, item_bias, n_components, activation, dropout, output_rank: as of `ProjectedHead`.
    """

    @property
    def n_components(self) -> int:
        return self.n_vectors

    def components(self, state_Nd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.vectors(state_Nd), self.log_weights(state_Nd)


class MoCHead(ProjectedHead, MixtureHead):
    """p(v|c) = softmax_v((Σ_k π_k(c) tanh(U_k h_c))·w_v + b_v): the mixture is of the contexts' vectors.

    Mixture of Contexts, the low-rank control of Yang et al., ICLR 2018, section 2.5: for the same K the parameters of
    `MoSHead` and its start, yet a softmax's bound on the rank, d + 1 (d + 2 with the bias). What MoS gains over MoC is
    owed to rank; what MoC gains over a softmax, to capacity. Cost: the softmax's, and 2·K·d·d operations a query.

    Args:
        n_items, width, item_bias, n_components, activation, dropout, output_rank: as of `ProjectedHead`.
    """

    single_logit = True

    def components(self, state_Nd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        vector_NKd, log_prior_NK = self.vectors(state_Nd), self.log_weights(state_Nd)
        context_N1d = log_prior_NK.exp().to(vector_NKd.dtype)[:, None, :] @ vector_NKd
        return context_N1d, log_prior_NK.new_zeros(state_Nd.shape[0], 1)


_PAPER = (
    'Yang, Dai, Salakhutdinov, Cohen, "Breaking the Softmax Bottleneck: A High-Rank RNN Language Model", ICLR 2018, '
)

HEADS = (
    HeadSpec("moc", "MoC", MoCHead, MIXTURE_SETTINGS, _PAPER + "section 2.5"),
    HeadSpec("mos", "MoS", MoSHead, MIXTURE_SETTINGS, _PAPER + "section 2.4"),
)
