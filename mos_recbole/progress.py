"""The progress of work that takes more than a moment, on standard error: a bar on a terminal, lines in a log.

And how durations are written.
"""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

_log = logging.getLogger(__name__)
_Thing = TypeVar("_Thing")

# Seconds before a bar appears, before the first line in a log, and between lines.
_APPEARS, _FIRST_LINE, _NEXT_LINE = 1.0, 3.0, 10.0
_BAR_WIDTH = 24


def format_duration(seconds: float) -> str:
    """Returns "9.3 s", "3 min 20 s" or "2 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


@contextlib.contextmanager
def log_from(logger: str, level: int) -> Iterator[None]:
    """Keeps what is below a level out of a logger, by its name, while the context is open."""
    chosen = logging.getLogger(logger)
    before = chosen.level
    chosen.setLevel(level)
    try:
        yield
    finally:
        chosen.setLevel(before)


class ProgressBar:
    """Progress that is shown while its context is open, once that has lasted for a moment.

    On a terminal it is a bar; bars may be nested, and lines printed meanwhile go above them. Elsewhere it is a logged
    line every few seconds, with what is under way within it. Nothing is shown where the package's information is not
    logged, as with --quiet.

    Args:
        name: what is under way.
        total: how much there is to do, if known.
        unit: what is counted, if anything is.
        show: True for a bar at once, False for nothing.
    """

    _under_way: ClassVar[list["ProgressBar"]] = []

    def __init__(self, name: str, total: int | None = None, unit: str = "", *, show: bool | None = None) -> None:
        self._name, self._total, self._unit, self._show = name, total, unit, show
        self._began, self._done, self._state = time.monotonic(), 0, ""
        self._bars: Progress | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def advance(self, amount: int, state: str | None = None) -> None:
        """Adds to what is done; `state` is shown behind it from now on."""
        self._done += amount
        self._state = self._state if state is None else state
        if self._bars is not None:
            self._bars.update(self._bars.task_ids[0], completed=self._done, state=self._state)

    def __enter__(self) -> "ProgressBar":
        if self._show:
            self._open()
        elif self._show is None and _log.isEnabledFor(logging.INFO):
            if sys.stderr.isatty():
                self._start(self._open_late)
            else:
                if not self._under_way:
                    self._start(self._tell)
                self._under_way.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._bars is not None:
            self._bars.stop()
        if self in self._under_way:
            self._under_way.remove(self)

    def _start(self, show: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=show, daemon=True)
        self._thread.start()

    def _open_late(self) -> None:
        if not self._ended.wait(_APPEARS):
            self._open()

    def _tell(self) -> None:
        """Logs what is under way, from the outermost to the innermost, again and again."""
        seconds = _FIRST_LINE
        while not self._ended.wait(seconds):
            _log.info("; ".join(bar.text() for bar in tuple(self._under_way)))
            seconds = _NEXT_LINE

    def text(self) -> str:
        """Returns "reading outcomes: 30 of 90 runs, about 20.0 s left"."""
        seconds = time.monotonic() - self._began
        of_all = "" if self._total is None else f" of {self._total:,}"
        parts = [f"{self._name}: {self._done:,}{of_all} {self._unit}" if self._unit else self._name]
        parts += [self._state] if self._state else []
        if self._total and self._done:
            seconds *= (self._total - self._done) / self._done
            parts.append(f"about {format_duration(seconds)} left")
        else:
            parts.append(f"for {format_duration(seconds)}")
        return ", ".join(parts)

    def _open(self) -> None:
        # Not at the top: most processes draw nothing.
        import rich
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.table import Column

        # Bars can be nested on one console only, and rich's own is on standard output at first.
        if not rich.get_console().stderr:
            rich.reconfigure(stderr=True)
        count = "{task.completed:,.0f}" + ("" if self._total is None else "/{task.total:,.0f}") + f" {self._unit}"
        count = count if self._unit else ""
        texts = [TextColumn(text, markup=False) for text in ("{task.description}", count)]
        # Only the state may be cut, where the terminal is narrow.
        cut = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        state = TextColumn("{task.fields[state]}", markup=False, table_column=cut)
        times = [TimeElapsedColumn(), TimeRemainingColumn()]
        bars = Progress(texts[0], BarColumn(_BAR_WIDTH), texts[1], *times, state, transient=True, expand=True)
        bars.add_task(self._name, total=self._total, completed=self._done, state=self._state)
        bars.start()
        self._bars = bars


def tracked(things: Iterable[_Thing], name: str, unit: str) -> Iterator[_Thing]:
    """Yields the things, and shows by a `ProgressBar` how many have been used."""
    with ProgressBar(name, len(things) if isinstance(things, Sized) else None, unit) as bar:
        for thing in things:
            yield thing
            bar.advance(1)
