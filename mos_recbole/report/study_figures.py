"""Figures of a study. Plot functions take data and axes, return the axes and never save."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter

from mos_recbole.analysis import Slices
from mos_recbole.evaluation import Interval
from mos_recbole.report.figures import plot_training_curves
from mos_recbole.report.study import DIMENSION
from mos_recbole.report.style import GREY, PANEL, STYLE, Look, add_legend, say_empty
from mos_recbole.results import axis_label

_SMALL = "few queries or users"
_WIDEST = 3  # of axes of differences, in largest differences
_HATCH = "////"
_LABELS_FIT = 45  # signs below a map, in one line


@dataclass(frozen=True)
class Drawing:
    """A figure with the words for those who do not see it.

    Attributes:
        name: of its files, without ending.
    """

    name: str
    title: str
    caption: str
    figure: Figure

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on a screen, in CSS pixels, of which an inch has 96."""
        width, height = self.figure.get_size_inches()
        return round(96 * width), round(96 * height)


# ------------------------------------------------------------------------------------------------- figures


def draw_dimensions(means: Mapping[tuple[str, int], Interval], metric: str, looks: Mapping[str, Look]) -> Drawing:
    """Returns the metric by model and dimension."""
    with matplotlib.rc_context(STYLE):
        figure, (ax,) = _panels(1)
        plot_dimensions(means, metric, looks, ax)
        add_legend(
            figure, {model: look for model, look in looks.items() if any(name == model for name, _ in means)}, []
        )
    caption = f"Test {metric} by {DIMENSION}: means over seeds and queries with 95 % bootstrap intervals."
    return Drawing("dimensions", f"{metric} by model and dimension", caption, figure)


def draw_slices(
    column: str, models: Sequence[str], by_dimension: Mapping[int, Slices], looks: Mapping[str, Look]
) -> Drawing:
    """Returns baseline and model by the bins of a column, above their relative difference; a column per dimension."""
    metric = next(iter(by_dimension.values())).metric
    with matplotlib.rc_context(STYLE):
        figure, panels = _panels(len(by_dimension), rows=2)
        _share(panels[: len(by_dimension)])
        _share(panels[len(by_dimension) :])
        for number, (dimension, slices) in enumerate(by_dimension.items()):
            above, below = panels[number], panels[number + len(by_dimension)]
            plot_slices(slices, [looks[model] for model in models], above)
            above.set(title=f"{DIMENSION} {dimension}", xlabel="")
            plot_relative_difference(slices, looks[models[1]], below)
        low, high = panels[0].get_ylim()
        # Intervals of Student's t may leave the range of all metrics.
        panels[0].set_ylim(max(low, -0.02), min(high, 1.02))
        _limit_relative(panels[-1], by_dimension.values())
        add_legend(figure, {model: looks[model] for model in models}, _small_marks(by_dimension.values()))
    caption = (
        f"Above: test {metric} of {models[0]} and {models[1]} by {axis_label(column)}, with 95 % intervals; the "
        f"number at a bin is that of its queries. Below: relative difference of {models[1]} from {models[0]}, with its "
        "95 % interval, not adjusted for the number of bins; an interval that leaves the picture is longer than shown. "
        "Hollow: too few queries or users for the interval to be trusted."
    )
    return Drawing(f"{column}-{models[1]}", f"{models[1]} against {models[0]} by {column}", caption, figure)


def draw_difference_maps(columns: Sequence[str], models: Sequence[str], by_dimension: Mapping[int, Slices]) -> Drawing:
    """Returns the relative difference over two columns crossed, a panel per dimension, all in one scale of colours."""
    metric = next(iter(by_dimension.values())).metric
    shown = [
        abs(cell.relative.mean)
        for slices in by_dimension.values()
        for cell in slices.cells
        if cell.relative is not None and not cell.small
    ] or [abs(cell.relative.mean) for slices in by_dimension.values() for cell in slices.cells if cell.relative]
    limit = max(shown, default=0.0) or 0.01
    with matplotlib.rc_context(STYLE):
        figure, panels = _panels(len(by_dimension))
        for ax, (dimension, slices) in zip(panels, by_dimension.items(), strict=True):
            plot_difference_map(slices, limit, ax)
            ax.set_title(f"{DIMENSION} {dimension}")
        _label_once(panels)
        figure.colorbar(
            matplotlib.cm.ScalarMappable(_diverging(limit), _DIVERGING),
            ax=panels,
            label=f"relative difference of {metric}",
            format=_PERCENT_TICKS,
            shrink=0.9,
            pad=0.015,
        )
        _add_small_patch(figure, by_dimension.values())
    caption = (
        f"Relative difference of test {metric} of {models[1]} from {models[0]} over {axis_label(columns[0])} and "
        f"{axis_label(columns[1])}; in brackets the 95 % interval, not adjusted for the number of cells; bold where "
        f"it excludes 0. Orange: {models[1]} has more. Hatched: too few queries or users for the interval to be "
        f"trusted; the scale of colours does not count such cells. n/a: {models[0]} has 0, or there is one user."
    )
    name = f"map-train_count-{columns[1]}-{models[1]}"
    return Drawing(name, f"{models[1]} against {models[0]} by {columns[0]} and {columns[1]}", caption, figure)


