"""GRUs as one hand-written recurrence: for several models of equal shape at once, and for one that trains on a CPU."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from mos_recbole.losses import require_first_order

# From so many sequences on, PyTorch's own recurrence is as fast (docs/experiments.md).
_MOST_ROWS = 64


class GRU(nn.GRU):
    """`nn.GRU`, trained faster on CPUs: its parameters and values, from states of zero."""

    def forward(self, input_BLi: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        """Returns the states [B, L, h] of sequences [B, L, i], and no last one."""
        return gru_states(self, input_BLi), None


def gru_states(gru: nn.GRU, input_BLi: torch.Tensor) -> torch.Tensor:
    """Returns the states [B, L, h] of sequences [B, L, i], from states of zero: those of the GRU, up to rounding.

    Args:
        gru: batch first, in one direction, without dropout between its layers.
        input_BLi: its input.
    """
    plain = input_BLi.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if plain and torch.is_grad_enabled() and 0 < len(input_BLi) <= _MOST_ROWS:
        return stacked_gru(input_BLi[None], [gru])[0]
    return nn.GRU.forward(gru, input_BLi)[0]


def stacked_gru(
    input_TBLi: torch.Tensor, members: Sequence[nn.GRU], shapes: Sequence[tuple[int, int]] | None = None
) -> torch.Tensor:
    """Returns the states [T, B, L, h] that T GRUs give, each for its own input [B, L, i], from states of zero.

    What `nn.GRU` computes (its order of gates, and both biases where it has them), with as many calls for T models as
    for one: the inputs' products of all steps in one, then L small steps, and backwards the weights' gradients of all
    steps in one.

    Args:
        input_TBLi: of all members.
        members: GRUs of one shape, batch first, in one direction, without dropout between their layers.
        shapes: each member's own rows and steps, (B, L), the longest first: steps that others alone have cost it
            nothing. Its states there are not to be used. None where all have as many as the input.
    """
    first = members[0]
    kinds = {(member.batch_first, member.bidirectional, bool(member.dropout)) for member in members}
    assert kinds == {(True, False, False)}, "no such GRU has a stacked form"
    n_models, n_rows, length, _ = input_TBLi.shape
    # By steps, so that a step's numbers lie together.
    state_TLBh = input_TBLi.transpose(1, 2)
    shapes = shapes or [(n_rows, length)] * n_models
    # Of every step: how many members take part in it, and with how many rows.
    n_active = [sum(own_length > step for _, own_length in shapes) for step in range(length)]
    active = [(number, max(rows for rows, _ in shapes[:number])) for number in n_active]
    for layer in range(first.num_layers):
        input_weight_Tgi, weight_Tgh = (
            torch.stack([member.get_parameter(f"weight_{kind}_l{layer}") for member in members])
            for kind in ("ih", "hh")
        )
        row_TRi = state_TLBh.reshape(n_models, length * n_rows, -1)
        gates_TRg = torch.bmm(row_TRi, input_weight_Tgi.mT)
        new_bias_T1h = None
        if first.bias:
            input_bias_T1g, bias_T1g = (
                torch.stack([member.get_parameter(f"bias_{kind}_l{layer}") for member in members])[:, None]
                for kind in ("ih", "hh")
            )
            # The reset gate scales the last third of the second bias, so that this has to wait.
            reset_T1h, update_T1h, new_bias_T1h = bias_T1g.chunk(3, dim=2)
            bias_T1g = torch.cat([reset_T1h, update_T1h, torch.zeros_like(new_bias_T1h)], dim=2)
            gates_TRg = gates_TRg + input_bias_T1g + bias_T1g
        gates_TLBg = gates_TRg.view(n_models, length, n_rows, -1)
        state_TLBh = _Recurrence.apply(gates_TLBg, weight_Tgh, new_bias_T1h, active)
    return state_TLBh.transpose(1, 2)


class _Recurrence(torch.autograd.Function):
    """The states of a GRU's layer, given x, the input's part of its gates, in the order reset, update, new:

    r = σ(x_r + W_r h),  z = σ(x_z + W_z h),  n = tanh(x_n + r (W_n h + b_n)),  h' = n + z (h - n)

    Backwards, a step's gradients for the gates are that for h' times factors which are known for all steps beforehand,
    so that a step has three calls, and the gradients of the weights wait for the end.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gates_TLBg: torch.Tensor,
        weight_Tgh: torch.Tensor,
        new_bias_T1h: torch.Tensor | None,
        active: list[tuple[int, int]],
    ) -> torch.Tensor:
        n_models, length, n_rows, _ = gates_TLBg.shape
        width = weight_Tgh.shape[2]
        empty = _empty(gates_TLBg, active)
        rz_TLBg = empty(n_models, length, n_rows, 2 * width)
        # Of each step W_n h + b_n and n; h' of each step and of the one before the first.
        inner_TLBh, new_TLBh = (empty(n_models, length, n_rows, width) for _ in range(2))
        states_TLBh = empty(n_models, length + 1, n_rows, width)
        states_TLBh[:, 0] = 0
        stacks = (
            *(gates_TLBg[..., : 2 * width], gates_TLBg[..., 2 * width :]),
            *(rz_TLBg, rz_TLBg[..., :width], rz_TLBg[..., width:], inner_TLBh, new_TLBh),
            *(states_TLBh[:, :-1], states_TLBh[:, 1:]),
        )
        shared = [part.contiguous() for part in weight_Tgh.mT.split([2 * width, width], dim=2)]
        shared += [] if new_bias_T1h is None else [new_bias_T1h]
        product: Callable[..., torch.Tensor] = torch.mm if n_models == 1 else torch.bmm
        add_product: Callable[..., torch.Tensor] = torch.addmm if n_models == 1 else torch.baddbmm
        for (x_rz, x_n, rz, r, z, inner, new, before, after), (rz_weight, new_weight, *bias) in zip(
            _steps(active, *stacks), _members(active, *shared), strict=True
        ):
            add_product(x_rz, before, rz_weight, out=rz).sigmoid_()
            if bias:
                add_product(*bias, before, new_weight, out=inner)
            else:
                product(before, new_weight, out=inner)
            torch.addcmul(x_n, r, inner, out=new).tanh_()
            torch.lerp(new, before, z, out=after)
        ctx.save_for_backward(rz_TLBg, inner_TLBh, new_TLBh, states_TLBh, weight_Tgh)
        ctx.active, ctx.has_bias = active, new_bias_T1h is not None
        return states_TLBh[:, 1:]

    @staticmethod
    def backward(ctx: Any, upstream_TLBh: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        require_first_order()
        rz_TLBg, inner_TLBh, new_TLBh, states_TLBh, weight_Tgh = ctx.saved_tensors
        n_models, length, n_rows, width = new_TLBh.shape
        reset_TLBh, update_TLBh = rz_TLBg[..., :width], rz_TLBg[..., width:]
        before_TLBh = states_TLBh[:, :-1]
        # The gradients, divided by that for h', of x_n, and of W h + b in the order of the gates.
        new_factor_TLBh = (1 - update_TLBh) * (1 - new_TLBh.square())
        factor_TLB3h = torch.stack(
            [
                new_factor_TLBh * inner_TLBh * reset_TLBh * (1 - reset_TLBh),
                (before_TLBh - new_TLBh) * update_TLBh * (1 - update_TLBh),
                new_factor_TLBh * reset_TLBh,
            ],
            dim=3,
        )
        # That for h' of each step and of the one before the first, to which the step after it adds its share.
        states_grad_TLBh = torch.empty_like(states_TLBh)
        states_grad_TLBh[:, 0] = 0
        states_grad_TLBh[:, 1:] = upstream_TLBh
        state_grad_TLBh = states_grad_TLBh[:, 1:]
        grad_TLB3h = _empty(factor_TLB3h, ctx.active)(factor_TLB3h.shape)
        stacks = (
            *(states_grad_TLBh[:, :-1], state_grad_TLBh, state_grad_TLBh[:, :, :, None]),
            *(factor_TLB3h, grad_TLB3h, grad_TLB3h.flatten(3), update_TLBh),
        )
        add_product = torch.Tensor.addmm_ if n_models == 1 else torch.Tensor.baddbmm_
        steps = list(zip(_steps(ctx.active, *stacks), _members(ctx.active, weight_Tgh), strict=True))
        for (before_grad, after_grad, after_grad_1, factor, grad, grad_g, z), (weight,) in reversed(steps):
            torch.mul(after_grad_1, factor, out=grad)
            add_product(before_grad.addcmul_(after_grad, z), grad_g, weight)
        grad_TRg = grad_TLB3h.view(n_models, length * n_rows, 3 * width)
        weight_grad_Tgh = torch.bmm(grad_TRg.mT, before_TLBh.reshape(n_models, length * n_rows, width))
        bias_grad_T1h = grad_TRg[..., 2 * width :].sum(dim=1, keepdim=True) if ctx.has_bias else None
        # The input's part of the gates differs in the last alone, x_n, which the reset gate does not scale.
        torch.mul(state_grad_TLBh, new_factor_TLBh, out=grad_TLB3h[:, :, :, 2])
        return grad_TLB3h.flatten(3), weight_grad_Tgh, bias_grad_T1h, None


def _empty(like_TLBx: torch.Tensor, active: Sequence[tuple[int, int]]) -> Callable[..., torch.Tensor]:
    """Returns what makes a tensor that the steps fill; of zeros where they leave some of it out."""
    n_models, _, n_rows = like_TLBx.shape[:3]
    return like_TLBx.new_empty if all(part == (n_models, n_rows) for part in active) else like_TLBx.new_zeros


def _steps(active: Sequence[tuple[int, int]], *stacks: torch.Tensor) -> Iterator[Sequence[torch.Tensor]]:
    """Yields of every step what its members and rows have of stacks [T, L, B, ...]: [T, B, ...].

    A single model's is [B, ...], since a product is faster without an axis of models.
    """
    n_models, _, n_rows = stacks[0].shape[:3]
    of_steps = zip(*(stack[0].unbind(0) if n_models == 1 else stack.unbind(1) for stack in stacks), strict=True)
    for (number, rows), views in zip(active, of_steps, strict=True):
        if (number, rows) == (n_models, n_rows):
            yield views
        else:
            yield [view[:rows] if n_models == 1 else view[:number, :rows] for view in views]


def _members(active: Sequence[tuple[int, int]], *shared: torch.Tensor) -> list[list[torch.Tensor]]:
    """Returns of every step its members' part of what all steps share, [T, ...]; a single model's is [...]."""
    of = {
        number: [one[0] if len(one) == 1 else one[:number] for one in shared]
        for number in {number for number, _ in active}
    }
    return [of[number] for number, _ in active]
