"""The split by user and share: the latest of each user's targets for the test, those before them for validation."""

from itertools import pairwise

import numpy as np

from mos_recbole.data.sequences import Sequences
from mos_recbole.data.splits.base import Split, SplitSpec, make_segments
from mos_recbole.specs import Probability, Setting, Share


def ratio_split(sequences: Sequences, *, valid_ratio: float, test_ratio: float) -> Split:
    """Returns the split in which each user's latest targets are the test's, and those before them validation's.

    The rule is RecBole's `eval_args: {split: {RS: [0.8, 0.1, 0.1]}, order: TO, group_by: user}` for sequential models.
    A user with n interactions has n - 1 targets. Test and validation get their shares of them, rounded down. A share
    of less than one target is one, first for the test, as long as training keeps one.

    It leaks across users like `leave_one_out`.
    """
    start, stop = sequences.offsets[:-1], sequences.offsets[1:]
    n_targets = stop - start - 1
    n_test, n_valid = ((ratio * n_targets).astype(np.int64) for ratio in (test_ratio, valid_ratio))
    n_train = n_targets - n_valid - n_test
    for ratio, side in ((test_ratio, n_test), (valid_ratio, n_valid)):
        one_more = (n_train > 1) & (ratio * n_targets > 0) & (ratio * n_targets < 1)
        side += one_more
        n_train -= one_more
    borders = [start + 1, stop - n_test - n_valid, stop - n_test, stop]
    train, valid, test = (make_segments(start, first, last) for first, last in pairwise(borders))
    return Split(train, valid, test)


SPLIT = SplitSpec(
    "ratio",
    ratio_split,
    help="shares of each user's targets in the order of time, as RecBole's RS with group_by user",
    leakage="Each user's latest targets are the test's, those before them validation's. Training holds what other "
    "users did after a query's time, so models know more of fashions than they could have known then.",
    settings=(
        Setting(
            "valid_ratio",
            Probability,
            0.1,
            "Share of each user's targets, the latest before the test's, that are validation's; 0 for no validation.",
            recent=True,
        ),
        Setting(
            "test_ratio", Share, 0.1, "Share of each user's targets, the latest, that are the test's.", recent=True
        ),
    ),
    unvalidated={"valid_ratio": 0},
    recent=True,
)
