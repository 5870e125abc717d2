"""Data: what is read, in which order, what is a target of which side, and how batches are made of it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from built import FIELDS, flat
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from recbole.data.dataset import Dataset, SequentialDataset

from mos_recbole.data import Segments, SequenceDataset, Sequences, Split
from mos_recbole.data.splits.leave_one_out import leave_one_out
from mos_recbole.errors import InputError
from mos_recbole.experiment import load_settings
from mos_recbole.training import make_train_loader
from mos_recbole.training.loaders import PrefixLoader, WindowLoader
from mos_recbole.training.prefixes import PrefixGatherer

CPU = torch.device("cpu")
RATED = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
SIDES = ("train", "valid", "test")

lengths = st.lists(st.integers(2, 14), min_size=1, max_size=8)


def load(folder: Path, model: str = "GRU4RecSoftmax", **overrides: Any) -> SequenceDataset:
    """Returns the data set in a folder, read for a model with these settings."""
    return SequenceDataset(load_settings(model, str(folder), overrides=overrides).recbole_config(CPU))


def histories(data: SequenceDataset) -> dict[str, list[str]]:
    """Returns every user's items in order, by their names in the file."""
    flat = data.sequences
    return {
        str(data.id2token("user_id", user)): data.id2token("item_id", flat.items[start:stop]).tolist()
        for user, start, stop in zip(flat.users, flat.offsets[:-1], flat.offsets[1:], strict=True)
    }


def sorted_histories(rows: Sequence[Sequence[Any]]) -> dict[str, list[str]]:
    """Returns what `histories` should: per user by time, equal times in the order of the file."""
    by_user = defaultdict(list)
    for user, item, time in rows:
        by_user[user].append((time, item))
    return {user: [item for _, item in sorted(pairs, key=lambda pair: pair[0])] for user, pairs in by_user.items()}


def file_rows(folder: Path) -> list[tuple[str, str, int]]:
    """Returns the rows of a data set's file (user, item, time), read without the package."""
    lines = (folder / f"{folder.name}.inter").read_text().splitlines()[1:]
    return [(user, item, int(time)) for user, item, time in (line.split("\t") for line in lines)]


def naive_split(counts: Sequence[int]) -> dict[str, list[tuple[int, int]]]:
    """Returns (user number, row) of each side's targets: the last for test, the one before for validation."""
    sides: dict[str, list[tuple[int, int]]] = {side: [] for side in SIDES}
    start = 0
    for user, count in enumerate(counts):
        targets = [(user, row) for row in range(start + 1, start + count)]
        if len(targets) >= 2:
            sides["test"].append(targets.pop())
        if len(targets) >= 2:
            sides["valid"].append(targets.pop())
        sides["train"] += targets
        start += count
    return sides


def targets_of(segments: Segments) -> list[tuple[int, int]]:
    """Returns (user number, row) of every target."""
    rows, segment = segments.targets()
    return list(zip(segments.user[segment].tolist(), rows.tolist(), strict=True))


# ---------------------------------------------------------------------------------------------------- splits


@settings(deadline=None)
@given(lengths)
def test_leave_one_out_equals_a_naive_one(counts: list[int]) -> None:
    """Every side's targets, user by user; contexts begin at the user's first row."""
    sequences = flat(counts)
    split = leave_one_out(sequences)
    for side, expected in naive_split(counts).items():
        segments = getattr(split, side)
        assert targets_of(segments) == expected
        assert segments.n_targets == len(expected)
        assert (segments.context_start == sequences.offsets[segments.user]).all()


@settings(deadline=None)
@given(lengths)
def test_training_rows_are_all_but_validation_and_test_targets(counts: list[int]) -> None:
    """What training may see: the complement of the other two sides' targets."""
    split = leave_one_out(flat(counts))
    held_out = {row for side in ("valid", "test") for _, row in naive_split(counts)[side]}
    assert set(np.flatnonzero(split.train_rows(sum(counts))).tolist()) == set(range(sum(counts))) - held_out


def test_leave_one_out_is_recboles(toy: Path) -> None:
    """The same targets and contexts as RecBole's own leave-one-out of the same file, where its float32 keeps order."""
    rows = [(user, item, index) for index, (user, item, _) in enumerate(file_rows(toy))]
    lines = ["user_id:token\titem_id:token\ttimestamp:float", *("\t".join(map(str, row)) for row in rows)]
    (toy / "toy.inter").write_text("\n".join(lines) + "\n")
    data = load(toy)
    split = data.split()
    config = load_settings("SASRec", str(toy)).recbole_config(CPU)
    for side, theirs in zip(SIDES, SequentialDataset(config).build(), strict=True):
        expected = Counter()
        for row in range(len(theirs)):
            one = theirs.inter_feat[row]
            context = one["item_id_list"][: int(one["item_length"])].tolist()
            expected[int(one["user_id"]), tuple(context), int(one["item_id"])] += 1
        found: Counter = Counter()
        segments = getattr(split, side)
        target_rows, segment = segments.targets()
        for row, number in zip(target_rows, segment, strict=True):
            context = data.sequences.items[max(segments.context_start[number], row - 50) : row].tolist()
            user = int(data.sequences.users[segments.user[number]])
            found[user, tuple(context), int(data.sequences.items[row])] += 1
        assert found == expected


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 6), st.integers(0, 3)), max_size=10))
def test_targets_of_segments(parts: list[tuple[int, int, int]]) -> None:
    """Every row of every segment once, in order, with its segment's number; empty segments have none."""
    context_start, target_start, target_stop, row = [], [], [], 0
    for before, count, gap in parts:
        context_start.append(row)
        target_start.append(row + before)
        target_stop.append(row + before + count)
        row += before + count + gap
    arrays = (np.array(values, dtype=np.int64) for values in (context_start, target_start, target_stop))
    segments = Segments(np.arange(len(parts), dtype=np.int32), *arrays)
    rows, numbers = segments.targets()
    expected = [
        (target, number)
        for number, (first, last) in enumerate(zip(target_start, target_stop, strict=True))
        for target in range(first, last)
    ]
    assert list(zip(rows.tolist(), numbers.tolist(), strict=True)) == expected
    assert segments.n_targets == len(expected)


