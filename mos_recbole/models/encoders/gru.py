"""GRU4Rec's encoder."""

import torch
from torch import nn

from mos_recbole.models.encoders.base import LayeredEncoder
from mos_recbole.models.encoders.spec import EncoderSpec
from mos_recbole.models.gru import GRU
from mos_recbole.specs import Positive, Probability, Setting


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
        self.gru_layers = GRU(embedding_size, hidden_size, num_layers, bias=False, batch_first=True)
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


ENCODER = EncoderSpec(
    "GRU4Rec",
    GRUEncoder,
    (
        Setting("embedding_size", Positive, 64, "Width d of the item embeddings."),
        Setting("hidden_size", Positive, 128, "Width of the GRU's hidden state."),
        Setting("num_layers", Positive, 1, "Layers of the GRU."),
        Setting("dropout_prob", Probability, 0.3, "Dropout on the embedded items."),
    ),
    # A GRU takes larger steps than a transformer, and so needs fewer epochs (docs/experiments.md).
    training_defaults={"learning_rate": 0.0075, "epochs": 7},
)
