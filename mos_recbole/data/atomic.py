"""Reads RecBole's atomic files and says where one is broken."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from mos_recbole.errors import InputError

_TYPES = ("token", "token_seq", "float", "float_seq")


def read_header(path: Path, separator: str, encoding: str) -> dict[str, str]:
    """Returns the columns of an atomic file, name -> type, in the file's order.

    Raises:
        InputError: no such file, an empty one, or a header that is not `name:type` separated by `separator`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an atomic file")
    with path.open("rb") as file:
        line = _decode(path, 1, file.readline().rstrip(b"\r\n"), encoding)
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


def read_table(path: Path, columns: dict[str, str], wanted: list[str], separator: str, encoding: str) -> pd.DataFrame:
    """Returns the wanted columns as text, missing values as None, indexed by the number of the row in the file.

    Lines that are empty or hold separators only are left out.

    Quotation marks are characters like any other: the format has no quoting.

    Raises:
        InputError: a line with more or fewer fields than the header, bytes that are not text, or no data lines.
    """
    try:
        table = csv.read_csv(
            path,
            csv.ReadOptions(column_names=list(columns), skip_rows=1, encoding=encoding),
            csv.ParseOptions(delimiter=separator, quote_char=False),
            csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                include_columns=wanted,
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        _find_broken_line(path, columns, separator, encoding)
        raise InputError(f"{path}: {error}") from error
    rows = table.to_pandas().dropna(how="all")
    if rows.empty:
        raise InputError(f"{path}: a header but no interactions")
    return rows


def _data_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields the lines that hold rows, with their numbers in the file."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.rstrip(b"\r\n")
            if number > 1 and text:
                yield number, text


def _find_broken_line(path: Path, columns: dict[str, str], separator: str, encoding: str) -> None:
    """Raises the error that names the first line that is not text or has another number of fields."""
    for number, line in _data_lines(path):
        fields = _decode(path, number, line, encoding).split(separator)
        if len(fields) != len(columns):
            raise InputError(
                f"{path}, line {number}: found {len(fields)} fields; expected the header's {len(columns)} fields, "
                f"{', '.join(columns)}"
            )


def _decode(path: Path, number: int, line: bytes, encoding: str) -> str:
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, line {number}: not {encoding} text ({error.reason})") from None


def parse_floats(path: Path, column: str, text: pd.Series) -> np.ndarray:
    """Returns a column as float64; missing values stay NaN.

    Raises:
        InputError: text that is not a number, with its line.
    """
    values = pd.to_numeric(text, errors="coerce").astype("float64")
    wrong = values.isna() & text.notna() & (text.str.lower() != "nan")
    if wrong.any():
        raise _fault(path, column, text, wrong, "a number")
    return values.to_numpy()


def parse_times(path: Path, column: str, text: pd.Series) -> tuple[np.ndarray, int]:
    """Returns a time column and its scale: int64 and 1; or where the file has fractions float64 and 1,000,000.

    Whole numbers never pass through floating point, so that 19-digit nanoseconds keep their last digit.

    Raises:
        InputError: a time that is missing, not a number, not finite or beyond int64, with its line.
    """
    whole = text.str.strip().str.extract(r"^([-+]?\d+)(?:\.0*)?$", expand=False)
    if whole.notna().all():
        integers = whole.map(int)
        large = (integers > 2**63 - 1) | (integers < -(2**63))
        if large.any():
            raise _fault(path, column, text, large, "a time that 64 bits can hold")
        return integers.to_numpy(np.int64), 1
    values = pd.to_numeric(text, errors="coerce").astype("float64")
    wrong = values.isna() | (values.abs() >= 2.0**63)
    if wrong.any():
        raise _fault(path, column, text, wrong, "a time, a finite number")
    if (values == np.floor(values)).all():
        return values.to_numpy().astype(np.int64), 1
    scale = 1_000_000
    large = values.abs() >= 2.0**63 / scale
    if large.any():
        raise _fault(path, column, text, large, f"less than {2.0**63 / scale:.0f}, as other times have fractions")
    return values.to_numpy(), scale


def _fault(path: Path, column: str, text: pd.Series, wrong: pd.Series, expected: str) -> InputError:
    """Returns the error that names the first wrong row by its line in the file."""
    place = int(np.flatnonzero(wrong.to_numpy())[0])
    line = next(number for row, (number, _) in enumerate(_data_lines(path)) if row == text.index[place])
    found = "nothing" if pd.isna(text.iloc[place]) else repr(text.iloc[place])
    return InputError(f"{path}, line {line}, column {column}: found {found}; expected {expected}")
