"""Is the rank of a mixture used? The runs of results/laboratory/PLAN.md on one data set, and their tables.

    python benchmarks/studies/laboratory.py --work work/ml-100k --seeds 1 2 3 4 5 6 7 8 9 10
    python benchmarks/studies/laboratory.py --work work/ml-1m --dataset dataset/ml-1m --widths 16 32 64 128 \\
        --epochs 20 --MAX_ITEM_LIST_LENGTH=128
    python benchmarks/studies/laboratory.py --work work/ml-100k --finished           # tables of what is done so far

Every width's softmax, mixture of contexts (the mixture's parameters, a softmax's rank) and mixture of softmaxes train
with the same seeds, by `mos-recbole run`; the same command goes on where it was interrupted. `--key=value` arguments go
to all runs. The last epoch counts, the only one that is validated.

Writes to --output: runs/ (the finished runs, without models and without names of users and items), runs.csv (a line a
run), comparisons.csv and .md, heads.svg and .png (differences from the softmax), and ablate_rank/ (the mixtures cut to
lower ranks, for which the models in --work are needed). Runs join those that --output has, so a laboratory grows:
train `--seeds 4 5` in another folder or on another machine, then `--finished --seeds 1 2 3 4 5`, also by another
version of the package that trains alike. `mos-recbole compare` reads runs/ too, each version by itself. p values are
corrected by Holm's method for the three comparisons of a width and metric. Prints how far the training loss of a
cell's runs predicts their test NDCG@10.
"""

import argparse
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from mos_recbole.analysis import RunGroup, aligned_outcomes, compare_groups, find_run_groups, metric_values
from mos_recbole.cli import main as mos_recbole
from mos_recbole.errors import InputError
from mos_recbole.report import comparisons_table
from mos_recbole.report.figures import STYLE, Figure, add_legend, model_looks, save_figure
from mos_recbole.report.table import Table, escape_markdown
from mos_recbole.results import RUNS_FOLDER, RunResult, find_records, keep_run

HEADS = ("Softmax", "MoC", "MoS")
METRICS = ("NDCG@10", "Recall@100", "Loss")
PRIMARY = METRICS[0]
MARGIN = 0.01
"""Of relative differences that count as equivalent; of the loss, in nats."""
_LONGEST = 5  # intervals in the figure, in shortest ones


def commands(options: argparse.Namespace, passed: Sequence[str]) -> Iterator[list[str]]:
    """Yields the trainings as arguments of mos-recbole, one a width."""
    models = [f"{options.encoder}{head}" for head in HEADS]
    epochs = [f"--epochs={options.epochs}", f"--eval_step={options.epochs}", "--filter_seen=True"]
    for width in options.widths:
        runs = ["run", "--model", *models, "--dataset", options.dataset, "--seeds", *map(str, options.seeds)]
        yield [*runs, "--resume", "--output", str(options.work), *_size(options.encoder, width), *epochs, *passed]


def _size(encoder: str, width: int) -> list[str]:
    # SASRec's states are as wide as all its layers; a GRU's are narrowed down to d.
    if encoder == "SASRec":
        return [f"--hidden_size={width}", f"--inner_size={4 * width}"]
    return [f"--embedding_size={width}"]


def _name(encoder: str, head: str, width: int) -> str:
    return f"{encoder}{head}:{','.join(option.removeprefix('--') for option in _size(encoder, width))}"


def keep_runs(work: Path, output: Path, models: Collection[str]) -> None:
    """Copies the finished runs of some models to a laboratory's folder. Raises InputError for a broken one."""
    for run in find_records(work) if work.is_dir() else []:
        if run.model in models:
            keep_run(run, output / RUNS_FOLDER / run.folder.name)


def groups_of(options: argparse.Namespace, output: Path, width: int) -> list[RunGroup]:
    """Returns the kept runs of a width with the asked seeds, a group a head.

    Seeds that were trained at different times may be of different versions of the package. They join here, and
    runs.csv names the commit of each.

    Raises:
        InputError: a seed is missing or there twice, or runs of a head differ in more than the version.
    """
    groups = []
    for head in HEADS:
        name = _name(options.encoder, head, width)
        found = [run for group in find_run_groups([name], [output], every=True) for run in group.runs]
        runs = sorted((run for run in found if run.seed in options.seeds), key=lambda run: run.seed)
        if missing := sorted(set(options.seeds) - {run.seed for run in runs}):
            raise InputError(f"{output}: {name} has no run with seed {', '.join(map(str, missing))}")
        joined = tuple(run.model_copy(update={"code": runs[0].code}) for run in runs)
        groups.append(RunGroup(name.replace(":", " "), joined))
    return groups


