"""Sweep files: their faults, defaults and changes."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mos_recbole.sweep import Planner, plan_sweep, read_sweep_file
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
    "empty list of models": ({"models": []}, ["models is empty", "write at least one value, such as models: ["]),
    "no space": ({"space": None}, ["space"]),
    "empty space": ({"space": {}}, ["space is empty", "such as space: {"]),
    "empty grid": (
        {"space": {"embedding_size": {"grid": []}}},
        ["space.embedding_size.grid is empty; write at least one value"],
    ),
    "no dictionary": ({"space": {"embedding_size": [4, 8]}}, ["is [4, 8]; write {grid: [4, 8]}"]),
    "one value": ({"space": {"embedding_size": 4}}, ["space.embedding_size is 4; write {grid: [4]}"]),
    "a list in a random search": (
        random_search({"embedding_size": [4, 8]}),
        ["space.embedding_size is [4, 8]; write {choice: [4, 8]}"],
    ),
    "no list": ({"models": "Pop"}, ["models is 'Pop'; write a list, [Pop]"]),
    "a setting as a key": ({"learning_rate": 0.1}, ["unknown key 'learning_rate'; write learning_rate into settings"]),
    "a setting by another name": ({"lr": [0.1]}, ["unknown key 'lr'; write learning_rate into space"]),
    "what has a key of its own": ({"seed": 3}, ["unknown key 'seed'; did you mean seeds?"]),
    "model twice": ({"models": ["Pop", "BPR", "Pop"]}, ["models: 'Pop' is listed twice"]),
    "data set twice": ({"datasets": ["a", "a"]}, ["datasets: 'a' is listed twice"]),
    "seed twice": ({"seeds": [1, 2, 1]}, ["seeds: 1 is listed twice"]),
    "no seeds": ({"seeds": []}, ["seeds is empty"]),
    "negative seed": ({"seeds": [-1]}, ["seeds.0 is -1; expected greater than or equal to 0"]),
    "seed too large": ({"seeds": [2**32]}, ["seeds.0 is ", f"less than {2**32}"]),
    "seed is text": ({"seeds": ["1"]}, ["seeds.0 is '1'; expected a valid integer"]),
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
    "three bounds": (
        random_search({"learning_rate": {"uniform": [1, 2, 3]}}),
        ["space.learning_rate.uniform is [1, 2, 3]; expected two values"],
    ),
    "infinite bound": (
        random_search({"learning_rate": {"uniform": [1, math.inf]}}),
        ["uniform.1 is inf; expected a finite number"],
    ),
    "logarithm of zero": (
        random_search({"learning_rate": {"loguniform": [0, 1]}}),
        ["loguniform.0 is 0; expected greater than 0"],
    ),
    "broken whole number": (
        random_search({"embedding_size": {"randint": [1.5, 4]}}),
        ["randint.0 is 1.5; expected a valid integer"],
    ),
    "whole numbers beyond those of settings": (
        random_search({"embedding_size": {"randint": [1, 10**23]}}),
        ["randint.1 is 1", "expected less than or equal to 2147483648"],
    ),
    "a share that Ray cannot count": ({"resources": {"gpus_per_trial": 1e-320}}, ["expected 0, or 0.0001 or more"]),
    "mode against metric": ({"mode": "min"}, ["mode is 'min', but of NDCG@10 the maximum is best"]),
    "mode against metric, lower": (
        {"metric": "GiniIndex@10", "mode": "max"},
        ["mode is 'max', but of GiniIndex@10 the minimum is best"],
    ),
    "unknown mode": ({"mode": "most"}, ["mode is 'most'; expected 'max' or 'min'"]),
    "unknown metric": ({"metric": "Recal@10"}, ["metric: ", "'Recal@10'", "Recall"]),
    "metric without cut-off": ({"metric": "NDCG"}, ["metric: ", "NDCG@10"]),
    "unknown method": ({"search": {"method": "tpe"}}, ["search.method is 'tpe'", "'optuna'"]),
    "all seeds of an adaptive search": (
        {
            "search": {"method": "optuna", "samples": 2, "further_seeds": "all"},
            "space": {"embedding_size": {"choice": [4, 8]}},
        },
        ["search.further_seeds: optuna and asha compare configurations on the first seed"],
    ),
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
    "defaults of a grid": (
        {"search": {"first": "defaults"}},
        ["search.first goes with search.method random, and search.method is grid"],
    ),
    "rungs without a scheduler": (
        {"stopping": {"grace_epochs": 2}},
        ["stopping.grace_epochs goes with stopping.scheduler asha"],
    ),
    "random numbers of a grid": ({"search": {"seed": 3}}, ["search.seed: a grid draws no random numbers"]),
    "samples of a grid": ({"search": {"samples": 3}}, ["search.method grid does not take search.samples"]),
    "no samples": (
        {"search": {"method": "random"}, "space": {"embedding_size": {"choice": [4]}}},
        ["search.method random needs search.samples"],
    ),
    "no sample": ({"search": {"method": "random", "samples": 0}}, ["search.samples is 0"]),
    "asha over epochs": (
        {"stopping": {"scheduler": "asha"}, "space": {"epochs": {"grid": [4]}}},
        ["space.epochs: stopping.scheduler asha decides"],
    ),
    "reduction by nothing": (
        {"stopping": {"scheduler": "asha", "reduction_factor": 1}},
        ["reduction_factor is 1; expected", "2"],
    ),
    "no cores": ({"resources": {"cpus_per_trial": 0}}, ["resources.cpus_per_trial is 0"]),
    "one and a half GPUs": ({"resources": {"gpus_per_trial": 1.5}}, ["resources.gpus_per_trial is 1.5", "equal to 1"]),
    "negative GPUs": ({"resources": {"gpus_per_trial": -1}}, ["resources.gpus_per_trial is -1"]),
    "resources are a number": ({"resources": 5}, ["resources is 5; expected keys with their values"]),
    "name of a folder elsewhere": ({"name": "../other"}, ["name is '../other'; expected letters, digits"]),
    "negative retries": ({"retries": -1}, ["retries is -1"]),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults_of_a_sweep_file(case: str, tmp_path: Path) -> None:
    """One line that names the file, the key and what was expected, with the changes of the command line too."""
    changes, fragments = FAULTS[case]
    path = written(tmp_path, {key: value for key, value in (MINIMAL | changes).items() if value is not None})
    arguments: list[dict[str, Any]] = [{}, {"resources": {}}]
    for given_there in arguments:
        message = refused(partial(read_sweep_file, path, given_there))
        missing = "is missing" in message
        assert message.startswith(f"{path}: " if missing else f"{path}, line "), message
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
        ("models: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_files_that_are_no_sweep(text: str, fragment: str, tmp_path: Path) -> None:
    """The file, the line where there is one, and no code is run."""
    path = written(tmp_path, text)
    assert fragment in refused(lambda: read_sweep_file(path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, no text."""
    assert "No such file" in refused(lambda: read_sweep_file(tmp_path / "none.yaml"))
    assert "a folder; expected a file" in refused(lambda: read_sweep_file(tmp_path))
    (tmp_path / "latin.yaml").write_bytes(b"models: [\xff]")
    assert "UTF-8" in refused(lambda: read_sweep_file(tmp_path / "latin.yaml"))


