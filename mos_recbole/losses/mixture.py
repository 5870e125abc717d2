"""Mixture cross-entropy in one pass over chunks of queries, without a buffer of queries x components x items."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, get_args

import torch

from mos_recbole.losses.arguments import check_mixture
from mos_recbole.losses.gradients import require_first_order
from mos_recbole.losses.reference import mixture_nll_reference
from mos_recbole.losses.tiles import BITS, NATS, ItemTiles, chunk_size, largest_norm, logit_tiles, need_no_shift
from mos_recbole.losses.triton_support import check_factors, need_triton

MixtureImplementation = Literal["auto", "chunked", "chunked_bf16", "reference", "triton"]


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
    >>> assert_close(mixture_cross_entropy(components, log_prior, weight, target, bias=bias), loss)

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
            compiled for GPUs, but never run on one: its tests are Triton's interpreter and compiler. "chunked_bf16" is
            "chunked" whose products of float32 factors run in a CPU's matrix units for bfloat16 (AMX), summed in
            float32, from d = 32 on: narrower ones would be slower there.

    Matrix products run in the inputs' precision (under autocast, in autocast's), everything else in at least float32;
    float16, whose exponents are too few for a normaliser's gradients, is widened to float32.
    Gradients of gradients are not available, except from the reference.

    Raises:
        ValueError: shapes that do not fit, a target that is none, an unknown reduction or implementation; "triton"
            or "chunked_bf16" where it cannot run.
    """
    check_mixture(components, log_prior, weight, target, bias, reduction)
    device = components.device.type
    if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) != torch.float16:
        low = torch.get_autocast_dtype(device)
        components, weight = components.to(low), weight.to(low)
    if torch.float16 in (components.dtype, weight.dtype):
        components, weight = components.float(), weight.float()
    with torch.autocast(device, enabled=False):
        if impl in ("auto", "chunked", "chunked_bf16"):
            if impl == "chunked_bf16":
                need_bf16_units()
            loss: torch.Tensor = _ChunkedMixtureCrossEntropy.apply(  # type: ignore[no-untyped-call]
                components, log_prior, weight, bias, target, reduction, impl == "chunked_bf16"
            )
            return loss
        if impl == "reference":
            nll_B = mixture_nll_reference(components, log_prior, weight, target, bias)
        elif impl == "triton":
            need_triton(weight.device)
            check_factors(components, weight)
            from mos_recbole.losses.triton_mixture import TritonMixtureCrossEntropy

            nll_B = TritonMixtureCrossEntropy.apply(  # type: ignore[no-untyped-call]
                components, log_prior, weight, bias, target
            )
        else:
            raise ValueError(
                f"impl is {impl!r}; expected one of {', '.join(map(repr, get_args(MixtureImplementation)))}"
            )
        return nll_B if reduction == "none" else nll_B.sum() if reduction == "sum" else nll_B.mean()


def need_bf16_units() -> None:
    """Raises where products cannot run in a CPU's matrix units for bfloat16.

    Raises:
        ValueError: the CPU has none.
    """
    if not torch.cpu._is_amx_tile_supported():
        raise ValueError("impl='chunked_bf16' needs a CPU with AMX; impl='chunked' runs everywhere")


@contextmanager
def _bf16_products() -> Iterator[None]:
    """Lets a CPU's products of float32 factors run in bfloat16."""
    matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before, matmul.fp32_precision = matmul.fp32_precision, "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


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


