"""What the package logs, as the command line shows it: sentences on standard error."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

_logger = logging.getLogger("mos_recbole")


class SentenceHandler(logging.Handler):
    """Prints records on standard error, above progress bars. A warning that was printed before is left out.

    Attributes:
        run: name of the run that is under way; goes before its sentences.
    """

    def __init__(self) -> None:
        super().__init__()
        self.run = ""
        self._warned: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record."""
        text = f"{self.run}: {record.getMessage()}" if self.run else record.getMessage()
        if record.levelno >= logging.WARNING:
            if text in self._warned:
                return
            self._warned.add(text)
            text = f"warning: {text}"
        tqdm.write(text, file=sys.stderr)


@contextmanager
def log_on_stderr(level: int) -> Iterator[None]:
    """Shows what the package logs at this level or above while the context is open."""
    before, propagate, handler = _logger.level, _logger.propagate, SentenceHandler()
    _logger.addHandler(handler)
    _logger.setLevel(level)
    _logger.propagate = False  # a handler of the root logger would print the sentence again
    try:
        yield
    finally:
        _logger.removeHandler(handler)
        _logger.setLevel(before)
        _logger.propagate = propagate


@contextmanager
def log_for_run(name: str) -> Iterator[None]:
    """Puts the name of a run before what is logged while the context is open."""
    handlers = [handler for handler in _logger.handlers if isinstance(handler, SentenceHandler)]
    for handler in handlers:
        handler.run = name
    try:
        yield
    finally:
        for handler in handlers:
            handler.run = ""
