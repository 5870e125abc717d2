"""Growing a sweep: what is there stays, what is new is added, and what would mix is refused."""

from pathlib import Path
from typing import Any

import pytest

from mos_recbole.analysis.selection import group_configurations
from mos_recbole.experiment import run_experiment
from mos_recbole.results import LOG_FILE, RECORD_FILE, read_plan, read_trials
from mos_recbole.sweep import Planner, driver, preview
from mos_recbole.sweep.growth import refusal
from mos_recbole.sweep.ledger import Ledger
from tests.sweeps import MakePlanner, random_search, refused

RATES = {"learning_rate": {"grid": [0.01, 0.03]}}
SIZES = {"embedding_size": {"grid": [4, 8]}}
OPTUNA = random_search({"embedding_size": {"choice": [4, 8, 16]}}, "optuna")
Told = list[tuple[str, dict[str, Any], int]]


class Grown:
    """A sweep's folder, to which one sweep file after the other is applied; its trials finish without training."""

    def __init__(self, folder: Path, make: MakePlanner) -> None:
        self.folder, self._make = folder, make
        folder.mkdir()

    def planner(self, space: dict[str, Any] = RATES, **content: Any) -> Planner:
        return self._make(**({"space": space, "models": ["GRU4RecSoftmax"], "seeds": [1, 2]} | content))

    def ledger(self, space: dict[str, Any] = RATES, **content: Any) -> Ledger:
        planner = self.planner(space, **content)
        return Ledger(planner, planner.trials(), self.folder)

    def apply(self, space: dict[str, Any] = RATES, *, finish: bool = True, **content: Any) -> Told:
        """Returns what of a sweep file is still to be done: model, parameters and seed of each trial; does it."""
        ledger = self.ledger(space, **content)
        ledger.save()
        todo = sorted(ledger.unfinished(), key=lambda one: one.trial.number)
        for one in todo if finish else []:
            place = one.trial.folder(self.folder) / RECORD_FILE
            place.parent.mkdir(parents=True)
            place.write_text("{}")
        return [(one.trial.model, one.trial.parameters, one.trial.seed) for one in todo]

    def told(self) -> Told:
        return [(one.model, one.parameters, one.seed) for one in read_trials(self.folder)]

    def state(self) -> dict[str, tuple[int, bytes]]:
        paths = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


@pytest.fixture
def grown(planner: MakePlanner, tmp_path: Path) -> Grown:
    """A finished grid of two learning rates with the seeds 1 and 2."""
    one = Grown(tmp_path / "small", planner)
    assert len(one.apply()) == 4
    return one


def of_rate(rate: float, seed: int, **more: Any) -> tuple[str, dict[str, Any], int]:
    return "GRU4RecSoftmax", {"learning_rate": rate} | more, seed


@pytest.mark.parametrize("seeds", [[1, 2, 3], [3]])
def test_a_third_seed(seeds: list[int], grown: Grown) -> None:
    """Nothing that is there is touched; the plan has all seeds; the first command finds nothing to do afterwards."""
    before = grown.state()
    assert grown.apply(seeds=seeds) == [of_rate(0.01, 3), of_rate(0.03, 3)]
    after = grown.state()
    assert {path for path in before if before[path] != after[path]} == {str(grown.folder / "sweep.json")}
    assert read_plan(grown.folder).seeds == [1, 2, 3]
    assert [one.number for one in read_trials(grown.folder)] == [1, 2, 3, 4, 5, 6]
    after = grown.state()
    assert grown.apply() == grown.apply(seeds=[1, 2, 3]) == []
    assert grown.state() == after


def test_more_values_of_a_key(grown: Grown) -> None:
    """Also instead of some of the old ones, which stay in the sweep."""
    assert grown.apply({"learning_rate": {"grid": [0.03, 0.1]}}) == [of_rate(0.1, 1), of_rate(0.1, 2)]
    assert read_plan(grown.folder).space == {"learning_rate": {"grid": [0.01, 0.03, 0.1]}}
    assert len(grown.told()) == 6


