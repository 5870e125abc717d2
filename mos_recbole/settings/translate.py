"""Keys of RecBole, today's and older ones, that are other settings here: one table."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mos_recbole.settings.eval_args import mode_faults, split_of_eval_args
from mos_recbole.settings.sources import Findings, Given


@dataclass(frozen=True)
class Translation:
    """Keys that together are one other setting.

    Attributes:
        keys: that are taken away.
        target: the setting that takes their place.
        function: takes the values of those of `keys` that are given; returns the target's value.
    """

    keys: tuple[str, ...]
    target: str
    function: Callable[[dict[str, Any]], Any]


def _negatives(values: dict[str, Any]) -> Any:
    value = values["neg_sampling"]
    return None if is_none(value) else sampled(value) if isinstance(value, Mapping) else value


def sampled(value: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Returns `{uniform: 5}` of RecBole 1.0 in the words of today's `train_neg_sample_args`; others as they are."""
    found = [key for key in ("uniform", "popularity") if key in value]
    if len(found) != 1:
        return value
    others = {key: inner for key, inner in value.items() if key != found[0]}
    return {"distribution": found[0], "sample_num": value[found[0]], **others}


def _number_of_negatives(values: dict[str, Any]) -> Any:
    number = values.get("training_neg_sample_num", 1)
    distribution = values.get("training_neg_sample_distribution", "uniform")
    return None if is_none(number) or number == 0 else {"distribution": distribution, "sample_num": number}


def _interval(values: dict[str, Any]) -> str | None:
    """Returns the interval from the smallest to the largest of two numbers, each of which may be missing."""
    low, high = (next((values[key] for key in values if key.startswith(side)), None) for side in ("min", "max"))
    if is_none(low) and is_none(high):
        return None
    return f"[{0 if is_none(low) else low},{'inf)' if is_none(high) else f'{high}]'}"


def _value_intervals(values: dict[str, Any]) -> Any:
    """Returns the intervals by column; a lowest and a highest value of one column make one."""
    bounds = {key: {} if is_none(numbers) else dict(numbers) for key, numbers in values.items()}
    low, high = bounds.pop("lowest_val", {}), bounds.pop("highest_val", {})
    found = {
        str(name): f"{f'[{low[name]}' if name in low else '(-inf'},{f'{high[name]}]' if name in high else 'inf)'}"
        for name in [*low, *high]
    }
    for form, numbers in (("[{0},{0}]", "equal_val"), ("(-inf,{0});({0},inf)", "not_equal_val")):
        for name, number in bounds.get(numbers, {}).items():
            if name in found:
                raise ValueError(f"{name!r} has two conditions; write val_interval: {{{name}: '[1,5]'}}")
            found[str(name)] = form.format(number)
    return found or None


def _evaluation(values: dict[str, Any]) -> dict[str, Any]:
    setting = re.fullmatch(r"(RO|TO)[_, ]*(RS|LS)?(?:[, ]+(\w+))?", str(values.get("eval_setting", "TO_LS")).strip())
    if setting is None:
        raise ValueError(
            f"eval_setting is {values['eval_setting']!r}; expected an order and a split, such as TO_LS,full"
        )
    order, split, mode = setting.groups()
    if "split_ratio" in values and "eval_setting" not in values:
        split = "RS"
    leave_one = {1: "test_only", 2: "valid_and_test"}.get(values.get("leave_one_num", 2), values.get("leave_one_num"))
    how = {"RS": values.get("split_ratio", [0.8, 0.1, 0.1])} if split == "RS" else {"LS": leave_one}
    return {
        "split": how,
        "order": order,
        "group_by": "user" if values.get("group_by_user", True) else "none",
        "mode": mode or "full",
    }


def _seen(values: dict[str, Any]) -> bool | str:
    repeatable = values["repeatable"]
    if is_none(repeatable):
        return "auto"
    if not isinstance(repeatable, bool):
        raise ValueError(f"found {repeatable!r}; expected True or False")
    return not repeatable


TRANSLATIONS = (
    Translation(("neg_sampling",), "train_neg_sample_args", _negatives),
    Translation(
        ("training_neg_sample_num", "training_neg_sample_distribution"), "train_neg_sample_args", _number_of_negatives
    ),
    Translation(("min_user_inter_num", "max_user_inter_num"), "user_inter_num_interval", _interval),
    Translation(("min_item_inter_num", "max_item_inter_num"), "item_inter_num_interval", _interval),
    Translation(("lowest_val", "highest_val", "equal_val", "not_equal_val"), "val_interval", _value_intervals),
    Translation(("eval_setting", "split_ratio", "leave_one_num", "group_by_user"), "eval_args", _evaluation),
    Translation(
        ("repeatable",),
        "filter_seen",
        _seen,
    ),
)

