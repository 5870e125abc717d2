"""What a section of the report shows: its tables and figures, in the order in which they are read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from mos_recbole.errors import InputError
from mos_recbole.evaluation import Bins
from mos_recbole.report.article import read_article
from mos_recbole.report.compare import compare_sides, join_comparisons
from mos_recbole.report.sides import Side
from mos_recbole.report.slices import SliceBy, Slices, slice_sides
from mos_recbole.report.study import Matchup, Section
from mos_recbole.report.study_figures import (
    Drawing,
    draw_cell_maps,
    draw_difference_maps,
    draw_dimensions,
    draw_slices,
    draw_training_curves,
)
from mos_recbole.report.study_tables import Table, article_table, main_table, paired_table, slices_table
from mos_recbole.report.style import Look, model_looks
from mos_recbole.report.tables import TABLE_METRICS, configuration_rows

_TIME_GAP = "time_gap"
_SLICED_BY = ("train_count", "oldest_distance", "previous_distance", "context_length", _TIME_GAP)
_DRAWN = ("train_count", "oldest_distance", "previous_distance")
_CROSSED = (("train_count", "oldest_distance"), ("train_count", "previous_distance"))
_BINS = 4
# A gap of 0 is a tie; no gap is negative.
_TIE_EDGES = (-1.0, 0.0, float("inf"))
_TIE_LABELS = ("tied", "not tied")


@dataclass(frozen=True)
class Contents:
    """What a section shows.

    Attributes:
        items: tables and figures as they are read.
        notes: what is not shown, and why.
    """

    items: tuple[Table | Drawing, ...]
    notes: tuple[str, ...]

    @property
    def tables(self) -> list[Table]:
        return [item for item in self.items if isinstance(item, Table)]

    @property
    def drawings(self) -> list[Drawing]:
        return [item for item in self.items if isinstance(item, Drawing)]


def section_contents(section: Section, metric: str) -> Contents:
    """Returns the tables and figures of one protocol's runs.

    Args:
        section: the runs.
        metric: which one slices and figures show, in RecBole's spelling.

    Raises:
        InputError: outcomes that are missing, broken or not of the same queries.
    """
    metrics = list(dict.fromkeys([*TABLE_METRICS, metric]))
    rows = {row.label: row for row in configuration_rows(section.runs, metrics)}
    chosen = {key: rows[side.label] for key, side in section.chosen.items()}
    looks = model_looks(section.models)
    items: list[Table | Drawing] = [main_table(list(rows.values()))]
    notes = list(section.notes)
    if section.matched_pairs:
        parts = [compare_sides(pair, metrics) for pair in section.matched_pairs]
        items.append(paired_table(join_comparisons(parts)))
    else:
        notes.append("No paired differences: no model has a baseline head beside it in the same settings and code.")
    article = read_article()
    if article.describes(section.runs[0]) and article.metric in metrics:
        items.append(article_table(article, chosen))
    else:
        notes.append("The article's published numbers are not shown: these runs are not by its protocol.")
    if chosen:
        items.append(draw_dimensions({key: row.intervals[metric] for key, row in chosen.items()}, metric, looks))
    for matchup in section.matchups:
        found, missing = _matchup_contents(section, matchup, metric, looks)
        items += found
        notes += missing
    if chosen:
        items.append(_training_curves(section, looks))
    return Contents(tuple(items), tuple(dict.fromkeys(notes)))


def _matchup_contents(
    section: Section, matchup: Matchup, metric: str, looks: Mapping[str, Look]
) -> tuple[list[Table | Drawing], list[str]]:
    """Returns the slices of a model and its baseline, and by which columns there are none."""
    models = (matchup.baseline, matchup.model)
    versus = f"{matchup.model} against {matchup.baseline}"
    items: list[Table | Drawing] = []
    notes = []
    lacking = _lacking_columns(matchup)
    if lacking:
        notes.append(f"No slices by {', '.join(lacking)}: not all outcomes have such a column.")
    for columns in [*((column,) for column in _SLICED_BY), *_CROSSED]:
        if any(column in lacking for column in columns):
            continue
        try:
            slices = {d: _slice(section, matchup, pair, metric, columns) for d, pair in matchup.pairs.items()}
        except InputError as error:  # that the queries agree is known: it is about the column
            notes.append(f"No slices by {' and '.join(columns)}: {error}")
            continue
        if len(columns) == 1:
            if columns[0] in _DRAWN:
                items.append(draw_slices(columns[0], models, slices, looks))
        else:
            items.append(draw_difference_maps(columns, models, slices))
            items.append(draw_cell_maps(columns, *models, slices))
        name = "-".join((*columns, matchup.model))
        items.append(slices_table(name, f"{versus} by {' and '.join(columns)}", slices))
    return items, notes


def _lacking_columns(matchup: Matchup) -> list[str]:
    """Returns the columns that outcomes of a matchup's runs lack."""
    runs = [run for pair in matchup.pairs.values() for side in pair for run in side.runs]
    there = set(_SLICED_BY).intersection(*(run.outcomes_columns() for run in runs))
    return [column for column in _SLICED_BY if column not in there]


def _slice(section: Section, matchup: Matchup, pair: Sequence[Side], metric: str, columns: Sequence[str]) -> Slices:
    """Returns the slices of baseline and model; by the article's protocol in the article's bins."""
    article = read_article()
    edges = article.bins if article.describes(section.runs[0]) else {}
    by = [SliceBy(column, _TIE_EDGES if column == _TIME_GAP else edges.get(column, _BINS)) for column in columns]
    # All dimensions stand in one table, which tells them apart.
    slices = replace(slice_sides(pair, metric, by), sides=(matchup.baseline, matchup.model))
    return _name_ties(slices) if _TIME_GAP in columns else slices


def _name_ties(slices: Slices) -> Slices:
    """Returns slices by time_gap in words."""
    words = dict(zip(Bins(_TIE_EDGES).labels, _TIE_LABELS, strict=True))
    axes = tuple(tuple(words.get(label, label) for label in axis) for axis in slices.axes)
    cells = tuple(
        replace(cell, labels=tuple(words.get(label, label) for label in cell.labels)) for cell in slices.cells
    )
    return replace(slices, axes=axes, cells=cells)


def _training_curves(section: Section, looks: Mapping[str, Look]) -> Drawing:
    """Returns the curves of the chosen configurations, by the validation metric that most of them have."""
    metrics = Counter(side.runs[0].valid_metric for side in section.chosen.values())
    logs: dict[int, dict[str, list[pd.DataFrame]]] = {}
    for (model, dimension), side in sorted(section.chosen.items(), key=lambda item: item[0][1]):
        logs.setdefault(dimension, {})[model] = [run.training_log() for run in side.runs]
    return draw_training_curves(logs, metrics.most_common(1)[0][0], looks)
