"""From which planted rank over the width, and with how much data an item, does a mixture of softmaxes win?

    python benchmarks/studies/planted_rank.py --work /tmp/planted                                   # the map
    python benchmarks/studies/planted_rank.py --work /tmp/planted --ranks 4 64 --per-item 1000     # and two cells more

The same command goes on where it was interrupted, and cells that runs.csv already has are kept beside new ones.

Every cell of the map is a rank R and a number of interactions an item; for every seed it has a data set of its own
(`mos-recbole synth` with its defaults), on which GRU4Rec of width d is trained, with the same seed, with a softmax, a
mixture of contexts and a mixture of softmaxes. The learning rate is chosen for each cell and model by validation on the
first seed's data, out of the same rates. All have an output table of their own; windows are of one item, which is all
that the truth depends on, so that the encoder is a free vector of width d an item.

A replicate, the unit of the tests, is a seed: a process, its log and a training. Two models' difference in the test
loss (mean negative log-probability of the test targets, nats) or in Recall@10 is tested by a paired t test over
replicates. The share of the gap is (loss of the rival - loss of the mixture of softmaxes) / (loss of the rival - best
achievable loss), of the means over replicates; empty where there is no gap to speak of.

Writes runs.csv (a line a run), cells.csv (a line a cell and rival). Data and runs stay below --work.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mos_recbole import run_experiment
from mos_recbole.evaluation import holm
from mos_recbole.results import RunResult
from mos_recbole.synthetic import read_truth, write_planted

WIDTH = 4
MEAN_LENGTH = 10
# Below it, in nats or in Recall, there is nothing to take a share of.
SMALLEST_GAP = 0.02
SOFTMAX, MOC, MOS = "GRU4RecSoftmax", "GRU4RecMoC", "GRU4RecMoS"
MODELS: dict[str, dict[str, Any]] = {SOFTMAX: {}, MOC: {"mos_heads": 4}, MOS: {"mos_heads": 4}}
RATES = (0.01, 0.03)
SETTINGS: dict[str, Any] = {
    **{"embedding_size": WIDTH, "hidden_size": 32, "tie_weights": False, "dropout_prob": 0.0},
    **{"MAX_ITEM_LIST_LENGTH": 1, "epochs": 150, "stopping_step": 20, "valid_metric": "NDCG@100"},
    **{"lr_schedule": "constant", "warmup": 0.0},
}


@dataclass(frozen=True)
class Cell:
    """One place of the map: items, the rank of their log-probabilities, and how many interactions an item has."""

    items: int
    rank: int
    per_item: int

    def data(self, work: Path, seed: int) -> Path:
        """Returns the folder of a seed's data set, made where it is not there."""
        folder = work / "data" / f"items{self.items}-rank{self.rank}-per{self.per_item}-seed{seed}"
        if not folder.exists():
            n_users = round(self.items * self.per_item / MEAN_LENGTH)
            folder.parent.mkdir(parents=True, exist_ok=True)
            write_planted(
                folder, rank=self.rank, n_users=n_users, n_items=self.items, mean_length=MEAN_LENGTH, seed=seed
            )
        return folder

    @property
    def batch_size(self) -> int:
        """Targets a step: some twenty steps an epoch, but no fewer than 64 and no more than 256 targets."""
        return int(np.clip(2 ** round(np.log2(self.items * self.per_item / 24)), 64, 256))


def train(cell: Cell, model: str, rate: float, seed: int, work: Path) -> RunResult:
    """Returns the record of one run; one that is there already is read."""
    settings = SETTINGS | MODELS[model] | {"learning_rate": rate, "seed": seed, "train_batch_size": cell.batch_size}
    return run_experiment(
        model, str(cell.data(work, seed)), output=work / "results", device="cpu", resume=True, **settings
    )


def cell_runs(cell: Cell, seeds: list[int], work: Path) -> Iterator[dict[str, Any]]:
    """Yields a row a run of a cell: for each model all rates with the first seed, then the best one with the others."""
    for model in MODELS:
        tried = {rate: train(cell, model, rate, seeds[0], work) for rate in RATES}
        best = max(RATES, key=lambda rate: tried[rate].valid[SETTINGS["valid_metric"]].value)
        for rate, record in tried.items():
            yield row(cell, record, chosen=rate == best, work=work)
        for seed in seeds[1:]:
            yield row(cell, train(cell, model, best, seed, work), chosen=True, work=work)


def row(cell: Cell, record: RunResult, *, chosen: bool, work: Path) -> dict[str, Any]:
    """Returns what a run's line of the table says."""
    truth, _, _ = read_truth(cell.data(work, record.seed))
    best = truth["leave_one_out"]["test"]
    log = record.training_log().set_index("epoch")
    return {
        **{"items": cell.items, "rank": cell.rank, "rank_over_width": cell.rank / WIDTH, "per_item": cell.per_item},
        **{"seed": record.seed, "model": record.model, "learning_rate": record.settings["learning_rate"]},
        **{"chosen": chosen, "interactions": truth["log"]["interactions"], "queries": len(record.outcomes())},
        "entropy": truth["entropy"],
        "popularity_loss": truth["popularity_loss"],
        "train_loss": log.loss[record.best_epoch],
        "test_loss": -record.outcomes()["log_probability"].mean(),
        "best_loss": best["loss"],
        "recall": record.test["Recall@10"].value,
        "best_recall": best["Recall@10"],
        "ndcg": record.test["NDCG@10"].value,
        "best_ndcg": best["NDCG@10"],
        "valid_ndcg100": record.valid["NDCG@100"].value,
        **{"best_epoch": record.best_epoch, "epochs": record.epochs, "parameters": record.parameters},
        **{"train_seconds": round(record.train_seconds, 2), "run_id": record.run_id},
    }


