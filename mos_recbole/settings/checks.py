"""What is wrong with given settings: each value by its type, then all of them together."""

import inspect
import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pydantic
import recbole
from recbole.utils import InputType, ModelType
from typing_extensions import is_typeddict

from mos_recbole.data import SPLITS
from mos_recbole.evaluation import canonical_metric, expand_metrics, needs_top_items
from mos_recbole.models import HEADS, EncoderHeadRecommender, EncoderSpec, HeadSpec
from mos_recbole.settings.fields import RECBOLE_TYPES, own_settings
from mos_recbole.settings.hints import hint, meant, misspelt
from mos_recbole.settings.recbole_config import settings_in
from mos_recbole.settings.sources import Findings, Given
from mos_recbole.settings.translate import is_none, translated_keys

# RecBole's keys whose other values would change what a result means: one value is accepted, and why.
_FIXED = {
    "train_stage": "one run trains all stages, one after the other; pretrain_epochs sets how long the first",
    "transform": "a model comes with the transform of its batches",
}
_TRANSFORMS = ("mask_itemseq", "inverse_itemseq", "crop_itemseq", "reorder_itemseq", "user_defined")
# RecBole's keys that our models pass over.
WITHOUT_PLACE = frozenset({"loss_type", "train_neg_sample_args", "transform"})
# Options of `run` and `sweep`.
_OPTIONS = {
    *("model", "head", "match_parameters", "plugin", "dataset", "seeds", "config", "output", "resume", "device"),
    *("processes", "energy", "dry_run", "strict", "quiet", "help", "address", "cpus_per_trial", "gpus_per_trial"),
    *("dashboard", "from_recbole", "fuse", "max_concurrent", "mlflow", "wandb", "name", "retry_failed", "samples"),
    "storage",
}
NO_SETTINGS = WITHOUT_PLACE | _OPTIONS | _FIXED.keys()
"""What no plugin may call a setting, since it would not get its value."""
_MOST = 2**31 - 1  # what tensors can be indexed by
_FINITE = Annotated[float, pydantic.Field(ge=-3e38, le=3e38)]
WIDTHS = ("embedding_size", "hidden_size")


def take_fixed(
    given: dict[str, Given],
    values: Mapping[str, Any],
    is_own: bool,
    model: str,
    for_others: Collection[str],
    found: Findings,
) -> None:
    """Takes out of `given` the keys that hold one value for the model, and what its loss has no place for.

    What models beside it read (`for_others`) is no fault of its own.
    """
    for key in [key for key in _FIXED if key in given and (key in values or key == "transform")]:
        item = given.pop(key)
        if key == "transform" and is_own and item.value in _TRANSFORMS:
            found.warnings.append(f"{item.origin}: transform has no effect here; {model} makes its own batches")
        elif not is_none(item.value) and item.value != values.get(key):
            found.faults.append(f"{item.origin}: {key} is {item.value!r}, which is not supported: {_FIXED[key]}")
    if not is_own:
        return
    if "loss_type" in given and (item := given.pop("loss_type")).value != "CE":
        how = f"{model} learns by cross-entropy, over sampled items where negative_sampling is uniform, popularity or "
        if "loss_type" in for_others:
            found.warnings.append(f"{item.origin}: loss_type {item.value} is for other models; {how}in_batch")
        else:
            found.faults.append(f"{item.origin}: loss_type is {item.value!r}; expected CE: {how}in_batch")
    if (item := given.pop("train_neg_sample_args", Given(None, ""))).value not in (None, "None"):
        found.warnings.append(
            f"{item.origin}: train_neg_sample_args has no effect for {model}; negatives are set by negative_sampling"
        )


def take_width(given: dict[str, Given], values: Mapping[str, Any], model: str, found: Findings) -> None:
    """Renames a width by the name that other models have for it; where both are given, the model's own counts."""
    for other, own in (WIDTHS, WIDTHS[::-1]):
        if other in given and other not in values and own in values:
            item = given.pop(other)
            taken = f"is not read, since {own} is set" if own in given else f"is taken as {own}"
            if given.setdefault(own, item).value != item.value or given[own] is item:
                found.warnings.append(f"{item.origin}: {other} {taken}, the width of {model}")


