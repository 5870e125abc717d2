r"""From a raw log to the first training batch: seconds and memory by the number of interactions, beside stock RecBole.

    python benchmarks/speed/data_scale.py                                  # 1, 5, 25 and 100 million rows, both formats
    python benchmarks/speed/data_scale.py --rows 1_000_000 --recbole-up-to 0
    python benchmarks/speed/data_scale.py --rows 25_000_000 --formats ratings --recbole-up-to 0 \
        --config configs/study/protocol.yaml configs/study/ml-25m.yaml --output results/data_scale/study

Synthetic logs (see synthetic_log.py) are written to a temporary folder, prepared data beside them. Every measurement
is a fresh process. "cold" finds no prepared data, "warm" finds them; the raw file itself is in the operating system's
cache in all cases, having just been written. The queries of validation are made too, as they are before the first
epoch. RecBole reads the same columns of the atomic file, augments with MAX_ITEM_LIST_LENGTH 50 and makes its loaders by
`data_preparation`. Seconds are without the imports, which have a column of their own; memory is the process's largest
resident size, imports included, and what they alone take is the line "imports". Before all that, the windows of a log
of the smallest size are compared with RecBole's, number by number, on times that RecBole's float32 holds exactly.
Writes data_scale.csv and data_scale.png; the plot needs the optional dependencies `bench`.
"""

import argparse
import csv
import os
import platform
import shutil
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from processes import in_own_process, peak_resident
from synthetic_log import blocks, write_log
from tabulate import tabulate

FORMATS = ("inter", "ratings")
COLUMNS = ["user_id", "item_id", "timestamp"]
LENGTH = 50
# On the disk, a row: the raw file and what is prepared of it.
_BYTES_PER_ROW = 60


def imports_alone() -> dict[str, float]:
    """Returns what the imports take that every way needs."""
    import mos_recbole.experiment  # noqa: F401

    return {"seconds": 0.0, "peak_mib": peak_resident() / 2**20}


def ours(folder: Path, config_files: list[Path]) -> dict[str, float]:
    """Returns seconds and memory to this package's first batch of whole windows, by files of settings if given."""
    started = time.perf_counter()
    import torch

    from mos_recbole.data import SequenceDataset
    from mos_recbole.experiment import load_settings
    from mos_recbole.training import make_query_set, make_train_loader

    imported = time.perf_counter()
    overrides = {} if config_files else {"MAX_ITEM_LIST_LENGTH": LENGTH, "load_col": {"inter": COLUMNS}}
    settings = load_settings("GRU4RecSoftmax", str(folder), config_files, overrides, beside=["GRU4RecMoS"])
    config = settings.recbole_config(torch.device("cpu"))
    data = SequenceDataset(config)
    split = data.split()
    data.fingerprint()
    data.summary(split)
    queries = make_query_set(config, data, split, "valid", settings.protocol(has_repeats=True), config["device"])
    next(iter(make_train_loader(config, data, split).epoch(1)))
    assert len(queries) == split.valid.n_targets  # and kept until here
    return {
        "seconds": time.perf_counter() - imported,
        "import_seconds": imported - started,
        "peak_mib": peak_resident() / 2**20,
    }


def _recbole_config(folder: Path) -> Any:
    sys.argv = sys.argv[:1]  # RecBole's Config reads it
    os.chdir(folder)
    from mos_recbole import compat

    compat.apply()
    from recbole.config import Config

    settings = {
        "data_path": str(folder.parent),
        "load_col": {"inter": COLUMNS},
        "train_neg_sample_args": None,
        "MAX_ITEM_LIST_LENGTH": LENGTH,
    }
    return Config(model="GRU4Rec", dataset=folder.name, config_dict=settings)


def recbole(folder: Path) -> dict[str, float]:
    """Returns seconds and memory to stock RecBole's first batch."""
    started = time.perf_counter()
    from recbole.data import create_dataset, data_preparation

    imported = time.perf_counter()
    config = _recbole_config(folder)
    train, _, _ = data_preparation(config, create_dataset(config))
    next(iter(train))
    return {
        "seconds": time.perf_counter() - imported,
        "import_seconds": imported - started,
        "peak_mib": peak_resident() / 2**20,
    }


def write_exact_log(path: Path, rows: int) -> None:
    """Writes an atomic file in which a time is the row's number among its user's: float32 holds it exactly."""
    import numpy as np
    import pandas as pd

    with path.open("w") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for block in blocks(rows, np.random.default_rng(1)):
            table = pd.DataFrame({"user": block["user"], "item": block["item"], "time": block["time"]})
            table["time"] = table.groupby("user")["time"].rank(method="first").astype(int)
            table.to_csv(file, sep="\t", header=False, index=False)


