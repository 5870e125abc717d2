"""The outcomes of a run: one row per test query, with the recommended lists."""

import numpy as np
import pandas as pd

from mos_recbole.evaluation import TargetRanks
from mos_recbole.experiment.run_data import RunData, in_history
from mos_recbole.results import TopItems, outcomes_frame


def outcomes_table(
    data: RunData, max_length: int, ranks: TargetRanks, probabilistic: bool
) -> tuple[pd.DataFrame, TopItems]:
    """Returns one row per test query, and the recommended lists.

    Args:
        data: of the run.
        max_length: L: models see the last L items of a context.
        ranks: of the test's targets, with the best items.
        probabilistic: whether the targets' scores are log-probabilities.
    """
    assert ranks.top_items is not None, "outcomes keep the recommended lists"
    dataset, split = data.dataset, data.split
    sequences, items = dataset.sequences, ranks.top_items.numpy()
    rows, segment = split.test.targets()
    user_number, context_start = split.test.user[segment], split.test.context_start[segment]
    target = sequences.items[rows]
    time, before = sequences.times[rows], sequences.times[rows - 1]
    time_gap = time - before
    if dataset.time_field is None or split.own_contexts:  # then times are the rows' numbers
        time_gap = np.full(len(rows), np.nan)
    elif (time_gap < 0).any():  # times at both ends of int64, or data that come split and are not in the order of time
        time_gap = np.where(time < before, np.nan, time.astype(np.float64) - before)
    oldest = np.maximum(rows - max_length, context_start)
    had_before = in_history(sequences, rows, user_number, np.column_stack([target, items]))
    frame = outcomes_frame(
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
            "train_count": data.train_counts[target],
            "previous_distance": data.distance(sequences.items[rows - 1], target),
            "oldest_distance": data.distance(sequences.items[oldest], target),
            "target_in_history": had_before[:, 0],
        }
    )
    names = np.asarray(dataset.field2id_token[dataset.iid_field])
    return frame, TopItems(items, had_before[:, 1:], names, data.train_counts)
