"""What the command line shows: logged sentences, tables and failures; one of several processes shows them."""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mos_recbole.errors import presentable

if TYPE_CHECKING:
    from mos_recbole.report import Table
    from mos_recbole.results import RunResult
_logger = logging.getLogger("mos_recbole")


class SentenceHandler(logging.Handler):
    """Prints records on standard error, above progress bars.

    A warning that was printed before is left out; so is what is logged with `extra={"once": True}`, which goes without
    the name of a run.

    Attributes:
        run: name of the run that is under way; goes before its sentences.
    """

    def __init__(self) -> None:
        super().__init__()
        self.run = ""
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record."""
        message = record.getMessage()
        warns, once = record.levelno >= logging.WARNING, getattr(record, "once", False)
        if warns or once:
            if message in self._said:
                return
            self._said.add(message)
        text = f"{self.run}: {message}" if self.run and not once else message
        text = f"warning: {text}" if warns else text
        print(presentable(text), file=sys.stderr, flush=True)  # rich puts it above its bars


@contextlib.contextmanager
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


@contextlib.contextmanager
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


def several_processes() -> bool:
    """Returns whether this is one of several processes that do the same run."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def started_here() -> bool:
    """Returns whether this is one of the processes of `run --processes`."""
    if not several_processes():
        return False
    from mos_recbole.training.processes import MEETING_FILE

    return MEETING_FILE in os.environ


def environment_fault() -> str | None:
    """Returns what is wrong with the variables that torchrun sets; None where nothing is."""
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT") if several_processes() else ():
        value = os.environ.get(name, "0")
        if not (value.isascii() and value.isdigit() and len(value) < 6):
            return f"the environment has {name}={value[:40]!r}; expected a number, as torchrun sets it, or none"
    return None


def is_main() -> bool:
    """Returns whether this is the process that shows what the run does."""
    return not several_processes() or os.environ.get("RANK", "0") == "0"


def tells_failure() -> bool:
    """Returns whether this process is to say why it ends: of several, the first that fails."""
    if not several_processes():
        return True
    from mos_recbole.training.processes import first_to_fail

    return first_to_fail()


def print_failure(text: str) -> None:
    """Prints why the program ends, unless another process has."""
    # A standard error that cannot be written to leaves the exit status alone to tell.
    with contextlib.suppress(OSError):
        if tells_failure() and sys.stderr is not None:
            print(presentable(text), file=sys.stderr, flush=True)


def complete_runs(
    records: "Sequence[RunResult]", metrics: Sequence[str] | None, data_path: str | None = None, *, notes: bool = True
) -> list[str]:
    """Returns the metrics to show in RecBole's spelling, once the runs have what these need of the data.

    Warns of models that are no fair partners, and of lists that are too short.

    Args:
        records: the runs.
        metrics: that were asked for; without any, those of `analysis.asked_metrics`.
        data_path: where the data set's folder is.
        notes: whether to warn of lists, of which nothing was said yet.
    """
    from mos_recbole.analysis import Trained, asked_metrics, checked_metrics, list_notes, partner_notes
    from mos_recbole.evaluation import parse_metric

    names = checked_metrics(metrics or asked_metrics(records))
    for note in partner_notes(map(Trained.of, records)):
        _logger.warning(note)
    for record in records:
        if notes and not record.was_trained:
            for note in list_notes(record.outcomes(), names):
                _logger.warning(f"{record.model} seed {record.seed}: {note}")
    if any(parse_metric(name)[0].needs == "distance_sums" for name in names):
        from mos_recbole.experiment import add_distances  # waits for PyTorch and RecBole

        add_distances(records, names, data_path)
    return names


def print_tables(tables: "Sequence[Table]", options: argparse.Namespace) -> None:
    """Prints tables, and writes their files where `--output` says.

    Raises:
        InputError: the output cannot be written to.
    """
    from mos_recbole.report import join_frames, write_tables

    if options.format == "csv":
        print_table(join_frames(tables), "csv")
    else:
        for number, table in enumerate(tables):
            print("\n" * (number > 0), end="")
            print_table(table, options.format)
    if options.output is not None:
        written = write_tables(tables, options.output)
        print(f"files in {options.output}: {', '.join(path.name for path in written)}", file=sys.stderr)


def print_table(table: "Table", tablefmt: str) -> None:
    """Prints a table and its caption; the caption of a CSV table goes to standard error."""
    print(table.text(tablefmt))
    if tablefmt == "csv" and table.caption:
        print(table.caption, file=sys.stderr)
