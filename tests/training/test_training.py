"""Whole runs on tiny data: what is learned, what is written, and that nothing depends on when a run was stopped."""

import contextlib
import csv
import errno
import importlib
import logging
import math
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_data import write_inter, write_toy

from mos_recbole import RunResult, run_experiment
from mos_recbole.errors import DiskFull, InputError, TrainingDiverged
from mos_recbole.evaluation import ScoreIsNaN
from mos_recbole.experiment import RunData, add_distances, load_run, load_settings
from mos_recbole.experiment import run as of_runs
from mos_recbole.experiment.run import Run
from mos_recbole.models import EncoderHeadRecommender, resolve_model
from mos_recbole.report import comparison_table
from mos_recbole.results import find_records, read_record
from mos_recbole.training import BenchmarkTrainer, EpochReport, Moment, evaluate_model, make_query_set
from mos_recbole.training.checkpoint import load_checkpoint, save_checkpoint

GRU = {"embedding_size": 8, "hidden_size": 12}
TRANSFORMER = {"hidden_size": 8, "inner_size": 16, "n_layers": 1, "n_heads": 2}
SMALL: dict[str, dict[str, Any]] = {
    "GRU4RecMoS": {**GRU, "mos_heads": 2, "mos_dropout": 0.1},
    "GRU4RecSoftmax": GRU,
    "SASRecMoS": {**TRANSFORMER, "mos_heads": 2},
    "SASRecSoftmax": TRANSFORMER,
    "GRU4Rec": GRU,
    "SASRec": TRANSFORMER,
    "GRU4RecCPR": {**GRU, "reranker_CAN_NUM": 5},
    "CORE": {"embedding_size": 8, "inner_size": 16, "n_layers": 1},
    "FPMC": {"embedding_size": 8},
    "BPR": {"embedding_size": 8},
    "LightGCN": {"embedding_size": 8, "n_layers": 1},
    "Pop": {},
    "ItemKNN": {"k": 5},
}
OWN = ["GRU4RecMoS", "GRU4RecSoftmax", "SASRecMoS", "SASRecSoftmax"]
BASELINES = [model for model in SMALL if model not in OWN]
EARLIER = "mos_recbole checkpoint 1"  # whose checkpoints have no checksum
FILES = {"record.json", "outcomes.parquet", "items.parquet", "training_log.csv", "best.pt", "last.pt"}


@pytest.fixture(autouse=True)
def _no_anomaly_detection() -> None:
    """A module of RecBole's turns it on (a test below is about that), which makes training several times slower."""
    importlib.import_module("recbole.model.sequential_recommender")
    torch.autograd.set_detect_anomaly(False)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy data, not to be changed."""
    return write_toy(tmp_path_factory.mktemp("toy"))


def run_small(model: str, toy: Path, output: Path, **options: Any) -> RunResult:
    """Returns the run of a small model on the toy data for three epochs."""
    arguments = {"device": "cpu", "epochs": 3, "train_batch_size": 64, "MAX_ITEM_LIST_LENGTH": 10}
    return run_experiment(model, str(toy), output=output, **{**arguments, **SMALL.get(model, {}), **options})


@pytest.fixture
def run(toy: Path, tmp_path: Path) -> Callable[..., RunResult]:
    """Returns a function (model, output="results", ...) -> `run_small` below this test's folder."""

    def start(model: str, output: str = "results", **options: Any) -> RunResult:
        return run_small(model, toy, tmp_path / output, **options)

    return start


@pytest.fixture(scope="module")
def known(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunResult]:
    """Returns a function (model, ...) -> `run_small`, done once for all tests, whose files are not to be changed."""
    output, found = tmp_path_factory.mktemp("known"), {}

    def get(model: str, **options: Any) -> RunResult:
        key = (model, *sorted(options.items()))
        if key not in found:
            found[key] = run_small(model, toy, output, **options)
        return found[key]

    return get


