"""The dry run: trials, times, and what does not fit the machine."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mos_recbole import cli
from mos_recbole.experiment import Estimate, Span
from mos_recbole.results import RECORD_FILE, RUNS_FOLDER, format_parameter
from mos_recbole.settings import Settings
from mos_recbole.sweep import preview
from mos_recbole.sweep.dry_run import estimate_units
from mos_recbole.sweep.sweep_file import Resources
from tests.sweeps import CONDITIONAL, GRID, SMALL, MakePlanner, refused, written


def timed_by_size(monkeypatch: pytest.MonkeyPatch, quiet: float = 1.0) -> list[tuple[int, ...]]:
    """Makes an epoch take as many seconds as a unit's widths; returns the widths that are measured."""
    measured: list[tuple[int, ...]] = []

    def estimate_cost(runs: Sequence[Settings], device: str, seconds: float) -> Estimate:
        measured.append(tuple(one.values["embedding_size"] for one in runs))
        size = sum(measured[-1])
        return Estimate(
            parameters=size,
            memory_bytes={"resident": size * 10**9},
            **{"once": Span(), "epoch": Span(quiet, 1.0) * size, "validation": Span(), "unvalidated_epochs": 0},
        )

    monkeypatch.setattr("mos_recbole.sweep.dry_run.estimate_cost", estimate_cost)
    return measured


