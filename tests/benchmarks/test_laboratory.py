"""The laboratory's script: what it trains, chooses and writes, on a small data set."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from mos_recbole.analysis import compare_groups, find_run_groups

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "studies" / "laboratory.py"


@pytest.fixture(scope="module")
def laboratory() -> ModuleType:
    spec = importlib.util.spec_from_file_location("laboratory", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["laboratory"] = module
    spec.loader.exec_module(module)
    module.COMMON |= {"epochs": 2, "train_batch_size": 64}
    return module


@pytest.mark.slow
def test_the_laboratory(laboratory: ModuleType, data: Path, tmp_path: Path) -> None:
    """All rates with the first seed, the one that validation chose with the others; differences as `compare` has them;
    what is finished is not trained again, and unfinished cells are left out."""
    seeds, work = [1, 2, 3], tmp_path / "work"
    cells = [laboratory.Cell(str(data), "GRU4Rec", head, 16) for head in ("Softmax", "MoS", laboratory.WIDE, "MoC")]
    for cell in cells[:3]:
        laboratory.train(cell, seeds, work)
    trained = {path: path.stat().st_mtime_ns for path in work.rglob("record.json")}
    assert len(trained) == 3 * (2 + 2)
    laboratory.train(cells[0], seeds, work)
    assert {path: path.stat().st_mtime_ns for path in work.rglob("record.json")} == trained

    softmax, records = laboratory.finished(cells[0], seeds, work)
    of_first = [record for record in records if record.seed == 1]
    best = max(of_first, key=lambda record: record.valid["NDCG@10"].value)
    assert {record.settings["learning_rate"] for record in softmax} == {best.settings["learning_rate"]}
    assert laboratory.finished(cells[3], seeds, work) == ([], [])
    mixture, _ = laboratory.finished(cells[1], seeds, work)
    wide, _ = laboratory.finished(cells[2], seeds, work)
    assert wide[0].settings["embedding_size"] > 16
    assert wide[0].parameters == pytest.approx(mixture[0].parameters, rel=0.05)

    assert [cell.is_control() for cell in cells] == [True, False, False, False]
    laboratory.write_tables(cells, seeds, work, tmp_path / "out")
    runs = pd.read_csv(tmp_path / "out" / "runs.csv")
    assert len(runs) == len(trained)
    assert runs["chosen"].sum() == 9
    lines = pd.read_csv(tmp_path / "out" / "comparisons.csv").set_index(["head", "metric"])
    assert set(lines.index.get_level_values("head")) == {"MoS", "Softmax, wide"}
    rate = {side[0].model: side[0].settings["learning_rate"] for side in (softmax, mixture)}
    names = [f"{model}:learning_rate={value}" for model, value in rate.items()]
    sides = find_run_groups(names, [side[0].folder.parents[1] for side in (softmax, mixture)])
    for row in compare_groups(sides, ["NDCG@10", "Recall@10"]).rows:
        assert lines.loc[("MoS", row.metric), "difference"] == pytest.approx(row.difference.effect, abs=1e-6)
        assert lines.loc[("MoS", row.metric), "p"] == pytest.approx(row.difference.p_value, abs=1e-6)
    loss = -sum(record.outcomes()["log_probability"].mean() for record in mixture) / 3
    assert lines.loc[("MoS", "loss"), "mean"] == pytest.approx(loss, abs=1e-6)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("runs.csv", "comparisons.csv", "comparisons.md", "heads.png", "heads.svg")
    }


def test_a_softmax_that_is_no_wider_is_no_cell(
    laboratory: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On ml-100k a mixture at d = 16 has fewer parameters more than one number of width costs; at d = 64 it has not."""
    options = [*("--encoders", "GRU4Rec", "--heads", laboratory.WIDE, "--widths", "16", "64"), "--finished"]
    folders = ["--work", str(tmp_path / "work"), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["laboratory.py", *folders, *options])
    laboratory.main()
    assert "GRU4Rec, d = 16: of the mixture's size there is no wider softmax" in (said := capsys.readouterr().out)
    assert "d = 64" not in said
