"""What does not fit into memory is refused, with how much it would take."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mos_recbole.errors import InputError

# Tensors beside each parameter: its gradient, and what the optimizer keeps.
_BESIDE = {"adam": 3, "adamw": 3, "adagrad": 2, "rmsprop": 2, "sgd": 1}
# Smaller ones are not worth a look at the machine.
_SMALL = 2**24
# Of the free memory, to be left by what layers keep: for what a step needs only for a moment.
_LEAST = 0.125


def free_memory(device: torch.device) -> int:
    """Returns how many bytes the device has to spare: on a CPU, what the system can free without swapping."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def own_memory() -> int:
    """Returns how many bytes of memory this process has."""
    return int(psutil.Process().memory_info().rss)


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


@contextlib.contextmanager
def step_must_fit(device: torch.device) -> Iterator[None]:
    """While it is entered, a step that fills a CPU's memory layer by layer is an InputError.

    Else the system would kill the process. Before each layer it looks at what is left, and at what this process has
    taken; a single tensor that is too large it does not see. A GPU's allocator raises an error by itself. Of several
    processes, one that ended would leave the others waiting.
    """
    if device.type != "cpu" or torch.distributed.is_initialized():
        yield
        return
    there, before = free_memory(device), own_memory()

    def look(module: torch.nn.Module, arguments: Any) -> None:
        taken = own_memory() - before
        if taken > there / 2 and free_memory(device) < _LEAST * there:
            raise InputError(
                f"a training step had taken {taken / 1e9:,.1f} of {there / 1e9:,.1f} GB of free memory before its end; "
                "expected smaller sizes or batches, or fewer trials as one"
            )

    handle = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        yield
    finally:
        handle.remove()


def _require(needed: int, free: Any, what: str) -> None:
    if needed < _SMALL:
        return
    there = free if isinstance(free, int) else free(torch.device("cpu"))
    if needed > there:
        raise InputError(
            f"{what} {needed / 1e9:,.1f} GB of memory; {there / 1e9:,.1f} GB are free; expected smaller sizes"
        )
