"""`recommend` and `export` on the command line: what they write, and how they refuse bad input."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mos_recbole import cli, load_run
from mos_recbole.results import find_records

SMALL = ["--embedding_size=8", "--hidden_size=12", "--MAX_ITEM_LIST_LENGTH=10"]


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with one finished run; not to be changed."""
    output = tmp_path_factory.mktemp("finished") / "results"
    arguments = ["--model", "GRU4RecMoS", "--device", "cpu", *SMALL, "--epochs=1", "--dataset", str(data)]
    assert cli.main(["run", *arguments, "--output", str(output), "--quiet"]) == 0
    return output


@pytest.fixture
def call(finished: Path, data: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., tuple[int, str, str]]:
    """Returns a function (command, arguments...) -> exit status, standard output, standard error, of the run."""

    def run(command: str, *arguments: object) -> tuple[int, str, str]:
        where = ["--results", finished, "--dataset", data, "--device", "cpu"]
        try:
            status = cli.main([command, "GRU4RecMoS", *map(str, [*arguments, *where])])
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, error = capfdbinary.readouterr()
        return status, out.decode(), error.decode()

    return run


@pytest.fixture
def sequences(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "new.txt"
    path.parent.mkdir()
    path.write_text("i3 i5\ni1 i2 i3 nonsense\n", encoding="utf-8")
    return path


def expected(finished: Path, data: Path, **arguments: object) -> pd.DataFrame:
    (record,) = find_records(finished)
    return load_run(record, "cpu", data.parent).recommend(**arguments)  # type: ignore[arg-type]


def test_users_on_standard_output(call, finished: Path, data: Path) -> None:
    """As CSV, and nothing else there."""
    status, out, error = call("recommend", "--users", "u3", "u1", "--k", 2)
    frame = expected(finished, data, users=["u3", "u1"], k=2)
    rows = [f"{row.query},{row.rank},{row.item}" for row in frame.itertuples()]
    lines = out.splitlines()
    assert (status, error) == (0, "")
    assert lines[0] == "query,rank,item,score"
    assert [line.rpartition(",")[0] for line in lines[1:]] == rows


@pytest.mark.parametrize(("suffix", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet), ("jsonl", None)])
def test_files(call, finished: Path, data: Path, tmp_path: Path, suffix: str, read: Callable | None) -> None:
    """The same table in all formats; how many rows it has is said."""
    path = tmp_path / f"lists.{suffix}"
    status, out, error = call("recommend", "--all-users", "--filter-seen", "--output", path)
    frame = expected(finished, data, filter_seen=True)
    assert (status, out) == (0, "")
    assert error == f"{len(frame):,} rows in {path}\n"
    found = pd.read_json(path, lines=True) if read is None else read(path)
    for column in ("query", "rank", "item"):
        assert found[column].tolist() == frame[column].tolist()
    np.testing.assert_allclose(found["score"], frame["score"], rtol=1e-6)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_sequences_of_a_file(call, finished: Path, data: Path, sequences: Path, tmp_path: Path) -> None:
    """By the number of the line, or by their names; unknown items are counted."""
    status, _, error = call("recommend", "--sequences", sequences, "--output", tmp_path / "lists.csv")
    assert status == 0
    assert f"warning: 1 unknown items left out, the first in {sequences}, line 2: item 'nonsense'" in error
    frame = expected(finished, data, sequences={"1": ["i3", "i5"], "2": ["i1", "i2", "i3"]})
    assert pd.read_csv(tmp_path / "lists.csv", dtype={"query": str})["item"].tolist() == frame["item"].tolist()
    named = tmp_path / "new.jsonl"
    named.write_text('["i3", "i5"]\n{"query": "bob", "items": ["i1", "i2", "i3"]}\n', encoding="utf-8")
    assert call("recommend", "--sequences", named, "--output", tmp_path / "lists.csv", "--force")[0] == 0
    found = pd.read_csv(tmp_path / "lists.csv")
    assert found["item"].tolist() == frame["item"].tolist()
    assert found["query"].unique().tolist() == ["1", "bob"]
    named.write_text(named.read_text(encoding="utf-8"), encoding="utf-8-sig")  # as Windows' editors write it
    assert call("recommend", "--sequences", named, "--output", tmp_path / "lists.csv", "--force")[0] == 0
    assert pd.read_csv(tmp_path / "lists.csv")["item"].tolist() == found["item"].tolist()


