"""Sweeps without Ray: their files and spaces, the planning, scheduler and search, storage, and what is shown."""

import contextlib
import io
import itertools
import json
import logging
import math
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from pyarrow import fs
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from scipy.stats import kstest

from mos_recbole.cli.output import log_on_stderr
from mos_recbole.errors import InputError
from mos_recbole.experiment import run_experiment
from mos_recbole.results import SweepPlan, Trial, format_parameter
from mos_recbole.sweep import ClusterOptions, Planner, driver, prepare_ray, preview, read_sweep_file
from mos_recbole.sweep import plan as plan_module
from mos_recbole.sweep.driver import run_sweep
from mos_recbole.sweep.dry_run import training_seconds
from mos_recbole.sweep.ledger import Ledger
from mos_recbole.sweep.loggers import make_loggers
from mos_recbole.sweep.plan import PlannedTrial
from mos_recbole.sweep.progress import SweepProgress
from mos_recbole.sweep.scheduler import AshaPerModel
from mos_recbole.sweep.search import OptunaPerModel
from mos_recbole.sweep.space import Parameter, draw, expand_grid
from mos_recbole.sweep.storage import Storage
from mos_recbole.sweep.sweep_file import Resources, Stopping, SweepFile
from mos_recbole.sweep.trial import BEST, EPOCH, FINISHED

SMALL = {"hidden_size": 12, "MAX_ITEM_LIST_LENGTH": 10, "train_batch_size": 64, "epochs": 1}


MakePlanner = Callable[..., Planner]


@pytest.fixture
def planner(data: Path, tmp_path: Path) -> MakePlanner:
    """Returns a function (space, overrides=..., keys of a sweep file=...) -> planner of a small sweep."""

    def make(space: dict[str, Any], overrides: Iterable[str] = (), **content: Any) -> Planner:
        content = {"models": ["GRU4RecSoftmax", "GRU4RecMoS"], "datasets": [str(data)], "space": space} | content
        content["settings"] = SMALL | content.get("settings", {})
        return Planner(SweepFile.model_validate({"name": "small"} | content), tmp_path / "small.yaml", list(overrides))

    return make


def refused(call: Callable[[], Any]) -> str:
    """Returns the message with which a call refuses what the user gave."""
    with pytest.raises(InputError) as caught:
        call()
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------- sweep files


MINIMAL = {"models": ["Pop"], "space": {"embedding_size": {"grid": [4, 8]}}}


def written(folder: Path, content: Any) -> Path:
    """Returns a sweep file with this content."""
    path = folder / "small.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def random_search(space: dict[str, Any], method: str = "random") -> dict[str, Any]:
    return {"search": {"method": method, "samples": 2}, "space": space}


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


# ---------------------------------------------------------------------------------------------------- space


def full_product(space: dict[str, Parameter], model: str, known: set[str]) -> list[dict[str, Any]]:
    """Returns the combinations of a grid the plain way: all of them, without what does not hold, each once."""
    swept = [key for key, parameter in space.items() if parameter.grid is not None]
    found: list[dict[str, Any]] = []
    for values in itertools.product(*(space[key].grid or [] for key in swept)):
        of_key = dict(zip(swept, values, strict=True))
        chosen: dict[str, Any] = {}
        for key, parameter in space.items():
            facts = {"model": model, "dataset": "toy"} | chosen
            wanted = {name: value if isinstance(value, list) else [value] for name, value in parameter.when.items()}
            if key not in known or not all(name in facts and facts[name] in wanted[name] for name in wanted):
                continue
            if parameter.same_as is None:
                chosen[key] = of_key[key]
            elif parameter.same_as in chosen:
                chosen[key] = chosen[parameter.same_as]
        if chosen not in found:
            found.append(chosen)
    return found


@st.composite
def grids(draw_: st.DrawFn) -> dict[str, Parameter]:
    """Spaces of up to five grids, with conditions on the model and on earlier parameters, and some same_as."""
    space: dict[str, Parameter] = {}
    for number in range(draw_(st.integers(1, 5))):
        earlier = list(space)
        content: dict[str, Any] = {}
        if earlier and draw_(st.integers(0, 3)) == 0:
            content["same_as"] = draw_(st.sampled_from(earlier))
        else:
            content["grid"] = draw_(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True))
        names = draw_(st.lists(st.sampled_from(["model", *earlier]), max_size=2, unique=True))
        conditions = {
            "model": st.sampled_from(["A", "B", ["A", "B"]]),
            "parameter": st.one_of(st.integers(0, 3), st.lists(st.integers(0, 3), min_size=1, max_size=3)),
        }
        content["when"] = {name: draw_(conditions.get(name, conditions["parameter"])) for name in names}
        space[f"p{number}"] = Parameter.model_validate(content)
    return space


@settings(max_examples=150, deadline=None)
@given(grids(), st.sets(st.sampled_from([f"p{number}" for number in range(5)]), min_size=3))
def test_grids_are_the_product_of_their_values(space: dict[str, Parameter], known: set[str]) -> None:
    """Each combination that holds, once, in the order of the product, the last parameter fastest."""
    for model in ("A", "B"):
        assert expand_grid(space, model, "toy", known) == full_product(space, model, known)


def test_a_grid_of_nothing_is_one_trial() -> None:
    """A model that has none of the parameters is run once."""
    assert expand_grid({"mos_heads": Parameter(grid=[2, 4])}, "Pop", "toy", set()) == [{}]


CONTINUOUS = {
    "rate": Parameter(loguniform=[1e-4, 1.0]),
    "share": Parameter(uniform=[-1.0, 3.0]),
    "whole": Parameter(randint=[2, 5]),
    "word": Parameter(choice=["a", "b", None, True]),
}


def test_draws_are_repeatable_distinct_and_within_bounds() -> None:
    """By seed, model and data set; the distributions are the named ones (Kolmogorov-Smirnov, fixed seed)."""
    drawn = draw(CONTINUOUS, "A", "toy", set(CONTINUOUS), 500, 3)
    assert drawn == draw(CONTINUOUS, "A", "toy", set(CONTINUOUS), 500, 3)
    assert drawn[:20] == draw(CONTINUOUS, "A", "toy", set(CONTINUOUS), 20, 3)
    for other in (("B", "toy", 3), ("A", "tools", 3), ("A", "toy", 4)):
        again = draw(CONTINUOUS, other[0], other[1], set(CONTINUOUS), 20, other[2])
        assert not any(one in drawn for one in again)
    assert len({json.dumps(one) for one in drawn}) == 500
    table = pd.DataFrame(drawn)
    assert table.rate.between(1e-4, 1).all()
    assert table.share.between(-1, 3).all()
    assert kstest(np.log10(table.rate), "uniform", args=(-4, 4)).pvalue > 0.01
    assert kstest(table.share, "uniform", args=(-1, 4)).pvalue > 0.01
    assert set(table.whole) == {2, 3, 4}
    assert all(type(one["whole"]) is int and type(one["rate"]) is float for one in drawn)
    counts = table.word.map(repr).value_counts()
    assert set(counts.index) == {"'a'", "'b'", "None", "True"}
    assert counts.between(90, 160).all()


