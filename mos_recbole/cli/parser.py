"""The parser of a command: its options, the options that commands share, and what is a setting."""

import argparse
import re
import sys
from collections import deque
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from mos_recbole.cli.output import tells_failure
from mos_recbole.errors import nearest, presentable

# Stands for a setting among the arguments: as an option does, it ends the list of values before it.
_SETTING = "--key=value"
# An option that stands for a setting.
_SKIP = "--skip-bad-lines"


class Several(argparse.Action):
    """Collects values: `--key a b`, `--key=a --key=b` and mixtures are the same list, in place of the default."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Adds values to those that were given before."""
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*([] if before is parser.get_default(self.dest) else before), *values])


def path(text: str) -> Path:
    """Returns the path of an argument; ~ is the user's home, also where the shell leaves it, as in --output=~/x."""
    if text != text.encode(errors="replace").decode():
        raise argparse.ArgumentTypeError(f"{text!r}: not UTF-8; expected a path whose name is")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"{text!r}: no such user's home; ./{text} is a folder of that name") from None


_RESULTS = {"type": path, "metavar": "FOLDER"}
_PLUGIN = "Python files with your own heads or encoders (docs/plugins.md)"
_METRICS = "MAP@12, Novelty@10, ... (default: the runs' own, or Recall@10 NDCG@10 MRR@10 Recall@100)"
_COST = "time, processor, energy, memory or parameters: show it, and the front of accuracy and it"
_MARGIN = "relative differences within it count as equivalent (default: 1)"
_DATA_PATH = "the data set's file, or its folder's parent, for IntraListDiversity (default: dataset)"
_READ = "of finished runs, or with such folders in it (default: results)"
_WRITTEN = "write the table there too, as .md, .tex and .csv"
_FORMATS = ("github", "simple", "latex", "csv")
# The options that several commands have; what a command declares itself goes first.
_SHARED: dict[str, dict[str, Any]] = {
    "--best": {"action": "store_true", "help": "for each model, only the configuration that is best on validation"},
    "--config": {"action": Several, "default": [], "type": path, "metavar": "FILE", "help": "RecBole YAML files"},
    "--cost": {"metavar": "NAME", "help": _COST},
    "--data-path": {"metavar": "FOLDER", "help": _DATA_PATH},
    "--dataset": {"metavar": "NAME", "help": "only runs on this data set"},
    "--device": {"default": "auto", "help": "auto, cpu, cuda or cuda:N (default: auto)"},
    "--format": {"default": "github", "choices": _FORMATS, "help": "default: github"},
    "--margin": {"type": float, "default": 1.0, "metavar": "PERCENT", "help": _MARGIN},
    "--metric": {
        "metavar": "NAME",
        "help": "sliced and drawn, a mean over queries (default: the first of --metrics, or what selected the runs)",
    },
    "--metrics": {"action": Several, "metavar": "NAME", "help": _METRICS},
    "--output": _RESULTS | {"default": Path("results"), "help": "for results (default: results)"},
    "--plugin": {"action": Several, "default": [], "type": path, "metavar": "FILE", "help": _PLUGIN},
    "--quiet": {"action": "store_true", "help": "show results and warnings, no progress"},
    "--results": _RESULTS | {"action": Several, "default": [Path("results")], "help": _READ},
    "--seed": {"type": int, "default": 0, "metavar": "N", "help": "of the random numbers (default: 0)"},
    "--seeds": {"action": Several, "type": int, "metavar": "N"},
    _SKIP: {
        "action": "store_true",
        "dest": "settings",
        "help": "leave out and count lines of data that cannot be read",
    },
    "--where": {"action": Several, "default": [], "metavar": "CONDITION", "help": "only queries with column>number"},
    _SETTING: {"action": "store_true", "dest": "settings", "help": "any setting, by RecBole's key; or --key value"},
}


