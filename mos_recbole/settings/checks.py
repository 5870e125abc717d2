"""What is wrong with given settings: each value by its type, then all of them together."""

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_origin

import pydantic

from mos_recbole.data import SPLITS
from mos_recbole.evaluation import canonical_metric, expand_metrics, needs_top_items
from mos_recbole.models import EncoderHeadRecommender
from mos_recbole.settings.fields import RECBOLE_TYPES, own_settings
from mos_recbole.settings.sources import Given

# RecBole's keys whose other values would change what a result means: one value is accepted, and why.
_FIXED = {
    "eval_args": "all models are compared on one split and one full ranking; set split, filter_seen and tie_rule",
    "repeatable": "whether seen items compete is set by filter_seen, for all models alike",
    "benchmark_filename": "data sets that come already split are not supported",
    "transform": "a model comes with the transform of its batches",
    "train_stage": "one run trains all stages, one after the other; pretrain_epochs sets how long the first",
    "valid_metric_bigger": "the direction follows from valid_metric",
}

# RecBole's keys that do nothing here. Setting them is harmless; a warning says that they have no effect.
WITHOUT_EFFECT = frozenset(
    [
        *("gpu_id", "use_gpu", "worker", "state", "config_file", "single_spec"),
        *("checkpoint_dir", "save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path"),
        *("show_progress", "log_wandb", "wandb_project", "loss_decimal_place", "metric_decimal_place"),
        *("enable_scaler", "save_step"),
    ]
)


def take_fixed(given: dict[str, Given], values: Mapping[str, Any], faults: list[str]) -> list[str]:
    """Takes out of `given` the keys that hold one value here and those without effect.

    Returns a warning for each key without effect; appends other values of fixed keys to `faults`.
    """
    warnings = []
    for key, item in list(given.items()):
        if key in _FIXED:
            if not _agrees(key, item.value, values.get(key)):
                faults.append(f"{item.origin}: {item.value!r} is not supported: {_FIXED[key]}")
            del given[key]
        elif key in WITHOUT_EFFECT:
            warnings.append(f"{item.origin}: {key} has no effect here")
            del given[key]
    return warnings


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
    return bool(value == fixed)


def unknown_keys(given: Mapping[str, Given], values: Mapping[str, Any], model: str) -> list[str]:
    """Returns a fault for each given key that is not among the model's settings."""
    faults = []
    others = {*RECBOLE_TYPES, *(setting.key for setting in own_settings())}
    for key, item in given.items():
        if key in values:
            continue
        near = difflib.get_close_matches(key, sorted(values), n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else "no known key is near"
        if key in others:
            hint = f"{model} has no such setting"
        faults.append(f"{item.origin}: unknown key {key!r}; {hint}")
    return faults


def checked(key: str, kind: Any, item: Given, default: Any, faults: list[str]) -> Any:
    """Returns the given value if it is of the type; else the default, and appends to `faults`.

    Args:
        key: of the setting.
        kind: its type; None for that of its default.
        item: the given value.
        default: of the setting.
        faults: what is wrong so far.
    """
    kind = _type_of_default(default) if kind is None else kind
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
    return Any if default is None else type(default)


def check_together(model_class: type, values: dict[str, Any], given: Mapping[str, Given]) -> list[str]:
    """Returns the faults that no single value shows by its type. Settles the spelling of `valid_metric`."""
    faults = _metric_faults(values, given)
    is_own = issubclass(model_class, EncoderHeadRecommender)
    if values["train_mode"] == "all_positions" and not getattr(model_class, "causal", False):
        reason = "has one state a sequence" if is_own else "is RecBole's own"
        faults.append(
            f"{_origin('train_mode', given)}: train_mode is 'all_positions'; "
            f"{model_class.__name__} {reason} and trains on prefixes"
        )
    if is_own and values["train_neg_sample_args"] is not None:
        faults.append(
            f"{_origin('train_neg_sample_args', given)}: train_neg_sample_args is {values['train_neg_sample_args']!r}; "
            f"expected None: {model_class.__name__} samples negatives by negative_sampling"
        )
    if values.get("negative_sampling") == "in_batch" and values["train_batch_size"] == 1:
        where = "train_batch_size" if "train_batch_size" in given else "negative_sampling"
        faults.append(
            f"{_origin(where, given)}: train_batch_size is 1; negatives from the batch need 2 targets or more"
        )
    return faults + (model_class.setting_faults(values) if issubclass(model_class, EncoderHeadRecommender) else [])


def _metric_faults(values: dict[str, Any], given: Mapping[str, Given]) -> list[str]:
    faults = []
    names: list[str] = []
    try:
        names = expand_metrics(values["metrics"], values["topk"])
    except ValueError as error:
        faults.append(f"{_origin('metrics', given)}: {error}")
    try:
        chosen = values["valid_metric"] = canonical_metric(values["valid_metric"])
    except ValueError as error:
        return [*faults, f"{_origin('valid_metric', given)}: {error}"]
    if needs_top_items(chosen):
        where, expected = "valid_metric", "a metric of the target's rank"
    elif names and chosen not in names:
        where = next(key for key in ("valid_metric", "topk", "metrics") if key in given or key == "metrics")
        expected = f"one of {', '.join(names)}"
    else:
        return faults
    return [*faults, f"{_origin(where, given)}: valid_metric is {chosen!r}; expected {expected}"]


def _origin(key: str, given: Mapping[str, Given]) -> str:
    return given[key].origin if key in given else f"default {key}"


def without_effect(values: Mapping[str, Any], given: Mapping[str, Given]) -> list[str]:
    """Returns a warning for each given setting that the split or the sampling in force does not read."""
    reasons = {}
    proposal = values.get("negative_sampling")
    for key, proposals in (("n_negatives", ("uniform", "popularity")), ("sampling_alpha", ("popularity",))):
        if key in values and proposal not in proposals:
            reasons[key] = f"negative_sampling is {proposal!r}"
    chosen = SPLITS[values["split"]]
    for spec in SPLITS.values():
        for setting in spec.settings:
            if setting.key not in chosen.read(values):
                key = setting.key
                reasons[key] = f"{chosen.replaced_by[key]} is set" if spec is chosen else f"split is {chosen.name!r}"
    return [
        f"{given[key].origin}: {key} has no effect where {reason}" for key, reason in reasons.items() if key in given
    ]