def test_small_spaces_run_out() -> None:
    """As many different draws as there are; conditions and unknown parameters leave fewer."""
    space = {
        "a": Parameter(choice=[1, 2]),
        "b": Parameter(choice=["x", "y"], when={"a": 2}),
        "c": Parameter(choice=[5, 6], when={"model": "B"}),
        "d": Parameter(same_as="a"),
    }
    known = set(space)
    drawn = draw(space, "A", "toy", known, 10, 0)
    expected: list[dict[str, Any]] = [{"a": 1, "d": 1}, {"a": 2, "b": "x", "d": 2}, {"a": 2, "b": "y", "d": 2}]
    assert sorted(map(str, drawn)) == sorted(map(str, expected))
    assert len(draw(space, "B", "toy", known, 10, 0)) == 6
    assert len(draw(space, "B", "toy", known, 4, 0)) == 4
    assert draw(space, "A", "toy", {"c"}, 10, 0) == [{}]


# ---------------------------------------------------------------------------------------------------- planning


GRID = {"embedding_size": {"grid": [4, 8]}, "mos_heads": {"grid": [2, 3]}}

BAD_PLANS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no model has it": ({"space": {"n_heads": {"grid": [1, 2]}}}, ["space.n_heads: no model of this sweep"]),
    "unknown model": ({"models": ["GRU4RecMos"]}, ["'GRU4RecMos'", "GRU4RecMoS"]),
    "unknown data set": ({"datasets": ["no-such-data"]}, ["no-such-data.inter"]),
    "model never in the sweep": (
        {"space": {"mos_heads": {"grid": [2], "when": {"model": "SASRecMoS"}}}},
        ["space.mos_heads.when: model is never 'SASRecMoS'"],
    ),
    "one model of two never in the sweep": (
        {"space": {"mos_heads": {"grid": [2], "when": {"model": ["GRU4RecMoS", "gru"]}}}},
        ["space.mos_heads.when: model is never 'gru'"],
    ),
    "data set never in the sweep": (
        {"space": {"mos_heads": {"grid": [2], "when": {"dataset": "ml-100k"}}}},
        ["space.mos_heads.when: dataset is never 'ml-100k'"],
    ),
    "value never taken": (
        {"space": {"embedding_size": {"grid": [4, 8]}, "mos_heads": {"grid": [2], "when": {"embedding_size": 16}}}},
        ["space.mos_heads.when: embedding_size is never 16"],
    ),
    "condition on a later parameter": (
        {"space": {"mos_heads": {"grid": [2], "when": {"embedding_size": 4}}, "embedding_size": {"grid": [4]}}},
        ["space.mos_heads.when: 'embedding_size' is neither model, dataset nor an earlier parameter"],
    ),
    "same as nothing": (
        {"space": {"hidden_size": {"same_as": "width"}}},
        ["hidden_size.same_as: 'width' is no earlier"],
    ),
    "same as itself": ({"space": {"hidden_size": {"same_as": "hidden_size"}}}, ["is no earlier parameter"]),
    "seed in the settings": ({"settings": {"seed": 3}}, ["settings.seed: a sweep sets it by seeds"]),
    "metric in the settings": ({"settings": {"valid_metric": "MRR@10"}}, ["settings.valid_metric", "by metric"]),
    "seed in the space": ({"space": {"seed": {"grid": [1, 2]}}}, ["space.seed: a sweep sets it by seeds"]),
    "seed as argument": ({"overrides": ["--seed=3"]}, ["arguments.seed: a sweep sets it by seeds"]),
    "swept key as argument": ({"overrides": ["--mos_heads=4"]}, ["--mos_heads: this sweep varies mos_heads"]),
    "metric that is not computed": ({"metric": "NDCG@7"}, ["NDCG@7", "NDCG@10"]),
    "value of the wrong type": ({"space": {"learning_rate": {"grid": [0.1, "fast"]}}}, ["learning_rate", "'fast'"]),
    "value out of range": ({"space": {"learning_rate": {"grid": [0.1, -1.0]}}}, ["learning_rate", "-1.0"]),
    "protocol": (
        {"space": {"filter_seen": {"grid": [True, False]}}},
        ["filter_seen changes what is measured", "a sweep for each value"],
    ),
    "data": (
        {"space": {"user_inter_num_interval": {"grid": ["[0,inf)", "[6,inf)"]}}},
        ["user_inter_num_interval changes what is measured"],
    ),
    "no effect": (
        {"space": {"eval_batch_size": {"grid": [64, 128]}}},
        ["space: eval_batch_size cannot change the results of GRU4RecSoftmax"],
    ),
    "no effect on one model": (
        {"models": ["GRU4RecSoftmax", "Pop"], "space": {"epochs": {"grid": [1, 2]}}},
        ["space: epochs cannot change the results of Pop"],
    ),
    "missing file of settings": ({"config": ["none.yaml"]}, ["none.yaml", "No such file"]),
}


@pytest.mark.parametrize("case", BAD_PLANS)
def test_plans_that_are_refused(case: str, planner: MakePlanner) -> None:
    """Before anything runs, each fault in one line, once for all the trials that have it."""
    changes, fragments = BAD_PLANS[case]
    message = refused(lambda: planner(**({"space": GRID} | changes)).trials())
    for fragment in fragments:
        assert fragment in message
    assert len(set(message.splitlines())) == len(message.splitlines())


@pytest.mark.parametrize("method", ["random", "optuna"])
@pytest.mark.parametrize("case", ["value out of range", "protocol", "no effect", "unknown data set"])
def test_plans_of_searches_that_are_refused(method: str, case: str, planner: MakePlanner) -> None:
    """What Optuna will suggest is not known, but what its space is made of is: refused before Ray starts."""
    changes, fragments = BAD_PLANS[case]
    changes = {"space": GRID} | changes
    space = {key: {"choice": value["grid"]} for key, value in changes["space"].items()}
    searched = changes | random_search(space, method)
    searched["search"]["samples"] = 8
    message = refused(lambda: planner(**searched).trials())
    # Draws come in any order, so the model that is named may be another one.
    for fragment in (fragment.partition(" of GRU4Rec")[0] for fragment in fragments):
        assert fragment in message


