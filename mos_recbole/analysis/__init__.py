"""What finished runs say: chosen, aligned, compared and sliced; typed results, neither text nor pictures."""

from mos_recbole.analysis.compare import Comparison, Comparisons, compare_groups, join_comparisons
from mos_recbole.analysis.configurations import (
    ConfigurationRow,
    attributes,
    configuration_rows,
    describe,
    group_by_configuration,
    labels,
    metric_intervals,
)
from mos_recbole.analysis.outcomes import (
    TABLE_METRICS,
    aligned_outcomes,
    iterate_aligned_outcomes,
    metric_values,
    rank_metrics,
    user_numbers,
)
from mos_recbole.analysis.queries import (
    Condition,
    Queries,
    parse_condition,
    read_queries,
    require_distinct_runs,
    require_one_protocol,
)
from mos_recbole.analysis.run_groups import RunGroup, best_on_validation, find_run_groups
from mos_recbole.analysis.slices import Cell, Outside, SliceBy, Slices, parse_slice_by, slice_groups, slice_queries

__all__ = [
    "TABLE_METRICS",
    "Cell",
    "Comparison",
    "Comparisons",
    "Condition",
    "ConfigurationRow",
    "Outside",
    "Queries",
    "RunGroup",
    "SliceBy",
    "Slices",
    "aligned_outcomes",
    "attributes",
    "best_on_validation",
    "compare_groups",
    "configuration_rows",
    "describe",
    "find_run_groups",
    "group_by_configuration",
    "iterate_aligned_outcomes",
    "join_comparisons",
    "labels",
    "metric_intervals",
    "metric_values",
    "parse_condition",
    "parse_slice_by",
    "rank_metrics",
    "read_queries",
    "require_distinct_runs",
    "require_one_protocol",
    "slice_groups",
    "slice_queries",
    "user_numbers",
]
