"""Triton kernels of the mixture cross-entropy and of target ranks; importing them imports Triton.

A row is a query and a component, N = B·K of them, query by query. A program owns a tile of rows (or of items) and goes
over all items (or rows), so that no two programs add to the same floating-point number: results are the same in every
run.
"""

import math

import torch
import triton
import triton.language as tl

# Triton decides when a kernel is decorated whether it will be compiled or run, slowly, on a CPU.
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)

_BITS = tl.constexpr(1 / math.log(2))
_LOWEST = tl.constexpr(torch.finfo(torch.float32).min)


@triton.jit
def _load(table, row_R, column_d, n_rows, WIDTH: tl.constexpr):
    """Returns a tile of a contiguous table [n_rows, WIDTH], 0 beyond its borders."""
    inside_Rd = (row_R < n_rows)[:, None] & (column_d < WIDTH)[None, :]
    return tl.load(table + row_R.to(tl.int64)[:, None] * WIDTH + column_d[None, :], mask=inside_Rd, other=0.0)


@triton.jit
def _add_product(sum_mn, left_mk, right_kn, PRECISION: tl.constexpr):
    """Returns a float32 sum, plus the product of two tiles of one type."""
    if INTERPRETED:
        # The interpreter would multiply the bit patterns of bfloat16; as float32 they have the same products.
        left_mk, right_kn = left_mk.to(tl.float32), right_kn.to(tl.float32)
    return tl.dot(left_mk, right_kn, sum_mn, input_precision=PRECISION)


@triton.jit
def _rounded(number, OPERAND: tl.constexpr):
    """Returns float32 numbers in the type of a product's operands, rounded to the nearest, ties to even."""
    if INTERPRETED and OPERAND.is_bf16():
        # The interpreter would cut the digits off; what stays float32 is the rounded number all the same.
        bits = number.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        return bits.to(tl.float32, bitcast=True)
    return number.to(OPERAND)


