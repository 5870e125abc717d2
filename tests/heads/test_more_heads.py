"""All output heads: against their formulas in NumPy, their gradients, and what must hold for every head."""

import copy
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from heads_by_hand import FORMULAS, LAYERS, MAKERS, log_prob_by_hand
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.nn.utils import stateless

from mos_recbole.cli import main
from mos_recbole.heads import (
    BUILT_IN_HEADS,
    CosineHead,
    DnDHead,
    DOCHead,
    HeadSpec,
    LogitHead,
    MixtapeHead,
    MoCHead,
    MoLHead,
    MoSHead,
    MoSSHead,
    OutputHead,
    SoftmaxHead,
    logits,
)
from mos_recbole.heads.chunks import chunked_sum

NAMES = list(MAKERS)
ALL = pytest.mark.parametrize("name", NAMES)
BIAS = pytest.mark.parametrize("item_bias", [False, True])


def make(name: str, n_items: int, width: int, *, item_bias: bool = False, seed: int = 5) -> OutputHead:
    """Returns a head in float64 and evaluation mode, all of whose parameters are away from their start."""
    torch.manual_seed(seed)
    head = MAKERS[name](n_items, width, item_bias=item_bias).double().eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn(parameter.shape, dtype=torch.float64), alpha=0.5)
    return head


def states_of(head: OutputHead, n_queries: int, width: int) -> torch.Tensor:
    """Returns random states, of all layers where the head reads them."""
    return torch.randn(n_queries, *([LAYERS] if head.reads_layers else []), width, dtype=torch.float64)


