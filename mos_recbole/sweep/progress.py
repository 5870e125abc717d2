"""The progress of a sweep: how many trials have ended, the time left, the trials that run, the best ones so far."""

import logging
import sys
from collections import Counter
from datetime import timedelta
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mos_recbole.results import TrialStatus
from mos_recbole.sweep.ledger import Ledger

_log = logging.getLogger(__name__)

_BEST_SHOWN = 5
# The time left is judged by the speed of this many last seconds.
_SPEED_PERIOD = 3600.0


class SweepProgress:
    """Bars and a table on a terminal, above which log lines appear; elsewhere a log line for every trial that ends.

    Args:
        ledger: the trials of the sweep.
        quiet: whether to show no bars.
    """

    def __init__(self, ledger: Ledger, *, quiet: bool) -> None:
        self._ledger = ledger
        self._bars = Progress(
            "{task.description}",
            BarColumn(),
            "{task.fields[state]}",
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            speed_estimate_period=_SPEED_PERIOD,
        )
        self._draws = not quiet and sys.stderr.isatty()
        self._counts: Counter[TrialStatus] = Counter()
        # By run: the last epoch of trials that have not ended, the best validation, the bars of those that run.
        self._epochs: dict[str, int] = {}
        self._best: dict[str, float] = {}
        self._running: dict[str, TaskID] = {}
        for run, one in ledger.trials.items():
            if (status := ledger.status(one)) == "unfinished":
                self._epochs[run] = ledger.epochs_trained(one)
                continue
            self._counts[status] += 1
            if status != "failed" and (best := ledger.best_validation(one)) is not None:
                self._best[run] = best
        self._total = len(ledger.trials) + ledger.to_suggest()
        self._all = self._bars.add_task("", total=self._total, state="")
        self._update()
        self._live = Live(
            get_renderable=lambda: Group(self._bars, self._best_table()),
            console=Console(stderr=True),
            refresh_per_second=2,
            transient=True,
        )

    def __enter__(self) -> "SweepProgress":
        if self._draws:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def start(self, run: str) -> None:
        """Shows that a trial runs."""
        if run not in self._running:
            one = self._ledger.trials[run]
            self._running[run] = self._bars.add_task(one.trial.label, total=one.epochs, state="")
            self._update()

    def epoch(self, run: str, epoch: int, best: float) -> None:
        """Shows that a trial has ended an epoch, and its best validation so far."""
        self.start(run)
        self._epochs[run], self._best[run] = epoch, best
        state = f"epoch {epoch}, best valid {self._ledger.plan.metric} {best:.4f}"
        self._bars.update(self._running[run], completed=epoch, state=state)
        self._update()

    def retry(self, run: str, error: str) -> None:
        """Shows that a trial failed and is tried again."""
        self._hide(run)
        _log.info("%s: failed, is tried again: %s", self._ledger.trials[run].trial.label, error)

    def end(self, run: str, status: TrialStatus, error: str | None = None) -> None:
        """Shows how a trial ended."""
        self._hide(run)
        epoch = self._epochs.pop(run, 0)
        self._counts[status] += 1
        best = self._best.pop(run, None) if status == "failed" else self._best.get(run)
        self._update()
        if self._draws and status != "failed":
            return
        metric = self._ledger.plan.metric
        score = f"valid {metric} {best:.4f}" if best is not None else "no validation"
        parts = [f"failed: {error}" if status == "failed" else f"{status} in epoch {epoch}, {score}"]
        parts += [f"best so far {leader:.4f}" for _, leader in self._leaders()[:1]]
        if left := self._bars.tasks[0].time_remaining:
            parts.append(f"about {timedelta(seconds=left)} left")
        label = self._ledger.trials[run].trial.label
        _log.info("[%d/%d] %s: %s", self._counts.total(), self._total, label, "; ".join(parts))

    def _hide(self, run: str) -> None:
        if run in self._running:
            self._bars.remove_task(self._running.pop(run))

    def _update(self) -> None:
        """Updates the bar of all trials, those that have not ended by their share of epochs."""
        trials, ended = self._ledger.trials, self._counts.total()
        self._total = max(self._total, len(trials))
        counts = f" ({', '.join(f'{count} {status}' for status, count in self._counts.items())})" if ended else ""
        self._bars.update(
            self._all,
            total=self._total,
            completed=ended + sum(epoch / trials[run].epochs for run, epoch in self._epochs.items()),
            description=f"{ended} of {self._total} trials ended{counts}, {len(self._running)} running",
        )

    def _leaders(self) -> list[tuple[str, float]]:
        """Returns the runs that have a validation, and their best one, in order."""
        return sorted(self._best.items(), key=lambda score: score[1], reverse=self._ledger.plan.mode == "max")

    def _best_table(self) -> Table:
        table = Table(title="Best so far, by validation", title_justify="left", box=None, pad_edge=False)
        table.add_column("trial")
        table.add_column("epoch", justify="right")
        table.add_column(f"valid {self._ledger.plan.metric}", justify="right")
        for run, score in self._leaders()[:_BEST_SHOWN]:
            epoch = str(self._epochs.get(run, "ended"))
            table.add_row(self._ledger.trials[run].trial.label, epoch, f"{score:.4f}")
        return table
