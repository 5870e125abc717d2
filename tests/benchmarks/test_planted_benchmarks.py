"""The planted-rank benchmarks: what they compute, on tiny cases; and that a second call keeps what is there."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scripts import load_script

from mos_recbole.results import find_records
from mos_recbole.synthetic import plant, write_planted


@pytest.fixture
def planted_rank(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_script("studies/planted_rank.py", monkeypatch)
    module.SETTINGS["epochs"] = 2
    return module


@pytest.fixture
def planted_map(planted_rank: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("studies/planted_map.py", monkeypatch)


@pytest.mark.slow
def test_runs_are_trained_once_and_cells_kept(planted_rank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rates for the first seed, the chosen one for the others; a second call trains nothing; other cells stay."""
    work, output = tmp_path / "work", tmp_path / "out"

    def call(*arguments: str) -> None:
        options = ["--work", str(work), "--output", str(output), "--items", "16", "--seeds", "1", "2"]
        monkeypatch.setattr(sys, "argv", ["planted_rank.py", *options, *arguments])
        planted_rank.main()

    call("--ranks", "4", "--per-item", "20")
    runs = pd.read_csv(output / "runs.csv")
    assert len(runs) == 3 * (len(planted_rank.RATES) + 1)
    assert runs.groupby(["model", "seed"])["chosen"].sum().eq(1).all()
    for _, model in runs.groupby("model"):
        first = model[model.seed == 1].set_index("learning_rate")
        assert set(first.index) == set(planted_rank.RATES)
        assert first["valid_ndcg100"].idxmax() == model.loc[model.seed == 2, "learning_rate"].item()
    finished = {record.finished for record in find_records(work / "results")}
    call("--ranks", "4", "--per-item", "20")
    assert {record.finished for record in find_records(work / "results")} == finished
    pd.testing.assert_frame_equal(pd.read_csv(output / "runs.csv"), runs)
    call("--ranks", "16", "--per-item", "20")
    assert set(pd.read_csv(output / "runs.csv")["rank"]) == {4, 16}
    assert len(pd.read_csv(output / "cells.csv")) == 4


def test_cells_are_paired_over_replicates(planted_rank) -> None:
    """By SciPy's paired test on fabricated runs; the share of the gap is of means."""
    generator = np.random.default_rng(0)
    rows = [
        {
            **{"rank": 8, "rank_over_width": 2.0, "per_item": 30, "seed": seed, "model": model, "chosen": chosen},
            **{"test_loss": generator.normal(3), "recall": generator.random(), "best_loss": 2.0 + seed / 10},
            **{"best_recall": 0.9, "popularity_loss": 4.0},
        }
        for seed in range(5)
        for model in ("a", "b")
        for chosen in (True, False)
    ]
    (cell,) = planted_rank.compare(pd.DataFrame(rows), ["a"], "b").to_dict("records")
    chosen = pd.DataFrame(rows).query("chosen")
    first, second = (chosen[chosen.model == model].sort_values("seed") for model in "ab")
    for value in ("test_loss", "recall"):
        expected = stats.ttest_rel(second[value].to_numpy(), first[value].to_numpy())
        assert cell[f"{value}_p"] == pytest.approx(expected.pvalue)
        assert cell[f"{value}_difference"] == pytest.approx(second[value].mean() - first[value].mean())
        assert cell[f"{value}_low"] < cell[f"{value}_difference"] < cell[f"{value}_high"]
    gain = first["test_loss"].mean() - second["test_loss"].mean()
    assert cell["test_loss_share_of_gap"] == pytest.approx(gain / (first["test_loss"].mean() - 2.2))


def test_p_values_are_corrected_over_the_cells_of_a_rival_and_metric(planted_rank) -> None:
    """By Holm's method, by hand: the least of three times 3, the next times 2."""
    generator = np.random.default_rng(1)
    rows = [
        {
            **{"rank": rank, "rank_over_width": 1.0, "per_item": 30, "seed": seed, "model": model, "chosen": True},
            **{"test_loss": generator.normal(3) + rank * (model == "b"), "recall": generator.random()},
            **{"best_loss": 2.0, "best_recall": 0.9, "popularity_loss": 4.0},
        }
        for rank in (1, 2, 4)
        for seed in range(5)
        for model in ("a", "c", "b")
    ]
    cells = planted_rank.compare(pd.DataFrame(rows), ["a", "c"], "b")
    for value in ("test_loss", "recall"):
        for _, of_rival in cells.groupby("rival"):
            ordered = of_rival.sort_values(f"{value}_p")
            least = np.maximum.accumulate(ordered[f"{value}_p"].to_numpy() * [3, 2, 1])
            np.testing.assert_allclose(ordered[f"{value}_p_holm"], np.minimum(least, 1))


