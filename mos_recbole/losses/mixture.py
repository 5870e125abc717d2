"""Mixture cross-entropy in one pass over chunks of queries, without a buffer of queries x components x items."""

from collections.abc import Sequence
from typing import Any, Literal

import torch

from mos_recbole.losses.reference import mixture_nll_reference

# A chunk's logits should stay in a cache; but below about 256 rows (queries x components) the products with the item
# table no longer run at full rate, whatever the cache, up to a limit on memory.
_CHUNK_ROWS = 256
_CHUNK_BYTES = 64 * 2**20


def mixture_cross_entropy(
    components: torch.Tensor,
    log_prior: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    impl: Literal["auto", "chunked", "reference"] = "auto",
) -> torch.Tensor:
    """Returns the cross-entropy of a mixture of softmaxes; it equals these two lines of PyTorch.

    >>> log_prob = torch.log_softmax(components @ weight.T + bias, -1)                              # [B, K, V]
    >>> loss = -torch.logsumexp(log_prior + log_prob[arange(B), :, target], -1).mean()              # [B] -> []

    The mixture is that of Yang et al., "Breaking the Softmax Bottleneck", ICLR 2018, eq. 2, with
    components_bk = tanh(U_k h_b) and log_prior_b = log_softmax(M h_b). With nll_bk = LSE_v(s_bkv) - s_bk,y and the
    responsibilities r_bk = softmax_k(log π_bk - nll_bk), the gradient with respect to a logit is
    r_bk (p_bkv - [v = y]), so that one pass over a chunk of queries gives the loss and all gradients: 6·B·K·V·d
    operations, no recomputation, and the memory of one chunk's logits.

    Args:
        components: [B, K, d], one query vector per component.
        log_prior: [B, K], log of the mixture weights; -inf switches a component off, one per row must be finite.
        weight: [V, d], the output item table.
        target: [B], int64 item ids in [0, V).
        bias: [V], added to every component's logits.
        reduction: "mean" over the B queries, their "sum", or "none" for shape [B]. With "none" the gradient needs the
            logits a second time (8·B·K·V·d operations in all).
        impl: "reference" builds all B x K x V logits and leaves the gradients to autograd; "chunked" is exact too;
            "auto" is "chunked".

    Matrix products run in the inputs' precision (under autocast, in autocast's), everything else in at least float32.
    Gradients of gradients are not available, except from the reference.

    Raises:
        ValueError: shapes that do not fit, an unknown reduction or implementation.
    """
    _check(components, log_prior, weight, target, bias, reduction)
    device = components.device.type
    if torch.is_autocast_enabled(device):
        low = torch.get_autocast_dtype(device)
        components, weight = components.to(low), weight.to(low)
    with torch.autocast(device, enabled=False):
        if impl == "reference":
            nll_B = mixture_nll_reference(components, log_prior, weight, target, bias)
            return nll_B if reduction == "none" else nll_B.sum() if reduction == "sum" else nll_B.mean()
        if impl not in ("auto", "chunked"):
            raise ValueError(f"impl is {impl!r}; expected 'auto', 'chunked' or 'reference'")
        return _ChunkedMixtureCrossEntropy.apply(components, log_prior, weight, bias, target, reduction)


def _check(
    components: torch.Tensor,
    log_prior: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    bias: torch.Tensor | None,
    reduction: str,
) -> None:
    if components.ndim != 3 or weight.ndim != 2 or components.shape[2] != weight.shape[1]:
        raise ValueError(
            f"components {tuple(components.shape)} and weight {tuple(weight.shape)}; expected [B, K, d] and [V, d]"
        )
    if log_prior.shape != components.shape[:2]:
        raise ValueError(f"log_prior is {tuple(log_prior.shape)}; expected [B, K] = {tuple(components.shape[:2])}")
    if target.shape != components.shape[:1]:
        raise ValueError(f"target is {tuple(target.shape)}; expected [B] = {tuple(components.shape[:1])}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias is {tuple(bias.shape)}; expected [V] = {tuple(weight.shape[:1])}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is {reduction!r}; expected 'mean', 'sum' or 'none'")


