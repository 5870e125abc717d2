"""Do recommenders suffer from the softmax bottleneck? Encoders x heads x widths on one data set, compared.

    python benchmarks/studies/laboratory.py --work /tmp/laboratory --jobs 2
    python benchmarks/studies/laboratory.py --work /tmp/laboratory --dataset dataset/beauty --widths 16 64 --seeds 1 2 3
    python benchmarks/studies/laboratory.py --work /tmp/laboratory --finished      # tables of what is done so far

The same command goes on where it was interrupted. For every encoder and width d there is a control, the softmax, and a
softmax that is wider, so that it has as many parameters as the mixture (K = 4), where that is at least one number
wider. The learning rate is chosen for each encoder, head and width by validation NDCG@10 on the first seed, out of the
same rates; the other seeds are then run with it, and all seeds together are compared with the softmax of the same
encoder and width, on the same test queries: `evaluation.compare_means` (users and seeds are both random), p values
corrected by Holm's method over the table.

Writes runs.csv (a line a run), comparisons.csv, comparisons.md and heads.svg/png to <output>/<dataset>. Runs with their
checkpoints stay below --work, so that `mos-recbole spectrum` can read them.
"""

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from tabulate import tabulate

from mos_recbole.evaluation import Difference, compare_means, holm
from mos_recbole.experiment import count_parameters, load_settings, run_experiment
from mos_recbole.experiment.matching import match_parameters
from mos_recbole.report.figures import STYLE, Figure, add_legend, model_looks, save_figure
from mos_recbole.report.formatting import format_difference, format_p_value
from mos_recbole.results import RunResult, find_records
from mos_recbole.settings import Settings

RATES = {"GRU4Rec": (0.002, 0.005), "SASRec": (0.001, 0.003)}
COMMON = {"epochs": 60, "stopping_step": 5, "train_batch_size": 1024, "valid_metric": "NDCG@10"}
COMMON |= {"lr_schedule": "constant", "warmup": 0.0}
WIDE = "Softmax, wide"
METRICS = ("NDCG@10", "Recall@10", "Recall@100")
LOSS = "loss"


@dataclass(frozen=True)
class Cell:
    """A model of the laboratory: an encoder of width d with a head, on a data set.

    `head` is the end of a model's name, or `WIDE` for the softmax with as many parameters as the mixture.
    """

    dataset: str
    encoder: str
    head: str
    width: int

    def settings(self, rate: float, seed: int) -> Settings:
        """Returns the settings of one run."""
        found = self._settings("Softmax" if self.head == WIDE else self.head, rate, seed)
        if self.head != WIDE:
            return found
        return match_parameters(found, count_parameters(self._settings("MoS", rate, seed)))

    def is_control(self) -> bool:
        """Returns whether the cell is the softmax of width d: the mixture's parameters buy no wider one either."""
        if self.head not in ("Softmax", WIDE):
            return False
        rate = RATES[self.encoder][0]
        return self.settings(rate, 1).values == self._settings("Softmax", rate, 1).values

    def _settings(self, head: str, rate: float, seed: int) -> Settings:
        # SASRec's states are as wide as all its layers; a GRU's are narrowed down to d.
        key = "hidden_size" if self.encoder == "SASRec" else "embedding_size"
        values = COMMON | {key: self.width, "learning_rate": rate, "seed": seed}
        if self.encoder == "SASRec":
            values["inner_size"] = 4 * self.width
        return load_settings(f"{self.encoder}{head}", self.dataset, overrides=values)


def train(cell: Cell, seeds: list[int], work: Path) -> str:
    """Returns what is to be told of a cell: all rates with the first seed, then the best one with the others."""
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    torch.set_num_threads(1)
    tried = {rate: _run(cell, rate, seeds[0], work) for rate in RATES[cell.encoder]}
    best = max(tried, key=lambda rate: tried[rate].valid["NDCG@10"].value)
    records = [tried[best], *(_run(cell, best, seed, work) for seed in seeds[1:])]
    mean = np.mean([record.test["NDCG@10"].value for record in records])
    return f"{cell.encoder}, {cell.head}, d = {cell.width}: rate {best:g}, test NDCG@10 {mean:.4f}"


