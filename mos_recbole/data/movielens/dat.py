"""MovieLens' files of ratings as blocks of bytes, every line checked: `ratings.csv`, and `ratings.dat` converted."""

import re
from collections.abc import Iterator
from typing import IO

from mos_recbole.data.reading import RATINGS_HEADER
from mos_recbole.errors import InputError

DAT_FILE = "ratings.dat"
# What `ratings.dat` becomes: an atomic file with RecBole's names.
_ATOMIC_HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"

# Far more than any line of ratings has.
_BLOCK_BYTES = 2**22
_SHOWN = 100


def csv_blocks(file: IO[bytes], place: str) -> Iterator[bytes]:
    """Yields the content of a `ratings.csv` as it is.

    Args:
        file: opened for reading.
        place: the file's name in messages.

    Raises:
        InputError: another header than MovieLens', or a line that is not four numbers.
    """
    header = file.readline(_BLOCK_BYTES)
    found = _text(header)
    if found != RATINGS_HEADER:
        raise InputError(f"{place}, line 1: found {found[:_SHOWN]!r}; expected {RATINGS_HEADER!r}")
    yield header
    yield from _checked(file, place, 2, ",")


def dat_blocks(file: IO[bytes], place: str) -> Iterator[bytes]:
    """Yields a `ratings.dat`, which separates by :: and has no header, as an atomic file; see `csv_blocks`."""
    yield f"{_ATOMIC_HEADER}\n".encode()
    for block in _checked(file, place, 1, "::"):
        yield block.replace(b"\r\n", b"\n").replace(b"::", b"\t")


def _checked(file: IO[bytes], place: str, first: int, separator: str) -> Iterator[bytes]:
    """Yields the rest of a file, whose next line has the number `first`, in blocks of whole lines."""
    number = r"\d{1,19}+"
    fields = separator.join([number, number, rf"{number}(?:\.{number})?+", number])
    # As many good lines as there are; possessive, so that it need not remember.
    good_lines = re.compile(rf"(?:{fields}\r?+\n)*+".encode())
    line = first
    for block in _whole_lines(file):
        ended = block if block.endswith(b"\n") else block + b"\n"
        match = good_lines.match(ended)
        assert match is not None  # it matches nothing, too
        line += ended.count(b"\n", 0, match.end())
        if match.end() < len(ended):
            broken = _text(ended[match.end() :].partition(b"\n")[0])
            raise InputError(
                f"{place}, line {line}: found {broken[:_SHOWN]!r}; "
                f"expected user, movie, rating and time as numbers, separated by {separator}"
            )
        yield block
    if line == first:
        raise InputError(f"{place}: no ratings in the file")


def _whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yields a file in blocks that end with a line's end, but for the last line if it has none."""
    rest = b""
    while read := file.read(_BLOCK_BYTES):
        lines, newline, rest = (rest + read).rpartition(b"\n")
        if newline:
            yield lines + newline
        elif len(rest) > _BLOCK_BYTES:  # no file of ratings; read on, it would only be copied again and again
            break
    if rest:
        yield rest


def _text(line: bytes) -> str:
    return line.rstrip(b"\r\n").decode("utf-8", errors="replace")
