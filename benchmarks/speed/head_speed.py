"""Time of every head's loss, forward and backward, over the softmax head's.

    OMP_NUM_THREADS=1 python benchmarks/speed/head_speed.py
    OMP_NUM_THREADS=1 python benchmarks/speed/head_speed.py --heads mos moss --items 12101 --rounds 9

Heads with their default settings, fresh, in turns; medians of the ratios to the softmax of the same turn. `full` is the
loss over all items, `sampled` that over --negatives uniform ones. On a CPU times are the process's own, so that a
neighbour matters little. Writes results/head_speed/head_speed.csv, keyed by device.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from measure import device_name, seconds, versions

from mos_recbole.heads import OutputHead
from mos_recbole.losses import UniformSampler
from mos_recbole.models import HEADS

N_LAYERS = 2
KEYS = ["device", "queries", "items", "width", "loss", "head"]


def make_head(name: str, n_items: int, width: int) -> OutputHead:
    """Returns a head with its default settings."""
    spec = HEADS[name]
    torch.manual_seed(0)
    return spec.build({"item_bias": False, **spec.defaults}, n_items, width, N_LAYERS)


def step(name: str, kind: str, options: argparse.Namespace, n_items: int) -> Callable[[], None]:
    """Returns a function that computes a loss and the gradients of everything once."""
    device, width = options.device, options.width
    head = make_head(name, n_items, width).to(device)
    generator = torch.Generator().manual_seed(0)
    shape = (options.queries, N_LAYERS, width) if head.reads_layers else (options.queries, width)
    state = torch.randn(shape, generator=generator).to(device).requires_grad_()
    weight = torch.randn(n_items, width, generator=generator).div_(width**0.5).to(device).requires_grad_()
    target = torch.randint(1, n_items, (options.queries,), generator=generator).to(device)
    if kind == "full":
        return lambda: head.loss(state, weight, target).backward()
    sampler = UniformSampler(n_items, options.negatives)
    return lambda: head.sampled_loss(state, weight, target, *sampler.sample(target)).backward()


def taken(function: Callable[[], None], device: str) -> float:
    """Returns the seconds of one call."""
    if device != "cpu":
        return seconds(function, torch.device(device))
    started = time.process_time()
    function()
    return time.process_time() - started


def compare(kind: str, n_items: int, options: argparse.Namespace) -> pd.DataFrame:
    """Returns a row for every head."""
    steps = {name: step(name, kind, options, n_items) for name in ["softmax", *options.heads]}
    for run in steps.values():
        run()
    ratios: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.rounds):
        times = {name: taken(run, options.device) for name, run in steps.items()}
        for name, one in times.items():
            ratios[name].append(one / times["softmax"])
    place = [device_name(torch.device(options.device)), options.queries, n_items, options.width, kind]
    rows = [
        [*place, name, statistics.median(found), min(found), max(found), options.rounds, versions()]
        for name, found in ratios.items()
    ]
    return pd.DataFrame(rows, columns=[*KEYS, "over_softmax", "lowest", "highest", "rounds", "versions"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--heads", nargs="+", choices=list(HEADS), default=[name for name in HEADS if name != "softmax"]
    )
    parser.add_argument("--items", type=int, nargs="+", default=[1683, 12_101])
    parser.add_argument("--queries", type=int, default=1024)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--negatives", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=Path("results/head_speed"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "head_speed.csv"
    table = pd.read_csv(file) if file.exists() else pd.DataFrame()
    for kind in ("full", "sampled"):
        for n_items in options.items:
            new = compare(kind, n_items, options)
            print(new[[*KEYS[2:], "over_softmax"]].to_string(index=False, header=False), file=sys.stderr)
            table = pd.concat([table, new]).drop_duplicates(KEYS, keep="last")
            table.to_csv(file, index=False, float_format="%.4g")
    print(table.drop(columns="versions").to_markdown(index=False, floatfmt=".2f"))


if __name__ == "__main__":
    main()
