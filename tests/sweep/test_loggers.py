"""Trackers and packages that are missing; reports after each epoch."""

from pathlib import Path
from typing import Any

import pytest

from mos_recbole.experiment import run_experiment
from mos_recbole.sweep import prepare_ray
from mos_recbole.sweep.loggers import make_loggers
from tests.sweeps import MakePlanner, refused


def test_loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    """None unless asked for; a tracker whose package is missing is refused by name."""
    assert make_loggers(None, None) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = refused(lambda: make_loggers("project", None))
    assert message == "--wandb: the package wandb is not installed; expected pip install wandb"
    message = refused(lambda: make_loggers(None, "experiment"))
    assert message == "--mlflow: the package mlflow is not installed; expected pip install mlflow"
    assert "ray, optuna, tensorboardX" in refused(lambda: prepare_ray(None))


def test_only_validation_is_told_after_an_epoch(planner: MakePlanner, tmp_path: Path) -> None:
    """What a run tells on the way, from which a trial's reports are made, has no test metrics."""
    (one, _) = planner({"embedding_size": {"grid": [4]}}, settings={"epochs": 2}).trials()
    reports: list[Any] = []
    record = run_experiment(one.settings, output=tmp_path, device="cpu", on_epoch=reports.append)
    assert [set(report.valid) for report in reports] == [set(record.valid)] * 2
    assert max(report.valid["NDCG@10"] for report in reports) == record.valid["NDCG@10"].value == reports[-1].best_score
    tested = {metric.value for metric in record.test.values()} - {metric.value for metric in record.valid.values()}
    assert not tested & {value for report in reports for value in report.valid.values()}
