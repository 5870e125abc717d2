"""Where settings come from: YAML files, mappings and `--key=value` arguments, each value with its origin."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mos_recbole.errors import InputError
from mos_recbole.io import require_regular

# How deep faults name keys.
_DEPTH = 4

Files = Iterable[str | Path | Mapping[str, Any]]
Overrides = Mapping[str, Any] | Iterable[str]


# Of a document of settings. Aliases make a short one large: a value counts as often as it is referred to.
_LONGEST, _LARGEST, _DEEPEST = 1 << 20, 100_000, 60


class YamlLoader(yaml.SafeLoader):
    """YAML without tags that run code, and with 1e-3 as a number (YAML 1.1 would make it text).

    A document that is too large or too deep, and a value that its tag cannot have, are errors of YAML like others.

    Attributes:
        doubles: keys that occur twice in one mapping, the last of which counts, with their lines.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.doubles: list[tuple[int, str]] = []

    def get_single_node(self) -> Any:
        """Returns the root of the document, which is neither too large nor too deep nor within itself."""
        try:
            node = super().get_single_node()
        except RecursionError:
            raise yaml.composer.ComposerError(None, None, _TOO_DEEP, self.get_mark()) from None
        if node is not None:
            _require_small(node)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Returns the value of a node."""
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str):
                value.encode()  # no half of a surrogate pair, which no record could hold
            return value
        except yaml.YAMLError:
            raise
        except Exception as error:  # PyYAML's constructors fail in arbitrary ways on what their tags cannot have
            kind = node.tag.rpartition(":")[2]
            reason = str(error) if isinstance(error, ValueError) else f"{str(node.value)[:40]!r} is no {kind}"
            raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark) from error

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Puts what `<<` merges among a mapping's keys."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for number, (key, _) in enumerate(pair for pair in node.value if isinstance(pair[0], yaml.ScalarNode)):
            if key.value in keys[:number] and key.value != "<<":
                self.doubles.append((key.start_mark.line + 1, key.value))
        super().flatten_mapping(node)


_TOO_DEEP = f"more than {_DEEPEST} levels"


def _require_small(root: yaml.Node) -> None:
    """Raises ComposerError where a document has too many values, all aliases followed, or too many levels."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, level: int) -> int:
        if level > _DEEPEST:
            raise yaml.composer.ComposerError(None, None, _TOO_DEEP, node.start_mark)
        if id(node) not in sizes:
            inner = [] if isinstance(node, yaml.ScalarNode) else node.value
            parts = [part for one in inner for part in (one if isinstance(one, tuple) else (one,))]
            sizes[id(node)] = 1 + sum(size(part, level + 1) for part in parts)
        if sizes[id(node)] > _LARGEST:
            problem = f"more than {_LARGEST:,} values, all aliases followed"
            raise yaml.composer.ComposerError(None, None, problem, node.start_mark)
        return sizes[id(node)]

    size(root, 0)


YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


@dataclass(frozen=True)
class Given:
    """A value that the user set.

    Attributes:
        value: what was set.
        origin: the file and line, the argument, or the key in a mapping.
        text: the argument as it was typed; None where there is no such text.
        in_file: whether a file says so, which may be for other programs too.
    """

    value: Any
    origin: str
    text: str | None = None
    in_file: bool = False


@dataclass
class Findings:
    """What is said of given settings, a sentence each: `faults` end the command, `warnings` do not."""

    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def given_settings(config_files: Files = (), overrides: Overrides = ()) -> dict[str, Any]:
    """Returns what files and overrides set, by key, unchecked; see `load_settings`.

    Args:
        config_files: see `load_settings`.
        overrides: see `load_settings`.

    Raises:
        InputError: a file or an argument that cannot be read.
    """
    found = Findings()
    given = read_given(config_files, overrides, found)
    if found.faults:
        raise InputError("\n".join(found.faults))
    return {key: item.value for key, item in given.items()}


