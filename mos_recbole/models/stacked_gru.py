"""GRUs of equal shape computed as one: their products batched over an axis of models."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable


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
        shapes: each member's own rows and steps, (B, L), the longest first: where others have more, its states are 0
            and cost nothing. None where all have as many as the input.
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
        bias_T1g = None
        if first.bias:
            input_bias_T1g, bias_T1g = (
                torch.stack([member.get_parameter(f"bias_{kind}_l{layer}") for member in members])[:, None]
                for kind in ("ih", "hh")
            )
            gates_TRg = gates_TRg + input_bias_T1g
        state_TLBh = _Recurrence.apply(gates_TRg.view(n_models, length, n_rows, -1), weight_Tgh, bias_T1g, active)
    return state_TLBh.transpose(1, 2)


class _Recurrence(torch.autograd.Function):
    """The states of a GRU's layer, given the input's part of its gates, in the order reset, update, new:

    r = σ(x_r + W_r h + b_r),  z = σ(x_z + W_z h + b_z),  n = tanh(x_n + r (W_n h + b_n)),  h' = n + z (h - n)

    Backwards, a step's gradients for the gates are that for h' times factors which are known for all steps beforehand,
    so that a step has four calls, and the gradients of the weights wait for the end.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gates_TLBg: torch.Tensor,
        weight_Tgh: torch.Tensor,
        bias_T1g: torch.Tensor | None,
        active: list[tuple[int, int]],
    ) -> torch.Tensor:
        n_models, length, n_rows, _ = gates_TLBg.shape
        width = weight_Tgh.shape[2]
        # Of each step: r and z, W_n h + b_n, n, h'.
        rz_TLBg = gates_TLBg.new_zeros(n_models, length, n_rows, 2 * width)
        inner_TLBh, new_TLBh, state_TLBh = (gates_TLBg.new_zeros(n_models, length, n_rows, width) for _ in range(3))
        state_TBh = gates_TLBg.new_zeros(n_models, n_rows, width)
        weight_Thg = weight_Tgh.mT
        for step, (number, rows) in enumerate(active):
            part = slice(number), step, slice(rows)
            gates_TBg, rz_TBg, new_TBh, inner_TBh = gates_TLBg[part], rz_TLBg[part], new_TLBh[part], inner_TLBh[part]
            state_TBh = state_TBh[:number, :rows]
            if bias_T1g is None:
                product_TBg = torch.bmm(state_TBh, weight_Thg[:number])
            else:
                product_TBg = torch.baddbmm(bias_T1g[:number], state_TBh, weight_Thg[:number])
            torch.add(gates_TBg[..., : 2 * width], product_TBg[..., : 2 * width], out=rz_TBg).sigmoid_()
            inner_TBh.copy_(product_TBg[..., 2 * width :])
            torch.addcmul(gates_TBg[..., 2 * width :], rz_TBg[..., :width], inner_TBh, out=new_TBh).tanh_()
            state_TBh = torch.lerp(new_TBh, state_TBh, rz_TBg[..., width:], out=state_TLBh[part])
        ctx.save_for_backward(rz_TLBg, inner_TLBh, new_TLBh, state_TLBh, weight_Tgh, bias_T1g)
        ctx.active = active
        return state_TLBh

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_TLBh: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rz_TLBg, inner_TLBh, new_TLBh, state_TLBh, weight_Tgh, bias_T1g = ctx.saved_tensors
        n_models, length, n_rows, width = state_TLBh.shape
        reset_TLBh, update_TLBh = rz_TLBg[..., :width], rz_TLBg[..., width:]
        before_TLBh = torch.cat([state_TLBh.new_zeros(n_models, 1, n_rows, width), state_TLBh[:, :-1]], dim=1)
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
        grad_TLB3h, state_grad_TLBh = torch.zeros_like(factor_TLB3h), torch.zeros_like(state_TLBh)
        all_carried_TBh = state_TLBh.new_zeros(n_models, n_rows, width)
        for step, (number, rows) in reversed(list(enumerate(ctx.active))):
            part = slice(number), step, slice(rows)
            carried_TBh = all_carried_TBh[:number, :rows]
            state_grad_TBh = torch.add(upstream_TLBh[part], carried_TBh, out=state_grad_TLBh[part])
            grad_TB3h = torch.mul(state_grad_TBh[:, :, None], factor_TLB3h[part], out=grad_TLB3h[part])
            torch.mul(state_grad_TBh, update_TLBh[part], out=carried_TBh)
            carried_TBh.baddbmm_(grad_TB3h.flatten(2), weight_Tgh[:number])
        grad_TRg = grad_TLB3h.view(n_models, length * n_rows, 3 * width)
        weight_grad_Tgh = torch.bmm(grad_TRg.mT, before_TLBh.view(n_models, length * n_rows, width))
        bias_grad_T1g = None if bias_T1g is None else grad_TRg.sum(dim=1, keepdim=True)
        # The input's part of the gates differs in the last alone, x_n, which the reset gate does not scale.
        torch.mul(state_grad_TLBh, new_factor_TLBh, out=grad_TLB3h[:, :, :, 2])
        return grad_TLB3h.flatten(3), weight_grad_Tgh, bias_grad_T1g, None
