"""Plans: the trials of a sweep file, and what is refused before anything runs."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from mos_recbole.experiment import DataFacts, load_settings, run_experiment
from mos_recbole.results import SweepPlan
from mos_recbole.sweep import Planner, SweepFile, plan_sweep, preview
from mos_recbole.sweep import plan as plan_module
from mos_recbole.sweep.plan import PlannedTrial
from tests.sweeps import GRID, SMALL, MakePlanner, random_search, refused, written

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
    "seed as argument": ({"overrides": ["--seed=3"]}, ["--seed: a sweep sets it by seeds"]),
    "swept key as argument": ({"overrides": ["--mos_heads=4"]}, ["--mos_heads: this sweep varies mos_heads"]),
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
    "another name": ({"space": {"lr": {"grid": [0.1, 0.2]}}}, ["space.lr: no model", "did you mean learning_rate?"]),
    "asha with pretraining": (
        {"models": ["S3Rec"], "space": {"learning_rate": {"grid": [0.1]}}, "stopping": {"scheduler": "asha"}},
        ["S3Rec: is pretrained, which stopping.scheduler asha cannot judge"],
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


@pytest.mark.parametrize(
    ("settings", "space", "widths"),
    [
        ({}, {}, [4, 8]),
        ({"hidden_size": 12}, {}, [12]),
        ({}, {"hidden_size": {"same_as": "embedding_size"}}, [4, 8]),
    ],
)
def test_the_width_by_either_name(
    settings: dict[str, Any], space: dict[str, Any], widths: list[int], data: Path, tmp_path: Path
) -> None:
    """A model whose width has another name takes part; where its own name is given, that one counts."""
    content = {"name": "small", "models": ["GRU4RecSoftmax", "SASRecSoftmax"], "datasets": [str(data)]}
    content |= {"settings": settings, "space": {"embedding_size": {"grid": [4, 8]}} | space}
    trials = Planner(SweepFile.model_validate(content), tmp_path / "small.yaml", []).trials()
    found = [one.settings.values["hidden_size"] for one in trials if one.trial.model == "SASRecSoftmax"]
    assert found == widths


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
    best_again = {"search": {"method": "random", "samples": 2, "further_seeds": "best"}, "space": space}
    assert [one.trial.seed for one in planner(**best_again, seeds=[3, 1]).trials()] == [3] * 4
    optuna = planner(**random_search(space, "optuna"), seeds=[3, 1])
    assert optuna.trials() == []
    examples = [(one.trial.model, one.trial.seed) for one in optuna.preview()]
    assert examples == [("GRU4RecSoftmax", 3)] * 2 + [("GRU4RecMoS", 3)] * 2


def test_a_width_goes_by_the_other_name_where_its_own_is_for_others(data: Path, tmp_path: Path) -> None:
    """As where its own is not in the space at all."""
    wide = {"embedding_size": {"grid": [4, 8]}, "hidden_size": {"grid": [4, 8], "when": {"model": "GRU4RecSoftmax"}}}
    content = {"name": "wide", "models": ["GRU4RecSoftmax", "SASRecSoftmax"], "datasets": [str(data)], "space": wide}
    trials = Planner(SweepFile.model_validate(content), tmp_path / "wide.yaml", []).trials()
    of_sasrec = [one for one in trials if one.trial.model == "SASRecSoftmax"]
    assert [one.trial.parameters for one in of_sasrec] == [{"embedding_size": 4}, {"embedding_size": 8}]
    assert [one.settings.values["hidden_size"] for one in of_sasrec] == [4, 8]
    assert len(trials) == 4 + 2


def test_defaults_come_first(planner: MakePlanner) -> None:
    """Of each model its own, inside the space or not; one configuration less is drawn."""
    space: dict[str, Any] = {
        "learning_rate": {"loguniform": [0.1, 0.2]},
        "embedding_size": {"choice": [8, 16]},
        "attn_dropout_prob": {"choice": [0.3, 0.4]},
        "hidden_dropout_prob": {"same_as": "attn_dropout_prob"},
        "mos_heads": {"choice": [3, 5], "when": {"embedding_size": 8}},
    }
    models, settings = ["GRU4RecMoS", "SASRecSoftmax", "Pop"], {"hidden_size": 8, "hidden_dropout_prob": 0.25}
    search = {"method": "random", "samples": 3}
    drawn, first = (
        planner(space, models=models, settings=settings, search=one).trials()
        for one in (search, search | {"first": "defaults"})
    )
    own: dict[str, dict[str, Any]] = {
        "GRU4RecMoS": {"learning_rate": 0.0075, "embedding_size": 64},
        "SASRecSoftmax": {"learning_rate": 0.005, "attn_dropout_prob": 0.2, "hidden_dropout_prob": 0.25},
        "Pop": {},
    }
    for model in models:
        found, plain = (
            [one.trial.parameters for one in trials if one.trial.model == model] for trials in (first, drawn)
        )
        assert found == [own[model], *plain[:2]][: len(plain)]


@pytest.mark.parametrize("width", ["embedding_size", "hidden_size"])
def test_defaults_that_are_drawn_too_run_once(width: str, planner: MakePlanner) -> None:
    """A width by either name."""
    space = {width: {"choice": [4, 8, 16]}}
    search = {"method": "random", "samples": 3, "first": "defaults"}
    trials = planner(space, models=["BPR"], search=search, settings={"hidden_size": 8}).trials()
    first, *others = (one.trial.parameters[width] for one in trials)
    assert (first, sorted(others)) == (8, [4, 16])
    (alone,) = planner(space, models=["BPR"], search=search | {"samples": 1}).trials()
    assert alone.trial.parameters == {width: SMALL["hidden_size"]}


def test_defaults_are_the_run_without_the_sweep(planner: MakePlanner, data: Path) -> None:
    """Also where a value has effects by being given, and where a drawn one is the default by another spelling."""
    space = {"stopping_step": {"choice": [3, 10]}, "clip_grad_norm": {"choice": ["None", {"max_norm": 5.0}]}}
    search = {"method": "random", "samples": 4, "first": "defaults"}
    first, *others = planner(space, models=["SASRecSoftmax"], search=search).trials()
    alone = load_settings("SASRecSoftmax", str(data), overrides=SMALL | {"seed": 2020})
    assert first.settings.identity() == alone.identity()
    assert first.trial.parameters == {"stopping_step": 1, "clip_grad_norm": None}
    assert len({one.trial.run for one in (first, *others)}) == 4
    spelled = planner({"clip_grad_norm": space["clip_grad_norm"]}, models=["SASRecSoftmax"], search=search).trials()
    assert [one.trial.parameters["clip_grad_norm"] for one in spelled] == [None, {"max_norm": 5.0}]


def test_defaults_that_are_drawn_and_have_effects_by_being_given(planner: MakePlanner) -> None:
    """Their parameters stand for one run, the defaults'."""
    space, search = {"stopping_step": {"choice": [3, 7]}}, {"method": "random", "samples": 2, "first": "defaults"}
    trials = planner(space, models=["GRU4RecSoftmax"], search=search, settings=SMALL | {"epochs": 7}).trials()
    assert [one.trial.parameters["stopping_step"] for one in trials] == [7, 3]


