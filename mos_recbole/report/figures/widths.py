"""A metric by model and width."""

from collections.abc import Mapping

import matplotlib
from matplotlib.axes import Axes

from mos_recbole.evaluation import Interval, parse_metric
from mos_recbole.report.figures.figure import (
    STYLE,
    Figure,
    Look,
    add_legend,
    beside,
    draw_intervals,
    make_panels,
    within,
)


@matplotlib.rc_context(STYLE)
def draw_widths(means: Mapping[tuple[str, int], Interval], metric: str, looks: Mapping[str, Look]) -> Figure:
    """Returns the test metric by model and width."""
    drawing, (ax,) = make_panels(1)
    most = parse_metric(metric)[0].most
    shown = {key: within(mean, most) for key, mean in means.items() if mean.mean == mean.mean}
    there = {model: look for model, look in looks.items() if any(name == model for name, _ in shown)}
    plot_widths(shown, there, ax).set(xlabel="width d", ylabel=f"test {metric}")
    add_legend(drawing, there)
    caption = f"Test {metric} by width: means over seeds and queries with 95 % intervals."
    return Figure("widths", f"{metric} by model and width", caption, drawing)


def plot_widths(means: Mapping[tuple[str, int], Interval], looks: Mapping[str, Look], ax: Axes) -> Axes:
    """Returns the axes with means and their intervals, a line per model, at evenly spaced widths."""
    widths = sorted({width for _, width in means})
    of_width = [[model for model in looks if (model, width) in means] for width in widths]
    for model, look in looks.items():
        places = [x + beside(there.index(model), len(there)) for x, there in enumerate(of_width) if model in there]
        intervals = [means[model, width] for width in widths if (model, width) in means]
        draw_intervals(ax, places, intervals, look, line=True)
    ax.set_xticks(range(len(widths)), [str(width) for width in widths])
    ax.set_xlim(-0.5, len(widths) - 0.5)
    return ax
