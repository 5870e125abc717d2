"""Filters, numbers and sorts a log: RecBole's rules, on codes instead of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from mos_recbole.data.reading import InteractionLog, TokenColumn
from mos_recbole.data.sequences import Sequences, positions

# (left bracket, lowest, highest, right bracket), any of which a number may lie in; as RecBole parses them.
Intervals = Sequence[tuple[str, float, float, str]]

TieOrder = Literal["file", "random", "reverse"]

# Rows per step where a step needs temporaries; small enough for sorting in the processor's cache.
_COUNT_ROWS = 2**20
_SORT_ROWS = 2**15


@dataclass(frozen=True)
class Filters:
    """Which rows stay, by RecBole's settings.

    Attributes:
        user, item, time: names of the columns; None for the time: the order of the file.
        duplicates: `rm_dup_inter`, which of the interactions of a user with an item to keep; None for all.
        values: `val_interval`, intervals of a number column or the names to keep of a name column.
        user_interactions, item_interactions: `user_inter_num_interval` and `item_inter_num_interval`.
        normalize: `normalize_all`, whether numbers are scaled to 0 to 1.
        tie_order: order of a user's rows of equal time; see `time_order`.
    """

    user: str
    item: str
    time: str | None
    duplicates: Literal["first", "last"] | None
    values: Mapping[str, Intervals | list[str]]
    user_interactions: Intervals | None
    item_interactions: Intervals | None
    normalize: bool
    tie_order: TieOrder


@dataclass(frozen=True)
class PreparedArrays:
    """A log filtered, numbered and sorted by user and time.

    Attributes:
        sequences: the flat arrays.
        columns: name -> float32 [N], as RecBole holds them: gaps filled with the mean, normalised where asked for. The
            time column is among them where RecBole's is not `times` as float32.
        user_names, item_names: by id, from id 1.
        incomplete_rows: rows left out because their user or item is missing.
        skipped_lines: lines left out because they are not as they should be.
    """

    sequences: Sequences
    columns: dict[str, np.ndarray]
    user_names: pa.Array
    item_names: pa.Array
    incomplete_rows: int
    skipped_lines: int


def prepare(log: InteractionLog, filters: Filters) -> PreparedArrays:
    """Returns the log filtered, numbered and sorted; `log` is used up.

    The order of the steps, and what each does, is that of RecBole's `Dataset._data_processing`.

    Raises:
        ValueError: nothing is left.
    """
    incomplete = _filter(log, filters)
    if not len(log):
        raise ValueError("Some feat is empty, please check the filtering settings.")
    user_ids, user_names = _numbered(log.tokens.pop(filters.user))
    item_ids, item_names = _numbered(log.tokens.pop(filters.item))
    columns = _columns(log, filters)
    times = log.times if log.time_scale == 1 else np.rint(log.times * log.time_scale).astype(np.int64)
    log.times = np.empty(0, np.int64)

    counts = _counts(user_ids, len(user_names) + 1)
    if (user_ids[1:] < user_ids[:-1]).any():
        # Counting sort: a sparse matrix of users x rows, whose rows come out in the order of the file.
        n_rows = len(user_ids)
        places = np.arange(n_rows, dtype=np.int32 if n_rows < 2**31 else np.int64)
        matrix = sparse.coo_array((times, (user_ids, places)), shape=(len(counts), n_rows)).tocsr()
        del user_ids, places, times
        order, times = matrix.indices, matrix.data
        item_ids = item_ids[order]
        columns = {name: column[order] for name, column in columns.items()}
    offsets = np.cumsum(counts)
    if filters.time is None:
        times = positions(offsets)
    else:
        _sort_by_time([times, item_ids, *columns.values()], times, offsets, filters.tie_order)
    sequences = Sequences(item_ids, times, offsets, np.arange(1, len(counts), dtype=np.int32), log.time_scale)
    return PreparedArrays(sequences, columns, user_names, item_names, incomplete, log.skipped_lines)


def _sort_by_time(arrays: list[np.ndarray], times: np.ndarray, offsets: np.ndarray, tie_order: TieOrder) -> None:
    """Sorts arrays within each user's rows, in place, some users at a time."""
    start = 0
    while start < len(offsets) - 1:
        stop = int(np.searchsorted(offsets, offsets[start] + _SORT_ROWS, side="right")) - 1
        stop = max(stop, start + 1)
        rows = slice(int(offsets[start]), int(offsets[stop]))
        order = time_order(times[rows], offsets[start : stop + 1] - rows.start, tie_order, rows.start)
        for array in arrays:
            array[rows] = array[rows][order]
        start = stop


def _filter(log: InteractionLog, filters: Filters) -> int:
    """Drops rows; returns how many of them because their user or item is missing."""
    user, item = log.tokens[filters.user], log.tokens[filters.item]
    n_rows = len(log)
    log.keep((user.codes >= 0) & (item.codes >= 0))
    incomplete = n_rows - len(log)
    if filters.duplicates is not None:
        log.keep(_without_duplicates(log, user, item, filters.duplicates))
    for name, allowed in filters.values.items():
        log.keep(_with_values(log, filters.time, name, allowed))
    _drop_by_counts(log, [(user, filters.user_interactions), (item, filters.item_interactions)])
    return incomplete


def within(values: np.ndarray, intervals: Intervals) -> np.ndarray:
    """Returns a mask of the values that lie in any of the intervals."""
    inside = np.zeros(len(values), dtype=bool)
    for left, lowest, highest, right in intervals:
        above = values >= lowest if left == "[" else values > lowest
        below = values <= highest if right == "]" else values < highest
        inside |= above & below
    return inside