def read_given(config_files: Files, overrides: Overrides, found: Findings) -> dict[str, Given]:
    """Returns what is set and where; adds what cannot be read, or is set twice in one file."""
    given: dict[str, Given] = {}
    for file in config_files:
        given |= _of_mapping(file) if isinstance(file, Mapping) else _read_yaml(Path(file), found)
    if isinstance(overrides, Mapping):
        return given | _of_mapping(overrides)
    arguments: dict[str, Given] = {}
    for argument in overrides:
        for key, item in _read_argument(argument, found.faults).items():
            if key in arguments:
                found.faults.append(f"--{key} is given twice, as {arguments[key].text} and {item.text}; expected one")
            arguments[key] = item
    return given | arguments


def _of_mapping(values: Mapping[str, Any]) -> dict[str, Given]:
    return {key: value if isinstance(value, Given) else Given(value, key) for key, value in values.items()}


def key_lines(path: Path) -> dict[tuple[str, ...], int]:
    """Returns the lines of all keys and list items of a YAML file that can be read, by the keys that lead to them."""
    lines: dict[tuple[str, ...], int] = {}

    def walk(node: yaml.Node, place: tuple[str, ...]) -> None:
        inner: list[tuple[str, yaml.Node, yaml.Node]] = []
        if isinstance(node, yaml.MappingNode):
            inner = [(key.value, key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]
        elif isinstance(node, yaml.SequenceNode):
            inner = [(str(number), item, item) for number, item in enumerate(node.value)]
        for name, at, content in inner:
            lines[*place, name] = at.start_mark.line + 1
            if len(place) < _DEPTH:  # an alias may contain itself
                walk(content, (*place, name))

    with path.open(encoding="utf-8-sig") as file:
        root = yaml.compose(file, Loader=YamlLoader)
    if root is not None:
        walk(root, ())
    return lines


def _read_yaml(path: Path, found: Findings) -> dict[str, Given]:
    """Returns the keys of a YAML file with their lines."""
    faults = found.faults
    try:
        require_regular(path)
        if path.stat().st_size > _LONGEST:
            raise InputError(f"{path}: {path.stat().st_size:,} bytes; expected a file of settings, of at most 1 MiB")
        with path.open(encoding="utf-8-sig") as file:
            loader = YamlLoader(file)
            try:
                return _read_node(loader, path, faults)
            finally:
                loader.dispose()
                for line, key in dict.fromkeys(loader.doubles):
                    found.warnings.append(f"{path}, line {line}: the key {key!r} occurs twice; the last one counts")
    except InputError as error:
        faults.append(str(error))
    except OSError as error:
        faults.append(f"{path}: {error.strerror}; expected a YAML file of settings")
    except UnicodeDecodeError:
        faults.append(f"{path}: not UTF-8 text")
    except yaml.MarkedYAMLError as error:
        number = error.problem_mark.line + 1 if error.problem_mark else "?"
        faults.append(f"{path}, line {number}: not YAML: {error.problem}")
    except yaml.YAMLError as error:
        faults.append(f"{path}: not YAML: {str(error).splitlines()[0]}")
    return {}


def _read_node(loader: YamlLoader, path: Path, faults: list[str]) -> dict[str, Given]:
    node = loader.get_single_node()
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        faults.append(f"{path}, line {node.start_mark.line + 1}: expected key: value")
        return {}
    loader.flatten_mapping(node)
    given: dict[str, Given] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else ""
        try:
            key = str(loader.construct_object(key_node, deep=True))
            value = loader.construct_object(value_node, deep=True)
        except yaml.MarkedYAMLError as error:  # a date of month 13, a number that is none
            faults.append(f"{path}, line {line}: {key}: {error.problem}")
            continue
        given[key] = Given(value, f"{path}, line {line}", in_file=True)
    return given


def _read_argument(argument: str, faults: list[str]) -> dict[str, Given]:
    """Returns the key and value of "key=value"."""
    key, equals, text = argument.removeprefix("--").partition("=")
    if not equals or not key or (not argument.isascii() and re.search("[\ud800-\udfff]", argument)):
        faults.append(f"argument {argument!r}: expected --key=value")
        return {}
    try:
        value = yaml.load(text, Loader=YamlLoader)  # a SafeLoader
    except yaml.YAMLError:
        value = text
    return {key: Given(value, f"--{key}", text)}
