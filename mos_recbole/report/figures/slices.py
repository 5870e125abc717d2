"""Baseline and model in the bins of one column: means, and relative differences."""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from mos_recbole.analysis.slices import Slices
from mos_recbole.evaluation import parse_metric
from mos_recbole.report.figures.figure import (
    GREY,
    STYLE,
    Figure,
    Look,
    add_legend,
    beside,
    draw_intervals,
    make_panels,
    share_y,
    within,
)
from mos_recbole.results import axis_label

SMALL = "too few users, or too few that differ"
PERCENT_TICKS = FuncFormatter(lambda share, _: f"{100 * share:+.4g} %" if abs(share) > 1e-12 else "0 %")
_WIDEST = 3  # of axes of differences, in largest differences


@matplotlib.rc_context(STYLE)
def draw_slices(
    column: str, models: Sequence[str], by_width: Mapping[int, Slices], looks: Mapping[str, Look]
) -> Figure:
    """Returns baseline and model by the bins of a column, above their relative difference; a column per width."""
    all_slices = list(by_width.values())
    drawing, panels = make_panels(2 * len(by_width), columns=len(by_width))
    above, below = panels[: len(by_width)], panels[len(by_width) :]
    for row in (above, below):
        share_y(row)
    for number, (width, slices) in enumerate(by_width.items()):
        plot_slices(slices, [looks[model] for model in models], above[number])
        above[number].set(title=f"d = {width}", xlabel="")
        plot_relative_difference(slices, looks[models[1]], below[number])
    _limit_relative(below[0], all_slices)
    hollow = Line2D([], [], color=GREY, linestyle="", marker="o", markerfacecolor="white", label=SMALL)
    add_legend(drawing, {model: looks[model] for model in models}, [hollow] if any_small(all_slices) else [])
    caption = (
        f"Above: test {all_slices[0].metric} of {models[0]} and {models[1]} by {axis_label(column)}, with 95 % "
        "intervals; below each bin is the number of its queries. Below: relative difference of "
        f"{models[1]} from {models[0]}, with its 95 % interval, not adjusted for the number of bins. An interval that "
        "leaves the picture is longer than shown; an arrow has no end. Hollow: too few users, or too few "
        "whose values differ, for the interval to be trusted."
    )
    return Figure(f"{column}-{models[1]}", f"{models[1]} against {models[0]} by {axis_label(column)}", caption, drawing)


def plot_slices(slices: Slices, looks: Sequence[Look], ax: Axes) -> Axes:
    """Returns the axes with the metric of every group by the bins of one column; points of small cells are hollow."""
    (by,) = slices.by
    ax.set(xlabel=axis_label(by.column), ylabel=f"test {slices.metric}")
    most = parse_metric(slices.metric)[0].most
    for number, look in enumerate(looks):
        shift = beside(number, len(looks))
        for small in (False, True):
            chosen = [x for x, cell in enumerate(slices.cells) if cell.n_queries and cell.small == small]
            intervals = [within(slices.cells[x].means[number], most) for x in chosen]
            draw_intervals(ax, [x + shift for x in chosen], intervals, look, hollow=small)
    return _label_bins(ax, slices)


def plot_relative_difference(slices: Slices, look: Look, ax: Axes) -> Axes:
    """Returns the axes with the second group's relative difference from the first by the bins of one column."""
    (by,) = slices.by
    ax.set(xlabel=axis_label(by.column), ylabel="relative difference")
    ax.axhline(0, color=GREY, linewidth=0.8)
    for small in (False, True):
        chosen = {
            float(x): cell.relative
            for x, cell in enumerate(slices.cells)
            if cell.relative is not None and cell.small == small
        }
        draw_intervals(ax, list(chosen), list(chosen.values()), look, hollow=small)
    ax.yaxis.set_major_formatter(PERCENT_TICKS)
    return _label_bins(ax, slices)


def any_small(all_slices: Iterable[Slices]) -> bool:
    """Returns whether a cell is too small for its interval to be trusted."""
    return any(cell.small for slices in all_slices for cell in slices.cells)


def _label_bins(ax: Axes, slices: Slices) -> Axes:
    """Labels the x axis by the bins, each with its number of queries."""
    labels = [f"{label}\n{cell.n_queries:,}" for label, cell in zip(slices.axes[0], slices.cells, strict=True)]
    ax.set_xticks(range(len(labels)), labels, fontsize=7.5)
    ax.set_xlim(-0.5, len(labels) - 0.5)
    ax.set_xlabel(f"{ax.get_xlabel()}\nbelow each bin: its number of queries")
    ax.grid(visible=False, axis="x")
    return ax


def _limit_relative(ax: Axes, all_slices: Iterable[Slices]) -> None:
    """Limits the axis to some widths of the largest difference, so that a long interval does not flatten the rest."""
    means = [abs(cell.relative.mean) for slices in all_slices for cell in slices.cells if cell.relative is not None]
    if means and max(means) > 0:
        low, high = ax.get_ylim()
        most = _WIDEST * max(means)
        ax.set_ylim(max(low, -most), min(high, most))
