"""The split that comes with the data: a file for each side."""

from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import Field

from mos_recbole.data.sequences import Sequences
from mos_recbole.data.splits.base import Split, SplitSpec, make_segments
from mos_recbole.specs import Setting, Text


def files_split(sequences: Sequences, *, benchmark_filename: list[str] | None) -> Split:
    """Returns the split that `Sequences.sides` names; data of one file have none.

    A user's rows are in the order of the files, then of time. A row is a target of its file's side, and what the
    user did before is its context; a row that nothing precedes is no target. A row with a list has that as its context.
    """
    start, stop = sequences.offsets[:-1], sequences.offsets[1:]
    if sequences.sides is None:
        borders = [start + 1, stop, stop, stop]
    else:
        before = [np.add.reduceat(sequences.sides < side, start, dtype=np.int64) for side in range(3)]
        borders = [*(np.maximum(start + n_rows, start + 1) for n_rows in before), stop]
    train, valid, test = (make_segments(start, first, last) for first, last in pairwise(borders))
    has_lists = sequences.sides is not None and bool((sequences.sides < 0).any())
    facts: dict[str, int | float] = {"lists": sequences.n_users if has_lists else 0}
    note = f"files {', '.join(benchmark_filename or ())}: "
    note += f"{sequences.n_users:,} rows with lists, none augmented" if has_lists else "plain rows"
    # The first row of a user whom training's file lacks is no target, and not training's either.
    stops = [None, None] if sequences.sides is None or has_lists else [start + n_rows for n_rows in before[1:]]
    return Split(train, valid, test, facts, note, has_lists, *stops)


SPLIT = SplitSpec(
    "files",
    files_split,
    help="the split that the data come with, RecBole's benchmark_filename",
    leakage="The data came with this split. What training knows of the test's time depends on how the files were made.",
    settings=(
        Setting(
            "benchmark_filename",
            Annotated[list[Text], Field(min_length=3, max_length=3)] | None,
            None,
            "Middle parts of the names of the files for training, validation and test: [train, valid, test].",
        ),
    ),
)