class _ChunkedPass:
    """One pass over chunks of queries: the losses [B], and with an upstream gradient those of the first four arguments.

    The gradients come in at least float32.

    Args:
        components_BKd, log_prior_BK, weight_Vd, bias_V, target_B: as of `mixture_cross_entropy`.
        needed: which of the first four get a gradient.
        bf16: whether float32 products run in bfloat16 where that is faster.
    """

    # Below, a product in bfloat16 takes longer than one in float32.
    _NARROWEST_BF16 = 32

    def __init__(
        self,
        components_BKd: torch.Tensor,
        log_prior_BK: torch.Tensor,
        weight_Vd: torch.Tensor,
        bias_V: torch.Tensor | None,
        target_B: torch.Tensor,
        needed: Sequence[bool],
        bf16: bool,
    ) -> None:
        self.n_queries, self.n_components, width = components_BKd.shape
        n_items, device = len(weight_Vd), weight_Vd.device
        cpu_float32 = device.type == "cpu" and weight_Vd.dtype == torch.float32
        self.bf16 = bf16 and cpu_float32 and width >= self._NARROWEST_BF16
        self.shape_BKd = components_BKd.shape
        accumulate = torch.promote_types(weight_Vd.dtype, torch.float32)
        self.step = max(1, min(self.n_queries, chunk_size(device, self.n_components, n_items, accumulate.itemsize)))
        n_rows = self.step * self.n_components
        self.tiles = tiles = ItemTiles.suited(device, n_items, n_rows, accumulate.itemsize)
        self.weight_Vd = weight_Vd.contiguous()
        self.unshifted = _need_no_shift(components_BKd, self.weight_Vd, bias_V)
        # From nats to bits: free on the narrow factors, before the product. But that rounds, which logits of 1e4 and
        # 16-bit factors would feel: their change of unit comes after the shift.
        self.exact = weight_Vd.dtype == accumulate and not self.bf16
        self.unit_before = BITS if self.unshifted and self.exact else 1.0
        self.unit_after = BITS / self.unit_before
        self.weight_tiles = tiles.cut(self.weight_Vd)
        self.bias_tiles = None if bias_V is None else tiles.cut(bias_V.to(accumulate) * self.unit_before)
        # A row is a query and a component: N of them, R in a chunk.
        self.row_Nd = components_BKd.reshape(-1, width)
        self.target_N = target_B.repeat_interleave(self.n_components)
        self.log_prior_BK = log_prior_BK.to(accumulate)

        def new(*shape: int) -> torch.Tensor:
            return torch.empty(shape, dtype=accumulate, device=device)

        self.buffer, self.number_R = new(n_rows * tiles.n_padded), torch.arange(n_rows, device=device)
        self.weighted_buffer_TRd = new(tiles.lanes, n_rows, width)
        self.normaliser_N = new(len(self.row_Nd)).zero_()
        self.joint_BK, self.responsibility_BK = (new(self.n_queries, self.n_components) for _ in range(2))
        wants_components, self.wants_prior, wants_weight, wants_bias = needed[:4]
        self.components_grad_Nd = new(len(self.row_Nd), width) if wants_components else None
        self.weight_grad_tiles = new(tiles.n_tiles, tiles.lanes, tiles.width, width).zero_() if wants_weight else None
        self.bias_grad_tiles = new(tiles.n_tiles, tiles.lanes, tiles.width).zero_() if wants_bias else None

    def run(self, upstream_B: torch.Tensor | None) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        """Returns the losses, and the gradients of Σ_b upstream_b · loss_b, as needed."""
        with _bf16_products() if self.bf16 else nullcontext():
            for start in range(0, self.n_queries, self.step):
                chunk = slice(start, min(start + self.step, self.n_queries))
                rows = slice(chunk.start * self.n_components, chunk.stop * self.n_components)
                self._run_chunk(chunk, rows, upstream_B)
        components_grad = weight_grad = bias_grad = None
        if self.components_grad_Nd is not None:
            components_grad = self.components_grad_Nd.view(self.shape_BKd)
        if self.weight_grad_tiles is not None:
            weight_grad = self.weight_grad_tiles.view(-1, self.shape_BKd[2])[: len(self.weight_Vd)]
        if self.bias_grad_tiles is not None:
            bias_grad = self.bias_grad_tiles.view(-1)[: len(self.weight_Vd)]
        prior_grad = -self.responsibility_BK if self.wants_prior else None
        return -torch.logsumexp(self.joint_BK, dim=1), [components_grad, prior_grad, weight_grad, bias_grad]

    def _run_chunk(self, chunk: slice, rows: slice, upstream_B: torch.Tensor | None) -> None:
        tiles, buffer, n_rows = self.tiles, self.buffer, rows.stop - rows.start
        place_R = tiles.places(self.target_N[rows], self.number_R[:n_rows])
        buffers = tiles.buffers(buffer, n_rows)
        row_Rd = self.row_Nd[rows] * self.unit_before
        logits: Iterable[torch.Tensor] = logit_tiles(row_Rd, self.weight_tiles, self.bias_tiles, buffers, tiles)
        if not self.unshifted:
            logits = list(logits)
            _shift(logits)
            target_bits_R = buffer[place_R] * self.unit_after

        # Each tile is worked on to the end while it is in the cache; unless shifted, it has not been made before.
        normaliser_R, weighted_TRd = self.normaliser_N[rows], self.weighted_buffer_TRd[:, :n_rows].zero_()
        for exp_TRv, weight_Tvd in zip(logits, self.weight_tiles, strict=True):
            if self.unit_after != 1.0:
                exp_TRv *= self.unit_after
            exp_TRv.exp2_()
            normaliser_R += exp_TRv.sum(dim=2).sum(dim=0)
            if self.components_grad_Nd is not None and self.exact:
                _add_product(weighted_TRd, exp_TRv, weight_Tvd)
        target_exp_R = buffer[place_R]
        if self.unshifted:
            target_bits_R = target_exp_R.log2()

        nll_bk = (normaliser_R.log2() - target_bits_R).mul_(NATS).view(-1, self.n_components)
        joint_bk = torch.sub(self.log_prior_BK[chunk], nll_bk, out=self.joint_BK[chunk])
        if upstream_B is not None:
            responsibility_bk = torch.mul(
                joint_bk.softmax(dim=1), upstream_B[chunk, None], out=self.responsibility_BK[chunk]
            )
            self._add_gradients(rows, place_R, buffers, weighted_TRd, responsibility_bk, target_exp_R)

    def _add_gradients(
        self,
        rows: slice,
        place_R: torch.Tensor,
        buffers: list[torch.Tensor],
        weighted_TRd: torch.Tensor,
        responsibility_bk: torch.Tensor,
        target_exp_R: torch.Tensor,
    ) -> None:
        # The gradient for a logit, r (p - [v = y]), is (r / normaliser) (exp - normaliser [v = y]): scaling the narrow
        # factors of the products by r / normaliser saves two passes over the chunk.
        normaliser_R = self.normaliser_N[rows]
        scale_R1 = (responsibility_bk.view(-1) / normaliser_R)[:, None]
        others_R = normaliser_R - target_exp_R
        if self.components_grad_Nd is not None:
            subtracted_R = normaliser_R
            if not self.exact:
                # In 16 bits, a probable target would drown the others in the sum before it is subtracted.
                subtracted_R, self.buffer[place_R] = others_R, 0.0
                for exp_TRv, weight_Tvd in zip(buffers, self.weight_tiles, strict=True):
                    _add_product(weighted_TRd, exp_TRv, weight_Tvd)
            error_Rd = torch.sum(weighted_TRd, dim=0, out=self.components_grad_Nd[rows])
            error_Rd.addcmul_(subtracted_R[:, None], self.weight_Vd[self.target_N[rows]], value=-1).mul_(scale_R1)
        self.buffer[place_R] = -others_R
        if self.weight_grad_tiles is not None:
            rows_TRd = (scale_R1 * self.row_Nd[rows]).to(self.weight_Vd.dtype).expand(self.tiles.lanes, -1, -1)
            for grad_Tvd, error_TRv in zip(self.weight_grad_tiles, buffers, strict=True):
                _add_product(grad_Tvd, error_TRv.transpose(1, 2), rows_TRd)
        if self.bias_grad_tiles is not None:
            # By `sum`, whose cascaded additions round less than a product with a vector.
            for grad_Tv, error_TRv in zip(self.bias_grad_tiles, buffers, strict=True):
                grad_Tv += (scale_R1 * error_TRv).sum(dim=1)


