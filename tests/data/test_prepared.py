"""Prepared data: equal to what RecBole's way gives, built once, shared, and never read when it is broken."""

import errno
import gc
import json
import multiprocessing
import os
import resource
import shutil
import signal
import time as clock
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from recbole.utils import init_seed

from mos_recbole.data import DataSummary, SequenceDataset, prepared
from mos_recbole.data import cache as cached_arrays
from mos_recbole.data.sequences import Sequences, read_rows, tied_rows
from mos_recbole.errors import InputError
from mos_recbole.experiment import load_settings
from mos_recbole.training import make_train_loader

CPU = torch.device("cpu")
RATED = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
ALL_COLUMNS = {"inter": ["user_id", "item_id", "rating", "timestamp"]}


class ThroughRecBole(SequenceDataset):
    """The same data set, never prepared."""

    def _can_be_prepared(self) -> bool:
        return False


def load(folder: Path, kind: type[SequenceDataset] = SequenceDataset, **overrides: Any) -> SequenceDataset:
    """Returns the data set in a folder, read for one of our models with these settings."""
    return kind(load_settings("GRU4RecSoftmax", str(folder), overrides=overrides).recbole_config(CPU))


def outcome(folder: Path, kind: type[SequenceDataset], overrides: Mapping[str, Any]) -> SequenceDataset | str:
    """Returns the data set, or the message that refuses it."""
    try:
        return load(folder, kind, **overrides)
    except InputError as error:
        return str(error)


def summary_or_message(data: SequenceDataset) -> DataSummary | str:
    """Returns the summary of the split, or the message that there is none."""
    try:
        return data.summary(data.split())
    except InputError as error:
        return str(error)


def assert_equal(one: SequenceDataset, other: SequenceDataset) -> None:
    """Everything that anybody reads of a data set: in values, types and order."""
    for name in ("items", "times", "offsets", "users"):
        left, right = getattr(one.sequences, name), getattr(other.sequences, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right, name)
    assert one.sequences.time_scale == other.sequences.time_scale
    assert (one.user_num, one.item_num) == (other.user_num, other.item_num)
    for name in ("field2type", "field2source", "field2seqlen", "field2bucketnum", "feat_name_list"):
        assert getattr(one, name) == getattr(other, name), name
    for field in (one.uid_field, one.iid_field):
        left, right = one.field2id_token[field], other.field2id_token[field]
        assert left.dtype == right.dtype
        assert left.tolist() == right.tolist()
        assert one.field2token_id[field] == other.field2token_id[field]
    assert one.inter_feat.columns == other.inter_feat.columns
    for name in one.inter_feat.columns:
        left, right = one.inter_feat[name], other.inter_feat[name]
        assert left.dtype == right.dtype
        torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True)
    assert one.fingerprint() == other.fingerprint()
    assert summary_or_message(one) == summary_or_message(other)


def assert_same_outcome(folder: Path, overrides: Mapping[str, Any]) -> None:
    """Both ways give equal data or refuse with the same words; what comes warm from the cache is what was built."""
    cold, theirs = outcome(folder, SequenceDataset, overrides), outcome(folder, ThroughRecBole, overrides)
    if isinstance(cold, str) or isinstance(theirs, str):
        assert cold == theirs
        return
    assert cold._prepared is not None
    assert_equal(cold, theirs)
    assert_equal(load(folder, **overrides), theirs)


# ---------------------------------------------------------------------------------------------------- both ways

