"""Splits: which interactions are targets in training, in validation and in the test.

Every module declares its split beside its function; `SPLITS` follows from that.
"""

from mos_recbole.data.splits.base import Split, SplitSpec
from mos_recbole.specs import declared

SPLITS: dict[str, SplitSpec] = {spec.name: spec for spec in declared(__name__, SplitSpec)}
"""By the value of the setting `split`."""

__all__ = ["SPLITS", "Split", "SplitSpec"]
