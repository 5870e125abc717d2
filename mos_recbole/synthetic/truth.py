"""The best that any model can do on the targets of a planted log."""

from dataclasses import dataclass

import numpy as np

from mos_recbole.evaluation import compute_metrics, expand_metrics
from mos_recbole.synthetic.log import PlantedLog
from mos_recbole.synthetic.process import PlantedProcess

METRICS = expand_metrics(["Recall", "NDCG"], [1, 10, 100])
_BLOCK_NUMBERS = 2**23


@dataclass(frozen=True)
class Best:
    """What the true probabilities reach on the targets of one side, one query a user, users in the log's order.

    Attributes:
        log_probability: float64 [U], of the targets, in nats.
        rank: float64 [U], of the targets among the items of the log, by true probability, from 1.
        metrics: means by name.
    """

    log_probability: np.ndarray
    rank: np.ndarray
    metrics: dict[str, float]

    @property
    def loss(self) -> float:
        """The mean negative log-probability of the targets, in nats."""
        return float(-self.log_probability.mean())


def best_achievable(process: PlantedProcess, log: PlantedLog, from_end: int) -> Best:
    """Returns the best on the targets that are so far from the end of their sequences.

    In the split leave_one_out the test's targets are the last items (1), validation's the ones before (2). The loss is
    of these very targets, so that a model may by luck have a lower one; in expectation none has. The true probabilities
    are those of all items; candidates of the ranking are those that the log has, as in an evaluation.

    Args:
        process: that the log was drawn from.
        log: of users with three interactions or more.
        from_end: 1 for the last item.
    """
    row = log.offsets[1:] - from_end
    context, target = log.items[row - 1], log.items[row]
    in_log = np.bincount(log.items, minlength=process.n_items) > 0
    log_probability = process.target_log_prob(context, target)
    rank = np.empty(len(row))
    size = max(1, _BLOCK_NUMBERS // process.n_items)
    for first in range(0, len(row), size):
        rows = slice(first, first + size)
        log_prob = process.log_prob(context[rows])
        own = np.take_along_axis(log_prob, target[rows, None].astype(np.int64), axis=1)
        rank[rows] = 1 + ((log_prob > own) & in_log).sum(axis=1)
    candidates = np.full(len(row), in_log.sum())
    return Best(log_probability, rank, compute_metrics(METRICS, rank, rank, candidates)[0])
