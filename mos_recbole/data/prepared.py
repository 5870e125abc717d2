"""Prepared data: a log filtered, numbered and sorted, kept in the cache, and the one definition of its fingerprint."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mos_recbole.data.cache import ArrayInfo, Entry, cached
from mos_recbole.data.prepare import Filters, prepare
from mos_recbole.data.reading import LogFile, read_log
from mos_recbole.data.sequences import Sequences
from mos_recbole.errors import InputError
from mos_recbole.progress import ProgressBar

FLAT_ARRAYS = ("items", "times", "offsets", "users")
_NAMES = ("user_names", "user_name_ends", "item_names", "item_name_ends")


class PreparedLog:
    """A log as models need it, from the cache.

    Attributes:
        sequences: the flat arrays.
        columns: name -> float32 [N], number columns as RecBole holds them, rows as in `sequences`. The time column is
            among them where RecBole's is not the flat times as float32.
        incomplete_rows: rows left out because their user or item is missing.
        skipped_lines: lines left out because they are not as they should be.
        no_numbers: column that is not read -> how many of its values are no numbers, though its header says so.
        tied_share: share of rows whose user has another row with the same time.
        fingerprint: see `fingerprint`.
    """

    def __init__(self, entry: Entry) -> None:
        self._arrays, facts = entry.arrays, entry.facts
        files = {name: f"column{number}" for number, name in enumerate(facts["columns"])}
        self.sequences = Sequences(**{name: self._arrays[name] for name in FLAT_ARRAYS}, time_scale=facts["time_scale"])
        self.columns = {name: self._arrays[file] for name, file in files.items()}
        self.incomplete_rows: int = facts["incomplete_rows"]
        self.skipped_lines: int = facts["skipped_lines"]
        self.no_numbers: dict[str, int] = facts["no_numbers"]
        self.tied_share: float = facts["tied_share"]
        self.fingerprint = fingerprint(
            {name: entry.infos[name] for name in FLAT_ARRAYS + _NAMES},
            {name: entry.infos[file] for name, file in files.items()},
            facts["time_scale"],
        )

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


def prepared_log(file: LogFile, wanted: list[str], filters: Filters, skip_bad_lines: bool = False) -> PreparedLog:
    """Returns a file's interactions prepared, from the cache, or first built for it.

    Args:
        file: what to read.
        wanted: columns to read: user and item, time, and columns of numbers.
        filters: which rows stay.
        skip_bad_lines: whether lines that are not as they should be are left out and counted.

    Raises:
        InputError: a fault in the file, or the cache folder cannot be used.
        ValueError: the filters leave nothing.
    """
    identity = _identity(file)

    def build() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        with ProgressBar(f"reading {file.path}"):
            log = read_log(file, wanted, filters.time, skip_bad_lines)
        if _identity(file) != identity:
            raise InputError(f"{file.path}: changed while it was read")
        with ProgressBar("filtering and sorting the data"):
            done = prepare(log, filters)
        arrays = {name: getattr(done.sequences, name) for name in FLAT_ARRAYS}
        arrays |= name_arrays(done.user_names, done.item_names)
        arrays |= {f"column{number}": column for number, column in enumerate(done.columns.values())}
        return arrays, {
            "time_scale": done.sequences.time_scale,
            "columns": list(done.columns),
            "incomplete_rows": done.incomplete_rows,
            "skipped_lines": done.skipped_lines,
            "no_numbers": log.no_numbers,
            "tied_share": done.sequences.tied_share(),
        }

    made_of = {
        "code": _code(),
        "columns": file.columns,
        "separator": file.separator,
        "encoding": file.encoding,
        "wanted": wanted,
        "skip_bad_lines": skip_bad_lines,
        "filters": asdict(filters),
    }
    return PreparedLog(cached(file.path.stem, identity, made_of, build))


@cache
def _code() -> dict[str, str]:
    """Returns what decides, beside file and settings, how data are prepared: the source here, and libraries."""
    digest, here = hashlib.sha256(), Path(__file__).parent
    for path in sorted([*here.glob("*.py"), *here.glob("reading/*.py")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return {"source": digest.hexdigest()} | {name: version(name) for name in ("numpy", "pandas", "pyarrow", "scipy")}


def _identity(file: LogFile) -> tuple[str | int, ...]:
    """Returns what changes with the file; path and device first, which tell where it is."""
    path = file.path.resolve()
    found = path.stat()
    return str(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


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
    parts = {"arrays": arrays, "columns": columns, "time_scale": time_scale}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
