"""Files of interactions with any header: .csv, .tsv and .parquet, and text files that are compressed (.gz)."""

import csv
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from mos_recbole.data.reading.atomic import TYPES, LogFile, first_line
from mos_recbole.errors import InputError

_SUFFIXES = (".csv", ".tsv", ".parquet", ".gz")


def is_table(path: str | Path) -> bool:
    """Returns whether the name of a data set is that of a file, rather than of a folder of atomic files."""
    return Path(path).suffix in _SUFFIXES and not Path(path).is_dir()


def dataset_name(path: str | Path) -> str:
    """Returns the name of a data set: that of its folder, or that of its file without what tells the format."""
    name = Path(path)
    while is_table(path) and name.suffix in (*_SUFFIXES, ".inter"):
        name = name.with_suffix("")
    return name.name


def dataset_place(text: str) -> tuple[str, str | None]:
    """Returns the name of a data set and its `data_path`, of a name, a folder or a file; None for the usual place."""
    if is_table(text):
        return dataset_name(text), text
    if "/" not in text:
        return text, None
    parent = str(Path(text).parent)
    # By "dataset", its default, RecBole means its own files where the name is ml-100k.
    return Path(text).name, "./dataset" if parent == "dataset" else parent


def table_file(
    path: Path, fields: tuple[str, str, str | None], chosen: Mapping[str, str], encoding: str, separator: str
) -> tuple[LogFile, str | None]:
    """Returns a file of interactions, its columns under RecBole's names, and the name of the time column or None.

    Args:
        path: of the file.
        fields: RecBole's USER_ID_FIELD, ITEM_ID_FIELD and TIME_FIELD.
        chosen: which columns of the file they are, by "user", "item" and "time"; where there is nothing they are
            those of the same names. User and item without a time: the order of the file.
        encoding: of the text.
        separator: between the fields of text; a tab for the tab or comma that the first line has.

    Raises:
        InputError: no such file, or a column that it does not have.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected .csv, .tsv or .parquet, or a text file with .gz")
    if path.suffix == ".parquet":
        separator = ""
        try:
            header = parquet.read_schema(path).names
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: not a Parquet file ({str(error).strip()})") from None
    else:
        line = first_line(path, encoding)
        separator = "," if separator == "\t" and "\t" not in line else separator
        header = _names(path, line, separator)
    user, item, time = fields
    if "time" not in chosen and {"user", "item"} <= chosen.keys():
        time = None
    names = {"user": user, "item": item} | ({} if time is None else {"time": time})
    renamed: dict[str, str] = {}
    for kind, name in names.items():
        column = chosen.get(kind, name)
        if column in renamed:
            raise InputError(f"{path}: --columns has the column {column!r} for two of user, item and time")
        if column not in header:
            found, hint = ", ".join(header), ",".join(f"{kind}=..." for kind in names)
            hint = f"--columns {hint} names them"
            if len(header) == 1 and separator:
                hint = f"or fields are not separated by {separator!r}: --field_separator says by what"
            raise InputError(f"{path}: no column {column!r} for the {kind}; found {found}; {hint}")
        renamed[column] = name
    kinds = {user: "token", item: "token"}
    # A column that only happens to have one of RecBole's names is not the one that was chosen.
    own = [renamed.get(name, f"{name} of the file" if name in renamed.values() else name) for name in header]
    columns = {name: kinds.get(name, "float") for name in own}
    if len(columns) < len(header):
        raise InputError(f"{path}: two columns of the same name; found {', '.join(header)}")
    return LogFile(path, columns, separator, encoding, quoting=separator != "\t"), time


def _names(path: Path, line: str, separator: str) -> list[str]:
    """Returns the columns that a header names, without the types that RecBole's headers have."""
    try:
        # Quotation marks around a name are none of it, in files with tabs too.
        (names,) = csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True)
    except csv.Error as error:
        expected = "a header in one line, its quotation marks closed"
        raise InputError(f"{path}, line 1: {error}; expected {expected}") from error
    parts = [name.strip().rpartition(":") for name in names]
    return [name if name and kind in TYPES else f"{name}{colon}{kind}" for name, colon, kind in parts]
