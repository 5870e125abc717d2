"""The Triton implementation of the loss in Triton's interpreter, against the reference; and what its compiler makes."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_losses import LOGITS, NAMES, REDUCTIONS, Inputs, evaluate, random_inputs
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mos_recbole.losses import mixture_cross_entropy

pytest.importorskip("triton", reason="Triton is there for Linux on x86-64 only")

# conftest.py has set TRITON_INTERPRET, before anything could import Triton.
from mos_recbole.losses import triton_mixture


@pytest.fixture(autouse=True, scope="module")
def small_tiles() -> Any:
    """Tiles of 16, so that small inputs have several in every direction."""
    small = triton_mixture.Blocks(rows=16, items=16, width=16, warps=4)
    with pytest.MonkeyPatch.context() as patch:
        for key in triton_mixture._LARGEST:
            patch.setitem(triton_mixture._LARGEST, key, small)
        yield


def assert_as_good_as_naive(inputs: Inputs, target: torch.Tensor, units: float = 2.0, **options: Any) -> None:
    """Asserts that the error of the value and of each gradient, in the Euclidean norm and against the float64
    reference on the same inputs, is at most twice the reference's in the inputs' own precision, plus `units` units in
    the last place."""
    exact = tuple(None if tensor is None else tensor.double() for tensor in inputs)
    upstream = options.pop("upstream", None)
    exact_upstream = None if upstream is None else upstream.double()
    truth = evaluate(exact, target, impl="reference", upstream=exact_upstream, **options)
    naive = evaluate(inputs, target, impl="reference", upstream=upstream, **options)
    found = evaluate(inputs, target, impl="triton", upstream=upstream, **options)
    dtypes = dict(zip(("value", *NAMES), (torch.float32, *(x is not None and x.dtype for x in inputs)), strict=True))
    assert found.keys() == truth.keys()
    for name, expected in truth.items():
        assert found[name].dtype == dtypes[name], name
        assert found[name].shape == expected.shape, name
        assert found[name].isfinite().all(), name
        error, allowed = ((run[name].double() - expected).norm().item() for run in (found, naive))
        rounding = units * torch.finfo(inputs[2].dtype).eps * expected.norm().item()
        assert error <= 2 * allowed + rounding, f"{name}: {error}, naive {allowed}, rounding {rounding}"


def lower(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """Returns the factors of the logits in a type, log_prior and bias in float32."""
    components, log_prior, weight, bias = inputs
    return components.to(dtype), log_prior.float(), weight.to(dtype), None if bias is None else bias.float()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("n_components", "width"), [(1, 16), (4, 5), (3, 50)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_equals_the_reference(reduction: str, n_components: int, width: int, with_bias: bool) -> None:
    """Value and all gradients in float32, for every reduction, with more columns than a tile has and with fewer."""
    inputs, target = random_inputs(13, n_components, 37, width, scale=3.0, with_bias=with_bias)
    upstream = torch.linspace(-1, 2, 13) if reduction == "none" else None
    asked = (True, True, True, with_bias)
    assert_as_good_as_naive(lower(inputs, torch.float32), target, reduction=reduction, upstream=upstream, asked=asked)


@settings(max_examples=40)
@given(
    n_queries=st.integers(1, 12),
    n_components=st.integers(1, 5),
    n_items=st.integers(1, 35),
    width=st.integers(1, 20),
    logits=st.sampled_from(sorted(LOGITS)),
    switched_off=st.booleans(),
    with_bias=st.booleans(),
    asked=st.tuples(*[st.booleans()] * 4),
    seed=st.integers(0, 2**20),
)
def test_equals_the_reference_whatever_the_shape(
    n_queries: int,
    n_components: int,
    n_items: int,
    width: int,
    logits: str,
    switched_off: bool,
    with_bias: bool,
    asked: tuple[bool, ...],
    seed: int,
) -> None:
    """In float32, also with V = 1, B = 1, d = 1, prior weights of 0, ties, logits of ±1e4, and where some gradients are
    not asked for."""
    inputs, target = random_inputs(n_queries, n_components, n_items, width, seed=seed, with_bias=with_bias)
    components, log_prior, weight, bias = lower(inputs, torch.float32)
    components, weight = LOGITS[logits](components, weight)
    generator = torch.Generator().manual_seed(seed)
    if switched_off:
        kept = torch.rand(n_queries, n_components, generator=generator) < 0.5
        kept[torch.arange(n_queries), torch.randint(n_components, (n_queries,), generator=generator)] = True
        log_prior = log_prior.masked_fill(~kept, -torch.inf)
    # An upstream gradient of its own for every query.
    upstream = torch.randn(n_queries, generator=generator)
    assert_as_good_as_naive(
        (components, log_prior, weight, bias),
        target,
        units=4.0,
        reduction="none",
        upstream=upstream,
        asked=(*asked[:3], asked[3] and with_bias),
    )


@pytest.mark.parametrize(("scale", "reduction"), [(0.1, "sum"), (1.0, "mean"), (10.0, "none"), (100.0, "mean")])
def test_bfloat16(scale: float, reduction: str) -> None:
    """The error with bf16 factors is of the size of the naive bf16 run's own."""
    inputs, target = random_inputs(24, 2, 40, 20, scale=scale, seed=3)
    upstream = torch.linspace(-1, 2, 24) if reduction == "none" else None
    assert_as_good_as_naive(lower(inputs, torch.bfloat16), target, reduction=reduction, upstream=upstream)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("margin", [1.0, 5.0, 12.0])
