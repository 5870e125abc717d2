"""Training speed beside stock RecBole: its own data set, loader, trainer and evaluator, in turns with this package.

    python benchmarks/speed/train_speed.py --full        # RecBole's GRU4Rec to early stopping, its curve: half an hour
    python benchmarks/speed/train_speed.py --rounds 3    # then: everything in turns, a quarter of an hour a round

A round measures, each in a fresh process and on ml-100k with the default settings: targets per second over --steps
steps of training and peak memory, for RecBole's GRU4Rec and SASRec, and for ours on prefixes and on all positions, with
a softmax and with a mixture; then one whole run of our GRU4RecSoftmax, for the time until its validation NDCG@10 first
reaches the best of RecBole's curve. RecBole's time to that value is the curve's number of epochs at the throughput
measured in the same round; the curve's own seconds are not used. Times are of training steps only, on both sides.

Importing RecBole's sequential models turns on autograd's anomaly detection (its file sine.py), which is part of what
its users wait for; RecBole is measured as published and with the detection off.

Writes results/train_speed/. Ratios within one round are what can be quoted.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from measure import device_name, versions
from processes import in_own_process, peak_resident

from mos_recbole import compat
from mos_recbole.data import SequenceDataset
from mos_recbole.experiment import load_settings, run_experiment
from mos_recbole.training import BenchmarkTrainer, make_train_loader

STOCK = {
    "RecBole GRU4Rec": ("GRU4Rec", True),
    "RecBole GRU4Rec, detection off": ("GRU4Rec", False),
    "RecBole SASRec": ("SASRec", True),
    "RecBole SASRec, detection off": ("SASRec", False),
}
OURS = {
    "GRU4RecSoftmax, prefix": ("GRU4RecSoftmax", {"train_mode": "prefix"}),
    "GRU4RecSoftmax": ("GRU4RecSoftmax", {}),
    "GRU4RecMoS": ("GRU4RecMoS", {}),
    "SASRecSoftmax, prefix": ("SASRecSoftmax", {"train_mode": "prefix"}),
    "SASRecSoftmax": ("SASRecSoftmax", {}),
    "SASRecMoS": ("SASRecMoS", {}),
}


class FirstSteps:
    """The first batches of a loader, as often as it is gone through."""

    def __init__(self, loader, n_steps: int) -> None:
        self.loader, self.n_steps = loader, n_steps

    def __getattr__(self, name: str):
        return getattr(self.loader, name)

    def __iter__(self):
        return islice(iter(self.loader), self.n_steps)

    def __len__(self) -> int:
        return min(self.n_steps, len(self.loader))


def stock_recbole(model: str, folder: str, dataset: str = "ml-100k", **changes):
    """Returns RecBole's configuration, its trainer class, its model, and its loaders: training, validation, test."""
    sys.argv = sys.argv[:1]  # RecBole's Config reads it
    os.chdir(folder)  # RecBole's Trainer writes log_tensorboard/ where it stands
    compat.apply()
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.trainer import Trainer
    from recbole.utils import get_model, init_seed

    settings = {
        "train_neg_sample_args": None,
        "valid_metric": "NDCG@10",
        "topk": [10, 100],
        "epochs": 300,
        "show_progress": False,
        "metric_decimal_place": 8,
        "checkpoint_dir": folder,
        **changes,
    }
    config = Config(model=model, dataset=dataset, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    loaders = data_preparation(config, create_dataset(config))
    return config, Trainer, get_model(model)(config, loaders[0].dataset), *loaders


def stock_curve(model: str, folder: str) -> list[dict[str, float]]:
    """Returns the validation metrics of every epoch of a stock run to its early stopping."""
    trainer_class: Any
    config, trainer_class, net, train, valid, _ = stock_recbole(model, folder)
    torch.autograd.set_detect_anomaly(False)  # which changes seconds, not numbers
    log: list[dict[str, float]] = []

    class Noting(trainer_class):
        def _valid_epoch(self, *arguments, **options):
            score, result = super()._valid_epoch(*arguments, **options)
            log.append({"epoch": len(log) + 1} | {name: float(value) for name, value in result.items()})
            print(json.dumps(log[-1]), file=sys.stderr, flush=True)
            return score, result

    Noting(config, net).fit(train, valid, verbose=False)
    return log


def stock_speed(model: str, as_published: bool, n_steps: int, folder: str) -> dict[str, float]:
    """Returns targets per second of stock RecBole's training, and the process's peak memory."""
    config, trainer_class, net, train, *_ = stock_recbole(model, folder)
    torch.autograd.set_detect_anomaly(as_published)
    trainer = trainer_class(config, net)
    trainer._train_epoch(FirstSteps(train, 1), 0)
    steps = FirstSteps(train, n_steps)
    started = time.perf_counter()
    trainer._train_epoch(steps, 0)
    taken = time.perf_counter() - started
    # RecBole's batches are full except the last of an epoch.
    n_targets = min(len(steps) * config["train_batch_size"], len(train.dataset))
    return {"targets_per_second": n_targets / taken, "peak_memory_bytes": peak_resident()}


class FirstBatches:
    """A training loader that ends its epochs after some steps, and counts the targets it has given."""

    def __init__(self, loader, n_steps: int) -> None:
        self.loader, self.n_steps, self.given = loader, n_steps, 0
        self.n_targets = loader.n_targets

    def epoch(self, number: int):
        for batch, n_targets in islice(self.loader.epoch(number), self.n_steps):
            self.given += n_targets
            yield batch, n_targets


def our_speed(model: str, overrides: dict, n_steps: int, folder: str) -> dict[str, float]:
    """Returns targets per second of our training, and the process's peak memory."""
    settings = load_settings(model, overrides={"train_batch_size": 2048, **overrides})  # RecBole's
    config = settings.recbole_config(torch.device("cpu"))
    data = SequenceDataset(config)
    split = data.split()
    net = settings.model_class(config, data.training_part(split))
    trainer = BenchmarkTrainer(config, net, Path(folder), "speed", False, time.perf_counter())
    loader = make_train_loader(config, data, split)
    trainer._train_epoch(FirstBatches(loader, 1), 1)
    steps = FirstBatches(loader, n_steps)
    started = time.perf_counter()
    trainer._train_epoch(steps, 2)
    taken = time.perf_counter() - started
    return {"targets_per_second": steps.given / taken, "peak_memory_bytes": peak_resident()}


def our_run(model: str, overrides: dict, threshold: float, output: str) -> dict[str, float]:
    """Returns the training seconds and epochs until validation NDCG@10 first reaches the threshold; NaN if never."""
    reached = {"seconds_to_threshold": float("nan"), "epochs_to_threshold": float("nan")}
    trained = 0.0

    def note(report) -> None:
        nonlocal trained, reached
        trained += report.train_seconds
        if reached["epochs_to_threshold"] != reached["epochs_to_threshold"] and report.valid["NDCG@10"] >= threshold:
            reached = {"seconds_to_threshold": trained, "epochs_to_threshold": report.epoch}

    record = run_experiment(load_settings(model, overrides=overrides), output=output, on_epoch=note)
    return {"best_valid_ndcg": record.valid["NDCG@10"].value, **reached}


def a_round(number: int, curve: pd.DataFrame, n_steps: int, folder: str) -> list[dict]:
    """Returns a row for each thing measured, in turn."""
    rows = []

    def note(entry: str, found: dict[str, float]) -> None:
        rows.append({"round": number, "entry": entry, **found})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)

    for entry, (model, as_published) in STOCK.items():
        note(entry, in_own_process(stock_speed, model, as_published, n_steps, folder))
    for entry, (model, overrides) in OURS.items():
        note(entry, in_own_process(our_speed, model, overrides, n_steps, folder))
    threshold = curve["ndcg@10"].max()
    note(
        "GRU4RecSoftmax, whole run", in_own_process(our_run, "GRU4RecSoftmax", {"seed": number + 1}, threshold, folder)
    )
    return rows


