"""Which runs can be trained as one, judged by their settings."""

from collections.abc import Sequence
from typing import Any

from mos_recbole.models import STACKED_ENCODERS, STACKED_HEADS, EncoderHeadRecommender
from mos_recbole.settings import Settings

# Settings that change no shape, no size of a batch and nothing that trials share: they may differ among trials that are
# trained as one. All others may not.
MAY_DIFFER = frozenset(
    [
        *("seed", "epochs", "eval_step", "stopping_step", "chosen_epoch"),
        *("learner", "learning_rate", "lr_schedule", "warmup", "weight_decay", "clip_grad_norm"),
        *("dropout_prob", "hidden_dropout_prob", "attn_dropout_prob", "mos_dropout", "initializer_range"),
    ]
)


def not_fusable(settings: Settings) -> str | None:
    """Returns why a run cannot be trained together with others, or None where it can."""
    model_class = settings.model_class
    if not issubclass(model_class, EncoderHeadRecommender):
        return f"{settings.model} is RecBole's own class; expected an encoder with a head"
    encoder, head = model_class.encoder_spec.name, model_class.head_spec
    if encoder not in STACKED_ENCODERS:
        return f"the encoder {encoder} has no stacked form; expected one of {', '.join(STACKED_ENCODERS)}"
    if head.name not in STACKED_HEADS:
        return f"the head {head.label} has no stacked form; expected one of {', '.join(STACKED_HEADS)}"
    if settings.values["negative_sampling"] != "none":
        return f"negative_sampling {settings.values['negative_sampling']} has no stacked form; expected none"
    if settings.values["enable_amp"]:
        return "enable_amp has no stacked form; expected False"
    return None


def shape_of(settings: Settings) -> dict[str, Any]:
    """Returns what must be equal for runs to be trained together."""
    shared = {key: value for key, value in settings.identity().items() if key not in MAY_DIFFER}
    return {**shared, "data_path": settings.values["data_path"]}


def kept_apart_by(runs: Sequence[Settings]) -> list[str]:
    """Returns the settings that keep some of these runs apart from others; "model" and "dataset" among them."""
    shapes = [shape_of(settings) for settings in runs]
    keys = dict.fromkeys(key for shape in shapes for key in shape)
    return [key for key in keys if any(shape.get(key) != shapes[0].get(key) for shape in shapes)]
