"""Output heads: from a context's state to a distribution over items. Pure PyTorch."""

from mos_recbole.heads.base import OutputHead, Scorer, TargetCounter
from mos_recbole.heads.cosine import CosineHead
from mos_recbole.heads.dnd import DnDHead
from mos_recbole.heads.doc import DOCHead
from mos_recbole.heads.logits import LogitHead
from mos_recbole.heads.mixtape import MixtapeHead
from mos_recbole.heads.mixture import MixtureHead
from mos_recbole.heads.mol import MoLHead
from mos_recbole.heads.mos import MoCHead, MoSHead
from mos_recbole.heads.sigsoftmax import MoSSHead, SigsoftmaxHead
from mos_recbole.heads.softmax import SoftmaxHead

__all__ = [
    "CosineHead",
    "DOCHead",
    "DnDHead",
    "LogitHead",
    "MixtapeHead",
    "MixtureHead",
    "MoCHead",
    "MoLHead",
    "MoSHead",
    "MoSSHead",
    "OutputHead",
    "Scorer",
    "SigsoftmaxHead",
    "SoftmaxHead",
    "TargetCounter",
]
