"""The sampled loss and its proposals: the formula, what is exact on average, what it converges to, and training."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from scipy import stats

from mos_recbole import run_experiment
from mos_recbole.data import SequenceDataset
from mos_recbole.errors import InputError
from mos_recbole.experiment import load_settings
from mos_recbole.losses import (
    InBatchSampler,
    NegativeSampler,
    PopularitySampler,
    UniformSampler,
    mixture_cross_entropy,
    sampled,
    sampled_mixture_cross_entropy,
)
from mos_recbole.models import EncoderHeadRecommender
from mos_recbole.results import RunResult
from mos_recbole.training import EpochReport
from mos_recbole.training.checkpoint import load_checkpoint

NAMES = ("components", "log_prior", "weight", "bias")
REDUCTIONS = ("mean", "sum", "none")
PROPOSALS = ("uniform", "popularity", "in_batch")

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]
Negatives = tuple[torch.Tensor, torch.Tensor]


def random_inputs(
    n_queries: int, n_components: int, n_items: int, width: int, *, seed: int = 0, scale: float = 1.0
) -> tuple[Inputs, torch.Tensor]:
    """Returns (components, log_prior, weight, bias) in float64, with logits of about `scale`, and targets from 1 on."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    components, prior = normal(n_queries, n_components, width), normal(n_queries, n_components)
    weight, bias = normal(n_items, width) * scale / width**0.5, normal(n_items)
    target = torch.randint(1, n_items, (n_queries,), generator=generator)
    return (components, torch.log_softmax(prior, dim=-1), weight, bias), target


def random_negatives(n_items: int, n_negatives: int, seed: int = 1) -> Negatives:
    """Returns items from 1 on, with repetitions, and logs of arbitrary expected counts."""
    generator = torch.Generator().manual_seed(seed)
    items = torch.randint(1, n_items, (n_negatives,), generator=generator)
    return items, torch.randn(n_items, generator=generator, dtype=torch.float64)[items]


def written_down(inputs: Inputs, target: torch.Tensor, negatives: Negatives) -> torch.Tensor:
    """Returns the losses [B] by the formula, one query, component and negative at a time."""
    components, log_prior, weight, bias = inputs
    losses = []
    for b, y in enumerate(target.tolist()):
        probability = torch.zeros((), dtype=torch.float64)
        for k in range(components.shape[1]):
            logit = weight @ components[b, k] + (0.0 if bias is None else bias)
            normaliser = torch.exp(logit[y])
            for v, log_count in zip(*(tensor.tolist() for tensor in negatives), strict=True):
                if v != y:
                    normaliser = normaliser + torch.exp(logit[v]) / math.exp(log_count)
            probability = probability + torch.exp(log_prior[b, k]) * torch.exp(logit[y]) / normaliser
        losses.append(-torch.log(probability))
    return torch.stack(losses)


def gradients(value: torch.Tensor, inputs: Inputs) -> dict[str, torch.Tensor]:
    """Returns the value and its gradients by name."""
    leaves = {name: leaf for name, leaf in zip(NAMES, inputs, strict=True) if leaf is not None}
    return {
        "value": value.detach(),
        **dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True)),
    }


def with_gradients(
    loss: Callable[..., torch.Tensor],
    inputs: Inputs,
    target: torch.Tensor,
    *negatives: torch.Tensor,
    upstream: torch.Tensor | None = None,
    **options: Any,
) -> dict[str, torch.Tensor]:
    """Returns a loss of the package and the gradients of (upstream * loss).sum(), by name."""
    leaves = tuple(None if tensor is None else tensor.detach().requires_grad_() for tensor in inputs)
    components, log_prior, weight, bias = leaves
    value = loss(components, log_prior, weight, target, *negatives, bias=bias, **options)
    found = gradients((value if upstream is None else value * upstream.to(value.dtype)).sum(), leaves)
    return found | {"value": value.detach()}


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float = 1e-12) -> None:
    """Asserts a relative error of each tensor in the maximum norm (absolute where the norm is below 1)."""
    assert found.keys() == expected.keys()
    for name, truth in expected.items():
        assert found[name].shape == truth.shape, name
        error = (found[name].double() - truth).abs().max().item()
        assert error < tolerance * max(1.0, truth.abs().max().item()), f"{name}: {error}"


# ---------------------------------------------------------------------------------------------------- the formula


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("n_components", [1, 4])
@pytest.mark.parametrize("with_bias", [True, False])
def test_equals_the_written_down_formula(reduction: str, n_components: int, with_bias: bool) -> None:
    """Value and all gradients in float64, with accidental hits and repeated negatives."""
    inputs, target = random_inputs(9, n_components, 7, 5, scale=2.0)
    inputs = (*inputs[:3], inputs[3] if with_bias else None)
    negatives = random_negatives(7, 12)
    assert (negatives[0][:, None] == target).any()
    upstream = torch.linspace(-1, 2, 9, dtype=torch.float64) if reduction == "none" else None
    leaves = tuple(None if tensor is None else tensor.detach().requires_grad_() for tensor in inputs)
    nll = written_down(leaves, target, negatives)
    value = {"mean": nll.mean(), "sum": nll.sum(), "none": nll}[reduction]
    expected = gradients((value if upstream is None else value * upstream).sum(), leaves) | {"value": value.detach()}
    found = with_gradients(
        sampled_mixture_cross_entropy, inputs, target, *negatives, upstream=upstream, reduction=reduction
    )
    assert_close(found, expected)


@pytest.mark.parametrize("n_components", [1, 4])
def test_every_item_once_is_the_full_loss(n_components: int) -> None:
    """With all items as negatives, each with an expected count of 1, value and gradients are the full loss's."""
    inputs, target = random_inputs(11, n_components, 23, 6, scale=3.0)
    everything = torch.arange(23), torch.zeros(23, dtype=torch.float64)
    found = with_gradients(sampled_mixture_cross_entropy, inputs, target, *everything)
    assert_close(found, with_gradients(mixture_cross_entropy, inputs, target, impl="reference"))


