"""What a sweep shows while it is under way: counts, time left, the best trials so far, the ones that run."""

import sys
import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from mos_recbole.results import Trial
from mos_recbole.sweep.words import in_words, name_trial

_BEST_SHOWN = 5
_DRAW_EVERY = 0.5  # seconds


@dataclass
class _Running:
    epoch: int = 0
    best: float | None = None


class SweepProgress:
    """A live table on a terminal, a line for every trial that ends in a log, nothing where quiet.

    Args:
        metric: validation metric that selects.
        mode: "max" or "min".
        quiet: whether to show nothing.
    """

    def __init__(self, metric: str, mode: str, *, quiet: bool) -> None:
        self._metric, self._mode, self._quiet = metric, mode, quiet
        self._console = Console(stderr=True)
        self._draws = not quiet and sys.stderr.isatty()
        self._epochs: dict[str, int] = {}
        self._trials: dict[str, Trial] = {}
        self._running: dict[str, _Running] = {}
        self._best: dict[str, float] = {}
        self._counts = {"finished": 0, "stopped": 0, "failed": 0}
        self._share_before = 0.0
        self._expected = 0
        self._began = self._drawn = time.monotonic()
        self._live = Live(console=self._console, get_renderable=self._table, auto_refresh=False, transient=True)

    def expect(self, trials: int) -> None:
        """Sets how many trials there are in all, of which some may not be known yet."""
        self._expected = trials

    def add(self, trial: Trial, epochs: int) -> None:
        """Adds a trial that has still to be run, with the number of its last epoch."""
        self._trials[trial.run], self._epochs[trial.run] = trial, epochs
        self._expected = max(self._expected, len(self._trials))

    def add_ended(self, trial: Trial, status: str, best: float | None) -> None:
        """Adds a trial that ended in an earlier sitting."""
        self._trials[trial.run] = trial
        self._expected = max(self._expected, len(self._trials))
        self._counts[status] += 1
        if best is not None:
            self._best[trial.run] = best
        self._share_before = sum(self._counts.values())

    def note(self, text: str) -> None:
        """Shows a sentence."""
        if not self._quiet:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def epoch(self, run: str, epoch: int, best: float) -> None:
        """Takes in what a trial reported."""
        running = self._running.setdefault(run, _Running())
        if not running.epoch and run in self._epochs:  # what an earlier sitting has trained says nothing of this one
            self._share_before += (epoch - 1) / self._epochs[run]
        running.epoch, running.best = epoch, best

    def refresh(self) -> None:
        """Draws the table anew, if it was not drawn just now."""
        if self._draws and time.monotonic() - self._drawn > _DRAW_EVERY:
            self._live.refresh()
            self._drawn = time.monotonic()

    def started(self, run: str) -> None:
        """Takes in that a trial runs."""
        self._running.setdefault(run, _Running())

    def retried(self, run: str, error: str) -> None:
        """Shows that a trial failed and is tried again."""
        self._running.pop(run, None)
        self.note(f"{name_trial(self._trials[run])}: failed, is tried again: {error}")

    def ended(self, run: str, status: str, error: str | None = None) -> None:
        """Shows how a trial ended."""
        running = self._running.pop(run, _Running())
        self._counts[status] += 1
        if running.best is not None and status != "failed":
            self._best[run] = running.best
        if self._quiet or (self._draws and status != "failed"):
            return
        shown = f"valid {self._metric} {running.best:.4f}" if running.best is not None else "no validation"
        parts = [f"failed: {error}" if status == "failed" else f"{status} in epoch {running.epoch}, {shown}"]
        parts += [f"best so far {score:.4f}" for _, score in self._leaders()[:1]]
        parts += [left for left in [self._left()] if left]
        done = sum(self._counts.values())
        self.note(f"[{done}/{self._expected}] {name_trial(self._trials[run])}: {'; '.join(parts)}")

    def __enter__(self) -> "SweepProgress":
        self._began = time.monotonic()
        if self._draws:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._draws:
            self._live.stop()

    def _leaders(self) -> list[tuple[str, float]]:
        """Returns the runs with a validation so far and that, best first."""
        scores = self._best | {run: one.best for run, one in self._running.items() if one.best is not None}
        return sorted(scores.items(), key=lambda score: -score[1] if self._mode == "max" else score[1])

    def _left(self) -> str:
        """Returns about how long the rest takes, by the share of epochs that this sitting has done; may be less."""
        done = sum(self._counts.values()) + sum(
            one.epoch / self._epochs[run] for run, one in self._running.items() if run in self._epochs
        )
        share = (done - self._share_before) / max(self._expected - self._share_before, 1e-9)
        if share <= 0:
            return ""
        seconds = (time.monotonic() - self._began) * (1 - share) / share
        return f"about {in_words(seconds)} left" if share < 1 else ""

    def _table(self) -> RenderableType:
        done = sum(self._counts.values())
        counts = ", ".join(f"{count} {status}" for status, count in self._counts.items() if count)
        elapsed = in_words(time.monotonic() - self._began)
        head = f"{done} of {self._expected} trials ended" + (f" ({counts})" if counts else "")
        head += f", {len(self._running)} running; {elapsed} passed" + (f", {left}" if (left := self._left()) else "")
        best = Table(title="Best so far, by validation", title_justify="left", box=None, pad_edge=False)
        for column, justify in (("trial", "left"), ("epoch", "right"), (f"valid {self._metric}", "right")):
            best.add_column(column, justify=justify)  # type: ignore[arg-type]
        for run, score in self._leaders()[:_BEST_SHOWN]:
            one = self._running.get(run)
            best.add_row(name_trial(self._trials[run]), str(one.epoch) if one else "ended", f"{score:.4f}")
        running = Table(title="Running", title_justify="left", box=None, pad_edge=False)
        for column, justify in (("trial", "left"), ("epoch", "right"), (f"best valid {self._metric}", "right")):
            running.add_column(column, justify=justify)  # type: ignore[arg-type]
        for run, one in self._running.items():
            score_text = f"{one.best:.4f}" if one.best is not None else ""
            running.add_row(name_trial(self._trials[run]), f"{one.epoch}/{self._epochs.get(run, 0)}", score_text)
        return Group(head, "", best, "", running)
