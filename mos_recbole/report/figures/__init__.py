"""Figures: plot functions take and return axes, draw functions return a `Figure`, and `save_figure` alone saves."""

from mos_recbole.report.figures.figure import STYLE, Figure, Look, add_legend, model_looks, save_figure

__all__ = ["STYLE", "Figure", "Look", "add_legend", "model_looks", "save_figure"]
