"""What backward passes written by hand have in common."""

import torch


def require_first_order(instead: str = "") -> None:
    """Raises in a backward pass whose gradients are to have gradients, as those of a gradient penalty.

    PyTorch's `once_differentiable` would let the penalty pass as a constant.

    Args:
        instead: what has such gradients.

    Raises:
        RuntimeError: gradients of gradients are asked for.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(f"gradients of gradients {f'need {instead}' if instead else 'are not available'}")
