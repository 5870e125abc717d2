"""The interactions of a file as columns: tokens as codes, times exact, faults named by line."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from mos_recbole.data.reading.atomic import LogFile
from mos_recbole.data.reading.numbers import FloatColumn, TimeColumn, join
from mos_recbole.errors import InputError

# Large enough that blocks hold few names twice, small enough that some of them are no memory.
_BLOCK_BYTES = 2**23


@dataclass
class TokenColumn:
    """A column of names.

    Attributes:
        codes: int32 [N], places in `names`; -1 where the name is missing.
        names: every name once, in the order in which the file has them first.
    """

    codes: np.ndarray
    names: pa.Array


@dataclass
class InteractionLog:
    """Columns of equal length, a row an interaction, in the order of the file. Filtered in place to save memory.

    Attributes:
        tokens: columns of names.
        floats: columns of numbers, float64 with NaN where they are missing.
        times: int64 in the file's unit; where the file has fractions, float64.
        time_scale: 1, or where the file has fractions 1,000,000: the resolution in which times are kept.
    """

    tokens: dict[str, TokenColumn]
    floats: dict[str, np.ndarray]
    times: np.ndarray
    time_scale: int

    def __len__(self) -> int:
        return len(self.times)

    def keep(self, mask: np.ndarray) -> None:
        """Leaves the rows of a mask."""
        if mask.all():
            return
        for column in self.tokens.values():
            column.codes = column.codes[mask]
        for name in self.floats:
            self.floats[name] = self.floats[name][mask]
        self.times = self.times[mask]


def read_log(file: LogFile, wanted: list[str], time: str) -> InteractionLog:
    """Returns the wanted columns of a file. Lines that are empty or hold separators only are left out.

    Args:
        file: what to read.
        wanted: columns, of types token and float; the time column may have either.
        time: name of the time column.

    Raises:
        InputError: a line with more or fewer fields than the header, bytes that are not text, no data lines, text that
            is no number in a float column, a time that is missing, not finite or beyond int64.
    """
    token_names = [name for name in wanted if name != time and file.columns[name] == "token"]
    times = TimeColumn()
    numbers = {name: times if name == time else FloatColumn() for name in wanted if name not in token_names}
    tokens: dict[str, list[pa.Array]] = {name: [] for name in token_names}
    try:
        first_row = 0
        for batch in _open(file, wanted, token_names):
            rows = np.arange(first_row, first_row + len(batch))
            first_row += len(batch)
            empty = _empty_rows(batch)
            if empty is not None:
                batch, rows = batch.filter(pa.array(~empty)), rows[~empty]
            for name, column in numbers.items():
                column.add(batch.column(name), rows)
            for name, parts in tokens.items():
                parts.append(batch.column(name))
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        file.require_whole_lines()
        raise InputError(f"{file.path}: {error}") from error
    if not any(map(len, tokens[token_names[0]])):
        raise InputError(f"{file.path}: a header but no interactions")
    for name, column in numbers.items():
        if (expected := column.expected) is not None:
            raise file.fault(name, *column.found[expected], expected)
    del numbers[time]
    return InteractionLog(
        tokens={name: _token_column(tokens.pop(name)) for name in token_names},
        floats={name: column.finish() for name, column in numbers.items()},
        times=times.finish(),
        time_scale=times.scale,
    )


def _open(file: LogFile, wanted: list[str], token_names: list[str]) -> csv.CSVStreamingReader:
    name_type, text_type = pa.dictionary(pa.int32(), pa.string()), pa.string()
    return csv.open_csv(
        file.path,
        csv.ReadOptions(column_names=list(file.columns), skip_rows=1, encoding=file.encoding, block_size=_BLOCK_BYTES),
        csv.ParseOptions(delimiter=file.separator, quote_char=False),
        csv.ConvertOptions(
            column_types={name: name_type if name in token_names else text_type for name in wanted},
            include_columns=wanted,
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _empty_rows(batch: pa.RecordBatch) -> np.ndarray | None:
    """Returns a mask of the rows of which nothing is there, or None if there are none."""
    columns = batch.columns
    if any(column.null_count == 0 for column in columns):
        return None
    empty = np.ones(len(batch), dtype=bool)
    for column in columns:
        empty &= pc.is_null(column).to_numpy(zero_copy_only=False)
    return empty if empty.any() else None


def _token_column(parts: list[pa.Array]) -> TokenColumn:
    """Returns blocks of names, each with its own dictionary, as one column; empties the list on the way."""
    unified = pa.chunked_array(parts).unify_dictionaries()
    parts.clear()
    chunks = unified.chunks
    names = chunks[0].dictionary
    del unified
    codes = [pc.fill_null(chunk.indices, -1).to_numpy() for chunk in chunks]
    del chunks
    return TokenColumn(join(codes, np.dtype(np.int32)), names)
