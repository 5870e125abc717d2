"""Figures: plot functions take and return axes, draw functions return a `Figure`, and `save_figure` alone saves."""

from mos_recbole.report.figures.figure import STYLE, Figure, Look, add_legend, model_looks, save_figure
from mos_recbole.report.figures.scales import label_log_axis

__all__ = ["STYLE", "Figure", "Look", "add_legend", "label_log_axis", "model_looks", "save_figure"]
