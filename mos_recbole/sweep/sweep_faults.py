"""Reading a sweep file: all its faults at once, each with its line and what to do."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from mos_recbole.errors import InputError, nearest
from mos_recbole.settings import Findings, key_lines, known_settings, meant, read_given, settings_of_any_model
from mos_recbole.sweep.plan import Planner
from mos_recbole.sweep.space import KINDS, Parameter
from mos_recbole.sweep.sweep_file import ELSEWHERE, TOLERANT, Resources, Search, Stopping, SweepFile, place_in

_PARTS: dict[str, type[pydantic.BaseModel]] = {
    "search": Search,
    "stopping": Stopping,
    "resources": Resources,
    "space": Parameter,
}
_EXAMPLES = {"models": "[GRU4RecSoftmax, GRU4RecMoS]", "space": "{learning_rate: {grid: [0.001, 0.01]}}"}
_Lines = Mapping[tuple[str, ...], int]


def plan_sweep(path: Path, changes: Mapping[str, Any] | None = None, overrides: Sequence[str] = ()) -> Planner:
    """Returns the planner of a sweep file.

    Args:
        path: of the file.
        changes: as of `read_sweep_file`.
        overrides: settings as "key=value".

    Raises:
        InputError: all faults of the file and its settings, in the order of their lines; those that show only with
            the data are `Planner.trials`'s.
    """
    content, lines, faults = _read(path, changes)
    sweep, own = _validated(content, path, lines)
    faults += own
    if sweep is not None:
        try:
            planner = Planner(sweep, path, overrides)
            if not faults:
                return planner
            faults += planner.setting_faults()
        except InputError as error:
            faults += str(error).splitlines()
    raise InputError("\n".join(_in_order(faults, path)))


def read_sweep_file(path: Path, changes: Mapping[str, Any] | None = None) -> SweepFile:
    """Returns the checked content of a sweep file.

    Args:
        path: of the file.
        changes: values that override the file's; those of a part, such as resources, override single values of it.

    Raises:
        InputError: all its faults, one per line; `plan_sweep` also finds those of its models and settings.
    """
    content, lines, faults = _read(path, changes)
    sweep, own = _validated(content, path, lines)
    if faults + own or sweep is None:
        raise InputError("\n".join(_in_order(faults + own, path)))
    return sweep


def checked_sweep(content: Mapping[str, Any], path: Path) -> SweepFile:
    """Returns the checked content of a sweep file.

    Args:
        content: by the keys of a sweep file.
        path: of the file that it comes from.

    Raises:
        InputError: all its faults, one per line.
    """
    sweep, faults = _validated(content, path, {})
    if faults or sweep is None:
        raise InputError("\n".join(faults))
    return sweep


def _read(path: Path, changes: Mapping[str, Any] | None) -> tuple[dict[str, Any], _Lines, list[str]]:
    """Returns the content with the changes, the lines of what is the file's, and the keys that occur twice.

    Raises:
        InputError: the file cannot be read.
    """
    found = Findings()
    given = read_given([path], (), found)
    if found.faults:
        raise InputError("\n".join(found.faults))
    content: dict[str, Any] = {"name": path.stem} | {key: item.value for key, item in given.items()}
    lines = key_lines(path)
    for key, value in (changes or {}).items():
        replaced = [(key, inner) for inner in value] if isinstance(value, Mapping) else [(key,)]
        kept = {place: line for place, line in lines.items() if not any(place[: len(one)] == one for one in replaced)}
        lines = kept | dict.fromkeys(replaced, 0)
        if not isinstance(value, Mapping):
            content[key] = value
        elif isinstance(content.setdefault(key, {}), dict):  # else the validation reports the file's value
            content[key] = {**content[key], **value}
    for key in ("config", "plugins"):
        if isinstance(content.get(key), str):
            content[key] = [content[key]]
    return content, lines, [warning.replace("the last one counts", "leave one out") for warning in found.warnings]


def _validated(content: Mapping[str, Any], path: Path, lines: _Lines) -> tuple[SweepFile | None, list[str]]:
    """Returns a sweep of all parts that are right, if there can be one, and a sentence for each fault."""
    try:
        return SweepFile.model_validate(content).read_from(lines), []
    except pydantic.ValidationError as error:
        problems = error.errors()
    faults = [fault for problem in problems for fault in _sentences(problem, content, path, lines)]
    right = {key: dict(value) if isinstance(value, dict) else value for key, value in content.items()}
    left_out = [key for problem in problems if (key := _leave_out(right, problem["loc"], content))]
    try:
        sweep = SweepFile.model_validate(right, context=TOLERANT).read_from(lines, left_out)
    except pydantic.ValidationError:  # without models or a space there is no sweep
        return None, faults
    # What contradicts a part may follow from what was left out of it.
    if not {str(problem["loc"][0]) for problem in problems if problem["loc"]} & {"search", "stopping", "resources"}:
        faults += [f"{sweep.place(path, *_keys_of(fault))}: {fault}" for fault in sweep.contradictions()]
    return sweep, list(dict.fromkeys(faults))


def _leave_out(right: dict[str, Any], loc: tuple[int | str, ...], content: Mapping[str, Any]) -> str | None:
    """Leaves what is at a place out of a sweep's content; returns the parameter of the space that is left out."""
    if not loc:
        return None
    top, *inner = (str(part) for part in loc)
    if not inner or not isinstance(right.get(top), dict):
        right.pop(top, None)
        return None
    given = content[top].get(inner[0])
    if top == "space" and isinstance(given, list) and given:
        right[top][inner[0]] = {_kind_of_lists(content): given}  # as was meant
        return None
    right[top].pop(inner[0], None)
    return inner[0] if top == "space" else None


