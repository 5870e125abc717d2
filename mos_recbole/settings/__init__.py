"""The one typed door for settings: RecBole's YAML files and `key=value`, checked as a whole before anything runs."""

import codecs
import copy
import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Protocol, TypeGuard, get_args, get_origin

import pydantic
import torch
import yaml
from pydantic import AfterValidator, Field
from recbole.config import Config
from recbole.data.transform import construct_transform
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import ModelType
from typing_extensions import TypedDict

from mos_recbole import compat
from mos_recbole.errors import InputError
from mos_recbole.evaluation import canonical_metric, expand_metrics, needs_top_items

_PROPERTIES = Path(__file__).parent.parent / "properties"

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]
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


# Types and ranges of settings by key. A key of a model that is not here has the type of its default.
FIELD_TYPES: dict[str, Any] = {
    # data
    "data_path": Text,
    "encoding": Annotated[str, AfterValidator(_known_encoding)],
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
    "tie_order": Literal["file", "random", "reverse"],
    "split": Literal["leave_one_out", "temporal"],
    "split_time": Annotated[int | float, Field(allow_inf_nan=False)] | None,
    "test_share": Share,
    "valid_share": Share,
    "context_reach": Literal["side", "past"],
    "min_side_interactions": Positive,
    # training
    "seed": Annotated[int, Field(ge=0, lt=2**32)],
    "reproducibility": bool,
    "epochs": Positive,
    "train_mode": Literal["prefix", "all_positions"],
    "train_batch_size": Positive,
    "learner": Literal["adam", "adamw", "adagrad", "sgd", "rmsprop"],
    "learning_rate": Rate,
    "weight_decay": NonNegative,
    "clip_grad_norm": ClipGradNorm | None,
    "eval_step": Positive,
    "stopping_step": Count,
    "enable_amp": bool,
    "train_neg_sample_args": dict[str, Any] | None,
    "shuffle": bool,
    # evaluation
    "filter_seen": bool,
    "tie_rule": Literal["mean", "optimistic", "pessimistic"],
    "metrics": Annotated[list[Text], Field(min_length=1)] | Text,
    "topk": Annotated[list[Positive], Field(min_length=1)] | Positive,
    "valid_metric": str,
    "tail_ratio": NonNegative,
    "eval_batch_size": Positive,
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

# The settings that each split takes, by its name.
SPLIT_SETTINGS: dict[str, tuple[str, ...]] = {
    "leave_one_out": (),
    "temporal": ("split_time", "test_share", "valid_share", "context_reach", "min_side_interactions"),
}

# RecBole's keys whose other values would change what a result means: one value is accepted, and why.
_FIXED = {
    "eval_args": "all models are compared on one split and one full ranking; set split, filter_seen and tie_rule",
    "repeatable": "whether seen items compete is set by filter_seen, for all models alike",
    "benchmark_filename": "data sets that come already split are not supported",
    "transform": "a model comes with the transform of its batches",
    "train_stage": "one run trains all stages, one after the other; pretrain_epochs sets how long the first",
    "valid_metric_bigger": "the direction follows from valid_metric",
}

# RecBole's keys that do nothing here; setting them is harmless and said to be without effect.
WITHOUT_EFFECT = frozenset(
    [
        *("gpu_id", "use_gpu", "worker", "state", "config_file", "single_spec"),
        *("checkpoint_dir", "save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path"),
        *("show_progress", "log_wandb", "wandb_project", "loss_decimal_place", "metric_decimal_place"),
        *("enable_scaler", "save_step"),
    ]
)

# Settings that cannot change a run's numbers, and so are no part of its identity.
NOT_IDENTITY = WITHOUT_EFFECT | {"data_path", "eval_batch_size"}


class YamlLoader(yaml.SafeLoader):
    """YAML without tags that run code, with 1e-3 as a number (YAML 1.1 would make it text), and with keys only once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} occurs twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _is_own(model_class: Any) -> TypeGuard[type["_OwnModel"]]:
    """Returns whether a model is an encoder with a head, which says itself what its settings are."""
    return hasattr(model_class, "setting_faults")


class _OwnModel(Protocol):
    """See `models.EncoderHeadRecommender`."""

    @classmethod
    def defaults(cls) -> list[Path | Mapping[str, Any]]: ...

    @classmethod
    def unread_settings(cls) -> tuple[str, ...]: ...

    @classmethod
    def sources(cls) -> dict[str, str]: ...

    @classmethod
    def setting_faults(cls, values: Mapping[str, Any]) -> list[str]: ...


# Where RecBole looks for data sets unless told otherwise.
_RECBOLE_DATA_PATH = "dataset/"


class RecBoleConfig(Config):
    """RecBole's `Config` out of a model class, a data set and values that are already checked.

    Leaves out of RecBole's constructor the reading of `sys.argv`, the `eval` of strings, and the setting of
    `CUDA_VISIBLE_DEVICES`; adds this project's own defaults.
    """

    def __init__(self, model_class: type, dataset: str, values: Mapping[str, Any], device: torch.device) -> None:
        compat.apply()
        self._init_parameters_category()
        self.yaml_loader = YamlLoader
        self.model, self.model_class, self.dataset = model_class.__name__, model_class, dataset
        self.external_config_dict = dict(values)
        self._load_internal_config_dict(self.model, model_class, dataset)
        self.final_config_dict = self._get_final_config_dict()
        self._set_default_parameters()
        if values["data_path"] != _RECBOLE_DATA_PATH:
            # RecBole takes ml-100k from its own files, whatever the data_path.
            self.final_config_dict["data_path"] = str(Path(values["data_path"]) / dataset)
        self.final_config_dict |= {
            "device": device,
            "single_spec": True,
            "local_rank": 0,
            "model_class": model_class,
        }
        self._set_train_neg_sample_args()
        self._set_eval_neg_sample_args("valid")
        self._set_eval_neg_sample_args("test")
        # RecBole's transforms write into the configuration under which names models find what they make of a batch.
        construct_transform(self)

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        super()._load_internal_config_dict("", GeneralRecommender, dataset)
        columns = self.internal_config_dict["load_col"]["inter"]
        super()._load_internal_config_dict(model, model_class, dataset)
        recbole_defaults = _PROPERTIES / "recbole" / f"{model}.yaml"
        beside = model_class.defaults() if _is_own(model_class) else [recbole_defaults] * recbole_defaults.is_file()
        for source in (_PROPERTIES / "overall.yaml", *beside):
            if isinstance(source, Path):
                self._update_internal_config_dict(str(source))
            else:
                self.internal_config_dict.update(source)
        # Every model sees the same interactions; RecBole's general models would load no times, some more columns.
        needed = [self.internal_config_dict[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
        load_col = self.internal_config_dict["load_col"]
        load_col["inter"] = list(dict.fromkeys(needed + list(columns)))
        self.internal_config_dict |= {
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
            "repeatable": True,
        }

    @classmethod
    def defaults(cls, model_class: type, dataset: str) -> dict[str, Any]:
        """Returns the settings that hold where nothing is set."""
        return copy.deepcopy(cls._read_defaults(model_class, dataset))

    @classmethod
    @cache  # a sweep asks for the same ones hundreds of times
    def _read_defaults(cls, model_class: type, dataset: str) -> dict[str, Any]:
        bare = cls.__new__(cls)
        bare._init_parameters_category()
        bare.yaml_loader = YamlLoader
        bare._load_internal_config_dict(model_class.__name__, model_class, dataset)
        values = bare.internal_config_dict
        kind = values.pop("MODEL_TYPE")
        values |= {"clip_grad_norm": values.get("clip_grad_norm"), "tail_ratio": 0.1}
        if _is_own(model_class):
            values = {key: value for key, value in values.items() if key not in model_class.unread_settings()}
        # RecBole's sequential models with a cross-entropy refuse its own default of one negative per target, and its
        # traditional ones have no use for it (Pop would count the negatives).
        if values.get("loss_type") == "CE" or kind == ModelType.TRADITIONAL:
            values["train_neg_sample_args"] = None
        return values


@dataclass(frozen=True)
class Settings:
    """Checked settings of one run.

    Attributes:
        model_class: of the model.
        dataset: name of the data set.
        values: every setting by RecBole's key, defaults included.
        warnings: what the user should know, one sentence each.
    """

    model_class: type
    dataset: str
    values: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        return self.model_class.__name__

    @property
    def metric_names(self) -> list[str]:
        """Metric names with cut-offs, in the order of the settings: Recall@10, Recall@100, NDCG@10, ..."""
        return expand_metrics(self.values["metrics"], self.values["topk"])

    def identity(self) -> dict[str, Any]:
        """Returns what of the settings can change a run's numbers."""
        plugins = self.model_class.sources() if _is_own(self.model_class) else {}
        return {
            "model": self.model,
            "dataset": self.dataset,
            **({"plugins": plugins} if plugins else {}),
            **{key: value for key, value in sorted(self.values.items()) if key not in NOT_IDENTITY},
        }

    def recbole_config(self, device: torch.device) -> RecBoleConfig:
        """Returns RecBole's own configuration object for these settings."""
        return RecBoleConfig(self.model_class, self.dataset, self.values, device)


@dataclass(frozen=True)
class _Given:
    """A value that the user set: where, and as which text if it was text."""

    value: Any
    origin: str
    text: str | None = None


def build_settings(
    model_class: type,
    dataset: str,
    config_files: Iterable[str | Path | Mapping[str, Any]] = (),
    overrides: Mapping[str, Any] | Iterable[str] = (),
    for_others: Collection[str] = (),
) -> Settings:
    """Returns the checked settings of a run: defaults, then each file, then the overrides.

    Args:
        model_class: of the model.
        dataset: name of a data set, a folder `<data_path>/<name>` with `<name>.inter`; or the path of such a folder.
        config_files: RecBole YAML files, or mappings in their place; later ones over earlier ones.
        overrides: a mapping, or texts "key=value" whose values are YAML.
        for_others: keys that may be given for other models of the same comparison; they are passed over where this
            model has no such setting.

    Raises:
        InputError: all faults of the settings, one a line, each with its file and line or its argument.
    """
    compat.apply()
    faults: list[str] = []
    given = _read_given(config_files, overrides, faults)
    data_path: str | None = None
    if "/" in dataset:
        data_path, dataset = str(Path(dataset).parent), Path(dataset).name
    values = RecBoleConfig.defaults(model_class, dataset)
    if data_path is not None:
        values["data_path"] = data_path
    warnings = []
    for name, chosen in (("model", model_class.__name__), ("dataset", dataset)):
        named = given.pop(name, None)
        if named is not None and named.value != chosen:
            faults.append(f"{named.origin}: {name} is {named.value!r}, but the run is for {chosen!r}")
    for key, fixed in list(given.items()):
        if key in _FIXED:
            if not _agrees(key, fixed.value, values.get(key)):
                faults.append(f"{fixed.origin}: {fixed.value!r} is not supported: {_FIXED[key]}")
            del given[key]
        elif key in WITHOUT_EFFECT:
            warnings.append(f"{fixed.origin}: {key} has no effect here")
            del given[key]
    given = {key: item for key, item in given.items() if key in values or key not in for_others}
    faults += _unknown_keys(given, values, model_class.__name__)
    for key in given.keys() & values.keys():
        values[key] = _checked(key, given[key], values[key], faults)
    if values.get("loss_type") == "BPR" and "train_neg_sample_args" not in given:
        values["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": 1, "alpha": 1.0}
    if getattr(model_class, "type", None) == ModelType.TRADITIONAL:
        # Models that are only counted or solved for are done after one pass (RecBole's TraditionalTrainer).
        values["epochs"] = 1
    faults += _check_together(model_class, values, given)
    warnings += _without_effect_on_sampling(values, given) + _without_effect_on_the_split(values, given)
    if faults:
        raise InputError("\n".join(faults))
    return Settings(model_class, dataset, values, tuple(warnings))


def given_settings(
    config_files: Iterable[str | Path | Mapping[str, Any]] = (),
    overrides: Mapping[str, Any] | Iterable[str] = (),
) -> dict[str, Any]:
    """Returns what files and overrides set, by key, unchecked; see `build_settings`.

    Raises:
        InputError: a file or an argument that cannot be read.
    """
    faults: list[str] = []
    given = _read_given(config_files, overrides, faults)
    if faults:
        raise InputError("\n".join(faults))
    return {key: item.value for key, item in given.items()}


def _read_given(
    config_files: Iterable[str | Path | Mapping[str, Any]],
    overrides: Mapping[str, Any] | Iterable[str],
    faults: list[str],
) -> dict[str, _Given]:
    """Returns what is set and where; appends what cannot be read to `faults`."""
    given: dict[str, _Given] = {}
    for file in config_files:
        given |= _of_mapping(file) if isinstance(file, Mapping) else _read_yaml(Path(file), faults)
    if isinstance(overrides, Mapping):
        return given | _of_mapping(overrides)
    for argument in overrides:
        given |= _read_argument(argument, faults)
    return given


def _of_mapping(values: Mapping[str, Any]) -> dict[str, _Given]:
    return {key: _Given(value, key) for key, value in values.items()}


def _without_effect_on_sampling(values: Mapping[str, Any], given: Mapping[str, _Given]) -> list[str]:
    """Returns a sentence for each given setting of negative sampling that the proposal in force does not read."""
    used_by = {"n_negatives": ("uniform", "popularity"), "sampling_alpha": ("popularity",)}
    proposal = values.get("negative_sampling")
    return [
        f"{given[key].origin}: {key} has no effect where negative_sampling is {proposal!r}"
        for key, proposals in used_by.items()
        if key in given and key in values and proposal not in proposals
    ]


def split_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that decide about the split in force, by key: they are part of the protocol with it."""
    read = {key: values[key] for key in SPLIT_SETTINGS[values["split"]]}
    if read.get("split_time") is not None:
        del read["test_share"]
    return read


def _without_effect_on_the_split(values: Mapping[str, Any], given: Mapping[str, _Given]) -> list[str]:
    """Returns a sentence for each given setting that does not decide about the split in force."""
    own, read = SPLIT_SETTINGS[values["split"]], split_settings(values)
    unread = sorted({key for keys in SPLIT_SETTINGS.values() for key in keys if key in given and key not in read})
    reason = {key: "split_time is set" if key in own else f"split is {values['split']!r}" for key in unread}
    return [f"{given[key].origin}: {key} has no effect where {reason[key]}" for key in unread]


def _agrees(key: str, value: Any, fixed: Any) -> bool:
    """Returns whether a value of a fixed key is the one that is in force (for eval_args: says nothing else)."""
    if key == "eval_args" and isinstance(value, Mapping):
        modes = value.get("mode", "full")
        return (
            set(value) <= {"split", "order", "group_by", "mode"}
            and value.get("split", fixed["split"]) == fixed["split"]
            and value.get("order", "TO") == "TO"
            and value.get("group_by", "user") in ("user", None)
            and (set(modes.values()) if isinstance(modes, Mapping) else {modes}) == {"full"}
        )
    if key in ("repeatable", "valid_metric_bigger"):
        return value is True
    return value == fixed


def _unknown_keys(given: Mapping[str, _Given], values: Mapping[str, Any], model: str) -> list[str]:
    known = sorted(values)
    faults = []
    for key, item in given.items():
        if key in values:
            continue
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else "no known key is near"
        if key in FIELD_TYPES:
            hint = f"{model} has no such setting"
        faults.append(f"{item.origin}: unknown key {key!r}; {hint}")
    return faults


def _checked(key: str, item: _Given, default: Any, faults: list[str]) -> Any:
    """Returns the given value if it has the key's type and range; else the default, and adds to the faults."""
    kind = FIELD_TYPES.get(key, _type_of_default(default))
    value = item.value
    if value == "None" and (kind is Any or type(None) in get_args(kind)):  # as RecBole's users write it
        value = None
    # "[5,inf)" is no YAML, and "[5,10]" would be a list: text settings take the argument as it was typed.
    if item.text is not None and value is not None and _is_text(kind):
        value = item.text
    try:
        return pydantic.TypeAdapter(kind).validate_python(value, strict=True)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        message = re.sub(r"^(Input|List|String) should (be |have )?", "expected ", problem["msg"])
        message = message.removeprefix("Value error, ").removesuffix(" after validation, not 0")
        inside = [str(part) for part in problem["loc"] if str(part) in _keys_in(value)]
        faults.append(f"{item.origin}: {'.'.join([key, *inside])} is {value!r}; {message}")
        return default


def _is_text(kind: Any) -> bool:
    """Returns whether a type is text, restricted or not, or text or nothing."""
    if get_origin(kind) is Annotated:
        return _is_text(get_args(kind)[0])
    return kind is str or (type(None) in get_args(kind) and _is_text(get_args(kind)[0]))


def _keys_in(value: Any) -> set[str]:
    return {str(key) for key in value} if isinstance(value, Mapping) else set()


def _type_of_default(default: Any) -> Any:
    """Returns the type that a model's key has by its default value; anything goes where the default is none."""
    if default is None:
        return Any
    if isinstance(default, bool):
        return bool
    if isinstance(default, float):
        return float
    return type(default)


def _check_together(model_class: type, values: dict[str, Any], given: Mapping[str, _Given]) -> list[str]:
    """Returns the faults that no single value shows by its type. Settles the spelling of `valid_metric`."""

    def origin(key: str) -> str:
        return given[key].origin if key in given else f"default {key}"

    faults = []
    names: list[str] = []
    try:
        names = expand_metrics(values["metrics"], values["topk"])
    except ValueError as error:
        faults.append(f"{origin('metrics')}: {error}")
    try:
        values["valid_metric"] = canonical_metric(values["valid_metric"])
        if needs_top_items(values["valid_metric"]):
            faults.append(
                f"{origin('valid_metric')}: valid_metric is {values['valid_metric']!r}; "
                "expected a metric of the target's rank"
            )
        elif names and values["valid_metric"] not in names:
            where = next(key for key in ("valid_metric", "topk", "metrics") if key in given or key == "metrics")
            faults.append(
                f"{origin(where)}: valid_metric is {values['valid_metric']!r}; expected one of {', '.join(names)}"
            )
    except ValueError as error:
        faults.append(f"{origin('valid_metric')}: {error}")
    own = _is_own(model_class)
    if values["train_mode"] == "all_positions" and not getattr(model_class, "causal", False):
        reason = "has one state a sequence" if own else "is RecBole's own"
        faults.append(
            f"{origin('train_mode')}: train_mode is 'all_positions'; "
            f"{model_class.__name__} {reason} and trains on prefixes"
        )
    if own and values["train_neg_sample_args"] is not None:
        faults.append(
            f"{origin('train_neg_sample_args')}: train_neg_sample_args is {values['train_neg_sample_args']!r}; "
            f"expected None: {model_class.__name__} samples negatives by negative_sampling"
        )
    if values.get("negative_sampling") == "in_batch" and values["train_batch_size"] == 1:
        where = "train_batch_size" if "train_batch_size" in given else "negative_sampling"
        faults.append(f"{origin(where)}: train_batch_size is 1; negatives from the batch need 2 targets or more")
    return faults + (model_class.setting_faults(values) if _is_own(model_class) else [])


def _read_yaml(path: Path, faults: list[str]) -> dict[str, _Given]:
    """Returns the keys of a YAML file with their lines; appends what cannot be read to `faults`."""
    try:
        with path.open(encoding="utf-8") as file:
            loader = YamlLoader(file)
            try:
                node = loader.get_single_node()
                if node is None:
                    return {}
                if not isinstance(node, yaml.MappingNode):
                    faults.append(f"{path}, line {node.start_mark.line + 1}: expected key: value")
                    return {}
                found: dict[str, _Given] = {}
                for key_node, value_node in node.value:
                    key, line = str(loader.construct_object(key_node)), key_node.start_mark.line + 1
                    if key in found:
                        faults.append(f"{path}, line {line}: the key {key!r} occurs twice")
                    try:
                        value = loader.construct_object(value_node, deep=True)
                    except ValueError as error:  # a date of month 13, a number that is none
                        faults.append(f"{path}, line {line}: {key}: {error}")
                        continue
                    found[key] = _Given(value, f"{path}, line {line}")
                return found
            finally:
                loader.dispose()
    except OSError as error:
        faults.append(f"{path}: {error.strerror}; expected a YAML file of settings")
    except UnicodeDecodeError:
        faults.append(f"{path}: not UTF-8 text")
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        faults.append(f"{path}, line {line}: not YAML: {error.problem}")
    except yaml.YAMLError as error:
        faults.append(f"{path}: not YAML: {str(error).splitlines()[0]}")
    return {}


def _read_argument(argument: str, faults: list[str]) -> dict[str, _Given]:
    """Returns the key and value of "key=value"."""
    key, equals, text = argument.removeprefix("--").partition("=")
    if not equals or not key:
        faults.append(f"argument {argument!r}: expected --key=value")
        return {}
    try:
        value = yaml.load(text, Loader=YamlLoader)  # a SafeLoader
    except (yaml.YAMLError, ValueError):
        value = text
    return {key: _Given(value, f"--{key}", text)}