@cache
def settings_of_any_model() -> frozenset[str]:
    """Returns the keys of the settings that some model has, RecBole's or ours."""
    files = (Path(recbole.__file__).parent / "properties" / "model").glob("*.yaml")
    of_recbole = re.findall(r"^([\w-]+):", "\n".join(file.read_text("utf-8") for file in files), re.MULTILINE)
    return frozenset([*of_recbole, *RECBOLE_TYPES, *(setting.key for setting in own_settings())])


def take_unknown(
    given: dict[str, Given], values: Mapping[str, Any], model: str, strict: bool, found: Findings
) -> dict[str, Any]:
    """Takes out of `given` what is no setting of the model; returns those keys of files that nobody knows.

    Files may be for other models and other programs too: their keys are warned of. Misspelt keys are faults, as are
    arguments that the model does not read; if `strict`, all are.
    """
    unknown: dict[str, Any] = {}
    of_others: dict[str, list[str]] = {}
    of_any_model = settings_of_any_model()
    for key in [key for key in given if key not in values]:
        item = given.pop(key)
        if item.in_file and not strict and key in of_any_model:
            place, _, line = item.origin.partition(", line ")
            of_others.setdefault(place, []).append(f"{key} (line {line})")
            continue
        by_letters = misspelt(key, {*values, *translated_keys()})
        by_meaning = meant(key, values)
        if key in of_any_model:
            reason = f"{model} has no such setting" + (f"; did you mean {by_meaning}?" if by_meaning else "")
        else:
            reason = f"did you mean {by_letters}?" if by_letters and not by_meaning else hint(key, values)
        if strict or not item.in_file or (by_letters and not by_meaning):
            found.faults.append(f"{item.origin}: unknown key {key!r}; {reason}")
            continue
        simple = item.value is None or isinstance(item.value, str | int | float)
        unknown[key] = item.value if simple else str(item.value)
        asked = f"; {reason}" if by_meaning else ""
        found.warnings.append(f"{item.origin}: unknown key {key!r}, kept in the record only{asked}")
    for place, keys in of_others.items():
        found.warnings.append(f"{place}: {', '.join(keys)}: settings of other models, without effect on {model}")
    return unknown


def checked(key: str, kind: Any, item: Given, default: Any, found: Findings) -> Any:
    """Returns the given value if it is of the type; else the default, with a fault. None is the default of names and
    of what is on or off.

    Args:
        key: of the setting.
        kind: its type; None for that of its default.
        item: the given value.
        default: of the setting.
        found: what is wrong so far.
    """
    kind = _type_of_default(default) if kind is None else kind
    value = item.value
    if is_none(value) and item.text and item.text.isspace() and _is_text(kind):
        value = item.text  # a separator
    elif is_none(value) and _takes_none(kind):
        value = None
    elif is_none(value) and (_is_text(kind) or kind is bool):
        found.warnings.append(f"{item.origin}: {key} is None; the default, {default!r}, is used")
        return default
    # "[5,inf)" is no YAML, and "[5,10]" would be a list: text settings take the argument as it was typed.
    if item.text is not None and value is not None and _is_text(kind):
        value = item.text
    try:
        return pydantic.TypeAdapter(kind).validate_python(value, strict=True)
    except pydantic.ValidationError as error:
        problem = max(error.errors(), key=lambda one: one["type"] == "extra_forbidden")
        message = re.sub(r"^(Input|List|String) should (be |have )?", "expected ", problem["msg"])
        message = message.removeprefix("Value error, ")
        message = re.sub(r" after validation, not \d+$", "", message)
        # What a 32-bit float cannot hold.
        message = re.sub(r"(less|greater) than or equal to -?30{38}$", "a finite number, of at most 3e38", message)
        inside = [str(part) for part in problem["loc"] if str(part) in _keys_in(value)]
        if problem["type"] == "dict_type" and (keys := _inner_keys(kind)):
            message = f"expected a mapping, whose keys may be {', '.join(sorted(keys))}"
        if problem["type"] == "extra_forbidden" and inside:
            *around, unknown = inside
            fault = f"{'.'.join([key, *around])} has the unknown key {unknown!r}; {hint(unknown, _inner_keys(kind))}"
        else:
            fault = f"{'.'.join([key, *inside])} is {value!r}; {message}"
        found.faults.append(f"{item.origin}: {fault}")
        return default
    except RecursionError:
        found.faults.append(f"{item.origin}: {key} contains itself; expected a value")
        return default