def compare_windows(folder: Path) -> int:
    """Returns how many samples were compared: all of RecBole's augmentation, with what this package gathers.

    Raises:
        AssertionError: a user, an item sequence, a length or a target differs.
    """
    import numpy as np
    import torch
    from recbole.data.dataset import SequentialDataset

    from mos_recbole.data import Segments, SequenceDataset
    from mos_recbole.experiment import load_settings
    from mos_recbole.training.prefixes import Fields, PrefixGatherer

    theirs = SequentialDataset(_recbole_config(folder))
    theirs._change_feat_format()
    expected = theirs.inter_feat
    overrides = {"load_col": {"inter": COLUMNS}}
    config = load_settings("GRU4RecSoftmax", str(folder), overrides=overrides).recbole_config(torch.device("cpu"))
    flat = SequenceDataset(config).sequences
    start, stop = flat.offsets[:-1], flat.offsets[1:]
    targets = Segments(np.arange(flat.n_users, dtype=np.int32), start, start + 1, stop)
    gatherer = PrefixGatherer(flat, targets, LENGTH, torch.device("cpu"), crop=False)
    assert len(expected) == targets.n_targets
    for index in torch.arange(len(expected)).split(2**14):
        batch = gatherer.batch(index, Fields.of(config))
        for name in ("user_id", "item_id", "item_length", "item_id_list"):
            assert torch.equal(expected[name][index], batch[name]), name
    return targets.n_targets


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Returns one row for every number of interactions, format and way."""
    table: list[dict[str, Any]] = []
    about = {
        "device": f"cpu ({platform.machine()}, {os.cpu_count()} cores)",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("mos_recbole", "torch", "recbole", "pyarrow")),
    }

    def note(rows: int, file_format: str, way: str, found: dict[str, float], **sizes: float) -> None:
        table.append({"rows": rows, "format": file_format, "way": way, **found, **sizes, **about})
        print(f"{rows:,} {file_format} {way}: {found['seconds']:.2f} s, {found['peak_mib']:.0f} MiB", file=sys.stderr)

    note(0, "", "imports", in_own_process(imports_alone))
    for rows in options.rows:
        for file_format in options.formats:
            data, cache = folder / "synthetic", folder / "cache"
            data.mkdir()
            os.environ["MOS_RECBOLE_CACHE"] = str(cache)
            path = data / ("ratings.csv" if file_format == "ratings" else "synthetic.inter")
            in_own_process(write_log, path, rows, file_format)
            cold = in_own_process(ours, data, options.config)
            sizes = {
                "file_mib": path.stat().st_size / 2**20,
                "cache_mib": sum(file.stat().st_size for file in cache.rglob("*.npy")) / 2**20,
            }
            note(rows, file_format, "cold", cold, **sizes)
            note(rows, file_format, "warm", in_own_process(ours, data, options.config), **sizes)
            if file_format == "inter" and rows <= options.recbole_up_to:
                note(rows, file_format, "RecBole", in_own_process(recbole, data), **sizes)
            shutil.rmtree(data)
            shutil.rmtree(cache)
    return table


def plot(table: list[dict[str, Any]], path: Path) -> None:
    """Draws seconds and memory against the number of rows."""
    # Here, because every measured process imports this file.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from mos_recbole.report.figures import STYLE, label_log_axis

    pyplot.rcParams.update(STYLE)
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    measured = [row for row in table if row["rows"]]
    for ax, column, label in zip(
        axes, ("seconds", "peak_mib"), ("seconds, imports apart", "largest resident size, MiB"), strict=True
    ):
        for key in dict.fromkeys((row["way"], row["format"]) for row in measured):
            points = [(row["rows"], row[column]) for row in measured if (row["way"], row["format"]) == key]
            line = "--" if key[1] == "ratings" else "-"
            colour, marker = {"cold": ("C0", "o"), "warm": ("C2", "^"), "RecBole": ("C1", "s")}[key[0]]
            name = {"inter": ".inter", "ratings": "ratings.csv"}[key[1]]
            ax.plot(*zip(*points, strict=True), line, marker=marker, color=colour, label=f"{key[0]}, {name}")
        ax.set(xscale="log", yscale="log", xlabel="interactions", ylabel=label)
        ax.grid(alpha=0.3)
        label_log_axis(ax.xaxis)
        label_log_axis(ax.yaxis)
    axes[1].axhline(table[0]["peak_mib"], color="grey", linewidth=1, label="imports alone")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside right center", fontsize="small")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 5_000_000, 25_000_000, 100_000_000])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--recbole-up-to", type=int, default=5_000_000, help="rows; 0 leaves RecBole out")
    parser.add_argument("--config", type=Path, nargs="+", default=[], metavar="FILE", help="RecBole YAML files")
    parser.add_argument("--output", type=Path, default=Path("results/data_scale"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        needed, free = max(options.rows) * _BYTES_PER_ROW, shutil.disk_usage(folder).free
        if free < needed:
            parser.error(f"{folder}: {free / 1e9:.1f} GB free; {needed / 1e9:.1f} GB are needed")
        if options.recbole_up_to:
            exact = folder / "exact"
            exact.mkdir()
            os.environ["MOS_RECBOLE_CACHE"] = str(folder / "exact-cache")
            in_own_process(write_exact_log, exact / "exact.inter", min(options.rows))
            print(f"{in_own_process(compare_windows, exact):,} windows are equal to RecBole's")
            shutil.rmtree(exact)
        table = measure(options, folder)
    columns = list(dict.fromkeys(column for row in table for column in row))
    with (options.output / "data_scale.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(table)
    plot(table, options.output / "data_scale.png")
    shown = [column for column in columns if column not in ("device", "versions")]
    print(
        tabulate([[row.get(column) for column in shown] for row in table], headers=shown, floatfmt=",.2f", intfmt=",")
    )


if __name__ == "__main__":
    main()
