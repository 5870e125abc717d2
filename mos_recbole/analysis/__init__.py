"""What finished runs say: chosen, aligned, compared and sliced; typed results, neither text nor pictures."""

from mos_recbole.analysis.best_models import BestModels
from mos_recbole.analysis.compare import Comparison, Comparisons, compare_groups, join_comparisons
from mos_recbole.analysis.configurations import (
    ConfigurationRow,
    configuration_rows,
    describe,
    group_by_configuration,
    labels,
    metric_intervals,
)
from mos_recbole.analysis.costs import COSTS, Cost, cost_named, on_front, usual_cost
from mos_recbole.analysis.outcomes import (
    TABLE_METRICS,
    aligned_outcomes,
    asked_metrics,
    checked_metrics,
    iterate_aligned_outcomes,
    leading_metric,
    list_notes,
    mean_metric,
    metric_values,
    user_numbers,
)
from mos_recbole.analysis.partners import Trained, partner_notes
from mos_recbole.analysis.queries import (
    Condition,
    Queries,
    parse_condition,
    read_queries,
    require_distinct_runs,
    require_one_protocol,
)
from mos_recbole.analysis.rank_ablation import AblatedGroup, Cut, RankAblation
from mos_recbole.analysis.reference import Reference, read_reference
from mos_recbole.analysis.run_groups import RunGroup, best_on_validation, find_run_groups
from mos_recbole.analysis.slices import Cell, Outside, SliceBy, Slices, parse_slice_by, slice_groups, slice_queries
from mos_recbole.analysis.spectra import MeasuredGroup, Spectra
from mos_recbole.analysis.study import Section, Study, read_study
from mos_recbole.analysis.sweep_frame import (
    COST_COLUMNS,
    Sweep,
    join_trials,
    read_sweep,
    swept_columns,
    trials_frame,
)
from mos_recbole.analysis.trained_groups import find_trained_groups

__all__ = [
    "COSTS",
    "COST_COLUMNS",
    "TABLE_METRICS",
    "AblatedGroup",
    "BestModels",
    "Cell",
    "Comparison",
    "Comparisons",
    "Condition",
    "ConfigurationRow",
    "Cost",
    "Cut",
    "MeasuredGroup",
    "Outside",
    "Queries",
    "RankAblation",
    "Reference",
    "RunGroup",
    "Section",
    "SliceBy",
    "Slices",
    "Spectra",
    "Study",
    "Sweep",
    "Trained",
    "aligned_outcomes",
    "asked_metrics",
    "best_on_validation",
    "checked_metrics",
    "compare_groups",
    "configuration_rows",
    "cost_named",
    "describe",
    "find_run_groups",
    "find_trained_groups",
    "group_by_configuration",
    "iterate_aligned_outcomes",
    "join_comparisons",
    "join_trials",
    "labels",
    "leading_metric",
    "list_notes",
    "mean_metric",
    "metric_intervals",
    "metric_values",
    "on_front",
    "parse_condition",
    "parse_slice_by",
    "partner_notes",
    "read_queries",
    "read_reference",
    "read_study",
    "read_sweep",
    "require_distinct_runs",
    "require_one_protocol",
    "slice_groups",
    "slice_queries",
    "swept_columns",
    "trials_frame",
    "user_numbers",
    "usual_cost",
]
