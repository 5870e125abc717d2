"""Estimates: measured on a cut run that leaves nothing, with the range that early stopping leaves open."""

import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from fabricated import MOS, Maker

from mos_recbole import cli
from mos_recbole.experiment import Estimate, earlier_epochs, estimate_cost, forecast, load_settings, run_experiment
from mos_recbole.experiment.timing import Span, StepTimer, TimedLoader, Watch
from mos_recbole.settings import Settings

SMALL = {"embedding_size": 8, "hidden_size": 8, "MAX_ITEM_LIST_LENGTH": 10, "train_batch_size": 32, "epochs": 2}
SMALL |= {"lr_schedule": "constant"}


@pytest.fixture
def make(data: Path) -> Callable[..., Settings]:
    """Returns a function (model, settings=...) -> settings of a small run on the toy data."""

    def settings(model: str = MOS, **changes: Any) -> Settings:
        return load_settings(model, str(data), overrides=SMALL | changes)

    return settings


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (MOS, {"eval_step": 2, "final_fit": "train+valid"}),
        ("BPR", {"filter_seen": True}),
        ("SASRecSoftmax", {"learning_rate": 1e9}),
    ],
)
def test_an_estimate_leaves_nothing_and_knows_the_size(
    model: str, changes: dict[str, Any], make: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a run that would diverge, or that is not validated after its first epoch."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    settings = make(model, **changes)
    estimate = estimate_cost([settings], "cpu", seconds=0.0)
    assert not list(temporary.glob("tmp*"))  # PyTorch has a folder of its own there
    for span in (estimate.once, estimate.epoch, estimate.validation):
        assert 0 < span.quiet <= span.busy
    if model == MOS:
        record = run_experiment(settings, output=tmp_path / "results", device="cpu")
        assert estimate.parameters == record.parameters
        assert 1 / 1.5 < estimate.memory_bytes["resident"] / record.peak_memory_bytes["resident"] < 1.5


def test_trials_that_are_trained_as_one_have_one_estimate(make: Callable[..., Settings]) -> None:
    runs = [make(seed=seed, learning_rate=rate) for seed in (1, 2) for rate in (0.1, 0.01)]
    assert estimate_cost(runs, "cpu", seconds=0.0).epoch.quiet > 0


ESTIMATE = Estimate(
    parameters=1234,
    memory_bytes={"resident": 10**9},
    **{"once": Span(0.5, 1.0), "epoch": Span(5.0, 10.0), "validation": Span(1.5, 3.0), "unvalidated_epochs": 0},
)


@pytest.mark.parametrize(
    ("changes", "earlier", "epochs", "seconds"),
    [
        ({"epochs": 100}, [], (12, 100), (0.5 * (1 + 12 * 13), 1 + 100 * 13)),
        ({"epochs": 100, "eval_step": 3, "stopping_step": 1}, [], (9, 100), (0.5 * (1 + 90 + 9), 1 + 1000 + 34 * 3)),
        ({"epochs": 100}, [30, 25], (25, 100), (0.5 * (1 + 25 * 13), 1 + 100 * 13)),
        ({"epochs": 8}, [30], (8, 8), (0.5 * (1 + 8 * 13), 1 + 8 * 13)),
        ({"epochs": 9, "final_fit": "train+valid"}, [], (9, 9), (0.5 * (1 + 9 * 13 + 10), 1 + 9 * 13 + 90)),
        (
            {"epochs": 9, "final_fit": "train+valid", "chosen_epoch": "last"},
            [],
            (9, 9),
            (0.5 * (1 + 9 * 13 + 90), 1 + 9 * 13 + 90),
        ),
        ({"epochs": 9, "split": "ratio", "valid_ratio": 0.0}, [], (9, 9), (0.5 * 91, 91)),
    ],
)
def test_what_early_stopping_leaves_open_is_a_range(
    changes: dict[str, Any],
    earlier: list[int],
    epochs: tuple[int, int],
    seconds: tuple[float, float],
    make: Callable[..., Settings],
) -> None:
    settings = make(**changes)
    assert ESTIMATE.epochs(settings, earlier) == epochs
    span = ESTIMATE.seconds([settings], earlier)
    assert (span.quiet, span.busy) == pytest.approx(seconds)


def test_earlier_runs_count_if_they_stopped_by_the_same_rule(make: Callable[..., Settings], tmp_path: Path) -> None:
    settings, write = make(epochs=100), Maker(tmp_path)
    rule = {key: settings.values[key] for key in ("stopping_step", "eval_step", "valid_metric")}
    same = {"stopped": "early_stopping", "settings": rule, "dataset": settings.dataset}
    write(MOS, epochs=40, **same)
    write(MOS, seed=2, epochs=30, **same)
    write(MOS, seed=3, epochs=100, **same | {"stopped": "epochs"})
    write(MOS, seed=4, epochs=7, **same | {"settings": rule | {"stopping_step": 2}})
    write("GRU4RecSoftmax", epochs=7, **same)
    earlier = earlier_epochs(settings, tmp_path)
    assert sorted(earlier) == [30, 40]
    assert "30 epochs (the fewest of 2 earlier runs that stopped early) to 100 (all)" in forecast.epochs_in_words(
        settings, ESTIMATE, earlier
    )
    assert earlier_epochs(settings, tmp_path / "none") == []


class Batches:
    """A loader of ten batches of two targets."""

    n_targets = 20

    def epoch(self, number: int) -> Iterator[tuple[Any, int]]:
        yield from [(None, 2)] * 10


@pytest.mark.parametrize(("seconds", "steps", "left"), [(0.0, 1, 9.0), (2.5, 3, 7.0), (100.0, 10, 0.0)])
def test_steps_are_counted_until_the_time_is_up(
    seconds: float, steps: int, left: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A following loader ends with the one that it follows."""
    now = 0.0
    for clock in ("perf_counter", "process_time"):
        monkeypatch.setattr(f"time.{clock}", lambda: now)
    timer = StepTimer(seconds, torch.device("cpu"))
    timed, following = TimedLoader(Batches(), timer), TimedLoader(Batches(), timer, follows=True)
    assert len(list(timed.epoch(1))) <= 3
    timer.start()
    for _ in zip(timed.epoch(2), following.epoch(2), strict=True):
        now += 1.0  # a step
    assert (timer.steps, timer.left.busy) == (steps, pytest.approx(left))


@pytest.mark.parametrize(("waited", "quiet"), [(0.0, 10.0), (6.0, 4.0), (9.5, 2.0), (-1.0, 10.0)])
def test_a_watch_tells_waiting_from_work(waited: float, quiet: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten seconds, two on the processor: waiting is left out, but nothing takes less than its work."""
    readings = {"perf_counter": 0.0, "process_time": 0.0, "waited": 0.0}
    for clock in ("perf_counter", "process_time"):
        monkeypatch.setattr(f"time.{clock}", lambda clock=clock: readings[clock])
    monkeypatch.setattr("mos_recbole.experiment.timing._waited_seconds", lambda: readings["waited"])
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    watch = Watch()
    readings |= {"perf_counter": 10.0, "process_time": 2.0, "waited": waited}
    assert watch.read() == Span(quiet, 10.0)


def test_when_it_ends() -> None:
    noon = datetime(2026, 5, 1, 12)
    assert forecast.end_in_words(Span(60, 7200), noon) == "between 12:01 and 14:00"
    assert forecast.end_in_words(Span(10, 20), noon) == "about 12:00"
    assert forecast.end_in_words(Span(60, 86400), noon) == "between 01 May 12:01 and 02 May 12:00"


def test_a_dry_run_prints_costs_and_trains_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"--{key}={value}" for key, value in SMALL.items()]
    options = ["--model", MOS, "Pop", "--dataset", str(data), "--output", str(tmp_path / "results")]
    assert cli.main(["run", *options, "--seeds", "1", "2", *settings, "--dry-run"]) == 0
    out = capsys.readouterr().out
    head, _, mixture, popular = out.splitlines()[:4]
    assert head.split("  ")[0] == "model"
    assert (mixture.split()[:2], popular.split()[:2]) == ([MOS, "2"], ["Pop", "2"])
    assert "4 runs, one after the other, take " in out
    assert f"{MOS}: 2 epochs." in out
    assert "Pop: 1 epoch." in out
    assert not (tmp_path / "results").exists()


def test_what_is_finished_costs_nothing_more(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["run", "--model", "Pop", "--dataset", str(data), "--output", str(tmp_path)]
    assert cli.main([*options, "--quiet"]) == 0
    capsys.readouterr()
    assert cli.main([*options, "--resume", "--dry-run"]) == 0
    assert capsys.readouterr().out == f"1 of 1 runs are finished in {tmp_path}.\n"
    assert cli.main([*options, "--seeds", "1", "2020", "--resume", "--dry-run"]) == 0
    assert "1 of 2 runs are finished" in (out := capsys.readouterr().out)
    assert "The run takes" in out
