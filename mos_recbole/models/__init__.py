"""Encoders and heads put together as RecBole models, and RecBole's own classes by their names."""

from mos_recbole.models.recommender import EncoderHeadRecommender
from mos_recbole.models.registry import OWN_MODELS, is_recbole_model, resolve_model
from mos_recbole.models.requirements import requirement_faults

__all__ = ["OWN_MODELS", "EncoderHeadRecommender", "is_recbole_model", "requirement_faults", "resolve_model"]
