"""Mixture of Logits."""

import torch
from torch import nn
from torch.nn import functional

from mos_recbole.heads.logits import LogitHead
from mos_recbole.heads.normalize import l2_normalize
from mos_recbole.heads.spec import HeadSpec
from mos_recbole.specs import Positive, Probability, Rate, Setting

# Where all weights of a pair of query and item are dropped, the logit is 0.
_SMALLEST_SUM = 1e-6


class _Gate(nn.Module):
    """A map with a hidden layer of SiLU, which starts at Glorot's uniform weights and biases of 0."""

    def __init__(self, n_inputs: int, hidden_size: int, n_outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(n_inputs, hidden_size), nn.Linear(hidden_size, n_outputs, bias=bias)
        self.apply(_start)

    def forward(self, rows_Ri: torch.Tensor) -> torch.Tensor:
        """Returns the map of rows [R, inputs], [R, outputs]."""
        mapped_Ro: torch.Tensor = self.output(functional.silu(self.hidden(rows_Ri)))
        return mapped_Ro

    def of_columns(self, columns_iR: torch.Tensor) -> torch.Tensor:
        """Returns the map of columns [inputs, R], [outputs, R]."""
        hidden_hR = functional.silu(self.hidden.weight @ columns_iR + self.hidden.bias[:, None])
        return self.output.weight @ hidden_hR + self.output.bias[:, None]


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class MoLHead(LogitHead):
    """p(v|c) = softmax_v(Σ_pq π_pq(c, v) cos(P_p h_c, Q_q w_v) / τ + b_v): weights of low-dimensional cosines.

    Mixture of Logits: Zhai, Gong, Wang, Sun, Yan, Li and Liu, "Revisiting Neural Retrieval on Accelerators", KDD 2023;
    Ding and Zhai, "Retrieval with Learned Similarities", WWW 2025, who show that it approximates any similarity. The
    weights are, over the pairs pq, softmax(silu(a(h_c) ⊙ b(w_v) + x(s(c, v)))) of a map a of the state, b of the item
    and x of all pairs' logits s, each with a hidden layer of SiLU (as `glu_silu` in the authors' code,
    facebookresearch/generative-recommenders). In training weights are dropped and what is left is divided by its sum.

    Parameters: (p + q)·e·(d + 1) for P and Q and those of the three maps. Operations: p·q·(e + 2·g) / d times the
    softmax's, with g the hidden size of x, and many more numbers for each item, which is why the authors train it by
    sampled softmax. The rank is not bounded by d.

    Deviations: P and Q are linear, where theirs may have a hidden layer; no regularisation of the weights' balance by
    mutual information (WWW 2025); the items' vectors are those of the item table, without further features.

    Args:
        n_items, width, item_bias: as of `OutputHead`.
        query_vectors: p, low-dimensional vectors of a state.
        item_vectors: q, those of an item.
        vector_size: e, numbers of each.
        temperature: τ.
        gate_size: of the hidden layers of a and b.
        pair_gate_size: g, of the hidden layer of x.
        gate_dropout: share of the weights dropped in training.
    """

    def __init__(
        self,
        n_items: int,
        width: int,
        *,
        item_bias: bool = False,
        query_vectors: int = 4,
        item_vectors: int = 4,
        vector_size: int = 32,
        temperature: float = 0.1,
        gate_size: int = 64,
        pair_gate_size: int = 16,
        gate_dropout: float = 0.2,
    ) -> None:
        super().__init__(n_items, width, item_bias=item_bias)
        n_pairs = query_vectors * item_vectors
        self.vector_size, self.temperature = vector_size, temperature
        self.query_projection = nn.Linear(width, query_vectors * vector_size)
        self.item_projection = nn.Linear(width, item_vectors * vector_size)
        self.query_projection.apply(_start)
        self.item_projection.apply(_start)
        self.query_gate = _Gate(width, gate_size, n_pairs, bias=False)
        self.item_gate = _Gate(width, gate_size, n_pairs, bias=False)
        self.pair_gate = _Gate(n_pairs, pair_gate_size, n_pairs, bias=True)
        self.gate_dropout = nn.Dropout(gate_dropout)
        # What autograd keeps for each item: of every pair the logit, its weight and what leads to it; of x the hidden
        # layer, before and after.
        self.numbers_per_logit = 8 * n_pairs + 3 * pair_gate_size

    def items(self, weight_Vd: torch.Tensor) -> tuple[torch.Tensor, ...]:
        vector_Vqe = l2_normalize(self.item_projection(weight_Vd).view(len(weight_Vd), -1, self.vector_size))
        return vector_Vqe, self.item_gate(weight_Vd)

    def logits(self, state_Nd: torch.Tensor, items: tuple[torch.Tensor, ...]) -> torch.Tensor:
        vector_Vqe, item_gate_VP = items
        vector_Npe = l2_normalize(self.query_projection(state_Nd).view(state_Nd.shape[0], -1, self.vector_size))
        # Pairs first, so that every pass over them runs along the items.
        cosine_pqNV = torch.einsum("npe,vqe->pqnv", vector_Npe / self.temperature, vector_Vqe)
        logit_PNV = cosine_pqNV.flatten(0, 1)
        query_gate_PN1 = self.query_gate(state_Nd).T[..., None]
        pair_gate_PNV = self.pair_gate.of_columns(logit_PNV.flatten(1)).view_as(logit_PNV)
        gate_PNV = query_gate_PN1 * item_gate_VP.T[:, None, :] + pair_gate_PNV
        weight_PNV = self.gate_dropout(torch.softmax(functional.silu(gate_PNV), dim=0))
        mixed_NV: torch.Tensor = (weight_PNV * logit_PNV).sum(dim=0)
        if self.training and self.gate_dropout.p:
            mixed_NV = mixed_NV / weight_PNV.sum(dim=0).clamp(min=_SMALLEST_SUM)
        return mixed_NV[:, None]


HEAD = HeadSpec(
    "mol",
    "MoL",
    MoLHead,
    (
        Setting("mol_query_vectors", Positive, 4, "Number p of a state's low-dimensional vectors.", "query_vectors"),
        Setting("mol_item_vectors", Positive, 4, "Number q of an item's low-dimensional vectors.", "item_vectors"),
        Setting("mol_vector_size", Positive, 32, "Width e of each such vector.", "vector_size"),
        Setting("mol_temperature", Rate, 0.1, "Temperature τ of the cosines.", "temperature"),
        Setting("mol_gate_size", Positive, 64, "Hidden width of the gates of states and of items.", "gate_size"),
        Setting("mol_pair_gate_size", Positive, 16, "Hidden width of the gate of the cosines.", "pair_gate_size"),
        Setting("mol_gate_dropout", Probability, 0.2, "Dropout on the weights of the cosines.", "gate_dropout"),
    ),
    'Zhai, Gong, Wang, Sun, Yan, Li, Liu, "Revisiting Neural Retrieval on Accelerators", KDD 2023; Ding, Zhai, '
    '"Retrieval with Learned Similarities", WWW 2025; code: facebookresearch/generative-recommenders',
)