def test_two_data_sets_of_one_name(planner: MakePlanner, data: Path, tmp_path: Path) -> None:
    """Their runs' folders could not be told apart by a reader, nor could a condition."""
    other = shutil.copytree(data, tmp_path / "other" / "toy")
    message = refused(lambda: planner(GRID, datasets=[str(data), str(other)]))
    assert "two of them have the same name" in message


def test_trials_of_a_grid(planner: MakePlanner) -> None:
    """Every configuration and seed of every model, numbered; a model without a parameter is run without it."""
    planned = planner(GRID, seeds=[3, 1]).trials()
    found = [(one.trial.model, one.trial.parameters, one.trial.seed) for one in planned]
    softmax = [{"embedding_size": 4}, {"embedding_size": 8}]
    mixture = [{"embedding_size": size, "mos_heads": heads} for size in (4, 8) for heads in (2, 3)]
    assert found == [
        (model, parameters, seed)
        for model, configurations in (("GRU4RecSoftmax", softmax), ("GRU4RecMoS", mixture))
        for parameters in configurations
        for seed in (3, 1)
    ]
    assert [one.trial.number for one in planned] == list(range(1, 13))
    for one in planned:
        values = one.settings.values
        assert {key: values[key] for key in one.trial.parameters} == one.trial.parameters
        assert (values["seed"], values["valid_metric"], values["hidden_size"]) == (one.trial.seed, "NDCG@10", 12)
    largest = max(planned, key=lambda one: one.work)
    assert largest.trial.parameters == {"embedding_size": 8, "mos_heads": 3}


def test_files_arguments_and_the_sweep_s_settings(planner: MakePlanner, tmp_path: Path) -> None:
    """Files, then settings, then arguments, then the space; what all trials share is in the plan."""
    (tmp_path / "base.yaml").write_text("epochs: 7\nlearning_rate: 0.5\ndropout_prob: 0.25\nmos_heads: 9\n")
    made = planner(GRID, config=["base.yaml"], settings={"learning_rate": 0.1}, overrides=["--dropout_prob=0.125"])
    for one in made.trials():
        values = one.settings.values
        assert (values["epochs"], values["learning_rate"], values["dropout_prob"]) == (1, 0.1, 0.125)
        assert values.get("mos_heads") == one.trial.parameters.get("mos_heads")
    assert made.plan().settings.items() >= {"learning_rate": 0.1, "dropout_prob": 0.125, "mos_heads": 9}.items()


def test_plans_are_the_same_after_they_were_written(planner: MakePlanner) -> None:
    """Or no sweep could go on."""
    space: dict[str, Any] = {
        "embedding_size": {"randint": [4, 9]},
        "hidden_size": {"same_as": "embedding_size"},
        "learning_rate": {"loguniform": [1e-4, 1e-2], "when": {"model": "GRU4RecMoS"}},
    }
    for plan in (
        planner(space, search={"method": "optuna", "samples": 3}, stopping={"scheduler": "asha"}).plan(),
        planner(GRID, seeds=[1, 2], metric="gauc").plan(),
    ):
        assert SweepPlan.model_validate_json(plan.model_dump_json()) == plan


def test_searches_run_the_first_seed_only(planner: MakePlanner) -> None:
    """An adaptive search compares by it; the winners get the others later. Optuna's trials are not known yet."""
    space = {"embedding_size": {"choice": [4, 8]}}
    asha = planner(GRID, seeds=[3, 1], stopping={"scheduler": "asha"})
    assert {one.trial.seed for one in asha.trials()} == {3}
    random = planner(**random_search(space), seeds=[3, 1])
    assert [one.trial.seed for one in random.trials()] == [3, 1] * 4
    optuna = planner(**random_search(space, "optuna"), seeds=[3, 1])
    assert optuna.trials() == []
    examples = [(one.trial.model, one.trial.seed) for one in optuna.preview()]
    assert examples == [("GRU4RecSoftmax", 3)] * 2 + [("GRU4RecMoS", 3)] * 2


