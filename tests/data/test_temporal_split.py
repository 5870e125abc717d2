"""The temporal split, the order of ties, and candidates that training saw, against plain loops."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tiny_data import write_inter

from mos_recbole import run_experiment
from mos_recbole.data import Segments, SequenceDataset, Split, prepare
from mos_recbole.data.prepare import time_order
from mos_recbole.data.sequences import Sequences
from mos_recbole.data.splits.temporal import temporal_split
from mos_recbole.data.summary import summarise
from mos_recbole.errors import InputError
from mos_recbole.experiment import load_settings
from mos_recbole.results import RunResult

CPU = torch.device("cpu")
SIDES = ("train", "valid", "test")
# (user, row, first row of its context)
Targets = list[tuple[int, int, int]]


def flat(histories: Sequence[Sequence[int]], time_scale: int = 1) -> Sequences:
    """Returns users with interactions at these times, whose items are numbered by row from 1."""
    times = [time for history in histories for time in sorted(history)]
    return Sequences(
        items=np.arange(1, len(times) + 1, dtype=np.int32),
        times=np.array(times, dtype=np.int64),
        offsets=np.cumsum([0, *map(len, histories)]),
        users=np.arange(1, len(histories) + 1, dtype=np.int32),
        time_scale=time_scale,
    )


def targets_of(segments: Segments) -> Targets:
    rows, segment = segments.targets()
    users, first = segments.user[segment], segments.context_start[segment]
    return [(int(user), int(row), int(start)) for user, row, start in zip(users, rows, first, strict=True)]


def naive_targets(histories: Sequence[Sequence[int]], low: float, high: float, reach: str, minimum: int) -> Targets:
    """Returns the targets with a time in [low, high), user by user, by the words of the docstring."""
    found: Targets = []
    first_row = 0
    for user, history in enumerate(histories):
        rows = [first_row + place for place, time in enumerate(sorted(history)) if low <= time < high]
        if len(rows) >= minimum:
            context = rows[0] if reach == "side" else first_row
            found += [(user, row, context) for row in rows if row > context]
        first_row += len(history)
    return found


def split_of(sequences: Sequences, **changes: Any) -> Split:
    settings = {
        **{"split_time": None, "test_share": 0.2, "valid_time": None, "valid_share": 0.2},
        **{"context_reach": "side", "min_side_interactions": 1},
    }
    return temporal_split(sequences, **{**settings, **changes})


@given(
    histories=st.lists(st.lists(st.integers(-20, 30), min_size=1, max_size=9), min_size=1, max_size=6),
    split_time=st.integers(-25, 35),
    valid_share=st.floats(0.01, 0.9),
    valid_time=st.none() | st.integers(-25, 35),
    reach=st.sampled_from(["side", "past"]),
    minimum=st.integers(1, 4),
)
def test_the_split_equals_plain_loops(
    histories: list[list[int]], split_time: int, valid_share: float, valid_time: int | None, reach: str, minimum: int
) -> None:
    """Targets, contexts and counts of all sides, with a time that may lie outside of the data."""
    found = split_of(
        flat(histories),
        split_time=split_time,
        valid_share=valid_share,
        valid_time=valid_time,
        context_reach=reach,
        min_side_interactions=minimum,
    )
    times = sorted(time for history in histories for time in history)
    before = [time for time in times if time < split_time]
    valid_from = int(found.facts["valid_from"])
    if valid_time is not None:
        assert valid_from == min(valid_time, split_time)
    else:
        assert sum(time >= valid_from for time in before) <= valid_share * len(before)
    if (
        valid_time is None and before and valid_from > before[0]
    ):  # the earliest such time: one earlier there would be too many
        assert sum(time >= valid_from - 1 for time in before) > valid_share * len(before)
    borders = {"train": (-np.inf, valid_from), "valid": (valid_from, split_time), "test": (split_time, np.inf)}
    for side in SIDES:
        low, high = borders[side]
        expected = naive_targets(histories, low, min(high, split_time) if side != "test" else high, reach, minimum)
        assert targets_of(getattr(found, side)) == expected, side
    assert found.facts["test_from"] == split_time
    assert found.facts["users_before_test"] == sum(min(history) < split_time for history in histories)
    assert found.facts["items_before_test"] == len(before)
    assert found.facts["targets_before_test"] == len(naive_targets(histories, -np.inf, split_time, reach, minimum))


@pytest.mark.parametrize("n_rows", [100, 1000])
@pytest.mark.parametrize("share", [round(1 / 9, 12), 0.1, 0.29])
def test_a_share_that_is_a_whole_number_of_rows(share: float, n_rows: int) -> None:
    """All times differ: exactly so many rows, though the written share or its product is a little less."""
    times = np.arange(round(n_rows * 0.9) if share > 0.11 and share < 0.12 else n_rows)
    test_from = split_of(flat([[time] for time in times.tolist()]), test_share=share).facts["test_from"]
    assert len(times) - test_from == round(share * len(times))


@given(
    histories=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=9), min_size=1, max_size=6),
    test_share=st.floats(0.01, 0.99),
)
def test_a_share_is_never_exceeded_and_nearly_reached(histories: list[list[int]], test_share: float) -> None:
    """The test begins at the earliest time from which on there are no more than the share, ties kept together."""
    times = np.sort([time for history in histories for time in history])
    test_from = split_of(flat(histories), test_share=test_share).facts["test_from"]
    assert (times >= test_from).sum() <= test_share * len(times)
    if test_from > times[0]:
        assert (times >= test_from - 1).sum() > test_share * len(times)


def test_times_over_the_whole_range_of_int64() -> None:
    """A share of them, and a border."""
    lowest, highest = -(2**63), 2**63 - 1
    sequences = flat([[lowest, lowest + 1, 0, highest - 1], [lowest, highest]])
    facts = split_of(sequences, test_share=0.4, valid_share=0.3).facts
    assert (facts["valid_from"], facts["test_from"]) == (lowest + 2, 1)
    assert split_of(sequences, test_share=0.2, valid_share=0.3).facts["test_from"] == highest


def test_general_models_train_on_everything_before_validation() -> None:
    """Users with one interaction included, and none of what is later, target or not."""
    sequences = flat([[0, 1, 2, 50, 60], [3], [55], [61]])
    split = split_of(sequences, split_time=60, valid_share=0.4)
    assert sequences.times[split.train_interactions(sequences.offsets)].tolist() == [0, 1, 2, 3]


@settings(max_examples=30)
@given(
    histories=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=9), min_size=1, max_size=6),
    split_time=st.integers(2, 8),
)
def test_the_summary_counts_as_plain_loops_do(histories: list[list[int]], split_time: int) -> None:
    """Test targets that are tied with the row before, of items and of users that training lacks; users of the sides."""
    plain = flat(histories)
    sequences = replace(plain, items=1 + (plain.items * 3 % 7).astype(np.int32))
    split = split_of(sequences, split_time=split_time, valid_time=split_time - 1)
    assume(split.test.n_targets)
    sides = {side: targets_of(getattr(split, side)) for side in SIDES}
    trained = {int(item) for item in sequences.items[split.train_rows(len(sequences.items))]}
    found = summarise(
        sequences,
        split,
        n_items=7,
        tied_share=0.5,
        is_trained=np.array([item in trained for item in range(8)]),
        in_file_order=False,
    )
    rows = [row for _, row, _ in sides["test"]]
    users = {side: {user for user, *_ in targets} for side, targets in sides.items()}
    assert found.tied_test_share == np.mean([plain.times[row] == plain.times[row - 1] for row in rows])
    assert found.unseen_test_share == np.mean([int(sequences.items[row]) not in trained for row in rows])
    assert found.new_test_share == np.mean([user not in users["train"] for user, *_ in sides["test"]])
    assert [found.train_users, found.valid_users, found.test_users] == [len(users[side]) for side in SIDES]
    assert [found.train_targets, found.valid_targets, found.test_targets] == [len(sides[side]) for side in SIDES]
    assert found.users_without_targets == len(histories) - len(set().union(*users.values()))
    counts = (found.users, found.interactions, found.trained_items)
    assert counts == (len(histories), len(plain.times), len(trained))


def test_the_example_of_the_docstring() -> None:
    """Eight items, the test from the sixth on, validation from the fourth."""
    sequences = flat([range(8)])
    for reach, test in (("side", [(0, 6, 5), (0, 7, 5)]), ("past", [(0, 5, 0), (0, 6, 0), (0, 7, 0)])):
        split = split_of(sequences, split_time=5, valid_share=0.4, context_reach=reach)
        assert targets_of(split.test) == test
        assert [row for _, row, _ in targets_of(split.train)] == [1, 2]
        assert split.train_rows(8).tolist() == [True] * 3 + [False] * 5
        assert split.train_target_rows(8).tolist() == [False, True, True] + [False] * 5


def test_a_time_with_a_fraction_is_in_the_unit_of_the_file() -> None:
    """Times are counted in millionths where the file has fractions; facts are in the file's unit."""
    histories = [[1_000_000, 1_250_000, 1_500_000, 1_750_000, 2_000_000]]
    split = split_of(flat(histories, time_scale=1_000_000), split_time=1.5, valid_share=0.5)
    assert split.facts["test_from"] == 1.5
    assert [row for _, row, _ in targets_of(split.test)] == [3, 4]
    for ticks in (8_300_000, 16_600_000, 2_007_000):  # times 10**6 they are a little more than whole
        histories = [[0, 1, 2, 3, ticks, ticks + 1]]
        split = split_of(flat(histories, time_scale=1_000_000), split_time=ticks / 1_000_000, valid_share=0.5)
        assert [row for _, row, _ in targets_of(split.test)] == [5]
    # Whole times, and a border between two of them.
    assert [row for _, row, _ in targets_of(split_of(flat([[1, 2, 3, 4]]), split_time=2.5).test)] == [3]


