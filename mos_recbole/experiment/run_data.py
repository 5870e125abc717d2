"""The data that a run learns from and is judged on; runs that are trained as one share them."""

import copy
from functools import cached_property

import torch

from mos_recbole.data import DataSummary, SequenceDataset
from mos_recbole.evaluation import CatalogueCounts
from mos_recbole.settings import Settings
from mos_recbole.training import QuerySet, make_query_set


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
        self.protocol = settings.protocol

    def for_final_fit(self) -> "RunData":
        """Returns the same data with the targets of validation among those of training too."""
        other = copy.copy(self)
        for name in ("summary", "catalogue", "valid_queries"):
            other.__dict__.pop(name, None)
        other.split = self.split.with_validation_trained()
        return other

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the prepared data."""
        return self.dataset.fingerprint()

    @cached_property
    def summary(self) -> DataSummary:
        """Counts of the data."""
        return self.dataset.summary(self.split)

    @cached_property
    def catalogue(self) -> CatalogueCounts:
        """How often training has each item, for metrics of whole lists."""
        return CatalogueCounts(self.dataset.train_counts(self.split), self.config["tail_ratio"])

    @cached_property
    def valid_queries(self) -> QuerySet:
        """The queries that selection goes by."""
        return make_query_set(self.config, self.dataset, self.split, "valid", self.protocol, self.device)

    def test_queries(self) -> QuerySet:
        """Returns the queries of the test; they are used once."""
        return make_query_set(self.config, self.dataset, self.split, "test", self.protocol, self.device)
