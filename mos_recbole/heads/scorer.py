"""Scores of all items for ranking: cheaper than their log-probabilities, in the same order."""

from collections.abc import Callable

import torch

from mos_recbole.losses.tiles import BITS, NATS, ItemTiles, chunk_size, largest_norm, logit_tiles, need_no_shift


def mixture_log_prob(
    components_NKd: torch.Tensor, log_prior_NK: torch.Tensor, weight_Vd: torch.Tensor, bias_V: torch.Tensor | None
) -> torch.Tensor:
    """Returns the log-probabilities of all items under a mixture of softmaxes, [N, V], in nats, at least float32.

    For evaluation: it works in place, so that gradients through it are refused.
    """
    logits_NKV = (components_NKd @ weight_Vd.T).to(torch.promote_types(components_NKd.dtype, torch.float32))
    if bias_V is not None:
        logits_NKV += bias_V
    # The largest first: what is subtracted after it is small, and its rounding does not grow with the logits.
    logits_NKV -= logits_NKV.amax(dim=-1, keepdim=True)
    log_prob_NKV = logits_NKV.sub_(torch.logsumexp(logits_NKV, dim=-1, keepdim=True))
    return torch.logsumexp(log_prob_NKV.add_(log_prior_NK[..., None]), dim=1)


class MixtureScorer:
    """Scores all items for a few queries at a time, by a mixture of softmaxes over one item table, as it is now.

    A change of the table asks for a new scorer.

    A query's scores are its logits for one component; for more, its probabilities up to a factor (exponentials without
    a shift, one product and one exponential an item and component), or the log-probabilities where the logits are too
    large for that.

    Args:
        weight_Vd: the item table.
        bias_V: added to the logits, or None.
        n_components: K.

    Attributes:
        n_queries: how many queries one call takes at most.
    """

    def __init__(self, weight_Vd: torch.Tensor, bias_V: torch.Tensor | None, n_components: int) -> None:
        self.weight_Vd, self.bias_V, self.n_components = weight_Vd.contiguous(), bias_V, n_components
        n_items, device = len(weight_Vd), weight_Vd.device
        self.dtype = torch.promote_types(weight_Vd.dtype, torch.float32)
        self.n_queries = chunk_size(device, n_components, n_items, self.dtype.itemsize)
        n_rows = self.n_queries * n_components
        self.tiles = ItemTiles.suited(device, n_items, n_rows, self.dtype.itemsize)
        self._weight_tiles = self.tiles.cut(self.weight_Vd)
        # Logits come in bits where the rows' precision leaves room for the change of unit.
        self._unit = BITS if weight_Vd.dtype == self.dtype else 1.0
        self._bias_tiles = None if bias_V is None else self.tiles.cut(bias_V.to(self.dtype) * self._unit)
        self._largest_weight = largest_norm(weight_Vd)
        self._largest_bias = 0.0 if bias_V is None else float(bias_V.abs().max())
        self._exp = torch.empty(n_rows * self.tiles.n_padded, dtype=self.dtype, device=device)
        self._scores = torch.empty(self.n_queries, self.tiles.n_padded, dtype=self.dtype, device=device)

    @torch.no_grad()
    def __call__(self, *queries: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        """Returns scores [b, V], and what turns scores of these queries [..., b] into log-probabilities in nats.

        Takes the queries' component vectors [b, K, d] and log mixture weights [b, K].

        The scores are good until the next call, and may be overwritten.

        Raises:
            ValueError: more queries than `n_queries`, or another number of components.
        """
        components_bKd, log_prior_bK = queries
        n_queries, tiles = len(components_bKd), self.tiles
        if n_queries > self.n_queries or components_bKd.shape[1] != self.n_components:
            raise ValueError(
                f"components are {tuple(components_bKd.shape)}; expected at most {self.n_queries} queries with "
                f"{self.n_components} components"
            )
        row_Rd = components_bKd.reshape(-1, components_bKd.shape[2])
        if not need_no_shift(largest_norm(row_Rd) * self._largest_weight + self._largest_bias):
            log_prob_bV = mixture_log_prob(components_bKd, log_prior_bK, self.weight_Vd, self.bias_V)
            return log_prob_bV, lambda log_prob_b: log_prob_b

        scores_bV = self._scores[:n_queries]
        # Views [T, b, width] of the scores, tile by tile.
        score_tiles = scores_bV.view(n_queries, tiles.n_tiles, tiles.lanes, tiles.width).permute(1, 2, 0, 3)
        normaliser_R = torch.zeros(len(row_Rd), dtype=self.dtype, device=row_Rd.device)
        buffers = tiles.buffers(self._exp, len(row_Rd))
        logits = logit_tiles(row_Rd * self._unit, self._weight_tiles, self._bias_tiles, buffers, tiles)
        for logits_TRv, score_Tbv in zip(logits, score_tiles, strict=True):
            if self.n_components == 1:
                score_Tbv.copy_(logits_TRv)
            if self._unit == 1.0:
                logits_TRv *= BITS
            normaliser_R += logits_TRv.exp2_().sum(dim=2).sum(dim=0)
        bits_bK = normaliser_R.log2().view(n_queries, self.n_components)
        scores_bV = scores_bV[:, : tiles.n_items]
        if self.n_components == 1:
            return scores_bV, lambda logit_b: logit_b * (NATS if self._unit == BITS else 1.0) - bits_bK[:, 0] * NATS

        # p(v) = Σ_k (prior_k / normaliser_k) exp(logit_kv); the largest factor of a query is made 1.
        factor_bits_bK = log_prior_bK.to(self.dtype) * BITS - bits_bK
        largest_b = factor_bits_bK.amax(dim=1)
        factor_bK = (factor_bits_bK - largest_b[:, None]).exp2_()
        for exp_TRv, score_Tbv in zip(buffers, score_tiles, strict=True):
            exp_TbKv = exp_TRv.view(tiles.lanes, n_queries, self.n_components, tiles.width)
            torch.mul(exp_TbKv[:, :, 0], factor_bK[:, 0, None], out=score_Tbv)
            for component in range(1, self.n_components):
                score_Tbv.addcmul_(exp_TbKv[:, :, component], factor_bK[:, component, None])
        return scores_bV, lambda score_b: (score_b.log2() + largest_b) * NATS
