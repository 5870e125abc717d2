"""What the benchmarks share: the machine's rate, memory, and the columns that say where a figure comes from."""

import gc
import multiprocessing
import platform
import re
import resource
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import psutil
import torch


def device_name(device: torch.device) -> str:
    """Returns the device as results files name it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"


def versions() -> str:
    """Returns the versions of what decides the speed."""
    return f"torch {torch.__version__}, recbole {version('recbole')}, mos_recbole {version('mos_recbole')}"


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Returns the time of one call, in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def matmul_rate(device: torch.device, dtype: torch.dtype = torch.float32, calls: int = 5) -> float:
    """Returns how many operations a second the device does in a product of two large square matrices."""
    size = 2048 if device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)

    def product() -> torch.Tensor:
        return torch.mm(left, right, out=out)

    product()
    return 2 * size**3 / statistics.median(seconds(product, device) for _ in range(calls))


def peak_resident() -> int:
    """Returns the most memory that this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux hands the parent's ru_maxrss on to a new process; this one is the process's own, in kB.
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_growth(function: Callable[[], object], device: torch.device) -> int:
    """Returns by how many bytes a call raises the memory held; on a CPU to be asked once, in a fresh process."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    before = psutil.Process().memory_info().rss
    function()
    return peak_resident() - before


def in_own_process(function: Callable, *arguments):
    """Returns the function's value, computed in a fresh process, so that nothing is warm and no memory is held."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)
