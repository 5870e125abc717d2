"""What each process does that `test_parallel.py` starts by torchrun: command lines one after the other.

    torchrun ... tests/processes_worker.py COMMANDS.json FOLDER

Writes FOLDER/<rank>.json: of each command its exit status and a hash of the weights at the end of training. A command
is its arguments, after what goes wrong in it: "", "nan" (a loss, in process 1 alone), "kill" (process 1, in its third
epoch), "full" (process 0, at its third checkpoint).
"""

import atexit
import contextlib
import errno
import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mos_recbole.cli import main
from mos_recbole.training import BenchmarkTrainer
from mos_recbole.training import trainer as trainer_module
from mos_recbole.training.parallel import ParallelTrainer

RANK = int(os.environ["RANK"])


def go_wrong(fault: str, patch: pytest.MonkeyPatch) -> None:
    """Makes a fault happen in this process, if it is the one that has it."""
    gradients, save = BenchmarkTrainer._gradients, trainer_module.save_checkpoint

    def disturbed(self: Any, *arguments: Any) -> torch.Tensor:
        loss = gradients(self, *arguments)
        if fault == "kill" and len(self.reports) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss * float("nan") if fault == "nan" and len(self.reports) == 1 else loss

    def full(path: Path, run_id: str, model: str, state: dict[str, Any]) -> None:
        if path.name == "last.pt" and state["epoch"] == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, run_id, model, state)

    if fault in ("kill", "nan") and RANK == 1:
        patch.setattr(BenchmarkTrainer, "_gradients", disturbed)
    if fault == "full":
        patch.setattr(trainer_module, "save_checkpoint", full)


def work(commands: list[list[str]], folder: Path) -> None:
    """Runs the commands; those that end the process are the last."""
    found: list[dict[str, Any]] = []
    load_best = ParallelTrainer.load_best

    def noting(self: ParallelTrainer) -> None:
        content = b"".join(tensor.numpy().tobytes() for tensor in self.model.state_dict().values())
        found[-1]["weights"] = hashlib.sha256(content).hexdigest()
        load_best(self)

    ParallelTrainer.load_best = noting  # type: ignore[method-assign]
    for fault, *arguments in commands:
        found.append({})
        with pytest.MonkeyPatch.context() as patch:
            go_wrong(fault, patch)
            try:
                found[-1]["status"] = main(arguments)
            except SystemExit as error:
                found[-1]["status"] = error.code
        (folder / f"{RANK}.json").write_text(json.dumps(found))


def note_threads(folder: Path) -> None:
    """Writes which threads of the group there still are: a process that ends with some may be aborted."""
    names = []
    for path in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended since
            names.append(path.read_text().strip())
    (folder / f"{RANK}.threads").write_text(" ".join(name for name in names if "gloo" in name))


if __name__ == "__main__":
    # The first to be registered is the last to be called.
    atexit.register(note_threads, Path(sys.argv[2]))
    work(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