def test_equal_data_are_read_once(planner: MakePlanner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the models and their parameters are."""
    read: list[str] = []

    def count(one: Any) -> str:
        read.append(one.model)
        return "fingerprint"

    monkeypatch.setattr(plan_module, "data_fingerprint", count)
    assert len(planner(GRID).trials()) == 6
    assert len(read) == 1


def test_last_epochs(planner: MakePlanner) -> None:
    """Of each model, also where the settings are complete with swept ones only (32 has no three heads)."""
    made = planner(
        {"hidden_size": {"grid": [12, 24]}},
        models=["SASRecSoftmax", "Pop"],
        settings={"epochs": 5, "n_heads": 3, "hidden_size": 32},
        stopping={"scheduler": "asha"},
    )
    assert {model: made.epochs(model, dataset) for model, dataset in made.known} == {"SASRecSoftmax": 5, "Pop": 1}


def test_a_trial_is_the_run_that_it_says(planner: MakePlanner, tmp_path: Path) -> None:
    """The folder that `run_experiment` makes has the planned name, so that no run needs to be looked for."""
    for one in planner({"embedding_size": {"grid": [4]}, "learning_rate": {"grid": [0.01]}}, seeds=[5]).trials():
        record = run_experiment(one.settings, output=tmp_path, device="cpu")
        assert record.folder == one.trial.folder(tmp_path)
        assert record.run_id == one.trial.run_id
        assert (record.seed, record.settings["learning_rate"]) == (5, 0.01)
        assert one.trial.status(tmp_path) == "finished"


# ---------------------------------------------------------------------------------------------------- asha


def ray_trial(run: str, model: str = "A") -> Any:
    """Returns what the scheduler looks at of one of Ray's trials."""
    return SimpleNamespace(config={"trial": {"model": model, "dataset": "toy", "run": run}})


NOBODY: Any = None


class Simulation:
    """Trials that report to a scheduler until it stops them, in any order.

    Args:
        curves: of each trial, the validation after each epoch.
        models: of each trial.
    """

    def __init__(
        self, scheduler: AshaPerModel, curves: dict[str, list[float]], mode: str, models: dict[str, str]
    ) -> None:
        self.scheduler, self.curves, self.models = scheduler, curves, models
        best_of = np.maximum if mode == "max" else np.minimum
        self.best = {run: best_of.accumulate(curve).tolist() for run, curve in curves.items()}
        self.epoch = dict.fromkeys(curves, 0)
        self.stopped: set[str] = set()
        for run in curves:
            scheduler.on_trial_add(NOBODY, ray_trial(run, models[run]))

    @property
    def running(self) -> list[str]:
        return [run for run, curve in self.curves.items() if self.epoch[run] < len(curve) and run not in self.stopped]

    def step(self, run: str) -> str:
        """Returns what the scheduler decides about the next epoch of a trial."""
        self.epoch[run] += 1
        epoch, trial = self.epoch[run], ray_trial(run, self.models[run])
        result = {EPOCH: epoch, BEST: self.best[run][epoch - 1]}
        decision = self.scheduler.on_trial_result(NOBODY, trial, result)
        if decision == TrialScheduler.STOP:
            self.stopped.add(run)
        elif epoch == len(self.curves[run]):
            result |= {FINISHED: True}
            assert self.scheduler.on_trial_result(NOBODY, trial, result) == TrialScheduler.CONTINUE
            self.scheduler.on_trial_complete(NOBODY, trial, result)
        return decision

    def reached(self, run: str) -> float:
        """Returns the best validation of what a trial has run."""
        return self.best[run][self.epoch[run] - 1]

    def log(self, run: str, metric: str) -> pd.DataFrame:
        """Returns a trial's training log so far."""
        epochs = self.epoch[run]
        return pd.DataFrame({"epoch": range(1, epochs + 1), metric: self.curves[run][:epochs]})


@st.composite
def races(draw_: st.DrawFn) -> tuple[dict[str, list[float]], int, Stopping, str, int]:
    """Curves of trials that end at the last epoch or before, the last epoch, a stopping, a mode and a seed."""
    last = draw_(st.integers(1, 30))
    values = st.sampled_from([0.0, 0.1, 0.2, 0.30000000000000004, 0.3, 0.7, 0.9])
    curve = st.lists(values, min_size=1, max_size=last)
    curves = draw_(st.lists(curve, min_size=1, max_size=10))
    stopping = Stopping(
        scheduler="asha", grace_epochs=draw_(st.integers(1, 5)), reduction_factor=draw_(st.integers(2, 4))
    )
    named = {f"run-{number}": curve for number, curve in enumerate(curves)}
    return named, last, stopping, draw_(st.sampled_from(["max", "min"])), draw_(st.integers(0, 2**32 - 1))


@settings(max_examples=150, deadline=None)
@given(races())
def test_the_best_trial_always_goes_on_to_its_end(race: Any) -> None:
    """In whatever order trials report: what is stopped is worse than something that was not."""
    curves, last, stopping, mode, seed = race
    simulation = Simulation(
        AshaPerModel(stopping, {("A", "toy"): last}, mode), curves, mode, dict.fromkeys(curves, "A")
    )
    generator = np.random.default_rng(seed)
    while simulation.running:
        simulation.step(str(generator.choice(simulation.running)))
    sign = 1 if mode == "max" else -1
    survivors = [sign * simulation.reached(run) for run in curves if run not in simulation.stopped]
    assert survivors
    for run in simulation.stopped:
        assert sign * simulation.reached(run) < max(survivors)
        assert stopping.grace_epochs <= simulation.epoch[run] < last


@settings(max_examples=100, deadline=None)
@given(races(), st.floats(0, 1))
def test_reports_of_earlier_sessions_are_remembered(race: Any, share: float) -> None:
    """A scheduler that was told of the logs decides as the one that saw the reports as they came."""
    curves, last, stopping, mode, seed = race
    lasts, models = {("A", "toy"): last}, dict.fromkeys(curves, "A")
    live = Simulation(AshaPerModel(stopping, lasts, mode), curves, mode, models)
    generator = np.random.default_rng(seed)
    for _ in range(int(share * sum(map(len, curves.values())))):
        if live.running:
            live.step(str(generator.choice(live.running)))
    scheduler = AshaPerModel(stopping, lasts, mode)
    for run in curves:
        scheduler.remember(("A", "toy"), run, live.log(run, "MRR@10"), "MRR@10", mode)
    again = Simulation(scheduler, curves, mode, models)
    again.epoch, again.stopped = dict(live.epoch), set(live.stopped)
    while live.running:
        run = str(generator.choice(live.running))
        assert live.step(run) == again.step(run)
    assert live.stopped == again.stopped


def test_epochs_without_validation_are_remembered() -> None:
    """Logs have gaps where not every epoch is validated, and no metric before the first validation."""
    stopping = Stopping(scheduler="asha", grace_epochs=2, reduction_factor=2)
    scheduler = AshaPerModel(stopping, {("A", "toy"): 8}, "max")
    scheduler.remember(("A", "toy"), "new", pd.DataFrame({"epoch": [1], "loss": [7.0]}), "MRR@10", "max")
    gaps = pd.DataFrame({"epoch": [1, 2, 3], "MRR@10": [math.nan, 0.5, math.nan]})
    scheduler.remember(("A", "toy"), "good", gaps, "MRR@10", "max")
    scheduler.on_trial_add(NOBODY, ray_trial("bad"))
    assert scheduler.on_trial_result(NOBODY, ray_trial("bad"), {EPOCH: 2, BEST: 0.4}) == TrialScheduler.STOP
    scheduler.on_trial_add(NOBODY, ray_trial("new"))
    assert scheduler.on_trial_result(NOBODY, ray_trial("new"), {EPOCH: 2, BEST: 0.6}) == TrialScheduler.CONTINUE


def test_models_do_not_stop_each_other() -> None:
    """However good another model is, and in whatever order they come, the decisions are those of the model alone."""
    generator = np.random.default_rng(0)
    weak = {f"weak-{number}": generator.uniform(0.0, 0.1, 9).tolist() for number in range(9)}
    strong = {f"strong-{number}": generator.uniform(0.8, 0.9, 9).tolist() for number in range(9)}
    stopping = Stopping(scheduler="asha", grace_epochs=1, reduction_factor=3)

    def stopped(curves: dict[str, list[float]]) -> set[str]:
        models = {run: run.partition("-")[0] for run in curves}
        scheduler = AshaPerModel(stopping, {("weak", "toy"): 9, ("strong", "toy"): 9}, "max")
        simulation = Simulation(scheduler, curves, "max", models)
        while simulation.running:
            for run in simulation.running:
                simulation.step(run)
        return simulation.stopped

    assert stopped(strong | weak) == stopped(weak) | stopped(strong)
    assert 0 < len(stopped(weak)) < 9


def test_models_with_fewer_epochs_than_the_grace() -> None:
    """Such as Pop, which has one: nothing is stopped."""
    stopping = Stopping(scheduler="asha", grace_epochs=3)
    scheduler = AshaPerModel(stopping, {("A", "toy"): 1}, "max")
    curves = {f"run-{number}": [1.0 - number] for number in range(5)}
    simulation = Simulation(scheduler, curves, "max", dict.fromkeys(curves, "A"))
    assert {simulation.step(run) for run in curves} == {TrialScheduler.CONTINUE}


# ---------------------------------------------------------------------------------------------------- optuna


class Search:
    """A search by Optuna, and what it handed out."""

    def __init__(self, planner: Planner, unfinished: list[PlannedTrial] | None = None, ended: Any = ()) -> None:
        self.registered: list[PlannedTrial] = []
        unfinished = unfinished or []
        number = 1 + len(unfinished) + len(ended)
        self.search = OptunaPerModel(planner, unfinished, ended, number, self.registered.append)
        self.handed_out: dict[str, dict[str, Any]] = {}

    def next(self) -> dict[str, Any] | None:
        """Returns the next trial as a worker gets it; None where there are no more."""
        trial_id = f"trial-{len(self.handed_out)}"
        suggested = self.search.suggest(trial_id)
        if suggested == Searcher.FINISHED:
            return None
        self.handed_out[trial_id] = suggested["trial"]
        return suggested["trial"]

    def end(self, value: float | None) -> None:
        """Ends the latest trial with a best validation, or with an error."""
        trial_id = f"trial-{len(self.handed_out) - 1}"
        self.search.on_trial_complete(trial_id, None if value is None else {BEST: value}, error=value is None)

    def run_all(self, score: Callable[[dict[str, Any]], float | None] = lambda trial: 0.5) -> list[dict[str, Any]]:
        """Returns all further trials, each ended before the next one is asked for."""
        found = []
        while (trial := self.next()) is not None:
            found.append(trial)
            self.end(score(trial))
        return found


CONDITIONAL = {
    "embedding_size": {"choice": [4, 8, 16]},
    "hidden_size": {"same_as": "embedding_size"},
    "learning_rate": {"loguniform": [1e-3, 1e-1]},
    "dropout_prob": {"uniform": [0, 0.5], "when": {"embedding_size": [8, 16]}},
    "mos_heads": {"randint": [2, 5]},
}


def test_optuna_tries_every_model_equally_often(planner: MakePlanner, capfd: pytest.CaptureFixture[str]) -> None:
    """In turns; with numbers in order, each trial registered before it is handed out; nothing is printed."""
    search = Search(planner(CONDITIONAL, search={"method": "optuna", "samples": 4}))
    trials = search.run_all()
    assert [trial["model"] for trial in trials] == ["GRU4RecSoftmax", "GRU4RecMoS"] * 4
    assert len({trial["run"] for trial in trials}) == 8
    assert [one.trial.run for one in search.registered] == [trial["run"] for trial in trials]
    assert [one.trial.number for one in search.registered] == list(range(1, 9))
    for one in search.registered:
        parameters = one.trial.parameters
        assert parameters["hidden_size"] == parameters["embedding_size"]
        assert ("dropout_prob" in parameters) == (parameters["embedding_size"] > 4)
        assert ("mos_heads" in parameters) == (one.trial.model == "GRU4RecMoS")
        assert parameters.get("mos_heads", 2) in (2, 3, 4)
        assert 1e-3 <= parameters["learning_rate"] <= 1e-1
    assert search.next() is None
    assert capfd.readouterr() == ("", "")


def test_optuna_goes_on_after_a_restart(planner: MakePlanner) -> None:
    """With what was unfinished, then with new trials up to the same number; nothing is run twice."""
    made = planner(CONDITIONAL, search={"method": "optuna", "samples": 5})
    first = Search(made)
    for _ in range(3):
        first.next()
        first.end(0.1)
    first.next()
    first.end(None)  # failed
    for _ in range(2):
        first.next()
    ended = list(zip(first.registered[:4], [0.1, 0.1, 0.1, None], strict=True))
    unfinished = first.registered[4:]
    again = Search(made, unfinished, ended)
    trials = again.run_all()
    assert [trial["run"] for trial in trials[:2]] == [one.trial.run for one in unfinished]
    runs = [one.trial.run for one in [*first.registered, *again.registered]]
    assert len(set(runs)) == len(runs) == 10
    assert [one.trial.number for one in again.registered] == [7, 8, 9, 10]
    models = [one.trial.model for one in [*first.registered, *again.registered]]
    assert models.count("GRU4RecMoS") == models.count("GRU4RecSoftmax") == 5


@pytest.mark.parametrize("samples", [6, 20])
def test_optuna_finds_all_of_a_small_space_and_ends(samples: int, planner: MakePlanner) -> None:
    """Each configuration once, however often it suggests the best one."""
    space = {"embedding_size": {"choice": [4, 8, 16]}, "mos_heads": {"choice": [2, 3]}}
    made = planner(space, models=["GRU4RecMoS"], search={"method": "optuna", "samples": samples})
    search = Search(made)
    trials = search.run_all(lambda trial: 1.0 if trial["embedding_size"] == 4 else 0.0)
    found = sorted((trial["embedding_size"], trial["mos_heads"]) for trial in trials)
    assert found == [(size, heads) for size in (4, 8, 16) for heads in (2, 3)]
    assert Search(made, [], [(one, 0.5) for one in search.registered]).next() is None


def test_optuna_learns_from_validation(planner: MakePlanner) -> None:
    """Its later suggestions are nearer to the best value than random ones are; also after a restart."""
    space = {"dropout_prob": {"uniform": [0, 0.9]}}
    made = planner(space, models=["GRU4RecSoftmax"], search={"method": "optuna", "samples": 60, "seed": 1})

    def distance(trial: dict[str, Any]) -> float:
        return abs(trial["dropout_prob"] - 0.7)

    for restart in (False, True):
        search = Search(made)
        for _ in range(30):
            search.end(-distance(search.next() or {}))
        if restart:
            ended = [(one, -distance(one.trial.parameters)) for one in search.registered]
            search = Search(made, [], ended)
        later = [distance(trial) for trial in search.run_all(lambda trial: -distance(trial))]
        assert len(later) == 30
        assert np.mean(later) < 0.15  # of random ones: 0.29


def test_optuna_passes_over_combinations_that_a_model_refuses(planner: MakePlanner) -> None:
    """A width that heads do not divide is no trial, and does not end the search."""
    space = {"hidden_size": {"choice": [12, 24, 36, 48]}, "n_heads": {"choice": [1, 2, 3, 5]}}
    made = planner(space, models=["SASRecSoftmax"], search={"method": "optuna", "samples": 12})
    search = Search(made)
    trials = search.run_all()
    assert len(trials) == 12
    assert all(trial["n_heads"] != 5 for trial in trials)


def test_optuna_is_not_pickled(planner: MakePlanner, tmp_path: Path) -> None:
    """Ray saves its search; what a sweep goes on from is its own files."""
    search = Search(planner(CONDITIONAL, search={"method": "optuna", "samples": 2}))
    search.next()
    assert pickle.loads(pickle.dumps(search.search)).__dict__ == {}
    search.search.save(str(tmp_path / "state"))
    assert (tmp_path / "state").read_bytes() == b""


# ---------------------------------------------------------------------------------------------------- storage


FILES = ("best.pt", "last.pt", "training_log.csv", "outcomes.parquet", "record.json")


def a_run(folder: Path) -> Path:
    """Returns the folder of a run with files."""
    run = folder / "runs" / "GRU4Rec-toy-seed1-0123456789abcdef"
    run.mkdir(parents=True)
    for name in FILES:
        (run / name).write_text(f"content of {name}")
    return run


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_runs_come_back_from_a_storage(scheme: str, tmp_path: Path) -> None:
    """A path or a URI; with checkpoints or without; nothing else is left there."""
    run = a_run(tmp_path / "there")
    storage = Storage(f"{scheme}{tmp_path}/kept", "small")
    storage.push(run)
    assert names_in(tmp_path / "kept" / "small" / run.name) == set(FILES)
    assert names_in(tmp_path / "kept" / "small") == {run.name}
    other = Storage(f"{scheme}{tmp_path}/kept", "small")
    other.fetch(tmp_path / "here" / run.name, checkpoints=True)
    assert {name: (tmp_path / "here" / run.name / name).read_text() for name in FILES} == {
        name: f"content of {name}" for name in FILES
    }
    other.fetch(tmp_path / "results" / run.name, checkpoints=False)
    assert names_in(tmp_path / "results" / run.name) == set(FILES[2:])


def test_what_is_not_in_a_storage_leaves_nothing(tmp_path: Path) -> None:
    """Not even a folder, by which the results folder would be taken for another's."""
    Storage(str(tmp_path / "kept"), "small").fetch(tmp_path / "results" / "runs" / "none", checkpoints=True)
    assert not (tmp_path / "results").exists()


def test_only_what_is_new_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After every epoch a run's folder is pushed; what has not changed is not sent again."""
    copied: list[str] = []
    copy = fs.copy_files

    def counting(source: str, *rest: Any) -> None:
        copied.append(Path(source).name)
        copy(source, *rest)

    monkeypatch.setattr(fs, "copy_files", counting)
    run = a_run(tmp_path)
    storage = Storage(str(tmp_path / "kept"), "small")
    storage.push(run)
    assert copied == list(FILES)
    storage.push(run)
    assert copied == list(FILES)
    (run / "last.pt").write_text("the next epoch")
    storage.push(run)
    assert copied == [*FILES, "last.pt"]
    assert (tmp_path / "kept" / "small" / run.name / "last.pt").read_text() == "the next epoch"


@pytest.mark.parametrize("broken", FILES)
def test_a_copy_that_was_cut_short_is_not_seen(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is a run that was cut short itself: no record without all that belongs to it."""
    copy = fs.copy_files

    def dying(source: str, target: str, *rest: Any) -> None:
        if Path(source).name == broken:
            Path(target).write_text(Path(source).read_text()[:5])
            raise KeyboardInterrupt
        copy(source, target, *rest)

    run = a_run(tmp_path)
    storage = Storage(str(tmp_path / "kept"), "small")
    with monkeypatch.context() as patch:
        patch.setattr(fs, "copy_files", dying)
        with pytest.raises(KeyboardInterrupt):
            storage.push(run)
    there = tmp_path / "fetched" / run.name
    Storage(str(tmp_path / "kept"), "small").fetch(there, checkpoints=True)
    complete = FILES[: FILES.index(broken)]
    assert (names_in(there) if there.exists() else set()) == set(complete)
    assert all((there / name).read_text() == f"content of {name}" for name in complete)
    storage.push(run)
    Storage(str(tmp_path / "kept"), "small").fetch(there, checkpoints=True)
    assert names_in(there) == set(FILES)


def test_a_fetch_that_was_cut_short_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half record would be a broken one."""
    run = a_run(tmp_path)
    storage = Storage(str(tmp_path / "kept"), "small")
    storage.push(run)

    def dying(source: str, target: str, *rest: Any) -> None:
        Path(target).write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fs, "copy_files", dying)
        with pytest.raises(KeyboardInterrupt):
            storage.fetch(tmp_path / "here" / run.name, checkpoints=True)
    assert not any((tmp_path / "here" / run.name / name).exists() for name in FILES)


def test_storages_that_are_refused(tmp_path: Path) -> None:
    """An unknown scheme, and places that cannot be written to."""
    (tmp_path / "file").write_text("precious")
    places = ("gopher://somewhere", str(tmp_path / "file"), f"file://{tmp_path}/file/below")
    for place in places:
        message = refused(lambda place=place: Storage(place, "small").require_writable())  # type: ignore[misc]
        assert f"storage {place}: " in message
        assert "expected a folder or URI" in message
        assert len(message.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "precious"


# ---------------------------------------------------------------------------------------------------- driver


class Driven:
    """Sweeps whose trials run here and in turn: all of the driver but Ray.

    Attributes:
        tuned: for each call of Ray Tune, whether it was for the winners of the search, and the runs.
    """

    def __init__(self, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.tuned = output / "small", list[tuple[bool, list[str]]]()
        self.answers, self.most = True, 1000
        monkeypatch.setattr(driver, "cluster", self._cluster)
        monkeypatch.setattr(driver, "_tune", self._tune)

    @contextlib.contextmanager
    def _cluster(self, _: ClusterOptions) -> Iterator[list[dict[str, float]]]:
        if not self.answers:
            raise InputError("Ray at nowhere: nobody answers")
        yield [{"CPU": 1.0}]

    def _tune(self, ledger: Ledger, progress: Any, loggers: Any, *, winners: bool = False) -> None:
        trials = ledger.unfinished(winners=winners)
        self.tuned.append((winners, [one.trial.run for one in trials]))
        for one in trials:
            if not self.most:
                raise KeyboardInterrupt
            self.most -= 1
            run_experiment(one.settings, output=ledger.folder, device="cpu", resume=True)

    def run(self, planner: Planner, storage: str | None = None) -> list[Trial]:
        self.tuned.clear()
        return run_sweep(planner, self.folder, ClusterOptions(storage=storage), quiet=True)


def test_winners_are_not_stopped_after_a_restart(planner: MakePlanner, tmp_path: Path, monkeypatch) -> None:
    """Further seeds of an adaptive search train to their end, also those that an interruption left unfinished."""
    made = planner(
        {"learning_rate": {"grid": [0.01, 0.03]}},
        models=["GRU4RecSoftmax"],
        seeds=[1, 2],
        stopping={"scheduler": "asha"},
    )
    driven = Driven(tmp_path, monkeypatch)
    driven.most = 2
    with pytest.raises(KeyboardInterrupt):
        driven.run(made)
    assert [(winners, len(runs)) for winners, runs in driven.tuned] == [(False, 2), (True, 1)]
    (winner,) = driven.tuned[1][1]
    driven.most = 1
    trials = driven.run(made)
    assert driven.tuned == [(True, [winner])]
    assert [(trial.seed, trial.status(driven.folder)) for trial in trials] == [
        (1, "finished"),
        (1, "finished"),
        (2, "finished"),
    ]
    scores = [trial.best_validation(driven.folder, "NDCG@10", "max") or 0 for trial in trials[:2]]
    assert trials[2].parameters == trials[int(np.argmax(scores))].parameters
    driven.answers = False
    assert driven.run(made) == trials
    assert driven.tuned == []


def test_a_refusal_by_ray_leaves_the_folder_as_new(planner: MakePlanner, tmp_path: Path, monkeypatch) -> None:
    """Also where a storage holds runs already, which are taken over once Ray is there."""
    made = planner({"learning_rate": {"grid": [0.01, 0.03]}}, models=["GRU4RecSoftmax"])
    first, second = made.trials()
    kept = str(tmp_path / "kept")
    run_experiment(first.settings, output=tmp_path / "elsewhere", device="cpu")
    Storage(kept, "small").push(first.trial.folder(tmp_path / "elsewhere"))
    driven = Driven(tmp_path / "results", monkeypatch)
    driven.answers = False
    assert "nobody answers" in refused(lambda: driven.run(made, kept))
    assert names_in(driven.folder) <= {".lock"}
    driven.answers = True
    trials = driven.run(made, kept)
    assert [trial.status(driven.folder) for trial in trials] == ["finished"] * 2
    assert driven.tuned == [(False, [second.trial.run])]


def test_trials_of_a_small_space_are_not_missed(planner: MakePlanner, tmp_path: Path, monkeypatch) -> None:
    """Optuna was asked for more than there is: once all of it has run, nothing is left to do."""
    space = {"embedding_size": {"choice": [4, 8]}}
    made = planner(space, models=["GRU4RecSoftmax"], search={"method": "optuna", "samples": 9})
    driven = Driven(tmp_path, monkeypatch)

    def suggest(ledger: Ledger, *_: Any) -> None:
        for one in made.preview():
            ledger.add(one)
            run_experiment(one.settings, output=ledger.folder, device="cpu")

    monkeypatch.setattr(driver, "_tune", suggest)
    trials = driven.run(made)
    assert [trial.status(driven.folder) for trial in trials] == ["finished"] * 2
    driven.answers = False
    assert driven.run(made) == trials


# ---------------------------------------------------------------------------------------------------- dry run


def timed_by_size(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes a trial take as many seconds as its width; returns the widths that are timed."""
    timed: list[int] = []

    def time_training(one: Any, device: str) -> float:
        timed.append(one.values["embedding_size"])
        return float(timed[-1])

    monkeypatch.setattr("mos_recbole.sweep.dry_run.time_training", time_training)
    return timed


def test_costs(planner: MakePlanner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest, a middle and the largest trial of each model are timed, the others interpolated."""
    timed = timed_by_size(monkeypatch)
    made = planner({"embedding_size": {"grid": [4, 8, 12, 16, 20]}}, seeds=[1, 2])
    trials = made.trials()
    assert training_seconds(trials, "cpu") == pytest.approx([one.trial.parameters["embedding_size"] for one in trials])
    assert sorted(timed) == [4, 4, 12, 12, 20, 20]
    for cores, elapsed in ((4, "0:01:00"), (1000, "0:00:20")):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        expected = f"about 0:04:00 in all, 0:00:20 for the longest trial, {elapsed} with {cores} at a time"
        assert expected in preview(made, local=True)


def rows_of(text: str) -> list[list[str]]:
    """Returns the cells of the table in a preview."""
    lines = text.split("\n\n")[0].splitlines()
    ends = [match.span() for match in re.finditer("-+", lines[1])]
    return [[line[start:end].strip() for start, end in ends] for line in [lines[0], *lines[2:]]]


def test_what_a_dry_run_shows(planner: MakePlanner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for each configuration with its seeds, the counts, and the time, by as many as run at a time."""
    timed_by_size(monkeypatch)
    made = planner(GRID, seeds=[3, 1], resources={"max_concurrent": 1})
    text = preview(made, local=True)
    head, *rows = rows_of(text)
    assert head == ["model", "data", "embedding_size", "mos_heads", "seeds"]
    assert rows == [
        ["GRU4RecSoftmax", "toy", "4", "", "3 1"],
        ["GRU4RecSoftmax", "toy", "8", "", "3 1"],
        *(["GRU4RecMoS", "toy", size, heads, "3 1"] for size in "48" for heads in "23"),
    ]
    assert "12 trials: 6 configurations, 2 seeds." in text
    # With 2 seeds: 4 and 8 s; then 4, 8 and 8 s for 8, 16 and 24 units of work, and 6 s between them for 12.
    assert (
        "Training takes at most about 0:01:16 in all, 0:00:08 for the longest trial, 0:01:16 with 1 at a time" in text
    )
    assert "at a time" not in preview(made, local=False)


def test_what_a_dry_run_shows_of_a_search(planner: MakePlanner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples, said to be such, and the further seeds of the best."""
    timed_by_size(monkeypatch)
    made = planner(CONDITIONAL, seeds=[1, 2, 3], search={"method": "optuna", "samples": 3})
    text = preview(made, local=False)
    assert len(rows_of(text.replace("\nThese are", "\n\nThese are"))) == 1 + 6
    assert "random examples" in text
    assert "6 trials: 6 configurations, and then 4 with further seeds of the best of each model and data set." in text
    assert "stops most trials early or chooses them as it goes" in text


def test_more_than_this_machine_has_is_refused(planner: MakePlanner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores and GPUs, before anything is timed."""
    message = refused(lambda: preview(planner(GRID, resources={"cpus_per_trial": 10**5}), local=True))
    assert "cpus_per_trial is 100000, but no machine has more than" in message
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    message = refused(lambda: preview(planner(GRID, resources={"gpus_per_trial": 0.5}), local=True))
    assert "gpus_per_trial is 0.5, but no machine has more than 0 GPUs" in message


@pytest.mark.parametrize(
    ("cpus", "gpus", "resources", "fit"),
    [
        (8, 0, {}, 8), (8, 0, {"cpus_per_trial": 3}, 2), (8, 1, {"gpus_per_trial": 0.2}, 5),
        (8, 2, {"gpus_per_trial": 0.3}, 6), (8, 2, {"gpus_per_trial": 1}, 2), (3, 2, {"gpus_per_trial": 0.25}, 3),
        (8, 0, {"gpus_per_trial": 0.5}, 0),
    ],
)  # fmt: skip
def test_how_many_trials_fit(cpus: int, gpus: int, resources: dict[str, Any], fit: int) -> None:
    """Shares that fill a GPU do so, and no share is on two GPUs."""
    assert Resources.model_validate(resources).fits(cpus, gpus) == fit


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0012345, "0.001234"), (1e-7, "1e-07"), (64, "64"), (True, "True"), (None, "None"), ("a", "a")],
)
def test_values_in_tables(value: object, text: str) -> None:
    assert format_parameter(value) == text


def test_a_dry_run_needs_no_ray(data: Path, tmp_path: Path) -> None:
    """Without the packages for sweeps a dry run works and writes nothing; a sweep says what is missing, in one line."""
    content = {
        "models": ["GRU4RecMoS"],
        "datasets": [str(data)],
        "settings": SMALL,
        "space": {"embedding_size": {"grid": [4]}},
    }
    path = written(tmp_path, content)
    code = (
        "import sys, importlib.util as util\n"
        "find, gone = util.find_spec, ('ray', 'optuna', 'rich', 'tensorboardX')\n"
        "util.find_spec = lambda name, *rest: None if name in gone else find(name, *rest)\n"
        "sys.modules |= dict.fromkeys(gone)\n"
        "from mos_recbole.cli import main\n"
        "print(main(['sweep', *sys.argv[1:], '--dry-run']), main(['sweep', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-c", code, str(path), "--output", str(tmp_path / "results")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 trials: 1 configurations, 1 seed." in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "0 2"
    assert done.stderr.splitlines() == [
        "mos-recbole: error: sweeps need ray, optuna, rich, tensorboardX; "
        "expected the extra mos_recbole[sweep] to be installed"
    ]
    assert not (tmp_path / "results").exists()


# ---------------------------------------------------------------------------------------------------- progress


def a_trial(number: int) -> PlannedTrial:
    trial = Trial(number=number, model="A", dataset="toy", seed=1, parameters={"size": number}, run=f"run-{number}")
    return PlannedTrial(trial, SimpleNamespace(values={"epochs": 10}))  # type: ignore[arg-type]


def play(mode: str = "max", *, quiet: bool = False) -> None:
    """Shows a sweep of four trials: one ended before, one finishes, one stops after a second attempt, one fails."""
    trials = {one.trial.run: one for one in map(a_trial, range(1, 5))}
    ledger: Any = SimpleNamespace(
        trials=trials,
        plan=SimpleNamespace(metric="NDCG@10", mode=mode),
        status=lambda one: "finished" if one.trial.number == 1 else "unfinished",
        best_validation=lambda one: 0.2,
        epochs=lambda one: 0,
        to_suggest=lambda: 0,
    )
    with log_on_stderr(logging.WARNING if quiet else logging.INFO), SweepProgress(ledger, quiet=quiet) as progress:
        progress.start("run-2")
        progress.epoch("run-2", 1, 0.1)
        progress.epoch("run-2", 2, 0.3)
        progress.end("run-2", "finished")
        progress.epoch("run-3", 1, 0.25)
        progress.retry("run-3", "ValueError: no")
        progress.epoch("run-3", 2, 0.25)
        progress.end("run-3", "stopped")
        progress.start("run-4")
        progress.end("run-4", "failed", "TrainingDiverged: the loss became [nan]")


@pytest.mark.parametrize(("mode", "bests"), [("max", ["0.3000", "0.3000"]), ("min", ["0.2000", "0.2000"])])
def test_progress_in_a_log(mode: str, bests: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each trial that ends, the best so far by the metric's direction; each message is one line."""
    play(mode)
    out, error = capsys.readouterr()
    lines = [re.sub(r"; about .* left", "", line) for line in error.splitlines()]
    assert out == ""
    assert lines == [
        f"[2/4] A size=2 seed 1: finished in epoch 2, valid NDCG@10 0.3000; best so far {bests[0]}",
        "A size=3 seed 1: failed, is tried again: ValueError: no",
        f"[3/4] A size=3 seed 1: stopped in epoch 2, valid NDCG@10 0.2500; best so far {bests[1]}",
        f"[4/4] A size=4 seed 1: failed: TrainingDiverged: the loss became [nan]; best so far {bests[1]}",
    ]


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Not even failures, which the command tells at its end."""
    play(quiet=True)
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of counts, the best and the running trials, and lines for what failed only."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    play()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "4 of 4 trials ended (2 finished, 1 stopped, 1 failed), 0 running" in text
    assert "Best so far, by validation" in text
    assert "[4/4] A size=4 seed 1: failed: TrainingDiverged" in text
    assert "finished in epoch" not in text


# ---------------------------------------------------------------------------------------------------- packages


def test_loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    """None unless asked for; a tracker whose package is missing is refused by name."""
    assert make_loggers(None, None) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = refused(lambda: make_loggers("project", None))
    assert message == "--wandb: the package wandb is not installed; expected pip install wandb"
    message = refused(lambda: make_loggers(None, "experiment"))
    assert message == "--mlflow: the package mlflow is not installed; expected pip install mlflow"
    assert "ray, optuna, rich, tensorboardX" in refused(lambda: prepare_ray(None))


def test_only_validation_is_told_after_an_epoch(planner: MakePlanner, tmp_path: Path) -> None:
    """What a run tells on the way, from which a trial's reports are made, has no test metrics."""
    (one, _) = planner({"embedding_size": {"grid": [4]}}, settings={"epochs": 2}).trials()
    reports: list[Any] = []
    record = run_experiment(one.settings, output=tmp_path, device="cpu", on_epoch=reports.append)
    assert [set(report.valid) for report in reports] == [set(record.valid)] * 2
    assert max(report.valid["NDCG@10"] for report in reports) == record.valid["NDCG@10"].value == reports[-1].best_score
    tested = {metric.value for metric in record.test.values()} - {metric.value for metric in record.valid.values()}
    assert not tested & {value for report in reports for value in report.valid.values()}
