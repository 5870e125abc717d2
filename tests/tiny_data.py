"""Small data sets that tests write. Not in conftest.py, a name that tests/sweep has too."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def write_inter(
    folder: Path,
    name: str,
    rows: Sequence[Sequence[object]],
    header: str = "user_id:token\titem_id:token\ttimestamp:float",
) -> Path:
    """Writes an atomic data set `<folder>/<name>/<name>.inter` and returns its folder."""
    dataset = folder / name
    dataset.mkdir(parents=True, exist_ok=True)
    lines = [header, *("\t".join(str(value) for value in row) for row in rows)]
    (dataset / f"{name}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return dataset


def write_toy(folder: Path) -> Path:
    """Writes a small data set: 30 users, 20 items, 4 to 25 interactions each, times with ties, rows in random order."""
    generator = np.random.default_rng(7)
    rows = [
        (f"u{user}", f"i{generator.integers(20)}", int(1_500_000_000 + generator.integers(40)))
        for user in range(30)
        for _ in range(generator.integers(4, 26))
    ]
    generator.shuffle(rows)
    return write_inter(folder, "toy", rows)
