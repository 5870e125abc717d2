"""Encoders and heads put together as RecBole models, and RecBole's own classes by their names."""

from mos_recbole.models.combinations import model_name, own_model_names, resolve_model
from mos_recbole.models.encoders import CausalEncoder, Encoder, LayeredEncoder, QueryEncoder
from mos_recbole.models.plugins import PLUGINS, load_plugin
from mos_recbole.models.recbole_encoders import RecBoleEncoder
from mos_recbole.models.recommender import TARGET_PLACE, EncoderHeadRecommender
from mos_recbole.models.registry import ENCODERS, HEADS, EncoderEntry, HeadEntry, register_encoder, register_head
from mos_recbole.models.requirements import requirement_faults
from mos_recbole.models.stacked import STACKED_ENCODERS, STACKED_HEADS, OwnRandom, Stack

__all__ = [
    "ENCODERS",
    "HEADS",
    "PLUGINS",
    "STACKED_ENCODERS",
    "STACKED_HEADS",
    "TARGET_PLACE",
    "CausalEncoder",
    "Encoder",
    "EncoderEntry",
    "EncoderHeadRecommender",
    "HeadEntry",
    "LayeredEncoder",
    "OwnRandom",
    "QueryEncoder",
    "RecBoleEncoder",
    "Stack",
    "load_plugin",
    "model_name",
    "own_model_names",
    "register_encoder",
    "register_head",
    "requirement_faults",
    "resolve_model",
]
