"""Target ranks, the metrics computed from them, and their intervals. Tensors and arrays in, tensors and arrays out."""

from mos_recbole.evaluation.counts import compare_counts, counts_interval
from mos_recbole.evaluation.distance import ItemDistance, item_distance
from mos_recbole.evaluation.intervals import Interval, student_interval
from mos_recbole.evaluation.lists import Lists, distance_sums
from mos_recbole.evaluation.metrics import (
    METRICS,
    MetricSpec,
    canonical_metric,
    compute_metrics,
    expand_metrics,
    metric_direction,
    metric_of_counts,
    needs_top_items,
    parse_metric,
    query_values,
)
from mos_recbole.evaluation.nemenyi import MeanRanks, mean_ranks
from mos_recbole.evaluation.protocol import EvaluationProtocol
from mos_recbole.evaluation.rank_cut import (
    LOSS,
    OVERLAP,
    RankCuts,
    cut_to_ranks,
    default_ranks,
    leading_directions,
    list_overlap,
)
from mos_recbole.evaluation.ranks import ScoreIsNaN, TargetRanks, rank_targets, rank_targets_by_scores, seen_of
from mos_recbole.evaluation.resampling import SignTest, bootstrap_difference, holm, sign_flip_test, sign_test
from mos_recbole.evaluation.significance import (
    Difference,
    compare_means,
    effect_size,
    effective_number,
    is_equivalent,
    mean_interval,
    relative_difference,
)
from mos_recbole.evaluation.slices import Bins, quantile_bins
from mos_recbole.evaluation.spectrum import (
    Bounds,
    OutputSpectra,
    Spectrum,
    centre_,
    exact_spectrum,
    randomised_spectrum,
)
from mos_recbole.evaluation.top import top_lists, top_lists_by_scores

__all__ = [
    "LOSS",
    "METRICS",
    "OVERLAP",
    "Bins",
    "Bounds",
    "Difference",
    "EvaluationProtocol",
    "Interval",
    "ItemDistance",
    "Lists",
    "MeanRanks",
    "MetricSpec",
    "OutputSpectra",
    "RankCuts",
    "ScoreIsNaN",
    "SignTest",
    "Spectrum",
    "TargetRanks",
    "bootstrap_difference",
    "canonical_metric",
    "centre_",
    "compare_counts",
    "compare_means",
    "compute_metrics",
    "counts_interval",
    "cut_to_ranks",
    "default_ranks",
    "distance_sums",
    "effect_size",
    "effective_number",
    "exact_spectrum",
    "expand_metrics",
    "holm",
    "is_equivalent",
    "item_distance",
    "leading_directions",
    "list_overlap",
    "mean_interval",
    "mean_ranks",
    "metric_direction",
    "metric_of_counts",
    "needs_top_items",
    "parse_metric",
    "quantile_bins",
    "query_values",
    "randomised_spectrum",
    "rank_targets",
    "rank_targets_by_scores",
    "relative_difference",
    "seen_of",
    "sign_flip_test",
    "sign_test",
    "student_interval",
    "top_lists",
    "top_lists_by_scores",
]