# Keys of RecBole that do nothing here, and what does the same; {} stands for the value.
_GPU, _PROCESSES = "write --device cuda:{}", "write --processes N"
_FOLDER, _LOG = "write --output FOLDER", "training_log.csv has the epochs of every run"
_INSTEAD = {
    **dict.fromkeys(("gpu_id", "device"), _GPU),
    "use_gpu": "write --device cpu or --device cuda:0",
    "state": "write --quiet to see warnings only",
    **dict.fromkeys(("nproc", "world_size", "ip", "port", "offset", "group_offset", "local_rank"), _PROCESSES),
    **dict.fromkeys(("checkpoint_dir", "save_dir", "log_dir", "tensorboard_dir"), _FOLDER),
    **dict.fromkeys(("save_dataset", "dataset_save_path"), "prepared data are kept in a cache"),
    **dict.fromkeys(("save_dataloaders", "dataloaders_save_path"), "prepared data are kept in a cache"),
    **dict.fromkeys(("log_wandb", "wandb_project", "log_tensorboard"), _LOG),
    "show_progress": "write --quiet to see no progress",
    "config_file": "write --config FILE",
    "config_files": "write --config FILE",
    "valid_metric_bigger": "the direction follows from valid_metric",
    "threshold": 'labels are not read; keep interactions by val_interval: {{rating: "[4,inf)"}}',
    **dict.fromkeys(("worker", "num_workers"), "the process itself makes the batches"),
    **dict.fromkeys(("loss_decimal_place", "metric_decimal_place", "single_spec", "enable_scaler", "save_step"), ""),
    **dict.fromkeys(("real_time_process", "drop_filter_field", "drop_preload_weight", "eval_neg_sample_args"), ""),
}
WITHOUT_EFFECT = frozenset(_INSTEAD)


def translated_keys() -> set[str]:
    """Returns the keys that are other settings here, or none."""
    return {"eval_args", *WITHOUT_EFFECT, *(key for one in TRANSLATIONS for key in one.keys)}


def take_translated(given: dict[str, Given], found: Findings) -> None:
    """Puts in place of keys of RecBole the settings that they are here, and takes away those without effect.

    What is set by its own name wins over a translation.
    """
    for one in TRANSLATIONS:
        items = {key: given.pop(key) for key in one.keys if key in given}
        if items:
            _translate(one, items, given, found)
    _take_eval_args(given, found)
    for key in [key for key in given if key in WITHOUT_EFFECT or key.startswith("wandb_")]:
        item = given.pop(key)
        if (key == "threshold" and is_none(item.value)) or (key == "valid_metric_bigger" and item.value is True):
            continue
        instead = _INSTEAD.get(key, _LOG)
        if instead == _GPU:
            number = re.search(r"\d+", str(item.value))
            instead = "write --device cpu" if item.value == "cpu" else _GPU.format(number[0] if number else 0)
        found.warnings.append(f"{item.origin}: {key} has no effect here" + (f"; {instead.format()}" if instead else ""))


def _translate(one: Translation, items: dict[str, Given], given: dict[str, Given], found: Findings) -> None:
    origin = next(iter(items.values())).origin
    try:
        value = one.function({key: item.value for key, item in items.items()})
    except (ValueError, TypeError, AttributeError) as error:
        reason = f"{error}" if type(error) is ValueError else "not a value of RecBole's"
        found.faults.append(f"{origin}: {' and '.join(items)}: {reason}; write {one.target}")
        return
    keys = ", ".join(f"{key}: {item.value!r}" for key, item in items.items())
    if one.target in given:
        if given[one.target].value != value:
            found.warnings.append(f"{origin}: {keys} is not read, since {one.target} is set")
        return
    given[one.target] = Given(value, origin)
    found.warnings.append(f"{origin}: {keys} is taken as {one.target}: {value!r}")


def _take_eval_args(given: dict[str, Given], found: Findings) -> None:
    files = given.get("benchmark_filename")
    if files is not None and not is_none(files.value):
        given.setdefault("split", Given("files", files.origin))
    item = given.pop("eval_args", None)
    if item is None:
        return
    faults: list[str] = []
    warnings: list[str] = []
    settings = split_of_eval_args(item.value, faults, warnings)
    if item.value is not None and "split" in given and settings.get("split") != given["split"].value:
        by = "benchmark_filename" if given["split"].origin == (files and files.origin) else "split"
        shares = {"ratio": "valid_ratio and test_ratio", "temporal": "valid_share and test_share"}
        told = [f"; the shares are {names}" for split, names in shares.items() if given["split"].value == split]
        warning = f"its split and order are not read, since {by} is set{''.join(told)}"
        faults, warnings, settings = mode_faults(item.value), [warning], {}
    found.faults += [f"{item.origin}: eval_args: {fault}" for fault in faults]
    found.warnings += [f"{item.origin}: eval_args: {warning}" for warning in warnings]
    for key, value in settings.items():
        given.setdefault(key, Given(value, item.origin))


def is_none(value: Any) -> bool:
    """Returns whether a value is None, or as RecBole's users write it in YAML, the text None."""
    return value is None or value == "None"