@pytest.mark.parametrize("given", ["by default", "in the settings"])
def test_one_more_key(given: str, planner: MakePlanner, tmp_path: Path) -> None:
    """Trials that are there take part with the value that they had, which need not be among the new ones."""
    sweep = Grown(tmp_path / "other", planner)
    before = {} if given == "by default" else {"settings": {"dropout_prob": 0.25}}
    had = 0.3 if given == "by default" else 0.25
    assert len(sweep.apply(seeds=[1], **before)) == 2
    new = sweep.apply(RATES | {"dropout_prob": {"grid": [had, 0.5]}}, seeds=[1])
    assert new == [of_rate(rate, 1, dropout_prob=0.5) for rate in (0.01, 0.03)]
    new = sweep.apply(RATES | {"dropout_prob": {"grid": [0.0]}}, seeds=[1])
    assert new == [of_rate(rate, 1, dropout_prob=0.0) for rate in (0.01, 0.03)]
    assert sweep.told()[0] == of_rate(0.01, 1, dropout_prob=had)
    assert sweep.apply(seeds=[1], **before) == []
    # And back: a key that was swept is set now.
    settings = {"dropout_prob": 0.5, "learning_rate": 0.01}
    new = sweep.apply(SIZES, seeds=[1], settings=settings)
    assert new == [of_rate(0.01, 1, dropout_prob=0.5, embedding_size=size) for size in (4, 8)]
    assert {tuple(parameters) for _, parameters, _ in sweep.told()} == {
        ("learning_rate", "dropout_prob", "embedding_size")
    }


def test_a_key_that_has_effects_by_being_given(planner: MakePlanner, tmp_path: Path) -> None:
    """A stopping_step makes the best epoch the model: trials without it are no runs with any, and no second seed."""
    sweep = Grown(tmp_path / "other", planner)
    settings = {"epochs": 2}
    assert sweep.apply(seeds=[1], settings=settings) == [of_rate(0.01, 1), of_rate(0.03, 1)]
    space = RATES | {"stopping_step": {"grid": [2, 1]}}
    assert len(sweep.apply(space, seeds=[1], settings=settings)) == 4
    assert sweep.told()[:2] == [of_rate(0.01, 1), of_rate(0.03, 1)]
    configurations = group_configurations(read_trials(sweep.folder))
    assert [len(one.trials) for one in configurations] == [1] * 6


def test_the_default_of_further_seeds_may_be_given(grown: Grown) -> None:
    assert grown.apply(search={"method": "grid", "further_seeds": "all"}) == []


def test_one_more_model_and_fewer(grown: Grown) -> None:
    """A model that the file no longer has stays; a parameter of the new one is no concern of the old one."""
    space = RATES | {"mos_heads": {"grid": [2]}}
    new = grown.apply(space, models=["GRU4RecMoS"], seeds=[1])
    assert new == [("GRU4RecMoS", {"learning_rate": rate, "mos_heads": 2}, 1) for rate in (0.01, 0.03)]
    assert len(grown.told()) == 6
    assert grown.told()[0] == of_rate(0.01, 1)
    assert read_plan(grown.folder).models == ["GRU4RecSoftmax", "GRU4RecMoS"]


def test_fewer_models_whose_defaults_come_first(planner: MakePlanner, tmp_path: Path) -> None:
    """Those of the others stay as they are."""
    sweep = Grown(tmp_path / "other", planner)
    search = random_search({"learning_rate": {"loguniform": [1e-3, 1e-1]}})
    search["search"]["first"] = "defaults"
    assert len(sweep.apply(**search, models=["GRU4RecSoftmax", "GRU4RecMoS"])) == 8
    there = sweep.told()
    assert sweep.apply(**search, models=["GRU4RecMoS"]) == []
    assert sweep.told() == there


@pytest.mark.parametrize("adaptive", ["optuna", "asha"])
def test_fewer_models_of_an_adaptive_search(adaptive: str, planner: MakePlanner, tmp_path: Path) -> None:
    """It learns from trials of the models of now alone."""
    sweep = Grown(tmp_path / "other", planner)
    content = OPTUNA if adaptive == "optuna" else {"stopping": {"scheduler": "asha"}}
    both = content | {"models": ["GRU4RecSoftmax", "GRU4RecMoS"], "seeds": [1]}
    ledger = sweep.ledger(**both)
    for one in ledger.planner.preview():
        ledger.save()
        ledger.add(one)
        ledger.update(one.trial.run, ended="stopped")
        log = one.trial.folder(sweep.folder) / LOG_FILE
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"epoch,loss,train_seconds,eval_seconds,best,{ledger.plan.metric}\n1,5.0,1.0,1.0,1,0.5\n")
    fewer = sweep.ledger(**both | {"models": ["GRU4RecMoS"]})
    made: Any = driver._optuna(fewer, []) if adaptive == "optuna" else driver._asha(fewer)
    assert {model for model, _ in (made._studies if adaptive == "optuna" else made._halving)} == {"GRU4RecMoS"}


