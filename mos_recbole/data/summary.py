"""The counts of a data set and of its split, which belong beside every result."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mos_recbole.data.sequences import Sequences, blocks, read_rows
from mos_recbole.data.splits import Split


@dataclass(frozen=True)
class DataSummary:
    """Counts that belong beside every result.

    Attributes:
        users, items, interactions: of the data after its filters.
        users_without_targets: users of whom no side has a target.
        tied_share: share of interactions that share their time with another of the same user.
        train_targets, valid_targets, test_targets: of the sides.
        train_users, valid_users, test_users: users with targets there.
        trained_items: items that training sees.
        tied_test_share: share of the test targets whose time is that of the interaction before them.
        unseen_test_share: share of the test targets whose item training never saw.
        new_test_share: share of the test targets whose user training never saw.
        in_file_order: whether the data have no times, so that a user's interactions are in the order of the file.
        split_facts, split_note: the split's own counts and times, by name and in a sentence.
    """

    users: int
    items: int
    interactions: int
    users_without_targets: int
    tied_share: float
    train_targets: int
    valid_targets: int
    test_targets: int
    train_users: int
    valid_users: int
    test_users: int
    trained_items: int
    tied_test_share: float
    unseen_test_share: float
    new_test_share: float
    in_file_order: bool = False
    split_facts: dict[str, int | float] = field(default_factory=dict)
    split_note: str = ""

    def describe(self) -> str:
        """Returns the counts in a few lines."""
        without = f" ({self.users_without_targets:,} without a target)" if self.users_without_targets else ""
        order = f"{self.tied_share:.1%} share their time with another of the same user"
        if self.in_file_order:
            order = "without times, in the order of the file"
        lines = [
            f"{self.users:,} users{without}, {self.items:,} items, {self.interactions:,} interactions ({order})",
            f"targets: {self.train_targets:,} training, {self.valid_targets:,} validation, {self.test_targets:,} test; "
            f"of the test targets, {self.tied_test_share:.1%} are tied with the item before, "
            f"{self.unseen_test_share:.1%} are items that training never saw, "
            f"{self.new_test_share:.1%} belong to users that training never saw",
        ]
        return "\n  ".join([*lines, self.split_note] if self.split_note else lines)

    def as_dict(self) -> dict[str, Any]:
        """Returns the counts by name, those of the split among them."""
        counts = asdict(self)
        del counts["split_note"]
        if not self.in_file_order:
            del counts["in_file_order"]
        return counts | counts.pop("split_facts")


def summarise(
    sequences: Sequences, split: Split, *, n_items: int, tied_share: float, is_trained: np.ndarray, in_file_order: bool
) -> DataSummary:
    """Returns the counts of the data and of a split of them.

    Args:
        sequences, split: the data.
        n_items: number of items.
        tied_share: share of rows whose user has another row with the same time.
        is_trained: bool [n_items + 1], the items that training sees, by id.
        in_file_order: whether the data have no times.
    """
    is_target = split.test_target_rows(len(sequences.items))
    tied = unseen = 0
    for rows, items in blocks(sequences.items):
        # The row before is of the same user, where a row is a target.
        first = max(rows.start, 1)
        gaps = np.diff(read_rows(sequences.times, first - 1, rows.stop))
        tied += int((gaps[is_target[first : rows.stop]] == 0).sum())
        unseen += int((~is_trained[items[is_target[rows]]]).sum())
    train_user, valid_user, test_user = (sequences.users[side.user] for side in (split.train, split.valid, split.test))
    users, in_training = np.unique(sequences.users), np.zeros(int(sequences.users.max()) + 1, dtype=bool)
    in_training[train_user] = True
    new_targets = split.test.counts[~in_training[test_user]]
    return DataSummary(
        users=len(users),
        items=n_items,
        interactions=len(sequences.items) if sequences.sides is None else int((sequences.sides >= 0).sum()),
        users_without_targets=len(np.setdiff1d(users, np.concatenate([train_user, valid_user, test_user]))),
        tied_share=tied_share,
        train_targets=split.train.n_targets,
        valid_targets=split.valid.n_targets,
        test_targets=split.test.n_targets,
        train_users=len(np.unique(train_user)),
        valid_users=len(np.unique(valid_user)),
        test_users=len(np.unique(test_user)),
        trained_items=int(is_trained.sum()),
        tied_test_share=tied / split.test.n_targets,
        unseen_test_share=unseen / split.test.n_targets,
        new_test_share=int(new_targets.sum()) / split.test.n_targets,
        in_file_order=in_file_order,
        split_facts=split.facts,
        split_note=split.note,
    )
