"""Files and folders written as a whole or not at all, and errors of the file system as messages."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import filelock

from mos_recbole.errors import InputError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` and moves it into place at the end; after an error `path` is as before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_blocks(path: Path, blocks: Iterable[bytes]) -> None:
    """Writes a file by `atomic_write`, from blocks that may be made on the way."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.writelines(blocks)


@contextmanager
def atomic_folder(folder: Path, unfinished: Path) -> Iterator[Path]:
    """Gives the empty folder `unfinished` and renames it to `folder` at the end; after an error nothing is left.

    A folder that a killed process left at `unfinished` is removed first.
    """
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def os_errors_as_input_errors(place: Path, expected: str) -> Iterator[None]:
    """Turns an `OSError` into an `InputError` that names its file, or `place` where the error names no file.

    Args:
        place: named where the error has no file name, as for a full disk.
        expected: end of the message: what to do.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename or place}: {error.strerror or error}; expected {expected}") from error


def require_new(path: Path, force: bool) -> None:
    """Checks that a file can be written, before the work for it is done.

    Raises:
        InputError: there is one already and `force` is not set, or its folder cannot be written to.
    """
    if path.is_dir() or (path.exists() and not force):
        raise InputError(f"{path}: exists; expected another --output{'' if path.is_dir() else ', or --force'}")
    require_writable(path.parent)


def require_writable(folder: Path) -> None:
    """Creates the folder where it is missing.

    Raises:
        InputError: it cannot be created or written to.
    """
    probe = folder / f".write-test.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; expected a folder that can be written to") from error


def exclusive_lock(folder: Path, patience: float) -> AbstractContextManager[object]:
    """Returns the lock on a run's folder, held until the end of a `with`.

    Args:
        folder: of the run.
        patience: how long to wait for the lock, in seconds.

    Raises:
        InputError: another process holds it.
    """
    try:
        return filelock.FileLock(folder / ".lock").acquire(timeout=patience)
    except filelock.Timeout:
        raise InputError(f"{folder}: another process is at work on this run") from None
