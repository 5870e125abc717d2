"""SASRec's encoder."""

from typing import Literal

import torch
from recbole.model.layers import TransformerEncoder
from torch import nn

from mos_recbole.models.encoders.base import LayeredEncoder
from mos_recbole.models.encoders.spec import EncoderSpec
from mos_recbole.specs import Positive, Probability, Rate, Setting


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


HiddenAct = Literal["gelu", "relu", "swish", "tanh", "sigmoid"]
ENCODER = EncoderSpec(
    "SASRec",
    SASRecEncoder,
    (
        Setting("hidden_size", Positive, 64, "Width d of item embeddings and states."),
        Setting("inner_size", Positive, 256, "Width of the feed-forward layers."),
        Setting("n_layers", Positive, 2, "Transformer layers."),
        Setting("n_heads", Positive, 2, "Attention heads."),
        Setting("hidden_dropout_prob", Probability, 0.2, "Dropout of states."),
        Setting("attn_dropout_prob", Probability, 0.2, "Dropout of attention weights."),
        Setting("hidden_act", HiddenAct, "gelu", "Activation of the feed-forward layers."),
        Setting("layer_norm_eps", Rate, 1.0e-12, "ε of the layer norms."),
        Setting("initializer_range", Rate, 0.02, "Standard deviation of the initial weights."),
    ),
    width="hidden_size",
)
