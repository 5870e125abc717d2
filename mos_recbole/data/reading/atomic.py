"""Files with a row a line: RecBole's atomic files and MovieLens' ratings.csv, their columns and their broken lines."""

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from mos_recbole.data.reading.rows import BadLine, Row, decode, plain_rows, quoted_rows
from mos_recbole.errors import InputError

TYPES = ("token", "token_seq", "float", "float_seq")
BROKEN = (OSError, EOFError, zlib.error)
"""What a compressed file that is damaged or cut off raises, of gzip or of PyArrow."""

RATINGS_FILE = "ratings.csv"
RATINGS_HEADER = "userId,movieId,rating,timestamp"


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

    def rows(self) -> Iterator[Row]:
        """Yields the rows as pyarrow takes them, with the numbers of their lines: fields, or what is wrong."""
        split = quoted_rows if self.quoting else plain_rows
        for lines, fields in split(self.path, self._data_lines(), self.separator, self.encoding):
            if isinstance(fields, BadLine) or len(fields) == len(self.columns):
                yield lines, fields
            else:
                found = f"{self.path}, line {lines.start}: found {len(fields)} fields; expected the header's "
                yield lines, BadLine(f"{found}{len(self.columns)} fields, {', '.join(self.columns)}")

    def has_quotation_marks(self) -> bool:
        """Returns whether values can stand in quotation marks, and any mark is there."""
        return self.quoting and any(b'"' in line for _, line in self._data_lines())

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
            place = next((f"line {lines.start}" for i, (lines, _) in enumerate(self.rows()) if i == row), place)
        found = "nothing" if text is None else repr(text)
        return BadLine(f"{self.path}, {place}, column {column}: found {found}; expected {expected}")

    def _data_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yields the lines below the header, with their numbers."""
        with open_bytes(self.path) as file:
            yield from ((i, line) for i, line in enumerate(file, start=1) if i > 1 and i not in self.skipped)


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
        if not colon or not name or kind not in TYPES:
            raise InputError(
                f"{path}, line 1, column {number}: found {column!r}; expected name:type with a type of "
                f"{', '.join(TYPES)}, columns separated by {separator!r} (field_separator)"
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
    line = decode(path, 1, first, encoding)
    if line.startswith("\ufeff"):
        expected = f"expected {encoding} text without one, or --encoding=utf-8-sig"
        raise InputError(f"{path}, line 1: begins with a byte order mark; {expected}")
    if "\r" in line:  # at which pyarrow ends a line
        raise InputError(f"{path}, line 1: holds a carriage return; expected lines that end with a line feed")
    return line
