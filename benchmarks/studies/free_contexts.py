"""Which rank do real pairs of items support? Heads with a free vector for every context, on ml-100k.

    OMP_NUM_THREADS=1 python benchmarks/studies/free_contexts.py                 # about ten minutes of one core

After Weller, Boratko, Naim and Lee, "On the Theoretical Limitations of Embedding-Based Retrieval" (2025), who fit free
vectors to judge what a width can hold without an encoder. Here every context is one item, and what is fitted is which
item follows it: a softmax, a mixture of contexts (MoC) and a mixture of softmaxes (MoS, K = 4) over a free vector of
width r for each context and one for each item, by Adam on all pairs at a time, with a squared penalty on both vectors
(a Gaussian prior of precision 2 λ). The items are those with `--least` interactions or more; pairs are neighbours in
the users' sequences with both items among them.

The users are cut into five folds: a fold is the test once, the next one validation, which chooses λ for each head, rank
and fold, and the other three are training. So every pair is tested once. Intervals are over users
(`evaluation.compare_means` and `mean_interval`), given these five fits.

Writes fits.csv (a line a fit), ranks.csv (a line a head and rank), free_contexts.png and .svg.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure as Drawing
from planted_map import FreeContexts
from torch.optim.lr_scheduler import CosineAnnealingLR

from mos_recbole.data import SequenceDataset
from mos_recbole.evaluation import Difference, compare_means, mean_interval
from mos_recbole.experiment import load_settings
from mos_recbole.heads import MoCHead, MoSHead, SoftmaxHead
from mos_recbole.heads.mixture import MixtureHead
from mos_recbole.report.figures import STYLE, Figure, add_legend, model_looks, save_figure

SOFTMAX, MOC, MOS = "softmax", "MoC", "MoS"
HEADS: dict[str, Callable[[int, int], MixtureHead]] = {
    SOFTMAX: lambda n_items, rank: SoftmaxHead(n_items, rank),
    MOC: lambda n_items, rank: MoCHead(n_items, rank, n_components=4),
    MOS: lambda n_items, rank: MoSHead(n_items, rank, n_components=4),
}
FOLDS = 5
RATE, STEPS = 0.05, 200
K = 10


@dataclass(frozen=True)
class Pairs:
    """Neighbouring items of users, all int64 [P]: the item, the one after it, and the user's number and fold."""

    n_items: int
    context: np.ndarray
    target: np.ndarray
    user: np.ndarray
    fold: np.ndarray

    def counts(self, folds: list[int]) -> torch.Tensor:
        """Returns how often each item follows each in some folds, [V, V]."""
        chosen = np.isin(self.fold, folds)
        counts = torch.zeros(self.n_items, self.n_items)
        places = tuple(torch.from_numpy(one[chosen]) for one in (self.context, self.target))
        return counts.index_put_(places, torch.ones(int(chosen.sum())), accumulate=True)


def read_pairs(dataset: str, least: int, seed: int) -> Pairs:
    """Returns the pairs of a data set's frequent items."""
    sequences = SequenceDataset(load_settings("Pop", dataset).recbole_config(torch.device("cpu"))).sequences
    items, user = sequences.items, np.repeat(np.arange(sequences.n_users), np.diff(sequences.offsets))
    counts = np.bincount(items)
    number = np.cumsum(counts >= least) - 1
    frequent = (counts >= least)[items]
    pair = (user[1:] == user[:-1]) & frequent[1:] & frequent[:-1]
    fold = np.random.default_rng(seed).permutation(np.arange(sequences.n_users) % FOLDS)
    user = user[1:][pair]
    return Pairs(int((counts >= least).sum()), number[items[:-1][pair]], number[items[1:][pair]], user, fold[user])


def fit(head: str, rank: int, decay: float, pairs: Pairs, fold: int) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """Returns the losses on all sides; and of the fold's pairs the loss and whether the target is among the best ten.

    Args:
        head: name of one of `HEADS`.
        rank: r.
        decay: λ, in nats of the training log's likelihood.
        pairs: of all folds.
        fold: that is the test.
    """
    validation = (fold + 1) % FOLDS
    train, valid = (
        pairs.counts([one for one in range(FOLDS) if one not in (fold, validation)]),
        pairs.counts([validation]),
    )
    torch.manual_seed(fold)
    model = FreeContexts(HEADS[head](pairs.n_items, rank), pairs.n_items)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        penalty = decay * (model.context_Vd.square().sum() + model.item_Vd.square().sum())
        ((penalty - (train * model()).sum()) / train.sum()).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        log_q = model()
    losses = {
        f"{name} loss": -float((side * log_q).sum() / side.sum()) for name, side in (("train", train), ("valid", valid))
    }
    chosen = pairs.fold == fold
    context, target = (torch.from_numpy(one[chosen]) for one in (pairs.context, pairs.target))
    hit = torch.zeros_like(log_q).scatter_(1, log_q.topk(K, dim=1).indices, 1.0)
    return losses, -log_q[context, target].numpy(), hit[context, target].numpy()