def test_a_target_without_a_context_is_no_segment() -> None:
    """An invariant of the class, not of its callers."""
    with pytest.raises(AssertionError):
        Segments(np.zeros(1, np.int32), np.array([3]), np.array([3]), np.array([4]))


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=7).map(sorted), min_size=1, max_size=6))
def test_tied_share(times: list[list[int]]) -> None:
    """Rows that share their time with another row of the same user; equal times of two users are no tie."""
    counts = [len(one) for one in times]
    sequences = flat(counts)
    joined = np.array([time for one in times for time in one], dtype=np.int64)
    sequences = Sequences(sequences.items, joined, sequences.offsets, sequences.users)
    tied = sum(one.count(time) > 1 for one in times for time in one)
    assert sequences.tied_share() == pytest.approx(tied / len(joined))


# ---------------------------------------------------------------------------------------------------- order and time


def test_rows_in_any_order_are_sorted_by_user_and_time(toy: Path) -> None:
    """The toy data has ties and rows in random order: per user by time, ties in the order of the file."""
    assert histories(load(toy)) == sorted_histories(file_rows(toy))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("uvwxyz"), st.integers(-3, 3)), min_size=2, max_size=25
    ).filter(lambda rows: max(Counter(user for user, *_ in rows).values()) > 1)
)
def test_ties_keep_the_order_of_the_file(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple]) -> None:
    """Random small files with many equal times, also negative ones."""
    folder = tmp_path_factory.mktemp("data") / "toy"
    folder.mkdir()
    lines = ["user_id:token\titem_id:token\ttimestamp:float", *("\t".join(map(str, row)) for row in rows)]
    (folder / "toy.inter").write_text("\n".join(lines) + "\n")
    data = load(folder)
    assert histories(data) == sorted_histories(rows)


@pytest.mark.parametrize("kind", ["float", "token"])
@pytest.mark.parametrize("base", [1_600_000_000, 1_600_000_000_000_000_000])
def test_times_one_apart_keep_their_order(base: int, kind: str, inter: Callable[..., Path]) -> None:
    """In float64 they would be equal at 1.6e18, in RecBole's float32 already at 1.6e9. The file has the later first."""
    rows = [("u", f"i{step}", base + step) for step in reversed(range(100))]
    data = load(inter(rows, header=f"user_id:token\titem_id:token\ttimestamp:{kind}"))
    assert histories(data)["u"] == [f"i{step}" for step in range(100)]
    assert data.sequences.times.dtype == np.int64
    assert data.sequences.times.tolist() == list(range(base, base + 100))
    assert data.sequences.tied_share() == 0


@pytest.mark.parametrize("form", ["{}", " {}", "{} ", "{}.0"])
@pytest.mark.parametrize("base", [1_600_000_000_000_000_000, -1_600_000_000_000_000_000])
def test_whole_times_keep_their_last_digit_in_any_spelling(base: int, form: str, inter: Callable[..., Path]) -> None:
    """With a sign, a blank or ".0": times may not be merged on the way through a float."""
    rows = [("u", f"i{step}", form.format(base + step)) for step in reversed(range(20))]
    assert load(inter(rows)).sequences.times.tolist() == list(range(base, base + 20))


@pytest.mark.parametrize("time", [2**63, -(2**63) - 1, 10**30])
def test_whole_times_beyond_int64_are_refused(time: int, inter: Callable[..., Path]) -> None:
    """With the line."""
    with pytest.raises(InputError, match="line 3, column timestamp"):
        load(inter([("u", "a", 5), ("u", "b", time), ("u", "c", 7)]))


def test_fractional_times(inter: Callable[..., Path]) -> None:
    """Fractions are kept to the millionth, also beside whole numbers and at the size of today's seconds."""
    base = 1_600_000_000
    stamps = [f"{base}", f"{base}.000002", f"{base}.5", f"{base + 1}", f"{base + 1}.25", f"{base + 1}.250004"]
    data = load(inter([("u", f"i{number}", stamp) for number, stamp in reversed(list(enumerate(stamps)))]))
    assert histories(data)["u"] == [f"i{number}" for number in range(len(stamps))]
    assert data.sequences.time_scale == 1_000_000
    expected = [0, 2, 500_000, 1_000_000, 1_250_000, 1_250_004]
    assert (data.sequences.times - base * 1_000_000).tolist() == expected


