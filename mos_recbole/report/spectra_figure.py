"""The figure of measured spectra. Plot functions take data and axes, return the axes and never save."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from mos_recbole.report.spectra import VIEWS, MeasuredSide, Spectra, View
from mos_recbole.report.style import GREY, PANEL, STYLE, add_legend, model_looks

_TITLES = {"raw": "log-probabilities", "centred": "centred by rows and columns"}
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
# Below the threshold there is rounding alone; a falling line is shown to fall so far.
_DEPTH = 0.1


@dataclass(frozen=True)
class _Line:
    """How a configuration is drawn: in the colour of its head, dashed by its width."""

    measured: MeasuredSide
    colour: str
    dashes: Any


def draw_spectra(spectra: Spectra) -> Figure:
    """Returns the singular values by their number, raw and centred, every configuration in a look of its own."""
    looks = model_looks(map(_name, spectra.sides))
    widths = sorted({measured.width for measured in spectra.sides if measured.width is not None})
    dashes = {width: _DASHES[number % len(_DASHES)] for number, width in enumerate(widths)}
    lines = [
        _Line(measured, looks[_name(measured)].colour, _DASHES[0] if measured.width is None else dashes[measured.width])
        for measured in spectra.sides
    ]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2 * PANEL[0], PANEL[1] + 0.5), layout="constrained")
        for ax, view in zip(figure.subplots(1, 2, sharex=True), VIEWS, strict=True):
            plot_singular_values(lines, view, ax)
        of_width = [
            Line2D([], [], color=GREY, linestyle=dash, linewidth=1.5, label=f"d = {width}")
            for width, dash in dashes.items()
        ]
        add_legend(figure, looks, of_width if len(of_width) > 1 else [], lines=True)
    return figure


def plot_singular_values(lines: Sequence[_Line], view: View, ax: Axes) -> Axes:
    """Returns the axes with singular values over the largest one, by their number, down to the threshold of rounding.

    Each seed has a line; those of a configuration look alike. Dotted lines mark d + 1.

    Args:
        lines: configurations and how they look.
        view: raw or centred.
        ax: where to draw.
    """
    lowest = 1.0
    for line in lines:
        found = line.measured.views(view)
        for spectrum in found:
            floor = spectrum.threshold / spectrum.largest if spectrum.largest else 1.0
            # And the first one below the threshold, so that it is seen to fall.
            relative = spectrum.values[: spectrum.rank().low + 1] / (spectrum.largest or 1.0)
            relative = np.maximum(relative, floor * _DEPTH)
            ax.plot(
                np.arange(1, len(relative) + 1),
                relative,
                color=line.colour,
                linestyle=line.dashes,
                linewidth=1.5 if len(found) == 1 else 1.0,
                alpha=1.0 if len(found) == 1 else 0.8,
            )
            lowest = min(lowest, float(relative.min()))
    for width in sorted({line.measured.width for line in lines if line.measured.width is not None}):
        ax.axvline(width + 1, color=GREY, linestyle=":", linewidth=0.9, zorder=1)
        ax.annotate(
            f"d + 1 = {width + 1}",
            (width + 1, 0),
            xycoords=("data", "axes fraction"),
            xytext=(-2, 4),  # to the left, where lines are far above
            textcoords="offset points",
            rotation=90,
            ha="right",
            va="bottom",
            fontsize=7,
            color=GREY,
        )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="number of the singular value",
        ylabel="singular value / largest",
        title=_TITLES[view],
        ylim=(min(0.5, lowest * 0.5), 2),
    )
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.yaxis.set_major_locator(LogLocator(numticks=8))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"1e{np.log10(value):.0f}"))
    return ax


def _name(measured: MeasuredSide) -> str:
    """Returns what a colour stands for: the model and K."""
    components = measured.n_components
    return measured.label + ("" if components is None else f", K = {components}")
