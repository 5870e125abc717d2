"""A RecBole sequential recommender made of any encoder and any head."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from recbole.data.dataset import SequentialDataset
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import nn
from torch.nn import functional

from mos_recbole.errors import InputError
from mos_recbole.heads import BUILT_IN_HEADS, HeadSpec, MixtureHead, OutputHead, head_fault
from mos_recbole.losses import (
    InBatchSampler,
    MixtureImplementation,
    NegativeSampler,
    PopularitySampler,
    UniformSampler,
    need_bf16_units,
    need_triton,
)
from mos_recbole.models.dropout import replace_dropout
from mos_recbole.models.encoders import (
    BUILT_IN_ENCODERS,
    CausalEncoder,
    Encoder,
    EncoderSpec,
    LayeredEncoder,
    encoder_fault,
)
from mos_recbole.models.shared_settings import RECIPE, SHARED_SETTINGS
from mos_recbole.specs import Setting

# What a batch of windows has beside RecBole's columns: where its N targets are among its B·L places, int64 [N]. The
# host knows, so that no device is asked.
TARGET_PLACE = "target_place"
# Of the head that a check looks at, at most.
_CHECKED_ITEMS = 10_000


class EncoderHeadRecommender(SequentialRecommender):
    """RecBole's interface (`calculate_loss`, `full_sort_predict`, `predict`) over an `Encoder` and an `OutputHead`.

    A batch whose targets are one item a sequence is a batch of prefixes, RecBole's own kind; where the targets are
    [B, L] it holds windows, and every position with a target (those of `TARGET_PLACE`) is scored: for causal encoders.

    A training step asks its device for no value, so that a GPU's host need not wait; RecBole's models as encoders may.

    The padding item takes part in the softmax, as in RecBole's models, and so has a (small) probability.

    Args:
        config: RecBole's, with `tie_weights`, `loss_impl`, `negative_sampling` and what belongs to it beside the
            settings of the encoder and of the head.
        dataset: RecBole's or a `data.SequenceDataset`, of training.

    Attributes:
        encoder_spec, head_spec: what the model is made of.
        causal: whether a state knows nothing of later items, so that windows can be trained on as a whole.
    """

    input_type = InputType.POINTWISE
    encoder_spec: ClassVar[EncoderSpec]
    head_spec: ClassVar[HeadSpec]
    causal: ClassVar[bool]

    def __init__(self, config: Any, dataset: Any) -> None:
        _require_no_recbole_negatives(type(self).__name__, config)
        super().__init__(config, dataset)
        self.encoder = self._make_encoder(config, dataset)
        self.head = self._make_head(config)
        if isinstance(self.head, MixtureHead):
            self.head.loss_impl = _loss_impl(config)
        self.output_table: nn.Parameter | None = None
        if not config["tie_weights"]:
            self.output_table = nn.Parameter(torch.empty(self.n_items, self.encoder.width))
            nn.init.xavier_normal_(self.output_table)
        self.negative_sampler = _negative_sampler(config, dataset, self.n_items)
        replace_dropout(self)

    def _make_encoder(self, config: Any, dataset: Any) -> Encoder:
        """Returns the encoder. Another one than the built-in ones is checked."""
        spec = self.encoder_spec
        encoder = spec.build(config, dataset)
        if spec not in BUILT_IN_ENCODERS:
            if spec.recbole_model is not None:
                encoder.to(config["device"])  # where some layers of RecBole's models are from the beginning
            with torch.random.fork_rng(devices=[]):
                fault = encoder_fault(encoder.eval(), self.n_items, config["MAX_ITEM_LIST_LENGTH"])
            encoder.train()
            if fault is not None:
                raise InputError(f"{_origin(spec)}encoder {spec.name}: {fault}")
        return encoder

    def _make_head(self, config: Any) -> OutputHead:
        """Returns the head. Another one than the built-in ones is checked, on a copy."""
        spec, width = self.head_spec, self.encoder.width
        n_layers = self.encoder.n_layers if isinstance(self.encoder, LayeredEncoder) else 1
        try:
            head = spec.build(config, self.n_items, width, n_layers)
        except ValueError as error:
            keys = {setting.argument: setting.key for setting in spec.settings}
            text = re.sub(r"\w+", lambda word: keys.get(word[0], word[0]), str(error))
            raise InputError(f"{_origin(spec)}head {spec.label}: {text}") from error
        if spec not in BUILT_IN_HEADS:
            n_items, sampled = min(self.n_items, _CHECKED_ITEMS), config["negative_sampling"] != "none"
            with torch.random.fork_rng(devices=[]):
                copied = spec.build(config, n_items, width, n_layers).eval()
                fault = head_fault(copied, n_items, n_layers, sampled=sampled)
            if fault is not None:
                raise InputError(f"{_origin(spec)}head {spec.label}: {fault}")
        return head

    @classmethod
    def setting_specs(cls) -> tuple[Setting, ...]:
        """Returns the settings that are declared beside the model's code: shared ones, the encoder's, the head's.

        What RecBole's file has beside them (`encoder_spec.recbole_settings`) is in `defaults` alone.
        """
        return (*SHARED_SETTINGS, *cls.encoder_spec.settings, *cls.head_spec.settings)

    @classmethod
    def defaults(cls) -> list[Path | Mapping[str, Any]]:
        """Returns where the default settings are, later ones over earlier ones: YAML files or the settings."""
        recbole = cls.encoder_spec.recbole_settings
        return [
            *([] if recbole is None else [recbole]),
            {"loss_type": "CE", "transform": None},
            {setting.key: setting.default for setting in cls.setting_specs()},
            RECIPE,
            cls.encoder_spec.training_defaults,
        ]

    @classmethod
    def unread_settings(cls) -> tuple[str, ...]:
        """Returns the keys of `defaults` that are no settings of this model."""
        return ("loss_type", *cls.encoder_spec.unread)

    @classmethod
    def sources(cls) -> dict[str, str]:
        """Returns the SHA-256 of the plugins' files that the model is made of, by the names of encoder and head.

        Where both have one name, and files of their own, the head's is "head NAME".
        """
        encoder, head = cls.encoder_spec, cls.head_spec
        found = {spec.name: spec.origin[1] for spec in (encoder, head) if spec.origin is not None}
        if encoder.origin and head.origin and encoder.name == head.name and encoder.origin != head.origin:
            found = {encoder.name: encoder.origin[1], f"head {head.name}": head.origin[1]}
        return found

    @classmethod
    def setting_faults(cls, values: Mapping[str, Any]) -> list[str]:
        """Returns what is wrong with values that are each right, one sentence each."""
        name, width = cls.encoder_spec.name, cls.encoder_spec.width
        if width not in values:
            return [
                f"encoder {name} has no setting {width!r}; expected its EncoderSpec's width to name one that it has"
            ]
        faults = []
        if values[width] % values.get("n_heads", 1):
            faults.append(f"{width} {values[width]} is no multiple of n_heads {values['n_heads']}")
        head = cls.head_spec
        if values["loss_impl"] != "auto" and not issubclass(head.head_class, MixtureHead):
            faults.append(
                f"loss_impl is {values['loss_impl']!r}; expected 'auto': {head.label} is no mixture of dot products"
            )
        return faults

    @property
    def item_table(self) -> torch.Tensor:
        """The output item table, [V, d]."""
        if self.output_table is None:
            return self.encoder.item_embedding.weight[: self.n_items]
        return self.output_table

    def forward(self, interaction: Any) -> torch.Tensor:
        """Returns the states at the last items of sequences: [B, d], of all layers where the head reads them."""
        item_seq, length = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        if isinstance(self.encoder, CausalEncoder):
            return self._states(item_seq)[torch.arange(length.shape[0], device=length.device), length - 1]
        return self.encoder(item_seq, length, interaction[self.USER_ID])

    def _states(self, item_seq_BL: torch.Tensor) -> torch.Tensor:
        """Returns the states at all positions, [B, L, d] or [B, L, n_layers, d]."""
        if not self.head.reads_layers:
            return self.encoder(item_seq_BL)
        assert isinstance(self.encoder, LayeredEncoder)
        return self.encoder.layers(item_seq_BL)

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Returns the mean negative log-probability of the batch's targets, in nats; an estimate of it, which is too
        low on average, where negatives are sampled."""
        target = interaction[self.POS_ITEM_ID]
        if target.ndim == 1:
            state_Nd = self(interaction)
        else:
            place_N = interaction[TARGET_PLACE]
            state_Nd = self._states(interaction[self.ITEM_SEQ]).flatten(0, 1).index_select(0, place_N)
            target = target.flatten().index_select(0, place_N)
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
        return self.log_prob(self(interaction))

    def predict(self, interaction: Any) -> torch.Tensor:
        """Returns the log-probabilities [B] of one given item a sequence."""
        return self.full_sort_predict(interaction).gather(1, interaction[self.ITEM_ID][:, None]).squeeze(1)


