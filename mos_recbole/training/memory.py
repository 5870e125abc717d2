"""What cannot fit into memory is refused before it is allocated, with how much it would take."""

import contextlib
import math
from typing import Any

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mos_recbole.errors import InputError

# Tensors beside each parameter: its gradient, and what the optimizer keeps.
_BESIDE = {"adam": 3, "adamw": 3, "adagrad": 2, "rmsprop": 2, "sgd": 1}
# Smaller ones are not worth a look at the machine.
_SMALL = 2**24
# Of the free memory, to be left by what a step keeps: for what it needs only for a moment.
_LEAST = 0.125


def free_memory(device: torch.device) -> int:
    """Returns how many bytes the device has to spare: on a CPU, what the system can free without swapping."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def require_training_memory(model: torch.nn.Module, learner: str, device: torch.device) -> None:
    """Raises an InputError where gradients and what the optimizer keeps do not fit beside the model."""
    weights = sum(one.numel() * one.element_size() for one in model.parameters() if one.requires_grad)
    _require(_BESIDE[learner] * weights, free_memory(device), "gradients and optimizer need")


class RefusesTooLarge(TorchDispatchMode):
    """While it is entered, a new tensor that does not fit into the machine's free memory is an InputError.

    The system would promise the memory, and kill the process once it is used.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Does an operation, after a look at the size of a tensor that it makes of nothing."""
        kwargs = kwargs or {}
        if args and isinstance(args[0], list | tuple) and all(type(one) is int for one in args[0]):
            width = (kwargs.get("dtype") or torch.get_default_dtype()).itemsize
            _require(math.prod(args[0]) * width, free_memory, f"a tensor of {' x '.join(map(str, args[0]))} needs")
        return func(*args, **kwargs)


def step_must_fit(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Returns a context in which a step is an InputError before what it keeps for its gradients fills the memory.

    The system would kill the process. A GPU's allocator raises an error by itself.
    """
    if device.type == "cuda":
        return contextlib.nullcontext()
    there, unseen = free_memory(device), 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal unseen
        unseen += tensor.numel() * tensor.element_size()  # of the dense size, where it is sparse
        if unseen >= _SMALL:
            left, unseen = free_memory(device), 0
            if left < _LEAST * there:
                raise InputError(
                    f"a training step needs more than {(there - left) / 1e9:,.1f} GB of memory; "
                    f"{there / 1e9:,.1f} GB are free; expected smaller sizes or batches"
                )
        return tensor

    return torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)


def _require(needed: int, free: Any, what: str) -> None:
    if needed < _SMALL:
        return
    there = free if isinstance(free, int) else free(torch.device("cpu"))
    if needed > there:
        raise InputError(
            f"{what} {needed / 1e9:,.1f} GB of memory; {there / 1e9:,.1f} GB are free; expected smaller sizes"
        )
