"""The benchmark: tuned models on several data sets, a page for each data set and one over all of them.

    python benchmarks/benchmark.py --dry-run                      # what would run, and about how long each part takes
    python benchmarks/benchmark.py                                # ml-100k, and the data sets that are in dataset/
    python benchmarks/benchmark.py --dataset beauty ml-1m --seeds 1 2 3 --samples 8
    python benchmarks/benchmark.py --recbole --gpus-per-trial 0.25            # RecBole's own sequential classes too
    python benchmarks/benchmark.py --finished                     # trains nothing: pages of what is there

Interrupted in whatever way, the same command goes on, and ends with the same tables but for costs. Every step is a
command of mos-recbole that is printed before it is run. `--key=value` arguments go to all sweeps. configs/benchmark/
has the models with their search spaces and the protocol of each data set; configs/references/ has the published
figures. docs/benchmark.md says what is compared.

The searches are in --work. The runs of every model's chosen configuration go to --output, without models and without
names of users and items, and take the place of those that it has of the model. So a benchmark grows: data sets and
models join those that were run before, elsewhere or by an earlier version. The page over all of them is made of
--output alone.
"""

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from mos_recbole.analysis import (
    COSTS,
    Comparisons,
    ConfigurationRow,
    Cost,
    Reference,
    RunGroup,
    Section,
    compare_groups,
    configuration_rows,
    metric_intervals,
    on_front,
    read_reference,
    read_study,
    usual_cost,
)
from mos_recbole.cli import main as mos_recbole
from mos_recbole.errors import InputError
from mos_recbole.evaluation import Interval, MeanRanks, mean_ranks
from mos_recbole.report import Table, comparisons_table, write_page
from mos_recbole.report.figures import STYLE, Figure, Look, add_legend, model_looks
from mos_recbole.report.figures.costs import Point, plot_costs
from mos_recbole.report.figures.figure import GREY, make_panels
from mos_recbole.report.formatting import (
    NOTHING,
    arrow,
    format_p_value,
    interval_cell,
    interval_columns,
    number_cell,
    p_value_cell,
    words,
)
from mos_recbole.report.page import PageSection
from mos_recbole.report.provenance import moment, protocol_line
from mos_recbole.report.reference import reference_tables
from mos_recbole.report.table import Cell
from mos_recbole.results import RUNS_FOLDER, RunResult, find_records, format_parameter, keep_run, remove_runs

CONFIGS = Path(__file__).parents[1] / "configs"
DATASETS = ("ml-100k", "ml-1m", "beauty", "sports", "diginetica", "ml-25m")
BUILT_IN = "ml-100k"
WORK = Path("work/benchmark")
OUTPUT = Path("results/benchmark")
SEARCHES = ("models", "recbole")
TRIALS = "trials.csv"
METRICS = ("NDCG@10", "Recall@10", "MRR@10", "Recall@100")
_COSTS = ("time", "processor", "energy", "memory")


def commands(
    options: argparse.Namespace, passed: Sequence[str], references: Mapping[Path, Reference]
) -> Iterator[list[str]]:
    """Yields the steps as arguments of mos-recbole: of each data set its sweeps, then its report, if any run ended."""
    for dataset in options.dataset:
        results = options.work / dataset
        for name in SEARCHES if options.recbole else SEARCHES[:1]:
            if not options.finished:
                yield _sweep(name, dataset, results, options, passed)
        if not options.dry_run and _has_runs(results):
            known = [path for path, reference in references.items() if reference.dataset == dataset]
            published = ["--reference", *map(str, known)] if known else []
            shown = ["--metrics", *METRICS, *published, "--output", str(results / "report")]
            yield ["report", str(results), *shown]


def _sweep(name: str, dataset: str, results: Path, options: argparse.Namespace, passed: Sequence[str]) -> list[str]:
    folder = CONFIGS / "benchmark"
    place = dataset if dataset == BUILT_IN else str(options.data_path / dataset)
    command = ["sweep", str(folder / f"{name}.yaml"), "--dataset", place, "--config", str(folder / f"{dataset}.yaml")]
    command += ["--output", str(results)]
    for key in ("samples", "cpus_per_trial", "gpus_per_trial", "max_concurrent"):
        if (value := getattr(options, key)) is not None:
            command += [f"--{key.replace('_', '-')}", str(value)]
    command += ["--seeds", *map(str, options.seeds)] if options.seeds else []
    return [*command, *(["--dry-run"] if options.dry_run else []), *passed]