names = st.one_of(
    st.sampled_from(["a", "b", "c", "7", "007", "-7", "7.0", "nan", "NA", "[PAD]", "é", "日本", '"', "x y", " a", ""]),
    st.text(st.characters(codec="utf-8", exclude_characters="\t\r\n\0"), max_size=3),
)
whole_times = st.one_of(st.integers(-3, 3), st.integers(10**18 - 2, 10**18 + 2)).map(str)
fractions = st.one_of(
    st.sampled_from(["1.5", "2.000001", "2.0000001", "-0.25", "1e3", "+4", " 5", "6.0", ".5", "7."]),
    st.just("1600000000.1234567"),
    st.floats(-1e6, 1e6).map(repr),
)
odd_times = st.sampled_from(
    ["", "nan", "inf", "0x1F", "1_0", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1e30"]
)
times_of_a_file = st.one_of(
    st.lists(st.one_of(whole_times, fractions), min_size=2, max_size=12),
    st.lists(st.one_of(st.integers(10**18, 10**18 + 3).map(str), st.sampled_from(["+5", " 6 ", "7.00"])), min_size=2),
    st.lists(st.one_of(whole_times, fractions, odd_times), min_size=2, max_size=6),
    st.lists(st.one_of(whole_times, odd_times), min_size=2, max_size=6),
)
ratings = st.sampled_from(["1", "2", "3.5", "4", "5", "", "nan", "-1", " 2", "1e1", "0.1", "0.7"])
intervals = st.sampled_from(["[2,inf)", "[3,inf)", "(1,4]", "[1,2];[4,9)", "[0,inf)"])
settings_of_data = st.fixed_dictionaries(
    {},
    optional={
        "rm_dup_inter": st.sampled_from(["first", "last"]),
        "tie_order": st.sampled_from(["reverse", "random"]),
        "user_inter_num_interval": intervals,
        "item_inter_num_interval": intervals,
        "filter_inter_by_user_or_item": st.booleans(),
        "normalize_all": st.booleans(),
        "val_interval": st.one_of(
            st.fixed_dictionaries({"rating": st.sampled_from(["[2,inf)", "(1,4]", "[1,1];(3,5]"])}),
            st.fixed_dictionaries({"timestamp": st.sampled_from(["[0,inf)", "(-2,1000000000000000001]"])}),
            st.fixed_dictionaries({"item_id": st.just(["a", "b", "7", "007"]), "rating": st.just("[1,5]")}),
        ),
        "load_col": st.just(ALL_COLUMNS),
    },
)


def write_rows(folder: Path, rows: list[tuple[str, ...]]) -> None:
    folder.mkdir(exist_ok=True)
    lines = [RATED, *("\t".join(row) for row in rows)]
    (folder / "toy.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["a", "b", "7", "007", ""]), names, ratings, whole_times), min_size=1, max_size=40
    ),
    overrides=settings_of_data,
)
@example(rows=[("", "a", "1", "1"), ("b", "", "1", "2"), ("b", "a", "", "3"), ("b", "c", "2", "3")], overrides={})
@pytest.mark.slow
def test_both_ways_give_the_same(
    rows: list[tuple[str, ...]], overrides: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Random small logs with ties, repeated pairs, missing values and odd names, under random filters."""
    folder = tmp_path_factory.mktemp("data") / "toy"
    write_rows(folder, rows)
    assert_same_outcome(folder, overrides)


@settings(max_examples=60, deadline=None)
@given(times=times_of_a_file, rating=st.lists(ratings, min_size=1, max_size=4))
@example(times=["1.5", "9223372036854"], rating=["1"])
@example(times=["1.5", "9223372036855"], rating=["1"])
@example(times=["1600000000000000001", "1600000000000000002"], rating=["x"])
def test_both_ways_read_times_and_numbers_alike(
    times: list[str], rating: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Fractions, 19 digits, signs and blanks; and what is no time, with the same message."""
    folder = tmp_path_factory.mktemp("data") / "toy"
    rows = [("ab"[n % 2], "uvw"[n % 3], rating[n % len(rating)], time) for n, time in enumerate(times)]
    write_rows(folder, rows)
    assert_same_outcome(folder, {"load_col": ALL_COLUMNS})


def test_a_core_that_cascades(tmp_path: Path) -> None:
    """A chain in which every dropped row makes the next user or item too small, down to a block that stays."""
    stays = [(f"u{user}", f"i{item}", "3", str(user * item)) for user in range(4) for item in range(4)]
    chain = [(f"c{n}", f"d{n + step}", "3", str(n)) for n in range(30) for step in (0, 1)]
    write_rows(tmp_path / "toy", [*chain, *stays])
    overrides = {"user_inter_num_interval": "[2,inf)", "item_inter_num_interval": "[2,inf)"}
    assert_same_outcome(tmp_path / "toy", overrides)
    assert load(tmp_path / "toy", **overrides).sequences.n_users == 4


@pytest.mark.parametrize("order", ["by user", "shuffled"])
@pytest.mark.parametrize("span", [40, 10**9, 2**62])
def test_large_logs_are_sorted_as_small_ones(span: int, order: str, tmp_path: Path) -> None:
    """More rows than one block of the sort, one user with more than a block, times of few and of many bits."""
    generator = np.random.default_rng(0)
    users = generator.integers(0, 60, 100_000) ** 2 // 60
    users[:40_000] = 5
    users = np.sort(users) if order == "by user" else generator.permutation(users)
    items, stamps = generator.integers(0, 500, len(users)), generator.integers(-span, span, len(users))
    rows = [(f"u{user}", str(item), "1", str(stamp)) for user, item, stamp in zip(users, items, stamps, strict=True)]
    write_rows(tmp_path / "toy", rows)
    assert_same_outcome(tmp_path / "toy", {"load_col": ALL_COLUMNS})


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"normalize_all": False},
        {"normalize_all": False, "load_col": {"inter": ["user_id", "item_id", "timestamp"]}},
        {
            "normalize_all": False,
            "val_interval": {"rating": "[3,inf)"},
            "user_inter_num_interval": "[20,inf)",
            "item_inter_num_interval": "[10,inf)",
        },
    ],
    ids=str,
)
def test_ml_100k_is_the_same_either_way(overrides: dict[str, Any]) -> None:
    """RecBole's own copy, whose defaults normalise the numbers."""
    config = load_settings("GRU4RecMoS", overrides=overrides).recbole_config(CPU)
    ours = SequenceDataset(config)
    assert ours._prepared is not None
    assert_equal(ours, ThroughRecBole(config))


