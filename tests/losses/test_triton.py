"""Loss and target ranks by Triton's kernels, in its interpreter, against the reference; and what its compiler makes."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from built import build, redraw
from hypothesis import given, settings
from hypothesis import strategies as st
from test_losses import LOGITS, NAMES, REDUCTIONS, Inputs, evaluate, random_inputs
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mos_recbole.errors import InputError
from mos_recbole.evaluation import ScoreIsNaN, TargetRanks, rank_targets
from mos_recbole.experiment import run_experiment
from mos_recbole.heads import SoftmaxHead
from mos_recbole.heads.counter import MixtureCounter
from mos_recbole.losses import mixture_cross_entropy

pytest.importorskip("triton", reason="Triton is there for Linux on x86-64 only")

# conftest.py has set TRITON_INTERPRET, before anything could import Triton.
from mos_recbole.losses import triton_mixture, triton_ranks

# What overflows in the interpreter does so on a GPU too, without a word.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")


@pytest.fixture(autouse=True, scope="module")
def small_tiles() -> Any:
    """Tiles of 16, so that small inputs have several in every direction."""
    small = triton_mixture.Blocks(rows=16, items=16, width=16, warps=4)
    with pytest.MonkeyPatch.context() as patch:
        for key in triton_mixture._LARGEST:
            patch.setitem(triton_mixture._LARGEST, key, small)
        patch.setattr(triton_ranks, "_SPAN", 32)
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
@pytest.mark.parametrize(
    ("n_components", "width", "with_bias"), [(1, 16, True), (1, 5, False), (4, 5, True), (3, 40, False)]
)
def test_equals_the_reference(reduction: str, n_components: int, width: int, with_bias: bool) -> None:
    """Value and all gradients in float32, for every reduction, with more columns than a tile has and with fewer."""
    inputs, target = random_inputs(13, n_components, 37, width, scale=3.0, with_bias=with_bias)
    upstream = torch.linspace(-1, 2, 13) if reduction == "none" else None
    asked = (True, True, True, with_bias)
    assert_as_good_as_naive(lower(inputs, torch.float32), target, reduction=reduction, upstream=upstream, asked=asked)


@settings(max_examples=25)
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


def _process(folder: Path, *arguments: str) -> str:
    """Returns what a Python process prints in which Triton is not told to interpret, but to keep its files in a
    folder."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(folder)
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_cpu_without_the_interpreter(tmp_path: Path) -> None:
    """The loss is refused with one message; the other implementations have not imported Triton."""
    said = _process(
        tmp_path,
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
    assert message.startswith("impl='triton' needs a CUDA device, not 'cpu'; impl='chunked' runs everywhere")


def ranks_by_hand(
    inputs: Inputs,
    target: torch.Tensor,
    seen: tuple[torch.Tensor, torch.Tensor] | None = None,
    top_k: int = 0,
    excluded: torch.Tensor | None = None,
) -> TargetRanks:
    """Returns the ranks by the definition, from log-probabilities in float64."""
    components, log_prior, weight, bias = (None if tensor is None else tensor.double() for tensor in inputs)
    logits = components @ weight.T + (0.0 if bias is None else bias)
    log_prob = torch.logsumexp(logits.log_softmax(-1) + log_prior[..., None], dim=1)
    is_candidate = torch.ones_like(log_prob, dtype=torch.bool)
    if seen is not None:
        is_candidate[seen] = False
        is_candidate.scatter_(1, target[:, None], True)
    is_candidate[:, 0] = False
    if excluded is not None:
        is_candidate &= ~excluded
    target_score = log_prob.gather(1, target[:, None])
    better = (is_candidate & (log_prob > target_score)).sum(dim=1)
    tied = (is_candidate & (log_prob == target_score)).sum(dim=1) - 1
    top_items = log_prob.masked_fill(~is_candidate, -torch.inf).topk(top_k).indices if top_k else None
    found = TargetRanks(better, tied, is_candidate.sum(dim=1), target_score.squeeze(1), top_items)
    return found if excluded is None else found.without(excluded[target])


def assert_same_ranks(found: TargetRanks, expected: TargetRanks) -> None:
    for name in ("better", "tied", "n_candidates"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    difference = (found.target_score.double() - expected.target_score).abs()
    allowed = 1e-5 * (1 + expected.target_score.abs())
    assert (torch.isnan(expected.target_score) | (difference <= allowed)).all()
    assert torch.equal(found.target_score.isnan(), expected.target_score.isnan())
    assert (found.top_items is None) == (expected.top_items is None)
    if expected.top_items is not None:
        assert torch.equal(found.top_items.long(), expected.top_items)


@settings(max_examples=15)
@given(
    n_queries=st.integers(1, 18),
    n_components=st.integers(1, 4),
    n_items=st.integers(4, 70),
    width=st.integers(1, 20),
    scale=st.sampled_from([0.3, 3.0, 30.0]),
    with_bias=st.booleans(),
    with_seen=st.booleans(),
    with_excluded=st.booleans(),
    top_k=st.sampled_from([0, 2]),
    n_chunk=st.integers(1, 20),
    seed=st.integers(0, 2**20),
)
def test_ranks_are_those_of_the_definition(
    n_queries: int,
    n_components: int,
    n_items: int,
    width: int,
    scale: float,
    with_bias: bool,
    with_seen: bool,
    with_excluded: bool,
    top_k: int,
    n_chunk: int,
    seed: int,
) -> None:
    """Ranks, numbers of candidates, log-probabilities and best items, whatever is no candidate, in chunks or not."""
    inputs, target = random_inputs(n_queries, n_components, n_items, width, seed=seed, scale=scale, with_bias=with_bias)
    inputs, target = lower(inputs, torch.float32), target.clamp(min=1)
    generator = torch.Generator().manual_seed(seed)
    seen = excluded = None
    if with_seen:
        # Repeated pairs, the padding and targets among them.
        pairs = torch.randint(n_queries, (3 * n_queries,), generator=generator).sort().values
        seen = pairs, torch.randint(n_items, (3 * n_queries,), generator=generator)
    if with_excluded:
        excluded = torch.rand(n_items, generator=generator) < 0.3
        excluded[-2:] = False
    components, log_prior, weight, bias = inputs
    if n_components > 2:
        log_prior = log_prior.clone()
        log_prior[:, 1] = -torch.inf
    counter = MixtureCounter(weight, bias)
    counter.n_queries = n_chunk
    found = rank_targets(counter, (components, log_prior), target, seen, top_k, excluded)
    expected = ranks_by_hand((components, log_prior, weight, bias), target, seen, top_k, excluded)
    if top_k:
        # Beyond the candidates the order means nothing.
        expected.top_items[expected.n_candidates < top_k] = -1
        found.top_items[expected.n_candidates < top_k] = -1
    assert_same_ranks(found, expected)


@pytest.mark.parametrize("n_components", [1, 3])
def test_equal_items_are_tied(n_components: int) -> None:
    """Items with the same vector have the same score to the last bit, wherever their tiles are."""
    generator = torch.Generator().manual_seed(4)
    components = torch.randint(-2, 3, (20, n_components, 3), generator=generator).float()
    log_prior = torch.log_softmax(torch.randn(20, n_components, generator=generator), dim=-1)
    distinct = torch.randint(-2, 3, (9, 3), generator=generator).float()
    inputs, target = (components, log_prior, distinct.repeat(6, 1), None), torch.arange(20) + 1
    found = rank_targets(MixtureCounter(inputs[2], None), inputs[:2], target, None, 0)
    expected = ranks_by_hand(inputs, target)
    assert (expected.tied >= 4).all()
    # Of several components, probabilities that differ in the last bits only may be tied.
    log_prob = torch.logsumexp((components @ distinct.T).log_softmax(-1) + log_prior[..., None], dim=1)
    gap = (log_prob[:, :, None] - log_prob[:, None, :]).abs() + torch.eye(9)
    clear = ((gap > 1e-4) | (distinct[:, None] == distinct).all(dim=-1)).all(dim=-1).all(dim=-1)
    clear |= n_components == 1
    assert clear.sum() >= 3
    assert torch.equal(found.better[clear], expected.better[clear])
    assert torch.equal(found.tied[clear], expected.tied[clear])


def test_ranks_of_targets_whose_probability_float32_does_not_know() -> None:
    """Targets of probability e^-1000 are told apart, as are the items around them."""
    components, weight = (
        torch.tensor([[[1.0], [0.5]]]),
        torch.tensor([[0.0], [0.0], *([-100.0 * i] for i in range(1, 31))]),
    )
    log_prior = torch.tensor([[0.5, 0.5]]).log()
    inputs = (components.expand(30, -1, -1), log_prior.expand(30, -1), weight, None)
    target = torch.arange(2, 32)
    found = rank_targets(MixtureCounter(weight, None), inputs[:2], target, None, 0)
    assert found.better.tolist() == list(range(1, 31))
    assert_same_ranks(found, ranks_by_hand(inputs, target))


def test_ranks_where_a_bias_rules_items_out() -> None:
    """An item of probability 0 is a candidate: below all others, tied with its like, above those that are none."""
    inputs, _ = random_inputs(4, 2, 20, 3)
    components, log_prior, weight, bias = lower(inputs, torch.float32)
    bias[5:8] = -torch.inf
    target, excluded = torch.tensor([5, 6, 7, 8]), torch.zeros(20, dtype=torch.bool)
    excluded[9] = True
    for n_components in (1, 2):
        queries = (components[:, :n_components].contiguous(), log_prior[:, :n_components].log_softmax(-1))
        found = rank_targets(MixtureCounter(weight, bias), queries, target, None, 18, excluded)
        assert found.better[:3].tolist() == [15] * 3
        assert found.tied[:3].tolist() == [2] * 3
        assert found.tied[3] == 0
        assert found.better[3] < 15
        assert found.target_score[:3].isneginf().all()
        assert (found.top_items[:, 15:].sort().values == torch.tensor([5, 6, 7])).all()


def test_ranks_in_bfloat16() -> None:
    """bf16 factors are ranked by exact products of theirs."""
    inputs, target = random_inputs(20, 3, 50, 20, scale=3.0)
    low, target = lower(inputs, torch.bfloat16), target.clamp(min=1)
    found = rank_targets(MixtureCounter(low[2], low[3]), low[:2], target, None, 5)
    assert_same_ranks(found, ranks_by_hand(low, target, top_k=5))


@pytest.mark.parametrize("place", ["components", "weight"])
def test_nan_has_no_rank(place: str) -> None:
    """A score that is NaN is refused, be it the target's or another's."""
    inputs, target = random_inputs(5, 2, 20, 3)
    components, log_prior, weight, bias = lower(inputs, torch.float32)
    {"components": components[3, 1], "weight": weight[11]}[place][0] = torch.nan
    expected = {"components": "query 3", "weight": "query 0"}[place]
    with pytest.raises(ScoreIsNaN, match=expected):
        rank_targets(MixtureCounter(weight, bias), (components, log_prior), target.clamp(min=1), None, 0)


def test_memory_of_ranks() -> None:
    """Without seen items and best items, nothing is of the size of queries x items."""
    inputs, target = random_inputs(30, 2, 150, 2)
    components, log_prior, weight, bias = lower(inputs, torch.float32)
    with _LargestTensor() as largest:
        rank_targets(MixtureCounter(weight, bias), (components, log_prior), target.clamp(min=1), None, 0)
    assert largest.numel <= 4 * 150 * 2 < 30 * 150


def test_a_model_trains_and_ranks(toy: Path, tmp_path: Path) -> None:
    """With `loss_impl: triton` a run ends as with the default, but for rounding."""
    options = {"embedding_size": 4, "hidden_size": 4, "mos_heads": 2, "epochs": 1, "item_bias": True, "device": "cpu"}
    options |= {
        "MAX_ITEM_LIST_LENGTH": 5,
        "train_batch_size": 256,
        "filter_seen": True,
        "topk": [5],
        "valid_metric": "NDCG@5",
    }
    found, expected = (
        run_experiment("GRU4RecMoS", str(toy), output=tmp_path / impl, loss_impl=impl, **options)
        for impl in ("triton", "chunked")
    )
    assert found.run_id != expected.run_id
    assert found.protocol_hash == expected.protocol_hash
    for name, metric in expected.test.items():
        assert found.test[name].value == pytest.approx(metric.value, rel=1e-4), name
    ours, theirs = found.outcomes(), expected.outcomes()
    assert (ours["log_probability"] - theirs["log_probability"]).abs().max() < 1e-4


def test_setting(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that are mixtures of dot products take `loss_impl`; others refuse all but the default, and a machine
    without Triton refuses it in one sentence."""
    built = build("GRU4RecMoS", toy, loss_impl="triton")
    redraw(built.model)
    assert isinstance(built.model.head.scorer(built.model.item_table), MixtureCounter)
    assert SoftmaxHead(3, 2).loss_impl == "auto"
    assert build("GRU4RecMixtape", toy).model.n_items == built.model.n_items
    with pytest.raises(InputError, match="expected 'auto': Mixtape is no mixture of dot products"):
        build("GRU4RecMixtape", toy, loss_impl="triton")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="loss_impl is 'triton': impl='triton' needs the package triton"):
        build("GRU4RecMoS", toy, loss_impl="triton")


# Shared memory of a program in KiB, by compute capability.
SHARED = {80: 163, 90: 227}


def assert_compile_and_fit(folder: Path, operands: str, width: int, capability: int, bias: str) -> None:
    """Asserts that the kernels compile, fit a multiprocessor, and use tensor cores for all but exact float32."""
    script = str(Path(__file__).parents[1] / "compile_kernels.py")
    said = _process(folder, script, operands, str(width), str(capability), bias)
    kernels = [json.loads(line) for line in said.splitlines()]
    assert len(kernels) == 5
    for kernel in kernels:
        assert kernel["shared_KiB"] <= SHARED[capability], kernel
        # Some registers, such as a tile's pointers, are put aside and taken back once a tile; most by the ranks.
        assert kernel["spilled"] <= 160, kernel
        assert kernel["tensor_cores"] == (operands != "ieee"), kernel


def test_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    """With bfloat16 factors of width 64 they compile for a compute capability of 9.0, and fit."""
    assert_compile_and_fit(tmp_path, "bfloat16", 64, 90, "none")


@pytest.mark.slow
@pytest.mark.parametrize("operands", ["bfloat16", "tf32", "ieee"])
@pytest.mark.parametrize("width", [100, 128, 264])
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("bias", ["bias", "none"])
def test_kernels_compile_for_gpus(operands: str, width: int, capability: int, bias: str, tmp_path: Path) -> None:
    """They compile and fit for other widths, types and GPUs."""
    assert_compile_and_fit(tmp_path, operands, width, capability, bias)
