"""What a run shows on the terminal while it is under way."""

import sys
from types import TracebackType

from mos_recbole.progress import ProgressBar
from mos_recbole.settings import Settings
from mos_recbole.training import EpochReport


class EpochProgress:
    """A bar over the epochs on a terminal, a line per epoch in a log, nothing if quiet.

    Args:
        name: name of the run, with which bars and lines begin.
        settings: settings of the run.
        quiet: whether to show nothing.
    """

    def __init__(self, name: str, settings: Settings, *, quiet: bool) -> None:
        self.name, self.quiet = name, quiet
        self.draws = not quiet and sys.stderr.isatty()
        self.metric = settings.values["valid_metric"]
        self.best, self.last = "", 0
        self.best_score: float | None = None
        self.bar = ProgressBar(name, settings.values["epochs"], "epochs", show=self.draws)

    def epoch(self, report: EpochReport) -> None:
        """Shows an epoch."""
        score = "not validated" if report.valid is None else f"valid {self.metric} {report.valid[self.metric]:.4f}"
        if report.valid and report.best_score == report.valid[self.metric] != self.best_score:
            self.best, self.best_score = f"best {report.best_score:.4f} in epoch {report.epoch}", report.best_score
        state = [f"loss {report.loss:.4f}", score, *([self.best] if self.best else [])]
        self.bar.advance(report.epoch - self.last, ", ".join(state))
        self.last = report.epoch
        if not self.draws and not self.quiet:
            seconds = report.train_seconds + report.eval_seconds
            best = f" ({self.best})" if self.best else ""
            print(
                f"{self.name}: epoch {report.epoch}: loss {report.loss:.4f}, {score}{best}, {seconds:.1f} s",
                file=sys.stderr,
                flush=True,
            )

    def __enter__(self) -> "EpochProgress":
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, error, trace)
