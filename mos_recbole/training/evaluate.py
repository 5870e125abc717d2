"""Runs a model over the queries of a side, by the protocol."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType

from mos_recbole.data import Segments, SequenceDataset, Split
from mos_recbole.errors import InputError
from mos_recbole.evaluation import (
    EvaluationProtocol,
    ScoreIsNaN,
    TargetRanks,
    rank_targets,
    rank_targets_by_scores,
)
from mos_recbole.models import EncoderHeadRecommender
from mos_recbole.progress import ProgressBar
from mos_recbole.training.checkpoint import random_state, restore_random_state
from mos_recbole.training.loaders import prefix_gatherer
from mos_recbole.training.prefixes import Fields, PrefixGatherer
from mos_recbole.training.processes import SINGLE_PROCESS, Processes
from mos_recbole.training.transforms import BatchTransform, query_transform

# RecBole's models return the scores of all items for a whole batch: as many queries as fit.
_SCORE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class QuerySet:
    """The queries of one side: one per target.

    Attributes:
        gatherer: makes the batches.
        n_items: V, the padding included.
        seen: (query, item) pairs that the protocol takes out of the candidates, sorted by query; None if none.
        excluded_V: bool, items that the protocol takes out of the candidates of all queries; None if none.
        transform: of the batches, where the model is to be asked with transformed ones.
    """

    gatherer: PrefixGatherer
    n_items: int
    seen: tuple[torch.Tensor, torch.Tensor] | None
    excluded_V: torch.Tensor | None
    transform: BatchTransform | None = None

    def __len__(self) -> int:
        return len(self.gatherer)

    def batches(self, size: int) -> list[torch.Tensor]:
        """Returns the numbers of all queries in batches of at most so many, see `PrefixGatherer.batches`."""
        return self.gatherer.batches(size)

    def by_batches(
        self, size: int, function: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
    ) -> tuple[torch.Tensor, ...]:
        """Returns what a function makes of the numbers of a batch, for all queries in their order."""
        batches = self.batches(size)
        parts = [function(index) for index in batches]
        back_N = torch.cat(batches).argsort()
        return tuple(torch.cat(tensors)[back_N.to(tensors[0].device)] for tensors in zip(*parts, strict=True))

    def seen_by(self, index_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Returns `seen` of queries by their numbers, given on the host; they are numbered from 0 then."""
        if self.seen is None:
            return None
        query_P, item_P = self.seen
        index_B = index_B.to(query_P.device)
        start_B = torch.searchsorted(query_P, index_B)
        count_B = torch.searchsorted(query_P, index_B, right=True) - start_B
        own_P = torch.repeat_interleave(count_B)
        place_P = torch.arange(len(own_P), device=own_P.device) - (count_B.cumsum(0) - count_B - start_B)[own_P]
        return own_P, item_P[place_P]

    def batch(self, index: torch.Tensor, fields: Fields) -> Interaction:
        """Returns queries by their numbers, given on the host."""
        batch = self.gatherer.batch(index, fields)
        return batch if self.transform is None else self.transform(batch, random.Random(0))


def make_query_set(
    config: Any,
    dataset: SequenceDataset,
    split: Split,
    side: Literal["train", "valid", "test"],
    protocol: EvaluationProtocol,
    device: torch.device,
) -> QuerySet:
    """Returns the queries of one side of a split."""
    excluded_V = excluded_items(dataset, split, protocol, device)
    return queries_of(config, dataset, getattr(split, side), protocol.filter_seen, excluded_V, device)


def excluded_items(
    dataset: SequenceDataset, split: Split, protocol: EvaluationProtocol, device: torch.device
) -> torch.Tensor | None:
    """Returns the items that the protocol takes out of the candidates of all queries, bool [V]; None if none."""
    if protocol.candidates != "trained":
        return None
    return torch.from_numpy(dataset.train_counts(split) == 0).to(device)


def queries_of(
    config: Any,
    dataset: SequenceDataset,
    segments: Segments,
    filter_seen: bool,
    excluded_V: torch.Tensor | None,
    device: torch.device,
) -> QuerySet:
    """Returns the queries whose targets are in these segments.

    Args:
        filter_seen: whether the items of a query's history are no candidates.
        excluded_V: of the `QuerySet`.
    """
    seen = None
    if filter_seen:
        sequences = dataset.sequences
        # The whole history counts as seen, also what lies before the context.
        rows, segment = segments.targets()
        first = sequences.offsets[segments.user[segment]]
        counts = rows - first
        query = np.repeat(np.arange(len(rows)), counts)
        place = np.arange(len(query)) - (np.cumsum(counts) - counts)[query]
        item = sequences.items[first[query] + place]
        seen = (torch.from_numpy(query).to(device), torch.from_numpy(item).long().to(device))
    gatherer = prefix_gatherer(config, dataset, segments, device)
    return QuerySet(gatherer, dataset.item_num, seen, excluded_V, query_transform(config, dataset))


