"""What a record says about its model and its split, beside the settings."""

from typing import Any

import torch

from mos_recbole.models import EncoderHeadRecommender, model_name

SPLIT_LEAKAGE = {
    "leave_one_out": "Each user's last item is the test target, the one before it the validation target. Training "
    "holds what other users did after a query's time, so models know more of fashions than they could have known then.",
    "temporal": "One moment in time parts training from test. No model learns from anything at or after that moment; "
    "contexts of test queries hold items after it only as far as the user had them before the target. Filters by "
    "numbers of interactions, where there are any, count both sides.",
}


def model_facts(model_class: type, model: torch.nn.Module) -> dict[str, Any]:
    """Returns the record's fields `encoder`, `head`, `n_components`, `width` and `baseline`.

    They are None for RecBole's own classes, whose parts have no names here.
    """
    if not (issubclass(model_class, EncoderHeadRecommender) and isinstance(model, EncoderHeadRecommender)):
        return dict.fromkeys(("encoder", "head", "n_components", "width", "baseline"))
    encoder, head = model_class.encoder_entry.name, model_class.head_entry.name
    return {
        "encoder": encoder,
        "head": head,
        "n_components": model.head.n_components,
        "width": model.item_table.shape[1],
        "baseline": None if head == "softmax" else model_name(encoder, "softmax"),
    }
