"""Reads RecBole's atomic files and says where one is broken."""

from pathlib import Path

import numpy as np
import pandas as pd

from mos_recbole.errors import InputError

_TYPES = ("token", "token_seq", "float", "float_seq")


def read_header(path: Path, separator: str, encoding: str) -> dict[str, str]:
    """Returns the columns of an atomic file, name -> type, in the file's order.

    Raises:
        InputError: no such file, an empty one, or a header that is not `name:type` separated by `separator`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an atomic file")
    try:
        with path.open(encoding=encoding) as file:
            line = file.readline().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, line 1: not {encoding} text ({error.reason})") from None
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
    """Returns the wanted columns as text, indexed by line number less 2, blank lines dropped.

    Raises:
        InputError: a line with more fields than the header, bytes that are not text, or no data lines.
    """
    try:
        table = pd.read_csv(
            path, sep=separator, header=0, names=list(columns), usecols=wanted, dtype=str, encoding=encoding,
            skip_blank_lines=False, keep_default_na=False, na_values=[""],
        )  # fmt: skip
    except pd.errors.ParserError as error:
        raise InputError(f"{path}: {str(error).removeprefix('Error tokenizing data. C error: ').strip()}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not {encoding} text at byte {error.start}") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas made an index of the surplus
        raise InputError(f"{path}, line 2: more than the header's {len(columns)} fields")
    table = table.dropna(how="all")
    if table.empty:
        raise InputError(f"{path}: a header but no interactions")
    return table


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
    """Returns a time column as int64 and its scale: 1, or 1,000,000 where the file has fractions.

    Whole numbers are parsed as integers, so that 19-digit nanoseconds keep their last digit.

    Raises:
        InputError: a time that is missing, not a number, not finite or beyond int64, with its line.
    """
    if text.str.fullmatch(r"[+-]?\d{1,18}|[+]?[1-8]\d{18}", na=False).all():
        return text.astype("int64").to_numpy(), 1
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
    return np.rint(values.to_numpy() * scale).astype(np.int64), scale


def _fault(path: Path, column: str, text: pd.Series, wrong: pd.Series, expected: str) -> InputError:
    """Returns the error that names the first wrong row. Rows carry their line numbers less 2."""
    place = int(np.flatnonzero(wrong.to_numpy())[0])
    found = "nothing" if pd.isna(text.iloc[place]) else repr(text.iloc[place])
    return InputError(f"{path}, line {text.index[place] + 2}, column {column}: found {found}; expected {expected}")