@pytest.mark.parametrize("rows", [1, 3, 8, 1000])
def test_chunk_borders(rows: int) -> None:
    """The result does not depend on how many queries a chunk holds."""
    inputs, target = random_inputs(8, 3, 9, 4)
    negatives = random_negatives(9, 10)
    expected = with_gradients(sampled_mixture_cross_entropy, inputs, target, *negatives)
    with mock.patch.object(sampled, "_CHUNK_ROWS", rows * 3):
        assert_close(with_gradients(sampled_mixture_cross_entropy, inputs, target, *negatives), expected)


def test_gradcheck() -> None:
    """The gradients of all inputs equal finite differences in float64, also of a query without negatives."""
    inputs, _ = random_inputs(3, 2, 4, 2)
    target = torch.tensor([1, 2, 3])
    for items in ([1, 3, 3, 2], [1, 1]):
        negatives = torch.tensor(items), torch.linspace(-1, 1, len(items), dtype=torch.float64)

        def loss(components, log_prior, weight, bias, negatives=negatives):
            return sampled_mixture_cross_entropy(
                components, log_prior, weight, target, *negatives, bias=bias, reduction="none"
            )

        assert torch.autograd.gradcheck(loss, [tensor.requires_grad_() for tensor in inputs])


def test_accidental_hits_count_once() -> None:
    """The target among the negatives, at any expected count, changes nothing for its query, and all for another."""
    inputs, _ = random_inputs(2, 3, 6, 4)
    target = torch.tensor([2, 3])
    others = torch.tensor([1, 4, 5]), torch.zeros(3, dtype=torch.float64)
    hit = torch.tensor([1, 4, 5, 2]), torch.tensor([0.0, 0.0, 0.0, -3.0], dtype=torch.float64)
    components, log_prior, weight, bias = inputs
    without, with_hit = (
        sampled_mixture_cross_entropy(components, log_prior, weight, target, *each, bias=bias, reduction="none")
        for each in (others, hit)
    )
    assert with_hit[0].item() == pytest.approx(without[0].item(), rel=1e-14)
    assert with_hit[1] > without[1] + 0.1


def test_a_query_without_negatives_has_loss_zero_and_no_gradient() -> None:
    """Its only item is its target: probability 1. The other query's gradients are unharmed."""
    inputs, _ = random_inputs(2, 2, 5, 3)
    target = torch.tensor([4, 1])
    negatives = torch.tensor([4, 4]), torch.tensor([0.5, 0.5], dtype=torch.float64)
    found = with_gradients(sampled_mixture_cross_entropy, inputs, target, *negatives, reduction="none")
    assert found["value"][0] == 0
    assert found["value"][1] > 0
    assert (found["components"][0] == 0).all()
    assert all(tensor.isfinite().all() for tensor in found.values())
    alone = with_gradients(
        sampled_mixture_cross_entropy, (inputs[0][1:], inputs[1][1:], *inputs[2:]), target[1:], *negatives
    )
    torch.testing.assert_close(found["weight"], alone["weight"])


def test_only_rows_of_targets_and_negatives_get_a_gradient() -> None:
    """The others' is 0, in the table and in the bias."""
    inputs, target = random_inputs(4, 2, 50, 3)
    negatives = random_negatives(50, 6)
    found = with_gradients(sampled_mixture_cross_entropy, inputs, target, *negatives)
    touched = torch.zeros(50, dtype=torch.bool)
    touched[torch.cat([target, negatives[0]])] = True
    assert (found["weight"].abs().sum(dim=1) > 0).equal(touched)
    assert (found["bias"] != 0).equal(touched)


def test_the_expected_counts_are_constants() -> None:
    """With an item bias, whose gradient shares their way, they get none."""
    inputs, target = random_inputs(4, 2, 50, 3)
    sampled, log_count = random_negatives(50, 6)
    log_count.requires_grad_()
    leaves = [tensor.requires_grad_() for tensor in inputs]
    sampled_mixture_cross_entropy(*leaves[:3], target, sampled, log_count, bias=leaves[3]).backward()
    assert log_count.grad is None


def test_nothing_as_large_as_the_logits_is_kept() -> None:
    """What autograd holds between forward and backward grows with B·K·d, M·d and B·K, not with B·K·M or V·d."""
    n_queries, n_components, n_negatives, width = 30, 2, 100, 3
    inputs, target = random_inputs(n_queries, n_components, 5000, width)
    leaves = [tensor.requires_grad_() for tensor in inputs]
    negatives = random_negatives(5000, n_negatives)
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        sampled_mixture_cross_entropy(*leaves[:3], target, *negatives, bias=leaves[3])
    factors = n_queries * n_components * width + (n_negatives + n_queries) * width
    assert 0 < sum(kept.values()) <= factors + 8 * (n_queries * n_components + n_queries + n_negatives)


def test_gradients_of_gradients_are_refused() -> None:
    """Instead of a gradient penalty that is silently a constant."""
    inputs, target = random_inputs(2, 1, 5, 3)
    weight = inputs[2].requires_grad_()
    loss = sampled_mixture_cross_entropy(inputs[0], inputs[1], weight, target, *random_negatives(5, 4))
    with pytest.raises(RuntimeError, match="gradients of gradients"):
        torch.autograd.grad(loss, weight, create_graph=True)


