"""The page over several data sets: the best configuration of every model on each of them, side by side."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mos_recbole.analysis.best_models import BestModels
from mos_recbole.analysis.configurations import best_first, configuration_rows
from mos_recbole.analysis.costs import COSTS, Cost, on_front, usual_cost
from mos_recbole.analysis.reference import Reference
from mos_recbole.analysis.study import Section, read_study
from mos_recbole.analysis.sweep_frame import swept_columns
from mos_recbole.evaluation import mean_ranks
from mos_recbole.report.comparisons import comparisons_table
from mos_recbole.report.figures import Figure, Look, model_looks
from mos_recbole.report.figures.costs import draw_costs
from mos_recbole.report.figures.ranks import draw_ranks
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
from mos_recbole.report.runs import cost_cell
from mos_recbole.report.study import write_page
from mos_recbole.report.table import Cell, Table
from mos_recbole.results import RunResult, format_parameter

# What a reader asks for beside the parameters; shown where any run has it.
_COSTS = ("time", "processor", "energy", "memory")
# Columns of comparisons that the table of all pairs leaves out.
_NOT_SHOWN = ("metric", "d_z", "p (flips)")


def write_overview(
    output: Path,
    folders: Sequence[Path],
    metrics: Sequence[str],
    command: str,
    references: Sequence[Reference] = (),
    trials: Mapping[str, pd.DataFrame] | None = None,
    notes: Sequence[str] = (),
) -> list[Path]:
    """Returns the files of the page, then those of its tables and figures.

    Args:
        output: folder of the page.
        folders: of results, one a data set.
        metrics: that are shown, in RecBole's spelling; models are ranked and compared by the first one, of which more
            is better.
        command: what a user types to get this page.
        references: published figures, to be shown beside ours.
        trials: by data set all trials among which validation chose, as `analysis.trials_frame`; those of a model count
            where its chosen runs are among them.
        notes: to be added to those of what is lacking.

    Raises:
        InputError: as `read_study` and `write_page`.
    """
    study = read_study(folders)
    names = _names(study.sections)
    data = [BestModels(section, name, metrics) for section, name in zip(study.sections, names, strict=True)]
    models = list(dict.fromkeys(model for one in data for model in one.rows))
    looks = model_looks(sorted(models))
    cost = usual_cost([run for one in data for row in one.rows.values() for run in row.runs])
    items: list[Table | Figure] = [_best_table(data), *_chosen_tables(data, trials or {})]
    items += _ranks(data, models, looks)
    rows = {one.name: list(one.rows.values()) for one in data}
    items += [_costs_table(data, cost), draw_costs(rows, metrics[0], cost, looks)]
    items += [*_published_tables(data, references), *_differences_tables(data), _metrics_table(data)]
    facts = [(one.name, _about(one.section.runs)) for one in data]
    newest = max(run.finished for one in data for run in one.section.runs)
    section = PageSection("All data sets", "all", facts, [], [*_notes(data, models), *notes], items)
    title = f"{len(models)} models on {', '.join(dict.fromkeys(one.dataset for one in data))}"
    return write_page(output, [section], study.missing, command, moment(newest), title)


def _names(sections: Sequence[Section]) -> list[str]:
    """Returns the data set of every section, with what tells its protocol from others of the same data."""
    short = [one.title.removesuffix(f", {one.runs[0].protocol['split']['name']}") for one in sections]
    return [name if short.count(name) == 1 else one.title for name, one in zip(short, sections, strict=True)]


def _about(runs: Sequence[RunResult]) -> str:
    windows = {run.settings["MAX_ITEM_LIST_LENGTH"] for run in runs if "MAX_ITEM_LIST_LENGTH" in run.settings}
    shown = f" Windows of {' or '.join(map(str, sorted(windows)))} items." if windows else ""
    machines = Counter(f"{run.device}, threads: {run.threads}" for run in runs)
    trained = "; ".join(f"{count} on {machine}" for machine, count in machines.items())
    return f"{protocol_line(runs[0])}{shown} Runs: {trained}."


def _notes(data: Sequence[BestModels], models: Sequence[str]) -> list[str]:
    of_sections = [f"{one.name}: {note}" for one in data for note in one.section.notes]
    lacking = [
        f"{one.name} lacks {', '.join(absent)}."
        for one in data
        if (absent := [model for model in models if model not in one.rows])
    ]
    twice = [name for name, count in Counter(one.dataset for one in data).items() if count > 1]
    unranked = [f"No mean ranks: {name} is here by more than one protocol." for name in twice]
    return [*of_sections, *lacking, *unranked]


def _best_table(data: Sequence[BestModels]) -> Table:
    """Returns the best configuration of every model on every data set, without the costs, which never repeat."""
    cells, numbers = [], []
    for one in data:
        for model, row in one.rows.items():
            shown = {f"{metric} {arrow(metric)}": interval_cell(row.intervals[metric]) for metric in one.metrics}
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
                | {key: value for m in one.metrics for key, value in interval_columns(m, row.intervals[m]).items()}
                | {"p (best)": p_value, "trained on": _trained_on(run)}
                | {"parameters": run.parameters, "seeds": len(row.runs)}
            )
    caption = (
        "Of every model the configuration that is best on validation, chosen on the seeds that all of its "
        "configurations have; its test metrics by full ranking are means over seeds and queries ± half the width of "
        f"the 95 % interval over users and seeds. p (best): of the difference in {data[0].metrics[0]} from the data "
        "set's first model, corrected by Holm's method for all pairs of its models. Trained on: whole windows, a loss "
        "at every position; prefixes, one sample a target; RecBole's own classes have their own samples."
    )
    return Table("best", "The best of each model", caption, cells, pd.DataFrame(numbers))


def _chosen_tables(data: Sequence[BestModels], all_trials: Mapping[str, pd.DataFrame]) -> list[Table]:
    """Returns what every model's configuration was chosen among as a table; none where no search is known."""
    cells, numbers = [], []
    for one in data:
        if one.dataset not in all_trials:
            continue
        trials = all_trials[one.dataset]
        for model, row in one.rows.items():
            tried = trials[trials["model"] == model]
            if not {run.run_id for run in row.runs} <= set(tried["run_id"]):
                continue  # They were chosen among others.
            # A column that another one has the name of is marked.
            keys = {name: name.removesuffix(" (swept)") for name in swept_columns(tried) if tried[name].notna().any()}
            values = {key: row.runs[0].settings.get(key) for key in keys.values()}
            n_tried = len(tried.drop_duplicates(list(keys))) if keys else 1
            valid = float(np.mean([run.valid[run.valid_metric].value for run in row.runs]))
            shown = ", ".join(f"{key}={format_parameter(value)}" for key, value in values.items())
            cells.append(
                {"data set": words(one.name), "model": words(model), "configuration": words(shown or NOTHING.text)}
                | {"tried": number_cell(n_tried, "d"), "validation": number_cell(valid, ".4f")}
            )
            about = {"dataset": one.name, "model": model, "configuration": shown}
            numbers.append(about | {"tried": n_tried, "validation": valid})
    metrics = " or ".join(sorted({run.valid_metric for one in data for run in one.section.runs}))
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


