"""A metric by model and width."""

from collections.abc import Mapping

import matplotlib
from matplotlib.axes import Axes

from mos_recbole.evaluation import Interval
from mos_recbole.report.figures.figure import (
    STYLE,
    Figure,
    Look,
    add_legend,
    as_share,
    beside,
    draw_intervals,
    make_panels,
)


@matplotlib.rc_context(STYLE)
def draw_widths(means: Mapping[tuple[str, int], Interval], metric: str, looks: Mapping[str, Look]) -> Figure:
    """Returns the test metric by model and width."""
    drawing, (ax,) = make_panels(1)
    there = {model: look for model, look in looks.items() if any(name == model for name, _ in means)}
    plot_widths(means, there, ax).set(xlabel="width d", ylabel=f"test {metric}")
    add_legend(drawing, there)
    caption = f"Test {metric} by width: means over seeds and queries with 95 % intervals."
    return Figure("widths", f"{metric} by model and width", caption, drawing)


def plot_widths(means: Mapping[tuple[str, int], Interval], looks: Mapping[str, Look], ax: Axes) -> Axes:
    """Returns the axes with means and their intervals, a line per model, at evenly spaced widths."""
    widths = sorted({width for _, width in means})
    for number, (model, look) in enumerate(looks.items()):
        own = [(x, means[model, width]) for x, width in enumerate(widths) if (model, width) in means]
        shift = beside(number, len(looks))
        draw_intervals(ax, [x + shift for x, _ in own], [as_share(mean) for _, mean in own], look, line=True)
    ax.set_xticks(range(len(widths)), [str(width) for width in widths])
    ax.set_xlim(-0.5, len(widths) - 0.5)
    return ax
