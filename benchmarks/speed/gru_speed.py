"""Time of the hand-written GRU, forward and backward, over PyTorch's.

    OMP_NUM_THREADS=1 python benchmarks/speed/gru_speed.py

Of one layer of width --hidden without biases, at several numbers and lengths of sequences. In turns; medians of the
ratios of each turn; the process's own time, so that a neighbour matters little. Writes results/gru_speed/gru_speed.csv.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from measure import device_name, versions
from torch import nn

from mos_recbole.models.gru import stacked_gru

SHAPES = ((4, 50), (12, 50), (24, 50), (41, 50), (64, 50), (4, 128), (8, 128), (16, 128))


def taken(states: Callable[[], torch.Tensor], upstream_BLh: torch.Tensor) -> float:
    """Returns the seconds of states and their gradients."""
    started = time.process_time()
    states().backward(upstream_BLh)
    return time.process_time() - started


def compare(rows: int, length: int, options: argparse.Namespace) -> dict[str, object]:
    """Returns the ratio at a number of sequences of one length."""
    torch.manual_seed(0)
    gru = nn.GRU(options.width, options.hidden, bias=False, batch_first=True)
    input_BLi = torch.randn(rows, length, options.width, requires_grad=True)
    upstream_BLh = torch.randn(rows, length, options.hidden)
    ways = (lambda: stacked_gru(input_BLi[None], [gru])[0], lambda: gru(input_BLi)[0])
    turns = [[taken(way, upstream_BLh) for way in ways] for _ in range(options.rounds + 3)][3:]
    ratios = [ours / theirs for ours, theirs in turns]
    shape = {"sequences": rows, "length": length, "width": options.width, "hidden": options.hidden}
    found = {"over_pytorch": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}
    where = {"rounds": options.rounds, "device": device_name(torch.device("cpu")), "versions": versions()}
    return {**shape, **found, **where}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--output", type=Path, default=Path("results/gru_speed"))
    options = parser.parse_args()
    table = pd.DataFrame([compare(rows, length, options) for rows, length in SHAPES])
    options.output.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.output / "gru_speed.csv", index=False, float_format="%.3g")
    print(table.drop(columns="versions").to_markdown(index=False, floatfmt=".2f"))


if __name__ == "__main__":
    main()
