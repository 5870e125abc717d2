"""RecBole's sequential models as encoders: their own forward pass, with what they do to the items after it left out."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mos_recbole.errors import InputError
from mos_recbole.models.encoders import CausalEncoder, QueryEncoder

# What RecBole's models call the arguments of their forward pass.
_ARGUMENTS = {
    "item_seq": "item_seq",
    "seq_item": "item_seq",
    "item_seq_len": "item_seq_len",
    "seq_item_len": "item_seq_len",
    "user": "user",
}


class RecBoleEncoder(QueryEncoder):
    """The query vector of any RecBole sequential model whose forward pass gives one.

    Nothing of the model is copied: it is built by its own constructor, and its `forward` is called with those of
    item_seq [B, L], item_seq_len [B] and user [B] that it has arguments for. Its loss, with the penalties that some
    models add to it, and its scores are not used.

    Args:
        model: an instance of the RecBole class.
        unused: names of its parameters and modules that serve its own scores only; they are taken away.

    Raises:
        ValueError: the class lacks what this needs.
    """

    model: Any

    def __init__(self, model: Any, unused: Sequence[str] = ()) -> None:
        super().__init__()
        name = type(model).__name__
        arguments = list(inspect.signature(model.forward).parameters)
        unknown = [argument for argument in arguments if argument not in _ARGUMENTS]
        if unknown:
            raise ValueError(
                f"{name}.forward has the argument {unknown[0]!r}; an encoder's are some of {', '.join(_ARGUMENTS)}"
            )
        if not isinstance(getattr(model, "item_embedding", None), nn.Embedding):
            raise ValueError(f"{name} has no item_embedding; an encoder's item table is an nn.Embedding of that name")
        for attribute in unused:
            delattr(model, attribute)
        self.model, self._arguments = model, [_ARGUMENTS[argument] for argument in arguments]
        self.width = model.item_embedding.embedding_dim

    @property
    def item_embedding(self) -> nn.Embedding:  # type: ignore[override]
        return self.model.item_embedding

    def forward(self, item_seq_BL: torch.Tensor, item_seq_len_B: torch.Tensor, user_B: torch.Tensor) -> torch.Tensor:
        # A copy of the lengths: some models write into them.
        given = {"item_seq": item_seq_BL, "item_seq_len": item_seq_len_B.clone(), "user": user_B}
        state_Bd = self.model(*(given[argument] for argument in self._arguments))
        if state_Bd.shape != (len(item_seq_BL), self.width):
            raise InputError(
                f"{type(self.model).__name__}.forward gives {tuple(state_Bd.shape)}; an encoder's states are "
                f"[B, d] = {(len(item_seq_BL), self.width)}, d the width of its item table"
            )
        return state_Bd


class BERT4RecEncoder(RecBoleEncoder):
    """BERT4Rec's state at a mask token after the last item, as RecBole evaluates it.

    Sun et al., "BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer", CIKM
    2019. Deviation: it is trained on that mask alone, one prefix a target, and not on masks at random places.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model, unused=["output_bias"])

    def forward(self, item_seq_BL: torch.Tensor, item_seq_len_B: torch.Tensor, user_B: torch.Tensor) -> torch.Tensor:
        # The mask's place is within L positions: as in RecBole, the first item makes room for it.
        masked_BL = torch.cat([item_seq_BL[:, 1:], torch.zeros_like(item_seq_BL[:, :1])], dim=1)
        last_B1 = item_seq_len_B[:, None] - 1
        masked_BL = masked_BL.scatter(1, last_B1, self.model.mask_token)
        state_BLd = self.model(masked_BL)
        return state_BLd.gather(1, last_B1[:, :, None].expand(-1, -1, self.width)).squeeze(1)


class NextItNetEncoder(CausalEncoder):
    """NextItNet's state at every position.

    Yuan et al., "A Simple Convolutional Generative Network for Next Item Recommendation", WSDM 2019. Deviation from
    RecBole's class: a sequence's state is that at its last item; RecBole's is that of the last column, which for a
    sequence shorter than L is padding.
    """

    model: Any

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.width = model, model.item_embedding.embedding_dim

    @property
    def item_embedding(self) -> nn.Embedding:  # type: ignore[override]
        return self.model.item_embedding

    def forward(self, item_seq_BL: torch.Tensor) -> torch.Tensor:
        return self.model.final_layer(self.model.residual_blocks(self.model.item_embedding(item_seq_BL)))
