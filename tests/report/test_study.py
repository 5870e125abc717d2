"""The study of the article: its configuration says what the article did, and one command runs it to the end, twice."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mos_recbole.analysis.reference import read_reference
from mos_recbole.experiment import load_settings
from mos_recbole.sweep import Planner, read_sweep_file

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "configs" / "study"
DATASETS = ("ml-25m", "ml-latest-small", "ml-100k", "synthetic")


@pytest.mark.parametrize("model", ["GRU4RecSoftmax", "GRU4RecMoS"])
def test_the_configuration_is_the_articles(model: str) -> None:
    """On its data: the facts of the article's text and code, one by one."""
    files = [STUDY / "protocol.yaml", STUDY / "ml-25m.yaml"]
    settings = load_settings(model, "ml-25m", files, {"embedding_size": 32, "hidden_size": 32}, beside=["GRU4RecMoS"])
    values = settings.values
    assert settings.warnings == ()
    assert values["val_interval"] == {"rating": "[2.0,inf)"}
    assert (values["split"], values["split_time"], values["context_reach"]) == ("temporal", 1499856234, "side")
    assert (values["min_side_interactions"], values["MAX_ITEM_LIST_LENGTH"]) == (4, 10)
    assert (values["learner"], values["learning_rate"], values["train_batch_size"]) == ("adagrad", 0.2, 64)
    assert (values["tie_weights"], values["item_bias"], values["valid_metric"]) == (True, False, "Recall@100")
    if model == "GRU4RecMoS":
        assert (values["mos_heads"], values["mos_activation"]) == (4, "tanh")
    assert settings.protocol(has_repeats=True).candidates == "trained"


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_step_is_a_command(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweeps are head times dimension times five seeds, and the smallest models again with ties in other orders;
    with the settings of the data set's own file, and over them what was passed."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "studies")
    import article

    options = argparse.Namespace(
        **{"dataset": dataset, "zip": None, "download": True, "allow_modified": False, "seeds": None},
        **{"data_path": Path("data"), "output": Path("out"), "cpus_per_trial": 1, "gpus_per_trial": 0.0},
    )
    steps = list(article.commands(options, ["--epochs=2"]))
    assert [step[0] for step in steps] == ["prepare", "sweep", "sweep", "sweep", "report"]
    name = "ml-100k" if dataset == "ml-100k" else f"data/{dataset}"
    assert steps[0][1:3] == [name, "--download"]
    orders = {"heads": "file", "ties-random": "random", "ties-reverse": "reverse"}
    assert steps[4][1:4] == [f"out/{dataset}/{sweep}" for sweep in orders]
    published = read_reference(Path(steps[4][steps[4].index("--reference") + 1]))
    assert len(published.rows) == len(published.differences) == 6

    own = yaml.safe_load((STUDY / f"{dataset}.yaml").read_text())
    for step, (sweep, order) in zip(steps[1:4], orders.items(), strict=True):
        assert step[step.index("--name") + 1] == sweep
        assert step[step.index("--dataset") + 1] == name
        passed = [argument for argument in step if argument.startswith("--") and "=" in argument]
        # Planned on data that are there; a time in the future of all of them would leave no test.
        passed = [argument for argument in passed if not argument.startswith("--split_time")]
        trials = Planner(read_sweep_file(Path(step[1]), {"datasets": ["ml-100k"]}), Path(step[1]), passed).trials()
        sizes = [32, 64, 128] if sweep == "heads" else [32]
        assert len(trials) == 2 * len(sizes) * 5
        for trial in trials:
            values = trial.settings.values
            assert values["embedding_size"] == values["hidden_size"]
            assert values["embedding_size"] in sizes
            assert (values["tie_order"], values["epochs"]) == (order, 2)
            assert {key: values[key] for key in own if key not in ("epochs", "split_time")} == {
                key: value for key, value in own.items() if key not in ("epochs", "split_time")
            }


def test_synthetic_data_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted while they are written, they are not taken for the data by the next call."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "studies")
    import article

    def interrupted(path: Path, *_: object) -> None:
        path.write_text("userId,movieId,rating,timestamp\n1,1,5.0,1\n")
        raise KeyboardInterrupt

    monkeypatch.setattr(article, "write_log", interrupted)
    monkeypatch.setattr(sys, "argv", ["article.py", "--dataset", "synthetic", "--data-path", str(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        article.main()
    assert not list((tmp_path / "synthetic").iterdir())


def test_the_sweep_of_ties_under_leave_one_out() -> None:
    """Five trials, which differ in the seed alone."""
    path = STUDY / "ties-leave-one-out.yaml"
    trials = Planner(read_sweep_file(path), path, ["--tie_order=reverse"]).trials()
    assert [trial.settings.values["seed"] for trial in trials] == [1, 2, 3, 4, 5]
    assert {(trial.settings.values["split"], trial.settings.values["tie_order"]) for trial in trials} == {
        ("leave_one_out", "reverse")
    }


@pytest.mark.slow
def test_one_command_from_data_to_report_and_again(tmp_path: Path) -> None:
    """On synthetic ratings; the second call trains nothing and leaves the same report, byte for byte."""
    small = ["--seeds", "1", "2", "--epochs=1", "--train_batch_size=2048"]

    def study() -> None:
        command = [
            sys.executable,
            str(ROOT / "benchmarks" / "studies" / "article.py"),
            "--dataset",
            "synthetic",
            *small,
        ]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    study()
    results = tmp_path / "results" / "article" / "synthetic"
    records = {path: path.stat().st_mtime_ns for path in results.glob("*/runs/*/record.json")}
    assert len(records) == 2 * (6 + 2 + 2)
    first = {path: path.read_bytes() for path in (results / "report").rglob("*") if path.is_file()}
    assert any(path.suffix == ".html" for path in first)
    study()
    assert {path: path.stat().st_mtime_ns for path in records} == records
    assert {path: path.read_bytes() for path in (results / "report").rglob("*") if path.is_file()} == first
