"""Whether Triton's kernels can run here, asked without importing Triton unless it is there."""

import importlib.util

import torch

_INSTEAD = "impl='chunked' runs everywhere"


def need_triton(device: torch.device) -> None:
    """Raises where Triton's kernels cannot run on a device.

    Raises:
        ValueError: Triton is missing; the device is no GPU and Triton's interpreter not switched on.
    """
    if importlib.util.find_spec("triton") is None:
        raise ValueError(
            "impl='triton' needs the package triton, which comes with PyTorch's CUDA builds for Linux and with "
            f"mos_recbole[triton]; {_INSTEAD}"
        )
    from mos_recbole.losses.triton_kernels import INTERPRETED

    if device.type != "cuda" and not INTERPRETED:
        raise ValueError(
            f"impl='triton' needs a CUDA device, not {device.type!r}; {_INSTEAD} (with TRITON_INTERPRET=1 in the "
            "environment Triton's interpreter runs it on a CPU, slowly: for tests)"
        )


def check_factors(components: torch.Tensor, weight: torch.Tensor) -> None:
    """Raises where Triton's kernels do not take the types of the logits' factors.

    Raises:
        ValueError: types other than float32 or bfloat16, the same for both.
    """
    if components.dtype != weight.dtype or weight.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(
            f"impl='triton' takes components and weight both float32 or both bfloat16, not {components.dtype} and "
            f"{weight.dtype}; {_INSTEAD}"
        )