def draw_cell_maps(columns: Sequence[str], baseline: str, model: str, by_dimension: Mapping[int, Slices]) -> Drawing:
    """Returns the number of queries and the baseline's metric in the cells of `draw_difference_maps`."""
    first = next(iter(by_dimension.values()))
    with matplotlib.rc_context(STYLE):
        figure, panels = _panels(1 + len(by_dimension))
        plot_query_map(first, panels[0])
        for ax, (dimension, slices) in zip(panels[1:], by_dimension.items(), strict=True):
            plot_mean_map(slices, ax)
            ax.set_title(f"{baseline}, {DIMENSION} {dimension}")
        _label_once(panels)
        _add_small_patch(figure, by_dimension.values())
    caption = (
        f"The cells of the map of differences: number of test queries, and test {first.metric} of {baseline} with its "
        "95 % interval in brackets. Hatched: too few queries or users for the interval to be trusted."
    )
    name = f"cells-train_count-{columns[1]}-{model}"
    return Drawing(name, f"What is in the cells of {columns[0]} and {columns[1]}", caption, figure)


def draw_training_curves(
    logs: Mapping[int, Mapping[str, Sequence[pd.DataFrame]]], metric: str, looks: Mapping[str, Look]
) -> Drawing:
    """Returns the validation metric by epoch, a panel per dimension.

    Args:
        logs: training logs by dimension and model, one a seed.
        metric: of validation.
        looks: of the models.
    """
    with matplotlib.rc_context(STYLE):
        figure, panels = _panels(len(logs))
        _share(panels)
        for ax, (dimension, by_model) in zip(panels, logs.items(), strict=True):
            of_panel = [(model, log) for model, of_model in by_model.items() for log in of_model]
            frame = pd.DataFrame(
                [{"number": n, "model": of_panel[n][0], "status": "finished"} for n in range(len(of_panel))]
            )
            plot_training_curves(frame, dict(enumerate(log for _, log in of_panel)), metric, looks, ax)
            ax.set_title(f"{DIMENSION} {dimension}")
        there = {model for by_model in logs.values() for model in by_model}
        add_legend(figure, {model: look for model, look in looks.items() if model in there}, [], lines=True)
    caption = f"Validation {metric} by epoch, a line a seed."
    return Drawing("training_curves", "Training curves", caption, figure)


# ------------------------------------------------------------------------------------------------- plots


def plot_dimensions(
    means: Mapping[tuple[str, int], Interval], metric: str, looks: Mapping[str, Look], ax: Axes
) -> Axes:
    """Returns the axes with a metric against the dimension, a line per model, with intervals.

    Args:
        means: by model and dimension.
        metric: which one.
        looks: of the models.
        ax: where to draw.
    """
    ax.set(xlabel=DIMENSION, ylabel=f"test {metric}")
    if not means:
        return say_empty(ax)
    dimensions = sorted({dimension for _, dimension in means})
    places = {dimension: place for place, dimension in enumerate(dimensions)}
    models = [model for model in looks if any(name == model for name, _ in means)]
    for number, model in enumerate(models):
        shift = _beside(number, len(models))
        own = [dimension for dimension in dimensions if (model, dimension) in means]
        _draw_intervals(ax, [places[d] + shift for d in own], [means[model, d] for d in own], looks[model], "-")
    ax.set_xticks(range(len(dimensions)), [str(dimension) for dimension in dimensions])
    ax.set_xlim(-0.5, len(dimensions) - 0.5)
    return ax


def plot_slices(slices: Slices, looks: Sequence[Look], ax: Axes) -> Axes:
    """Returns the axes with the metric of every side by bin, with intervals; points of small cells are hollow.

    Args:
        slices: by one column.
        looks: of the sides.
        ax: where to draw.
    """
    (by,) = slices.by
    ax.set(xlabel=axis_label(by.column), ylabel=f"test {slices.metric}")
    for side, look in enumerate(looks):
        shift = _beside(side, len(looks))
        for small in (False, True):
            chosen = [n for n, cell in enumerate(slices.cells) if cell.n_queries and cell.small == small]
            intervals = [slices.cells[n].means[side] for n in chosen]
            _draw_intervals(ax, [n + shift for n in chosen], intervals, look, hollow=small)
    _label_bins(ax, slices)
    return ax


