"""Optuna: equal budgets, restarts, small spaces, conditions."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.tune.search import Searcher

from mos_recbole.sweep import Planner
from mos_recbole.sweep.plan import PlannedTrial
from mos_recbole.sweep.search import OptunaPerModel
from mos_recbole.sweep.trial import BEST
from tests.sweeps import CONDITIONAL, MakePlanner


class Search:
    """A search by Optuna, and what it handed out."""

    def __init__(self, planner: Planner, unfinished: list[PlannedTrial] | None = None, ended: Any = ()) -> None:
        self.registered: list[PlannedTrial] = []
        unfinished = unfinished or []
        number = 1 + len(unfinished) + len(ended)
        self.search = OptunaPerModel(planner, unfinished, ended, number, self.registered.append)
        self.handed_out: dict[str, dict[str, Any]] = {}

    def next(self) -> dict[str, Any] | None:
        """Returns the next trial as a worker gets it, its parameters beside the rest; None where there are no more."""
        trial_id = f"trial-{len(self.handed_out)}"
        suggested = self.search.suggest(trial_id)
        if suggested == Searcher.FINISHED:
            return None
        self.handed_out[trial_id] = suggested["trial"] | suggested["trial"]["parameters"]
        return self.handed_out[trial_id]

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
