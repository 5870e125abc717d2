"""Runs a model over the queries of a side, by the protocol."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType
from tqdm import tqdm

from mos_recbole.data import SequenceDataset, Split
from mos_recbole.evaluation import EvaluationProtocol, TargetRanks, rank_targets, rank_targets_by_scores
from mos_recbole.models import EncoderHeadRecommender
from mos_recbole.training.loaders import Fields, PrefixGatherer, crops

# RecBole's models return the scores of all items for a whole batch: as many queries as fit.
_SCORE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class QuerySet:
    """The queries of one side: one per target.

    Attributes:
        gatherer: makes the batches.
        seen: (query, item) pairs that the protocol takes out of the candidates, sorted by query; None if none.
        excluded_V: bool, items that the protocol takes out of the candidates of all queries; None if none.
    """

    gatherer: PrefixGatherer
    seen: tuple[torch.Tensor, torch.Tensor] | None
    excluded_V: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.gatherer)


def make_query_set(
    config: Any,
    dataset: SequenceDataset,
    split: Split,
    side: Literal["train", "valid", "test"],
    protocol: EvaluationProtocol,
    device: torch.device,
) -> QuerySet:
    """Returns the queries of one side of a split."""
    sequences, segments = dataset.sequences, getattr(split, side)
    gatherer = PrefixGatherer(sequences, segments, config["MAX_ITEM_LIST_LENGTH"], device, crop=crops(config))
    seen = None
    if protocol.filter_seen:
        # The whole history counts as seen, also what lies before the context.
        rows, segment = segments.targets()
        first = sequences.offsets[segments.user[segment]]
        counts = rows - first
        query = np.repeat(np.arange(len(rows)), counts)
        place = np.arange(len(query)) - (np.cumsum(counts) - counts)[query]
        item = sequences.items[first[query] + place]
        seen = (torch.from_numpy(query).to(device), torch.from_numpy(item).long().to(device))
    excluded_V = None
    if protocol.candidates == "trained":
        excluded_V = torch.from_numpy(dataset.train_counts(split) == 0).to(device)
    return QuerySet(gatherer, seen, excluded_V)


@torch.no_grad()
def evaluate_model(
    model: AbstractRecommender,
    config: Any,
    queries: QuerySet,
    top_k: int = 0,
    show_progress: bool = False,
) -> TargetRanks:
    """Returns the ranks of all targets; where the model is one of ours, `target_score` is their log-probability.

    Args:
        model: any RecBole model.
        config: RecBole's.
        queries: what to rank.
        top_k: how many of the best items of every query to return.
        show_progress: whether to draw a bar.

    Raises:
        ScoreIsNaN: the model scores an item as NaN.
    """
    model.eval()
    fields = Fields.of(config)
    batch_size, n_items = config["eval_batch_size"], model.n_items
    if not isinstance(model, EncoderHeadRecommender):
        batch_size = min(batch_size, max(1, _SCORE_BYTES // (4 * n_items)))
    else:
        scorer = model.head.scorer(model.item_table)
    found: TargetRanks | None = None
    bar = tqdm(total=len(queries), desc="ranking", unit=" queries", disable=not show_progress, leave=False, delay=2)
    for index in torch.arange(len(queries)).split(batch_size):
        batch = queries.gatherer.batch(index, fields)
        target_B = batch[fields.item]
        seen = None
        if queries.seen is not None:
            start, stop = int(index[0]), int(index[-1]) + 1
            borders = torch.tensor([start, stop], device=queries.seen[0].device)
            first, last = torch.searchsorted(queries.seen[0], borders).tolist()
            seen = (queries.seen[0][first:last] - start, queries.seen[1][first:last])
        if isinstance(model, EncoderHeadRecommender):
            part = rank_targets(scorer, model.head.queries(model(batch)), target_B, seen, top_k, queries.excluded_V)
        else:
            scores_BV = query_scores(model, config, batch)
            part = rank_targets_by_scores(scores_BV, target_B, seen, top_k, queries.excluded_V)
        found = found or part.room_for(len(queries))
        found.put(int(index[0]), part)
        bar.update(len(index))
    bar.close()
    assert found is not None, "a side of a split has a target"
    return found


def query_scores(model: AbstractRecommender, config: Any, batch: Interaction) -> torch.Tensor:
    """Returns the scores [B, V] of one of RecBole's own models for a batch of queries, at least float32."""
    fields, n_items = Fields.of(config), model.n_items
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        batch = Interaction({fields.user: batch[fields.user]})
    n_queries = len(batch)
    if type(model).full_sort_predict is not AbstractRecommender.full_sort_predict:
        scores = model.full_sort_predict(batch)
    else:
        # As RecBole's trainer does for models that score pairs only: every query beside every item.
        pairs = batch.repeat_interleave(n_items)
        all_items = torch.arange(n_items, device=config["device"]).repeat(n_queries)
        pairs.update(Interaction({fields.item: all_items}))
        scores = model.predict(pairs)
    # Some models return probabilities of an own type, or a view that they keep.
    return scores.reshape(n_queries, n_items).to(torch.promote_types(scores.dtype, torch.float32)).clone()
