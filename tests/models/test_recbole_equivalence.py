"""The models and batches of this project against RecBole's own on the same weights and data."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from built import CPU, L, build, redraw
from recbole.config import Config
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from tiny_data import write_inter
from torch import nn

from mos_recbole.data import Segments, SequenceDataset
from mos_recbole.evaluation import EvaluationProtocol
from mos_recbole.models import resolve_model
from mos_recbole.models.dropout import replace_dropout
from mos_recbole.training import make_query_set, make_train_loader
from mos_recbole.training.prefixes import Fields

# RecBole's own data set fills columns in place; its CPR models have a layer of no outputs.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:recbole"),
    pytest.mark.filterwarnings("ignore:Initializing zero-element tensors:UserWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning"),
]


SIZES = {
    "GRU4Rec": {"embedding_size": 12, "hidden_size": 20, "num_layers": 2},
    # Two dropouts that differ, so that neither is taken for the other.
    "SASRec": {
        **{"hidden_size": 12, "inner_size": 24, "n_layers": 2, "n_heads": 3},
        **{"hidden_dropout_prob": 0.2, "attn_dropout_prob": 0.6},
    },
    "NARM": {"embedding_size": 12, "hidden_size": 20, "n_layers": 1, "dropout_probs": [0.0, 0.0]},
    "CORE": {
        **{"embedding_size": 12, "inner_size": 24, "n_layers": 2, "n_heads": 3, "sess_dropout": 0.0},
        **{"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0},
    },
}
K = 3
# RecBole's softmax-CPR models as nothing but a mixture of K softmaxes with weights that depend on the context.
CPR_AS_MIXTURE = {
    "weight_mode": "dynamic",
    "n_facet": K,
    "n_facet_all": K,
    "n_facet_context": 0,
    "n_facet_reranker": 0,
    "n_facet_emb": 0,
    "n_facet_MLP": 0,
    "n_facet_window": 0,
    "use_proj_bias": 0,
}
# What these models add to a probability before they take its logarithm.
CPR_EPSILON = 1e-8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 26 users with 1 to 14 interactions and 18 items, rows in random order, no two times equal.

    Users 0 to 3 have 1 to 4 interactions; the times are whole numbers below 2^24, which float32 holds exactly.
    """
    generator = np.random.default_rng(3)
    sizes = [1, 2, 3, 4, *generator.integers(5, 15, 22)]
    user = np.repeat(np.arange(len(sizes)), sizes)
    times = generator.permutation(2**24)[: len(user)]
    items = generator.integers(0, 18, len(user))
    rows = [(f"u{u}", f"i{i}", t) for u, i, t in zip(user, items, times, strict=True)]
    generator.shuffle(rows)
    return write_inter(tmp_path_factory.mktemp("data"), "exact", rows)


def encoder_state(recbole: nn.Module, ours: nn.Module) -> dict[str, torch.Tensor]:
    """Returns RecBole's weights under the names of our encoder; there must be one for each."""
    names = list(ours.encoder.state_dict())
    theirs = recbole.state_dict()
    assert set(names) <= set(theirs)
    return {name: theirs[name] for name in names}


