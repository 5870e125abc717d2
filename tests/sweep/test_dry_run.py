"""The dry run: trials, times, and what does not fit the machine."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mos_recbole import cli
from mos_recbole.results import format_parameter
from mos_recbole.sweep import preview
from mos_recbole.sweep.dry_run import training_seconds
from mos_recbole.sweep.sweep_file import Resources
from tests.sweeps import CONDITIONAL, GRID, SMALL, MakePlanner, refused, written


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
    assert done.stderr.splitlines() == [
        "mos-recbole: error: sweeps need ray, optuna, tensorboardX; "
        "expected the extra mos_recbole[sweep] to be installed"
    ]
    assert not (tmp_path / "results").exists()


def test_fusing_with_an_equals_sign(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As the dry run of a sweep that comes with the package shows."""
    monkeypatch.setattr("mos_recbole.sweep.dry_run.time_training", lambda *_: 1.0)
    file = Path(__file__).parents[2] / "configs" / "sweeps" / "ml-100k-quick.yaml"
    assert cli.main(["sweep", str(file), "--dry-run", "--fuse=4"]) == 0
    assert "8 alone" in capsys.readouterr().out
