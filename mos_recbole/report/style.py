"""How figures look, and how they are saved: the same figure gives the same bytes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mos_recbole.io import atomic_write

# Okabe and Ito's colours, which the colour-blind can tell apart, less the yellow that is faint on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
GREY = "#666666"
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "mos_recbole",
    "text.parse_math": False,  # a $ in a name is a dollar
}
PANEL = (5.2, 3.6)  # inches


@dataclass(frozen=True)
class Look:
    """How a model is drawn."""

    colour: str
    marker: str


def model_looks(models: Iterable[str]) -> dict[str, Look]:
    """Returns a look for each model, so that it looks the same in all panels and figures."""
    return {
        model: Look(_COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)])
        for number, model in enumerate(dict.fromkeys(models))
    }


def add_legend(figure: Figure, looks: Mapping[str, Look], others: Sequence[Line2D], lines: bool = False) -> None:
    """Adds one legend for all panels, below them: the models, as markers or as lines, and what else there is."""
    handles = [
        Line2D([], [], color=look.colour, linewidth=1.5, label=model)
        if lines
        else Line2D([], [], color=look.colour, linestyle="", marker=look.marker, label=model)
        for model, look in looks.items()
    ]
    handles += others
    if handles:
        # In inches: a handle with its gaps, and a letter of this size.
        widest = max(1.7, 0.6 + 0.065 * max(len(str(handle.get_label())) for handle in handles))
        columns = max(1, int(figure.get_figwidth() / widest))
        figure.legend(handles=handles, loc="outside lower center", ncols=min(columns, len(handles)), fontsize=8)


def say_empty(ax: Axes) -> Axes:
    """Returns the axes, which say that there is nothing to show."""
    ax.text(0.5, 0.5, "nothing to show yet", ha="center", va="center", color=GREY, transform=ax.transAxes)
    return ax


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Returns the two files that were written, PNG and SVG. The same figure gives the same bytes."""
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    with matplotlib.rc_context(STYLE):
        FigureCanvasAgg(figure)
        for path in paths:
            with atomic_write(path) as temporary:
                metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
                figure.savefig(temporary, format=path.suffix[1:], dpi=150, metadata=metadata)
    return paths
