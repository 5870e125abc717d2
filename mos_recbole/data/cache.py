"""A folder of arrays that is built once, by one process, and that all processes of a machine map into memory.

An entry is a folder of `.npy` files with `entry.json` beside them. It is written to a temporary folder beside its place
and renamed when it is whole. Whoever opens an entry checks it against its hashes and rebuilds it if it is damaged, so
that neither a killed process nor a lost page on the disk leaves anything that is read.
"""

import hashlib
import io
import json
import logging
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from mos_recbole.errors import InputError
from mos_recbole.io import atomic_folder, cache_folder, os_errors_as_input_errors

_log = logging.getLogger(__name__)

FORMAT = 2
"""Version of an entry's files; part of its name, so that another version's entries are not read."""

_ENTRY_FILE = "entry.json"
_UNFINISHED = ".unfinished"

ArrayInfo = dict[str, Any]
"""What an array holds: `dtype`, `shape`, and the `sha256` of its data; of JSON's types."""


def array_info(array: np.ndarray) -> ArrayInfo:
    digest = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
    return {"dtype": array.dtype.str, "shape": list(array.shape), "sha256": digest}


class Entry:
    """An entry that was checked when it was opened.

    Attributes:
        arrays: name -> array, mapped into memory. A page is read when it is touched, and never written back.
        infos: name -> what the array holds.
        facts: what the builder returned beside the arrays.

    Raises:
        ValueError, LookupError, TypeError, OSError: the entry is damaged.
    """

    def __init__(self, folder: Path) -> None:
        entry = json.loads((folder / _ENTRY_FILE).read_bytes())
        if entry.pop("check") != _hash_of(entry):
            raise ValueError(f"{_ENTRY_FILE} was changed")
        self.infos: dict[str, ArrayInfo] = entry["arrays"]
        self.facts: dict[str, Any] = entry["facts"]
        self.arrays = {name: _mapped(folder / f"{name}.npy", info) for name, info in self.infos.items()}


def _mapped(path: Path, info: ArrayInfo) -> np.ndarray:
    header = _header(np.dtype(info["dtype"]), tuple(info["shape"]))
    # By reading, not through the map, so that the pages do not count as this process's memory.
    with path.open("rb") as file:
        if file.read(len(header)) != header or hashlib.file_digest(file, "sha256").hexdigest() != info["sha256"]:
            raise ValueError(f"{path.name} was changed")
    # "c" for copy on write: PyTorch warns of arrays that cannot be written to.
    return np.load(path, mmap_mode="c")


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Returns the beginning of an `.npy` file."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype.str, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def entry_of(array: np.ndarray) -> Path | None:
    """Returns the folder of the entry that an array is mapped from; None for an array that is not mapped."""
    return Path(array.filename).parent if isinstance(array, np.memmap) and array.filename is not None else None


Build = Callable[[], tuple[dict[str, np.ndarray], dict[str, Any]]]


def cached(name: str, identity: Sequence[str | int], made_of: Mapping[str, Any], build: Build) -> Entry:
    """Returns the entry of a file for these ingredients; builds it where there is none or a damaged one.

    Args:
        name: readable beginning of the entry's name.
        identity: of the file: its path and device, then what changes with its content. A new entry replaces those of
            the same path and device with another identity. (The same path on another device is another machine's.)
        made_of: what else decides the content, of JSON's types.
        build: returns the arrays and facts of the entry.

    Raises:
        InputError: the cache folder cannot be written to or is full. (Building elsewhere instead would repeat the work
            in every process, on what is often a part of the memory.)
    """
    root = cache_folder()
    # With the format, so that versions that are in use side by side keep their entries.
    place = f"{name}-{_hash_of([FORMAT, *identity[:2]])[:12]}-"
    of_file = f"{place}{_hash_of(identity)[:12]}-"
    folder = root / f"{of_file}{_hash_of(made_of)[:16]}"
    if (entry := _opened(folder)) is not None:
        return entry
    with _cache_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        lock = _lock_of(folder)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            _log.warning(f"{folder}: waiting for another process that prepares the data")
            lock.acquire()
    try:
        if (entry := _opened(folder)) is not None:
            return entry
        arrays, facts = build()
        with _cache_errors(root):
            _remove_leftovers(folder)
            _write(folder, made_of, arrays, facts)
            del arrays
            for other in root.iterdir():
                if other.is_dir() and other.name.startswith(place) and not other.name.startswith(of_file):
                    shutil.rmtree(other, ignore_errors=True)
            return Entry(folder)
    finally:
        lock.release()


@contextmanager
def _cache_errors(root: Path) -> Iterator[None]:
    expected = "a folder with room for the prepared data (the environment variable MOS_RECBOLE_CACHE names another)"
    with os_errors_as_input_errors(root, expected):
        yield


def _opened(folder: Path) -> Entry | None:
    """Returns an entry, or None where there is none or a damaged one."""
    if not folder.is_dir():
        return None
    try:
        return Entry(folder)
    except PermissionError as error:
        raise InputError(f"{folder}: {error.strerror}; expected prepared data that can be read") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        # Another process may have replaced it meanwhile.
        if folder.is_dir():
            _log.warning(f"{folder}: the prepared data are damaged and are prepared again: {error}")
        return None


def _write(folder: Path, made_of: Mapping[str, Any], arrays: Mapping[str, np.ndarray], facts: dict[str, Any]) -> None:
    """Puts an entry in its place, whose lock is held."""
    infos = {}
    with atomic_folder(folder, folder.with_name(f"{folder.name}.{secrets.token_hex(8)}{_UNFINISHED}")) as unfinished:
        for name, array in arrays.items():
            with (unfinished / f"{name}.npy").open("wb") as file:
                file.write(_header(array.dtype, array.shape))
                file.write(np.ascontiguousarray(array).data)
            infos[name] = array_info(array)
        entry: dict[str, Any] = {"made_of": made_of, "arrays": infos, "facts": facts}
        entry["check"] = _hash_of(entry)
        (unfinished / _ENTRY_FILE).write_text(json.dumps(entry, indent=1), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """Removes the unfinished entries of killed builders: those whose lock is free. The lock of `folder` is held."""
    for unfinished in folder.parent.glob(f"*{_UNFINISHED}"):
        theirs = unfinished.with_name(unfinished.name.removesuffix(_UNFINISHED).rpartition(".")[0])
        try:
            with nullcontext() if theirs == folder else _lock_of(theirs).acquire(blocking=False):
                shutil.rmtree(unfinished, ignore_errors=True)
        except filelock.Timeout:
            continue


def _lock_of(folder: Path) -> filelock.BaseFileLock:
    # For all users, as far as the folder is.
    return filelock.FileLock(folder.with_name(f"{folder.name}.lock"), mode=0o666)


def _hash_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
