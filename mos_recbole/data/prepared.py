"""Prepared data: a log filtered, numbered and sorted, kept in the store, and the one definition of its fingerprint."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mos_recbole.data.atomic import LogFile
from mos_recbole.data.log import read_log
from mos_recbole.data.prepare import Filters, NumberedLog, TieOrder, prepare
from mos_recbole.data.sequences import Sequences, tied_rows
from mos_recbole.data.store import ArrayInfo, EntryWriter, Stored, stored
from mos_recbole.errors import InputError

_FLAT = ("items", "times", "offsets", "users")
_NAMES = ("user_names", "user_name_ends", "item_names", "item_name_ends")


class PreparedLog:
    """A log as models need it, from the store.

    Attributes:
        sequences: the flat arrays.
        columns: name -> float32 [N], number columns as RecBole holds them, rows as in `sequences`. The time column is
            among them where RecBole's is not the flat times as float32.
        incomplete_rows: rows left out because their user or item is missing.
        tied_share: share of rows whose user has another row with the same time.
        fingerprint: see `fingerprint`.
    """

    def __init__(self, entry: Stored) -> None:
        arrays, facts = entry.arrays, entry.facts
        self.sequences = Sequences(**{name: arrays[name] for name in _FLAT}, time_scale=facts["time_scale"])
        self.columns = {name: arrays[f"column{number}"] for number, name in enumerate(facts["columns"])}
        self.incomplete_rows: int = facts["incomplete_rows"]
        self.tied_share: float = facts["tied_rows"] / len(self.sequences.items)
        self.fingerprint = fingerprint(
            {name: entry.infos[name] for name in _FLAT + _NAMES},
            {name: entry.infos[f"column{number}"] for number, name in enumerate(facts["columns"])},
            facts["time_scale"],
        )
        self._arrays = arrays

    @property
    def user_num(self) -> int:
        """Number of user ids, the padding's included."""
        return len(self._arrays["user_name_ends"])

    @property
    def item_num(self) -> int:
        """Number of item ids, the padding's included."""
        return len(self._arrays["item_name_ends"])

    @cached_property
    def id_user(self) -> np.ndarray:
        """Names of users by id, as RecBole keeps them."""
        return self._names("user")

    @cached_property
    def id_item(self) -> np.ndarray:
        """Names of items by id, as RecBole keeps them."""
        return self._names("item")

    def _names(self, kind: str) -> np.ndarray:
        text, ends = self._arrays[f"{kind}_names"], self._arrays[f"{kind}_name_ends"]
        names = pa.LargeStringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(text))
        return np.array(["[PAD]", *names.to_pylist()])


def prepared_log(file: LogFile, wanted: list[str], filters: Filters) -> PreparedLog:
    """Returns a file's interactions prepared, from the store, or first built for it.

    Args:
        file: what to read.
        wanted: columns to read: user and item, time, and columns of numbers.
        filters: which rows stay.

    Raises:
        InputError: a fault in the file, or the store's folder cannot be used.
        ValueError: the filters leave nothing.
    """

    identity = _identity(file)

    def build() -> Callable[[EntryWriter], None]:
        log = read_log(file, wanted, filters.time)
        if _identity(file) != identity:
            raise InputError(f"{file.path}: changed while it was read")
        time_scale = log.time_scale
        numbered = prepare(log, filters)
        return lambda writer: _write(writer, numbered, time_scale, filters.tie_order)

    made_of = {
        "file": identity,
        "code": _code(),
        "columns": file.columns,
        "separator": file.separator,
        "encoding": file.encoding,
        "wanted": wanted,
        "filters": asdict(filters),
    }
    return PreparedLog(stored(file.path.stem, made_of, build))


@cache
def _code() -> dict[str, str]:
    """Returns what decides, beside file and settings, how data are prepared: this folder's source, and libraries."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return {"source": digest.hexdigest()} | {name: version(name) for name in ("numpy", "pandas", "pyarrow", "scipy")}


def _identity(file: LogFile) -> dict[str, Any]:
    path = file.path.resolve()
    found = path.stat()
    return {
        "path": str(path),
        "device": found.st_dev,
        "inode": found.st_ino,
        "size": found.st_size,
        "modified": found.st_mtime_ns,
        "changed": found.st_ctime_ns,
    }


def _write(writer: EntryWriter, log: NumberedLog, time_scale: int, tie_order: TieOrder) -> None:
    n_rows = len(log.items)
    items = writer.stream("items", np.int32, n_rows)
    times = writer.stream("times", np.int64, n_rows)
    columns = {name: writer.stream(f"column{number}", np.float32, n_rows) for number, name in enumerate(log.columns)}
    tied = 0
    for block in log.sorted_blocks(tie_order):
        items.write(block.items)
        times.write(block.times)
        for name, values in block.columns.items():
            columns[name].write(values)
        tied += tied_rows(block.times, block.offsets)
    writer.array("offsets", log.offsets)
    writer.array("users", log.users)
    for name, values in name_arrays(log.user_names, log.item_names).items():
        writer.array(name, values)
    writer.facts.update(
        time_scale=time_scale,
        columns=list(log.columns),
        incomplete_rows=log.incomplete_rows,
        tied_rows=tied,
    )


def name_arrays(user_names: pa.Array, item_names: pa.Array) -> dict[str, np.ndarray]:
    """Returns names as arrays: their UTF-8 texts in a row, uint8, and where each ends, int64 from 0."""
    arrays: dict[str, np.ndarray] = {}
    for kind, names in (("user", user_names), ("item", item_names)):
        _, buffer, text = pa.concat_arrays([names.cast(pa.large_string())]).buffers()
        ends = np.frombuffer(buffer, dtype=np.int64)[: len(names) + 1]
        arrays[f"{kind}_name_ends"] = ends
        arrays[f"{kind}_names"] = np.frombuffer(text, dtype=np.uint8)[: ends[-1]]
    return arrays


def fingerprint(arrays: Mapping[str, ArrayInfo], columns: Mapping[str, ArrayInfo], time_scale: int) -> str:
    """Returns a SHA-256 of what a model can learn from, independent of file names.

    Args:
        arrays: the flat arrays and the names by id.
        columns: other columns as RecBole holds them.
        time_scale: of the times.
    """
    parts = {
        "arrays": {name: info.model_dump(mode="json") for name, info in arrays.items()},
        "columns": {name: info.model_dump(mode="json") for name, info in columns.items()},
        "time_scale": time_scale,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