def table(n_items: int, width: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(n_items, width, dtype=torch.float64)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few queries make a chunk."""
    monkeypatch.setattr(logits, "_CHUNK_BYTES", {"cpu": 8 * 17 * 40})


@BIAS
@pytest.mark.parametrize("spec", BUILT_IN_HEADS, ids=lambda spec: spec.name)
def test_settings_are_the_constructors_arguments(spec: HeadSpec, item_bias: bool) -> None:
    """Each under its argument's name; the item bias, which all heads have, too."""
    width, values = 8, {**spec.defaults, "item_bias": item_bias}
    with mock.patch.object(spec.head_class, "__init__", autospec=True, side_effect=spec.head_class.__init__) as made:
        head = spec.build(values, 17, width, n_layers=LAYERS)
    assert (head.item_bias is not None) == item_bias
    _, arguments = made.call_args
    own = {setting.argument or setting.key: setting.default for setting in spec.settings}
    assert arguments == {**own, "item_bias": item_bias} | ({"n_layers": LAYERS} if head.reads_layers else {})


def test_every_head_has_a_formula() -> None:
    assert {type(make(name, 5, 4)) for name in NAMES} == set(FORMULAS)


@ALL
@BIAS
def test_log_prob_and_loss_equal_the_formula(name: str, item_bias: bool) -> None:
    """log_prob is the formula's to 1e-11 for all items, and the loss is minus its mean at the targets."""
    head = make(name, 17, 5, item_bias=item_bias)
    state, weight, target = states_of(head, 23, 5), table(17, 5), torch.randint(17, (23,))
    expected = log_prob_by_hand(head, state, weight)
    with torch.no_grad():
        log_prob, without_gradients = head.log_prob(state, weight), head.loss(state, weight, target)
    np.testing.assert_allclose(log_prob.numpy(), expected, rtol=1e-11, atol=1e-11)
    loss = head.loss(state, weight, target)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(-expected[np.arange(23), target.numpy()].mean(), rel=1e-11)
    assert without_gradients.item() == pytest.approx(loss.item(), rel=1e-13)


@ALL
@BIAS
def test_gradients_equal_differences(name: str, item_bias: bool) -> None:
    """State, item table and all of the head's parameters get the gradients that differences of the loss show."""
    head = make(name, 6, 3, item_bias=item_bias)
    state, weight, target = states_of(head, 4, 3), table(6, 3), torch.randint(6, (4,))
    names, parameters = zip(*head.named_parameters(), strict=True) if list(head.parameters()) else ((), ())

    def loss(state: torch.Tensor, weight: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        with stateless._reparametrize_module(head, dict(zip(names, values, strict=True))):
            return head.loss(state, weight, target)

    inputs = [tensor.detach().clone().requires_grad_() for tensor in (state, weight, *parameters)]
    assert torch.autograd.gradcheck(loss, inputs, rtol=1e-6, atol=1e-8)


@ALL
@BIAS
def test_gradients_reach_all_and_scale(name: str, item_bias: bool) -> None:
    """Every parameter gets a gradient, which is that of the loss times what follows it."""
    head = make(name, 17, 5, item_bias=item_bias)
    state, weight, target = states_of(head, 16, 5).requires_grad_(), table(17, 5).requires_grad_(), torch.arange(16)
    leaves = [state, weight, *head.parameters()]
    once = torch.autograd.grad(head.loss(state, weight, target), leaves)
    thrice = torch.autograd.grad(3 * head.loss(state, weight, target), leaves)
    for one, three in zip(once, thrice, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(3 * one, three)


@ALL
@BIAS
@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_scorer_ranks_as_the_log_probabilities(name: str, item_bias: bool, scale: float) -> None:
    """Scores have the order of the log-probabilities and turn into them, in parts of any size that the scorer takes."""
    head = make(name, 300, 5, item_bias=item_bias)
    state, weight = states_of(head, 40, 5), table(300, 5, scale)
    with torch.no_grad():
        expected = head.log_prob(state, weight)
        scorer = head.scorer(weight)
        for part in torch.arange(40).split(min(13, scorer.n_queries)):
            scores, log_prob = scorer(*head.queries(state[part]))
            assert scores.shape == (len(part), 300)
            assert torch.equal(scores.argsort(dim=1), expected[part].argsort(dim=1))
            for item in (0, 1, 299):
                torch.testing.assert_close(log_prob(scores[:, item]), expected[part, item], rtol=1e-11, atol=1e-11)


@ALL
@BIAS
def test_all_items_sampled_is_the_loss(name: str, item_bias: bool) -> None:
    """With every item sampled once, with certainty, the sampled loss is the loss, and so are its gradients."""
    head = make(name, 17, 5, item_bias=item_bias)
    state, weight = states_of(head, 23, 5).requires_grad_(), table(17, 5).requires_grad_()
    target = torch.randint(17, (23,))
    leaves = [state, weight, *head.parameters()]
    sampled = head.sampled_loss(state, weight, target, torch.randperm(17), torch.zeros(17, dtype=torch.float64))
    full = head.loss(state, weight, target)
    assert sampled.item() == pytest.approx(full.item(), rel=1e-11)
    for one, other in zip(torch.autograd.grad(sampled, leaves), torch.autograd.grad(full, leaves), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_targets_and_negatives_share_the_mask_of_a_state() -> None:
    """Items that are all alike are equally likely, whatever dropout leaves of the state."""
    head = MoSSHead(30, 8, n_components=3, dropout=0.5).double().train()
    state, target = states_of(head, 200, 8), torch.randint(30, (200,))
    weight = table(1, 8).expand(30, 8)
    sampled = head.sampled_loss(state, weight, target, torch.arange(30), torch.zeros(30, dtype=torch.float64))
    assert sampled.item() == pytest.approx(math.log(30), rel=1e-9)


@pytest.mark.parametrize("name", [name for name in NAMES if make(name, 5, 3).n_components == 1])
def test_sampled_estimate_of_the_normaliser_is_unbiased(name: str) -> None:
    """Over all draws of two negatives with replacement, 1 / probability is the full loss's on average, where there is
    one component: E[Ẑ] = Z."""
    head = make(name, 5, 3)
    state, weight, target = states_of(head, 1, 3), table(5, 3), torch.tensor([2])
    proposal = torch.tensor([0.1, 0.3, 0.2, 0.15, 0.25], dtype=torch.float64)
    total = 0.0
    with torch.no_grad():
        for one in range(5):
            for two in range(5):
                sampled = torch.tensor([one, two])
                loss = head.sampled_loss(state, weight, target, sampled, (2 * proposal[sampled]).log())
                total += (proposal[one] * proposal[two] * loss.exp()).item()
        assert total == pytest.approx(head.loss(state, weight, target).exp().item(), rel=1e-12)


@ALL
def test_only_the_target_sampled(name: str) -> None:
    """Without any negative but the target itself the sampled loss is 0, with finite gradients."""
    head = make(name, 17, 5)
    state, weight = states_of(head, 4, 5).requires_grad_(), table(17, 5).requires_grad_()
    target = torch.full((4,), 7)
    loss = head.sampled_loss(state, weight, target, target[:1], torch.zeros(1, dtype=torch.float64))
    assert loss.item() == pytest.approx(0, abs=1e-12)
    for gradient in torch.autograd.grad(loss, [state, weight]):
        assert gradient.isfinite().all()


@ALL
@BIAS
@settings(deadline=None, max_examples=8)
@example(scale=1003.0, seed=38)
@given(scale=st.floats(1e-3, 1e4), seed=st.integers(0, 1000))
def test_any_scale(name: str, item_bias: bool, scale: float, seed: int) -> None:
    """In float32 probabilities sum to 1, and loss and gradients are finite, with small and with enormous logits."""
    head = make(name, 17, 5, item_bias=item_bias, seed=seed).float()
    state = states_of(head, 9, 5).float().mul(scale).requires_grad_()
    weight, target = table(17, 5, scale).float().requires_grad_(), torch.randint(17, (9,))
    with torch.no_grad():
        total = head.log_prob(state, weight).exp().sum(dim=-1)
    torch.testing.assert_close(total, torch.ones(9), rtol=0, atol=1e-5)
    head.train()
    loss = head.loss(state, weight, target)
    assert loss.isfinite()
    for gradient in torch.autograd.grad(loss, [state, weight, *head.parameters()]):
        assert gradient.isfinite().all()


@ALL
def test_padding_items_of_zeros(name: str) -> None:
    """An item whose vector is 0, and a state of 0, give finite log-probabilities and gradients of a usual size."""
    head = make(name, 17, 5)
    state, weight = states_of(head, 9, 5), table(17, 5)
    state[0], weight[0] = 0.0, 0.0
    leaves = [state.requires_grad_(), weight.requires_grad_()]
    loss = head.loss(state, weight, torch.arange(9))
    assert loss.isfinite()
    for gradient in torch.autograd.grad(loss, leaves):
        assert gradient.abs().max() < 1e6


@ALL
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000))
def test_invariances(name: str, seed: int) -> None:
    """Queries do not know of each other; the order of the items carries nothing but their own parameters."""
    head = make(name, 11, 4, item_bias=True, seed=seed)
    state, weight = states_of(head, 7, 4), table(11, 4)
    with torch.no_grad():
        whole = head.log_prob(state, weight)
        torch.testing.assert_close(head.log_prob(state[2:5], weight), whole[2:5], rtol=1e-12, atol=1e-12)
        order = torch.randperm(11)
        other = copy.deepcopy(head)
        for parameter in other.parameters():
            if parameter.shape[:1] == (11,):
                parameter.copy_(parameter[order])
        torch.testing.assert_close(other.log_prob(state, weight[order]), whole[:, order], rtol=1e-11, atol=1e-11)


@ALL
def test_a_gradient_penalty_counts_or_is_refused(name: str) -> None:
    """It is never silently a constant."""
    head = make(name, 17, 5)
    state, weight = states_of(head, 23, 5).requires_grad_(), table(17, 5).requires_grad_()
    loss = head.loss(state, weight, torch.randint(17, (23,)))
    with pytest.raises(RuntimeError, match="gradients of gradients"):
        torch.autograd.grad(loss, weight, create_graph=True)


@pytest.mark.parametrize("step", [512, 1])
def test_gradients_of_16_bits_are_added_up_in_32(step: int) -> None:
    """However many chunks there are."""
    rows, shared = torch.rand(512, 4), torch.rand(4, dtype=torch.bfloat16, requires_grad=True)
    total = chunked_sum(lambda row, weight: (row * weight.float()).sum(), [rows], [shared], [], step)
    (found,) = torch.autograd.grad(total, shared)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), rows.sum(dim=0), rtol=0.01, atol=0)


