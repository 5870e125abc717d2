"""Sigsoftmax, and mixtures of it."""

import torch
from torch.nn import functional

from mos_recbole.heads.logits import LogitHead
from mos_recbole.heads.projection import MIXTURE_SETTINGS, ProjectedHead
from mos_recbole.heads.spec import HeadSpec


def log_sigsoftmax_odds(logits: torch.Tensor) -> torch.Tensor:
    """Returns z + log σ(z), the logarithm of what sigsoftmax normalises."""
    return logits + functional.logsigmoid(logits)


class SigsoftmaxHead(LogitHead):
    """p(v|c) ∝ exp(z_v) σ(z_v), with z_v = h_c·w_v + b_v and the logistic function σ.

    Kanai, Fujiwara, Yamanaka and Adachi, "Sigsoftmax: Reanalysis of the Softmax Bottleneck", NeurIPS 2018. No
    parameters of its own. Cost: one softmax and a logistic function an item. The logarithm of exp(z) σ(z) is no linear
    function of z, so that the log-probability matrix may have any rank. Yet it grows with z: a query's items come in
    the order of h·w + b, as a softmax's do. What sigsoftmax gains in metrics of ranks comes from other vectors.

    Args:
        n_items, width, item_bias: as of `OutputHead`; the bias is part of z.
    """

    single_logit = True

    def logits(self, state_Nd: torch.Tensor, items: tuple[torch.Tensor, ...]) -> torch.Tensor:
        (weight_Vd,) = items
        return (state_Nd @ weight_Vd.T)[:, None]

    def log_odds(self, logits_NKV: torch.Tensor) -> torch.Tensor:
        return log_sigsoftmax_odds(logits_NKV)


class MoSSHead(ProjectedHead, LogitHead):
    """p(v|c) = Σ_k π_k(c) sigsoftmax_v(tanh(U_k h_c)·w_v + b_v), with π(c) = softmax(M h_c).

    The mixture of sigsoftmaxes of Kanai et al., NeurIPS 2018: `MoSHead` with sigsoftmax for softmax, its parameters and
    its start. Cost: K times that of `SigsoftmaxHead`.

    Args:
        n_items, width, item_bias, n_components, activation, dropout, output_rank: as of `ProjectedHead`.
    """

    @property
    def n_components(self) -> int:
        return self.n_vectors

    def states(self, state_Nd: torch.Tensor) -> torch.Tensor:
        return self.vectors(state_Nd)

    def logits(self, state_NKd: torch.Tensor, items: tuple[torch.Tensor, ...]) -> torch.Tensor:
        (weight_Vd,) = items
        return state_NKd @ weight_Vd.T

    def log_prior(self, state_Nd: torch.Tensor) -> torch.Tensor:
        return self.log_weights(state_Nd)

    def log_odds(self, logits_NKV: torch.Tensor) -> torch.Tensor:
        return log_sigsoftmax_odds(logits_NKV)


_PAPER = 'Kanai, Fujiwara, Yamanaka, Adachi, "Sigsoftmax: Reanalysis of the Softmax Bottleneck", NeurIPS 2018'

HEADS = (
    HeadSpec("sigsoftmax", "Sigsoftmax", SigsoftmaxHead, paper=_PAPER),
    HeadSpec("moss", "MoSS", MoSSHead, MIXTURE_SETTINGS, _PAPER),
)
