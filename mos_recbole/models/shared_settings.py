"""Settings that all models of an encoder with a head have."""

from collections.abc import Mapping
from typing import Any, Literal

from mos_recbole.losses import MixtureImplementation
from mos_recbole.specs import NonNegative, Positive, Setting

NegativeSampling = Literal["none", "uniform", "popularity", "in_batch"]

# How all of them are trained, chosen by validation (docs/experiments.md). RecBole's own classes keep RecBole's way.
RECIPE: Mapping[str, Any] = {
    "train_batch_size": 512,
    "learning_rate": 0.005,
    "lr_schedule": "linear",
    "warmup": 0.15,
    "epochs": 10,
}

SHARED_SETTINGS = (
    Setting("tie_weights", bool, True, "Whether the output item table is the input's."),
    Setting("item_bias", bool, False, "Whether every item has a learned bias."),
    Setting(
        "loss_impl",
        MixtureImplementation,
        "auto",
        "How a mixture's loss over all items is computed: auto, chunked, chunked_bf16 (in the bfloat16 units of a CPU "
        "with AMX), reference or triton.",
    ),
    Setting(
        "train_neg_sample_args", dict[str, Any] | None, None, "None: RecBole's negatives have no place in the loss."
    ),
    Setting(
        "negative_sampling",
        NegativeSampling,
        "none",
        "none: the loss is over all items; else where negatives come from: uniform, popularity or in_batch.",
    ),
    Setting("n_negatives", Positive, 1024, "Negatives M a step, shared by its targets (uniform and popularity)."),
    Setting("sampling_alpha", NonNegative, 0.75, "Exponent of an item's popularity as a negative (popularity)."),
)
