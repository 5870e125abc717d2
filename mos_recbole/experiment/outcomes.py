"""The outcomes of a run: one row per test query."""

from functools import partial

import numpy as np
import pandas as pd
import torch

from mos_recbole.evaluation import TargetRanks, item_distance
from mos_recbole.experiment.run_data import RunData
from mos_recbole.models import EncoderHeadRecommender
from mos_recbole.results import outcomes_frame


def outcomes_table(data: RunData, max_length: int, ranks: TargetRanks, model: torch.nn.Module) -> pd.DataFrame:
    """Returns one row per test query.

    Args:
        data: of the run.
        max_length: L: models see the last L items of a context.
        ranks: of the test's targets.
        model: only models of an encoder with a head give log-probabilities; others' scores may be anything.
    """
    dataset, split = data.dataset, data.split
    sequences = dataset.sequences
    rows, segment = split.test.targets()
    user_number, context_start = split.test.user[segment], split.test.context_start[segment]
    target = sequences.items[rows]
    time_gap = sequences.times[rows] - sequences.times[rows - 1]
    in_training = split.train_rows(len(sequences.items))
    row_user = np.repeat(sequences.users, np.diff(sequences.offsets))
    distance = partial(item_distance, row_user[in_training], sequences.items[in_training], n_items=dataset.item_num)
    probabilistic = isinstance(model, EncoderHeadRecommender)
    return outcomes_frame(
        {
            "user": dataset.id2token(dataset.uid_field, sequences.users[user_number]),
            "position": rows - sequences.offsets[user_number],
            "target": dataset.id2token(dataset.iid_field, target),
            "rank": ranks.ranks(data.protocol.tie_rule).numpy(),
            "tied": ranks.tied.numpy(),
            "candidates": ranks.n_candidates.numpy(),
            "log_probability": ranks.target_score.double().numpy() if probabilistic else np.nan,
            "context_length": rows - context_start,
            "time_gap": time_gap if sequences.time_scale == 1 else time_gap / sequences.time_scale,
            "train_count": dataset.train_counts(split)[target],
            "previous_distance": distance(sequences.items[rows - 1], target),
            "oldest_distance": distance(sequences.items[np.maximum(rows - max_length, context_start)], target),
        }
    )