def declaration_faults(model_class: type[EncoderHeadRecommender], common: Collection[str]) -> list[str]:
    """Returns what is wrong with the settings that a plugin's encoder or head declares, one sentence each.

    A key has one meaning and one default: a head whose `dropout_prob` were another one than the encoder's would change
    the encoder.

    Args:
        model_class: made of both.
        common: keys of settings that all models have.
    """
    encoder, head = model_class.encoder_spec, model_class.head_spec
    theirs = encoder.recbole_settings
    of_recbole = set() if theirs is None else settings_in(str(theirs)).keys()
    pairs: tuple[tuple[EncoderSpec | HeadSpec, EncoderSpec | HeadSpec], ...] = ((encoder, head), (head, encoder))
    found = Findings()
    for spec, other in pairs:
        if spec.origin is None:
            continue
        name, rivals = f"{spec.origin[0]}: {spec.name}", {setting.key: setting for setting in other.settings}
        types = {setting.key: setting.type for one in HEADS.values() if one is not spec for setting in one.settings}
        for setting in spec.settings:
            key, rival = setting.key, rivals.get(setting.key)
            differs = rival is not None and (rival.type, rival.default) != (setting.type, setting.default)
            where = None
            if key in NO_SETTINGS or key.startswith("wandb_"):
                where = "which means something else on the command line or in RecBole's files"
            elif key in common:
                where = "which all models have"
            elif differs or (spec is head and rival is None and key in of_recbole):
                where = f"which {other.name} has with another meaning or default"
            elif types.get(key, setting.type) != setting.type:
                where = "which other heads have with another type"
            if where is not None:
                found.faults.append(f"{name} declares {key}, {where}; expected another key: {spec.name.lower()}_{key}")
            else:
                checked(key, setting.type, Given(setting.default, f"{name}, default"), setting.default, found)
    return found.faults


def _takes_none(kind: Any) -> bool:
    """Returns whether None is of a type."""
    if get_origin(kind) is Annotated:
        return _takes_none(get_args(kind)[0])
    return kind is Any or type(None) in get_args(kind)


def _inner_keys(kind: Any) -> set[str]:
    """Returns the keys of the mappings with fixed keys in a type."""
    own = set(kind.__annotations__) if is_typeddict(kind) else set()
    return own.union(*map(_inner_keys, get_args(kind)))


def _is_text(kind: Any) -> bool:
    """Returns whether a type is text, restricted or not, or text or nothing."""
    if get_origin(kind) is Annotated:
        return _is_text(get_args(kind)[0])
    return kind is str or (type(None) in get_args(kind) and _is_text(get_args(kind)[0]))


def _keys_in(value: Any) -> set[str]:
    return {str(key) for key in value} if isinstance(value, Mapping) else set()


def _type_of_default(default: Any) -> Any:
    """Returns the type of a setting by its default, with bounds: what is positive there is no number below zero."""
    match default:
        case None:
            return str | int | float | None
        case bool():
            return bool
        case int():
            return Annotated[int, pydantic.Field(ge=0 if default > 0 else -_MOST, le=_MOST)]
        case float():
            return _FINITE
        case []:
            return list[Annotated[int, pydantic.Field(ge=1, le=_MOST)]]
        case [_, *_] if all(type(one) is int for one in default):
            number = Annotated[int, pydantic.Field(ge=1 if min(default) > 0 else -_MOST, le=_MOST)]
            return Annotated[list[number], pydantic.Field(min_length=1)]
        case [_, *_] if all(type(one) is float for one in default):  # each has its own place in the model
            return Annotated[list[_FINITE], pydantic.Field(min_length=len(default), max_length=len(default))]
    return type(default)


def check_names(model_class: type, values: dict[str, Any], given: Mapping[str, Given], found: Findings) -> None:
    """Finds metrics, files and columns that there are not, which no type shows. Settles the spelling of metrics."""
    _check_metrics(model_class, values, given, found)
    found.faults += _column_faults(values, given)


