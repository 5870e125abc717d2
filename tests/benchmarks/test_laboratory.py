"""The laboratory's script: what it trains, and what its tables have, on fabricated runs."""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from fabricated import Maker
from scripts import load_script

from mos_recbole.analysis import compare_groups, find_run_groups
from mos_recbole.errors import InputError
from mos_recbole.evaluation import holm
from mos_recbole.results import find_records

WIDTHS, SEEDS = (8, 16), (1, 2, 3)


@pytest.fixture
def laboratory(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("studies/laboratory.py", monkeypatch)


def options_of(work: Path, **changes: object) -> argparse.Namespace:
    asked = {"dataset": "toy", "encoder": "GRU4Rec", "widths": WIDTHS, "seeds": SEEDS, "epochs": 7, "work": work}
    return argparse.Namespace(**(asked | changes))


def losses(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(log_probability=-3 - table["rank"].clip(upper=400) / 200)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Runs of all cells, and one with a seed that is not asked for."""
    make = Maker(tmp_path / "work")
    for width in WIDTHS:
        for head in ("Softmax", "MoC", "MoS"):
            for seed in (*SEEDS, 101):
                make(f"GRU4Rec{head}", width, seed, change=losses, train_processor_seconds=5.0)
    return make.folder


def test_what_is_trained(laboratory: ModuleType, tmp_path: Path) -> None:
    """One command a width; only the last epoch is validated; SASRec's states are as wide as its layers."""
    first, second = laboratory.commands(options_of(tmp_path), ["--MAX_ITEM_LIST_LENGTH=128"])
    assert first[:5] == ["run", "--model", "GRU4RecSoftmax", "GRU4RecMoC", "GRU4RecMoS"]
    assert {"--embedding_size=8", "--epochs=7", "--eval_step=7", "--filter_seen=True", "--resume"} <= set(first)
    assert first[-1] == "--MAX_ITEM_LIST_LENGTH=128"
    assert "--embedding_size=16" in second
    first, _ = laboratory.commands(options_of(tmp_path, encoder="SASRec"), [])
    assert {"--hidden_size=8", "--inner_size=32"} <= set(first)


def test_the_tables(laboratory: ModuleType, work: Path, tmp_path: Path) -> None:
    """Differences are those of `compare`, p is corrected within a width and metric, other seeds are left out."""
    laboratory.write_tables(options_of(work), tmp_path / "out")
    runs = pd.read_csv(tmp_path / "out" / "runs.csv")
    assert len(runs) == 2 * 3 * 3
    assert set(runs["seed"]) == set(SEEDS)
    assert set(runs["training loss"]) == {6.0}
    rows = pd.read_csv(tmp_path / "out" / "comparisons.csv")
    assert len(rows) == 2 * 3 * 3
    for (width, metric), part in rows.groupby(["d", "metric"]):
        assert part["p (Holm)"].to_numpy() == pytest.approx(holm(part["p"].to_list()), rel=1e-4)
        assert list(zip(part["A model"], part["B model"], strict=True)) == [
            ("GRU4RecSoftmax", "GRU4RecMoC"),
            ("GRU4RecSoftmax", "GRU4RecMoS"),
            ("GRU4RecMoC", "GRU4RecMoS"),
        ]
        names = [f"GRU4Rec{head}:embedding_size={width}" for head in ("Softmax", "MoC")]
        mixture = [
            replace(group, runs=tuple(run for run in group.runs if run.seed in SEEDS))
            for group in find_run_groups(names, [work])
        ]
        known = compare_groups(mixture, [metric]).rows[0]
        assert part["B - A"].iloc[0] == pytest.approx(known.difference.effect, rel=1e-4)
        mean = -np.mean([run.outcomes()["log_probability"] for run in mixture[0].runs])
        assert part["margin"].iloc[0] == pytest.approx(0.01 / mean if metric == "Loss" else 0.01, rel=1e-4)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("runs", "runs.csv", "comparisons.csv", "comparisons.md", "heads.png", "heads.svg")
    }
    assert "Width: the softmax" in (tmp_path / "out" / "comparisons.md").read_text()


def test_runs_of_another_place_join(laboratory: ModuleType, work: Path, tmp_path: Path) -> None:
    """Seeds trained elsewhere join the kept ones, and the tables are those of all in one place."""
    laboratory.write_tables(options_of(work, widths=[8]), tmp_path / "all")
    parts = {1: tmp_path / "first", 2: tmp_path / "second", 3: tmp_path / "second"}
    for run in find_records(work):
        if run.seed in parts:
            shutil.copytree(run.folder, parts[run.seed] / "runs" / run.folder.name)
    laboratory.write_tables(options_of(tmp_path / "first", widths=[8], seeds=[1]), tmp_path / "out")
    laboratory.write_tables(options_of(tmp_path / "second", widths=[8]), tmp_path / "out")
    shutil.rmtree(tmp_path / "second")
    told = laboratory.write_tables(options_of(tmp_path / "second", widths=[8]), tmp_path / "out")
    assert "within cells" in told
    for name in ("comparisons.csv", "runs.csv", "comparisons.md"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "all" / name).read_text()


def test_seeds_of_another_version_join_and_other_settings_do_not(
    laboratory: ModuleType, work: Path, tmp_path: Path
) -> None:
    """The same tables as of one version; a head with two rates is no cell."""
    laboratory.write_tables(options_of(work, widths=[8]), tmp_path / "one")
    for run in find_records(work):
        if run.seed == 2:
            run.model_copy(update={"code": "0.1+other"}).write(run.folder)
    laboratory.write_tables(options_of(work, widths=[8]), tmp_path / "two")
    for name in ("comparisons.csv", "runs.csv", "comparisons.md"):
        assert (tmp_path / "two" / name).read_text() == (tmp_path / "one" / name).read_text()
    run = next(run for run in find_records(work) if run.seed == 3)
    run.model_copy(update={"settings": run.settings | {"learning_rate": 0.9}}).write(run.folder)
    with pytest.raises(InputError, match="runs of 2 configurations"):
        laboratory.write_tables(options_of(work, widths=[8]), tmp_path / "three")


def test_a_missing_seed_is_told(laboratory: ModuleType, work: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seed"):
        laboratory.write_tables(options_of(work, seeds=(*SEEDS, 4)), tmp_path / "out")


def test_the_figure_draws_differences_from_the_softmax(laboratory: ModuleType) -> None:
    pairs = [("GRU4RecSoftmax", "GRU4RecMoC"), ("GRU4RecSoftmax", "GRU4RecMoS"), ("GRU4RecMoC", "GRU4RecMoS")]
    rows = pd.DataFrame(
        {"d": width, "metric": metric, "A model": first, "B model": second}
        for width in WIDTHS
        for metric in ("NDCG@10", "Loss")
        for first, second in pairs
    )
    effect = np.arange(12) / 10
    rows = rows.assign(**{"B - A": effect, "B - A low": effect - 0.03, "B - A high": effect + 0.05})
    drawing = laboratory.figure_of(rows, "GRU4RecSoftmax").drawing
    for ax, metric in zip(drawing.axes, ("NDCG@10", "Loss"), strict=True):
        for container, (_, model) in zip(ax.containers, pairs[:2], strict=True):
            part = rows[(rows["metric"] == metric) & (rows["B model"] == model)].query("`A model` == 'GRU4RecSoftmax'")
            points, _, (bars,) = container
            assert points.get_ydata() == pytest.approx(part["B - A"].to_numpy())
            ends = np.array([segment[:, 1] for segment in bars.get_segments()])
            assert ends == pytest.approx(part[["B - A low", "B - A high"]].to_numpy())


def test_the_correlation_is_within_cells(laboratory: ModuleType) -> None:
    """A difference between cells makes none; the sign over all, the size on average."""
    loss = [1.0, 2.0, 3.0, 11.0, 12.0, 13.0]
    runs = pd.DataFrame({"d": [8] * 3 + [16] * 3, "model": "MoS", "training loss": loss})
    pooled, mean = laboratory.correlation_within_cells(runs.assign(**{"test NDCG@10": [0.1, 0.2, 0.3, 0.9, 0.8, 0.7]}))
    assert (pooled, mean) == pytest.approx((0.0, 1.0), abs=1e-9)
