"""Encoders: from item sequences to states. This project's own give a state at every position."""

from abc import ABC, abstractmethod

import torch
from recbole.model.layers import TransformerEncoder
from torch import nn


class Encoder(nn.Module, ABC):
    """What a model needs of an encoder.

    Attributes:
        item_embedding: the input item table; its weight [V, d] is the output table too where the model ties them. Rows
            from V on (a mask token's) are left out of that.
        width: d, of the states and of the item table.
    """

    item_embedding: nn.Embedding
    width: int


class CausalEncoder(Encoder):
    """An encoder whose state at a position depends on the items up to there only: trainable on whole windows."""

    @abstractmethod
    def forward(self, item_seq_BL: torch.Tensor) -> torch.Tensor:
        """Returns the states [B, L, d] of item ids [B, L], 0-padded on the right. State l knows items 0 to l."""


class LayeredEncoder(CausalEncoder):
    """A causal encoder that gives the states of all its layers, for heads that read them.

    Attributes:
        n_layers: how many layers `layers` gives, the embedded items' included.
    """

    n_layers: int

    @abstractmethod
    def layers(self, item_seq_BL: torch.Tensor) -> torch.Tensor:
        """Returns the states of all layers, [B, L, n_layers, d]: the embedded items first, `forward`'s states last."""


class QueryEncoder(Encoder):
    """An encoder that gives one state a sequence: trained on prefixes."""

    @abstractmethod
    def forward(self, item_seq_BL: torch.Tensor, item_seq_len_B: torch.Tensor, user_B: torch.Tensor) -> torch.Tensor:
        """Returns the states [B, d] of item ids [B, L], 0-padded on the right, with lengths [B], of users [B]."""


class GRUEncoder(LayeredEncoder):
    """GRU4Rec's encoder as RecBole's `GRU4Rec` has it: embedding, dropout, GRU without biases, linear map to width d.

    Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016; Tan et al., DLRS 2016.
    The layers have RecBole's names and initialisation, so its state dict fits.

    Args:
        n_items: V, the padding item 0 included.
        embedding_size: d.
        hidden_size: of the GRU.
        num_layers: of the GRU.
        dropout_prob: on the embedded items.
    """

    def __init__(self, n_items: int, embedding_size: int, hidden_size: int, num_layers: int, dropout_prob: float):
        super().__init__()
        self.width, self.n_layers = embedding_size, 2
        self.item_embedding = nn.Embedding(n_items, embedding_size, padding_idx=0)
        self.emb_dropout = nn.Dropout(dropout_prob)
        self.gru_layers = nn.GRU(embedding_size, hidden_size, num_layers, bias=False, batch_first=True)
        self.dense = nn.Linear(hidden_size, embedding_size)
        nn.init.xavier_normal_(self.item_embedding.weight)
        # RecBole initialises the first layer only.
        for name in ("weight_hh_l0", "weight_ih_l0"):
            nn.init.xavier_uniform_(self.gru_layers.get_parameter(name))

    def forward(self, item_seq_BL: torch.Tensor) -> torch.Tensor:
        return self._states(self.emb_dropout(self.item_embedding(item_seq_BL)))

    def layers(self, item_seq_BL: torch.Tensor) -> torch.Tensor:
        embedded_BLd = self.emb_dropout(self.item_embedding(item_seq_BL))
        return torch.stack([embedded_BLd, self._states(embedded_BLd)], dim=2)

    def _states(self, embedded_BLd: torch.Tensor) -> torch.Tensor:
        hidden_BLh, _ = self.gru_layers(embedded_BLd)
        return self.dense(hidden_BLh)


class SASRecEncoder(LayeredEncoder):
    """SASRec's encoder as RecBole's `SASRec` has it: learned positions, then RecBole's transformer with a causal mask.

    Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018. The layers have RecBole's names and
    initialisation, so its state dict fits.

    Args:
        n_items: V, the padding item 0 included.
        max_length: the longest sequence.
        hidden_size: d.
        inner_size: of the feed-forward layers.
        n_layers, n_heads: of the transformer.
        hidden_dropout_prob, attn_dropout_prob: dropout of states and of attention weights.
        hidden_act: activation of the feed-forward layers.
        layer_norm_eps: of the layer norms.
        initializer_range: standard deviation of the initial weights.
    """

    def __init__(
        self,
        n_items: int,
        max_length: int,
        hidden_size: int,
        inner_size: int,
        n_layers: int,
        n_heads: int,
        hidden_dropout_prob: float,
        attn_dropout_prob: float,
        hidden_act: str,
        layer_norm_eps: float,
        initializer_range: float,
    ) -> None:
        super().__init__()
        self.width, self.n_layers = hidden_size, n_layers + 1
        self.initializer_range = initializer_range
        self.item_embedding = nn.Embedding(n_items, hidden_size, padding_idx=0)
        self.position_embedding = nn.Embedding(max_length, hidden_size)
        self.trm_encoder = TransformerEncoder(
            n_layers=n_layers,
            n_heads=n_heads,
            hidden_size=hidden_size,
            inner_size=inner_size,
            hidden_dropout_prob=hidden_dropout_prob,
            attn_dropout_prob=attn_dropout_prob,
            hidden_act=hidden_act,
            layer_norm_eps=layer_norm_eps,
        )
        self.LayerNorm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = nn.Dropout(hidden_dropout_prob)
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, item_seq_BL: torch.Tensor) -> torch.Tensor:
        return self._layers(item_seq_BL)[-1]

    def layers(self, item_seq_BL: torch.Tensor) -> torch.Tensor:
        return torch.stack(self._layers(item_seq_BL), dim=2)

    def _layers(self, item_seq_BL: torch.Tensor) -> list[torch.Tensor]:
        length = item_seq_BL.shape[1]
        position_Ld = self.position_embedding(torch.arange(length, device=item_seq_BL.device))
        state_BLd = self.dropout(self.LayerNorm(self.item_embedding(item_seq_BL) + position_Ld))
        # Additive, as RecBole's transformer wants it: padding and later positions out of sight.
        visible_BLL = (item_seq_BL != 0)[:, None, :].expand(-1, length, -1).tril()
        mask_B1LL = torch.where(visible_BLL, 0.0, -10000.0)[:, None]
        return [state_BLd, *self.trm_encoder(state_BLd, mask_B1LL, output_all_encoded_layers=True)]