@pytest.fixture(scope="module")
def stopped(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a run of GRU4RecMoS that was interrupted after its second epoch, not to be changed."""
    output = tmp_path_factory.mktemp("stopped")
    with pytest.raises(KeyboardInterrupt):
        run_small("GRU4RecMoS", toy, output, on_epoch=stop_after(2))
    return output


def log_rows(record: RunResult) -> list[dict[str, str]]:
    """Returns the training log as it is written, less the times."""
    with (record.folder / "training_log.csv").open(newline="") as file:
        return [{key: text for key, text in row.items() if "seconds" not in key} for row in csv.DictReader(file)]


def numbers(record: RunResult) -> dict[str, Any]:
    """Returns everything of a run but its times: metrics, the training log, the outcomes."""
    return {
        "valid": record.valid,
        "test": record.test,
        "epochs": (record.epochs, record.best_epoch),
        "log": log_rows(record),
        "outcomes": record.outcomes().fillna(-1).to_dict("list"),
    }


def weights(record: RunResult, name: str) -> dict[str, torch.Tensor]:
    """Returns the model's tensors in one of a run's checkpoints."""
    return load_checkpoint(record.folder / name, record.run_id, record.model, "cpu")["model"]["state_dict"]


def equal_weights(one: RunResult, other: RunResult) -> bool:
    """Returns whether all tensors of both checkpoints of two runs are the same to the last bit."""
    return all(
        left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)
        for left, right in ((weights(one, name), weights(other, name)) for name in ("best.pt", "last.pt"))
    )


def stop_after(epoch: int) -> Callable[[EpochReport], None]:
    """Returns a callback that interrupts a run when an epoch is done."""

    def interrupt(report: EpochReport) -> None:
        if report.epoch == epoch:
            raise KeyboardInterrupt

    return interrupt


def run_folders(output: Path) -> list[Path]:
    return sorted((output / "runs").iterdir())


def file_histories(folder: Path) -> dict[str, list[str]]:
    """Returns every user's items by time, read without the package."""
    by_user = defaultdict(list)
    for line in (folder / f"{folder.name}.inter").read_text().splitlines()[1:]:
        user, item, time = line.split("\t")
        by_user[user].append((float(time), item))
    return {user: [item for _, item in sorted(rows, key=lambda row: row[0])] for user, rows in by_user.items()}


# ---------------------------------------------------------------------------------------------------- the same again


@pytest.mark.parametrize("model", ["GRU4RecMoS", "SASRecSoftmax", "GRU4Rec", "FPMC", "BPR"])
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(model: str, run, known) -> None:
    """Metrics, losses, outcomes and weights to the last digit, whatever ran in between in the same process."""
    first = known(model)
    other = run(model, "other", seed=7)
    again = run(model, "again")
    assert numbers(again) == numbers(first)
    assert equal_weights(again, first)
    assert again.run_id == first.run_id
    assert other.run_id != first.run_id
    assert other.training_log()["loss"].tolist() != first.training_log()["loss"].tolist()
    assert other.outcomes()["rank"].tolist() != first.outcomes()["rank"].tolist()


def test_a_run_leaves_the_callers_random_numbers_to_the_seed_alone(run, known) -> None:
    """What the process drew before does not matter."""
    torch.manual_seed(1)
    first = known("GRU4RecMoS")
    torch.manual_seed(2)
    np.random.seed(3)  # noqa: NPY002 - RecBole draws from it
    assert numbers(run("GRU4RecMoS", "again")) == numbers(first)


# ---------------------------------------------------------------------------------------------------- files and record


@pytest.mark.parametrize(("model", "seconds"), [("EASE", 100.0), ("ItemKNN", 100.0), ("BPR", 0.0)])
def test_what_is_solved_as_it_is_built_was_trained_then(
    model: str, seconds: float, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By clocks that go on while a model is built, and only then."""
    clock, build = [0.0], of_runs.build_model

    def slow(*arguments: Any) -> torch.nn.Module:
        clock[0] += 100
        return build(*arguments)

    monkeypatch.setattr(Moment, "now", classmethod(lambda cls: cls(clock[0], 2 * clock[0])))
    monkeypatch.setattr(of_runs, "build_model", slow)
    record = run(model)
    assert (record.train_seconds, record.train_processor_seconds, record.eval_seconds) == (seconds, 2 * seconds, 0)


def test_run_experiment_returns_the_record_of_what_it_wrote(run, tmp_path: Path) -> None:
    """A RunResult whose files are all there and which reads back as it is."""
    record = run("GRU4RecMoS")
    assert isinstance(record, RunResult)
    assert record.folder.parent == tmp_path / "results" / "runs"
    assert {path.name for path in record.folder.iterdir()} >= FILES
    assert not list(record.folder.glob("*.tmp")) + list(record.folder.glob(".*.tmp"))
    assert read_record(record.folder) == record
    assert find_records(tmp_path / "results") == [record]
    assert (record.model, record.dataset, record.seed) == ("GRU4RecMoS", "toy", 2020)
    assert (record.epochs, record.valid_metric, record.resumed) == (3, "NDCG@10", False)
    assert 1 <= record.best_epoch <= 3
    assert record.settings["mos_heads"] == 2
    assert {"Recall@10", "Recall@100", "NDCG@10", "MRR@10"} <= record.test.keys() == record.valid.keys()
    assert {metric.direction for metric in record.test.values()} == {"higher"}
    assert record.wall_seconds > record.train_seconds > 0
    assert record.train_processor_seconds > 0
    assert record.eval_processor_seconds > 0


def test_parameters_are_counted(known) -> None:
    """By hand for a GRU of width h, item width d, K components: V·d + 3h(d + h) + (h·d + d) + K·d·d + K·d."""
    items, d, h, k = 21, 8, 12, 2
    shared = items * d + 3 * h * (d + h) + (h * d + d)
    assert known("GRU4RecSoftmax").parameters == shared
    assert known("GRU4RecMoS").parameters == shared + k * d * d + k * d


def test_settings_objects_and_names_are_the_same(known, toy: Path, tmp_path: Path) -> None:
    """`run_experiment(load_settings(...))` and `run_experiment(name, dataset, **settings)`."""
    by_name = known("GRU4RecMoS")
    overrides = {"epochs": 3, "train_batch_size": 64, "MAX_ITEM_LIST_LENGTH": 10, **SMALL["GRU4RecMoS"]}
    loaded = load_settings("GRU4RecMoS", str(toy), overrides=overrides)
    by_object = run_experiment(loaded, output=tmp_path / "object", device="cpu")
    assert by_object.run_id == by_name.run_id
    assert numbers(by_object) == numbers(by_name)
    with pytest.raises(TypeError):
        run_experiment(loaded, output=tmp_path / "object", epochs=4)


@pytest.mark.parametrize("model", ["GRU4RecMoS", "GRU4Rec", "BPR"])
@pytest.mark.parametrize("filter_seen", [False, True])
def test_outcomes_say_what_the_file_says(model: str, filter_seen: bool, known, toy: Path) -> None:
    """One row per user with three interactions; every column that the data decide, by brute force."""
    record = known(model, **({"filter_seen": True} if filter_seen else {}))
    histories = {user: items for user, items in file_histories(toy).items() if len(items) >= 3}
    train_counts = Counter(item for items in histories.values() for item in items[: max(2, len(items) - 2)])
    train_users: dict[str, set[str]] = defaultdict(set)
    for user, items in histories.items():
        for item in items[: max(2, len(items) - 2)]:
            train_users[item].add(user)
    outcomes = record.outcomes()
    assert len(outcomes) == len(histories)
    for row in outcomes.itertuples():
        items = histories[row.user]
        assert row.target == items[-1]
        assert row.position == row.context_length == len(items) - 1
        assert row.train_count == train_counts[row.target]
        seen = set(items[:-1]) - {row.target} if filter_seen else set()
        assert row.candidates == 20 - len(seen)
        assert 1 <= row.rank <= row.candidates
        assert 0 <= row.tied < row.candidates
        left, right = train_users[items[-2]], train_users[row.target]
        cosine = len(left & right) / math.sqrt(len(left) * len(right)) if left and right else 0.0
        assert row.previous_distance == pytest.approx(1 - cosine, abs=1e-12)
        if model in OWN:
            assert row.log_probability < 0
        else:
            assert math.isnan(row.log_probability)


@pytest.mark.parametrize("tie_rule", ["mean", "pessimistic"])
@pytest.mark.parametrize("model", ["GRU4RecMoS", "Pop"])
def test_metrics_are_the_means_of_the_outcomes(model: str, tie_rule: str, run) -> None:
    """Recomputed from the file with the textbook formulas, every metric is the record's to the last digit."""
    metrics = ["Recall", "Hit", "NDCG", "MRR", "MAP", "Precision", "GAUC"]
    record = run(model, tie_rule=tie_rule, metrics=metrics, topk=[1, 5, 10])
    outcomes = record.outcomes()
    rank = outcomes["rank"].to_numpy()
    assert (rank >= 1).all()
    expected = {}
    for k in (1, 5, 10):
        hit = rank <= k
        expected[f"Recall@{k}"] = expected[f"Hit@{k}"] = hit.mean()
        expected[f"Precision@{k}"] = (hit / k).mean()
        expected[f"MRR@{k}"] = expected[f"MAP@{k}"] = np.where(hit, 1 / rank, 0.0).mean()
        expected[f"NDCG@{k}"] = np.where(hit, 1 / np.log2(rank + 1), 0.0).mean()
    others = outcomes["candidates"].to_numpy() - 1
    # GAUC has ties at their mean, whatever the tie rule.
    optimistic = rank - outcomes["tied"].to_numpy() * {"mean": 0.5, "pessimistic": 1.0}[tie_rule]
    mean_rank = optimistic + outcomes["tied"].to_numpy() / 2
    expected["GAUC"] = ((outcomes["candidates"].to_numpy() - mean_rank) / others).mean()
    assert {name: metric.value for name, metric in record.test.items()} == expected


def test_the_training_log_reads_back_to_the_last_digit(run) -> None:
    """The validation metrics of the best epoch are the record's, in the file and as `training_log()` reads it."""
    record = run("GRU4RecMoS", epochs=6, valid_metric="MRR@10")
    rows = log_rows(record)
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    best = rows[record.best_epoch - 1]
    assert {name: float(best[name]) for name in record.valid} == {name: m.value for name, m in record.valid.items()}
    log = record.training_log()
    for name in ("loss", *record.valid):
        assert log[name].tolist() == [float(row[name]) for row in rows]


def test_log_probabilities_are_of_a_distribution(run) -> None:
    """An untrained model is near uniform over the 20 items and the padding."""
    record = run("GRU4RecSoftmax", epochs=1, learning_rate=1e-9)
    assert record.outcomes()["log_probability"].mean() == pytest.approx(-math.log(21), abs=0.3)


def test_filter_seen_can_only_improve_ranks(run, caplog: pytest.LogCaptureFixture) -> None:
    """The same weights, fewer candidates: no target falls. (Selection is by loss-free order here: one epoch.)"""
    caplog.set_level(logging.INFO)
    everything = run("GRU4RecMoS", "everything", epochs=1).outcomes()
    assert "candidates too, since users have items more than once (filter_seen: auto)" in caplog.text
    unseen = run("GRU4RecMoS", "unseen", epochs=1, filter_seen=True).outcomes()
    assert everything["log_probability"].tolist() == unseen["log_probability"].tolist()
    assert (unseen["rank"] <= everything["rank"]).all()
    assert (unseen["rank"] < everything["rank"]).any()
    assert (unseen["candidates"] < everything["candidates"]).any()


def test_selection_by_the_validation_loss(run) -> None:
    """The best epoch has the least loss of validation; the metric is the mean of the outcomes' log-probabilities."""
    record = run("GRU4RecMoS", epochs=3, valid_metric="loss", learning_rate=0.3, chosen_epoch="best")
    losses = [float(row["Loss"]) for row in log_rows(record)]
    assert record.valid_metric == "Loss"
    assert record.best_epoch == 1 + losses.index(min(losses))
    assert record.valid["Loss"].value == pytest.approx(min(losses))
    assert record.valid["Loss"].direction == "lower"
    assert record.test["Loss"].value == pytest.approx(-record.outcomes()["log_probability"].mean())
    with pytest.raises(InputError, match="GRU4Rec is RecBole's own class, whose scores need not be such"):
        run("GRU4Rec", valid_metric="Loss")


def test_what_is_drawn_in_a_validation_changes_no_training(run) -> None:
    """DiffRec draws noise as it scores; how many queries it scores at a time is no part of the run's identity."""
    options = {"sampling_steps": 2, "dims_dnn": [8], "steps": 4, "epochs": 3}
    one, other = (run("DiffRec", str(size), eval_batch_size=size, **options) for size in (4096, 3))
    assert one.run_id == other.run_id
    losses = [record.training_log()["loss"].tolist() for record in (one, other)]
    assert losses[0] == losses[1]


def test_half_precision_where_a_model_of_recbole_mixes_numbers(run) -> None:
    """Its backward pass fails in PyTorch, without a line of the model."""
    with pytest.raises(InputError, match=r"LightGCN cannot be trained with these settings: RuntimeError.*scalar type"):
        run("LightGCN", enable_amp=True)


def test_metrics_that_no_query_has(run, toy: Path, tmp_path: Path) -> None:
    """A list of one item has no diversity, a target that is no candidate no loss: tables say so, and what validation
    goes by must be defined."""
    record = run("GRU4RecMoS", metrics=["NDCG", "IntraListDiversity"], topk=[1, 5])
    assert math.isnan(record.test["IntraListDiversity@1"].value)
    assert record.test["IntraListDiversity@5"].value > 0
    names = ["NDCG@1", "IntraListDiversity@1"]
    add_distances([record], names, toy.parent)
    table = comparison_table(find_records(record.folder), metrics=names)
    assert table.rows[0]["IntraListDiversity@1 ↑"].text == "-"
    rows = [
        (user, f"new{user}" if step == 4 else f"i{(user + step) % 9}", 10 * step)
        for user in range(9)
        for step in range(6)
    ]
    data, results = write_inter(tmp_path, "new", rows), tmp_path / "results"
    late = {
        "split": "temporal",
        "context_reach": "past",
        "valid_time": 40,
        "split_time": 50,
        "metrics": ["NDCG", "Loss"],
    }
    late_run = run_small("GRU4RecMoS", data, results, **late)
    assert math.isnan(late_run.valid["Loss"].value)
    assert late_run.test["Loss"].value > 0
    with pytest.raises(InputError, match="no query of the validation has Loss; expected another valid_metric"):
        run_small("GRU4RecMoS", data, results, valid_metric="Loss", **late)


@pytest.mark.parametrize(("third", "left_out"), [(3, True), (1, False)])
def test_items_of_the_history_are_candidates_where_users_repeat(third: int, left_out: bool, tmp_path: Path) -> None:
    """By default the data decide, and the protocol is the one that says so; one repeat of one user is enough."""
    data = write_data(tmp_path / "data" / "toy", [[1, 2, 3, 4], [4, 3, 2, 1], [1, 2, third, 5]])
    cpu = torch.device("cpu")
    decided = RunData(load_settings("GRU4RecSoftmax", str(data)), cpu).protocol
    assert decided.filter_seen == left_out
    for wanted in (True, False):
        asked = RunData(load_settings("GRU4RecSoftmax", str(data), overrides={"filter_seen": wanted}), cpu).protocol
        assert asked.filter_seen == wanted
        assert (asked.hash("data") == decided.hash("data")) == (wanted == left_out)


# ---------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("GRU4RecMoS", {"dropout_prob": 0.4, "lr_schedule": "linear", "warmup": 0.3}),
        ("GRU4RecMoS", {"train_mode": "prefix", "learner": "adagrad"}),
        ("GRU4Rec", {"lr_schedule": "cosine"}),
        ("FPMC", {}),
        ("BPR", {}),
    ],
    ids=["all_positions", "prefix", "GRU4Rec", "FPMC", "BPR"],
)
def test_a_resumed_run_gives_the_numbers_of_an_undisturbed_one(model: str, options: dict, run, tmp_path: Path) -> None:
    """Stopped after the second and again after the third of five epochs: all numbers and all weights, bit by bit."""
    undisturbed = run(model, "whole", epochs=5, **options)
    for epoch, resume in ((2, False), (3, True)):
        with pytest.raises(KeyboardInterrupt):
            run(model, "parts", epochs=5, resume=resume, on_epoch=stop_after(epoch), **options)
        assert find_records(tmp_path / "parts") == []
    resumed = run(model, "parts", epochs=5, resume=True, **options)
    assert resumed.resumed
    assert resumed.run_id == undisturbed.run_id
    assert numbers(resumed) == numbers(undisturbed)
    assert equal_weights(resumed, undisturbed)


