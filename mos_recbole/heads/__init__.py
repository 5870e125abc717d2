"""Output heads: from a context's state to a distribution over items. Pure PyTorch."""

from mos_recbole.heads.base import OutputHead, Scorer
from mos_recbole.heads.logits import LogitHead
from mos_recbole.heads.mixture import MixtureHead
from mos_recbole.heads.mos import MoCHead, MoSHead
from mos_recbole.heads.softmax import SoftmaxHead

__all__ = ["LogitHead", "MixtureHead", "MoCHead", "MoSHead", "OutputHead", "Scorer", "SoftmaxHead"]
