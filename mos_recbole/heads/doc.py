"""Direct Output Connection: a mixture of softmaxes from several layers."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from mos_recbole.heads.mixture import MixtureHead
from mos_recbole.heads.projection import (
    ACTIVATION,
    DROPOUT,
    Activation,
    activation_module,
    log_mixture_weights,
    start_near_identity,
)
from mos_recbole.heads.spec import HeadSpec
from mos_recbole.specs import Count, NonNegative, Setting


class DOCHead(MixtureHead):
    """p(v|c) = Σ_k π_k(c) softmax_v(tanh(U_k h_c^l)·w_v + b_v): component k reads layer l(k); π(c) = softmax(M h_c^L).

    Takase, Suzuki and Nagata, "Direct Output Connection for a High-Rank Language Model", EMNLP 2018, and the authors'
    code, nttcslab-nlp/doc_lm. With all components at the last layer it is MoS. Parameters: K·d·d for U and K·d for M.
    Cost: K times the softmax's. As there, training adds λ CV² to the loss, where CV is the coefficient of variation of
    the components' total weights in a batch, so that no component is left out (Shazeer et al., "Outrageously Large
    Neural Networks", ICLR 2017).

    Deviations: all layers have the item table's width, where theirs are wider; U has no biases and starts near the
    identity, as `MoSHead`'s; CV² is the variance over the K components by their mean's square, where their code takes
    K - 1 times that.

    Args:
        n_items, width, item_bias: as of `OutputHead`; the components share the biases.
        n_layers: how many layers' states there are.
        components_of_layers: how many components read each of the last layers, the last layer's number at the end;
            layers before those have none.
        balance: λ.
        activation: "tanh" or "identity".
        dropout: share of the component vectors' entries dropped in training.

    Raises:
        ValueError: more numbers than layers, or no component.
    """

    reads_layers = True

    def __init__(
        self,
        n_items: int,
        width: int,
        *,
        item_bias: bool = False,
        n_layers: int,
        components_of_layers: Sequence[int],
        balance: float = 0.001,
        activation: Activation = "tanh",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(n_items, width, item_bias=item_bias)
        counts = list(components_of_layers)
        if len(counts) > n_layers or min(counts, default=0) < 0 or not any(counts):
            fitting = [2] * min(n_layers, max(1, len(counts)))
            raise ValueError(
                f"components_of_layers is {counts}; expected a number for each of the encoder's {n_layers} layers at "
                f"most, and one component at least, such as {fitting}"
            )
        self.balance = balance
        projections = {
            str(layer): nn.Linear(width, count * width, bias=False)
            for layer, count in enumerate(counts, start=n_layers - len(counts))
            if count
        }
        self.projections = nn.ModuleDict(projections)
        self.prior = nn.Linear(width, sum(counts), bias=False)
        self.activation, self.dropout = activation_module(activation), nn.Dropout(dropout)
        for projection in projections.values():
            start_near_identity(projection)
        nn.init.normal_(self.prior.weight, std=width**-0.5)

    @property
    def n_components(self) -> int:
        return self.prior.out_features

    def components(self, state_Nld: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        vector_Nr = torch.cat([project(state_Nld[:, int(layer)]) for layer, project in self.projections.items()], dim=1)
        vector_NKd = self.dropout(self.activation(vector_Nr.view(state_Nld.shape[0], -1, self.width)))
        return vector_NKd, log_mixture_weights(self.prior, state_Nld[:, -1])

    def penalty(self, log_prior_NK: torch.Tensor) -> torch.Tensor:
        weight_K = log_prior_NK.exp().mean(dim=0)
        return self.balance * weight_K.var(unbiased=False) / weight_K.mean().square()


HEAD = HeadSpec(
    "doc",
    "DOC",
    DOCHead,
    (
        Setting(
            "doc_heads",
            Annotated[list[Count], Field(min_length=1)],
            [2, 2],
            "Components that read each of the last layers, the last layer's number at the end.",
            "components_of_layers",
        ),
        Setting("doc_balance", NonNegative, 0.001, "Weight of the penalty on components' unequal use.", "balance"),
        ACTIVATION,
        DROPOUT,
    ),
    'Takase, Suzuki, Nagata, "Direct Output Connection for a High-Rank Language Model", EMNLP 2018; code: '
    "nttcslab-nlp/doc_lm",
)
