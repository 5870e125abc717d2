"""The data that a run learns from and is judged on; runs that are trained as one share them."""

import copy
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from mos_recbole.data import DataSummary, SequenceDataset, Sequences
from mos_recbole.errors import InputError
from mos_recbole.evaluation import ItemDistance, Lists, distance_sums, parse_metric
from mos_recbole.experiment.identity import facts_of
from mos_recbole.results import RunResult
from mos_recbole.settings import Settings
from mos_recbole.training import QuerySet, make_query_set

# Queries whose users' histories are in memory at a time.
_QUERIES = 2**14


class RunData:
    """Interactions, split, protocol and queries of all runs with the same data settings and protocol.

    Args:
        settings: of one of the runs.
        device: where batches are made.

    Raises:
        InputError: the data cannot be read, or the split leaves a side empty.
    """

    def __init__(self, settings: Settings, device: torch.device) -> None:
        self.config, self.device = settings.recbole_config(device), device
        self.dataset = SequenceDataset(self.config)
        self.split = self.dataset.split()
        self.protocol = settings.protocol(has_repeats=facts_of(settings, self.dataset).has_repeats)

    def for_final_fit(self) -> "RunData":
        """Returns the same data with the targets of validation among those of training too."""
        other = copy.copy(self)
        for name in ("summary", "train_counts", "distance", "valid_queries"):
            other.__dict__.pop(name, None)
        other.split = self.split.with_validation_trained()
        return other

    @classmethod
    def of_run(cls, record: RunResult, settings: Settings, device: torch.device, option: str) -> "RunData":
        """Returns the data of a finished run as its model learned from them.

        Args:
            record: of the run.
            settings: with its data settings, and the place of the data.
            device: where batches are made.
            option: of the command that says where the data are.

        Raises:
            InputError: they are missing, or no longer what they were.
        """
        place = settings.recbole_config(device)["data_path"]
        if not Path(place).exists():
            raise InputError(
                f"{place}: no such folder or file; expected the data of run {record.run_id}. Its record has only their "
                f"name: {option} tells where they are (in Python, data_path=)"
            )
        data = cls(settings, device)
        if data.fingerprint != record.data["fingerprint"]:
            raise InputError(
                f"{place}: not the data of run {record.run_id}, or they were changed since; expected those with the "
                f"fingerprint {record.data['fingerprint'][:16]}..."
            )
        return data if record.final_fit == "none" else data.for_final_fit()

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the prepared data."""
        return self.dataset.fingerprint()

    @cached_property
    def summary(self) -> DataSummary:
        """Counts of the data."""
        return self.dataset.summary(self.split)

    @cached_property
    def train_counts(self) -> np.ndarray:
        """How often training has each item, int64 [V]."""
        return self.dataset.train_counts(self.split)

    @cached_property
    def distance(self) -> ItemDistance:
        """How far items are from each other in training."""
        sequences = self.dataset.sequences
        in_training = self.split.train_rows(len(sequences.items))
        user = np.repeat(sequences.users, np.diff(sequences.offsets))
        return ItemDistance(user[in_training], sequences.items[in_training], self.dataset.item_num)

    def lists(self, side: Literal["valid", "test"], items_Qk: np.ndarray, metrics: list[str]) -> Lists:
        """Returns the recommended lists of a side's queries with what the metrics look up about them."""
        needs = {parse_metric(metric)[0].needs for metric in metrics}
        seen = distances = None
        if "in_history" in needs:
            segments = getattr(self.split, side)
            rows, segment = segments.targets()
            seen = in_history(self.dataset.sequences, rows, segments.user[segment], items_Qk)
        if "distance_sums" in needs:
            distances = distance_sums(items_Qk, self.distance)
        return Lists(items_Qk, self.train_counts, self.config["tail_ratio"], seen, distances)

    @cached_property
    def valid_queries(self) -> QuerySet:
        """The queries that selection goes by."""
        return make_query_set(self.config, self.dataset, self.split, "valid", self.protocol, self.device)

    def test_queries(self) -> QuerySet:
        """Returns the queries of the test; they are used once."""
        return make_query_set(self.config, self.dataset, self.split, "test", self.protocol, self.device)


def in_history(sequences: Sequences, rows: np.ndarray, user: np.ndarray, items_Qk: np.ndarray) -> np.ndarray:
    """Returns whether a query's user had items before the query's target, bool [Q, k]; never padding.

    Args:
        sequences: of all users.
        rows: int64 [Q], the targets' rows in the flat arrays.
        user: int [Q], their users' numbers.
        items_Qk: integers, the items.
    """
    found = np.zeros(items_Qk.shape, dtype=bool)
    n_items = int(max(items_Qk.max(initial=0), sequences.items.max())) + 1
    for start in range(0, len(rows), _QUERIES):
        part = slice(start, start + _QUERIES)
        users, place = np.unique(user[part], return_inverse=True)
        first, counts = sequences.offsets[users], np.diff(sequences.offsets)[users]
        row = np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)
        pair = np.repeat(np.arange(len(users)), counts) * n_items + sequences.items[row]
        known, earliest = np.unique(pair, return_index=True)
        wanted = place[:, None] * n_items + items_Qk[part]
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        found[part] = (known[at] == wanted) & (row[earliest[at]] < rows[part][:, None])
    return found