def _has_runs(results: Path) -> bool:
    return results.is_dir() and bool(find_records(results))


def keep_chosen(results: Path, kept: Path) -> None:
    """Copies the runs of every model's chosen configuration, and the list of trials among which it was chosen.

    Args:
        results: the searches on a data set.
        kept: folder of the data set; its runs of these models by the same protocol are replaced, as are their trials.

    Raises:
        InputError: a file of the runs is missing or broken.
    """
    for section in read_study([results]).sections:
        for group in section.best.values():
            ours = {run.run_id for run in group.runs}
            there = find_records(kept) if _has_runs(kept) else []
            if replaced := [run.folder for run in there if _rivals(run, group.runs[0]) and run.run_id not in ours]:
                remove_runs(replaced)
            for run in group.runs:
                keep_run(run, kept / RUNS_FOLDER / run.folder.name)
    _keep_trials([results / name / TRIALS for name in SEARCHES], kept / TRIALS)


def _keep_trials(searched: Sequence[Path], kept: Path) -> None:
    # As text, so that no number changes.
    frames = [pd.read_csv(path, dtype=str) for path in searched if path.exists()]
    if not frames:
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    models = {model for frame in frames for model in frame["model"]}
    before = [pd.read_csv(kept, dtype=str)] if kept.exists() else []
    joined = pd.concat([*(frame[~frame["model"].isin(models)] for frame in before), *frames])
    joined.to_csv(kept, index=False, lineterminator="\n")


def _rivals(run: RunResult, other: RunResult) -> bool:
    return (run.model, run.protocol_hash) == (other.model, other.protocol_hash)


@dataclass(frozen=True)
class Results:
    """The best configuration of every model on a data set, as validation chose it, with its test metrics."""

    section: Section

    @property
    def name(self) -> str:
        """The data set, with what tells its protocol from another one."""
        return self.section.title.removesuffix(f", {self.section.runs[0].protocol['split']['name']}")

    @cached_property
    def rows(self) -> dict[str, ConfigurationRow]:
        """The configurations by model, the best test NDCG@10 first."""
        best = {model: self.section.best[model].runs for model in self.section.models if model in self.section.best}
        rows = [ConfigurationRow(model, runs, metric_intervals(runs, METRICS)) for model, runs in best.items()]
        rows.sort(key=lambda row: -row.intervals[METRICS[0]].mean)
        return {row.label: row for row in rows}

    @cached_property
    def comparisons(self) -> Comparisons | None:
        """All pairs of the models by NDCG@10; None for a single one."""
        groups = [RunGroup(model, row.runs) for model, row in self.rows.items()]
        return compare_groups(groups, METRICS[:1]) if len(groups) > 1 else None

    @cached_property
    def p_from_best(self) -> dict[str, float | None]:
        """By model, p of its difference from the best one, corrected for all pairs; without the best."""
        rows = self.comparisons.rows if self.comparisons else ()
        return {row.second: row.adjusted_p_value for row in rows if row.first == next(iter(self.rows))}


def write_overview(output: Path, datasets: Sequence[str], references: Sequence[Reference] = ()) -> list[Path]:
    """Returns the files of the page over all data sets of which runs have finished.

    Args:
        references: published figures, to be shown beside ours.

    Raises:
        InputError: as `read_study` and `write_page`.
    """
    study = read_study([output / dataset for dataset in datasets])
    results = [Results(section) for section in study.sections]
    models = list(dict.fromkeys(model for one in results for model in one.rows))
    looks = model_looks(sorted(models))
    cost = usual_cost([run for one in results for row in one.rows.values() for run in row.runs])
    items: list[Table | Figure] = [best_table(results), *chosen_tables(results, output)]
    items += ranks_of(results, models, looks)
    items += [costs_table(results, cost), costs_figure(results, cost, looks)]
    items += [*published_tables(results, references), *differences_tables(results), metrics_table(results)]
    facts = [(one.name, _about(one.section.runs[0])) for one in results]
    newest = max(run.finished for one in results for run in one.section.runs)
    section = PageSection("All data sets", "all", facts, [], _notes(results, models), items)
    place = [] if output == OUTPUT else ["--output", str(output)]
    command = shlex.join(["python", "benchmarks/benchmark.py", "--dataset", *datasets, "--finished", *place])
    title = f"{len(models)} models on {', '.join(dict.fromkeys(one.section.runs[0].dataset for one in results))}"
    return write_page(output, [section], study.missing, command, moment(newest), title)


