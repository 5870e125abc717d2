"""`run --processes N`: several processes of this machine train one model, out of the reach of others."""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mos_recbole.cli.door import INPUT
from mos_recbole.cli.output import print_failure, several_processes
from mos_recbole.errors import InputError

# Seconds for the others to end by themselves, once one has failed.
_PATIENCE = 10.0
# What did not come from here.
_KILLS = {-one: one.name for one in (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL)}


def run_in_processes(options: argparse.Namespace) -> int:
    """Returns the exit status of `run`, done by `options.processes` processes: that of the first to fail, or 0.

    They meet in a file of a folder that only this user can enter, and talk over loopback. Where one fails, it says why,
    and all end.

    Raises:
        InputError: no number of processes for this machine, or torchrun starts them.
    """
    from torch.multiprocessing import ProcessExitedException, start_processes

    number, most = options.processes, max(2, os.cpu_count() or 1)
    if several_processes():
        raise InputError("torchrun starts the processes; leave out --processes")
    if not 1 < number <= most:
        raise InputError(f"--processes is {number}; expected 2 to {most} on this machine")
    with tempfile.TemporaryDirectory(prefix="mos-recbole-processes-") as folder:
        work = (number, str(Path(folder, "meeting")), options.arguments)
        started = start_processes(_work, work, number, join=False, daemon=True)
        try:
            while not started.join(grace_period=_PATIENCE):
                continue
        except ProcessExitedException as error:
            for rank, process in enumerate(started.processes):
                if name := _KILLS.get(process.exitcode):
                    print_failure(f"{options.program}: error: {name} ended process {rank}; {options.interrupted}")
                    return INPUT
            return int(error.exit_code)
        except KeyboardInterrupt:  # the terminal has sent it to all
            for process in started.processes:
                process.join(_PATIENCE)
                process.terminate()  # where it was sent to this one alone
            raise
    return 0


def _work(rank: int, number: int, meeting: str, arguments: Sequence[str]) -> None:
    """Does the command as one of several processes, and ends this one with its status."""
    import torch

    from mos_recbole.cli import main
    from mos_recbole.training.processes import MEETING_FILE

    loopback = "lo0" if sys.platform == "darwin" else "lo"
    os.environ |= {
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(number), MEETING_FILE: meeting},
        **dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), loopback),
    }
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // number))
    sys.argv[1:] = arguments
    sys.exit(main(arguments))
