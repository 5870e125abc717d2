"""The training losses of all output heads: over all items, or over sampled ones with the samplers of these."""

from mos_recbole.losses.gradients import require_first_order
from mos_recbole.losses.mixture import MixtureImplementation, mixture_cross_entropy, need_bf16_units
from mos_recbole.losses.sampled import (
    InBatchSampler,
    NegativeSampler,
    PopularitySampler,
    UniformSampler,
    sampled_mixture_cross_entropy,
)
from mos_recbole.losses.triton_support import need_triton

__all__ = [
    "InBatchSampler",
    "MixtureImplementation",
    "NegativeSampler",
    "PopularitySampler",
    "UniformSampler",
    "mixture_cross_entropy",
    "need_bf16_units",
    "need_triton",
    "require_first_order",
    "sampled_mixture_cross_entropy",
]
