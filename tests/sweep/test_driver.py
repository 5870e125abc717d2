"""The driver without Ray: restarts, refusals, small spaces."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mos_recbole.errors import InputError
from mos_recbole.experiment import run_experiment
from mos_recbole.report import write_sweep_report
from mos_recbole.results import Trial
from mos_recbole.sweep import ClusterOptions, Planner, driver
from mos_recbole.sweep.cluster import cluster
from mos_recbole.sweep.driver import run_sweep
from mos_recbole.sweep.ledger import Ledger
from mos_recbole.sweep.storage import Storage
from mos_recbole.sweep.trial import describe, describe_group, run_trial, runs_of
from tests.sweeps import MakePlanner, names_in, refused


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


def test_winners_get_all_further_seeds(planner: MakePlanner, tmp_path: Path, monkeypatch) -> None:
    """Each with the winner's values, numbered on; of a search that is not adaptive, all trials belong to the search."""
    every = planner({"learning_rate": {"grid": [0.01, 0.03]}}, models=["GRU4RecSoftmax"], seeds=[1, 2, 3])
    whole = Ledger(every, every.trials(), tmp_path)
    assert [len(whole.unfinished()), len(whole.unfinished(winners=True))] == [6, 0]
    made = planner(
        {"learning_rate": {"grid": [0.01, 0.03]}},
        models=["GRU4RecSoftmax"],
        seeds=[1, 2, 3],
        stopping={"scheduler": "asha"},
    )
    ledger = Ledger(made, made.trials(), tmp_path)
    winner = made.trials()[1].trial
    monkeypatch.setattr("mos_recbole.sweep.ledger.best_trial_configurations", lambda _: [winner])
    found = [one.trial for one in ledger.missing_winners()]
    assert [(one.number, one.seed, one.parameters) for one in found] == [
        (number, seed, winner.parameters) for number, seed in ((3, 2), (4, 3))
    ]
    assert len({winner.run, *(one.run for one in found)}) == 3


@pytest.mark.parametrize("key", ["members", "run", "model", "settings", "parameters"])
def test_parameters_may_have_any_name(key: str, planner: MakePlanner) -> None:
    """A plugin names its settings; the trial's own keys are beside them."""
    (planned,) = planner({"learning_rate": {"grid": [0.01]}}, models=["GRU4RecSoftmax"]).trials()
    named = replace(planned, trial=planned.trial.model_copy(update={"parameters": {key: 2}}))
    trial = SimpleNamespace(config={"trial": describe_group([named])})
    assert runs_of(trial) == [planned.trial.run]
    assert trial.config["trial"]["model"] == "GRU4RecSoftmax"


class FakeRay:
    """Ray that starts nothing; it sets a handler of its own for SIGTERM, as Ray does.

    Attributes:
        early: whether the signal comes while Ray starts.
    """

    def __init__(self, early: bool) -> None:
        self.early, self.shut_down = early, False

    def is_initialized(self) -> bool:
        return False

    def init(self, *arguments: object, **options: object) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
        if self.early:
            os.kill(os.getpid(), signal.SIGTERM)

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeManagerAddress": "127.0.0.1", "Resources": {"CPU": 1.0}, "Alive": True}]

    def shutdown(self) -> None:
        self.shut_down = True


@pytest.mark.parametrize("early", [True, False])
def test_sigterm_while_ray_starts_and_before_it_runs_trials(early: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is an interruption as any other, and no defect; afterwards it is what it was before."""
    fake, before = FakeRay(early), signal.getsignal(signal.SIGTERM)
    monkeypatch.setitem(sys.modules, "ray", fake)
    with pytest.raises(KeyboardInterrupt), cluster(ClusterOptions()):
        os.kill(os.getpid(), signal.SIGTERM)
    assert fake.shut_down is not early
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_worker_of_other_code_or_data_is_refused(planner: MakePlanner, tmp_path: Path) -> None:
    """Its run would be another one; nothing is trained."""
    (planned,) = planner({"learning_rate": {"grid": [0.01]}}, models=["GRU4RecSoftmax"]).trials()
    trial = describe(planned)
    trial["run"] = trial["run"][:-1] + ("0" if trial["run"][-1] != "0" else "1")
    options: dict[str, Any] = {"storage": None, "sweep": "small", "device": "cpu", "threads": 1, "plugins": []}
    with pytest.raises(InputError, match=f"but {trial['run']} where the sweep was started: expected the same data"):
        run_trial({"trial": trial}, folder=str(tmp_path / "out"), working_directory="nowhere", **options)
    assert not (tmp_path / "out").exists()


def test_a_search_whose_best_run_again_is_killed_twice(planner: MakePlanner, tmp_path: Path, monkeypatch) -> None:
    """Once in the search, once in the further seeds of the best: the tables are those of an undisturbed sweep."""
    made = planner(
        {"learning_rate": {"loguniform": [0.003, 0.03]}},
        models=["GRU4RecSoftmax"],
        seeds=[1, 2, 3],
        search={"method": "random", "samples": 2, "further_seeds": "best"},
    )
    tables = []
    for place, stops in (("quiet", [9]), ("killed", [1, 2, 9])):
        driven = Driven(tmp_path / place, monkeypatch)
        for driven.most in stops[:-1]:
            with pytest.raises(KeyboardInterrupt):
                driven.run(made)
        driven.most = stops[-1]
        assert [trial.seed for trial in driven.run(made)] == [1, 1, 2, 3]
        write_sweep_report(driven.folder, figures=False)
        tables.append([(driven.folder / name).read_bytes() for name in ("best.md", "table.csv")])
    assert tables[0] == tables[1]


def test_a_sweep_that_grows(planner: MakePlanner, tmp_path: Path, monkeypatch) -> None:
    """A third seed and a wider grid: what is there stays to the last byte, and the report is of all trials."""
    driven, rates = Driven(tmp_path, monkeypatch), [0.01, 0.03]
    make = partial(planner, models=["GRU4RecSoftmax"])
    driven.run(make({"learning_rate": {"grid": rates}}, seeds=[1]))
    write_sweep_report(driven.folder, figures=False)
    kept = {path: path.read_bytes() for name in ("runs", "trials") for path in (driven.folder / name).rglob("*.*")}
    assert len(kept) > 8
    wider = make({"learning_rate": {"grid": [*rates, 0.1]}}, seeds=[1, 2])
    trials = driven.run(wider)
    assert [len(runs) for _, runs in driven.tuned] == [4]
    assert {path: path.read_bytes() for path in kept} == kept
    assert len(trials) == 6
    write_sweep_report(driven.folder, figures=False)
    assert "6 trials: 6 finished" in (driven.folder / "best.md").read_text()
    table = pd.read_csv(driven.folder / "table.csv")
    assert sorted(table["learning_rate"]) == [0.01, 0.03, 0.1]
    assert set(table["seeds_finished"]) == {2}
    # A new sweep by the same file has the same configurations, by the same numbers.
    driven.folder = tmp_path / "new"
    driven.run(wider)
    write_sweep_report(driven.folder, figures=False)
    pd.testing.assert_frame_equal(table, pd.read_csv(driven.folder / "table.csv"))


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
