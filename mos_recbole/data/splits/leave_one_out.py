"""The split by user: the last item is the test target."""

from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator

from mos_recbole.data.sequences import Sequences
from mos_recbole.data.splits.base import Split, SplitSpec, make_segments
from mos_recbole.specs import Setting


def leave_one_out(
    sequences: Sequences, *, held_out: Literal["valid_and_test", "test_only"] = "valid_and_test"
) -> Split:
    """Returns the split in which a user's last item is the test target and the one before it the validation target.

    The rule is RecBole's `eval_args: {split: {LS: valid_and_test}, order: TO}`: a user with n interactions has n - 1
    targets; test takes the last if there are two, validation the one before if there are three, training the rest.
    With `test_only`, as RecBole's `LS: test_only`, there is no validation, and training takes its targets.

    This split leaks across users: training holds interactions that happened after other users' test targets, so
    popularity and co-occurrence from the future are known. It measures interpolation, not forecasting.
    """
    start, stop = sequences.offsets[:-1], sequences.offsets[1:]
    n_targets = stop - start - 1
    n_test = (n_targets >= 2).astype(np.int64)
    n_valid = ((n_targets >= 3) & (held_out == "valid_and_test")).astype(np.int64)
    borders = [start + 1, stop - n_test - n_valid, stop - n_test, stop]
    train, valid, test = (make_segments(start, first, last) for first, last in pairwise(borders))
    return Split(train, valid, test)


def _has_test(value: Any) -> Any:
    if value == "valid_only":
        raise ValueError("it leaves nothing to test on; expected 'valid_and_test' or 'test_only'")
    return value


SPLIT = SplitSpec(
    "leave_one_out",
    leave_one_out,
    help="a user's last item for the test, the one before it for validation",
    leakage="Each user's last item is the test target, the one before it the validation target. Training holds what "
    "other users did after a query's time, so models know more of fashions than they could have known then.",
    settings=(
        Setting(
            "held_out",
            Annotated[Literal["valid_and_test", "test_only"], BeforeValidator(_has_test)],
            "valid_and_test",
            "Whether there is a validation target beside the test's; without one, the last epoch is the model.",
            recent=True,
        ),
    ),
    unvalidated={"held_out": "test_only"},
)