def evaluate_model(
    model: AbstractRecommender,
    config: Any,
    queries: QuerySet,
    top_k: int = 0,
    show_progress: bool = False,
    processes: Processes = SINGLE_PROCESS,
) -> TargetRanks:
    """Returns the ranks of all targets; where the model is one of ours, `target_score` is their log-probability.

    Args:
        model: any RecBole model.
        config: RecBole's.
        queries: what to rank.
        top_k: how many of the best items of every query to return.
        show_progress: whether to draw a bar.
        processes: that each rank a shard of the queries; all return all ranks.

    Raises:
        ScoreIsNaN: the model scores an item as NaN.
    """
    fault: ScoreIsNaN | None = None
    # Some models draw as they score, which is to change nothing of the training that goes on.
    drawn = random_state(config["device"])
    try:
        found = _rank(model, config, queries, top_k, show_progress, processes)
    except ScoreIsNaN as error:
        fault = error
    finally:
        restore_random_state(drawn, config["device"])
    for one in processes.all_gather(fault):
        if one is not None:
            raise one
    processes.all_reduce(tensor for tensor in vars(found).values() if tensor is not None)
    return found


@torch.no_grad()
def _rank(
    model: AbstractRecommender, config: Any, queries: QuerySet, top_k: int, show_progress: bool, processes: Processes
) -> TargetRanks:
    """Returns the ranks of a process's shard of the targets, 0 for the others."""
    model.eval()
    fields = Fields.of(config)
    batch_size, n_items = score_batch_size(model, config, queries.n_items), queries.n_items
    if isinstance(model, EncoderHeadRecommender):
        scorer = model.head.scorer(model.item_table)
    found: TargetRanks | None = None
    batches = queries.batches(batch_size)
    own = batches[processes.shard]
    shown = None if show_progress else False
    with ProgressBar("ranking", sum(len(index) for index in own), "queries", show=shown) as bar:
        # A process without a batch ranks the first one, to know what to return.
        for index in own or batches[:1]:
            batch = queries.batch(index, fields)
            target_B = batch[fields.item]
            seen = queries.seen_by(index)
            if isinstance(model, EncoderHeadRecommender):
                part = rank_targets(scorer, model.head.queries(model(batch)), target_B, seen, top_k, queries.excluded_V)
            else:
                scores_BV = query_scores(model, config, batch, n_items)
                part = rank_targets_by_scores(scores_BV, target_B, seen, top_k, queries.excluded_V)
            found = found or part.room_for(len(queries))
            if own:
                found.put(index, part)
            bar.advance(len(index))
    assert found is not None, "a side of a split has a target"
    return found


def score_batch_size(model: AbstractRecommender, config: Any, n_items: int) -> int:
    """Returns how many queries a model is given at a time."""
    if isinstance(model, EncoderHeadRecommender):
        return config["eval_batch_size"]
    return min(config["eval_batch_size"], max(1, _SCORE_BYTES // (4 * n_items)))


def query_scores(model: AbstractRecommender, config: Any, batch: Interaction, n_items: int) -> torch.Tensor:
    """Returns the scores [B, V] of one of RecBole's own models for a batch of queries, at least float32.

    Args:
        model, config: RecBole's.
        batch: of `QuerySet.batch`.
        n_items: V, the padding included; of a model that has mask tokens among its items, they are none.

    Raises:
        InputError: the model's scores have another shape.
    """
    fields = Fields.of(config)
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        batch = Interaction({fields.user: batch[fields.user]})
    if type(model).full_sort_predict is not AbstractRecommender.full_sort_predict:
        scores = model.full_sort_predict(batch)
    else:
        scores = _pair_scores(model, config, batch, fields, n_items)
    if scores.numel() != len(batch) * n_items:
        raise InputError(
            f"{config['model']} gives scores of shape {tuple(scores.shape)} for {len(batch)} queries; "
            f"expected one for each of {n_items} items, [{len(batch)}, {n_items}] or as many in one dimension"
        )
    # Some models return probabilities of an own type, or a view that they keep.
    return scores.reshape(-1, n_items).to(torch.promote_types(scores.dtype, torch.float32)).clone()


def _pair_scores(
    model: AbstractRecommender, config: Any, batch: Interaction, fields: Fields, n_items: int
) -> torch.Tensor:
    """Returns the scores [B * V] of a model that scores pairs only: every query beside every item.

    As RecBole's trainer does, `eval_batch_size` pairs at a time.
    """
    device, found = config["device"], []
    for pair in torch.arange(len(batch) * n_items, device=device).split(config["eval_batch_size"]):
        pairs = batch[(pair // n_items)]
        pairs.update(Interaction({fields.item: pair % n_items}))
        found.append(model.predict(pairs).reshape(-1))
    return torch.cat(found)