def _about(run: RunResult) -> str:
    return f"{protocol_line(run)} Windows of {run.settings.get('MAX_ITEM_LIST_LENGTH')} items."


def _notes(results: Sequence[Results], models: Sequence[str]) -> list[str]:
    lacking = [
        f"{one.name} lacks {', '.join(absent)}."
        for one in results
        if (absent := [model for model in models if model not in one.rows])
    ]
    twice = [name for name, count in Counter(map(_dataset, results)).items() if count > 1]
    unranked = [f"No mean ranks: {name} is here by more than one protocol." for name in twice]
    return [
        *lacking,
        *unranked,
        "All configurations are on the pages of the searches, report/report.html in the work folder of a data set.",
    ]


def best_table(results: Sequence[Results]) -> Table:
    """Returns the best configuration of every model on every data set, without the costs, which never repeat."""
    cells, numbers = [], []
    for one in results:
        for model, row in one.rows.items():
            shown = {f"{metric} {arrow(metric)}": interval_cell(row.intervals[metric]) for metric in METRICS}
            p_value = one.p_from_best.get(model)
            shown["p (best)"] = p_value_cell(p_value)
            run = row.runs[0]
            counts = {"parameters": number_cell(run.parameters, ","), "seeds": number_cell(len(row.runs), "d")}
            cells.append(
                {"data set": words(one.name), "model": words(model), **shown}
                | {"trained on": words(_trained_on(run)), **counts}
            )
            numbers.append(
                {"dataset": one.name, "model": model}
                | {key: value for m in METRICS for key, value in interval_columns(m, row.intervals[m]).items()}
                | {"p (best)": p_value, "trained on": _trained_on(run)}
                | {"parameters": run.parameters, "seeds": len(row.runs)}
            )
    caption = (
        "Of every model the configuration that is best on validation, chosen on the seeds that all of its "
        "configurations have; its test metrics by full ranking are means over seeds and queries ± half the width of "
        f"the 95 % interval over users and seeds. p (best): of the difference in {METRICS[0]} from the data set's "
        "first model, corrected by Holm's method for all pairs of its models. Trained on: whole windows, a loss at "
        "every position; prefixes, one sample a target; RecBole's own classes have their own samples."
    )
    return Table("best", "The best of each model", caption, cells, pd.DataFrame(numbers))


def chosen_tables(results: Sequence[Results], output: Path) -> list[Table]:
    """Returns what every model's configuration was chosen among as a table; none where no search is known."""
    cells, numbers = [], []
    for one in results:
        path = output / _dataset(one) / TRIALS
        trials = pd.read_csv(path) if path.exists() else pd.DataFrame({"model": [], "seed": [], "status": []})
        names = list(trials)
        swept = names[names.index("seed") + 1 : names.index("status")]
        for model, row in one.rows.items():
            tried = trials[trials["model"] == model]
            # A column that another one has the name of is marked.
            keys = {name: name.removesuffix(" (swept)") for name in swept if tried[name].notna().any()}
            values = {key: row.runs[0].settings.get(key) for key in keys.values()}
            n_tried = len(tried.drop_duplicates(list(keys))) if keys else min(1, len(tried))
            valid = float(np.mean([run.valid[run.valid_metric].value for run in row.runs]))
            if n_tried:
                shown = ", ".join(f"{key}={format_parameter(value)}" for key, value in values.items())
                cells.append(
                    {"data set": words(one.name), "model": words(model), "configuration": words(shown or NOTHING.text)}
                    | {"tried": number_cell(n_tried, "d"), "validation": number_cell(valid, ".4f")}
                )
                about = {"dataset": one.name, "model": model, "configuration": shown}
                numbers.append(about | {"tried": n_tried, "validation": valid})
    metrics = " or ".join(sorted({run.valid_metric for one in results for run in one.section.runs}))
    caption = (
        f"The configuration of each model that is best on validation by {metrics}, and how many were tried. The test "
        "had no part in it. Validation: mean over the seeds of the chosen one; optimistic, since it was chosen by it."
    )
    title = "What validation chose"
    return [Table("chosen", title, caption, cells, pd.DataFrame(numbers), folded=True)] if cells else []


