"""Sweep files: their faults, defaults and changes."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mos_recbole.sweep import Planner, read_sweep_file
from tests.sweeps import random_search, refused, written

MINIMAL = {"models": ["Pop"], "space": {"embedding_size": {"grid": [4, 8]}}}


FAULTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown key": ({"modles": ["Pop"]}, ["unknown key 'modles'", "did you mean models?"]),
    "unknown key, nothing near": ({"zzz": 1}, ["unknown key 'zzz'", "expected one of config, datasets"]),
    "unknown key of a part": ({"search": {"sampels": 3}}, ["'search.sampels'", "did you mean samples?"]),
    "unknown key of a parameter": (
        {"space": {"learning_rate": {"gird": [1]}}},
        ["'space.learning_rate.gird'", "did you mean grid?"],
    ),
    "no models": ({"models": None}, ["models"]),
    "empty list of models": ({"models": []}, ["models: ", "at least 1"]),
    "no space": ({"space": None}, ["space"]),
    "empty space": ({"space": {}}, ["space: ", "at least 1"]),
    "empty grid": ({"space": {"embedding_size": {"grid": []}}}, ["space.embedding_size.grid: ", "at least 1"]),
    "no dictionary": ({"space": {"embedding_size": [4, 8]}}, ["space.embedding_size"]),
    "model twice": ({"models": ["Pop", "BPR", "Pop"]}, ["models: 'Pop' is listed twice"]),
    "data set twice": ({"datasets": ["a", "a"]}, ["datasets: 'a' is listed twice"]),
    "seed twice": ({"seeds": [1, 2, 1]}, ["seeds: 1 is listed twice"]),
    "no seeds": ({"seeds": []}, ["seeds: "]),
    "negative seed": ({"seeds": [-1]}, ["seeds.0: ", "0"]),
    "seed too large": ({"seeds": [2**32]}, ["seeds.0: ", str(2**32)]),
    "seed is text": ({"seeds": ["1"]}, ["seeds.0: ", "integer"]),
    "two kinds": (
        {"space": {"embedding_size": {"grid": [4], "choice": [4]}}},
        ["space.embedding_size: expected one of grid, choice", "found grid and choice"],
    ),
    "no kind": ({"space": {"embedding_size": {"when": {"model": "Pop"}}}}, ["space.embedding_size: ", "found none"]),
    "value twice": ({"space": {"embedding_size": {"grid": [4, 8, 4]}}}, ["embedding_size.grid: 4 is listed twice"]),
    "choice twice": (
        random_search({"embedding_size": {"choice": [4, 4]}}),
        ["embedding_size.choice: 4 is listed twice"],
    ),
    "bounds the wrong way": (random_search({"learning_rate": {"uniform": [2, 1]}}), ["uniform: [2.0, 1.0]", "lower"]),
    "equal bounds": (random_search({"embedding_size": {"randint": [4, 4]}}), ["randint: [4, 4]", "lower"]),
    "three bounds": (random_search({"learning_rate": {"uniform": [1, 2, 3]}}), ["space.learning_rate.uniform: "]),
    "infinite bound": (random_search({"learning_rate": {"uniform": [1, math.inf]}}), ["uniform.1: ", "finite"]),
    "logarithm of zero": (
        random_search({"learning_rate": {"loguniform": [0, 1]}}),
        ["loguniform.0: ", "greater than 0"],
    ),
    "broken whole number": (random_search({"embedding_size": {"randint": [1.5, 4]}}), ["randint.0: ", "integer"]),
    "mode against metric": ({"mode": "min"}, ["mode is 'min', but of NDCG@10 the maximum is best"]),
    "mode against metric, lower": (
        {"metric": "GiniIndex@10", "mode": "max"},
        ["mode is 'max', but of GiniIndex@10 the minimum is best"],
    ),
    "unknown mode": ({"mode": "most"}, ["mode: ", "'max' or 'min'"]),
    "unknown metric": ({"metric": "Recal@10"}, ["metric: ", "'Recal@10'", "Recall"]),
    "metric without cut-off": ({"metric": "NDCG"}, ["metric: ", "NDCG@10"]),
    "unknown method": ({"search": {"method": "tpe"}}, ["search.method: ", "'optuna'"]),
    "grid in a random search": (
        {"search": {"method": "random", "samples": 2}},
        ["space.embedding_size is a grid, but search.method is random; expected choice, uniform"],
    ),
    "choice in a grid search": (
        {"space": {"embedding_size": {"choice": [4]}}},
        ["space.embedding_size is a choice, but search.method is grid; expected grid"],
    ),
    "Optuna among lists": (
        random_search({"topk": {"choice": [[5, 10], [10]]}}, "optuna"),
        ["space.topk: optuna chooses among single values only"],
    ),
    "samples of a grid": ({"search": {"samples": 3}}, ["search.method grid does not take search.samples"]),
    "no samples": (
        {"search": {"method": "random"}, "space": {"embedding_size": {"choice": [4]}}},
        ["search.method random needs search.samples"],
    ),
    "no sample": ({"search": {"method": "random", "samples": 0}}, ["search.samples: "]),
    "asha over epochs": (
        {"stopping": {"scheduler": "asha"}, "space": {"epochs": {"grid": [4]}}},
        ["space.epochs: stopping.scheduler asha decides"],
    ),
    "reduction by nothing": ({"stopping": {"scheduler": "asha", "reduction_factor": 1}}, ["reduction_factor: ", "2"]),
    "no cores": ({"resources": {"cpus_per_trial": 0}}, ["resources.cpus_per_trial: "]),
    "one and a half GPUs": ({"resources": {"gpus_per_trial": 1.5}}, ["resources.gpus_per_trial: ", "equal to 1"]),
    "negative GPUs": ({"resources": {"gpus_per_trial": -1}}, ["resources.gpus_per_trial: "]),
    "resources are a number": ({"resources": 5}, ["resources: "]),
    "name of a folder elsewhere": ({"name": "../other"}, ["name: "]),
    "negative retries": ({"retries": -1}, ["retries: "]),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_of_a_sweep_file(case: str, tmp_path: Path) -> None:
    """One line that names the file, the key and what was expected, with the changes of the command line too."""
    changes, fragments = FAULTS[case]
    path = written(tmp_path, {key: value for key, value in (MINIMAL | changes).items() if value is not None})
    arguments: list[dict[str, Any]] = [{}, {"resources": {}}]
    for given_there in arguments:
        message = refused(partial(read_sweep_file, path, given_there))
        assert message.startswith(f"{path}: ")
        assert len(message.splitlines()) == 1, message
        for fragment in fragments:
            assert fragment in message


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("models: [Pop\nspace: {}", "line 2: not YAML"),
        ("models: [Pop]\nmodels: [BPR]\n", "the key 'models' occurs twice"),
        ("", "models is missing"),
        ("- models", "expected key: value"),
        ("models: !!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_files_that_are_no_sweep(text: str, fragment: str, tmp_path: Path) -> None:
    """The file, the line where there is one, and no code is run."""
    path = written(tmp_path, text)
    assert fragment in refused(lambda: read_sweep_file(path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, no text."""
    assert "No such file" in refused(lambda: read_sweep_file(tmp_path / "none.yaml"))
    assert "expected a YAML file" in refused(lambda: read_sweep_file(tmp_path))
    (tmp_path / "latin.yaml").write_bytes(b"models: [\xff]")
    assert "UTF-8" in refused(lambda: read_sweep_file(tmp_path / "latin.yaml"))