def test_inputs_are_left_alone_and_a_kept_graph_works_twice() -> None:
    """Neither pass writes to its inputs; a second backward pass gives the same gradients."""
    inputs, target = random_inputs(5, 2, 6, 3)
    negatives = random_negatives(6, 7)
    everything = (*inputs, target, *negatives)
    copies = [tensor.clone() for tensor in everything]
    leaves = [tensor.requires_grad_() for tensor in inputs]
    loss = sampled_mixture_cross_entropy(*leaves[:3], target, *negatives, bias=leaves[3])
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    second = torch.autograd.grad(loss, leaves)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert all(torch.equal(tensor.detach(), copy) for tensor, copy in zip(everything, copies, strict=True))


# ---------------------------------------------------------------------------------------------------- precision


def autograd_loss(inputs: Inputs, target: torch.Tensor, negatives: Negatives) -> torch.Tensor:
    """Returns the lines of the docstring, in the inputs' precision with log-sum-exps in at least float32."""
    components, log_prior, weight, bias = inputs
    wide = torch.promote_types(components.dtype, torch.float32)
    items, log_expected_count = negatives
    negative = (components @ weight[items].T).to(wide) + bias[items] - log_expected_count.to(wide)
    negative = negative.masked_fill((items == target[:, None])[:, None], -torch.inf)
    positive = (components * weight[target][:, None]).sum(-1).to(wide) + bias[target][:, None]
    log_normaliser = torch.logaddexp(positive, torch.logsumexp(negative, -1))
    return -torch.logsumexp(log_prior + positive - log_normaliser, -1).mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_low_precision_error_is_the_naive_one_at_most(dtype: torch.dtype, scale: float) -> None:
    """Against float64 on the same rounded inputs: at most twice the naive run's error, in the Euclidean norm, plus one
    unit in the last place. The loss is float32, every gradient has its input's dtype."""
    inputs, target = random_inputs(96, 3, 150, 16, scale=scale, seed=3)
    low = tuple(tensor.to(dtype) for tensor in inputs)
    negatives = random_negatives(150, 120)
    exact = tuple(tensor.double() for tensor in low)
    truth = with_gradients(sampled_mixture_cross_entropy, exact, target, *negatives)
    leaves = tuple(tensor.detach().requires_grad_() for tensor in low)
    naive = gradients(autograd_loss(leaves, target, negatives), leaves)
    found = with_gradients(sampled_mixture_cross_entropy, low, target, *negatives)
    assert found["value"].dtype == torch.float32
    for name in ("value", *NAMES):
        if name != "value":
            assert found[name].dtype == dtype, name
        error, naive_error = ((each[name].double() - truth[name]).norm().item() for each in (found, naive))
        assert error <= 2 * naive_error + torch.finfo(dtype).eps * truth[name].norm().item(), name


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_extreme_logits_stay_finite_in_float32(reduction: str) -> None:
    """Logits of ±1e4: losses of up to 2e4, everything finite and as in float64 to 2e-3, because the weighting of the
    components goes by the difference of losses that are themselves known to 0.002 only."""
    components = torch.tensor([[[100.0], [-100.0]], [[100.0], [100.0]], [[-100.0], [-100.0]]])
    weight = torch.tensor([[100.0], [-100.0], [0.0]])
    log_prior = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]]).log()
    inputs, target = (components, log_prior, weight, torch.zeros(3)), torch.tensor([0, 1, 0])
    negatives = torch.tensor([0, 1, 2, 1]), torch.tensor([0.5, -2.0, 1.0, -2.0])
    exact = tuple(tensor.double() for tensor in inputs)
    truth = with_gradients(sampled_mixture_cross_entropy, exact, target, *negatives, reduction=reduction)
    found = with_gradients(sampled_mixture_cross_entropy, inputs, target, *negatives, reduction=reduction)
    assert truth["value"].max() > 5e3
    assert_close(found, truth, tolerance=2e-3)
    assert all(tensor.isfinite().all() for tensor in found.values())


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e4])
def test_a_number_added_to_all_logits_costs_no_digits(offset: float) -> None:
    """The logits are exact in float32, so that all of the error is the loss's own: a few units in the last place."""
    components, target = torch.ones(4, 2, 1), torch.arange(4)
    weight = offset + torch.tensor([[0.0], [1.0], [2.0], [-3.0], [0.5], [0.25]])
    log_prior = torch.log_softmax(torch.linspace(-1, 1, 8).view(4, 2), dim=-1)
    negatives = torch.tensor([4, 5, 0, 4]), torch.zeros(4)
    truth = sampled_mixture_cross_entropy(
        components.double(), log_prior.double(), weight.double(), target, *negatives, reduction="none"
    )
    found = sampled_mixture_cross_entropy(components, log_prior, weight, target, *negatives, reduction="none")
    torch.testing.assert_close(found.double(), truth, rtol=5e-7, atol=0)


def test_autocast_computes_products_in_bfloat16_and_the_rest_in_float32() -> None:
    """The loss of float32 inputs under autocast is, to the last digit, that of inputs rounded to bf16, as float32."""
    inputs, target = random_inputs(20, 3, 30, 8)
    single = tuple(tensor.float() for tensor in inputs)
    rounded = (single[0].bfloat16(), single[1], single[2].bfloat16(), single[3])
    negatives = random_negatives(30, 25)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = with_gradients(sampled_mixture_cross_entropy, single, target, *negatives)
    expected = with_gradients(sampled_mixture_cross_entropy, rounded, target, *negatives)
    assert found["value"].dtype == torch.float32
    assert torch.equal(found["value"], expected["value"])
    assert {found[name].dtype for name in NAMES} == {torch.float32}
    plain = with_gradients(sampled_mixture_cross_entropy, single, target, *negatives)
    assert 0 < (found["value"] - plain["value"]).abs() < 0.02
    for name in NAMES:
        assert (found[name] - plain[name]).norm() < 0.05 * plain[name].norm(), name