def _trained_on(run: RunResult) -> str:
    if run.encoder is None:
        return "RecBole's own"
    return "whole windows" if run.settings.get("train_mode") == "all_positions" else "prefixes"


def _dataset(results: Results) -> str:
    return results.section.runs[0].dataset


def ranks_of(results: Sequence[Results], models: Sequence[str], looks: dict[str, Look]) -> list[Table | Figure]:
    """Returns the models' ranks with the critical difference, as a table and a figure; nothing for one data set."""
    shared = [model for model in models if all(model in one.rows for one in results)]
    # Two protocols of a data set are not two data sets.
    if len(results) < 2 or len(shared) < 2 or len(set(map(_dataset, results))) < len(results):
        return []
    metric = METRICS[0]
    scores_DM = np.array([[one.rows[model].intervals[metric].mean for model in shared] for one in results])
    found = mean_ranks(scores_DM)
    order = sorted(range(len(shared)), key=lambda number: (found.mean_M[number], shared[number]))
    cells = [
        {"model": words(shared[m]), "mean rank": number_cell(found.mean_M[m], ".2f")}
        | {
            f"{one.name} {metric}": Cell(f"{scores_DM[d, m]:.4f} ({found.rank_DM[d, m]:g})", scores_DM[d, m])
            for d, one in enumerate(results)
        }
        for m in order
    ]
    frame = pd.DataFrame(
        [
            {"model": shared[m], "mean rank": found.mean_M[m], "critical difference": found.critical_difference}
            | {f"{one.name} rank": found.rank_DM[d, m] for d, one in enumerate(results)}
            for m in order
        ]
    )
    left_out = [model for model in models if model not in shared]
    caption = (
        f"Ranks by test {metric}, 1 for the best, of the {len(shared)} models that all {len(results)} data sets have"
        + (f" (without {', '.join(left_out)})" if left_out else "")
        + f". Friedman's test (Iman and Davenport): p {format_p_value(found.p_value)}. By Nemenyi's test at 5 % two "
        f"models differ if their mean ranks are {found.critical_difference:.2f} or more apart (Demšar 2006). Data sets "
        "are the unit: few of them tell few models apart."
    )
    drawing = ranks_figure(found, [shared[m] for m in order], found.mean_M[order], looks)
    return [
        Table("ranks", "Mean ranks", caption, cells, frame),
        Figure(
            "ranks",
            "Mean ranks and the critical difference",
            f"Models whose bars do not meet differ. {caption}",
            drawing,
        ),
    ]


@matplotlib.rc_context(STYLE)
def ranks_figure(found: MeanRanks, models: Sequence[str], means: np.ndarray, looks: dict[str, Look]) -> Drawing:
    """Returns the mean ranks, the best on top, each with half the critical difference to both sides."""
    drawing, (ax,) = make_panels(1, size=(6.5, 1.0 + 0.25 * len(models)))
    for place, (model, mean) in enumerate(zip(models, means, strict=True)):
        half = found.critical_difference / 2
        ax.plot([mean - half, mean + half], [place, place], color=looks[model].colour, linewidth=1.5)
        ax.plot([mean], [place], color=looks[model].colour, marker=looks[model].marker, markersize=5)
    ax.set_yticks(range(len(models)), models)
    ax.invert_yaxis()
    ax.set_xlabel("mean rank (1 is best)")
    return drawing


