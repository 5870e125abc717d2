"""NARM's encoder."""

import torch

from mos_recbole.models.encoders.recbole import CausalRecBoleEncoder
from mos_recbole.models.encoders.spec import EncoderSpec
from mos_recbole.models.gru import gru_states

# Of the [B, L, L, h] sums of a piece of the sequences.
_PIECE_NUMBERS = 2**24


class NARMEncoder(CausalRecBoleEncoder):
    """NARM's state at every position, by the layers of RecBole's class.

    Li et al., "Neural Attentive Session-based Recommendation", CIKM 2017, section 3: with the GRU's states h_j, the
    state at t is B [Σ_{j≤t} α_tj h_j ; h_t], α_tj = v·σ(A_1 h_j + A_2 h_t), which no later item has a part in. RecBole
    computes it for the last item alone.
    """

    def forward(self, item_seq_BL: torch.Tensor) -> torch.Tensor:
        embedded_BLd = self.model.emb_dropout(self.model.item_embedding(item_seq_BL))
        hidden_BLh = gru_states(self.model.gru, embedded_BLd)
        size = max(1, _PIECE_NUMBERS // max(1, hidden_BLh.shape[1] * hidden_BLh[0].numel()))
        local_BLh = torch.cat([self._local(part_BLh) for part_BLh in hidden_BLh.split(size)])
        return self.model.b(self.model.ct_dropout(torch.cat([local_BLh, hidden_BLh], dim=2)))

    def _local(self, hidden_BLh: torch.Tensor) -> torch.Tensor:
        """Returns the sums of the states up to each position, weighted by its attention."""
        sum_BLLh = self.model.a_2(hidden_BLh)[:, :, None] + self.model.a_1(hidden_BLh)[:, None]
        weight_BLL = self.model.v_t(torch.sigmoid(sum_BLLh)).squeeze(3).tril()
        return weight_BLL @ hidden_BLh


ENCODER = EncoderSpec("NARM", NARMEncoder, recbole_model="NARM")
