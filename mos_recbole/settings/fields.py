"""Types, ranges and defaults of settings that belong to no head, encoder or split."""

import codecs
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, TypeVar

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field
from typing_extensions import TypedDict

from mos_recbole.data import DATA_SETTINGS, SPLITS
from mos_recbole.models import ENCODERS, HEADS, SHARED_SETTINGS, EncoderHeadRecommender
from mos_recbole.settings.translate import is_none, sampled
from mos_recbole.specs import Count, Layers, NonNegative, Positive, Probability, Rate, Setting, Text

# RecBole's intervals, such as "[5,inf)" or "(0,1];[3,4)".
_NUMBER = r"\s*[-+]?(?:inf|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*"
_INTERVAL = rf"\s*[\[(]{_NUMBER},{_NUMBER}[\])]\s*"


def _as_intervals(text: str) -> str:
    text = re.sub("inf(inity)?", "inf", text, flags=re.IGNORECASE)
    if not re.fullmatch(f"{_INTERVAL}(?:;{_INTERVAL})*", text):
        raise ValueError("expected intervals, such as [5,inf) or (0,1];[3,4)")
    for interval in text.split(";"):
        lowest, highest = map(float, interval.strip()[1:-1].split(","))
        if lowest > highest:
            raise ValueError(f"expected the smaller number first in {interval.strip()}")
    return text


def _pair_as_interval(value: Any) -> Any:
    """Returns [5, .inf] as the text "[5,inf]", and a list of one text as that text."""
    if isinstance(value, list) and len(value) == 2 and all(type(number) in (int, float) for number in value):
        return "[{},{}]".format(*value)
    return value[0] if isinstance(value, list) and len(value) == 1 and "," in str(value[0]) else value


Intervals = Annotated[str, BeforeValidator(_pair_as_interval), AfterValidator(_as_intervals)]
_Item = TypeVar("_Item")
NonEmpty = Annotated[list[_Item], Field(min_length=1)]


def _of_interactions(value: Any) -> Any:
    """Returns a list of columns, as RecBole before 1.0 has it, by the file that they are of; nothing as no column."""
    if isinstance(value, Mapping):
        return {suffix: [] if is_none(names) else names for suffix, names in value.items()}
    return {"inter": value} if isinstance(value, list) else value


Columns = Annotated[dict[str, list[str] | Literal["*"]] | None, BeforeValidator(_of_interactions)]


def _known_encoding(name: str) -> str:
    try:
        ends = "\n\n".encode(name)  # some codecs are of no text, such as rot13
    except (LookupError, ValueError):
        raise ValueError("expected the name of a text encoding, such as utf-8 or latin-1") from None
    if not ends.endswith(b"\n\n"):
        raise ValueError("expected an encoding in which a line end is one byte, such as utf-8; convert the file")
    return codecs.lookup(name).name


_CLOSED = pydantic.ConfigDict(extra="forbid")


class ClipGradNorm(TypedDict):
    """Arguments of `torch.nn.utils.clip_grad_norm_`."""

    __pydantic_config__ = _CLOSED  # type: ignore[misc]
    max_norm: Rate
    norm_type: NotRequired[Rate]


class Discretization(TypedDict):
    """How RecBole makes classes of a column's numbers: of equal distance into `bucket` ones, or by logarithms."""

    __pydantic_config__ = _CLOSED  # type: ignore[misc]
    method: Literal["ED", "LD"]
    bucket: NotRequired[Positive]


class TrainNegatives(TypedDict):
    """RecBole's negatives in training; what is left out has RecBole's defaults."""

    __pydantic_config__ = _CLOSED  # type: ignore[misc]
    distribution: Literal["uniform", "popularity"]
    sample_num: NotRequired[Positive]
    alpha: NotRequired[NonNegative]
    dynamic: NotRequired[bool]
    candidate_num: NotRequired[Count]


