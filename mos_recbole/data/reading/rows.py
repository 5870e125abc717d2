"""The rows of a text file with the lines that they take, one by one: what is wrong with a line, and where it is."""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

from mos_recbole.errors import InputError

# What Arrow ends a line by: a line feed, or a carriage return by itself.
_AFTER_RETURN = re.compile(rb"(?<=\r)(?!\n)")

NUL = "\0"
"""What no name holds: files that were not written to their end do."""


class BadLine(InputError):
    """A fault of one line, without which the rest of the file could be read."""


Row: TypeAlias = tuple[range, list[str] | BadLine]
"""The numbers of a row's lines, and its fields or what is wrong with it."""


class _Line(NamedTuple):
    number: int
    text: str
    fault: BadLine | None


def plain_rows(path: Path, lines: Iterable[tuple[int, bytes]], separator: str, encoding: str) -> Iterator[Row]:
    """Yields the rows of a file without quoting, a line each; lines without any character are none.

    Args:
        path: of the file, for messages.
        lines: their numbers and content.
        separator: between fields.
        encoding: of the text.
    """
    for line in _decoded(path, lines, encoding):
        if text := line.text.rstrip("\r\n"):
            yield range(line.number, line.number + 1), line.fault or text.split(separator)


def quoted_rows(path: Path, lines: Iterable[tuple[int, bytes]], separator: str, encoding: str) -> Iterator[Row]:
    """Yields the rows of a file whose values may stand in quotation marks, and then hold line ends.

    Where a mark is missing or stands where none can be, the line with which the row begins is the bad one, and the next
    row begins below it: else all up to the next mark would be lost.

    Args: as of `plain_rows`.
    """
    source = _Source(_decoded(path, lines, encoding))
    reader = csv.reader(source, delimiter=separator, strict=True)
    while True:
        source.taken.clear()
        try:
            fields = next(reader, None)
        except csv.Error as error:
            first, *rest = source.taken
            source.waiting.extendleft(reversed(rest))
            fault = first.fault or BadLine(
                f"{path}, line {first.number}: {error}; expected quotation marks around whole values only"
            )
            yield range(first.number, first.number + 1), fault
            continue
        if fields is None:
            return
        if fields:
            faults = (line.fault for line in source.taken if line.fault)
            yield range(source.taken[0].number, source.taken[-1].number + 1), next(faults, None) or fields


class _Source(Iterator[str]):
    """Lines as csv.reader takes them, which are remembered and can be given back."""

    def __init__(self, lines: Iterator[_Line]) -> None:
        self._lines = lines
        self.waiting: deque[_Line] = deque()
        self.taken: list[_Line] = []

    def __next__(self) -> str:
        line = self.waiting.popleft() if self.waiting else next(self._lines)
        self.taken.append(line)
        return line.text


def _decoded(path: Path, lines: Iterable[tuple[int, bytes]], encoding: str) -> Iterator[_Line]:
    for number, line in lines:
        for part in _AFTER_RETURN.split(line):
            try:
                yield _Line(number, decode(path, number, part, encoding), None)
            except BadLine as error:
                yield _Line(number, part.decode(encoding, "replace"), error)


def decode(path: Path, number: int, line: bytes, encoding: str) -> str:
    """Returns the text of a line; raises a `BadLine` where it is none."""
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadLine(f"{path}, line {number}: not {encoding} text ({error.reason})") from None