# ------------------------------------------------------------------------------------------------ through a data set


def load(folder: Path, **overrides: Any) -> SequenceDataset:
    return SequenceDataset(load_settings("GRU4RecSoftmax", str(folder), overrides=overrides).recbole_config(CPU))


@pytest.fixture
def months(tmp_path: Path) -> Path:
    """40 users over 1,000 seconds, most of their items soon after each other; items 30 and up come late."""
    generator = np.random.default_rng(11)
    rows: list[tuple[str, str, int]] = []
    for user in range(40):
        times = np.sort(generator.integers(0, 200, generator.integers(2, 30))) + generator.integers(0, 800)
        rows += [(f"u{user}", f"i{generator.integers(30) + 10 * (time > 700)}", int(time)) for time in times]
    return write_inter(tmp_path, "months", rows)


TEMPORAL = {"split": "temporal", "split_time": 750, "valid_share": 0.2, "min_side_interactions": 3}


def test_models_of_every_kind_train_by_the_split_and_forecast(months: Path, tmp_path: Path) -> None:
    """One protocol for all; unseen targets are misses; outcomes say what a query was, as plain loops find it."""
    data = load(months, **TEMPORAL)
    flat_data, split = data.sequences, data.split()
    trained = set(flat_data.items[split.train_rows(len(flat_data.items))].tolist())
    expected = targets_of(split.test)
    records = []
    for model in ("GRU4RecSoftmax", "GRU4RecMoS", "GRU4Rec", "Pop", "BPR"):
        record = run_experiment(model, str(months), output=tmp_path, epochs=1, MAX_ITEM_LIST_LENGTH=4, **TEMPORAL)
        records.append(record)
        table = record.outcomes()
        assert len(table) == len(expected)
        for (user, row, first), outcome in zip(expected, table.itertuples(), strict=True):
            target = int(flat_data.items[row])
            assert outcome.user == data.id2token("user_id", flat_data.users[user])
            assert outcome.target == data.id2token("item_id", target)
            assert outcome.position == row - flat_data.offsets[user]
            assert outcome.context_length == row - first
            assert outcome.time_gap == flat_data.times[row] - flat_data.times[row - 1]
            assert outcome.candidates == len(trained)
            assert np.isinf(outcome.rank) == (target not in trained)
            assert target in trained or outcome.train_count == 0
            if model.startswith("GRU4RecS"):
                assert np.isnan(outcome.log_probability) == (target not in trained)
        share = np.isinf(table["rank"]).mean()
        assert 0 < share < 1
        assert record.data["unseen_test_share"] == pytest.approx(share)
        recall = record.test["Recall@100"].value  # more than there are items: only what is no candidate is missed
        assert recall == pytest.approx(1 - share)
    assert len({record.protocol_hash for record in records}) == 1
    assert records[0].protocol["split"] == {"name": "temporal", "context_reach": "side", **_split_settings()}
    assert records[0].protocol["candidates"] == "trained"


