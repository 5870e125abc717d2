"""Figures of a sweep: a panel per data set, a colour per model.

They take the frame of trials of `analysis.sweep_frame`. A trial's score is its validation metric: of the best epoch, or
of the best so far where the scheduler stopped the trial. Failed and unfinished trials have no place in figures of
scores; their training curves are shown.
"""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from mos_recbole.analysis.study import slug
from mos_recbole.analysis.sweep_frame import Mode, pareto_frontier
from mos_recbole.report.figures.figure import (
    GREY,
    PANEL,
    STYLE,
    Figure,
    Look,
    add_legend,
    make_panels,
    model_looks,
    say_empty,
)
from mos_recbole.report.figures.heat import draw_heat_maps
from mos_recbole.report.figures.parallel import metric_label, plot_parallel_coordinates
from mos_recbole.report.figures.scales import Scale, label_log_axis
from mos_recbole.report.figures.training import Curve, coloured_curves, draw_training_curves, few_to_many

_THICK, _THIN = 1.8, 0.8  # lines through best and mean scores
_HOLLOW: Any = {"linestyle": "", "marker": "o", "markerfacecolor": "none"}


@matplotlib.rc_context(STYLE)
def draw_sweep(
    frame: pd.DataFrame, parameters: Mapping[str, str], logs: Mapping[int, pd.DataFrame], metric: str, mode: Mode
) -> list[Figure]:
    """Returns the figures of a sweep.

    Args:
        frame: a row per trial.
        parameters: the swept parameters, each with its column in `frame`.
        logs: training logs by the trial's number.
        metric: validation metric that selects.
        mode: whether its maximum or its minimum is best.
    """
    looks = model_looks(frame["model"])
    parameters = distinct_parameters(frame, parameters)
    by_dataset = {str(name): part for name, part in frame.groupby("dataset", sort=False)} or {"": frame}
    figures = [_draw_parameter(by_dataset, key, column, metric, mode, looks) for key, column in parameters.items()]
    several = len(by_dataset) > 1
    by_model = {
        f"{model} on {name}" if several else str(model): _scored(own, metric)
        for name, part in by_dataset.items()
        for model, own in part.groupby("model", sort=False)
    }
    figures += draw_heat_maps(by_model, parameters, metric, mode)
    if parameters:
        figures.append(_draw_parallel(by_dataset, parameters, metric, mode))
    figures.append(_draw_curves(by_dataset, parameters, logs, metric, looks))
    figures.append(_draw_pareto(by_dataset, metric, mode, looks))
    return figures


def distinct_parameters(frame: pd.DataFrame, parameters: Mapping[str, str]) -> dict[str, str]:
    """Returns the parameters without those that have the same value as an earlier one in every trial that has them."""
    values = {key: [None if pd.isna(one) else one for one in frame[column]] for key, column in parameters.items()}
    kept: dict[str, str] = {}
    for key, column in parameters.items():
        pairs = [zip(values[key], values[other], strict=True) for other in kept]
        given = any(value is not None for value in values[key])
        if not given or not any(all(one is None or one == other for one, other in pair) for pair in pairs):
            kept[key] = column
    return kept


def _draw_curves(
    by_dataset: Mapping[str, pd.DataFrame],
    parameters: Mapping[str, str],
    logs: Mapping[int, pd.DataFrame],
    metric: str,
    looks: Mapping[str, Look],
) -> Figure:
    """Returns the curves of all trials, a panel a swept parameter, whose values are colours."""
    panels: dict[str, list[Curve]] = {}
    for name, part in by_dataset.items():
        if not parameters:
            panels[name] = [_curve(row, logs) for row in part.to_dict("records")]
        for key, column in parameters.items():
            curves = [_curve(row, logs) for row in part.to_dict("records")]
            panels[f"{name}, {key}" if len(by_dataset) > 1 else key] = coloured_curves(curves, part[column], looks)
    caption = f"Validation {metric} by epoch, a line a trial. Curves of stopped and of failed trials end in a mark."
    if parameters:
        caption += " The same lines in each panel, in the colours of one swept setting; grey: without it."
    return draw_training_curves(panels, metric, looks, caption)


def _curve(row: Mapping[Any, Any], logs: Mapping[int, pd.DataFrame]) -> Curve:
    """Returns the curve of a trial."""
    return Curve(row["model"], logs.get(row["number"], pd.DataFrame()), row["status"])


def _draw_parameter(
    by_dataset: Mapping[str, pd.DataFrame], key: str, column: str, metric: str, mode: Mode, looks: Mapping[str, Look]
) -> Figure:
    frame = pd.concat(by_dataset.values())
    drawing, panels = make_panels(len(by_dataset), columns=3)
    for ax, (name, part) in zip(panels, by_dataset.items(), strict=True):
        plot_parameter(part, key, column, metric, mode, looks, ax).set_title(name)
    there = set(frame.loc[frame[column].notna(), "model"])
    given = frame[column].dropna()
    where = "per range" if len(given) and Scale.of(given).continuous else "per value"
    summaries = [
        Line2D([], [], color=GREY, linewidth=width, label=f"{which} {where}")
        for which, width in (("best", _THICK), ("mean", _THIN))
    ]
    others = [*_stopped(frame, **_HOLLOW), *summaries]
    add_legend(drawing, {model: look for model, look in looks.items() if model in there}, others)
    caption = (
        f"Validation {metric} against {key}, a point a trial, hollow where it was stopped. Lines run through each "
        f"model's best and mean score {where}."
    )
    return Figure(f"parameter-{slug(key)}", f"{metric} by {key}", caption, drawing)