@pytest.mark.parametrize("stamps", [["10", "20", "30", "40"], ["10.5", "20.5", "30.5", "40.5"]])
def test_an_interval_of_times_is_in_the_unit_of_the_file(stamps: list[str], inter: Callable[..., Path]) -> None:
    """`val_interval` on the time column keeps the same rows whether or not the file has fractions."""
    rows = [(user, f"i{number}", stamp) for user in "ab" for number, stamp in enumerate(stamps)]
    data = load(inter(rows), val_interval={"timestamp": "[15,35]"})
    assert histories(data) == {"a": ["i1", "i2"], "b": ["i1", "i2"]}


# ---------------------------------------------------------------------------------------------------- filters


@pytest.fixture
def rated(tmp_path: Path) -> Path:
    """Ratings with repeated pairs, no two times equal, users and items of very different counts."""
    generator = np.random.default_rng(3)
    lines = [RATED]
    for stamp in generator.permutation(300):
        user, item = int(generator.integers(40) ** 2 / 40), int(generator.integers(30) ** 2 / 30)
        lines.append(f"u{user}\ti{item}\t{generator.integers(1, 6)}\t{stamp}")
    folder = tmp_path / "rated"
    folder.mkdir()
    (folder / "rated.inter").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"user_inter_num_interval": "[5,inf)"},
        {"user_inter_num_interval": "[5,inf)", "item_inter_num_interval": "[6,inf)"},
        {"user_inter_num_interval": "(3,12]"},
        {"val_interval": {"rating": "[3,inf)"}},
        {"val_interval": {"rating": "[1,1];(3,5]"}},
        {"val_interval": {"timestamp": "[50,250)"}},
        {"val_interval": {"item_id": ["i1", "i2", "i3"]}},
        {"rm_dup_inter": "first"},
        {"rm_dup_inter": "last"},
        {"rm_dup_inter": "last", "val_interval": {"rating": "(2,5]"}, "user_inter_num_interval": "[3,inf)"},
    ],
    ids=str,
)
def test_filters_are_recboles(overrides: dict[str, Any], rated: Path) -> None:
    """The rows that RecBole's own `Dataset` keeps of the same file, in our order."""
    overrides = {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}, **overrides}
    data = load(rated, **overrides)
    theirs = Dataset(load_settings("GRU4RecSoftmax", str(rated), overrides=overrides).recbole_config(CPU))
    frame = theirs.inter_feat.sort_values("timestamp")
    expected: dict[str, list[str]] = defaultdict(list)
    for user, item in zip(frame["user_id"], frame["item_id"], strict=True):
        expected[str(theirs.id2token("user_id", user))].append(str(theirs.id2token("item_id", item)))
    assert histories(data) == expected


def test_duplicates_by_time_not_by_file(inter: Callable[..., Path]) -> None:
    """`rm_dup_inter` keeps the earliest or latest of a pair, also where the file has them the other way round."""
    folder = inter([("u", "a", 30), ("u", "b", 20), ("u", "a", 10), ("u", "c", 25)])
    assert histories(load(folder, rm_dup_inter="first"))["u"] == ["a", "b", "c"]
    assert histories(load(folder, rm_dup_inter="last"))["u"] == ["b", "c", "a"]
    assert histories(load(folder))["u"] == ["a", "b", "c", "a"]


def test_users_with_one_interaction_have_no_targets_and_are_counted(inter: Callable[..., Path]) -> None:
    """The summary says so in words and numbers."""
    rows = [(user, f"i{number}", number) for user in ("u1", "u2") for number in range(5)]
    folder = inter([("single1", "i0", 3), *rows, ("single2", "i9", 4)])
    data = load(folder)
    assert sorted(histories(data)) == ["single1", "single2", "u1", "u2"]
    summary = data.summary(data.split())
    assert (summary.users_without_targets, summary.users, summary.interactions) == (2, 4, 12)
    assert (summary.train_targets, summary.valid_targets, summary.test_targets) == (4, 2, 2)
    assert (summary.train_users, summary.valid_users, summary.test_users) == (2, 2, 2)
    assert "4 users (2 without a target)" in summary.describe()


def test_a_folder_given_by_its_path_is_read(tmp_path: Path) -> None:
    """Also one that has the name of the data set that RecBole carries."""
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    rows = [f"u{user}\ti{item}\t{item}" for user in range(3) for item in range(5)]
    (folder / "ml-100k.inter").write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows]) + "\n")
    assert load(folder).sequences.n_users == 3


def test_other_columns_names_and_separators(tmp_path: Path) -> None:
    """RecBole's keys for field names, separator and encoding; columns in any order, others left out."""
    folder = tmp_path / "shop"
    folder.mkdir()
    lines = ["when:float,what:token,note:token,who:token"]
    lines += [f"{9 - number},é{number},x,{user}" for user in "ab" for number in range(4)]
    (folder / "shop.inter").write_text("\r\n".join(lines) + "\r\n", encoding="latin-1")
    config = load_settings(
        "GRU4RecSoftmax",
        str(folder),
        overrides={
            "USER_ID_FIELD": "who",
            "ITEM_ID_FIELD": "what",
            "TIME_FIELD": "when",
            "load_col": {"inter": ["who", "what", "when"]},
            "field_separator": ",",
            "encoding": "latin-1",
        },
    ).recbole_config(CPU)
    data = SequenceDataset(config)
    names = data.id2token("what", data.sequences.items).tolist()
    assert names == ["é3", "é2", "é1", "é0"] * 2
    assert "note" not in data.inter_feat.columns


