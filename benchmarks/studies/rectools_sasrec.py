"""RecTools' SASRec on a file of interactions, with RecTools' lists and metrics; needs `pip install 'rectools[torch]'`.

`other_libraries.py` calls it in RecTools' own environment, which has neither this project nor RecBole:

    python rectools_sasrec.py FILE.inter FOLDER --epochs 10

The last item of each user is the target. Writes for both values of `filter_viewed` the lists and RecTools' own metrics.
"""

import argparse
import json
from pathlib import Path

import pandas as pd
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import MRR, NDCG, Recall, calc_metrics
from rectools.models import SASRecModel

CUT_OFFS = (10, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("interactions", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    table = pd.read_csv(options.interactions, sep="\t", dtype=str)
    table.columns = pd.Index([Columns.User, Columns.Item, "step"])
    table[Columns.Datetime] = pd.to_datetime(table["step"].astype(int), unit="s")
    table[Columns.Weight] = 1
    is_target = ~table[::-1].duplicated(Columns.User)[::-1]
    test, train = table[is_target], table[~is_target].drop(columns="step")
    dataset = Dataset.construct(train)
    model = SASRecModel(
        **{"n_factors": 64, "n_blocks": 2, "n_heads": 2, "session_max_len": 50, "batch_size": 64},
        epochs=options.epochs,
        deterministic=True,
    )
    model.fit(dataset)
    metrics = {}
    for k in CUT_OFFS:
        # One target a query: the best list has it first.
        metrics |= {f"Recall@{k}": Recall(k), f"MRR@{k}": MRR(k), f"NDCG@{k}": NDCG(k, divide_by_achievable=True)}
    for filter_viewed in (False, True):
        users = test[Columns.User].to_numpy()
        lists = model.recommend(users, dataset, k=max(CUT_OFFS), filter_viewed=filter_viewed)
        name = "rectools-filtered" if filter_viewed else "rectools"
        lists.to_csv(options.folder / f"{name}.csv", index=False)
        own = calc_metrics(metrics, reco=lists, interactions=test)
        (options.folder / f"{name}.json").write_text(json.dumps({key: float(value) for key, value in own.items()}))


if __name__ == "__main__":
    main()
