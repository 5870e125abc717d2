"""Runs: from settings to records, and from records back to models."""

from mos_recbole import compat  # noqa: F401 – first: says what to do where RecBole is missing
from mos_recbole.experiment.distances import add_distances
from mos_recbole.experiment.estimate import Estimate, count_parameters, earlier_epochs, estimate_cost
from mos_recbole.experiment.forecast import preview_runs
from mos_recbole.experiment.fused import run_fused
from mos_recbole.experiment.identity import DataFacts, code_version, data_facts, protocol_hash, run_name, versions
from mos_recbole.experiment.load import TrainedRun, load_run
from mos_recbole.experiment.matching import match_parameters
from mos_recbole.experiment.run import run_experiment
from mos_recbole.experiment.run_data import RunData
from mos_recbole.experiment.score import score_lists
from mos_recbole.experiment.timing import Span, StepTimer, TimedLoader
from mos_recbole.settings import load_settings

__all__ = [
    "DataFacts",
    "Estimate",
    "RunData",
    "Span",
    "StepTimer",
    "TimedLoader",
    "TrainedRun",
    "add_distances",
    "code_version",
    "count_parameters",
    "data_facts",
    "earlier_epochs",
    "estimate_cost",
    "load_run",
    "load_settings",
    "match_parameters",
    "preview_runs",
    "protocol_hash",
    "run_experiment",
    "run_fused",
    "run_name",
    "score_lists",
    "versions",
]
