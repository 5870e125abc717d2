"""Training of several trials as one beside the same trials in turn: ratios of throughput.

    OMP_NUM_THREADS=1 python benchmarks/speed/fused_speed.py

A round trains some steps of every case both ways, on ml-100k, the two in turns. The trials of a case have one seed, so
that they share their batches and differ in the learning rate, or a seed each. On a CPU times are the process's own, so
that a neighbour matters little. Writes results/fused_speed/.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from measure import device_name, seconds, versions
from recbole.utils import init_seed
from rich.progress import track

from mos_recbole.data import SequenceDataset, Split
from mos_recbole.experiment import load_settings
from mos_recbole.training import (
    FusedTrial,
    Selection,
    make_train_loader,
    make_trainer,
    model_data,
    random_state,
    train_fused,
)

NARROW_GRU = {"embedding_size": 16, "hidden_size": 16}
NARROW_SASREC = {"hidden_size": 16, "inner_size": 32}
MODELS = {
    "GRU4RecSoftmax, d = 16": ("GRU4RecSoftmax", NARROW_GRU),
    "SASRecSoftmax, d = 16": ("SASRecSoftmax", NARROW_SASREC),
    "GRU4RecSoftmax": ("GRU4RecSoftmax", {}),
    "GRU4RecMoS": ("GRU4RecMoS", {}),
    "SASRecSoftmax": ("SASRecSoftmax", {}),
}


class FirstSteps:
    """A training loader that ends its epochs after some steps."""

    def __init__(self, loader: Any, n_steps: int) -> None:
        self.loader, self.n_steps, self.n_targets = loader, n_steps, loader.n_targets

    def epoch(self, number: int) -> Iterator[tuple[Any, int]]:
        return itertools.islice(self.loader.epoch(number), self.n_steps)


@cache
def ml_100k() -> tuple[SequenceDataset, Split]:
    """Returns the data, which all models here see alike."""
    data = SequenceDataset(load_settings("GRU4RecSoftmax").recbole_config(torch.device("cpu")))
    return data, data.split()


def make_trials(
    name: str, batch_size: int, n_trials: int, seeds: str, n_steps: int, device: torch.device, folder: Path
) -> list[FusedTrial]:
    """Returns trials of a case, fresh."""
    model, sizes = MODELS[name]
    data, split = ml_100k()
    selection = Selection(lambda: {"NDCG@10": 0.0}, "NDCG@10", higher_is_better=True)
    trials: list[FusedTrial] = []
    loaders: dict[int, FirstSteps] = {}
    for number in range(n_trials):
        seed = 1 if seeds == "equal" else 1 + number
        own = {"epochs": 1, "train_batch_size": batch_size, "seed": seed, "learning_rate": 0.001 * (1 + number)}
        config = load_settings(model, overrides={**sizes, **own}).recbole_config(device)
        init_seed(seed, True)
        net = config["model_class"](config, model_data(config, data, split)).to(device)
        trainer = make_trainer(config, net, folder / str(number), "", False, time.perf_counter())
        if seed not in loaders:
            loaders[seed] = FirstSteps(make_train_loader(config, data, split), n_steps)
        (folder / str(number)).mkdir(exist_ok=True)
        trials.append(FusedTrial(trainer, loaders[seed], selection, lambda _: None, random_state(device)))
    return trials


def in_turn(trials: list[FusedTrial]) -> None:
    for trial in trials:
        trial.trainer.fit(trial.train_loader, trial.selection)


def as_one(trials: list[FusedTrial]) -> None:
    assert all(diverged is None for _, diverged in train_fused(trials))


def taken(function: Any, trials: list[FusedTrial], device: torch.device) -> float:
    """Returns the seconds of one call."""
    if device.type != "cpu":
        return seconds(lambda: function(trials), device)
    started = time.process_time()
    function(trials)
    return time.process_time() - started


def ratio(case: tuple[str, int, int, str], n_steps: int, device: torch.device) -> float:
    """Returns the throughput of trials that are trained as one over that of the same in turn."""
    times = []
    for function in (as_one, in_turn):
        with tempfile.TemporaryDirectory() as folder:
            times.append(taken(function, make_trials(*case, n_steps, device, Path(folder)), device))
    return times[1] / times[0]


def ratios_table(found: dict[tuple, list[float]]) -> pd.DataFrame:
    """Returns a row for each case, with the median of its rounds."""
    return pd.DataFrame(
        {
            **dict(zip(("model", "batch", "trials", "seeds"), case, strict=True)),
            "fused_over_in_turn": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
            "rounds": len(ratios),
        }
        for case, ratios in found.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--targets", type=int, default=4096, help="of each trial; two batches at least")
    parser.add_argument("--trials", type=int, nargs="+", default=[4])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[256, 2048])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--output", type=Path, default=Path("results/fused_speed"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    found: dict[tuple, list[float]] = {
        case: []
        for case in itertools.product(options.models, options.batch_sizes, options.trials, ("equal", "different"))
    }
    for _ in range(options.rounds):
        for case, ratios in track(found.items(), "cases", transient=True):
            ratios.append(ratio(case, max(2, options.targets // case[1]), options.device))
        table = ratios_table(found)
        table.assign(targets=options.targets, device=device_name(options.device), versions=versions()).to_csv(
            options.output / "fused_speed.csv", index=False, float_format="%.3g"
        )
    print("throughput of trials that are trained as one over that of the same in turn, medians of the rounds:")
    print(table.to_markdown(index=False, floatfmt=".2f"))


if __name__ == "__main__":
    main()