# ---------------------------------------------------------------------------------------------------- wrong arguments


def test_no_queries() -> None:
    """Of no queries the sum is 0 with gradients of 0, "none" is empty, and the mean is NaN as in torch."""
    inputs, target = random_inputs(0, 2, 5, 3)
    negatives = random_negatives(5, 4)
    total = with_gradients(sampled_mixture_cross_entropy, inputs, target, *negatives, reduction="sum")
    assert total["value"].item() == 0
    assert (total["weight"] == 0).all()
    each = with_gradients(sampled_mixture_cross_entropy, inputs, target, *negatives, reduction="none")
    assert each["value"].shape == (0,)
    assert with_gradients(sampled_mixture_cross_entropy, inputs, target, *negatives)["value"].isnan()


WRONG: dict[str, dict[str, Callable[[torch.Tensor], Any]]] = {
    r"components \(4, 3\)": {"components": lambda t: t[:, 0]},
    r"weight \(6, 2\)": {"weight": lambda t: t[:, :2]},
    r"weight \(3,\)": {"weight": lambda t: t[0]},
    r"log_prior is \(4, 1\)": {"log_prior": lambda t: t[:, :1]},
    r"target is \(3,\)": {"target": lambda t: t[:-1]},
    r"target is \(4, 1\)": {"target": lambda t: t[:, None]},
    r"sampled \(5, 1\)": {"sampled": lambda t: t[:, None], "log_expected_count": lambda t: t[:, None]},
    r"sampled \(4,\)": {"sampled": lambda t: t[1:]},
    r"sampled \(0,\)": {"sampled": lambda t: t[:0], "log_expected_count": lambda t: t[:0]},
    r"log_expected_count \(\)": {"log_expected_count": lambda t: t[0]},
    r"bias is \(5,\)": {"bias": lambda t: t[1:]},
    "reduction is 'max'": {"reduction": lambda t: "max"},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments(message: str) -> None:
    """A shape that does not fit and an unknown reduction raise a ValueError that says so."""
    inputs, target = random_inputs(4, 2, 6, 3)
    items, log_expected_count = random_negatives(6, 5)
    arguments: dict[str, Any] = dict(zip(NAMES, inputs, strict=True))
    arguments |= {"target": target, "sampled": items, "log_expected_count": log_expected_count, "reduction": "mean"}
    arguments |= {name: change(arguments[name]) for name, change in WRONG[message].items()}
    with pytest.raises(ValueError, match=message):
        sampled_mixture_cross_entropy(**arguments)


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("n_items is 1", lambda: UniformSampler(1, 5)),
        ("n_negatives is 0", lambda: UniformSampler(5, 0)),
        ("n_negatives is 0", lambda: PopularitySampler(torch.ones(5), 1.0, 0)),
        ("alpha is -0.5", lambda: PopularitySampler(torch.ones(5), -0.5, 3)),
        ("alpha is nan", lambda: PopularitySampler(torch.ones(5), math.nan, 3)),
        ("alpha is inf", lambda: PopularitySampler(torch.ones(5), math.inf, 3)),
        (r"counts are \(1,\)", lambda: PopularitySampler(torch.ones(1), 1.0, 3)),
        (r"counts are \(2, 2\)", lambda: InBatchSampler(torch.ones(2, 2))),
        ("counts below 0", lambda: PopularitySampler(torch.tensor([0, 1, -1]), 1.0, 3)),
        ("counts are all 0", lambda: InBatchSampler(torch.tensor([7, 0, 0]))),
    ],
)
def test_wrong_proposals(message: str, make: Callable[[], NegativeSampler]) -> None:
    """What cannot be sampled from raises a ValueError that says so."""
    with pytest.raises(ValueError, match=message):
        make()


# ---------------------------------------------------------------------------------------------------- on average


def estimated_normaliser(inputs: Inputs, target: torch.Tensor, negatives: Negatives) -> torch.Tensor:
    """Returns the loss's Ẑ [B], for one component: its loss is log Ẑ less the target's logit."""
    components, log_prior, weight, bias = inputs
    loss = sampled_mixture_cross_entropy(components, log_prior, weight, target, *negatives, bias=bias, reduction="none")
    return torch.exp(loss + (components[:, 0] * weight[target]).sum(-1) + bias[target])


def normaliser(inputs: Inputs, first_item: int = 1) -> torch.Tensor:
    """Returns Σ_v exp(s_bv) [B] over the items from the first on."""
    components, _, weight, bias = inputs
    return torch.exp(components[:, 0] @ weight.T + bias)[:, first_item:].sum(-1)


def four_items() -> tuple[Inputs, torch.Tensor]:
    """Returns inputs for three queries over the padding and three items, each the target of one query."""
    (components, _, weight, bias), _ = random_inputs(3, 1, 4, 2, scale=2.0)
    return (components, torch.zeros(3, 1, dtype=torch.float64), weight, bias), torch.tensor([1, 2, 3])


