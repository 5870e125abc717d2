"""Sweeps over settings by Ray Tune.

Only this room of the package uses Ray, which is imported after `prepare_ray` by `driver` and `loggers`.
"""

from mos_recbole.sweep.cluster import ClusterOptions, prepare_ray
from mos_recbole.sweep.dry_run import preview
from mos_recbole.sweep.from_recbole import sweep_from_recbole
from mos_recbole.sweep.plan import Planner
from mos_recbole.sweep.sweep_faults import plan_sweep, read_sweep_file
from mos_recbole.sweep.sweep_file import SweepFile

__all__ = [
    "ClusterOptions",
    "Planner",
    "SweepFile",
    "plan_sweep",
    "prepare_ray",
    "preview",
    "read_sweep_file",
    "sweep_from_recbole",
]