def test_another_data_set(grown: Grown, data: Path, tmp_path: Path) -> None:
    """Nothing on one data set is compared with what is on another, whatever the settings are."""
    other = tmp_path / "tiny"
    other.mkdir()
    (other / "tiny.inter").write_bytes((data / f"{data.name}.inter").read_bytes())
    assert len(grown.apply(datasets=[str(other)], settings={"epochs": 2})) == 4
    assert read_plan(grown.folder).datasets == [data.name, "tiny"]
    assert grown.apply() == []


def test_unfinished_trials_that_are_no_longer_asked_for(grown: Grown) -> None:
    """Are left alone, and run when they are asked for again."""
    wide = {"learning_rate": {"grid": [0.01, 0.03, 0.1]}}
    assert len(grown.apply(wide, finish=False)) == 2
    narrow = grown.ledger()
    assert (narrow.left_alone, narrow.added, narrow.work_left()) == (2, 0, False)
    assert grown.apply(wide) == [of_rate(0.1, 1), of_rate(0.1, 2)]


def test_unfinished_trials_whose_place_others_take(planner: MakePlanner, tmp_path: Path) -> None:
    """With other settings: no table could tell the two apart. Asked for again, they go on in their own run's folder."""
    sweep = Grown(tmp_path / "other", planner)
    sweep.apply(finish=False)
    before = {one.run for one in read_trials(sweep.folder)}
    longer = sweep.ledger(settings={"epochs": 3})
    assert (longer.left_alone, longer.added) == (4, 4)
    longer.save()
    after = {one.run for one in read_trials(sweep.folder)}
    assert (len(after), before & after) == (4, set())
    assert sweep.ledger().left_alone == 4
    sweep.apply(finish=False)
    assert {one.run for one in read_trials(sweep.folder)} == before


def test_a_copy_of_a_trials_file_is_refused(grown: Grown) -> None:
    path = sorted((grown.folder / "trials").iterdir())[0]
    (path.parent / f"{path.stem} (copy).json").write_bytes(path.read_bytes())
    assert f"(copy).json: holds the trial {path.stem}" in refused(lambda: read_trials(grown.folder))


def test_whole_numbers_and_decimal_ones_are_the_same_values(planner: MakePlanner, tmp_path: Path) -> None:
    """A setting's default is 0.0, and a file says 0: one configuration."""
    sweep = Grown(tmp_path / "other", planner)
    sweep.apply({"learning_rate": {"grid": [0.01]}}, seeds=[1])
    sweep.apply({"learning_rate": {"grid": [0.01]}, "weight_decay": {"grid": [0, 0.1]}}, seeds=[1, 2])
    configurations = group_configurations(read_trials(sweep.folder))
    assert [len(one.trials) for one in configurations] == [2, 2]
    assert [one.parameters["weight_decay"] for one in configurations] == [0, 0.1]


def test_more_samples_of_a_random_search(planner: MakePlanner, tmp_path: Path) -> None:
    """The first ones are those that are there; fewer samples are nothing to do."""
    search = random_search({"learning_rate": {"loguniform": [1e-3, 1e-1]}})
    sweep = Grown(tmp_path / "other", planner)
    assert len(sweep.apply(**search)) == 4
    there = sweep.told()
    search["search"]["samples"] = 3
    assert len(sweep.apply(**search, models=["GRU4RecSoftmax", "GRU4RecMoS"])) == 2 + 6
    assert sweep.told()[:4] == there
    search["search"]["samples"] = 1
    assert sweep.apply(**search) == []
    assert read_plan(sweep.folder).search["samples"] == 3


