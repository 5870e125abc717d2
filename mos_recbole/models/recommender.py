"""A RecBole sequential recommender made of any encoder and any head."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import nn
from torch.nn import functional

from mos_recbole.heads import OutputHead
from mos_recbole.losses import InBatchSampler, NegativeSampler, PopularitySampler, UniformSampler
from mos_recbole.models.encoders import Encoder


class EncoderHeadRecommender(SequentialRecommender, ABC):
    """RecBole's interface (`calculate_loss`, `full_sort_predict`, `predict`) over an `Encoder` and an `OutputHead`.

    A batch whose targets are one item a sequence is a batch of prefixes, RecBole's own kind; where the targets are
    [B, L] it holds windows, and every position with a target (not 0) is scored.

    The padding item takes part in the softmax, as in RecBole's models, and so has a (small) probability.

    Args:
        config: RecBole's, with `tie_weights`, `negative_sampling` and what belongs to it beside the keys that
            `make_encoder` and `make_head` read.
        dataset: RecBole's, for the number of items; a `data.SequenceDataset` where negatives are sampled by how often
            they are targets of training.
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
        self.negative_sampler = _negative_sampler(config, dataset, self.n_items)

    @abstractmethod
    def make_encoder(self, config: Any) -> Encoder:
        """Returns the encoder that the settings describe."""

    @abstractmethod
    def make_head(self, config: Any) -> OutputHead:
        """Returns the head that the settings describe."""

    @property
    def item_table(self) -> torch.Tensor:
        """The output item table, [V, d]."""
        return self.encoder.item_embedding.weight if self.output_table is None else self.output_table

    def forward(self, item_seq: torch.Tensor, item_seq_len: torch.Tensor) -> torch.Tensor:
        """Returns the states [B, d] at the last items of sequences [B, L] with lengths [B]."""
        return self.gather_indexes(self.encoder(item_seq), item_seq_len - 1)

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Returns the mean negative log-probability of the batch's targets, in nats; an estimate of it, which is too
        low on average, where negatives are sampled."""
        item_seq, target = interaction[self.ITEM_SEQ], interaction[self.POS_ITEM_ID]
        if target.ndim == 1:
            state_Nd = self.forward(item_seq, interaction[self.ITEM_SEQ_LEN])
        else:
            state_BLd = self.encoder(item_seq)
            is_target = target != 0
            state_Nd, target = state_BLd[is_target], target[is_target]
        if self.negative_sampler is None:
            return self.head.loss(state_Nd, self.item_table, target)
        sampled_M, log_expected_count_M = self.negative_sampler.sample(target)
        # The padding, which samplers leave out, has its part in the softmax: once, with certainty.
        sampled = functional.pad(sampled_M, (0, 1), value=0)
        log_expected_count = functional.pad(log_expected_count_M, (0, 1), value=0.0)
        return self.head.sampled_loss(state_Nd, self.item_table, target, sampled, log_expected_count)

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


def _negative_sampler(config: Any, dataset: Any, n_items: int) -> NegativeSampler | None:
    """Returns the sampler that `negative_sampling` names; None where the loss is over all items."""
    match config["negative_sampling"]:
        case "none":
            return None
        case "uniform":
            return UniformSampler(n_items, config["n_negatives"])
        case "popularity":
            return PopularitySampler(_target_counts(dataset), config["sampling_alpha"], config["n_negatives"])
        case "in_batch":
            return InBatchSampler(_target_counts(dataset))
        case unknown:
            raise ValueError(f"negative_sampling is {unknown!r}")


def _target_counts(dataset: Any) -> torch.Tensor:
    return torch.from_numpy(dataset.train_target_counts(dataset.split()))
