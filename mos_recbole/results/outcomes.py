"""The columns of `outcomes.parquet`, one row per test query: each column says everything about itself here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

# numpy's dtype kinds; "number" is a whole number or not, as the data have it. Lists are no columns of data frames.
_DTYPE_KINDS = {"text": "OUT", "integer": "iu", "float": "f", "number": "iuf", "flag": "b"}


@dataclass(frozen=True)
class OutcomeColumn:
    """A column of the outcomes.

    Attributes:
        kind: of its values.
        description: what it holds, as docs/results.md has it.
        least, most: bounds of its values.
        may_be_nan: whether a query may have no value; the columns to slice by may lack one for some.
        is_key: whether it belongs to the columns that name a query, so that runs can be aligned.
        is_answer: whether it is a model's answer; queries are chosen and sliced by the other columns only.
        is_optional: whether readers can do without it: results of older versions may lack it.
        axis_label: what figures write at an axis; its name where it is empty.
        slice_order: its place among the columns that reports slice by; None for a column that they do not.
        edges: of the bins of such slices; None for quantiles.
        bin_names: of the bins between the edges, in words; empty for their ends.
        depends_on_window: whether it depends on the setting MAX_ITEM_LIST_LENGTH.
        only_of_lists: whether runs of models lack it.
    """

    name: str
    kind: Literal["text", "integer", "float", "number", "flag", "list"]
    description: str
    least: float = 0.0
    most: float = float("inf")
    may_be_nan: bool = False
    is_key: bool = False
    is_answer: bool = False
    is_optional: bool = False
    axis_label: str = ""
    slice_order: int | None = None
    edges: tuple[float, ...] | None = None
    bin_names: tuple[str, ...] = ()
    depends_on_window: bool = False
    only_of_lists: bool = False


OUTCOME_COLUMNS = {
    column.name: column
    for column in (
        OutcomeColumn("user", "text", "the user, as in the data set's file", is_key=True),
        OutcomeColumn(
            "position",
            "integer",
            "number of the target in the user's sequence, from 0; `user` and `position` name a query",
            is_key=True,
        ),
        OutcomeColumn("target", "text", "the item, as in the file", is_key=True),
        OutcomeColumn(
            "rank",
            "float",
            "of the target among the candidates, from 1, by the protocol's rule for ties (so it may end in .5); inf "
            "for a target that is no candidate, which every metric counts as a miss",
            least=1.0,
            is_answer=True,
        ),
        OutcomeColumn("tied", "integer", "other candidates with exactly the target's score", is_answer=True),
        OutcomeColumn("candidates", "integer", "number of candidates, the target included where it is one"),
        OutcomeColumn(
            "log_probability",
            "float",
            "of the target among all items, in nats; NaN for RecBole's own classes, whose scores need not be "
            "probabilities, and for a target that is no candidate",
            least=-float("inf"),
            most=0.01,  # a sum of rounded numbers
            may_be_nan=True,
            is_answer=True,
            is_optional=True,
        ),
        OutcomeColumn(
            "context_length",
            "integer",
            "items before the target that the split lets a model see",
            is_optional=True,
            axis_label="items before the target",
            slice_order=4,
        ),
        OutcomeColumn(
            "time_gap",
            "number",
            "time since the item before the target, in the file's unit; 0: the two have equal times, and their order "
            "is that of `tie_order`; missing where that item is later, and in data without times",
            is_optional=True,
            axis_label="time since the previous interaction",
            slice_order=5,
            may_be_nan=True,
            edges=(-1.0, 0.0, float("inf")),  # no gap is negative
            bin_names=("tied", "not tied"),
        ),
        OutcomeColumn(
            "train_count",
            "integer",
            "how often training holds the target",
            is_optional=True,
            axis_label="how often training holds the target",
            slice_order=1,
        ),
        OutcomeColumn(
            "previous_distance",
            "float",
            "1 − cosine similarity of the training users of the target and of the item before it; 1 for an item that "
            "training lacks",
            least=-0.01,
            most=1.01,
            may_be_nan=True,
            is_optional=True,
            axis_label="distance of the target to the item before it",
            slice_order=3,
        ),
        OutcomeColumn(
            "oldest_distance",
            "float",
            "the same for the oldest item of the window of `MAX_ITEM_LIST_LENGTH`, which the article of A. Biarnes "
            "(2023) takes for the previous one",
            least=-0.01,
            most=1.01,
            may_be_nan=True,
            is_optional=True,
            axis_label="distance of the target to the oldest item of the context",
            slice_order=2,
            depends_on_window=True,
        ),
        OutcomeColumn(
            "target_in_history",
            "flag",
            "whether the user had the target before; `--by target_in_history:each` slices by it",
            is_optional=True,
            axis_label="the user had the target before",
        ),
        OutcomeColumn(
            "list_length",
            "integer",
            "only of lists that `score` evaluated: how many candidates the query's list holds; all of them where the "
            "target is none, so that no list could hold it",
            is_answer=True,
            is_optional=True,
            only_of_lists=True,
        ),
        OutcomeColumn(
            "top_items",
            "list",
            "the best candidates, the best first: `kept_items`, or as many as the largest cut-off of the run's "
            "metrics, 10 at least",
            is_answer=True,
            is_optional=True,
        ),
        OutcomeColumn(
            "top_in_history",
            "list",
            "of each of `top_items`, whether the user had it before the target",
            is_answer=True,
            is_optional=True,
        ),
    )
}
"""All columns by name, in the order of the file."""

KEY_COLUMNS = tuple(column.name for column in OUTCOME_COLUMNS.values() if column.is_key)
ANSWER_COLUMNS = tuple(column.name for column in OUTCOME_COLUMNS.values() if column.is_answer)
REQUIRED_COLUMNS = tuple(column.name for column in OUTCOME_COLUMNS.values() if not column.is_optional)
SLICED_COLUMNS = tuple(
    name for _, name in sorted((one.slice_order, one.name) for one in OUTCOME_COLUMNS.values() if one.slice_order)
)


def axis_label(column: str) -> str:
    """Returns what a figure writes at an axis of a column, which may be a user's own."""
    known = OUTCOME_COLUMNS.get(column)
    return known.axis_label if known is not None and known.axis_label else column