def test_more_samples_of_optuna(planner: MakePlanner, tmp_path: Path) -> None:
    """Only those that are missing are suggested."""
    sweep = Grown(tmp_path / "other", planner)
    ledger = sweep.ledger(**OPTUNA)
    for one in ledger.planner.preview():
        ledger.save()
        ledger.add(one)
    assert sweep.ledger(**OPTUNA).to_suggest() == 0
    more = OPTUNA | {"search": OPTUNA["search"] | {"samples": 3}}
    assert sweep.ledger(**more).to_suggest() == 1


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "another metric": ({}, {"metric": "MRR@10"}, "metric is NDCG@10, and in the file MRR@10"),
    "another scheduler": ({}, {"stopping": {"scheduler": "asha"}}, "stopping is none, and in the file {"),
    "another method": ({}, random_search({"learning_rate": {"choice": [0.1, 1]}}), "search.method is grid"),
    "another space of draws": (
        OPTUNA,
        random_search({"embedding_size": {"choice": [4, 8]}}, "optuna"),
        "drawn from another space, and search.method is optuna",
    ),
    "other random numbers": (
        OPTUNA,
        OPTUNA | {"search": OPTUNA["search"] | {"seed": 4}},
        "search.seed is 0; a larger search.samples adds trials",
    ),
    "other first configurations": (
        random_search({"learning_rate": {"choice": [0.1, 1]}}),
        {"search": {"method": "random", "samples": 2, "first": "defaults"}}
        | {"space": {"learning_rate": {"choice": [0.1, 1]}}},
        "search.first is none, and in the file defaults",
    ),
    "other further seeds": (
        random_search({"learning_rate": {"choice": [0.1, 1]}}),
        {"search": {"method": "random", "samples": 2, "further_seeds": "best"}}
        | {"space": {"learning_rate": {"choice": [0.1, 1]}}},
        "search.further_seeds is all, and in the file best",
    ),
    "another first seed": (OPTUNA, OPTUNA | {"seeds": [3, 1]}, "compared by seed 1, which must be the first of seeds"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_mix_is_refused(case: str, planner: MakePlanner, tmp_path: Path) -> None:
    """With the way out, and the folder is as before."""
    before, after, fragment = REFUSED[case]
    sweep = Grown(tmp_path / "small", planner)
    sweep.apply(**before)
    state = sweep.state()
    message = refused(lambda: sweep.ledger(**after))
    assert fragment in message
    assert message.endswith("give this one a folder of its own, by --name or --output")
    made = sweep.planner(**after)
    assert refused(lambda: preview(made, local=True, folder=sweep.folder)) == message
    assert sweep.state() == state


def test_winners_of_a_search_take_further_seeds(planner: MakePlanner, tmp_path: Path) -> None:
    """Configurations are still compared by the first one."""
    sweep = Grown(tmp_path / "small", planner)
    sweep.apply(**OPTUNA)
    assert sweep.ledger(**OPTUNA | {"seeds": [1, 2, 3]}).planner.sweep.seeds == [1, 2, 3]


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("code", "0.1+0ther", "code of mos_recbole"),
        ("versions", {"torch": "1.0"}, "versions of torch, recbole, numpy"),
        ("device", "Tesla", "kind of device"),
    ],
)
def test_what_else_differs_is_named(field: str, value: Any, told: str, planner: MakePlanner, tmp_path: Path) -> None:
    """Where the settings and the data are the same."""
    sweep = Grown(tmp_path / "small", planner)
    sweep.apply(seeds=[1], finish=False)
    now = sweep.planner().trials()[0]
    record = run_experiment(now.settings, output=sweep.folder, device="cpu")
    changed = record.model_copy(update={field: value})
    message = refusal(sweep.folder, changed, read_plan(sweep.folder), now, sweep.planner())
    assert message.startswith(f"{sweep.folder}: its trials have other {told}; give this one a folder of its own")


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        (
            {"settings": {"epochs": 2}},
            ["other epochs (1, now 2); to have both", "write epochs: {grid: [1, 2]} into its space"],
        ),
        (
            {"settings": {"filter_seen": True}},
            ["other filter_seen (auto, now True); give this one a folder of its own"],
        ),
        ({"space": RATES | {"filter_seen": {"grid": [True]}}}, ["filter_seen changes what is measured"]),
        ({"datasets": ["changed"]}, ["other data; give this one a folder of its own"]),
    ],
)
def test_other_settings_and_data_are_refused(
    content: dict[str, Any], fragments: list[str], planner: MakePlanner, data: Path, tmp_path: Path
) -> None:
    """What differs is named; settings that do not change what is measured can be put into the space."""
    sweep = Grown(tmp_path / "small", planner)
    sweep.apply(seeds=[1], finish=False)
    run_experiment(sweep.planner().trials()[0].settings, output=sweep.folder, device="cpu")
    if "datasets" in content:
        changed = tmp_path / "changed" / data.name
        changed.mkdir(parents=True)
        lines = (data / f"{data.name}.inter").read_text().splitlines()
        (changed / f"{data.name}.inter").write_text("\n".join(lines[:-3]) + "\n")
        content = {"datasets": [str(changed)]}
    message = refused(lambda: sweep.ledger(**({"seeds": [2]} | content)))
    for fragment in fragments:
        assert fragment in message
