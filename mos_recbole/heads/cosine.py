"""A softmax over cosines."""

import math

import torch
from torch import nn

from mos_recbole.heads.mixture import MixtureHead
from mos_recbole.heads.normalize import l2_normalize
from mos_recbole.heads.spec import HeadSpec
from mos_recbole.specs import Rate, Setting


class CosineHead(MixtureHead):
    """p(v|c) = softmax_v(cos(h_c, w_v) / τ + b_v), with a fixed or a learned temperature τ.

    As RecBole's CORE decodes: Hou, Hu, Zhang and Zhao, "CORE: Simple and Effective Session-based Recommendation within
    Consistent Representation Space", SIGIR 2022, with τ = 0.07. Parameters: log τ where it is learned. Cost: the
    softmax's, and 2·V·d operations a batch. The rank is at most d + 1 (d + 2 with the bias), as a softmax's; the
    logits are within ± 1/τ, so that without biases no item's odds against another exceed exp(2/τ) in any context.

    Deviations: CORE's dropout on items is not here (`DnDHead` has one); vectors shorter than 1e-4 are divided by that.

    Args:
        n_items, width, item_bias: as of `OutputHead`.
        temperature: τ, at first where it is learned.
        learned: whether τ is learned.
    """

    single_logit = True

    def __init__(
        self, n_items: int, width: int, *, item_bias: bool = False, temperature: float = 0.07, learned: bool = False
    ) -> None:
        super().__init__(n_items, width, item_bias=item_bias)
        log_temperature = torch.tensor(math.log(temperature))
        self.log_temperature: torch.Tensor
        if learned:
            self.log_temperature = nn.Parameter(log_temperature)
        else:
            self.register_buffer("log_temperature", log_temperature, persistent=False)

    def components(self, state_Nd: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        direction_Nd = l2_normalize(state_Nd) * torch.exp(-self.log_temperature)
        return direction_Nd[:, None, :], direction_Nd.new_zeros(state_Nd.shape[0], 1)

    def item_vectors(self, weight_Vd: torch.Tensor) -> torch.Tensor:
        return l2_normalize(weight_Vd)


HEAD = HeadSpec(
    "cosine",
    "Cosine",
    CosineHead,
    (
        Setting("cosine_temperature", Rate, 0.07, "Temperature τ, or where it starts if it is learned.", "temperature"),
        Setting("cosine_learned", bool, False, "Whether the temperature is learned.", "learned"),
    ),
    'Hou, Hu, Zhang, Zhao, "CORE: Simple and Effective Session-based Recommendation within Consistent Representation '
    "Space\", SIGIR 2022 (τ = 0.07 in RecBole's class)",
)
