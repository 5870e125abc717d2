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
    return PlannedTrial(trial, SimpleNamespace(model_class=object, values={"epochs": 10}))  # type: ignore[arg-type]


def a_ledger(mode: str = "max") -> Any:
    """Returns a ledger of four trials, of which one ended before."""
    trials = {one.trial.run: one for one in map(a_trial, range(1, 5))}
    plan = SimpleNamespace(name="small", metric="NDCG@10", mode=mode, datasets=["toy"], space={"size": {}, "other": {}})
    plan.space["other"]["same_as"] = "size"
    return SimpleNamespace(
        trials=trials,
        plan=plan,
        folder="results/small",
        sweep=SimpleNamespace(resources=SimpleNamespace(fuse=1)),
        status=lambda one: "finished" if one.trial.number == 1 else "unfinished",
        best_validation=lambda one: 0.2 if one.trial.number == 1 else None,
        epochs_trained=lambda one: 10 if one.trial.number == 1 else 0,
        epoch_seconds=lambda one: 60.0 if one.trial.number == 1 else None,
        wall_seconds=lambda one: None,
        unfinished=lambda winners: [] if winners else list(trials.values())[1:],
        to_come=lambda: 0,
    )


def play(progress: SweepProgress) -> None:
    """Shows that one finishes, one stops after a second attempt, one fails."""
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
    """A line for each trial that ends, the model's best so far by the metric's direction; each message is one line."""
    with log_on_stderr(logging.INFO), SweepProgress(a_ledger(mode), quiet=False) as progress:
        play(progress)
    out, error = capsys.readouterr()
    lines = [re.sub(r"; about .* left", "", line) for line in error.splitlines()]
    assert out == ""
    assert lines == [
        f"[2/4] A size=2 seed 1: finished in epoch 2, valid NDCG@10 0.3000; best of A so far {bests[0]}",
        "A size=3 seed 1: failed, is tried again: ValueError: no",
        f"[3/4] A size=3 seed 1: stopped in epoch 2, valid NDCG@10 0.2500; best of A so far {bests[1]}",
        f"[4/4] A size=4 seed 1: failed: TrainingDiverged: the loss became [nan]; best of A so far {bests[1]}",
    ]


def test_a_log_tells_how_long_trials_stand(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Every few minutes after the last line, and not at every epoch; a trial that ends is such a line too."""
    caplog.set_level(logging.INFO)
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("mos_recbole.sweep.progress.time", SimpleNamespace(monotonic=lambda: clock.now))
    with SweepProgress(a_ledger(), quiet=False) as progress:
        for clock.now, epoch in ((0.0, 0), (100.0, 1), (310.0, 2), (500.0, 3), (600.0, 4), (620.0, 5)):
            progress.epoch("run-2", epoch, 0.1)
        clock.now = 900.0
        progress.end("run-2", "finished")
        clock.now = 1100.0
        progress.epoch("run-3", 1, 0.2)
    lines = [re.sub(r"; about .* left$", "; left", line) for line in caplog.messages]
    assert [line for line in lines if "[" not in line] == ["1 of 4 finished, 1 running; left"] * 2
    assert len(lines) == 3


def test_an_interrupted_log_ends_with_the_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), log_on_stderr(logging.INFO):
        interrupted(a_ledger())
    assert capsys.readouterr().err == "a warning\n1 of 4 finished, 1 running\n"


def interrupted(ledger: Any) -> None:
    with SweepProgress(ledger, quiet=False) as progress:
        progress.epoch("run-3", 3, 0.25)
        print("a warning", file=sys.stderr)
        raise KeyboardInterrupt


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Not even failures, which the command tells at its end."""
    with log_on_stderr(logging.WARNING), SweepProgress(a_ledger(), quiet=True) as progress:
        play(progress)
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    """What a terminal was sent. It has a second screen, which is not kept."""

    def isatty(self) -> bool:
        return True

    @property
    def kept(self) -> list[str]:
        """The lines of the first screen, without colours."""
        first = re.sub(r"\x1b\[\?1049h.*?\x1b\[\?1049l", "", self.getvalue(), flags=re.S)
        return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", first).splitlines()]


def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Returns what stands in for standard error."""
    stand_in = Terminal()
    monkeypatch.setattr(sys, "stderr", stand_in)
    for name, value in (("COLUMNS", "100"), ("LINES", "40"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    return stand_in


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is on the second screen; the counts stay, and lines for what failed."""
    terminal = a_terminal(monkeypatch)
    with log_on_stderr(logging.INFO), SweepProgress(a_ledger(), quiet=False) as progress:
        play(progress)
    assert "Best of each model so far, by validation NDCG@10" in terminal.getvalue()
    assert terminal.kept == [
        "A size=3 seed 1: failed, is tried again: ValueError: no",
        "[4/4] A size=4 seed 1: failed: TrainingDiverged: the loss became [nan]; best of A so far 0.3000",
        "2 of 4 finished, 1 stopped, 1 failed",
    ]


def test_an_interruption_keeps_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was printed meanwhile, then the last page: counts, each model's best with what varies, what ran."""
    terminal = a_terminal(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        interrupted(a_ledger())
    shown = terminal.kept
    assert shown[:3] == ["a warning", "Sweep small in results/small", "1 of 4 finished, 1 running"]
    assert re.fullmatch(r"[━╸]+  0\.\d s so far, about \d+ min \d\d s left", shown[3])
    header = shown.index("Best of each model so far, by validation NDCG@10") + 1
    assert shown[header].split() == ["model", "NDCG@10", "size", "seed", "epoch"]
    assert shown[header + 1].split() == ["A", "0.2500", "3", "1", "3", "of", "10"]
    running = shown[shown.index("Running") + 2]
    assert running.split() == ["A", "0.2500", "3", "1", "3", "of", "10"]