@pytest.mark.parametrize(
    ("sampler", "unnormalised"),
    [
        (UniformSampler(4, 2), [1, 1, 1]),
        (PopularitySampler(torch.tensor([9, 5, 0, 1]), 1.0, 2), [6, 1, 2]),
        (PopularitySampler(torch.tensor([9, 5, 0, 1]), 0.5, 2), [6**0.5, 1, 2**0.5]),
        (PopularitySampler(torch.tensor([9, 5, 0, 1]), 0.0, 2), [1, 1, 1]),
    ],
    ids=["uniform", "popularity", "popularity^0.5", "popularity^0"],
)
@pytest.mark.parametrize("with_padding", [False, True])
def test_the_estimated_normaliser_is_exact_on_average(
    sampler: NegativeSampler, unnormalised: list[float], with_padding: bool
) -> None:
    """Over all 9 samples of two negatives, weighted by their probabilities (written out here), the mean Ẑ is Z, for
    every target; with the padding as a certain negative, the Z over all items."""
    probability = torch.tensor([0.0, *unnormalised], dtype=torch.float64) / sum(unnormalised)
    inputs, target = four_items()
    mean = torch.zeros(3, dtype=torch.float64)
    for pair in itertools.product((1, 2, 3), repeat=2):
        items = torch.tensor(pair)
        log_q = sampler.log_prob(items)
        log_expected_count = log_q + math.log(2)
        if with_padding:
            items, log_expected_count = torch.tensor([*pair, 0]), torch.cat([log_expected_count, torch.zeros(1)])
        weight_of_pair = probability[list(pair)].prod()
        mean += weight_of_pair * estimated_normaliser(inputs, target, (items, log_expected_count))
    torch.testing.assert_close(mean, normaliser(inputs, 0 if with_padding else 1), rtol=1e-12, atol=0)


def test_the_in_batch_normaliser_is_exact_on_average() -> None:
    """Over all targets of a query's two fellows, weighted by the probabilities of independent draws."""
    inputs, target = four_items()
    sampler = InBatchSampler(torch.tensor([9, 5, 3, 1]))
    probability = torch.tensor([0, 5, 3, 1], dtype=torch.float64) / 9
    components, log_prior, weight, bias = inputs
    for query in range(3):
        batch = (components[[query, 0, 1]], log_prior, weight, bias)
        mean = 0.0
        for pair in itertools.product((1, 2, 3), repeat=2):
            targets = torch.tensor([int(target[query]), *pair])
            weight_of_pair = probability[list(pair)].prod()
            mean += weight_of_pair * estimated_normaliser(batch, targets, sampler.sample(targets))[0]
        torch.testing.assert_close(mean, normaliser(inputs)[query], rtol=1e-12, atol=0)


def make_sampler(proposal: str, counts: torch.Tensor, n_negatives: int) -> NegativeSampler:
    return {
        "uniform": lambda: UniformSampler(len(counts), n_negatives),
        "popularity": lambda: PopularitySampler(counts, 0.75, n_negatives),
        "in_batch": lambda: InBatchSampler(counts),
    }[proposal]()


def long_tail(n_items: int) -> torch.Tensor:
    """Returns counts that fall as 1 / rank, for the items from 1 on."""
    return torch.cat([torch.zeros(1), (300 / torch.arange(1, n_items)).ceil()]).long()


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_the_samplers_estimate_is_unbiased(proposal: str) -> None:
    """3,000 batches of 24 queries with independent targets: the mean of Ẑ / Z - 1 is within 4 standard errors of 0,
    which are below 1 %."""
    counts, generator = long_tail(40), torch.Generator().manual_seed(4)
    (components, _, weight, bias), _ = random_inputs(24, 1, 40, 4, seed=2)
    inputs = (components, torch.zeros(24, 1, dtype=torch.float64), weight, bias)
    truth, sampler = normaliser(inputs), make_sampler(proposal, counts, 20)
    deviations = []
    for _ in range(3000):
        target = torch.multinomial(counts.double(), 24, replacement=True, generator=generator)
        estimate = estimated_normaliser(inputs, target, sampler.sample(target, generator))
        deviations.append((estimate / truth - 1).mean().item())
    error = np.std(deviations) / math.sqrt(len(deviations))
    assert error < 0.01
    assert abs(np.mean(deviations)) < 4 * error


# ---------------------------------------------------------------------------------------------------- convergence


@pytest.mark.parametrize("proposal", ["uniform", "popularity"])
@pytest.mark.parametrize("n_components", [1, 4])
def test_the_loss_converges_to_the_full_loss(proposal: str, n_components: int) -> None:
    """Four times the negatives, four times: the bias is negative and falls about as 1/M (to a quarter at each step,
    within 0.15 to 0.4), the noise about as 1/√M (to a half, within 0.4 to 0.62)."""
    inputs, target = random_inputs(32, n_components, 60, 6, seed=5)
    components, log_prior, weight, bias = inputs
    counts, generator = long_tail(60), torch.Generator().manual_seed(6)
    # The samplers leave the padding out.
    certain = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.float64)
    full = mixture_cross_entropy(components, log_prior, weight, target, bias=bias, reduction="none")
    bias_of, noise_of = [], []
    for n_negatives in (16, 64, 256):
        sampler = make_sampler(proposal, counts, n_negatives)
        draws = []
        for _ in range(1200):
            negatives = [torch.cat(pair) for pair in zip(sampler.sample(target, generator), certain, strict=True)]
            draws.append(
                sampled_mixture_cross_entropy(
                    components, log_prior, weight, target, *negatives, bias=bias, reduction="none"
                )
            )
        deviation = torch.stack(draws) - full
        bias_of.append(deviation.mean().item())
        noise_of.append(deviation.std(dim=0).mean().item())
    assert all(value < 0 for value in bias_of)
    assert all(0.15 < later / earlier < 0.4 for earlier, later in itertools.pairwise(bias_of)), bias_of
    assert all(0.4 < later / earlier < 0.62 for earlier, later in itertools.pairwise(noise_of)), noise_of