# ---------------------------------------------------------------------------------------------------- fingerprint


def test_the_fingerprint_changes_with_what_a_model_can_learn_from(toy: Path) -> None:
    """Not with the place of the file; with one item, one time's order, one user's name, the unit of time."""
    rows = file_rows(toy)

    def fingerprint(changed: Sequence[tuple[str, str, object]]) -> str:
        lines = ["user_id:token\titem_id:token\ttimestamp:float", *("\t".join(map(str, row)) for row in changed)]
        (toy / "toy.inter").write_text("\n".join(lines) + "\n")
        return load(toy).fingerprint()

    same = fingerprint(rows)
    assert fingerprint(rows) == same
    user, item, time = rows[50]
    other = "i1" if item != "i1" else "i2"
    changed = [
        [*rows[:50], (user, other, time), *rows[51:]],
        [*rows[:50], (user, item, time + 1), *rows[51:]],
        [(name.replace("u7", "v7"), *rest) for name, *rest in rows],
        [(user, item, f"{time / 1e6:.6f}") for user, item, time in rows],  # kept in millionths: the same numbers
        rows[:-1],
    ]
    assert len({same, *(fingerprint(one) for one in changed)}) == 1 + len(changed)


# ---------------------------------------------------------------------------------------------------- no leak


def held_out(rows: list[tuple[str, str, int]]) -> tuple[Counter, Counter]:
    """Returns the pairs (user, item) of training and those of the other sides' targets."""
    train: Counter = Counter()
    rest: Counter = Counter()
    for user, items in sorted_histories(rows).items():
        n_rest = min(2, max(0, len(items) - 2))
        train.update((user, item) for item in items[: len(items) - n_rest])
        rest.update((user, item) for item in items[len(items) - n_rest :])
    return train, rest


def test_the_training_part_holds_no_interaction_of_the_other_sides(toy: Path) -> None:
    """What RecBole's models see at construction, pair by pair with repetitions; the whole data set is unharmed."""
    data = load(toy)
    split = data.split()
    part = data.training_part(split)
    users = data.id2token("user_id", part.inter_feat["user_id"].numpy())
    items = data.id2token("item_id", part.inter_feat["item_id"].numpy())
    train, rest = held_out(file_rows(toy))
    assert Counter(zip(users.tolist(), items.tolist(), strict=True)) == train
    assert len(data.inter_feat) == sum(train.values()) + sum(rest.values())
    assert part.item_num == data.item_num


@pytest.mark.parametrize("model", ["BPR", "Pop"])
def test_general_models_train_on_what_recbole_gives_them(model: str, inter: Callable[..., Path]) -> None:
    """Users with one interaction included. Those with two or three differ: one interaction fewer is held out here,
    since a target needs a context."""
    rows = [(f"u{user}", f"i{(user * 3 + step) % 9}", user + 10 * step) for user in range(1, 8) for step in range(user)]
    data = load(inter(rows), model)
    theirs = Dataset(load_settings(model, str(inter(rows))).recbole_config(CPU)).build()[0].inter_feat
    ours = data.training_part(data.split()).inter_feat

    def by_user(feat: Any) -> dict[str, list[str]]:
        found = defaultdict(list)
        for user, item in zip(feat["user_id"], feat["item_id"], strict=True):
            found[str(data.id2token("user_id", user))].append(str(data.id2token("item_id", item)))
        return {user: sorted(items) for user, items in found.items()}

    expected = by_user(theirs)
    for user in (2, 3):
        expected[f"u{user}"] = sorted([*expected[f"u{user}"], f"i{(user * 3 + 1) % 9}"])
    assert by_user(ours) == expected
    assert len(expected["u1"]) == 1


def test_sequential_models_do_not_see_users_without_targets(inter: Callable[..., Path]) -> None:
    """Neither as targets nor as contexts."""
    rows = [("single", "i0", 0), *(("u", f"i{step}", step) for step in range(5))]
    data = load(inter(rows))
    assert data.training_part(data.split()).inter_feat["user_id"].tolist() == [data.token2id("user_id", "u")] * 3


def test_training_counts_are_of_training_alone(toy: Path) -> None:
    """How often training has each item; the padding item never."""
    data = load(toy)
    counts = data.train_counts(data.split())
    expected = Counter(item for _, item in held_out(file_rows(toy))[0].elements())
    names = data.id2token("item_id", np.arange(data.item_num)).tolist()
    assert counts.tolist() == [expected[name] for name in names]
    assert counts[0] == 0