def _draw_parallel(
    by_dataset: Mapping[str, pd.DataFrame], parameters: Mapping[str, str], metric: str, mode: Mode
) -> Figure:
    frame = pd.concat(by_dataset.values())
    # One below the other: lines between many axes need the width.
    n_axes = len(parameters) + 1 + (frame["model"].nunique() > 1)
    drawing, panels = make_panels(len(by_dataset), columns=1, size=(max(PANEL[0], 1.5 * n_axes), PANEL[1]))
    for ax, (name, part) in zip(panels, by_dataset.items(), strict=True):
        plot_parallel_coordinates(_scored(part, metric), parameters, metric, mode, ax).set_title(name)
    add_legend(drawing, {}, _stopped(frame, linestyle=":"))
    caption = f"A line a trial, across its parameters to its validation {metric}, which is also its colour."
    return Figure("parallel_coordinates", "Parallel coordinates", caption, drawing)


def _draw_pareto(by_dataset: Mapping[str, pd.DataFrame], metric: str, mode: Mode, looks: Mapping[str, Look]) -> Figure:
    drawing, panels = make_panels(len(by_dataset), columns=3)
    for ax, (name, part) in zip(panels, by_dataset.items(), strict=True):
        plot_pareto(part, metric, mode, looks, ax).set_title(name)
    frontier = Line2D([], [], color=GREY, linewidth=1.2, label="frontier")
    add_legend(drawing, looks, [*_stopped(pd.concat(by_dataset.values()), **_HOLLOW), frontier])
    caption = (
        f"Validation {metric} against training time, a point a trial. No trial is faster and better than the frontier."
    )
    return Figure("pareto", f"{metric} and training time", caption, drawing)


def plot_parameter(
    frame: pd.DataFrame, key: str, column: str, metric: str, mode: Mode, looks: Mapping[str, Look], ax: Axes
) -> Axes:
    """Returns the axes with the validation metric against one swept parameter.

    A point is a trial, hollow where the scheduler stopped it. Each model's thick line runs through its best score at
    each value, the thin one through the mean score; where values were drawn at random, at each of eight ranges.
    `frame` has the trials of one data set, with the parameter `key` in `column`.
    """
    data = _scored(frame, metric).dropna(subset=[column])
    ax.set(xlabel=key, ylabel=metric_label(metric, mode))
    if data.empty:
        return say_empty(ax)
    scale = Scale.of(data[column])
    data = data.assign(place=scale.places(data[column]), score=data[f"valid {metric}"])
    figure = ax.get_figure(root=True)
    assert figure is not None
    models = [model for model in looks if (data["model"] == model).any()]
    for number, model in enumerate(models):
        look, of_model = looks[model], data[data["model"] == model]
        # Beside each other where models share values.
        shift = 0.0 if scale.continuous else min(6.0, 18 / len(models)) * (number - (len(models) - 1) / 2)
        beside = ax.transData + ScaledTranslation(shift / 72, 0, figure.dpi_scale_trans)
        groups = of_model.groupby(scale.group(of_model["place"]))
        best = groups["score"].max() if mode == "max" else groups["score"].min()
        place = groups["place"].median()
        lines = _points(ax, of_model["place"], of_model["score"], of_model["status"], look)
        lines += ax.plot(place, best, color=look.colour, linestyle=look.line, linewidth=_THICK)
        lines += ax.plot(place, groups["score"].mean(), color=look.colour, linewidth=_THIN)
        # Not before: the limits of the axes are those of the data.
        for line in lines:
            line.set_transform(beside)
    ax.margins(x=0.08)
    scale.show(ax)
    return ax


def plot_pareto(frame: pd.DataFrame, metric: str, mode: Mode, looks: Mapping[str, Look], ax: Axes) -> Axes:
    """Returns the axes with the validation metric of one data set's trials against training time, with the frontier."""
    data = _scored(frame, metric).dropna(subset=["train_seconds"])
    ax.set(xlabel="training time [s]", ylabel=metric_label(metric, mode))
    if data.empty:
        return say_empty(ax)
    # Counting models train in less time than the clock can tell; the axis is logarithmic.
    data = data.assign(seconds=data["train_seconds"].clip(lower=1e-3), score=data[f"valid {metric}"])
    for model in data["model"].unique():
        of_model = data[data["model"] == model]
        _points(ax, of_model["seconds"], of_model["score"], of_model["status"], looks[model])
    frontier = data.loc[pareto_frontier(data["seconds"], data["score"], mode)]
    ax.plot(frontier["seconds"], frontier["score"], color=GREY, linewidth=1.2, drawstyle="steps-post", zorder=1.5)
    ax.set_xscale("log")
    label_log_axis(ax.xaxis)
    return ax


def _scored(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Returns the trials that have a score and did not fail, with the numbering from 0."""
    kept = frame["status"].isin(["finished", "stopped"]) & np.isfinite(frame[f"valid {metric}"])
    return frame[kept].reset_index(drop=True)


def _points(ax: Axes, x: pd.Series, y: pd.Series, status: pd.Series, look: Look) -> list[Line2D]:
    """Draws a point per trial, hollow where it was stopped; returns the two series."""
    lines: list[Line2D] = []
    for stopped in (True, False):
        chosen = (status == "stopped") == stopped
        lines += ax.plot(
            x[chosen],
            y[chosen],
            linestyle="",
            marker=look.marker,
            markersize=few_to_many(len(x), 5.5, 3.5),
            markerfacecolor="none" if stopped else look.colour,
            markeredgecolor=look.colour,
            markeredgewidth=0.8 if stopped else 0.0,
            alpha=few_to_many(len(x), 0.85, 0.5),
        )
    return lines


def _stopped(frame: pd.DataFrame, **look: Any) -> list[Line2D]:
    """Returns the legend's entry for stopped trials, where there are any."""
    return [Line2D([], [], color=GREY, label="stopped", **look)] if (frame["status"] == "stopped").any() else []
