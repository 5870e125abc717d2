"""Fresh processes and their memory, for benchmarks in which nothing may be warm and imports count."""

import multiprocessing
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the function's value, computed in a fresh process, so that nothing measured warms anything else."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def peak_resident() -> int:
    """Returns the most memory that this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux hands the parent's ru_maxrss on to a new process; this one is the process's own, in kB.
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) * 1024  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
