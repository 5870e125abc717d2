"""What is wrong with an encoder, seen on a small random batch before any training."""

import torch
from torch import nn

from mos_recbole.heads.check import shape_fault
from mos_recbole.models.encoders.base import CausalEncoder, Encoder, LayeredEncoder


@torch.no_grad()
def encoder_fault(encoder: Encoder, n_items: int, length: int) -> str | None:
    """Returns what is wrong with an encoder's item table or states, in one sentence; or None.

    A causal encoder that sees later items, for one, would be trained on the very targets that it reads.

    Args:
        encoder: in evaluation mode.
        n_items: V, the padding item 0 included.
        length: L, of the batch's sequences.
    """
    table = getattr(encoder, "item_embedding", None)
    if not isinstance(table, nn.Embedding):
        return "it has no item_embedding; expected an nn.Embedding of that name"
    rows, width = table.weight.shape
    if rows < n_items or width != encoder.width:
        return f"item_embedding is {rows} x {width}; expected at least {n_items} rows of its width {encoder.width}"
    item_seq_BL = torch.randint(1, n_items, (2, length)).to(table.weight.device)
    if not isinstance(encoder, CausalEncoder):
        length_B, user_B = torch.full_like(item_seq_BL[:, 0], length), torch.ones_like(item_seq_BL[:, 0])
        state = encoder(item_seq_BL, length_B, user_B)
        fault = shape_fault("forward gives states", state, (2, width), "[B, d]")
        return fault or _batch_fault(state, encoder(item_seq_BL[:1], length_B[:1], user_B[:1]))
    state = encoder(item_seq_BL)
    fault = shape_fault("forward gives states", state, (2, length, width), "[B, L, d]")
    if fault is None and isinstance(encoder, LayeredEncoder):
        shape = (2, length, encoder.n_layers, width)
        fault = shape_fault("layers gives states", encoder.layers(item_seq_BL), shape, "[B, L, n_layers, d]")
    fault = fault or _batch_fault(state, encoder(item_seq_BL[:1]))
    if fault is not None or length == 1:
        return fault
    later_BL = torch.cat([item_seq_BL[:, :-1], item_seq_BL[:, -1:] % (n_items - 1) + 1], dim=1)
    if not torch.allclose(encoder(later_BL)[:, :-1], state[:, :-1], atol=1e-4):
        return (
            "its states change with later items; "
            "expected a CausalEncoder, which knows earlier items only, or a QueryEncoder"
        )
    n_items_left = (length + 1) // 2
    padded_BL = item_seq_BL.clone()
    padded_BL[:, n_items_left:] = 0
    if not torch.allclose(encoder(padded_BL)[:, :n_items_left], state[:, :n_items_left], atol=1e-4):
        return (
            "its states change if the items after them are padding, as if it knew how many follow; "
            "expected states of the items before, at places counted from the first one"
        )
    if not torch.allclose(encoder(item_seq_BL[:, :n_items_left]), state[:, :n_items_left], atol=1e-4):
        return (
            "its states change with the length of the batch, as if places were counted from its end; "
            "expected states of the items before, at places counted from the first one"
        )
    return None


def _batch_fault(state: torch.Tensor, alone: torch.Tensor) -> str | None:
    """Returns that a sequence's state depends on which others are in its batch, or None."""
    if torch.allclose(alone, state[:1], atol=1e-4):
        return None
    return "its states change with the other sequences of a batch; expected the same states of a sequence alone"
