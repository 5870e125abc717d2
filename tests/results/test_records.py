"""Records: what older and newer versions of the package wrote is read; what is broken is refused."""

import json
import logging
import subprocess
import sys
from math import isnan, nan
from pathlib import Path
from typing import Any

import pytest
from fabricated import MOS, SOFTMAX, Maker

from mos_recbole.errors import InputError
from mos_recbole.results import RECORD_FILE, Metric, RunResult, find_records, read_plan, read_record
from mos_recbole.results.documents import sealed

RESULTS = Path(__file__).parents[2] / "results"
NEW_FIELDS = ("encoder", "head", "n_components", "width", "baseline", "split_leakage")


def rewrite(record: RunResult, **changes: Any) -> Path:
    """Changes a record's file, its checksum too; None takes a field out."""
    path = record.folder / RECORD_FILE
    document = json.loads(path.read_text())
    document |= {"sha256": None} | changes
    path.write_bytes(sealed(json.dumps({key: value for key, value in document.items() if value is not None})))
    return record.folder


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = Maker(tmp_path)(MOS)
    assert read_record(record.folder) == record


def test_a_metric_that_no_query_has_comes_back_as_none(tmp_path: Path) -> None:
    undefined = {"Recall@100": Metric(value=0.5, direction="higher"), "GAUC": Metric(value=nan, direction="higher")}
    record = Maker(tmp_path)(MOS, valid=0.5, test=undefined)
    assert json.loads((record.folder / RECORD_FILE).read_text())["test"]["GAUC"]["value"] is None
    found = read_record(record.folder).test
    assert isnan(found["GAUC"].value)
    assert found["Recall@100"].value == 0.5


def test_records_of_this_version_say_so(tmp_path: Path) -> None:
    assert RunResult.model_fields["schema_version"].default == 3


def test_runs_are_listed_without_pandas_and_pyarrow(tmp_path: Path) -> None:
    """Which take longer to import than the list to be made."""
    Maker(tmp_path)(MOS)
    program = "import sys; from mos_recbole.cli import main; main(sys.argv[1:]); print('pandas' in sys.modules)"
    command = [sys.executable, "-c", program, "ls", str(tmp_path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert MOS in lines[2]
    assert lines[-1] == "False"


@pytest.mark.parametrize(
    ("model", "settings", "expected"),
    [
        ("GRU4RecMoS", {"mos_heads": 4, "embedding_size": 32}, ("GRU4Rec", "mos", 4, 32, "GRU4RecSoftmax")),
        ("GRU4RecSoftmax", {"embedding_size": 32, "hidden_size": 128}, ("GRU4Rec", "softmax", 1, 32, None)),
        ("SASRecDOC", {"doc_heads": [2, 3], "hidden_size": 64}, ("SASRec", "doc", 5, 64, "SASRecSoftmax")),
        ("SASRecMoSS", {"mos_heads": 2, "hidden_size": 64}, ("SASRec", "moss", 2, 64, "SASRecSoftmax")),
        ("NARMSigsoftmax", {"embedding_size": 8}, ("NARM", "sigsoftmax", 1, 8, "NARMSoftmax")),
        ("GRU4RecCPR", {"embedding_size": 8}, (None, None, None, None, None)),
        ("Pop", {}, (None, None, None, None, None)),
    ],
)
def test_records_of_version_1_get_the_parts_of_their_model(
    tmp_path: Path, model: str, settings: dict[str, Any], expected: tuple[object, ...]
) -> None:
    record = Maker(tmp_path)(model, None)
    folder = rewrite(record, schema_version=1, settings=settings, **dict.fromkeys(NEW_FIELDS))
    read = read_record(folder)
    assert (read.encoder, read.head, read.n_components, read.width, read.baseline) == expected


def test_the_parts_that_a_record_of_version_2_names_are_not_guessed(tmp_path: Path) -> None:
    record = Maker(tmp_path)(MOS)
    folder = rewrite(record, schema_version=2, encoder="Mine", head=None, baseline="MineSoftmax")
    read = read_record(folder)
    assert (read.encoder, read.head, read.baseline) == ("Mine", None, "MineSoftmax")


def test_a_newer_record_is_read_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make = Maker(tmp_path)
    records = [make(SOFTMAX, seed=seed) for seed in (1, 2)]
    metric = {"NDCG@10": {"value": 0.5, "direction": "higher", "spread": 0.1}}
    for record in records:
        rewrite(record, schema_version=4, valid=metric, valid_metric="NDCG@10", moonlight={"phase": 1})
    with caplog.at_level(logging.WARNING):
        found = find_records(tmp_path)
    assert [one.run_id for one in found] == [record.run_id for record in records]
    assert found[0].valid["NDCG@10"].value == 0.5
    (message,) = [one.getMessage() for one in caplog.records]
    assert str(records[0].folder / RECORD_FILE) in message
    assert "schema version 4" in message
    assert "moonlight" in message
    assert "valid.NDCG@10.spread" in message


@pytest.mark.parametrize("changes", [{"seed": "one"}, {"run_id": None, "moonlight": 1}, {"schema_version": 0}])
def test_broken_records_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = rewrite(Maker(tmp_path)(), **changes)
    with pytest.raises(InputError, match="not the record of a finished run") as caught:
        read_record(folder)
    assert next(iter(changes)) in str(caught.value)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / RECORD_FILE).write_text("{")
    with pytest.raises(InputError, match="not the record of a finished run"):
        read_record(tmp_path)


def test_all_results_of_this_repository_are_read() -> None:
    folders = {path.parent.parent for path in RESULTS.glob(f"**/runs/*/{RECORD_FILE}")}
    records = [record for folder in folders for record in find_records(folder)]
    assert {record.model for record in records} > {MOS, SOFTMAX}
    ours = [record for record in records if record.model in (MOS, SOFTMAX)]
    assert all(record.encoder == "GRU4Rec" and record.width == record.settings["embedding_size"] for record in ours)
    for path in RESULTS.glob("**/sweep.json"):
        assert read_plan(path.parent).schema_version == 1
