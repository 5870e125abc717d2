"""RecBole's `eval_args` as settings: which split it is, and whether the ranking is this project's."""

from collections.abc import Mapping
from typing import Any

from mos_recbole.settings.hints import hint

_KEYS = ("split", "order", "group_by", "mode")
_LEAVE_ONE_OUT = ("valid_and_test", "test_only", "valid_only")
_ANOTHER = "or choose the split with --split=leave_one_out"


def split_of_eval_args(value: Any, faults: list[str], warnings: list[str]) -> dict[str, Any]:
    """Returns the settings that make the split of `eval_args`; parts that are left out are as they are by default.

    Appends what cannot be had, and what differs from RecBole.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        faults.append(
            f"eval_args is {value!r}; expected a mapping such as {{split: {{LS: valid_and_test}}, order: TO}}"
        )
        return {}
    faults += [f"eval_args has the unknown key {key!r}; {hint(str(key), _KEYS)}" for key in value.keys() - {*_KEYS}]
    faults += mode_faults(value)
    if value.get("order", "TO") != "TO":
        faults.append(
            f"order is {value['order']!r}; a sequence is ordered by time, since in random order models would be "
            f"trained on what comes after the test; write order: TO, {_ANOTHER}"
        )
        return {}
    group_by = str(value.get("group_by", "user")).lower()
    if group_by not in ("user", "none"):
        faults.append(f"group_by is {value['group_by']!r}; expected user or none")
        return {}
    if "order" not in value:
        warnings.append("order is not given and is taken as TO: a sequence is ordered by time")
    if "split" not in value:
        warnings.append("split is not given and is taken as {LS: valid_and_test}, where RecBole takes RS")
    split = value.get("split", {"LS": "valid_and_test"})
    if not isinstance(split, Mapping) or len(split) != 1:
        faults.append(f"split is {split!r}; expected one of {{LS: valid_and_test}} and {{RS: [0.8, 0.1, 0.1]}}")
        return {}
    ((name, how),) = split.items()
    if name == "LS":
        if how in _LEAVE_ONE_OUT:
            return {"split": "leave_one_out"} | ({"held_out": how} if how != _LEAVE_ONE_OUT[0] else {})
        faults.append(f"split is {{LS: {how!r}}}; expected one of {', '.join(_LEAVE_ONE_OUT)}")
    elif name == "RS":
        return _ratio(how, value, faults, warnings)
    else:
        expected = "write --split=temporal with --test_share" if name == "TS" else "expected LS or RS"
        faults.append(f"split is {name!r}, which is not supported; {expected}")
    return {}


def _ratio(ratios: Any, value: Mapping[str, Any], faults: list[str], warnings: list[str]) -> dict[str, Any]:
    """Returns the settings of the split {RS: ratios}."""
    numbers = isinstance(ratios, list) and all(type(ratio) in (int, float) and 0 <= ratio < 1e9 for ratio in ratios)
    by_user = str(value.get("group_by", "user")).lower() == "user"
    if not numbers or len(ratios) != 3 or not ratios[0] or not ratios[2] or not (ratios[1] or by_user):
        without = ", which may be 0 where group_by is user," if numbers else ""
        faults.append(
            f"split is {{RS: {ratios!r}}}; expected three shares above 0, of training, validation{without} and test, "
            f"such as [0.8, 0.1, 0.1], {_ANOTHER}"
        )
        return {}
    train, valid, test = (ratio / sum(ratios) for ratio in ratios)
    if by_user:
        return {"split": "ratio", "valid_ratio": valid, "test_ratio": test}
    warnings.append(
        "the shares are cut at moments in time (split: temporal): interactions of one time stay together, where "
        "RecBole counts rows, and targets are ranked among the items that training saw; histories reach into the whole "
        "past, as in RecBole (context_reach: past)"
    )
    shares = {"test_share": round(test, 12), "valid_share": round(valid / (train + valid), 12)}
    return {"split": "temporal", **shares, "context_reach": "past"}


def mode_faults(value: Any) -> list[str]:
    """Returns what stands against the `mode` of `eval_args`, which must be a full ranking."""
    mode = value.get("mode", "full") if isinstance(value, Mapping) else "full"
    for one in mode.values() if isinstance(mode, Mapping) else [mode]:
        if one != "full":
            why = "rates labels and ranks nothing" if one == "labeled" else "ranks a target among few sampled items"
            return [
                f"mode is {mode!r}, which {why}, so that its metrics cannot be compared; write mode: full, or "
                "'--eval_args={mode: full}'"
            ]
    return []
