"""What a run's record says about its model."""

from dataclasses import dataclass

from torch import nn

from mos_recbole.models.combinations import combine
from mos_recbole.models.recommender import EncoderHeadRecommender
from mos_recbole.models.registry import HEADS


@dataclass(frozen=True)
class ModelFacts:
    """What tables and figures need to know of a model.

    Attributes:
        encoder, head: names of its parts, such as "GRU4Rec" and "mos".
        n_components: K, how many distributions the head mixes; 1 if it mixes none.
        width: d, of states and item table.
        is_mixture: whether K is a setting of the head.
        baseline: the model of the same encoder with the baseline head; None if the model is that one.
    """

    encoder: str
    head: str
    n_components: int
    width: int
    is_mixture: bool
    baseline: str | None


def model_facts(model: nn.Module) -> ModelFacts | None:
    """Returns the facts of a model that is an encoder with a head; None for RecBole's own, whose parts are unnamed."""
    if not isinstance(model, EncoderHeadRecommender):
        return None
    encoder, head = model.encoder_spec, model.head_spec
    baseline = next(spec for spec in HEADS.values() if spec.baseline)
    return ModelFacts(
        encoder=encoder.name,
        head=head.name,
        n_components=model.head.n_components,
        width=model.encoder.width,
        is_mixture=head.is_mixture,
        baseline=None if head.baseline else combine(encoder, baseline).__name__,
    )
