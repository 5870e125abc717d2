"""Vectors of length 1."""

import torch
from torch.nn import functional

# Shorter vectors are divided by this instead of their length: a vector of zeros, such as a padding item's, stays one,
# and no gradient is multiplied by more than 1 / this.
_SHORTEST = 1e-4


def l2_normalize(vectors: torch.Tensor) -> torch.Tensor:
    """Returns the vectors [..., d] divided by their Euclidean lengths."""
    return functional.normalize(vectors, dim=-1, eps=_SHORTEST)
