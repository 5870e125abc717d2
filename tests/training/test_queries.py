"""What queries and batches hold: contexts, seen items and candidates, by brute force over whole histories."""

import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
import pytest
import torch
from built import CPU, FIELDS, build
from hypothesis import given
from hypothesis import strategies as st
from tiny_data import write_inter

from mos_recbole.data import Segments, SequenceDataset, Sequences
from mos_recbole.experiment import RunData, load_settings, run_experiment
from mos_recbole.training import evaluate_model, make_query_set, make_train_loader, prefixes
from mos_recbole.training.prefixes import PrefixGatherer

L = 3
Rows = list[tuple[str, int]]


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Rows]]:
    """The folder of a data set, and each user's items with their times; 12 items, the user's first one his own alone.

    So there are items that training has as a context only, and items that it lacks.
    """
    generator = np.random.default_rng(5)
    users: dict[str, Rows] = defaultdict(list)
    for user in range(14):
        times = np.sort(generator.choice(100, generator.integers(2, 12), replace=False))
        items = [f"own{user}", *(f"i{item}" for item in generator.integers(0, 12, len(times) - 1))]
        users[f"u{user}"] = list(zip(items, map(int, times), strict=True))
    rows = [(user, item, time) for user, own in users.items() for item, time in own]
    return write_inter(tmp_path_factory.mktemp("histories"), "log", rows), users


SPLITS: dict[str, dict[str, Any]] = {
    "leave_one_out": {},
    "ratio": {"split": "ratio", "valid_ratio": 0.2, "test_ratio": 0.3},
    "side": {"split": "temporal", "valid_time": 40, "split_time": 60},
    "past": {"split": "temporal", "valid_time": 40, "split_time": 60, "context_reach": "past"},
}


def sides(own: Rows, name: str) -> tuple[dict[str, range], dict[str, int]]:
    """Returns the places of the targets of each side, and where the contexts of a side begin."""
    n = len(own)
    if name in ("side", "past"):
        borders = [0, *(sum(time < border for _, time in own) for border in (40, 60)), n]
    elif name == "ratio":
        n_test, n_valid = int(0.3 * (n - 1)), int(0.2 * (n - 1))
        n_train = n - 1 - n_test - n_valid
        for share, one in ((0.3 * (n - 1), "test"), (0.2 * (n - 1), "valid")):
            if n_train > 1 and 0 < share < 1:
                n_train -= 1
                n_test, n_valid = n_test + (one == "test"), n_valid + (one == "valid")
        borders = [0, n - n_test - n_valid, n - n_test, n]
    else:
        borders = [0, n - (n >= 3) - (n >= 4), n - (n >= 3), n]
    found, begins = {}, {}
    for side, start, stop in zip(("train", "valid", "test"), borders, borders[1:], strict=False):
        begins[side] = start if name == "side" else 0
        found[side] = range(max(start, begins[side] + 1), stop)
    return found, begins


@pytest.mark.parametrize("side", ["train", "valid", "test"])
@pytest.mark.parametrize("name", SPLITS)
def test_queries_are_those_of_the_histories(name: str, side: Literal["train", "valid", "test"], histories) -> None:
    """Targets, the last items of the context, all items that the user ever had before, and who is a candidate."""
    folder, users = histories
    overrides = {"MAX_ITEM_LIST_LENGTH": L, "filter_seen": True, **SPLITS[name]}
    settings = load_settings("GRU4RecSoftmax", str(folder), overrides=overrides)
    data = SequenceDataset(config := settings.recbole_config(CPU))
    split = data.split()
    protocol = replace(settings.protocol(has_repeats=True), candidates="trained")
    queries = make_query_set(config, data, split, side, protocol, CPU)
    names = data.field2id_token["item_id"]
    batch = queries.batch(torch.arange(len(queries)), FIELDS)
    found = []
    assert queries.seen is not None
    seen: dict[int, set[str]] = defaultdict(set)
    for query, item in zip(*(one.tolist() for one in queries.seen), strict=True):
        seen[query].add(names[item])
    for query, (user, items, length, target) in enumerate(
        zip(*(batch[key].tolist() for key in ("user_id", "item_id_list", "item_length", "item_id")), strict=True)
    ):
        context = [names[item] for item in items[:length]]
        found.append((data.field2id_token["user_id"][user], context, names[target], seen[query]))
    expected, trained = [], set()
    for user, own in users.items():
        items = [item for item, _ in own]
        places, begins = sides(own, name)
        if places["train"]:
            trained |= set(items[begins["train"] : places["train"].stop])
        for place in places[side]:
            context = items[max(begins[side], place - L) : place]
            expected.append((user, context, items[place], set(items[:place])))
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert queries.excluded_V is not None
    assert {names[item] for item in np.flatnonzero(queries.excluded_V)[1:]} == set(names[1:]) - trained
    # Items without a part in any target: the first ones of users with a training.
    assert any(item.startswith("own") for item in trained)