def test_trials_that_no_table_could_tell_apart_are_refused(planner: MakePlanner) -> None:
    made = planner({"embedding_size": {"grid": [4, 8]}}, models=["GRU4RecMoS"], seeds=[1])
    first, second = made.trials()
    twin = PlannedTrial(second.trial.model_copy(update={"parameters": first.trial.parameters}), second.settings)
    assert "have the same parameters, {'embedding_size': 4}, and differ in embedding_size (4, 8)" in refused(
        lambda: made.check_together([first, twin])
    )


def test_rates_are_no_parameter_of_models_that_are_solved_for(planner: MakePlanner) -> None:
    """Two values would be one run twice."""
    rates = {"learning_rate": {"grid": [0.01, 0.03]}, "epochs": {"grid": [1, 2]}}
    trials = planner(rates, models=["GRU4RecSoftmax", "Pop", "EASE"]).trials()
    assert [trial.trial.parameters for trial in trials if trial.trial.model != "GRU4RecSoftmax"] == [{}, {}]
    assert len(trials) == 6
    refusal = refused(lambda: planner(rates, models=["Pop"]).trials())
    assert "learning_rate" in refusal


def test_negatives_are_no_parameter_of_models_without(planner: MakePlanner) -> None:
    """They are swept of RecBole's own classes beside them."""
    grid = [{"distribution": name, "sample_num": 1} for name in ("uniform", "popularity")]
    trials = planner({"train_neg_sample_args": {"grid": grid}}, models=["BPR", "GRU4RecMoS"], seeds=[1]).trials()
    assert [(one.trial.model, one.trial.parameters.get("train_neg_sample_args")) for one in trials] == [
        ("BPR", grid[0]),
        ("BPR", grid[1]),
        ("GRU4RecMoS", None),
    ]


