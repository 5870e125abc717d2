"""The one door for errors: what ends a command becomes one message and an exit status, whatever it is."""

import argparse
import contextlib
import errno
import os
import platform
import re
import select
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import TextIO

from mos_recbole import __version__
from mos_recbole.cli.output import print_failure, started_here, tells_failure
from mos_recbole.errors import InputError, TrainingDiverged, told
from mos_recbole.io import NO_ROOM, disk_full

INPUT, DIVERGED, UNEXPECTED, INTERRUPTED, CLOSED_PIPE = 2, 1, 70, 130, 141
"""Exit statuses; 70 is a defect of the program."""

# Errors of the file system that are the place's, not the program's.
_PLACE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),
    *(errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE),
)
_OWN = "mos_recbole"
# Of gloo and NCCL, in a process whose partner has ended.
_LOST = ("Connection closed by peer", "Connection reset by peer", "remote process exited")
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "Cannot allocate memory")


def leave_by(call: Callable[[argparse.Namespace], int], options: argparse.Namespace, program: str) -> int:
    """Returns the exit status of a command: its own, or that of the error that ended it, which is then told."""
    try:
        status = call(options)
        fault = _flush_fault()
        if fault is None:
            return status
        if isinstance(fault, BrokenPipeError):
            return CLOSED_PIPE  # as of head, which has read enough
        reason = "the disk is full" if fault.errno in NO_ROOM else fault.strerror
        print_failure(f"{program}: error: standard output: {reason}; files were written as far as told")
        return INPUT
    except InputError as error:
        print_failure(f"{program}: error: {error}")
        return INPUT
    except TrainingDiverged as error:
        print_failure(f"{program}: training failed: {error}")
        return DIVERGED
    except KeyboardInterrupt:
        if not started_here():
            print_failure(f"{program}: interrupted; {options.interrupted}")
        return INTERRUPTED
    except BaseException as error:  # some packages and plugins raise what is no Exception
        if isinstance(error, BrokenPipeError) and _reader_has_gone():
            return CLOSED_PIPE
        if isinstance(error, RuntimeError) and any(text in told(error) for text in _LOST):
            if not started_here():
                print_failure(f"{program}: error: another of the processes has ended; {options.interrupted}")
            return INPUT
        if message := _outer_fault(error):
            print_failure(f"{program}: error: {message}")
            return INPUT
        if tells_failure():
            print_failure(f"{program}: a defect of the program: {type(error).__name__}; {_reported(error, options)}")
        return UNEXPECTED


def _flush_fault() -> OSError | None:
    """Returns the error of a standard output that cannot be written to; None if it can."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        _discard(sys.stdout)
        return error
    return None


def _reader_has_gone() -> bool:
    """Returns whether standard output is a pipe that nobody reads any more."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    gone = any(event & select.POLLERR for _, event in output.poll(0))
    if gone:
        _discard(sys.stdout)
    return gone


def settle_error_stream() -> None:
    """Keeps a standard error that cannot be written to from changing the exit status at the interpreter's end."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except (OSError, ValueError):
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Lets the interpreter, which flushes a stream once more at its end, do so to no effect."""
    with contextlib.suppress(ValueError):  # closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _outer_fault(error: BaseException) -> str | None:
    """Returns what to say of an error that disk, memory, permissions or a missing package gave; None for others."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return str(disk_full(error.filename or "a file, or standard output"))
    if isinstance(error, OSError) and error.filename is not None and error.errno in _PLACE:
        return f"{os.fsdecode(str(error.filename))}: {error.strerror}"
    if isinstance(error, ModuleNotFoundError) and not (error.name or _OWN).startswith(_OWN):
        return f"the package {error.name} is not installed; expected what mos-recbole doctor says"
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in told(error) for text in _NO_MEMORY)
    ):
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "an allocation failed"
        if size := re.search(r"tried to allocate (\d+) bytes", reason):
            reason = f"{int(size[1]) / 1e9:,.1f} GB in one piece"
        return f"not enough memory: {reason}; expected smaller models, batches or data, or a larger machine"
    return None


def _reported(error: BaseException, options: argparse.Namespace) -> str:
    """Returns where the report of an error is, which only this user can read; or the traceback."""
    trace = "".join(traceback.format_exception(error))
    lines = [
        f"mos-recbole {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"arguments: {sys.argv[1:]}",
        *(f"{name}: {value!r}" for name, value in sorted(vars(options).items()) if not callable(value)),
        trace,
    ]
    try:
        descriptor, path = tempfile.mkstemp(prefix="mos-recbole-error-", suffix=".txt")
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("\n".join(lines))
    except OSError:
        return f"no report could be written:\n{trace}"
    return f"please report it with {path}"
