"""Rate of the machine, time and memory of a call, and where a figure comes from."""

import gc
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import psutil
import torch
from processes import peak_resident

import mos_recbole


def device_name(device: torch.device) -> str:
    """Returns the device as results files name it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"


def versions() -> str:
    """Returns the versions of what decides the speed."""
    return f"torch {torch.__version__}, recbole {version('recbole')}, mos_recbole {mos_recbole.__version__}"


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


def copy_rate(device: torch.device, calls: int = 5) -> float:
    """Returns how many bytes a second the device reads and writes, both counted, in a copy that no cache holds."""
    source = torch.zeros(2**26 if device.type == "cpu" else 2**30, device=device)
    out = torch.empty_like(source)
    out.copy_(source)
    taken = statistics.median(seconds(lambda: out.copy_(source), device) for _ in range(calls))
    return 2 * source.numel() * source.element_size() / taken


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