def plot_relative_difference(slices: Slices, look: Look, ax: Axes) -> Axes:
    """Returns the axes with the second side's relative difference from the first by bin, with intervals.

    Args:
        slices: of two sides, by one column.
        look: of the second side.
        ax: where to draw.
    """
    (by,) = slices.by
    ax.set(xlabel=axis_label(by.column), ylabel="relative difference")
    ax.axhline(0, color=GREY, linewidth=0.8)
    for small in (False, True):
        chosen = [n for n, cell in enumerate(slices.cells) if cell.relative is not None and cell.small == small]
        intervals = [relative for n in chosen if (relative := slices.cells[n].relative) is not None]
        _draw_intervals(ax, [float(n) for n in chosen], intervals, look, hollow=small)
    ax.yaxis.set_major_formatter(_PERCENT_TICKS)
    _label_bins(ax, slices)
    return ax


def plot_difference_map(slices: Slices, limit: float, ax: Axes) -> Axes:
    """Returns the axes with the relative difference in every cell of two crossed columns.

    Args:
        slices: of two sides, by two columns: rows and columns of the map.
        limit: largest relative difference, either way, of the scale of colours.
        ax: where to draw.
    """
    values, texts, certain = [], [], []
    for cell in slices.cells:
        relative = cell.relative
        values.append(np.nan if relative is None else relative.mean)
        texts.append(
            f"{_percent(relative.mean)}\n{_percent_range(relative)}"
            if relative
            else "n/a"
            if cell.n_queries
            else "none"
        )
        certain.append(relative is not None and not relative.low <= 0 <= relative.high)
    return _draw_map(slices, values, texts, _DIVERGING, _diverging(limit), ax, bold=certain)


def plot_query_map(slices: Slices, ax: Axes) -> Axes:
    """Returns the axes with the number of queries in every cell of two crossed columns."""
    values = [float(cell.n_queries) for cell in slices.cells]
    texts = [f"{cell.n_queries:,}\n{cell.n_users:,} users" for cell in slices.cells]
    ax.set_title("queries")
    return _draw_map(slices, values, texts, _SEQUENTIAL, matplotlib.colors.Normalize(0, max(values) or 1), ax)


def plot_mean_map(slices: Slices, ax: Axes) -> Axes:
    """Returns the axes with the first side's metric in every cell of two crossed columns."""
    means = [cell.means[0] if cell.n_queries else None for cell in slices.cells]
    values = [np.nan if mean is None else mean.mean for mean in means]
    texts = [
        "none"
        if mean is None
        else f"{mean.mean:.3f}" + ("" if np.isnan(mean.low) else f"\n[{mean.low:.3f}, {mean.high:.3f}]")
        for mean in means
    ]
    return _draw_map(slices, values, texts, _SEQUENTIAL, matplotlib.colors.Normalize(0, 1), ax)


# ------------------------------------------------------------------------------------------------- parts

# Purple and orange, which the colour-blind can tell apart; and shades of one colour.
_DIVERGING = matplotlib.colormaps["PuOr_r"]
_SEQUENTIAL = matplotlib.colormaps["Blues"]
_PERCENT_TICKS = FuncFormatter(lambda share, _: f"{100 * share:+.4g} %" if abs(share) > 1e-12 else "0 %")


def _diverging(limit: float) -> TwoSlopeNorm:
    return TwoSlopeNorm(0, -limit, limit)


def _draw_map(
    slices: Slices,
    values: Sequence[float],
    texts: Sequence[str],
    colours: matplotlib.colors.Colormap,
    norm: matplotlib.colors.Normalize,
    ax: Axes,
    bold: Sequence[bool] | None = None,
) -> Axes:
    """Draws a map of cells, the first column's bins from below to above; a cell without a value has no colour."""
    n_rows, n_columns = (len(axis) for axis in slices.axes)
    grid = np.ma.masked_invalid(np.reshape(np.array(values, dtype=np.float64), (n_rows, n_columns)))
    ax.imshow(grid, cmap=colours, norm=norm, origin="lower", aspect="auto", interpolation="nearest")
    for number, (cell, text) in enumerate(zip(slices.cells, texts, strict=True)):
        row, column = divmod(number, n_columns)
        filled = colours(norm(values[number])) if np.isfinite(values[number]) else (1.0, 1.0, 1.0, 1.0)
        light = _luminance(filled) > 0.3
        if cell.small:
            edge = "#999999" if light else "#DDDDDD"
            ax.add_patch(
                Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch=_HATCH, edgecolor=edge, linewidth=0)
            )
        ax.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=7,
            fontweight="bold" if bold and bold[number] else "normal",
            color="black" if light else "white",
            # On hatching, text needs a ground.
            bbox={"boxstyle": "round,pad=0.15", "facecolor": filled, "edgecolor": "none"} if cell.small else None,
        )
    rows, columns = slices.by
    long = sum(map(len, slices.axes[1])) > _LABELS_FIT
    ax.set_xticks(range(n_columns), [label.replace(", ", ",\n") if long else label for label in slices.axes[1]])
    ax.set_yticks(range(n_rows), slices.axes[0])
    ax.set(xlabel=axis_label(columns.column), ylabel=axis_label(rows.column))
    ax.grid(visible=False)
    ax.tick_params(length=0, labelsize=8)
    ax.spines[:].set_visible(False)
    return ax


