"""Whether lists of other libraries have here, by `mos-recbole score`, the metrics that these libraries give them.

RecBole's SASRec, trained and evaluated by RecBole's own code, and RecTools' SASRec by RecTools, on MovieLens-100K,
split by leave-one-out. RecTools wants an environment of its own, because it needs an older NumPy (Python below 3.13):

    python -m venv rectools && rectools/bin/pip install 'rectools[torch]'
    python benchmarks/studies/other_libraries.py --rectools-python rectools/bin/python

The data are written anew, with a user's steps for times, so that all sort them alike: three quarters of the ratings
have the time of another of the same user. Writes to results/other_libraries the metrics side by side.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from mos_recbole import compat
from mos_recbole.evaluation import canonical_metric
from mos_recbole.experiment import load_settings, score_lists

compat.apply()

from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from recbole.utils import get_model, init_seed  # noqa: E402
from recbole.utils.case_study import full_sort_topk  # noqa: E402

sys.path.append(str(Path(__file__).parents[1] / "speed"))
from steps import write_steps  # noqa: E402

NAME = "ml-100k-steps"
METRICS = {"metrics": ["Recall", "MRR", "NDCG"], "topk": [10, 100]}
RECBOLES = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "train_neg_sample_args": None,
    "metric_decimal_place": 15,
    "show_progress": False,
    # Small, because RecBole has a sample a target.
    **{"MAX_ITEM_LIST_LENGTH": 10, "n_layers": 1, "hidden_size": 32, "inner_size": 64, "epochs": 2},
}


def recboles(folder: Path) -> None:
    """Writes RecBole's lists and its own metrics of its SASRec."""
    settings = RECBOLES | METRICS | {"data_path": str(folder), "checkpoint_dir": str(folder / "saved")}
    config = Config("SASRec", NAME, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    model = get_model("SASRec")(config, train.dataset).to(config["device"])
    trainer = Trainer(config, model)
    trainer.fit(train, valid)
    own = trainer.evaluate(test)
    (folder / "recbole.json").write_text(json.dumps({canonical_metric(key): value for key, value in own.items()}))
    users = test.dataset.inter_feat[dataset.uid_field].numpy()
    scores, items = full_sort_topk(users, model, test, k=100, device=config["device"])
    lists = {
        "user_id": np.repeat(dataset.id2token(dataset.uid_field, users), 100),
        "item_id": dataset.id2token(dataset.iid_field, items.cpu()).ravel(),
        "score": scores.cpu().numpy().ravel(),
    }
    pd.DataFrame(lists).to_csv(folder / "recbole.csv", index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rectools-python", type=Path, metavar="FILE", help="one that has RecTools (default: without)")
    parser.add_argument("--output", type=Path, default=Path("results/other_libraries"), metavar="FOLDER")
    options = parser.parse_args()
    # Not resolved: a virtual environment is known by the link that its Python is.
    rectools, output = options.rectools_python and options.rectools_python.absolute(), options.output.absolute()
    script, rows = Path(__file__).with_name("rectools_sasrec.py").absolute(), []
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):  # RecBole logs where it is
        folder = Path(name)
        path = folder / NAME / f"{NAME}.inter"
        path.parent.mkdir()
        write_steps(path, "ml-100k")
        recboles(folder)
        if rectools is not None:
            subprocess.run([rectools, script, path, folder], check=True)
        for lists in sorted(folder.glob("*.csv")):
            overrides = METRICS | {"filter_seen": lists.stem.endswith("-filtered")}
            record = score_lists(lists, lists.stem, load_settings("BPR", str(path.parent), overrides=overrides), folder)
            own = json.loads(lists.with_suffix(".json").read_text())
            rows += [(lists.stem, metric, value, record.test[metric].value) for metric, value in own.items()]
    table = pd.DataFrame(rows, columns=["lists", "metric", "own", "score"])
    table["difference"] = table["score"] - table["own"]
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "metrics.csv", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
