"""Output heads: from a context's state to a distribution over items. Pure PyTorch."""

from mos_recbole.heads.base import OutputHead
from mos_recbole.heads.mos import MoSHead
from mos_recbole.heads.softmax import SoftmaxHead

__all__ = ["MoSHead", "OutputHead", "SoftmaxHead"]