def _negatives(value: Any) -> Any:
    """Returns `{uniform: 5}` in today's words, {distribution: uniform, sample_num: 5}; {distribution: none} as None."""
    if not isinstance(value, Mapping):
        return value
    value = sampled(value)
    if is_none(value.get("distribution", "uniform")) or value.get("distribution") == "none":
        return None
    return {"distribution": "uniform", **value}


def _drawn_of_candidates(value: TrainNegatives | None) -> TrainNegatives | None:
    if value is not None and value.get("dynamic") and not value.get("candidate_num"):
        raise ValueError("expected candidate_num, 1 or more, where dynamic is True")
    return value


# Ours, of every model. Those of heads and encoders are declared beside their classes.
_SPLIT_HELP = " ".join(f"{spec.name}: {spec.help}." for spec in SPLITS.values())
OWN = (
    Setting("split", Literal[tuple(SPLITS)], "leave_one_out", f"Which interactions are targets. {_SPLIT_HELP}"),
    *(setting for spec in SPLITS.values() for setting in spec.settings),
    *DATA_SETTINGS,
    Setting(
        "final_fit",
        Literal["none", "train+valid"],
        "none",
        "train+valid: after selection, train anew on training and validation for the chosen number of epochs.",
        recent=True,
    ),
    Setting(
        "tie_order",
        Literal["file", "random", "reverse"],
        "file",
        "Order of a user's interactions with equal times: that of the file, its reverse, or random.",
    ),
    Setting("encoding", Annotated[str, AfterValidator(_known_encoding)], "utf-8", "Text encoding of the atomic files."),
    Setting(
        "train_mode",
        Literal["prefix", "all_positions"],
        "all_positions",
        "all_positions: whole windows, every position a target; prefix: RecBole's, one sample per target. "
        "RecBole's own classes, and encoders with one state per sequence, train on prefixes.",
    ),
    Setting(
        "lr_schedule",
        Literal["constant", "linear", "cosine"],
        "constant",
        "Learning rate after the warm-up: constant, or falling to zero at the end of the last of `epochs`.",
        recent=True,
    ),
    Setting(
        "warmup",
        Probability,
        0.0,
        "Share of the training in which the learning rate rises from zero to learning_rate.",
        recent=True,
    ),
    Setting(
        "chosen_epoch",
        Literal["best", "last"],
        "best",
        "Epoch whose weights are the model: the best by valid_metric, or the last. last where the learning rate falls "
        "to zero and nothing is said about stopping.",
        recent=True,
    ),
    Setting(
        "filter_seen",
        bool | Literal["auto"],
        "auto",
        "Whether items of a query's history are left out of its candidates (a repeated target stays one); auto: where "
        "no user has an item twice.",
    ),
    Setting(
        "tie_rule",
        Literal["mean", "optimistic", "pessimistic"],
        "mean",
        "Rank of a target among candidates with equal scores: in their middle (mean), before (optimistic), or after "
        "them (pessimistic).",
    ),
    Setting(
        "kept_items",
        Positive | None,
        None,
        "Best items of each test query that the outcomes keep; None: as many as the largest cut-off, 10 at least.",
    ),
)

# RecBole's, with other defaults than RecBole's.
OTHER_DEFAULTS = (
    Setting("train_batch_size", Positive, 2048, "Targets per step, in both training modes."),
    Setting("eval_step", Positive, 1, "Epochs between two validations."),
    Setting("stopping_step", Count, 10, "Validations without a better value before training ends."),
    Setting("metrics", NonEmpty[Text] | Text, ["Recall", "NDCG", "MRR"], "Ranking metrics."),
    Setting("topk", NonEmpty[Positive] | Positive, [10, 100], "Cut-offs of the metrics."),
    Setting("valid_metric", str, "NDCG@10", "Metric for early stopping and selection, on validation only; Loss, too."),
    Setting("eval_batch_size", Positive, 4096, "Queries encoded at a time."),
)

