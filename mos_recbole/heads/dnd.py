"""Dropout and decoupling of the candidates' table."""

import torch
from torch import nn

from mos_recbole.heads.mixture import MixtureHead
from mos_recbole.heads.spec import HeadSpec
from mos_recbole.specs import Probability, Setting


class DnDHead(MixtureHead):
    """p(v|c) = softmax_v(h_c·drop(A w_v) + b_v): dropout on the candidates, which are a map of the item table.

    Lin, "Breaking the Softmax Bottleneck for Sequential Recommender Systems with Dropout and Decoupling", arXiv
    2110.05409, 2021: the last layer overfits, hence the dropout; an item table shared by sequences and candidates
    couples the two, hence the map, which starts at the identity. Parameters: d·d for A. Cost: the softmax's, and
    2·V·d·d operations a batch. The rank is at most d + 1 (d + 2 with the bias), as a softmax's.

    Uncertain, since the paper's abstract was at hand and not its text: what exactly decouples (here a linear map A, the
    same for all items; tables that have nothing in common are `tie_weights: False`), and what is dropped (here single
    numbers of A w_v, anew in every loss, the same for all of its queries).

    Args:
        n_items, width, item_bias: as of `OutputHead`.
        dropout: share of the candidates' numbers dropped in training.
    """

    single_logit = True

    def __init__(self, n_items: int, width: int, *, item_bias: bool = False, dropout: float = 0.2) -> None:
        super().__init__(n_items, width, item_bias=item_bias)
        self.decoupling = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.decoupling.weight)
        self.dropout = nn.Dropout(dropout)

    def components(self, state_Nd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return state_Nd[:, None, :], state_Nd.new_zeros(state_Nd.shape[0], 1)

    def item_vectors(self, weight_Vd: torch.Tensor) -> torch.Tensor:
        candidate_Vd: torch.Tensor = self.dropout(self.decoupling(weight_Vd))
        return candidate_Vd


HEAD = HeadSpec(
    "dnd",
    "DnD",
    DnDHead,
    (Setting("dnd_dropout", Probability, 0.2, "Dropout on the candidates' vectors.", "dropout"),),
    'Lin, "Breaking the Softmax Bottleneck for Sequential Recommender Systems with Dropout and Decoupling", '
    "arXiv 2110.05409, 2021, built after its abstract",
)
