"""Where does a mixture of softmaxes win? The map: planted rank over width against data an item, heads alone.

    python benchmarks/studies/planted_map.py                          # about six minutes of one core

The heads are fitted to logs of `mos-recbole synth` without an encoder: every context, which is one item, has a free
vector of width d, and there is a table of items. What GRU4Rec learns from windows of one item depends on nothing but
how often each item follows each, so the fit is to these counts, of the targets of training in the split leave_one_out,
all at a time, by Adam with a falling step. The step is chosen by the loss on the counts of validation, and so is the
rate, for each cell and head over all replicates. The logs are those of planted_rank.py. The column "inf" is of endless
logs: the true probabilities stand for all counts, and what is left of the gap there is what a head cannot represent, or
Adam does not find.

A replicate, a seed, is a process, its log and a start; differences are tested by a paired t test over replicates, p
corrected by Holm's method for the cells of one rival and metric.
Writes map_runs.csv (a line a fit), map_cells.csv (a line a cell and rival), planted_map.png and .svg.
"""

import argparse
import copy
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Drawing
from planted_rank import MEAN_LENGTH, WIDTH, compare
from torch.func import functional_call, stack_module_state, vmap
from torch.optim.lr_scheduler import CosineAnnealingLR

from mos_recbole.heads import MoCHead, MoSHead, SoftmaxHead
from mos_recbole.heads.mixture import MixtureHead
from mos_recbole.report.figures import STYLE, Figure, save_figure
from mos_recbole.synthetic import PlantedLog, PlantedProcess, draw_log, plant

SOFTMAX, MOC, MOS = "softmax", "MoC", "MoS"
# V more numbers for items and V for contexts than the softmax, where MoC and MoS have K d (d + 1) more.
WIDER = "softmax, d + 1"
HEADS: dict[str, Callable[[int], MixtureHead]] = {
    SOFTMAX: lambda n_items: SoftmaxHead(n_items, WIDTH, item_bias=False),
    WIDER: lambda n_items: SoftmaxHead(n_items, WIDTH + 1, item_bias=False),
    MOC: lambda n_items: MoCHead(n_items, WIDTH, n_components=4, item_bias=False),
    MOS: lambda n_items: MoSHead(n_items, WIDTH, n_components=4, item_bias=False),
}
RATES = (0.02, 0.06)
STEPS, LOOK_EVERY = 1000, 10
K = 10


class FreeContexts(torch.nn.Module):
    """A head over a free vector for every context and an item table; called, it gives log q(j|i), [V, V]."""

    def __init__(self, head: MixtureHead, n_items: int) -> None:
        super().__init__()
        self.head = head
        self.context_Vd, self.item_Vd = (torch.nn.Parameter(torch.randn(n_items, head.width) / 2) for _ in range(2))

    def forward(self) -> torch.Tensor:
        components_VKd, log_prior_VK = self.head.components(self.context_Vd)
        log_prob_VKV = torch.log_softmax(components_VKd @ self.item_Vd.T, dim=-1)
        return torch.logsumexp(log_prior_VK[..., None] + log_prob_VKV, dim=1)


class Problem:
    """A process with the shares of pairs of items, [V, V], among the targets of training, validation and test.

    Args:
        rank: of the process.
        n_items: V.
        per_item: interactions an item; inf for the true shares on all sides.
        seed: of process, log and starts.
    """

    def __init__(self, rank: int, n_items: int, per_item: float, seed: int) -> None:
        self.place = {"items": n_items, "rank": rank, "rank_over_width": rank / WIDTH, "per_item": per_item}
        self.seed = seed
        # As mos-recbole synth draws them.
        of_process, of_log = np.random.default_rng(seed).spawn(2)
        self.process = plant(rank, n_items, of_process)
        self.log_prob = self.process.log_prob(np.arange(n_items))
        if np.isinf(per_item):
            self.train = self.valid = self.test = self.process.stationary[:, None] * np.exp(self.log_prob)
        else:
            log = draw_log(self.process, round(n_items * per_item / MEAN_LENGTH), of_log, mean_length=MEAN_LENGTH)
            self.train, self.valid, self.test = shares(self.process, log)

    def best(self) -> dict[str, float]:
        """Returns what the true probabilities reach on the test."""
        likeliest = np.argsort(-self.log_prob, axis=1)[:, :K]
        recall = np.take_along_axis(self.test, likeliest, axis=1).sum()
        return {"best_loss": -(self.test * self.log_prob).sum(), "best_recall": recall}


