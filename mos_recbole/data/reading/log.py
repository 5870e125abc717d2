"""The interactions of a file as columns: tokens as codes, times exact, faults named by line."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mos_recbole.data.reading.atomic import RATINGS_FILE, LogFile
from mos_recbole.data.reading.bad_lines import Read, read_lines
from mos_recbole.data.reading.batches import batches, filled_rows, require_names
from mos_recbole.data.reading.numbers import FloatColumn, TimeColumn, join, no_numbers
from mos_recbole.errors import InputError


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
        times: int64 in the file's unit; where the file has fractions, float64; without a column of times, 0, 1, 2, ...
        time_scale: 1, or where the file has fractions 1,000,000: the resolution in which times are kept.
        skipped_lines: number of lines that were left out because they are not as they should be.
        no_numbers: column of numbers that is not wanted -> how many of its values are none.
    """

    tokens: dict[str, TokenColumn]
    floats: dict[str, np.ndarray]
    times: np.ndarray
    time_scale: int
    skipped_lines: int = 0
    no_numbers: dict[str, int] = field(default_factory=dict)

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


def read_log(file: LogFile, wanted: list[str], time: str | None, skip_bad_lines: bool = False) -> InteractionLog:
    """Returns the wanted columns of a file. Lines that are empty or hold separators only are left out.

    Args:
        file: what to read.
        wanted: columns, of types token and float; the time column may have either.
        time: name of the time column; None for the order of the file.
        skip_bad_lines: whether lines that are not as they should be are left out and counted.

    Raises:
        InputError: a line with more or fewer fields than the header, bytes that are not text, no data lines, text that
            is no number in a float column, a time that is missing, not finite or beyond int64.
    """
    checks: dict[str, Read] = {name: "number" if file.columns[name] == "float" else "name" for name in wanted}
    if time is not None:
        checks[time] = "time"
    log, skipped = read_lines(file, lambda file: _read(file, wanted, time), checks, skip_bad_lines)
    log.skipped_lines = skipped
    return log


def _read(file: LogFile, wanted: list[str], time: str | None) -> InteractionLog:
    token_names = [name for name in wanted if name != time and file.columns[name] == "token"]
    times = TimeColumn()
    numbers = {name: times if name == time else FloatColumn() for name in wanted if name not in token_names}
    tokens: dict[str, list[pa.Array]] = {name: [] for name in token_names}
    unread = dict.fromkeys(unread_numbers(file, wanted), 0)

    def read() -> Iterator[pa.RecordBatch]:
        for batch in batches(file, [*wanted, *unread], token_names):
            for name in unread:
                unread[name] += int(no_numbers(batch.column(name)).sum())
            yield batch.select(wanted)

    for batch, rows in filled_rows(read()):
        for name, column in numbers.items():
            column.add(batch.column(name), rows)
        for name, parts in tokens.items():
            require_names(file, name, batch.column(name), rows)
            parts.append(batch.column(name))
    n_rows = sum(map(len, tokens[token_names[0]]))
    if not n_rows:
        raise InputError(f"{file.path}: a header but no interactions")
    raise_faults(file, numbers)
    numbers.pop(time or "", None)
    return InteractionLog(
        tokens={name: _token_column(tokens.pop(name)) for name in token_names},
        floats={name: column.finish() for name, column in numbers.items()},
        times=np.arange(n_rows) if time is None else times.finish(),
        time_scale=times.scale,
        no_numbers={name: count for name, count in unread.items() if count},
    )


def unread_numbers(file: LogFile, wanted: Collection[str]) -> list[str]:
    """Returns the columns that are numbers, as the file's header says, and that are not wanted."""
    says = file.path.suffix == ".inter" or file.path.name == RATINGS_FILE  # headers of other files name no types
    return [name for name, kind in file.columns.items() if says and kind == "float" and name not in wanted]


def raise_faults(file: LogFile, numbers: Mapping[str, FloatColumn]) -> None:
    """Raises an error for the first column of numbers that has text that is none."""
    for name, column in numbers.items():
        if (expected := column.expected) is not None:
            raise file.fault(name, *column.found[expected], expected)


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
