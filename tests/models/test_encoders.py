"""Any encoder with any head: RecBole's models as encoders, and the names of models."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from built import L, build, redraw
from recbole.data.interaction import Interaction
from tiny_data import write_inter
from torch import nn

from mos_recbole.experiment import load_settings, run_experiment
from mos_recbole.models import ENCODERS, HEADS, own_model_names
from mos_recbole.models.encoders import CausalEncoder

SMALL = {
    "hidden_size": 8,
    "embedding_size": 8,
    "inner_size": 16,
    "n_heads": 2,
    "k_interests": 3,
    "prototype_size": 9,
    "nv": 2,
    "nh": 2,
    "block_num": 2,
}
OF_RECBOLE = [name for name, entry in ENCODERS.items() if entry.recbole_settings]
CAUSAL = [name for name, entry in ENCODERS.items() if entry.causal]


def sizes(model: str) -> dict[str, int]:
    """Returns small sizes for the settings that a model has."""
    known = load_settings(model).values
    return {key: value for key, value in SMALL.items() if key in known}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 20 users with 3 to 12 interactions and 15 items."""
    generator = np.random.default_rng(4)
    rows = [
        (f"u{user}", f"i{generator.integers(15)}", place)
        for user in range(20)
        for place in range(generator.integers(3, 13))
    ]
    return write_inter(tmp_path_factory.mktemp("encoders"), "small", rows)


@pytest.mark.parametrize("name", OF_RECBOLE)
def test_states_are_recboles_own(name: str, folder: Path) -> None:
    """An encoder's states, multiplied with the item table, are the scores of RecBole's class with the same weights."""
    ours = build(f"{name}Softmax", folder, **sizes(f"{name}Softmax"))
    model = ours.model.encoder.model
    redraw(model, std=0.3)
    batch = ours.train_batch()
    if name == "NextItNet":  # RecBole's takes the last column, be it padding
        batch = batch[batch["item_length"] == L]
    table = ours.model.item_table
    with torch.no_grad():
        if name == "BERT4Rec":
            model.output_bias = torch.zeros(ours.model.n_items)
        if name == "HGN":  # which has a table of its own for the candidates
            model.item_embedding_for_prediction = model.item_embedding
        expected = model.full_sort_predict(Interaction(batch.interaction | {}))
        scores = ours.model(batch) @ table.T
        if name == "CORE":
            scores = scores / table.norm(dim=1) / model.temperature
        # The padding's row of CORE may be zero.
        torch.testing.assert_close(scores[:, 1:], expected[:, 1:], rtol=1e-4, atol=1e-5)
    assert scores.std(dim=0).mean() > 1e-3, "the states hardly depend on the context"


def test_a_batch_stays_as_it_is(folder: Path) -> None:
    """Where RecBole's model writes into the lengths, too."""
    ours = build("HRMSoftmax", folder, **sizes("HRMSoftmax"), pooling_type_layer_1="average")
    batch = ours.train_batch()
    lengths = batch["item_length"].clone()
    ours.model(batch)
    assert lengths.max() > ours.model.encoder.model.high_order
    assert torch.equal(batch["item_length"], lengths)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_encoder_sees_nothing_of_later_items(name: str, folder: Path) -> None:
    """The states up to a position are the same whatever comes after it, in a batch of any width."""
    ours = build(f"{name}MoS", folder, **sizes(f"{name}MoS"))
    encoder = ours.model.encoder
    redraw(encoder, std=0.4)
    assert isinstance(encoder, CausalEncoder)
    first = torch.tensor([[3, 5, 1, 7, 2, 4], [9, 8, 7, 6, 5, 4]])
    second = first.clone()
    second[:, 3:] = torch.tensor([[1, 1, 2], [0, 0, 0]])
    with torch.no_grad():
        one, other, narrow = encoder(first), encoder(second), encoder(first[:, :3])
    torch.testing.assert_close(one[:, :3], other[:, :3])
    torch.testing.assert_close(one[:, :3], narrow)
    assert not torch.allclose(one[:, 3:], other[:, 3:], atol=1e-3)


@pytest.mark.parametrize("name", [name for name, entry in ENCODERS.items() if entry.has_layers])
def test_layers_end_with_the_state(name: str, folder: Path) -> None:
    """The states of all layers begin with the embedded items and end with what the encoder gives."""
    encoder = build(f"{name}Softmax", folder, **sizes(f"{name}Softmax")).model.encoder
    items = torch.tensor([[3, 5, 1, 7, 2, 4]])
    with torch.no_grad():
        layers, state = encoder.layers(items), encoder(items)
        encoder.train()  # with the same dropout
        torch.manual_seed(3)
        dropped = encoder.layers(items)[:, :, -1]
        torch.manual_seed(3)
        torch.testing.assert_close(dropped, encoder(items))
        encoder.eval()
    assert not torch.allclose(dropped, state)
    assert layers.shape == (1, 6, encoder.n_layers, encoder.width)
    torch.testing.assert_close(layers[:, :, -1], state)
    if name == "GRU4Rec":
        torch.testing.assert_close(layers[:, :, 0], encoder.item_embedding(items))