@pytest.mark.parametrize("proposal", ["uniform", "popularity"])
@pytest.mark.parametrize("n_components", [1, 4])
def test_the_gradients_converge_to_the_full_loss(proposal: str, n_components: int) -> None:
    """Sixteen times the negatives, twice: each gradient's mean relative error falls to about a quarter each time
    (within 0.18 to 0.33), to below 0.1 at 16,384."""
    inputs, target = random_inputs(32, n_components, 60, 6, seed=5)
    counts, generator = long_tail(60), torch.Generator().manual_seed(6)
    certain = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.float64)
    full = with_gradients(mixture_cross_entropy, inputs, target)
    errors: dict[str, list[float]] = {name: [] for name in NAMES}
    for n_negatives in (64, 1024, 16384):
        sampler = make_sampler(proposal, counts, n_negatives)
        found = []
        for _ in range(40):
            negatives = [torch.cat(pair) for pair in zip(sampler.sample(target, generator), certain, strict=True)]
            found.append(with_gradients(sampled_mixture_cross_entropy, inputs, target, *negatives))
        for name in NAMES:
            error = torch.stack([(each[name] - full[name]).norm() for each in found]).mean()
            errors[name].append((error / full[name].norm()).item())
    for name, (first, second, third) in errors.items():
        if n_components == 1 and name == "log_prior":
            assert first < 1e-12  # the gradient with respect to the only component's weight is always -1/B
            continue
        assert 0.18 < second / first < 0.33, (name, first, second)
        assert 0.18 < third / second < 0.33, (name, second, third)
        assert third < 0.1, name


# ---------------------------------------------------------------------------------------------------- proposals


def draws(sampler: NegativeSampler, seed: int = 0) -> Negatives:
    return sampler.sample(torch.ones(3, dtype=torch.int64), torch.Generator().manual_seed(seed))


COUNTS = torch.tensor([1000, 50, 0, 7, 0, 200, 1, 1])


@pytest.mark.parametrize("alpha", [None, 0.0, 0.5, 1.0, 2.0])
def test_negatives_come_in_the_proposals_proportions(alpha: float | None) -> None:
    """100,000 draws against q by a chi-square test at the level of 0.1 %, fixed seed; never the padding; items that
    do not occur in training among them; the expected counts are M·q."""
    sampler = UniformSampler(8, 100_000) if alpha is None else PopularitySampler(COUNTS, alpha, 100_000)
    by_hand = (COUNTS[1:].double() + 1) ** (alpha or 0.0)
    by_hand /= by_hand.sum()
    items, log_expected_count = draws(sampler)
    assert (items.dtype, log_expected_count.dtype) == (torch.int64, torch.float64)
    frequency = torch.bincount(items, minlength=8)
    assert frequency[0] == 0
    assert (frequency[1:] > 0).all()
    assert stats.chisquare(frequency[1:].numpy(), (by_hand * 100_000).numpy()).pvalue > 1e-3
    torch.testing.assert_close(sampler.log_prob(torch.arange(1, 8)).exp(), by_hand, rtol=1e-12, atol=0)
    torch.testing.assert_close(log_expected_count.exp(), by_hand[items - 1] * 100_000, rtol=1e-10, atol=0)


def test_popularity_to_the_power_of_zero_is_uniform() -> None:
    """The same expected counts."""
    items = torch.arange(1, 8)
    popularity, uniform = PopularitySampler(COUNTS, 0.0, 5), UniformSampler(8, 5)
    torch.testing.assert_close(popularity.log_prob(items), uniform.log_prob(items))


def test_the_padding_has_probability_zero() -> None:
    """Whatever its count."""
    for sampler in (PopularitySampler(COUNTS, 1.0, 5), InBatchSampler(COUNTS)):
        assert sampler.log_prob(torch.tensor([0])).item() == -math.inf


def test_a_huge_exponent_does_not_overflow() -> None:
    """All draws are of the most popular item, which has probability 1."""
    items, log_expected_count = draws(PopularitySampler(COUNTS, 1e4, 10))
    assert (items == 5).all()
    torch.testing.assert_close(log_expected_count, torch.full((10,), math.log(10), dtype=torch.float64))


@pytest.mark.parametrize(("number", "item"), [(0.0, 1), (1 - 2**-53, 7)])
def test_the_first_and_the_last_random_number(number: float, item: int, monkeypatch) -> None:
    """0 is not the padding, and the largest number below 1 is an item."""
    monkeypatch.setattr(torch, "rand", lambda *size, **options: torch.full(size, number, dtype=torch.float64))
    assert (draws(PopularitySampler(COUNTS, 1.0, 2))[0] == item).all()


