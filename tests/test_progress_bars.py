"""Progress bars on standard error."""

import re
import sys
import time

import pytest
import rich

from mos_recbole import progress
from mos_recbole.progress import ProgressBar, tracked


@pytest.fixture
def _terminal() -> None:
    rich.reconfigure(stderr=True, force_terminal=True, width=120, height=40)


@pytest.mark.usefixtures("_terminal")
def test_nested_bars_and_lines_between_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Both bars are drawn on standard error, with what is done and a state; a printed line is kept whole."""
    with ProgressBar("[1/2] Pop seed 1", 2, "epochs", show=True) as outer:
        with ProgressBar("epoch 1/2", 2000, "targets", show=True) as inner:
            inner.advance(1500, "loss 0.5")
            time.sleep(0.3)  # bars are drawn ten times a second
            print("a note", file=sys.stderr, flush=True)
            inner.advance(500)
        outer.advance(1)
    out, error = capsys.readouterr()
    assert out == ""
    for part in ("[1/2] Pop seed 1", "0/2 epochs", "1/2 epochs", "1,500/2,000 targets", "loss 0.5", "a note\n"):
        assert part in error


@pytest.mark.parametrize("show", [None, False])
def test_nothing_is_drawn_elsewhere(show: bool | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Not in a log, and not when told not to."""
    with ProgressBar("epoch 1/2", 10, "targets", show=show) as bar:
        bar.advance(5)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("_terminal")
@pytest.mark.parametrize(
    ("level", "seconds", "drawn"), [("INFO", 0.0, True), ("INFO", 60.0, False), ("WARNING", 0.0, False)]
)
def test_a_bar_appears_late(
    level: str, seconds: float, drawn: bool, monkeypatch: pytest.MonkeyPatch, caplog, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where nothing advances. Short work draws nothing, and nothing is drawn where information is not logged."""
    caplog.set_level(level, "mos_recbole")
    monkeypatch.setattr(progress, "_APPEARS", seconds)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ProgressBar("reading") as bar:
        end = time.monotonic() + (5.0 if drawn else 0.1)
        while bar._bars is None and time.monotonic() < end:
            time.sleep(0.01)
    assert ("reading" in capsys.readouterr().err) == drawn


def test_lines_in_a_log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Every few seconds a line says what is under way, within what, and how much is left; short work says nothing."""
    caplog.set_level("INFO", "mos_recbole")
    assert list(tracked(range(3), "short", "runs")) == [0, 1, 2]
    assert caplog.messages == []
    monkeypatch.setattr(progress, "_FIRST_LINE", 0.05)
    with ProgressBar("report", 4, "steps") as bar:
        bar.advance(1, "compared")
        for _ in tracked(iter("ab"), "reading outcomes", "runs"):
            time.sleep(0.1)
    assert len(caplog.messages) == 1
    assert re.fullmatch(
        r"report: 1 of 4 steps, compared, about 0\.\d s left; reading outcomes: 0 runs, for 0\.\d s", caplog.messages[0]
    )
    assert not ProgressBar._under_way
