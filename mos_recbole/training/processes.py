"""The processes that train one model together, as `torchrun` starts them, and what they tell each other."""

import atexit
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import count
from types import TracebackType
from typing import Any, TypeVar

import torch

# Before there is a group: PyTorch's optimizers import it too, and imported later it keeps the group as a default of its
# functions' arguments. The group's threads then outlive `destroy_process_group`, and at times the interpreter: the
# process ends with "terminate called without an active exception".
import torch.distributed.nn.functional
from torch import distributed

from mos_recbole.errors import InputError

T = TypeVar("T")

# By PyTorch's convention (`env://`), which torchrun follows.
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Processes:
    """One of the processes that do one run together. All of them must come to the same calls in the same order.

    Attributes:
        rank: this one's number, from 0.
        number: how many they are.
    """

    rank: int = 0
    number: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks to the user."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """What of a sequence is this process's: every so manieth, so that shares of sorted things weigh the same."""
        return slice(self.rank, None, self.number)

    def tell(self, value: T) -> T:
        """Returns the first process's value."""
        values = [value]
        if self.number > 1:
            distributed.broadcast_object_list(values)
        return values[0]

    def hear(self) -> Any:
        """Returns what the first process tells, which this one is not."""
        return self.tell(None)

    def gather(self, value: T) -> list[T]:
        """Returns the values of all processes, by rank."""
        values = [value] * self.number
        if self.number > 1:
            distributed.all_gather_object(values, value)
        return values

    def require_same(self, what: str, value: object) -> None:
        """Raises where the processes do not have the same value.

        Raises:
            InputError: in all of them.
        """
        values = self.gather(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise InputError(
                    f"{what} is {values[0]} in process 0 and {other} in process {rank}; expected the same program, "
                    "packages, data and results folder for all"
                )

    def add(self, tensors: Iterable[torch.Tensor]) -> None:
        """Puts the sum over the processes into each tensor."""
        if self.number > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def copy_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Puts the first process's numbers into each tensor."""
        if self.number > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def own_device(self, device: torch.device) -> torch.device:
        """Returns the device of this process, where the user said which kind: each has a GPU of its own.

        Raises:
            InputError: the user said which GPU, or there are too few.
        """
        if self.number == 1 or device.type == "cpu":
            return device
        index, available = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if device.index is not None:
            raise InputError(f"device {device}: {self.number} processes cannot share a GPU; expected auto, cpu or cuda")
        if index >= available:
            raise InputError(f"{index + 1} processes on a machine with {available} GPUs; expected one each, or cpu")
        return torch.device(device.type, index)


ALONE = Processes()


@cache
def join_processes(device_type: str) -> Processes:
    """Returns this process among those that torchrun started; `ALONE` where it started none.

    Args:
        device_type: of the tensors that are added up.

    Raises:
        InputError: the environment says that there are several processes, but not how to reach them.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return ALONE
    if _unset():
        raise InputError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(_unset())} not set; expected torchrun to start "
            "several processes, or none of these variables"
        )
    store, rank, number = _meeting_place()
    backend = "gloo" if device_type == "cpu" else f"cpu:gloo,{device_type}:nccl"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=number)
    atexit.register(distributed.destroy_process_group)
    return Processes(rank, number)


@cache
def _meeting_place() -> tuple[distributed.Store, int, int]:
    """Returns what the processes share from the beginning, this one's number and how many they are."""
    return next(distributed.rendezvous("env://"))


def _unset() -> list[str]:
    return [name for name in _VARIABLES if name not in os.environ]


_failures = count()


def first_to_fail() -> bool:
    """Returns whether no other process has called this for the same failure, so that one of them tells the user.

    The others fail in the same way, or because this one is gone.
    """
    if _unset():
        return True
    store, _, _ = _meeting_place()
    return store.add(f"failure {next(_failures)}", 1) == 1


def only_first_traceback() -> None:
    """Makes an error that nobody catches be shown by the first process that it ends."""
    show: Callable[[type[BaseException], BaseException, TracebackType | None], None] = sys.excepthook

    def show_first(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if first_to_fail():
            show(kind, error, trace)

    sys.excepthook = show_first
