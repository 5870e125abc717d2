"""A RecBole sequential recommender made of any encoder and any head."""

from typing import Any

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import nn

from mos_recbole.heads import OutputHead
from mos_recbole.models.encoders import Encoder


class EncoderHeadRecommender(SequentialRecommender):
    """RecBole's interface (`calculate_loss`, `full_sort_predict`, `predict`) over an `Encoder` and an `OutputHead`.

    A batch whose targets are one item a sequence is a batch of prefixes, RecBole's own kind; where the targets are
    [B, L] it holds windows, and every position with a target (not 0) is scored.

    The padding item takes part in the softmax, as in RecBole's models, and so has a (small) probability.

    Args:
        config: RecBole's, with `tie_weights` beside the keys that `make_encoder` and `make_head` read.
        dataset: RecBole's, for the number of items.
    """

    input_type = InputType.POINTWISE
    # The encoder's state at a position knows nothing of later ones, so that windows can be trained on as a whole.
    causal = True

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.encoder = self.make_encoder(config)
        self.head = self.make_head(config)
        self.output_table: nn.Parameter | None = None
        if not config["tie_weights"]:
            self.output_table = nn.Parameter(torch.empty(self.n_items, self.encoder.width))
            nn.init.xavier_normal_(self.output_table)

    def make_encoder(self, config: Any) -> Encoder:
        raise NotImplementedError

    def make_head(self, config: Any) -> OutputHead:
        raise NotImplementedError

    @property
    def item_table(self) -> torch.Tensor:
        """The output item table, [V, d]."""
        return self.encoder.item_embedding.weight if self.output_table is None else self.output_table

    def forward(self, item_seq: torch.Tensor, item_seq_len: torch.Tensor) -> torch.Tensor:
        """Returns the states [B, d] at the last items of sequences [B, L] with lengths [B]."""
        return self.gather_indexes(self.encoder(item_seq), item_seq_len - 1)

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Returns the mean negative log-probability of the batch's targets, in nats."""
        item_seq, target = interaction[self.ITEM_SEQ], interaction[self.POS_ITEM_ID]
        if target.ndim == 1:
            state_Nd = self.forward(item_seq, interaction[self.ITEM_SEQ_LEN])
        else:
            state_BLd = self.encoder(item_seq)
            is_target = target != 0
            state_Nd, target = state_BLd[is_target], target[is_target]
        return self.head.loss(state_Nd, self.item_table, target)

    @property
    def n_components(self) -> int:
        """How many softmaxes the head mixes."""
        return self.head.n_components

    def log_prob(self, state_Bd: torch.Tensor) -> torch.Tensor:
        """Returns the log-probabilities [B, n_items] of all items, given states."""
        return self.head.log_prob(state_Bd, self.item_table)

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Returns the log-probabilities [B, n_items] of all items."""
        state_Bd = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return self.log_prob(state_Bd)

    def predict(self, interaction: Any) -> torch.Tensor:
        """Returns the log-probabilities [B] of one given item a sequence."""
        return self.full_sort_predict(interaction).gather(1, interaction[self.ITEM_ID][:, None]).squeeze(1)
