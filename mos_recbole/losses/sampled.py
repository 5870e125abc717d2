"""Mixture cross-entropy over sampled negatives, for catalogues whose logits do not fit; and the proposals."""

import math
from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from mos_recbole.losses.arguments import check_mixture
from mos_recbole.losses.gradients import require_first_order

# Rows (queries x components) of a chunk: enough for products at full rate on a CPU, few enough for their logits to stay
# in a cache at a thousand negatives. Other devices want much work at once, within some memory.
_CHUNK_ROWS = 256
_CHUNK_BYTES = 128 * 2**20


def sampled_mixture_cross_entropy(
    components: torch.Tensor,
    log_prior: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    sampled: torch.Tensor,
    log_expected_count: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    reduction: Literal["mean", "sum", "none"] = "mean",
) -> torch.Tensor:
    """Returns an estimate of `mixture_cross_entropy` from sampled negatives; it equals these lines of PyTorch.

    >>> negative = components @ weight[sampled].T + bias[sampled] - log_expected_count               # [B, K, M]
    >>> negative = negative.masked_fill((sampled == target[:, None])[:, None], -inf)
    >>> positive = (components * weight[target][:, None]).sum(-1) + bias[target][:, None]            # [B, K]
    >>> log_normaliser = torch.logaddexp(positive, torch.logsumexp(negative, -1))                    # [B, K]
    >>> loss = -torch.logsumexp(log_prior + positive - log_normaliser, -1).mean()                    # [B] -> []
    >>> given = (components, log_prior, weight, target, sampled, log_expected_count)
    >>> assert_close(sampled_mixture_cross_entropy(*given, bias=bias), loss)

    **The estimate.** With s_bkv the logits, y_b the target, and c(v) = E[how often v is among the M negatives], the
    normaliser Z_bk = Σ_v exp(s_bkv) of a component is estimated by

        Ẑ_bk = exp(s_bk,y) + Σ_{m: v_m ≠ y_b} exp(s_bk,v_m) / c(v_m).

    The target's own term is there with certainty, so it is neither corrected nor counted a second time where the
    target is among the negatives (an accidental hit). Every other item contributes c(v) · exp(s_bkv) / c(v) on
    average. So E[Ẑ_bk] = Z_bk exactly, whatever the proposal, if c(v) > 0 for all v ≠ y_b (else the sum is over those
    v). The negatives need not be independent for this, and need not come from one proposal: an item that is always
    among them has log_expected_count 0. For M independent draws from q with replacement, c(v) = M·q(v).

    **The loss**, -log Σ_k π_bk exp(s_bk,y) / Ẑ_bk, is a concave function of the Ẑ_bk, so by Jensen's inequality it is
    below the full loss on average, by O(1/M); with M → ∞ it and its gradient converge to those of the full loss,
    with noise of O(1/√M). It is never negative.

    **Sources.** Estimating a softmax's normaliser over words by importance sampling: Bengio and Senécal, "Adaptive
    Importance Sampling to Accelerate Training of a Neural Probabilistic Language Model", IEEE Trans. Neural Networks
    19(4), 2008; theirs samples for the gradient's negative part, from an adaptive n-gram model. A softmax over the
    target and a sampled set with logits less log Q: Jean et al., "On Using Very Large Target Vocabulary for Neural
    Machine Translation", ACL 2015, section 3; theirs takes fixed subsets of the vocabulary, within which Q cancels.
    That the target is there with probability 1 and so not to be corrected like a sampled item: Khrylchenko et al.,
    "Correcting the LogQ Correction", RecSys 2025, who derive another form of loss from it. The mixture: Yang et al.,
    "Breaking the Softmax Bottleneck", ICLR 2018, section 2.4, which has no sampling; one set of negatives for all
    components is a choice made here.

    Args:
        components: [B, K, d], one query vector per component.
        log_prior: [B, K], log of the mixture weights; -inf switches a component off, one per row must be finite.
        weight: [V, d], the output item table.
        target: [B], int64 item ids in [0, V).
        sampled: [M], int64 item ids in [0, V), the negatives that all queries share; an item may occur repeatedly.
        log_expected_count: [M], log c(v) of each sampled item. It is taken as a constant: no gradient flows to it.
        bias: [V], added to every component's logits.
        reduction: "mean" over the B queries, their "sum", or "none" for shape [B].

    Work and memory do not depend on V, but for the gradient of `weight`, which is dense as optimizers expect it: V·d
    zeros, to which the rows of the B targets and the M negatives are added. The rest is 8·B·K·M·d operations, with
    the memory of 256 rows (queries x components) of M logits.

    Matrix products run in the inputs' precision (under autocast, in autocast's), everything else in at least float32.
    Gradients of gradients are not available.

    Raises:
        ValueError: shapes that do not fit, a target that is none, no negatives, or an unknown reduction.
    """
    check_mixture(components, log_prior, weight, target, bias, reduction)
    if sampled.ndim != 1 or not len(sampled) or log_expected_count.shape != sampled.shape:
        raise ValueError(
            f"sampled {tuple(sampled.shape)} and log_expected_count {tuple(log_expected_count.shape)}; "
            "expected [M] and [M] with M of 1 or more"
        )
    device = components.device.type
    low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    with torch.autocast(device, enabled=False):
        # One look-up for both, because each costs a dense gradient. `embedding`, unlike `index_select`, adds up the
        # gradient in a fixed order on a GPU too.
        items = torch.cat([sampled, target])
        row_Id = functional.embedding(items, weight)
        if low is not None:
            components, row_Id = components.to(low), row_Id.to(low)
        accumulate = torch.promote_types(components.dtype, torch.float32)
        negative_Md, positive_Bd = row_Id.split([len(sampled), len(target)])
        positive_BK = torch.bmm(components, positive_Bd[:, :, None]).squeeze(-1).to(accumulate)
        offset_M = -log_expected_count.detach().to(accumulate)
        if bias is not None:
            bias_I = functional.embedding(items, bias[:, None]).squeeze(-1).to(accumulate)
            negative_bias_M, positive_bias_B = bias_I.split([len(sampled), len(target)])
            offset_M, positive_BK = offset_M + negative_bias_M, positive_BK + positive_bias_B[:, None]
        log_odds_BK = _NegativeLogOdds.apply(  # type: ignore[no-untyped-call]
            components, positive_BK, negative_Md, offset_M, sampled, target
        )
        # log of exp(positive) / (exp(positive) + Σ exp(negative)).
        log_prob_BK = functional.logsigmoid(-log_odds_BK)
        nll_B = -torch.logsumexp(log_prior.to(accumulate) + log_prob_BK, dim=-1)
        return nll_B if reduction == "none" else nll_B.sum() if reduction == "sum" else nll_B.mean()