BAD = {
    "none": (["--users", "nobody"], "user 'nobody': not in the data of the run"),
    "twice": (["--users", "u1", "u1"], "user 'u1' is named twice"),
    "k": (["--all-users", "--k", "21"], "k is 21; expected 1 to 20"),
    "k of held-out": (["--held-out", "test", "--k", "21"], "k is 21; expected 1 to 20"),
    "strict": (["--sequences", "{new}/new.txt", "--strict"], "line 2: item 'nonsense' is not in the data"),
    "empty": (["--sequences", "{new}/empty.txt"], "line 2: [] is no sequence"),
    "duplicate": (["--sequences", "{new}/twice.jsonl"], "line 2: the query 'a' comes twice"),
    "unknown": (["--sequences", "{new}/unknown.txt"], "item 'x' and all others are not in the data"),
    "nothing": (["--sequences", "{new}/nothing.txt"], "no sequences"),
    "missing": (["--sequences", "{new}/missing.txt"], "No such file"),
    "json": (["--sequences", "{new}/broken.jsonl"], "line 1: not JSON"),
    "deep": (["--sequences", "{new}/deep.jsonl"], "line 1: not JSON"),
    "digits": (["--sequences", "{new}/digits.jsonl"], "line 1: not JSON"),
    "surrogate": (["--sequences", "{new}/surrogate.jsonl"], "a name of a sequence is neither text nor a number"),
    "object": (["--sequences", "{new}/object.jsonl"], 'expected ["item", ...] or {"query"'),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(call, sequences: Path, tmp_path: Path, case: str) -> None:
    """Exit status 2, one message, and no file."""
    arguments, message = BAD[case]
    texts = {
        "empty.txt": "i3\n\ni5\n",
        "twice.jsonl": '{"query": "a", "items": ["i3"]}\n' * 2,
        "unknown.txt": "x\ny z\n",
        "nothing.txt": "",
        "broken.jsonl": "[1,\n",
        "deep.jsonl": 100_000 * "[" + "\n",
        "digits.jsonl": f"[{5_000 * '9'}]\n",
        "surrogate.jsonl": '{"query": "\\ud800", "items": ["i3"]}\n',
        "object.jsonl": '{"query": "a"}\n',
    }
    for name, text in texts.items():
        (sequences.parent / name).write_text(text, encoding="utf-8")
    arguments = [argument.format(new=sequences.parent) for argument in arguments]
    status, out, error = call("recommend", *arguments, "--output", tmp_path / "lists.csv")
    assert (status, out, error.count("error:")) == (2, "", 1), error
    assert message in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_standard_output_that_is_closed(call, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by >&- in a shell, which Python has as None."""
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", None)
        status, _, error = call("recommend", "--users", "u1")
    assert (status, "standard output is closed" in error) == (2, True)


def test_an_output_that_exists(call, tmp_path: Path) -> None:
    """Is left alone without --force, and after an error with it."""
    path = tmp_path / "lists.csv"
    path.write_text("mine")
    for arguments in (["--all-users"], ["--all-users", "--force", "--k", 99]):
        status, _, error = call("recommend", *arguments, "--output", path)
        assert (status, error.count("error:")) == (2, 1)
        assert path.read_text() == "mine"
    assert call("recommend", "--all-users", "--output", tmp_path / "lists.txt")[0] == 2
    assert call("recommend", "--all-users", "--output", path, "--force")[0] == 0
    assert path.read_text().startswith("query,rank,item,score\n")


@pytest.mark.parametrize("command", [["recommend", "--all-users"], ["export", "--format", "npz"]])
def test_a_run_without_checkpoint_and_other_data(
    capsys: pytest.CaptureFixture[str], finished: Path, data: Path, tmp_path: Path, command: list[str]
) -> None:
    """Exit status 2, one message, and no file."""
    results = Path(shutil.copytree(finished, tmp_path / "results"))
    (record,) = find_records(results)
    changed = Path(shutil.copytree(data, tmp_path / "data" / "toy"))
    with (changed / "toy.inter").open("a") as file:
        file.write("u1\ti1\t5\n")
    name, *others = command
    arguments = [name, str(record.folder), *others, "--output", str(tmp_path / "out.csv"), "--device", "cpu"]
    for folder, message in ((changed, "not the data of run"), (data, "no such file; expected the weights")):
        assert cli.main([*arguments, "--dataset", str(folder)]) == 2
        error = capsys.readouterr().err
        assert error.count("error:") == 1
        assert message in error
        (record.folder / "best.pt").unlink(missing_ok=True)
    assert not (tmp_path / "out.csv").exists()


def test_export_writes_vectors_beside_the_run(call, finished: Path, tmp_path: Path) -> None:
    """Once, unless it is to write over them."""
    (record,) = find_records(finished)
    path = record.folder / "vectors.npz"
    assert call("export", "--format", "npz")[0] == 0
    assert np.load(path)["item_vectors"].shape == (21, 8)
    status, _, error = call("export", "--format", "npz", "--k", 5)
    assert (status, "--k is for --format onnx" in error) == (2, True)
    status, _, error = call("export", "--format", "npz")
    assert status == 2
    assert f"{path}: exists" in error
    path.unlink()
    pytest.importorskip("onnxruntime")
    status, _, error = call("export", "--format", "onnx", "--k", 21, "--output", record.folder / "model.onnx")
    assert (status, "k is 21; expected 1 to 20" in error) == (2, True)
    assert not (record.folder / "model.onnx").exists()
    assert json.loads((record.folder / "record.json").read_text())["run_id"] == record.run_id
