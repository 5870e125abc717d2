"""`mixture_cross_entropy` against the naive formula, in values and in all gradients."""

from collections.abc import Callable
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from mos_recbole.losses import mixture_cross_entropy, tiles
from mos_recbole.losses.reference import mixture_nll_reference

NAMES = ("components", "log_prior", "weight", "bias")
REDUCTIONS = ("mean", "sum", "none")

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]


def random_inputs(
    n_queries: int,
    n_components: int,
    n_items: int,
    width: int,
    *,
    seed: int = 0,
    scale: float = 1.0,
    with_bias: bool = True,
) -> tuple[Inputs, torch.Tensor]:
    """Returns (components, log_prior, weight, bias) in float64, with logits of about `scale`, and the targets."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    components = normal(n_queries, n_components, width)
    log_prior = torch.log_softmax(normal(n_queries, n_components), dim=-1)
    weight = normal(n_items, width) * scale / width**0.5
    bias = normal(n_items) if with_bias else None
    return (components, log_prior, weight, bias), torch.randint(n_items, (n_queries,), generator=generator)


def evaluate(
    inputs: Inputs,
    target: torch.Tensor,
    *,
    impl: str,
    reduction: str = "mean",
    upstream: torch.Tensor | None = None,
    asked: tuple[bool, ...] = (True, True, True, True),
) -> dict[str, torch.Tensor]:
    """Returns the value and the gradients that are asked for, by name; gradients of (upstream * value).sum()."""
    leaves = [
        None if tensor is None else tensor.detach().requires_grad_(wanted)
        for tensor, wanted in zip(inputs, asked, strict=True)
    ]
    components, log_prior, weight, bias = leaves
    value = mixture_cross_entropy(components, log_prior, weight, target, bias=bias, reduction=reduction, impl=impl)
    found = {"value": value.detach()}
    wanted = {name: leaf for name, leaf in zip(NAMES, leaves, strict=True) if leaf is not None and leaf.requires_grad}
    if wanted:
        scalar = value.sum() if upstream is None else (value * upstream.to(value.dtype)).sum()
        found |= dict(zip(wanted, torch.autograd.grad(scalar, list(wanted.values())), strict=True))
    return found


def assert_equal_in_float64(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Asserts a relative error under 1e-10 in the maximum norm of each tensor (absolute where it is below 1)."""
    assert found.keys() == expected.keys()
    for name, truth in expected.items():
        assert found[name].dtype == torch.float64, name
        assert found[name].shape == truth.shape, name
        assert truth.isfinite().all(), name
        if truth.numel():
            error = (found[name] - truth).abs().max().item()
            assert error < 1e-10 * max(1.0, truth.abs().max().item()), f"{name}: {error}"


