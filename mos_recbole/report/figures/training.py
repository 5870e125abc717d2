"""Training curves: validation by epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mos_recbole.report.figures.figure import GREY, STYLE, Figure, Look, add_legend, make_panels, say_empty, share_y
from mos_recbole.report.figures.scales import Scale, value_label

_END_MARKERS = {"stopped": "o", "failed": "x"}


@dataclass(frozen=True)
class Curve:
    """The training log of a run, with the trial's status where it is one of a sweep.

    Attributes:
        label, colour: what tells it from other runs of its model, and how; by default the model's colour.
        line: its dashes; by default the model's.
    """

    model: str
    log: pd.DataFrame
    status: str = "finished"
    label: str = ""
    colour: str = ""
    line: Any = ""


@matplotlib.rc_context(STYLE)
def draw_training_curves(
    panels_of: Mapping[str, Sequence[Curve]], metric: str, looks: Mapping[str, Look], caption: str, shared: bool = False
) -> Figure:
    """Returns the validation metric by epoch.

    Args:
        panels_of: curves by a panel's title.
        metric, looks: what is shown, and how models look.
        caption: what a line is.
        shared: give the panels one scale.
    """
    drawing, panels = make_panels(len(panels_of))
    if shared:
        share_y(panels)
    for ax, (title, curves) in zip(panels, panels_of.items(), strict=True):
        plot_training_curves(curves, metric, looks, ax).set_title(title)
    all_curves = [curve for curves in panels_of.values() for curve in curves]
    dashes = {curve.model: curve.line for curve in all_curves}
    if any(curve.colour for curve in all_curves):
        # Colours are of what was swept, which each panel names; models have dashes.
        ends = [Line2D([], [], color=GREY, linestyle=line, label=model) for model, line in dashes.items()]
        looks = {}
    else:
        ends = []
    ends += [
        Line2D([], [], color=GREY, linestyle="", marker=marker, markersize=4, label=status)
        for status, marker in _END_MARKERS.items()
        if any(curve.status == status for curve in all_curves)
    ]
    add_legend(drawing, {model: look for model, look in looks.items() if model in dashes}, ends, lines=True)
    return Figure("training_curves", "Training curves", caption, drawing)


def plot_training_curves(curves: Sequence[Curve], metric: str, looks: Mapping[str, Look], ax: Axes) -> Axes:
    """Returns the axes with the validation metric by epoch, a line per curve; stopped and failed ones end in a mark."""
    ax.set(xlabel="epoch", ylabel=f"validation {metric}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    drawn = [curve for curve in curves if metric in curve.log and curve.log[metric].notna().any()]
    for curve in drawn:
        validated, look = curve.log[["epoch", metric]].dropna(), looks[curve.model]
        ax.plot(
            validated["epoch"],
            validated[metric],
            color=curve.colour or look.colour,
            linestyle=curve.line or look.line,
            linewidth=few_to_many(len(curves), 1.2, 0.5),
            alpha=few_to_many(len(curves), 0.9, 0.5),
            marker=look.marker if len(validated) == 1 else "",
            markersize=3,
        )
        if curve.status in _END_MARKERS:
            end = validated.iloc[-1]
            ax.plot(
                *end, color=curve.colour or look.colour, linestyle="", marker=_END_MARKERS[curve.status], markersize=3
            )
    labels = {curve.label: curve.colour for curve in drawn if curve.label}
    if labels:
        handles = [Line2D([], [], color=colour, label=label) for label, colour in labels.items()]
        ax.legend(handles=handles, fontsize=7, loc="lower right", frameon=True, framealpha=1, edgecolor="none")
    return ax if drawn else say_empty(ax)


def coloured_curves(curves: Sequence[Curve], values: pd.Series, looks: Mapping[str, Look]) -> list[Curve]:
    """Returns curves in the colours of a setting's values, in their order; grey where there is none; models by dashes.

    Args:
        curves: of runs.
        values: of the setting, one a curve.
        looks: of all models.
    """
    scale = Scale.of(values)
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, max(2, len(scale.values))))
    colours = {value: to_hex(shade) for value, shade in zip(scale.values, shades, strict=False)}
    labelled = set(scale.ticks()) if colours else set()
    numbers = {value: number for number, value in enumerate(scale.values)}
    in_order = sorted(zip(curves, values, strict=True), key=lambda pair: numbers.get(pair[1], -1))
    return [
        replace(
            curve,
            label=value_label(value) if value in labelled else "",
            colour=colours.get(value, GREY),
            line=looks[curve.model].line,
        )
        for curve, value in in_order
    ]


def few_to_many(n: int, few: float, many: float) -> float:
    """Returns a size between that for ten trials and that for three hundred."""
    return float(np.interp(np.log(max(n, 1)), np.log([10, 300]), [few, many]))
