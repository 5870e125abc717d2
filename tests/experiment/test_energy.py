"""Energy beside accuracy: asked for, recorded, never with a network; codecarbon's place is taken by a stand-in."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mos_recbole import cli
from mos_recbole.errors import InputError
from mos_recbole.experiment import load_settings, run_experiment
from mos_recbole.experiment import run as of_runs
from mos_recbole.results import read_record
from mos_recbole.settings import Settings

USED = {"cpu": 1e-6, "memory": 2e-6, "gpu": 0.0}


class Tracker:
    """Has what of codecarbon's tracker is used, and its arguments."""

    given: dict[str, Any] = {}  # noqa: RUF012
    steps: list[str] = []  # noqa: RUF012

    def __init__(self, **given: Any) -> None:
        Tracker.given, Tracker.steps = given, []

    def start(self) -> None:
        self.steps.append("start")

    def stop(self) -> None:
        self.steps.append("stop")
        self.final_emissions_data = SimpleNamespace(
            cpu_energy=1e-6, ram_energy=2e-6, gpu_energy=0.0, codecarbon_version="3.3", cpu_model="Z80", gpu_model=""
        )


@pytest.fixture
def settings(toy: Path) -> Settings:
    return load_settings("Pop", str(toy))


@pytest.fixture
def codecarbon(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    module = ModuleType("codecarbon")
    module.OfflineEmissionsTracker = Tracker  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "codecarbon", module)


@pytest.mark.usefixtures("codecarbon")
def test_energy_is_recorded_where_it_is_asked_for(settings: Settings, tmp_path: Path) -> None:
    record = run_experiment(settings, output=tmp_path, device="cpu", energy=True)
    assert (record.energy_kwh, Tracker.steps) == (USED, ["start", "stop"])
    assert record.energy_by == "codecarbon 3.3, estimate for this process on Z80"
    assert read_record(record.folder) == record
    assert not any(Tracker.given[key] for key in Tracker.given if key.startswith("save_") or "endpoint" in key)
    without = run_experiment(settings, output=tmp_path, device="cpu")
    assert (without.energy_kwh, without.energy_by, without.run_id) == ({}, "", record.run_id)


@pytest.mark.usefixtures("codecarbon")
def test_a_part_of_a_run_has_no_energy(settings: Settings, tmp_path: Path) -> None:
    record = run_experiment(settings, output=tmp_path, device="cpu")
    (record.folder / "record.json").unlink()
    resumed = run_experiment(settings, output=tmp_path, device="cpu", resume=True, energy=True)
    assert resumed.resumed
    assert resumed.energy_kwh == {}
    assert Tracker.steps == ["start", "stop"]


@pytest.mark.usefixtures("codecarbon")
def test_what_is_solved_as_it_is_built_used_energy_then(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = of_runs.build_model

    def noted(*arguments: Any) -> Any:
        Tracker.steps.append("build")
        return build(*arguments)

    monkeypatch.setattr(of_runs, "build_model", noted)
    run_experiment(settings, output=tmp_path, device="cpu", energy=True)
    assert Tracker.steps == ["start", "build", "stop"]


def test_without_codecarbon_it_is_refused_before_anything_runs(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with pytest.raises(InputError, match="expected the extra mos_recbole\\[energy\\] to be installed"):
        run_experiment(settings, output=tmp_path / "results", device="cpu", energy=True)
    assert not (tmp_path / "results").exists()


@pytest.mark.usefixtures("codecarbon")
def test_the_option(toy: Path, tmp_path: Path) -> None:
    assert cli.main(["run", "--model", "Pop", "--dataset", str(toy), "--output", str(tmp_path), "--energy"]) == 0
    assert Tracker.steps == ["start", "stop"]
