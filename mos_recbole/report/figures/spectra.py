"""Singular values by their number."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from mos_recbole.analysis.spectra import VIEWS, MeasuredGroup, Spectra, View
from mos_recbole.report.figures.figure import GREY, PANEL, STYLE, Figure, add_legend, make_panels, model_looks

_TITLES = {"raw": "log-probabilities", "centred": "centred by rows and columns"}
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
# Below the threshold there is rounding alone; a falling line is shown to fall so far.
_DEPTH = 0.1


@matplotlib.rc_context(STYLE)
def draw_spectra(spectra: Spectra) -> Figure:
    """Returns the singular values by their number, raw and centred: a colour per model and K, dashes per width."""
    looks = model_looks(map(_name, spectra.groups))
    widths = sorted({measured.width for measured in spectra.groups if measured.width is not None})
    dashes = {width: _DASHES[number % len(_DASHES)] for number, width in enumerate(widths)}
    styles = [
        {"color": looks[_name(measured)].colour, "linestyle": dashes.get(measured.width or 0, _DASHES[0])}
        for measured in spectra.groups
    ]
    drawing, panels = make_panels(2, size=(PANEL[0], PANEL[1] + 0.5))
    panels[1].sharex(panels[0])
    for ax, view in zip(panels, VIEWS, strict=True):
        plot_singular_values(spectra.groups, styles, view, ax)
    of_width = [
        Line2D([], [], color=GREY, linestyle=dash, linewidth=1.5, label=f"d = {width}")
        for width, dash in dashes.items()
    ]
    without_dashes = {name: replace(look, line="-") for name, look in looks.items()}
    add_legend(drawing, without_dashes, of_width if len(of_width) > 1 else [], lines=True)
    caption = "Singular values over the largest one, by their number, down to the threshold of rounding; a line a run."
    return Figure("spectrum", "Singular values", caption, drawing)


def plot_singular_values(
    groups: Sequence[MeasuredGroup], styles: Sequence[Mapping[str, Any]], view: View, ax: Axes
) -> Axes:
    """Returns the axes with singular values over the largest one, by their number, down to the threshold of rounding.

    Each seed has a line, in the style of its configuration. Dotted lines mark d + 1.
    """
    lowest = 1.0
    for measured, style in zip(groups, styles, strict=True):
        spectra = measured.views(view)
        wide, alpha = (1.5, 1.0) if len(spectra) == 1 else (1.0, 0.8)
        for spectrum in spectra:
            floor = spectrum.threshold / spectrum.largest if spectrum.largest else 1.0
            # And the first one below the threshold, so that it is seen to fall.
            relative = spectrum.values[: spectrum.rank().low + 1] / (spectrum.largest or 1.0)
            relative = np.maximum(relative, floor * _DEPTH)
            ax.plot(np.arange(1, len(relative) + 1), relative, linewidth=wide, alpha=alpha, **style)
            lowest = min(lowest, float(relative.min()))
    for width in sorted({measured.width for measured in groups if measured.width is not None}):
        mark_width(width, ax)
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


def mark_width(width: int, ax: Axes) -> None:
    """Draws a dotted line at d + 1, with its name to the left, where lines are far above."""
    ax.axvline(width + 1, color=GREY, linestyle=":", linewidth=0.9, zorder=1)
    ax.annotate(
        f"d + 1 = {width + 1}",
        (width + 1, 0),
        xycoords=("data", "axes fraction"),
        xytext=(-2, 4),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="bottom",
        fontsize=7,
        color=GREY,
    )


def _name(measured: MeasuredGroup) -> str:
    """Returns what a colour stands for: the model and K."""
    components = measured.n_components
    return measured.label + ("" if components is None else f", K = {components}")
