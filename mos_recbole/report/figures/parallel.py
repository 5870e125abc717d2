"""Parallel coordinates: a line per trial across its parameters to its score."""

from collections.abc import Mapping
from typing import Any, Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mos_recbole.analysis.sweep_frame import Mode
from mos_recbole.report.figures.figure import say_empty
from mos_recbole.report.figures.scales import Scale, value_label
from mos_recbole.report.figures.training import few_to_many

# Height of "none", where axes are from 0 to 1.
_NO_VALUE = -0.15


def plot_parallel_coordinates(
    data: pd.DataFrame, parameters: Mapping[str, str], metric: str, mode: Mode, ax: Axes
) -> Axes:
    """Returns the axes with a line per trial across the swept parameters to its score, which is also its colour.

    Where there are several models the first axis is the model. A parameter that a trial lacks is "none", below its
    axis. Lines of stopped trials are dotted.

    Args:
        data: trials of one data set that have a score.
        parameters: names, each with its column in `data`.
    """
    data = data.sort_values(f"valid {metric}", ascending=mode == "max", kind="stable")  # the best on top
    ax.set_yticks([])
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    if data.empty:
        ax.set_xticks([])
        return say_empty(ax)
    columns = {"model": "model"} if data["model"].nunique() > 1 else {}
    columns |= {**parameters, metric_label(metric, mode, "\n"): f"valid {metric}"}
    score = data[f"valid {metric}"]
    last = len(columns) - 1
    heights = np.empty((len(data), len(columns)))
    for number, column in enumerate(list(columns.values())[:last]):
        heights[:, number] = _draw_axis(ax, number, data[column], Scale.of(data[column]), "left")
    heights[:, last] = _draw_axis(ax, last, score, Scale("linear", sorted(score.unique())), "right")
    # Not up to the end of the colours, a yellow that is faint on white.
    colours = matplotlib.colormaps["viridis" if mode == "max" else "viridis_r"]
    shades = colours(np.linspace(0, 0.9, 256) if mode == "max" else np.linspace(0.1, 1, 256))
    for line, status in zip(heights, data["status"], strict=True):
        stopped = status == "stopped"
        ax.plot(
            range(len(columns)),
            line,
            color=shades[round(255 * line[last])],
            alpha=few_to_many(len(data), 0.9, 0.3 if stopped else 0.55),
            linewidth=few_to_many(len(data), 1.6, 0.9),
            linestyle=":" if stopped else "-",
        )
    # The metric's axis is the key of the colours.
    ax.imshow(shades[:, None], extent=(last, last + 0.06, 0, 1), origin="lower", aspect="auto", zorder=2.5)
    ax.set_xticks(range(len(columns)), list(columns))
    ax.tick_params(axis="x", length=0, pad=6)
    lacking = data[list(columns.values())].isna().any(axis=None)
    ax.set(xlim=(-0.3, last + 0.5), ylim=(_NO_VALUE - 0.05 if lacking else -0.05, 1.05))
    return ax


def metric_label(metric: str, mode: Mode, separator: str = " ") -> str:
    """Returns the label of an axis with a validation metric."""
    return f"validation {metric}{separator}({'higher' if mode == 'max' else 'lower'} is better)"


def _draw_axis(ax: Axes, x: int, column: pd.Series, scale: Scale, side: Literal["left", "right"]) -> np.ndarray:
    """Returns float64, at which height of a vertical axis at x each value is; draws the axis with its labels."""
    missing = column.isna().to_numpy()
    heights = np.full(len(column), _NO_VALUE)
    shown = [(_NO_VALUE, "none")] if missing.any() else []
    if scale.values:
        ticks = scale.ticks()
        places = scale.heights(pd.Series(ticks, dtype="object" if scale.kind == "categorical" else "float64"))
        given = scale.heights(column.dropna())
        heights[~missing] = given
        shown += [(float(place), value_label(tick)) for place, tick in zip(places, ticks, strict=True)]
    ax.plot([x, x], [0, 1], color="black", linewidth=0.8, zorder=3)
    beside: Any = {"xytext": (-4, 0), "ha": "right"} if side == "left" else {"xytext": (12, 0), "ha": "left"}
    ground = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
    for place, text in shown:
        ax.annotate(
            text, (x, place), textcoords="offset points", va="center", fontsize=8, bbox=ground, zorder=4, **beside
        )
        ax.plot(x, place, color="black", marker="_", markersize=5, zorder=3)
    return heights
