"""A folder of arrays that is built once, by one process, and that all processes of a machine map into memory.

An entry is a folder of `.npy` files with `entry.json` beside them, named by a hash of what it was made of. It is made
in a temporary folder next to its place and moved there when it is whole and on the disk, so that a process killed at
any time leaves nothing that would be read. What such a process leaves is removed by the next one that builds.
"""

import hashlib
import io
import json
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from logging import getLogger
from pathlib import Path
from typing import IO, Any

import filelock
import numpy as np
import pydantic

from mos_recbole.errors import InputError

_ENTRY_FILE = "entry.json"
_UNFINISHED = ".unfinished"


class ArrayInfo(pydantic.BaseModel):
    """What an array is and holds; `sha256` is of its data alone."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    dtype: str
    shape: tuple[int, ...]
    sha256: str

    @classmethod
    def of(cls, array: np.ndarray) -> "ArrayInfo":
        digest = hashlib.sha256(np.ascontiguousarray(array).data)
        return cls(dtype=array.dtype.str, shape=array.shape, sha256=digest.hexdigest())


class _Entry(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    made_of: dict[str, Any]
    arrays: dict[str, ArrayInfo]
    facts: dict[str, Any]
    check: str

    def content_hash(self) -> str:
        return _hash_of(self.model_dump(mode="json", exclude={"check"}))


class Stored:
    """An entry that was checked: arrays mapped into memory, and facts beside them.

    Attributes:
        arrays: name -> array. Mapped privately: a page is read when it is touched, and never written back.
        infos: name -> what the array is.
        facts: whatever the builder noted, of JSON's types.
    """

    def __init__(self, folder: Path) -> None:
        entry = _Entry.model_validate_json((folder / _ENTRY_FILE).read_bytes())
        if entry.check != entry.content_hash():
            raise _BrokenEntry(f"{_ENTRY_FILE} was changed")
        self.arrays = {name: _mapped(folder / f"{name}.npy", info) for name, info in entry.arrays.items()}
        self.infos, self.facts = entry.arrays, entry.facts


class _BrokenEntry(Exception):
    pass


def _mapped(path: Path, info: ArrayInfo) -> np.ndarray:
    """Returns the array of a file whose content has the right hash, mapped into memory."""
    header = _header(np.dtype(info.dtype), info.shape)
    # By reading, not through the map, so that the pages do not count as this process's memory.
    with path.open("rb") as file:
        if file.read(len(header)) != header or hashlib.file_digest(file, "sha256").hexdigest() != info.sha256:
            raise _BrokenEntry(f"{path.name} was changed")
    # "c" for copy on write: PyTorch warns of arrays that cannot be written to.
    return np.load(path, mmap_mode="c")


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Returns the beginning of an `.npy` file."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype.str, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


class EntryWriter:
    """Writes the arrays and facts of an entry. Leaving its context closes the files, those of a failed writing too.

    Attributes:
        facts: to be filled, JSON's types.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = {}
        self._streams: dict[str, ArrayStream] = {}
        self._files = ExitStack()

    def __enter__(self) -> "EntryWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def array(self, name: str, values: np.ndarray) -> None:
        """Writes a whole array, of one dimension."""
        self.stream(name, values.dtype, len(values)).write(values)

    def stream(self, name: str, dtype: np.dtype | type, length: int) -> "ArrayStream":
        """Returns what writes an array of one dimension piece by piece."""
        file = self._files.enter_context((self.folder / f"{name}.npy").open("wb"))
        self._streams[name] = ArrayStream(file, np.dtype(dtype), length)
        return self._streams[name]

    def finish(self, made_of: Mapping[str, Any]) -> None:
        arrays = {name: stream.finish() for name, stream in self._streams.items()}
        entry = _Entry(made_of=dict(made_of), arrays=arrays, facts=self.facts, check="")
        entry = entry.model_copy(update={"check": entry.content_hash()})
        with (self.folder / _ENTRY_FILE).open("w", encoding="utf-8") as file:
            file.write(entry.model_dump_json(indent=1))
            _flush(file)


class ArrayStream:
    """Writes one array of one dimension and hashes its data on the way."""

    def __init__(self, file: IO[bytes], dtype: np.dtype, length: int) -> None:
        self.file, self.dtype, self.length, self.written = file, dtype, length, 0
        self.digest = hashlib.sha256()
        self.file.write(_header(dtype, (length,)))

    def write(self, part: np.ndarray) -> None:
        assert part.dtype == self.dtype, (part.dtype, self.dtype)
        data = np.ascontiguousarray(part).data
        self.file.write(data)
        self.digest.update(data)
        self.written += len(part)

    def finish(self) -> ArrayInfo:
        assert self.written == self.length, (self.written, self.length)
        _flush(self.file)
        return ArrayInfo(dtype=self.dtype.str, shape=(self.length,), sha256=self.digest.hexdigest())


