"""A metric against what it costs, with the front of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mos_recbole.analysis.configurations import ConfigurationRow
from mos_recbole.analysis.costs import Cost, on_front
from mos_recbole.evaluation import Interval
from mos_recbole.report.figures.figure import GREY, STYLE, Figure, Look, add_legend, draw_intervals, make_panels
from mos_recbole.report.figures.scales import label_log_axis

# Models that only count train in less than the clock can tell; the axis is logarithmic.
_LEAST = 1e-3


@dataclass(frozen=True)
class Point:
    """A configuration: what it costs and what it reaches."""

    model: str
    cost: Interval
    score: Interval
    on_front: bool


@matplotlib.rc_context(STYLE)
def draw_costs(
    panels: Mapping[str, Sequence[ConfigurationRow]], metric: str, cost: Cost, looks: Mapping[str, Look]
) -> Figure:
    """Returns the test metric against a cost, a point a configuration that has both.

    Args:
        panels: configurations by the title of their panel.
        metric: one that the configurations have.
        cost: its means over seeds are shown.
        looks: of the models.
    """
    points = {title: _points(rows, metric, cost) for title, rows in panels.items()}
    drawing, axes = make_panels(len(points))
    for ax, (title, own) in zip(axes, points.items(), strict=True):
        plot_costs(own, looks, ax).set(xlabel=cost.header, ylabel=f"test {metric}", title=title)
    drawn = {point.model for own in points.values() for point in own}
    there = {model: look for model, look in looks.items() if model in drawn}
    add_legend(drawing, there, [Line2D([], [], color=GREY, label="front")])
    caption = (
        f"Test {metric} against {cost.label} ({cost.help}), a point a configuration: means with 95 % intervals, over "
        "users and seeds and over seeds. The line is the front: for no more, no other point has as good a "
        f"{metric}. Intervals have no part in it. Hollow: not on the front."
    )
    return Figure("costs", f"{metric} and {cost.label}", caption, drawing)


def _points(rows: Sequence[ConfigurationRow], metric: str, cost: Cost) -> list[Point]:
    return [
        Point(row.runs[0].model, mean, row.intervals[metric], is_on_front)
        for row, is_on_front in zip(rows, on_front(rows, metric, cost), strict=True)
        if (mean := cost.interval(row.runs)) is not None and row.has(metric)
    ]


def plot_costs(points: Sequence[Point], looks: Mapping[str, Look], ax: Axes) -> Axes:
    """Returns the axes with means and both intervals; the front is a line, what is not on it is hollow.

    An interval of the cost that reaches 0 or below has no end on the logarithmic axis, and goes on to the margin.
    """
    ax.set_xscale("log")
    for point in points:
        place = max(point.cost.mean, _LEAST)
        draw_intervals(ax, [place], [point.score], looks[point.model], hollow=not point.on_front)
        ax.update_datalim([(max(point.cost.high, place), point.score.mean)])
        if point.cost.low > 0:
            ax.update_datalim([(point.cost.low, point.score.mean)])
    ax.autoscale_view()
    ax.set_xlim(ax.get_xlim())
    for point in points:
        low = point.cost.low if point.cost.low > 0 else ax.get_xlim()[0]
        ax.hlines(point.score.mean, low, max(point.cost.high, _LEAST), color=looks[point.model].colour, linewidth=1)
    front = sorted((point for point in points if point.on_front), key=lambda point: point.cost.mean)
    places = [max(point.cost.mean, _LEAST) for point in front]
    scores = [point.score.mean for point in front]
    ax.plot(places, scores, color=GREY, linewidth=1.2, drawstyle="steps-post", zorder=1.5)
    label_log_axis(ax.xaxis)
    return ax
