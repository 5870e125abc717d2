"""Encoders: from item sequences to states.

Every module declares its encoders beside their classes; `BUILT_IN_ENCODERS` follows from that.
"""

from mos_recbole.models.encoders.base import CausalEncoder, Encoder, LayeredEncoder, QueryEncoder
from mos_recbole.models.encoders.check import encoder_fault
from mos_recbole.models.encoders.recbole import RecBoleEncoder
from mos_recbole.models.encoders.spec import EncoderSpec
from mos_recbole.specs import declared

BUILT_IN_ENCODERS = tuple(declared(__name__, EncoderSpec))

__all__ = [
    "BUILT_IN_ENCODERS",
    "CausalEncoder",
    "Encoder",
    "EncoderSpec",
    "LayeredEncoder",
    "QueryEncoder",
    "RecBoleEncoder",
    "encoder_fault",
]
