"""Can every item come first? Unargmaxable items of trained runs, and which items their lists hold.

    mos-recbole run --model GRU4RecSoftmax GRU4RecMoC GRU4RecMoS --seeds 1 2 --embedding_size=16 --filter_seen=True \
        --eval_step=10 --output work/lists
    OMP_NUM_THREADS=1 python benchmarks/studies/reachable_items.py work/lists

An item of a softmax without item biases is unargmaxable if no vector h gives it a higher logit than all others have:
its vector is within the convex hull of the others' (Demeter, Kimmel and Downey, ACL 2020; Grivas, Bogoychev and Lopez,
"Low-Rank Softmax Can Have Unargmaxable Classes in Theory but Rarely in Practice", ACL 2022). That is one linear program
an item (`scipy.optimize.linprog`, HiGHS). It is spared where the item is first for a query, or for a vector that some
steps of the perceptron's rule find.

For MoC all of this holds: its vectors are within a cube, but a cone reaches all directions there. For a mixture of
softmaxes the program answers for one component, or for all of them alike: an item that it finds can be first. One that
it does not find may be first by a sum of components that rank others first; it counts as reached where it is first for
a query, and what remains is an upper bound on the items that cannot be first.

Lists: how many items are in any top 10 of the test queries, and the median number of training interactions of a place
in them. Writes reachable.csv (a line a run) and reachable.md (a line a model).
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import linprog

from mos_recbole.experiment import load_run
from mos_recbole.experiment.outputs import Outputs
from mos_recbole.heads.mixture import MixtureHead
from mos_recbole.results import RunResult, find_records
from mos_recbole.training import make_query_set

K = 10
# Of the programs' margin: below it, an item only ties with others.
SMALLEST = 1e-9
PERCEPTRON_STEPS = 500


def is_argmaxable(item_Vd: np.ndarray, place: int) -> bool:
    """Returns whether some vector gives an item a higher product than all other items have.

    The program: the largest margin t with h (w_place - w_u) >= t for all others u, |h| <= 1 in every number.
    """
    others_Vd = item_Vd[place] - np.delete(item_Vd, place, axis=0)
    others_Vd /= max(1e-300, np.abs(others_Vd).max())
    width = item_Vd.shape[1]
    found = linprog(
        np.append(np.zeros(width), -1.0),
        A_ub=np.hstack([-others_Vd, np.ones((len(others_Vd), 1))]),
        b_ub=np.zeros(len(others_Vd)),
        bounds=[(-1, 1)] * width + [(None, 1)],
        method="highs",
    )
    assert found.success, found.message
    return bool(-found.fun > SMALLEST)


def unreached(item_Vd: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Returns the numbers of the items that no vector puts first.

    Args:
        item_Vd: the items' vectors, float64.
        first: numbers of items that are known to be first for some vector.
    """
    reached = np.zeros(len(item_Vd), dtype=bool)
    reached[first] = True
    reached[reached_by_perceptron(item_Vd, np.flatnonzero(~reached))] = True
    return np.array([place for place in np.flatnonzero(~reached) if not is_argmaxable(item_Vd, int(place))], dtype=int)


def reached_by_perceptron(item_Vd: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns those of some items that are first for a vector that the rule finds: their own, with their difference
    from what is first added again and again."""
    left, vector_nd, found = places, item_Vd[places].copy(), []
    for _ in range(PERCEPTRON_STEPS):
        first = (vector_nd @ item_Vd.T).argmax(axis=1)
        is_found = first == left
        found.append(left[is_found])
        left, vector_nd, first = left[~is_found], vector_nd[~is_found], first[~is_found]
        vector_nd += item_Vd[left] - item_Vd[first]
    return np.concatenate(found)


@torch.no_grad()
def line(record: RunResult) -> dict[str, Any]:
    """Returns what is said of one run."""
    run = load_run(record, "cpu")
    head = run.model.head
    assert isinstance(head, MixtureHead), f"{record.model} is no mixture of dot products"
    assert head.item_bias is None, f"{record.folder} has item biases"
    sides = {
        side: Outputs(run, make_query_set(run.config, run.data, run.split, side, run.protocol, run.config["device"]))
        for side in ("valid", "test")
    }
    blocks = [block for side in sides.values() for block in side.blocks(torch.arange(len(side.queries)))]
    first = np.unique(torch.cat([block.argmax(dim=1) for block in blocks]).numpy())
    item_V = sides["test"].item_V
    item_Vd = head.item_vectors(run.model.item_table)[item_V].double().numpy()
    missing = unreached(item_Vd, first)
    top = record.top_items()
    listed = top.items[:, :K][top.items[:, :K] > 0]
    counts_of_missing = top.train_counts[item_V.numpy()[missing]]
    return {
        **{"model": record.model, "d": record.width, "seed": record.seed, "items": len(item_Vd)},
        **{"first for a query": len(first), "cannot be first": len(missing)},
        "their median count": float(np.median(counts_of_missing)) if len(missing) else np.nan,
        f"in any top {K}": len(np.unique(listed)),
        "median count of a place": float(np.median(top.train_counts[listed])),
        "NDCG@10": record.test["NDCG@10"].value,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="of runs with their checkpoints")
    parser.add_argument("--output", type=Path, default=Path("results/reachable_items"), metavar="FOLDER")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for record in (record for folder in options.folders for record in find_records(folder)):
        rows.append(line(record))
        print(rows[-1], flush=True)
    runs = pd.DataFrame(rows).sort_values(["model", "d", "seed"])
    runs.round(5).to_csv(options.output / "reachable.csv", index=False, lineterminator="\n")

    def ends(values: pd.Series) -> str:
        return "–".join(f"{end:g}" for end in dict.fromkeys((values.min(), values.max())))

    shown = runs.groupby(["model", "d"]).agg(ends)
    table = shown.reset_index().to_markdown(index=False, tablefmt="github", disable_numparse=True)
    (options.output / "reachable.md").write_text(table + "\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
