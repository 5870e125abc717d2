"""Tables, figures and pages: renders what `analysis` finds in the files of runs and sweeps."""

from mos_recbole.report.comparisons import comparisons_table
from mos_recbole.report.folder import write_tables
from mos_recbole.report.rank_ablation import rank_ablation_table, write_rank_ablation
from mos_recbole.report.runs import comparison_table, configurations_table
from mos_recbole.report.slices import slices_table
from mos_recbole.report.spectra import spectra_table, write_spectra
from mos_recbole.report.study import write_report
from mos_recbole.report.sweep import SweepReport, write_sweep_report
from mos_recbole.report.table import Table, join_frames
from mos_recbole.report.terminal import print_fitted

__all__ = [
    "SweepReport",
    "Table",
    "comparison_table",
    "comparisons_table",
    "configurations_table",
    "join_frames",
    "print_fitted",
    "rank_ablation_table",
    "slices_table",
    "spectra_table",
    "write_rank_ablation",
    "write_report",
    "write_spectra",
    "write_sweep_report",
    "write_tables",
]
