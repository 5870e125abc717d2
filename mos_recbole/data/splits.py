"""Splits: which interactions are targets in training, in validation and in test. A split is a function of sequences."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mos_recbole.data.sequences import Segments, Sequences


@dataclass(frozen=True)
class Split:
    """The targets of the three sides."""

    train: Segments
    valid: Segments
    test: Segments

    def train_rows(self, n_rows: int) -> np.ndarray:
        """Returns a mask [N] of the interactions that training may see, as targets or as their contexts."""
        return _mask(n_rows, self.train.context_start, self.train.target_stop)

    def train_target_rows(self, n_rows: int) -> np.ndarray:
        """Returns a mask [N] of the interactions that are targets of training."""
        return _mask(n_rows, self.train.target_start, self.train.target_stop)


def _mask(n_rows: int, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    # One byte a row: segments do not overlap, so the running sum is 0 or 1.
    change = np.zeros(n_rows + 1, dtype=np.int8)
    np.add.at(change, start, 1)
    np.add.at(change, stop, -1)
    return np.cumsum(change, dtype=np.int8, out=change)[:-1].view(bool)


def leave_one_out(sequences: Sequences) -> Split:
    """Returns the split in which a user's last item is the test target and the one before it the validation target.

    The rule is RecBole's `eval_args: {split: {LS: valid_and_test}, order: TO}`: a user with n interactions has n - 1
    targets; test takes the last if there are two, validation the one before if there are three, training the rest.

    This split leaks across users: training holds interactions that happened after other users' test targets, so
    popularity and co-occurrence from the future are known. It measures interpolation, not forecasting.
    """
    start, stop = sequences.offsets[:-1], sequences.offsets[1:]
    user = np.arange(sequences.n_users, dtype=np.int32)
    n_targets = stop - start - 1
    n_test = (n_targets >= 2).astype(np.int64)
    n_valid = (n_targets >= 3).astype(np.int64)
    borders = [start + 1, stop - n_test - n_valid, stop - n_test, stop]

    def side(first: np.ndarray, last: np.ndarray) -> Segments:
        kept = last > first
        return Segments(user[kept], start[kept], first[kept], last[kept])

    return Split(*(side(first, last) for first, last in pairwise(borders)))


SPLITS: dict[str, Callable[[Sequences], Split]] = {"leave_one_out": leave_one_out}
