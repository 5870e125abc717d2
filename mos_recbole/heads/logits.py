"""Heads whose logits are no dot products with an item table."""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch.nn import functional

from mos_recbole.heads.base import OutputHead
from mos_recbole.heads.chunks import chunked_sum

# What a head holds of one chunk of queries: on a CPU within its caches; elsewhere much work at once.
_CHUNK_BYTES = {"cpu": 32 * 2**20}
_CHUNK_BYTES_ELSEWHERE = 512 * 2**20


class LogitHead(OutputHead):
    """p(v|c) = Σ_k π_k exp g(f_k(c, v) + b_v) / Σ_u exp g(f_k(c, u) + b_u): a head says what f, and g, are.

    Where `MixtureHead` has a pass with gradients of its own, this leaves them to autograd, a chunk of queries at a
    time: any function of state and item, in the memory of one chunk.

    Attributes:
        numbers_per_logit: about how many numbers autograd keeps for each logit [N, K, V], the logit included.
    """

    numbers_per_logit: int = 4

    @abstractmethod
    def logits(self, state_Nd: torch.Tensor, items: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Returns the logits f [N, K, V] of what `states` and `items` return, without the item bias."""

    def items(self, weight_Vd: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns what is computed of the items alone, once for all queries: tensors [V, ...], row v of item v only;
        the item table unless overridden."""
        return (weight_Vd,)

    def states(self, state_Nd: torch.Tensor) -> torch.Tensor:
        """Returns what `logits` takes of the states, [N, ...], computed once for all items, so that dropout in it is
        the same for targets and negatives; the states unless overridden."""
        return state_Nd

    def log_prior(self, state_Nd: torch.Tensor) -> torch.Tensor:
        """Returns the log mixture weights [N, K]; 0 for one component."""
        return state_Nd.new_zeros(state_Nd.shape[0], 1)

    def log_odds(self, logits_NKV: torch.Tensor) -> torch.Tensor:
        """Returns g of the logits and biases, the logarithms of what is normalised; themselves unless overridden."""
        return logits_NKV

    def loss(self, state_Nd: torch.Tensor, weight_Vd: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
        rows, shared = (state_Nd, target_N), self.biased_items(weight_Vd)
        total = self._sum(self._nll, rows, shared, len(weight_Vd))
        return total / len(target_N)

    def sampled_loss(
        self,
        state_Nd: torch.Tensor,
        weight_Vd: torch.Tensor,
        target_N: torch.Tensor,
        sampled_M: torch.Tensor,
        log_expected_count_M: torch.Tensor,
    ) -> torch.Tensor:
        # One look-up for negatives and targets, because each costs a dense gradient.
        places = torch.cat([sampled_M, target_N])
        sizes = [len(sampled_M), len(target_N)]
        found = [_rows(tensor, places).split(sizes) for tensor in self.biased_items(weight_Vd)]
        rows = (state_Nd, target_N, *(positive for _, positive in found))
        shared = (sampled_M, log_expected_count_M.detach(), *(negative for negative, _ in found))
        return self._sum(self._sampled_nll, rows, shared, len(sampled_M)) / len(target_N)

    def _sum(
        self,
        function: Callable[..., torch.Tensor],
        rows: tuple[torch.Tensor, ...],
        shared: tuple[torch.Tensor, ...],
        n_items: int,
    ) -> torch.Tensor:
        """Returns the sum of a function over chunks of queries."""
        device = rows[0].device.type
        enabled = torch.is_autocast_enabled(device)
        if enabled and torch.get_autocast_dtype(device) == torch.float16:
            # Its exponents are too few for a normaliser's gradients.
            enabled, rows, shared = False, _widened(rows), _widened(shared)
        # A cast of a parameter that all chunks share would be on the graph of one.
        with torch.autocast(device, enabled=enabled, cache_enabled=False):
            return chunked_sum(function, rows, shared, list(self.parameters()), self._n_queries(n_items, rows[0]))

    def _nll(self, state_nd: torch.Tensor, target_n: torch.Tensor, *items: torch.Tensor) -> torch.Tensor:
        """Returns the sum of the targets' negative log-probabilities, without an [n, V] buffer of the mixture."""
        odds_nKV = self._log_odds(self.states(state_nd), items)
        index_nK1 = target_n[:, None, None].expand(-1, odds_nKV.shape[1], 1)
        log_prob_nK = odds_nKV.gather(-1, index_nK1).squeeze(-1) - torch.logsumexp(odds_nKV, dim=-1)
        return -torch.logsumexp(self.log_prior(state_nd) + log_prob_nK, dim=-1).sum()

    def _sampled_nll(self, state_nd: torch.Tensor, target_n: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        """Returns the sum of the estimates, given the targets' item tensors, sampled items, the logs of their expected
        counts, and their item tensors."""
        half = (len(rest) - 2) // 2
        positive, (sampled_M, log_count_M), negative = rest[:half], rest[half : half + 2], rest[half + 2 :]
        pairs = torch.vmap(self._pair, randomness="different")
        states_n = self.states(state_nd)
        positive_nK = pairs(states_n, *positive)
        odds_nKM = self._log_odds(states_n, negative) - log_count_M.to(positive_nK.dtype)
        odds_nKM = odds_nKM.masked_fill((sampled_M == target_n[:, None])[:, None], -torch.inf)
        log_normaliser_nK = torch.logaddexp(positive_nK, torch.logsumexp(odds_nKM, dim=-1))
        return -torch.logsumexp(self.log_prior(state_nd) + positive_nK - log_normaliser_nK, dim=-1).sum()

    def _pair(self, state: torch.Tensor, *item: torch.Tensor) -> torch.Tensor:
        """Returns g [K] of one row of `states` and one item."""
        return self._log_odds(state[None], tuple(tensor[None] for tensor in item))[0, :, 0]

    def biased_items(self, weight_Vd: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns the items' tensors, with their biases at the end where there are any."""
        items = self.items(weight_Vd)
        return items if self.item_bias is None else (*items, self.item_bias)

    def _log_odds(self, states_N: torch.Tensor, items: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Returns g [N, K, V] of what `states` and `biased_items` return."""
        logits_NKV = self.logits(states_N, items if self.item_bias is None else items[:-1])
        # Normalisers in at least float32, also under autocast.
        logits_NKV = logits_NKV.to(torch.promote_types(logits_NKV.dtype, torch.float32))
        return self.log_odds(logits_NKV if self.item_bias is None else logits_NKV + items[-1])

    def n_queries(self, weight_Vd: torch.Tensor) -> int:
        """Returns how many queries make one chunk."""
        return self._n_queries(len(weight_Vd), weight_Vd)

    def _n_queries(self, n_items: int, like: torch.Tensor) -> int:
        itemsize = torch.promote_types(like.dtype, torch.float32).itemsize
        per_query = self.n_components * n_items * itemsize * self.numbers_per_logit
        return max(1, _CHUNK_BYTES.get(like.device.type, _CHUNK_BYTES_ELSEWHERE) // per_query)

    @torch.no_grad()
    def log_prob(self, state_Nd: torch.Tensor, weight_Vd: torch.Tensor) -> torch.Tensor:
        items = self.biased_items(weight_Vd)
        return torch.cat([self.log_prob_of(part, items) for part in state_Nd.split(self.n_queries(weight_Vd))])

    def log_prob_of(self, state_Nd: torch.Tensor, items: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Returns the log-probabilities [N, V], given what `biased_items` returns."""
        log_prob_NKV = torch.log_softmax(self._log_odds(self.states(state_Nd), items), dim=-1)
        if self.n_components == 1:
            return log_prob_NKV[:, 0]
        return torch.logsumexp(log_prob_NKV + self.log_prior(state_Nd)[..., None], dim=1)

    def queries(self, state_Nd: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (state_Nd,)

    def scorer(self, weight_Vd: torch.Tensor) -> "LogitScorer":
        return LogitScorer(self, weight_Vd)


def _widened(tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Returns the tensors with float32 instead of float16."""
    return tuple(tensor.float() if tensor.dtype == torch.float16 else tensor for tensor in tensors)


def _rows(tensor_V: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Returns the rows of a tensor [V, ...]. `embedding`, unlike `index_select`, adds up the gradient in a fixed order
    on a GPU too."""
    found = functional.embedding(places, tensor_V.reshape(len(tensor_V), -1))
    return found.view(-1, *tensor_V.shape[1:])


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
        self.head, self.items, self.n_queries = head, head.biased_items(weight_Vd), head.n_queries(weight_Vd)

    @torch.no_grad()
    def __call__(self, *queries: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        (state_bd,) = queries
        return self.head.log_prob_of(state_bd, self.items), lambda log_prob_b: log_prob_b