def _ranks(data: Sequence[BestModels], models: Sequence[str], looks: dict[str, Look]) -> list[Table | Figure]:
    """Returns the models' ranks with the critical difference, as a table and a figure; nothing for one data set."""
    shared = [model for model in models if all(model in one.rows for one in data)]
    # Two protocols of a data set are not two data sets.
    if len(data) < 2 or len(shared) < 2 or len({one.dataset for one in data}) < len(data):
        return []
    metric = data[0].metrics[0]
    scores_DM = np.array([[one.rows[model].intervals[metric].mean for model in shared] for one in data])
    found = mean_ranks(scores_DM)
    order = sorted(range(len(shared)), key=lambda number: (found.mean_M[number], shared[number]))
    cells = [
        {"model": words(shared[m]), "mean rank": number_cell(found.mean_M[m], ".2f")}
        | {
            f"{one.name} {metric}": Cell(f"{scores_DM[d, m]:.4f} ({found.rank_DM[d, m]:g})", scores_DM[d, m])
            for d, one in enumerate(data)
        }
        for m in order
    ]
    frame = pd.DataFrame(
        [
            {"model": shared[m], "mean rank": found.mean_M[m], "critical difference": found.critical_difference}
            | {f"{one.name} rank": found.rank_DM[d, m] for d, one in enumerate(data)}
            for m in order
        ]
    )
    left_out = [model for model in models if model not in shared]
    caption = (
        f"Ranks by test {metric}, 1 for the best, of the {len(shared)} models that all {len(data)} data sets have"
        + (f" (without {', '.join(left_out)})" if left_out else "")
        + f". Friedman's test (Iman and Davenport): p {format_p_value(found.p_value)}. By Nemenyi's test at 5 % two "
        f"models differ if their mean ranks are {found.critical_difference:.2f} or more apart (Demšar 2006). Data sets "
        "are the unit: few of them tell few models apart."
    )
    in_order = [shared[m] for m in order]
    return [
        Table("ranks", "Mean ranks", caption, cells, frame),
        draw_ranks(in_order, found.mean_M[order], found.critical_difference, looks, caption),
    ]