def test_a_run_that_was_stopped_within_an_epoch_resumes_from_the_last_whole_one(
    run, monkeypatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Interrupted in the middle of the third epoch."""
    undisturbed = run("GRU4RecMoS", "whole", epochs=4)
    step, calls = BenchmarkTrainer._step, []

    def stopping(self: BenchmarkTrainer, *arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(self.reports) == 2 and len(calls) % 2 == 0:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(BenchmarkTrainer, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        run("GRU4RecMoS", "parts", epochs=4)
    monkeypatch.setattr(BenchmarkTrainer, "_step", step)
    with caplog.at_level(logging.INFO, "mos_recbole"):
        resumed = run("GRU4RecMoS", "parts", epochs=4, resume=True)
    assert any("resumed after epoch 2" in message for message in caplog.messages)
    assert numbers(resumed) == numbers(undisturbed)
    assert equal_weights(resumed, undisturbed)


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("place", ["_save_checkpoint", "_write_log"])
def test_a_run_that_ends_between_two_files_of_its_last_epoch_has_them_all(
    place: str, epochs: int, run, monkeypatch
) -> None:
    """Killed before each file of every epoch: numbers and training log are those of an undisturbed run."""
    undisturbed = run("GRU4RecMoS", "whole", epochs=epochs)
    log = undisturbed.training_log().drop(columns=["train_seconds", "eval_seconds"])
    method = getattr(BenchmarkTrainer, place)
    for kept in range(2 * epochs):
        calls = iter(range(kept))

        def killed(self: BenchmarkTrainer, *arguments: Any, calls: Any = calls) -> None:
            if next(calls, None) is None:
                raise KeyboardInterrupt
            method(self, *arguments)

        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(BenchmarkTrainer, place, killed)
            run("GRU4RecMoS", f"killed{kept}", epochs=epochs)
        resumed = run("GRU4RecMoS", f"killed{kept}", epochs=epochs, resume=True)
        assert numbers(resumed) == numbers(undisturbed)
        pd.testing.assert_frame_equal(resumed.training_log()[log.columns], log)


@pytest.mark.parametrize("resume", [False, True])
def test_files_that_a_killed_process_left_go(resume: bool, run, tmp_path: Path) -> None:
    """They are as large as checkpoints. What is somebody else's stays."""
    with pytest.raises(KeyboardInterrupt):
        run("GRU4RecMoS", epochs=2, on_epoch=stop_after(1))
    (folder,) = run_folders(tmp_path / "results")
    for name in (".last.pt.123.tmp", ".record.json.9.tmp", ".mine.tmp"):
        (folder / name).touch()
    run("GRU4RecMoS", epochs=2, resume=resume)
    assert [path.name for path in folder.glob(".*.tmp")] == [".mine.tmp"]


def test_early_stopping_goes_on_where_it_was(run) -> None:
    """The number of validations without a better value survives an interruption between two of them."""
    options = {"epochs": 30, "stopping_step": 1, "learning_rate": 0.1}
    undisturbed = run("GRU4RecMoS", "whole", **options)
    assert 1 < undisturbed.epochs < 30
    with pytest.raises(KeyboardInterrupt):
        run("GRU4RecMoS", "parts", on_epoch=stop_after(undisturbed.epochs - 1), **options)
    assert numbers(run("GRU4RecMoS", "parts", resume=True, **options)) == numbers(undisturbed)


def test_resuming_a_finished_run_returns_it_without_training(run, monkeypatch) -> None:
    """The record as it was; no file changes."""
    record = run("GRU4RecMoS")
    before = {path.name: path.read_bytes() for path in record.folder.iterdir()}

    def refuse(*arguments: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(BenchmarkTrainer, "_train_epoch", refuse)
    assert run("GRU4RecMoS", resume=True) == record
    assert {path.name: path.read_bytes() for path in record.folder.iterdir()} == before


def test_without_resume_a_run_starts_anew(run) -> None:
    """From the first epoch, also where an earlier sitting left a checkpoint."""
    with pytest.raises(KeyboardInterrupt):
        run("GRU4RecMoS", on_epoch=stop_after(2))
    epochs: list[int] = []
    record = run("GRU4RecMoS", on_epoch=lambda report: epochs.append(report.epoch))
    assert epochs == [1, 2, 3]
    assert not record.resumed
    assert len(record.training_log()) == 3


def test_resume_without_anything_to_resume_starts_anew(run, known) -> None:
    """So that one command can be repeated until it is done."""
    record = run("GRU4RecMoS", resume=True)
    assert not record.resumed
    assert numbers(record) == numbers(known("GRU4RecMoS"))


def test_other_settings_are_another_run(run, tmp_path: Path) -> None:
    """A resumed run never goes on from a checkpoint of other settings."""
    with pytest.raises(KeyboardInterrupt):
        run("GRU4RecMoS", on_epoch=stop_after(2))
    record = run("GRU4RecMoS", resume=True, learning_rate=0.002)
    assert not record.resumed
    assert len(run_folders(tmp_path / "results")) == 2


def test_a_second_run_of_the_same_settings_at_the_same_time_is_refused(run) -> None:
    """Also when it would start anew: it would take the files away from the first."""
    refusals: list[str] = []

    def second(report: EpochReport) -> None:
        for resume in (False, True):
            with pytest.raises(InputError, match="another process") as caught:
                run("GRU4RecMoS", resume=resume)
            refusals.append(str(caught.value))

    record = run("GRU4RecMoS", on_epoch=second)
    assert len(refusals) == 2 * record.epochs
    assert str(record.folder) in refusals[0]


# ---------------------------------------------------------------------------------------------------- checkpoints


def stopped_run(run: Callable[..., RunResult], output: Path, model: str = "GRU4RecMoS", **options: Any) -> Path:
    """Returns the folder of a run that was interrupted after its second epoch."""
    with pytest.raises(KeyboardInterrupt):
        run(model, output.name, on_epoch=stop_after(2), **options)
    (folder,) = run_folders(output)
    return folder


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:1],
        lambda content: content[:100],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: b"garbage\n" * 100,
        lambda content: b"\x00" * 1000,
        lambda content: b"\x80\x02.",
        lambda content: b"PK\x03\x04" + b"\x07" * 500,
    ],
    ids=["empty", "one byte", "100 bytes", "half", "all but one", "text", "zeros", "pickle", "zip"],
)
def test_a_broken_checkpoint_is_refused_and_left_as_it_is(damage: Callable, run, stopped: Path, tmp_path: Path) -> None:
    """A truncated one and other bytes: the message names the file."""
    (folder,) = run_folders(shutil.copytree(stopped, tmp_path / "results"))
    path = folder / "last.pt"
    path.write_bytes(damage(path.read_bytes()))
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    with pytest.raises(InputError) as caught:
        run("GRU4RecMoS", resume=True)
    assert str(path) in str(caught.value)
    after = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert {name: after[name] for name in before} == before