def trains(model: str, folder: Path, output: Path) -> None:
    """Trains a model for three epochs; asserts that the loss falls and that all metrics are finite."""
    losses = []
    settings = load_settings(
        model,
        str(folder),
        overrides={
            **sizes(model),
            "epochs": 3,
            "MAX_ITEM_LIST_LENGTH": L,
            "train_batch_size": 16,
            "topk": [5],
            "learning_rate": 0.01,
            "valid_metric": "NDCG@5",
        },
    )
    record = run_experiment(settings, output=output, on_epoch=lambda report: losses.append(report.loss))
    assert losses[-1] < losses[0]
    assert all(np.isfinite(metric.value) for metric in record.test.values())
    assert np.isfinite(record.outcomes()["log_probability"]).all()


@pytest.mark.parametrize("model", [f"{encoder}MoS" for encoder in ENCODERS])
def test_every_encoder_trains(model: str, folder: Path, tmp_path: Path) -> None:
    """A mixture on each encoder learns, by way of the whole run."""
    trains(model, folder, tmp_path)


@pytest.mark.parametrize("model", [name for name in own_model_names() if name.startswith(("GRU4Rec", "SASRec"))])
def test_every_head_trains(model: str, folder: Path, tmp_path: Path) -> None:
    """Each head on two encoders learns, by way of the whole run."""
    trains(model, folder, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("model", own_model_names())
def test_every_encoder_trains_with_every_head(model: str, folder: Path, tmp_path: Path) -> None:
    """Each combination that has a name learns, by way of the whole run."""
    trains(model, folder, tmp_path)


def test_an_encoder_starts_as_recboles_class(folder: Path) -> None:
    """By the spread of the first weights, which the bounds of other ways to draw them would miss."""
    wide = {"embedding_size": 64, "hidden_size": 128, "num_layers": 2}
    gru = build("GRU4RecSoftmax", folder, **wide, tie_weights=False).model
    xavier = (6 / (3 * 128 + 64)) ** 0.5
    for name, fan_in in (("weight_ih_l0", 64), ("weight_hh_l0", 128)):
        largest = float(gru.encoder.gru_layers.get_parameter(name).detach().abs().max())
        assert largest == pytest.approx((6 / (3 * 128 + fan_in)) ** 0.5, rel=0.01)
    assert float(gru.encoder.gru_layers.weight_ih_l1.detach().abs().max()) <= 128**-0.5 < xavier
    drawn = gru.encoder.item_embedding.weight.detach()
    assert float(drawn.abs().max() / drawn.std()) > 2.5  # a uniform distribution ends at the root of 3
    assert float(gru.output_table.detach().std()) == pytest.approx((2 / sum(gru.output_table.shape)) ** 0.5, rel=0.1)
    sasrec = build("SASRecSoftmax", folder, **sizes("SASRecSoftmax"), initializer_range=0.3).model
    drawn = torch.cat([layer.weight.flatten() for layer in sasrec.modules() if isinstance(layer, nn.Linear)])
    assert float(drawn.std()) == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("mode", ["prefix", "all_positions"])
def test_the_loss_over_all_items_as_negatives_is_that_of_the_softmax(
    mode: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the padding, which no sampler draws, counted once."""
    options = {**sizes("GRU4RecSoftmax"), "train_mode": mode}
    whole = build("GRU4RecSoftmax", folder, **options).model
    sampled = build("GRU4RecSoftmax", folder, **options, negative_sampling="uniform").model
    redraw(whole)
    sampled.load_state_dict(whole.state_dict())
    items = torch.arange(1, whole.n_items)
    monkeypatch.setattr(sampled.negative_sampler, "sample", lambda _: (items, torch.zeros(len(items))))
    batch = build("GRU4RecSoftmax", folder, **options).train_batch()
    torch.testing.assert_close(sampled.calculate_loss(batch), whole.calculate_loss(batch))


def test_popular_negatives_are_drawn_by_targets_not_by_contexts(folder: Path) -> None:
    """An item that training has as a context alone is no target, and so no popular negative."""
    ours = build("GRU4RecSoftmax", folder, **sizes("GRU4RecSoftmax"), negative_sampling="popularity", n_negatives=4)
    targets = torch.from_numpy(ours.data.train_target_counts(ours.split)).double()
    assert not np.array_equal(targets.numpy(), ours.data.train_counts(ours.split))
    weights = (targets[1:] + 1) ** 0.75
    found = ours.model.negative_sampler.log_prob(torch.arange(1, len(targets)))
    torch.testing.assert_close(found, (weights / weights.sum()).log())


@pytest.mark.parametrize("sampling", ["uniform", "popularity", "in_batch"])
@pytest.mark.parametrize("head", sorted(HEADS))
def test_every_head_trains_with_every_sampler_and_dropout(head: str, sampling: str, folder: Path) -> None:
    model = f"GRU4Rec{HEADS[head].label}"
    dropouts = {key: 0.5 for key in load_settings(model).values if key.endswith("dropout")}
    negatives = {} if sampling == "in_batch" else {"n_negatives": 4}
    built = build(model, folder, **sizes(model) | dropouts | negatives, negative_sampling=sampling)
    loss = built.model.train().calculate_loss(built.train_batch())
    loss.backward()
    assert math.isfinite(loss.item())
    assert all(torch.isfinite(one.grad).all() for one in built.model.parameters() if one.grad is not None)
