"""Progress bars on standard error."""

import sys
import time

import pytest
import rich

from mos_recbole.progress import ProgressBar


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


def test_a_bar_with_a_delay_appears_late(capsys: pytest.CaptureFixture[str]) -> None:
    """Short work draws nothing."""
    with ProgressBar("ranking", 10, "queries", show=True, delay=60.0) as bar:
        bar.advance(10)
    assert capsys.readouterr().err == ""
