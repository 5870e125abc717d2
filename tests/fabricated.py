"""Finished runs of a study whose files are fabricated: nothing is trained."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mos_recbole.results import OUTCOMES_FILE, RUNS_FOLDER, Metric, RunResult
from mos_recbole.results.records import with_model_facts

PROTOCOL = {"split": {"name": "leave_one_out"}, "filter_seen": False, "tie_rule": "mean", "candidates": "all"}
SPLIT = {
    **{"name": "temporal", "split_time": 1499856234, "context_reach": "side", "min_side_interactions": 4},
    "valid_share": 0.1,
}
# Fields and settings of runs by the article's protocol.
ARTICLES: dict[str, Any] = {
    "split_leakage": "No model learns from anything at or after the split's time.",
    **{"dataset": "ml-25m", "protocol": PROTOCOL | {"split": SPLIT, "candidates": "trained"}},
    "data": {"users": 60, "tied_share": 0.3, "targets_before_test": 20_278_000, "test_targets": 2_982_000},
    **{"MAX_ITEM_LIST_LENGTH": 10, "val_interval": {"rating": "[2.0,inf)"}, "filter_seen": False, "tie_order": "file"},
}
N_USERS, N_QUERIES = 60, 240
SOFTMAX, MOS = "GRU4RecSoftmax", "GRU4RecMoS"


def opposite(metrics: dict[str, Metric]) -> dict[str, Metric]:
    """Returns metrics whose order among runs is the other way round, so that none is taken for another side's."""
    return {name: one.model_copy(update={"value": 1 - one.value}) for name, one in metrics.items()}


class Maker:
    """Writes finished runs into a results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, 0

    def __call__(
        self,
        model: str = SOFTMAX,
        dimension: int | None = 8,
        seed: int = 1,
        *,
        change: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table,
        valid: float = 0.5,
        finished: str | None = None,
        **changes: Any,
    ) -> RunResult:
        """Returns a run; `changes` are fields of the record or settings."""
        self.made += 1
        fields = {key: changes.pop(key) for key in list(changes) if key in RunResult.model_fields}
        dataset = fields.get("dataset", "toy")
        settings = {"model": model, "dataset": dataset, "learning_rate": 0.2, "seed": seed} | changes
        settings |= {} if dimension is None else {"embedding_size": dimension}
        if model == MOS:
            settings.setdefault("mos_heads", 4)
        run_id = fields.setdefault("run_id", f"{self.made:016x}")
        metrics = {"Recall@100": Metric(value=valid, direction="higher")}
        defaults: dict[str, Any] = {
            **{"protocol_hash": "feedbeef12", "protocol": PROTOCOL, "data": {"users": 60, "tied_share": 0.3}},
            **{"parameters": 1000 + (dimension or 0), "epochs": 3, "best_epoch": 2, "valid_metric": "Recall@100"},
            **{
                "valid": metrics,
                "test": opposite(metrics),
                "train_seconds": 65.0,
                "eval_seconds": 1.0,
                "wall_seconds": 70.0,
            },
            **{"peak_memory_bytes": {}, "resumed": False, "device": "cpu", "threads": 1, "versions": {"torch": "2.13"}},
            **{"code": "0.1+abc", "git_commit": "c0ffee", "model": model, "dataset": dataset, "seed": seed},
            **{"settings": settings, "finished": finished or f"2026-01-02T03:04:{self.made % 60:02}+00:00"},
        }
        folder = self.folder / RUNS_FOLDER / f"run-seed{seed}-{run_id}"
        folder.mkdir(parents=True)
        change(outcomes(model, dimension or 0, seed)).to_parquet(folder / OUTCOMES_FILE, index=False)
        curve = pd.DataFrame(
            {"epoch": [1, 2, 3], "loss": [7.0, 6.5, 6.0], "best": [1, 1, 0], "Recall@100": [0.1, valid, 0.2]}
        )
        curve.to_csv(folder / "training_log.csv", index=False)
        # A version-1 record: the parts of the model follow from its name.
        record = with_model_facts(RunResult(schema_version=1, **(defaults | fields)))
        record.write(folder)
        return record

    def study(self, dimensions: Sequence[int] = (8, 16), seeds: Sequence[int] = (1, 2), **changes: Any) -> None:
        """Writes runs of both heads."""
        for model in (SOFTMAX, MOS):
            for dimension in dimensions:
                for seed in seeds:
                    self(model, dimension, seed, **changes)


def outcomes(model: str, dimension: int, seed: int) -> pd.DataFrame:
    """Returns the outcomes of a run: 4 queries of each user, ranks by model, dimension and seed."""
    query = np.random.default_rng(0)
    number = np.arange(N_QUERIES)
    own = np.random.default_rng([*model.encode(), dimension, seed])
    rank = own.integers(1, 300 - dimension - 20 * (model == MOS), N_QUERIES).astype(float)
    train_count = query.integers(0, 900, N_QUERIES)
    rank[train_count == 0] = np.inf
    return pd.DataFrame(
        {
            "user": [f"u{user:02}" for user in number // 4],
            "position": number % 4 + 3,
            "target": [f"i{item}" for item in query.integers(0, 50, N_QUERIES)],
            "rank": rank,
            "tied": 0,
            "candidates": 400,
            "log_probability": -1.0,
            "context_length": number % 4 + 3,
            "train_count": train_count,
            "previous_distance": query.random(N_QUERIES).round(3),
            "oldest_distance": query.random(N_QUERIES).round(3),
            "time_gap": query.choice([0.0, 0.0, 5.0, 60.0], N_QUERIES),
        }
    )


def recall(model: str, dimension: int, seeds: Sequence[int] = (1, 2), k: int = 100) -> np.ndarray:
    """Returns Recall@k by query, averaged over seeds."""
    return np.mean([outcomes(model, dimension, seed)["rank"] <= k for seed in seeds], axis=0)
