"""Files with a row a line: RecBole's atomic files and MovieLens' ratings.csv, their columns and their broken lines."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from mos_recbole.errors import InputError

_TYPES = ("token", "token_seq", "float", "float_seq")
BROKEN = (OSError, EOFError, zlib.error)
"""What a compressed file that is damaged or cut off raises, of gzip or of PyArrow."""

RATINGS_FILE = "ratings.csv"
RATINGS_HEADER = "userId,movieId,rating,timestamp"


class BadLine(InputError):
    """A fault of one line, without which the rest of the file could be read."""


@dataclass(frozen=True)
class LogFile:
    """A file with one row a line, below a header: an interaction, or the features of a user or an item.

    In atomic files quotation marks are characters like any other: the format has no quoting.

    Attributes:
        path: of the file; one that ends with .gz is compressed.
        columns: name -> type (token, float, token_seq or float_seq), in the file's order.
        separator: of the columns, one character; empty for Parquet.
        encoding: of the text.
        quoting: whether values may stand in quotation marks, as in .csv files.
        skipped: numbers of the lines that are left out.
    """

    path: Path
    columns: dict[str, str]
    separator: str
    encoding: str
    quoting: bool = False
    skipped: frozenset[int] = frozenset()

    @classmethod
    def find(
        cls, folder: Path, name: str, fields: tuple[str, str, str | None], separator: str, encoding: str
    ) -> "LogFile":
        """Returns a data set's file: `<name>.inter`, or where there is none the `ratings.csv` of a MovieLens folder.

        Args:
            folder, name: of the data set.
            fields: RecBole's USER_ID_FIELD, ITEM_ID_FIELD and TIME_FIELD; None for the last: the file has no times.
            separator, encoding: of the atomic file.

        Raises:
            InputError: neither file is there, or the header is not what it should be or lacks one of the three columns.
        """
        path, ratings = folder / f"{name}.inter", folder / RATINGS_FILE
        user, item, time = fields
        if not path.exists() and ratings.is_file():
            header = first_line(ratings, encoding)
            if header != RATINGS_HEADER:
                raise InputError(f"{ratings}, line 1: found {header!r}; expected {RATINGS_HEADER!r}")
            kinds = {user: "token", item: "token", "rating": "float", time or "timestamp": "float"}
            return cls(ratings, kinds, ",", encoding)
        columns = read_header(path, separator, encoding)
        for key, column in zip(("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"), fields, strict=True):
            if column is not None and column not in columns:
                hint = "; --TIME_FIELD=null takes the order of the file" if key == "TIME_FIELD" else ""
                found = ", ".join(columns)
                raise InputError(f"{path}, line 1: no column {column!r}, which {key} names; found {found}{hint}")
        for column in (user, item):
            if columns[column] != "token":
                raise InputError(f"{path}, line 1: {column} is {columns[column]}; expected token")
        return cls(path, columns, separator, encoding)

    def content(self) -> str | BinaryIO:
        """Returns what pyarrow reads: the path, or where lines are left out, the other lines."""
        if not self.skipped:
            return str(self.path)
        with open_bytes(self.path) as file:
            return io.BytesIO(b"".join(line for number, line in enumerate(file, start=1) if number not in self.skipped))

    def rows(self) -> Iterator[tuple[int, list[str] | BadLine]]:
        """Yields the rows with the numbers of their lines: the fields, or what is wrong with the line."""
        for number, line in self._data_lines():
            try:
                text = _decode(self.path, number, line, self.encoding)
                fields = text.split(self.separator)
                if self.quoting:
                    fields = next(csv.reader([text], delimiter=self.separator))
            except BadLine as error:
                yield number, error
                continue
            except csv.Error as error:  # a very long field
                yield number, BadLine(f"{self.path}, line {number}: {error}")
                continue
            if len(fields) == len(self.columns):
                yield number, fields
            else:
                found = f"{self.path}, line {number}: found {len(fields)} fields; expected the header's "
                yield number, BadLine(f"{found}{len(self.columns)} fields, {', '.join(self.columns)}")

    def require_whole_lines(self) -> None:
        """Raises a `BadLine` that names the first line that is not text or has another number of fields."""
        for _, fields in self.rows():
            if isinstance(fields, BadLine):
                raise fields

    def fault(self, column: str, row: int, text: str | None, expected: str) -> BadLine:
        """Returns the error that names a value by its line in the file.

        Args:
            column: of the value.
            row: number of its row, lines without any character not counted, from 0.
            text: the value, or None where it is missing.
            expected: what it should be.
        """
        place = f"row {row + 1}"
        if self.separator:
            numbers = (f"line {number}" for i, (number, _) in enumerate(self._data_lines()) if i == row)
            place = next(numbers, place)  # in quotation marks, a row may have several lines
        found = "nothing" if text is None else repr(text)
        return BadLine(f"{self.path}, {place}, column {column}: found {found}; expected {expected}")

    def _data_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yields the rows as pyarrow takes them, a carriage return being an end too, and the numbers of their lines."""
        with open_bytes(self.path) as file:
            for number, line in enumerate(file, start=1):
                if number == 1 or number in self.skipped:
                    continue
                text = line.rstrip(b"\r\n")
                for row in [text] if self.quoting else text.split(b"\r"):
                    if row:
                        yield number, row


def is_cut_off(path: Path) -> bool:
    """Returns whether the last line of a text file has no end, as where the file was cut off."""
    if path.suffix in (".gz", ".parquet") or not path.stat().st_size:  # which know where they end
        return False
    with path.open("rb") as file:
        file.seek(-1, io.SEEK_END)
        return file.read() not in (b"\n", b"\r")


def open_bytes(path: Path) -> BinaryIO:
    """Returns a file opened for reading, decompressed where its name ends with .gz."""
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def read_header(path: Path, separator: str, encoding: str) -> dict[str, str]:
    """Returns the columns of an atomic file, name -> type, in the file's order.

    Raises:
        InputError: no such file, an empty one, or a header that is not `name:type` separated by `separator`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an atomic file, or MovieLens' {RATINGS_FILE} in the folder")
    line = first_line(path, encoding)
    if not line:
        raise InputError(f"{path}: the file is empty; expected a header such as user_id:token<tab>item_id:token")
    columns: dict[str, str] = {}
    for number, column in enumerate(line.split(separator), start=1):
        name, colon, kind = column.partition(":")
        if not colon or not name or kind not in _TYPES:
            raise InputError(
                f"{path}, line 1, column {number}: found {column!r}; expected name:type with a type of "
                f"{', '.join(_TYPES)}, columns separated by {separator!r} (field_separator)"
            )
        if name in columns:
            raise InputError(f"{path}, line 1, column {number}: the column {name!r} occurs twice")
        columns[name] = kind
    return columns


def first_line(path: Path, encoding: str) -> str:
    """Returns the header's line; raises an `InputError` where it is not text or begins with a byte order mark."""
    try:
        with open_bytes(path) as file:
            first = file.readline().rstrip(b"\r\n")
    except BROKEN as error:
        raise InputError(f"{path}: {error}; expected a whole file") from error
    line = _decode(path, 1, first, encoding)
    if line.startswith("\ufeff"):
        expected = f"expected {encoding} text without one, or --encoding=utf-8-sig"
        raise InputError(f"{path}, line 1: begins with a byte order mark; {expected}")
    if "\r" in line:  # at which pyarrow ends a line
        raise InputError(f"{path}, line 1: holds a carriage return; expected lines that end with a line feed")
    return line


def _decode(path: Path, number: int, line: bytes, encoding: str) -> str:
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadLine(f"{path}, line {number}: not {encoding} text ({error.reason})") from None
