"""What models need of an encoder."""

from abc import ABC, abstractmethod

import torch
from torch import nn


class Encoder(nn.Module, ABC):
    """What a model needs of an encoder.

    Attributes:
        item_embedding: the input item table; its weight [V, d] is the output table too where the model ties them. Rows
            from V on (a mask token's) are left out of that.
        width: d, of the states and of the item table.
    """

    item_embedding: nn.Embedding
    width: int


class CausalEncoder(Encoder):
    """An encoder whose state at a position depends on the items up to there only: trainable on whole windows."""

    @abstractmethod
    def forward(self, item_seq_BL: torch.Tensor) -> torch.Tensor:
        """Returns the states [B, L, d] of item ids [B, L], 0-padded on the right. State l knows items 0 to l."""


class LayeredEncoder(CausalEncoder):
    """A causal encoder that gives the states of all its layers, for heads that read them.

    Attributes:
        n_layers: how many layers `layers` gives, the embedded items' included.
    """

    n_layers: int

    @abstractmethod
    def layers(self, item_seq_BL: torch.Tensor) -> torch.Tensor:
        """Returns the states of all layers, [B, L, n_layers, d]: the embedded items first, `forward`'s states last."""


class QueryEncoder(Encoder):
    """An encoder that gives one state a sequence: trained on prefixes."""

    @abstractmethod
    def forward(self, item_seq_BL: torch.Tensor, item_seq_len_B: torch.Tensor, user_B: torch.Tensor) -> torch.Tensor:
        """Returns the states [B, d] of item ids [B, L], 0-padded on the right, with lengths [B], of users [B]."""