def _run(cell: Cell, rate: float, seed: int, work: Path) -> RunResult:
    return run_experiment(cell.settings(rate, seed), output=_place(work, cell), device="cpu", resume=True, patience=1e9)


def _place(work: Path, cell: Cell) -> Path:
    # A folder for each cell: a wide softmax might else be mistaken for one that is as wide by itself.
    return work / Path(cell.dataset).name / f"{cell.encoder}-{cell.head.replace(', ', '-')}-{cell.width}"


def finished(cell: Cell, seeds: list[int], work: Path) -> tuple[list[RunResult], list[RunResult]]:
    """Returns a cell's runs, one a seed, at the rate that validation chose, and all of them; none where some lack."""
    place = _place(work, cell)
    records = find_records(place) if place.exists() else []
    first = [record for record in records if record.seed == seeds[0]]
    if len(first) < len(RATES[cell.encoder]):
        return [], records
    best = max(first, key=lambda record: record.valid["NDCG@10"].value).settings["learning_rate"]
    chosen = {record.seed: record for record in records if record.settings["learning_rate"] == best}
    return ([chosen[seed] for seed in seeds], records) if set(seeds) <= chosen.keys() else ([], records)


def compared(cells: list[Cell], seeds: list[int], work: Path) -> Iterator[dict[str, Any]]:
    """Yields a line for each cell but the softmax and each metric: what it has, and the difference from the softmax."""
    for cell in cells:
        records, _ = finished(cell, seeds, work)
        control, _ = finished(Cell(cell.dataset, cell.encoder, "Softmax", cell.width), seeds, work)
        if not records or not control or cell.is_control():
            continue
        users = control[0].outcomes()["user"].to_numpy()
        for metric in (*METRICS, LOSS):
            ours, theirs = _values(records, metric), _values(control, metric)
            yield {
                **{"encoder": cell.encoder, "d": cell.width, "head": cell.head, "metric": metric},
                **{"parameters": records[0].parameters, "softmax parameters": control[0].parameters},
                **{"softmax": theirs.mean(), "mean": ours.mean(), "difference": compare_means(theirs, ours, users)},
            }


def _values(records: list[RunResult], metric: str) -> np.ndarray:
    """Returns a metric of every seed and query, [S, Q]."""
    if metric == LOSS:
        return np.stack([-record.outcomes()["log_probability"].to_numpy() for record in records])
    name, k = metric.split("@")
    rank_SQ = np.stack([record.outcomes()["rank"].to_numpy() for record in records])
    gain_SQ = 1 / np.log2(rank_SQ + 1) if name == "NDCG" else np.ones_like(rank_SQ)
    return np.where(rank_SQ <= int(k), gain_SQ, 0.0)


def write_tables(cells: list[Cell], seeds: list[int], work: Path, output: Path) -> str:
    """Returns the table of comparisons; writes all files. One line a run; a run that validation did not choose, too."""
    output.mkdir(parents=True, exist_ok=True)
    runs = []
    for cell in cells:
        chosen, records = finished(cell, seeds, work)
        runs += [_line(cell, record, record in chosen) for record in records]
    pd.DataFrame(runs).round(6).to_csv(output / "runs.csv", index=False, lineterminator="\n")
    lines = list(compared(cells, seeds, work))
    adjusted = holm([line["difference"].p_value for line in lines])
    numbers, rows = [], []
    for line, p_value in zip(lines, adjusted, strict=True):
        difference: Difference = line.pop("difference")
        numbers.append(
            line
            | {"difference": difference.effect, "low": difference.low, "high": difference.high}
            | {"p": difference.p_value, "p (Holm)": p_value}
        )
        rows.append(
            {**{key: line[key] for key in ("encoder", "d", "head", "metric")}}
            | {"softmax": f"{line['softmax']:.4f}", "head's": f"{line['mean']:.4f}"}
            | {"difference [95 % interval]": format_difference(difference)}
            | {"p": format_p_value(difference.p_value), "p (Holm)": format_p_value(p_value)}
        )
    frame = pd.DataFrame(numbers)
    frame.round(6).to_csv(output / "comparisons.csv", index=False, lineterminator="\n")
    table = tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
    (output / "comparisons.md").write_text(table + "\n", encoding="utf-8")
    if numbers:
        save_figure(figure_of(frame), output)
    return table


