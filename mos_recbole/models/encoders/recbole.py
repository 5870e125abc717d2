"""RecBole's sequential models as encoders: their own forward pass, with what they do to the items after it left out."""

import inspect
from typing import Any

import torch
from torch import nn

from mos_recbole.errors import InputError
from mos_recbole.models.encoders.base import CausalEncoder, QueryEncoder
from mos_recbole.models.encoders.spec import EncoderSpec

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

    Raises:
        ValueError: the class lacks what this needs.
    """

    model: Any

    def __init__(self, model: Any) -> None:
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


class CausalRecBoleEncoder(CausalEncoder):
    """States at every position, computed by the layers of a RecBole model.

    Args:
        model: an instance of the RecBole class.
    """

    model: Any

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.width = model, model.item_embedding.embedding_dim

    @property
    def item_embedding(self) -> nn.Embedding:  # type: ignore[override]
        return self.model.item_embedding


def _spec(name: str, width: str = "embedding_size", **facts: Any) -> EncoderSpec:
    return EncoderSpec(name, RecBoleEncoder, width=width, recbole_model=name, **facts)


ENCODERS = (
    _spec("STAMP"),
    _spec("Caser", unread=("reg_weight",)),
    _spec("LightSANs", "hidden_size"),
    _spec("SINE", unread=("reg_loss_ratio",)),
    _spec("GCSAN", "hidden_size", unread=("reg_weight",)),
    _spec("SRGNN"),
    # For its contrastive loss FEARec makes a mask of (2 x batch)^2.
    _spec(
        "FEARec",
        "hidden_size",
        unread=("lmd", "lmd_sem", "contrast", "tau", "sim", "fredom", "fredom_type"),
        told={"train_batch_size": 1},
    ),
    _spec("HGN", unread=("reg_weight",), unused=("item_embedding_for_prediction",)),
    _spec("HRM"),
    _spec("FOSSIL", unread=("reg_weight",)),
)
