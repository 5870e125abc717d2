"""Sweep files out of RecBole's tuning files (`hyper.test`): lines of a key, a kind of range, and the range."""

import ast
import logging
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from mos_recbole.errors import InputError, nearest
from mos_recbole.io import require_regular
from mos_recbole.models import load_plugin
from mos_recbole.settings import NOT_IDENTITY, accepted_settings, given_settings, hint, settings_of_any_model
from mos_recbole.sweep.sweep_faults import checked_sweep
from mos_recbole.sweep.sweep_file import ELSEWHERE, SweepFile

_log = logging.getLogger(__name__)

# RecBole's `max_evals`, where it does not try everything.
_SAMPLES = 100
# More values of a quniform are no list that anybody reads.
_LONGEST_LIST = 100

_FORMS = {
    "choice": "choice [a, b, c]",
    "uniform": "uniform LOW,HIGH",
    "quniform": "quniform LOW,HIGH,STEP",
    "loguniform": "loguniform LOW,HIGH, natural logarithms of the bounds",
}


@dataclass(frozen=True)
class _Range:
    """What a tuning file says of a key.

    Attributes:
        origin: the file and line.
        kind: choice, uniform, loguniform or randint, as in sweep files.
        values: as in sweep files.
        text: as the file has it, where the values are others.
    """

    origin: str
    kind: str
    values: list[Any]
    text: str = ""


def sweep_from_recbole(path: Path, changes: Mapping[str, Any], overrides: Sequence[str], folder: Path) -> str:
    """Returns a sweep file that searches what one of RecBole's tuning files does.

    Without a range in it, it tries every combination, as RecBole does. With one, it draws as many configurations as
    RecBole. A key with one value becomes a setting.

    Args:
        path: of the tuning file.
        changes: keys of the sweep file; paths of `config` and `plugins` are absolute. Without `models` and `datasets`,
            those that the files of `config` name.
        overrides: settings as "key=value".
        folder: of the sweep file, to which it names `config` and `plugins`.

    Raises:
        InputError: all faults, one a line, each with file and line or its argument.
    """
    ranges, faults = _read(path)
    for plugin in changes.get("plugins", []):
        load_plugin(Path(plugin))
    arguments = given_settings(overrides=overrides)
    given = {**given_settings([Path(file) for file in changes.get("config", [])]), **arguments}
    content: dict[str, Any] = {
        "models": [given["model"]] if given.get("model") else [],
        "datasets": [given.get("dataset") or "ml-100k"],
        "seeds": [given.get("seed", 2020)],
        "metric": given.get("valid_metric", "NDCG@10"),
        **changes,
    }
    if not content["models"]:
        raise InputError(f"{path} names no model; expected --model too")
    known = {
        key
        for model in content["models"]
        for dataset in content["datasets"]
        for key in accepted_settings(model, dataset, {*given, *ranges})
    }
    varied = [key for key in ranges if key in arguments]
    faults += [f"--{key}: {ranges[key].origin} varies {key}; expected one of the two" for key in varied]
    seeds = ranges.pop("seed", None)
    if seeds is not None and seeds.kind == "choice":
        content["seeds"] = changes.get("seeds", seeds.values)
    elif seeds is not None:
        faults.append(f"{seeds.origin}: seed: expected {_FORMS['choice']}")
    faults += _take_unknown(ranges, known)
    if faults:
        raise InputError("\n".join(faults))
    if not ranges:
        raise InputError(f"{path}: nothing to search; {' and '.join(content['models'])} has none of its settings")
    for key in ("config", "plugins"):
        if key in content:
            content[key] = [os.path.relpath(file, folder) for file in content[key]]
    content["settings"] = {key: value for key, value in arguments.items() if key not in ELSEWHERE}
    content["space"] = {}
    _divide(ranges, content)
    checked_sweep({"name": "sweep", **content}, path)
    return _text(content, path, {key: found.text for key, found in ranges.items()}, "valid_metric" in given)


def _take_unknown(ranges: dict[str, _Range], known: Collection[str]) -> list[str]:
    """Takes out what only other models have, with a warning; returns a fault for each key that cannot be searched."""
    faults = []
    for key, found in list(ranges.items()):
        if key in ELSEWHERE:
            faults.append(f"{found.origin}: {key}: a sweep sets it by {ELSEWHERE[key]}")
        elif key not in known and key in settings_of_any_model():
            _log.warning("%s: %s is left out, a setting of other models than those of this sweep", found.origin, key)
            del ranges[key]
        elif key in NOT_IDENTITY:
            _log.warning("%s: %s is left out, since it cannot change what is learned", found.origin, key)
            del ranges[key]
        elif key not in known:
            faults.append(f"{found.origin}: unknown key {key!r}; {hint(key, known)}")
    return faults


def _divide(ranges: Mapping[str, _Range], content: dict[str, Any]) -> None:
    """Puts the ranges into the settings, where they are one value each, and the space of a sweep; adds its search."""
    single = {key for key, found in ranges.items() if found.kind == "choice" and len(found.values) == 1}
    if single == set(ranges):  # a space is never empty
        single = set()
    samples = content.pop("search", {}).get("samples")
    finite = samples is None and all(found.kind == "choice" for found in ranges.values())
    for key, found in ranges.items():
        if key in single:
            content["settings"][key] = found.values[0]
        else:
            content["space"][key] = {"grid" if finite else found.kind: found.values}
    content["search"] = {"method": "grid"} if finite else {"method": "random", "samples": samples or _SAMPLES}