def _luminance(colour: tuple[float, float, float, float]) -> float:
    """Returns the relative luminance of a colour (WCAG), from 0 to 1."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _draw_intervals(
    ax: Axes, x: Sequence[float], intervals: Sequence[Interval], look: Look, line: str = "", *, hollow: bool = False
) -> None:
    """Draws means with their intervals, of which an end that is infinite is left open."""
    if not intervals:
        return
    mean, low, high = np.array([(one.mean, one.low, one.high) for one in intervals]).T
    below, above = (np.where(np.isfinite(size), size, 0) for size in (mean - low, high - mean))
    ax.errorbar(
        x,
        mean,
        yerr=(below, above),
        color=look.colour,
        linestyle=line,
        linewidth=1.2,
        elinewidth=1,
        capsize=2.5,
        marker=look.marker,
        markersize=4.5,
        markerfacecolor="white" if hollow else look.colour,
    )


def _label_bins(ax: Axes, slices: Slices) -> None:
    """Labels the x axis by the bins, each with its number of queries."""
    labels = [f"{label}\n{cell.n_queries:,}" for label, cell in zip(slices.axes[0], slices.cells, strict=True)]
    ax.set_xticks(range(len(labels)), labels, fontsize=7.5)
    ax.set_xlim(-0.5, len(labels) - 0.5)
    ax.grid(visible=False, axis="x")


def _beside(number: int, count: int) -> float:
    """Returns how far the points of one of several models are moved, so that intervals do not cover each other."""
    return 0.12 * (number - (count - 1) / 2)


def _panels(n: int, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Returns a figure with axes: so many rows of n; a single row is wrapped, two or three to a line."""
    width, height = PANEL
    if rows > 1:
        figure = Figure(figsize=(width * n, height * rows), layout="constrained")
        return figure, [figure.add_subplot(rows, n, number + 1) for number in range(rows * n)]
    columns = 2 if n == 4 else min(n, 3)
    lines = -(-n // columns)
    figure = Figure(figsize=(width * columns, height * lines), layout="constrained")
    return figure, [figure.add_subplot(lines, columns, number + 1) for number in range(n)]


def _label_once(panels: Sequence[Axes]) -> None:
    """Leaves the labels of the y axis to the first panel of every line."""
    for ax in panels:
        place = ax.get_subplotspec()
        assert place is not None
        if not place.is_first_col():
            ax.set_ylabel("")
            ax.set_yticklabels([])


def _share(panels: Sequence[Axes]) -> None:
    """Gives axes one scale."""
    for ax in panels[1:]:
        ax.sharey(panels[0])


def _small_marks(all_slices: Iterable[Slices]) -> list[Line2D]:
    """Returns the legend's entry for small cells, where there are any."""
    if not _any_small(all_slices):
        return []
    return [Line2D([], [], color=GREY, linestyle="", marker="o", markerfacecolor="white", label=_SMALL)]


def _add_small_patch(figure: Figure, all_slices: Iterable[Slices]) -> None:
    """Adds a legend for hatched cells, where there are any."""
    if _any_small(all_slices):
        patch = Patch(facecolor="white", edgecolor="#999999", hatch=_HATCH, label=_SMALL)
        figure.legend(handles=[patch], loc="outside lower center", fontsize=8)


def _limit_relative(ax: Axes, all_slices: Iterable[Slices]) -> None:
    """Limits the axis to some widths of the largest difference, so that a long interval does not flatten the rest."""
    means = [abs(cell.relative.mean) for slices in all_slices for cell in slices.cells if cell.relative is not None]
    if means and max(means) > 0:
        low, high = ax.get_ylim()
        most = _WIDEST * max(means)
        ax.set_ylim(max(low, -most), min(high, most))


def _any_small(all_slices: Iterable[Slices]) -> bool:
    return any(cell.small for slices in all_slices for cell in slices.cells)


def _percent(share: float) -> str:
    """Returns "+1.4 %": to one decimal, to two below one per cent."""
    percent = 100 * share
    if not np.isfinite(percent):
        return "∞"
    return f"{percent:+.2f} %" if abs(percent) < 1 else f"{percent:+.1f} %"


def _percent_range(interval: Interval) -> str:
    """Returns "[-2.0, +40.0]", in per cent."""
    return f"[{_percent(interval.low)}, {_percent(interval.high)}]".replace(" %", "")