class _ChunkedMixtureCrossEntropy(torch.autograd.Function):
    """Computes the gradients along with the loss where their scale is known, that is for "mean" and "sum"."""

    @staticmethod
    def forward(
        ctx: Any,
        components_BKd: torch.Tensor,
        log_prior_BK: torch.Tensor,
        weight_Vd: torch.Tensor,
        bias_V: torch.Tensor | None,
        target_B: torch.Tensor,
        reduction: str,
        bf16: bool,
    ) -> torch.Tensor:
        ctx.reduction, ctx.bf16 = reduction, bf16
        inputs = (components_BKd, log_prior_BK, weight_Vd, bias_V)
        ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in inputs]
        if reduction == "none":
            ctx.save_for_backward(*inputs, target_B)
            return _ChunkedPass(*inputs, target_B, [False] * 4, bf16).run(None)[0]
        upstream_B = None
        if any(ctx.needs_input_grad):
            accumulate = torch.promote_types(weight_Vd.dtype, torch.float32)
            scale = 1.0 if reduction == "sum" or not len(target_B) else 1.0 / len(target_B)
            upstream_B = torch.full((len(target_B),), scale, dtype=accumulate, device=weight_Vd.device)
        loss_B, gradients = _ChunkedPass(*inputs, target_B, ctx.needs_input_grad, bf16).run(upstream_B)
        ctx.save_for_backward(*gradients)
        return loss_B.sum() if reduction == "sum" else loss_B.mean()

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        require_first_order("impl='reference'")
        if ctx.reduction == "none":
            components_BKd, log_prior_BK, weight_Vd, bias_V, target_B = ctx.saved_tensors
            inputs = (components_BKd, log_prior_BK, weight_Vd, bias_V, target_B)
            _, found = _ChunkedPass(*inputs, ctx.needs_input_grad, ctx.bf16).run(upstream)
        else:
            found = [None if grad is None else grad * upstream.to(grad.dtype) for grad in ctx.saved_tensors]
        typed = [None if grad is None else grad.to(dtype) for grad, dtype in zip(found, ctx.dtypes, strict=True)]
        return *typed, None, None, None