def _text(content: Mapping[str, Any], path: Path, texts: Mapping[str, str], metric_given: bool) -> str:
    """Returns the text of a sweep file, one parameter a line, with RecBole's text of a range beside ours."""
    comments = (
        {"search": f"as RecBole's max_evals; {path.name} has a range"}
        if content["search"].get("samples") == _SAMPLES
        else {}
    )
    if not metric_given:
        comments["metric"] = "on validation; RecBole's default is MRR@10"
    lines = [f"# Made from {path.name}, a tuning file of RecBole."]
    keys = [*(key for key in SweepFile.model_fields if content.get(key))]
    for key in keys:
        if key not in ("settings", "space"):
            lines.append(_line("", key, content[key], comments.get(key, "")))
            continue
        lines.append(f"{key}:")
        lines += [_line("  ", inner, value, texts.get(inner, "")) for inner, value in content[key].items()]
    return "\n".join(lines) + "\n"


def _line(indent: str, key: str, value: Any, comment: str) -> str:
    flow = yaml.safe_dump([value], default_flow_style=True, width=math.inf, sort_keys=False).strip()[1:-1]
    return f"{indent}{key}: {flow}{f'  # {comment}' if comment else ''}"


def _read(path: Path) -> tuple[dict[str, _Range], list[str]]:
    """Returns the ranges of a tuning file by their keys, and its faults.

    Raises:
        InputError: it cannot be read or has no range.
    """
    try:
        require_regular(path)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a tuning file of RecBole") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    ranges: dict[str, _Range] = {}
    faults: list[str] = []
    for number, line in enumerate(lines, 1):
        words = line.split(maxsplit=2)
        if not words or words[0].startswith("#"):
            continue
        origin = f"{path}, line {number}"
        if len(words) < 3:
            faults.append(f"{origin}: {line.strip()!r} is no key, kind and range; expected KEY {_FORMS['choice']}")
            continue
        key, kind, text = words
        try:
            found = _range(origin, kind, text)
        except ValueError as error:
            faults.append(f"{origin}: {key}: {error}")
            continue
        if key in ranges:
            _log.warning("%s: the key %r occurs twice; the last one counts, as in RecBole", origin, key)
        ranges[key] = found
    if not ranges and not faults:
        raise InputError(f"{path}: nothing to search; expected lines such as learning_rate {_FORMS['choice']}")
    return ranges, faults


def _range(origin: str, kind: str, text: str) -> _Range:
    """Returns a range. Raises ValueError, with a sentence, where it is none."""
    if kind not in _FORMS:
        raise ValueError(f"unknown kind {kind!r}; {nearest(kind, _FORMS) or 'expected one of ' + ', '.join(_FORMS)}")
    if kind == "choice":
        return _Range(origin, "choice", _choices(text))
    try:
        low, high, *step = map(float, text.split(","))
        fits = len(step) == (kind == "quniform") and all(map(math.isfinite, (low, high, *step)))
    except ValueError:
        fits = False
    if not fits or low >= high or (step and step[0] <= 0):
        raise ValueError(f"{kind} {text!r} is no range; expected {_FORMS[kind]}, the lower bound first")
    if step:
        return _Range(origin, *_multiples(low, high, step[0]), f"{kind} {text}")
    if kind == "uniform":
        return _Range(origin, kind, [low, high])
    if high > 700:
        raise ValueError(f"{kind} {text!r} is too large for a number; expected {_FORMS[kind]}")
    bounds = [math.exp(low), math.exp(high)]
    if low >= 0:
        _log.warning("%s: %s %s is from %.6g to %.6g: bounds are natural logarithms", origin, kind, text, *bounds)
    return _Range(origin, kind, bounds, f"{kind} {text}")


def _multiples(low: float, high: float, step: float) -> tuple[str, list[Any]]:
    """Returns the kind and values of the multiples of a step to which numbers between the bounds are rounded."""
    in_steps, half = [Decimal(str(bound)) / Decimal(str(step)) for bound in (low, high)], Decimal("0.5")
    # A bound half-way between two multiples is drawn with probability 0, so only the inner one counts.
    first, last = math.floor(in_steps[0] + half), math.ceil(in_steps[1] - half)
    if last - first >= _LONGEST_LIST:
        if step == 1:
            return "randint", [first, last + 1]
        raise ValueError(f"{last - first + 1} steps of {step:g}; expected at most {_LONGEST_LIST}, or steps of 1")
    values = [float(number * Decimal(str(step))) for number in range(first, last + 1)]
    return "choice", [int(value) for value in values] if all(value.is_integer() for value in values) else values


def _choices(text: str) -> list[Any]:
    """Returns the values of a choice, each once; text that is a value of Python is that value, as in RecBole."""
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError(f"choice {text!r} is no list of values; expected {_FORMS['choice']}, text in quotes") from None
    values: list[Any] = []
    for value in map(_value, found if isinstance(found, list | tuple) else [found]):
        if value in values:
            _log.warning("choice %s: %r is listed twice and counts once", text, value)
        else:
            values.append(value)
    if not values:
        raise ValueError(f"choice {text!r} is empty; expected {_FORMS['choice']}")
    return values


def _value(value: Any) -> Any:
    if isinstance(value, str):
        if value.lower() in ("true", "false"):
            return value.lower() == "true"
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError):
            return value
    if isinstance(value, set):
        raise ValueError(f"{value!r} is a set; expected a list")
    return [_value(one) for one in value] if isinstance(value, list | tuple) else value