@pytest.mark.parametrize(
    ("space", "search", "fragment"),
    [
        ({"learning_rate": {"uniform": [1, 2]}}, {"method": "random", "samples": 10**9}, "search.samples: up to 1,000"),
        ({"learning_rate": {"uniform": [1, 2]}}, {"method": "optuna", "samples": 10_001}, "samples: up to 10,001"),
        (
            {key: {"grid": list(range(1, 500))} for key in ("embedding_size", "epochs", "train_batch_size")},
            {"method": "grid"},
            "space: up to 124,251,499 trials; expected at most 10,000 in a sweep",
        ),
    ],
)
def test_more_trials_than_a_sweep_can_have(
    space: dict[str, Any], search: dict[str, Any], fragment: str, tmp_path: Path
) -> None:
    path = written(tmp_path, {"models": ["GRU4RecSoftmax"], "space": space, "search": search})
    message = refused(partial(plan_sweep, path))
    assert fragment in message
    assert len(message.splitlines()) == 1


FAULTY = """\
models: [GRU4RecMoS, GRU4RecSoftmx]
modles: 3
batch_size: 256
datasets: [ml-100k, ml-100k]
settings:
  lr: 0.1
  epochs: many
  MAX_ITEM_LIST_LENGTH: [10, 20]
space:
  embedding_size: [16, 32]
  batch_size: {grid: [1, 2]}
  lr: {grid: [0.1]}
  learning_rate:
    grid: [0.1, fast, 0.1]
  mos_heads: {grid: []}
  dropout_prob: {gird: [0.1], when: {embedding_size: 64}}
  hidden_size: {same_as: embeding_size}
  weight_decay: {grid: [0.1, none]}
seeds: 3
mode: min
retries: two
retries: many
"""
SAID = [
    (1, "unknown model 'GRU4RecSoftmx'; did you mean GRU4RecSoftmax"),
    (2, "unknown key 'modles'; did you mean models?"),
    (3, "unknown key 'batch_size'; write train_batch_size into settings"),
    (4, "datasets: 'ml-100k' is listed twice"),
    (6, "unknown key 'lr'; did you mean learning_rate?"),
    (7, "epochs is 'many'; expected a valid integer"),
    (
        8,
        "MAX_ITEM_LIST_LENGTH is [10, 20]; expected a valid integer; "
        "to sweep it, write MAX_ITEM_LIST_LENGTH: {grid: [10, 20]} into space",
    ),
    (10, "space.embedding_size is [16, 32]; write {grid: [16, 32]}"),
    (11, "space.batch_size: no model of this sweep has such a setting; did you mean train_batch_size?"),
    (12, "space.lr: no model of this sweep has such a setting; did you mean learning_rate?"),
    (14, "space.learning_rate.grid: 0.1 is listed twice"),
    (15, "space.mos_heads.grid is empty; write at least one value"),
    (16, "unknown key 'space.dropout_prob.gird'; did you mean grid?"),
    (17, "space.hidden_size.same_as: 'embeding_size' is no earlier parameter; did you mean embedding_size?"),
    (18, "weight_decay is 'none'; expected a valid number"),
    (19, "seeds is 3; write a list, [3]"),
    (20, "mode is 'min', but of NDCG@10 the maximum is best"),
    (22, "the key 'retries' occurs twice; leave one out"),
    (22, "retries is 'many'; expected a valid integer"),
]