class _NegativeLogOdds(torch.autograd.Function):
    """LSE_m(components_bk · negative_m + offset_m) - positive_bk over the negatives that are not the query's target.

    Returns [B, K], -inf where there are none. Runs over chunks of queries, forwards and, with the logits computed
    again, backwards.
    """

    @staticmethod
    def forward(
        ctx: Any,
        components_BKd: torch.Tensor,
        positive_BK: torch.Tensor,
        negative_Md: torch.Tensor,
        offset_M: torch.Tensor,
        sampled_M: torch.Tensor,
        target_B: torch.Tensor,
    ) -> torch.Tensor:
        largest_BK, normaliser_BK = torch.empty_like(positive_BK), torch.empty_like(positive_BK)
        lowest = torch.finfo(positive_BK.dtype).min
        for chunk in _chunks(components_BKd, len(negative_Md)):
            logits_bKM = _negative_logits(components_BKd[chunk], negative_Md, offset_M, sampled_M, target_B[chunk])
            # Without negatives, exp(-inf - lowest) = 0 instead of exp(-inf + inf).
            largest_BK[chunk] = logits_bKM.amax(dim=-1).clamp(min=lowest)
            normaliser_BK[chunk] = logits_bKM.sub_(largest_BK[chunk, :, None]).exp_().sum(dim=-1)
        ctx.save_for_backward(components_BKd, negative_Md, offset_M, sampled_M, target_B, largest_BK, normaliser_BK)
        # The small logarithm comes last: added to a logit of 1e4 first, its digits would be gone.
        return normaliser_BK.log() + (largest_BK - positive_BK)

    @staticmethod
    def backward(ctx: Any, upstream_BK: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        require_first_order()
        components_BKd, negative_Md, offset_M, sampled_M, target_B, largest_BK, normaliser_BK = ctx.saved_tensors
        components_grad_BKd = torch.empty_like(components_BKd)
        negative_grad_Md = torch.zeros_like(negative_Md, dtype=offset_M.dtype)
        offset_grad_M = torch.zeros_like(offset_M)
        # The largest term is 1, so that only the normaliser of no negatives, 0, is below 1.
        scale_BK = upstream_BK / normaliser_BK.clamp(min=1)
        for chunk in _chunks(components_BKd, len(negative_Md)):
            component_bKd = components_BKd[chunk]
            logits_bKM = _negative_logits(component_bKd, negative_Md, offset_M, sampled_M, target_B[chunk])
            exp_RM = logits_bKM.sub_(largest_BK[chunk, :, None]).exp_().flatten(0, 1)
            # Scaling the narrow factors of the products spares a pass over the chunk.
            scale_R1 = scale_BK[chunk].reshape(-1, 1)
            factor_RM = exp_RM.to(negative_Md.dtype)
            components_grad_BKd[chunk] = (scale_R1 * (factor_RM @ negative_Md)).view_as(component_bKd)
            scaled_Rd = (scale_R1 * component_bKd.flatten(0, 1)).to(negative_Md.dtype)
            negative_grad_Md += factor_RM.T @ scaled_Rd
            if ctx.needs_input_grad[3]:
                offset_grad_M += (scale_R1 * exp_RM).sum(dim=0)
        return components_grad_BKd, -upstream_BK, negative_grad_Md.to(negative_Md.dtype), offset_grad_M, None, None


def _chunks(components_BKd: torch.Tensor, n_negatives: int) -> list[slice]:
    n_queries, n_components = components_BKd.shape[:2]
    rows = _CHUNK_ROWS if components_BKd.device.type == "cpu" else _CHUNK_BYTES // (4 * max(1, n_negatives))
    step = max(1, rows // max(1, n_components))
    return [slice(start, start + step) for start in range(0, n_queries, step)]


def _negative_logits(
    component_bKd: torch.Tensor,
    negative_Md: torch.Tensor,
    offset_M: torch.Tensor,
    sampled_M: torch.Tensor,
    target_b: torch.Tensor,
) -> torch.Tensor:
    """Returns the corrected logits [b, K, M] of a chunk, -inf where the negative is the target."""
    logits_RM = (component_bKd.flatten(0, 1) @ negative_Md.T).to(offset_M.dtype).add_(offset_M)
    logits_bKM = logits_RM.view(*component_bKd.shape[:2], len(sampled_M))
    return logits_bKM.masked_fill_((sampled_M == target_b[:, None])[:, None], -torch.inf)


class NegativeSampler(nn.Module, ABC):
    """A proposal q over the items 1 to V - 1, and negatives from it. Item 0, the padding, is never one.

    Tables of length V are buffers, so that they move with the model; checkpoints leave them out.
    """

    @abstractmethod
    def log_prob(self, item_N: torch.Tensor) -> torch.Tensor:
        """Returns log q of items [N], float64."""

    @abstractmethod
    def sample(
        self, target_B: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns negatives for `sampled_mixture_cross_entropy`.

        Args:
            target_B: the batch's targets [B]; the negatives are on their device.
            generator: the source of random numbers, of that device; PyTorch's global one where it is None.

        Returns:
            The items [M], int64, and the logs of their expected counts [M], float64.
        """


class UniformSampler(NegativeSampler):
    """Negatives drawn independently with q(v) = 1 / (V - 1), c(v) = M / (V - 1).

    Args:
        n_items: V, the padding item 0 included.
        n_negatives: M.

    Raises:
        ValueError: no item but the padding, or no negatives.
    """

    def __init__(self, n_items: int, n_negatives: int) -> None:
        super().__init__()
        _require_items_and_negatives(n_items, n_negatives)
        self.n_items, self.n_negatives = n_items, n_negatives

    def log_prob(self, item_N: torch.Tensor) -> torch.Tensor:
        log_prob_N = torch.full(item_N.shape, -math.log(self.n_items - 1), dtype=torch.float64, device=item_N.device)
        return log_prob_N.masked_fill_(item_N == 0, -math.inf)

    def sample(
        self, target_B: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        item_M = torch.randint(1, self.n_items, (self.n_negatives,), generator=generator, device=target_B.device)
        return item_M, self.log_prob(item_M) + math.log(self.n_negatives)


class PopularitySampler(NegativeSampler):
    """Negatives drawn independently with q(v) ∝ (count(v) + 1)^alpha, c(v) = M·q(v).

    The 1 keeps items that never occur in training within reach; with q(v) = 0 the estimated normaliser would lack
    them. A draw is a search in the cumulative probabilities, O(log V), for any V (`torch.multinomial` ends at 2^24);
    they are float64 and q is read off them, so that it is what is drawn from, to the random number's 53 bits (below
    2^-53 an item is out of reach).

    Args:
        counts: [V], how often each item is a training target; that of the padding, item 0, is passed over.
        alpha: 0 is uniform, 1 the (smoothed) popularity.
        n_negatives: M.

    Raises:
        ValueError: counts of another shape or below 0, no item but the padding, no negatives, or alpha not finite or
            below 0.
    """

    cumulative_V: torch.Tensor

    def __init__(self, counts: torch.Tensor, alpha: float, n_negatives: int) -> None:
        super().__init__()
        _require_counts(counts)
        _require_items_and_negatives(len(counts), n_negatives)
        if not 0 <= alpha < math.inf:
            raise ValueError(f"alpha is {alpha}; expected 0 or more")
        self.n_negatives = n_negatives
        # Relative to the largest, so that no alpha overflows.
        smoothed_V = (counts.double() + 1).div(counts[1:].max() + 1)
        weight_V = smoothed_V.pow(alpha)
        weight_V[0] = 0.0
        cumulative_V = weight_V.cumsum(0)
        self.register_buffer("cumulative_V", cumulative_V / cumulative_V[-1], persistent=False)

    def log_prob(self, item_N: torch.Tensor) -> torch.Tensor:
        below_N = self.cumulative_V[(item_N - 1).clamp(min=0)]
        return torch.log(self.cumulative_V[item_N] - below_N)

    def sample(
        self, target_B: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        uniform_M = torch.rand(self.n_negatives, dtype=torch.float64, generator=generator, device=target_B.device)
        # The first item whose cumulative probability is above the number, which is below 1: never item 0.
        item_M = torch.searchsorted(self.cumulative_V, uniform_M, right=True)
        return item_M, self.log_prob(item_M) + math.log(self.n_negatives)


class InBatchSampler(NegativeSampler):
    """The targets of the batch's other queries as negatives, with q(v) = count(v) / Σ count, c(v) = (B - 1)·q(v).

    Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", RecSys 2019, subtract
    the log of an item's probability of being in a batch from every logit of the batch softmax, the target's included,
    and estimate that probability from a stream. Here the target's logit stays as it is, the probability is that of
    the training targets, and other queries with the same target are no negatives.

    The assumption is that the other targets are independent draws from the training targets, given the query. What
    follows from it: items that are no training target are never negatives, and the normaliser lacks them. An epoch
    draws without replacement, which matters little. Targets of one window are of one user, so that, trained on whole
    windows, a query meets items of its own sequence more often than q says: their terms count for more than in Z. The
    more sequences a batch has, the less.

    Args:
        counts: [V], how often each item is a training target.

    Raises:
        ValueError: counts of another shape, below 0, or all 0; when sampling on a CPU, a target whose count is 0.
    """

    log_prob_V: torch.Tensor

    def __init__(self, counts: torch.Tensor) -> None:
        super().__init__()
        _require_counts(counts)
        if not counts[1:].any():
            raise ValueError("counts are all 0; expected those of training targets")
        occurrences_V = counts.double()
        occurrences_V[0] = 0.0
        self.register_buffer("log_prob_V", torch.log(occurrences_V / occurrences_V.sum()), persistent=False)

    def log_prob(self, item_N: torch.Tensor) -> torch.Tensor:
        return self.log_prob_V[item_N]

    def sample(
        self, target_B: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # A query's own target is among them, as an accidental hit, which the loss drops. A single query has no
        # negatives; its expected counts are then never used.
        log_prob_B = self.log_prob(target_B)
        if log_prob_B.device.type == "cpu" and log_prob_B.isneginf().any():
            raise ValueError("the batch has a target that the counts do not know")
        return target_B, log_prob_B + math.log(max(1, len(target_B) - 1))


def _require_items_and_negatives(n_items: int, n_negatives: int) -> None:
    if n_items < 2:
        raise ValueError(f"n_items is {n_items}; expected an item beside the padding")
    if n_negatives < 1:
        raise ValueError(f"n_negatives is {n_negatives}; expected 1 or more")


def _require_counts(counts_V: torch.Tensor) -> None:
    if counts_V.ndim != 1 or len(counts_V) < 2:
        raise ValueError(f"counts are {tuple(counts_V.shape)}; expected [V] with an item beside the padding")
    if (counts_V < 0).any():
        raise ValueError("counts below 0")
