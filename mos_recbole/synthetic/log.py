"""Users' sequences drawn from a planted process, with lengths and times like real logs'."""

from dataclasses import dataclass

import numpy as np

from mos_recbole.errors import InputError
from mos_recbole.synthetic.process import PlantedProcess

# A user's first, two of training's and validation's, and the test's: so all three sides have a target.
SHORTEST = 4
# Of the logarithm of lengths: as in MovieLens-25M (mean 154, median 71).
_LENGTH_SPREAD = 1.24
_FIRST_TIME, _YEARS = 1_262_304_000, 5  # 2010
_YEAR = 365 * 24 * 3600
_MEAN_GAP = 600.0  # seconds
_MOST_ROWS = 2**31


@dataclass(frozen=True)
class PlantedLog:
    """Interactions, user by user, each user's in the order of time.

    Attributes:
        items: int32 [N], numbers of the process's items.
        offsets: int64 [U + 1], where each user's begin.
        times: int64 [N], in seconds; no user has two at once.
    """

    items: np.ndarray
    offsets: np.ndarray
    times: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Number of interactions a user, int64 [U]."""
        return np.diff(self.offsets)

    @property
    def users(self) -> np.ndarray:
        """Number of each interaction's user, int64 [N]."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


def draw_log(
    process: PlantedProcess, n_users: int, generator: np.random.Generator, *, mean_length: float = 20.0
) -> PlantedLog:
    """Returns a log of so many users. A user's first item has the stationary distribution, and so have all others.

    Lengths are 4 and a number of a log-normal law, rounded off, so that all are 4 or more and their mean is about
    mean_length.

    Raises:
        InputError: fewer than three users, or a mean length that no lengths of 4 or more have.
    """
    if n_users < 3:
        raise InputError(f"{n_users} users; expected 3 or more")
    if not SHORTEST < mean_length < np.inf:
        raise InputError(
            f"mean length {mean_length:g}; expected more than {SHORTEST}, which every user has, so that there are "
            "targets for training, validation and test"
        )
    if n_users * mean_length > _MOST_ROWS:
        raise InputError(f"{n_users:,} users with {mean_length:g} interactions each: too many for one log")
    # Rounding off takes half an interaction from the mean, or nearly so.
    log_mean = np.log(mean_length - SHORTEST + 0.5) - _LENGTH_SPREAD**2 / 2
    drawn = generator.lognormal(log_mean, _LENGTH_SPREAD, n_users)
    lengths = SHORTEST + drawn.astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = _sequences(process, lengths, offsets, generator)
    gaps = 1 + generator.exponential(_MEAN_GAP, len(items)).astype(np.int64)
    running = np.cumsum(gaps)
    begin = generator.integers(_FIRST_TIME, _FIRST_TIME + _YEARS * _YEAR, n_users)
    times = running + np.repeat(begin - running[offsets[:-1]], lengths)
    return PlantedLog(items, offsets, times)


def _sequences(
    process: PlantedProcess, lengths: np.ndarray, offsets: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Returns the items, all users walking at once, by the inverse of the distribution function.

    The rows of the V x V matrix of running sums are shifted by their numbers, so that one sorted array holds them all.
    """
    running = np.empty((process.n_items, process.n_items))
    for context, log_prob in process.blocks():
        rows = np.cumsum(np.exp(log_prob), axis=1)
        running[context] = context[:, None] + rows / rows[:, -1:]
    running_share = running.ravel()
    items = np.empty(offsets[-1], dtype=np.int32)
    # The longest first, so that those who are still walking are a slice.
    order = np.argsort(-lengths, kind="stable")
    start, length = offsets[:-1][order], lengths[order]
    here = generator.choice(process.n_items, len(lengths), p=process.stationary)
    for step in range(int(length[0])):
        walking = int(np.searchsorted(-length, -step, side="left"))
        if step:
            drawn = here[:walking] + generator.random(walking)
            place = np.searchsorted(running_share, drawn, side="right") - here[:walking] * process.n_items
            here = np.minimum(place, process.n_items - 1)
        items[start[:walking] + step] = here[:walking]
    return items
