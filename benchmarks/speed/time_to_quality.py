"""Time to quality: processor time until a model's test NDCG@10 reaches a reference, beside RecBole and RecTools.

    python benchmarks/speed/time_to_quality.py --seeds 1 2 3
    python benchmarks/speed/time_to_quality.py --filter-seen --rectools-python rectools/bin/python \\
        --entries "RecTools SASRec" SASRecSoftmax GRU4RecSoftmax GRU4RecMoS
    python benchmarks/speed/time_to_quality.py --dataset beauty --data-path ../shared/data --seeds 1

Each model is trained in a fresh process, with one thread, by its own defaults: RecBole's by stock RecBole (its data
set, loader, trainer and evaluator), RecTools' by RecTools (studies/rectools_sasrec.py, in an environment of its own,
described in studies/other_libraries.py), ours by this package. Theirs end 10 epochs after the best, ours by their
recipe. After an epoch that is the best so far on validation, and only then, the test set is looked at. The clock
stands still meanwhile; it runs in training and validation.

The same for all: test is a user's last item, validation the one before, ranked among all items by NDCG@10. Item vectors
are 64 wide, windows 50 items long; all SASRecs have two blocks and two heads. The loss is a full softmax, without
sampled negatives. Items of the history are candidates for all, the only way of RecBole's sequential models, or for
none (--filter-seen). What differs:

- RecBole trains on a window a target, 2,048 targets a batch, at a constant rate.
- RecTools trains on the last 51 items of each user alone, 64 users a batch, each padded to 50 places, at a constant
  rate. It lists no items but these. Its feed-forward layers are 64 wide, RecBole's and ours 256.
- Ours train on every target, 512 a batch, at a rate that falls to zero.

The authors' own GRU4Rec is not here: PyPI has no package of it.

The reference is --reference, or else the test NDCG@10 of the first entry at its best validation, mean over the seeds.
Writes time_to_quality.csv, with a row an epoch as soon as it has ended, and a figure. On shared machines, compare
processor-seconds of one call.
"""

import argparse
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import torch
from curve import Curve
from processes import in_own_process
from steps import write_steps
from train_speed import stock_recbole

from mos_recbole.experiment import load_settings
from mos_recbole.experiment.run import Run
from mos_recbole.report.figures import STYLE, label_log_axis

RECTOOLS = "RecTools SASRec"
ENTRIES = ("RecBole GRU4Rec", "RecBole SASRec", "GRU4RecSoftmax", "GRU4RecMoS", "SASRecSoftmax")


def place_of(options: argparse.Namespace) -> dict[str, str]:
    return {} if options.data_path is None else {"data_path": str(options.data_path.resolve())}


def curves_of(options: argparse.Namespace) -> Path:
    """Returns the file of all epochs, which each training adds to."""
    return options.output / "time_to_quality.csv"


def train_stock(entry: str, seed: int, options: argparse.Namespace, folder: str) -> None:
    """Trains by stock RecBole."""
    columns = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    changes = place_of(options) | columns | {"topk": [10], "seed": seed, "epochs": options.other_epochs}
    model = entry.removeprefix("RecBole ")
    trainer_class: Any
    config, trainer_class, net, train, valid, test = stock_recbole(model, folder, options.dataset, **changes)
    torch.set_num_threads(1)
    torch.autograd.set_detect_anomaly(not options.detection_off)

    class Looking(trainer_class):
        def _valid_epoch(self, *arguments, **keywords):
            score, result = super()._valid_epoch(*arguments, **keywords)
            curve.note(score, lambda: self.evaluate(test, load_best_model=False)["ndcg@10"])
            return score, result

    trainer = Looking(config, net)
    curve = Curve(curves_of(options), entry=entry, seed=seed)
    trainer.fit(train, valid, verbose=False)


def train_rectools(entry: str, seed: int, options: argparse.Namespace, folder: str) -> None:
    """Trains by RecTools."""
    script = Path(__file__).parents[1] / "studies" / "rectools_sasrec.py"
    interactions = Path(folder) / "steps.inter"
    write_steps(interactions, options.dataset, **place_of(options))
    # Not resolved: a virtual environment is known by the link that its Python is.
    command = [options.rectools_python.absolute(), script, interactions, folder, "--curve", "--seed", str(seed)]
    command += ["--epochs", str(options.other_epochs), *["--filter-viewed"] * options.filter_seen]
    alone = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, check=True, env=os.environ | alone)
    rows = pd.read_csv(Path(folder) / "curve.csv")
    rows.insert(0, "entry", entry)
    rows.insert(1, "seed", seed)
    path = curves_of(options)
    rows.to_csv(path, mode="a", header=not path.exists(), index=False)


