"""Data that come split into files, against RecBole's own reading of them."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.dataset import SequentialDataset

from mos_recbole import run_experiment
from mos_recbole.cli import main
from mos_recbole.data import SequenceDataset
from mos_recbole.errors import InputError
from mos_recbole.experiment import load_settings

CPU = torch.device("cpu")
SIDES = ("train", "valid", "test")
FILES = {"benchmark_filename": list(SIDES)}
SESSIONS = {**FILES, "USER_ID_FIELD": "session_id", "alias_of_item_id": ["item_id_list"]}
LISTS = "session_id:token\titem_id_list:token_seq\titem_id:token"


def write_sides(folder: Path, header: str, sides: dict[str, list[tuple[Any, ...]]]) -> Path:
    folder.mkdir()
    for side, rows in sides.items():
        lines = [header, *("\t".join(map(str, row)) for row in rows)]
        (folder / f"{folder.name}.{side}.inter").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    """Sessions whose every prefix is a row, as in RecBole's collection of prepared data."""
    generator = np.random.default_rng(5)
    sides: dict[str, list[tuple[Any, ...]]] = {side: [] for side in SIDES}
    for number in range(60):
        items = [f"i{item}" for item in generator.integers(0, 25, generator.integers(2, 9))]
        side = SIDES[min(number // 20, 2)]
        sides[side] += [(f"s{number}", " ".join(items[:place]), items[place]) for place in range(1, len(items))]
    return write_sides(tmp_path / "sess", LISTS, sides)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    generator = np.random.default_rng(6)
    sides: dict[str, list[tuple[Any, ...]]] = {side: [] for side in SIDES}
    for user in range(20):
        for step in range(int(generator.integers(3, 12))):
            sides[SIDES[max(0, step - 5) // 2 if step < 10 else 2]].append((f"u{user}", f"i{(user * step) % 11}", step))
    for rows in sides.values():
        generator.shuffle(rows)
    return write_sides(tmp_path / "rows", "user_id:token\titem_id:token\ttimestamp:float", sides)


def load(folder: Path, **overrides: Any) -> SequenceDataset:
    return SequenceDataset(load_settings("GRU4RecSoftmax", str(folder), overrides=overrides).recbole_config(CPU))


def named_samples(data: SequenceDataset, side: str) -> Counter[tuple[Any, ...]]:
    flat, segments = data.sequences, getattr(data.split(), side)
    found: Counter[tuple[Any, ...]] = Counter()
    for row, number in zip(*segments.targets(), strict=True):
        user = data.id2token(data.uid_field, flat.users[segments.user[number]])
        context = data.id2token("item_id", flat.items[segments.context_start[number] : row])
        found[user, tuple(context), data.id2token("item_id", flat.items[row])] += 1
    return found


@pytest.mark.parametrize("cut", [{}, {"seq_len": {"item_id_list": 3}}])
def test_rows_with_lists_are_recboles_samples(cut: dict[str, Any], sessions: Path) -> None:
    """Users, contexts and targets of each side; also without the alias. The names of items are all there.

    Of lists that are cut by `seq_len`, as RecBole cuts them, the first items are left.
    """
    config = load_settings("SASRec", str(sessions), overrides={"USER_ID_FIELD": "session_id"}).recbole_config(CPU)
    for key, value in (SESSIONS | cut).items():
        config[key] = value
    config["load_col"] = None
    recboles = SequentialDataset(config)
    for overrides in (SESSIONS, SESSIONS | {"alias_of_item_id": None}):
        data = load(sessions, **overrides, **cut)
        assert set(data.field2id_token["item_id"]) == set(recboles.field2id_token["item_id"])
        for side, part in zip(SIDES, SequentialDataset(config).build(), strict=True):
            expected: Counter[tuple[Any, ...]] = Counter()
            for row in range(len(part)):
                one = part.inter_feat[row]
                context = one["item_id_list"][: int(one["item_length"])].numpy()
                user = part.id2token("session_id", int(one["session_id"]))
                target = part.id2token("item_id", int(one["item_id"]))
                expected[user, tuple(part.id2token("item_id", context)), target] += 1
            assert named_samples(data, side) == expected, side


def test_an_interaction_of_augmented_lists_counts_once(sessions: Path) -> None:
    """What training may see are the sessions' items, each once; users are sessions, interactions rows."""
    data = load(sessions, **SESSIONS)
    split = data.split()
    lines = [line.split("\t") for line in (sessions / "sess.train.inter").read_text().splitlines()[1:]]
    expected = Counter(item for _, _, item in lines) + Counter(items for _, items, _ in lines if " " not in items)
    counts = data.train_counts(split)
    assert {data.id2token("item_id", item): counts[item] for item in np.flatnonzero(counts)} == dict(expected)
    summary = data.summary(split)
    assert (summary.users, summary.train_users, summary.users_without_targets) == (60, 20, 0)
    assert summary.interactions == summary.train_targets + summary.valid_targets + summary.test_targets
    assert summary.new_test_share == 1
    assert f"{data.sequences.n_users:,} rows with lists, none augmented" in summary.describe()


def test_plain_rows_have_what_came_before_as_contexts(plain: Path) -> None:
    rows = [
        (line.split("\t")[0], number, int(line.split("\t")[2]), line.split("\t")[1])
        for number, side in enumerate(SIDES)
        for line in (plain / f"rows.{side}.inter").read_text().splitlines()[1:]
    ]
    data = load(plain, **FILES)
    for number, side in enumerate(SIDES):
        expected: Counter[tuple[Any, ...]] = Counter()
        for user in {row[0] for row in rows}:
            own = sorted(row[1:] for row in rows if row[0] == user)
            for place, (of_side, _, item) in enumerate(own):
                if place and of_side == number:
                    expected[user, tuple(one[2] for one in own[:place]), item] += 1
        assert named_samples(data, side) == expected, side


def test_plain_rows_without_times_are_in_the_order_of_the_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A malformed line is left out where that was asked for."""
    sides = {side: [("u1", f"{side}{place}") for place in "ab"] for side in SIDES}
    folder = write_sides(tmp_path / "untimed", "user_id:token\titem_id:token", sides)
    with (folder / "untimed.test.inter").open("a") as file:
        file.write("u1\n")
    with pytest.raises(InputError, match=r"untimed\.test\.inter, line 4: found 1 fields"):
        load(folder, **FILES)
    data = load(folder, skip_bad_lines=True, **FILES)
    expected = [f"{side}{place}" for side in SIDES for place in "ab"]
    assert data.id2token("item_id", data.sequences.items).tolist() == expected
    assert [getattr(data.split(), side).n_targets for side in SIDES] == [1, 2, 2]
    assert any("no times are read" in message for message in caplog.messages)
    assert any("bad lines left out: 1" in message for message in caplog.messages)


@pytest.mark.parametrize("model", ["GRU4RecMoS", "SASRec", "BPR"])
def test_models_train_on_files(model: str, sessions: Path, tmp_path: Path) -> None:
    """From RecBole's settings alone, those of another split among them."""
    eval_args = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    record = run_experiment(model, str(sessions), output=tmp_path / "out", epochs=1, eval_args=eval_args, **SESSIONS)
    assert record.protocol["split"] == {"name": "files", "benchmark_filename": list(SIDES)}
    outcomes = record.outcomes()
    lines = [line.split("\t") for line in (sessions / "sess.test.inter").read_text().splitlines()[1:]]
    assert outcomes["user"].tolist() == [line[0] for line in lines]
    assert outcomes["target"].tolist() == [line[2] for line in lines]
    assert outcomes["context_length"].tolist() == [len(line[1].split()) for line in lines]
    assert outcomes["time_gap"].isna().all()  # the files have no times


def test_prepare_counts_what_is_in_the_files(sessions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--benchmark_filename=[train, valid, test]", "--USER_ID_FIELD=session_id"]
    assert main(["prepare", str(sessions), *settings]) == 0
    found = capsys.readouterr().out
    assert "rows with lists, none augmented" in found
    assert f"file:          {sessions}: sess.train.inter, sess.valid.inter, sess.test.inter" in found


def test_faults_of_the_files_are_named(sessions: Path, tmp_path: Path) -> None:
    path = sessions / "sess.valid.inter"
    with pytest.raises(InputError, match="write train_mode: prefix"):
        load(sessions, train_mode="all_positions", **SESSIONS).split()
    with pytest.raises(InputError, match="split is 'files', but no files are named; write benchmark_filename"):
        load(sessions, split="files")
    for line, message in (
        ("s9\t \ti1", "column item_id_list: found ' '; expected an item or more"),
        ("s9\ti1\t", "column item_id: found nothing; expected a name"),
        ("s9\ti1", "found 2 fields; expected the header's 3 fields"),
    ):
        path.write_text(f"{LISTS}\ns8\ti1 i2\ti3\n\n{line}\n")
        with pytest.raises(InputError, match=f"{path}, line 4.*{message}"):
            load(sessions, **SESSIONS)
    path.write_text(f"{LISTS}\ns8\ti1 i2\ti3\n")
    with pytest.raises(InputError, match="seq_len names 'item_list', which is no column that is loaded"):
        load(sessions, **SESSIONS, seq_len={"item_list": 3})
    path.unlink()
    with pytest.raises(InputError, match=f"{path}: no such file, which benchmark_filename names"):
        load(sessions, **SESSIONS)


def test_features_of_split_files_keep_their_aliases(sessions: Path) -> None:
    (sessions / "sess.item").write_text("item_id:token\tlike:token_seq\ni1\ti2 i3\n")
    options = {"load_col": {"inter": "*", "item": ["item_id", "like"]}}
    data = load(sessions, **SESSIONS | options | {"alias_of_item_id": ["item_id_list", "like"]})
    like = data.item_feat["like"][data.token2id("item_id", "i1")]
    assert data.id2token("item_id", like).tolist() == ["i2", "i3"]
    with pytest.raises(InputError, match="alias_of_item_id names 'lik', which is not loaded by load_col"):
        load(sessions, **SESSIONS | options | {"alias_of_item_id": ["lik"]})


def test_further_columns_of_split_files_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sides: dict[str, list[tuple[Any, ...]]] = {
        side: [
            (f"u{user}", f"i{(user + step) % 5}", step, 1.5) for user in range(5) for step in range(start, start + 3)
        ]
        for start, side in enumerate(SIDES)
    }
    for column, told in (("rating", False), ("stars", True)):  # RecBole's default names a rating, and no user did
        header = f"user_id:token\titem_id:token\ttimestamp:float\t{column}:float"
        folder = write_sides(tmp_path / column, header, sides)
        options = FILES | ({"load_col": {"inter": ["user_id", "item_id", "timestamp", column]}} if told else {})
        load(folder, **options)
        assert (f"not read, though load_col names them: {column}; of split files" in caplog.text) == told
        for key in ("normalize_field", "numerical_features"):
            with pytest.raises(InputError, match=f"{key} names '{column}', which is not read; of split files"):
                load(folder, **options, **{key: [column]})


def test_the_time_since_a_later_interaction_is_missing(tmp_path: Path) -> None:
    """A test that is earlier than training: what the run writes can be read."""
    for side, start in zip(SIDES, (1000, 500, 100), strict=True):
        rows = [(f"u{user}", f"i{(user + step) % 9}", start + step) for user in range(9) for step in range(3)]
        lines = ["user_id:token\titem_id:token\ttimestamp:float", *("\t".join(map(str, row)) for row in rows), ""]
        (tmp_path / f"{tmp_path.name}.{side}.inter").write_text("\n".join(lines))
    record = run_experiment(
        "Pop", str(tmp_path), output=tmp_path / "results", device="cpu", benchmark_filename=list(SIDES)
    )
    gaps = record.outcomes().sort_values(["user", "position"])["time_gap"].to_numpy().reshape(9, 3)
    assert np.isnan(gaps[:, 0]).all()
    assert (gaps[:, 1:] == 1).all()