def _origin(spec: EncoderSpec | HeadSpec) -> str:
    return "" if spec.origin is None else f"{spec.origin[0]}: "


def _loss_impl(config: Any) -> MixtureImplementation:
    """Returns the implementation that `loss_impl` names.

    Raises:
        InputError: it cannot run here.
    """
    impl: MixtureImplementation = config["loss_impl"]
    try:
        if impl == "triton":
            need_triton(config["device"])
        elif impl == "chunked_bf16":
            need_bf16_units()
    except ValueError as error:
        raise InputError(f"loss_impl is {impl!r}: {error}") from error
    return impl


def _require_no_recbole_negatives(name: str, config: Any) -> None:
    """Raises InputError where RecBole's loader would mix negatives among the targets: this project's own has none."""
    negatives = config["train_neg_sample_args"]
    if config["loss_type"] != "CE" or (negatives or {}).get("distribution", "none") != "none":
        raise InputError(
            f"loss_type is {config['loss_type']!r} and train_neg_sample_args {negatives}; expected 'CE' and None: "
            f"{name} learns by cross-entropy, over sampled items where negative_sampling is uniform, popularity or "
            "in_batch"
        )


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
    """Returns how often each item is a target of training, int64 [V]; RecBole's own data set holds a row a target."""
    if isinstance(dataset, SequentialDataset):
        return torch.bincount(dataset.inter_feat[dataset.iid_field], minlength=dataset.item_num)
    return torch.from_numpy(dataset.train_target_counts(dataset.trained_split))