def test_costs(planner: MakePlanner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The smallest, a middle and the largest trial of each model are measured, the others interpolated."""
    measured = timed_by_size(monkeypatch)
    made = planner({"embedding_size": {"grid": [4, 8, 12, 16, 20]}}, seeds=[1, 2])
    trials = made.trials()
    units = estimate_units([[one] for one in trials], "cpu")
    expected = {one.trial.run: one.trial.parameters["embedding_size"] for one in trials}
    assert {unit.trials[0].trial.run: unit.estimate.epoch.busy for unit in units} == pytest.approx(expected)
    assert sorted(measured) == [(4,), (4,), (12,), (12,), (20,), (20,)]
    for cores, elapsed in ((4, "1 min 00 s"), (1000, "20.0 s")):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        text = preview(made, local=True, folder=tmp_path)
        assert "One after the other they take 4 min 00 s; the longest 20.0 s." in text
        assert f"With {cores} at a time: {elapsed}. Started now" in text


def test_early_stopping_and_a_busy_machine_make_a_range(
    planner: MakePlanner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    timed_by_size(monkeypatch, quiet=0.5)
    training = {"epochs": 20, "stopping_step": 10, "lr_schedule": "constant"}
    made = planner({"embedding_size": {"grid": [4]}}, models=["GRU4RecMoS"], settings=training)
    text = preview(made, local=True, folder=tmp_path)
    # 12 epochs of 4 s in half of the time, or 20.
    assert "One after the other they take 24.0 s to 1 min 20 s" in text
    assert "GRU4RecMoS: 12 epochs (the fewest with stopping_step 10) to 20 (all)." in text
    assert "Other processes held this one up for 50% of the time" in text
    assert "Memory of one at a time: up to 4.00 GB." in text


def test_finished_trials_cost_nothing_more(
    planner: MakePlanner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured = timed_by_size(monkeypatch)
    made = planner({"embedding_size": {"grid": [4, 8]}}, models=["GRU4RecMoS"])
    for one in made.trials():
        text = preview(made, local=False, folder=tmp_path)
        folder = tmp_path / RUNS_FOLDER / one.trial.run
        folder.mkdir(parents=True)
        (folder / RECORD_FILE).write_text("{}")
    assert f"Trials in {tmp_path} that have ended: 1 finished; left: 1." in text
    assert "the longest 8.0 s" in text
    assert measured == [(4,), (8,), (8,)]
    assert "One after the other" not in preview(made, local=False, folder=tmp_path)


def test_trials_that_are_trained_as_one_are_measured_as_one(
    planner: MakePlanner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured = timed_by_size(monkeypatch)
    made = planner({"embedding_size": {"grid": [4, 8]}}, models=["GRU4RecMoS"], seeds=[1, 2], resources={"fuse": 2})
    assert "One after the other they take 24.0 s; the longest 16.0 s." in preview(made, local=True, folder=tmp_path)
    assert sorted(measured) == [(4, 4), (8, 8)]


def rows_of(text: str) -> list[list[str]]:
    """Returns the cells of the table in a preview."""
    lines = text.split("\n\n")[0].splitlines()
    ends = [match.span() for match in re.finditer("-+", lines[1])]
    return [[line[start:end].strip() for start, end in ends] for line in [lines[0], *lines[2:]]]


def test_what_a_dry_run_shows(planner: MakePlanner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A row for each configuration with its seeds, the counts, and the time, by as many as run at a time."""
    timed_by_size(monkeypatch)
    made = planner(GRID, seeds=[3, 1], resources={"max_concurrent": 1})
    text = preview(made, local=True, folder=tmp_path)
    head, *rows = rows_of(text)
    assert head == ["model", "data", "embedding_size", "mos_heads", "seeds"]
    assert rows == [
        ["GRU4RecSoftmax", "toy", "4", "", "3 1"],
        ["GRU4RecSoftmax", "toy", "8", "", "3 1"],
        *(["GRU4RecMoS", "toy", size, heads, "3 1"] for size in "48" for heads in "23"),
    ]
    assert "12 trials: 6 configurations, 2 seeds." in text
    # With 2 seeds: 4 and 8 s; then 4, 8 and 8 s for 8, 16 and 24 units of work, and 6 s between them for 12.
    assert "One after the other they take 1 min 16 s; the longest 8.0 s." in text
    assert "With 1 at a time: 1 min 16 s." in text
    assert "Started now" not in preview(made, local=False, folder=tmp_path)


def test_what_a_dry_run_shows_of_a_search(
    planner: MakePlanner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Examples, said to be such, and the further seeds of the best."""
    timed_by_size(monkeypatch)
    made = planner(CONDITIONAL, seeds=[1, 2, 3], search={"method": "optuna", "samples": 3})
    text = preview(made, local=False, folder=tmp_path)
    assert len(rows_of(text.replace("\nThese are", "\n\nThese are"))) == 1 + 6
    assert "random examples" in text
    assert "6 trials: 6 configurations, and then 4 with further seeds of the best of each model and data set." in text
    assert "stops most trials early or chooses them as it goes" in text


def test_more_than_this_machine_has_is_refused(
    planner: MakePlanner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Cores and GPUs, before anything is timed."""
    message = refused(lambda: preview(planner(GRID, resources={"cpus_per_trial": 10**5}), local=True, folder=tmp_path))
    assert "cpus_per_trial is 100000, but no machine has more than" in message
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    message = refused(lambda: preview(planner(GRID, resources={"gpus_per_trial": 0.5}), local=True, folder=tmp_path))
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
        "find, gone = util.find_spec, ('ray', 'optuna', 'tensorboardX')\n"
        "util.find_spec = lambda name, *rest: None if name in gone else find(name, *rest)\n"
        "sys.modules |= dict.fromkeys(gone)\n"
        "from mos_recbole.cli import main\n"
        "print(main(['sweep', *sys.argv[1:], '--dry-run']), main(['sweep', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-c", code, str(path), "--output", str(tmp_path / "results")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 trials: 1 configurations, 1 seed." in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "0 2"
    # On a slow machine, progress comes before.
    assert done.stderr.splitlines()[-1:] == [
        "mos-recbole: error: sweeps need ray, optuna, tensorboardX; "
        "expected the extra mos_recbole[sweep] to be installed"
    ]
    assert not (tmp_path / "results").exists()


def test_fusing_with_an_equals_sign(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As the dry run of a sweep that comes with the package shows."""
    timed_by_size(monkeypatch)
    file = Path(__file__).parents[2] / "configs" / "sweeps" / "ml-100k-quick.yaml"
    assert cli.main(["sweep", str(file), "--dry-run", "--fuse=4"]) == 0
    assert "8 alone" in capsys.readouterr().out
