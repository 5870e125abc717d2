"""The progress in a log, on a terminal, and where it is quiet."""

import io
import logging
import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from mos_recbole.cli.output import log_on_stderr
from mos_recbole.results import Trial
from mos_recbole.sweep.plan import PlannedTrial
from mos_recbole.sweep.progress import SweepProgress


def a_trial(number: int) -> PlannedTrial:
    trial = Trial(number=number, model="A", dataset="toy", seed=1, parameters={"size": number}, run=f"run-{number}")
    return PlannedTrial(trial, SimpleNamespace(values={"epochs": 10}))  # type: ignore[arg-type]


def play(mode: str = "max", *, quiet: bool = False) -> None:
    """Shows a sweep of four trials: one ended before, one finishes, one stops after a second attempt, one fails."""
    trials = {one.trial.run: one for one in map(a_trial, range(1, 5))}
    ledger: Any = SimpleNamespace(
        trials=trials,
        plan=SimpleNamespace(metric="NDCG@10", mode=mode),
        status=lambda one: "finished" if one.trial.number == 1 else "unfinished",
        best_validation=lambda one: 0.2,
        epochs_trained=lambda one: 0,
        to_suggest=lambda: 0,
    )
    with log_on_stderr(logging.WARNING if quiet else logging.INFO), SweepProgress(ledger, quiet=quiet) as progress:
        progress.start("run-2")
        progress.epoch("run-2", 1, 0.1)
        progress.epoch("run-2", 2, 0.3)
        progress.end("run-2", "finished")
        progress.epoch("run-3", 1, 0.25)
        progress.retry("run-3", "ValueError: no")
        progress.epoch("run-3", 2, 0.25)
        progress.end("run-3", "stopped")
        progress.start("run-4")
        progress.end("run-4", "failed", "TrainingDiverged: the loss became [nan]")


@pytest.mark.parametrize(("mode", "bests"), [("max", ["0.3000", "0.3000"]), ("min", ["0.2000", "0.2000"])])
def test_progress_in_a_log(mode: str, bests: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each trial that ends, the best so far by the metric's direction; each message is one line."""
    play(mode)
    out, error = capsys.readouterr()
    lines = [re.sub(r"; about .* left", "", line) for line in error.splitlines()]
    assert out == ""
    assert lines == [
        f"[2/4] A size=2 seed 1: finished in epoch 2, valid NDCG@10 0.3000; best so far {bests[0]}",
        "A size=3 seed 1: failed, is tried again: ValueError: no",
        f"[3/4] A size=3 seed 1: stopped in epoch 2, valid NDCG@10 0.2500; best so far {bests[1]}",
        f"[4/4] A size=4 seed 1: failed: TrainingDiverged: the loss became [nan]; best so far {bests[1]}",
    ]


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Not even failures, which the command tells at its end."""
    play(quiet=True)
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of counts, the best and the running trials, and lines for what failed only."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    play()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "4 of 4 trials ended (2 finished, 1 stopped, 1 failed), 0 running" in text
    assert "Best so far, by validation" in text
    assert "[4/4] A size=4 seed 1: failed: TrainingDiverged" in text
    assert "finished in epoch" not in text