def force_chunks(rows: int, n_components: int, n_items: int, itemsize: int):
    """Returns a context in which one chunk holds `rows` queries."""
    return mock.patch.multiple(
        tiles, _CHUNK_ROWS=rows * n_components, _CHUNK_BYTES=rows * n_components * n_items * itemsize
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("n_components", [1, 4])
@pytest.mark.parametrize("with_bias", [True, False])
def test_float64_equals_the_reference(reduction: str, n_components: int, with_bias: bool) -> None:
    """Value and all gradients equal the reference's to 1e-10; with "none" under a random upstream gradient."""
    inputs, target = random_inputs(37, n_components, 53, 8, scale=3.0, with_bias=with_bias)
    upstream = torch.randn(37, dtype=torch.float64) if reduction == "none" else None
    asked = (True, True, True, with_bias)
    found, expected = (
        evaluate(inputs, target, impl=impl, reduction=reduction, upstream=upstream, asked=asked)
        for impl in ("chunked", "reference")
    )
    assert len(found) == 4 + with_bias
    assert_equal_in_float64(found, expected)


@pytest.mark.parametrize("size", [60.0, 100.0, 300.0])
@pytest.mark.parametrize("of", ["bias", "-bias", "one bias", "vectors"])
def test_logits_whose_exponentials_overflow(of: str, size: float) -> None:
    """In float32, whatever makes the logits large: value and gradients are the reference's in float64."""
    (components, log_prior, weight, bias), target = random_inputs(6, 2, 70, 5)
    assert bias is not None
    if of == "vectors":
        components = components * size / (components @ weight.T).abs().max()
    elif of == "one bias":
        bias[7] = -size
    else:
        bias = bias + (-size if of == "-bias" else size)
    inputs = (components, log_prior, weight, bias)
    found = evaluate(tuple(one.float() for one in inputs), target, impl="chunked")  # type: ignore[arg-type]
    for name, truth in evaluate(inputs, target, impl="reference").items():
        torch.testing.assert_close(found[name].double(), truth, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("rows", [1, 7, 10, 20, 1000])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_chunk_borders(rows: int, reduction: str) -> None:
    """The result does not depend on how many queries a chunk holds: one, a divisor of B, no divisor, B, more than B."""
    inputs, target = random_inputs(20, 3, 11, 5, scale=2.0)
    upstream = torch.linspace(-1, 2, 20, dtype=torch.float64) if reduction == "none" else None
    expected = evaluate(inputs, target, impl="reference", reduction=reduction, upstream=upstream)
    with force_chunks(rows, 3, 11, 8):
        assert tiles.chunk_size(torch.device("cpu"), 3, 11, 8) == rows
        found = evaluate(inputs, target, impl="chunked", reduction=reduction, upstream=upstream)
    assert_equal_in_float64(found, expected)


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(n_items=st.integers(1, 5000), lanes=st.integers(1, 7), widest=st.integers(1, 900), n_rows=st.integers(1, 3))
def test_every_item_has_one_place(n_items: int, lanes: int, widest: int, n_rows: int) -> None:
    """Tiles cut from a table hold every item once, in its place, with padding in the last tile only."""
    cut = tiles.ItemTiles(n_items, lanes, widest)
    table = torch.arange(1, n_items + 1)
    pieces = cut.cut(table)
    assert len(pieces) == cut.n_tiles
    assert torch.cat([piece.flatten() for piece in pieces[:-1]] + [table[:0]]).tolist() == list(
        range(1, (cut.n_tiles - 1) * cut.lanes * cut.width + 1)
    )
    assert (pieces[-1] > 0).any()
    # The logit of row r and item v is r V + v.
    buffer = torch.full((n_rows * cut.n_padded,), -1)
    for piece, view in zip(pieces, cut.buffers(buffer, n_rows), strict=True):
        view.copy_(torch.where(piece[:, None] > 0, piece[:, None] - 1 + n_items * torch.arange(n_rows)[:, None], -1))
    for first in range(0, n_items, 37):
        item = torch.arange(first, first + n_rows).clamp(max=n_items - 1)
        places = cut.places(item, torch.arange(n_rows))
        assert buffer[places].tolist() == (item + n_items * torch.arange(n_rows)).tolist()
    last = cut.buffers(buffer, n_rows)[-1]
    assert bool((last == -1).any()) == (cut.n_padded > n_items)
    cut.fill_padding(last, -2)
    assert not (last == -1).any()
    assert (last == -2).sum() == n_rows * (cut.n_padded - n_items)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("n_items", [63, 64, 200, 1001])
@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("with_bias", [True, False])
def test_tiles_and_threads(
    threads: int, n_items: int, scale: float, with_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result does not depend on how the items are shared out, with padding or without, shifted or not."""
    inputs, target = random_inputs(50, 2, n_items, 5, scale=scale, with_bias=with_bias)
    target[:4] = torch.tensor([0, 63, n_items - 1, n_items // 2]).clamp(max=n_items - 1)
    asked = (True, True, True, with_bias)
    expected = evaluate(inputs, target, impl="reference", asked=asked)
    monkeypatch.setattr(tiles, "_TILE_BYTES", 80 * 14 * 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    with force_chunks(7, 2, n_items, 8):
        found = evaluate(inputs, target, impl="chunked", asked=asked)
    assert_equal_in_float64(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("margin", [0.0, 5.0, 12.0])
def test_probable_targets_in_16_bits(dtype: torch.dtype, margin: float) -> None:
    """With targets of up to almost all the probability, the error of every gradient is of the size of the naive run's
    own, whose log-softmax is in float32; float16, widened, does better."""
    (components, log_prior, weight, _), _ = random_inputs(64, 2, 500, 16, scale=0.5, with_bias=False)
    target = torch.arange(64)
    weight[:64] = components[:, 0] / components[:, 0].norm(dim=1, keepdim=True)
    components = components / components.norm(dim=2, keepdim=True) * max(1.0, margin)
    low = (components.to(dtype), log_prior.float(), weight.to(dtype), None)
    truth = evaluate(tuple(x if x is None else x.double() for x in low), target, impl="reference", asked=(True,) * 4)
    naive, found = (evaluate(low, target, impl=impl) for impl in ("reference", "chunked"))
    for name, exact in truth.items():
        assert found[name].isfinite().all(), name
        error, allowed = ((run[name].double() - exact).abs().max() for run in (found, naive))
        rounding = torch.finfo(dtype).eps * exact.abs().max()
        assert error <= 2 * allowed + rounding, f"{name}: {error} {allowed}"


@pytest.mark.parametrize("wrong", [-100, -1, 7])
@pytest.mark.parametrize("impl", ["chunked", "reference"])
def test_targets_that_are_no_items_are_refused(wrong: int, impl: str) -> None:
    """A negative number does not count from the end."""
    (components, log_prior, weight, _), target = random_inputs(3, 2, 7, 4, with_bias=False)
    target[1] = wrong
    with pytest.raises(ValueError, match=r"expected 0 to 6"):
        mixture_cross_entropy(components, log_prior, weight, target, impl=impl)
    with pytest.raises(ValueError, match=r"expected torch.int64"):
        mixture_cross_entropy(components, log_prior, weight, target.int(), impl=impl)


def test_auto_is_chunked() -> None:
    """The default implementation gives the chunked one's digits."""
    inputs, target = random_inputs(9, 2, 13, 4)
    auto, chunked = (evaluate(inputs, target, impl=impl) for impl in ("auto", "chunked"))
    for name, value in chunked.items():
        assert torch.equal(auto[name], value), name


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_one_component_equals_cross_entropy(reduction: str) -> None:
    """With K = 1 and prior 1, value and gradients are those of torch's cross_entropy on the logits."""
    inputs, target = random_inputs(31, 1, 17, 6, scale=4.0)
    components, _, weight, bias = inputs
    inputs = (components, torch.zeros(31, 1, dtype=torch.float64), weight, bias)
    upstream = torch.randn(31, dtype=torch.float64) if reduction == "none" else None
    found = evaluate(inputs, target, impl="auto", reduction=reduction, upstream=upstream)
    leaves = [tensor.detach().requires_grad_() for tensor in (components, weight, bias)]
    value = functional.cross_entropy(leaves[0][:, 0] @ leaves[1].T + leaves[2], target, reduction=reduction)
    scalar = value.sum() if upstream is None else (value * upstream).sum()
    gradients = torch.autograd.grad(scalar, leaves)
    expected = {"value": value.detach(), **dict(zip(("components", "weight", "bias"), gradients, strict=True))}
    del found["log_prior"]
    assert_equal_in_float64(found, expected)


def test_value_by_hand() -> None:
    """Two components that give the target 1/4 and 3/4, weighted 1/3 and 2/3: the loss is -log(7/12)."""
    components = torch.tensor([[[1.0], [-1.0]]], dtype=torch.float64)
    weight = torch.tensor([[0.0], [0.5]], dtype=torch.float64) * torch.log(torch.tensor(3.0, dtype=torch.float64)) * 2
    log_prior = torch.log(torch.tensor([[1 / 3, 2 / 3]], dtype=torch.float64))
    # Item 0 has logit 0, item 1 has logit ±log 3: item 0 has probability 1/4 and 3/4.
    loss = mixture_cross_entropy(components, log_prior, weight, torch.tensor([0]))
    assert loss.item() == pytest.approx(-torch.log(torch.tensor(7 / 12, dtype=torch.float64)).item(), rel=1e-14)


# How to make a kind of logits out of normal factors.
LOGITS = {
    "moderate": lambda components, weight: (components, weight),
    "ties": lambda components, weight: (components.round(), weight.sign()),
    "all equal": lambda components, weight: (components, weight[:1].expand_as(weight).contiguous()),
    "extreme": lambda components, weight: (components.sign() * 100.0, weight.sign() * 100.0 / weight.shape[1]),
    "extreme and moderate": lambda components, weight: (
        torch.where(components > 0, components, components * 1e4),
        weight,
    ),
}


@settings(max_examples=120, deadline=None, database=None, derandomize=True)
@given(
    n_queries=st.integers(1, 12),
    n_components=st.integers(1, 5),
    n_items=st.integers(1, 9),
    width=st.integers(1, 6),
    rows=st.integers(1, 15),
    logits=st.sampled_from(sorted(LOGITS)),
    switched_off=st.booleans(),
    with_bias=st.booleans(),
    asked=st.tuples(*[st.booleans()] * 4),
    reduction=st.sampled_from(REDUCTIONS),
    seed=st.integers(0, 2**20),
)
def test_equals_the_reference_whatever_the_shape(
    n_queries: int,
    n_components: int,
    n_items: int,
    width: int,
    rows: int,
    logits: str,
    switched_off: bool,
    with_bias: bool,
    asked: tuple[bool, ...],
    reduction: str,
    seed: int,
) -> None:
    """Value and gradients equal the reference's in float64, also with V = 1, B = 1, d = 1, prior weights of 0, ties,
    logits of ±1e4, chunks smaller and larger than the batch, and where some gradients are not asked for."""
    inputs, target = random_inputs(n_queries, n_components, n_items, width, seed=seed, with_bias=with_bias)
    components, log_prior, weight, bias = inputs
    components, weight = LOGITS[logits](components, weight)
    if switched_off:
        generator = torch.Generator().manual_seed(seed)
        kept = torch.rand(n_queries, n_components, generator=generator) < 0.5
        kept[torch.arange(n_queries), torch.randint(n_components, (n_queries,), generator=generator)] = True
        log_prior = log_prior.masked_fill(~kept, -torch.inf)
    asked = (*asked[:3], asked[3] and with_bias)
    upstream = None
    if reduction == "none":
        upstream = torch.randn(n_queries, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    inputs = (components, log_prior, weight, bias)
    options = {"reduction": reduction, "upstream": upstream, "asked": asked}
    expected = evaluate(inputs, target, impl="reference", **options)
    with force_chunks(rows, n_components, n_items, 8):
        found = evaluate(inputs, target, impl="chunked", **options)
    assert_equal_in_float64(found, expected)


def test_component_switched_off_has_no_part() -> None:
    """Components with a prior weight of 0 change neither the loss nor the others' gradients, and have gradient 0."""
    inputs, target = random_inputs(6, 2, 7, 3)
    components, log_prior, weight, bias = inputs
    zero = torch.full((6, 1), -torch.inf, dtype=torch.float64)
    wider = (torch.cat([components, components * 5 + 1], dim=1), torch.cat([log_prior, zero, zero], 1), weight, bias)
    found, expected = (evaluate(each, target, impl="chunked") for each in (wider, inputs))
    assert (found["components"][:, 2:] == 0).all()
    assert (found["log_prior"][:, 2:] == 0).all()
    found["components"], found["log_prior"] = found["components"][:, :2], found["log_prior"][:, :2]
    assert_equal_in_float64(found, expected)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradcheck(reduction: str) -> None:
    """The gradients of all inputs equal finite differences in float64."""
    inputs, target = random_inputs(4, 3, 5, 2, scale=2.0)
    leaves = [tensor.requires_grad_() for tensor in inputs]

    def loss(components, log_prior, weight, bias):
        return mixture_cross_entropy(components, log_prior, weight, target, bias=bias, reduction=reduction)

    with force_chunks(3, 3, 5, 8):
        assert torch.autograd.gradcheck(loss, leaves)


def _error(found: torch.Tensor, truth: torch.Tensor) -> float:
    return (found.double() - truth).norm().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_low_precision_error_is_the_naive_one_at_most(dtype: torch.dtype, scale: float, reduction: str) -> None:
    """In float32 and bf16 the error of the value and of each gradient, in the Euclidean norm and against the float64
    reference on the same rounded inputs, is at most twice that of the reference in the low precision, plus one unit
    in the last place."""
    inputs, target = random_inputs(96, 3, 150, 16, scale=scale, seed=3)
    low = tuple(tensor.to(dtype) for tensor in inputs)
    upstream = torch.randn(96).to(dtype) if reduction == "none" else None
    exact_upstream = None if upstream is None else upstream.double()
    truth = evaluate(
        tuple(tensor.double() for tensor in low), target, impl="reference", reduction=reduction, upstream=exact_upstream
    )
    naive = evaluate(low, target, impl="reference", reduction=reduction, upstream=upstream)
    with force_chunks(40, 3, 150, 4):
        found = evaluate(low, target, impl="chunked", reduction=reduction, upstream=upstream)
    for name in ("value", *NAMES):
        allowed = 2 * _error(naive[name], truth[name]) + torch.finfo(dtype).eps * truth[name].norm().item()
        assert _error(found[name], truth[name]) <= allowed, name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_reference_leaves_16_bits_to_the_products(dtype: torch.dtype) -> None:
    """Its log-softmax is in float32: the error is that of rounded logits, a few units of the logits' last place."""
    inputs, target = random_inputs(96, 3, 150, 16, scale=1.0, seed=3)
    low = tuple(tensor.to(dtype) for tensor in inputs)
    truth = mixture_nll_reference(*(tensor.double() for tensor in low[:3]), target, low[3].double())
    found = mixture_nll_reference(*low[:3], target, low[3])
    assert found.dtype == torch.float32
    logits = low[0].double() @ low[2].double().T
    assert (found - truth).abs().max() < torch.finfo(dtype).eps * logits.abs().max()


@pytest.mark.skipif(not torch.cpu._is_amx_tile_supported(), reason="needs a CPU with AMX")
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_products_in_bfloat16_err_no_more_than_bfloat16_factors(scale: float, reduction: str) -> None:
    """At most twice the error of the naive run in bf16; also where the target takes all of the probability."""
    (components, log_prior, weight, bias), target = random_inputs(96, 3, 150, 64, scale=scale, seed=3)
    components = components + weight[target][:, None] * (3 if scale == 10.0 else 0)
    inputs = tuple(tensor.float() for tensor in (components, log_prior, weight, bias))
    upstream = torch.randn(96) if reduction == "none" else None
    exact_upstream = None if upstream is None else upstream.double()
    options = {"impl": "reference", "reduction": reduction}
    truth = evaluate(tuple(tensor.double() for tensor in inputs), target, upstream=exact_upstream, **options)
    low = tuple(tensor.bfloat16() for tensor in inputs)
    naive = evaluate(low, target, upstream=None if upstream is None else upstream.bfloat16(), **options)
    with force_chunks(40, 3, 150, 4):
        found = evaluate(inputs, target, impl="chunked_bf16", reduction=reduction, upstream=upstream)
        whole = evaluate(inputs, target, impl="chunked", reduction=reduction, upstream=upstream)
    for name in ("value", *NAMES):
        assert _error(found[name], truth[name]) <= 2 * _error(naive[name], truth[name]), name
    assert not torch.equal(found["weight"], whole["weight"]), "nothing ran in bfloat16"
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"


@pytest.mark.skipif(not torch.cpu._is_amx_tile_supported(), reason="needs a CPU with AMX")
@pytest.mark.parametrize(("width", "dtype"), [(16, torch.float32), (64, torch.float64)])
def test_narrow_and_float64_products_never_run_in_bfloat16(width: int, dtype: torch.dtype) -> None:
    inputs, target = random_inputs(40, 2, 50, width)
    typed = tuple(tensor.to(dtype) for tensor in inputs)
    found, expected = (evaluate(typed, target, impl=impl) for impl in ("chunked_bf16", "chunked"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_cpu_without_matrix_units_refuses_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    inputs, target = random_inputs(4, 2, 5, 3)
    with pytest.raises(ValueError, match="'chunked_bf16' needs a CPU with AMX; impl='chunked' runs everywhere"):
        evaluate(inputs, target, impl="chunked_bf16")


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e4])
def test_float32_loss_where_logits_are_large(offset: float) -> None:
    """A number added to all logits changes nothing: the loss keeps the naive float32 run's accuracy at ±1e4.

    The logits are exact in float32 (one factor is 1), so that all of the error is the loss's own. The error allowed is
    twice the naive run's plus two units in the last place of the loss.
    """
    components = torch.ones(6, 2, 1)
    weight = offset + torch.tensor([[0.0], [1.0], [2.0], [-3.0], [0.5], [0.25]])
    log_prior = torch.log_softmax(torch.linspace(-1, 1, 12).view(6, 2), dim=-1)
    target = torch.arange(6)
    truth = mixture_cross_entropy(
        components.double(), log_prior.double(), weight.double(), target, reduction="none", impl="reference"
    )
    naive, found = (
        mixture_cross_entropy(components, log_prior, weight, target, reduction="none", impl=impl)
        for impl in ("reference", "chunked")
    )
    allowed = 2 * (naive.double() - truth).abs().max() + 2 * torch.finfo(torch.float32).eps * truth.abs().max()
    assert (found.double() - truth).abs().max() <= allowed


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_extreme_logits_stay_finite_in_float32(reduction: str) -> None:
    """Logits of ±1e4 give losses of up to 2e4 without overflow or log of zero: everything is finite, and its error is
    at most twice the naive float32 run's plus one unit in the last place (a loss of 2e4 is itself known to 0.002)."""
    components = torch.tensor([[[100.0], [-100.0]], [[100.0], [100.0]], [[-100.0], [-100.0]]])
    weight = torch.tensor([[100.0], [-100.0], [0.0]])
    log_prior = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]]).log()
    inputs, target = (components, log_prior, weight, torch.zeros(3)), torch.tensor([0, 1, 0])
    exact = tuple(tensor.double() for tensor in inputs)
    truth = evaluate(exact, target, impl="reference", reduction=reduction)
    naive, found = (evaluate(inputs, target, impl=impl, reduction=reduction) for impl in ("reference", "chunked"))
    for name, expected in truth.items():
        assert found[name].isfinite().all(), name
        allowed = 2 * _error(naive[name], expected) + torch.finfo(torch.float32).eps * expected.norm().item()
        assert _error(found[name], expected) <= allowed, name


def test_dtypes_of_results() -> None:
    """The loss of bf16 inputs is float32; every gradient has its input's dtype, also where the dtypes differ."""
    inputs, target = random_inputs(5, 2, 6, 3)
    low, single = torch.bfloat16, torch.float32
    mixed = tuple(tensor.to(dtype) for tensor, dtype in zip(inputs, (low, single, low, single), strict=True))
    for reduction in REDUCTIONS:
        found = evaluate(mixed, target, impl="chunked", reduction=reduction)
        assert [found[name].dtype for name in ("value", *NAMES)] == [single, low, single, low, single]


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_inputs_that_are_views(reduction: str) -> None:
    """Transposed, strided and expanded inputs give what contiguous ones give."""
    (components, log_prior, weight, bias), target = random_inputs(10, 3, 8, 4)
    one = components[:, :1]
    contiguous = (one.repeat(1, 3, 1), log_prior, weight, bias)
    views = (
        one.expand(-1, 3, -1),
        log_prior.T.contiguous().T,
        weight.T.contiguous().T,
        torch.stack([bias] * 2, 1)[:, 1],
    )
    strided_target = torch.stack([target, target], dim=1)[:, 0]
    expected = evaluate(contiguous, target, impl="reference", reduction=reduction)
    components, log_prior, weight, bias = (tensor.detach().requires_grad_() for tensor in views)
    loss = mixture_cross_entropy(components, log_prior, weight, strided_target, bias=bias, reduction=reduction)
    gradients = torch.autograd.grad(loss.sum(), (components, log_prior, weight, bias))
    assert_equal_in_float64({"value": loss.detach(), **dict(zip(NAMES, gradients, strict=True))}, expected)


def test_gradients_that_nobody_asks_for() -> None:
    """Inputs that need no gradient get none, the others theirs; under no_grad the loss is the same."""
    inputs, target = random_inputs(5, 2, 6, 3)
    components, log_prior, weight, bias = inputs
    weight.requires_grad_()
    loss = mixture_cross_entropy(components, log_prior, weight, target, bias=bias)
    loss.backward()
    assert components.grad is None
    assert log_prior.grad is None
    assert bias.grad is None
    expected = evaluate(inputs, target, impl="reference")
    torch.testing.assert_close(weight.grad, expected["weight"], rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        plain = mixture_cross_entropy(components, log_prior, weight, target, bias=bias)
    assert not plain.requires_grad
    assert plain.item() == loss.item()


def test_inputs_are_left_alone() -> None:
    """Neither the forward nor the backward pass writes to its inputs, also where a gradient is computed twice."""
    for reduction in REDUCTIONS:
        inputs, target = random_inputs(5, 2, 6, 3)
        copies = [tensor.clone() for tensor in (*inputs, target)]
        first, second = (evaluate(inputs, target, impl="chunked", reduction=reduction) for _ in range(2))
        for tensor, copy in zip((*inputs, target), copies, strict=True):
            assert torch.equal(tensor.detach(), copy)
        for name in first:
            assert torch.equal(first[name], second[name]), name


def test_backward_twice_through_a_kept_graph() -> None:
    """With retain_graph a second backward pass gives the same gradients again."""
    for reduction in REDUCTIONS:
        inputs, target = random_inputs(5, 2, 6, 3)
        leaves = [tensor.requires_grad_() for tensor in inputs]
        loss = mixture_cross_entropy(*leaves[:3], target, bias=leaves[3], reduction=reduction).sum()
        first = torch.autograd.grad(loss, leaves, retain_graph=True)
        second = torch.autograd.grad(2 * loss, leaves)
        for once, twice in zip(first, second, strict=True):
            torch.testing.assert_close(2 * once, twice, rtol=1e-14, atol=0)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_nothing_as_large_as_the_logits_is_kept(reduction: str) -> None:
    """What autograd holds between forward and backward is no larger than the inputs: no B x K x V buffer."""
    inputs, target = random_inputs(30, 2, 200, 3)
    leaves = [tensor.requires_grad_() for tensor in inputs]
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), force_chunks(4, 2, 200, 8):
        mixture_cross_entropy(*leaves[:3], target, bias=leaves[3], reduction=reduction)
    assert kept
    assert sum(kept) <= sum(tensor.numel() for tensor in (*inputs, target))


def test_no_queries() -> None:
    """Of no queries the sum is 0 with gradients of 0, "none" is empty, and the mean is NaN as in torch."""
    inputs, target = random_inputs(0, 2, 5, 3)
    total = evaluate(inputs, target, impl="chunked", reduction="sum")
    assert total["value"].item() == 0
    assert (total["weight"] == 0).all()
    assert total["components"].shape == (0, 2, 3)
    assert evaluate(inputs, target, impl="chunked", reduction="none")["value"].shape == (0,)
    assert evaluate(inputs, target, impl="chunked", asked=(False,) * 4)["value"].isnan()


WRONG: dict[str, Callable[[Inputs, torch.Tensor], tuple[tuple, dict]]] = {
    "components": lambda i, t: ((i[0][:, 0], i[1], i[2], t), {}),
    "weight": lambda i, t: ((i[0], i[1], i[2][:, :2], t), {}),
    r"expected \[V, d\]|and \[V, d\]": lambda i, t: ((i[0], i[1], i[2][0], t), {}),
    "log_prior": lambda i, t: ((i[0], i[1][:, :1], i[2], t), {}),
    "log_prior is": lambda i, t: ((i[0], i[1][:, 0], i[2], t), {}),
    "target": lambda i, t: ((i[0], i[1], i[2], t[:-1]), {}),
    "target is": lambda i, t: ((i[0], i[1], i[2], t[:, None]), {}),
    "bias": lambda i, t: ((i[0], i[1], i[2], t), {"bias": i[3][:-1]}),
    "bias is": lambda i, t: ((i[0], i[1], i[2], t), {"bias": i[3][:, None]}),
    "reduction is 'max'": lambda i, t: ((i[0], i[1], i[2], t), {"reduction": "max"}),
    "impl is 'fast'": lambda i, t: ((i[0], i[1], i[2], t), {"impl": "fast"}),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments(message: str) -> None:
    """A shape that does not fit, an unknown reduction and an unknown implementation raise a ValueError that says so."""
    arguments, options = WRONG[message](*random_inputs(4, 2, 5, 3))
    with pytest.raises(ValueError, match=message):
        mixture_cross_entropy(*arguments, **options)


@pytest.mark.parametrize("impl", ["chunked", "reference"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_autocast(impl: str, reduction: str) -> None:
    """Under bf16 autocast the products are bf16's: the loss is that of bf16 factors, within 1 % of the float32 loss;
    the chunked loss is float32 and finite, and the float32 leaves get finite float32 gradients within 5 %."""
    inputs, target = random_inputs(64, 3, 120, 16, scale=3.0)
    single = tuple(tensor.float() for tensor in inputs)
    exact = evaluate(single, target, impl=impl, reduction=reduction)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = evaluate(single, target, impl=impl, reduction=reduction)
    components, log_prior, weight, bias = single
    rounded = (components.bfloat16(), log_prior, weight.bfloat16(), bias)
    assert torch.equal(found["value"], evaluate(rounded, target, impl=impl, reduction=reduction)["value"])
    assert found["value"].dtype == torch.float32
    assert not torch.equal(found["value"], exact["value"])
    for name, tolerance in {"value": 0.01, **dict.fromkeys(NAMES, 0.05)}.items():
        assert found[name].dtype == torch.float32, name
        assert found[name].isfinite().all(), name
        assert (found[name] - exact[name]).norm() <= tolerance * exact[name].norm(), name


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradient_of_gradient_is_refused(reduction: str) -> None:
    """Differentiating a gradient raises instead of returning zeros."""
    inputs, target = random_inputs(4, 2, 5, 3)
    components, log_prior, weight, bias = (tensor.requires_grad_() for tensor in inputs)

    def penalty() -> None:
        loss = mixture_cross_entropy(components, log_prior, weight, target, bias=bias, reduction=reduction).sum()
        (gradient,) = torch.autograd.grad(loss, components, create_graph=True)
        gradient.square().sum().backward()

    with pytest.raises(RuntimeError):
        penalty()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradient_penalty_is_refused(reduction: str) -> None:
    """A loss plus a penalty on its gradient raises too: it must not silently train without the penalty."""
    inputs, target = random_inputs(4, 2, 5, 3)
    components, log_prior, weight, bias = (tensor.requires_grad_() for tensor in inputs)

    def penalised() -> None:
        loss = mixture_cross_entropy(components, log_prior, weight, target, bias=bias, reduction=reduction).sum()
        (gradient,) = torch.autograd.grad(loss, components, create_graph=True)
        (loss + gradient.square().sum()).backward()

    with pytest.raises(RuntimeError):
        penalised()


def test_reference_has_gradients_of_gradients() -> None:
    """What the chunked implementation refuses, the reference does: gradgradcheck passes."""
    inputs, target = random_inputs(2, 2, 3, 2)
    leaves = [tensor.requires_grad_() for tensor in inputs]
    assert torch.autograd.gradgradcheck(
        lambda c, p, w, b: mixture_cross_entropy(c, p, w, target, bias=b, impl="reference"), leaves
    )
