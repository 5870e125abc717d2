"""What is wrong with an encoder, seen on a small random batch before any training."""

import torch
from torch import nn

from mos_recbole.heads.check import shape_fault
from mos_recbole.models.encoders.base import CausalEncoder, Encoder, LayeredEncoder

_LOOKS_AHEAD = (
    "its states change with later items; expected a CausalEncoder, which knows earlier items only, or a QueryEncoder"
)


@torch.no_grad()
def encoder_fault(encoder: Encoder, n_items: int, length: int) -> str | None:
    """Returns what is wrong with an encoder's item table or states, in one sentence; or None.

    A causal encoder that sees later items, for one, would be trained on the very targets that it reads.

    Args:
        encoder: in evaluation mode.
        n_items: V, the padding item 0 included.
        length: L, of the batch's sequences.
    """
    if not isinstance(getattr(encoder, "width", None), int):
        return "it has no width; expected the number d of its states, as an int of that name"
    table = getattr(encoder, "item_embedding", None)
    if not isinstance(table, nn.Embedding):
        return "it has no item_embedding; expected an nn.Embedding of that name"
    rows, width = table.weight.shape
    if rows < n_items or width != encoder.width:
        return f"item_embedding is {rows} x {width}; expected at least {n_items} rows of its width {encoder.width}"
    item_seq_BL = torch.randint(1, n_items, (2, length)).to(table.weight.device)
    if not isinstance(encoder, CausalEncoder):
        user_B, place_L = torch.ones_like(item_seq_BL[:, 0]), torch.arange(length, device=table.weight.device)
        for n_items_there in dict.fromkeys((1, (length + 1) // 2, length)):
            length_B, sequence_BL = torch.full_like(user_B, n_items_there), item_seq_BL * (place_L < n_items_there)
            state = encoder(sequence_BL, length_B, user_B)
            if fault := _state_fault("forward gives states", state, (2, width), "[B, d]"):
                return fault
        return _batch_fault(state, encoder(item_seq_BL[:1], length_B[:1], user_B[:1]))
    state = encoder(item_seq_BL)
    fault = _state_fault("forward gives states", state, (2, length, width), "[B, L, d]")
    if fault is None and isinstance(encoder, LayeredEncoder):
        shape = (2, length, encoder.n_layers, width)
        fault = _state_fault("layers gives states", encoder.layers(item_seq_BL), shape, "[B, L, n_layers, d]")
    fault = fault or _batch_fault(state, encoder(item_seq_BL[:1]))
    if fault is not None or length == 1:
        return fault
    n_items_left = (length + 1) // 2
    for n_kept in dict.fromkeys((length - 1, n_items_left)):
        later_BL = item_seq_BL.clone()
        later_BL[:, n_kept:] = later_BL[:, n_kept:] % (n_items - 1) + 1
        if not _are_equal(encoder(later_BL)[:, :n_kept], state[:, :n_kept]):
            return _LOOKS_AHEAD
        if fault := _training_fault(encoder, item_seq_BL, later_BL, n_kept):
            return fault
    padded_BL = item_seq_BL.clone()
    padded_BL[:, n_items_left:] = 0
    if not _are_equal(encoder(padded_BL)[:, :n_items_left], state[:, :n_items_left]):
        return (
            "its states change if the items after them are padding, as if it knew how many follow; "
            "expected states of the items before, at places counted from the first one"
        )
    if not _are_equal(encoder(item_seq_BL[:, :n_items_left]), state[:, :n_items_left]):
        return (
            "its states change with the length of the batch, as if places were counted from its end; "
            "expected states of the items before, at places counted from the first one"
        )
    return None


def _training_fault(encoder: Encoder, item_seq_BL: torch.Tensor, later_BL: torch.Tensor, n_kept: int) -> str | None:
    """Returns that states look ahead while the encoder is trained, as by BatchNorm, or are not finite then; or None.

    Args:
        encoder: in evaluation mode, to which it returns as it was.
        item_seq_BL, later_BL: sequences that differ in the items after the first `n_kept`.
        n_kept: how many items they share.
    """
    if item_seq_BL.device.type != "cpu":  # the same dropout again would change the device's random numbers
        return None
    buffers = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    states = []
    encoder.train()
    for sequence_BL in (item_seq_BL, later_BL):
        torch.random.default_generator.manual_seed(0)  # the same dropout
        states.append(encoder(sequence_BL)[:, :n_kept])
    encoder.eval()
    for name, buffer in encoder.named_buffers():
        buffer.copy_(buffers[name])
    if not all(torch.isfinite(state).all() for state in states):
        return "forward gives states that are not finite while it is trained"
    return None if _are_equal(*states) else f"while it is trained, {_LOOKS_AHEAD}"


def _state_fault(what: str, tensor: torch.Tensor, expected: tuple[int, ...], letters: str) -> str | None:
    fault = shape_fault(what, tensor, expected, letters)
    if fault is None and tensor.dtype != torch.float32:
        return f"{what} of {tensor.dtype}; expected torch.float32"
    return fault


def _are_equal(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Returns whether states are the same but for rounding, which is of their size: first ones may be tiny."""
    return torch.allclose(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def _batch_fault(state: torch.Tensor, alone: torch.Tensor) -> str | None:
    """Returns that a sequence's state depends on which others are in its batch, or None."""
    if _are_equal(alone, state[:1]):
        return None
    return "its states change with the other sequences of a batch; expected the same states of a sequence alone"
