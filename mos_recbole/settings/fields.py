"""Types, ranges and defaults of settings that belong to no head, encoder or split."""

import codecs
import re
from typing import Annotated, Any, Literal, NotRequired

import pydantic
from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from mos_recbole.data import SPLITS
from mos_recbole.specs import Count, NonNegative, Positive, Probability, Rate, Setting, Text

# RecBole's intervals, such as "[5,inf)" or "(0,1];[3,4)".
_NUMBER = r"\s*[-+]?(?:inf|\d+\.?\d*(?:[eE][-+]?\d+)?)\s*"
_INTERVAL = rf"\s*[\[(]{_NUMBER},{_NUMBER}[\])]\s*"


def _as_intervals(text: str) -> str:
    if not re.fullmatch(f"{_INTERVAL}(?:;{_INTERVAL})*", text):
        raise ValueError("expected intervals, such as [5,inf) or (0,1];[3,4)")
    return text


Intervals = Annotated[str, AfterValidator(_as_intervals)]


def _known_encoding(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ValueError("expected the name of a text encoding, such as utf-8 or latin-1") from None


class ClipGradNorm(TypedDict):
    """Arguments of `torch.nn.utils.clip_grad_norm_`."""

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")  # type: ignore[misc]
    max_norm: Rate
    norm_type: NotRequired[Rate]


# Ours, of every model.
OWN = (
    Setting(
        "split",
        Literal[tuple(SPLITS)],
        next(iter(SPLITS)),
        "which interactions are targets: " + "; ".join(f"`{spec.name}`, {spec.help}" for spec in SPLITS.values()),
    ),
    *(setting for spec in SPLITS.values() for setting in spec.settings),
    Setting(
        "tie_order",
        Literal["file", "random", "reverse"],
        "file",
        "order of a user's interactions that have equal times: that of the `file`, its `reverse`, or `random`",
    ),
    Setting("encoding", Annotated[str, AfterValidator(_known_encoding)], "utf-8", "text encoding of the atomic files"),
    Setting(
        "train_mode",
        Literal["prefix", "all_positions"],
        "all_positions",
        "`all_positions`: whole windows, every position a target; `prefix`: RecBole's, one sample per target. "
        "RecBole's own classes, and encoders with one state a sequence, train on prefixes",
    ),
    Setting("filter_seen", bool, False, "whether items of a query's history are left out of its candidates"),
    Setting(
        "tie_rule",
        Literal["mean", "optimistic", "pessimistic"],
        "mean",
        "rank of a target among candidates with an equal score: in the middle (`mean`), first (`optimistic`), or last "
        "(`pessimistic`)",
    ),
)

# RecBole's, with other defaults than RecBole's.
OTHER_DEFAULTS = (
    Setting("train_batch_size", Positive, 2048, "targets per step, in both training modes"),
    Setting("eval_step", Positive, 1, "epochs between two validations"),
    Setting("stopping_step", Count, 10, "validations without a better value before training ends"),
    Setting("metrics", Annotated[list[Text], Field(min_length=1)] | Text, ["Recall", "NDCG", "MRR"], "ranking metrics"),
    Setting("topk", Annotated[list[Positive], Field(min_length=1)] | Positive, [10, 100], "cut-offs of the metrics"),
    Setting("valid_metric", str, "NDCG@10", "metric for early stopping and selection, on validation only"),
    Setting("eval_batch_size", Positive, 4096, "queries encoded at a time"),
)

# RecBole's, with RecBole's defaults. A key of a model that is not here has the type of its default.
RECBOLE_TYPES: dict[str, Any] = {
    # data
    "data_path": Text,
    "field_separator": Annotated[str, Field(min_length=1, max_length=1)],
    "seq_separator": Text,
    "USER_ID_FIELD": Text,
    "ITEM_ID_FIELD": Text,
    "TIME_FIELD": Text,
    "MAX_ITEM_LIST_LENGTH": Positive,
    "load_col": dict[str, list[str] | Literal["*"]] | None,
    "unload_col": dict[str, list[str]] | None,
    "rm_dup_inter": Literal["first", "last"] | None,
    "val_interval": dict[str, Intervals | list[str]] | None,
    "user_inter_num_interval": Intervals | None,
    "item_inter_num_interval": Intervals | None,
    "filter_inter_by_user_or_item": bool,
    # training and evaluation
    "seed": Annotated[int, Field(ge=0, lt=2**32)],
    "reproducibility": bool,
    "epochs": Positive,
    "learner": Literal["adam", "adamw", "adagrad", "sgd", "rmsprop"],
    "learning_rate": Rate,
    "weight_decay": NonNegative,
    "clip_grad_norm": ClipGradNorm | None,
    "enable_amp": bool,
    "train_neg_sample_args": dict[str, Any] | None,
    "shuffle": bool,
    "tail_ratio": NonNegative,
    # models
    "embedding_size": Positive,
    "hidden_size": Positive,
    "inner_size": Positive,
    "num_layers": Positive,
    "n_layers": Positive,
    "n_heads": Positive,
    "dropout_prob": Probability,
    "hidden_dropout_prob": Probability,
    "attn_dropout_prob": Probability,
    "hidden_act": Literal["gelu", "relu", "swish", "tanh", "sigmoid"],
    "layer_norm_eps": Rate,
    "initializer_range": Rate,
    "loss_type": Literal["CE", "BPR"],
    "reg_weight": Any,
    "reranker_CAN_NUM": Positive | Text,
    "mask_ratio": Annotated[float, Field(gt=0, le=1)],
    "ft_ratio": Annotated[float, Field(ge=0, le=1)],
    "pretrain_epochs": Count,
    "n_enc_epochs": Count,
    "n_dec_epochs": Positive,
    "m_step": Positive,
    "warm_up_step": Count,
    "num_clusters": Positive,
    "metrics_k": Positive,
}

_TYPES = RECBOLE_TYPES | {setting.key: setting.type for setting in (*OWN, *OTHER_DEFAULTS)}
_TYPES |= {
    "tie_weights": bool,
    "item_bias": bool,
    "loss_impl": Literal["auto", "chunked", "reference", "triton"],
    "mos_heads": Positive,
    "mos_activation": Literal["tanh", "identity"],
    "mos_dropout": Probability,
    "cosine_temperature": Rate,
    "cosine_learned": bool,
    "doc_heads": Annotated[list[Count], Field(min_length=1)],
    "doc_balance": NonNegative,
    "mixtape_heads": Literal[2, 4, 8, 16],
    "mixtape_gate_size": Positive,
    "mol_query_vectors": Positive,
    "mol_item_vectors": Positive,
    "mol_vector_size": Positive,
    "mol_temperature": Rate,
    "mol_gate_size": Positive,
    "mol_pair_gate_size": Positive,
    "mol_gate_dropout": Probability,
    "dnd_dropout": Probability,
    "negative_sampling": Literal["none", "uniform", "popularity", "in_batch"],
    "n_negatives": Positive,
    "sampling_alpha": NonNegative,
}


def setting_types() -> dict[str, Any]:
    """Returns the types of settings by key."""
    return _TYPES


def own_settings() -> tuple[Setting, ...]:
    """Returns every setting that this project has beside RecBole's."""
    return OWN