def test_all_faults_at_once(tmp_path: Path) -> None:
    """One line each."""
    path = written(tmp_path, {"modles": ["Pop"], "seeds": [1, 1], "space": {"a": {"gird": [1]}}, "retries": -1})
    lines = refused(lambda: read_sweep_file(path)).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    for fragment in ("models is missing", "'modles'", "seeds: 1 is listed twice", "'space.a.gird'", "retries"):
        assert sum(fragment in line for line in lines) == 1, fragment


def test_defaults_and_changes(tmp_path: Path) -> None:
    """The name is the file's; arguments replace whole keys, but single values of a part; spelling is RecBole's."""
    path = written(
        tmp_path,
        MINIMAL | {"metric": "recall@5", "config": "a.yaml", "resources": {"cpus_per_trial": 2, "gpus_per_trial": 1}},
    )
    sweep = read_sweep_file(path, {"datasets": ["beauty"], "seeds": [4], "resources": {"gpus_per_trial": 0.5}})
    assert (sweep.name, sweep.metric, sweep.config) == ("small", "Recall@5", ["a.yaml"])
    assert (sweep.datasets, sweep.seeds) == (["beauty"], [4])
    assert (sweep.resources.cpus_per_trial, sweep.resources.gpus_per_trial) == (2, 0.5)
    assert not sweep.adaptive
    assert read_sweep_file(path, {"stopping": {"scheduler": "asha"}}).adaptive
    changed = {"search": {"method": "optuna", "samples": 3}, "space": {"embedding_size": {"choice": [4, 8]}}}
    with_optuna = read_sweep_file(written(tmp_path, MINIMAL | changed))
    assert with_optuna.adaptive


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "configs" / "sweeps").glob("*.yaml")), ids=str)
def test_the_sweeps_that_come_with_the_package(path: Path) -> None:
    """Are without faults: files, spaces, and every trial's settings."""
    planned = Planner(read_sweep_file(path), path, []).trials()
    assert len({one.trial.run for one in planned}) == len(planned) > 0