@pytest.mark.parametrize("crop", [True, False])
@given(
    length=st.lists(st.integers(1, 90), max_size=60),
    size=st.integers(1, 70),
    positions=st.integers(1, 3000),
)
def test_batches_have_every_sample_once_and_little_padding(
    length: list[int], size: int, positions: int, crop: bool
) -> None:
    """Cropped, they are sorted by length and small; otherwise in the samples' order and as few as can be."""
    offsets = np.concatenate([[0], np.cumsum(np.array(length, dtype=np.int64) + 1)])
    place = np.arange(len(length), dtype=np.int32)
    sequences = Sequences(np.ones(offsets[-1], dtype=np.int32), np.zeros(offsets[-1], dtype=np.int64), offsets, place)
    segments = Segments(place, offsets[:-1], offsets[1:] - 1, offsets[1:])
    gatherer = PrefixGatherer(sequences, segments, 50, CPU, crop=crop)
    with mock.patch.object(prefixes, "_CPU_POSITIONS", positions):
        parts = gatherer.batches(size)
    batches = [index.tolist() for index in parts]
    if not length:
        assert batches == [[]]
        return
    assert sorted(number for index in batches for number in index) == place.tolist()
    assert all(0 < len(index) <= size for index in batches)
    if not crop:
        assert [number for index in batches for number in index] == place.tolist()
        assert len(batches) == -(-len(length) // size)
        return
    kept = [[min(length[number], 50) for number in index] for index in batches]
    assert [one for index in kept for one in index] == sorted(min(one, 50) for one in length)
    assert all(index[-1] <= 1.25 * index[0] + 4 for index in kept)
    assert all(len(index) * index[-1] <= positions or len(index) == 1 for index in kept)
    for index, numbers in zip(kept, parts, strict=True):
        assert gatherer.batch(numbers, FIELDS)["item_id_list"].shape == (len(index), index[-1])


@pytest.mark.parametrize("eval_batch_size", [3, 4096])
def test_candidates_and_ranks_are_those_of_the_scores(histories, eval_batch_size: int) -> None:
    """Of each query by brute force, given the scores of all items, whatever the batches that it is ranked in."""
    folder, _ = histories
    options = {"filter_seen": True, "MAX_ITEM_LIST_LENGTH": 10, "eval_batch_size": eval_batch_size}
    built = build("GRU4RecSoftmax", folder, **options, **SPLITS["past"])
    settings = load_settings("GRU4RecSoftmax", str(folder), overrides={"filter_seen": True, **SPLITS["past"]})
    assert settings.protocol(has_repeats=True).candidates == "trained"
    queries = make_query_set(built.config, built.data, built.split, "test", settings.protocol(has_repeats=True), CPU)
    found = evaluate_model(built.model, built.config, queries, top_k=3)
    batch = queries.batch(torch.arange(len(queries)), FIELDS)
    scores, target = built.model.full_sort_predict(batch).tolist(), batch["item_id"].tolist()
    assert queries.seen is not None
    assert queries.excluded_V is not None
    pairs = set(zip(*(one.tolist() for one in queries.seen), strict=True))
    excluded = queries.excluded_V.tolist()
    for query, own in enumerate(scores):
        candidates = [
            item
            for item in range(1, len(own))
            if not excluded[item] and ((query, item) not in pairs or item == target[query])
        ]
        assert found.n_candidates[query] == len(candidates)
        if excluded[target[query]]:
            assert found.ranks("mean")[query] == np.inf
        else:
            better = sum(own[item] > own[target[query]] for item in candidates)
            assert found.better[query] == better
        best = sorted(candidates, key=lambda item: -own[item])[:3]
        assert found.top_items is not None
        assert [item for item in found.top_items[query].tolist() if item] == best


def test_models_are_asked_without_dropout(histories) -> None:
    """Also right after training, and twice the same."""
    built = build("GRU4RecMoS", histories[0], dropout_prob=0.9, mos_dropout=0.9)
    settings = load_settings("GRU4RecMoS", str(histories[0]))
    queries = make_query_set(built.config, built.data, built.split, "test", settings.protocol(has_repeats=True), CPU)
    expected = evaluate_model(built.model.eval(), built.config, queries).target_score
    assert evaluate_model(built.model.train(), built.config, queries).target_score.tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["side", "past"])
