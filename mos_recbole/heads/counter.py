"""Target ranks in Triton: items are compared with the target where their probabilities are made."""

import torch

from mos_recbole.losses import need_triton

# Of scores, where they are asked for.
_SCORE_BYTES = 256 * 2**20


class MixtureCounter:
    """Counts the items that a mixture of softmaxes over one item table, as it is now, puts above targets.

    See `losses.triton_ranks.mixture_target_counts`, and `heads.TargetCounter` for the interface.

    Args:
        weight_Vd: the item table.
        bias_V: added to the logits, or None.

    Raises:
        ValueError: Triton's kernels cannot run on the table's device.
    """

    def __init__(self, weight_Vd: torch.Tensor, bias_V: torch.Tensor | None) -> None:
        need_triton(weight_Vd.device)
        self.weight_Vd, self.bias_V, self.n_items = weight_Vd, bias_V, len(weight_Vd)
        self.n_queries = max(1, _SCORE_BYTES // (4 * self.n_items))

    def count(
        self,
        queries: tuple[torch.Tensor, ...],
        target_b: torch.Tensor,
        ruled_out_V: torch.Tensor,
        seen_bV: torch.Tensor | None,
        with_scores: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        from mos_recbole.losses.triton_ranks import mixture_target_counts

        components_bKd, log_prior_bK = queries
        return mixture_target_counts(
            components_bKd,
            log_prior_bK,
            self.weight_Vd,
            target_b,
            self.bias_V,
            ruled_out_V,
            seen_bV,
            with_scores=with_scores,
        )
