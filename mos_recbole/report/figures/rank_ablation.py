"""What cutting to lower ranks costs, by the rank."""

from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from mos_recbole.analysis.rank_ablation import AblatedGroup, RankAblation
from mos_recbole.evaluation import LOSS, OVERLAP, Interval
from mos_recbole.report.figures.figure import (
    GREY,
    STYLE,
    Figure,
    Look,
    add_legend,
    draw_intervals,
    make_panels,
    model_looks,
    within,
)
from mos_recbole.report.figures.spectra import mark_width

# Nats, up to which the axis is linear: differences that no one would act on.
_LINEAR = 0.01


@matplotlib.rc_context(STYLE)
def draw_rank_ablation(ablation: RankAblation) -> Figure:
    """Returns the changes of the loss, of the first metric and of the top lists by the rank; a line a configuration."""
    looks = model_looks(map(_name, ablation.groups))
    names = [*ablation.metrics[:2], OVERLAP]
    drawing, panels = make_panels(len(names))
    for ax, name in zip(panels, names, strict=True):
        plot_cuts(ablation.groups, [looks[_name(group)] for group in ablation.groups], name, ax)
    add_legend(drawing, looks)
    caption = (
        "What log-probabilities cut to rank r lose on the test, with 95 % intervals over users and seeds; a line a "
        "configuration, d + 1 marked. Losses above .01 nats are on a logarithmic scale."
    )
    return Figure("ablate_rank", "Cut to lower ranks", caption, drawing)


def plot_cuts(groups: Sequence[AblatedGroup], looks: Sequence[Look], name: str, ax: Axes) -> Axes:
    """Returns the axes with changes from the uncut answers by the rank, or with the overlap itself."""
    for group, look in zip(groups, looks, strict=True):
        cuts = [cut for cut in group.cuts if cut.rank is not None]
        changes = [cut.changes[name] for cut in cuts]
        if name == OVERLAP:
            changes = [within(Interval(1 + one.mean, 1 + one.low, 1 + one.high)) for one in changes]
        draw_intervals(ax, [cut.rank or 0 for cut in cuts], changes, look, line=True)
    for width in sorted({group.width for group in groups if group.width is not None}):
        mark_width(width, ax)
    if name == OVERLAP:
        title = "share of the full top 10 that is left"
        ax.set_ylim(0, 1.03)
    else:
        title = f"{name}, cut to r less full" + (", nats" if name == LOSS else "")
        ax.axhline(0, color=GREY, linewidth=0.8, zorder=1)
        if name == LOSS:
            ax.set_yscale("symlog", linthresh=_LINEAR)
            title += f", logarithmic beyond {_LINEAR:g}"
            _label_losses(ax)
    ax.set(xlabel="rank r", title=title)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    return ax


def _label_losses(ax: Axes) -> None:
    """Labels the axis in plain numbers: powers of ten from the linear part on, and more where those are few."""
    low, high = ax.get_ylim()
    furthest = max(abs(low), abs(high))
    steps = (1, 2, 5) if furthest < 100 * _LINEAR else (1,)
    sizes = [step * _LINEAR * 10.0**decade for decade in range(6) for step in steps]
    ticks = [sign * size for size in sizes for sign in (-1, 1)]
    ax.set_yticks([0, *(tick for tick in ticks if low <= tick <= high)])
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _name(group: AblatedGroup) -> str:
    """Returns what a look stands for."""
    width = "" if group.width is None else f", d = {group.width}"
    components = "" if group.n_components is None else f", K = {group.n_components}"
    return group.label + width + components