def comparisons(groups: Sequence[RunGroup]) -> Iterator[Table]:
    """Yields a table for each metric: all pairs of the groups, p corrected for them."""
    loss = _means(groups[0].runs)["Loss"].mean()
    for metric in METRICS:
        margin = MARGIN / loss if metric == "Loss" else MARGIN
        yield comparisons_table(compare_groups(groups, [metric], margin=margin))


def _means(runs: Sequence[RunResult]) -> pd.DataFrame:
    """Returns the test metrics: a row a run, a column a metric."""
    tables = aligned_outcomes(runs)
    return pd.DataFrame({metric: metric_values(tables, metric).mean(axis=1) for metric in METRICS})


def runs_frame(width: int, groups: Sequence[RunGroup]) -> pd.DataFrame:
    """Returns a row a run: its settings, metrics and losses."""
    runs = [run for group in groups for run in group.runs]
    rows = [
        {
            **{"d": width, "model": run.model, "seed": run.seed, "parameters": run.parameters, "epochs": run.epochs},
            "learning_rate": run.settings["learning_rate"],
            **{f"valid {name}": metric.value for name, metric in run.valid.items()},
            **{"training loss": run.training_log()["loss"].iloc[-1], "processor_seconds": run.train_processor_seconds},
            **{"run_id": run.run_id, "git_commit": run.git_commit},
        }
        for run in runs
    ]
    return pd.concat([pd.DataFrame(rows), _means(runs).add_prefix("test ")], axis=1)


def correlation_within_cells(runs: pd.DataFrame) -> tuple[float, float]:
    """Returns the correlation of training loss and test NDCG@10 over seeds: all cells together, and the mean of |r|."""
    columns = ["training loss", f"test {PRIMARY}"]
    cells = runs.groupby(["d", "model"])[columns]
    centred = runs[columns] - cells.transform("mean")
    each = [abs(_correlation(cell)) for _, cell in cells]
    return _correlation(centred), float(pd.Series(each).mean())


def _correlation(pairs: pd.DataFrame) -> float:
    return pairs.corr().to_numpy()[0, 1]


def plot_differences(ax: Axes, rows: pd.DataFrame, metric: str) -> Axes:
    """Returns the axes with each model's difference from the softmax over the width, with its 95 % interval."""
    looks = model_looks(list(dict.fromkeys(rows["model"])))
    widths = sorted(set(rows["d"]))
    ax.axhline(0, color="0.5", linewidth=0.8)
    for number, (model, look) in enumerate(looks.items()):
        part = rows[rows["model"] == model].sort_values("d")
        place = [widths.index(width) + 0.1 * (number - (len(looks) - 1) / 2) for width in part["d"]]
        low, middle, high = part[["B - A low", "B - A", "B - A high"]].to_numpy().T
        ax.errorbar(
            place,
            middle,
            yerr=[middle - low, high - middle],
            fmt=look.marker,
            color=look.colour,
            markersize=4,
            capsize=2,
        )
    # A cell whose seeds failed to train does not flatten the others.
    ends = rows[["B - A low", "B - A high"]].abs().max(axis=1)
    width_of = rows["B - A high"] - rows["B - A low"]
    limit = 1.15 * max(ends[width_of <= _LONGEST * width_of.min()].max(), rows["B - A"].abs().max())
    if limit < ends.max():
        ax.set_ylim(-limit, limit)
    ax.set_xticks(range(len(widths)), [str(width) for width in widths])
    better = ", nats (less is better)" if metric == "Loss" else ""
    ax.set(xlabel="width d", title=f"{metric} less the softmax's{better}", xlim=(-0.5, len(widths) - 0.5))
    return ax


def figure_of(frame: pd.DataFrame, softmax: str) -> Figure:
    """Returns the figure of the differences from the softmax, in NDCG@10 and in the loss.

    Args:
        frame: rows of comparisons, with the width `d` and the models of A and B.
        softmax: the model that is A.
    """
    rows = frame[frame["A model"] == softmax].rename(columns={"B model": "model"})
    with matplotlib.rc_context(STYLE):
        drawing = Drawing(figsize=(10, 3.4), layout="constrained")
        for ax, metric in zip(drawing.subplots(1, 2), (PRIMARY, "Loss"), strict=True):
            plot_differences(ax, rows[rows["metric"] == metric], metric)
        add_legend(drawing, model_looks(list(dict.fromkeys(rows["model"]))))
    caption = "Differences from the softmax, with 95 % intervals. One that leaves the picture is longer than shown."
    return Figure("heads", "Heads and the softmax", caption, drawing)


