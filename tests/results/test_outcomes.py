"""The columns of the outcomes: what they say of themselves, what is written, and what the documentation says."""

import re
from pathlib import Path

import pandas as pd
import pytest

from mos_recbole.results import (
    ANSWER_COLUMNS,
    KEY_COLUMNS,
    LIST_COLUMNS,
    OUTCOME_COLUMNS,
    REQUIRED_COLUMNS,
    SLICED_COLUMNS,
    axis_label,
    outcomes_frame,
)

DOCS = Path(__file__).parents[2] / "docs"
VALUES = {
    **{"user": ["a", "b"], "position": [3, 4], "target": ["i", "j"], "rank": [1.0, 2.5], "tied": [0, 1]},
    **{"candidates": [9, 9], "log_probability": float("nan"), "context_length": [3, 4], "time_gap": [0, 7]},
    **{"train_count": [1, 2], "previous_distance": [0.5, 1.0], "oldest_distance": [0.5, 1.0]},
    **{"target_in_history": [False, True]},
}


def test_roles() -> None:
    assert KEY_COLUMNS == ("user", "position", "target")
    assert ANSWER_COLUMNS == ("rank", "tied", "log_probability", "list_length", "top_items", "top_in_history")
    assert SLICED_COLUMNS == ("train_count", "oldest_distance", "previous_distance", "context_length", "time_gap")
    assert REQUIRED_COLUMNS == ("user", "position", "target", "rank", "tied", "candidates")


def test_the_documentation_has_a_row_for_every_column() -> None:
    section = (DOCS / "results.md").read_text().split("## Columns of `outcomes.parquet`")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)
    assert rows == [(column.name, column.description) for column in OUTCOME_COLUMNS.values()]


def test_columns_are_written_in_their_order() -> None:
    frame = outcomes_frame(dict(reversed(VALUES.items())))
    of_runs = [name for name, column in OUTCOME_COLUMNS.items() if not column.only_of_lists]
    assert list(frame) == [name for name in of_runs if name not in LIST_COLUMNS]
    assert len(frame) == 2


@pytest.mark.parametrize("changes", [{"rank": [1, 2]}, {"user": [1, 2]}, {"unheard": [1, 2]}])
def test_other_columns_and_types_are_faults_of_ours(changes: dict[str, object]) -> None:
    with pytest.raises(AssertionError, match=next(iter(changes))):
        outcomes_frame(VALUES | changes)


def test_whole_and_other_time_gaps() -> None:
    assert outcomes_frame(VALUES | {"time_gap": [0.5, 7.0]})["time_gap"].tolist() == [0.5, 7.0]


def test_edges_have_a_name_for_every_bin() -> None:
    for column in OUTCOME_COLUMNS.values():
        assert not column.bin_names or len(column.bin_names) == len(column.edges or ()) - 1


def test_axis_labels() -> None:
    assert axis_label("context_length") == "items before the target"
    assert axis_label("mine") == "mine"
    assert isinstance(outcomes_frame(VALUES), pd.DataFrame)
