"""The progress of a sweep: how many trials have ended, the time left, the trials that run, each model's best so far."""

import contextlib
import io
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mos_recbole.progress import format_duration
from mos_recbole.results import TrialStatus, format_parameter, short_name
from mos_recbole.sweep.ledger import Ledger
from mos_recbole.sweep.pace import Pace
from mos_recbole.sweep.plan import Key, PlannedTrial

_log = logging.getLogger(__name__)

_MOST_RUNNING, _MOST_MESSAGES = 8, 5  # that are shown
_BAR_WIDTH = 24
# Seconds after which a log says how the sweep stands, where no trial has ended meanwhile.
_LOG_EVERY = 300.0


class SweepProgress:
    """A page on a terminal, which stays when the sweep is interrupted; elsewhere a log.

    The log has a line for every trial that ends, and one with the counts every few minutes where none does.

    The page has the terminal's second screen, so that nothing is left of it when the window is resized.

    Args:
        ledger: the trials of the sweep.
        at_a_time: how many of them run at once.
        quiet: whether to show nothing.
    """

    def __init__(self, ledger: Ledger, *, at_a_time: int = 1, quiet: bool) -> None:
        self._ledger, self._began = ledger, time.monotonic()
        self._logged = self._began
        self._console = Console(file=sys.stderr)  # which is another while the page is drawn
        self._draws = not quiet and self._console.is_terminal and not self._console.is_dumb_terminal
        self._messages = _Messages()
        self._drawing = contextlib.ExitStack()
        # By run: how the ones that ended did and after which epoch, the last epoch of others, the best validation.
        self._statuses: dict[str, TrialStatus] = {}
        self._epochs: dict[str, int] = {}
        self._best: dict[str, float] = {}
        self._running: dict[str, None] = {}
        self._began_trials = False
        earlier: dict[str, float] = {}
        beside: list[float] = []
        for run, one in ledger.trials.items():
            self._epochs[run] = ledger.epochs_trained(one)
            if (status := ledger.status(one)) != "unfinished":
                self._statuses[run] = status
            if status != "failed" and (best := ledger.best_validation(one)) is not None:
                self._best[run] = best
            # Trials that are trained as one share the time of an epoch among them.
            if ledger.sweep.resources.fuse == 1 and (seconds := ledger.epoch_seconds(one)) is not None:
                earlier[run] = seconds
                beside += [wall - self._epochs[run] * seconds] if (wall := ledger.wall_seconds(one)) else []
        self._order = [one.trial.run for winners in (False, True) for one in ledger.unfinished(winners=winners)]
        self._total = len(ledger.trials) + ledger.to_come()
        self._pace = Pace(at_a_time, earlier, beside)

    def __enter__(self) -> "SweepProgress":
        if self._draws:
            live = Live(
                console=self._console,
                get_renderable=self._page,
                screen=True,
                refresh_per_second=2,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._drawing.enter_context(live).refresh()
            self._drawing.callback(self._console.clear)  # for terminals that have one screen only
            for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr):
                self._drawing.enter_context(redirect(self._messages))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drawing.close()
        for line in self._messages.lines if self._draws else ():
            print(line, file=sys.stderr)
        self._messages.lines.clear()
        if self._draws and kind is not None:
            self._console.print(self._page())
        elif self._draws:
            self._console.print(self._counts(), highlight=False)
        elif kind is not None:
            _log.info(self._counts())

    def start(self, run: str) -> None:
        """Shows that a trial runs."""
        if run not in self._running:
            self._running[run], self._began_trials = None, True
            self._pace.start(run, self._epochs.setdefault(run, 0))

    def epoch(self, run: str, epoch: int, best: float) -> None:
        """Shows that a trial has ended an epoch, and its best validation so far."""
        self.start(run)
        self._epochs[run], self._best[run] = epoch, best
        self._pace.report(run, epoch)
        if not self._draws and time.monotonic() - self._logged >= _LOG_EVERY:
            self._logged = time.monotonic()
            if _log.isEnabledFor(logging.INFO):
                _log.info("; ".join(filter(None, [self._counts(), self._time_left()])))

    def retry(self, run: str, error: str) -> None:
        """Shows that a trial failed and is tried again."""
        self._running.pop(run, None)
        _log.info("%s: failed, is tried again: %s", self._ledger.trials[run].trial.label, error)

    def end(self, run: str, status: TrialStatus, error: str | None = None) -> None:
        """Shows how a trial ended."""
        self._running.pop(run, None)
        self._logged = time.monotonic()
        self._pace.end(run)
        self._statuses[run] = status
        self._total = max(self._total, len(self._ledger.trials))
        best = self._best.pop(run, None) if status == "failed" else self._best.get(run)
        if not _log.isEnabledFor(logging.INFO) or (self._draws and status != "failed"):
            return
        metric, one = self._ledger.plan.metric, self._ledger.trials[run]
        score = f"valid {metric} {best:.4f}" if best is not None else "no validation"
        parts = [f"failed: {error}" if status == "failed" else f"{status} in epoch {self._epochs.get(run, 0)}, {score}"]
        parts += [f"best of {one.trial.model} so far {self._best[leader]:.4f}" for leader in self._leaders(one.key)]
        parts += [left] if (left := self._time_left()) else []
        _log.info("[%d/%d] %s: %s", len(self._statuses), self._total, one.trial.label, "; ".join(parts))

    def _time_left(self) -> str:
        """Returns "about 3 min 20 s left", or "" where that is not known or nothing is left."""
        # Copies, since the page is drawn by a thread of its own.
        trials, statuses, running = dict(self._ledger.trials), dict(self._statuses), list(self._running)

        def with_epoch(run: str) -> tuple[PlannedTrial, int]:
            return trials[run], self._epochs.get(run, 0)

        runs = dict.fromkeys([*self._order, *trials])
        left = self._pace.seconds_left(
            {run: with_epoch(run) for run, status in statuses.items() if status != "failed"},
            {run: with_epoch(run) for run in running},
            [with_epoch(run) for run in runs if run in trials and run not in statuses and run not in running],
            self._total - len(trials),
        )
        return f"about {format_duration(left)} left" if left and len(statuses) < self._total else ""

    def _counts(self) -> str:
        """Returns "16 of 48 finished, 1 failed, 2 running"."""
        counts = Counter(list(self._statuses.values()))
        others = [f"{counts[status]} {status}" for status in ("stopped", "failed") if counts[status]]
        running = [f"{len(self._running)} running"] if self._running else []
        return ", ".join([f"{counts['finished']} of {self._total} finished", *others, *running])

    def _leaders(self, key: Key) -> list[str]:
        """Returns the run with a model's best validation, if it has any."""
        own = [run for run in list(self._best) if self._ledger.trials[run].key == key]
        sign = -1 if self._ledger.plan.mode == "max" else 1
        return sorted(own, key=lambda run: sign * self._best[run])[:1]

    def _page(self) -> RenderableType:
        plan = self._ledger.plan
        title = Text.assemble("Sweep ", (plan.name, "bold"), f" in {self._ledger.folder}")
        spent = f"{format_duration(time.monotonic() - self._began)} so far"
        times = ", ".join(filter(None, [spent, self._time_left()]))
        ended = sum(map(self._share, list(self._ledger.trials)))
        done = Table.grid(padding=(0, 2))
        done.add_row(ProgressBar(total=self._total, completed=ended, width=_BAR_WIDTH), times)
        parts: list[RenderableType] = [title, Text(self._counts()), done]
        if self._best:
            heading = Text(f"\nBest of each model so far, by validation {plan.metric}", style="bold")
            keys = dict.fromkeys(one.key for one in list(self._ledger.trials.values()))
            parts += [heading, self._table([run for key in keys for run in self._leaders(key)])]
        if running := list(self._running):
            more = f", {len(running) - _MOST_RUNNING} more" if len(running) > _MOST_RUNNING else ""
            parts += [Text(f"\nRunning{more}", style="bold"), self._table(running[:_MOST_RUNNING])]
        elif not self._began_trials:
            parts.append(Text("\nRay starts the processes that trials run in."))
        parts += [Text(line) for line in ["", *self._messages.lines[-_MOST_MESSAGES:]]]
        return Group(*parts)

    def _share(self, run: str) -> float:
        """Returns how much of a trial is done."""
        return 1.0 if run in self._statuses else self._epochs.get(run, 0) / self._ledger.trials[run].epochs

    def _table(self, runs: Sequence[str]) -> Table:
        """Returns trials with the settings that vary."""
        plan, trials = self._ledger.plan, self._ledger.trials
        # What follows another parameter says nothing new.
        keys = [key for key, parameter in plan.space.items() if "same_as" not in parameter]
        several = len(plan.datasets) > 1
        table = Table(box=None)
        for name in ("model", *(["data set"] if several else [])):
            table.add_column(name, no_wrap=True)
        for name in (plan.metric, *map(short_name, keys), "seed", "epoch"):
            table.add_column(name, justify="right", overflow="fold")
        for run in runs:
            trial = trials[run].trial
            best = f"{self._best[run]:.4f}" if run in self._best else ""
            values = [format_parameter(trial.parameters[key]) if key in trial.parameters else "" for key in keys]
            epoch = "ended" if run in self._statuses else f"{self._epochs.get(run, 0)} of {trials[run].epochs}"
            table.add_row(trial.model, *([trial.dataset] if several else []), best, *values, str(trial.seed), epoch)
        return table


class _Messages(io.TextIOBase):
    """What is printed while the page is drawn.

    Attributes:
        lines: whole lines.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *whole, self._rest = (self._rest + text).split("\n")
        self.lines += whole
        return len(text)