def test_probable_targets(dtype: torch.dtype, margin: float) -> None:
    """With targets of up to almost all the probability, gradients keep their accuracy."""
    (components, log_prior, weight, _), _ = random_inputs(20, 2, 70, 16, scale=0.5, with_bias=False)
    weight[:20] = components[:, 0] / components[:, 0].norm(dim=1, keepdim=True)
    components = components / components.norm(dim=2, keepdim=True) * margin
    inputs = lower((components, log_prior, weight, None), dtype)
    assert_as_good_as_naive(inputs, torch.arange(20), asked=(True, True, True, False))


def test_improbable_others_have_a_gradient() -> None:
    """Where the others' probability, e^-30, drowns beside 1, the gradient is not 0, as p - 1 would be."""
    components, log_prior = torch.ones(1, 1, 1), torch.zeros(1, 1)
    weight, target = torch.tensor([[30.0], [0.0], [0.0]]), torch.tensor([0])
    found = evaluate((components, log_prior, weight, None), target, impl="triton", asked=(True, False, True, False))
    other = torch.exp(torch.tensor(-30.0))
    torch.testing.assert_close(found["weight"], torch.tensor([[-2.0], [1.0], [1.0]]) * other)
    torch.testing.assert_close(found["components"].view(1), -60 * other[None])


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e4])
def test_loss_where_logits_are_large(offset: float) -> None:
    """A number added to all logits, which are exact in float32, changes nothing."""
    components, weight = torch.ones(6, 2, 1), offset + torch.tensor([[0.0], [1.0], [2.0], [-3.0], [0.5], [0.25]])
    log_prior = torch.log_softmax(torch.linspace(-1, 1, 12).view(6, 2), dim=-1)
    inputs = (components, log_prior, weight, None)
    assert_as_good_as_naive(inputs, torch.arange(6), reduction="none", asked=(False,) * 4)


def test_items_that_a_bias_rules_out() -> None:
    """A bias of -inf takes items out, be it a whole tile of them."""
    inputs, target = random_inputs(9, 2, 37, 6)
    components, log_prior, weight, bias = lower(inputs, torch.float32)
    bias[:20] = -torch.inf
    assert_as_good_as_naive((components, log_prior, weight, bias), target.clamp(min=20))


def test_component_switched_off_has_gradient_0() -> None:
    """Components with a prior weight of 0 have no gradient, to the last bit."""
    inputs, target = random_inputs(6, 3, 20, 3)
    components, log_prior, weight, bias = lower(inputs, torch.float32)
    log_prior[:, 1] = -torch.inf
    found = evaluate((components, log_prior, weight, bias), target, impl="triton")
    assert (found["components"][:, 1] == 0).all()
    assert (found["log_prior"][:, 1] == 0).all()