@ALL
@BIAS
def test_autocast(name: str, item_bias: bool) -> None:
    """Under bfloat16 autocast losses are float32 and near the exact ones; parameters get float32 gradients near the
    exact ones in direction."""
    head = make(name, 17, 8, item_bias=item_bias).float()
    state, weight = states_of(head, 64, 8).float().requires_grad_(), table(17, 8).float().requires_grad_()
    target, sampled = torch.randint(17, (64,)), torch.randint(17, (12,))
    counts = torch.full((12,), 12 / 17).log()
    leaves = [state, weight, *head.parameters()]
    found: list[list[torch.Tensor]] = []
    for context in (torch.autocast("cpu", dtype=torch.bfloat16), nullcontext()):
        with context:
            losses = [head.loss(state, weight, target), head.sampled_loss(state, weight, target, sampled, counts)]
        assert all(loss.dtype == torch.float32 for loss in losses)
        found.append([torch.stack(losses).detach(), *torch.autograd.grad(sum(losses), leaves)])
    torch.testing.assert_close(*(one[0] for one in found), rtol=0.05, atol=0.05)
    for low, exact in zip(found[0][1:], found[1][1:], strict=True):
        assert low.dtype == torch.float32
        if exact.numel() > 1:
            assert torch.cosine_similarity(low.flatten(), exact.flatten(), dim=0) > 0.95