@pytest.mark.parametrize("model", ["GRU4RecSoftmax", "GRU4Rec", "FPMC", "BPR", "ItemKNN"])
def test_training_batches_hold_training_targets_only_and_each_once(model: str, toy: Path) -> None:
    """By model kind: windows, prefixes, with a sampled negative, and RecBole's loader for general models."""
    settings_ = load_settings(model, str(toy), overrides={"train_batch_size": 64, "MAX_ITEM_LIST_LENGTH": 7})
    config = settings_.recbole_config(CPU)
    data = SequenceDataset(config)
    loader = make_train_loader(config, data, data.split())
    train, _ = held_out(file_rows(toy))
    if model in ("BPR", "ItemKNN"):
        expected = Counter(item for _, item in train.elements())
    else:
        # Every training interaction but each user's first is a target.
        first = Counter(items[0] for items in sorted_histories(file_rows(toy)).values())
        expected = Counter(item for _, item in train.elements()) - first
    for epoch in (1, 2):
        found: Counter = Counter()
        told = 0
        for batch, n_targets in loader.epoch(epoch):
            items = batch["item_id"]
            if "label" in batch.interaction:
                items = items[batch["label"] > 0]
            found.update(data.id2token("item_id", items[items > 0].numpy()).tolist())
            told += n_targets
        assert found == expected
        assert told == loader.n_targets == sum(expected.values())


# ---------------------------------------------------------------------------------------------------- windows


def window_loader(counts: Sequence[int], length: int, batch_size: int, seed: int = 0, **options: Any) -> WindowLoader:
    """Returns the windows of the training side of users with these numbers of interactions."""
    sequences = flat(counts)
    shuffle = options.get("shuffle", True)
    return WindowLoader(sequences, leave_one_out(sequences).train, length, batch_size, seed, FIELDS, CPU, shuffle)


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=8),
    length=st.integers(1, 9),
    batch_size=st.integers(1, 60),
    seed=st.integers(0, 3),
    epoch=st.integers(1, 4),
    shuffle=st.booleans(),
)
def test_windows_hold_every_target_once_behind_its_predecessors(
    counts: list[int], length: int, batch_size: int, seed: int, epoch: int, shuffle: bool
) -> None:
    """Items are numbered by row, so a target t stands beside t - 1; no window is longer than L or crosses a user."""
    loader = window_loader(counts, length, batch_size, seed, shuffle=shuffle)
    user_of = np.repeat(np.arange(len(counts)), counts)
    seen: list[int] = []
    for batch, n_targets in loader.epoch(epoch):
        inputs, targets, sizes = batch["item_id_list"], batch["item_id"], batch["item_length"]
        assert inputs.shape == targets.shape
        assert inputs.shape[1] == sizes.max() <= length
        for source, target, size in zip(inputs.tolist(), targets.tolist(), sizes.tolist(), strict=True):
            assert size >= 1
            assert source[size:] == target[size:] == [0] * (len(source) - size)
            assert target[:size] == list(range(target[0], target[0] + size))
            assert source[:size] == [item - 1 for item in target[:size]]
            assert len({user_of[item - 1] for item in [source[0], *target[:size]]}) == 1
        assert n_targets == int((targets > 0).sum()) == len(batch)
        assert batch["target_place"].tolist() == targets.flatten().nonzero().flatten().tolist()
        # A batch holds whole windows, so it may miss its size by less than one window.
        assert n_targets <= batch_size + length - 1
        seen += targets[targets > 0].tolist()
    assert sorted(seen) == [row + 1 for _, row in naive_split(counts)["train"]]
    assert loader.n_targets == len(seen)


def test_batches_of_windows_are_near_the_batch_size() -> None:
    """On average, and each within a window of it but for the last of every pool."""
    generator = np.random.default_rng(0)
    loader = window_loader(generator.integers(4, 200, 400).tolist(), length=50, batch_size=512)
    sizes = np.array([n_targets for _, n_targets in loader.epoch(1)])
    assert sizes.sum() == loader.n_targets
    assert sizes.max() < 512 + 50
    assert np.median(sizes) > 512 - 50
    assert sizes.mean() > 0.85 * 512


def windows_of(loader: WindowLoader, epoch: int) -> set[tuple[int, int]]:
    """Returns (first target, number of targets) of an epoch's windows, from its batches."""
    found = set()
    for batch, _ in loader.epoch(epoch):
        first, sizes = batch["item_id"][:, 0], batch["item_length"]
        found |= set(zip(first.tolist(), sizes.tolist(), strict=True))
    return found


def test_borders_move_with_the_epoch_and_depend_on_seed_and_epoch_alone() -> None:
    """Whatever was drawn before: what a resumed run needs to go on as if it had never stopped."""
    counts = [60, 45, 80]
    loader = window_loader(counts, length=10, batch_size=30)
    first, second = windows_of(loader, 1), windows_of(loader, 2)
    assert first != second
    torch.manual_seed(99)
    torch.rand(5)
    again = window_loader(counts, length=10, batch_size=30)
    assert windows_of(again, 2) == second
    assert windows_of(again, 1) == first
    assert windows_of(window_loader(counts, length=10, batch_size=30, seed=1), 1) != first


def test_batches_of_an_epoch_are_the_same_in_order() -> None:
    """Not only the windows: the batches and the order within them."""
    one, other = (window_loader([60, 45, 80, 7], length=10, batch_size=30) for _ in range(2))
    list(other.epoch(1))
    for (left, _), (right, _) in zip(one.epoch(3), other.epoch(3), strict=True):
        assert torch.equal(left["item_id"], right["item_id"])