class Tested:
    """What a head reaches at a rank, pair by pair: with λ as validation chose it in each fold.

    Attributes:
        fits: a line a fold and λ.
        loss, hit: of all pairs, [P].
    """

    def __init__(self, head: str, rank: int, decays: list[float], pairs: Pairs) -> None:
        self.loss, self.hit = np.empty(len(pairs.user)), np.empty(len(pairs.user))
        self.fits: list[dict[str, Any]] = []
        for fold in range(FOLDS):
            chosen = pairs.fold == fold
            found = [(decay, *fit(head, rank, decay, pairs, fold)) for decay in decays]
            best = min(found, key=lambda one: one[1]["valid loss"])
            for decay, losses, loss, hit in found:
                values = {"test loss": loss.mean(), f"Recall@{K}": hit.mean()}
                place = {"head": head, "rank": rank, "fold": fold, "decay": decay, "chosen": decay == best[0]}
                self.fits.append(place | losses | values)
            self.loss[chosen], self.hit[chosen] = best[2:]


def table(tested: dict[tuple[str, int], Tested], pairs: Pairs) -> pd.DataFrame:
    """Returns a line a head and rank: means with intervals; the loss less that of other heads at this rank, and less
    that of this head's best rank by validation."""
    fits = pd.DataFrame([line for one in tested.values() for line in one.fits if line["chosen"]])
    valid = fits.groupby(["head", "rank"])["valid loss"].mean()
    rows = []
    for (head, rank), one in tested.items():
        own = fits[(fits["head"] == head) & (fits["rank"] == rank)]
        best = int(valid[head].idxmin())
        row: dict[str, Any] = {"head": head, "rank": rank, "best rank": best}
        row |= {f"{side} loss": own[f"{side} loss"].mean() for side in ("train", "valid")}
        for name, value in (("test loss", one.loss), (f"Recall@{K}", one.hit)):
            interval = mean_interval(value[None], pairs.user)
            row |= {name: interval.mean, f"{name} low": interval.low, f"{name} high": interval.high}
        rivals = {f"less {rival}": (rival, rank) for rival in (SOFTMAX, MOC) if rival != head and head != SOFTMAX}
        for name, rival in (rivals | {"less best rank": (head, best)}).items():
            row |= _numbers(name, compare_means(tested[rival].loss[None], one.loss[None], pairs.user))
        rows.append(row)
    return pd.DataFrame(rows)


def _numbers(name: str, difference: Difference) -> dict[str, float]:
    return {name: difference.effect, f"{name} low": difference.low, f"{name} high": difference.high}


def figure_of(ranks: pd.DataFrame, fits: pd.DataFrame) -> Figure:
    """Returns the figure: losses by rank, and what MoS and MoC have less than the softmax."""
    looks = model_looks(list(HEADS))
    least = fits[fits["decay"] == fits["decay"].min()].groupby(["head", "rank"], as_index=False)["test loss"].mean()
    with matplotlib.rc_context(STYLE):
        drawing = Drawing(figsize=(11, 4.2), layout="constrained")
        loss, difference = drawing.subplots(1, 2)
        for head, look in looks.items():
            part, weak = ranks[ranks["head"] == head], least[least["head"] == head]
            loss.plot(part["rank"], part["test loss"], color=look.colour, marker=look.marker, markersize=4)
            loss.plot(weak["rank"], weak["test loss"], color=look.colour, linestyle=":", linewidth=1)
            if head != SOFTMAX:
                ends = np.abs(
                    part[["less softmax low", "less softmax high"]].to_numpy().T - part["less softmax"].to_numpy()
                )
                difference.errorbar(
                    part["rank"],
                    part["less softmax"],
                    yerr=ends,
                    color=look.colour,
                    marker=look.marker,
                    markersize=4,
                    capsize=2,
                )
        difference.axhline(0, color="0.5", linewidth=0.8)
        loss.set(title="test loss, nats (dotted: the weakest decay)", xlabel="rank r")
        difference.set(title="test loss less the softmax's of this rank, nats", xlabel="rank r")
        for ax in (loss, difference):
            ax.set_xscale("log", base=2)
            ax.set_xticks(sorted(set(ranks["rank"])), [str(rank) for rank in sorted(set(ranks["rank"]))])
        add_legend(drawing, looks)
    caption = "Losses of heads with free context vectors on real pairs of items, by their rank."
    return Figure("free_contexts", "Free contexts", caption, drawing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results/free_contexts"), metavar="FOLDER")
    parser.add_argument("--dataset", default="ml-100k", metavar="NAME", help="name or folder (default: ml-100k)")
    parser.add_argument("--least", type=int, default=100, help="interactions of an item (default: 100)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3, 5, 8, 12, 16, 24])
    parser.add_argument("--decays", type=float, nargs="+", default=[1.0, 3.0, 10.0], help="λ")
    parser.add_argument("--seed", type=int, default=1, help="of the folds")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    pairs = read_pairs(options.dataset, options.least, options.seed)
    print(f"{pairs.n_items:,} items, {len(pairs.user):,} pairs of {len(np.unique(pairs.user)):,} users")
    tested: dict[tuple[str, int], Tested] = {}
    for rank, head in product(options.ranks, HEADS):
        tested[head, rank] = Tested(head, rank, options.decays, pairs)
        print(f"r = {rank}, {head}: test loss {tested[head, rank].loss.mean():.4f}", flush=True)
    fits = pd.DataFrame([line for one in tested.values() for line in one.fits])
    ranks = table(tested, pairs)
    fits.round(6).to_csv(options.output / "fits.csv", index=False, lineterminator="\n")
    ranks.round(6).to_csv(options.output / "ranks.csv", index=False, lineterminator="\n")
    save_figure(figure_of(ranks, fits), options.output)
    print(ranks.round(4).to_string(index=False))


if __name__ == "__main__":
    main()
