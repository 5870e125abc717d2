"""K vectors and mixture weights of a state, which several heads have in common."""

from typing import Literal

import torch
from torch import nn

from mos_recbole.heads.base import OutputHead
from mos_recbole.specs import Count, Positive, Probability, Setting

Activation = Literal["tanh", "identity"]
ACTIVATION = Setting(
    "mos_activation", Activation, "tanh", "Activation of the components: tanh or identity.", "activation"
)
DROPOUT = Setting("mos_dropout", Probability, 0.0, "Dropout on the components.", "dropout")
OUTPUT_RANK = Setting(
    "output_rank", Count, 0, "Rank r of the output matrix; 0: as wide as the states.", "output_rank", recent=True
)
# Of a `ProjectedHead`.
MIXTURE_SETTINGS = (
    Setting("mos_heads", Positive, 4, "Components K of the mixture.", "n_components"),
    ACTIVATION,
    DROPOUT,
    OUTPUT_RANK,
)


def activation_module(name: Activation) -> nn.Module:
    """Returns the activation of that name."""
    return {"tanh": nn.Tanh(), "identity": nn.Identity()}[name]


def start_near_identity(projection: nn.Linear) -> None:
    """Sets each U_k of a map [K·d, d] to 2 I + N(0, 1 / 4d).

    So the components are near tanh(2h) at first: as different from each other as the noise makes them, and close
    enough to the state that the item table gets the gradients that a softmax would give it. Measured beside Glorot's
    start in docs/experiments.md.
    """
    width = projection.in_features
    noise_Kdd = torch.randn(projection.out_features // width, width, width) / (2 * width**0.5)
    with torch.no_grad():
        projection.weight.copy_((noise_Kdd + 2 * torch.eye(width)).flatten(0, 1))


def rank_limit(width: int, rank: int) -> nn.Module:
    """Returns the map z -> A B z of vectors [..., d], with A [d, r] and B [r, d]; the identity for the rank 0.

    Before an item table E, it makes the output matrix E A B: of rank r, though states and items are d wide. So Godey,
    de la Clergerie and Sagot ("Why do small language models underperform? Studying Language Model Saturation via the
    Softmax Bottleneck", COLM 2024) tell the rank from the width; they train one matrix [V, r] in place of E A. Here E
    is left as it is, so that a tied table stays the encoder's; of an untied one E A can be any matrix [V, r]. A and B
    start as the projection on r random directions, which at r = d is the identity.

    Raises:
        ValueError: a rank above the width.
    """
    if not rank:
        return nn.Identity()
    if rank > width:
        raise ValueError(f"output_rank is {rank}; expected at most the width, {width}, or 0")
    down, up = nn.Linear(width, rank, bias=False), nn.Linear(rank, width, bias=False)
    nn.init.orthogonal_(down.weight)
    with torch.no_grad():
        up.weight.copy_(down.weight.T)
    return nn.Sequential(down, up)


def log_mixture_weights(prior: nn.Linear, state_Nd: torch.Tensor) -> torch.Tensor:
    """Returns log softmax(M h) [N, K], in at least float32."""
    prior_NK = prior(state_Nd)
    return torch.log_softmax(prior_NK.to(torch.promote_types(prior_NK.dtype, torch.float32)), dim=-1)


class ProjectedHead(OutputHead):
    """K vectors tanh(U_k h) and weights softmax(M h) of a state. U and M have no biases.

    Args:
        n_items, width, item_bias: as of `OutputHead`; the components share the biases.
        n_components: K.
        activation: "tanh" as in the paper, or "identity".
        dropout: share of the component vectors' entries dropped in training.
        output_rank: r of `rank_limit`, behind the dropout; 0 for none.
    """

    def __init__(
        self,
        n_items: int,
        width: int,
        *,
        item_bias: bool = False,
        n_components: int,
        activation: Activation = "tanh",
        dropout: float = 0.0,
        output_rank: int = 0,
    ) -> None:
        super().__init__(n_items, width, item_bias=item_bias)
        self.n_vectors = n_components
        self.projection = nn.Linear(width, n_components * width, bias=False)
        self.prior = nn.Linear(width, n_components, bias=False)
        self.activation = activation_module(activation)
        self.dropout = nn.Dropout(dropout)
        start_near_identity(self.projection)
        nn.init.normal_(self.prior.weight, std=width**-0.5)
        self.rank_limit = rank_limit(width, output_rank)

    def vectors(self, state_Nd: torch.Tensor) -> torch.Tensor:
        """Returns the vectors tanh(U_k h) [N, K, d], within r directions where there is an `output_rank`."""
        vector_NKd: torch.Tensor = self.projection(state_Nd).view(-1, self.n_vectors, self.width)
        vector_NKd = self.rank_limit(self.dropout(self.activation(vector_NKd)))
        return vector_NKd

    def log_weights(self, state_Nd: torch.Tensor) -> torch.Tensor:
        """Returns the log weights log softmax(M h) [N, K]."""
        return log_mixture_weights(self.prior, state_Nd)