def check_together(model_class: type, values: dict[str, Any], given: Mapping[str, Given], found: Findings) -> None:
    """Finds the values, right by themselves, that do not go together."""
    faults = found.faults
    if values["split"] == "files" and values["benchmark_filename"] is None:
        expected = "write benchmark_filename: [train, valid, test] for x.train.inter, x.valid.inter and x.test.inter"
        faults.append(f"{_origin('split', given)}: split is 'files', but no files are named; {expected}")
    if values["split"] == "ratio" and values["valid_ratio"] + values["test_ratio"] > 1:
        both = f"valid_ratio {values['valid_ratio']:g} and test_ratio {values['test_ratio']:g}"
        where = "valid_ratio" if "valid_ratio" in given else "test_ratio"
        faults.append(f"{_origin(where, given)}: {both} are more than all targets; expected a sum of at most 1")
    if values["final_fit"] != "none" and not SPLITS[values["split"]].validates(values):
        what = f"final_fit is {values['final_fit']!r}, but the split {values['split']!r} has no validation"
        faults.append(f"{_origin('final_fit', given)}: {what}; leave final_fit out")
    is_own = issubclass(model_class, EncoderHeadRecommender)
    if values["train_mode"] == "all_positions" and not getattr(model_class, "causal", False):
        reason = "has one state a sequence" if is_own else "is RecBole's own"
        faults.append(
            f"{_origin('train_mode', given)}: train_mode is 'all_positions'; "
            f"{model_class.__name__} {reason} and trains on prefixes"
        )
    if values.get("negative_sampling") == "in_batch" and values["train_batch_size"] == 1:
        where = "train_batch_size" if "train_batch_size" in given else "negative_sampling"
        faults.append(
            f"{_origin(where, given)}: train_batch_size is 1; negatives from the batch need 2 targets or more"
        )
    if issubclass(model_class, EncoderHeadRecommender):
        faults += model_class.setting_faults(values)
    else:
        faults += _loss_faults(model_class, values, given)


def _loss_faults(model_class: type, values: Mapping[str, Any], given: Mapping[str, Given]) -> list[str]:
    """Returns a sentence where the loss of a model of RecBole and its negatives do not go together."""
    name, negatives, loss = model_class.__name__, values["train_neg_sample_args"], values.get("loss_type")
    place = _origin("train_neg_sample_args" if "train_neg_sample_args" in given else "loss_type", given)
    one = "train_neg_sample_args: {distribution: uniform, sample_num: 1}"
    kind = getattr(model_class, "input_type", None)
    if negatives is not None:
        if getattr(model_class, "type", None) == ModelType.SEQUENTIAL and (
            negatives.get("dynamic") or negatives.get("sample_num", 1) > 1
        ):
            return [f"{place}: train_neg_sample_args is {negatives}; {name} takes one negative per target, not dynamic"]
        if loss in ("CE", "NLL") and kind is None:
            return [
                f"{place}: loss_type {loss} and train_neg_sample_args {negatives} do not go together: {name} learns by "
                f"{loss} without negatives; write train_neg_sample_args: None, or loss_type: BPR"
            ]
    elif loss == "BPR":
        return [
            f"{place}: loss_type BPR and train_neg_sample_args None do not go together: {name} learns by BPR from "
            f"negatives; write {one}, or loss_type: CE"
        ]
    # RecBole's autoencoders are named pairwise, and learn from whole users without negatives.
    elif loss is None and (_reads_labels(model_class) or (kind == InputType.PAIRWISE and not _of_users(model_class))):
        return [f"{place}: train_neg_sample_args is None, and {name} learns from negatives; write {one}"]
    return []


def _of_users(model_class: type) -> bool:
    return any(base.__name__ == "AutoEncoderMixin" for base in model_class.__mro__)


def _reads_labels(model_class: type) -> bool:
    """Returns whether a model learns from labels 0 and 1, which negatives bring."""
    return model_class.__module__.startswith("recbole.") and "LABEL_FIELD" in inspect.getsource(model_class)


# Of RecBole's atomic files.
_SUFFIXES = ("inter", "user", "item", "net", "kg", "link")


