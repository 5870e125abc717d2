"""Sweeps over settings by Ray Tune. Of this package only this room knows Ray, and needs it only to run a sweep."""

from mos_recbole.sweep.cluster import prepare_ray
from mos_recbole.sweep.plan import Planner
from mos_recbole.sweep.preview import preview
from mos_recbole.sweep.sweep_file import SweepFile, read_sweep_file

__all__ = ["Planner", "SweepFile", "prepare_ray", "preview", "read_sweep_file"]