def _sentences(problem: Any, content: Mapping[str, Any], path: Path, lines: _Lines) -> list[str]:
    """Returns what a problem is and what to do: a sentence, or several where keys contradict each other."""
    keys = tuple(str(part) for part in problem["loc"])
    if not keys:
        faults = problem["msg"].removeprefix("Value error, ").splitlines()
        return [f"{place_in(path, lines, _keys_of(fault))}: {fault}" for fault in faults]
    return [f"{place_in(path, lines, keys)}: {_sentence(problem, keys, content)}"]


def _keys_of(fault: str) -> tuple[str, ...]:
    """Returns the key that a sentence begins with."""
    return tuple(re.split(r"[: ]", fault, maxsplit=1)[0].split("."))


def _sentence(problem: Any, keys: tuple[str, ...], content: Mapping[str, Any]) -> str:
    where, kind, value = ".".join(keys), problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return f"unknown key {where!r}; {_instead(keys, value)}"
    if kind == "missing":
        return f"{where} is missing; write {where}: {_EXAMPLES[where]}"
    if kind == "value_error":
        message = problem["msg"].removeprefix("Value error, ")
        return f"{where}: {message[0].lower()}{message[1:]}"
    if kind in ("too_short", "too_long") and problem["ctx"].get("min_length", 2) == 2:
        return f"{where} is {value!r}; expected two values, the lower one first"
    if kind == "too_short":
        example = f", such as {where}: {_EXAMPLES[where]}" if where in _EXAMPLES else ""
        return f"{where} is empty; write at least one value{example}"
    if kind == "list_type" and isinstance(value, str | int | float):
        return f"{where} is {value!r}; write a list, [{value}]"
    if kind == "model_type" and keys[0] == "space" and not isinstance(value, dict):
        values = value if isinstance(value, list) else [value]
        return f"{where} is {value!r}; write {{{_kind_of_lists(content)}: {json.dumps(values, default=str)}}}"
    if kind in ("model_type", "dict_type"):
        return f"{where} is {value!r}; expected keys with their values"
    if kind == "string_pattern_mismatch":
        return f"{where} is {value!r}; expected letters, digits, dots, dashes and underscores"
    return f"{where} is {value!r}; " + re.sub("^[A-Z][a-z]+ should (be )?", "expected ", problem["msg"])


def _kind_of_lists(content: Mapping[str, Any]) -> str:
    """Returns what a list of values is in the search of a sweep's content."""
    search = content.get("search")
    return "choice" if isinstance(search, dict) and search.get("method") in ("random", "optuna") else "grid"


def _instead(keys: tuple[str, ...], value: Any) -> str:
    """Returns what was probably meant by a key that is none of a sweep file's."""
    key, *_ = keys[::-1]
    if len(keys) > 1:
        fields: Iterable[str] = _PARTS[keys[0]].model_fields
    else:
        fields = SweepFile.model_fields
        if key in ELSEWHERE:
            return f"did you mean {ELSEWHERE[key]}?"
        settings = settings_of_any_model() | known_settings("GRU4RecMoS", "ml-100k")
        if (setting := key if key in settings else meant(key, settings)) is not None:
            swept = isinstance(value, list) or (isinstance(value, dict) and not value.keys().isdisjoint(KINDS))
            return f"write {setting} into {'space' if swept else 'settings'}"
    return nearest(key, fields) or f"expected one of {', '.join(sorted(fields))}"


def _in_order(faults: Iterable[str], path: Path) -> list[str]:
    """Returns the faults by their lines, those without one last, each once."""

    def line(fault: str) -> float:
        found = re.match(rf"{re.escape(str(path))}, line (\d+)", fault)
        return int(found[1]) if found else float("inf")

    return sorted(dict.fromkeys(faults), key=line)
