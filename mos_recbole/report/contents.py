"""What a section of the report shows: its tables and figures, in the order in which they are read."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from mos_recbole.analysis import (
    TABLE_METRICS,
    Comparison,
    Condition,
    SliceBy,
    Slices,
    compare_groups,
    configuration_rows,
    join_comparisons,
    read_queries,
    slice_queries,
)
from mos_recbole.errors import InputError
from mos_recbole.report.article import Article, read_article
from mos_recbole.report.study import DIMENSION, Matchup, Section
from mos_recbole.report.study_figures import (
    Drawing,
    draw_cell_maps,
    draw_difference_maps,
    draw_dimensions,
    draw_slices,
    draw_training_curves,
)
from mos_recbole.report.study_tables import (
    Table,
    article_differences_table,
    article_table,
    main_table,
    paired_table,
    slices_table,
)
from mos_recbole.report.style import Look, model_looks
from mos_recbole.results import OUTCOME_COLUMNS, SLICED_COLUMNS, RunResult

_SLICED_BY = SLICED_COLUMNS
_DRAWN = ("train_count", "oldest_distance", "previous_distance")
_CROSSED = (("train_count", "oldest_distance"), ("train_count", "previous_distance"))
_OF_WINDOW = "oldest_distance"
_BINS = 4


@dataclass(frozen=True)
class Contents:
    """What a section shows.

    Attributes:
        items: tables and figures as they are read.
        notes: what is not shown, and why.
    """

    items: tuple[Table | Drawing, ...]
    notes: tuple[str, ...]


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
        parts = [compare_groups(pair, metrics) for pair in section.matched_pairs]
        items.append(paired_table(join_comparisons(parts)))
    else:
        notes.append("No paired differences: no model has a baseline head beside it in the same settings and code.")
    article = read_article()
    by_article = {key: row for key, row in chosen.items() if article.describes(row.runs[0])}
    if by_article and article.metric in metrics:
        items.append(article_table(article, by_article))
        if differences := _article_differences(article, section):
            items.append(article_differences_table(article, differences))
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


def _article_differences(article: Article, section: Section) -> dict[tuple[int, bool], Comparison]:
    """Returns the article's two models compared, by dimension and by whether rare targets are left out."""
    rare = Condition("train_count", ">", str(article.frequent.more_than))
    found: dict[tuple[int, bool], Comparison] = {}
    for matchup in section.matchups:
        if (matchup.baseline, matchup.model) != (article.baseline, article.model):
            continue
        for dimension in matchup.pairs.keys() & article.results.keys():
            pair = matchup.pairs[dimension]
            if not all(article.describes(side.runs[0]) for side in pair):
                continue
            for without_rare in (False, True):
                compared = compare_groups(pair, [article.metric], [rare] if without_rare else [])
                found[dimension, without_rare] = compared.rows[0]
    return dict(sorted(found.items()))


def _matchup_contents(
    section: Section, matchup: Matchup, metric: str, looks: Mapping[str, Look]
) -> tuple[list[Table | Drawing], list[str]]:
    """Returns the slices of a model and its baseline, and by which columns there are none."""
    models = (matchup.baseline, matchup.model)
    there = _shared_columns(matchup)
    lacking = [column for column in _SLICED_BY if column not in there]
    notes = [f"No slices by {', '.join(lacking)}: not all outcomes have such a column."] if lacking else []
    windows = sorted({str(run.settings.get("MAX_ITEM_LIST_LENGTH")) for run in _first_runs(matchup)})
    if _OF_WINDOW in there and len(windows) > 1:
        there.remove(_OF_WINDOW)
        notes.append(f"No slices by {_OF_WINDOW}: there are windows of different lengths, {' and '.join(windows)}.")
    wanted = [columns for columns in (*((one,) for one in _SLICED_BY), *_CROSSED) if there.issuperset(columns)]
    found: dict[tuple[str, ...], dict[int, Slices]] = {columns: {} for columns in wanted}
    for dimension, pair in matchup.pairs.items():
        queries = read_queries(pair, [metric], sorted(there))
        for columns in wanted:
            try:
                slices = slice_queries(queries, pair, metric, [_bins(matchup, column) for column in columns])
            except InputError as error:
                notes.append(f"No slices by {' and '.join(columns)} at {DIMENSION} {dimension}: {error}")
                continue
            # All dimensions stand in one table, which tells them apart.
            found[columns][dimension] = replace(slices, labels=models)
    items: list[Table | Drawing] = []
    for columns, by_dimension in found.items():
        if not by_dimension:
            continue
        if len(columns) == 2:
            items.append(draw_difference_maps(columns, models, by_dimension))
            items.append(draw_cell_maps(columns, *models, by_dimension))
        elif columns[0] in _DRAWN:
            items.append(draw_slices(columns[0], models, by_dimension, looks))
        title = f"{matchup.model} against {matchup.baseline} by {' and '.join(columns)}, in numbers"
        items.append(slices_table("-".join((*columns, matchup.model)), title, by_dimension))
    return items, notes


def _shared_columns(matchup: Matchup) -> set[str]:
    """Returns the columns to slice by that all outcomes of a matchup have."""
    runs = [run for pair in matchup.pairs.values() for side in pair for run in side.runs]
    return set(_SLICED_BY).intersection(*(run.outcomes_columns() for run in runs))


def _first_runs(matchup: Matchup) -> list[RunResult]:
    """Returns a run of every configuration of a matchup."""
    return [side.runs[0] for pair in matchup.pairs.values() for side in pair]


def _bins(matchup: Matchup, column: str) -> SliceBy:
    """Returns how a column is sliced: by the article's protocol in the article's bins."""
    article = read_article()
    if OUTCOME_COLUMNS[column].edges is not None:
        return SliceBy(column, OUTCOME_COLUMNS[column].edges)
    if column in article.bins and all(map(article.describes, _first_runs(matchup))):
        return SliceBy(column, article.bins[column])
    return SliceBy(column, _BINS)


def _training_curves(section: Section, looks: Mapping[str, Look]) -> Drawing:
    """Returns the curves of the chosen configurations, by the validation metric that most of them have."""
    metrics = Counter(side.runs[0].valid_metric for side in section.chosen.values())
    logs: dict[int, dict[str, list[pd.DataFrame]]] = {}
    for (model, dimension), side in sorted(section.chosen.items(), key=lambda item: item[0][1]):
        logs.setdefault(dimension, {})[model] = [run.training_log() for run in side.runs]
    return draw_training_curves(logs, metrics.most_common(1)[0][0], looks)
