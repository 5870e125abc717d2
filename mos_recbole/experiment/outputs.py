"""What a trained run's model says of queries: the log-probabilities of all candidates, in float64, block by block."""

import copy
from collections.abc import Iterator
from functools import cached_property

import torch

from mos_recbole.experiment.build import faults_of_others
from mos_recbole.experiment.load import TrainedRun
from mos_recbole.heads import OutputHead
from mos_recbole.models import EncoderHeadRecommender
from mos_recbole.training import QuerySet, query_scores
from mos_recbole.training.loaders import Fields

_CHUNK_BYTES = 2**26


class Outputs:
    """The log-probabilities of a trained run's model.

    A model's states are computed as in its evaluation, what the head makes of them in float64: float32 would leave
    noise of 1e-7 of the largest singular value, which looks like full rank. The padding item is left out, and items
    that the protocol takes out of all candidates.

    RecBole's own classes have scores, in float32; their log-softmax stands in for log-probabilities.

    Args:
        run: of which.
        queries: of which.

    Attributes:
        item_V: int64, the numbers of the items that are columns.
        probabilities: whether the model gives log-probabilities itself, or they are made of its scores.
    """

    def __init__(self, run: TrainedRun, queries: QuerySet) -> None:
        self.run, self.queries = run, queries
        kept_V = torch.ones(run.model.n_items, dtype=torch.bool, device=run.config["device"])
        kept_V[0] = False
        if queries.excluded_V is not None:
            kept_V &= ~queries.excluded_V
        self.item_V = kept_V.nonzero().squeeze(1)
        self.probabilities = isinstance(run.model, EncoderHeadRecommender)

    @property
    def width(self) -> int | None:
        """d, of the states and of the item table; None for a model without such."""
        model = self.run.model
        return model.item_table.shape[1] if isinstance(model, EncoderHeadRecommender) else None

    def matrix(self, chosen: torch.Tensor) -> torch.Tensor:
        """Returns the log-probabilities [N, V] for queries by their numbers."""
        matrix_NV = torch.empty(len(chosen), len(self.item_V), dtype=torch.float64, device=self.item_V.device)
        start = 0
        with faults_of_others(type(self.run.model), "used"):  # blocks of another shape
            for block_nV in self.blocks(chosen):
                matrix_NV[start : start + len(block_nV)] = block_nV
                start += len(block_nV)
        return matrix_NV

    @torch.no_grad()
    def blocks(self, chosen: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yields `matrix` block by block, each of its own memory.

        Raises:
            InputError: a plugin's code fails.
        """
        run, fields = self.run, Fields.of(self.run.config)
        n_queries, n_items, model = run.config["eval_batch_size"], run.model.n_items, run.model
        with faults_of_others(type(model), "used"):
            if isinstance(model, EncoderHeadRecommender):
                head, table_Vd = self._exact
                rows = max(1, _CHUNK_BYTES // (8 * n_items * head.n_components))
                for index in chosen.split(n_queries):
                    for state_nd in model(self.queries.batch(index, fields)).split(rows):
                        yield head.log_prob(state_nd.double(), table_Vd)[:, self.item_V]
                return
            for index in chosen.split(max(1, min(n_queries, _CHUNK_BYTES // (8 * n_items)))):
                scores_nV = query_scores(model, run.config, self.queries.batch(index, fields), self.queries.n_items)
                yield scores_nV[:, self.item_V].double().log_softmax(dim=1)

    @cached_property
    def _exact(self) -> tuple[OutputHead, torch.Tensor]:
        """The head and the item table in float64."""
        model = self.run.model
        assert isinstance(model, EncoderHeadRecommender)
        return copy.deepcopy(model.head).double(), model.item_table.detach().double()
