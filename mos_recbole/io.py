"""Files and folders written as a whole or not at all, files that know their checksum, and errors as messages."""

import errno
import hashlib
import logging
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import platformdirs

from mos_recbole.errors import DiskFull, InputError

_log = logging.getLogger(__name__)

# A sealed file ends with this and the SHA-256 of all before it, as 64 hexadecimal digits.
_SEAL = b"\nsha256 "
_SEAL_BYTES = len(_SEAL) + 64
_BLOCK = 1 << 20
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the errors of a file system that is full, for all or for this user."""

RUN_AGAIN = "the run again, without --resume (in a sweep: mos-recbole rm, then the sweep again)"
"""What helps where a run's file is of no use."""

# Whether it was said that files without a checksum were read.
_said_unsealed: list[Path] = []


def cache_folder() -> Path:
    """Returns where prepared data are kept: $MOS_RECBOLE_CACHE, or mos_recbole in the user's cache folder."""
    chosen = os.environ.get("MOS_RECBOLE_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("mos_recbole", appauthor=False)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` and moves it into place at the end; after an error `path` is as before.

    Raises:
        DiskFull: there is no room for the file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise disk_full(path) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def disk_full(
    place: object, expected: str = "room, and the same command again; run goes on by --resume, sweep by --retry-failed"
) -> DiskFull:
    """Returns the error of a file that there was no room for, with what to do."""
    return DiskFull(f"{place}: the disk is full; what was there is as it was. Expected {expected}")


class _Sealing:
    """An open file, with the checksum of what was written to it and the error of a write that failed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, block: Any) -> int:
        self.sha256.update(block)
        try:
            return self._file.write(block)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


@contextmanager
def sealed_write(path: Path) -> Iterator[Any]:
    """Gives an open file with `write` and `flush`, by `atomic_write`; at the end the checksum goes after the content.

    Raises:
        DiskFull: there is no room for the file, whatever the writer makes of that.
    """
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        sealing = _Sealing(file)
        try:
            yield sealing
        except Exception:
            if sealing.error is not None:  # PyTorch's writer ends with an error of its own
                raise sealing.error from None
            raise
        file.write(_SEAL + sealing.sha256.hexdigest().encode())


def check_seal(path: Path) -> bool:
    """Returns whether a file has the checksum that `sealed_write` leaves, which is then that of its content.

    Raises:
        FileNotFoundError: there is none.
        InputError: the file is damaged, or no file.
    """
    require_regular(path)
    with path.open("rb") as file:
        size = max(0, path.stat().st_size - _SEAL_BYTES)
        file.seek(size)
        seal = file.read()
        if not seal.startswith(_SEAL):
            return False
        file.seek(0)
        sha256 = hashlib.sha256()
        for start in range(0, size, _BLOCK):
            sha256.update(file.read(min(_BLOCK, size - start)))
    if seal != _SEAL + sha256.hexdigest().encode():
        raise damaged(path)
    return True


def file_sha256(path: Path) -> str:
    """Returns the checksum of a file, 64 hexadecimal digits."""
    require_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged(path: Path, instead: str = RUN_AGAIN) -> InputError:
    """Returns the error of a file that is not as it was written; `instead` of a copy of it, this helps."""
    return InputError(f"{path}: damaged, its checksum is another one; expected it from a copy, or {instead}")


def say_unsealed(path: Path) -> None:
    """Says of the first such file of a command that it is read without a checksum."""
    if not _said_unsealed:
        _said_unsealed.append(path)
        note = f"{path}: from an earlier version, without a checksum; damage to such files would not be noticed"
        _log.info(note, extra={"once": True})


def require_regular(path: Path) -> None:
    """Checks that a path is a file's: a device or a pipe could be read for ever.

    Raises:
        FileNotFoundError: there is nothing.
        InputError: it is something else.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: {'a folder' if stat.S_ISDIR(mode) else 'a device or a pipe'}; expected a file")


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
    except DiskFull as error:
        raise disk_full(place, expected) from error
    except OSError as error:
        if error.errno in NO_ROOM:
            raise disk_full(place, expected) from error
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


def exclusive_lock(folder: Path, patience: float, what: str = "run") -> AbstractContextManager[object]:
    """Returns the lock on the folder of a run or a sweep, held until the end of a `with`.

    Args:
        folder: to lock.
        patience: how long to wait for the lock, in seconds.
        what: the folder is of.

    Raises:
        InputError: another process holds it, or the file system has no locks.
    """
    try:
        return filelock.FileLock(folder / ".lock").acquire(timeout=patience)
    except filelock.Timeout:
        raise InputError(f"{folder}: another process is at work on this {what}") from None
    except NotImplementedError:
        raise InputError(f"{folder}: its file system has no locks; expected --output on another one") from None
