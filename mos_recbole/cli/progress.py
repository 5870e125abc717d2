"""What a run shows on the terminal while it is under way."""

import sys
from types import TracebackType

from tqdm import tqdm

from mos_recbole.settings import Settings
from mos_recbole.training import EpochReport


class EpochProgress:
    """A bar over the epochs on a terminal, a line per epoch in a log, nothing where quiet.

    Args:
        name: of the run, for the head of bars and lines.
        settings: of the run.
        quiet: whether to show nothing.
    """

    def __init__(self, name: str, settings: Settings, *, quiet: bool) -> None:
        self.name, self.quiet = name, quiet
        self.draws = not quiet and sys.stderr.isatty()
        self.metric = settings.values["valid_metric"]
        self.best = ""
        self.bar = tqdm(
            total=settings.values["epochs"],
            desc=name,
            unit=" epochs",
            disable=not self.draws,
            dynamic_ncols=True,
            leave=False,
        )

    def epoch(self, report: EpochReport) -> None:
        """Shows an epoch."""
        score = "" if report.valid is None else f"valid {self.metric} {report.valid[self.metric]:.4f}"
        if report.best:
            self.best = f"best {report.valid[self.metric]:.4f} in epoch {report.epoch}" if report.valid else ""
        if self.draws:
            self.bar.update(report.epoch - self.bar.n)
            self.bar.set_postfix_str(f"loss {report.loss:.4f}, {score}, {self.best}")
        elif not self.quiet:
            seconds = report.train_seconds + report.eval_seconds
            print(
                f"{self.name}: epoch {report.epoch}: loss {report.loss:.4f}, {score} ({self.best}), {seconds:.1f} s",
                file=sys.stderr,
                flush=True,
            )

    def __enter__(self) -> "EpochProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
