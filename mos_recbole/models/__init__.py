"""Encoders and heads put together as RecBole models, and RecBole's own classes by their names."""

from mos_recbole.models.recommender import EncoderHeadRecommender
from mos_recbole.models.registry import OWN_MODELS, resolve_model

__all__ = ["OWN_MODELS", "EncoderHeadRecommender", "resolve_model"]
