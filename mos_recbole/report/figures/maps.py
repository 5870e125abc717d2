"""Maps of the cells of two crossed columns: relative differences, numbers of queries, means."""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure as Drawing
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Text

from mos_recbole.analysis.slices import Slices
from mos_recbole.evaluation import Interval, parse_metric
from mos_recbole.report.figures.figure import STYLE, Figure, make_panels, within
from mos_recbole.report.figures.slices import PERCENT_TICKS, SMALL, any_small
from mos_recbole.results import axis_label

_HATCH = "////"
_LABELS_FIT = 45  # signs below a map, in one line
# Purple and orange, which the colour-blind can tell apart; and shades of one colour.
_DIVERGING = matplotlib.colormaps["PuOr_r"]
SEQUENTIAL = matplotlib.colormaps["Blues"]


@matplotlib.rc_context(STYLE)
def draw_difference_maps(columns: Sequence[str], models: Sequence[str], by_width: Mapping[int, Slices]) -> Figure:
    """Returns the relative difference over two columns crossed, a panel per width, all in one scale of colours."""
    cells = [cell for slices in by_width.values() for cell in slices.cells if cell.relative is not None]
    shown = [cell for cell in cells if not cell.small] or cells
    limit = max((abs(cell.relative.mean) for cell in shown if cell.relative), default=0.0) or 0.01
    metric = next(iter(by_width.values())).metric
    drawing, panels = make_panels(len(by_width))
    for ax, (width, slices) in zip(panels, by_width.items(), strict=True):
        plot_difference_map(slices, limit, ax).set_title(f"d = {width}")
    colours = ScalarMappable(TwoSlopeNorm(0, -limit, limit), _DIVERGING)
    label = f"relative difference of {metric}"
    drawing.colorbar(colours, ax=panels, label=label, format=PERCENT_TICKS, shrink=0.9, pad=0.015)
    _finish(drawing, panels, by_width.values())
    caption = (
        f"Relative difference of test {metric} of {models[1]} from {models[0]} over {axis_label(columns[0])} and "
        f"{axis_label(columns[1])}; in brackets the 95 % interval, not adjusted for the number of cells; bold where "
        f"it excludes 0. Orange: {models[1]} has more. Hatched: too few users, or too few whose values differ, for the "
        f"interval to be trusted; the scale of colours leaves out such cells. n/a: {models[0]} has 0, or there is one "
        "user."
    )
    title = f"{models[1]} against {models[0]} by {axis_label(columns[0])} and {axis_label(columns[1])}"
    return Figure(f"map-{columns[0]}-{columns[1]}-{models[1]}", title, caption, drawing)


@matplotlib.rc_context(STYLE)
def draw_cell_maps(columns: Sequence[str], models: Sequence[str], by_width: Mapping[int, Slices]) -> Figure:
    """Returns the number of queries and the baseline's metric in the cells of `draw_difference_maps`."""
    first = next(iter(by_width.values()))
    drawing, panels = make_panels(1 + len(by_width))
    plot_query_map(first, panels[0])
    for ax, (width, slices) in zip(panels[1:], by_width.items(), strict=True):
        plot_mean_map(slices, ax).set_title(f"test {slices.metric} of {models[0]}, d = {width}")
    _finish(drawing, panels, by_width.values())
    caption = (
        f"The cells of the map of differences: number of test queries, and test {first.metric} of {models[0]} with its "
        "95 % interval in brackets. Hatched: too few users, or too few whose values differ, for the interval to be "
        "trusted."
    )
    title = f"What is in the cells of {axis_label(columns[0])} and {axis_label(columns[1])}"
    return Figure(f"cells-{columns[0]}-{columns[1]}-{models[1]}", title, caption, drawing)


def plot_difference_map(slices: Slices, limit: float, ax: Axes) -> Axes:
    """Returns the axes with the relative difference in every cell of two crossed columns.

    Args:
        slices: of two groups; the first column gives the rows of the map.
        limit: largest relative difference, either way, of the scale of colours.
    """
    relatives = [cell.relative for cell in slices.cells]
    values = [np.nan if relative is None else relative.mean for relative in relatives]
    texts = [
        f"{_percent(cell.relative.mean)}\n{_percent_range(cell.relative)}"
        if cell.relative
        else ("n/a" if cell.n_queries else "none")
        for cell in slices.cells
    ]
    certain = [relative is not None and not relative.low <= 0 <= relative.high for relative in relatives]
    return _draw_map(slices, values, texts, _DIVERGING, TwoSlopeNorm(0, -limit, limit), ax, bold=certain)


def plot_query_map(slices: Slices, ax: Axes) -> Axes:
    """Returns the axes with the number of queries in every cell of two crossed columns."""
    values = [float(cell.n_queries) for cell in slices.cells]
    texts = [f"{cell.n_queries:,}\n{cell.n_users:,} users" for cell in slices.cells]
    ax.set_title("queries")
    return _draw_map(slices, values, texts, SEQUENTIAL, Normalize(0, max(values) or 1), ax)


