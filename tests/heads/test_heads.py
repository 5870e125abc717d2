"""The output heads against their formulas, written out in NumPy in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from mos_recbole.heads import MoSHead, OutputHead, SoftmaxHead
from mos_recbole.heads.scorer import MixtureScorer, mixture_log_prob
from mos_recbole.losses import tiles

N, V, D, K = 23, 17, 5, 3


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def normal(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def with_random_bias(head: OutputHead, generator: torch.Generator) -> OutputHead:
    """Returns the head in float64 with an item bias that is not zero, where it has one."""
    head = head.double()
    if head.item_bias is not None:
        nn.init.normal_(head.item_bias, generator=generator)
    return head


def log_prob_by_hand(
    state: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    projections: list[np.ndarray],
    prior: np.ndarray,
    activation: str,
) -> np.ndarray:
    """Returns log Σ_k π_k softmax(a(U_k h)·w + b), context by context and component by component."""
    rows = []
    for h in state:
        prior_weight = np.exp(prior @ h)
        prior_weight /= prior_weight.sum()
        probability = np.zeros(len(weight))
        for mixture_weight, projection in zip(prior_weight, projections, strict=True):
            component = projection @ h
            if activation == "tanh":
                component = np.tanh(component)
            score = np.exp(weight @ component + (0 if bias is None else bias))
            probability += mixture_weight * score / score.sum()
        rows.append(np.log(probability))
    return np.stack(rows)


def by_hand(head: OutputHead, state: torch.Tensor, weight: torch.Tensor, activation: str) -> np.ndarray:
    """Returns the log-probabilities that a head should give, from its parameters."""
    if isinstance(head, MoSHead):
        rows = head.projection.weight.detach().numpy()
        projections = [rows[k * D : (k + 1) * D] for k in range(head.n_components)]
        prior = head.prior.weight.detach().numpy()
    else:
        projections, prior = [np.eye(D)], np.zeros((1, D))
    bias = None if head.item_bias is None else head.item_bias.detach().numpy()
    return log_prob_by_hand(state.numpy(), weight.numpy(), bias, projections, prior, activation)


def make(kind: str, activation: str, item_bias: bool, generator: torch.Generator) -> OutputHead:
    torch.manual_seed(5)
    if kind == "softmax":
        return with_random_bias(SoftmaxHead(V, D, item_bias=item_bias), generator)
    return with_random_bias(MoSHead(V, D, n_components=K, activation=activation, item_bias=item_bias), generator)


HEADS = pytest.mark.parametrize(("kind", "activation"), [("softmax", "identity"), ("mos", "tanh"), ("mos", "identity")])
BIAS = pytest.mark.parametrize("item_bias", [False, True])


@HEADS
@BIAS
def test_log_prob_and_loss_equal_the_formula(
    kind: str, activation: str, item_bias: bool, generator: torch.Generator
) -> None:
    """log_prob is the formula's to 1e-12 for all items, and the loss is minus its mean at the targets."""
    head = make(kind, activation, item_bias, generator)
    state, weight = normal(generator, N, D), normal(generator, V, D)
    expected = by_hand(head, state, weight, activation)
    with torch.no_grad():
        log_prob = head.log_prob(state, weight)
    np.testing.assert_allclose(log_prob.numpy(), expected, rtol=1e-12, atol=1e-12)
    target = torch.randint(V, (N,), generator=generator)
    loss = head.loss(state, weight, target)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(-expected[np.arange(N), target.numpy()].mean(), rel=1e-12)


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("scale", [1.0, 200.0])
@HEADS
@BIAS
def test_scorer_ranks_as_the_log_probabilities(
    kind: str,
    activation: str,
    item_bias: bool,
    scale: float,
    lanes: int,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scores turn into the log-probabilities of all items and have their order: by logits, by probabilities, by
    log-probabilities (with logits of ±400), with full and padded tiles, for one thread and more."""
    n_items = 1000
    torch.manual_seed(5)
    head = MoSHead(n_items, D, n_components=K, activation=activation, item_bias=item_bias)
    if kind == "softmax":
        head = SoftmaxHead(n_items, D, item_bias=item_bias)
    head = with_random_bias(head, generator)
    state, weight = normal(generator, 40, D), scale * normal(generator, n_items, D)
    monkeypatch.setattr(tiles, "_CHUNK_ROWS", 13 * head.n_components)
    monkeypatch.setattr(tiles, "_TILE_BYTES", 100 * 13 * head.n_components * 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: lanes)
    with torch.no_grad():
        expected = head.log_prob(state, weight)
        scorer = head.scorer(weight)
        assert scorer.n_queries == 13
        for part in torch.arange(40).split(13):
            components, log_prior = head.components(state[part])
            scores, log_prob = scorer(components, log_prior)
            for item in (0, 1, 499, 500, 998, 999):
                found = log_prob(scores[:, item])
                torch.testing.assert_close(found, expected[part, item], rtol=1e-12, atol=1e-12)
            assert scores.shape == (len(part), n_items)
            assert torch.equal(scores.argsort(dim=1), expected[part].argsort(dim=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 200.0])
@pytest.mark.parametrize("n_components", [1, 4])
def test_scorer_in_low_precision(
    n_components: int, scale: float, dtype: torch.dtype, generator: torch.Generator
) -> None:
    """Scores turn into the log-probabilities that the same numbers give in the same precision."""
    components = normal(generator, 30, n_components, D).to(dtype)
    log_prior = normal(generator, 30, n_components).mul(5).log_softmax(-1).float()
    weight, bias = (scale * normal(generator, 700, D)).to(dtype), normal(generator, 700).to(dtype)
    scores, log_prob = MixtureScorer(weight, bias, n_components)(components, log_prior)
    expected = mixture_log_prob(components, log_prior, weight, bias)
    for item in (0, 350, 699):
        tolerance = 1e-6 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(log_prob(scores[:, item]), expected[:, item], rtol=tolerance, atol=20 * tolerance)


def test_scorer_refuses_what_it_has_no_room_for(generator: torch.Generator) -> None:
    scorer = MixtureScorer(normal(generator, 50, D), None, 2)
    for shape in ((scorer.n_queries + 1, 2), (1, 3)):
        with pytest.raises(ValueError, match="expected at most"):
            scorer(normal(generator, *shape, D), normal(generator, *shape))


@HEADS
@BIAS
def test_probabilities_sum_to_one(kind: str, activation: str, item_bias: bool, generator: torch.Generator) -> None:
    """The probabilities of a context sum to 1, in float64 to 1e-13 and in float32 to 1e-5, also with large logits."""
    head = make(kind, activation, item_bias, generator)
    for scale in (1.0, 30.0):
        state, weight = normal(generator, N, D), scale * normal(generator, V, D)
        for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 1e-5)):
            with torch.no_grad():
                total = head.to(dtype).log_prob(state.to(dtype), weight.to(dtype)).exp().sum(dim=-1)
            torch.testing.assert_close(total, torch.ones(N, dtype=dtype), rtol=0, atol=tolerance)
        head.double()


@HEADS
@BIAS
def test_gradients_equal_autograd_through_the_formula(
    kind: str, activation: str, item_bias: bool, generator: torch.Generator
) -> None:
    """State, item table and all of the head's parameters get the gradients of the formula in plain torch."""
    head = make(kind, activation, item_bias, generator)
    state, weight = normal(generator, N, D).requires_grad_(), normal(generator, V, D).requires_grad_()
    target = torch.randint(V, (N,), generator=generator)
    leaves = [state, weight, *head.parameters()]
    found = torch.autograd.grad(head.loss(state, weight, target), leaves)

    if isinstance(head, MoSHead):
        projected = torch.stack([state @ part.T for part in head.projection.weight.split(D)], dim=1)
        components = projected.tanh() if activation == "tanh" else projected
        prior = (state @ head.prior.weight.T).softmax(-1)
    else:
        components, prior = state[:, None], torch.ones(N, 1, dtype=torch.float64)
    logits = components @ weight.T + (0 if head.item_bias is None else head.item_bias)
    probability = (prior[..., None] * logits.softmax(-1)).sum(1)
    loss = -probability[torch.arange(N), target].log().mean()
    expected = torch.autograd.grad(loss, leaves)
    assert len(found) == 2 + (2 if kind == "mos" else 0) + item_bias
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@BIAS
def test_mixture_of_one_is_the_softmax(item_bias: bool, generator: torch.Generator) -> None:
    """MoS with K = 1, identity activation and U = I gives the softmax head's log-probabilities and loss."""
    mos = with_random_bias(MoSHead(V, D, n_components=1, activation="identity", item_bias=item_bias), generator)
    softmax = SoftmaxHead(V, D, item_bias=item_bias).double()
    with torch.no_grad():
        mos.projection.weight.copy_(torch.eye(D))
        if item_bias:
            softmax.item_bias.copy_(mos.item_bias)
    state, weight = normal(generator, N, D), normal(generator, V, D)
    target = torch.randint(V, (N,), generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(mos.log_prob(state, weight), softmax.log_prob(state, weight), rtol=1e-14, atol=1e-14)
    assert mos.loss(state, weight, target).item() == pytest.approx(
        softmax.loss(state, weight, target).item(), rel=1e-14
    )


def test_item_bias(generator: torch.Generator) -> None:
    """A head without item bias has no such parameter; a fresh one's bias is zero and changes nothing; a bias of an item
    multiplies its odds against any other item in every context."""
    state, weight = normal(generator, N, D), normal(generator, V, D)
    plain, biased = SoftmaxHead(V, D, item_bias=False).double(), SoftmaxHead(V, D, item_bias=True).double()
    assert not list(plain.parameters())
    assert [parameter.shape for parameter in biased.parameters()] == [(V,)]
    with torch.no_grad():
        before = biased.log_prob(state, weight)
        assert torch.equal(before, plain.log_prob(state, weight))
        biased.item_bias[4] = 0.7
        after = biased.log_prob(state, weight)
    shift = (after[:, 4] - after[:, 2]) - (before[:, 4] - before[:, 2])
    torch.testing.assert_close(shift, torch.full((N,), 0.7, dtype=torch.float64), rtol=1e-12, atol=0)


def test_number_of_components_and_parameters() -> None:
    """A softmax head is one component without parameters; MoS has K·d·d + K·d of them, V more with an item bias."""
    softmax, mos = SoftmaxHead(V, D, item_bias=False), MoSHead(V, D, n_components=K, item_bias=True)
    assert softmax.n_components == 1
    assert mos.n_components == K
    assert sum(parameter.numel() for parameter in softmax.parameters()) == 0
    assert sum(parameter.numel() for parameter in mos.parameters()) == K * D * D + K * D + V


def test_component_shapes_and_prior(generator: torch.Generator) -> None:
    """Components are [N, K, d] and within (-1, 1) under tanh; the exponentials of [N, K] log weights sum to 1."""
    mos = MoSHead(V, D, n_components=K).double()
    components, log_prior = mos.components(normal(generator, N, D))
    assert components.shape == (N, K, D)
    assert log_prior.shape == (N, K)
    assert (components.abs() < 1).all()
    torch.testing.assert_close(log_prior.exp().sum(-1), torch.ones(N, dtype=torch.float64), rtol=0, atol=1e-14)
    assert log_prior.std(dim=0).min() > 0.01, "the mixture weights do not depend on the context"


def test_dropout_in_training_only(generator: torch.Generator) -> None:
    """In training entries of the component vectors are 0 at the rate set and the rest scaled up; in evaluation all are
    as without dropout. The mixture weights are never dropped."""
    torch.manual_seed(2)
    head = MoSHead(V, 40, n_components=K, activation="identity", dropout=0.25).double()
    state = normal(generator, 200, 40)
    with torch.no_grad():
        head.eval()
        plain, log_prior = head.components(state)
        head.train()
        dropped, log_prior_in_training = head.components(state)
    assert torch.equal(log_prior, log_prior_in_training)
    torch.testing.assert_close(plain.flatten(1), head.projection(state), rtol=0, atol=0)
    zero = dropped == 0
    assert zero.double().mean().item() == pytest.approx(0.25, abs=0.02)
    torch.testing.assert_close(dropped[~zero], (plain / 0.75)[~zero])
    assert not torch.equal(head.components(state)[0] == 0, zero), "the same entries are dropped every time"


def test_no_dropout_by_default(generator: torch.Generator) -> None:
    """Without dropout set, training and evaluation give the same components."""
    head = MoSHead(V, D, n_components=K).double()
    state = normal(generator, N, D)
    assert torch.equal(head.train().components(state)[0], head.eval().components(state)[0])


def test_start_is_a_multiple_of_the_identity_plus_noise() -> None:
    """Each U_k starts as 2 I plus noise of variance 1 / 4d, other for each k; no component begins with a larger weight
    than the others."""
    torch.manual_seed(0)
    width, n_components = 64, 4
    head = MoSHead(V, width, n_components=n_components)
    matrices = torch.stack(head.projection.weight.detach().double().split(width))
    diagonal = matrices.diagonal(dim1=1, dim2=2).mean(dim=1)
    noise = matrices - diagonal[:, None, None] * torch.eye(width)
    # Four standard errors of a mean of `width` numbers, and of a standard deviation of many.
    assert (diagonal - 2).abs().max() < 4 * noise.std() / width**0.5
    assert noise.mean().abs() < 4 * noise.std() / noise.numel() ** 0.5
    assert noise.std().item() * 2 * width**0.5 == pytest.approx(1, abs=4 * (2 * noise.numel()) ** -0.5)
    between = torch.corrcoef(noise.flatten(1)) - torch.eye(n_components)
    assert between.abs().max() < 4 / width
    prior = head.components(torch.randn(2000, width))[1].exp().mean(dim=0)
    torch.testing.assert_close(prior, torch.full((n_components,), 1 / n_components), rtol=0, atol=0.05)


def numeric_rank(matrix: torch.Tensor) -> int:
    """Returns how many singular values exceed 1e-10 times the largest."""
    values = torch.linalg.svdvals(matrix)
    return int((values > 1e-10 * values[0]).sum())


@pytest.mark.parametrize(("item_bias", "bound"), [(False, 5), (True, 6)])
def test_rank_of_the_softmax_is_bounded(item_bias: bool, bound: int, generator: torch.Generator) -> None:
    """Over 80 contexts and 60 items at d = 4 the softmax's log-probability matrix has rank d + 1, d + 2 with a bias."""
    head = with_random_bias(SoftmaxHead(60, 4, item_bias=item_bias), generator)
    with torch.no_grad():
        log_prob = head.log_prob(normal(generator, 80, 4), normal(generator, 60, 4))
    assert numeric_rank(log_prob) == bound


@pytest.mark.parametrize("activation", ["tanh", "identity"])
def test_rank_of_the_mixture_is_not(activation: str, generator: torch.Generator) -> None:
    """On the same kind of data a mixture of 3 has a log-probability matrix of full rank; a mixture of one, the
    softmax's bound or less even with tanh, because tanh moves the states and not the rank of states times items."""
    torch.manual_seed(1)
    state, weight = normal(generator, 80, 4), normal(generator, 60, 4)
    with torch.no_grad():
        of_three = MoSHead(60, 4, n_components=3, activation=activation).double().log_prob(state, weight)
        of_one = MoSHead(60, 4, n_components=1, activation=activation).double().log_prob(state, weight)
    assert numeric_rank(of_one) <= 5
    assert numeric_rank(of_three) == 60


@pytest.mark.parametrize("kind", ["softmax", "mos"])
def test_low_precision_states(kind: str, generator: torch.Generator) -> None:
    """bf16 states and tables give float32 log-probabilities and a float32 loss, within bf16's rounding of the exact."""
    head = make(kind, "tanh", True, generator)
    state, weight = normal(generator, N, D), normal(generator, V, D)
    target = torch.randint(V, (N,), generator=generator)
    exact = by_hand(head, state, weight, "tanh" if kind == "mos" else "identity")
    low = head.to(torch.bfloat16)
    with torch.no_grad():
        log_prob = low.log_prob(state.bfloat16(), weight.bfloat16())
        loss = low.loss(state.bfloat16(), weight.bfloat16(), target)
    assert log_prob.dtype == loss.dtype == torch.float32
    np.testing.assert_allclose(log_prob.numpy(), exact, atol=0.1)
    assert loss.item() == pytest.approx(-exact[np.arange(N), target.numpy()].mean(), abs=0.03)