def ratios(table: pd.DataFrame, best_epoch: int, n_targets: int) -> pd.DataFrame:
    """Returns for each round how many times faster ours are than RecBole's model of the same encoder."""
    rows = []
    for _, group in table.groupby("round"):
        speed = group.set_index("entry")["targets_per_second"]
        memory = group.set_index("entry")["peak_memory_bytes"]
        whole = group.set_index("entry").loc["GRU4RecSoftmax, whole run"]
        for entry in OURS:
            stock = "RecBole " + ("GRU4Rec" if entry.startswith("GRU4Rec") else "SASRec")
            row = {
                "entry": entry,
                "throughput": speed[entry] / speed[stock],
                "throughput, detection off": speed[entry] / speed[f"{stock}, detection off"],
                "memory": memory[stock] / memory[entry],
            }
            if entry == "GRU4RecSoftmax":
                for suffix in ("", ", detection off"):
                    recbole_seconds = best_epoch * n_targets / speed[f"RecBole GRU4Rec{suffix}"]
                    row[f"time to NDCG{suffix}"] = recbole_seconds / whole["seconds_to_threshold"]
            rows.append(row)
    return pd.DataFrame(rows).groupby("entry", sort=False).median().reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="train stock RecBole to its early stopping")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16, help="of training that are measured")
    parser.add_argument("--output", type=Path, default=Path("results/train_speed"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    # As the command line does, for both sides: the processes started below inherit it.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    curve_file = options.output / "recbole_GRU4Rec_curve.csv"
    with tempfile.TemporaryDirectory() as folder:
        if options.full:
            pd.DataFrame(in_own_process(stock_curve, "GRU4Rec", folder)).to_csv(curve_file, index=False)
        if not curve_file.exists():
            parser.error(f"{curve_file} is missing; run with --full first")
        curve = pd.read_csv(curve_file)
        rows = [row for number in range(options.rounds) for row in a_round(number, curve, options.steps, folder)]
        config = load_settings("GRU4RecSoftmax").recbole_config(torch.device("cpu"))
        n_targets = SequenceDataset(config).split().train.n_targets
    table = pd.DataFrame(rows).assign(device=device_name(torch.device("cpu")), versions=versions())
    table.to_csv(options.output / "rounds.csv", index=False, float_format="%.6g")
    best_epoch = int(curve["ndcg@10"].to_numpy().argmax()) + 1
    print(f"RecBole's GRU4Rec: best validation NDCG@10 {curve['ndcg@10'].max():.4f} in epoch {best_epoch}")
    reached = table["epochs_to_threshold"].dropna().tolist()
    print(f"ours reaches it in epoch {statistics.median(reached) if reached else 'none'} (median of the rounds)")
    print("times better than stock RecBole, medians of the rounds:")
    print(ratios(table, best_epoch, n_targets).to_markdown(index=False, floatfmt=".1f"))


if __name__ == "__main__":
    main()
