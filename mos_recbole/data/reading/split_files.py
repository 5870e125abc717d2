"""Interactions that come already split into files: plain rows, or lists of items with the item that follows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mos_recbole.data.reading.atomic import LogFile, read_header
from mos_recbole.data.reading.bad_lines import Read, read_lines
from mos_recbole.data.reading.batches import batches
from mos_recbole.data.reading.numbers import TimeColumn
from mos_recbole.errors import InputError


@dataclass(frozen=True)
class SplitColumns:
    """What columns are called.

    Attributes:
        user, item: of names.
        time: of times; None, or not in the files: the order of the files.
        lists: candidates for the column of lists, of which a file may have one.
        inner: what separates the items of a list.
        limits: of columns of lists, how many of a list's first items are read (RecBole's `seq_len`).
    """

    user: str
    item: str
    time: str | None
    lists: list[str]
    inner: str
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitRows:
    """The rows of three files, one file after the other; a list stands before its item, an item a row.

    Attributes:
        users, items: names, object [N].
        times: int64 [N], in parts of 1 / time_scale; of lists, the place of an item in its list.
        sides: int8 [N], number of the row's file; -1 for items of lists, which are no targets.
        starts: int64, the first row of every list with its item; None for plain rows.
        is_timed: whether plain rows have times; without, they are numbered in the order of the files.
        lists: the column of the lists; None for plain rows.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    time_scale: int
    sides: np.ndarray
    starts: np.ndarray | None
    is_timed: bool = True
    lists: str | None = None


def read_split_files(
    paths: list[Path], columns: SplitColumns, separator: str, encoding: str, skip_bad_lines: bool
) -> tuple[SplitRows, int]:
    """Returns the rows of the files of training, validation and test, and how many of their lines were left out.

    Raises:
        InputError: a missing file or column, a line that is not as the header says, or a row without a user, an item
            or an item in its list.
    """
    files = [LogFile(path, read_header(path, separator, encoding), separator, encoding) for path in paths]
    list_names = {next((name for name in columns.lists if name in file.columns), None) for file in files}
    if len(list_names) > 1:
        raise InputError(f"{' and '.join(map(str, paths))}: some have lists of items ({columns.lists[0]}), some not")
    lists = list_names.pop()
    checks: dict[str, Read] = {} if lists or columns.time is None else {columns.time: "time"}
    read = [
        read_lines(
            file,
            lambda one: _table(one, columns, lists),
            {name: kind for name, kind in checks.items() if name in file.columns},
            skip_bad_lines,
        )
        for file in files
    ]
    tables, skipped = [table for table, _ in read], sum(number for _, number in read)
    sides = np.repeat(np.arange(3, dtype=np.int8), [len(table) for table in tables])
    table = pa.concat_tables(tables)
    users, items = (_names(table[name]) for name in (columns.user, columns.item))
    if lists is None:
        is_timed = all(columns.time in table.column_names for table in tables)
        times, scale = _times(files, tables, str(columns.time)) if is_timed else (np.arange(len(table)), 1)
        return SplitRows(users, items, times, scale, sides, None, is_timed), skipped
    parts = pc.list_flatten(pc.split_pattern(table[lists], columns.inner))
    row = pc.list_parent_indices(pc.split_pattern(table[lists], columns.inner)).to_numpy()
    filled = pc.not_equal(parts, "").to_numpy()
    if lists in columns.limits:
        before = np.cumsum(filled) - filled
        filled &= before - before[np.searchsorted(row, row)] < columns.limits[lists]
    lengths = np.bincount(row[filled], minlength=len(table))
    starts = np.concatenate([[0], np.cumsum(lengths + 1)])
    is_target = np.zeros(starts[-1], dtype=bool)
    is_target[starts[1:] - 1] = True
    flat = np.empty(len(is_target), dtype=object)
    flat[is_target], flat[~is_target] = items, _names(parts.filter(pa.array(filled)))
    flat_sides = np.full(len(flat), -1, dtype=np.int8)
    flat_sides[is_target] = sides
    places = np.arange(len(flat)) - np.repeat(starts[:-1], lengths + 1)
    return SplitRows(np.repeat(users, lengths + 1), flat, places, 1, flat_sides, starts[:-1], lists=lists), skipped


def _table(file: LogFile, columns: SplitColumns, lists: str | None) -> pa.Table:
    """Returns a file's columns as text."""
    required = [columns.user, columns.item, *([lists] if lists else [])]
    if lists and columns.user not in file.columns:
        required.remove(columns.user)
    for name in required:
        if name not in file.columns:
            raise InputError(f"{file.path}, line 1: no column {name!r}; found {', '.join(file.columns)}")
    wanted = [*required, *({columns.time} & file.columns.keys() if lists is None else ())]
    table = pa.Table.from_batches(batches(file, wanted, []))
    for name in required:
        text = table[name]
        missing = text.is_null() if name != lists else pc.equal(pc.fill_null(pc.utf8_trim(text, columns.inner), ""), "")
        if (where := pc.index(missing, True).as_py()) >= 0:
            raise file.fault(name, where, text[where].as_py(), "an item or more" if name == lists else "a name")
    if columns.user not in required:
        # Sessions without a name: each row is one.
        table = table.append_column(columns.user, pa.array([f"{file.path.name} {row}" for row in range(len(table))]))
    return table


def _names(column: pa.ChunkedArray) -> np.ndarray:
    """Returns a column of names as objects, equal ones the same."""
    coded = column.combine_chunks().dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    return np.array([*coded.dictionary.to_pylist(), None], dtype=object)[coded.indices.to_numpy()]


def _times(files: list[LogFile], tables: list[pa.Table], time: str) -> tuple[np.ndarray, int]:
    """Returns the times of plain rows and their scale."""
    column = TimeColumn()
    for file, table in zip(files, tables, strict=True):
        column.add(table[time].combine_chunks(), np.arange(len(table)))
        if (expected := column.expected) is not None:
            raise file.fault(time, *column.found[expected], expected)
    times, scale = column.finish(), column.scale
    return (times if scale == 1 else np.rint(times * scale).astype(np.int64)), scale
