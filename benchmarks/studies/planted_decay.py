"""At which decay of the singular values does a mixture of softmaxes stop winning? Planted logs nearer to real ones.

    OMP_NUM_THREADS=1 python benchmarks/studies/planted_decay.py                    # about ten minutes of one core
    python benchmarks/studies/planted_decay.py --real results/ml-100k               # and the decay of trained runs

The interaction of contexts and items has singular values k^-a (`mos-recbole synth --decay`), 1,000 items, rank 16 times
the width d = 16. A context is the last three items: what they say is their weighted sum, the latest counts most. The
data are endless, that is, the true probabilities of 1,000 contexts stand for counts; a context has a free vector. So
what is measured is what a head can represent and Adam finds in these steps: the most that rank could give, before an
encoder and finite data take their part. MoC has the mixture's parameters and a softmax's rank.

A gap is the mean over contexts of a head's cross-entropy with the truth, less the truth's entropy, in nats. Differences
are paired by context and process; intervals are over contexts and processes (`evaluation.mean_interval`).

The slope is what a trained model shows too: of the centred log-probabilities' logarithmic singular values over log k,
k from 2 to d, by least squares. `--real` measures it on trained runs that have checkpoints.

Writes decays.csv (a line a decay), fits.csv (a line a fit), real.csv, planted_decay.png and .svg.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure as Drawing
from planted_map import FreeContexts
from torch.optim.lr_scheduler import CosineAnnealingLR

from mos_recbole.evaluation import mean_interval
from mos_recbole.experiment.spectra import SpectrumPlan, measure_run
from mos_recbole.heads import MoCHead, MoSHead, SoftmaxHead
from mos_recbole.heads.mixture import MixtureHead
from mos_recbole.report.figures import STYLE, Figure, add_legend, model_looks, save_figure
from mos_recbole.results import find_records
from mos_recbole.synthetic import plant

SOFTMAX, MOC, MOS = "softmax", "MoC", "MoS"
WIDTH = 16
# Of the last items in a context, the latest first; the sum of their squares is 1, as with one item.
MEMORY = np.sqrt(np.array([0.6, 0.25, 0.15]))
RATE, STEPS = 0.06, 300


@dataclass(frozen=True)
class Truth:
    """log p [C, V] of contexts of several items, and how often each context occurs, [C]."""

    log_prob: np.ndarray
    share: np.ndarray

    @classmethod
    def draw(cls, rank: int, n_items: int, decay: float, seed: int) -> "Truth":
        """Returns as many contexts as items, whose items have the process's own shares."""
        generator = np.random.default_rng(seed)
        process = plant(rank, n_items, generator, decay=decay)
        items = generator.choice(n_items, (n_items, len(MEMORY)), p=process.stationary)
        # The last column is the normaliser's; the first, popularity's, is a mean and not a sum.
        weights = np.tile(MEMORY[:, None], (1, rank - 1))
        weights[:, 0] = MEMORY / MEMORY.sum()
        context = np.einsum("cmr,mr->cr", process.context_factors[items, :-1], weights)
        logits = context @ process.item_factors[:, :-1].T
        logits -= logits.max(axis=1, keepdims=True)
        return cls(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), np.full(n_items, 1 / n_items))

    @property
    def entropy(self) -> np.ndarray:
        """Of every context, [C]."""
        return -(np.exp(self.log_prob) * self.log_prob).sum(axis=1)


def make_head(name: str, n_items: int) -> MixtureHead:
    """Returns a head of the width d."""
    if name == SOFTMAX:
        return SoftmaxHead(n_items, WIDTH)
    return (MoSHead if name == MOS else MoCHead)(n_items, WIDTH, n_components=4)


def fit(name: str, truth: Truth, seed: int) -> np.ndarray:
    """Returns the log-probabilities [C, V] of a head that was fitted to the truth."""
    torch.manual_seed(seed)
    n_items = truth.log_prob.shape[1]
    model = FreeContexts(make_head(name, n_items), n_items)
    wanted = torch.from_numpy(truth.share[:, None] * np.exp(truth.log_prob)).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (-(wanted * model()).sum()).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        log_prob: np.ndarray = model().double().numpy()
    return log_prob


def slope(singular: np.ndarray) -> float:
    """Returns a of singular values that fall like k^-a from the second to the d-th, by least squares."""
    k = np.arange(2, WIDTH + 1)
    return -float(np.polyfit(np.log(k), np.log(singular[1:WIDTH]), 1)[0])


def centred_values(log_prob: np.ndarray) -> np.ndarray:
    """Returns the singular values of log-probabilities less the means of rows and columns."""
    centred = log_prob - log_prob.mean(axis=1, keepdims=True)
    return np.linalg.svd(centred - centred.mean(axis=0), compute_uv=False)


