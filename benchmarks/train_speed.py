"""Training speed beside stock RecBole: its own data set, loader, trainer and evaluator, in turns with this package.

    python benchmarks/train_speed.py --full            # RecBole to its early stopping: its curve, about half an hour
    python benchmarks/train_speed.py --rounds 3        # then: RecBole's first epoch, one of our runs, in turns

The curve gives the validation NDCG@10 to reach and the epoch in which RecBole reaches it; its seconds are not used.
RecBole's time to that value is the epoch measured in the same round times that number of epochs.

Importing RecBole's sequential models turns on autograd's anomaly detection (its file sine.py), which is part of what
its users wait for; the epoch is measured as published and with the detection off.

RecBole runs with its defaults for GRU4Rec (batch 2048, Adam, learning rate 0.001) and is validated by NDCG@10, the
metric that our runs select by. Times are seconds of training steps only, on both sides; ratios within one invocation
are what can be quoted. Writes results/train_speed/.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from tabulate import tabulate

from mos_recbole import compat
from mos_recbole.experiment import Messages, load_settings, run_experiment

OURS = {
    "GRU4RecSoftmax": {},
    "GRU4RecMoS": {},
    "GRU4RecSoftmax (prefix)": {"train_mode": "prefix", "learning_rate": 0.001},
}


def stock_recbole(model: str, epochs: int, folder: str, as_published: bool = True) -> list[dict[str, float]]:
    """Returns RecBole's own log: one entry per epoch with its training seconds and validation metrics."""
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
        "epochs": epochs,
        "show_progress": False,
        "metric_decimal_place": 8,
        "checkpoint_dir": folder,
    }
    config = Config(model=model, dataset="ml-100k", config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    train, valid, _ = data_preparation(config, create_dataset(config))
    log: list[dict[str, float]] = []
    model_class = get_model(model)
    torch.autograd.set_detect_anomaly(as_published)

    class Timed(Trainer):
        def _train_epoch(self, *arguments, **options):
            started = time.perf_counter()
            loss = super()._train_epoch(*arguments, **options)
            log.append({"epoch": len(log) + 1, "train_seconds": time.perf_counter() - started})
            return loss

        def _valid_epoch(self, *arguments, **options):
            score, result = super()._valid_epoch(*arguments, **options)
            log[-1] |= {name: float(value) for name, value in result.items()}
            print(json.dumps(log[-1]), file=sys.stderr, flush=True)
            return score, result

    Timed(config, model_class(config, train.dataset)).fit(train, valid, verbose=False)
    return log


def in_own_process(function, *arguments):
    """Returns the function's value, computed in a fresh process, so that neither side warms anything for the other."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def our_run(model: str, overrides: dict, threshold: float, output: str) -> dict[str, float]:
    """Returns training seconds until validation NDCG@10 first reaches the threshold, and seconds per epoch."""
    seconds, reached = 0.0, None
    epochs: list[float] = []

    def note(report) -> None:
        nonlocal seconds, reached
        seconds += report.train_seconds
        epochs.append(report.train_seconds)
        if reached is None and report.valid["NDCG@10"] >= threshold:
            reached = {"seconds_to_threshold": seconds, "epochs_to_threshold": report.epoch}

    record = run_experiment(load_settings(model, overrides=overrides), output=output, messages=Messages(epoch=note))
    return {
        "best_valid_ndcg": record.valid["NDCG@10"].value,
        "epochs": record.epochs,
        "train_seconds": record.train_seconds,
        "seconds_per_epoch": statistics.median(epochs),
        **(reached or {"seconds_to_threshold": float("nan"), "epochs_to_threshold": float("nan")}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="train stock RecBole to its early stopping")
    parser.add_argument("--rounds", type=int, default=3, help="of stock epoch and our runs, in turns")
    parser.add_argument("--models", nargs="+", default=["GRU4RecSoftmax"], choices=list(OURS))
    parser.add_argument("--output", type=Path, default=Path("results/train_speed"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    # As the command line does, for both sides: the processes started below inherit it.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    curve_file = options.output / "recbole_GRU4Rec_curve.csv"
    with tempfile.TemporaryDirectory() as folder:
        if options.full:
            # The detection changes seconds, not numbers.
            curve = pd.DataFrame(in_own_process(stock_recbole, "GRU4Rec", 300, folder, False))
            curve.to_csv(curve_file, index=False)
        if not curve_file.exists():
            parser.error(f"{curve_file} is missing; run with --full first")
        curve = pd.read_csv(curve_file)
        threshold, best_epoch = curve["ndcg@10"].max(), int(curve["ndcg@10"].idxmax()) + 1
        rows = []
        for number in range(1, options.rounds + 1):
            stock = {
                name: in_own_process(stock_recbole, "GRU4Rec", 1, folder, as_published)[0]["train_seconds"]
                for name, as_published in (
                    ("recbole_seconds_per_epoch", True),
                    ("recbole_seconds_per_epoch_detection_off", False),
                )
            }
            for name in options.models:
                ours = in_own_process(our_run, name.split(" ")[0], OURS[name] | {"seed": number}, threshold, folder)
                rows.append({"model": name, "seed": number, **stock, **ours})
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    # RecBole's epoch of the same round, times the epochs it needs to its best.
    for suffix in ("", "_detection_off"):
        epoch = table[f"recbole_seconds_per_epoch{suffix}"]
        table[f"times_faster_per_epoch{suffix}"] = epoch / table["seconds_per_epoch"]
        table[f"times_faster_to_threshold{suffix}"] = epoch * best_epoch / table["seconds_to_threshold"]
    table["device"] = f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)"
    table["versions"] = f"torch {torch.__version__}, recbole 1.2.1"
    table.to_csv(options.output / "rounds.csv", index=False)
    print(f"RecBole's GRU4Rec: best validation NDCG@10 {threshold:.4f} in epoch {best_epoch} of {len(curve)}")
    medians = table.drop(columns=["seed", "device", "versions"]).groupby("model").median().T
    print(tabulate(medians, headers=["median of the rounds", *medians.columns], floatfmt=".3f"))


if __name__ == "__main__":
    main()