def shares(process: PlantedProcess, log: PlantedLog) -> list[np.ndarray]:
    """Returns the share of every pair (item, next item) among the targets of training, validation and test."""
    to_end = np.repeat(log.offsets[1:], log.lengths) - np.arange(len(log.items))
    first = np.zeros(len(log.items), dtype=bool)
    first[log.offsets[:-1]] = True
    found = []
    for side in ((to_end > 2) & ~first, to_end == 2, to_end == 1):
        rows = np.flatnonzero(side)
        counts = np.zeros((process.n_items, process.n_items))
        np.add.at(counts, (log.items[rows - 1], log.items[rows]), 1)
        found.append(counts / counts.sum())
    return found


def fit(make_head: Callable[[int], MixtureHead], rate: float, problems: list[Problem]) -> list[dict[str, Any]]:
    """Returns for each problem what a head reaches at the step that validation chooses; all are fitted at once."""
    n_items = problems[0].process.n_items
    models = []
    for problem in problems:
        torch.manual_seed(problem.seed)
        models.append(FreeContexts(make_head(n_items), n_items))
    parameters, buffers = stack_module_state(models)
    bare = copy.deepcopy(models[0]).to("meta")
    train, valid, test = (
        torch.tensor(np.stack([getattr(problem, side) for problem in problems]), dtype=torch.float32)
        for side in ("train", "valid", "test")
    )
    # Of every problem its own, since Adam has a step of its own for every number.
    optimizer = torch.optim.Adam(parameters.values(), lr=rate)
    schedule = CosineAnnealingLR(optimizer, STEPS)
    found = pd.DataFrame(np.inf, index=range(len(problems)), columns=["valid_loss"])
    for step in range(STEPS + 1):
        log_q = vmap(lambda *state: functional_call(bare, state, ()))(parameters, buffers)
        train_loss = -(train * log_q).sum(dim=(1, 2))
        if step % LOOK_EVERY == 0:
            with torch.no_grad():
                hit = torch.zeros_like(test).scatter_(2, log_q.topk(K, dim=2).indices, 1.0)
                losses = [-(side * log_q).sum(dim=(1, 2)) for side in (valid, test)]
                columns = [train_loss, *losses, (test * hit).sum(dim=(1, 2))]
            names = ["train_loss", "valid_loss", "test_loss", "recall"]
            now = pd.DataFrame({name: column.detach().numpy() for name, column in zip(names, columns, strict=True)})
            now["step"] = step
            better = now["valid_loss"] < found["valid_loss"]
            found = now.where(better, found.reindex(columns=now.columns))
        optimizer.zero_grad()
        train_loss.sum().backward()
        optimizer.step()
        schedule.step()
    return [{str(name): value for name, value in row.items()} for row in found.to_dict("records")]


def rank_runs(rank: int, n_items: int, per_item: list[float], seeds: list[int]) -> pd.DataFrame:
    """Returns a line a fit: all amounts of data, seeds, heads and rates for one rank; `chosen` marks the best rates."""
    problems = [Problem(rank, n_items, amount, seed) for amount, seed in product(per_item, seeds)]
    rows: list[dict[str, Any]] = []
    for (name, make_head), rate in product(HEADS.items(), RATES):
        for problem, values in zip(problems, fit(make_head, rate, problems), strict=True):
            place = problem.place | {"seed": problem.seed, "model": name, "learning_rate": rate}
            truth = {"entropy": problem.process.entropy, "popularity_loss": problem.process.popularity_loss}
            rows.append(place | truth | values | problem.best())
    runs = pd.DataFrame(rows)
    mean = runs.groupby(["per_item", "model", "learning_rate"])["valid_loss"].mean()
    best = mean.groupby(["per_item", "model"]).idxmin()
    key = pd.MultiIndex.from_frame(runs[["per_item", "model", "learning_rate"]])
    return runs.assign(chosen=key.isin(best))


