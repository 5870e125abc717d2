"""The features of users and items: RecBole's atomic files beside the interactions, every fault named by its line."""

import numpy as np
import pandas as pd

from mos_recbole.data.reading.atomic import LogFile
from mos_recbole.data.reading.bad_lines import Read, read_lines
from mos_recbole.data.reading.batches import batches, filled_rows, require_names
from mos_recbole.data.reading.log import raise_faults
from mos_recbole.data.reading.numbers import FloatColumn, is_number

_READ: dict[str, Read] = {"token": "name", "token_seq": "name", "float": "number", "float_seq": "numbers"}


def read_features(
    file: LogFile, wanted: list[str], key: str | None, inner: str, skip_bad_lines: bool
) -> tuple[pd.DataFrame, int]:
    """Returns the wanted columns as RecBole holds them before it numbers names, and how many lines were left out.

    Names are text or None, numbers float64, lists arrays of names or of float64.

    Args:
        file: what to read.
        wanted: columns.
        key: the column of which no two lines may have the same name; None for a file without one.
        inner: what separates the values of a list.
        skip_bad_lines: whether lines that are not as they should be are left out.

    Raises:
        InputError: as `read_log`, a key that is missing or that a line before has, or text in a list of numbers.
    """
    checks = {name: _READ[file.columns[name]] for name in wanted}
    if key is not None:
        checks[key] = "key"
    return read_lines(file, lambda file: _read(file, wanted, key, inner), checks, skip_bad_lines, inner)


def _read(file: LogFile, wanted: list[str], key: str | None, inner: str) -> pd.DataFrame:
    numbers = {name: FloatColumn() for name in wanted if file.columns[name] == "float"}
    texts: dict[str, list[str | None]] = {name: [] for name in wanted if name not in numbers}
    places: list[int] = []
    for batch, rows in filled_rows(batches(file, wanted, [])):
        places += rows.tolist()
        for name, column in numbers.items():
            column.add(batch.column(name), rows)
        for name, values in texts.items():
            require_names(file, name, batch.column(name), rows)
            values += batch.column(name).to_pylist()
    raise_faults(file, numbers)
    if key is not None:
        _require_unique(file, key, texts[key], places)
    table = {}
    for name in wanted:
        if name in numbers:
            table[name] = pd.Series(numbers[name].finish())
        elif file.columns[name] == "token":
            table[name] = pd.Series(texts[name], dtype=object)
        else:
            lists = [[part for part in (text or "").split(inner) if part] for text in texts[name]]
            kind: type = object
            if file.columns[name] == "float_seq":
                kind = np.float64
                _require_numbers(file, name, lists, places)
            table[name] = pd.Series([np.array(one, dtype=kind) for one in lists], dtype=object)
    return pd.DataFrame(table)


def _require_unique(file: LogFile, key: str, names: list[str | None], places: list[int]) -> None:
    seen: set[str] = set()
    for name, place in zip(names, places, strict=True):
        if name is None:
            raise file.fault(key, place, None, "a name")
        if name in seen:
            raise file.fault(key, place, name, "a name that no line before has")
        seen.add(name)


def _require_numbers(file: LogFile, name: str, lists: list[list[str]], places: list[int]) -> None:
    for parts, place in zip(lists, places, strict=True):
        for text in parts:
            if not is_number(text):
                raise file.fault(name, place, text, "numbers")