def test_a_checkpoint_of_another_model_or_run_is_refused(run, stopped: Path, tmp_path: Path) -> None:
    """Put in the run's folder by hand: the message names the file and whose it is."""
    own = run_folders(shutil.copytree(stopped, tmp_path / "results"))[0] / "last.pt"
    other_model = stopped_run(run, tmp_path / "model", "GRU4RecSoftmax") / "last.pt"
    other_run = stopped_run(run, tmp_path / "run", seed=8) / "last.pt"
    for foreign, named in ((other_model, "GRU4RecSoftmax"), (other_run, other_run.parent.name[-16:])):
        own.write_bytes(foreign.read_bytes())
        with pytest.raises(InputError, match=named) as caught:
            run("GRU4RecMoS", resume=True)
        assert str(own) in str(caught.value)
        assert own.read_bytes() == foreign.read_bytes()


def test_a_checkpoint_of_something_else_is_refused(run, stopped: Path, tmp_path: Path) -> None:
    """A file that PyTorch reads but this program did not write, and one whose tensors do not fit."""
    (folder,) = run_folders(shutil.copytree(stopped, tmp_path / "results"))
    path = folder / "last.pt"
    state = torch.load(path, weights_only=True)
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="no checkpoint of this program") as caught:
        run("GRU4RecMoS", resume=True)
    assert str(path) in str(caught.value)
    state["state"]["model"]["state_dict"] = {"weight": torch.zeros(3)}
    torch.save(state | {"format": EARLIER}, path)
    with pytest.raises(InputError, match="does not fit") as caught:
        run("GRU4RecMoS", resume=True)
    assert str(path) in str(caught.value)


