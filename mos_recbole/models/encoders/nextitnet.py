"""NextItNet's encoder."""

import torch

from mos_recbole.models.encoders.recbole import CausalRecBoleEncoder
from mos_recbole.models.encoders.spec import EncoderSpec


class NextItNetEncoder(CausalRecBoleEncoder):
    """NextItNet's state at every position.

    Yuan et al., "A Simple Convolutional Generative Network for Next Item Recommendation", WSDM 2019. Deviation from
    RecBole's class: a sequence's state is that at its last item; RecBole's is that of the last column, which for a
    sequence shorter than L is padding.
    """

    def forward(self, item_seq_BL: torch.Tensor) -> torch.Tensor:
        return self.model.final_layer(self.model.residual_blocks(self.model.item_embedding(item_seq_BL)))


ENCODER = EncoderSpec("NextItNet", NextItNetEncoder, recbole_model="NextItNet", unread=("reg_weight",))
