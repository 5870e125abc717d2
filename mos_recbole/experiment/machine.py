"""The machine that a run runs on: its device and its memory."""

import contextlib
import platform
import re
import resource
from pathlib import Path

import torch

from mos_recbole.errors import InputError


def choose_device(name: str) -> torch.device:
    """Returns the device of a name: cpu, cuda, cuda:N, or auto for a GPU where there is one.

    Raises:
        InputError: another name, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r}; expected auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {name!r}; expected auto, cpu, cuda or cuda:N")
    if device.type == "cpu":
        return torch.device("cpu")  # there is one; PyTorch takes cpu:0 for another
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r}: PyTorch finds {torch.cuda.device_count()} GPUs on this machine")
    return device


def device_name(device: torch.device) -> str:
    """Returns the device's name as records have it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()})"


def reset_peak_memory() -> None:
    """Makes the peak of resident memory count from now on; outside Linux it counts from the process's start."""
    if Path("/proc/self/clear_refs").exists():
        with contextlib.suppress(OSError):  # not allowed in some containers; the peak is then the process's
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> dict[str, int]:
    """Returns the peak of resident memory and, on a GPU, of its allocations, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # In KiB; Linux's getrusage would count the parent process's peak too.
        resident = int(re.search(r"VmHWM:\s+(\d+)", status.read_text(encoding="ascii", errors="replace"))[1]) * 1024  # type: ignore[index]
    else:
        # macOS counts in bytes.
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = {"resident": resident}
    if device.type == "cuda":
        peak["gpu"] = torch.cuda.max_memory_allocated(device)
    return peak