def relative_error(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Returns the largest deviation over the largest magnitude."""
    return ((found - truth).abs().max() / truth.abs().max()).item()


def gradient_errors(found: dict[str, torch.Tensor], truth: dict[str, torch.Tensor]) -> dict[str, float]:
    """Returns each gradient's largest deviation over its largest magnitude, "gradient of <name>" -> error.

    A magnitude counts as at least a hundredth of the largest of all: the gradient of an attention key's bias is zero
    but for rounding.
    """
    assert found.keys() == truth.keys()
    floor = 1e-2 * max(gradient.abs().max() for gradient in truth.values())
    return {
        f"gradient of {name}": ((found[name] - gradient).abs().max() / torch.max(gradient.abs().max(), floor)).item()
        for name, gradient in truth.items()
    }


def loss_and_gradients(model: nn.Module, batch: Interaction) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Returns the loss and the gradients of those parameters that have one."""
    model.zero_grad()
    loss = model.calculate_loss(batch)
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def softmax_errors(base: str, folder: Path, *, training: bool, double: bool = False) -> dict[str, float]:
    """Returns the relative errors of our softmax model against RecBole's class on the same batch and weights.

    In training mode both draw their dropout from the same seed, in the same way.
    """
    theirs = build(base, folder, **SIZES[base])
    ours = build(f"{base}Softmax", folder, **SIZES[base])
    replace_dropout(theirs.model)
    redraw(theirs.model)
    ours.model.encoder.load_state_dict(encoder_state(theirs.model, ours.model), strict=True)
    batch = theirs.train_batch()
    if double:
        theirs.model.double()
        ours.model.double()
    outcomes = []
    for model in (theirs.model, ours.model):
        model.train(training)
        torch.manual_seed(4)
        outcomes.append(loss_and_gradients(model, batch))
        model.eval()
    (their_loss, their_gradients), (our_loss, our_gradients) = outcomes
    assert set(their_gradients) == {name for name, _ in theirs.model.named_parameters()}
    renamed = {f"encoder.{name}": gradient for name, gradient in their_gradients.items()}
    errors = {"loss": relative_error(our_loss, their_loss), **gradient_errors(our_gradients, renamed)}
    with torch.no_grad():
        their_scores = theirs.model.full_sort_predict(batch).log_softmax(-1)
        our_scores = ours.model.full_sort_predict(batch)
        errors["scores"] = relative_error(our_scores, their_scores)
        our_own_scores = ours.model.full_sort_predict(ours.train_batch())
        errors["scores of our narrower batch"] = relative_error(our_own_scores, their_scores)
        picked = ours.model.predict(batch)
        errors["predict"] = relative_error(picked, our_scores.gather(1, batch["item_id"][:, None]).squeeze(1))
    assert their_scores.exp().max(-1).values.mean() > 3 / 18, "the predictions are too close to uniform to compare"
    return errors


@pytest.mark.parametrize("base", ["GRU4Rec", "SASRec"])
@pytest.mark.parametrize("training", [False, True])
def test_softmax_models_equal_recboles(base: str, training: bool, folder: Path) -> None:
    """GRU4RecSoftmax and SASRecSoftmax in prefix mode have the loss, the gradients and (as log-softmax of its scores)
    the scores of RecBole's GRU4Rec and SASRec to 1e-5, with and without dropout, on the weights loaded by name."""
    for name, error in softmax_errors(base, folder, training=training).items():
        assert error < 1e-5, name


@pytest.mark.parametrize("base", ["GRU4Rec", "SASRec"])
def test_softmax_models_equal_recboles_in_float64(base: str, folder: Path) -> None:
    """The same in float64 to 1e-12: what is left in float32 is rounding."""
    for name, error in softmax_errors(base, folder, training=False, double=True).items():
        assert error < 1e-12, name


def mixture_errors(base: str, folder: Path, *, double: bool) -> dict[str, float]:
    """Returns the relative errors of our MoS model against RecBole's CPR model on the same batch and weights.

    "loss with epsilon" is the error of what RecBole's loss formula makes of our probabilities.
    """
    theirs = build(f"{base}CPR", folder, **SIZES[base], **CPR_AS_MIXTURE)
    ours = build(f"{base}MoS", folder, **SIZES[base], mos_heads=K, mos_activation="identity")
    # Not so large that a target's probability comes near the epsilon.
    redraw(theirs.model, std=0.35)
    with torch.no_grad():
        theirs.model.weight_facet_decoder.bias.zero_()
        ours.model.encoder.load_state_dict(encoder_state(theirs.model, ours.model), strict=True)
        ours.model.head.projection.weight.copy_(torch.cat([part.weight for part in theirs.model.project_arr]))
        ours.model.head.prior.weight.copy_(theirs.model.weight_facet_decoder.weight)
    if double:
        theirs.model.double()
        ours.model.double()
    batch = theirs.train_batch()
    batch = batch[batch["item_length"] == L]
    assert len(batch) > 20

    their_loss, their_gradients = loss_and_gradients(theirs.model, batch)
    our_loss, our_gradients = loss_and_gradients(ours.model, batch)
    with torch.no_grad():
        their_probability = theirs.model.full_sort_predict(batch)
        our_probability = ours.model.full_sort_predict(batch).exp()
    with_epsilon = (our_probability + CPR_EPSILON).log()
    # GRU4RecCPR's cross-entropy normalises once more; SASRecCPR's does not.
    criterion = nn.functional.cross_entropy if base == "GRU4Rec" else nn.functional.nll_loss
    errors = {
        "probabilities": relative_error(our_probability, their_probability),
        "loss": relative_error(our_loss, their_loss),
        "loss with epsilon": relative_error(criterion(with_epsilon, batch["item_id"]), their_loss),
    }
    renamed = {f"encoder.{name}": their_gradients[name] for name, _ in ours.model.encoder.named_parameters()}
    renamed["head.projection.weight"] = torch.cat([their_gradients[f"project_arr.{k}.weight"] for k in range(K)])
    renamed["head.prior.weight"] = their_gradients["weight_facet_decoder.weight"]
    errors |= gradient_errors(our_gradients, renamed)
    prior = ours.model.head.components(ours.model(batch))[1].exp()
    assert prior.std(dim=0).min() > 0.02, "the mixture weights hardly depend on the context"
    assert our_probability.max(-1).values.mean() > 2 / 18, "the predictions are too close to uniform to compare"
    return errors


@pytest.mark.parametrize("base", ["GRU4Rec", "SASRec"])
@pytest.mark.parametrize("double", [False, True])
def test_mixture_models_equal_recboles_cpr_models(base: str, double: bool, folder: Path) -> None:
    """GRU4RecMoS and SASRecMoS with identity components have the probabilities, the loss and the gradients of RecBole's
    GRU4RecCPR and SASRecCPR to 1e-5, on the same weights and batch.

    What had to be aligned:

    - Settings: RecBole's models are set to a dynamic mixture of n_facet = K softmaxes and nothing else (no context,
      reranker or pointer partition, no multiple input states, no bias of the projections); ours to
      `mos_activation: identity`, as theirs have no tanh.
    - Weights: their K matrices `project_arr.k` are the K blocks of our `head.projection`; their
      `weight_facet_decoder` is our `head.prior` and has a bias that ours has not: it is zero.
    - Sequences: their models read the state at the last of L positions, which for shorter sequences is padding. The
      batch holds sequences of full length only.
    - Dropout is off.
    - The loss: theirs are of log(p + 1e-8), and GRU4RecCPR's normalises that once more, to (p + 1e-8) / (1 + V · 1e-8).
      The weights are such that no target is so improbable that this shows at 1e-5. Given the same formula on our
      probabilities, float64 agrees to 1e-12.
    """
    errors = mixture_errors(base, folder, double=double)
    for name, error in errors.items():
        assert error < 1e-5, name
    if double:
        assert errors["probabilities"] < 1e-12
        assert errors["loss with epsilon"] < 1e-12


# --- All positions -----------------------------------------------------------------------------------------------

OWN = ["GRU4RecSoftmax", "GRU4RecMoS", "SASRecSoftmax", "SASRecMoS"]


@pytest.mark.parametrize("name", [*OWN, "NARMMoS", "CORESoftmax"])
def test_windows_give_the_loss_of_their_prefixes(name: str, folder: Path) -> None:
    """Where every window begins with its user's sequence (T <= L), training on all positions at once gives the loss
    and the gradients of one prefix a target, on the same targets, in float64 without dropout, to 1e-11."""
    sizes = SIZES[name.removesuffix("Softmax").removesuffix("MoS")]
    options = {"MAX_ITEM_LIST_LENGTH": 20, "item_bias": True, "tie_weights": False}
    by_prefix = build(name, folder, **sizes, **options)
    by_window = build(name, folder, **sizes, **options, train_mode="all_positions")
    redraw(by_prefix.model)
    by_window.model.load_state_dict(by_prefix.model.state_dict())
    prefixes, windows = by_prefix.train_batch(), by_window.train_batch()
    assert windows["item_id"].ndim == 2
    assert len(windows["item_id"]) < len(prefixes) == len(windows) == (windows["item_id"] != 0).sum()
    assert sorted(windows["item_id"][windows["item_id"] != 0].tolist()) == sorted(prefixes["item_id"].tolist())
    expected, expected_gradients = loss_and_gradients(by_prefix.model.double(), prefixes)
    found, gradients = loss_and_gradients(by_window.model.double(), windows)
    assert relative_error(found, expected) < 1e-11
    assert set(gradients) == {parameter for parameter, _ in by_prefix.model.named_parameters()}
    for parameter, error in gradient_errors(gradients, expected_gradients).items():
        assert error < 1e-11, parameter


@pytest.mark.parametrize("name", OWN)
def test_states_know_nothing_of_later_items(name: str, folder: Path) -> None:
    """The state at a position is the same whatever follows it, padding or other items: windows leak no target."""
    model = build(name, folder, **SIZES[name.removesuffix("Softmax").removesuffix("MoS")]).model
    redraw(model)
    one = torch.tensor([[3, 1, 4, 1, 5, 9]])
    other = torch.tensor([[3, 1, 4, 2, 6, 5]])
    padded = torch.tensor([[3, 1, 4, 0, 0, 0]])
    with torch.no_grad():
        states = [model.double().encoder(sequence) for sequence in (one, other, padded, padded[:, :3])]
    for state in states[1:]:
        torch.testing.assert_close(state[:, :3], states[0][:, :3], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(states[0][:, 3:], states[1][:, 3:])


# --- Data --------------------------------------------------------------------------------------------------------


Row = tuple[int, int, tuple[int, ...], int]


def rows_of(batch: Interaction, width: int) -> list[Row]:
    """Returns (user, target, item_seq padded to `width`, length) of each sample, sorted."""
    sequences = [tuple(row + [0] * (width - len(row))) for row in batch["item_id_list"].tolist()]
    columns = (batch["user_id"].tolist(), batch["item_id"].tolist(), sequences, batch["item_length"].tolist())
    return sorted(zip(*columns, strict=True))


@pytest.fixture
def recbole_dataset(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SequentialDataset:
    """RecBole's own data set, prefixes materialised, out of its own configuration with its default LS split."""
    # RecBole reads its settings from sys.argv and sets CUDA_VISIBLE_DEVICES.
    monkeypatch.setattr(sys, "argv", ["x"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    settings = {
        "data_path": str(folder.parent),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": L,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "train_neg_sample_args": None,
        "use_gpu": False,
    }
    return SequentialDataset(Config(model=resolve_model("GRU4Rec"), dataset=folder.name, config_dict=settings))


@pytest.mark.parametrize("name", ["GRU4Rec", "GRU4RecSoftmax"])
def test_samples_and_split_equal_recboles(name: str, folder: Path, recbole_dataset: SequentialDataset) -> None:
    """Our training batches and the queries of validation and test hold just the rows that RecBole's augmentation and
    LS split make: users of 1 to 4 interactions, of more than L, and in between; ours may be cut to the longest row."""
    ours = build(name, folder)
    for field in ("user_id", "item_id"):
        assert list(ours.data.field2id_token[field]) == list(recbole_dataset.field2id_token[field])
    protocol = EvaluationProtocol(split={"name": "leave_one_out"}, filter_seen=False, tie_rule="mean")
    batches = [ours.train_batch()]
    for side in ("valid", "test"):
        queries = make_query_set(ours.config, ours.data, ours.split, side, protocol, CPU)
        batches.append(queries.gatherer.batch(torch.arange(len(queries)), Fields.of(ours.config)))
    for batch, theirs in zip(batches, recbole_dataset.build(), strict=True):
        expected = rows_of(theirs.inter_feat, L)
        assert rows_of(batch, L) == expected
    if name == "GRU4Rec":
        assert all(batch["item_id_list"].shape[1] == L for batch in batches)


def test_leave_one_out_targets_equal_recboles(folder: Path, recbole_dataset: SequentialDataset) -> None:
    """By number of interactions n, a user has the targets that RecBole gives: none for n = 1, one training target for
    n = 2, a test target for n >= 3 (and one for training if n = 3), a validation target from n = 4 on."""
    data = build("GRU4Rec", folder).data
    split = data.split()
    users = {f"u{number}": recbole_dataset.token2id("user_id", f"u{number}") for number in range(26)}
    theirs = [side.inter_feat for side in recbole_dataset.build()]
    sides = (split.train, split.valid, split.test)
    for segments, side in zip(sides, theirs, strict=True):
        assert targets_by_user(data, segments) == by_user(side["user_id"], side["item_id"], side["timestamp"])
    counts = {
        name: tuple(len(targets_by_user(data, segments).get(number, [])) for segments in sides)
        for name, number in users.items()
    }
    assert counts["u0"] == (0, 0, 0)
    assert counts["u1"] == (1, 0, 0)
    assert counts["u2"] == (1, 0, 1)
    assert counts["u3"] == (1, 1, 1)
    for number in range(4, 26):
        n_train, n_valid, n_test = counts[f"u{number}"]
        assert n_train >= 2
        assert (n_valid, n_test) == (1, 1)


def by_user(user: torch.Tensor, item: torch.Tensor, time: torch.Tensor) -> dict[int, list[tuple[int, int]]]:
    """Returns each user's (time, item) pairs in the order of time."""
    found: dict[int, list[tuple[int, int]]] = {}
    for u, t, i in sorted(zip(user.tolist(), time.tolist(), item.tolist(), strict=True)):
        found.setdefault(u, []).append((int(t), i))
    return found


def targets_by_user(data: SequenceDataset, segments: Segments) -> dict[int, list[tuple[int, int]]]:
    rows, segment = segments.targets()
    user = data.sequences.users[segments.user[segment]]
    return by_user(*(torch.from_numpy(a) for a in (user, data.sequences.items[rows], data.sequences.times[rows])))


def test_shuffled_batches_hold_the_same_samples(folder: Path) -> None:
    """Shuffled batches of several hold the same samples as the one unshuffled batch, in another order every epoch."""
    whole = build("GRU4Rec", folder)
    expected = rows_of(whole.train_batch(), L)
    several = build("GRU4Rec", folder, train_batch_size=7)
    loader = make_train_loader(several.config, several.data, several.split)
    orders = []
    for epoch in range(2):
        samples = [row for batch, _ in loader.epoch(epoch) for row in zip(*columns_of(batch), strict=True)]
        assert sorted(samples) == expected
        orders.append(samples)
    assert orders[0] != orders[1]
    assert orders[0] != expected


def columns_of(batch: Interaction) -> tuple[list, ...]:
    sequences = [tuple(row) for row in batch["item_id_list"].tolist()]
    return batch["user_id"].tolist(), batch["item_id"].tolist(), sequences, batch["item_length"].tolist()
