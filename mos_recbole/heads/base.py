"""What every output head offers to models and to the evaluation."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Protocol

import torch
from torch import nn


class Scorer(Protocol):
    """Scores all items for at most `n_queries` queries at a time.

    Takes what `OutputHead.queries` returns of a few states; returns scores [b, V] in the order of the probabilities,
    which may be overwritten, and what turns scores of these queries [..., b] into log-probabilities in nats.
    """

    n_queries: int

    def __call__(self, *queries: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]: ...


class TargetCounter(Protocol):
    """Compares all items of a few queries with the target, without their scores unless asked for.

    `count` takes what `OutputHead.queries` returns of a few states, the targets [b], and which items are no candidates:
    of any query, bool [V], and of each, bool [b, V] or None. It returns how many candidates other than the target have
    a higher probability, int64 [b], and how many the same; the target's log-probability in nats; and, where asked for,
    scores [b, V] in the order of the probabilities, -inf for what is no candidate.

    Attributes:
        n_items: V.
        n_queries: how many queries a call should have at most where something is [b, V].
    """

    n_items: int
    n_queries: int

    def count(
        self,
        queries: tuple[torch.Tensor, ...],
        target_b: torch.Tensor,
        ruled_out_V: torch.Tensor,
        seen_bV: torch.Tensor | None,
        with_scores: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]: ...


class OutputHead(nn.Module, ABC):
    """From an encoder's state, [d], to a distribution over V items.

    The item table [V, d] is an argument of every method, so that it can be the encoder's own (tied) or another one.

    Args:
        n_items: V, the padding item 0 included.
        width: d, of the state and of the item table.
        item_bias: whether every item has a learned bias, which is added to all its logits.

    Attributes:
        single_logit: whether a query's items come in the order of one dot product of a query's and an item's vector
            (plus the item's bias). A softmax over those vectors ranks every query's items in the same way, so that no
            metric of ranks can tell the two apart. It says nothing of the probabilities, whose logarithms may be of
            any rank, nor of the vectors, which training moves by the gradients of these probabilities.
        reads_layers: whether states are those of all the encoder's layers, [N, n_layers, d] instead of [N, d], the
            last layer's at the end; the constructor then takes `n_layers`.
    """

    single_logit: ClassVar[bool] = False
    reads_layers: ClassVar[bool] = False

    def __init__(self, n_items: int, width: int, *, item_bias: bool = False) -> None:
        super().__init__()
        self.width = width
        self.item_bias = nn.Parameter(torch.zeros(n_items)) if item_bias else None

    @property
    def n_components(self) -> int:
        """K, how many distributions are mixed."""
        return 1

    @abstractmethod
    def loss(self, state_Nd: torch.Tensor, weight_Vd: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
        """Returns the mean negative log-probability of the targets, a scalar in nats; in training with what the method
        adds to it."""

    @abstractmethod
    def sampled_loss(
        self,
        state_Nd: torch.Tensor,
        weight_Vd: torch.Tensor,
        target_N: torch.Tensor,
        sampled_M: torch.Tensor,
        log_expected_count_M: torch.Tensor,
    ) -> torch.Tensor:
        """Returns an estimate of `loss` from M sampled items, see `losses.sampled_mixture_cross_entropy`."""

    @abstractmethod
    def log_prob(self, state_Nd: torch.Tensor, weight_Vd: torch.Tensor) -> torch.Tensor:
        """Returns the log-probabilities of all items, [N, V], in nats, at least float32. For evaluation only."""

    @abstractmethod
    def queries(self, state_Nd: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns what a scorer takes of states: tensors whose first dimension is N."""

    @abstractmethod
    def scorer(self, weight_Vd: torch.Tensor) -> Scorer | TargetCounter:
        """Returns what scores all items for a few queries, or compares them with a target, in the order of
        `log_prob`."""