def test_defaults_that_do_not_fit_together_are_refused(planner: MakePlanner) -> None:
    """With all other faults, and how to do without them."""
    sampled = {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
    given = {
        "models": ["SASRec", "GRU4RecMoS"],
        "settings": sampled,
        "search": {"method": "random", "samples": 2, "first": "defaults"},
    }
    message = refused(planner({"loss_type": {"choice": ["BPR"]}, "mos_heads": {"choice": [0]}}, **given).preview)
    assert "search.first: SASRec without the space: " in message
    assert "; leave first out" in message
    assert "mos_heads is 0" in message


def test_an_option_may_choose_some_of_a_files_models(data: Path, tmp_path: Path) -> None:
    """The space is for all of them; a key that no model has is a fault all the same."""
    space: dict[str, Any] = {"mos_heads": {"grid": [2, 3]}, "embedding_size": {"grid": [4], "when": {"model": "BPR"}}}
    content = {"models": ["GRU4RecMoS", "GRU4RecSoftmax", "BPR"], "datasets": [str(data)], "space": space}
    chosen = {"models": ["GRU4RecSoftmax"]}
    content["settings"] = {"mos_dropout": 0.1}
    (trial,) = plan_sweep(written(tmp_path, content), chosen).preview()
    assert (trial.trial.model, trial.trial.parameters) == ("GRU4RecSoftmax", {})
    content["space"] = space | {"mos_head": {"grid": [2]}}
    message = refused(lambda: plan_sweep(written(tmp_path, content), chosen))
    assert "space.mos_head: no model of this sweep has such a setting" in message


def test_equal_data_are_read_once(planner: MakePlanner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the models and their parameters are."""
    read: list[str] = []

    def count(one: Any) -> DataFacts:
        read.append(one.model)
        return DataFacts("fingerprint", has_repeats=True)

    monkeypatch.setattr(plan_module, "data_facts", count)
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


def test_pretraining_counts_among_the_epochs(planner: MakePlanner) -> None:
    """S3-Rec's trials end after both stages, which is what their progress is a share of."""
    made = planner({"learning_rate": {"grid": [0.1]}}, models=["S3Rec"], settings={"epochs": 4, "pretrain_epochs": 10})
    assert {one.epochs for one in made.trials()} == {14}


def test_what_a_file_of_settings_cannot_set_is_told(planner: MakePlanner, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("epochs: 7\nvalid_metric: Recall@10\nseed: 7\n")
    made = planner(GRID, config=["base.yaml"])
    file = tmp_path / "base.yaml"
    assert made.warnings() == [
        f"{file}, line 3: seed is left out; a sweep sets it by seeds",
        f"{file}, line 2: valid_metric is left out; a sweep sets it by metric",
    ]
    assert made.warnings()[0] in preview(made, local=True, folder=tmp_path / "none")
    assert planner(GRID).warnings() == []


def test_a_trial_is_the_run_that_it_says(planner: MakePlanner, tmp_path: Path) -> None:
    """The folder that `run_experiment` makes has the planned name, so that no run needs to be looked for."""
    for one in planner({"embedding_size": {"grid": [4]}, "learning_rate": {"grid": [0.01]}}, seeds=[5]).trials():
        record = run_experiment(one.settings, output=tmp_path, device="cpu")
        assert record.folder == one.trial.folder(tmp_path)
        assert record.run_id == one.trial.run_id
        assert (record.seed, record.settings["learning_rate"]) == (5, 0.01)
        assert one.trial.status(tmp_path) == "finished"
