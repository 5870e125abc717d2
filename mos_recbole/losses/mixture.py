"""Mixture cross-entropy in one pass over chunks of queries, without a buffer of queries x components x items."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import torch

from mos_recbole.losses.arguments import check_mixture
from mos_recbole.losses.reference import mixture_nll_reference
from mos_recbole.losses.tiles import BITS, NATS, ItemTiles, chunk_size, largest_norm, logit_tiles, need_no_shift
from mos_recbole.losses.triton_support import check_factors, need_triton

MixtureImplementation = Literal["auto", "chunked", "reference", "triton"]


def mixture_cross_entropy(
    components: torch.Tensor,
    log_prior: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
    impl: MixtureImplementation = "auto",
) -> torch.Tensor:
    """Returns the cross-entropy of a mixture of softmaxes; it equals these two lines of PyTorch.

    >>> log_prob = torch.log_softmax(components @ weight.T + bias, -1)                              # [B, K, V]
    >>> loss = -torch.logsumexp(log_prior + log_prob[arange(B), :, target], -1).mean()              # [B] -> []

    The mixture is that of Yang et al., "Breaking the Softmax Bottleneck", ICLR 2018, section 2.4, with
    components_bk = tanh(U_k h_b) and log_prior_b = log_softmax(M h_b). With nll_bk = LSE_v(s_bkv) - s_bk,y and the
    responsibilities r_bk = softmax_k(log π_bk - nll_bk), the gradient with respect to a logit is
    r_bk (p_bkv - [v = y]), so that one pass over a chunk of queries gives the loss and all gradients: 6·B·K·V·d
    operations, no recomputation, and the memory of one chunk's logits.

    Args:
        components: [B, K, d], one query vector per component.
        log_prior: [B, K], log of the mixture weights; -inf switches a component off, one per row must be finite.
        weight: [V, d], the output item table.
        target: [B], int64 item ids in [0, V), which is checked on a CPU.
        bias: [V], added to every component's logits.
        reduction: "mean" over the B queries, their "sum", or "none" for shape [B]. With "none" the gradient needs the
            logits a second time (8·B·K·V·d operations in all).
        impl: "reference" builds all B x K x V logits and leaves the gradients to autograd; "chunked" is exact too, and
            so is "triton", for CUDA devices and float32 or bfloat16 factors: beyond inputs and results O(B·K) memory,
            logits computed again for each gradient (10·B·K·V·d operations for d up to 64, in bfloat16 128), float32
            products in TF32 where PyTorch's own are. "auto" is "chunked" on every device, since "triton" has been
            compiled for GPUs, but never run on one: its tests are Triton's interpreter and compiler.

    Matrix products run in the inputs' precision (under autocast, in autocast's), everything else in at least float32;
    float16, whose exponents are too few for a normaliser's gradients, is widened to float32.
    Gradients of gradients are not available, except from the reference.

    Raises:
        ValueError: shapes that do not fit, a target that is none, an unknown reduction or implementation; "triton"
            where it cannot run.
    """
    check_mixture(components, log_prior, weight, target, bias, reduction)
    device = components.device.type
    if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) != torch.float16:
        low = torch.get_autocast_dtype(device)
        components, weight = components.to(low), weight.to(low)
    if torch.float16 in (components.dtype, weight.dtype):
        components, weight = components.float(), weight.float()
    with torch.autocast(device, enabled=False):
        if impl in ("auto", "chunked"):
            return _ChunkedMixtureCrossEntropy.apply(components, log_prior, weight, bias, target, reduction)
        if impl == "reference":
            nll_B = mixture_nll_reference(components, log_prior, weight, target, bias)
        elif impl == "triton":
            need_triton(weight.device)
            check_factors(components, weight)
            from mos_recbole.losses.triton_mixture import TritonMixtureCrossEntropy

            nll_B = TritonMixtureCrossEntropy.apply(components, log_prior, weight, bias, target)
        else:
            raise ValueError(
                f"impl is {impl!r}; expected one of {', '.join(map(repr, get_args(MixtureImplementation)))}"
            )
        return nll_B if reduction == "none" else nll_B.sum() if reduction == "sum" else nll_B.mean()


def _add_product(sum_Tmn: torch.Tensor, left_Tmk: torch.Tensor, right_Tkn: torch.Tensor) -> None:
    """Adds a batched product that runs in the right factor's precision."""
    if sum_Tmn.dtype == right_Tkn.dtype:
        sum_Tmn.baddbmm_(left_Tmk, right_Tkn)
    else:
        sum_Tmn += torch.bmm(left_Tmk.to(right_Tkn.dtype), right_Tkn)


