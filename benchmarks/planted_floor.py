"""What each head can say of a planted process at best: no encoder, no sampling, every context a free vector.

    python benchmarks/planted_floor.py

For the processes of planted_rank.py, the vectors of all contexts, the item table and the head's own parameters are
fitted to the true probabilities themselves: the loss is the cross-entropy Σ_i π_i Σ_j p(j|i) (-log q(j|i)) over all
pairs of items, π the stationary distribution, and its least value the entropy. By Adam in single precision with a
falling step, from one random start: what is left of the gap is what the head cannot represent or Adam does not find.
Writes floor.csv: a line a rank, seed and head.
"""

import argparse
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from mos_recbole.heads import MoCHead, MoSHead, SoftmaxHead
from mos_recbole.heads.mixture import MixtureHead
from mos_recbole.synthetic import PlantedProcess, plant

WIDTH = 4
STEPS, RATE = 1500, 0.03


HEADS: dict[str, Callable[[int], MixtureHead]] = {
    "softmax": lambda n_items: SoftmaxHead(n_items, WIDTH, item_bias=False),
    "MoC, K = 4": lambda n_items: MoCHead(n_items, WIDTH, 4, item_bias=False),
    "MoS, K = 4": lambda n_items: MoSHead(n_items, WIDTH, 4, item_bias=False),
    "MoS, K = 8": lambda n_items: MoSHead(n_items, WIDTH, 8, item_bias=False),
}


def cross_entropy(
    head: MixtureHead, context_Vd: torch.Tensor, weight_Vd: torch.Tensor, joint_VV: torch.Tensor
) -> torch.Tensor:
    """Returns the mean negative log-probability of the next item over all pairs, which have the given probabilities."""
    components_VKd, log_prior_VK = head.components(context_Vd)
    log_prob_VKV = torch.log_softmax(components_VKd @ weight_Vd.T, dim=-1)
    return -(joint_VV * torch.logsumexp(log_prior_VK[..., None] + log_prob_VKV, dim=1)).sum()


def fit(head: MixtureHead, process: PlantedProcess) -> float:
    """Returns the loss in the end, in nats."""
    share_V1, chain_VV = process.stationary[:, None], np.exp(process.log_prob(np.arange(process.n_items)))
    joint_VV = torch.from_numpy(share_V1 * chain_VV).float()
    tables = [torch.nn.Parameter(torch.randn(process.n_items, WIDTH) / 2) for _ in range(2)]
    optimizer = torch.optim.Adam([*tables, *head.parameters()], lr=RATE)
    schedule = CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = cross_entropy(head, *tables, joint_VV)
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return float(cross_entropy(head, *tables, joint_VV))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results/planted_rank"), metavar="FOLDER")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--ranks", type=int, nargs="+", default=[3, 4, 8, 16, 64])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for rank, seed in product(options.ranks, options.seeds):
        # As mos-recbole synth draws it.
        process = plant(rank, options.items, np.random.default_rng(seed).spawn(2)[0])
        for name, make_head in HEADS.items():
            torch.manual_seed(seed)
            loss = fit(make_head(options.items), process)
            gap = loss - process.entropy
            place = {"rank": rank, "rank_over_width": rank / WIDTH, "seed": seed, "head": name}
            rows.append(place | {"loss": loss, "entropy": process.entropy, "gap": gap})
            print(f"rank {rank}, seed {seed}, {name}: {loss:.4f}, {gap:.4f} above the entropy", flush=True)
        pd.DataFrame(rows).round(6).to_csv(options.output / "floor.csv", index=False, lineterminator="\n")
    table = pd.DataFrame(rows).pivot_table(index="rank_over_width", columns="head", values="gap", sort=False)
    print(table.round(4).to_string())


if __name__ == "__main__":
    main()
