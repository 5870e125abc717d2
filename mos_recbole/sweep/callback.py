"""Ray Tune's callback that writes to the ledger how trials go and end, and shows it."""

import contextlib
import logging
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from ray import cloudpickle, tune
from ray.exceptions import RayActorError, RayTaskError
from ray.tune.experiment import Trial as RayTrial

from mos_recbole.sweep.ledger import Ledger
from mos_recbole.sweep.progress import SweepProgress
from mos_recbole.sweep.trial import BEST, EPOCH, ERROR, FINISHED, MEMBERS, runs_of

_log = logging.getLogger(__name__)


class LedgerCallback(tune.Callback):
    """Keeps the ledger and the progress up to date. A trial of Ray's is one run, or several that are trained as one."""

    def __init__(self, ledger: Ledger, progress: SweepProgress) -> None:
        self._ledger, self._progress = ledger, progress
        self._interrupted = False
        # Of runs that are trained as one: those that have finished, and the errors of those that have diverged.
        self._finished: set[str] = set()
        self._errors: dict[str, str] = {}

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Makes Ctrl-C always end the sweep, and SIGTERM in the same way.

        Python drops a KeyboardInterrupt in a destructor, and Ray has many; on SIGTERM Ray's own code would abort.
        """

        def interrupt(number: int, frame: FrameType | None) -> None:
            self._interrupted = True
            raise KeyboardInterrupt

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles callbacks for its own way of resuming, which is not used.
        return {}

    def on_step_end(self, iteration: int, trials: list[RayTrial], **info: Any) -> None:
        if self._interrupted:
            raise KeyboardInterrupt

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        for run in self._unfinished(trial):
            self._progress.start(run)

    def on_trial_result(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, result: dict[str, Any], **info: Any
    ) -> None:
        for run, report in result.get(MEMBERS, {trial.config["trial"]["run"]: result}).items():
            if run in self._finished:  # in an earlier attempt of its group
                continue
            if ERROR in report:
                self._errors[run] = _one_line(report[ERROR], trial)
                continue
            self._progress.epoch(run, report[EPOCH], report[BEST])
            if MEMBERS in result and report.get(FINISHED):  # the others go on
                self._finish(run)

    def on_trial_complete(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        runs = runs_of(trial)
        if len(runs) == 1 and not (trial.last_result or {}).get(FINISHED):
            # First of all, since the scheduler forgets its decision.
            self._ledger.update(runs[0], ended="stopped", error=None)
            self._fetch(runs[0])
            self._progress.end(runs[0], "stopped")
            return
        for run in runs:
            self._finish(run)

    def on_trial_recover(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        for run, error, attempts in self._failures(trial):
            self._ledger.update(run, attempts=attempts, error=error)
            self._progress.retry(run, error)

    def on_trial_error(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: Any) -> None:
        for run, error, attempts in self._failures(trial):
            if self._has_record(run):  # its process ended between writing the record and reporting it
                self._ledger.update(run, error=None, attempts=attempts)
                self._progress.end(run, "finished")
            else:
                self._ledger.update(run, ended="failed", error=error, attempts=attempts)
                self._progress.end(run, "failed", error)

    def _failures(self, trial: RayTrial) -> Iterator[tuple[str, str, int]]:
        """Yields the unfinished runs of a trial that failed, with their error and the number of attempts so far."""
        shared = _error_of(trial)
        for run in self._unfinished(trial):
            yield run, self._errors.pop(run, shared), self._ledger.trials[run].trial.attempts + 1

    def _finish(self, run: str) -> None:
        """Records that a run has finished, once."""
        if run in self._finished:
            return
        self._finished.add(run)
        if self._has_record(run):
            self._ledger.update(run, error=None)
            self._progress.end(run, "finished")
        else:
            error = "finished on another machine, and left no record here; expected --storage, or a shared folder"
            self._ledger.update(run, ended="failed", error=error)
            self._progress.end(run, "failed", error)

    def _unfinished(self, trial: RayTrial) -> list[str]:
        return [run for run in runs_of(trial) if run not in self._finished]

    def _has_record(self, run: str) -> bool:
        self._fetch(run)
        return self._ledger.has_record(run)

    def _fetch(self, run: str) -> None:
        try:
            self._ledger.fetch(run)
        except OSError as error:
            _log.info("%s: not copied from the storage (%s); the same command copies it", run, error)


def _error_of(trial: RayTrial) -> str:
    """Returns the message of a trial's last failure."""
    # Ray's own accessor looks where it copies the file to later.
    pickled = Path(trial.pickled_error_file or "")
    error = None
    if pickled.is_file():
        error = cloudpickle.loads(pickled.read_bytes())
        pickled.unlink()  # not every failure writes one
    if isinstance(error, RayActorError):
        return "its process was killed, or its machine was lost"
    if isinstance(error, RayTaskError) and error.cause is not None:
        message = f"{type(error.cause).__name__}: {error.cause}"
    else:
        texts = Path(trial.error_file or "").read_text(encoding="utf-8").split("Failure # ")
        message = texts[-1].partition("\n")[2] or "no message"
    return _one_line(message, trial)


def _one_line(message: str, trial: RayTrial) -> str:
    """Returns an error message on one line, without the paths of runs' folders."""
    for run in runs_of(trial):
        message = re.sub(rf"\S*{re.escape(run)}/", "", message)
    return " ".join(message.split())
