"""The plain softmax head, the control of every comparison."""

import torch

from mos_recbole.heads.mixture import MixtureHead
from mos_recbole.heads.projection import OUTPUT_RANK, rank_limit
from mos_recbole.heads.spec import HeadSpec


class SoftmaxHead(MixtureHead):
    """p(v|c) = softmax_v(h_c·w_v + b_v): a mixture of one component, which is the state itself.

    No parameters of its own but the optional item bias; the log-probability matrix over all contexts has rank at most
    d + 1 (d + 2 with the bias): Yang et al., ICLR 2018, section 2.2. A wider one, which has the parameters of another
    head, is a wider encoder: `embedding_size` or `hidden_size`. With an output rank r, the bound has r for d, and 2·d·r
    parameters are added.

    Args:
        n_items, width, item_bias: as of `OutputHead`.
        output_rank: r of `rank_limit`; 0 for none.
    """

    single_logit = True

    def __init__(self, n_items: int, width: int, *, item_bias: bool = False, output_rank: int = 0) -> None:
        super().__init__(n_items, width, item_bias=item_bias)
        self.rank_limit = rank_limit(width, output_rank)

    def components(self, state_Nd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.rank_limit(state_Nd)[:, None, :], state_Nd.new_zeros(state_Nd.shape[0], 1)


HEAD = HeadSpec("softmax", "Softmax", SoftmaxHead, (OUTPUT_RANK,), baseline=True)
