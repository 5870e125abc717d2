"""What every split returns, and what it declares about itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from mos_recbole.data.sequences import Segments, Sequences
from mos_recbole.specs import Setting


@dataclass(frozen=True)
class Split:
    """The targets of the three sides.

    Attributes:
        facts: what belongs beside results: counts and times, by name.
        note: the facts for readers, in one sentence.
        own_contexts: whether every target has rows of its own for its context, which repeat other rows.
        train_stop: int64 [U], the row at which each user's part of training ends; None where all interactions are
            training's but the targets of validation and test, and where contexts are targets' own.
        valid_stop: the same of validation.
    """

    train: Segments
    valid: Segments
    test: Segments
    facts: dict[str, int | float] = field(default_factory=dict)
    note: str = ""
    own_contexts: bool = False
    train_stop: np.ndarray | None = None
    valid_stop: np.ndarray | None = None

    def train_interactions(self, offsets: np.ndarray) -> np.ndarray:
        """Returns a mask [N] of the interactions that general models train on, without targets and contexts.

        Unlike `train_rows` it has users with too few interactions for a target.
        """
        n_rows = int(offsets[-1])
        stays = self.train_rows(n_rows)
        if self.train_stop is not None:
            stays |= rows_mask(n_rows, offsets[:-1], self.train_stop)
        elif not self.own_contexts:
            held_out = np.zeros(n_rows, dtype=bool)
            for side in (self.valid, self.test):
                held_out |= rows_mask(n_rows, side.target_start, side.target_stop)
            stays |= ~held_out
        return stays

    def train_rows(self, n_rows: int) -> np.ndarray:
        """Returns a mask [N] of the interactions that training may see, as targets or as their contexts, each once.

        With contexts of their own, as RecBole counts: targets, and contexts of one item, which precede all of them.
        """
        if self.own_contexts:
            single = self.train.target_start - self.train.context_start == 1
            return rows_mask(n_rows, self.train.target_start - single, self.train.target_stop)
        return rows_mask(n_rows, self.train.context_start, self.train.target_stop)

    def with_validation_trained(self) -> "Split":
        """Returns the split in which training has validation's targets too; a user's two runs become one."""
        train, valid = self.train, self.valid
        user = np.union1d(train.user, valid.user).astype(np.int32)

        def filled(name: str, first: Segments, second: Segments) -> np.ndarray:
            values = np.empty(len(user), dtype=np.int64)
            for side in (first, second):
                values[np.searchsorted(user, side.user)] = getattr(side, name)
            return values

        context, start = filled("context_start", valid, train), filled("target_start", valid, train)
        merged = Segments(user, context, start, filled("target_stop", train, valid))
        return replace(self, train=merged, train_stop=self.valid_stop)

    def train_target_rows(self, n_rows: int) -> np.ndarray:
        """Returns a mask [N] of the interactions that are targets of training."""
        return rows_mask(n_rows, self.train.target_start, self.train.target_stop)

    def test_target_rows(self, n_rows: int) -> np.ndarray:
        """Returns a mask [N] of the interactions that are targets of the test."""
        return rows_mask(n_rows, self.test.target_start, self.test.target_stop)


@dataclass(frozen=True)
class SplitSpec:
    """A split by its name, with its settings.

    Attributes:
        name: value of the setting `split`.
        function: takes the sequences and, by name, the values of all `settings`.
        help: what the split is, in a few words.
        leakage: what training and test know of each other, for readers of results.
        candidates: which items a target is ranked among: "all", or "trained", those that training saw.
        settings: of this split only.
        replaced_by: settings that are not read where another one is set, by key.
        unvalidated: values of `settings`, by key, any of which leaves validation without targets.
        by_time: whether times of different users are compared.
        recent: whether no results were written before all of `settings` were there: the protocol names them all.
    """

    name: str
    function: Callable[..., Split]
    help: str
    leakage: str
    candidates: Literal["all", "trained"] = "all"
    settings: tuple[Setting, ...] = ()
    replaced_by: Mapping[str, str] = field(default_factory=dict)
    unvalidated: Mapping[str, Any] = field(default_factory=dict)
    by_time: bool = False
    recent: bool = False

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the settings that the split reads, by key."""
        keys = [setting.key for setting in self.settings]
        return {key: values[key] for key in keys if values.get(self.replaced_by.get(key, "")) is None}

    def protocol(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the split's name and settings as they are part of the protocol."""
        recent = {one.key: one.default for one in self.settings if one.recent and not self.recent}
        read = {key: value for key, value in self.read(values).items() if key not in recent or value != recent[key]}
        return {"name": self.name, **read}

    def validates(self, values: Mapping[str, Any]) -> bool:
        """Returns whether validation is meant to have targets."""
        return all(values[key] != value for key, value in self.unvalidated.items())

    def apply(self, sequences: Sequences, values: Mapping[str, Any]) -> Split:
        """Returns the targets of the three sides.

        Args:
            sequences: the data.
            values: of the settings, by key; others among them are ignored.
        """
        return self.function(sequences, **{setting.key: values[setting.key] for setting in self.settings})


def rows_mask(n_rows: int, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Returns a mask [N] of the rows in [start, stop) of any user; these ranges must not overlap."""
    # One byte a row: a side has one segment a user, so the running sum is 0 or 1.
    change = np.zeros(n_rows + 1, dtype=np.int8)
    np.add.at(change, start, 1)
    np.add.at(change, stop, -1)
    return np.cumsum(change, dtype=np.int8, out=change)[:-1].view(bool)


def make_segments(context_start: np.ndarray, first: np.ndarray, last: np.ndarray) -> Segments:
    """Returns the users' segments [first, last) of targets, without those of users who have none."""
    kept = last > first
    user = np.flatnonzero(kept).astype(np.int32)
    return Segments(user, context_start[kept], first[kept], last[kept])