def test_a_missing_best_checkpoint_is_named(run, tmp_path: Path) -> None:
    """The last one is there, so the run ends, but the best epoch's weights are gone."""
    folder = stopped_run(run, tmp_path / "results", learning_rate=1e-9, chosen_epoch="best")
    (folder / "best.pt").unlink()
    state = torch.load(folder / "last.pt", weights_only=True)
    # As if no later epoch were better.
    state["state"]["best_valid_score"] = 2.0
    torch.save(state | {"format": EARLIER}, folder / "last.pt")
    with pytest.raises(InputError, match=r"best\.pt: no such file"):
        run("GRU4RecMoS", resume=True, learning_rate=1e-9, chosen_epoch="best")


def test_a_checkpoint_holds_no_objects(tmp_path: Path) -> None:
    """What PyTorch's restricted loader would refuse later is refused when it is written, and leaves no file."""
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "a.pt", "0" * 16, "GRU4RecMoS", {"settings": object()})
    assert list(tmp_path.iterdir()) == []


def test_arrays_and_matrices_survive_a_checkpoint(tmp_path: Path) -> None:
    """NumPy arrays with their types, also unsigned ones, and SciPy's sparse matrices (ItemKNN's)."""
    from scipy import sparse

    matrix = sparse.random(7, 5, density=0.4, format="csr", random_state=0)
    state = {
        "matrix": matrix,
        "unsigned": np.array([0, 2**32 - 1], dtype=np.uint32),
        "float": np.array([[0.1, np.inf]]),
        "list": [1, 2.5, "text", None, True],
    }
    save_checkpoint(tmp_path / "a.pt", "0" * 16, "ItemKNN", state)
    read = load_checkpoint(tmp_path / "a.pt", "0" * 16, "ItemKNN", "cpu")
    assert (read["matrix"] != matrix).nnz == 0
    assert read["matrix"].shape == (7, 5)
    for name in ("unsigned", "float"):
        assert read[name].dtype == state[name].dtype
        assert (read[name] == state[name]).all()
    assert read["list"] == state["list"]


# ---------------------------------------------------------------------------------------------------- divergence


def test_a_nan_loss_ends_the_run_and_keeps_the_best_checkpoint(run, tmp_path: Path, monkeypatch) -> None:
    """The third epoch's loss is NaN: the error names epoch and checkpoint; the weights of the best are unharmed."""
    honest = EncoderHeadRecommender.calculate_loss
    epochs_done: list[int] = []

    def failing(self: EncoderHeadRecommender, interaction: Any) -> torch.Tensor:
        loss = honest(self, interaction)
        return loss * float("nan") if len(epochs_done) == 2 else loss

    monkeypatch.setattr(EncoderHeadRecommender, "calculate_loss", failing)
    with pytest.raises(TrainingDiverged, match="nan in epoch 3") as caught:
        run("GRU4RecMoS", chosen_epoch="best", on_epoch=lambda report: epochs_done.append(report.epoch))
    (folder,) = run_folders(tmp_path / "results")
    assert str(folder / "best.pt") in str(caught.value)
    assert not (folder / "record.json").exists()
    for name in ("best.pt", "last.pt"):
        state = load_checkpoint(folder / name, folder.name[-16:], "GRU4RecMoS", "cpu")
        assert state["epoch"] <= 2
        assert all(tensor.isfinite().all() for tensor in state["model"]["state_dict"].values())


def test_a_weight_that_is_no_number_is_in_no_checkpoint(run, tmp_path: Path, monkeypatch) -> None:
    """Ruined in the second epoch: the error names the files of the first one, and they are of it."""
    honest = BenchmarkTrainer._train_epoch

    def ruining(self: BenchmarkTrainer, loader: Any, epoch: int) -> float:
        loss = honest(self, loader, epoch)
        if epoch == 2:
            with torch.no_grad():
                next(self.model.parameters()).fill_(math.inf)
        return loss

    monkeypatch.setattr(BenchmarkTrainer, "_train_epoch", ruining)
    with pytest.raises(
        TrainingDiverged, match=r"weight became .* in epoch 2 .*best.pt \(epoch 1\), .*last.pt \(epoch 1\)"
    ):
        run("GRU4RecMoS", chosen_epoch="best", epochs=2)
    (folder,) = run_folders(tmp_path / "results")
    for name in ("best.pt", "last.pt"):
        state = load_checkpoint(folder / name, folder.name[-16:], "GRU4RecMoS", "cpu")
        assert state["epoch"] == 1
        assert all(tensor.isfinite().all() for tensor in state["model"]["state_dict"].values())


@pytest.mark.parametrize("options", [{"held_out": "test_only"}, {"final_fit": "train+valid"}])
def test_a_score_of_the_test_set_that_is_no_number_is_divergence(options: dict, run, monkeypatch) -> None:
    """Where no validation of the tested model told it: also when the run goes on."""
    honest = Run._evaluate

    def ruined(self: Run, side: str, *arguments: Any) -> Any:
        if side == "test":
            raise ScoreIsNaN("the score of an item for query 0 of the batch is NaN")
        return honest(self, side, *arguments)

    monkeypatch.setattr(Run, "_evaluate", ruined)
    for resume in (False, True):
        with pytest.raises(TrainingDiverged, match=r"NaN, in the test set \(learning_rate 0.01\)"):
            run("GRU4RecMoS", resume=resume, epochs=1, learning_rate=0.01, **options)


@pytest.mark.parametrize("batch_size", [16, 100_000])
@pytest.mark.parametrize("model", ["GRU4RecMoS", "SASRecSoftmax", "GRU4Rec", "BPR"])
def test_a_learning_rate_that_ruins_the_weights_is_told_as_divergence(model: str, batch_size: int, run) -> None:
    """Whether the loss shows it first or, after an epoch of a single step, the scores of the validation."""
    with pytest.raises(TrainingDiverged, match="learning_rate"):
        run(model, learning_rate=1e30, train_batch_size=batch_size, epochs=4, learner="sgd")


# ---------------------------------------------------------------------------------------------------- a full disk


