"""Tables made from run records, and from nothing else."""

from mos_recbole.report.tables import comparison_table, runs_table

__all__ = ["comparison_table", "runs_table"]