def decay_line(decay: float, rank: int, n_items: int, seeds: list[int]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the line of a decay, and one for every fit."""
    gaps: dict[str, list[np.ndarray]] = {}
    fits = []
    for seed in seeds:
        truth = Truth.draw(rank, n_items, decay, seed)
        of_truth = centred_values(truth.log_prob)
        beyond = float((of_truth[WIDTH:] ** 2).sum() / (of_truth**2).sum())
        for name in (SOFTMAX, MOC, MOS):
            log_prob = fit(name, truth, seed)
            gap = -(np.exp(truth.log_prob) * log_prob).sum(axis=1) - truth.entropy
            gaps.setdefault(name, []).append(gap)
            own = {"decay": decay, "seed": seed, "head": name, "gap": gap.mean(), "entropy": truth.entropy.mean()}
            of_truth_line = {"truth's slope": slope(of_truth), "truth's share beyond d": beyond}
            fits.append(own | {"slope": slope(centred_values(log_prob))} | of_truth_line)
            print(f"a = {decay:g}, seed {seed}, {name}: gap {gap.mean():.4f} nats", flush=True)
    frame = pd.DataFrame(fits)
    line: dict[str, Any] = {"decay": decay, "truth's share beyond d": frame["truth's share beyond d"].mean()}
    line |= {f"slope, {name}": frame.loc[frame["head"] == name, "slope"].mean() for name in gaps}
    contexts = np.arange(n_items)
    values = {f"gap, {name}": np.stack(found) for name, found in gaps.items()}
    values |= {f"{MOS} less {rival}": np.stack(gaps[MOS]) - np.stack(gaps[rival]) for rival in (SOFTMAX, MOC)}
    for name, value_SC in values.items():
        found = mean_interval(value_SC, contexts)
        line |= {name: found.mean, f"{name} low": found.low, f"{name} high": found.high}
    return line, fits


def real_lines(folders: list[Path]) -> pd.DataFrame:
    """Returns a line for every trained run with a checkpoint: the slope of its centred spectrum."""
    rows = []
    for record in (record for folder in folders for record in find_records(folder)):
        singular = measure_run(record, SpectrumPlan()).centred.values
        rows.append({"model": record.model, "d": record.width, "seed": record.seed, "slope": slope(singular)})
    return pd.DataFrame(rows)


def figure_of(decays: pd.DataFrame) -> Figure:
    """Returns the figure: the gaps, and what the mixture has less, by the decay."""
    looks = model_looks([SOFTMAX, MOC, MOS])
    with matplotlib.rc_context(STYLE):
        drawing = Drawing(figsize=(10, 4), layout="constrained")
        axes = drawing.subplots(1, 2)
        names = {name: f"gap, {name}" for name in looks}, {rival: f"{MOS} less {rival}" for rival in (SOFTMAX, MOC)}
        titles = "gap to the truth, nats", f"gap, {MOS} less the softmax's and MoC's, nats"
        for ax, shown, title in zip(axes, names, titles, strict=True):
            for name, column in shown.items():
                ends = np.abs(decays[[f"{column} low", f"{column} high"]].to_numpy().T - decays[column].to_numpy())
                look = looks[name]
                ax.errorbar(
                    decays["decay"], decays[column], yerr=ends, color=look.colour, marker=look.marker, capsize=2
                )
            ax.axhline(0, color="0.5", linewidth=0.8)
            ax.set(xlabel="decay a of the singular values", title=title)
        add_legend(drawing, looks)
    caption = "What heads of width 16 lack of planted log-probabilities, by the decay of the singular values."
    return Figure("planted_decay", "Planted singular values that decay", caption, drawing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("results/planted_decay"), metavar="FOLDER")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--rank", type=int, default=16 * WIDTH)
    parser.add_argument("--decays", type=float, nargs="+", default=[0.0, 0.5, 1.0, 1.5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--real", type=Path, nargs="+", metavar="FOLDER", help="trained runs: their slopes alone")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.real:
        found = real_lines(options.real)
        found.round(4).to_csv(options.output / "real.csv", index=False, lineterminator="\n")
        print(found.to_string(index=False))
        return
    lines, fits = [], []
    for decay in options.decays:
        line, of_decay = decay_line(decay, options.rank, options.items, options.seeds)
        lines.append(line)
        fits += of_decay
        decays = pd.DataFrame(lines)
        decays.round(6).to_csv(options.output / "decays.csv", index=False, lineterminator="\n")
        pd.DataFrame(fits).round(6).to_csv(options.output / "fits.csv", index=False, lineterminator="\n")
    save_figure(figure_of(decays), options.output)
    print(decays.round(4).T.to_string())


if __name__ == "__main__":
    main()