@triton.jit
def _logits(
    rows,
    row_R,
    row_Rd,
    n_rows,
    weight,
    item_v,
    item_vd,
    n_items,
    bias,
    HAS_BIAS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Returns a tile of logits in nats, float32, -inf for items beyond the last.

    Takes the first BLOCK_D columns of the two factors, which the caller keeps from tile to tile; loads the others.
    """
    logits_Rv = _add_product(tl.zeros((BLOCK_R, BLOCK_V), tl.float32), row_Rd, tl.trans(item_vd), PRECISION)
    for start in range(BLOCK_D, WIDTH, BLOCK_D):
        column_d = start + tl.arange(0, BLOCK_D)
        more_Rd = _load(rows, row_R, column_d, n_rows, WIDTH)
        more_vd = _load(weight, item_v, column_d, n_items, WIDTH)
        logits_Rv = _add_product(logits_Rv, more_Rd, tl.trans(more_vd), PRECISION)
    if HAS_BIAS:
        logits_Rv += tl.load(bias + item_v, mask=item_v < n_items, other=0.0)[None, :]
    return tl.where((item_v < n_items)[None, :], logits_Rv, -float("inf"))


@triton.jit
def normalise(
    rows,
    weight,
    bias,
    target,
    largest,
    others,
    target_logit,
    n_rows,
    n_items,
    n_components,
    HAS_BIAS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Writes every row's largest logit, Σ exp(logit - largest) over the items but the target, and the target's logit.

    An online sum: where a tile has a larger logit than all before, what was summed so far is scaled down (Milakov and
    Gimelshein, "Online normalizer calculation for softmax", 2018). The target is left out, since the gradient for its
    logit is the probability of all others, which 1 - p would round away where p is close to 1.
    """
    row_R = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    column_d = tl.arange(0, BLOCK_D)
    row_Rd = _load(rows, row_R, column_d, n_rows, WIDTH)
    target_R = tl.load(target + row_R // n_components, mask=row_R < n_rows, other=-1).to(tl.int32)
    largest_R = tl.full((BLOCK_R,), -float("inf"), tl.float32)
    others_R = tl.zeros((BLOCK_R,), tl.float32)
    target_logit_R = tl.zeros((BLOCK_R,), tl.float32)
    for start in range(0, n_items, BLOCK_V):
        item_v = start + tl.arange(0, BLOCK_V)
        item_vd = _load(weight, item_v, column_d, n_items, WIDTH)
        logits_Rv = _logits(
            rows, row_R, row_Rd, n_rows, weight, item_v, item_vd, n_items, bias,
            HAS_BIAS, WIDTH, BLOCK_R, BLOCK_V, BLOCK_D, PRECISION,
        )  # fmt: skip
        is_target_Rv = item_v[None, :] == target_R[:, None]
        target_logit_R += tl.sum(tl.where(is_target_Rv, logits_Rv, 0.0), axis=1)
        before_R = largest_R
        largest_R = tl.maximum(largest_R, tl.max(logits_Rv, axis=1))
        # Bits only after the subtraction: the change of unit rounds, which logits of 1e4 would feel. Where a bias has
        # ruled out all items so far, exp(-inf - 0) = 0 instead of exp(-inf + inf).
        shift_R = tl.where(largest_R == -float("inf"), 0.0, largest_R)
        exp_Rv = tl.exp2((logits_Rv - shift_R[:, None]) * _BITS)
        others_R = others_R * tl.exp2((before_R - shift_R) * _BITS)
        others_R += tl.sum(tl.where(is_target_Rv, 0.0, exp_Rv), axis=1)
    tl.store(largest + row_R, largest_R, mask=row_R < n_rows)
    tl.store(others + row_R, others_R, mask=row_R < n_rows)
    tl.store(target_logit + row_R, target_logit_R, mask=row_R < n_rows)


@triton.jit
def _errors(logits_Rv, item_v, target_R, largest_R, scale_R, target_error_R):
    """Returns the gradients for a tile of logits: a scaled exponential, or for the target what is given."""
    exp_Rv = tl.exp2((logits_Rv - largest_R[:, None]) * _BITS) * scale_R[:, None]
    return tl.where(item_v[None, :] == target_R[:, None], target_error_R[:, None], exp_Rv)


@triton.jit
def components_gradient(
    rows,
    weight,
    bias,
    target,
    largest,
    scale,
    target_error,
    rows_gradient,
    n_rows,
    n_items,
    n_components,
    HAS_BIAS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Writes the gradient for a tile of rows and BLOCK_D columns of it: the logits' errors times the items."""
    row_R = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    first_d = tl.arange(0, BLOCK_D)
    column_d = tl.program_id(1) * BLOCK_D + first_d
    is_row_R = row_R < n_rows
    row_Rd = _load(rows, row_R, first_d, n_rows, WIDTH)
    target_R = tl.load(target + row_R // n_components, mask=is_row_R, other=-1).to(tl.int32)
    largest_R = tl.load(largest + row_R, mask=is_row_R, other=float("inf"))
    scale_R = tl.load(scale + row_R, mask=is_row_R, other=0.0)
    target_error_R = tl.load(target_error + row_R, mask=is_row_R, other=0.0)
    gradient_Rd = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    for start in range(0, n_items, BLOCK_V):
        item_v = start + tl.arange(0, BLOCK_V)
        item_vd = _load(weight, item_v, first_d, n_items, WIDTH)
        logits_Rv = _logits(
            rows, row_R, row_Rd, n_rows, weight, item_v, item_vd, n_items, bias,
            HAS_BIAS, WIDTH, BLOCK_R, BLOCK_V, BLOCK_D, PRECISION,
        )  # fmt: skip
        error_Rv = _errors(logits_Rv, item_v, target_R, largest_R, scale_R, target_error_R)
        if WIDTH > BLOCK_D:
            item_vd = _load(weight, item_v, column_d, n_items, WIDTH)
        gradient_Rd = _add_product(gradient_Rd, _rounded(error_Rv, weight.dtype.element_ty), item_vd, PRECISION)
    inside_Rd = is_row_R[:, None] & (column_d < WIDTH)[None, :]
    place_Rd = row_R.to(tl.int64)[:, None] * WIDTH + column_d[None, :]
    tl.store(rows_gradient + place_Rd, _rounded(gradient_Rd, rows.dtype.element_ty), mask=inside_Rd)


@triton.jit
def weight_gradient(
    rows,
    weight,
    bias,
    target,
    largest,
    scale,
    target_error,
    items_gradient,
    bias_gradient,
    n_rows,
    n_items,
    n_components,
    HAS_BIAS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Writes the gradient for a tile of items and BLOCK_D columns of it, the logits' errors times the rows; and for
    the items' bias, float32."""
    item_v = tl.program_id(0) * BLOCK_V + tl.arange(0, BLOCK_V)
    first_d = tl.arange(0, BLOCK_D)
    column_d = tl.program_id(1) * BLOCK_D + first_d
    item_vd = _load(weight, item_v, first_d, n_items, WIDTH)
    gradient_vd = tl.zeros((BLOCK_V, BLOCK_D), tl.float32)
    bias_gradient_v = tl.zeros((BLOCK_V,), tl.float32)
    for start in range(0, n_rows, BLOCK_R):
        row_R = start + tl.arange(0, BLOCK_R)
        is_row_R = row_R < n_rows
        row_Rd = _load(rows, row_R, first_d, n_rows, WIDTH)
        target_R = tl.load(target + row_R // n_components, mask=is_row_R, other=-1).to(tl.int32)
        # exp(logit - inf) = 0 for rows beyond the last.
        largest_R = tl.load(largest + row_R, mask=is_row_R, other=float("inf"))
        scale_R = tl.load(scale + row_R, mask=is_row_R, other=0.0)
        target_error_R = tl.load(target_error + row_R, mask=is_row_R, other=0.0)
        logits_Rv = _logits(
            rows, row_R, row_Rd, n_rows, weight, item_v, item_vd, n_items, bias,
            HAS_BIAS, WIDTH, BLOCK_R, BLOCK_V, BLOCK_D, PRECISION,
        )  # fmt: skip
        error_Rv = _errors(logits_Rv, item_v, target_R, largest_R, scale_R, target_error_R)
        if HAS_BIAS:
            bias_gradient_v += tl.sum(error_Rv, axis=0)
        if WIDTH > BLOCK_D:
            row_Rd = _load(rows, row_R, column_d, n_rows, WIDTH)
        gradient_vd = _add_product(gradient_vd, tl.trans(_rounded(error_Rv, rows.dtype.element_ty)), row_Rd, PRECISION)
    is_item_v = item_v < n_items
    inside_vd = is_item_v[:, None] & (column_d < WIDTH)[None, :]
    place_vd = item_v.to(tl.int64)[:, None] * WIDTH + column_d[None, :]
    tl.store(items_gradient + place_vd, _rounded(gradient_vd, weight.dtype.element_ty), mask=inside_vd)
    if HAS_BIAS and tl.program_id(1) == 0:
        tl.store(bias_gradient + item_v, bias_gradient_v, mask=is_item_v)


@triton.jit
def count_better(
    rows,
    weight,
    bias,
    target,
    largest,
    target_logit,
    target_bits,
    top_bits,
    ruled_out,
    seen,
    better,
    tied,
    scores,
    n_queries,
    n_items,
    n_components,
    ONE_COMPONENT: tl.constexpr,
    HAS_SEEN: tl.constexpr,
    WITH_SCORES: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
    SPAN: tl.constexpr,
):
    """Adds to every query's numbers of candidates with a score above the target's, and of other ones with the same.

    A program counts among SPAN items. Scores are Σ_k 2^(bits_k + bits of exp(logit_k - largest_k)), or the
    logits of one component. `target_bits` makes that the probability over the target's, whose score is then about 1,
    however improbable it is: what overflows is above it, what underflows is below. `top_bits` makes it a query's
    probabilities up to a factor without overflow, for `scores`, -inf for items that are no candidates.
    """
    query_R = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    is_query_R = query_R < n_queries
    first_d = tl.arange(0, BLOCK_D)
    target_R = tl.load(target + query_R, mask=is_query_R, other=-1).to(tl.int32)
    if ONE_COMPONENT:
        target_score_R = tl.load(target_logit + query_R, mask=is_query_R, other=0.0)
    else:
        target_score_R = tl.zeros((BLOCK_R,), tl.float32)
        for component in range(0, n_components):
            row_R = query_R * n_components + component
            relative_R = tl.load(target_logit + row_R, mask=is_query_R, other=0.0)
            relative_R -= tl.load(largest + row_R, mask=is_query_R, other=0.0)
            bits_R = tl.load(target_bits + row_R, mask=is_query_R, other=0.0)
            target_score_R += tl.exp2(relative_R * _BITS + bits_R)
    better_R = tl.zeros((BLOCK_R,), tl.int32)
    tied_R = tl.zeros((BLOCK_R,), tl.int32)
    first = tl.program_id(1) * SPAN
    for start in range(first, tl.minimum(first + SPAN, n_items), BLOCK_V):
        item_v = start + tl.arange(0, BLOCK_V)
        item_vd = _load(weight, item_v, first_d, n_items, WIDTH)
        score_Rv = tl.zeros((BLOCK_R, BLOCK_V), tl.float32)
        top_score_Rv = tl.zeros((BLOCK_R, BLOCK_V), tl.float32)
        for component in range(0, n_components):
            # Rows beyond the last query's are made, yet never counted.
            row_R = query_R * n_components + component
            row_Rd = _load(rows, row_R, first_d, n_queries * n_components, WIDTH)
            logits_Rv = _logits(
                rows, row_R, row_Rd, n_queries * n_components, weight, item_v, item_vd, n_items, bias,
                HAS_BIAS, WIDTH, BLOCK_R, BLOCK_V, BLOCK_D, PRECISION,
            )  # fmt: skip
            if ONE_COMPONENT:
                score_Rv = logits_Rv
                top_score_Rv = logits_Rv
            else:
                largest_R = tl.load(largest + row_R, mask=is_query_R, other=0.0)
                relative_Rv = (logits_Rv - largest_R[:, None]) * _BITS
                bits_R = tl.load(target_bits + row_R, mask=is_query_R, other=0.0)
                score_Rv += tl.exp2(relative_Rv + bits_R[:, None])
                if WITH_SCORES:
                    bits_R = tl.load(top_bits + row_R, mask=is_query_R, other=0.0)
                    top_score_Rv += tl.exp2(relative_Rv + bits_R[:, None])
        is_candidate_Rv = (tl.load(ruled_out + item_v, mask=item_v < n_items, other=1) == 0)[None, :]
        is_candidate_Rv = is_candidate_Rv & is_query_R[:, None]
        inside_Rv = is_query_R[:, None] & (item_v < n_items)[None, :]
        place_Rv = query_R.to(tl.int64)[:, None] * n_items + item_v[None, :]
        if HAS_SEEN:
            is_candidate_Rv = is_candidate_Rv & (tl.load(seen + place_Rv, mask=inside_Rv, other=1) == 0)
        if WITH_SCORES:
            # A candidate's -inf must stay above those that are none.
            top_score_Rv = tl.maximum(top_score_Rv, _LOWEST)
            tl.store(scores + place_Rv, tl.where(is_candidate_Rv, top_score_Rv, -float("inf")), mask=inside_Rv)
        # The target itself is left out by its number: its score here may differ in the last bit.
        is_other_Rv = is_candidate_Rv & (item_v[None, :] != target_R[:, None])
        better_R += tl.sum((is_other_Rv & (score_Rv > target_score_R[:, None])).to(tl.int32), axis=1)
        tied_R += tl.sum((is_other_Rv & (score_Rv == target_score_R[:, None])).to(tl.int32), axis=1)
    # Whole numbers have the same sum in any order.
    tl.atomic_add(better + query_R, better_R, mask=is_query_R)
    tl.atomic_add(tied + query_R, tied_R, mask=is_query_R)
