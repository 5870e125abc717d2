"""Models of equal size: a softmax as large as a mixture, so that rank is not confused with the number of parameters."""

from dataclasses import replace
from functools import cache

from mos_recbole.errors import InputError
from mos_recbole.experiment.estimate import count_parameters
from mos_recbole.models import EncoderHeadRecommender
from mos_recbole.settings import Settings

# Wider than this, no model of this kind is meant.
_WIDEST = 2**16


def match_parameters(settings: Settings, n_parameters: int) -> Settings:
    """Returns the settings with that width d (of states and item table) whose number of parameters comes nearest.

    Args:
        settings: of a model that is an encoder with a head; the rest of them is kept.
        n_parameters: the number to come near, such as `count_parameters` of a mixture.

    Raises:
        InputError: another model, or even the narrowest one is larger, or the settings or the data cannot be used.
    """
    model_class = settings.model_class
    if not issubclass(model_class, EncoderHeadRecommender):
        raise InputError(f"{settings.model} is RecBole's own; widths are matched for an encoder with a head")
    key = model_class.encoder_spec.width
    # Attention heads share the width.
    step = settings.values.get("n_heads", 1)

    def at(steps: int) -> Settings:
        return replace(settings, values=settings.values | {key: steps * step})

    @cache
    def size(steps: int) -> int:
        return count_parameters(at(steps))

    low, high = 1, 2
    if size(low) > n_parameters:
        raise InputError(
            f"{settings.model}: has {size(low):,} parameters at {key} {step}, its narrowest; expected {n_parameters:,}"
        )
    while size(high) < n_parameters:
        low, high = high, 2 * high
        if high * step > _WIDEST:
            raise InputError(f"{settings.model}: its number of parameters does not grow with {key}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < n_parameters else (low, middle)
    return at(min((low, high), key=lambda steps: abs(size(steps) - n_parameters)))