def chunk_size(n_components: int, n_items: int, itemsize: int) -> int:
    """Returns how many queries' logits ([K, V] each) make one chunk."""
    return max(1, min(_CHUNK_ROWS // n_components, _CHUNK_BYTES // (n_components * n_items * itemsize)))


class _Gradients:
    """Accumulators for the gradients of a sum of weighted losses; None where autograd does not ask for one."""

    def __init__(
        self,
        components_BKd: torch.Tensor,
        log_prior_BK: torch.Tensor,
        weight_Vd: torch.Tensor,
        bias_V: torch.Tensor | None,
        needed: Sequence[bool],
    ) -> None:
        accumulate = torch.promote_types(components_BKd.dtype, torch.float32)
        self.components_BKd = torch.empty_like(components_BKd) if needed[0] else None
        self.log_prior_BK = torch.empty_like(log_prior_BK) if needed[1] else None
        self.weight_Vd = torch.zeros_like(weight_Vd, dtype=accumulate) if needed[2] else None
        self.bias_V = None if bias_V is None or not needed[3] else torch.zeros_like(bias_V, dtype=accumulate)

    def all(self) -> tuple[torch.Tensor | None, ...]:
        return self.components_BKd, self.log_prior_BK, self.weight_Vd, self.bias_V


def _run(
    components_BKd: torch.Tensor,
    log_prior_BK: torch.Tensor,
    weight_Vd: torch.Tensor,
    bias_V: torch.Tensor | None,
    target_B: torch.Tensor,
    upstream_B: torch.Tensor | None,
    gradients: _Gradients | None,
) -> torch.Tensor:
    """Returns the losses [B]; fills `gradients` with those of Σ_b upstream_b · loss_b."""
    n_queries, n_components, width = components_BKd.shape
    n_items = weight_Vd.shape[0]
    accumulate = torch.promote_types(components_BKd.dtype, torch.float32)
    step = min(n_queries, chunk_size(n_components, n_items, accumulate.itemsize)) if n_queries else 1
    loss_B = torch.empty(n_queries, dtype=accumulate, device=components_BKd.device)
    logits_buffer = torch.empty(step * n_components, n_items, dtype=components_BKd.dtype, device=components_BKd.device)

    for start in range(0, n_queries, step):
        chunk = slice(start, min(start + step, n_queries))
        n_rows = (chunk.stop - chunk.start) * n_components
        # One row per query and component.
        component_Rd = components_BKd[chunk].reshape(n_rows, width)
        target_R1 = target_B[chunk, None].expand(-1, n_components).reshape(n_rows, 1)
        logits_RV = torch.mm(component_Rd, weight_Vd.T, out=logits_buffer[:n_rows]).to(accumulate)
        if bias_V is not None:
            logits_RV += bias_V
        largest_R1 = logits_RV.amax(dim=1, keepdim=True)
        target_logit_R1 = logits_RV.gather(1, target_R1)
        exp_RV = logits_RV.sub_(largest_R1).exp_()
        normaliser_R1 = exp_RV.sum(dim=1, keepdim=True)
        # The small logarithm comes last: added to a logit of 1e4 first, its digits would be gone.
        nll_bk = (normaliser_R1.log() + (largest_R1 - target_logit_R1)).view(-1, n_components)
        joint_bk = log_prior_BK[chunk].to(accumulate) - nll_bk
        loss_B[chunk] = -torch.logsumexp(joint_bk, dim=1)
        if gradients is None or upstream_B is None:
            continue

        responsibility_bk = torch.softmax(joint_bk, dim=1) * upstream_B[chunk, None]
        if gradients.log_prior_BK is not None:
            gradients.log_prior_BK[chunk] = -responsibility_bk
        # r (p - [v = y]) = (r / normaliser) (exp - normaliser [v = y]): scaling the narrow factors of the products
        # below by r / normaliser saves two passes over the chunk.
        scale_R1 = responsibility_bk.reshape(n_rows, 1) / normaliser_R1
        error_RV = exp_RV.scatter_add_(1, target_R1, -normaliser_R1).to(weight_Vd.dtype)
        if gradients.components_BKd is not None:
            gradients.components_BKd[chunk] = (scale_R1 * (error_RV @ weight_Vd)).view(-1, n_components, width)
        if gradients.weight_Vd is not None:
            scaled_Rd = (scale_R1 * component_Rd).to(error_RV.dtype)
            if error_RV.dtype == accumulate:
                gradients.weight_Vd.addmm_(error_RV.T, scaled_Rd)
            else:
                gradients.weight_Vd += error_RV.T @ scaled_Rd
        if gradients.bias_V is not None:
            # By `sum`, whose cascaded additions round less than a product with a vector.
            gradients.bias_V += (scale_R1 * error_RV).sum(dim=0, dtype=accumulate)
    return loss_B


class _ChunkedMixtureCrossEntropy(torch.autograd.Function):
    """Computes the gradients along with the loss where their scale is known, that is for "mean" and "sum"."""

    @staticmethod
    def forward(ctx: Any, components_BKd, log_prior_BK, weight_Vd, bias_V, target_B, reduction):
        ctx.reduction = reduction
        needed = ctx.needs_input_grad
        inputs = (components_BKd, log_prior_BK, weight_Vd, bias_V)
        if reduction == "none":
            ctx.save_for_backward(*inputs, target_B)
            return _run(*inputs, target_B, None, None)
        scale = 1.0 if reduction == "sum" or not len(target_B) else 1.0 / len(target_B)
        accumulate = torch.promote_types(components_BKd.dtype, torch.float32)
        upstream_B = torch.full((len(target_B),), scale, dtype=accumulate, device=components_BKd.device)
        gradients = _Gradients(*inputs, needed) if any(needed) else None
        loss_B = _run(*inputs, target_B, upstream_B, gradients)
        if gradients is not None:
            ctx.save_for_backward(*gradients.all())
            ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in inputs]
        return loss_B.sum() if reduction == "sum" else loss_B.mean()

    @staticmethod
    def backward(ctx: Any, upstream):
        # PyTorch's `once_differentiable` would let a gradient penalty pass as a constant.
        if torch.is_grad_enabled():
            raise RuntimeError("gradients of gradients need impl='reference'")
        if ctx.reduction == "none":
            components_BKd, log_prior_BK, weight_Vd, bias_V, target_B = ctx.saved_tensors
            inputs = (components_BKd, log_prior_BK, weight_Vd, bias_V)
            gradients = _Gradients(*inputs, ctx.needs_input_grad)
            _run(*inputs, target_B, upstream, gradients)
            found = gradients.all()
            dtypes = [None if tensor is None else tensor.dtype for tensor in inputs]
        else:
            found = tuple(None if grad is None else grad * upstream.to(grad.dtype) for grad in ctx.saved_tensors)
            dtypes = ctx.dtypes
        typed = [None if grad is None else grad.to(dtype) for grad, dtype in zip(found, dtypes, strict=True)]
        return *typed, None, None
