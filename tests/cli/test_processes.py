"""`run --processes`: as torchrun, but nothing beyond this machine can reach the processes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mos_recbole.results import find_records

ARGUMENTS = ["run", "--model", "GRU4RecSoftmax", "--embedding_size=4", "--hidden_size=6", "--train_batch_size=64"]
ARGUMENTS += ["--MAX_ITEM_LIST_LENGTH=10", "--dropout_prob=0", "--device", "cpu"]


@pytest.mark.parametrize(
    ("number", "world", "told"),
    [
        ("0", None, "--processes is 0; expected 2 to"),
        ("4000", None, "--processes is 4000; expected 2 to"),
        ("2", "2", "torchrun starts the processes; leave out --processes"),
    ],
)
def test_numbers_that_cannot_be(
    number: str,
    world: str | None,
    told: str,
    call: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if world is not None:
        monkeypatch.setenv("WORLD_SIZE", world)
    status, _, message = call(*ARGUMENTS, "--processes", number)
    assert status == 2
    assert told in message


def start(data: Path, output: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mos_recbole", *ARGUMENTS, "--processes", "2", "--quiet", *arguments]
    command += ["--dataset", str(data), "--output", str(output)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


@pytest.mark.slow
def test_two_processes_listen_on_loopback_and_end_together(
    data: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    """The numbers of one process; a killed one ends all with one message."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert start(data, two, "--epochs=2").wait(300) == 0
    assert call(*ARGUMENTS, "--epochs=2", "--dataset", data, "--output", one, "--quiet")[0] == 0
    (alone,), (together,) = find_records(one), find_records(two)
    assert (together.run_id, together.processes) == (alone.run_id, 2)
    assert together.training_log()["loss"].to_numpy() == pytest.approx(
        alone.training_log()["loss"].to_numpy(), rel=1e-5
    )

    endless = start(data, tmp_path / "killed", "--epochs=100000", "--lr_schedule=constant", "--stopping_step=100000")
    listening = set()
    while not list((tmp_path / "killed").glob("runs/*/last.pt")):
        assert endless.poll() is None
        time.sleep(0.2)
    children = psutil.Process(endless.pid).children(recursive=True)
    for process in [psutil.Process(endless.pid), *children]:
        with contextlib.suppress(psutil.NoSuchProcess):
            found = process.net_connections("inet")
            listening |= {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    max(children, key=lambda process: process.create_time()).send_signal(signal.SIGKILL)
    _, message = endless.communicate(timeout=60)
    assert endless.returncode == 2
    assert message.count("\n") == 1
    assert "SIGKILL ended process 1; --resume continues" in message
    assert psutil.wait_procs(children, timeout=10)[1] == []
