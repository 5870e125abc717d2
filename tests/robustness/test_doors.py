"""The doors: what ends a command is one message and a status, whatever was given."""

import argparse
import contextlib
import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fabricated import MOS, Maker

from mos_recbole.analysis import read_reference
from mos_recbole.cli import main
from mos_recbole.cli.door import leave_by
from mos_recbole.data.movielens.archive import open_archive
from mos_recbole.errors import DiskFull, InputError, TrainingDiverged
from mos_recbole.experiment.machine import choose_device
from mos_recbole.experiment.recommend import read_sequences
from mos_recbole.experiment.score import read_lists
from mos_recbole.models import load_plugin
from mos_recbole.results import read_record
from mos_recbole.settings import load_settings
from mos_recbole.training import load_checkpoint

pytestmark = pytest.mark.usefixtures("no_hang")

# ------------------------------------------------------------------------------------------------ what ends a command


def leave(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Returns status and message of a command that an error ends."""

    def call(options: argparse.Namespace) -> int:
        raise error

    status = leave_by(call, argparse.Namespace(call=call, interrupted="--resume continues"), "mos-recbole")
    return status, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (InputError("a.yaml, line 3: wrong"), 2, "error: a.yaml, line 3: wrong"),
        (TrainingDiverged("NaN"), 1, "training failed: NaN"),
        (KeyboardInterrupt(), 130, "interrupted; --resume continues"),
        (DiskFull("x: the disk is full"), 2, "x: the disk is full"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "the disk is full"),
        (OSError(errno.EDQUOT, "Quota exceeded", "/x/best.pt"), 2, "/x/best.pt: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 2, "/x/y: Permission denied"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/x/y"), 2, "/x/y: File name too long"),
        (OSError(errno.ELOOP, "Too many levels of symbolic links", "/x/y"), 2, "/x/y: Too many levels"),
        (MemoryError(), 2, "not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), 2, "not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 2, "not enough memory"),
    ],
    ids=repr,
)
def test_known_ends(error: BaseException, status: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    found, message = leave(error, capsys)
    assert found == status
    assert told in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("error", [KeyError("k"), ZeroDivisionError(), RecursionError(), RuntimeError("size mismatch")])
def test_a_defect_is_status_70_and_a_private_report(
    error: Exception, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    status, message = leave(error, capsys)
    (report,) = tmp_path.iterdir()
    assert status == 70
    assert message.count("\n") == 1
    assert str(report) in message
    assert report.stat().st_mode & 0o777 == 0o600
    text = report.read_text()
    assert "Traceback (most recent call last)" in text
    assert "arguments: " in text
    assert type(error).__name__ in text


def test_a_message_is_short_and_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    _, message = leave(InputError("value \x1b[31m\x07\r" + "x" * 10**6 + "\n" * 1000), capsys)
    assert len(message) < 4000
    assert not set(message) & {"\x1b", "\x07", "\r"}
    assert r"\x1b[31m" in message


# ------------------------------------------------------------------------------------------------ standard output


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    Maker(folder)(MOS, dataset="naïve ± \x1b[31m")
    return folder


@pytest.mark.parametrize(
    ("shell", "status", "told"),
    [
        ("{} ls {} | true; exit ${{PIPESTATUS[0]}}", 141, ""),
        ("{} ls {} > /dev/full", 2, "the disk is full"),
        ("{} ls {} >&-", 0, ""),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONIOENCODING=ascii {} ls {} > /dev/null", 0, ""),
        ("WORLD_SIZE=abc {} ls {}", 2, "WORLD_SIZE='abc'"),
        ("{} no-such-command {} 2> /dev/full", 2, ""),
    ],
)
def test_standard_output_that_is_closed_full_or_ascii(shell: str, status: int, told: str, results: Path) -> None:
    program = f"{sys.executable} -m mos_recbole"
    # Buffered, as by default: what does not fit is noticed at the end.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = ["bash", "-c", shell.format(program, results)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == status, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


# ------------------------------------------------------------------------------------------------ places


READERS: dict[str, Callable[[Path], object]] = {
    "settings": lambda path: load_settings("Pop", None, [path]),
    "reference": read_reference,
    "lists": read_lists,
    "sequences": lambda path: list(read_sequences(path)),
    "plugin": load_plugin,
    "archive": lambda path: open_archive(path).__enter__(),
    "checkpoint": lambda path: load_checkpoint(path, None, "Pop", "cpu"),
}
SPECIAL = ("pipe", "/dev/zero", "folder", "loop", "nothing", "long name")


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_at_once(reader: str, special: str, tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300 if special == "long name" else "x.py")
    if special == "pipe":
        os.mkfifo(path)
    elif special == "folder":
        path.mkdir()
    elif special == "loop":
        path.symlink_to(path)
    elif special != "nothing" and special != "long name":
        path.symlink_to(special)
    with pytest.raises(InputError, match=path.name[:200]):
        READERS[reader](path)


@pytest.mark.parametrize("special", ["pipe", "/dev/zero", "folder", "loop"])
def test_a_record_that_is_no_file_is_refused_at_once(special: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    if special == "pipe":
        os.mkfifo(path)
    elif special == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if special == "loop" else special)
    with pytest.raises(InputError, match=r"record\.json"):
        read_record(tmp_path)


def test_the_home_of_a_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in --results=~/x, which no shell replaces; a user that there is not is said."""
    monkeypatch.setenv("HOME", str(tmp_path))
    Maker(tmp_path / "mine")(MOS)
    assert main(["ls", "--results=~/mine"]) == 0
    assert MOS in capsys.readouterr().out
    assert load_settings("Pop", "~/data/toy").values["data_path"] == str(tmp_path / "data")
    with pytest.raises(SystemExit) as ended:
        main(["ls", "--results=~nouser/x"])
    assert ended.value.code == 2
    assert "no such user's home" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--model", "Pop", "--epochs=1", "--epochs=2"],
        ["run", "--model", "Pop", "--seed=1", "--seeds", "2"],
        ["run", "--model", "Pop", "--output", "a", "--output=b"],
    ],
)
def test_an_argument_that_is_given_twice_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(SystemExit):
        assert main(arguments) == 2
    assert "is given" in capsys.readouterr().err


def test_the_one_cpu_has_one_name() -> None:
    assert choose_device("cpu:0") == torch.device("cpu")