def test_every_run_gives_the_same_bits() -> None:
    """Nothing is added up in an order that chance decides, and inputs are left alone."""
    inputs, target = random_inputs(20, 2, 40, 6)
    low = lower(inputs, torch.bfloat16)
    copies = [tensor.clone() for tensor in low]
    first, second = (evaluate(low, target, impl="triton") for _ in range(2))
    for name in first:
        assert torch.equal(first[name], second[name]), name
    for tensor, copy in zip(low, copies, strict=True):
        assert torch.equal(tensor, copy)


def test_inputs_that_are_views() -> None:
    """Transposed, strided and expanded inputs give what contiguous ones give."""
    inputs, target = random_inputs(10, 3, 8, 4)
    components, log_prior, weight, bias = lower(inputs, torch.float32)
    contiguous = (components[:, :1].repeat(1, 3, 1), log_prior, weight, bias)
    views = (
        components[:, :1].expand(-1, 3, -1),
        log_prior.T.contiguous().T,
        weight.T.contiguous().T,
        torch.stack([bias] * 2, 1)[:, 1],
    )
    strided_target = torch.stack([target, target], dim=1)[:, 0]
    found, expected = evaluate(views, strided_target, impl="triton"), evaluate(contiguous, target, impl="triton")
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


class _LargestTensor(TorchDispatchMode):
    """Notes the size of the largest tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = operation(*arguments, **(options or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.numel = max(self.numel, *sizes, 0)
        return result


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_memory(reduction: str) -> None:
    """No tensor is larger than the larger of the two factors (whose bytes the interpreter copies): none of queries x
    items."""
    inputs, target = random_inputs(30, 2, 150, 2)
    with _LargestTensor() as largest:
        evaluate(lower(inputs, torch.float32), target, impl="triton", reduction=reduction)
    assert largest.numel == 4 * 150 * 2 < 30 * 150
    with _LargestTensor() as largest:
        evaluate(lower(inputs, torch.float32), target, impl="reference", reduction=reduction)
    assert largest.numel >= 30 * 2 * 150


def test_no_queries() -> None:
    """Of no queries the sum is 0 with gradients of 0, "none" is empty, and the mean is NaN as in torch."""
    inputs, target = random_inputs(0, 2, 5, 3)
    low = lower(inputs, torch.float32)
    total = evaluate(low, target, impl="triton", reduction="sum")
    assert total["value"].item() == 0
    assert (total["weight"] == 0).all()
    assert total["components"].shape == (0, 2, 3)
    assert evaluate(low, target, impl="triton", reduction="none")["value"].shape == (0,)
    assert evaluate(low, target, impl="triton", asked=(False,) * 4)["value"].isnan()


def test_autocast() -> None:
    """Under bf16 autocast the loss is that of bf16 factors, and float32 leaves get float32 gradients."""
    inputs, target = random_inputs(12, 2, 40, 6)
    single = lower(inputs, torch.float32)
    rounded = evaluate(lower(inputs, torch.bfloat16), target, impl="triton")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = evaluate(single, target, impl="triton")
    assert torch.equal(found["value"], rounded["value"])
    for name in NAMES:
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], rounded[name].float()), name


def test_float32_products_follow_pytorchs_setting() -> None:
    """TF32 is used for float32 only, and only where PyTorch's own products on a GPU use it."""
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert triton_mixture.product_precision(torch.float32) == "tf32"
        assert triton_mixture.product_precision(torch.bfloat16) == "ieee"
        torch.set_float32_matmul_precision("highest")
        assert triton_mixture.product_precision(torch.float32) == "ieee"
    finally:
        torch.set_float32_matmul_precision(before)


