"""What a record says about its model and its split, beside the settings."""

from typing import Any

import torch

from mos_recbole.models import EncoderHeadRecommender, model_name


def model_facts(model_class: type, model: torch.nn.Module) -> dict[str, Any]:
    """Returns the record's fields `encoder`, `head`, `n_components`, `width` and `baseline`.

    They are None for RecBole's own classes, whose parts have no names here.
    """
    if not (issubclass(model_class, EncoderHeadRecommender) and isinstance(model, EncoderHeadRecommender)):
        return dict.fromkeys(("encoder", "head", "n_components", "width", "baseline"))
    encoder, head = model_class.encoder_spec.name, model_class.head_spec.name
    return {
        "encoder": encoder,
        "head": head,
        "n_components": model.head.n_components,
        "width": model.item_table.shape[1],
        "baseline": None if head == "softmax" else model_name(encoder, "softmax"),
    }
