"""The script that measures a device beside its floors, as a user calls it, at a size of its own."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "speed"


@pytest.fixture
def gpu_speed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # Its neighbours are found as they are where it runs as a script.
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("gpu_speed", BENCHMARKS / "gpu_speed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_speed", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(module.SIZES, "small", module.Size(64, 200, 4, 16, 3000, 128, 64, 2))
    # Their rates are measured on products and copies of many MB.
    monkeypatch.setattr(module, "matmul_rate", lambda device, dtype: 1e9)
    monkeypatch.setattr(module, "copy_rate", lambda device: 1e9)
    return module


def call(
    module: ModuleType, parts: list[str], dtype: str, output: Path, monkeypatch: pytest.MonkeyPatch
) -> pd.DataFrame:
    options = ["--size", "small", "--rounds", "1", "--seconds", "0.1", "--dtype", dtype, "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["gpu_speed.py", *options, "--output", str(output), "--parts", *parts])
    module.main()
    return pd.read_csv(output / "gpu_speed.csv")


@pytest.mark.slow
def test_training_beside_its_floor(gpu_speed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row an entry; floors of what was done at the rates given; another call replaces its own rows alone."""
    found = call(gpu_speed, ["step", "epoch", "sweep", "profile"], "float32", tmp_path, monkeypatch)
    models = ["ours", "eager", "RecBole's GRU4Rec"]
    assert found["part"].tolist() == ["step"] * 3 + ["epoch"] * 3 + ["sweep"] * 2
    assert found["entry"].tolist() == [*models, *models, "ours, fused", "ours, in turn"]
    assert (found["over_floor"] * found["floor_seconds"]).to_numpy() == pytest.approx(found["seconds"], rel=1e-4)
    ours = found[found["part"] == "epoch"].set_index("entry").loc["ours"]
    assert ours["measured_whole"]
    n_targets = ours["per_second"] * ours["seconds"]
    # GRU, dense layer and head of K = 4 at d = 16, by hand; the rest are the scores of all items and the padding.
    operations = (ours["floor_seconds"] * 1e9) / (6 * n_targets) - (3 * 128 * (16 + 128) + 128 * 16 + 4 * (256 + 16))
    n_items = operations / (4 * 16)
    gpu_speed.write_log(tmp_path / "log.inter", 3000, "inter", n_items=199)
    there = pd.read_csv(tmp_path / "log.inter", sep="\t")["item_id:token"].nunique()
    assert n_items == pytest.approx(there + 1, abs=0.1)
    again = call(gpu_speed, ["step"], "bfloat16", tmp_path, monkeypatch)
    assert again["dtype"].value_counts().to_dict() == {"float32": 8, "bfloat16": 3}
    again = call(gpu_speed, ["step"], "bfloat16", tmp_path, monkeypatch)
    assert len(again) == 11


@pytest.mark.slow
def test_loss_and_ranking_beside_their_floors(
    gpu_speed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the memory that each adds, in processes of their own; without Triton's kernels, which need a GPU."""
    monkeypatch.setattr(gpu_speed, "_triton_runs", lambda device: False)
    found = call(gpu_speed, ["loss", "ranking"], "float32", tmp_path, monkeypatch).set_index(["part", "entry"])
    assert {"ours", "eager", "one softmax"} <= set(found.loc["loss"].index)
    assert found.loc[("loss", "ours"), "floor_seconds"] == pytest.approx(6 * 64 * 200 * 4 * 16 / 1e9, rel=1e-4)
    assert (found.loc["loss", "memory_bytes"] >= 0).all()
    assert found.loc[("ranking", "ours"), "memory_bytes"] > 0
    assert not found.loc[("ranking", "eager"), "measured_whole"]
