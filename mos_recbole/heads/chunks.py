"""Sums over rows whose gradients come with the values, in the memory of one chunk of rows."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from mos_recbole.losses import require_first_order


def chunked_sum(
    function: Callable[..., torch.Tensor],
    rows: Sequence[torch.Tensor],
    shared: Sequence[torch.Tensor],
    parameters: Sequence[torch.Tensor],
    step: int,
) -> torch.Tensor:
    """Returns Σ function(*rows of one chunk, *shared), a scalar; it equals `function(*rows, *shared)`.

    Every chunk's gradients are taken right after its value, so that what autograd keeps of it lives no longer, and
    nothing is computed a second time when they are asked for. Gradients of gradients are not available.

    Args:
        function: gives a scalar; a sum over its rows.
        rows: tensors [N, ...], cut into chunks.
        shared: what all chunks take as it is.
        parameters: leaves that the function uses beside its arguments.
        step: how many rows make a chunk.
    """
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*rows, *shared, *parameters)):
        apply: Callable[..., torch.Tensor] = _ChunkedSum.apply
        return apply(function, step, len(rows), len(shared), *rows, *shared, *parameters)
    total = rows[0].new_zeros((), dtype=_wide(rows[0]))
    for chunk in _chunks(rows, step):
        total += function(*chunk, *shared)
    return total


def _wide(tensor: torch.Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _chunks(rows: Sequence[torch.Tensor], step: int) -> list[list[torch.Tensor]]:
    return [list(chunk) for chunk in zip(*(tensor.split(step) for tensor in rows), strict=True)]


class _ChunkedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, function: Callable[..., torch.Tensor], step: int, n_rows: int, n_shared: int, *tensors: torch.Tensor
    ) -> torch.Tensor:
        needed = ctx.needs_input_grad[4:]
        rows, parameters = tensors[:n_rows], tensors[n_rows + n_shared :]
        shared = [
            tensor.detach().requires_grad_(need)
            for tensor, need in zip(tensors[n_rows : n_rows + n_shared], needed[n_rows:], strict=False)
        ]
        # Added up in float32 at least: hundreds of chunks would leave little of 16 bits.
        gradients = [
            torch.zeros_like(tensor, dtype=_wide(tensor)) if need else None
            for tensor, need in zip(tensors, needed, strict=True)
        ]
        places = [place for place, need in enumerate(needed) if need]
        total, start = rows[0].new_zeros((), dtype=_wide(rows[0])), 0
        for chunk in _chunks(rows, step):
            part = slice(start, start + len(chunk[0]))
            start = part.stop
            leaves = [tensor.detach().requires_grad_(need) for tensor, need in zip(chunk, needed, strict=False)]
            with torch.enable_grad():
                value = function(*leaves, *shared)
                arguments = [*leaves, *shared, *parameters]
                found = torch.autograd.grad(value, [arguments[place] for place in places], allow_unused=True)
            total += value.detach()
            for place, gradient in zip(places, found, strict=True):
                target = gradients[place]
                if gradient is not None and target is not None:
                    (target[part] if place < n_rows else target).add_(gradient)
        ctx.save_for_backward(*(gradient for gradient in gradients if gradient is not None))
        ctx.needed, ctx.dtypes = needed, [tensor.dtype for tensor in tensors]
        return total

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        require_first_order()
        found = iter(ctx.saved_tensors)
        needed = zip(ctx.needed, ctx.dtypes, strict=True)
        return None, None, None, None, *((next(found) * upstream).to(dtype) if need else None for need, dtype in needed)
