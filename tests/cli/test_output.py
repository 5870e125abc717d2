"""What the package logs, as the command line shows it."""

import logging

import pytest

from mos_recbole.cli.output import log_for_run, log_on_stderr

log = logging.getLogger("mos_recbole.somewhere")


def test_notes_and_warnings_are_sentences_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """The run that is under way is named, but not beside what is said once for all runs; a warning is printed once."""
    with log_on_stderr(logging.INFO):
        log.info("%d users", 3)
        log.warning("gpu_id has no effect here")
        log.warning("gpu_id has no effect here")
        log.debug("not shown")
        with log_for_run("[1/2] Pop seed 1"):
            log.info("resumed after epoch 1")
            log.info("30 users", extra={"once": True})
        with log_for_run("[2/2] Pop seed 2"):
            log.info("30 users", extra={"once": True})
    assert capsys.readouterr() == (
        "",
        "3 users\nwarning: gpu_id has no effect here\n[1/2] Pop seed 1: resumed after epoch 1\n30 users\n",
    )


def test_quiet_shows_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    """Level WARNING hides notes; after the context the logger is as it was."""
    before = list(logging.getLogger("mos_recbole").handlers)
    with log_on_stderr(logging.WARNING):
        log.info("30 users")
        log.warning("broken prepared data")
    assert capsys.readouterr().err == "warning: broken prepared data\n"
    assert logging.getLogger("mos_recbole").handlers == before
    assert logging.getLogger("mos_recbole").propagate