def _costs_table(data: Sequence[BestModels], cost: Cost) -> Table:
    """Returns what the chosen configurations cost; a star where no other one reaches as much for as little."""
    cells, numbers, metric = [], [], data[0].metrics[0]
    runs = [run for one in data for row in one.rows.values() for run in row.runs]
    kinds = [
        cost,
        *(kind for kind in (COSTS[name] for name in _COSTS) if kind != cost and any(kind.of(run) for run in runs)),
    ]
    for one in data:
        rows = list(one.rows.values())
        for row, starred in zip(rows, on_front(rows, metric, cost), strict=True):
            means = {kind: kind.interval(row.runs) for kind in kinds}
            shown = {kind.header: cost_cell(mean, starred and kind is cost) for kind, mean in means.items()}
            cells.append(
                {"data set": words(one.name), "model": words(row.label)}
                | {metric: interval_cell(row.intervals[metric]), **shown}
                | {"parameters": number_cell(row.runs[0].parameters, ",")}
            )
            costs = {
                key: value for kind, mean in means.items() for key, value in interval_columns(kind.name, mean).items()
            }
            numbers.append({"dataset": one.name, "model": row.label, **costs, "front": starred})
    caption = (
        "Costs of a training of the chosen configuration, means over seeds ± half the width of Student's 95 % "
        "interval; the search is not counted. ★: on this data set no other model has as good a "
        f"{metric} for as little {cost.label}; intervals have no part in it. Times of different machines do not "
        "compare. " + " ".join(f"{kind.label.capitalize()}: {kind.help}." for kind in kinds)
    )
    return Table("costs", "Costs", caption, cells, pd.DataFrame(numbers))


def _published_tables(data: Sequence[BestModels], references: Sequence[Reference]) -> list[Table]:
    """Returns published figures beside ours on all data sets as one table; none where there are none."""
    cells, frames, captions = [], [], []
    for one in data:
        # Published differences are between settings that the kept runs need not have.
        known = [ref.model_copy(update={"differences": ()}) for ref in references if ref.dataset == one.dataset]
        metrics = {*one.metrics, *(row.metric for reference in known for row in reference.rows)}
        ours = {row.label: row for row in configuration_rows(one.section.runs, sorted(metrics))}
        for table in reference_tables(known, one.section, ours):
            cells += [{"data set": words(one.name), **row} for row in table.rows]
            frames.append(table.frame.assign(dataset=one.name))
            captions.append(table.caption)
    if not cells:
        return []
    caption = "\n".join(dict.fromkeys(captions))
    return [Table("published", "Beside published numbers", caption, cells, _dataset_first(frames))]


def _differences_tables(data: Sequence[BestModels]) -> list[Table]:
    """Returns the differences of all pairs of models on all data sets as one table; none for single models."""
    cells, frames, lines = [], [], dict[str, list[str]]()
    for one in data:
        if one.comparisons is not None:
            table = comparisons_table(one.comparisons, _NOT_SHOWN)
            cells += [{"data set": words(one.name), **row} for row in table.rows]
            frames.append(table.frame.assign(dataset=one.name))
            lines[one.name] = table.caption.splitlines()
    if not cells:
        return []
    shared = [line for line in next(iter(lines.values())) if all(line in own for own in lines.values())]
    captions = [f"{name}: {line}" for name, own in lines.items() for line in own if line not in shared] + shared
    title = f"Differences in {data[0].metrics[0]}, all pairs"
    return [Table("differences", title, "\n".join(captions), cells, _dataset_first(frames), folded=True)]


def _dataset_first(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    frame = pd.concat(frames, ignore_index=True)
    return frame[["dataset", *(name for name in frame if name != "dataset")]]


def _metrics_table(data: Sequence[BestModels]) -> Table:
    """Returns all metrics of the chosen configurations, a row each."""
    found = [
        (one.name, row.label, metric, row.intervals[metric])
        for one in data
        for metric in one.metrics
        for row in best_first(one.rows.values(), metric)
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
