"""The ways in which a run can end that are not defects of the program, and what was probably meant by a name."""

import difflib
import re
from collections.abc import Iterable

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LONGEST_LINE, _MOST_LINES = 1500, 200


def presentable(text: str) -> str:
    """Returns a text that may hold anything as a terminal may show it: no control characters, no endless lines.

    >>> presentable("key \x1b[31mred")
    'key \\\\x1b[31mred'
    >>> len(presentable("a" * 10**6)) < 1600
    True
    """
    lines = text[: 2 * _MOST_LINES * _LONGEST_LINE].split("\n")
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"... ({len(lines) - _MOST_LINES:,} more lines)"]
    half = _LONGEST_LINE // 2
    short = (
        line if len(line) <= _LONGEST_LINE else f"{line[:half]} ... ({len(line):,} characters) ... {line[-half:]}"
        for line in lines
    )
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], "\n".join(short))


def told(error: BaseException) -> str:
    """Returns the name and the words of an error, also of one whose class cannot say them.

    >>> told(KeyError("a"))
    "KeyError: 'a'"
    """
    try:
        words = str(error)
    except Exception:  # what a plugin raises may do anything
        return type(error).__name__
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


class InputError(ValueError):
    """Something the user gave cannot be used. The message names the file, line, column or key and what was expected.

    The command line prints the message and ends with exit status 2; nothing was written over.
    """

    def __init__(self, message: str) -> None:
        super().__init__(presentable(message))


class NotInstalled(InputError, ImportError):
    """A package is missing. The message has the command that installs it."""


class DiskFull(InputError):
    """There was no room for a file. What was there before is as it was; a run goes on from its last checkpoint."""


class TrainingDiverged(RuntimeError):
    """The training loss became NaN or infinite. The last good checkpoint is kept."""


def nearest(name: str, known: Iterable[str], most: int = 1) -> str:
    """Returns "did you mean x?" with the known name that is spelled most like an unknown one; "" if none is near.

    Args:
        name: the unknown name; upper and lower case are alike.
        known: the names that exist.
        most: how many of them are named at most, the nearest first.

    >>> nearest("leraning_rate", ["learner", "learning_rate"])
    'did you mean learning_rate?'
    >>> nearest("gru4recmos", ["GRU4RecMoC", "GRU4RecMoS", "Pop"], most=2)
    'did you mean GRU4RecMoS or GRU4RecMoC?'
    >>> nearest("quux", ["Pop"])
    ''
    """
    by_lower = {one.lower(): one for one in sorted(known)}
    near = difflib.get_close_matches(name.lower(), by_lower, n=most, cutoff=0.6)
    return f"did you mean {' or '.join(by_lower[match] for match in near)}?" if near else ""
