"""The training losses of all output heads: over all items, or over sampled ones with the samplers of these."""

from mos_recbole.losses.mixture import mixture_cross_entropy
from mos_recbole.losses.sampled import (
    InBatchSampler,
    NegativeSampler,
    PopularitySampler,
    UniformSampler,
    sampled_mixture_cross_entropy,
)

__all__ = [
    "InBatchSampler",
    "NegativeSampler",
    "PopularitySampler",
    "UniformSampler",
    "mixture_cross_entropy",
    "sampled_mixture_cross_entropy",
]