def test_outcomes_have_contexts_and_distances_of_the_histories(name: str, histories, tmp_path: Path) -> None:
    """The oldest item is that of the window, or the context's first; a side's context is shorter than the history."""
    folder, users = histories
    options = {"MAX_ITEM_LIST_LENGTH": L, "epochs": 1, **SPLITS[name]}
    record = run_experiment("Pop", str(folder), output=tmp_path, device="cpu", **options)
    data = RunData(load_settings("Pop", str(folder), overrides=options), CPU)
    outcomes = record.outcomes().set_index(["user", "position"])
    number = data.dataset.field2token_id["item_id"]
    n = 0
    for user, own in users.items():
        places, begins = sides(own, name)
        items = [number[item] for item, _ in own]
        for place in places["test"]:
            row, n = outcomes.loc[user, place], n + 1
            oldest = items[max(begins["test"], place - L)]
            pairs = np.array([[items[place - 1], items[place]], [oldest, items[place]]])
            previous, far = data.distance(pairs[:, 0], pairs[:, 1])
            assert (row["target"], row["context_length"]) == (own[place][0], place - begins["test"])
            assert (row["previous_distance"], row["oldest_distance"]) == pytest.approx((previous, far))
            assert row["time_gap"] == own[place][1] - own[place - 1][1]
            assert row["target_in_history"] == (own[place][0] in [item for item, _ in own[:place]])
    assert n == len(outcomes)


# ---------------------------------------------------------------------------------------------------- training batches


def test_masks_depend_on_the_seed_and_the_epoch_alone(histories) -> None:
    """And what Python's own random numbers are before and after does not matter."""
    built = build("BERT4Rec", histories[0], shuffle=False)
    loader = make_train_loader(built.config, built.data, built.split)
    masks = []
    for number, seed in ((1, 0), (2, 0), (1, 9)):
        random.seed(seed)
        before = random.getstate()
        (batch, _), *_ = loader.epoch(number)
        assert random.getstate() == before
        masks.append(batch["MASK_INDEX"].tolist())
    assert masks[0] == masks[2] != masks[1]


def test_a_labelled_batch_has_as_many_targets_as_negatives(histories) -> None:
    """Targets have the label 1 and are the data's; negatives 0, and are other items beside the same user."""
    built = build("DIN", histories[0], train_batch_size=10, shuffle=False)
    targets = []
    for batch, n_targets in make_train_loader(built.config, built.data, built.split).epoch(1):
        assert len(batch) == 2 * n_targets <= 10
        user, item, label = (batch[key].tolist() for key in ("user_id", "item_id", "label"))
        assert label == [1.0] * n_targets + [0.0] * n_targets
        assert user[:n_targets] == user[n_targets:]
        assert all(one != other for one, other in zip(item[:n_targets], item[n_targets:], strict=True))
        targets += zip(user[:n_targets], item[:n_targets], strict=True)
    rows, segment = built.split.train.targets()
    flat = built.data.sequences
    users = flat.users[built.split.train.user[segment]]
    assert targets == list(zip(users.tolist(), flat.items[rows].tolist(), strict=True))


def test_negatives_by_popularity_are_items_that_training_has(histories) -> None:
    """All of them, contexts included, and none that validation and test alone have."""
    folder, users = histories
    popular = {"train_neg_sample_args": {"distribution": "popularity", "sample_num": 1}}
    built = build("DIN", folder, train_batch_size=10, **popular, **SPLITS["past"])
    loader = make_train_loader(built.config, built.data, built.split)
    drawn: set[int] = set()
    for epoch in range(1, 101):
        for batch, n_targets in loader.epoch(epoch):
            drawn |= set(batch["item_id"][n_targets:].tolist())
    places = {user: sides(own, "past")[0]["train"] for user, own in users.items()}
    trained = {item for user, own in users.items() if places[user] for item, _ in own[: places[user].stop]}
    assert {item for own in users.values() for item, _ in own} - trained
    assert {built.data.id2token("item_id", item) for item in drawn} == trained
