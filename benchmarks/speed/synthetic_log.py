"""Writes a synthetic log of interactions of any length, in bounded memory: an atomic file or MovieLens' ratings.csv.

    python benchmarks/speed/synthetic_log.py --rows 25_000_000 --format ratings --output /tmp/synthetic

Sizes follow MovieLens-25M: 154 interactions a user by a log-normal law (median 71, at least 2), items by a power law,
their number growing with the square root of the rows. A user's actions come in bursts: a third share their second with
the one before. A user may have an item more than once, as logs of shops and players do. Rows are ordered by user, then
item, as MovieLens' are, or by time. The same arguments give the same file.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
from pyarrow import csv

Format = Literal["inter", "ratings"]
Order = Literal["user", "time"]

_HEADERS = {
    "inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n",
    "ratings": "userId,movieId,rating,timestamp\n",
}
_SEPARATORS = {"inter": "\t", "ratings": ","}
_BLOCK_ROWS = 1_000_000
_MEDIAN_LENGTH, _MEAN_LENGTH = 71, 154
_FIRST_TIME, _YEARS = 789_652_009, 25
_YEAR = 365 * 24 * 3600
_COLUMNS = np.dtype([("user", np.int32), ("item", np.int32), ("half_stars", np.int8), ("time", np.int64)])


@dataclass(frozen=True)
class Catalogue:
    """Items in the order of popularity: the running share of interactions, and their ids, which are no ranks.

    Attributes:
        running_share: float64 [n_items], ascending to 1.
        ids: int32 [n_items].
    """

    running_share: np.ndarray
    ids: np.ndarray

    @classmethod
    def of(cls, rows: int, generator: np.random.Generator, n_items: int | None = None) -> "Catalogue":
        """Returns a catalogue that suits a log of so many rows, or of so many items."""
        n_items = n_items or max(10, round(59_000 * (rows / 25e6) ** 0.5))
        # Zipf-Mandelbrot: the head is flatter than a pure power law's, as in MovieLens.
        share = (np.arange(n_items) + 0.002 * n_items) ** -1.1
        ids = generator.permutation(np.arange(1, 3 * n_items, 3, dtype=np.int32))
        return cls(np.cumsum(share) / share.sum(), ids)

    def sample(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Returns the ids of that many interactions' items, int32."""
        place = np.searchsorted(self.running_share, generator.random(count, dtype=np.float32))
        return self.ids[np.minimum(place, len(self.ids) - 1)]


def blocks(rows: int, generator: np.random.Generator, n_items: int | None = None) -> Iterator[np.ndarray]:
    """Yields the log in blocks of whole users, each ordered by user and item, rows in all."""
    catalogue = Catalogue.of(rows, generator, n_items)
    sigma = np.sqrt(2 * np.log(_MEAN_LENGTH / _MEDIAN_LENGTH))
    first_user, left = 1, rows
    while left:
        drawn = generator.lognormal(np.log(_MEDIAN_LENGTH), sigma, _BLOCK_ROWS // _MEAN_LENGTH)
        lengths = np.maximum(2, drawn.astype(np.int64))
        lengths = lengths[: np.searchsorted(np.cumsum(lengths), left) + 1]
        lengths[-1] -= max(0, lengths.sum() - left)
        yield _block(first_user, lengths, catalogue, generator)
        first_user += len(lengths)
        left -= int(lengths.sum())


def _block(first_user: int, lengths: np.ndarray, catalogue: Catalogue, generator: np.random.Generator) -> np.ndarray:
    n_rows = int(lengths.sum())
    block = np.empty(n_rows, _COLUMNS)
    block["user"] = np.repeat(np.arange(first_user, first_user + len(lengths), dtype=np.int32), lengths)
    block["item"] = catalogue.sample(n_rows, generator)
    block["half_stars"] = generator.integers(1, 11, n_rows, dtype=np.int8)
    # Within a burst none or some seconds between two actions; between bursts days.
    kind = generator.random(n_rows, dtype=np.float32)
    gaps = np.ceil(generator.exponential(9.0, n_rows).astype(np.float32)).astype(np.int64)
    gaps[kind < 0.35] = 0
    gaps[kind > 0.99] *= 24 * 3600
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    running = np.cumsum(gaps)
    begin = generator.integers(_FIRST_TIME, _FIRST_TIME + _YEARS * _YEAR, len(lengths))
    block["time"] = running + np.repeat(begin - running[starts], lengths)
    by_item = np.argsort(block["user"].astype(np.int64) << 32 | block["item"], kind="stable")
    return block[by_item]


def _by_time(unordered: Iterator[np.ndarray], rows: int, folder: Path) -> Iterator[np.ndarray]:
    """Yields the rows in the order of time; they wait in files, one per stretch of time."""
    n_files = max(1, rows // _BLOCK_ROWS)
    borders = np.linspace(_FIRST_TIME, _FIRST_TIME + _YEARS * _YEAR, n_files + 1)[1:-1].astype(np.int64)
    with ExitStack() as opened:
        files = [opened.enter_context((folder / f"{number}.bin").open("w+b")) for number in range(n_files)]
        for block in unordered:
            stretch = np.searchsorted(borders, block["time"], side="right").astype(np.uint16)
            block = block[np.argsort(stretch, kind="stable")]
            for file, part in zip(
                files, np.split(block, np.cumsum(np.bincount(stretch, minlength=n_files)))[:-1], strict=True
            ):
                part.tofile(file)
        for file in files:
            file.seek(0)
            block = np.fromfile(file, _COLUMNS)
            yield block[np.argsort(block["time"], kind="stable")]


def write_log(
    path: Path, rows: int, file_format: Format, order: Order = "user", seed: int = 0, n_items: int | None = None
) -> None:
    """Writes a log of that many rows to a file, of so many items at most; see the module's text for what it is like."""
    generator = np.random.default_rng(seed)
    separator = _SEPARATORS[file_format]
    stars = pa.array([f"{half / 2:.1f}" for half in range(11)])
    options = csv.WriteOptions(include_header=False, delimiter=separator, quoting_style="none")
    with path.open("wb") as file, tempfile.TemporaryDirectory(dir=path.parent) as folder:
        file.write(_HEADERS[file_format].encode())
        parts = blocks(rows, generator, n_items)
        for block in parts if order == "user" else _by_time(parts, rows, Path(folder)):
            columns = {
                "user": pa.array(np.ascontiguousarray(block["user"])),
                "item": pa.array(np.ascontiguousarray(block["item"])),
                "rating": stars.take(pa.array(np.ascontiguousarray(block["half_stars"]))),
                "time": pa.array(np.ascontiguousarray(block["time"])),
            }
            csv.write_csv(pa.table(columns), file, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--format", choices=get_args(Format), default="inter", help="atomic file or ratings.csv")
    parser.add_argument("--order", choices=get_args(Order), default="user", help="of the rows in the file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, help="the data set's folder")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    name = "ratings.csv" if options.format == "ratings" else f"{options.output.name}.inter"
    write_log(options.output / name, options.rows, options.format, options.order, options.seed)


if __name__ == "__main__":
    main()