def write_tables(options: argparse.Namespace, output: Path) -> str:
    """Returns what is to be told of the finished runs; writes all files but the ablation's.

    Raises:
        InputError: a cell without runs, or with others than its rivals have.
    """
    output.mkdir(parents=True, exist_ok=True)
    keep_runs(options.work, output, [f"{options.encoder}{head}" for head in HEADS])
    tables: dict[str, Table] = {}
    frames, runs, softmaxes = [], [], []
    for width in options.widths:
        groups = groups_of(options, output, width)
        softmaxes.append(groups[0])
        runs.append(runs_frame(width, groups))
        models = [(a.runs[0].model, b.runs[0].model) for a, b in combinations(groups, 2)]
        for table in comparisons(groups):
            tables[f"d = {width}: {table.frame['metric'].iloc[0]}"] = table
            names = pd.DataFrame(models, columns=["A model", "B model"])
            frames.append(pd.concat([pd.Series(width, names.index, name="d"), names, table.frame], axis=1))
    if len(softmaxes) > 1:
        ends = compare_groups([softmaxes[0], softmaxes[-1]], [PRIMARY], margin=MARGIN)
        tables["Width: the softmax"] = comparisons_table(ends)
    frame, every = pd.concat(frames), pd.concat(runs)
    frame.to_csv(output / "comparisons.csv", index=False, lineterminator="\n", float_format="%.6g")
    every.to_csv(output / "runs.csv", index=False, lineterminator="\n", float_format="%.6g")
    (output / "comparisons.md").write_text(_page(tables), encoding="utf-8")
    save_figure(figure_of(frame, f"{options.encoder}Softmax"), output)
    pooled, mean = correlation_within_cells(every)
    found = frame[["d", "metric", "A model", "B model", "mean A", "B - A", "B - A low", "B - A high", "p (Holm)"]]
    found = found.assign(detectable=frame["detectable"], verdict=frame["verdict"])
    said = f"within cells, training loss and {PRIMARY}: r = {pooled:+.2f} of all together, |r| = {mean:.2f} on average"
    return f"{found.to_string(index=False, float_format='{:.4g}'.format)}\n{said}"


def _page(tables: Mapping[str, Table]) -> str:
    """Returns tables in Markdown, each below its title, and what their captions say at the end, once."""
    parts = [f"## {title}\n\n{table.grid('github', escape_markdown)}" for title, table in tables.items()]
    lines = dict.fromkeys(line for table in tables.values() for line in table.caption.splitlines())
    return "\n\n".join(["# Comparisons", *parts, *map(escape_markdown, lines)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="for runs")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="(default: results/laboratory/<data set>)")
    parser.add_argument("--dataset", default="ml-100k", metavar="NAME", help="name or folder (default: ml-100k)")
    parser.add_argument("--encoder", choices=["GRU4Rec", "SASRec"], default="GRU4Rec", help="(default: GRU4Rec)")
    parser.add_argument("--widths", nargs="+", type=int, default=[16, 64], metavar="D", help="(default: 16 64)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5], metavar="N", help="(default: five)")
    parser.add_argument("--epochs", type=int, default=10, help="(default: 10)")
    parser.add_argument("--finished", action="store_true", help="train nothing: tables of what is there")
    options, passed = parser.parse_known_args()
    if wrong := [argument for argument in passed if not (argument.startswith("--") and "=" in argument)]:
        parser.error(f"unknown argument {wrong[0]}")
    if not options.finished:
        for command in commands(options, passed):
            if status := mos_recbole(command):
                raise SystemExit(status)
    output = options.output or Path("results/laboratory") / Path(options.dataset).name
    try:
        print(write_tables(options, output))
    except InputError as error:
        parser.error(str(error))
    mixtures = [_name(options.encoder, HEADS[-1], width) for width in options.widths]
    ablation = ["ablate-rank", *mixtures, "--results", str(options.work), "--output", str(output / "ablate_rank")]
    raise SystemExit(mos_recbole([*ablation, "--dataset", options.dataset]))


if __name__ == "__main__":
    main()
