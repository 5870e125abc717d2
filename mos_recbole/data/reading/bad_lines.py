"""Lines that are not as they should be: an error that says how to leave them out, or the file without them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, TypeAlias, TypeVar

from mos_recbole.data.reading.atomic import LogFile
from mos_recbole.data.reading.numbers import is_number, is_time
from mos_recbole.data.reading.rows import NUL, BadLine
from mos_recbole.errors import InputError

Result = TypeVar("Result")
Read: TypeAlias = Literal["number", "numbers", "time", "name", "key"]
"""How a column is read: a number or none, numbers in a row, a time, names, or a name that no other line has."""


def read_lines(
    file: LogFile, read: Callable[[LogFile], Result], checks: Mapping[str, Read], skip: bool, inner: str = " "
) -> tuple[Result, int]:
    """Returns what is read of a file, and how many of its lines were left out.

    Args:
        file: what to read.
        read: reads it, and raises `BadLine` for a line that is not as it should be.
        checks: how columns are read, by their names.
        skip: whether to leave such lines out.
        inner: what separates the numbers of a "numbers" column.

    Raises:
        InputError: what `read` raises, where lines are not to be left out.
    """
    places = [(list(file.columns).index(name), kind) for name, kind in checks.items()]
    while True:
        try:
            return read(file), len(file.skipped)
        except BadLine as error:
            if not file.separator:
                raise
            if not skip:
                raise InputError(f"{error}; or leave such lines out with --skip_bad_lines=True") from error
            # Line by line, which is slow, but only where there is such a line. Again where rows share lines, which end
            # by carriage returns alone: with a bad row, part of a good one goes.
            seen: set[str] = set()
            bad = (lines for lines, fields in file.rows() if not _is_good(fields, places, seen, inner))
            skipped = file.skipped.union(*bad)
            if skipped == file.skipped:
                raise
            file = replace(file, skipped=skipped)


def _is_good(fields: list[str] | BadLine, places: list[tuple[int, Read]], seen: set[str], inner: str) -> bool:
    if isinstance(fields, BadLine):
        return False
    for place, kind in places:
        text = fields[place]
        if kind == "key":
            if not text or text in seen or NUL in text:
                return False
            seen.add(text)
        elif kind == "name":
            if NUL in text:
                return False
        elif kind == "time":
            if not is_time(text):
                return False
        elif not all(map(is_number, text.split(inner) if kind == "numbers" else [text])):
            return False
    return True
