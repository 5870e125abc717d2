"""BERT4Rec's encoder."""

import torch

from mos_recbole.models.encoders.recbole import RecBoleEncoder
from mos_recbole.models.encoders.spec import EncoderSpec


class BERT4RecEncoder(RecBoleEncoder):
    """BERT4Rec's state at a mask token after the last item, as RecBole evaluates it.

    Sun et al., "BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer", CIKM
    2019. Deviation: it is trained on that mask alone, one prefix a target, and not on masks at random places.
    """

    def forward(self, item_seq_BL: torch.Tensor, item_seq_len_B: torch.Tensor, user_B: torch.Tensor) -> torch.Tensor:
        # The mask's place is within L positions: as in RecBole, the first item makes room for it.
        masked_BL = torch.cat([item_seq_BL[:, 1:], torch.zeros_like(item_seq_BL[:, :1])], dim=1)
        last_B1 = item_seq_len_B[:, None] - 1
        masked_BL = masked_BL.scatter(1, last_B1, self.model.mask_token)
        state_BLd = self.model(masked_BL)
        return state_BLd.gather(1, last_B1[:, :, None].expand(-1, -1, self.width)).squeeze(1)


ENCODER = EncoderSpec(
    "BERT4Rec",
    BERT4RecEncoder,
    width="hidden_size",
    recbole_model="BERT4Rec",
    unread=("mask_ratio", "ft_ratio", "transform"),
    unused=("output_bias",),
)
