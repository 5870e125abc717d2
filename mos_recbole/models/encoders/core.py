"""CORE's encoder."""

import torch
from torch.nn import functional

from mos_recbole.models.encoders.recbole import CausalRecBoleEncoder
from mos_recbole.models.encoders.spec import EncoderSpec


class COREEncoder(CausalRecBoleEncoder):
    """CORE's state at every position, by the layers of RecBole's class.

    Hou et al., "CORE: Simple and Effective Session-based Recommendation within Consistent Representation Space", SIGIR
    2022, section 3.2: the state at t is the normalised mean of the items' vectors up to t, weighted by the softmax of
    a_j, j ≤ t, or equally (`dnn_type: ave`). RecBole's transformer for the a_j looks back only, so that they are the
    same for all t; RecBole computes the state of the last item alone.
    """

    def forward(self, item_seq_BL: torch.Tensor) -> torch.Tensor:
        item_BLd = self.model.sess_dropout(self.model.item_embedding(item_seq_BL))
        score_BL = self._scores(item_seq_BL, item_BLd)
        length = item_seq_BL.shape[1]
        later_LL = torch.ones(length, length, dtype=torch.bool, device=item_seq_BL.device).triu(1)
        weight_BLL = score_BL[:, None].masked_fill(later_LL, -torch.inf).softmax(dim=2)
        return functional.normalize(weight_BLL @ item_BLd, dim=-1)

    def _scores(self, item_seq_BL: torch.Tensor, item_BLd: torch.Tensor) -> torch.Tensor:
        """Returns the a_j [B, L]."""
        net = self.model.net
        if self.model.dnn_type == "ave":
            return torch.zeros_like(item_BLd[..., 0])
        position_Ld = net.position_embedding(torch.arange(item_seq_BL.shape[1], device=item_seq_BL.device))
        state_BLd = net.dropout(net.LayerNorm(item_BLd + position_Ld))
        mask_B1LL = net.get_attention_mask(item_seq_BL)
        (state_BLd,) = net.trm_encoder(state_BLd, mask_B1LL, output_all_encoded_layers=False)
        scores_BL: torch.Tensor = net.fn(state_BLd).squeeze(2)
        return scores_BL


ENCODER = EncoderSpec("CORE", COREEncoder, recbole_model="CORE", unread=("temperature", "item_dropout"))