def costs_table(results: Sequence[Results], cost: Cost) -> Table:
    """Returns what the chosen configurations cost; a star where no other one reaches as much for as little."""
    cells: list[dict[str, Cell]] = []
    numbers = []
    kinds = [COSTS[name] for name in dict.fromkeys((cost.name, *_COSTS))]
    for one in results:
        rows = list(one.rows.values())
        for row, starred in zip(rows, on_front(rows, METRICS[0], cost), strict=True):
            means = {kind: kind.interval(row.runs) for kind in kinds}
            shown = {kind.header: _cost_cell(mean, starred and kind is cost) for kind, mean in means.items()}
            cells.append(
                {"data set": words(one.name), "model": words(row.label)}
                | {METRICS[0]: interval_cell(row.intervals[METRICS[0]]), **shown}
                | {"parameters": number_cell(row.runs[0].parameters, ",")}
            )
            costs = {
                key: value for kind, mean in means.items() for key, value in interval_columns(kind.name, mean).items()
            }
            numbers.append({"dataset": one.name, "model": row.label, **costs, "front": starred})
    caption = (
        f"Costs of a training of the chosen configuration, means over seeds; the search is not counted. ★: on this "
        f"data set no other model has as good a {METRICS[0]} for as little {cost.label}; intervals have no part in it. "
        + " ".join(f"{kind.label.capitalize()}: {kind.help}." for kind in kinds)
    )
    return Table("costs", "Costs", caption, cells, pd.DataFrame(numbers))


def _cost_cell(mean: Interval | None, starred: bool) -> Cell:
    return NOTHING if mean is None else Cell("★ " * starred + f"{mean.mean:,.3g}", mean.mean)


@matplotlib.rc_context(STYLE)
def costs_figure(results: Sequence[Results], cost: Cost, looks: dict[str, Look]) -> Figure:
    """Returns the metric against the cost of the chosen configurations, a panel a data set."""
    drawing, panels = make_panels(len(results))
    for ax, one in zip(panels, results, strict=True):
        rows = list(one.rows.values())
        points = [
            Point(row.label, spent, row.intervals[METRICS[0]], front)
            for row, front in zip(rows, on_front(rows, METRICS[0], cost), strict=True)
            if (spent := cost.interval(row.runs)) is not None
        ]
        plot_costs(points, looks, ax).set(xlabel=cost.header, ylabel=f"test {METRICS[0]}", title=one.name)
    add_legend(drawing, looks, [Line2D([], [], color=GREY, label="front")])
    caption = (
        f"Test {METRICS[0]} against {cost.label} ({cost.help}) of the chosen configurations: means with 95 % "
        "intervals, over users and seeds and over seeds. The line is the front, which the table of costs marks by a "
        "star. Hollow: not on it."
    )
    return Figure("costs", f"{METRICS[0]} and {cost.label}", caption, drawing)


def published_tables(results: Sequence[Results], references: Sequence[Reference]) -> list[Table]:
    """Returns published figures beside ours on all data sets as one table; none where there are none."""
    cells, frames, captions = [], [], []
    for one in results:
        # Published differences are between settings that the kept runs need not have.
        known = [ref.model_copy(update={"differences": ()}) for ref in references if ref.dataset == _dataset(one)]
        metrics = {*METRICS, *(row.metric for reference in known for row in reference.rows)}
        ours = {row.label: row for row in configuration_rows(one.section.runs, sorted(metrics))}
        for table in reference_tables(known, one.section, ours):
            cells += [{"data set": words(one.name), **row} for row in table.rows]
            frames.append(table.frame.assign(dataset=one.name))
            captions.append(table.caption)
    if not cells:
        return []
    caption = "\n".join(dict.fromkeys(captions))
    return [Table("published", "Beside published numbers", caption, cells, _dataset_first(frames))]


_NOT_SHOWN = ("metric", "d_z", "p", "p (flips)")


def differences_tables(results: Sequence[Results]) -> list[Table]:
    """Returns the differences of all pairs of models on all data sets as one table; none for single models."""
    cells, frames, captions = [], [], []
    for one in results:
        if one.comparisons is not None:
            table = comparisons_table(one.comparisons, _NOT_SHOWN)
            cells += [{"data set": words(one.name), **row} for row in table.rows]
            frames.append(table.frame.assign(dataset=one.name))
            captions += [f"{one.name}: {line}" if len(results) > 1 else line for line in table.caption.splitlines()]
    if not cells:
        return []
    title = f"Differences in {METRICS[0]}, all pairs"
    return [Table("differences", title, "\n".join(captions), cells, _dataset_first(frames), folded=True)]


