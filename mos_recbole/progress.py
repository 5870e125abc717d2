"""Progress bars on standard error."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


class ProgressBar:
    """A bar that is drawn while its context is open; bars may be nested, and lines printed meanwhile go above them.

    Args:
        name: what is under way.
        total: how much there is to do, if known.
        unit: what is counted.
        show: whether to draw; by default on a terminal only.
        delay: seconds before the bar appears.
    """

    def __init__(
        self, name: str, total: int | None, unit: str, *, show: bool | None = None, delay: float = 0.0
    ) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._show = sys.stderr.isatty() if show is None else show
        self._delay, self._began, self._done = delay, time.monotonic(), 0
        self._state = ""
        self._bars: Progress | None = None

    def advance(self, amount: int, state: str | None = None) -> None:
        """Adds to what is done; `state` is shown behind the bar from now on."""
        self._done += amount
        self._state = self._state if state is None else state
        if self._show and self._bars is None and time.monotonic() - self._began >= self._delay:
            self._open()
        if self._bars is not None:
            self._bars.update(self._bars.task_ids[0], completed=self._done, state=self._state)

    def __enter__(self) -> "ProgressBar":
        self.advance(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def _open(self) -> None:
        # Not at the top: most processes draw nothing.
        import rich
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        # Bars can be nested on one console only, and rich's own is on standard output at first.
        if not rich.get_console().stderr:
            rich.reconfigure(stderr=True)
        count = "{task.completed:,.0f}" + ("" if self._total is None else "/{task.total:,.0f}") + f" {self._unit}"
        texts = [TextColumn(text, markup=False) for text in ("{task.description}", count, "{task.fields[state]}")]
        times = [TimeElapsedColumn(), TimeRemainingColumn()]
        self._bars = Progress(texts[0], BarColumn(), texts[1], *times, texts[2], transient=True)
        self._bars.add_task(self._name, total=self._total, completed=self._done, state="")
        self._bars.start()
