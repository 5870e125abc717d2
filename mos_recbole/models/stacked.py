"""Several models of equal shape computed as one: their products batched over an axis of models.

Wang, Yang, Yu, et al., "Horizontally Fused Training Array", MLSys 2021. Their arrays hold the models' parameters; here
every model keeps its own, which are stacked anew in every step, so that its optimizer and its checkpoints know nothing
of it: a copy of the dense layers, small beside their products. The item tables, which are not small, are not copied.
"""

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from mos_recbole.heads import MixtureHead
from mos_recbole.losses import mixture_cross_entropy
from mos_recbole.models.dropout import Dropout, dropout
from mos_recbole.models.gru import GRU, stacked_gru
from mos_recbole.models.recommender import TARGET_PLACE, EncoderHeadRecommender

# By the names of their entries. What they are made of has a stacked form below, and they compute each sequence, or each
# state, by itself.
STACKED_ENCODERS = ("GRU4Rec", "SASRec")
STACKED_HEADS = ("softmax", "moc", "mos")


class OwnRandom:
    """PyTorch's random numbers on a device as one model alone would draw them: inside a `with`, draws go on from there.

    What the device's source held before is not put back.

    Attributes:
        state: of the source.
    """

    def __init__(self, state: torch.Tensor, device: torch.device) -> None:
        self.state, self._device = state, device

    def __enter__(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(self.state, self._device)
        else:
            torch.set_rng_state(self.state)

    def __exit__(self, *exception: object) -> None:
        on_gpu = self._device.type == "cuda"
        self.state = torch.cuda.get_rng_state(self._device) if on_gpu else torch.get_rng_state()


class Stack:
    """The training losses of T models whose settings differ in nothing that changes a shape.

    Models' sequences are padded to the largest batch and the longest sequence among them, [T, B, L]; their losses are
    those of their own targets, and their dropout is drawn as for themselves alone.

    Args:
        models: with encoders and heads of the above; in training.
        randoms: where each draws its dropout from.
    """

    def __init__(self, models: Sequence[EncoderHeadRecommender], randoms: Sequence[OwnRandom]) -> None:
        self._models, self._parts = models, _Parts(randoms)
        # Layers are stacked; what puts them together is the first model's.
        self._encoder = _stacked([model.encoder for model in models], self._parts)
        self._head = cast(MixtureHead, _stacked([model.head for model in models], self._parts))

    def losses(self, batches: Sequence[Any]) -> list[torch.Tensor]:
        """Returns what `calculate_loss` of each model returns for its own batch."""
        first = self._models[0]
        sequences = [batch[first.ITEM_SEQ] for batch in batches]
        order = sorted(range(len(batches)), key=lambda place: -sequences[place].shape[1])
        self._parts.order = order
        state_TBLd = self._states([sequences[place] for place in order])
        scored = [self._scored(batches[place], state_TBLd.shape[2]) for place in order]
        sizes = [len(target_N) for _, target_N in scored]
        self._parts.shapes = [(size,) for size in sizes]
        # Padded by a state of the model's own: another's would take a share of its gradient, zero or NaN.
        place_TN = torch.stack([functional.pad(place_N, (0, max(sizes) - len(place_N))) for place_N, _ in scored])
        first_T1 = torch.arange(len(scored), device=place_TN.device)[:, None] * state_TBLd[0, ..., 0].numel()
        state_Md = state_TBLd.flatten(0, 2).index_select(0, (place_TN + first_T1).flatten())
        components_MKd, log_prior_MK = self._head.components(state_Md)
        components_TNKd = components_MKd.view(*place_TN.shape, *components_MKd.shape[1:])
        log_prior_TNK = log_prior_MK.view(*place_TN.shape, -1)
        losses: dict[int, torch.Tensor] = {}
        for row, (place, size) in enumerate(zip(order, sizes, strict=True)):
            model, components_NKd, log_prior_NK = self._models[place], components_TNKd[row], log_prior_TNK[row]
            losses[place] = mixture_cross_entropy(
                components_NKd[:size],
                log_prior_NK[:size],
                model.item_table,
                scored[row][1],
                bias=model.head.item_bias,
                impl=self._head.loss_impl,
            )
        return [losses[place] for place in range(len(batches))]

    def _states(self, sequences: Sequence[torch.Tensor]) -> torch.Tensor:
        """Returns the states [T, B, L, d] of item ids [B, L] of each model."""
        n_rows, length = (max(seq_BL.shape[dim] for seq_BL in sequences) for dim in (0, 1))
        item_seq_TBL = sequences[0].new_zeros(len(sequences), n_rows, length)
        for own_BL, seq_BL in zip(item_seq_TBL, sequences, strict=True):
            own_BL[: seq_BL.shape[0], : seq_BL.shape[1]] = seq_BL
        self._parts.shapes = [tuple(seq_BL.shape) for seq_BL in sequences]
        return self._encoder(item_seq_TBL.flatten(0, 1)).view(*item_seq_TBL.shape, -1)

    def _scored(self, batch: Any, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the places among [B * L] of the states that a batch scores, and their targets."""
        target = batch[self._models[0].POS_ITEM_ID]
        if target.ndim == 1:
            row_B = torch.arange(len(target), device=target.device)
            return row_B * length + batch[self._models[0].ITEM_SEQ_LEN] - 1, target
        place_N, width = batch[TARGET_PLACE], target.shape[1]
        return place_N // width * length + place_N % width, target.flatten()[place_N]


class _Parts:
    """What of a padded stack is each model's own.

    Attributes:
        randoms: of each model.
        order: the places of the models in the stack, those with the longest sequences first.
        shapes: in that order: rows and positions, (B, L); rows alone, (N,), where there are no positions.
    """

    def __init__(self, randoms: Sequence[OwnRandom]) -> None:
        self.randoms = randoms
        self.order: list[int] = []
        self.shapes: list[tuple[int, ...]] = []

    def of(self, padded: torch.Tensor) -> list[tuple[slice, ...]]:
        """Returns the part of each model in what [T * B, ...] holds for it: [B, L, d], [B, heads, L, L] or [N, ...]."""
        parts = []
        for shape in self.shapes:
            part = [slice(None)] * padded.ndim
            part[0] = slice(shape[0])
            if len(shape) == 2:
                for dimension in (1,) if padded.ndim == 3 else (2, 3):
                    part[dimension] = slice(shape[1])
            parts.append(tuple(part))
        return parts


class _StackedLayer(nn.Module):
    """A layer of T models.

    Args:
        layers: the models' own.
        parts: of the stack.
    """

    def __init__(self, layers: Sequence[Any], parts: _Parts) -> None:
        super().__init__()
        self._layers, self._parts = tuple(layers), parts

    @property
    def _members(self) -> list[Any]:
        """The models' layers, in the order of the stack."""
        return [self._layers[place] for place in self._parts.order]


class _StackedEmbedding(_StackedLayer):
    """`nn.Embedding` of T models for ids [T * B, L], or for ids [L] of positions that all sequences share.

    Each model looks up in its own table, of which a stack would be a copy.
    """

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        members = self._members
        if ids.ndim == 1:
            n_rows = max(shape[0] for shape in self._parts.shapes)
            return torch.stack([member(ids) for member in members]).repeat_interleave(n_rows, dim=0)
        own = ids.view(len(members), -1, ids.shape[1])
        return torch.cat([member(ids_BL) for member, ids_BL in zip(members, own, strict=True)])


class _StackedLinear(_StackedLayer):
    """`nn.Linear` of T models for rows [T * B, ..., i]."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        members = self._members
        weight_Tio = torch.stack([member.weight for member in members]).mT
        row_TRi = input.reshape(len(members), -1, input.shape[-1])
        if members[0].bias is None:
            row_TRo = torch.bmm(row_TRi, weight_Tio)
        else:
            row_TRo = torch.baddbmm(torch.stack([member.bias for member in members])[:, None], row_TRi, weight_Tio)
        return row_TRo.view(*input.shape[:-1], -1)


class _StackedLayerNorm(_StackedLayer):
    """`nn.LayerNorm` of T models for rows [T * B, ..., d]."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        members = self._members
        weight_T1d, bias_T1d = (
            torch.stack([getattr(member, name) for member in members])[:, None] for name in ("weight", "bias")
        )
        scaled = functional.layer_norm(input, members[0].normalized_shape, eps=members[0].eps)
        row_TRd = scaled.view(len(members), -1, input.shape[-1])
        return torch.addcmul(bias_T1d, row_TRd, weight_T1d).view(input.shape)


class _StackedDropout(_StackedLayer):
    """`Dropout` of T models for rows [T * B, ...], each with its own probability and random numbers."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        members = self._members
        if not any(member.p for member in members):
            return input
        scale = torch.ones_like(input)
        own = scale.view(len(members), -1, *input.shape[1:])
        for place, member, scale_B, part in zip(self._parts.order, members, own, self._parts.of(input), strict=True):
            if member.p:
                with self._parts.randoms[place]:  # in the shape that the model alone would have
                    scale_B[part] = dropout(scale_B[part].contiguous(), member.p)
        return input * scale


class _StackedGRU(_StackedLayer):
    """`GRU` of T models for sequences [T * B, L, d]."""

    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, None]:
        members = self._members
        own_TBLd = input.view(len(members), -1, *input.shape[1:])
        shapes = [(rows, length) for rows, length in self._parts.shapes]
        return stacked_gru(own_TBLd, members, shapes).flatten(0, 1), None


_STACKED: dict[type[nn.Module], type[_StackedLayer]] = {
    nn.Embedding: _StackedEmbedding,
    nn.Linear: _StackedLinear,
    nn.LayerNorm: _StackedLayerNorm,
    Dropout: _StackedDropout,
    GRU: _StackedGRU,
}


def _stacked(modules: Sequence[nn.Module], parts: _Parts) -> nn.Module:
    """Returns a module that computes [T * B, ...] as each of T modules computes its own [B, ...]."""
    first = modules[0]
    if type(first) in _STACKED:
        return _STACKED[type(first)](modules, parts)
    joint = copy.copy(first)
    joint._modules = {
        name: _stacked([module.get_submodule(name) for module in modules], parts) for name, _ in first.named_children()
    }
    return joint
