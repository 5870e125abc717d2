"""Sweeps whose trials are trained as one: their groups, their workers, and their ledger, without Ray."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mos_recbole import cli
from mos_recbole.cli.output import log_on_stderr
from mos_recbole.errors import InputError, TrainingDiverged
from mos_recbole.experiment import run_experiment
from mos_recbole.results import Trial, find_records, read_record, read_trials
from mos_recbole.sweep import read_sweep_file
from mos_recbole.sweep import trial as trial_module
from mos_recbole.sweep.callback import LedgerCallback
from mos_recbole.sweep.fusing import fused_groups
from mos_recbole.sweep.ledger import Ledger
from mos_recbole.sweep.plan import PlannedTrial
from mos_recbole.sweep.progress import SweepProgress
from mos_recbole.sweep.trial import ERROR, FINISHED, MEMBERS, VALID, describe_group, run_trial
from tests.sweeps import SMALL, written


@pytest.fixture
def write(data: Path, tmp_path: Path) -> Callable[..., Path]:
    """Returns a function (keys of a sweep file=...) -> file of a small sweep."""
    return lambda **content: written(
        tmp_path, {"models": ["GRU4RecSoftmax"], "datasets": [str(data)], "settings": SMALL, **content}
    )


RATES = {"learning_rate": {"grid": [0.003, 0.01]}}


def test_groups_are_of_one_shape_and_seeds_come_together(planner) -> None:
    made = planner(
        models=["GRU4RecSoftmax", "GRU4RecMoS", "NARMSoftmax"],
        space={
            "learning_rate": {"grid": [0.003, 0.01, 0.03]},
            "mos_heads": {"grid": [2, 3], "when": {"model": "GRU4RecMoS"}},
        },
        seeds=[1, 2],
    )
    trials = made.trials()
    groups = fused_groups(trials, 4)
    assert sorted(one.trial.number for group in groups for one in group) == [one.trial.number for one in trials]
    assert sorted(map(len, groups)) == [1] * 6 + [3] * 6
    for group in groups:
        assert len({(one.trial.model, one.trial.parameters.get("mos_heads"), one.trial.seed) for one in group}) == 1
    works = [sum(one.work for one in group) for group in groups]
    assert works == sorted(works, reverse=True)
    assert [len(group) for group in fused_groups(trials[:5], 2)] == [2, 2, 1]
    assert len(fused_groups(trials, 100)) == 6 + 3


def test_a_dry_run_says_what_is_trained_as_one(write, capsys: pytest.CaptureFixture[str]) -> None:
    models = ["GRU4RecSoftmax", "NARMSoftmax"]
    space = {**RATES, "embedding_size": {"grid": [8, 16], "when": {"model": "GRU4RecSoftmax"}}}
    assert cli.main(["sweep", str(write(models=models, space=space, seeds=[1, 2])), "--dry-run", "--fuse", "3"]) == 0
    said = (
        "8 trials are trained as one in 4 groups of 2, 4 alone.\n"
        "Trials of one model are kept apart by embedding_size.\n"
        "NARMSoftmax: the encoder NARM has no stacked form; expected one of GRU4Rec, SASRec.\n"
        "One after the other they take "
    )
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"space": RATES, "stopping": {"scheduler": "asha"}},
            "scheduler asha starts and stops trials one by one",
        ),
        (
            {
                "space": {"learning_rate": {"choice": [0.003, 0.01]}},
                "search": {"method": "optuna", "samples": 2},
            },
            "search.method optuna starts and stops trials one by one, .* expected search.method grid or random",
        ),
    ],
)
def test_searches_that_decide_as_they_go_are_refused(content: dict[str, Any], said: str, write) -> None:
    path = write(**content)
    assert read_sweep_file(path, {"resources": {"fuse": 1}}).resources.fuse == 1
    with pytest.raises(InputError, match=said):
        read_sweep_file(path, {"resources": {"fuse": 2}})
    with pytest.raises(InputError, match=r"resources\.fuse is 0"):
        read_sweep_file(path, {"resources": {"fuse": 0}})


class Worker:
    """The reports of a worker to Ray, and what the driver makes of them.

    Args:
        ledger: of the sweep.
        group: the trials of the worker.
        patch: takes over `tune.report`.
    """

    def __init__(self, ledger: Ledger, group: list[PlannedTrial], patch: pytest.MonkeyPatch) -> None:
        self.ledger, self.group = ledger, group
        self.callback = LedgerCallback(ledger, SweepProgress(ledger, quiet=False))
        self.trial = SimpleNamespace(
            config={"trial": describe_group(group)}, last_result={}, pickled_error_file=None, error_file=None
        )
        self.results: list[dict[str, Any]] = []
        patch.setattr(trial_module.tune, "report", self._take)

    def _take(self, result: dict[str, Any]) -> None:
        self.results.append(result)
        self.trial.last_result = result
        self.callback.on_trial_result(0, [], self.trial, result)  # type: ignore[arg-type]

    def attempt(self, storage: Path | None = None) -> None:
        self.callback.on_trial_start(0, [], self.trial)  # type: ignore[arg-type]
        run_trial(
            self.trial.config,
            folder=str(self.ledger.folder),
            storage=None if storage is None else str(storage),
            sweep="small",
            device="cpu",
            threads=1,
            working_directory="nowhere",
            plugins=[],
        )
        self.callback.on_trial_complete(0, [], self.trial)  # type: ignore[arg-type]

    def fail(self, folder: Path) -> None:
        """An attempt fails, of which Ray writes a file."""
        with pytest.raises(TrainingDiverged):
            self.attempt()
        self.trial.error_file = str(folder / "error.txt")
        Path(self.trial.error_file).write_text("Failure # 1 (occurred at ...)\nWhat Ray says.\n")

    def trials(self) -> list[Trial]:
        return read_trials(self.ledger.folder)


@pytest.fixture
def worker(planner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Worker]:
    """Returns a function (keys of a sweep file=...) -> the one group of a sweep, ready to be trained."""

    def make(**content: Any) -> Worker:
        made = planner(models=["GRU4RecSoftmax"], settings={"embedding_size": 8, "epochs": 2}, **content)
        plan, trials = made.plan(), made.trials()
        folder = tmp_path / "results"
        folder.mkdir()
        plan.write(folder)
        ledger = Ledger(made, trials, folder)
        ledger.save()
        (group,) = fused_groups(ledger.unfinished(), 10)
        return Worker(ledger, group, monkeypatch)

    return make


def test_records_of_trials_have_what_was_asked_for(worker, tmp_path: Path) -> None:
    """As those of `run`: metrics by which tables are made, and keys that nothing here knows."""
    (tmp_path / "note.yaml").write_text("topk: [1, 5]\nmetrics: [Recall, MRR]\nmy_note: 7\n")
    one = worker(space=RATES, seeds=[1], config=[str(tmp_path / "note.yaml")])
    one.attempt()
    for record in find_records(one.ledger.folder):
        assert record.asked_metrics == ["Recall@1", "Recall@5", "MRR@1", "MRR@5"]
        assert record.unknown_settings == {"my_note": 7}


def test_a_worker_reports_on_every_trial_and_validation_only(worker, tmp_path: Path, capsys) -> None:
    one = worker(space=RATES, seeds=[1])
    with log_on_stderr(logging.INFO):
        one.attempt()
    assert [trial.status(one.ledger.folder) for trial in one.trials()] == ["finished"] * 2
    records = find_records(one.ledger.folder)
    metrics = {f"{VALID}{name}" for name in records[0].valid}
    reports: dict[str, list[dict[str, Any]]] = {}
    for result in one.results:
        for run, said in result[MEMBERS].items():
            reports.setdefault(run, []).append(said)
    assert set(reports) == {planned.trial.run for planned in one.group}
    for record in records:
        said = reports[record.folder.name]
        assert [set(report) - {"loss", "best_valid", "epoch"} for report in said] == [
            metrics,
            metrics,
            metrics | {FINISHED},
        ]
        assert said[-1][f"{VALID}NDCG@10"] == record.valid["NDCG@10"].value
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines if line.startswith("[")] == [
        "[1/2] GRU4RecSoftmax learning_rate=0.003 seed 1",
        "[2/2] GRU4RecSoftmax learning_rate=0.01 seed 1",
    ]


def test_a_trial_that_diverges_is_tried_again_without_those_that_finished(worker, tmp_path: Path) -> None:
    one = worker(space={"learning_rate": {"grid": [0.003, 1e30, 0.01]}}, seeds=[1])
    one.fail(tmp_path)
    one.callback.on_trial_recover(0, [], one.trial)
    good, bad, other = one.trials()
    assert [trial.status(one.ledger.folder) for trial in (good, bad, other)] == ["finished", "unfinished", "finished"]
    assert (good.attempts, bad.attempts, other.attempts) == (0, 1, 0)
    assert bad.error.startswith("TrainingDiverged: the training loss became nan in epoch 1")
    assert bad.run not in bad.error
    written = {record.run_id: record.finished for record in find_records(one.ledger.folder)}
    one.fail(tmp_path)
    one.callback.on_trial_error(0, [], one.trial)
    _, bad, _ = one.trials()
    assert (bad.ended, bad.attempts) == ("failed", 2)
    assert {record.run_id: record.finished for record in find_records(one.ledger.folder)} == written
    assert not [
        said for result in one.results for said in result[MEMBERS].values() if ERROR in said and said.get("epoch")
    ]


def test_a_group_that_is_killed_is_tried_again_as_a_whole(worker, tmp_path: Path) -> None:
    one = worker(space=RATES, seeds=[1])
    one.trial.error_file = str(tmp_path / "error.txt")
    Path(one.trial.error_file).write_text(
        f"Failure # 1 (occurred at ...)\n{tmp_path}/{one.group[0].trial.run}/x broke\n"
    )
    one.callback.on_trial_recover(0, [], one.trial)
    assert [(trial.attempts, trial.error) for trial in one.trials()] == [(1, "x broke")] * 2
    one.attempt()
    assert [(trial.status(one.ledger.folder), trial.attempts) for trial in one.trials()] == [("finished", 1)] * 2


def test_a_group_in_a_storage(worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of its trials is there already, as another machine left it."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(trial_module.tempfile, "gettempdir", lambda: str(scratch))
    one = worker(space=RATES, seeds=[1])
    first, second = (planned.trial.run for planned in one.group)
    done = run_experiment(one.group[0].settings, output=tmp_path / "elsewhere", device="cpu")
    trial_module.Storage(str(tmp_path / "kept"), "small").push(done.folder)
    one.attempt(tmp_path / "kept")
    kept = tmp_path / "kept" / "small"
    assert read_record(kept / first).finished == done.finished
    assert read_record(kept / second).test
    assert not list(scratch.rglob("*.pt"))