def test_the_map_is_of_the_logs_that_synth_writes(planted_map, tmp_path: Path) -> None:
    """Counts by hand from the file; the best is truth.json's."""
    truth = write_planted(tmp_path / "log", rank=5, n_users=48, n_items=16, mean_length=10, seed=3)
    problem = planted_map.Problem(5, 16, 30, 3)
    log = pd.read_csv(tmp_path / "log" / "log.inter", sep="\t", names=["user", "item", "time"], skiprows=1)
    counts = {side: np.zeros((16, 16)) for side in ("train", "valid", "test")}
    for _, rows in log.groupby("user"):
        items = rows["item"].str[1:].astype(int).tolist()
        for place in range(1, len(items)):
            side = {len(items) - 1: "test", len(items) - 2: "valid"}.get(place, "train")
            counts[side][items[place - 1], items[place]] += 1
    for side, found in counts.items():
        np.testing.assert_allclose(getattr(problem, side), found / found.sum())
    best = truth["leave_one_out"]["test"]
    assert problem.best()["best_loss"] == pytest.approx(best["loss"])
    assert problem.best()["best_recall"] == pytest.approx(best["Recall@10"])


def test_fits_at_once_are_fits_one_by_one(planted_map, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted_map, "STEPS", 20)
    problems = [planted_map.Problem(5, 16, per_item, seed) for per_item in (20, np.inf) for seed in (1, 2)]
    for make_head in planted_map.HEADS.values():
        together = planted_map.fit(make_head, 0.05, problems)
        for problem, found in zip(problems, together, strict=True):
            (alone,) = planted_map.fit(make_head, 0.05, [problem])
            assert alone == pytest.approx(found, rel=1e-4)


@pytest.mark.slow
def test_a_softmax_reaches_the_entropy_where_it_can(planted_map) -> None:
    """With endless data: rank 5 and less at width 4, and no rank well above; no head gets below the entropy."""
    for rank, reaches in ((4, True), (5, True), (16, False)):
        problem = planted_map.Problem(rank, 16, np.inf, 1)
        (found,) = planted_map.fit(planted_map.HEADS[planted_map.SOFTMAX], 0.06, [problem])
        gap = found["test_loss"] - problem.process.entropy
        assert gap > -1e-4
        assert (gap < 0.003) == reaches, (rank, gap)


def test_free_contexts_have_the_heads_probabilities(planted_map) -> None:
    for make_head in planted_map.HEADS.values():
        model = planted_map.FreeContexts(make_head(16), 16)
        expected = model.head.log_prob(model.context_Vd.detach(), model.item_Vd.detach())
        torch.testing.assert_close(model(), expected, check_dtype=False)


def test_map_files(planted_map, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted_map, "STEPS", 20)
    arguments = ["--items", "16", "--ranks", "3", "16", "--per-item", "20", "inf", "--seeds", "1", "2"]
    monkeypatch.setattr(sys, "argv", ["planted_map.py", *arguments, "--output", str(tmp_path)])
    planted_map.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("map_cells.csv", "map_runs.csv", "planted_map.png", "planted_map.svg")
    ]
    runs = pd.read_csv(tmp_path / "map_runs.csv")
    assert len(runs) == 2 * 2 * 2 * len(planted_map.HEADS) * len(planted_map.RATES)
    chosen = runs[runs.chosen]
    assert chosen.groupby(["rank", "per_item", "model"])["learning_rate"].nunique().eq(1).all()
    mean = runs.groupby(["rank", "per_item", "model", "learning_rate", "chosen"])["valid_loss"].mean().unstack()
    best = mean.groupby(["rank", "per_item", "model"]).min()
    assert (best[True] <= best[False]).all()
    assert len(pd.read_csv(tmp_path / "map_cells.csv")) == 2 * 2 * (len(planted_map.HEADS) - 1)
    assert plant(3, 16, np.random.default_rng(1).spawn(2)[0]).entropy == pytest.approx(
        runs.loc[(runs["rank"] == 3) & (runs.seed == 1), "entropy"].iloc[0], abs=1e-5
    )
