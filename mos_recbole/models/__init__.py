"""Encoders and heads put together as RecBole models, and RecBole's own classes by their names.

`from mos_recbole.models import GRU4RecMoS` works for every encoder with every head.
"""

from mos_recbole import compat  # noqa: F401 – first: says what to do where RecBole is missing
from mos_recbole.errors import InputError
from mos_recbole.heads import HeadSpec
from mos_recbole.models.combinations import model_name, own_model_class, own_model_names, resolve_model
from mos_recbole.models.encoders import (
    CausalEncoder,
    Encoder,
    EncoderSpec,
    LayeredEncoder,
    QueryEncoder,
    RecBoleEncoder,
)
from mos_recbole.models.facts import baseline_of, model_facts
from mos_recbole.models.plugins import PLUGINS, load_plugin
from mos_recbole.models.recommender import TARGET_PLACE, EncoderHeadRecommender
from mos_recbole.models.registry import ENCODERS, HEADS, register_encoder, register_head
from mos_recbole.models.requirements import requirement_faults
from mos_recbole.models.shared_settings import SHARED_SETTINGS
from mos_recbole.models.stacked import STACKED_ENCODERS, STACKED_HEADS, OwnRandom, Stack

__all__ = [
    "ENCODERS",
    "HEADS",
    "PLUGINS",
    "SHARED_SETTINGS",
    "STACKED_ENCODERS",
    "STACKED_HEADS",
    "TARGET_PLACE",
    "CausalEncoder",
    "Encoder",
    "EncoderHeadRecommender",
    "EncoderSpec",
    "HeadSpec",
    "LayeredEncoder",
    "OwnRandom",
    "QueryEncoder",
    "RecBoleEncoder",
    "Stack",
    "baseline_of",
    "load_plugin",
    "model_facts",
    "model_name",
    "own_model_names",
    "register_encoder",
    "register_head",
    "requirement_faults",
    "resolve_model",
]


def __getattr__(name: str) -> type[EncoderHeadRecommender]:
    """Returns the model class of that name, of an encoder with a head."""
    try:
        found = own_model_class(name)
    except InputError as error:
        raise AttributeError(str(error)) from error
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found
