"""Tables and figures made from the files of runs and sweeps, and from nothing else."""

from mos_recbole.report.compare import Comparison, Comparisons, compare_sides
from mos_recbole.report.queries import Condition, parse_condition
from mos_recbole.report.sides import Side, find_sides
from mos_recbole.report.slices import Cell, SliceBy, Slices, parse_slice_by, slice_sides
from mos_recbole.report.spectra import MeasuredSide, Spectra, find_spectrum_sides
from mos_recbole.report.spectra_report import write_spectra
from mos_recbole.report.study_report import write_report
from mos_recbole.report.sweep_report import COST_COLUMNS, trials_frame, write_sweep_report
from mos_recbole.report.tables import comparison_table, runs_table
from mos_recbole.report.ties import TieEffects, tie_effects

__all__ = [
    "COST_COLUMNS",
    "Cell",
    "Comparison",
    "Comparisons",
    "Condition",
    "MeasuredSide",
    "Side",
    "SliceBy",
    "Slices",
    "Spectra",
    "TieEffects",
    "compare_sides",
    "comparison_table",
    "find_sides",
    "find_spectrum_sides",
    "parse_condition",
    "parse_slice_by",
    "runs_table",
    "slice_sides",
    "tie_effects",
    "trials_frame",
    "write_report",
    "write_spectra",
    "write_sweep_report",
]
