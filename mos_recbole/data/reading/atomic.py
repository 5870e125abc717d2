"""Files of interactions: RecBole's atomic files and MovieLens' ratings.csv, their columns and their broken lines."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mos_recbole.errors import InputError

_TYPES = ("token", "token_seq", "float", "float_seq")
RATINGS_FILE = "ratings.csv"
RATINGS_HEADER = "userId,movieId,rating,timestamp"


@dataclass(frozen=True)
class LogFile:
    """A file with one interaction a line, below a header.

    Quotation marks are characters like any other: the format has no quoting.

    Attributes:
        path: of the file.
        columns: name -> type (token, float, token_seq or float_seq), in the file's order.
        separator: of the columns, one character.
        encoding: of the text.
    """

    path: Path
    columns: dict[str, str]
    separator: str
    encoding: str

    @classmethod
    def find(cls, folder: Path, name: str, fields: tuple[str, str, str], separator: str, encoding: str) -> "LogFile":
        """Returns a data set's file: `<name>.inter`, or where there is none the `ratings.csv` of a MovieLens folder.

        Args:
            folder, name: of the data set.
            fields: RecBole's USER_ID_FIELD, ITEM_ID_FIELD and TIME_FIELD.
            separator, encoding: of the atomic file.

        Raises:
            InputError: neither file is there, or the header is not what it should be or lacks one of the three columns.
        """
        path, ratings = folder / f"{name}.inter", folder / RATINGS_FILE
        user, item, time = fields
        if not path.exists() and ratings.is_file():
            header = _first_line(ratings, encoding)
            if header != RATINGS_HEADER:
                raise InputError(f"{ratings}, line 1: found {header!r}; expected {RATINGS_HEADER!r}")
            return cls(ratings, {user: "token", item: "token", "rating": "float", time: "float"}, ",", encoding)
        columns = read_header(path, separator, encoding)
        for key, column in zip(("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"), fields, strict=True):
            if column not in columns:
                raise InputError(f"{path}, line 1: no column {column!r}, which {key} names; found {', '.join(columns)}")
        for column in (user, item):
            if columns[column] != "token":
                raise InputError(f"{path}, line 1: {column} is {columns[column]}; expected token")
        return cls(path, columns, separator, encoding)

    def require_whole_lines(self) -> None:
        """Raises an `InputError` that names the first line that is not text or has another number of fields."""
        for number, line in self._data_lines():
            fields = _decode(self.path, number, line, self.encoding).split(self.separator)
            if len(fields) != len(self.columns):
                raise InputError(
                    f"{self.path}, line {number}: found {len(fields)} fields; expected the header's "
                    f"{len(self.columns)} fields, {', '.join(self.columns)}"
                )

    def fault(self, column: str, row: int, text: str | None, expected: str) -> InputError:
        """Returns the error that names a value by its line in the file.

        Args:
            column: of the value.
            row: number of its row, lines without any character not counted, from 0.
            text: the value, or None where it is missing.
            expected: what it should be.
        """
        line = next(number for place, (number, _) in enumerate(self._data_lines()) if place == row)
        found = "nothing" if text is None else repr(text)
        return InputError(f"{self.path}, line {line}, column {column}: found {found}; expected {expected}")

    def _data_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yields the lines that hold rows, with their numbers in the file."""
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.rstrip(b"\r\n")
                if number > 1 and text:
                    yield number, text


def read_header(path: Path, separator: str, encoding: str) -> dict[str, str]:
    """Returns the columns of an atomic file, name -> type, in the file's order.

    Raises:
        InputError: no such file, an empty one, or a header that is not `name:type` separated by `separator`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an atomic file, or MovieLens' {RATINGS_FILE} in the folder")
    line = _first_line(path, encoding)
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


def _first_line(path: Path, encoding: str) -> str:
    with path.open("rb") as file:
        line = _decode(path, 1, file.readline().rstrip(b"\r\n"), encoding)
    if line.startswith("\ufeff"):
        raise InputError(f"{path}, line 1: begins with a byte order mark; expected {encoding} text without one")
    return line


def _decode(path: Path, number: int, line: bytes, encoding: str) -> str:
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, line {number}: not {encoding} text ({error.reason})") from None
