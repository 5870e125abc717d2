"""Trackers: readable names, curves, settings and final metrics, read by each tracker's own reader; missing packages."""

import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mos_recbole.results import RECORD_FILE, RunResult
from mos_recbole.sweep import prepare_ray
from mos_recbole.sweep.ledger import Ledger
from mos_recbole.sweep.loggers import MLflow, TensorBoard, TrackerCallback, WandB, make_loggers, tracked
from mos_recbole.sweep.trial import BEST, EPOCH, FINISHED, MEMBERS, describe, describe_group
from tests.fabricated import Maker
from tests.sweeps import MakePlanner, refused

SPACE = {
    "embedding_size": {"grid": [4]},
    "hidden_size": {"same_as": "embedding_size"},
    "learning_rate": {"grid": [0.01, 0.0300000001]},
}
FIRST, SECOND = ("GRU4RecSoftmax embedding_size=4 learning_rate=" + rest for rest in ("0.01 seed 1", "0.03 seed 1"))


@pytest.fixture
def ledger(planner: MakePlanner, tmp_path: Path) -> Ledger:
    """Two trials of a sweep's folder, not begun."""
    made = planner(SPACE, models=["GRU4RecSoftmax"], seeds=[1])
    folder = tmp_path / "small"
    folder.mkdir()
    ledger = Ledger(made, made.trials(), folder)
    ledger.save()
    return ledger


@pytest.fixture
def finished(ledger: Ledger, tmp_path: Path) -> Callable[[int], RunResult]:
    """Returns a function that gives a trial its record."""

    def finish(number: int) -> RunResult:
        record = Maker(tmp_path / "made")(valid=0.375)
        place = list(ledger.trials.values())[number].trial.folder(ledger.folder) / RECORD_FILE
        place.parent.mkdir(parents=True)
        place.write_bytes((record.folder / RECORD_FILE).read_bytes())
        return record

    return finish


def play(ledger: Ledger, tracker: Any, finished: Callable[[int], RunResult]) -> None:
    """One trial is interrupted and then finishes, the other one is stopped; as Ray calls its callbacks."""
    one, other = (SimpleNamespace(config={"trial": describe(trial)}) for trial in ledger.trials.values())
    for epochs in ([1, 2, 3], [3, 4]):
        callback = TrackerCallback(ledger, [tracker])
        callback.on_trial_start(0, [], one)
        for epoch in epochs:
            report = {EPOCH: epoch, "loss": 1 / epoch, "valid/NDCG@10": epoch / 100 + len(epochs), BEST: 1.0}
            callback.on_trial_result(0, [], one, report | {"time_total_s": 3.0})
        callback.close()
        if 4 not in epochs:
            continue
        callback.on_trial_start(0, [], one)
        finished(0)
        callback.on_trial_result(0, [], one, {EPOCH: 4, "valid/NDCG@10": 0.5, FINISHED: True})
        callback.on_trial_complete(0, [], one)
    callback.on_trial_start(0, [], other)
    callback.on_trial_result(0, [], other, {EPOCH: 1, "loss": 1.0, "valid/NDCG@10": 0.25})
    callback.on_trial_complete(0, [], other)
    callback.close()


def test_tensorboard(ledger: Ledger, finished, tmp_path: Path) -> None:
    """A folder for each run; what an interruption repeated counts once; settings and final metrics as hparams."""
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams import plugin_data_pb2

    play(ledger, TensorBoard(), finished)
    read = EventMultiplexer().AddRunsFromDirectory(str(ledger.folder / "tensorboard"))
    read.Reload()
    assert set(read.Runs()) == {FIRST, SECOND}
    curve = [(event.step, event.value) for event in read.Scalars(FIRST, "valid/NDCG@10")]
    assert curve == [
        (1, pytest.approx(3.01)),
        (2, pytest.approx(3.02)),
        (3, pytest.approx(2.03)),
        (4, pytest.approx(2.04)),
    ]
    assert set(read.Runs()[FIRST]["scalars"]) == {
        *("loss", "valid/NDCG@10", "best_valid/Recall@100", "test/Recall@100"),
    }
    assert set(read.Runs()[SECOND]["scalars"]) == {"loss", "valid/NDCG@10"}
    assert [event.value for event in read.Scalars(FIRST, "test/Recall@100")] == [0.625]
    content = read.SummaryMetadata(FIRST, "_hparams_/session_start_info").plugin_data.content
    given = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert {key: getattr(value, value.WhichOneof("kind")) for key, value in given.items()} == {
        "model": "GRU4RecSoftmax",
        "dataset": ledger.plan.datasets[0],
        "embedding_size": 4,
        "hidden_size": 4,
        "learning_rate": 0.01,
        "seed": 1,
    }


def of_wandb(path: Path) -> list[bytes]:
    """Returns the records of a W&B file: LevelDB's log in blocks of 32 KiB, after a header of 7 bytes."""
    data, place, records, part = path.read_bytes(), 7, [], b""
    while place + 7 <= len(data):
        if (left := 2**15 - place % 2**15) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        part += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(part)
            part = b""
    return records


