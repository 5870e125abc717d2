"""What the losses of a mixture take."""

import torch


def check_mixture(
    components: torch.Tensor,
    log_prior: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    bias: torch.Tensor | None,
    reduction: str,
) -> None:
    """Raises where the arguments that the mixture's losses share do not fit together.

    Raises:
        ValueError: shapes that do not fit, a target that is none, or an unknown reduction.
    """
    fit = components.ndim == 3 and weight.ndim == 2 and components.shape[2] == weight.shape[1]
    if not fit or not components.shape[1] or not len(weight):
        raise ValueError(
            f"components {tuple(components.shape)} and weight {tuple(weight.shape)}; expected [B, K, d] and [V, d]"
        )
    if log_prior.shape != components.shape[:2]:
        raise ValueError(f"log_prior is {tuple(log_prior.shape)}; expected [B, K] = {tuple(components.shape[:2])}")
    if target.shape != components.shape[:1]:
        raise ValueError(f"target is {tuple(target.shape)}; expected [B] = {tuple(components.shape[:1])}")
    if target.dtype != torch.int64:
        raise ValueError(f"target is {target.dtype}; expected torch.int64")
    # Negative numbers would be taken for items from the end. A GPU is not made to wait for the answer.
    if target.device.type == "cpu" and target.numel() and not 0 <= target.min() <= target.max() < len(weight):
        raise ValueError(f"targets are {int(target.min())} to {int(target.max())}; expected 0 to {len(weight) - 1}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias is {tuple(bias.shape)}; expected [V] = {tuple(weight.shape[:1])}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is {reduction!r}; expected 'mean', 'sum' or 'none'")