def test_other_separators_names_and_encodings(tmp_path: Path) -> None:
    """RecBole's keys; columns in any order."""
    folder = tmp_path / "shop"
    folder.mkdir()
    lines = ["when:float,what:token,note:token,who:token"]
    lines += [f"{9 - number},é{number},x,{user}" for user in "ab" for number in range(5)]
    (folder / "shop.inter").write_text("\r\n".join(lines) + "\r\n", encoding="latin-1")
    overrides = {
        "USER_ID_FIELD": "who",
        "ITEM_ID_FIELD": "what",
        "TIME_FIELD": "when",
        "load_col": {"inter": ["who", "what", "when"]},
        "field_separator": ",",
        "encoding": "latin-1",
    }
    assert_same_outcome(folder, overrides)


@pytest.mark.parametrize("model", ["GRU4RecSoftmax", "GRU4Rec", "FPMC", "BPR", "ItemKNN"])
def test_batches_are_the_same_either_way(model: str, toy: Path) -> None:
    """By model kind: what is gathered from the arrays, and what RecBole's own samplers and loaders make of the rest."""
    config = load_settings(model, str(toy), overrides={"train_batch_size": 64}).recbole_config(CPU)
    found = []
    for kind in (SequenceDataset, ThroughRecBole):
        data = kind(config)
        init_seed(0, True)  # RecBole's samplers draw from NumPy's global source
        found.append([batch.interaction for batch, _ in make_train_loader(config, data, data.split()).epoch(1)])
    for one, other in zip(*found, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_training_part_is_the_same_either_way(toy: Path) -> None:
    """What RecBole's models see at construction."""
    one, other = (data.training_part(data.split()) for data in (load(toy), load(toy, ThroughRecBole)))
    assert one.inter_feat.columns == other.inter_feat.columns
    for name in one.inter_feat.columns:
        assert torch.equal(one.inter_feat[name], other.inter_feat[name])
    assert (one.inter_matrix() != other.inter_matrix()).nnz == 0
    assert (one.item_counter, one.inter_num) == (other.item_counter, other.inter_num)


@pytest.mark.parametrize(
    "overrides",
    [
        {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "colour"]}},
        {"load_col": None},
        {"load_col": {"inter": ["user_id", "item_id", "timestamp", "shop"]}},
        {"normalize_field": ["timestamp"]},
    ],
    ids=str,
)
def test_what_cannot_be_prepared_goes_through_recbole(overrides: dict[str, Any], tmp_path: Path) -> None:
    """Features of items, other columns of names, settings that change columns."""
    folder = tmp_path / "toy"
    folder.mkdir()
    rows = [f"u{user}\ti{item}\ts{item % 2}\t{item}" for user in range(3) for item in range(5)]
    header = "user_id:token\titem_id:token\tshop:token\ttimestamp:float"
    (folder / "toy.inter").write_text("\n".join([header, *rows]) + "\n")
    (folder / "toy.item").write_text("item_id:token\tcolour:token\n" + "".join(f"i{n}\tred\n" for n in range(5)))
    data = load(folder, **overrides)
    assert data._prepared is None
    assert data.sequences.n_users == 3
    assert len(data.inter_feat) == 15
    assert load(folder)._prepared is not None
    assert data.fingerprint() != load(folder).fingerprint()


