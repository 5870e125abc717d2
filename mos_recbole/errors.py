"""The two ways in which a run can end that are not defects of the program, and what was probably meant by a name."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used. The message names the file, line, column or key and what was expected.

    The command line prints the message and ends with exit status 2; nothing was written over.
    """


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