def outcomes_frame(values: Mapping[str, Any]) -> "pd.DataFrame":
    """Returns the outcomes of a run in the order of `OUTCOME_COLUMNS`, a row per test query, without the lists.

    Args:
        values: of every column that holds no lists, by name; a scalar stands for all queries.
    """
    import numpy as np  # here and not above, so that a list of runs does not wait for them
    import pandas as pd

    columns = {
        column.name: column for column in OUTCOME_COLUMNS.values() if column.kind != "list" and not column.only_of_lists
    }
    assert values.keys() == columns.keys(), sorted(values.keys() ^ columns.keys())
    frame = pd.DataFrame({name: values[name] for name in columns})
    for column in columns.values():
        dtype = frame[column.name].dtype
        kind = dtype.kind if isinstance(dtype, np.dtype) else "T"
        assert kind in _DTYPE_KINDS[column.kind], f"{column.name}: {dtype}, expected {column.kind}"
    return frame


def check_outcomes(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Returns the outcomes that a file held, whose columns have the types and ranges of `OUTCOME_COLUMNS`.

    Raises:
        ValueError: they have not, or there are no rows; with the column and the first such row.
    """
    if frame.empty:
        raise ValueError("no rows")
    for column in OUTCOME_COLUMNS.values():
        if column.name not in frame:
            continue
        values = frame[column.name]
        if column.kind == "text":
            faulty = values.isna()
        elif values.dtype.kind not in ("iuf" if column.kind in ("integer", "float") else _DTYPE_KINDS[column.kind]):
            raise ValueError(f"column {column.name} holds {values.dtype}; expected a {column.kind}")
        else:
            faulty = ~values.between(column.least, column.most)
            if column.may_be_nan:
                faulty &= values.notna()
        if faulty.any():
            row = int(faulty.to_numpy().argmax())
            raise ValueError(f"column {column.name}, row {row + 1}: {values.iloc[row]!r}; expected {_range(column)}")
    return frame


def _range(column: OutcomeColumn) -> str:
    return "a name" if column.kind == "text" else f"{column.kind} from {column.least:g} to {column.most:g}"