@pytest.mark.parametrize(
    ("call", "file"),
    [
        ("replace", "record.json"),
        ("fsync", "record.json"),
        ("replace", "outcomes.parquet"),
        ("fsync", "last.pt"),
        ("replace", "training_log.csv"),
    ],
)
def test_a_full_disk_raises_and_leaves_no_record(call: str, file: str, run, known, tmp_path: Path, monkeypatch) -> None:
    """Nothing half-written is left over, and once there is room the run goes on to the same numbers."""
    undisturbed = known("GRU4RecMoS")
    honest = getattr(os, call)

    def full(target: Any, *more: Any) -> None:
        name = os.readlink(f"/proc/self/fd/{target}") if call == "fsync" else str(more[0])
        if file in name:
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(target, *more)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(DiskFull, match=f"{file}: the disk is full"):
        run("GRU4RecMoS")
    monkeypatch.setattr(os, call, honest)
    (folder,) = run_folders(tmp_path / "results")
    assert not (folder / "record.json").exists()
    assert not (folder / file).exists()
    assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]
    assert find_records(tmp_path / "results") == []
    assert numbers(run("GRU4RecMoS", resume=True)) == numbers(undisturbed)


# ---------------------------------------------------------------------------------------------------- learning


def write_data(folder: Path, sequences: list[list[int]]) -> Path:
    """Writes users with these items, one a second, and returns the data set's folder."""
    folder.mkdir(parents=True)
    rows = [f"u{user}\ti{item}\t{place}" for user, items in enumerate(sequences) for place, item in enumerate(items)]
    text = "\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows]) + "\n"
    (folder / f"{folder.name}.inter").write_text(text)
    return folder


@pytest.mark.parametrize("model", ["GRU4RecMoS", "SASRecSoftmax"])
def test_a_cycle_of_items_is_learned(model: str, tmp_path: Path) -> None:
    """Where the next item is the current one + 1 modulo V, the first place is right for nearly every user."""
    generator = np.random.default_rng(0)
    starts, sizes = generator.integers(0, 12, 60), generator.integers(5, 15, 60)
    sequences = [[(start + step) % 12 for step in range(size)] for start, size in zip(starts, sizes, strict=True)]
    width = {"embedding_size": 16, "hidden_size": 32, "dropout_prob": 0.0}
    if model.startswith("SASRec"):
        width = {**TRANSFORMER, "hidden_size": 16, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}
    record = run_experiment(
        model,
        str(write_data(tmp_path / "cycle", sequences)),
        output=tmp_path / "results",
        device="cpu",
        epochs=30,
        learning_rate=0.02,
        train_batch_size=64,
        MAX_ITEM_LIST_LENGTH=10,
        topk=[1, 10],
        valid_metric="Recall@1",
        **width,
    )
    for k in (1, 10):
        assert record.test[f"Recall@{k}"].value > 0.95
    assert record.training_log()["loss"].iloc[-1] < 0.5


@pytest.mark.parametrize("model", ["GRU4RecMoS", "SASRecSoftmax"])
def test_nothing_is_learned_where_there_is_nothing(model: str, tmp_path: Path) -> None:
    """Items drawn uniformly: Recall@10 stays at its floor of 10/V and the mean rank at V/2, within 4 errors."""
    generator = np.random.default_rng(0)
    n_items, n_users = 100, 400
    sequences = [generator.integers(0, n_items, 6).tolist() for _ in range(n_users)]
    record = run_experiment(
        model,
        str(write_data(tmp_path / "noise", sequences)),
        output=tmp_path / "results",
        device="cpu",
        epochs=5,
        learning_rate=0.01,
        train_batch_size=512,
        **SMALL[model],
    )
    floor = 10 / n_items
    assert abs(record.test["Recall@10"].value - floor) < 4 * math.sqrt(floor * (1 - floor) / n_users)
    error = n_items / math.sqrt(12 * n_users)
    assert abs(record.outcomes()["rank"].mean() - (n_items + 1) / 2) < 4 * error


def test_a_flat_metric_ends_training(run) -> None:
    """An equal score is no improvement: the first epoch is the best."""
    record = run("GRU4RecSoftmax", epochs=60, stopping_step=2, learning_rate=1e-30)
    assert (record.best_epoch, record.epochs, record.stopped) == (1, 4, "early_stopping")
    assert [row["best"] for row in log_rows(record)] == ["1", "0", "0", "0"]


