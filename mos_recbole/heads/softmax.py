"""The plain softmax head, the control of every comparison."""

import torch

from mos_recbole.heads.mixture import MixtureHead
from mos_recbole.heads.spec import HeadSpec


class SoftmaxHead(MixtureHead):
    """p(v|c) = softmax_v(h_c·w_v + b_v): a mixture of one component, which is the state itself.

    No parameters of its own but the optional item bias; the log-probability matrix over all contexts has rank at most
    d + 1 (d + 2 with the bias): Yang et al., ICLR 2018, section 2.2. A wider one, which has the parameters of another
    head, is a wider encoder: `embedding_size` or `hidden_size`.

    Args:
        n_items, width, item_bias: as of `OutputHead`.
    """

    single_logit = True

    def components(self, state_Nd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return state_Nd[:, None, :], state_Nd.new_zeros(state_Nd.shape[0], 1)


HEAD = HeadSpec("softmax", "Softmax", SoftmaxHead, baseline=True)