def _dataset_first(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    frame = pd.concat(frames, ignore_index=True)
    return frame[["dataset", *(name for name in frame if name != "dataset")]]


def metrics_table(results: Sequence[Results]) -> Table:
    """Returns all metrics of the chosen configurations, a row each."""
    found = [
        (one.name, row.label, metric, row.intervals[metric])
        for one in results
        for metric in METRICS
        for row in sorted(one.rows.values(), key=lambda row: -row.intervals[metric].mean)
    ]
    cells = [
        {"data set": words(name), "model": words(model), "metric": words(metric), "value": interval_cell(value)}
        for name, model, metric, value in found
    ]
    frame = pd.DataFrame(
        [
            {"dataset": name, "model": model, "metric": metric, **interval_columns("value", value)}
            for name, model, metric, value in found
        ]
    )
    return Table("metrics", "Every metric", "The numbers of the first table, one a row.", cells, frame, folded=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--dataset", nargs="+", choices=DATASETS, help="(default: all that are there)")
    parser.add_argument("--samples", type=int, metavar="N", help="configurations of each model (default: 12)")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="(default: five)")
    parser.add_argument("--recbole", action="store_true", help="RecBole's own sequential classes too, for a GPU")
    parser.add_argument("--data-path", type=Path, default=Path("dataset"), metavar="FOLDER", help="(default: dataset)")
    parser.add_argument("--work", type=Path, default=WORK, metavar="FOLDER", help=f"for searches (default: {WORK})")
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, metavar="FOLDER", help=f"for results (default: {OUTPUT})"
    )
    parser.add_argument("--cpus-per-trial", type=int, metavar="N")
    parser.add_argument("--gpus-per-trial", type=float, metavar="X")
    parser.add_argument("--max-concurrent", type=int, metavar="N", help="trials at a time (default: as many as fit)")
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument("--dry-run", action="store_true", help="print what would run and an estimate, and stop")
    doing.add_argument("--finished", action="store_true", help="train nothing: pages of what is there")
    options, passed = parser.parse_known_args()
    if unknown := [argument for argument in passed if not argument.startswith("--") or "=" not in argument]:
        parser.error(f"argument {unknown[0]!r} not understood; settings are given as --key=value")
    places = [options.work, options.output] if options.finished else [options.data_path]
    there = [name for name in DATASETS if any((place / name).is_dir() for place in places)]
    if not options.finished and BUILT_IN not in there:
        there.insert(0, BUILT_IN)
    if absent := [name for name in options.dataset or DATASETS if name not in there]:
        searched = " and ".join(map(str, places))
        if options.dataset is not None:
            parser.error(f"no folder {absent[0]} in {searched}; docs/benchmark.md says where data come from")
        print(f"Left out, since there is no such folder in {searched}: {', '.join(absent)}", file=sys.stderr)
    options.dataset = options.dataset or there
    # Read before anything is trained.
    references = {path: read_reference(path) for path in sorted((CONFIGS / "references").glob("*.yaml"))}
    worst = 0
    for command in commands(options, passed, references):
        print(f"\n$ {shlex.join(['mos-recbole', *command])}", flush=True)
        status = mos_recbole(command)
        # A sweep returns 1 where trials failed; the page is of the others.
        if status > 1 or (status and command[0] != "sweep"):
            return status
        worst = max(worst, status)
    if not options.dry_run:
        for name in options.dataset:
            if _has_runs(options.work / name):
                keep_chosen(options.work / name, options.output / name)
        having = [name for name in options.dataset if _has_runs(options.output / name)]
        if absent := [name for name in options.dataset if name not in having]:
            print(f"No finished runs, so no pages: {', '.join(absent)}", file=sys.stderr)
        if not having:
            return worst or 2
        page, *others = write_overview(options.output, having, list(references.values()))
        print(f"\n{page}\nand {len(others)} files of tables and figures beside it, in tables/ and figures/")
    return worst


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
