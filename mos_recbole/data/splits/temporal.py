"""The split by time: one moment for all users."""

from itertools import pairwise
from math import ceil
from typing import Literal

import numpy as np

from mos_recbole.data.sequences import Segments, Sequences, blocks, read_rows
from mos_recbole.data.splits.base import Split, SplitSpec, make_segments, rows_mask
from mos_recbole.specs import Number, Positive, Setting, Share


def temporal_split(
    sequences: Sequences,
    *,
    split_time: float | None,
    test_share: float,
    valid_time: float | None,
    valid_share: float,
    context_reach: Literal["side", "past"],
    min_side_interactions: int,
) -> Split:
    """Returns the split by one time for all users: test from that time on, validation right before it, then training.

    A user may be on any of the sides. The first interaction of a user that nothing precedes is no target. For the
    items a to h of a user, contexts within the side ("side") and reaching into the past ("past"), the targets of test:

        training a b c | validation d e | test f g h        side: f->g fg->h        past: abcde->f abcdef->g abcdefg->h

    Nothing that happened after another user's test target is trained on. What still looks ahead: filters on how many
    interactions users and items have count both sides, and the choice of a time with hindsight. The validation that
    selects is older than the test and newer than training, so that its metrics are of a model that forecasts too.

    Args:
        sequences: the data.
        split_time: where test begins, in the file's unit; None for the earliest time from which on there are no more
            than `test_share` of all interactions.
        test_share: see there.
        valid_time: where validation begins, in the file's unit; None for `valid_share`.
        valid_share: validation begins at the earliest time from which on, until the test, there are no more than this
            share of the interactions before the test.
        context_reach: whether a context holds what the user did on the same side ("side"), as in the article of
            A. Biarnes, 2023, or all that the user did before ("past").
        min_side_interactions: users with fewer interactions on a side have no targets there.
    """
    times = sequences.times
    beginning = min(int(part.min()) for _, part in blocks(times))
    end = max(int(part.max()) for _, part in blocks(times)) + 1
    if split_time is not None:
        test_from = _ticks(split_time, sequences.time_scale)
    else:
        test_from = _latest_share(times, beginning, end, test_share)
    if valid_time is not None:
        valid_from = min(_ticks(valid_time, sequences.time_scale), test_from)
    else:
        valid_from = _latest_share(times, beginning, min(max(test_from, beginning), end), valid_share)
    start, stop = sequences.offsets[:-1], sequences.offsets[1:]
    borders = [start, start + _rows_before(sequences, valid_from), start + _rows_before(sequences, test_from), stop]

    def side(first: np.ndarray, last: np.ndarray) -> Segments:
        context = first if context_reach == "side" else start
        kept = last - first >= min_side_interactions
        return make_segments(context, np.maximum(first, context + 1), np.where(kept, last, first))

    scale = sequences.time_scale
    facts: dict[str, int | float] = {
        "valid_from": valid_from if scale == 1 else valid_from / scale,
        "test_from": test_from if scale == 1 else test_from / scale,
        "users_before_test": int((borders[2] > start).sum()),
        "items_before_test": _n_items(sequences.items, rows_mask(len(times), start, borders[2])),
        "targets_before_test": side(start, borders[2]).n_targets,
    }
    train, valid, test = (side(first, last) for first, last in pairwise(borders))
    note = "validation from time {valid_from}, test from {test_from}; before the test {users_before_test:,} users, "
    note += "{items_before_test:,} items, {targets_before_test:,} targets"
    return Split(train, valid, test, facts, note.format(**facts), train_stop=borders[1], valid_stop=borders[2])


def _ticks(time: float, scale: int) -> int:
    """Returns the first time of a file that is not before `time`, in parts of 1 / scale of the file's unit."""
    nearest = round(time * scale)
    # 16.6 * 10**6 is a little more than 16,600,000, and yet the same time.
    return nearest if nearest / scale == time else ceil(time * scale)


_USERS = 2**13  # at a time, whose times are copied


def _rows_before(sequences: Sequences, time: int) -> np.ndarray:
    """Returns how many of a user's interactions are before a time, int64 [U]."""
    counts = np.empty(sequences.n_users, dtype=np.int64)
    for first in range(0, sequences.n_users, _USERS):
        offsets = sequences.offsets[first : first + _USERS + 1]
        is_before = read_rows(sequences.times, int(offsets[0]), int(offsets[-1])) < time
        counts[first : first + _USERS] = np.add.reduceat(is_before, offsets[:-1] - offsets[0], dtype=np.int64)
    return counts


# Buckets that a range of times is cut into at a time: few enough to be counted in the processor's cache.
_BUCKET_BITS = 12


def _latest_share(all_times: np.ndarray, low: int, high: int, share: float) -> int:
    """Returns the earliest time t of which no more than a share of the interactions in [low, high) are in [t, high)."""
    allowed = None
    # Of the interactions in the range that is left, those at or after its end count too.
    after = 0
    while low < high:
        shift = max(0, (high - low).bit_length() - _BUCKET_BITS)
        counts = np.zeros(((high - low - 1) >> shift) + 1, dtype=np.int64)
        for _, times in blocks(all_times):
            inside = times[(times >= low) & (times < high)]
            # Without sign, since the range of int64 is no int64.
            since_low = inside.view(np.uint64) - np.uint64(low % 2**64)
            counts += np.bincount((since_low >> np.uint64(shift)).astype(np.int64), minlength=len(counts))
        if allowed is None:
            # Of 1/9, written with twelve digits, 90 rows are 9.99999999999.
            allowed = (share + 1e-12) * counts.sum()
        # Of every bucket how many are in it or later.
        from_bucket = after + np.cumsum(counts[::-1])[::-1]
        too_many = int((from_bucket > allowed).sum())  # they are the first ones
        if too_many == 0:
            return low
        if too_many < len(counts):
            after = int(from_bucket[too_many])
        start = low + ((too_many - 1) << shift)
        if shift == 0:
            return start + 1
        # The time is in the last bucket that has too many, or is the next one's beginning.
        low, high = start, min(start + (1 << shift), high)
    return high


def _n_items(all_items: np.ndarray, chosen: np.ndarray) -> int:
    is_there = np.zeros(1 + max(int(items.max()) for _, items in blocks(all_items)), dtype=bool)
    for rows, items in blocks(all_items):
        is_there[items[chosen[rows]]] = True
    return int(is_there.sum())


SPLIT = SplitSpec(
    "temporal",
    temporal_split,
    help="one time for all users: test from then on, validation right before it",
    leakage="One moment in time parts training from test. No model learns from anything at or after that moment; "
    "contexts of test queries hold items after it only as far as the user had them before the target. Filters by "
    "numbers of interactions, where there are any, count both sides.",
    # Items of the future have weights that nothing was learned for.
    candidates="trained",
    settings=(
        Setting("split_time", Number | None, None, "Where the test begins, in the file's unit; None: by test_share."),
        Setting("test_share", Share, 0.1, "Share of all interactions, the latest, that are the test's."),
        Setting(
            "valid_time",
            Number | None,
            None,
            "Where validation begins, in the file's unit; None: by valid_share.",
            recent=True,
        ),
        Setting("valid_share", Share, 0.1, "Share of those before the test, the latest, that are validation's."),
        Setting(
            "context_reach",
            Literal["side", "past"],
            "side",
            "What contexts hold: side, what the user did on the same side; past, all that was before.",
        ),
        Setting("min_side_interactions", Positive, 1, "Users with fewer interactions on a side have no targets there."),
    ),
    replaced_by={"test_share": "split_time", "valid_share": "valid_time"},
    by_time=True,
)