def _line(cell: Cell, record: RunResult, chosen: bool) -> dict[str, Any]:
    outcomes = record.outcomes()
    return {
        **{"encoder": cell.encoder, "head": cell.head, "d": cell.width, "model": record.model, "seed": record.seed},
        **{"learning_rate": record.settings["learning_rate"], "chosen": chosen, "parameters": record.parameters},
        **{f"valid {name}": record.valid[name].value for name in METRICS},
        **{f"test {name}": record.test[name].value for name in METRICS},
        "test loss": -outcomes["log_probability"].mean(),
        **{"best_epoch": record.best_epoch, "epochs": record.epochs, "run_id": record.run_id},
        "git_commit": record.git_commit,
    }


def plot_differences(ax: Axes, frame: pd.DataFrame, heads: list[str], widths: list[int], title: str) -> Axes:
    """Returns the axes with every head's difference from the softmax over the width, with its 95 % interval."""
    looks = model_looks(heads)
    ax.axhline(0, color="0.5", linewidth=0.8)
    for number, (head, look) in enumerate(looks.items()):
        part = frame[frame["head"] == head].sort_values("d")
        place = [widths.index(width) + 0.1 * (number - (len(heads) - 1) / 2) for width in part["d"]]
        reach = np.abs(part[["low", "high"]].to_numpy().T - part["difference"].to_numpy())
        ax.errorbar(place, part["difference"], yerr=reach, fmt=look.marker, color=look.colour, markersize=4, capsize=2)
    ax.set_xticks(range(len(widths)), [str(width) for width in widths])
    ax.set(xlabel="width d", title=title, xlim=(-0.5, len(widths) - 0.5))
    return ax


def figure_of(frame: pd.DataFrame) -> Figure:
    """Returns the figure: differences from the softmax, in NDCG@10 and in the test loss, for each encoder."""
    encoders, heads = (list(dict.fromkeys(frame[column])) for column in ("encoder", "head"))
    widths = sorted(set(frame["d"]))
    with matplotlib.rc_context(STYLE):
        drawing = Drawing(figsize=(10, 3.4 * len(encoders)), layout="constrained")
        axes = drawing.subplots(len(encoders), 2, squeeze=False)
        for line, encoder in enumerate(encoders):
            for column, (metric, unit) in enumerate([("NDCG@10", ""), (LOSS, ", nats (less is better)")]):
                part = frame[(frame["encoder"] == encoder) & (frame["metric"] == metric)]
                title = f"{encoder}: {metric} less the softmax's{unit}"
                plot_differences(axes[line, column], part, heads, widths, title)
        add_legend(drawing, model_looks(heads))
    caption = "Differences of heads from the softmax, with 95 % intervals."
    return Figure("heads", "Heads and the softmax", caption, drawing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for runs")
    parser.add_argument("--output", type=Path, default=Path("results/laboratory"), metavar="FOLDER", help="of tables")
    parser.add_argument("--dataset", default="ml-100k", metavar="NAME", help="name or folder (default: ml-100k)")
    parser.add_argument("--encoders", nargs="+", choices=list(RATES), default=list(RATES))
    parser.add_argument("--heads", nargs="+", default=["Softmax", "MoS", "MoC", WIDE], metavar="LABEL")
    parser.add_argument("--widths", nargs="+", type=int, default=[16, 64, 32, 128])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument("--finished", action="store_true", help="train nothing: tables of what is there")
    options = parser.parse_args()
    cells = [
        Cell(options.dataset, encoder, head, width)
        for width, encoder, head in product(options.widths, options.encoders, options.heads)
    ]
    for cell in [cell for cell in cells if cell.head == WIDE and cell.is_control()]:
        print(f"{cell.encoder}, d = {cell.width}: of the mixture's size there is no wider softmax than this one")
        cells.remove(cell)
    if not options.finished:
        with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
            tasks = [pool.submit(train, cell, options.seeds, options.work) for cell in cells]
            for number, task in enumerate(tasks, start=1):
                print(f"[{number}/{len(cells)}] {task.result()}", flush=True)
    print(write_tables(cells, options.seeds, options.work, options.output / Path(options.dataset).name))


if __name__ == "__main__":
    main()
