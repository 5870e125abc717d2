"""The split by user: the last item is the test target."""

from itertools import pairwise

import numpy as np

from mos_recbole.data.sequences import Sequences
from mos_recbole.data.splits.base import Split, SplitSpec, make_segments


def leave_one_out(sequences: Sequences) -> Split:
    """Returns the split in which a user's last item is the test target and the one before it the validation target.

    The rule is RecBole's `eval_args: {split: {LS: valid_and_test}, order: TO}`: a user with n interactions has n - 1
    targets; test takes the last if there are two, validation the one before if there are three, training the rest.

    This split leaks across users: training holds interactions that happened after other users' test targets, so
    popularity and co-occurrence from the future are known. It measures interpolation, not forecasting.
    """
    start, stop = sequences.offsets[:-1], sequences.offsets[1:]
    n_targets = stop - start - 1
    n_test = (n_targets >= 2).astype(np.int64)
    n_valid = (n_targets >= 3).astype(np.int64)
    borders = [start + 1, stop - n_test - n_valid, stop - n_test, stop]
    train, valid, test = (make_segments(start, first, last) for first, last in pairwise(borders))
    return Split(train, valid, test)


SPLIT = SplitSpec(
    "leave_one_out",
    leave_one_out,
    help="a user's last item for the test, the one before it for validation",
    leakage="Each user's last item is the test target, the one before it the validation target. Training holds what "
    "other users did after a query's time, so models know more of fashions than they could have known then.",
)