def test_rows_without_a_user_or_an_item_are_dropped_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Either way, those rows and no others; also when they come from the cache."""
    good = [("a", item, "1", str(number)) for number, item in enumerate("uvwxyz")]
    write_rows(tmp_path / "toy", [("", "u", "1", "0"), *good[:3], ("a", "", "1", "9"), *good[3:]])
    for kind in (SequenceDataset, SequenceDataset, ThroughRecBole):
        caplog.clear()
        data = load(tmp_path / "toy", kind)
        assert data.id2token("item_id", data.sequences.items).tolist() == list("uvwxyz")
        assert "2 rows without a user or an item" in caplog.text


def test_mapped_arrays_become_tensors_without_a_warning(toy: Path) -> None:
    """And writing to them leaves the cache as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.from_numpy(load(toy).sequences.items).zero_()
    assert load(toy).sequences.items.min() > 0


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=5).map(sorted), min_size=1, max_size=5))
def test_tied_rows_add_up_over_users(times: list[list[int]]) -> None:
    """What each user has, summed, is what the whole log counts."""
    flat = np.array([time for one in times for time in one])
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in times])])
    whole = tied_rows(flat, offsets)
    assert whole == sum(tied_rows(np.array(one), np.array([0, len(one)])) for one in times)
    sequences = Sequences(flat.astype(np.int32), flat, offsets, np.arange(len(times), dtype=np.int32))
    assert sequences.tied_share() == whole / len(flat)


# ---------------------------------------------------------------------------------------------------- ratings.csv