def test_gradient_of_gradient_is_refused() -> None:
    """Differentiating a gradient raises instead of returning zeros."""
    inputs, target = random_inputs(4, 2, 5, 3)
    components, log_prior, weight, bias = (tensor.requires_grad_() for tensor in lower(inputs, torch.float32))
    loss = mixture_cross_entropy(components, log_prior, weight, target, bias=bias, impl="triton")
    with pytest.raises(RuntimeError, match="reference"):
        torch.autograd.grad(loss, components, create_graph=True)


@pytest.mark.parametrize(
    ("components", "weight"),
    [(torch.float64, torch.float64), (torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)],
)
def test_types_that_the_kernels_do_not_know(components: torch.dtype, weight: torch.dtype) -> None:
    """The message names the types and what takes them."""
    inputs, target = random_inputs(4, 2, 5, 3)
    with pytest.raises(ValueError, match=f"not {components} and {weight}; impl='chunked' runs everywhere"):
        mixture_cross_entropy(inputs[0].to(components), inputs[1], inputs[2].to(weight), target, impl="triton")


def test_float16_is_widened() -> None:
    """As by the other implementations: the loss of float16 factors is the float32 loss of the same numbers."""
    inputs, target = random_inputs(4, 2, 20, 3)
    low = lower(inputs, torch.float16)
    wide = (low[0].float(), low[1], low[2].float(), low[3])
    found, expected = (evaluate(each, target, impl="triton")["value"] for each in (low, wide))
    assert torch.equal(found, expected)


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Triton is not installed, the message says so, and what to do instead."""
    inputs, target = random_inputs(4, 2, 5, 3)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package triton.*'chunked'"):
        mixture_cross_entropy(*inputs[:3], target, impl="triton")


def _process(*arguments: str) -> str:
    """Returns what a Python process prints in which Triton is not told to interpret."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_cpu_without_the_interpreter() -> None:
    """The loss is refused with one message; the other implementations have not imported Triton."""
    said = _process(
        "-c",
        "import sys, torch\n"
        "from mos_recbole.losses import mixture_cross_entropy\n"
        "arguments = torch.ones(1, 1, 2), torch.zeros(1, 1), torch.ones(3, 2), torch.tensor([0])\n"
        "mixture_cross_entropy(*arguments)\n"
        "print('mos_recbole.losses.triton_kernels' in sys.modules)\n"
        "try:\n"
        "    mixture_cross_entropy(*arguments, impl='triton')\n"
        "except ValueError as error:\n"
        "    print(error)\n",
    )
    imported, message = said.splitlines()
    assert imported == "False"
    assert message.startswith("impl='triton' needs a CUDA device, and the item table's is 'cpu'; impl='chunked' runs")


# Shared memory of a program in KiB, by compute capability.
SHARED = {80: 163, 90: 227}


def compiled(operands: str, width: int, capability: int) -> list[dict[str, Any]]:
    """Returns what the compiled kernels take of a GPU."""
    script = Path(__file__).parent / "compile_kernels.py"
    return [json.loads(line) for line in _process(str(script), operands, str(width), str(capability)).splitlines()]


def assert_fits(kernels: list[dict[str, Any]], operands: str, capability: int) -> None:
    assert len(kernels) == 3
    for kernel in kernels:
        assert kernel["shared_KiB"] <= SHARED[capability], kernel
        # A few spilled registers, of a tile's pointers, are reloaded once a tile.
        assert kernel["spilled"] <= 32, kernel
        assert kernel["tensor_cores"] == (operands != "ieee"), kernel


def test_kernels_compile_for_a_gpu() -> None:
    """With bfloat16 factors of width 64 they compile for a compute capability of 9.0, and fit."""
    assert_fits(compiled("bfloat16", 64, 90), "bfloat16", 90)


@pytest.mark.slow
@pytest.mark.parametrize("operands", ["bfloat16", "tf32", "ieee"])
@pytest.mark.parametrize("width", [64, 100, 128, 264])
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_gpus(operands: str, width: int, capability: int) -> None:
    """They compile and fit for other widths, types and GPUs."""
    assert_fits(compiled(operands, width, capability), operands, capability)
