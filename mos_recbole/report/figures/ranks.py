"""Mean ranks of models over data sets, with the critical difference."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from mos_recbole.report.figures.figure import STYLE, Figure, Look, make_panels


@matplotlib.rc_context(STYLE)
def draw_ranks(
    models: Sequence[str], mean_M: np.ndarray, critical_difference: float, looks: Mapping[str, Look], caption: str
) -> Figure:
    """Returns the mean ranks, as `plot_ranks` shows them.

    Args:
        models, mean_M, critical_difference, looks: as of `plot_ranks`.
        caption: how they were computed.
    """
    drawing, (ax,) = make_panels(1, size=(6.5, 1.0 + 0.25 * len(models)))
    plot_ranks(models, mean_M, critical_difference, looks, ax).set(xlabel="mean rank (1 is best)")
    title = "Mean ranks and the critical difference"
    return Figure("ranks", title, f"Models whose bars do not meet differ. {caption}", drawing)


def plot_ranks(
    models: Sequence[str], mean_M: np.ndarray, critical_difference: float, looks: Mapping[str, Look], ax: Axes
) -> Axes:
    """Returns the axes with a line a model, the first on top: its mean rank and half the critical difference around it.

    Args:
        models: their names in order.
        mean_M: their mean ranks.
        critical_difference: from which on two mean ranks differ.
        looks: of the models.
        ax: where to draw.
    """
    half = critical_difference / 2
    for place, (model, mean) in enumerate(zip(models, mean_M, strict=True)):
        look = looks[model]
        ax.plot([mean - half, mean + half], [place, place], color=look.colour, linewidth=1.5)
        ax.plot([mean], [place], color=look.colour, marker=look.marker, markersize=5)
    ax.set_yticks(range(len(models)), models)
    ax.invert_yaxis()
    return ax