def test_all_faults_at_once(tmp_path: Path) -> None:
    """Each on one line, by its line of the file: of the file's own keys, its models, its settings and its space."""
    path = written(tmp_path, FAULTY)
    lines = refused(lambda: plan_sweep(path)).splitlines()
    for number, said in SAID:
        assert [line for line in lines if line.startswith(f"{path}, line {number}: {said}")], (number, lines)
    assert len(lines) == len(SAID), lines
    assert lines == sorted(lines, key=lambda line: int(line.removeprefix(f"{path}, line ").partition(":")[0]))
    structure = refused(lambda: read_sweep_file(path)).splitlines()
    assert set(structure) < set(lines)


def test_what_the_command_line_replaces_has_no_line(tmp_path: Path) -> None:
    """Or the message would point at something that is right."""
    path = written(tmp_path, MINIMAL | {"seeds": [1], "resources": {"cpus_per_trial": 0, "fuse": 0}})
    found = refused(lambda: read_sweep_file(path, {"seeds": [-1], "resources": {"fuse": 0}})).splitlines()
    assert [line.partition(" is ")[0] for line in found] == [
        f"{path}, line 11: resources.cpus_per_trial",
        f"{path}: seeds.0",
        f"{path}: resources.fuse",
    ]


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
    """Are without faults: files, spaces, and the settings of every trial, which are the same for all seeds."""
    one_seed = {"seeds": read_sweep_file(path).seeds[:1]}
    planned = Planner(read_sweep_file(path, one_seed), path, []).trials()
    assert len({one.trial.run for one in planned}) == len(planned) > 0
