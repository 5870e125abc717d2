"""Splits: which interactions are targets in training, in validation and in the test. One file and one spec each."""

from mos_recbole.data.splits.base import Split, SplitSpec
from mos_recbole.data.splits.leave_one_out import LEAVE_ONE_OUT, leave_one_out
from mos_recbole.data.splits.temporal import TEMPORAL, temporal_split

SPLITS: dict[str, SplitSpec] = {spec.name: spec for spec in (LEAVE_ONE_OUT, TEMPORAL)}
"""By the value of the setting `split`; the first one is the default."""

__all__ = ["SPLITS", "Split", "SplitSpec", "leave_one_out", "temporal_split"]
