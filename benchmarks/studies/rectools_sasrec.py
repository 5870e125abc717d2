"""RecTools' SASRec on a file of interactions, by RecTools' own metrics; needs `pip install 'rectools[torch]'`.

Other scripts call it in RecTools' own environment, which has neither this project nor RecBole:

    python rectools_sasrec.py FILE.inter FOLDER --epochs 10
    python rectools_sasrec.py FILE.inter FOLDER --curve --epochs 300 --seed 1 --filter-viewed

The target is the last item of each user. The first call (other_libraries.py) writes for both values of `filter_viewed`
the lists and RecTools' own metrics. The second (speed/time_to_quality.py) holds out the item before the last, too, and
writes curve.csv: an epoch a row, until validation has not been better for 10 epochs.

Width 64, 50 items a window, 2 blocks and heads, 64 users a batch; the rest is RecTools' defaults: softmax loss, Adam at
0.001, dropout 0.2.
"""

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path

import pandas as pd
import torch
from pytorch_lightning import seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import MRR, NDCG, Recall, calc_metrics
from rectools.models import SASRecModel

sys.path.append(str(Path(__file__).parents[1] / "speed"))
from curve import Curve

CUT_OFFS = (10, 100)
MODEL = {"n_factors": 64, "n_blocks": 2, "n_heads": 2, "session_max_len": 50, "batch_size": 64}
PATIENCE = 10
METRICS = {
    f"{name}@{k}": metric
    for k in CUT_OFFS
    # One target a query: the best list has it first.
    for name, metric in (("Recall", Recall(k)), ("MRR", MRR(k)), ("NDCG", NDCG(k, divide_by_achievable=True)))
}


def read(path: Path) -> pd.DataFrame:
    """Returns a user's interactions in their order, each with the number of those after it."""
    table = pd.read_csv(path, sep="\t", dtype=str)
    table.columns = pd.Index([Columns.User, Columns.Item, "step"])
    table[Columns.Datetime] = pd.to_datetime(table.pop("step").astype(int), unit="s")
    table[Columns.Weight] = 1
    return table.assign(after=table.groupby(Columns.User).cumcount(ascending=False))


def until(table: pd.DataFrame, held_out: int) -> Dataset:
    """Returns all but the last items of each user."""
    return Dataset.construct(table[table["after"] >= held_out].drop(columns="after"))


def write_lists(table: pd.DataFrame, epochs: int, folder: Path) -> None:
    test, dataset = table[table["after"] == 0], until(table, 1)
    model = SASRecModel(**MODEL, epochs=epochs, deterministic=True)
    model.fit(dataset)
    for filter_viewed in (False, True):
        users = test[Columns.User].to_numpy()
        lists = model.recommend(users, dataset, k=max(CUT_OFFS), filter_viewed=filter_viewed)
        name = "rectools-filtered" if filter_viewed else "rectools"
        lists.to_csv(folder / f"{name}.csv", index=False)
        own = calc_metrics(METRICS, reco=lists, interactions=test)
        (folder / f"{name}.json").write_text(json.dumps({key: float(value) for key, value in own.items()}))


def train_on_clock(table: pd.DataFrame, epochs: int, seed: int, filter_viewed: bool, path: Path) -> None:
    """Writes the training's curve, on one thread."""
    torch.set_num_threads(1)
    seed_everything(seed)
    seen = {side: until(table, held_out) for side, held_out in (("train", 2), ("valid", 1))}

    def ndcg(known: str, after: int) -> float:
        targets = table[table["after"] == after]
        lists = model.recommend(targets[Columns.User].to_numpy(), seen[known], k=10, filter_viewed=filter_viewed)
        return calc_metrics({"NDCG@10": METRICS["NDCG@10"]}, reco=lists, interactions=targets)["NDCG@10"]

    model = SASRecModel(**MODEL)
    curve = Curve(path)
    for _ in range(epochs):
        model.fit_partial(seen["train"], min_epochs=1, max_epochs=1)
        curve.note(ndcg("train", after=1), lambda: ndcg("valid", after=0))
        if curve.since_best() >= PATIENCE:
            break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("interactions", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--curve", action="store_true", help="of a training on the clock")
    parser.add_argument("--seed", type=int, default=1, help="of the curve's training")
    parser.add_argument("--filter-viewed", action="store_true", help="in the curve: items of the history left out")
    options = parser.parse_args()
    # Of the insides of RecTools and Lightning, for every epoch.
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    table = read(options.interactions)
    if options.curve:
        train_on_clock(table, options.epochs, options.seed, options.filter_viewed, options.folder / "curve.csv")
    else:
        write_lists(table, options.epochs, options.folder)


if __name__ == "__main__":
    main()
