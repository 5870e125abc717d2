"""The queries of a comparison: metrics and columns of groups of runs that were evaluated on the same ones."""

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mos_recbole.analysis.outcomes import iterate_query_values, user_numbers
from mos_recbole.analysis.run_groups import RunGroup
from mos_recbole.errors import InputError, nearest
from mos_recbole.results import ANSWER_COLUMNS, RunResult

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


@dataclass(frozen=True)
class Condition:
    """What a query must fulfil: "train_count>814". A query without a value (NaN) fulfils none."""

    column: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.column} {self.operator} {self.value}"

    def holds(self, values_Q: np.ndarray) -> np.ndarray:
        """Returns which of a column's values fulfil the condition, bool [Q].

        Raises:
            InputError: a number is asked of text or text of numbers, or an order of text.
        """
        missing_Q = np.asarray(pd.isna(values_Q))
        if is_numeric(values_Q):
            named = {"true": 1.0, "false": 0.0} if np.asarray(values_Q).dtype.kind == "b" else {}
            try:
                value: float | str = named[low] if (low := self.value.lower()) in named else float(self.value)
            except ValueError:
                what = "true and false" if named else "numbers"
                raise InputError(f"condition {self}: {self.column} holds {what}; expected one") from None
        elif self.operator in ("=", "!="):
            value, values_Q = self.value, values_Q.astype(str)
        else:
            raise InputError(f"condition {self}: {self.column} holds text, which is equal (=) or not (!=)")
        fulfils_Q: np.ndarray = ~missing_Q & _OPERATORS[self.operator](values_Q, value)
        return fulfils_Q


def parse_condition(text: str) -> Condition:
    """Returns the condition "train_count>814": a column, one of > >= < <= = !=, and a number or a text.

    Raises:
        InputError: other text.
    """
    found = re.fullmatch(r"\s*(\w+)\s*(>=|<=|!=|>|<|==?)\s*(\S.*?)\s*", text)
    if found is None:
        raise InputError(
            f"condition {text!r} not understood; expected a column, one of {' '.join(_OPERATORS)} and a value, in "
            "quotation marks (> is the shell's too): 'train_count>814'"
        )
    return Condition(found[1], "=" if found[2] == "==" else found[2], found[3])


@dataclass(frozen=True)
class Queries:
    """The queries that some groups share.

    Attributes:
        user_Q: the queries' users, numbered from 0.
        columns: of the outcomes, by name, [Q] each; the same for all runs.
        values: of every group the metrics by name, float64 [seeds, Q] each; NaN where a query has no such metric. Of a
            metric of all lists together the recommended items, [seeds, Q, k].
        n_left_out: queries that do not fulfil the conditions, which are not among these.
    """

    user_Q: np.ndarray
    columns: dict[str, np.ndarray]
    values: tuple[dict[str, np.ndarray], ...]
    n_left_out: int

    @property
    def n_users(self) -> int:
        return len(np.unique(self.user_Q))


def read_queries(
    groups: Sequence[RunGroup], metrics: Sequence[str], columns: Sequence[str] = (), where: Sequence[Condition] = ()
) -> Queries:
    """Returns the queries of groups that may be compared, with their metrics and the columns that are asked for.

    Args:
        groups: of different runs, evaluated by one protocol.
        metrics: in RecBole's spelling (`checked_metrics`).
        columns: of outcomes.parquet, about the query and not about a model's answer.
        where: conditions, of which the queries fulfil all.

    Raises:
        InputError: a run in two groups, different protocols or queries, outcomes that are missing, a column that is
            missing or in which runs differ, a condition that a column cannot fulfil, or that no query does.
    """
    require_distinct_runs(groups)
    require_one_protocol(groups)
    runs = [run for group in groups for run in group.runs]
    wanted = list(dict.fromkeys([*columns, *(condition.column for condition in where)]))
    found: dict[str, np.ndarray] = {}
    rows: list[dict[str, np.ndarray]] = []
    for run, (table, of_run) in zip(runs, iterate_query_values(runs, metrics), strict=True):
        if not rows:
            user_Q = user_numbers(table)
        for column in wanted:
            values_Q = _column(table, column, run)
            if column in found and not _alike(found[column], values_Q):
                raise InputError(
                    f"column {column} differs between {runs[0].folder} and {run.folder}: queries are chosen by what "
                    "is the same for all runs"
                )
            found.setdefault(column, values_Q)
        rows.append(of_run)
    by_run = iter(rows)
    by_group = [[next(by_run) for _ in group.runs] for group in groups]
    keep = np.logical_and.reduce([np.full(len(user_Q), True), *(one.holds(found[one.column]) for one in where)])
    if not keep.any():
        raise InputError(f"none of {len(keep):,} queries has {' and '.join(map(str, where))}")
    return Queries(
        user_Q=user_Q[keep],
        columns={column: values_Q[keep] for column, values_Q in found.items()},
        values=tuple(
            {metric: np.stack([row[metric][keep] for row in group]) for metric in metrics} for group in by_group
        ),
        n_left_out=int((~keep).sum()),
    )


