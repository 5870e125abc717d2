"""Mixture cross-entropy by Triton's kernels, whose logits never leave the chip; importing it imports Triton."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import triton

from mos_recbole.losses import triton_kernels as kernels
from mos_recbole.losses.gradients import require_first_order
from mos_recbole.losses.tiles import BITS


@dataclass(frozen=True)
class Blocks:
    """Sizes of the kernels' tiles, powers of 2 from 16 on, and how many warps work on one."""

    rows: int
    items: int
    width: int
    warps: int

    @property
    def constants(self) -> dict[str, int]:
        """Returns the kernels' arguments of these meanings."""
        return {"BLOCK_R": self.rows, "BLOCK_V": self.items, "BLOCK_D": self.width, "num_warps": self.warps}


# The largest tiles for a type and a way to multiply. They fit a multiprocessor's shared memory and, almost, its
# registers, as the tests check for compute capabilities 8.0 and 9.0; which ones are fastest has not been measured.
_LARGEST = {
    (torch.bfloat16, "ieee"): Blocks(rows=64, items=64, width=128, warps=8),
    (torch.float32, "tf32"): Blocks(rows=64, items=64, width=64, warps=8),
    (torch.float32, "ieee"): Blocks(rows=32, items=64, width=64, warps=8),
}


def kernel_constants(
    dtype: torch.dtype, width: int, has_bias: bool, precision: Literal["ieee", "tf32"]
) -> dict[str, Any]:
    """Returns what the kernels are compiled for, given the type and width of the logits' factors."""
    largest = _LARGEST[dtype, precision]
    blocks = replace(largest, width=max(16, min(largest.width, triton.next_power_of_2(width))))
    return {**blocks.constants, "WIDTH": width, "HAS_BIAS": has_bias, "PRECISION": precision}


def product_precision(dtype: torch.dtype) -> Literal["ieee", "tf32"]:
    """Returns how Triton is to multiply tiles: float32 in TF32 where PyTorch's own products on a GPU are."""
    tf32 = dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32"
    return "tf32" if tf32 else "ieee"


def normalise(
    components_BKd: torch.Tensor,
    weight_Vd: torch.Tensor,
    bias_V: torch.Tensor | None,
    target_B: torch.Tensor,
    constants: dict[str, Any],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns of contiguous tensors the largest logits, Σ exp(logit - largest) over all items but the targets, and the
    targets' logits: three times float32 [B, K]."""
    largest_BK, others_BK, target_logit_BK = torch.empty(
        3, *components_BKd.shape[:2], dtype=torch.float32, device=weight_Vd.device
    )
    n_rows = largest_BK.numel()
    with torch.cuda.device_of(weight_Vd):
        kernels.normalise[(triton.cdiv(n_rows, constants["BLOCK_R"]),)](
            components_BKd,
            weight_Vd,
            bias_V,
            target_B,
            largest_BK,
            others_BK,
            target_logit_BK,
            n_rows,
            len(weight_Vd),
            components_BKd.shape[1],
            **constants,
        )
    return largest_BK, others_BK, target_logit_BK


class TritonMixtureCrossEntropy(torch.autograd.Function):
    """The losses [B] of `mixture_cross_entropy`.

    The forward kernel takes 2·B·K·V·d operations, the two of the backward pass, which make the logits again, 4·B·K·V·d
    each (more where d is above the tiles' width, since every piece of a gradient's columns makes the logits for
    itself). Beyond inputs and results the memory is O(B·K).
    """

    @staticmethod
    def forward(
        ctx: Any,
        components_BKd: torch.Tensor,
        log_prior_BK: torch.Tensor,
        weight_Vd: torch.Tensor,
        bias_V: torch.Tensor | None,
        target_B: torch.Tensor,
    ) -> torch.Tensor:
        ctx.dtypes = [None if bias_V is None else bias_V.dtype, log_prior_BK.dtype]
        components_BKd, weight_Vd, target_B = (each.contiguous() for each in (components_BKd, weight_Vd, target_B))
        bias_V = None if bias_V is None else bias_V.float().contiguous()
        precision = product_precision(weight_Vd.dtype)
        ctx.constants = kernel_constants(weight_Vd.dtype, components_BKd.shape[2], bias_V is not None, precision)
        largest_BK, others_BK, target_logit_BK = normalise(components_BKd, weight_Vd, bias_V, target_B, ctx.constants)
        # The target's logit relative to the largest comes first: it is what is exact of large logits.
        relative_BK = target_logit_BK - largest_BK
        normaliser_BK = others_BK + torch.exp2(relative_BK * BITS)
        joint_BK = log_prior_BK.float() + (relative_BK - normaliser_BK.log())
        responsibility_BK = joint_BK.softmax(dim=1)
        ctx.save_for_backward(
            components_BKd, weight_Vd, bias_V, target_B, largest_BK, others_BK, normaliser_BK, responsibility_BK
        )
        return -torch.logsumexp(joint_BK, dim=1)

    @staticmethod
    def backward(ctx: Any, upstream_B: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        require_first_order("impl='reference'")
        components_BKd, weight_Vd, bias_V, target_B, largest_BK, others_BK, normaliser_BK, responsibility_BK = (
            ctx.saved_tensors
        )
        n_rows, n_items, (n_components, width) = largest_BK.numel(), len(weight_Vd), components_BKd.shape[1:]
        wants_components, wants_prior, wants_weight, wants_bias = ctx.needs_input_grad[:4]
        # The gradient for a logit is responsibility · (p - [target]), and p = exp / normaliser.
        joint_gradient_BK = responsibility_BK * upstream_B[:, None]
        scale_BK = joint_gradient_BK / normaliser_BK
        target_error_BK = -scale_BK * others_BK
        arguments = (components_BKd, weight_Vd, bias_V, target_B, largest_BK, scale_BK, target_error_BK)
        sizes = (n_rows, n_items, n_components)
        width_blocks = triton.cdiv(width, ctx.constants["BLOCK_D"])
        components_gradient = weight_gradient = bias_gradient = None
        with torch.cuda.device_of(weight_Vd):
            if wants_components:
                components_gradient = torch.empty_like(components_BKd)
                grid = (triton.cdiv(n_rows, ctx.constants["BLOCK_R"]), width_blocks)
                kernels.components_gradient[grid](*arguments, components_gradient, *sizes, **ctx.constants)
            if wants_weight or wants_bias:
                weight_gradient = torch.empty_like(weight_Vd)
                if bias_V is not None:
                    bias_gradient = torch.empty_like(bias_V)
                grid = (triton.cdiv(n_items, ctx.constants["BLOCK_V"]), width_blocks)
                kernels.weight_gradient[grid](*arguments, weight_gradient, bias_gradient, *sizes, **ctx.constants)
        bias_dtype, prior_dtype = ctx.dtypes
        return (
            components_gradient,
            -joint_gradient_BK.to(prior_dtype) if wants_prior else None,
            weight_gradient if wants_weight else None,
            bias_gradient.to(bias_dtype) if bias_gradient is not None and wants_bias else None,
            None,
        )