def cache_folder() -> Path:
    """Returns where entries are kept: $MOS_RECBOLE_CACHE, or mos_recbole in the user's cache folder."""
    chosen = os.environ.get("MOS_RECBOLE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mos_recbole"


def entry_of(array: np.ndarray) -> Path | None:
    """Returns the folder of the entry that an array is mapped from; None for an array that is none of an entry."""
    return Path(array.filename).parent if isinstance(array, np.memmap) and array.filename is not None else None


def stored(name: str, made_of: Mapping[str, Any], build: Callable[[], Callable[[EntryWriter], None]]) -> Stored:
    """Returns the entry for these ingredients, built if it is not there or is broken.

    Args:
        name: readable beginning of the entry's name.
        made_of: what decides the content, of JSON's types. `made_of["file"]`, if given, is the file's identity: entries
            for the same `path` and `device` in it with another identity are removed when one is built.
        build: reads and computes, and returns what writes the entry.

    Raises:
        InputError: the cache folder cannot be written to or is full. (Building elsewhere instead would repeat the work
            in every process, on what is often a part of the memory.)
    """
    root = cache_folder()
    folder = root / f"{name}-{_hash_of(made_of)[:16]}"
    entry = _opened(folder)
    if entry is not None:
        return entry
    with _errors_named(root):
        root.mkdir(parents=True, exist_ok=True)
        lock = _lock_of(folder)
        try:
            held = lock.acquire(blocking=False)
        except filelock.Timeout:
            getLogger(__name__).warning(f"{folder}: waiting for another process that prepares the data")
            held = lock.acquire()
    with held:
        entry = _opened(folder)
        if entry is not None:
            return entry
        write = build()
        with _errors_named(root):
            _put(folder, made_of, write)
            return Stored(folder)


@contextmanager
def _errors_named(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{root}: {error.strerror or error}; expected a folder with room for the prepared data "
            "(the environment variable MOS_RECBOLE_CACHE names another)"
        ) from error


def _opened(folder: Path) -> Stored | None:
    """Returns an entry, or None where there is none or it is broken, which gives a warning."""
    if not folder.is_dir():
        return None
    try:
        return Stored(folder)
    except PermissionError as error:
        raise InputError(f"{folder}: {error.strerror}; expected prepared data that can be read") from error
    except (OSError, ValueError, _BrokenEntry) as error:
        if not folder.is_dir():
            return None
        warnings.warn(f"{folder}: broken prepared data, will be built anew: {error}", stacklevel=2)
        return None


def _put(folder: Path, made_of: Mapping[str, Any], write: Callable[[EntryWriter], None]) -> None:
    """Puts a new entry in its place; its lock is held."""
    _remove_leftovers(folder)
    unfinished = folder.with_name(f"{folder.name}.{secrets.token_hex(8)}{_UNFINISHED}")
    try:
        unfinished.mkdir()
        with EntryWriter(unfinished) as writer:
            write(writer)
            writer.finish(made_of)
        _flush_folder(unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
        _flush_folder(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    _remove_outdated(folder, made_of)


def _remove_leftovers(folder: Path) -> None:
    """Removes what killed builders left: unfinished entries whose lock nobody else holds. The folder's own is held."""
    for unfinished in folder.parent.glob(f"*{_UNFINISHED}"):
        theirs = unfinished.with_name(unfinished.name.removesuffix(_UNFINISHED).rpartition(".")[0])
        if theirs == folder:
            shutil.rmtree(unfinished, ignore_errors=True)
            continue
        try:
            with _lock_of(theirs).acquire(blocking=False):
                shutil.rmtree(unfinished, ignore_errors=True)
        except filelock.Timeout:
            continue


def _remove_outdated(folder: Path, made_of: Mapping[str, Any]) -> None:
    """Removes entries of what the file was before it changed: its change time never comes back."""
    file = made_of.get("file")
    if file is None:
        return
    for other in folder.parent.glob(f"*/{_ENTRY_FILE}"):
        if other.parent.name.endswith(_UNFINISHED):
            continue
        try:
            theirs = json.loads(other.read_bytes())["made_of"].get("file")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if not isinstance(theirs, dict):
            continue
        # The same path on another device is another machine's file.
        if all(theirs.get(key) == file[key] for key in ("path", "device")) and theirs != file:
            shutil.rmtree(other.parent, ignore_errors=True)


def _lock_of(folder: Path) -> filelock.BaseFileLock:
    # For all users, as far as the folder is.
    return filelock.FileLock(folder.with_name(f"{folder.name}.lock"), mode=0o666)


def _hash_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _flush(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