@ALL
def test_evaluation_is_deterministic_and_training_is_seeded(name: str) -> None:
    """In evaluation two calls agree; in training they differ where the head has dropout, and not under one seed."""
    head = make(name, 17, 5)
    state, weight, target = states_of(head, 23, 5), table(17, 5), torch.randint(17, (23,))
    assert head.loss(state, weight, target) == head.loss(state, weight, target)
    head.train()

    def seeded(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return head.loss(state, weight, target)

    assert seeded(1) == seeded(1)
    assert (seeded(1) != seeded(2)) == (name in ("mol", "dnd"))


@ALL
def test_state_dict_round_trip(name: str) -> None:
    """A fresh head with another's state dict gives its log-probabilities."""
    head, other = make(name, 17, 5, item_bias=True), make(name, 17, 5, item_bias=True, seed=6)
    state, weight = states_of(head, 23, 5), table(17, 5)
    assert not torch.equal(head.log_prob(state, weight), other.log_prob(state, weight))
    other.load_state_dict(head.state_dict())
    assert torch.equal(head.log_prob(state, weight), other.log_prob(state, weight))


def monotone(values: torch.Tensor) -> torch.Tensor:
    """Returns for each row whether it never falls, or never rises, to 1e-9."""
    steps = values.diff(dim=1)
    return (steps >= -1e-9).all(dim=1) | (steps <= 1e-9).all(dim=1)


@ALL
def test_single_logit(name: str) -> None:
    """With vectors of one number a head of a single logit can only order items by that number, up or down; other heads
    order them otherwise for some queries."""
    head = make(name, 60, 1)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(std=3)
        found = monotone(head.log_prob(3 * states_of(head, 50, 1), torch.linspace(-3, 3, 60).double()[:, None]))
    assert found.all() == head.single_logit


@ALL
@pytest.mark.parametrize(("item_bias", "bound"), [(False, 5), (True, 6)])
def test_rank(name: str, item_bias: bool, bound: int) -> None:
    """Over 80 contexts and 60 items at d = 4 the log-probability matrix has rank d + 1 (d + 2 with a bias) for heads
    that are a softmax over dot products, r for d with an output rank r, and full rank for the others."""
    head = make(name, 60, 4, item_bias=item_bias)
    with torch.no_grad():
        values = torch.linalg.svdvals(head.log_prob(states_of(head, 80, 4), table(60, 4)))
    rank = int((values > 1e-10 * values[0]).sum())
    low = isinstance(head, SoftmaxHead | CosineHead | MoCHead | DnDHead)
    constrained = name.endswith("rank 2")
    if low:
        assert rank == bound - 2 * constrained
    else:
        assert rank == 60 or (constrained and rank > 50)  # its singular values fall to 1e-10


def test_output_rank_of_the_width_starts_as_none() -> None:
    """The matrix of rank r = d is the identity at first; a rank above d is refused."""
    torch.manual_seed(0)
    state, weight = states_of(SoftmaxHead(17, 5), 9, 5).float(), table(17, 5).float()
    torch.testing.assert_close(
        SoftmaxHead(17, 5, output_rank=5).log_prob(state, weight).detach(), SoftmaxHead(17, 5).log_prob(state, weight)
    )
    with pytest.raises(ValueError, match="output_rank is 6; expected at most the width, 5, or 0"):
        SoftmaxHead(17, 5, output_rank=6)


@ALL
def test_fresh_heads_learn_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From their starts, heads learn a planted softmax as fast as the softmax of their rank does: after 40 steps of
    Adam they have gained at least 0.7 of what it has."""

    monkeypatch.setattr(logits, "_CHUNK_BYTES", {"cpu": 2**24})
    generator = torch.Generator().manual_seed(3)
    context = torch.randn(400, 8, generator=generator)
    odds = 1.5 * context @ torch.randn(8, 30, generator=generator)
    target = torch.multinomial(odds.softmax(-1), 1, generator=generator).squeeze(1)

    def gain(head: OutputHead) -> float:
        torch.manual_seed(1)
        encoder, weight = torch.nn.Linear(8, 8), torch.nn.Parameter(0.2 * torch.randn(30, 8))
        optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters(), weight], lr=0.03)

        def loss() -> torch.Tensor:
            state = encoder(context)
            return head.loss(state[:, None].expand(-1, LAYERS, -1) if head.reads_layers else state, weight, target)

        for _ in range(40):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        head.eval()
        return np.log(30) - loss().item()

    torch.manual_seed(0)
    # MoL's cosines start at random, and so far from 0 where its vectors are as short as in the other tests.
    control = SoftmaxHead(30, 8, output_rank=2 * name.endswith("rank 2"))
    softmax, own = gain(control), gain(MoLHead(30, 8) if name == "mol" else MAKERS[name](30, 8))
    assert own > 0.7 * softmax, f"{own:.2f} of {softmax:.2f} nats"


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """One chunk or one query a chunk: the same loss and gradients."""
    head = make("moss", 17, 5, item_bias=True)
    assert isinstance(head, LogitHead)
    state, weight = states_of(head, 23, 5).requires_grad_(), table(17, 5).requires_grad_()
    target, leaves = torch.randint(17, (23,)), [state, weight, *head.parameters()]
    found = []
    for size in (1, 2**30):
        monkeypatch.setattr(logits, "_CHUNK_BYTES", {"cpu": size})
        assert head.n_queries(weight) == (1 if size == 1 else pytest.approx(2**30 / (3 * 17 * 8 * 4), abs=1))
        found.append(torch.autograd.grad(head.loss(state, weight, target), leaves))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_frozen_parameters_and_detached_states() -> None:
    """What needs no gradient gets none, and the rest is as before."""
    head = make("mixtape", 17, 5)
    state, weight, target = states_of(head, 23, 5), table(17, 5), torch.randint(17, (23,))
    head.loss(state, weight, target).backward()
    expected = head.gate.weight.grad.clone()
    head.zero_grad()
    head.projection.requires_grad_(False)
    head.loss(state, weight, target).backward()
    assert head.projection.weight.grad is None
    torch.testing.assert_close(head.gate.weight.grad, expected)


def test_cosine_temperature() -> None:
    """The fixed temperature is no parameter and in no checkpoint; the learned one starts at the setting."""
    fixed, learned = CosineHead(5, 3, temperature=0.2), CosineHead(5, 3, temperature=0.2, learned=True)
    assert not list(fixed.parameters())
    assert not fixed.state_dict()
    assert [name for name, _ in learned.named_parameters()] == ["log_temperature"]
    state, weight = torch.randn(4, 3), torch.randn(5, 3)
    torch.testing.assert_close(fixed.log_prob(state, weight), learned.log_prob(state, weight).detach())
    odds = fixed.log_prob(state, weight)
    assert (odds.amax(1) - odds.amin(1)).max() <= 2 / 0.2 + 1e-4
    torch.testing.assert_close(fixed.log_prob(7 * state, 3 * weight), odds, rtol=1e-5, atol=1e-5)


def test_doc_of_the_last_layer_is_mos() -> None:
    """With all components at the last layer, DOC is MoS with the same parameters, and its loss in evaluation."""
    doc = DOCHead(17, 5, n_layers=3, components_of_layers=[0, 0, 4]).double().eval()
    mos = MoSHead(17, 5, n_components=4).double()
    mos.load_state_dict({"projection.weight": doc.projections["2"].weight, "prior.weight": doc.prior.weight})
    state, weight, target = states_of(doc, 9, 5), table(17, 5), torch.arange(9)
    torch.testing.assert_close(doc.log_prob(state, weight), mos.log_prob(state[:, -1], weight))
    torch.testing.assert_close(doc.loss(state, weight, target), mos.loss(state[:, -1], weight, target))


def test_doc_counts_layers_from_the_last() -> None:
    """Fewer numbers than layers are those of the last layers: earlier layers change nothing."""
    head = make("doc", 17, 5)
    state, weight = states_of(head, 9, 5), table(17, 5)
    before = head.log_prob(state, weight)
    state[:, 0] += 1
    torch.testing.assert_close(head.log_prob(state, weight), before)
    state[:, 1] += 1
    assert not torch.allclose(head.log_prob(state, weight), before)


@pytest.mark.parametrize("counts", [[1, 1, 1], [], [0, 0], [-1, 2]])
def test_doc_refuses_what_does_not_fit(counts: list[int]) -> None:
    with pytest.raises(ValueError, match=r"encoder's 2 layers at most.*such as \[2"):
        DOCHead(17, 5, n_layers=2, components_of_layers=counts)


def test_doc_balances_in_training_only() -> None:
    """Training adds λ times the squared coefficient of variation of the components' weights in the batch, for the full
    loss and the sampled one; where all weights are equal that is 0."""
    torch.manual_seed(0)
    head = DOCHead(17, 5, n_layers=2, components_of_layers=[1, 2], balance=0.7).double().eval()
    state = torch.randn(9, 2, 5, dtype=torch.float64)
    weight, target, all_items = table(17, 5), torch.arange(9), torch.arange(17)
    plain = head.loss(state, weight, target)
    weights = np.exp(head.components(state)[1].detach().numpy()).sum(axis=0)
    expected = 0.7 * (weights.std() / weights.mean()) ** 2
    assert expected > 0.001
    head.train()
    sampled = head.sampled_loss(state, weight, target, all_items, torch.zeros(17).double())
    assert (head.loss(state, weight, target) - plain).item() == pytest.approx(expected, rel=1e-9)
    assert (sampled - plain).item() == pytest.approx(expected, rel=1e-9)
    torch.nn.init.zeros_(head.prior.weight)
    trained = head.loss(state, weight, target)
    assert trained.item() == pytest.approx(head.eval().loss(state, weight, target).item(), rel=1e-12)


@pytest.mark.parametrize("n_components", [0, 1, 3, 6])
def test_mixtape_refuses_what_is_no_tree(n_components: int) -> None:
    with pytest.raises(ValueError, match="power of 2"):
        MixtapeHead(17, 5, n_components=n_components)


@pytest.mark.parametrize("n_components", [2, 4, 8])
def test_mixtape_with_closed_gates_is_one_component(n_components: int) -> None:
    """Gates that all lead to the left, or all to the right, leave the first component, or the last."""
    head = make("mixtape", 17, 5) if n_components == 4 else MixtapeHead(17, 5, n_components=n_components).double()
    state, weight = states_of(head, 9, 5), table(17, 5)
    for closed, component in ((1e3, 0), (-1e3, n_components - 1)):
        torch.nn.init.constant_(head.item_gate_bias, closed)
        vector = torch.tanh(head.projection(state)).view(9, n_components, 5)[:, component]
        torch.testing.assert_close(head.log_prob(state, weight), (vector @ weight.T).log_softmax(-1))


@pytest.mark.parametrize("name", ["mos", "moc", "moss", "doc"])
def test_dropout_is_on_the_activated_vectors(name: str) -> None:
    """By hand, with the same random numbers: what is left of tanh(U h) is scaled up, beyond 1."""
    torch.manual_seed(2)
    head = MAKERS[name](17, 5, dropout=0.4).double().train()
    state = 3 * states_of(head, 9, 5)
    weights = (
        [one.weight for one in head.projections.values()] if isinstance(head, DOCHead) else [head.projection.weight]
    )
    layers = [state[:, int(one)] for one in head.projections] if isinstance(head, DOCHead) else [state]
    vector = torch.tanh(torch.cat([h @ u.T for h, u in zip(layers, weights, strict=True)], dim=1).view(9, -1, 5))
    torch.manual_seed(4)
    expected = functional.dropout(vector, 0.4)
    assert expected.max() > 1
    torch.manual_seed(4)
    if isinstance(head, DOCHead):
        found = head.components(state)[0]
    elif isinstance(head, MoCHead):
        (found, _), expected = head.components(state), head.log_weights(state).exp()[:, None] @ expected
    else:
        found = head.vectors(state)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["mos", "doc"])
def test_mixture_weights_start_apart_by_the_width(name: str) -> None:
    """M is drawn with the standard deviation 1 / √d."""
    torch.manual_seed(2)
    counts = {"components_of_layers": [40, 40], "n_layers": 2} if name == "doc" else {"n_components": 80}
    head: Any = {"mos": MoSHead, "doc": DOCHead}[name](3, 100, **counts)
    assert head.prior.weight.std().item() == pytest.approx(0.1, rel=0.03)


def test_mol_drops_weights_after_their_softmax() -> None:
    """By hand, with the same random numbers: what is left is divided by its sum."""
    head: Any = make("mol", 17, 5).train()
    head.gate_dropout.p = 0.3
    state, items = states_of(head, 9, 5), head.items(table(17, 5))
    query = functional.normalize(head.query_projection(state).view(9, -1, head.vector_size), dim=-1)
    logit = torch.einsum("npe,vqe->pqnv", query / head.temperature, items[0]).flatten(0, 1)
    gate = head.query_gate(state).T[..., None] * items[1].T[:, None]
    gate = functional.silu(gate + head.pair_gate.of_columns(logit.flatten(1)).view_as(logit))
    torch.manual_seed(4)
    weight = functional.dropout(gate.softmax(0), 0.3)
    torch.manual_seed(4)
    torch.testing.assert_close(head.logits(state, items)[:, 0], (weight * logit).sum(0) / weight.sum(0).clamp(min=1e-6))


def test_dnd_drops_numbers_of_the_mapped_items() -> None:
    """By hand, with the same random numbers."""
    head: Any = make("dnd", 17, 5).train()
    weight = table(17, 5)
    torch.manual_seed(4)
    expected = functional.dropout(weight @ head.decoupling.weight.T, head.dropout.p)
    torch.manual_seed(4)
    torch.testing.assert_close(head.item_vectors(weight), expected)


@pytest.mark.parametrize("name", ["softmax", "mos"])
@pytest.mark.parametrize("offset", [100.0, -100.0])
def test_biases_count_for_the_bound_on_exponentials(name: str, offset: float) -> None:
    """Logits of ± 100 nats overflow in float32 unless they are shifted, whatever they are made of."""
    head = make(name, 70, 5, item_bias=True)
    state, weight = states_of(head, 6, 5), table(70, 5)
    assert head.item_bias is not None
    head.item_bias.data += offset
    expected = head.log_prob(state, weight)
    scores, log_prob = head.float().scorer(weight.float())(*head.queries(state.float()))
    torch.testing.assert_close(log_prob(scores.T).T.double(), expected, rtol=1e-4, atol=1e-4)


def test_mol_gate_dropout() -> None:
    """Dropped weights leave a weighted mean of the other pairs' cosines: logits stay within ± 1/τ, or 0 where all are
    dropped."""
    torch.manual_seed(0)
    head = MoLHead(17, 5, query_vectors=1, item_vectors=2, temperature=0.5, gate_dropout=0.6).train()
    found = head.logits(torch.randn(200, 5), head.items(torch.randn(17, 5)))
    assert found.abs().max() <= 2 + 1e-5
    assert (found == 0).double().mean().item() == pytest.approx(0.36, abs=0.03)


def test_dnd_starts_as_a_softmax() -> None:
    """A fresh head's log-probabilities are the softmax's; in training, candidates' numbers are dropped."""
    head, softmax = DnDHead(17, 40, dropout=0.25), SoftmaxHead(17, 40)
    state, weight = torch.randn(9, 40), torch.randn(17, 40)
    torch.testing.assert_close(head.eval().log_prob(state, weight), softmax.log_prob(state, weight))
    assert (head.train().item_vectors(weight) == 0).double().mean().item() == pytest.approx(0.25, abs=0.06)
    assert torch.equal(head.eval().item_vectors(weight), weight)


def test_a_head_that_does_not_fit_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """More numbers than layers: exit status 2, the setting by its name, what fits, and nothing written."""
    arguments = ["--model", "GRU4Rec", "--head", "doc", "--doc_heads=[1, 2, 3]", "--output", str(tmp_path), "--quiet"]
    assert main(["run", *arguments]) == 2
    message = capsys.readouterr().err
    assert "head DOC: doc_heads is [1, 2, 3]; expected a number for each of the encoder's 2 layers at most" in message
    assert "such as [2, 2]" in message
    assert not list(tmp_path.rglob("*.json"))