class Parser(argparse.ArgumentParser):
    """The parser of the program or of a command.

    Args:
        text: stands in the help text: what the command does, and after the options what begins with "examples:".
    """

    _section: argparse._ArgumentGroup | None = None

    def __init__(self, *, text: str, **others: Any) -> None:
        description, separator, examples = text.partition("examples:")
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(
            description=description, epilog=separator + examples, formatter_class=layout, allow_abbrev=False, **others
        )

    def section(self, title: str) -> None:
        """Begins a part of the help: the options that are added next stand below its title."""
        begun = (group for group in self._action_groups if group.title == title)
        self._section = next(begun, None) or self.add_argument_group(title)

    def add_argument(self, *names: str, **declared: Any) -> argparse.Action:
        """Returns a new argument; what is not declared of a shared option is as commands share it."""
        declared = _SHARED.get(names[0], {}) | declared
        if declared.get("action") is Several:
            declared.setdefault("nargs", "+")
        if self._section is not None and names[0].startswith("-"):
            return self._section.add_argument(*names, **declared)
        return super().add_argument(*names, **declared)

    def add_mutually_exclusive_group(self, **declared: Any) -> argparse._MutuallyExclusiveGroup:
        """Returns a group of options, in the part of the help that was begun last."""
        if self._section is not None:
            return self._section.add_mutually_exclusive_group(**declared)
        return super().add_mutually_exclusive_group(**declared)

    def add_shared(self, *names: str) -> None:
        """Adds options that commands share."""
        for name in names:
            self.add_argument(name)

    def add_results(self) -> None:
        """Adds `--results`, whose folders may also stand alone, without the option's name."""
        self.section("runs")
        self.add_shared("--results")
        # Without a default: argparse would take it for what is given.
        alone = {"nargs": "*", "default": argparse.SUPPRESS, "help": "the same as --results"}
        self.add_argument("results", **_SHARED["--results"] | alone)

    def add_table(self) -> None:
        """Adds where a table goes and how it looks."""
        self.section("output")
        self.add_argument("--output", default=None, help=_WRITTEN)
        self.add_shared("--format")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Returns the options, with `settings` among them as a list of `--key=value`, and an empty list.

        Exits with status 2 where an argument is neither.
        """
        arguments: Sequence[str] = sys.argv[1:] if args is None else args
        settings: list[str] = []
        if self._takes_settings():
            arguments, settings = self._take_settings(arguments)
        self._require_once(arguments)
        options, rest = super().parse_known_args(arguments, namespace)
        if rest:
            self.error(f"argument {rest[0]!r} not understood; {self._expected(rest[0])}")
        if self._takes_settings():
            options.settings = settings
        return options, rest

    def _require_once(self, arguments: Sequence[str]) -> None:
        """Exits with status 2 where an option that takes one value is given twice."""
        given = [argument.partition("=")[0] for argument in takewhile(lambda one: one != "--", arguments)]
        for name in dict.fromkeys(given):
            action = self._option_string_actions.get(name)
            takes_one = action is not None and action.nargs is None and not isinstance(action, argparse._AppendAction)
            if takes_one and given.count(name) > 1:
                self.error(f"argument {name} is given {given.count(name)} times; expected once")

    def _takes_settings(self) -> bool:
        return _SETTING in self._option_string_actions

    def _take_settings(self, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
        """Returns the arguments with a marker in place of every setting, and the settings as `--key=value`.

        A setting is what looks like an option and is none. argparse cannot find them: it takes a setting with a space
        in it for a positional argument.
        """
        own: list[str] = []
        settings: list[str] = []
        left = deque(arguments)
        while left:
            argument = left.popleft()
            key, equals, value = argument.partition("=")
            if argument == "--":
                return [*own, argument, *left], settings
            if argument == _SKIP:
                key, equals, value = "--skip_bad_lines", "=", "True"
            if not argument.startswith("--") or key in self._option_string_actions:
                own.append(argument)
                continue
            if not re.fullmatch(r"--\S+", key):
                self.error(f"argument {argument!r} not understood; {self._expected(key)}")
            if not equals:
                if not left or _is_option(left[0]):
                    self.error(f"argument {argument!r} has no value; {self._expected(key)}")
                value = left.popleft()
            settings.append(f"{key}={value}")
            own.append(_SETTING)
        return own, settings

    def _expected(self, argument: str) -> str:
        """Returns what could have been meant by an argument."""
        if hint := nearest(argument.partition("=")[0], self._option_string_actions):
            return hint
        if self._takes_settings():
            return "a setting is --key=value or --key value, a list '--key=[1, 2]'"
        return f"{self.prog} takes no settings" if "=" in argument else f"see {self.prog} --help"

    def error(self, message: str) -> NoReturn:
        """Prints the usage and the message, and exits with status 2; one of several processes prints."""
        if tells_failure():
            super().error(presentable(message))
        sys.exit(2)


def _is_option(text: str) -> bool:
    """Returns whether an argument is an option or a setting; a negative number is a value."""
    try:
        float(text)
    except ValueError:
        return text.startswith("-")
    return False
