"""Tables and figures made from the files of runs and sweeps, and from nothing else."""

from mos_recbole.report.comparisons import comparisons_table
from mos_recbole.report.runs import comparison_table, configurations_table
from mos_recbole.report.slices import slices_table
from mos_recbole.report.spectra import MeasuredSide, Spectra, find_spectrum_sides, spectra_table
from mos_recbole.report.spectra_report import write_spectra
from mos_recbole.report.study_report import write_report
from mos_recbole.report.sweep_report import COST_COLUMNS, trials_frame, write_sweep_report
from mos_recbole.report.table import Table

__all__ = [
    "COST_COLUMNS",
    "MeasuredSide",
    "Spectra",
    "Table",
    "comparison_table",
    "comparisons_table",
    "configurations_table",
    "find_spectrum_sides",
    "slices_table",
    "spectra_table",
    "trials_frame",
    "write_report",
    "write_spectra",
    "write_sweep_report",
]
