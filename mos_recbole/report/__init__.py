"""Tables and figures made from the files of runs and sweeps, and from nothing else."""

from mos_recbole.report.compare import Comparison, Comparisons, compare_sides
from mos_recbole.report.sides import Side, find_sides
from mos_recbole.report.sweep_report import COST_COLUMNS, trials_frame, write_sweep_report
from mos_recbole.report.tables import comparison_table, runs_table

__all__ = [
    "COST_COLUMNS",
    "Comparison",
    "Comparisons",
    "Side",
    "compare_sides",
    "comparison_table",
    "find_sides",
    "runs_table",
    "trials_frame",
    "write_sweep_report",
]
