"""Log-probabilities cut to a lower rank: what is left of a model's answers in r directions?

A softmax of width d without item biases says log p = H Wᵀ - l 1ᵀ: rows in d directions, the columns of W, less a
normaliser, on which no probability depends. So a row counts without its mean, here and below, and the answers of rank r
are those that some softmax of width r can give. With item biases a softmax of width d has d + 1 directions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mos_recbole.evaluation.spectrum import Method, leading_subspace, require_finite

LOSS, OVERLAP = "loss", "overlap"
"""Names of values beside metrics: the negative log-probability of the target in nats, and the share of the uncut top
list that the cut one has too."""


@dataclass(frozen=True)
class RankCuts:
    """How a model's answers fare when they are cut to lower ranks, query by query.

    Attributes:
        ranks: r, ascending.
        values: by name, float64 [len(ranks) + 1, Q]: a row a rank, the last of the answers as they are. NaN where a
            query has no value.
        user_Q: the queries' users, any integers.
        n_directions_from: N, the queries that the directions are of.
        n_items: V, the candidates of all queries.
        width: d; None for a model without states and an item table.
        probabilities: whether the model gives log-probabilities itself, or they were made of its scores.
    """

    ranks: tuple[int, ...]
    values: dict[str, np.ndarray]
    user_Q: np.ndarray
    n_directions_from: int
    n_items: int
    width: int | None
    probabilities: bool


def default_ranks(width: int | None, limit: int) -> tuple[int, ...]:
    """Returns 1, 2, 4, ... up to a limit, and among them the width d and d + 1."""
    powers = {2**n for n in range(limit.bit_length())}
    marked = set() if width is None else {width, width + 1}
    return tuple(sorted(rank for rank in powers | marked if rank <= limit))


def leading_directions(log_prob_NV: torch.Tensor, n_directions: int, method: Method, seed: int = 0) -> torch.Tensor:
    """Returns the directions [V, n] that hold most of the rows, each row less its mean: orthonormal, in their order.

    These are right singular vectors: no r other directions are nearer to the rows in the sum of squares (Eckart and
    Young 1936).

    Args:
        log_prob_NV: float64, overwritten.
        n_directions: at most the smaller side.
        method: LAPACK's decomposition, or the randomised one of `randomised_spectrum`.
        seed: of the randomised method.

    Raises:
        ValueError: entries that are infinite or NaN, or not float64.
    """
    require_finite(log_prob_NV)
    log_prob_NV -= log_prob_NV.mean(dim=1, keepdim=True)
    if method == "randomised":
        basis_Nl = leading_subspace(log_prob_NV, n_directions, seed)
        left_Vl = torch.linalg.svd((basis_Nl.T @ log_prob_NV).T, full_matrices=False).U
    elif log_prob_NV.shape[0] < log_prob_NV.shape[1]:
        left_Vl = torch.linalg.svd(log_prob_NV.T, full_matrices=False).U
    else:
        left_Vl = torch.linalg.svd(log_prob_NV, full_matrices=False).Vh.T
    leading_Vn: torch.Tensor = left_Vl[:, :n_directions].contiguous()
    return leading_Vn


def cut_to_ranks(log_prob_bV: torch.Tensor, direction_Vn: torch.Tensor, ranks: Sequence[int]) -> Iterator[torch.Tensor]:
    """Yields log-probabilities [b, V] cut to each rank: rows projected on the first r directions, renormalised.

    Args:
        log_prob_bV: float64.
        direction_Vn: of `leading_directions`.
        ranks: ascending, at most n.
    """
    centred_bV = log_prob_bV - log_prob_bV.mean(dim=1, keepdim=True)
    place_bn = centred_bV @ direction_Vn[:, : ranks[-1]]
    cut_bV = torch.zeros_like(centred_bV)
    done = 0
    for rank in ranks:
        cut_bV.addmm_(place_bn[:, done:rank], direction_Vn[:, done:rank].T)
        done = rank
        yield cut_bV.log_softmax(dim=1)


def list_overlap(items_bk: torch.Tensor, cut_bk: torch.Tensor) -> torch.Tensor:
    """Returns the share of every list's items that another list of the query has too, float64 [b].

    Args:
        items_bk: integers, 0 behind the end of a list; a list has an item or more.
        cut_bk: the other lists.
    """
    common_bkk = (items_bk[:, :, None] == cut_bk[:, None, :]) & (items_bk > 0)[:, :, None]
    return common_bkk.sum(dim=(1, 2)).double() / (items_bk > 0).sum(dim=1)
