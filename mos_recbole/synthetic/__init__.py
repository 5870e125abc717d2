"""Logs whose truth is known: the rank of their log-probabilities, their entropy, the best that a model can reach."""

from mos_recbole.synthetic.dataset import read_truth, write_planted
from mos_recbole.synthetic.log import PlantedLog, draw_log
from mos_recbole.synthetic.process import PlantedProcess, plant
from mos_recbole.synthetic.truth import Best, best_achievable

__all__ = [
    "Best",
    "PlantedLog",
    "PlantedProcess",
    "best_achievable",
    "draw_log",
    "plant",
    "read_truth",
    "write_planted",
]
