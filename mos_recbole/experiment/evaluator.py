"""Metrics of a model during its training and at its end."""

from typing import Any

import torch

from mos_recbole.evaluation import CatalogueCounts, TargetRanks, compute_metrics, needs_top_items, parse_metric
from mos_recbole.experiment.run_data import RunData
from mos_recbole.training import Processes, QuerySet, evaluate_model


class Evaluator:
    """Computes a model's metrics by the run's protocol.

    Args:
        model: as it stands when `metrics` is called.
        config: RecBole's.
        data: of the run.
        metric_names: with cut-offs.
        show_progress: whether to draw a bar.
        processes: that each rank a shard of the queries.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        config: Any,
        data: RunData,
        metric_names: list[str],
        show_progress: bool,
        processes: Processes,
    ) -> None:
        self.model, self.config, self.protocol, self.metric_names = model, config, data.protocol, metric_names
        self.show_progress, self.processes = show_progress, processes
        self.catalogue = CatalogueCounts(data.dataset.train_counts(data.split), config["tail_ratio"])
        self.top_k = max((parse_metric(name)[1] or 0 for name in metric_names if needs_top_items(name)), default=0)

    def metrics(self, queries: QuerySet) -> tuple[dict[str, float], TargetRanks]:
        """Returns the metrics by name, and the ranks that they were computed from."""
        ranks = evaluate_model(self.model, self.config, queries, self.top_k, self.show_progress, self.processes)
        values, _ = compute_metrics(
            self.metric_names,
            ranks.ranks(self.protocol.tie_rule).numpy(),
            ranks.ranks("mean").numpy(),
            ranks.n_candidates.numpy(),
            None if ranks.top_items is None else ranks.top_items.numpy(),
            self.catalogue,
        )
        return values, ranks