def test_more_items_than_multinomial_allows() -> None:
    """Beyond 2^24 items, the first and the last with a third of the probability each are drawn so often, and their
    probabilities are exact to 1e-9."""
    n_items = 2**24 + 3
    counts = torch.zeros(n_items, dtype=torch.int32)
    counts[[1, -1]] = n_items - 3
    sampler = PopularitySampler(counts, 1.0, 3000)
    items, _ = draws(sampler)
    for item in (1, n_items - 1):
        assert stats.binomtest(int((items == item).sum()), 3000, 1 / 3).pvalue > 1e-3
    log_q = sampler.log_prob(torch.tensor([1, 2, n_items - 1]))
    total = 2 * (n_items - 2) + (n_items - 3)
    expected = torch.tensor([n_items - 2, 1, n_items - 2], dtype=torch.float64) / total
    torch.testing.assert_close(log_q.exp(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(log_q[[0, 2]].exp(), expected[[0, 2]], rtol=1e-9, atol=0)


def test_in_batch_negatives_are_the_batchs_targets() -> None:
    """With expected counts of (B - 1) · count / Σ count; the padding's count is passed over."""
    target = torch.tensor([5, 1, 5, 3])
    items, log_expected_count = InBatchSampler(COUNTS).sample(target)
    assert torch.equal(items, target)
    expected = 3 * COUNTS[target].double() / COUNTS[1:].sum()
    torch.testing.assert_close(log_expected_count.exp(), expected, rtol=1e-12, atol=0)


def test_a_single_in_batch_query_has_no_negatives() -> None:
    """Loss 0, and no gradient but the log mixture weights', -π, which their log-softmax makes 0."""
    inputs, _ = random_inputs(1, 2, 8, 3)
    target = torch.tensor([3])
    found = with_gradients(sampled_mixture_cross_entropy, inputs, target, *InBatchSampler(COUNTS).sample(target))
    torch.testing.assert_close(found.pop("log_prior"), -inputs[1].exp())
    assert all((tensor.abs() < 1e-15).all() for tensor in found.values())


@pytest.mark.parametrize("proposal", ["uniform", "popularity"])
def test_draws_follow_the_generator(proposal: str) -> None:
    """The same seed, the same negatives; without one they come from the global source, which checkpoints hold."""
    sampler = make_sampler(proposal, long_tail(50), 30)
    one, again, other = (draws(sampler, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    target = torch.ones(3, dtype=torch.int64)
    state = torch.get_rng_state()
    first, second = sampler.sample(target)[0], sampler.sample(target)[0]
    torch.set_rng_state(state)
    assert torch.equal(sampler.sample(target)[0], first)
    assert not torch.equal(first, second)


# ---------------------------------------------------------------------------------------------------- settings


def faults(*arguments: str, model: str = "GRU4RecMoS") -> str:
    """Returns the error that refuses these settings."""
    with pytest.raises(InputError) as caught:
        load_settings(model, "ml-100k", overrides=arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("--negative_sampling=inbatch", "in_batch"),
        ("--negative_sampling=True", "in_batch"),
        ("--n_negatives=0", "greater than or equal to 1"),
        ("--n_negatives=1.5", "integer"),
        ("--sampling_alpha=-0.1", "greater than or equal to 0"),
        ("--sampling_alpha=.inf", "expected a finite number"),
        ("--negative_samplin=uniform", "did you mean negative_sampling"),
    ],
)
def test_wrong_settings_are_refused(argument: str, named: str) -> None:
    """With the argument's name and what is expected."""
    message = faults(argument)
    assert argument.partition("=")[0] in message
    assert named in message


def test_in_batch_negatives_need_a_batch() -> None:
    """Of one target there are none."""
    assert "train_batch_size is 1" in faults("--negative_sampling=in_batch", "--train_batch_size=1")


def test_recboles_own_models_have_no_such_setting() -> None:
    """They train by their own losses; beside one of ours the key is passed over."""
    assert "GRU4Rec has no such setting" in faults("--negative_sampling=uniform", model="GRU4Rec")
    beside = load_settings("GRU4Rec", "ml-100k", overrides=["--negative_sampling=uniform"], beside=["GRU4RecMoS"])
    assert "negative_sampling" not in beside.values


@pytest.mark.parametrize(
    ("proposal", "ignored"),
    [
        ("none", {"n_negatives", "sampling_alpha"}),
        ("uniform", {"sampling_alpha"}),
        ("popularity", set()),
        ("in_batch", {"n_negatives", "sampling_alpha"}),
    ],
)
def test_settings_that_the_proposal_does_not_read_are_told(proposal: str, ignored: set[str]) -> None:
    """A warning for each that is set all the same; none where none is set."""
    arguments = [f"--negative_sampling={proposal}"]
    assert load_settings("GRU4RecMoS", "ml-100k", overrides=arguments).warnings == ()
    arguments += ["--n_negatives=10", "--sampling_alpha=0.5"]
    warnings = load_settings("GRU4RecMoS", "ml-100k", overrides=arguments).warnings
    assert {next(key for key in ("n_negatives", "sampling_alpha") if key in warning) for warning in warnings} == ignored


# ---------------------------------------------------------------------------------------------------- models


@pytest.fixture
def build(toy: Path) -> Callable[..., tuple[EncoderHeadRecommender, SequenceDataset]]:
    """Returns a function (model, setting=...) -> a small model on the toy data, in evaluation mode, and its data."""

    def make(model: str = "GRU4RecMoS", **options: Any) -> tuple[EncoderHeadRecommender, SequenceDataset]:
        options = {"embedding_size": 8, "hidden_size": 12, **options}
        config = load_settings(model, str(toy), overrides=options).recbole_config(torch.device("cpu"))
        data = SequenceDataset(config)
        torch.manual_seed(0)
        return config["model_class"](config, data.training_part(data.split())).eval(), data

    return make


def test_popularity_is_that_of_training_targets(build) -> None:
    """Neither validation and test targets count nor items that are a context only."""
    model, data = build(negative_sampling="in_batch")
    counts = torch.zeros(data.item_num, dtype=torch.float64)
    for start, stop in itertools.pairwise(data.sequences.offsets):
        held_out = min(2, max(0, stop - start - 2))
        for item in data.sequences.items[start + 1 : stop - held_out]:
            counts[int(item)] += 1
    items = torch.arange(data.item_num)
    torch.testing.assert_close(model.negative_sampler.log_prob(items), torch.log(counts / counts.sum()))
    model, _ = build(negative_sampling="popularity", sampling_alpha=0.5)
    smoothed = (counts[1:] + 1).sqrt()
    torch.testing.assert_close(model.negative_sampler.log_prob(items[1:]).exp(), smoothed / smoothed.sum())


def batch(data: SequenceDataset) -> dict[str, torch.Tensor]:
    """Returns two windows with every position's target."""
    generator = torch.Generator().manual_seed(3)
    items = torch.randint(1, data.item_num, (2, 7), generator=generator)
    fields = {"item_id_list": items[:, :-1], "item_id": items[:, 1:]}
    return fields | {"item_length": torch.tensor([6, 6]), "target_place": torch.arange(2 * 6)}


@pytest.mark.parametrize("model", ["GRU4RecSoftmax", "GRU4RecMoS"])
@pytest.mark.parametrize("proposal", ["uniform", "popularity"])
@pytest.mark.parametrize("item_bias", [False, True])
def test_a_models_sampled_loss_approaches_its_full_loss(model: str, proposal: str, item_bias: bool, build) -> None:
    """To 0.05 nats at 50,000 negatives, where the padding, which no sampler draws, has most of the probability."""
    full, data = build(model, item_bias=item_bias)
    estimated, _ = build(model, item_bias=item_bias, negative_sampling=proposal, n_negatives=50_000)
    with torch.no_grad():
        states = full.encoder(batch(data)["item_id_list"]).flatten(0, 1)
        full.item_table[0] = 20 * states.mean(dim=0) / states.mean(dim=0).norm()
    estimated.load_state_dict(full.state_dict())
    log_prob = full.log_prob(states)
    assert log_prob[:, 0].exp().mean() > 0.5
    loss = full.calculate_loss(batch(data)).item()
    assert estimated.calculate_loss(batch(data)).item() == pytest.approx(loss, abs=0.05)


def test_without_sampling_nothing_is_drawn_and_the_loss_is_the_heads(build) -> None:
    """The default: no sampler, no random number, the full loss to the last digit."""
    model, data = build()
    assert model.negative_sampler is None
    state = torch.get_rng_state()
    loss = model.calculate_loss(batch(data))
    assert torch.equal(torch.get_rng_state(), state)
    states = model.encoder(batch(data)["item_id_list"]).flatten(0, 1)
    assert torch.equal(loss, model.head.loss(states, model.item_table, batch(data)["item_id"].flatten()))


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_weights_and_scores_do_not_depend_on_the_sampling(proposal: str, build) -> None:
    """The same parameters and checkpoint keys (no table of the sampler's), and a ranking over all items."""
    full, data = build()
    estimated, _ = build(negative_sampling=proposal)
    assert {name: tensor.shape for name, tensor in estimated.state_dict().items()} == {
        name: tensor.shape for name, tensor in full.state_dict().items()
    }
    assert torch.equal(estimated.full_sort_predict(batch(data)), full.full_sort_predict(batch(data)))


# ---------------------------------------------------------------------------------------------------- training


def stop_after(epoch: int) -> Callable[[EpochReport], None]:
    """Returns a callback that interrupts a run when an epoch is done."""

    def interrupt(report: EpochReport) -> None:
        if report.epoch == epoch:
            raise KeyboardInterrupt

    return interrupt


def write_cycle(folder: Path, n_items: int, n_users: int) -> Path:
    """Writes users who go round a cycle of items from a random one on, and returns the data set's folder."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    rows = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(n_users):
        start, size = generator.integers(n_items), generator.integers(5, 15)
        rows += [f"u{user}\ti{(start + step) % n_items}\t{step}" for step in range(size)]
    (folder / f"{folder.name}.inter").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., RunResult]:
    """Returns a function (model, output, setting=...) that trains a small model on a cycle of 12 items."""
    folder = write_cycle(tmp_path / "cycle", 12, 60)

    def start(model: str, output: str, **options: Any) -> RunResult:
        arguments = {"embedding_size": 16, "hidden_size": 32, "learning_rate": 0.02, "train_batch_size": 64}
        arguments |= {"MAX_ITEM_LIST_LENGTH": 10, "topk": [1, 10], "valid_metric": "Recall@1", "n_negatives": 8}
        return run_experiment(model, str(folder), output=tmp_path / output, device="cpu", **{**arguments, **options})

    return start


@pytest.mark.parametrize("proposal", PROPOSALS)
@pytest.mark.parametrize("model", ["GRU4RecSoftmax", "GRU4RecMoS"])
def test_a_cycle_of_items_is_learned(model: str, proposal: str, run) -> None:
    """Where the next item is the current one + 1, the first place of all items is right for nearly every user."""
    constant = {"lr_schedule": "constant", "warmup": 0.0}
    record = run(model, "results", negative_sampling=proposal, epochs=30, dropout_prob=0.0, **constant)
    assert record.test["Recall@1"].value > 0.95
    loss = record.training_log()["loss"]
    assert loss.iloc[-1] < 0.5 < 1.5 < loss.iloc[0]


@pytest.mark.parametrize("proposal", PROPOSALS)
@pytest.mark.parametrize("train_mode", ["prefix", "all_positions"])
@pytest.mark.parametrize("model", ["GRU4RecSoftmax", "GRU4RecMoS"])
def test_a_resumed_run_gives_the_numbers_of_an_undisturbed_one(
    model: str, train_mode: str, proposal: str, run, tmp_path: Path
) -> None:
    """Stopped after the first of two epochs: losses, outcomes and weights, bit by bit. The loss falls."""
    options = {"negative_sampling": proposal, "epochs": 2, "train_mode": train_mode}
    undisturbed = run(model, "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        run(model, "parts", on_epoch=stop_after(1), **options)
    resumed = run(model, "parts", resume=True, **options)
    assert resumed.resumed
    assert resumed.run_id == undisturbed.run_id
    losses = undisturbed.training_log()["loss"].tolist()
    assert losses[1] < losses[0]
    assert resumed.training_log()["loss"].tolist() == losses
    assert resumed.outcomes().equals(undisturbed.outcomes())
    one, other = (
        load_checkpoint(record.folder / "last.pt", record.run_id, model, "cpu")["model"]["state_dict"]
        for record in (undisturbed, resumed)
    )
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_mixed_precision_trains(run) -> None:
    """bf16 products, float32 sums: the loss falls as in float32, to 0.2 nats."""
    options = {"negative_sampling": "uniform", "epochs": 5, "dropout_prob": 0.0}
    low, single = (
        run("GRU4RecMoS", name, enable_amp=amp, **options).training_log()["loss"].tolist()
        for name, amp in (("low", True), ("single", False))
    )
    assert low[-1] < low[0] - 0.5
    assert low[-1] == pytest.approx(single[-1], abs=0.2)
