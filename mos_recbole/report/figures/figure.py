"""The one kind of figure: what it holds, how it looks, and how it is saved. The same figure gives the same bytes."""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.figure
import numpy as np
from cycler import cycler
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D

from mos_recbole.evaluation import Interval
from mos_recbole.io import atomic_write

# Okabe and Ito's colours, which the colour-blind can tell apart, without the yellow that is faint on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (1, 3)))
# The heads that are compared most look the same in all figures; their places in the tuples above.
_OWN = {"softmax": 0, "mos": 1, "moc": 2}
GREY = "#666666"
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "axes.prop_cycle": cycler(color=_COLOURS),
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "mos_recbole",
    "text.parse_math": False,  # a $ in a name is a dollar
}
PANEL = (5.2, 3.6)  # inches
_LONGEST = 65  # signs in a line of the legend, which a panel is wide enough for


@dataclass(frozen=True)
class Figure:
    """A drawing with its title and its caption.

    Attributes:
        name: of its files, without ending.
        caption: what it shows, also for readers who cannot see it.
    """

    name: str
    title: str
    caption: str
    drawing: matplotlib.figure.Figure

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on a screen, in CSS pixels; an inch has 96."""
        width, height = self.drawing.get_size_inches()
        return round(96 * width), round(96 * height)


@dataclass(frozen=True)
class Look:
    """How a model is drawn: its colour, and for print in black and white its marker and the dashes of its lines."""

    colour: str
    marker: str
    line: Any = "-"


def model_looks(models: Iterable[str]) -> dict[str, Look]:
    """Returns a look for each model, so that it looks the same in all panels and figures.

    Softmax, MoS and MoC have theirs whatever the encoder. Others, and a second model with such a head, take the next.
    """
    places: dict[str, int] = {}
    for model in dict.fromkeys(models):
        head = re.search("(?<!sig)(softmax|mos|moc)$", re.split(r"[\s,]", model, maxsplit=1)[0].lower())
        place = _OWN[head[1]] if head else len(_OWN)
        while place in places.values():
            place = max(place + 1, len(_OWN))
        places[model] = place
    return {
        model: Look(
            _COLOURS[place % len(_COLOURS)],
            _MARKERS[place % len(_MARKERS)],
            # There are as many dashes as colours: a colour that comes again comes with others.
            _LINES[(place + place // len(_COLOURS)) % len(_LINES)],
        )
        for model, place in places.items()
    }


def save_figure(figure: Figure, folder: Path) -> list[Path]:
    """Returns the two files that were written, PNG and SVG. The same figure gives the same bytes."""
    paths = [folder / f"{figure.name}.{kind}" for kind in ("png", "svg")]
    with matplotlib.rc_context(STYLE):
        FigureCanvasAgg(figure.drawing)
        # Once for both files: to lay out takes longer than to draw.
        figure.drawing.draw_without_rendering()
        figure.drawing.set_layout_engine("none")
        for path in paths:
            with atomic_write(path) as temporary:
                metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
                figure.drawing.savefig(temporary, format=path.suffix[1:], dpi=150, metadata=metadata)
    return paths


def make_panels(
    n: int, columns: int | None = None, size: tuple[float, float] = PANEL
) -> tuple[matplotlib.figure.Figure, list[Axes]]:
    """Returns a drawing with n axes, row by row.

    Args:
        n: number of axes.
        columns: of a row; by default two of four axes and up to three of other numbers.
        size: width and height of one panel in inches.
    """
    columns = min(n, columns or (2 if n == 4 else 3))
    rows = -(-n // columns)
    drawing = matplotlib.figure.Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    return drawing, [drawing.add_subplot(rows, columns, number + 1) for number in range(n)]


def share_y(panels: Sequence[Axes]) -> None:
    """Gives axes one vertical scale."""
    for ax in panels[1:]:
        ax.sharey(panels[0])


def add_legend(
    drawing: matplotlib.figure.Figure, looks: Mapping[str, Look], others: Sequence[Artist] = (), lines: bool = False
) -> None:
    """Adds one legend for all panels, below them.

    Args:
        drawing: where to add it.
        looks: of the models, as markers.
        others: further handles.
        lines: show the models as lines instead.
    """
    handles: list[Artist] = [
        Line2D([], [], color=look.colour, linestyle=look.line, linewidth=1.5, label=model)
        if lines
        else Line2D([], [], color=look.colour, linestyle="", marker=look.marker, label=model)
        for model, look in looks.items()
    ]
    handles += others
    for handle in handles:
        handle.set_label(textwrap.fill(str(handle.get_label()), _LONGEST))
    if handles:
        # In inches: a handle with its gaps, and a letter of this size.
        widest = max(
            1.7, 0.6 + 0.065 * max(len(line) for handle in handles for line in str(handle.get_label()).splitlines())
        )
        columns = max(1, int(drawing.get_figwidth() / widest))
        drawing.legend(handles=handles, loc="outside lower center", ncols=min(columns, len(handles)), fontsize=8)


def say_empty(ax: Axes) -> Axes:
    """Returns the axes with a note that there is nothing to show."""
    ax.text(0.5, 0.5, "nothing to show yet", ha="center", va="center", color=GREY, transform=ax.transAxes)
    return ax


def draw_intervals(
    ax: Axes, x: Sequence[float], intervals: Sequence[Interval], look: Look, *, line: bool = False, hollow: bool = False
) -> None:
    """Draws means with their intervals, if there are any; an infinite upper end is an arrow out of the picture."""
    drawn = [
        (place, one.mean, one.low, one.high) for place, one in zip(x, intervals, strict=True) if one.mean == one.mean
    ]
    if not drawn:
        return
    places, mean, low, high = np.array(drawn, dtype=np.float64).T
    # Of a metric that hardly varies, rounding can put an end on the wrong side of the mean.
    below, above = (np.maximum(np.where(np.isfinite(size), size, 0), 0) for size in (mean - low, high - mean))
    ax.errorbar(
        places,
        mean,
        yerr=(below, above),
        color=look.colour,
        linestyle=look.line if line else "",
        linewidth=1.2,
        elinewidth=1,
        marker=look.marker,
        markersize=4.5,
        markerfacecolor="white" if hollow else look.colour,
    )
    for end in (low, high):
        closed = np.isfinite(end)
        ax.plot(places[closed], end[closed], linestyle="", marker="_", markersize=5, color=look.colour)
    for place, start in zip(places[high == np.inf], mean[high == np.inf], strict=True):
        arrow: Any = {"arrowstyle": "->", "color": look.colour, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (place, 1), (place, start), ("data", "axes fraction"), "data", arrowprops=arrow)


def within(interval: Interval, most: float = 1.0) -> Interval:
    """Returns an interval of a mean of values from 0 to `most`, by default shares; Student's t may leave that range."""
    return Interval(interval.mean, max(interval.low, 0.0), min(interval.high, most))


def beside(number: int, count: int) -> float:
    """Returns how far the points of one of several models are moved, so that intervals do not cover each other.

    The moved ones stay nearer to their own place than to the next one, which is 1 away.
    """
    return min(0.12, 0.7 / count) * (number - (count - 1) / 2)
