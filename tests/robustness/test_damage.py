"""Damaged files of results: what is read is what was written, or one message names the file."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from fabricated import MOS, Maker, outcomes

from mos_recbole import io
from mos_recbole.errors import InputError
from mos_recbole.results import (
    OUTCOMES_FILE,
    RECORD_FILE,
    TopItems,
    Trial,
    find_records,
    read_record,
    read_trials,
    run_files_sha256,
    write_outcomes,
)
from mos_recbole.results.documents import sealed, write_document
from mos_recbole.training import load_checkpoint
from mos_recbole.training.checkpoint import save_checkpoint

SEED = 20261129


class Kept(NamedTuple):
    """A file of results and how it is read."""

    path: Path
    read: Callable[[], Any]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kept]:
    """Files of a run and of a trial, as the package writes them; nothing is trained."""
    folder = tmp_path_factory.mktemp("kept")
    record = Maker(folder)(MOS)
    table = outcomes(MOS, 8, 1)
    names = np.array(["", *(f"i{number}" for number in range(50))], dtype=object)
    items = np.random.default_rng(0).integers(1, 51, (len(table), 10)).astype(np.int32)
    top = TopItems(items, items % 2 == 0, names, np.arange(51))
    write_outcomes(record.folder / OUTCOMES_FILE, table, top)
    files = run_files_sha256(record.folder)
    record = record.model_copy(update={"schema_version": 3, "files": files})
    record.write_distance_sums(np.random.default_rng(1).random((len(table), 10)))
    record.write(record.folder)
    state = {"model": {"state_dict": {"weight": torch.randn(200, 8)}, "other_parameter": {}}, "epoch": 3}
    for name in ("best.pt", "last.pt"):
        save_checkpoint(record.folder / name, record.run_id, MOS, state)
    trial = Trial(number=1, model=MOS, dataset="toy", seed=1, parameters={"mos_heads": 4}, run=record.folder.name)
    trial.write(folder)

    def checkpoint(name: str) -> Callable[[], Any]:
        return lambda: load_checkpoint(record.folder / name, record.run_id, MOS, "cpu")

    run = record.folder
    return {
        "best.pt": Kept(run / "best.pt", checkpoint("best.pt")),
        "last.pt": Kept(run / "last.pt", checkpoint("last.pt")),
        "outcomes.parquet": Kept(run / OUTCOMES_FILE, lambda: (record.outcomes(), vars(record.top_items()))),
        "items.parquet": Kept(run / "items.parquet", lambda: vars(record.top_items())),
        "distances.parquet": Kept(run / "distances.parquet", record.distance_sums),
        "training_log.csv": Kept(run / "training_log.csv", record.training_log),
        "record.json": Kept(run / RECORD_FILE, lambda: read_record(run)),
        "trial": Kept(folder / "trials" / f"{trial.run_id}.json", lambda: read_trials(folder)),
    }


FILES = ("best.pt", "last.pt", "outcomes.parquet", "record.json", "trial")
SMALL_FILES = ("items.parquet", "distances.parquet", "training_log.csv")


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, pd.DataFrame):
        return one.equals(other)
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else bool(one == other)


def attempt(read: Callable[[], Any]) -> tuple[Any, str | None]:
    """Returns what is read, or the message with which it is refused; any other error fails the test."""
    try:
        return read(), None
    except InputError as error:
        return None, str(error)


@pytest.mark.parametrize(
    ("name", "flips"),
    [
        *((name, 30) for name in (*FILES, *SMALL_FILES)),
        *(pytest.param(name, 1000, marks=pytest.mark.slow) for name in FILES),
    ],
)
def test_a_flipped_bit_is_found_or_harmless(name: str, flips: int, kept: dict[str, Kept]) -> None:
    path, read = kept[name]
    content, expected = path.read_bytes(), read()
    generator = np.random.default_rng(SEED)
    found = 0
    try:
        for place in generator.integers(0, 8 * len(content), flips):
            damaged = bytearray(content)
            damaged[place // 8] ^= 1 << (place % 8)
            path.write_bytes(bytes(damaged))
            content_read, message = attempt(read)
            assert message is None or path.name in message
            assert message is not None or same(content_read, expected), f"seed {SEED}: bit {place} of {path}"
            found += message is not None
    finally:
        path.write_bytes(content)
    print(f"{name}: seed {SEED}, {flips} flips, {found} found, {flips - found} without effect")
    assert found > 0.5 * flips


@pytest.mark.parametrize("name", [*FILES, *SMALL_FILES])
def test_a_file_that_was_cut_or_exchanged_is_named(name: str, kept: dict[str, Kept]) -> None:
    """Cut anywhere, empty, longer, text, zeros: one message."""
    path, read = kept[name]
    content = path.read_bytes()
    cuts = np.random.default_rng(SEED).integers(1, len(content), 10)
    others = [b"", content + b"\n", content[:-1], b"text", b"\0" * 2000, b"[" * 5000]
    try:
        for damaged in [*(content[:cut] for cut in cuts), *others]:
            path.write_bytes(damaged)
            if name == "distances.parquet" and damaged == content + b"\n":
                continue
            with pytest.raises(InputError, match=path.name.replace(".", r"\.")):
                read()
    finally:
        path.write_bytes(content)


COLUMNS: list[dict[str, Any]] = [
    {"rank": float("nan")},
    {"rank": 0.0},
    {"rank": -3.0},
    {"rank": "first"},
    {"tied": -1},
    {"candidates": 1.5},
    {"user": None},
    {"position": -1},
    {"log_probability": 3.0},
    {"train_count": -1},
    {"previous_distance": 7.0},
    {"time_gap": -5.0},
]


@pytest.mark.parametrize("change", COLUMNS, ids=str)
def test_values_that_no_run_writes_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    """Of earlier versions too, whose records have no checksums."""
    record = Maker(tmp_path)(MOS, change=lambda table: table.assign(**change))
    if change == {"candidates": 1.5}:
        assert record.outcomes()["candidates"].iloc[0] == 1.5
        return
    with pytest.raises(InputError, match=rf"outcomes\.parquet.*column {next(iter(change))}"):
        record.outcomes()


CATALOGUES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "a name twice": lambda items: items.replace({"item": {"i2": "i1"}}),
    "a name twice, or none": lambda items: items.replace({"item": {"i2": None}}),
    "what is no count": lambda items: items.replace({"train_count": {5: -5}}),
    "train_count holds": lambda items: items.assign(train_count=items["train_count"] / 2),
    "an item that items.parquet lacks": lambda items: items.iloc[:-1],
}


@pytest.mark.parametrize("fault", CATALOGUES)
def test_items_that_no_run_writes_are_refused(fault: str, tmp_path: Path) -> None:
    """Of earlier versions too, whose records have no checksums."""
    record = Maker(tmp_path)(MOS)
    table = outcomes(MOS, 8, 1)
    items = np.tile(np.arange(50, 40, -1, dtype=np.int32), (len(table), 1))
    names = np.array(["", *(f"i{number}" for number in range(50))], dtype=object)
    write_outcomes(record.folder / OUTCOMES_FILE, table, TopItems(items, items % 2 == 0, names, np.arange(51)))
    np.testing.assert_array_equal(record.top_items().items, items)
    path = record.folder / "items.parquet"
    CATALOGUES[fault](pd.read_parquet(path)).to_parquet(path)
    with pytest.raises(InputError, match=fault):
        record.top_items()


def test_files_without_a_checksum_are_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever number of them a command reads."""
    monkeypatch.setattr(io, "_said_unsealed", [])
    Maker(tmp_path).study()
    with caplog.at_level(logging.INFO, "mos_recbole"):
        for record in find_records(tmp_path):
            record.outcomes()
    assert ["without a checksum" in message for message in caplog.messages] == [True]


