"""The generator of synthetic logs: as long as asked for, as skewed as real ones, the same for the same seed."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from scripts import load_script

from mos_recbole.data import SequenceDataset
from mos_recbole.experiment import load_settings


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        yield load_script("speed/synthetic_log.py", patch)


@pytest.fixture
def short_blocks(generator: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The generator with blocks so short that a small log has many."""
    monkeypatch.setattr(generator, "_BLOCK_ROWS", 5000)
    return generator


@pytest.mark.parametrize("order", ["user", "time"])
def test_both_formats_hold_the_same_rows(order: str, short_blocks: ModuleType, tmp_path: Path) -> None:
    """Exactly as many as asked for, in the order asked for; another seed gives others."""
    tables = {}
    for name, file_format, seed in (("a.inter", "inter", 0), ("b.csv", "ratings", 0), ("c.inter", "inter", 1)):
        short_blocks.write_log(tmp_path / name, 20_003, file_format, order, seed)
        separator = "\t" if file_format == "inter" else ","
        tables[name] = pd.read_csv(tmp_path / name, sep=separator, names=["user", "item", "rating", "time"], skiprows=1)
    pd.testing.assert_frame_equal(tables["a.inter"], tables["b.csv"])
    assert not tables["a.inter"].equals(tables["c.inter"])
    assert len(tables["a.inter"]) == 20_003
    keys = ["user", "item"] if order == "user" else ["time"]
    pd.testing.assert_frame_equal(tables["a.inter"], tables["a.inter"].sort_values(keys, kind="stable"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.inter", "b.csv", "c.inter"]


def test_a_log_is_like_real_ones(generator: ModuleType, tmp_path: Path) -> None:
    """Users of very different lengths, a few items with much of it all, many equal times; and the package reads it."""
    folder = tmp_path / "synthetic"
    folder.mkdir()
    generator.write_log(folder / "ratings.csv", 200_000, "ratings")
    data = SequenceDataset(load_settings("GRU4RecSoftmax", str(folder)).recbole_config(torch.device("cpu")))
    lengths = np.diff(data.sequences.offsets)
    assert lengths.sum() == 200_000
    assert 50 < np.median(lengths) < 100
    assert 120 < lengths.mean() < 200
    counts = np.sort(np.bincount(data.sequences.items))[::-1]
    assert 0.3 < counts[: len(counts) // 20].sum() / counts.sum() < 0.8
    assert 0.3 < data.sequences.tied_share() < 0.8