def _with_values(log: InteractionLog, time: str | None, name: str, allowed: Intervals | list[str]) -> np.ndarray:
    if name in log.tokens:
        column = log.tokens[name]
        is_allowed = pc.is_in(column.names, pa.array(allowed, pa.string())).to_numpy(zero_copy_only=False)
        return is_allowed[column.codes]
    return within(log.times if name == time else log.floats[name], allowed)  # type: ignore[arg-type]


def _without_duplicates(
    log: InteractionLog, user: TokenColumn, item: TokenColumn, keep: Literal["first", "last"]
) -> np.ndarray:
    """Returns a mask with one row of every pair of user and item: the first or last by time, then by the file."""
    pair = user.codes.astype(np.int64) * len(item.names) + item.codes
    order = np.lexsort((log.times, pair))
    differs = np.diff(pair[order]) != 0
    chosen = np.concatenate([[True], differs] if keep == "first" else [differs, [True]])
    mask = np.zeros(len(log), dtype=bool)
    mask[order[chosen[: len(order)]]] = True
    return mask


def _counts(codes: np.ndarray, n_codes: int) -> np.ndarray:
    """Returns how often each code occurs, int64; in steps, because `np.bincount` works on a copy in int64."""
    counts = np.zeros(n_codes, dtype=np.int64)
    for start in range(0, len(codes), _COUNT_ROWS):
        counts += np.bincount(codes[start : start + _COUNT_ROWS], minlength=n_codes)
    return counts


def _drop_by_counts(log: InteractionLog, limits: list[tuple[TokenColumn, Intervals | None]]) -> None:
    """Drops users and items whose number of interactions is in no interval, both at a time, until none is left."""
    limited = [(column, intervals) for column, intervals in limits if intervals is not None]
    counts = [_counts(column.codes, len(column.names)) for column, _ in limited]
    while True:
        illegal = [
            (count > 0) & ~within(count, intervals) for count, (_, intervals) in zip(counts, limited, strict=True)
        ]
        if not any(one.any() for one in illegal):
            return
        dropped = np.zeros(len(log), dtype=bool)
        for one, (column, _) in zip(illegal, limited, strict=True):
            dropped |= one[column.codes]
        for count, (column, _) in zip(counts, limited, strict=True):
            count -= _counts(column.codes[dropped], len(count))
        log.keep(~dropped)


def _numbered(column: TokenColumn) -> tuple[np.ndarray, pa.Array]:
    """Returns ids from 1 in the order in which the names come first, int32 [N], and the names that are there."""
    codes = column.codes
    first = np.full(len(column.names), -1, dtype=np.int64)
    # From the end, so that of a name's rows the first is written last.
    for start in reversed(range(0, len(codes), _COUNT_ROWS)):
        part = codes[start : start + _COUNT_ROWS]
        first[part[::-1]] = np.arange(start + len(part) - 1, start - 1, -1)
    present = np.flatnonzero(first >= 0)
    by_id = present[np.argsort(first[present])]
    ids = np.zeros(len(first), dtype=np.int32)
    ids[by_id] = np.arange(1, len(by_id) + 1)
    return ids[codes], column.names.take(pa.array(by_id))


def _columns(log: InteractionLog, filters: Filters) -> dict[str, np.ndarray]:
    """Returns the number columns as RecBole holds them, float32; uses up those of the log."""
    columns = {}
    for name in list(log.floats):
        values = log.floats.pop(name)
        missing = np.isnan(values)
        if missing.any():
            values[missing] = pd.Series(values).mean()
        columns[name] = _held(values, filters.normalize)
    if filters.time is not None and (filters.normalize or log.time_scale != 1):
        columns[filters.time] = _held(log.times, filters.normalize)
    return columns


def _held(values: np.ndarray, normalize: bool) -> np.ndarray:
    if normalize:
        lowest, highest = values.min(), values.max()
        values = np.ones(len(values)) if lowest == highest else (values - lowest) / (highest - lowest)
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def time_order(times: np.ndarray, offsets: np.ndarray, tie_order: TieOrder, first_row: int = 0) -> np.ndarray:
    """Returns the order [N] of rows in groups that sorts each group by time.

    Rows of equal time within a group come as they are ("file"), the other way round ("reverse"), or in an order drawn
    at random, always the same ("random").

    Args:
        times: int64 [N].
        offsets: int64 [groups + 1], each group's rows.
        tie_order: see above.
        first_row: number of the first row in all the data, of which these may be a part: "random" depends on it, so
            that parts are ordered as they are in the whole.
    """
    group = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    if tie_order == "file":
        return _stable_order(times, group)
    if tie_order == "reverse":
        shuffled = np.arange(len(times))[::-1]
    else:
        drawn = np.random.Generator(np.random.PCG64(_TIE_SEED).advance(first_row)).random(len(times))
        shuffled = np.argsort(drawn, kind="stable")
    return shuffled[_stable_order(times[shuffled], group[shuffled])]


_TIE_SEED = 0


def _stable_order(times: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Returns the order of rows by group, then by time, then as they are."""
    n_rows, n_groups = len(times), int(group.max()) + 1
    lowest = times.min()
    time_bits = (int(times.max()) - int(lowest)).bit_length()
    place_bits = (n_rows - 1).bit_length()
    if (n_groups - 1).bit_length() + time_bits + place_bits > 63:
        return np.lexsort((times, group))
    # One number a row, all different: many times faster to sort than rows by two keys.
    key = (group << time_bits | (times - lowest)) << place_bits | np.arange(n_rows)
    key.sort()
    return key & ((1 << place_bits) - 1)
