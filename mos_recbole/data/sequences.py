"""Interaction sequences as flat arrays. A prefix is never copied out: it is a start and a length."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sequences:
    """All users' interactions, user by user, each user's in the order of time.

    Attributes:
        items: int32 [N], item ids from 1 (0 is padding).
        times: int64 [N], in the file's unit, or in millionths of it where the file has fractions (`time_scale`). Of a
            file without times, a user's interactions are numbered: 0, 1, 2, ...
        offsets: int64 [U + 1]; user number u owns the rows offsets[u] to offsets[u + 1].
        users: int32 [U], RecBole's user ids, ascending; of lists, as the files have them, some repeatedly.
        time_scale: 1 or 1,000,000.
        sides: int8 [N], of data that come split: 0, 1 and 2 for targets of training, validation and test, ascending
            within each user; -1 for what is context only.
    """

    items: np.ndarray
    times: np.ndarray
    offsets: np.ndarray
    users: np.ndarray
    time_scale: int = 1
    sides: np.ndarray | None = None

    @property
    def n_users(self) -> int:
        return len(self.users)

    def tied_share(self) -> float:
        """Returns the share of rows whose user has another row with the same time."""
        return tied_rows(self.times, self.offsets) / max(1, len(self.times))

    def have_repeats(self) -> bool:
        """Returns whether a user has an item more than once."""
        n_items = int(self.items.max(initial=0)) + 1
        for first in range(0, self.n_users, _BLOCK_USERS):
            offsets = self.offsets[first : first + _BLOCK_USERS + 1]
            user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
            pair = np.sort(user * n_items + read_rows(self.items, int(offsets[0]), int(offsets[-1])))
            if (pair[1:] == pair[:-1]).any():
                return True
        return False

    def times_are_positions(self) -> bool:
        """Returns whether times number each user's interactions: most users begin at one time and go on in ones."""
        first = np.empty(self.n_users, dtype=np.int64)
        ones = 0
        for rows, times in blocks(self.times):
            users = slice(*np.searchsorted(self.offsets[:-1], (rows.start, rows.stop)))
            first[users] = times[self.offsets[:-1][users] - rows.start]
            ones += int((np.diff(times) == 1).sum())
        together = int((first == first.min()).sum())
        return self.n_users > 1 and 2 * together > self.n_users and 2 * ones > len(self.times) - self.n_users > 0


def positions(offsets: np.ndarray) -> np.ndarray:
    """Returns the number of each row within its user, from 0, int64 [N]."""
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))


_BLOCK_ROWS, _BLOCK_USERS = 2**20, 2**13


def read_rows(array: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Returns rows of an array of one dimension, not to be changed.

    An array that is mapped from a file is read from it and not through the map, so that the rest of a long one does not
    come to count as this process's memory.
    """
    if isinstance(array, np.memmap) and array.filename is not None:
        # The file may be gone, when data that changed were prepared anew meanwhile. The map stays.
        with contextlib.suppress(FileNotFoundError):
            return np.fromfile(array.filename, array.dtype, stop - start, offset=array.offset + start * array.itemsize)
    return array[start:stop]


def blocks(array: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields an array of one dimension piece by piece: which rows, and `read_rows` of them."""
    for start in range(0, len(array), _BLOCK_ROWS):
        rows = slice(start, min(start + _BLOCK_ROWS, len(array)))
        yield rows, read_rows(array, rows.start, rows.stop)


def tied_rows(times: np.ndarray, offsets: np.ndarray) -> int:
    """Returns how many rows share their time with another row of the same user; both as in `Sequences`."""
    same = times[1:] == times[:-1]
    same[offsets[1:-1] - 1] = False
    tied = np.zeros(len(times), dtype=bool)
    tied[1:] |= same
    tied[:-1] |= same
    return int(tied.sum())


@dataclass(frozen=True)
class Segments:
    """Runs of consecutive targets, one run per user and side of a split.

    Row p of the flat arrays is a target if it lies in [target_start, target_stop) of a segment. Its context are the
    rows from that segment's context_start to p (the target excluded), of which a model sees the last L.

    Attributes:
        user: int32 [S], position of the user in `Sequences.users`.
        context_start, target_start, target_stop: int64 [S], with context_start < target_start <= target_stop.
    """

    user: np.ndarray
    context_start: np.ndarray
    target_start: np.ndarray
    target_stop: np.ndarray

    def __post_init__(self) -> None:
        assert (self.context_start < self.target_start).all(), "a target without a context"
        assert (self.target_start <= self.target_stop).all()

    @property
    def counts(self) -> np.ndarray:
        """Targets per segment, int64 [S]."""
        return self.target_stop - self.target_start

    @property
    def n_targets(self) -> int:
        return int(self.counts.sum())

    def targets(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns every target's row in the flat arrays and its segment's number, both int64 [n_targets]."""
        counts = self.counts
        first = np.cumsum(counts) - counts
        rows = np.arange(counts.sum())
        rows += np.repeat(self.target_start - first, counts)
        return rows, np.repeat(np.arange(len(self.user)), counts)