def is_numeric(values_Q: np.ndarray) -> bool:
    """Returns whether a column holds numbers, which have an order and quantiles."""
    return values_Q.dtype.kind in "iufb"


_ANSWERS = (*ANSWER_COLUMNS, "mean_rank")


def _column(table: pd.DataFrame, column: str, run: RunResult) -> np.ndarray:
    if column in _ANSWERS:
        raise InputError(
            f"column {column} is a model's answer, and queries are chosen by what is known without one; expected one "
            f"of {', '.join(str(name) for name in table if name not in _ANSWERS)}"
        )
    if column not in table:
        known = [str(name) for name in table if name not in _ANSWERS]
        hint = nearest(column, known) or "none is near"
        raise InputError(f"no column {column!r} in the outcomes of {run.folder}; {hint} (columns: {', '.join(known)})")
    return table[column].to_numpy()


def _alike(first_Q: np.ndarray, second_Q: np.ndarray) -> bool:
    """Returns whether two runs have the same column, but for rounding that differs between machines."""
    if is_numeric(first_Q) and is_numeric(second_Q):
        return bool(np.allclose(first_Q, second_Q, rtol=1e-9, atol=1e-12, equal_nan=True))
    return bool(((first_Q == second_Q) | (pd.isna(first_Q) & pd.isna(second_Q))).all())


def require_distinct_runs(groups: Sequence[RunGroup]) -> None:
    """Raises InputError if two groups have a run in common."""
    seen: dict[str, RunGroup] = {}
    for group in groups:
        for run in group.runs:
            if run.run_id in seen:
                raise InputError(
                    f"run {run.run_id} is in two groups, {seen[run.run_id].label} and {group.label}: groups that are "
                    "compared must have different runs"
                )
        seen |= {run.run_id: group for run in group.runs}


def require_one_protocol(groups: Sequence[RunGroup]) -> None:
    """Raises InputError, with what differs, if the groups' numbers may not be compared."""
    first = groups[0]
    faults = [
        f"{first.label} and {group.label}: {'; '.join(_protocol_differences(first.runs[0], group.runs[0]))}"
        for group in groups[1:]
        if group.runs[0].protocol_hash != first.runs[0].protocol_hash
    ]
    if faults:
        raise InputError("\n".join(["runs of different protocols cannot be compared", *faults]))


def _protocol_differences(first: RunResult, second: RunResult) -> Iterator[str]:
    """Yields in what two runs' protocols and data differ: "filter_seen: True and False"."""
    if first.dataset != second.dataset:
        yield f"data set: {first.dataset} and {second.dataset}"
    yield from _differences(first.protocol, second.protocol)
    yield from _differences({"data": first.data}, {"data": second.data})


def _differences(first: dict[str, Any], second: dict[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys([*first, *second]):
        ours, theirs = first.get(key), second.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            yield from (f"{key} {difference}" for difference in _differences(ours, theirs))
        elif ours != theirs:
            yield f"{key}: {ours} and {theirs}"
