"""The processes that train one model together, started by `run --processes` or torchrun, and their communication."""

import atexit
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import TypeVar

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

MEETING_FILE = "MOS_RECBOLE_MEETING_FILE"
"""The variable with the file in which the processes of one machine meet; of others, one listens at MASTER_ADDR."""


@dataclass(frozen=True)
class Processes:
    """One of the processes that do one run together. All of them must make the same calls in the same order.

    Attributes:
        rank: index of this process, from 0.
        world_size: number of processes.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    @property
    def shard(self) -> slice:
        """This process's part of a sequence: every n-th entry, so that shards of a sorted sequence are alike."""
        return slice(self.rank, None, self.world_size)

    def broadcast(self, value: T) -> T:
        """Returns the main process's value."""
        values = [value]
        if self.world_size > 1:
            distributed.broadcast_object_list(values)
        return values[0]

    def all_gather(self, value: T) -> list[T]:
        """Returns the values of all processes, by rank."""
        values = [value] * self.world_size
        if self.world_size > 1:
            distributed.all_gather_object(values, value)
        return values

    def require_same(self, what: str, value: object) -> None:
        """Checks that all processes have the same value.

        Args:
            what: is compared, for the message.
            value: of this process.

        Raises:
            InputError: they differ; raised in all processes.
        """
        values = self.all_gather(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise InputError(
                    f"{what} is {values[0]} in process 0 and {other} in process {rank}; expected the same program, "
                    "packages, data and results folder for all"
                )

    def all_reduce(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replaces each tensor by its sum over the processes."""
        if self.world_size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def broadcast_tensors(self, tensors: Iterable[torch.Tensor]) -> None:
        """Copies the main process's numbers into each tensor."""
        if self.world_size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def local_device(self, device: torch.device) -> torch.device:
        """Returns the device of this process: each has a GPU of its own.

        Raises:
            InputError: the user asked for one GPU by its number, or there are too few.
        """
        if self.world_size == 1 or device.type == "cpu":
            return device
        index, available = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if device.index is not None:
            raise InputError(
                f"device {device}: {self.world_size} processes cannot share a GPU; expected auto, cpu or cuda"
            )
        if index >= available:
            raise InputError(f"{index + 1} processes on a machine with {available} GPUs; expected one each, or cpu")
        return torch.device(device.type, index)


SINGLE_PROCESS = Processes()


@cache
def join_processes(device_type: str) -> Processes:
    """Returns this process among those that were started for one run; `SINGLE_PROCESS` where it is alone.

    Args:
        device_type: of the tensors that are communicated.

    Raises:
        InputError: the environment says that there are several processes, but not how to reach them.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return SINGLE_PROCESS
    if _unset():
        raise InputError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {', '.join(_unset())} not set; expected torchrun to start "
            "several processes, or none of these variables"
        )
    store, rank, world_size = _rendezvous()
    backend = "gloo" if device_type == "cpu" else f"cpu:gloo,{device_type}:nccl"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    atexit.register(distributed.destroy_process_group)
    return Processes(rank, world_size)


@cache
def _rendezvous() -> tuple[distributed.Store, int, int]:
    """Returns the store that the processes share, this one's rank, and the number of processes."""
    if path := os.environ.get(MEETING_FILE):
        rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        return distributed.FileStore(path, world_size), rank, world_size
    return next(distributed.rendezvous("env://"))


def _unset() -> list[str]:
    variables = _VARIABLES[:3] if MEETING_FILE in os.environ else _VARIABLES
    return [name for name in variables if name not in os.environ]


_failures = count()


def first_to_fail() -> bool:
    """Returns whether this is the first process to report a failure; the others need not.

    They fail in the same way, or because this one is gone.
    """
    if _unset():
        return True
    store, _, _ = _rendezvous()
    return store.add(f"failure {next(_failures)}", 1) == 1