def _column_faults(values: Mapping[str, Any], given: Mapping[str, Given]) -> list[str]:
    """Returns the misspelt files and columns of `load_col` and its like."""
    added = values.get("additional_feat_suffix") or []
    suffixes = {*_SUFFIXES, *([added] if isinstance(added, str) else added)}
    faults = [
        f"{_origin(key, given)}: {key} has the unknown file {suffix!r}; {hint(str(suffix), suffixes)}"
        for key in ("load_col", "unload_col", "unused_col")
        for suffix in (given[key].value if key in given and isinstance(given[key].value, dict) else ())
        if suffix not in suffixes
    ]
    load_col, unload_col = values["load_col"] or {}, values["unload_col"] or {}
    faults += [
        f"{_origin('unload_col', given)}: unload_col and load_col both name columns of {suffix!r}; expected one of them"
        for suffix in load_col.keys() & unload_col.keys()
        if unload_col[suffix] and load_col[suffix] not in ("*", None, [])
    ]
    columns = load_col.get("inter")
    if "load_col" not in given or not isinstance(columns, list):
        return faults
    fields = {values[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")} - {None}
    for column in columns:
        near = misspelt(str(column), fields - set(columns))
        if near is not None and column not in fields:
            faults.append(f"{given['load_col'].origin}: load_col.inter has {column!r}; did you mean {near}?")
    return faults


_OF_LABELS = ("auc", "logloss", "rmse", "mae")


def _check_metrics(model_class: type, values: dict[str, Any], given: Mapping[str, Given], found: Findings) -> None:
    metrics = [values["metrics"]] if isinstance(values["metrics"], str) else values["metrics"]
    values["valid_metric"] = re.sub(r"(?i)^hr(?=@|$)", "Hit", values["valid_metric"])
    if any(metric.lower() == "hr" for metric in metrics):
        values["metrics"] = ["Hit" if metric.lower() == "hr" else metric for metric in metrics]
    if labels := [metric for metric in metrics if metric.lower() in _OF_LABELS]:
        found.faults.append(
            f"{_origin('metrics', given)}: metrics has {', '.join(labels)}, which rates labels; expected "
            "metrics of rankings, such as [Recall, NDCG], and such a valid_metric"
        )
        return
    try:
        expand_metrics(values["metrics"], values["topk"])
    except ValueError as error:
        found.faults.append(f"{_origin('metrics', given)}: {error}")
    try:
        chosen = values["valid_metric"] = canonical_metric(values["valid_metric"])
    except ValueError as error:
        found.faults.append(f"{_origin('valid_metric', given)}: {error}")
        return
    if "loss" in [name.lower() for name in (chosen, *metrics)] and not issubclass(model_class, EncoderHeadRecommender):
        where = _origin("valid_metric" if chosen == "Loss" else "metrics", given)
        found.faults.append(
            f"{where}: Loss is of log-probabilities, and {model_class.__name__} is RecBole's own class, whose scores "
            "need not be such; expected NDCG@10 or another metric of ranks"
        )
    if needs_top_items(chosen):
        where = _origin("valid_metric", given)
        found.faults.append(f"{where}: valid_metric is {chosen!r}; expected a metric of the target's rank")


def _origin(key: str, given: Mapping[str, Given]) -> str:
    return given[key].origin if key in given else f"default {key}"


def without_effect(values: Mapping[str, Any], given: Mapping[str, Given]) -> list[str]:
    """Returns a warning for each given setting that the split or the sampling in force does not read."""
    reasons = {}
    proposal = values.get("negative_sampling")
    for key, proposals in (("n_negatives", ("uniform", "popularity")), ("sampling_alpha", ("popularity",))):
        if key in values and proposal not in proposals:
            reasons[key] = f"negative_sampling is {proposal!r}"
    if proposal not in (None, "none") and values.get("loss_impl") != "triton":  # by which models are ranked, too
        reasons["loss_impl"] = f"negative_sampling is {proposal!r}"
    chosen = SPLITS[values["split"]]
    if chosen.name == "files":
        filters = ("rm_dup_inter", "val_interval", "user_inter_num_interval", "item_inter_num_interval")
        reasons |= dict.fromkeys(filters, "split is 'files', which are taken as they are")
    if not chosen.validates(values):
        reason = f"split {chosen.name!r} has no validation: the last epoch is the model"
        reasons |= dict.fromkeys(("valid_metric", "eval_step", "stopping_step", "chosen_epoch"), reason)
    for spec in SPLITS.values():
        for setting in spec.settings:
            if setting.key not in chosen.read(values):
                key = setting.key
                reasons[key] = f"{chosen.replaced_by[key]} is set" if spec is chosen else f"split is {chosen.name!r}"
    return [
        f"{given[key].origin}: {key} has no effect where {reason}"
        for key, reason in reasons.items()
        if key in given and given[key].value is not None
    ]