def test_outcomes_without_rows_are_refused(tmp_path: Path) -> None:
    record = Maker(tmp_path)(MOS, change=lambda table: table.iloc[:0])
    with pytest.raises(InputError, match=r"outcomes\.parquet.*no rows"):
        record.outcomes()


NESTED: list[dict[str, Any]] = [
    {"protocol": {"split": "leave_one_out", "filter_seen": False, "tie_rule": "mean"}},
    {"protocol": {"split": {"name": "x"}, "filter_seen": "maybe", "tie_rule": "mean"}},
    {"protocol": {"split": {"name": "x"}, "filter_seen": False, "tie_rule": "best"}},
    {"data": {"items": "many"}},
    {"data": {"users": -1}},
    {"settings": {"embedding_size": "wide"}},
    {"settings": {"doc_heads": 3}},
    {"valid": {"NDCG@10": {"value": 1.0, "direction": "higher"}}},
    {"valid": {"Recall@100": {"value": "good", "direction": "higher"}}},
]


@pytest.mark.parametrize("change", NESTED, ids=str)
def test_the_nested_parts_of_a_record_are_typed(change: dict[str, Any], tmp_path: Path) -> None:
    record = Maker(tmp_path)(MOS)
    document = json.loads(record.model_dump_json()) | change
    (record.folder / RECORD_FILE).write_bytes(sealed(json.dumps(document)))
    with pytest.raises(InputError, match=rf"record\.json: not the record of a finished run.*{next(iter(change))}"):
        read_record(record.folder)


@pytest.mark.parametrize("run", ["../../etc", "a/b", ""])
def test_a_trial_names_no_folder_elsewhere(run: str, tmp_path: Path) -> None:
    trial = Trial(number=1, model=MOS, dataset="toy", seed=1, parameters={}, run="a-b")
    (tmp_path / "trials").mkdir()
    write_document(tmp_path / "trials" / "one.json", trial.model_copy(update={"run": run}))
    with pytest.raises(InputError, match="not a trial: run"):
        read_trials(tmp_path)


def test_a_record_that_was_changed_by_hand_is_told(tmp_path: Path) -> None:
    record = Maker(tmp_path)(MOS)
    path = record.folder / RECORD_FILE
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
    with pytest.raises(InputError, match=r"record\.json: damaged.*without --resume"):
        read_record(record.folder)