def write_ratings(folder: Path, lines: list[str]) -> Path:
    folder.mkdir()
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_movielens_ratings_are_read_as_they_come(tmp_path: Path) -> None:
    """The same data as from an atomic file, either way, rating included where it is asked for."""
    rows = [("1", str(item), "3.5", str(1_147_880_044 + item // 2)) for item in range(296, 303)]
    write_rows(tmp_path / "toy", rows)
    folder = write_ratings(tmp_path / "ml", ["userId,movieId,rating,timestamp", *(",".join(row) for row in rows)])
    for overrides in ({}, {"load_col": ALL_COLUMNS, "val_interval": {"rating": "[1,5]"}}):
        assert_same_outcome(folder, overrides)
        assert_equal(load(folder, **overrides), load(tmp_path / "toy", **overrides))


def test_an_atomic_file_goes_before_ratings(toy: Path) -> None:
    """Who wrote one wants it read."""
    expected = load(toy).fingerprint()
    (toy / "ratings.csv").write_text("anything\n")
    assert load(toy).fingerprint() == expected


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["userId,movieId,rating"], "line 1: found 'userId,movieId,rating'; expected 'userId,movieId,rating,time"),
        (["userId,movieId,rating,timestamp", "1,2,3,4", "1,2,3"], "line 3: found 3 fields; expected the header's 4"),
        (["userId,movieId,rating,timestamp", "1,2,3,4", "", "1,2,3,x"], "line 4, column timestamp: found 'x'"),
        (["userId,movieId,rating,timestamp"], "a header but no interactions"),
    ],
)
def test_faults_of_ratings_are_named_by_line(lines: list[str], message: str, tmp_path: Path) -> None:
    """As those of an atomic file."""
    folder = write_ratings(tmp_path / "ml", lines)
    with pytest.raises(InputError) as caught:
        load(folder)
    assert str(folder / "ratings.csv") in str(caught.value)
    assert message in str(caught.value)


# ---------------------------------------------------------------------------------------------------- the cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own, empty cache folder."""
    folder = tmp_path / "prepared"
    monkeypatch.setenv("MOS_RECBOLE_CACHE", str(folder))
    return folder


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read, in order: one entry for every building."""
    found: list[Path] = []
    read_log = prepared.read_log

    def counted(file: Any, *arguments: Any) -> Any:
        found.append(file.path)
        return read_log(file, *arguments)

    monkeypatch.setattr(prepared, "read_log", counted)
    return found


def entries(cache: Path) -> list[Path]:
    """Returns the folders in a cache: whole entries and leftovers."""
    return sorted(path for path in cache.iterdir() if path.is_dir())


def test_data_are_built_once_for_a_file_and_its_settings(toy: Path, cache: Path, readings: list[Path]) -> None:
    """Not again for settings that have no say, again for those that have."""
    load(toy)
    load(toy, learning_rate=0.5, MAX_ITEM_LIST_LENGTH=7, filter_inter_by_user_or_item=False)
    assert len(readings) == len(entries(cache)) == 1
    load(toy, rm_dup_inter="first")
    load(toy, user_inter_num_interval="[5,inf)")
    load(toy, val_interval={"timestamp": "[0,inf)"})
    assert len(readings) == len(entries(cache)) == 4


def test_a_changed_file_is_read_again_and_replaces_what_it_was(toy: Path, cache: Path, readings: list[Path]) -> None:
    """Same name, same length, and the time of modification set back."""
    path = toy / "toy.inter"
    before = load(toy).fingerprint()
    found = path.stat()
    text = path.read_text()
    path.write_text(text.replace("\ti1\t", "\ti2\t", 1))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert path.stat().st_size == found.st_size
    assert load(toy).fingerprint() != before
    assert len(readings) == 2
    assert len(entries(cache)) == 1


def test_a_file_that_changes_while_it_is_read_is_refused(
    toy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = prepared.read_log

    def growing(file: Any, *arguments: Any) -> Any:
        log = read(file, *arguments)
        with file.path.open("a") as lines:
            lines.write(file.path.read_text().splitlines()[-1] + "\n")
        return log

    monkeypatch.setattr(prepared, "read_log", growing)
    with pytest.raises(InputError, match=r"toy\.inter: changed while it was read"):
        load(toy)
    assert not entries(cache)


def test_other_code_prepares_anew(
    toy: Path, cache: Path, readings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was prepared by other source, or with other libraries, is not taken for this one's."""
    load(toy)
    monkeypatch.setattr(prepared, "_code", lambda: {"source": "other"})
    load(toy)
    assert len(readings) == 2
    assert len(entries(cache)) == 2