def plot_map(ax: Axes, cells: pd.DataFrame, value: str, title: str, *, lower_is_better: bool, share: bool) -> Axes:
    """Returns the axes with a heat map of differences from one rival: R / d upwards, interactions an item to the right.

    Blue is where the mixture of softmaxes is better; an asterisk: p < .05, corrected for the cells of the map.

    Args:
        ax: to draw on.
        cells: lines of `compare`, of one rival.
        value: "test_loss" or "recall".
        title: of the axes.
        lower_is_better: whether a negative difference is blue.
        share: whether to write the share of the rival's gap that is closed too, where there is a gap.
    """
    names = [f"{value}_difference", f"{value}_p_holm", f"{value}_share_of_gap"]
    difference, p, closed = (
        cells.pivot(index="rank_over_width", columns="per_item", values=name).sort_index() for name in names
    )
    bound = max(0.001, float(np.nanmax(difference.abs().to_numpy())))
    colours = "RdBu_r" if lower_is_better else "RdBu"
    ax.imshow(difference, cmap=colours, norm=Normalize(-bound, bound), origin="lower", aspect="auto")
    p_values, closed_shares = p.to_numpy(), closed.to_numpy()
    for (line, column), number in np.ndenumerate(difference.to_numpy()):
        if np.isnan(number):
            continue
        clear = p_values[line, column] < 0.05
        text = f"{number:+.3f}".replace("-", "−") + ("*" if clear else "")
        if share and np.isfinite(closed_shares[line, column]):
            text += f"\n{100 * closed_shares[line, column]:.0f} %".replace("-", "−")
        colour = "white" if abs(number) > 0.6 * bound else "black"
        weight = "bold" if clear else "normal"
        ax.text(column, line, text, ha="center", va="center", fontsize=8, fontweight=weight, color=colour)
    ax.set_xticks(range(len(difference.columns)), [_amount(float(amount)) for amount in difference.columns])
    ax.set_yticks(range(len(difference.index)), [f"{ratio:g}" for ratio in difference.index])
    ax.set(xlabel="interactions an item", ylabel="planted rank R / width d", title=title)
    ax.grid(visible=False)
    return ax


def _amount(per_item: float) -> str:
    return "endless" if np.isinf(per_item) else f"{per_item:,.0f}"


def figure_of(cells: pd.DataFrame) -> Figure:
    """Returns the figure: test loss and Recall of the mixture of softmaxes less those of softmax and of MoC."""
    with matplotlib.rc_context(STYLE):
        drawing = Drawing(figsize=(11, 10), layout="constrained")
        axes = drawing.subplots(2, 2)
        for line, rival in enumerate((SOFTMAX, MOC)):
            part = cells[cells.rival == rival]
            title = f"test loss, MoS less {rival}, nats; share of the gap closed"
            plot_map(axes[line, 0], part, "test_loss", title, lower_is_better=True, share=True)
            title = f"Recall@{K}, MoS less {rival}"
            plot_map(axes[line, 1], part, "recall", title, lower_is_better=False, share=False)
        drawing.suptitle(
            f"Mixture of softmaxes (MoS, K = 4, d = {WIDTH}) on planted ranks; blue: better; *: p < .05 (Holm)"
        )
    caption = "Test loss and Recall of the mixture of softmaxes less those of softmax and of MoC."
    return Figure("planted_map", "Mixture of softmaxes on planted ranks", caption, drawing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results/planted_rank"), metavar="FOLDER")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--ranks", type=int, nargs="+", default=[64, 4, 8, 16, 3, 32, 5])
    parser.add_argument("--per-item", type=float, nargs="+", default=[10, 30, 100, 300, 1000, np.inf])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    done: list[pd.DataFrame] = []
    for rank in options.ranks:
        done.append(rank_runs(rank, options.items, options.per_item, options.seeds))
        runs = pd.concat(done).sort_values(["rank", "per_item", "model", "seed", "learning_rate"], ignore_index=True)
        runs.round(6).to_csv(options.output / "map_runs.csv", index=False, lineterminator="\n")
        cells = compare(runs, [SOFTMAX, WIDER, MOC], MOS)
        cells.round(6).to_csv(options.output / "map_cells.csv", index=False, lineterminator="\n")
        save_figure(figure_of(cells), options.output)
        columns = ["per_item", "rival", "test_loss_difference", "test_loss_p_holm", "test_loss_share_of_gap"]
        columns += ["recall_difference", "recall_p_holm"]
        print(f"\nrank {rank}, {rank / WIDTH:g} times the width")
        print(cells[cells["rank"] == rank][columns].round(4).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
