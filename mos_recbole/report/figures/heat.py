"""The best validation score over two swept settings, a panel a model."""

from collections.abc import Mapping
from itertools import combinations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from mos_recbole.analysis.study import slug
from mos_recbole.analysis.sweep_frame import Mode
from mos_recbole.report.figures.figure import STYLE, Figure, make_panels
from mos_recbole.report.figures.maps import SEQUENTIAL, draw_grid
from mos_recbole.report.figures.scales import Scale, value_label

_MOST = 10  # maps of a sweep
# The two that every study sweeps are shown first, whatever they are called.
_FIRST = ("train_batch_size", "batch size", "learning_rate", "learning rate")


@matplotlib.rc_context(STYLE)
def draw_heat_maps(
    panels_of: Mapping[str, pd.DataFrame], parameters: Mapping[str, str], metric: str, mode: Mode, most: int = _MOST
) -> list[Figure]:
    """Returns a map for any two settings of which a model has several values; none of those drawn at random.

    Args:
        panels_of: trials that have a score, by a panel's title.
        parameters: names of settings, each with its column.
        metric, mode: the score and whether its maximum or its minimum is best.
        most: at most so many maps.
    """
    pairs = sorted(combinations(parameters, 2), key=lambda pair: -sum(key in _FIRST for key in pair))
    figures: list[Figure] = []
    for rows, columns in pairs[:most]:
        keys = [parameters[rows], parameters[columns]]
        scored = {title: data.dropna(subset=keys) for title, data in panels_of.items()}
        there = {title: data for title, data in scored.items() if _has_map(data, keys)}
        if not there:
            continue
        scores = pd.concat(there.values())[f"valid {metric}"]
        norm = Normalize(scores.min(), scores.max() if scores.max() > scores.min() else scores.min() + 1e-9)
        drawing, panels = make_panels(len(there))
        for ax, (title, data) in zip(panels, there.items(), strict=True):
            plot_heat_map(data, keys, metric, mode, norm, ax).set(title=title, xlabel=columns, ylabel=rows)
        which = "highest" if mode == "max" else "lowest"
        caption = f"The {which} validation {metric} over {rows} and {columns}, whatever the other settings, by model."
        title = f"{metric} over {rows} and {columns}"
        figures.append(Figure(f"heat-{slug(rows)}-{slug(columns)}", title, caption, drawing))
    return figures


def plot_heat_map(data: pd.DataFrame, keys: list[str], metric: str, mode: Mode, norm: Normalize, ax: Axes) -> Axes:
    """Returns the axes with the best score at any two values of two settings.

    Args:
        data: trials that have a score and both settings.
        keys: the columns of the settings; the first gives the rows, from below to above.
        metric, mode: the score and whether its maximum or its minimum is best.
        norm: of the colours.
        ax: where to draw.
    """
    scales = [Scale.of(data[key]) for key in keys]
    grid = np.full([len(scale.values) for scale in scales], np.nan)
    numbers = [{value: number for number, value in enumerate(scale.values)} for scale in scales]
    better = np.fmax if mode == "max" else np.fmin
    for row, column, score in zip(*(data[key] for key in keys), data[f"valid {metric}"], strict=True):
        cell = numbers[0][row], numbers[1][column]
        grid[cell] = better(grid[cell], score)
    texts = ["none" if np.isnan(value) else f"{value:.4f}" for value in grid.ravel()]
    draw_grid(grid, texts, [[value_label(value) for value in scale.values] for scale in scales], SEQUENTIAL, norm, ax)
    return ax


def _has_map(data: pd.DataFrame, keys: list[str]) -> bool:
    """Returns whether both settings have several values, chosen by hand."""
    if data.empty:
        return False
    scales = [Scale.of(data[key]) for key in keys]
    return all(len(scale.values) > 1 and not scale.continuous for scale in scales)
