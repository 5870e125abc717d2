"""Mixtape: gates in the space of logits."""

from typing import Literal

import torch
from torch import nn

from mos_recbole.heads.logits import LogitHead
from mos_recbole.heads.projection import start_near_identity
from mos_recbole.heads.spec import HeadSpec
from mos_recbole.specs import Positive, Setting


class MixtapeHead(LogitHead):
    """p(v|c) = softmax_v(Σ_k π_k(c, v) tanh(U_k h_c)·w_v + b_v): weights of logits, by context and item.

    Yang, Luong, Salakhutdinov and Le, "Mixtape: Breaking the Softmax Bottleneck Efficiently", NeurIPS 2019. The weights
    (gate priors) are the leaves of a binary tree (sigmoid tree decomposition): at inner node j, γ_j = σ(l_j) goes to
    the left and 1 - γ_j to the right, for four leaves π = (γ_1 γ_2, γ_1 (1 - γ_2), (1 - γ_1) γ_3, (1 - γ_1)(1 - γ_3)).
    Of the K - 1 inner nodes, l_j(c, v) = v_v·tanh(G_j h_c) + u_j·h_c + a_vj, where v_v and a_vj are the item's own.

    One exponential an item where a mixture of softmaxes has K. Parameters: K·d·d for U, (K - 1)·d·(e + 1) for G and u,
    and V·(e + K - 1) for v and a, with e numbers in v_v. Operations: (K·d + (K - 1)·e) / d times the softmax's. The
    weights differ by item, so that the rank is not bounded by d.

    Deviations: no gate sharing (one set of weights for all rare items), which saves time on large vocabularies and asks
    for the items' frequencies; l_j for inner nodes alone (the paper's has K, of which K - 1 are used); U_k starts near
    the identity, as `MoSHead`'s; the item bias is added to the mixed logit.

    Args:
        n_items, width, item_bias: as of `OutputHead`.
        n_components: K, a power of 2 from 2 on; 4 in the paper.
        gate_size: e.

    Raises:
        ValueError: another number of components.
    """

    def __init__(
        self, n_items: int, width: int, *, item_bias: bool = False, n_components: int = 4, gate_size: int = 16
    ) -> None:
        super().__init__(n_items, width, item_bias=item_bias)
        if n_components < 2 or n_components & (n_components - 1):
            raise ValueError(f"n_components is {n_components}; expected a power of 2, such as 4")
        self.n_vectors, self.gate_size = n_components, gate_size
        self.projection = nn.Linear(width, n_components * width, bias=False)
        self.gate = nn.Linear(width, (n_components - 1) * gate_size, bias=False)
        self.gate_bias = nn.Linear(width, n_components - 1, bias=False)
        self.item_gate = nn.Parameter(torch.randn(n_items, gate_size) * gate_size**-0.5)
        self.item_gate_bias = nn.Parameter(torch.zeros(n_items, n_components - 1))
        start_near_identity(self.projection)
        # What autograd keeps for each item: K logits, K - 1 gates, and the levels between them.
        self.numbers_per_logit = 6 * n_components

    def items(self, weight_Vd: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return weight_Vd, self.item_gate, self.item_gate_bias

    def logits(self, state_Nd: torch.Tensor, items: tuple[torch.Tensor, ...]) -> torch.Tensor:
        weight_Vd, item_gate_Ve, item_gate_bias_Vj = items
        vector_NKd = torch.tanh(self.projection(state_Nd)).view(-1, self.n_vectors, self.width)
        gate_Nje = torch.tanh(self.gate(state_Nd)).view(-1, self.n_vectors - 1, self.gate_size)
        offset_NjV = self.gate_bias(state_Nd)[:, :, None] + item_gate_bias_Vj.T
        left_NjV = torch.sigmoid(gate_Nje @ item_gate_Ve.T + offset_NjV)
        mixed_NKV = (vector_NKd @ weight_Vd.T).to(left_NjV.dtype)
        # From the leaves to the root; the inner nodes are numbered from the root on, level by level.
        while mixed_NKV.shape[1] > 1:
            half = mixed_NKV.shape[1] // 2
            mixed_NKV = torch.lerp(mixed_NKV[:, 1::2], mixed_NKV[:, ::2], left_NjV[:, half - 1 : 2 * half - 1])
        return mixed_NKV


HEAD = HeadSpec(
    "mixtape",
    "Mixtape",
    MixtapeHead,
    (
        Setting("mixtape_heads", Literal[2, 4, 8, 16], 4, "Components K, leaves of a binary tree.", "n_components"),
        Setting("mixtape_gate_size", Positive, 16, "Width e of an item's own gate vector.", "gate_size"),
    ),
    'Yang, Luong, Salakhutdinov, Le, "Mixtape: Breaking the Softmax Bottleneck Efficiently", NeurIPS 2019',
)