def _split_settings() -> dict[str, Any]:
    return {key: TEMPORAL[key] for key in ("split_time", "valid_share", "min_side_interactions")}


def test_the_oldest_item_of_the_window_is_that_of_the_articles_code(months: Path, tmp_path: Path) -> None:
    """The distances to the item before the target and to the first of the last L, by sets of users."""
    length = 4
    record = run_experiment("Pop", str(months), output=tmp_path, MAX_ITEM_LIST_LENGTH=length, **TEMPORAL)
    data = load(months, **TEMPORAL)
    flat_data, split = data.sequences, data.split()
    users: dict[int, set[int]] = defaultdict(set)
    in_training = split.train_rows(len(flat_data.items))
    for user, (start, stop) in enumerate(zip(flat_data.offsets[:-1], flat_data.offsets[1:], strict=True)):
        for row in range(start, stop):
            if in_training[row]:
                users[int(flat_data.items[row])].add(user)

    def distance(one: int, other: int) -> float:
        common, sizes = len(users[one] & users[other]), len(users[one]) * len(users[other])
        return 1 - common / sizes**0.5 if sizes else 1.0

    table = record.outcomes()
    for (_, row, first), outcome in zip(targets_of(split.test), table.itertuples(), strict=True):
        target, oldest = int(flat_data.items[row]), max(first, row - length)
        assert outcome.previous_distance == pytest.approx(distance(int(flat_data.items[row - 1]), target))
        assert outcome.oldest_distance == pytest.approx(distance(int(flat_data.items[oldest]), target))
    assert (table["oldest_distance"] != table["previous_distance"]).any()