def _need_no_shift(components_BKd: torch.Tensor, weight_Vd: torch.Tensor, bias_V: torch.Tensor | None) -> bool:
    """Returns whether exponentials of the logits need no shift, as |z·w + b| <= ‖z‖ ‖w‖ + |b|."""
    # A GPU is not made to wait for the answer.
    if weight_Vd.device.type != "cpu":
        return False
    largest_bias = 0.0 if bias_V is None else float(bias_V.abs().max())
    return need_no_shift(largest_norm(components_BKd) * largest_norm(weight_Vd) + largest_bias)


def _shift(logit_tiles: list[torch.Tensor]) -> None:
    """Subtracts every row's largest logit."""
    largest_R = torch.stack([tile_TRv.amax(dim=2).amax(dim=0) for tile_TRv in logit_tiles]).amax(dim=0)
    for tile_TRv in logit_tiles:
        tile_TRv -= largest_R[:, None]


def _run(
    components_BKd: torch.Tensor,
    log_prior_BK: torch.Tensor,
    weight_Vd: torch.Tensor,
    bias_V: torch.Tensor | None,
    target_B: torch.Tensor,
    upstream_B: torch.Tensor | None,
    needed: Sequence[bool],
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """Returns the losses [B], and the gradients of Σ_b upstream_b · loss_b for the first four arguments, as needed.

    The gradients come in at least float32.
    """
    n_queries, n_components, width = components_BKd.shape
    n_items, device = len(weight_Vd), weight_Vd.device
    accumulate = torch.promote_types(weight_Vd.dtype, torch.float32)
    step = max(1, min(n_queries, chunk_size(device, n_components, n_items, accumulate.itemsize)))
    n_rows = step * n_components
    tiles = ItemTiles.suited(device, n_items, n_rows, accumulate.itemsize)
    weight_Vd = weight_Vd.contiguous()
    unshifted = _need_no_shift(components_BKd, weight_Vd, bias_V)
    # From nats to bits: free on the narrow factors, before the product. But that rounds, which logits of 1e4 and 16-bit
    # factors would feel: their change of unit comes after the shift.
    exact = weight_Vd.dtype == accumulate
    unit_before = BITS if unshifted and exact else 1.0
    unit_after = BITS / unit_before
    weight_tiles = tiles.cut(weight_Vd)
    bias_tiles = None if bias_V is None else tiles.cut(bias_V.to(accumulate) * unit_before)
    # A row is a query and a component: N of them, R in a chunk.
    row_Nd = components_BKd.reshape(-1, width)
    target_N = target_B.repeat_interleave(n_components)
    log_prior_BK = log_prior_BK.to(accumulate)

    def new(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=accumulate, device=device)

    buffer, number_R = new(n_rows * tiles.n_padded), torch.arange(n_rows, device=device)
    weighted_buffer_TRd = new(tiles.lanes, n_rows, width)
    normaliser_N = new(len(row_Nd)).zero_()
    joint_BK, responsibility_BK = new(n_queries, n_components), new(n_queries, n_components)
    wants_components, wants_prior, wants_weight, wants_bias = needed[:4]
    components_grad_Nd = new(len(row_Nd), width) if wants_components else None
    weight_grad_tiles = new(tiles.n_tiles, tiles.lanes, tiles.width, width).zero_() if wants_weight else None
    bias_grad_tiles = new(tiles.n_tiles, tiles.lanes, tiles.width).zero_() if wants_bias else None

    for start in range(0, n_queries, step):
        chunk = slice(start, min(start + step, n_queries))
        rows = slice(chunk.start * n_components, chunk.stop * n_components)
        n_rows = rows.stop - rows.start
        place_R = tiles.places(target_N[rows], number_R[:n_rows])
        buffers = tiles.buffers(buffer, n_rows)
        row_Rd = row_Nd[rows] * unit_before
        logits: Iterable[torch.Tensor] = logit_tiles(row_Rd, weight_tiles, bias_tiles, buffers, tiles)
        if not unshifted:
            logits = list(logits)
            _shift(logits)
            target_bits_R = buffer[place_R] * unit_after

        # Each tile is worked on to the end while it is in the cache; unless shifted, it has not been made before.
        normaliser_R, weighted_TRd = normaliser_N[rows], weighted_buffer_TRd[:, :n_rows].zero_()
        for exp_TRv, weight_Tvd in zip(logits, weight_tiles, strict=True):
            if unit_after != 1.0:
                exp_TRv *= unit_after
            exp_TRv.exp2_()
            normaliser_R += exp_TRv.sum(dim=2).sum(dim=0)
            if components_grad_Nd is not None and exact:
                _add_product(weighted_TRd, exp_TRv, weight_Tvd)
        target_exp_R = buffer[place_R]
        if unshifted:
            target_bits_R = target_exp_R.log2()

        nll_bk = (normaliser_R.log2() - target_bits_R).mul_(NATS).view(-1, n_components)
        joint_bk = torch.sub(log_prior_BK[chunk], nll_bk, out=joint_BK[chunk])
        if upstream_B is None:
            continue

        # The gradient for a logit, r (p - [v = y]), is (r / normaliser) (exp - normaliser [v = y]): scaling the narrow
        # factors of the products by r / normaliser saves two passes over the chunk.
        responsibility_bk = torch.mul(joint_bk.softmax(dim=1), upstream_B[chunk, None], out=responsibility_BK[chunk])
        scale_R1 = (responsibility_bk.view(-1) / normaliser_R)[:, None]
        others_R = normaliser_R - target_exp_R
        if components_grad_Nd is not None:
            subtracted_R = normaliser_R
            if not exact:
                # In 16 bits, a probable target would drown the others in the sum before it is subtracted.
                subtracted_R, buffer[place_R] = others_R, 0.0
                for exp_TRv, weight_Tvd in zip(buffers, weight_tiles, strict=True):
                    _add_product(weighted_TRd, exp_TRv, weight_Tvd)
            error_Rd = torch.sum(weighted_TRd, dim=0, out=components_grad_Nd[rows])
            error_Rd.addcmul_(subtracted_R[:, None], weight_Vd[target_N[rows]], value=-1).mul_(scale_R1)
        buffer[place_R] = -others_R
        if weight_grad_tiles is not None:
            rows_TRd = (scale_R1 * row_Nd[rows]).to(weight_Vd.dtype).expand(tiles.lanes, -1, -1)
            for grad_Tvd, error_TRv in zip(weight_grad_tiles, buffers, strict=True):
                _add_product(grad_Tvd, error_TRv.transpose(1, 2), rows_TRd)
        if bias_grad_tiles is not None:
            # By `sum`, whose cascaded additions round less than a product with a vector.
            for grad_Tv, error_TRv in zip(bias_grad_tiles, buffers, strict=True):
                grad_Tv += (scale_R1 * error_TRv).sum(dim=1)

    components_grad = weight_grad = bias_grad = None
    if components_grad_Nd is not None:
        components_grad = components_grad_Nd.view(components_BKd.shape)
    if weight_grad_tiles is not None:
        weight_grad = weight_grad_tiles.view(-1, width)[:n_items]
    if bias_grad_tiles is not None:
        bias_grad = bias_grad_tiles.view(-1)[:n_items]
    return -torch.logsumexp(joint_BK, dim=1), [
        components_grad,
        -responsibility_BK if wants_prior else None,
        weight_grad,
        bias_grad,
    ]


class _ChunkedMixtureCrossEntropy(torch.autograd.Function):
    """Computes the gradients along with the loss where their scale is known, that is for "mean" and "sum"."""

    @staticmethod
    def forward(ctx: Any, components_BKd, log_prior_BK, weight_Vd, bias_V, target_B, reduction):
        ctx.reduction = reduction
        inputs = (components_BKd, log_prior_BK, weight_Vd, bias_V)
        ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in inputs]
        if reduction == "none":
            ctx.save_for_backward(*inputs, target_B)
            return _run(*inputs, target_B, None, [False] * 4)[0]
        upstream_B = None
        if any(ctx.needs_input_grad):
            accumulate = torch.promote_types(weight_Vd.dtype, torch.float32)
            scale = 1.0 if reduction == "sum" or not len(target_B) else 1.0 / len(target_B)
            upstream_B = torch.full((len(target_B),), scale, dtype=accumulate, device=weight_Vd.device)
        loss_B, gradients = _run(*inputs, target_B, upstream_B, ctx.needs_input_grad)
        ctx.save_for_backward(*gradients)
        return loss_B.sum() if reduction == "sum" else loss_B.mean()

    @staticmethod
    def backward(ctx: Any, upstream):
        # PyTorch's `once_differentiable` would let a gradient penalty pass as a constant.
        if torch.is_grad_enabled():
            raise RuntimeError("gradients of gradients need impl='reference'")
        if ctx.reduction == "none":
            components_BKd, log_prior_BK, weight_Vd, bias_V, target_B = ctx.saved_tensors
            inputs = (components_BKd, log_prior_BK, weight_Vd, bias_V, target_B)
            _, found = _run(*inputs, upstream, ctx.needs_input_grad)
        else:
            found = [None if grad is None else grad * upstream.to(grad.dtype) for grad in ctx.saved_tensors]
        typed = [None if grad is None else grad.to(dtype) for grad, dtype in zip(found, ctx.dtypes, strict=True)]
        return *typed, None, None
