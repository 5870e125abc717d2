"""Heads whose logits are no dot products with an item table."""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint

from mos_recbole.heads.base import OutputHead

# What the logits of one chunk of queries may take; a head's own intermediate results come to a few times of it.
_CHUNK_BYTES = 128 * 2**20


class LogitHead(OutputHead):
    """p(v|c) = Σ_k π_k softmax_v(f_k(c, v) + b_v): a head says what its logits f are, by autograd.

    Where `MixtureHead` has one pass with gradients of its own, this computes a chunk of queries at a time, forwards,
    and once more backwards (gradient checkpointing): any function of state and item, in the memory of one chunk.

    Attributes:
        n_components: K.
        numbers_per_logit: about how many numbers the head holds for each logit [N, K, V], the logit included.
    """

    n_components: int = 1
    numbers_per_logit: int = 2

    @abstractmethod
    def logits(self, state_Nd: torch.Tensor, items: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Returns the logits [N, K, V] of states and all items, without the item bias."""

    def items(self, weight_Vd: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns what is computed of the items alone, once for all queries; the item table unless overridden."""
        return (weight_Vd,)

    def log_prior(self, state_Nd: torch.Tensor) -> torch.Tensor:
        """Returns the log mixture weights [N, K]; 0 for one component."""
        return state_Nd.new_zeros(len(state_Nd), 1)

    def loss(self, state_Nd: torch.Tensor, weight_Vd: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
        items, step = self.items(weight_Vd), self.n_queries(weight_Vd)
        total = state_Nd.new_zeros((), dtype=torch.promote_types(state_Nd.dtype, torch.float32))
        for start in range(0, len(target_N), step):
            part = slice(start, start + step)
            total = total + checkpoint(self._nll, state_Nd[part], target_N[part], *items, use_reentrant=False)
        return total / len(target_N)

    def _nll(self, state_nd: torch.Tensor, target_n: torch.Tensor, *items: torch.Tensor) -> torch.Tensor:
        """Returns the sum of the targets' negative log-probabilities, without an [n, V] buffer of the mixture."""
        log_prob_nKV = torch.log_softmax(self._biased(state_nd, items), dim=-1)
        index_nK1 = target_n[:, None, None].expand(-1, log_prob_nKV.shape[1], 1)
        log_prob_nK = log_prob_nKV.gather(-1, index_nK1).squeeze(-1)
        return -torch.logsumexp(self.log_prior(state_nd) + log_prob_nK, dim=-1).sum()

    def _biased(self, state_Nd: torch.Tensor, items: tuple[torch.Tensor, ...]) -> torch.Tensor:
        logits_NKV = self.logits(state_Nd, items)
        # Normalisers in at least float32, also under autocast.
        logits_NKV = logits_NKV.to(torch.promote_types(logits_NKV.dtype, torch.float32))
        return logits_NKV if self.item_bias is None else logits_NKV + self.item_bias

    def n_queries(self, weight_Vd: torch.Tensor) -> int:
        """Returns how many queries make one chunk."""
        itemsize = torch.promote_types(weight_Vd.dtype, torch.float32).itemsize
        return max(1, _CHUNK_BYTES // (self.n_components * len(weight_Vd) * itemsize * self.numbers_per_logit))

    @torch.no_grad()
    def log_prob(self, state_Nd: torch.Tensor, weight_Vd: torch.Tensor) -> torch.Tensor:
        items = self.items(weight_Vd)
        parts = [self._log_prob(part, items) for part in state_Nd.split(self.n_queries(weight_Vd))]
        return torch.cat(parts)

    def _log_prob(self, state_Nd: torch.Tensor, items: tuple[torch.Tensor, ...]) -> torch.Tensor:
        log_prob_NKV = torch.log_softmax(self._biased(state_Nd, items), dim=-1)
        return torch.logsumexp(log_prob_NKV + self.log_prior(state_Nd)[..., None], dim=1)

    def queries(self, state_Nd: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (state_Nd,)

    def scorer(self, weight_Vd: torch.Tensor) -> "LogitScorer":
        return LogitScorer(self, weight_Vd)


class LogitScorer:
    """Scores all items for a few queries at a time by a `LogitHead`: the scores are the log-probabilities.

    A change of the head or of the table asks for a new scorer.

    Args:
        head: the head, in evaluation mode.
        weight_Vd: the item table.

    Attributes:
        n_queries: how many queries one call takes at most.
    """

    @torch.no_grad()
    def __init__(self, head: LogitHead, weight_Vd: torch.Tensor) -> None:
        self.head, self.items, self.n_queries = head, head.items(weight_Vd), head.n_queries(weight_Vd)

    @torch.no_grad()
    def __call__(self, *queries: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        (state_bd,) = queries
        return self.head._log_prob(state_bd, self.items), lambda log_prob_b: log_prob_b