def test_without_validation_the_last_epoch_is_the_model(run, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is selected, on the test least of all; resuming and the training log work."""
    caplog.set_level("INFO", "mos_recbole")
    record = run("GRU4RecSoftmax", epochs=3, stopping_step=0, held_out="test_only", metrics=["NDCG"], topk=[10])
    assert (record.best_epoch, record.epochs, record.stopped, record.valid) == (3, 3, "epochs", {})
    assert record.protocol["split"] == {"name": "leave_one_out", "held_out": "test_only"}
    assert record.data["valid_targets"] == 0
    assert "trained 3 of 3 epochs; the split has no validation, so the last epoch is the model" in caplog.messages
    last = weights(record, "last.pt")
    assert all(torch.equal(tensor, last[name]) for name, tensor in weights(record, "best.pt").items())
    assert record.training_log().columns.tolist() == ["epoch", "loss", "train_seconds", "eval_seconds", "best"]


@pytest.mark.parametrize("sampling", ["none", "popularity", "in_batch"])
def test_a_final_fit_is_a_training_on_both_sides(
    sampling: str, run, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a split that has no validation, for the chosen epochs; also where it was interrupted, and when loaded."""
    options = {"learning_rate": 0.02, "lr_schedule": "constant", "warmup": 0.0, "negative_sampling": sampling}
    plain = run("GRU4RecMoS", epochs=4, **options)
    final = run("GRU4RecMoS", epochs=4, final_fit="train+valid", **options)
    assert (final.valid, final.best_epoch) == (plain.valid, plain.best_epoch)
    assert final.run_id != plain.run_id
    assert final.protocol_hash != plain.protocol_hash
    assert final.settings["final_fit"] == final.final_fit == "train+valid"
    assert {path.name for path in final.folder.iterdir() if path.name != ".lock"} == FILES | {"final.pt"}
    both = run("GRU4RecMoS", epochs=final.best_epoch, held_out="test_only", **options)
    assert final.test == both.test != plain.test
    assert final.data["train_targets"] == both.data["train_targets"]
    weights_of_both = weights(both, "best.pt")
    assert all(torch.equal(tensor, weights_of_both[name]) for name, tensor in weights(final, "final.pt").items())
    model = load_run(final, "cpu", toy.parent).model
    assert all(torch.equal(tensor, weights_of_both[name]) for name, tensor in model.state_dict().items())

    save = BenchmarkTrainer._save_last

    def save_and_stop(trainer: BenchmarkTrainer, epoch: int) -> None:
        save(trainer, epoch)
        if trainer.folder.name == "final_fit":
            raise KeyboardInterrupt

    monkeypatch.setattr(BenchmarkTrainer, "_save_last", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        run("GRU4RecMoS", "again", epochs=4, final_fit="train+valid", **options)
    monkeypatch.setattr(BenchmarkTrainer, "_save_last", save)
    again = run("GRU4RecMoS", "again", epochs=4, final_fit="train+valid", resume=True, **options)
    assert (again.test, again.valid, again.resumed) == (final.test, final.valid, True)


def test_the_time_of_a_run_is_that_of_all_its_sessions(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that was stopped in training, and again in the final fit."""
    save, stop_in = BenchmarkTrainer._save_last, [False, True]

    def save_and_stop(trainer: BenchmarkTrainer, epoch: int) -> None:
        save(trainer, epoch)
        if stop_in and (trainer.folder.name == "final_fit") == stop_in[0]:
            stop_in.pop(0)
            trainer.earlier_seconds += 1000
            save(trainer, epoch)
            raise KeyboardInterrupt

    monkeypatch.setattr(BenchmarkTrainer, "_save_last", save_and_stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run("GRU4RecMoS", "stopped", epochs=3, final_fit="train+valid", resume=True)
    assert run("GRU4RecMoS", "stopped", epochs=3, final_fit="train+valid", resume=True).wall_seconds > 2000


def test_early_stopping_ends_training_and_the_best_epoch_is_recorded(run, toy: Path, caplog) -> None:
    """The best epoch is the log's, the first of equals; `stopping_step` more and one end the run, which is said."""
    caplog.set_level("INFO", "mos_recbole")
    record = run("GRU4RecMoS", epochs=60, stopping_step=3, learning_rate=0.01, lr_schedule="constant", warmup=0.0)
    rows = log_rows(record)
    score = np.array([float(row["NDCG@10"]) for row in rows])
    assert record.best_epoch == 1 + int(np.argmax(score))
    assert record.best_epoch > 1
    assert record.epochs == record.best_epoch + 4 < 60
    assert record.stopped == "early_stopping"
    said = f"stopped early after {record.epochs} of 60 epochs: best NDCG@10 {score.max():.4f}"
    assert f"{said} in epoch {record.best_epoch}, 4 validations without a better one since" in caplog.messages
    assert max(int(row["epoch"]) for row in rows if row["best"] == "1") == record.best_epoch
    assert record.valid["NDCG@10"].value == score.max()
    best = load_checkpoint(record.folder / "best.pt", record.run_id, "GRU4RecMoS", "cpu")
    assert best["epoch"] == record.best_epoch
    last = weights(record, "last.pt")
    assert any(not torch.equal(tensor, last[name]) for name, tensor in weights(record, "best.pt").items())
    of_best = load_run(record, "cpu", toy.parent)
    of_valid = ("valid", of_best.protocol, torch.device("cpu"))
    queries = make_query_set(of_best.config, of_best.data, of_best.split, *of_valid)
    rank = evaluate_model(of_best.model, of_best.config, queries).ranks("mean").numpy()
    ndcg = np.where(rank <= 10, 1 / np.log2(rank + 1), 0).mean()
    assert record.valid["NDCG@10"].value == pytest.approx(ndcg, rel=1e-12)


@pytest.mark.parametrize("stopping_step", [0, 9])
def test_the_last_epoch_is_chosen_where_that_is_asked_for(run, caplog: pytest.LogCaptureFixture, stopping_step) -> None:
    """Also where early stopping ended training: with a rate that changes nothing, after the second epoch."""
    caplog.set_level("INFO", "mos_recbole")
    options = {"learning_rate": 1e-30} if stopping_step == 0 else {"learning_rate": 0.5}  # falls after the first
    record = run("GRU4RecSoftmax", epochs=3, chosen_epoch="last", stopping_step=stopping_step, **options)
    rows = log_rows(record)
    assert record.best_epoch == record.epochs == len(rows) == (2 if stopping_step == 0 else 3)
    assert [row["best"] for row in rows] == ["0"] * (len(rows) - 1) + ["1"]
    assert record.valid["NDCG@10"].value == float(rows[-1]["NDCG@10"])
    assert f"NDCG@10 {record.valid['NDCG@10'].value:.4f} in the last epoch, which is chosen" in caplog.text
    last = weights(record, "last.pt")
    assert all(torch.equal(tensor, last[name]) for name, tensor in weights(record, "best.pt").items())


def test_eval_step_validates_some_epochs_and_the_last(run) -> None:
    """The log has metrics where there was a validation."""
    log = run("GRU4RecMoS", epochs=5, eval_step=2).training_log()
    assert log.loc[log["NDCG@10"].notna(), "epoch"].tolist() == [2, 4, 5]


def losses(record: RunResult) -> list[float]:
    return record.training_log()["loss"].tolist()


def test_optimizers_and_weight_decay_are_the_ones_asked_for(run) -> None:
    """Each learner takes another way from the same start; AdamW's decay is not Adam's; all learn."""
    found = {
        (learner, decay): losses(run("GRU4RecMoS", f"{learner}{decay}", learner=learner, weight_decay=decay, **rate))
        for learner, rate in (
            ("adam", {"learning_rate": 0.01}),
            ("adamw", {"learning_rate": 0.01}),
            ("adagrad", {"learning_rate": 0.05}),
        )
        for decay in (0.0, 0.1)
    }
    assert all(np.isfinite(values).all() for values in found.values())
    assert all(found[learner, 0.0][-1] < found[learner, 0.0][0] for learner in ("adam", "adamw", "adagrad"))
    assert found["adam", 0.0] == found["adamw", 0.0]
    different = [tuple(values) for key, values in found.items() if key != ("adamw", 0.0)]
    assert len(set(different)) == len(different)


def test_clipping_bounds_each_step(run) -> None:
    """With plain SGD of rate 1, a step is as long as the clipped gradient: a tiny bound stops all learning."""
    options = {"learner": "sgd", "learning_rate": 1.0, "dropout_prob": 0.0, "mos_dropout": 0.0, "train_mode": "prefix"}
    free = losses(run("GRU4RecMoS", "free", **options))
    clipped = losses(run("GRU4RecMoS", "clipped", clip_grad_norm={"max_norm": 1e-6}, **options))
    assert abs(free[2] - free[0]) > 1e-2
    assert abs(clipped[2] - clipped[0]) < 1e-4


@pytest.mark.parametrize("model", ["GRU4RecMoS", "SASRecMoS"])
def test_both_training_modes_run(model: str, run) -> None:
    """Prefixes and whole windows: different losses, the same queries."""
    windows = run(model, "windows", train_mode="all_positions")
    prefixes = run(model, "prefixes", train_mode="prefix")
    assert losses(windows) != losses(prefixes)
    columns = ["user", "position", "target", "candidates", "train_count"]
    assert windows.outcomes()[columns].equals(prefixes.outcomes()[columns])
    assert windows.protocol_hash == prefixes.protocol_hash


# ---------------------------------------------------------------------------------------------------- baselines


@pytest.mark.parametrize("model", [*BASELINES, *OWN])
def test_every_model_runs_through_the_same_path(model: str, known) -> None:
    """The same files, queries, candidates and protocol for each; checkpoints of tensors and plain values."""
    record = known(model)
    assert {path.name for path in record.folder.iterdir()} >= FILES
    for name in ("best.pt", "last.pt"):
        assert torch.load(record.folder / name, weights_only=True)["model"] == model
    reference = known("GRU4RecSoftmax")
    columns = ["user", "position", "target", "candidates", "context_length", "train_count", "previous_distance"]
    assert record.outcomes()[columns].equals(reference.outcomes()[columns])
    assert record.protocol_hash == reference.protocol_hash
    assert record.epochs == (1 if model in ("Pop", "ItemKNN") else 3)
    assert read_record(record.folder) == record


@pytest.mark.parametrize(
    ("model", "facts"),
    [
        ("GRU4RecMoS", ("GRU4Rec", "mos", 2, 8, "GRU4RecSoftmax")),
        ("SASRecSoftmax", ("SASRec", "softmax", 1, 8, None)),
        ("GRU4Rec", (None, None, None, None, None)),
    ],
)
def test_a_record_names_the_parts_of_its_model(model: str, facts: tuple, known) -> None:
    """Encoder, head, K, width and baseline, and where the split leaks."""
    record = read_record(known(model).folder)
    assert (record.encoder, record.head, record.n_components, record.width, record.baseline) == facts
    assert record.schema_version == 3
    assert "other users" in record.split_leakage


@pytest.mark.parametrize(
    "options",
    [{"train_batch_size": 1, "train_neg_sample_args": None}, {"train_neg_sample_args": None}, {}],
    ids=["one by one, no negatives", "no negatives", "defaults"],
)
def test_pop_ranks_by_training_counts(options: dict[str, Any], run, toy: Path) -> None:
    """By hand, ties in the middle: popularity is how often training has an item, however it is cut into batches."""
    histories = [items for items in file_histories(toy).values() if len(items) >= 2]
    counts = Counter(item for items in histories for item in items[: max(2, len(items) - 2)])
    items = {item for history in histories for item in history}
    outcomes = run("Pop", tie_rule="mean", **options).outcomes()
    for row in outcomes.itertuples():
        better = sum(counts[item] > counts[row.target] for item in items)
        equal = sum(counts[item] == counts[row.target] for item in items) - 1
        assert (row.rank, row.tied) == (1 + better + equal / 2, equal)


def test_a_user_with_all_items_is_an_input_error_where_negatives_are_sampled(tmp_path: Path) -> None:
    """RecBole's sampler finds no negative for such a user and says which setting filters them."""
    folder = write_data(tmp_path / "all", [[*range(8), 1, 2], *([user, user + 1, 3, 4] for user in range(4))])
    with pytest.raises(InputError, match="user_inter_num_interval"):
        run_experiment("BPR", str(folder), output=tmp_path / "results", device="cpu", epochs=1)
    # Whole users are not told from negatives.
    for model in ("MultiVAE", "CDAE", "ENMF", "DiffRec"):
        run_experiment(model, str(folder), output=tmp_path / "results", device="cpu", epochs=1)
    record = run_experiment("ItemKNN", str(folder), output=tmp_path / "results", device="cpu", k=3)
    assert len(record.outcomes()) == 5


@pytest.mark.parametrize("model", ["FPMC", "DIEN"])
def test_a_catalogue_of_one_item_has_no_negatives(model: str, tmp_path: Path, no_hang) -> None:
    """RecBole's sampler would look for another for ever."""
    folder = write_data(tmp_path / "one", [[1] * 5] * 4)
    with pytest.raises(InputError, match=f"data set 'one': has one item; {model} needs another to draw"):
        run_experiment(model, str(folder), output=tmp_path / "results", device="cpu", epochs=1)


def test_autograd_is_left_in_its_fast_mode() -> None:
    """Importing RecBole's sequential models (SINE among them) turns on anomaly detection for the whole process.

    It slows all training down, makes the times of models depend on which others were named in the same command, and
    turns a NaN into an exception of autograd's. In a process of its own, because an import happens once.
    """
    code = (
        "import torch, mos_recbole.experiment as experiment\n"
        "experiment.load_settings('GRU4RecMoS'); experiment.load_settings('GRU4Rec')\n"
        "raise SystemExit(3 if torch.is_anomaly_enabled() else 0)"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0


def test_a_model_that_cannot_be_built_is_an_input_error(run) -> None:
    """RecBole's own SASRec complains about its width by an exception of its own."""
    with pytest.raises(InputError, match="SASRec"):
        run("SASRec", hidden_size=9, n_heads=2)


def test_a_defect_while_a_model_is_built_is_not_the_users_fault(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same exception from anywhere else than RecBole's models and PyTorch's layers comes through as it is."""

    def broken(self: Any, module: torch.nn.Module) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(resolve_model("SASRec"), "_init_weights", broken)
    with pytest.raises(ValueError, match=r"^a defect$") as caught:
        run("SASRec", hidden_size=8, n_heads=2)
    assert not isinstance(caught.value, InputError)


# ---------------------------------------------------------------------------------------------------- no leak


@pytest.mark.parametrize("model", ["GRU4RecMoS", "GRU4Rec", "FPMC", "BPR", "Pop", "ItemKNN"])
@pytest.mark.parametrize("filter_seen", [False, True])
def test_test_data_never_influence_training_or_selection(model: str, filter_seen: bool, tmp_path: Path) -> None:
    """Only the users' last items change: losses, validation metrics and the best epoch stay; the test changes."""
    generator = np.random.default_rng(5)
    # The first two users have all items and stay as they are, so that items keep their numbers.
    first = [[*range(10), 3, 4], [*range(5, 15), 6, 7]]
    sequences = [*first, *(generator.integers(0, 15, size).tolist() for size in range(5, 25))]
    found = []
    for name in ("one", "other"):
        folder = write_data(tmp_path / name / "data", sequences)
        record = run_experiment(
            model,
            str(folder),
            output=tmp_path / name / "results",
            device="cpu",
            epochs=4,
            train_batch_size=64,
            learning_rate=0.01,
            filter_seen=filter_seen,
            metrics=["Recall", "NDCG", "MRR", "GAUC"],
            topk=[3, 10],
            **SMALL[model],
        )
        found.append(record)
        changed = [[*items[:-1], (items[-1] + 1 + number % 13) % 15] for number, items in enumerate(sequences)]
        sequences = [*first, *changed[2:]]
    one, other = found
    assert log_rows(one) == log_rows(other)
    assert one.valid == other.valid
    assert one.best_epoch == other.best_epoch
    assert equal_weights(one, other)
    assert one.test != other.test
    assert one.run_id != other.run_id


# ---------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", ""])
def test_an_unknown_device_is_refused(device: str, run) -> None:
    """With its name and what is known."""
    with pytest.raises(InputError, match="device"):
        run("GRU4RecMoS", device=device)


def test_an_output_that_cannot_be_a_folder_is_refused_before_anything_is_read(run, tmp_path: Path) -> None:
    """A path below a regular file."""
    (tmp_path / "file").write_text("text")
    with pytest.raises(InputError, match=r"file.*expected a folder") as caught:
        run("GRU4RecMoS", "file/results")
    assert str(tmp_path / "file") in str(caught.value)
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("model", ["GRU4RecMoS", "SASRecSoftmax"])
def test_mixed_precision_stays_near_full_precision(run, known, model: str) -> None:
    """bf16 training follows float32's losses to bf16's precision, and is not float32's training."""
    full, mixed = (
        [float(row["loss"]) for row in log_rows(record)] for record in (known(model), run(model, enable_amp=True))
    )
    assert mixed != full
    assert mixed == pytest.approx(full, rel=0.02)