def compare(runs: pd.DataFrame, rivals: list[str], mos: str) -> pd.DataFrame:
    """Returns a line a cell and rival of the mixture of softmaxes: differences over replicates, with their tests.

    p (Holm) is corrected for the cells of one rival and metric.
    """
    lines = []
    chosen = runs[runs.chosen]
    for (rank, per_item), cell in chosen.groupby(["rank", "per_item"]):
        table = cell.pivot(index="seed", columns="model", values=["test_loss", "recall", "best_loss", "best_recall"])
        for rival in rivals:
            if not {rival, mos} <= set(cell.model):
                continue
            line: dict[str, Any] = {"rank": rank, "rank_over_width": cell.rank_over_width.iloc[0], "per_item": per_item}
            line |= {"rival": rival, "replicates": len(table), "popularity_loss": cell.popularity_loss.mean()}
            for value in ("test_loss", "recall"):
                ours, theirs = table[value][mos], table[value][rival]
                best = table["best_" + value.removeprefix("test_")][mos].mean()
                line |= {f"best_{value}": best, f"{value}_rival": theirs.mean(), f"{value}_mos": ours.mean()}
                line |= {f"{value}_{name}": number for name, number in paired(theirs, ours).items()}
                gap = best - theirs.mean()
                share = (ours - theirs).mean() / gap if abs(gap) >= SMALLEST_GAP else np.nan
                line[f"{value}_share_of_gap"] = share
            lines.append(line)
    cells = pd.DataFrame(lines)
    for value in ("test_loss", "recall"):
        adjusted = cells.groupby("rival")[f"{value}_p"].transform(lambda p: holm(p.tolist()))
        cells.insert(list(cells.columns).index(f"{value}_p") + 1, f"{value}_p_holm", adjusted)
    return cells


def paired(first: pd.Series, second: pd.Series) -> dict[str, float]:
    """Returns second less first over replicates: mean, 95 % interval, in standard deviations, p of a paired t test."""
    difference = (second - first).to_numpy()
    mean, spread = difference.mean(), difference.std(ddof=1)
    if spread <= 1e-12:
        return {"difference": mean, "low": mean, "high": mean, "d": np.nan, "p": float(abs(mean) <= 1e-12)}
    test = stats.ttest_1samp(difference, 0.0)
    low, high = test.confidence_interval(0.95)
    return {"difference": mean, "low": low, "high": high, "d": mean / spread, "p": test.pvalue}


def write_tables(rows: list[dict[str, Any]], output: Path) -> pd.DataFrame:
    """Returns the table of cells; writes it and the runs. Cells that the files have already stay."""
    output.mkdir(parents=True, exist_ok=True)
    runs = pd.DataFrame(rows)
    cell = ["items", "rank", "per_item"]
    if (output / "runs.csv").exists():
        earlier = pd.read_csv(output / "runs.csv")
        new = pd.MultiIndex.from_frame(runs[cell])
        runs = pd.concat([earlier[~pd.MultiIndex.from_frame(earlier[cell]).isin(new)], runs])
    runs = runs.sort_values([*cell, "model", "seed", "learning_rate"], ignore_index=True)
    runs.round(6).to_csv(output / "runs.csv", index=False, lineterminator="\n")
    cells = compare(runs, [SOFTMAX, MOC], MOS)
    cells.round(6).to_csv(output / "cells.csv", index=False, lineterminator="\n")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for data sets and runs")
    parser.add_argument("--output", type=Path, default=Path("results/planted_rank"), metavar="FOLDER", help="of tables")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--ranks", type=int, nargs="+", default=[3, 4, 8, 16, 64])
    parser.add_argument("--per-item", type=int, nargs="+", default=[10, 30, 100, 300])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    options = parser.parse_args()
    cells = [Cell(options.items, rank, per_item) for per_item, rank in product(options.per_item, options.ranks)]
    rows: list[dict[str, Any]] = []
    for number, cell in enumerate(cells, start=1):
        for line in cell_runs(cell, options.seeds, options.work):
            rows.append(line)
            print(
                f"[{number}/{len(cells)}] rank {cell.rank}, {cell.per_item} an item, {line['model']} "
                f"rate {line['learning_rate']:g} seed {line['seed']}: test loss {line['test_loss']:.4f} "
                f"(best {line['best_loss']:.4f}), Recall@10 {line['recall']:.4f} (best {line['best_recall']:.4f}), "
                f"{line['epochs']} epochs, {line['train_seconds']:.1f} s",
                flush=True,
            )
        table = write_tables(rows, options.output)
    columns = ["rank_over_width", "per_item", "rival", "test_loss_difference", "test_loss_p", "test_loss_share_of_gap"]
    print(table[[*columns, "recall_difference", "recall_p"]].round(4).to_string(index=False))


if __name__ == "__main__":
    main()
