"""A planted log as an atomic data set, its truth beside it."""

import json
import os
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
from pyarrow import csv

from mos_recbole.errors import InputError
from mos_recbole.evaluation import item_distance
from mos_recbole.io import atomic_folder, os_errors_as_input_errors
from mos_recbole.progress import ProgressBar
from mos_recbole.synthetic.log import PlantedLog, draw_log
from mos_recbole.synthetic.process import PlantedProcess, plant
from mos_recbole.synthetic.truth import best_achievable

TRUTH_FILE, ARRAYS_FILE = "truth.json", "truth.npz"
_HEADER = b"user_id:token\titem_id:token\ttimestamp:float\n"


def write_planted(
    folder: Path,
    *,
    rank: int,
    n_users: int,
    n_items: int,
    diversity: float = 1.0,
    noise: float = 0.0,
    decay: float = 0.0,
    entropy: float | None = None,
    mean_length: float = 20.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Returns what truth.json says of a new data set; `plant` and `draw_log` describe the arguments.

    The folder has `<its name>.inter`, `truth.json` and `truth.npz` (docs/planted_rank.md), and appears when it is
    whole. The same arguments give the same files.

    Raises:
        InputError: values that no process has, a folder that is there with something in it or cannot be written to.
    """
    if seed < 0:
        raise InputError(f"seed {seed}; expected 0 or more")
    _require_new(folder)
    asked = {
        **{"rank": rank, "users": n_users, "items": n_items, "diversity": diversity, "noise": noise},
        **{"decay": decay, "entropy": entropy, "mean_length": mean_length, "seed": seed},
    }
    of_process, of_log = np.random.default_rng(seed).spawn(2)
    with ProgressBar("planting the process"):
        process = plant(rank, n_items, of_process, entropy=entropy, diversity=diversity, noise=noise, decay=decay)
    with ProgressBar("drawing the users"):
        log = draw_log(process, n_users, of_log, mean_length=mean_length)
    with ProgressBar("computing the best that a model can reach"):
        truth = {"asked": asked} | describe(process, log)
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}.unfinished")
    with (
        os_errors_as_input_errors(folder, "a place that can be written to and has room"),
        atomic_folder(folder, hidden) as unfinished,
    ):
        _write_log(unfinished / f"{folder.name}.inter", log)
        np.savez(
            unfinished / ARRAYS_FILE,
            context_factors=process.context_factors,
            item_factors=process.item_factors,
            popularity=process.popularity,
            stationary=process.stationary,
            tokens=np.array([f"i{number}" for number in range(n_items)]),
        )
        (unfinished / TRUTH_FILE).write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    return truth


def read_truth(folder: Path) -> tuple[dict[str, Any], PlantedProcess, np.ndarray]:
    """Returns the truth of a data set: what truth.json says, the process, and the items' tokens in its order.

    Raises:
        InputError: the folder has no truth, or a broken one.
    """
    try:
        truth = json.loads((folder / TRUTH_FILE).read_text(encoding="utf-8"))
        with np.load(folder / ARRAYS_FILE, allow_pickle=False) as arrays:
            tokens = arrays["tokens"]
            names = ("context_factors", "item_factors", "popularity", "stationary")
            process = PlantedProcess(**{name: arrays[name] for name in names}, scale=truth["scale"])
        return truth, process, tokens
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise InputError(f"{folder}: {error}; expected a data set that mos-recbole synth wrote") from error


def describe(process: PlantedProcess, log: PlantedLog) -> dict[str, Any]:
    """Returns what is true of a process and of a log that was drawn from it; docs/planted_rank.md has the entries."""
    count = np.sort(np.bincount(log.items, minlength=process.n_items))[::-1]
    return {
        "rank": process.rank,
        "numerical_rank": process.numerical_rank,
        "singular_values": process.singular_values.tolist(),
        "scale": process.scale,
        "entropy": process.entropy,
        "popularity_loss": process.popularity_loss,
        "expected_recall": {f"Recall@{k}": process.expected_recall(k) for k in (1, 10, 100)},
        "log": {
            "interactions": len(log.items),
            "items": int((count > 0).sum()),
            "mean_length": float(log.lengths.mean()),
            "median_length": float(np.median(log.lengths)),
            "longest": int(log.lengths.max()),
            "interactions_per_item": len(log.items) / process.n_items,
            "share_of_top_5_percent": float(count[: max(1, process.n_items // 20)].sum() / len(log.items)),
            "previous_distance": mean_previous_distance(log, process.n_items),
        },
        "leave_one_out": {
            side: {"loss": best.loss} | best.metrics
            for side, best in (("valid", best_achievable(process, log, 2)), ("test", best_achievable(process, log, 1)))
        },
    }


def mean_previous_distance(log: PlantedLog, n_items: int) -> float:
    """Returns the mean distance of test targets to the items before them, from the interactions of training.

    It is the mean of the column `previous_distance` of a run's outcomes in the split leave_one_out.
    """
    end = log.offsets[1:]
    training = np.arange(len(log.items)) < np.repeat(end - 2, log.lengths)
    pairs = log.items[end - 2], log.items[end - 1]
    return float(item_distance(log.users[training], log.items[training], *pairs, n_items).mean())


def _write_log(path: Path, log: PlantedLog) -> None:
    names = pa.array([f"u{number}" for number in range(len(log.lengths))])
    tokens = pa.array([f"i{number}" for number in range(int(log.items.max()) + 1)])
    table = pa.table(
        {"user": names.take(pa.array(log.users)), "item": tokens.take(pa.array(log.items)), "time": log.times}
    )
    with path.open("wb") as file:
        file.write(_HEADER)
        csv.write_csv(table, file, csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none"))


def _require_new(folder: Path) -> None:
    """Raises InputError where the folder is there with something in it, or has no name."""
    if not folder.name:
        raise InputError(f"{folder}: has no name, which is the data set's; expected a path such as dataset/rank64")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder}: is there already; expected no such folder, or an empty one")
