"""A file's rows as batches of Arrow columns, for text files and for Parquet."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from mos_recbole.data.reading.atomic import BROKEN, LogFile
from mos_recbole.data.reading.rows import NUL
from mos_recbole.errors import InputError

# Large enough that blocks hold few names twice, small enough that some of them are no memory.
_BLOCK_BYTES = 2**23
_NAMES, _TEXT = pa.dictionary(pa.int32(), pa.string()), pa.string()


def batches(file: LogFile, wanted: list[str], token_names: list[str]) -> Iterator[pa.RecordBatch]:
    """Yields the wanted columns block by block: names as dictionaries, all others as text; nulls are missing values.

    Raises:
        InputError: a line with more or fewer fields than the header, or bytes that are not text.
    """
    types = {name: _NAMES if name in token_names else _TEXT for name in wanted}
    try:
        if not file.separator:
            yield from _parquet_batches(file, types)
            return
        quoted = file.has_quotation_marks()
        if quoted:  # Arrow takes a value that nothing closes for one that ends with the file
            file.require_whole_lines()
        yield from csv.open_csv(
            file.content(),
            csv.ReadOptions(
                column_names=list(file.columns), skip_rows=1, encoding=file.encoding, block_size=_BLOCK_BYTES
            ),
            csv.ParseOptions(
                delimiter=file.separator, quote_char='"' if file.quoting else False, newlines_in_values=quoted
            ),
            csv.ConvertOptions(column_types=types, include_columns=wanted, null_values=[""], strings_can_be_null=True),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        if file.separator:
            file.require_whole_lines()
            if not any(True for _ in file.rows()):  # a header without a line end
                return
        raise InputError(f"{file.path}: {error}") from error
    except BROKEN as error:
        raise InputError(f"{file.path}: {error}; expected a whole file") from error


def _parquet_batches(file: LogFile, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    opened = parquet.ParquetFile(file.path)
    place = dict(zip(file.columns, opened.schema_arrow.names, strict=True))
    for batch in opened.iter_batches(columns=[place[name] for name in types]):
        columns = []
        for name, kind in types.items():
            column = batch.column(place[name])
            # A moment is a number in its own unit, as in a text file.
            column = column.cast(pa.timestamp("s")) if pa.types.is_date(column.type) else column
            column = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
            try:
                text = column.cast(_TEXT)
            except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
                raise InputError(
                    f"{file.path}: the column {place[name]!r} has {column.type}; expected names or numbers"
                ) from error
            columns.append(text.dictionary_encode() if kind == _NAMES else text)
        yield pa.record_batch(columns, names=list(types))


def filled_rows(read: Iterable[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Yields batches without the rows of which nothing is there, and the numbers of their rows in the file, from 0."""
    first_row = 0
    for batch in read:
        rows = np.arange(first_row, first_row + len(batch))
        first_row += len(batch)
        empty = _empty_rows(batch)
        yield (batch, rows) if empty is None else (batch.filter(pa.array(~empty)), rows[~empty])


def require_names(file: LogFile, name: str, column: pa.Array, rows: np.ndarray) -> None:
    """Raises a `BadLine` for a name that holds a NUL byte: of a damaged file, and NumPy would cut it off.

    Args:
        file: of the column.
        name, column: a block of it.
        rows: the numbers of its rows in the file, from 0.
    """
    texts = column.dictionary if pa.types.is_dictionary(column.type) else column
    if pc.any(pc.match_substring(texts, NUL)).as_py():
        wrong = pc.fill_null(pc.match_substring(column.cast(_TEXT), NUL), False).to_numpy(zero_copy_only=False)
        place = int(wrong.argmax())
        raise file.fault(name, int(rows[place]), column[place].as_py(), "a name without NUL bytes")


def _empty_rows(batch: pa.RecordBatch) -> np.ndarray | None:
    """Returns a mask of the rows of which nothing is there, or None if there are none."""
    columns = batch.columns
    if any(column.null_count == 0 for column in columns):
        return None
    empty = np.ones(len(batch), dtype=bool)
    for column in columns:
        empty &= pc.is_null(column).to_numpy(zero_copy_only=False)
    return empty if empty.any() else None