def train_ours(entry: str, seed: int, options: argparse.Namespace, folder: str) -> None:
    """Trains by this package."""
    torch.set_num_threads(1)
    changes = place_of(options) | {"seed": seed, "filter_seen": options.filter_seen}
    settings = load_settings(entry, options.dataset, overrides=changes)
    run = Run(settings, Path(folder), torch.device("cpu"))
    trainer, loader, selection = run.open(resume=False), run.train_loader(), run.selection()
    curve = Curve(curves_of(options), entry=entry, seed=seed)
    trainer.fit(
        loader,
        selection,
        lambda report: curve.note((report.valid or {})["NDCG@10"], lambda: run.metrics("test")["NDCG@10"]),
    )


def reference_of(curves: pd.DataFrame) -> float:
    """Returns the mean over the seeds of the first entry's last look at the test."""
    looks = curves[curves["entry"] == curves["entry"].iloc[0]].dropna(subset="test")
    return looks.groupby("seed")["test"].last().mean()


def summary(curves: pd.DataFrame, reference: float) -> pd.DataFrame:
    """Returns a row an entry: medians over the seeds of the times to the reference, and of those to the end."""
    rows = []
    for entry, group in curves.groupby("entry", sort=False):
        runs = [run for _, run in group.groupby("seed")]
        # A seed that never gets there takes forever, for the median too.
        reached = [run.loc[run["test"] >= reference, ["processor_seconds", "seconds"]].min() for run in runs]
        middle = pd.DataFrame(reached).fillna(float("inf")).median()
        rows.append(
            {
                "entry": entry,
                "seeds": len(runs),
                "reached": sum(times.notna().all() for times in reached),
                "processor_seconds": middle["processor_seconds"],
                "seconds": middle["seconds"],
                "processor_seconds_to_end": group.groupby("seed")["processor_seconds"].last().median(),
                "test": group.dropna(subset="test").groupby("seed")["test"].last().mean(),
            }
        )
    return pd.DataFrame(rows)


@matplotlib.rc_context(STYLE)
def draw(curves: pd.DataFrame, reference: float, path: Path) -> None:
    figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    for number, (_, group) in enumerate(curves.dropna(subset="test").groupby("entry", sort=False)):
        for place, (_, run) in enumerate(group.groupby("seed")):
            label = run["entry"].iloc[0] if place == 0 else None
            dashes = ("-", "--", "-.", ":")[number % 4]
            ax.step(run["processor_seconds"], run["test"], dashes, where="post", color=f"C{number}", label=label)
    ax.axhline(reference, color="0.5", linestyle=":")
    ax.set(xscale="log", xlabel="processor-seconds", ylabel="test NDCG@10 of the best epoch so far")
    label_log_axis(ax.xaxis)
    ax.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", nargs="+", default=ENTRIES, metavar="NAME", help=f"ours, RecBole's, {RECTOOLS!r}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data-path", type=Path, help="folder that has the data set's folder")
    parser.add_argument("--reference", type=float, help="test NDCG@10 to reach")
    parser.add_argument("--other-epochs", type=int, default=300, help="of RecBole and RecTools, at most")
    parser.add_argument("--filter-seen", action="store_true", help="items of the history are no candidates; no RecBole")
    parser.add_argument("--rectools-python", type=Path, metavar="FILE", help="one that has RecTools")
    parser.add_argument("--detection-off", action="store_true", help="RecBole without autograd's anomaly detection")
    parser.add_argument("--output", type=Path, default=Path("results/time_to_quality"))
    options = parser.parse_args()
    stock = [entry for entry in options.entries if entry.startswith("RecBole ")]
    if stock and options.filter_seen:
        parser.error(f"RecBole's sequential models cannot leave seen items out: no --filter-seen with {stock[0]!r}")
    if RECTOOLS in options.entries and options.rectools_python is None:
        parser.error(f"{RECTOOLS!r} needs --rectools-python")
    options.output = options.output.resolve()  # RecBole's trainings change the folder they stand in
    options.output.mkdir(parents=True, exist_ok=True)
    curves_of(options).unlink(missing_ok=True)
    for seed in options.seeds:
        for entry in options.entries:
            train = train_rectools if entry == RECTOOLS else train_stock if entry in stock else train_ours
            with tempfile.TemporaryDirectory() as folder:
                in_own_process(train, entry, seed, options, folder)
    curves = pd.read_csv(curves_of(options))
    reference = reference_of(curves) if options.reference is None else options.reference
    draw(curves, reference, options.output / "time_to_quality.png")
    print(f"reference: test NDCG@10 {reference:.4f}")
    print(summary(curves, reference).to_markdown(index=False, floatfmt=".4g"))


if __name__ == "__main__":
    main()