_NAMES_BY_TYPE: list[tuple[Any, str]] = [
    (Positive, "MAX_ITEM_LIST_LENGTH epochs embedding_size hidden_size inner_size n_heads"),
    (Layers, "num_layers n_layers"),
    (Positive, "n_dec_epochs m_step num_clusters metrics_k"),
    (Count, "pretrain_epochs n_enc_epochs warm_up_step"),
    (Rate, "learning_rate layer_norm_eps initializer_range global_ratio resolution"),
    (NonNegative, "weight_decay tail_ratio spatial_ratio"),
    (Probability, "dropout_prob hidden_dropout_prob attn_dropout_prob"),
    (bool, "filter_inter_by_user_or_item reproducibility enable_amp shuffle"),
    (Text, "data_path seq_separator USER_ID_FIELD ITEM_ID_FIELD"),
    (Text | None, "TIME_FIELD"),
    (Intervals | None, "user_inter_num_interval item_inter_num_interval"),
]

# RecBole's, with RecBole's defaults. A key of a model that is not here has the type of its default.
RECBOLE_TYPES: dict[str, Any] = {name: kind for kind, names in _NAMES_BY_TYPE for name in names.split()} | {
    "field_separator": Annotated[str, Field(min_length=1, max_length=1)],
    **dict.fromkeys(("load_col", "unload_col", "unused_col"), Columns),
    **dict.fromkeys(
        [
            *("additional_feat_suffix", "normalize_field", "numerical_features", "selected_features"),
        ],
        Annotated[list[Text] | None, BeforeValidator(lambda name: [name] if isinstance(name, str) else name)],
    ),
    # RecBole joins lists of them.
    **dict.fromkeys(
        ("alias_of_user_id", "alias_of_item_id", "alias_of_entity_id", "alias_of_relation_id"),
        Annotated[list[Text] | None, BeforeValidator(lambda name: [name] if isinstance(name, str) else name)],
    ),
    "preload_weight": dict[str, Text] | None,
    "seq_len": dict[str, Positive] | None,
    "normalize_all": bool | None,
    "discretization": dict[str, Discretization] | None,
    "rm_dup_inter": Literal["first", "last"] | None,
    "val_interval": dict[str, Intervals | list[str]] | None,
    "seed": Annotated[int, Field(ge=0, lt=2**32)],
    "learner": Annotated[
        Literal["adam", "adamw", "adagrad", "sgd", "rmsprop"],
        BeforeValidator(lambda name: name.lower() if isinstance(name, str) else name),
    ],
    "clip_grad_norm": ClipGradNorm | None,
    "train_neg_sample_args": Annotated[
        TrainNegatives | None, BeforeValidator(_negatives), AfterValidator(_drawn_of_candidates)
    ],
    "hidden_act": Literal["gelu", "relu", "swish", "tanh", "sigmoid"],
    "loss_type": Literal["CE", "BPR"],
    "reranker_CAN_NUM": Positive | Text,
    "mask_ratio": Annotated[float, Field(gt=0, le=1)],
    "ft_ratio": Annotated[float, Field(ge=0, le=1)],
}


# Of models that have other losses than the rest.
_LOSSES: dict[str, Any] = {"SINE": Literal["CE", "BPR", "NLL"], "CDAE": Literal["BCE", "MSE"]}


def own_settings() -> tuple[Setting, ...]:
    """Returns every setting that is not RecBole's, those of all heads and encoders among them."""
    groups = [OWN, SHARED_SETTINGS, *(head.settings for head in HEADS.values())]
    groups += [encoder.settings for encoder in ENCODERS.values()]
    specs = [setting for group in groups for setting in group]
    return tuple({setting.key: setting for setting in specs if setting.key not in RECBOLE_TYPES}.values())


def setting_types(model_class: type) -> dict[str, Any]:
    """Returns the types of a model's settings by key, without those that have the type of their default."""
    declared = model_class.setting_specs() if issubclass(model_class, EncoderHeadRecommender) else ()
    types = RECBOLE_TYPES | {setting.key: setting.type for setting in (*OWN, *OTHER_DEFAULTS, *declared)}
    types["train_neg_sample_args"] = RECBOLE_TYPES["train_neg_sample_args"]
    return types | {"loss_type": _LOSSES.get(model_class.__name__, RECBOLE_TYPES["loss_type"])}