def test_a_byte_order_mark_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "marked"
    folder.mkdir()
    (folder / "marked.inter").write_text("\ufeffuser_id:token\titem_id:token\ttimestamp:float\na\tb\t1\n")
    with pytest.raises(InputError, match="line 1: begins with a byte order mark"):
        load(folder)


def test_another_file_keeps_its_own(toy: Path, cache: Path) -> None:
    """A copy elsewhere has an entry of its own, with the same fingerprint."""
    other = toy.parent / "elsewhere" / "toy"
    shutil.copytree(toy, other)
    assert load(toy).fingerprint() == load(other).fingerprint()
    assert len(entries(cache)) == 2


def flipped(data: bytes, place: int) -> bytes:
    """Returns the data with one bit changed."""
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


HARMS: dict[str, Callable[[bytes], bytes | None]] = {
    "removed": lambda data: None,
    "truncated": lambda data: data[:-1],
    "last flipped": lambda data: flipped(data, len(data) - 1),
    "middle flipped": lambda data: flipped(data, len(data) // 2),
    "first flipped": lambda data: flipped(data, 0),
    "empty": lambda data: b"",
    "longer": lambda data: data + b"\0" * 8,
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize(
    "name", ["items.npy", "times.npy", "user_names.npy", "user_name_ends.npy", "offsets.npy", "users.npy", "entry.json"]
)
def test_a_broken_entry_is_built_anew(
    name: str,
    harm: str,
    toy: Path,
    cache: Path,
    readings: list[Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a warning that names the folder; what comes back is what the file says."""
    expected = load(toy, ThroughRecBole)
    load(toy)
    (entry,) = entries(cache)
    data = HARMS[harm]((entry / name).read_bytes())
    (entry / name).unlink()
    if data is not None:
        (entry / name).write_bytes(data)
    readings.clear()
    caplog.clear()
    rebuilt = load(toy)
    assert f"{entry}: the prepared data are damaged" in caplog.text
    assert len(readings) == 1
    assert_equal(rebuilt, expected)
    caplog.clear()
    load(toy)
    assert caplog.text == ""
    assert entries(cache) == [entry]


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"made_of": {}, "arrays": {}, "facts": {}, "check": ""}'])
def test_garbage_for_metadata_is_built_anew(
    text: str, toy: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """JSON or not."""
    expected = load(toy).fingerprint()
    (entry,) = entries(cache)
    (entry / "entry.json").write_text(text)
    assert load(toy).fingerprint() == expected
    assert "the prepared data are damaged" in caplog.text


def test_a_changed_fact_is_noticed(toy: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Still good JSON of the right shape, but not what was written."""
    expected = summary_or_message(load(toy))
    (entry,) = entries(cache)
    content = json.loads((entry / "entry.json").read_text())
    content["facts"]["tied_share"] += 1
    (entry / "entry.json").write_text(json.dumps(content))
    assert summary_or_message(load(toy)) == expected
    assert "the prepared data are damaged" in caplog.text


def test_a_fault_in_the_file_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    """Nor do filters that leave nothing."""
    write_rows(tmp_path / "toy", [("a", "b", "1", "never")])
    with pytest.raises(InputError, match="never"):
        load(tmp_path / "toy")
    write_rows(tmp_path / "toy", [("a", "b", "1", "5")])
    with pytest.raises(InputError, match="filtering settings"):
        load(tmp_path / "toy", user_inter_num_interval="[2,inf)")
    assert entries(cache) == []


@pytest.mark.filterwarnings("error::ResourceWarning")
@pytest.mark.parametrize("place", ["arrays", "entry.json"])
def test_a_full_disk_is_said_and_leaves_nothing(
    place: str, toy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the folder and the variable that moves it; the next run builds. No file stays open either."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        if place == "arrays":
            # Writing beyond this size fails, as on a full disk.
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        else:
            patch.setattr(Path, "write_text", full)
        try:
            with pytest.raises(InputError, match="the disk is full") as caught:
                load(toy)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(cache) in str(caught.value)
    assert "MOS_RECBOLE_CACHE" in str(caught.value)
    assert entries(cache) == []
    del caught
    gc.collect()
    load(toy)
    assert len(entries(cache)) == 1


def test_a_cache_that_is_no_folder_is_said(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As any folder that cannot be written to."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MOS_RECBOLE_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(InputError, match="MOS_RECBOLE_CACHE"):
        load(toy)


def test_the_cache_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unless the variable says otherwise."""
    monkeypatch.delenv("MOS_RECBOLE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cached_arrays.cache_folder() == tmp_path / "mos_recbole"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cached_arrays.cache_folder() == tmp_path / ".cache" / "mos_recbole"


# ---------------------------------------------------------------------------------------------------- processes


def _build_and_hang(folder: Path, begun: Any) -> None:
    """Builds up to the last file, says so, and waits to be killed."""

    def hang(*_: Any, **__: Any) -> None:
        begun.set()
        clock.sleep(60)

    Path.write_text = hang  # type: ignore[method-assign]
    load(folder)


def _build_and_tell(folder: Path, start: Any, results: Any) -> None:
    """Loads when told to; tells how often it read the file, and what came out."""
    read_log, count = prepared.read_log, [0]

    def counted(*arguments: Any) -> Any:
        count[0] += 1
        clock.sleep(0.3)
        return read_log(*arguments)

    prepared.read_log = counted
    start.wait()
    results.put((count[0] or None, load(folder).fingerprint(), count[0]))


@pytest.fixture(scope="module")
def fork() -> Iterator[Any]:
    """Processes that need not import everything again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield multiprocessing.get_context("fork")


def test_a_killed_builder_leaves_nothing_that_is_read(toy: Path, cache: Path, fork: Any) -> None:
    """Its leftovers are no entry, hold up nobody, and are gone after the next building, also of another data set."""
    begun = fork.Event()
    builder = fork.Process(target=_build_and_hang, args=(toy, begun))
    builder.start()
    assert begun.wait(30)
    other = toy.parent / "other" / "toy"
    shutil.copytree(toy, other)
    load(other)
    assert len(entries(cache)) == 2, "a builder at work loses nothing"
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    assert len(entries(cache)) == 2
    load(other, rm_dup_inter="first")
    assert not any(cached_arrays._UNFINISHED in path.name for path in entries(cache))
    assert load(toy).fingerprint() == load(other).fingerprint()
    assert len(entries(cache)) == 3


def test_leftovers_of_the_same_data_are_removed_too(toy: Path, cache: Path, fork: Any) -> None:
    """The next builder of an entry holds its lock."""
    begun = fork.Event()
    builder = fork.Process(target=_build_and_hang, args=(toy, begun))
    builder.start()
    assert begun.wait(30)
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    (leftover,) = entries(cache)
    load(toy)
    (entry,) = entries(cache)
    assert entry != leftover


def test_processes_at_once_build_once(toy: Path, cache: Path, fork: Any) -> None:
    """The others wait, and all have the same."""
    start, results = fork.Event(), fork.Queue()
    workers = [fork.Process(target=_build_and_tell, args=(toy, start, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    start.set()
    told = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sorted(count for _, _, count in told) == [0, 0, 1]
    assert {found for _, found, _ in told} == {load(toy, ThroughRecBole).fingerprint()}
    assert len(entries(cache)) == 1


def test_rows_can_be_read_after_the_entry_was_replaced(tmp_path: Path) -> None:
    """A run that is under way when its data are prepared anew, with other content, goes on with what it had."""
    path = tmp_path / "rows.npy"
    np.save(path, np.arange(10))
    mapped = np.load(path, mmap_mode="c")
    assert read_rows(mapped, 2, 5).tolist() == [2, 3, 4]
    path.unlink()
    assert read_rows(mapped, 2, 5).tolist() == [2, 3, 4]
