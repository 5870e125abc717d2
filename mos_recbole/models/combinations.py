"""The models of this project by name: encoder + head."""

from typing import Any

from mos_recbole.heads import MoSHead, SoftmaxHead
from mos_recbole.models.encoders import GRUEncoder, SASRecEncoder
from mos_recbole.models.recommender import EncoderHeadRecommender


class _WithGRU(EncoderHeadRecommender):
    def make_encoder(self, config: Any) -> GRUEncoder:
        return GRUEncoder(
            self.n_items,
            config["embedding_size"],
            config["hidden_size"],
            config["num_layers"],
            config["dropout_prob"],
        )


class _WithSASRec(EncoderHeadRecommender):
    def make_encoder(self, config: Any) -> SASRecEncoder:
        return SASRecEncoder(
            self.n_items,
            self.max_seq_length,
            *(
                config[key]
                for key in (
                    "hidden_size",
                    "inner_size",
                    "n_layers",
                    "n_heads",
                    "hidden_dropout_prob",
                    "attn_dropout_prob",
                    "hidden_act",
                    "layer_norm_eps",
                    "initializer_range",
                )
            ),
        )

    @staticmethod
    def setting_faults(values: dict[str, Any]) -> list[str]:
        if values["hidden_size"] % values["n_heads"]:
            return [f"hidden_size {values['hidden_size']} is no multiple of n_heads {values['n_heads']}"]
        return []


class _WithSoftmax(EncoderHeadRecommender):
    def make_head(self, config: Any) -> SoftmaxHead:
        return SoftmaxHead(self.n_items, self.encoder.width, item_bias=config["item_bias"])


class _WithMoS(EncoderHeadRecommender):
    def make_head(self, config: Any) -> MoSHead:
        return MoSHead(
            self.n_items,
            self.encoder.width,
            n_components=config["mos_heads"],
            activation=config["mos_activation"],
            dropout=config["mos_dropout"],
            item_bias=config["item_bias"],
        )


class GRU4RecSoftmax(_WithGRU, _WithSoftmax):
    """GRU4Rec with a softmax over all items: RecBole's GRU4Rec with `loss_type: CE`, trainable on whole windows."""


class GRU4RecMoS(_WithGRU, _WithMoS):
    """GRU4Rec with a Mixture-of-Softmaxes head."""


class SASRecSoftmax(_WithSASRec, _WithSoftmax):
    """SASRec with a softmax over all items: RecBole's SASRec with `loss_type: CE`, trainable on whole windows."""


class SASRecMoS(_WithSASRec, _WithMoS):
    """SASRec with a Mixture-of-Softmaxes head."""