def test_training_learns_from_nothing_after_its_end(months: Path, tmp_path: Path) -> None:
    """Other interactions from the validation on leave a model's training loss as it is, to the last digit."""
    lines = (months / "months.inter").read_text().splitlines()
    valid_from = load(months, **TEMPORAL).split().facts["valid_from"]
    rows, known = [], set()
    for user, item, time in (line.split("\t") for line in lines[1:]):
        # Ids are given in the order of the file: where an item is first, it stays.
        rows.append((user, "i3" if int(time) >= valid_from and {item, "i3"} <= known else item, time))
        known.add(item)
    other = write_inter(tmp_path, "other", rows)
    assert load(months, **TEMPORAL).item_num == load(other, **TEMPORAL).item_num
    losses = [
        run_experiment("GRU4RecSoftmax", str(folder), output=tmp_path / folder.name, epochs=2, **TEMPORAL)
        .training_log()["loss"]
        .tolist()
        for folder in (months, other)
    ]
    assert losses[0] == losses[1]


def test_a_border_that_empties_a_side_is_refused_with_the_times(months: Path) -> None:
    for time, side in ((0, "train"), (10_000, "test")):
        with pytest.raises(InputError, match=f"leaves no {side} targets .* times .* test_from {time}"):
            load(months, **{**TEMPORAL, "split_time": time}).split()


def test_settings_that_the_split_does_not_read_are_said() -> None:
    settings = load_settings("GRU4RecSoftmax", overrides={"split_time": 5, "test_share": 0.2})
    assert [warning.partition(" has no effect")[0] for warning in settings.warnings] == [
        "split_time: split_time",
        "test_share: test_share",
    ]
    settings = load_settings("GRU4RecSoftmax", overrides={"split": "temporal", "split_time": 5, "test_share": 0.2})
    assert settings.warnings == ("test_share: test_share has no effect where split_time is set",)


def test_protocols_of_different_splits_differ(months: Path, tmp_path: Path) -> None:
    hashes = set()
    for changes in ({}, {"split_time": 740}, {"context_reach": "past"}, {"tie_order": "reverse"}):
        record: RunResult = run_experiment("Pop", str(months), output=tmp_path, **{**TEMPORAL, **changes})
        hashes.add(record.protocol_hash)
    assert len(hashes) == 4


# ---------------------------------------------------------------------------------------------------- ties


@given(
    histories=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=12), min_size=1, max_size=8),
    order=st.sampled_from(["file", "reverse", "random"]),
)
def test_ties_come_in_the_order_that_was_asked_for(histories: list[list[int]], order: str) -> None:
    """Sorted by time within each user; rows of equal time as they are, or backwards; random: a permutation."""
    times = np.array([time for history in histories for time in history])
    offsets = np.cumsum([0, *map(len, histories)])
    found = time_order(times, offsets, order).tolist()
    for start, stop in pairwise(offsets):
        rows = found[start:stop]
        assert sorted(rows) == list(range(start, stop))
        assert [times[row] for row in rows] == sorted(times[start:stop])
        if order != "random":
            direction = 1 if order == "file" else -1
            assert rows == sorted(range(start, stop), key=lambda row: (times[row], direction * row))


def test_the_random_order_is_the_same_in_parts_and_has_no_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows sorted block by block come as in one go; of two tied rows either is first about as often."""
    n = 20_000
    times, offsets = np.zeros(n, dtype=np.int64), np.arange(0, n + 1, 2)
    whole = time_order(times, offsets, "random")
    parts = [time_order(times[:10], offsets[:6], "random"), 10 + time_order(times[10:], offsets[5:] - 10, "random", 10)]
    assert np.array_equal(whole, np.concatenate(parts))
    monkeypatch.setattr(prepare, "_SORT_ROWS", 128)
    rows = np.arange(n)
    prepare._sort_by_time([rows], times, offsets, "random")
    assert np.array_equal(whole, rows)
    assert abs((whole[::2] % 2 == 0).mean() - 0.5) < 4 * 0.5 / (n / 2) ** 0.5