def plot_mean_map(slices: Slices, ax: Axes) -> Axes:
    """Returns the axes with the first group's metric in every cell of two crossed columns."""
    values = [cell.means[0].mean if cell.n_queries else np.nan for cell in slices.cells]
    texts = [_mean_text(cell.means[0], slices.metric) if cell.n_queries else "none" for cell in slices.cells]
    most = parse_metric(slices.metric)[0].most
    top = most if np.isfinite(most) else np.nanmax([*values, 0.0]) or 1
    return _draw_map(slices, values, texts, SEQUENTIAL, Normalize(0, top), ax)


def _draw_map(
    slices: Slices,
    values: Sequence[float],
    texts: Sequence[str],
    colours: Colormap,
    norm: Normalize,
    ax: Axes,
    bold: Sequence[bool] = (),
) -> Axes:
    """Draws a map of cells, the first column's bins from below to above; a cell without a value has no colour."""
    rows, columns = slices.by
    shape = tuple(len(axis) for axis in slices.axes)
    grid = np.reshape(np.array(values, dtype=np.float64), shape)
    labels = draw_grid(grid, texts, slices.axes, colours, norm, ax)
    for number, (cell, label) in enumerate(zip(slices.cells, labels, strict=True)):
        row, column = divmod(number, shape[1])
        if bold and bold[number]:
            label.set_fontweight("bold")
        if cell.small:
            edge = "#999999" if label.get_color() == "black" else "#DDDDDD"
            corner = (column - 0.5, row - 0.5)
            ax.add_patch(Rectangle(corner, 1, 1, fill=False, hatch=_HATCH, edgecolor=edge, linewidth=0))
            # On hatching, text needs a ground.
            ground = _filled(grid[row, column], colours, norm)
            label.set_bbox({"boxstyle": "round,pad=0.15", "facecolor": ground, "edgecolor": "none"})
    ax.set(xlabel=axis_label(columns.column), ylabel=axis_label(rows.column))
    return ax


def draw_grid(
    grid: np.ndarray,
    texts: Sequence[str],
    axes: Sequence[Sequence[str]],
    colours: Colormap,
    norm: Normalize,
    ax: Axes,
) -> list[Text]:
    """Returns the texts in the cells of a map, row by row from below, after drawing it.

    Args:
        grid: numbers that are colours; NaN for none.
        texts: in the cells.
        axes: labels of rows and of columns.
        colours, norm: of the numbers.
        ax: where to draw.
    """
    ax.imshow(
        np.ma.masked_invalid(grid), cmap=colours, norm=norm, origin="lower", aspect="auto", interpolation="nearest"
    )
    labels = []
    for number, text in enumerate(texts):
        row, column = divmod(number, grid.shape[1])
        colour = "black" if _luminance(_filled(grid[row, column], colours, norm)) > 0.3 else "white"
        labels.append(ax.text(column, row, text, ha="center", va="center", fontsize=7, color=colour))
    long = sum(map(len, axes[1])) > _LABELS_FIT
    ax.set_xticks(range(grid.shape[1]), [label.replace(", ", ",\n") if long else label for label in axes[1]])
    ax.set_yticks(range(grid.shape[0]), axes[0])
    ax.grid(visible=False)
    ax.tick_params(length=0, labelsize=8)
    ax.spines[:].set_visible(False)
    return labels


def _filled(value: float, colours: Colormap, norm: Normalize) -> Sequence[float]:
    """Returns the colour of a cell."""
    return tuple(colours(norm(value))) if np.isfinite(value) else (1.0, 1.0, 1.0, 1.0)


def _finish(drawing: Drawing, panels: Sequence[Axes], all_slices: Iterable[Slices]) -> None:
    """Leaves the labels of the y axis to the first panel of every line; adds a legend for hatched cells."""
    for ax in panels:
        place = ax.get_subplotspec()
        assert place is not None
        if not place.is_first_col():
            ax.set_ylabel("")
            ax.set_yticklabels([])
    if any_small(all_slices):
        patch = Patch(facecolor="white", edgecolor="#999999", hatch=_HATCH, label=SMALL)
        drawing.legend(handles=[patch], loc="outside lower center", fontsize=8)


def _luminance(colour: Sequence[float]) -> float:
    """Returns the relative luminance of a colour (WCAG), from 0 to 1."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _mean_text(mean: Interval, metric: str) -> str:
    """Returns the mean of a metric, above its interval where there is one."""
    mean = within(mean, parse_metric(metric)[0].most)
    return f"{mean.mean:.3f}" + ("" if np.isnan(mean.low) else f"\n[{mean.low:.3f}, {mean.high:.3f}]")


def _percent(share: float) -> str:
    """Returns "+1.4 %": to one decimal, to two below one per cent."""
    percent = 100 * share
    if not np.isfinite(percent):
        return "∞"
    return f"{percent:+.2f} %" if abs(percent) < 1 else f"{percent:+.1f} %"


def _percent_range(interval: Interval) -> str:
    """Returns "[-2.0, +40.0]", in per cent."""
    return f"[{_percent(interval.low)}, {_percent(interval.high)}]".replace(" %", "")
