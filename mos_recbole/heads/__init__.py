"""Output heads: from a context's state to a distribution over items. Pure PyTorch.

Every module declares its heads beside their classes; `BUILT_IN_HEADS` and the classes by name follow from that.
"""

from typing import Any

from mos_recbole.heads.base import OutputHead, Scorer, TargetCounter
from mos_recbole.heads.check import head_fault
from mos_recbole.heads.logits import LogitHead
from mos_recbole.heads.mixture import MixtureHead
from mos_recbole.heads.spec import HeadSpec
from mos_recbole.specs import declared

# The baseline first.
BUILT_IN_HEADS = tuple(sorted(declared(__name__, HeadSpec), key=lambda spec: not spec.baseline))

__all__ = [
    "BUILT_IN_HEADS",
    "HeadSpec",
    "LogitHead",
    "MixtureHead",
    "OutputHead",
    "Scorer",
    "TargetCounter",
    "head_fault",
]


def __getattr__(name: str) -> Any:
    """Returns the head class of that name, so that `from mos_recbole.heads import MoSHead` works."""
    for spec in BUILT_IN_HEADS:
        if spec.head_class.__name__ == name:
            return spec.head_class
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