def test_no_target_always_starts_cold() -> None:
    """Over many epochs every target but a user's first stands at a window's start and elsewhere; no border is fixed."""
    loader = window_loader([43], length=8, batch_size=1000)
    starts: Counter = Counter()
    epochs = 200
    for epoch in range(epochs):
        starts.update(first for first, _ in windows_of(loader, epoch))
    later = range(3, 42)  # the first target is item 2
    assert starts[2] == epochs
    assert all(0 < starts[item] < epochs / 2 for item in later)


def test_a_short_run_is_one_window() -> None:
    """A run of at most L targets is never cut."""
    loader = window_loader([9, 5, 4], length=6, batch_size=100)
    for epoch in range(20):
        assert windows_of(loader, epoch) == {(2, 6), (11, 2), (16, 1)}


# ---------------------------------------------------------------------------------------------------- prefixes


@settings(deadline=None)
@given(
    counts=lengths,
    length=st.integers(1, 6),
    batch_size=st.integers(1, 40),
    crop=st.booleans(),
    side=st.sampled_from(SIDES),
)
def test_prefixes_are_the_last_items_before_each_target(
    counts: list[int], length: int, batch_size: int, crop: bool, side: str
) -> None:
    """Every target once; its context right-padded, of at most L items, all of its user; users by RecBole's ids."""
    sequences = flat(counts)
    segments = getattr(leave_one_out(sequences), side)
    expected = {row + 1: user for user, row in naive_split(counts)[side]}
    assume(expected)
    gatherer = PrefixGatherer(sequences, segments, length, CPU, crop=crop)
    loader = PrefixLoader(gatherer, FIELDS, batch_size, 0, shuffle=True)
    seen: list[int] = []
    for batch, n_targets in loader.epoch(1):
        assert n_targets == len(batch) <= batch_size
        width = batch["item_id_list"].shape[1]
        assert width == (int(batch["item_length"].max()) if crop else length)
        for user, target, context, size in zip(
            *(batch[name].tolist() for name in ("user_id", "item_id", "item_id_list", "item_length")), strict=True
        ):
            assert user == expected[target] + 1
            begin = int(sequences.offsets[user - 1]) + 1
            before = list(range(max(begin, target - length), target))
            assert context == before + [0] * (width - len(before))
            assert size == len(before)
            seen.append(target)
    assert sorted(seen) == sorted(expected)


def test_prefixes_are_in_a_new_order_every_epoch() -> None:
    """Shuffled by seed and epoch alone; in the order of the file where not asked for."""
    sequences = flat([30, 30])
    gatherer = PrefixGatherer(sequences, leave_one_out(sequences).train, 5, CPU, crop=True)

    def order(seed: int, epoch: int, shuffle: bool = True) -> list[int]:
        loader = PrefixLoader(gatherer, FIELDS, 7, seed, shuffle)
        return [item for batch, _ in loader.epoch(epoch) for item in batch["item_id"].tolist()]

    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)
    assert order(0, 2) == order(0, 2)
    assert order(0, 1, shuffle=False) == sorted(order(0, 1))


def test_sampled_negatives_are_other_items_than_the_target(toy: Path) -> None:
    """FPMC's negatives, by RecBole's sampler: one for every target, never the padding."""
    config = load_settings("FPMC", str(toy), overrides={"train_batch_size": 50}).recbole_config(CPU)
    data = SequenceDataset(config)
    split = data.split()
    sampled = 0
    for batch, _ in make_train_loader(config, data, split).epoch(1):
        assert (batch["neg_item_id"] > 0).all()
        assert (batch["neg_item_id"] < data.item_num).all()
        assert (batch["neg_item_id"] != batch["item_id"]).all()
        sampled += len(batch["neg_item_id"])
    assert sampled == split.train.n_targets


# ---------------------------------------------------------------------------------------------------- broken files

HEADER = "user_id:token\titem_id:token\ttimestamp:float"
GOOD = [f"u{user}\ti{item}\t{item}" for user in range(3) for item in range(5)]


def with_line(number: int, line: str) -> str:
    """Returns a good file in which the line with that number (from 1) is another one."""
    lines = [HEADER, *GOOD]
    lines[number - 1] = line
    return "\n".join(lines) + "\n"