def test_weights_and_biases(ledger: Ledger, finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline: name, group, settings as config, curves by epoch, final metrics in the summary."""
    wandb = pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    play(ledger, WandB("project"), finished)
    wandb.teardown()  # or the last records may not be written yet
    found: dict[str, list[Any]] = {}
    for path in sorted((ledger.folder / "wandb").glob("offline-run-*/run-*.wandb")):
        records = [Record.FromString(data) for data in of_wandb(path)]
        run = next(record.run for record in records if record.HasField("run"))
        assert (run.project, run.run_group) == ("project", "small")
        config = {item.key: item.value_json for item in run.config.update}
        assert config["embedding_size"] == "4"
        assert "train_batch_size" in config
        found.setdefault(run.display_name, []).extend(records)
    assert set(found) == {FIRST, SECOND}

    def values(name: str, kind: str, key: str) -> list[str]:
        parts = [getattr(record, kind) for record in found[name] if record.HasField(kind)]
        items = [item for part in parts for item in (part.item if kind == "history" else part.update)]
        return [item.value_json for item in items if key in (item.key, *item.nested_key)]

    assert len(values(FIRST, "history", "valid/NDCG@10")) == 5
    assert values(FIRST, "history", EPOCH) == ["1", "2", "3", "3", "4"]
    assert "0.625" in values(FIRST, "summary", "test/Recall@100")
    assert not values(SECOND, "summary", "test/Recall@100")


def test_mlflow(ledger: Ledger, finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of files: name, parameters, metrics by epoch without @; an interrupted run goes on."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    from mlflow.tracking import MlflowClient

    play(ledger, MLflow("experiment"), finished)
    client = MlflowClient()
    experiment = client.get_experiment_by_name("experiment")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in runs.items()} == {FIRST: "FINISHED", SECOND: "FINISHED"}
    first = runs[FIRST]
    assert (first.data.params["learning_rate"], first.data.params["model"]) == ("0.01", "GRU4RecSoftmax")
    assert first.data.tags["sweep"] == "small"
    assert first.data.metrics["test/Recall_100"] == 0.625
    assert "test/Recall_100" not in runs[SECOND].data.metrics
    history = client.get_metric_history(first.info.run_id, "valid/NDCG_10")
    assert [metric.step for metric in history] == [1, 2, 3, 3, 4]


def test_runs_that_are_trained_as_one_are_runs_of_their_own(ledger: Ledger, finished) -> None:
    """Each ends when it has finished; one that fails ends with its group."""
    told: list[Any] = []
    tracker = SimpleNamespace(
        start=lambda run: told.append(("start", run.name)),
        log=lambda run, epoch, metrics: told.append((run.name, epoch, metrics)),
        end=lambda run, how, epoch, metrics: told.append((run.name, how, epoch, sorted(metrics))),
    )
    callback = TrackerCallback(ledger, [tracker])
    group = SimpleNamespace(config={"trial": describe_group(list(ledger.trials.values()))})
    first = next(iter(ledger.trials))
    callback.on_trial_start(0, [], group)
    callback.on_trial_result(0, [], group, {MEMBERS: {first: {EPOCH: 1, "loss": 0.5, "valid/NDCG@10": 0.1, BEST: 1}}})
    # Another attempt repeats an epoch.
    callback.on_trial_start(0, [], group)
    callback.on_trial_result(0, [], group, {MEMBERS: {first: {EPOCH: 1, "loss": 0.5, "valid/NDCG@10": 0.1, BEST: 1}}})
    finished(0)
    callback.on_trial_result(0, [], group, {MEMBERS: {first: {EPOCH: 2, FINISHED: True}}})
    callback.on_trial_error(0, [], group)
    assert told == [
        *(("start", FIRST), ("start", SECOND)),
        (FIRST, 1, {"loss": 0.5, "valid/NDCG@10": 0.1}),
        (FIRST, "finished", 2, ["best_valid/Recall@100", "test/Recall@100"]),
        (SECOND, "failed", 0, []),
    ]


def test_a_tracker_that_fails_is_left_out(ledger: Ledger, finished, caplog: pytest.LogCaptureFixture) -> None:
    """With one warning; the others and the sweep go on."""

    class Offline:
        def start(self, run: Any) -> None:
            raise OSError("no network")

    play(ledger, Offline(), finished)
    assert {record.getMessage() for record in caplog.records} == {
        "Offline is not used any more in this sweep: no network"
    }


def test_names_are_of_one_run_each(planner: MakePlanner, tmp_path: Path) -> None:
    """Where four digits do not tell learning rates apart, the run id does; the data set where there are several."""
    made = planner({"learning_rate": {"grid": [0.01, 0.0100000001, 0.02]}}, models=["GRU4RecSoftmax"], seeds=[1])
    (tmp_path / "one").mkdir()
    ledger = Ledger(made, made.trials(), tmp_path / "one")
    names = [tracked(ledger, one).name for one in ledger.trials.values()]
    assert len(set(names)) == 3
    label = "GRU4RecSoftmax learning_rate=0.01 seed 1"
    assert names[:2] == [f"{label} {one.trial.run_id}" for one in list(ledger.trials.values())[:2]]
    assert names[2] == "GRU4RecSoftmax learning_rate=0.02 seed 1"


def test_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tracker unless asked for; one whose package is missing is refused by name."""
    assert make_loggers(None, None) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = refused(lambda: make_loggers("project", None))
    assert message == "--wandb: the package wandb is not installed; expected pip install wandb"
    message = refused(lambda: make_loggers(None, "experiment"))
    assert message == "--mlflow: the package mlflow is not installed; expected pip install mlflow"
    assert "ray, optuna, tensorboardX" in refused(lambda: prepare_ray(None))
