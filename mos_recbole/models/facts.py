"""What a run's record says about its model."""

from typing import Any

from torch import nn

from mos_recbole.models.combinations import combine
from mos_recbole.models.recommender import EncoderHeadRecommender
from mos_recbole.models.registry import HEADS


def model_facts(model: nn.Module) -> dict[str, Any]:
    """Returns the record's fields encoder, head, n_components, width and baseline, see `results.RunResult`.

    They are None for RecBole's own classes, whose parts have no names here.
    """
    if not isinstance(model, EncoderHeadRecommender):
        return dict.fromkeys(("encoder", "head", "n_components", "width", "baseline"))
    return {
        "encoder": model.encoder_spec.name,
        "head": model.head_spec.name,
        "n_components": model.head.n_components,
        "width": model.encoder.width,
        "baseline": baseline_of(type(model)),
    }


def baseline_of(model_class: type) -> str | None:
    """Returns the name of the model of the same encoder with the baseline head; None for that itself and RecBole's."""
    if not issubclass(model_class, EncoderHeadRecommender) or model_class.head_spec.baseline:
        return None
    baseline = next(spec for spec in HEADS.values() if spec.baseline)
    return combine(model_class.encoder_spec, baseline).__name__