def refused(tmp_path: Path, content: str | bytes, **overrides: Any) -> tuple[str, str]:
    """Returns the message that refuses a file with this content, and the file's path."""
    folder = tmp_path / "broken"
    folder.mkdir()
    path = folder / "broken.inter"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as caught:
        load(folder, **overrides).split()
    return str(caught.value), str(path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """With the file that it should hold; RecBole would ask whether to download."""
    with pytest.raises(InputError) as caught:
        load(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(caught.value)
    assert "nowhere.inter" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A folder without its .inter file."""
    (tmp_path / "toy").mkdir()
    with pytest.raises(InputError, match="no such file") as caught:
        load(tmp_path / "toy")
    assert str(tmp_path / "toy" / "toy.inter") in str(caught.value)


BROKEN_HEADERS = {
    "empty": ("", ["empty", "expected a header"]),
    "header alone": (HEADER, ["no interactions"]),
    "old line ends": ("\r".join([HEADER, *GOOD]), ["line 1", "carriage return"]),
    "carriage return first": ("\r" + "\n".join([HEADER, *GOOD]), ["line 1", "carriage return"]),
    "header only": (HEADER + "\n", ["no interactions"]),
    "header and blank lines": (HEADER + "\n\n\n", ["no interactions"]),
    "commas": ("\n".join([HEADER, *GOOD]).replace("\t", ","), ["line 1, column 1", "field_separator", "name:type"]),
    "no types": ("\n".join(["user_id\titem_id\ttimestamp", *GOOD]), ["line 1, column 1", "'user_id'", "name:type"]),
    "one without type": (with_line(1, "user_id:token\titem_id\ttimestamp:float"), ["line 1, column 2", "'item_id'"]),
    "unknown type": (with_line(1, "user_id:token\titem_id:text\ttimestamp:float"), ["line 1, column 2", "text"]),
    "no header": ("\n".join(GOOD), ["line 1, column 1", "'u0'", "name:type"]),
    "no user": (with_line(1, "who:token\titem_id:token\ttimestamp:float"), ["line 1", "'user_id'", "USER_ID_FIELD"]),
    "no item": (with_line(1, "user_id:token\twhat:token\ttimestamp:float"), ["line 1", "'item_id'", "ITEM_ID_FIELD"]),
    "no time": (with_line(1, "user_id:token\titem_id:token\twhen:float"), ["line 1", "'timestamp'", "TIME_FIELD"]),
    "column twice": (with_line(1, "user_id:token\tuser_id:token\ttimestamp:float"), ["line 1, column 2", "twice"]),
    "user is a number": (
        with_line(1, HEADER.replace("user_id:token", "user_id:float")),
        ["line 1", "user_id", "token"],
    ),
    "item is a list": (with_line(1, HEADER.replace("item_id:token", "item_id:token_seq")), ["line 1", "item_id"]),
    "no text at all": (b"\xff\xfe\x00\x01", ["line 1", "utf-8"]),
}


@pytest.mark.parametrize("name", BROKEN_HEADERS)
def test_a_broken_header_is_refused(name: str, tmp_path: Path) -> None:
    """With the file, the line and column where there is one, and what was expected."""
    content, fragments = BROKEN_HEADERS[name]
    message, path = refused(tmp_path, content)
    for fragment in [path, *fragments]:
        assert fragment in message


@pytest.mark.parametrize("line", [2, 7, 16])
@pytest.mark.parametrize(
    "time", ["abc", "nan", "NaN", "", "inf", "-inf", "1e400", "12:30", "2020-01-01", "1,5", "None"]
)
def test_a_time_that_is_no_number_is_refused_with_its_line(time: str, line: int, tmp_path: Path) -> None:
    """File, line, column, what was found and what was expected."""
    message, path = refused(tmp_path, with_line(line, f"u9\ti9\t{time}"))
    assert f"{path}, line {line}, column timestamp: " in message
    assert (f"'{time}'" if time else "nothing") in message
    assert "expected a time" in message


@pytest.mark.parametrize("blank", ["", "\t\t"])
def test_line_numbers_count_blank_lines(blank: str, tmp_path: Path) -> None:
    """Blank lines are skipped but counted, so that an editor finds the line."""
    lines = [HEADER, blank, GOOD[0], blank, blank, GOOD[1], "u0\ti9\tnever", GOOD[2]]
    message, path = refused(tmp_path, "\n".join(lines) + "\n")
    assert f"{path}, line 7, column timestamp: found 'never'" in message


def test_a_field_that_is_longer_than_any_is_refused_with_its_line(tmp_path: Path) -> None:
    """Where a line is not as it should be, so that all are looked at one by one."""
    path = tmp_path / "long.csv"
    path.write_text(f"user_id,item_id,timestamp\nu,{'x' * 200_000},1\nu,i\n")
    with pytest.raises(InputError, match=r"long\.csv, line 2: field larger than"):
        load(path)


def test_a_carriage_return_ends_a_row(tmp_path: Path) -> None:
    """As pyarrow takes it; the line is counted as an editor does."""
    message, path = refused(tmp_path, "\n".join([HEADER, "u0\ti0\t1\ru0\ti1\t2\r\r", "u0\ti2\tnever"]) + "\n")
    assert f"{path}, line 3, column timestamp: found 'never'" in message


def test_blank_lines_alone_are_no_fault(inter: Callable[..., Path]) -> None:
    """Between rows and at the end."""
    folder = inter([("u", f"i{number}", number) for number in range(5)])
    path = folder / "toy.inter"
    expected = histories(load(folder))
    path.write_text(path.read_text().replace("\n", "\n\n") + "\n\n")
    assert histories(load(folder)) == expected


@pytest.mark.parametrize("number", [1, 3])
def test_a_rating_that_is_no_number_is_refused_with_its_line(number: int, tmp_path: Path) -> None:
    """Any float column that is loaded."""
    lines = [f"u{user}\ti{item}\t3\t{item}" for user in range(3) for item in range(5)]
    lines[number] = "u0\ti0\tgood\t7"
    load_col = {"inter": ["user_id", "item_id", "rating", "timestamp"]}
    message, path = refused(tmp_path, "\n".join([RATED, *lines]) + "\n", load_col=load_col)
    assert f"{path}, line {number + 2}, column rating: found 'good'; expected a number" in message


@pytest.mark.parametrize("line", [2, 6, 16])
def test_one_line_with_too_many_fields_is_refused(line: int, tmp_path: Path) -> None:
    """With its line number and the number of fields of the header."""
    message, path = refused(tmp_path, with_line(line, "u0\ti0\t5\t6"))
    assert path in message
    assert f"line {line}" in message
    assert "3 fields" in message


@pytest.mark.parametrize("item", ["i", ""])
def test_too_many_fields_in_all_lines_are_refused(item: str, tmp_path: Path) -> None:
    """A header that lacks a column. With numbers for items, all columns would be read one place off, unnoticed."""
    lines = [f"x\tu{user}\t{item}{number}\t{number}" for user in range(3) for number in range(5)]
    message, path = refused(tmp_path, "\n".join([HEADER, *lines]) + "\n")
    assert path in message
    assert "line 2" in message
    assert "3 fields" in message


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (2, 1, 0)])
@pytest.mark.parametrize("line", [2, 9])
def test_one_line_with_too_few_fields_is_refused(line: int, order: tuple[int, ...], tmp_path: Path) -> None:
    """Whatever column is last in the file and so is missing: it is named with the line."""
    rows = [text.split("\t") for text in [HEADER, *GOOD]]
    lines = ["\t".join(row[column] for column in order) for row in rows]
    missing = lines[0].rpartition("\t")[2].partition(":")[0]
    lines[line - 1] = lines[line - 1].rpartition("\t")[0]
    message, path = refused(tmp_path, "\n".join(lines) + "\n")
    assert path in message
    assert f"line {line}" in message
    assert missing in message


@pytest.mark.parametrize("line", [2, 9])
def test_bytes_that_are_no_text_are_refused_with_their_line(line: int, tmp_path: Path) -> None:
    """A Latin-1 file read as UTF-8."""
    content = with_line(line, "u0\tcaf?\t5").encode().replace(b"?", b"\xe9")
    message, path = refused(tmp_path, content)
    assert path in message
    assert "utf-8" in message.lower()
    assert f"line {line}" in message


def test_a_quote_mark_is_a_character_like_any_other(inter: Callable[..., Path]) -> None:
    """Atomic files have no quoting: a name with a quote mark must not swallow the rows up to the next one."""
    rows = [("u", '"a', 1), ("u", "b", 2), ("u", 'c"', 3), ("u", "d", 4), ("v", "b", 5), ("v", "d", 6)]
    assert histories(load(inter(rows))) == sorted_histories(rows)


@pytest.mark.parametrize("name", ["NA", "null", "None", "nan", "0", "007", " x", "[PAD]x"])
def test_names_are_texts(name: str, inter: Callable[..., Path]) -> None:
    """Names that pandas would take for a missing value or a number stay as they are, as users and as items."""
    rows = [(name, "a", 1), (name, name, 2), (name, "b", 3), ("v", name, 4), ("v", "a", 5)]
    assert histories(load(inter(rows))) == sorted_histories(rows)


def test_nobody_with_two_interactions(inter: Callable[..., Path]) -> None:
    """There is nothing to predict."""
    with pytest.raises(InputError, match=r"'toy'.*leaves no train targets"):
        load(inter([(f"u{number}", "i", number) for number in range(5)])).split()


@pytest.mark.parametrize(("count", "side"), [(2, "valid"), (3, "valid")])
def test_too_few_interactions_for_validation(count: int, side: str, inter: Callable[..., Path]) -> None:
    """Users with two interactions have a training target only, with three no validation target."""
    folder = inter([(f"u{user}", f"i{number}", number) for user in range(4) for number in range(count)])
    with pytest.raises(InputError, match=rf"'toy'.*no {side} targets.*4 users"):
        load(folder).split()


@pytest.mark.parametrize(
    "overrides",
    [
        {"user_inter_num_interval": "[1000,inf)"},
        {"val_interval": {"timestamp": "[99,100]"}},
        {"val_interval": {"price": "[1,2]"}},
    ],
    ids=str,
)
def test_filters_that_leave_nothing_or_name_no_column_are_refused(
    overrides: dict[str, Any], inter: Callable[..., Path]
) -> None:
    """With the data set's name."""
    folder = inter([(f"u{user}", f"i{number}", number) for user in range(4) for number in range(5)])
    with pytest.raises(InputError, match="'toy'"):
        load(folder, **overrides)


def test_the_split_is_a_plug(toy: Path) -> None:
    """The data set takes the split that the settings name, and nothing else knows which."""
    split = load(toy).split()
    assert isinstance(split, Split)
    assert targets_of(split.test) == targets_of(leave_one_out(load(toy).sequences).test)


def test_a_column_that_rows_are_filtered_by_is_read(rated: Path) -> None:
    """Without being named in `load_col`."""
    named = load(rated, val_interval={"rating": "[3,inf)"}, load_col={"inter": ["user_id", "item_id", "rating"]})
    data = load(rated, val_interval={"rating": "[3,inf)"})
    assert data.fingerprint() == named.fingerprint()
    assert len(data.sequences.items) < len(load(rated).sequences.items)
    with pytest.raises(InputError, match="no column that is loaded"):
        load(rated, val_interval={"stars": "[3,inf)"})
