"""What a section of the report shows: its tables and figures, in the order in which they are read."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from mos_recbole.analysis.compare import MARGIN, compare_groups, join_comparisons
from mos_recbole.analysis.configurations import best_first, configuration_rows
from mos_recbole.analysis.costs import Cost, usual_cost
from mos_recbole.analysis.outcomes import TABLE_METRICS
from mos_recbole.analysis.queries import read_queries
from mos_recbole.analysis.reference import Reference
from mos_recbole.analysis.slices import SliceBy, Slices, slice_queries
from mos_recbole.analysis.study import Matchup, Section
from mos_recbole.errors import InputError
from mos_recbole.report.comparisons import finding, pairs_table
from mos_recbole.report.figures import Figure, Look
from mos_recbole.report.figures.costs import draw_costs
from mos_recbole.report.figures.heat import draw_heat_maps
from mos_recbole.report.figures.maps import draw_cell_maps, draw_difference_maps
from mos_recbole.report.figures.slices import draw_slices
from mos_recbole.report.figures.training import Curve, coloured_curves, draw_training_curves
from mos_recbole.report.figures.widths import draw_widths
from mos_recbole.report.formatting import number_cell
from mos_recbole.report.reference import reference_tables
from mos_recbole.report.runs import METRICS_CAPTION, configurations_table, front_caption, setting_words
from mos_recbole.report.slices import slices_table
from mos_recbole.report.table import Table
from mos_recbole.results import OUTCOME_COLUMNS, SLICED_COLUMNS, axis_label, setting_columns, varied_settings

_DRAWN = ("train_count", "oldest_distance", "previous_distance")
_CROSSED = (("train_count", "oldest_distance"), ("train_count", "previous_distance"))
_SLICED = tuple(dict.fromkeys([*_DRAWN, *SLICED_COLUMNS]))

_MOST_MAPS = 4  # of two settings
_MOST_CURVES = 6  # panels of training curves, each by one setting
_MOST_PAIRS = 12  # that a table compares in the same settings

_PAIRED = (
    "Intervals of two rows that overlap say little about the difference between them, which the paired table tests."
)


@dataclass(frozen=True)
class Contents:
    """What a section shows.

    Attributes:
        findings: what comparisons say, a few sentences each.
        items: tables and figures as they are read.
        notes: what is not shown, and why.
    """

    findings: tuple[str, ...]
    items: tuple[Table | Figure, ...]
    notes: tuple[str, ...]


def section_contents(
    section: Section,
    metric: str,
    looks: Mapping[str, Look],
    references: Sequence[Reference] = (),
    step: Callable[[str], None] = lambda _: None,
    metrics: Sequence[str] = TABLE_METRICS,
    cost: Cost | None = None,
    margin: float = MARGIN,
) -> Contents:
    """Returns the tables and figures of one protocol's runs.

    Args:
        section: the runs.
        metric: which one slices and figures show, in RecBole's spelling.
        looks: of the models, the same in all sections of a page.
        references: published numbers, those on the section's data set to be shown beside ours.
        step: called after each of `count_steps`, with what was done.
        metrics: that tables of models and of differences show, beside `metric`.
        cost: which `metric` is set against; None for `usual_cost`.
        margin: of relative differences that count as equivalent.

    Raises:
        InputError: outcomes that are missing, broken or not of the same queries.
    """
    on_these_data = [reference for reference in references if reference.dataset == section.runs[0].dataset]
    published = [row.metric for reference in on_these_data for row in reference.rows]
    rows = {row.label: row for row in configuration_rows(section.runs, _unique(*metrics, metric, *published))}
    step("compared")
    shown = _unique(metric, *metrics)
    in_order = best_first(rows.values(), metric)
    lacking = [row.label for row in in_order if not row.has(metric)]
    cost = usual_cost(section.runs) if cost is None else cost
    caption = f"{METRICS_CAPTION} {_PAIRED} {front_caption(metric, cost)}"
    items: list[Table | Figure] = [configurations_table(in_order, shown, caption, short=True, cost=cost)]
    notes = [*section.notes, *_unlike_devices(section)]
    if lacking:
        notes.append(f"Not compared by {metric}, which they do not have: {', '.join(lacking)}.")
    said_of = dict(zip(rows, setting_words([row.runs[0] for row in rows.values()]), strict=True))
    findings = [finding(*found, said_of) for found in section.findings(metric, margin, lacking)]
    pairs = [
        pair for pair in section.matched_pairs if any(all(rows[one.label].has(name) for one in pair) for name in shown)
    ]
    if len(pairs) > _MOST_PAIRS:
        chosen = {group.label for group in section.chosen.values()}
        notes.append(
            f"Of {len(pairs)} pairs in the same settings, the table of differences has those of chosen models."
        )
        pairs = [pair for pair in pairs if pair[1].label in chosen]
    if pairs:
        compared = join_comparisons([compare_groups(pair, shown, margin=margin) for pair in pairs])
        items.append(pairs_table(compared, pairs))
    else:
        notes.append("No paired differences: no model has its baseline beside it in the same settings and code.")
    step("compared")
    items += reference_tables(on_these_data, section, rows)
    about_none = [reference.source for reference in references if not _is_about(reference, section)]
    if about_none:
        notes.append(f"The numbers of {', '.join(dict.fromkeys(about_none))} are about none of these configurations.")
    if sum(cost.interval(row.runs) is not None and row.has(metric) for row in in_order) > 1:
        items.append(draw_costs({"": in_order}, metric, cost, looks))
    if section.chosen:
        means = {key: rows[group.label].intervals[metric] for key, group in section.chosen.items()}
        items.append(draw_widths(means, metric, looks))
    items += _heat_maps(section)
    for matchup in section.matchups:
        slicer = _Slicer(matchup, metric, on_these_data, margin)
        items += slicer.items(looks)
        notes += slicer.notes
        step("sliced")
    items += _training_curves(section, looks)
    return Contents(tuple(findings), tuple(items), tuple(dict.fromkeys(notes)))


def count_steps(section: Section) -> int:
    """Returns how often `section_contents` calls its `step`."""
    return 2 + len(section.matchups)


def _is_about(reference: Reference, section: Section) -> bool:
    """Returns whether any published number is of a configuration of ours."""
    return reference.dataset == section.runs[0].dataset and (
        any(reference.find(section, row) for row in reference.rows)
        or any(reference.find_pair(section, difference) for difference in reference.differences)
    )


class _Slicer:
    """The slices of a model and its baseline, at every width.

    Attributes:
        notes: which slices there are not, and why.
    """

    def __init__(self, matchup: Matchup, metric: str, references: Sequence[Reference], margin: float) -> None:
        self.notes: list[str] = []
        self._matchup, self._metric, self._margin = matchup, metric, margin
        self._models = (matchup.baseline, matchup.model)
        by_protocol = [one for one in references if all(map(one.is_protocol_of, matchup.runs))]
        self._edges = {column: edges for one in by_protocol for column, edges in one.bins.items()}

    def items(self, looks: Mapping[str, Look]) -> list[Table | Figure]:
        """Returns the figures and tables."""
        items: list[Table | Figure] = []
        for columns, by_width in self._slices().items():
            if not by_width:
                continue
            if len(columns) == 2:
                items.append(draw_difference_maps(columns, self._models, by_width))
                items.append(draw_cell_maps(columns, self._models, by_width))
            elif columns[0] in _DRAWN:
                items.append(draw_slices(columns[0], self._models, by_width, looks))
            items.append(self._table(columns, by_width))
        return items

    def _slices(self) -> dict[tuple[str, ...], dict[int, Slices]]:
        """Returns the slices by columns and width."""
        there = self._columns()
        wanted = [columns for columns in (*((one,) for one in _SLICED), *_CROSSED) if there.issuperset(columns)]
        found: dict[tuple[str, ...], dict[int, Slices]] = {columns: {} for columns in wanted}
        for width, pair in self._matchup.pairs.items():
            queries = read_queries(pair, [self._metric], sorted(there))
            for columns in wanted:
                try:
                    bins = [self._bins(column) for column in columns]
                    slices = slice_queries(queries, pair, self._metric, bins, margin=self._margin)
                except InputError as error:
                    self.notes.append(f"No slices by {' and '.join(columns)} at width {width}: {error}")
                    continue
                # All widths are in one table, which tells them apart.
                found[columns][width] = replace(slices, labels=self._models)
        return found

    def _columns(self) -> set[str]:
        """Returns the columns to slice by: those that all outcomes have, and that are about the same."""
        runs = self._matchup.runs
        there = set(_SLICED).intersection(*(run.outcomes_columns() for run in runs))
        if lacking := [column for column in _SLICED if column not in there]:
            self.notes.append(f"No slices by {', '.join(lacking)}: not all outcomes have such a column.")
        windows = sorted({str(run.settings.get("MAX_ITEM_LIST_LENGTH")) for run in runs})
        for column in sorted(there):
            if OUTCOME_COLUMNS[column].depends_on_window and len(windows) > 1:
                there.remove(column)
                lengths = " and ".join(windows)
                self.notes.append(f"No slices by {column}: there are windows of different lengths, {lengths}.")
        return there

    def _bins(self, column: str) -> SliceBy:
        """Returns how a column is sliced: in the bins of a reference where the runs are by its protocol."""
        known = OUTCOME_COLUMNS[column]
        if known.edges is not None:
            return SliceBy(column, known.edges)
        return SliceBy(column, self._edges[column]) if column in self._edges else SliceBy(column)

    def _table(self, columns: Sequence[str], by_width: Mapping[int, Slices]) -> Table:
        """Returns the slices at all widths, below each other."""
        tables = {width: slices_table(slices) for width, slices in by_width.items()}
        rows = [{"width": number_cell(width, "d"), **row} for width, one in tables.items() for row in one.rows]
        # Without the row of all cells together.
        frames = [one.frame.head(len(by_width[width].cells)).assign(width=width) for width, one in tables.items()]
        frame = pd.concat(frames, ignore_index=True)
        lines = _unique(*(line for one in tables.values() for line in one.caption.splitlines()))
        own = ["p values are corrected for each width by itself."] if len(tables) > 1 else []
        by = " and ".join(map(axis_label, columns))
        title = f"{self._matchup.model} against {self._matchup.baseline} by {by}, in numbers"
        in_order = frame[["width", *(name for name in frame if name != "width")]]
        name = "-".join((*columns, self._matchup.model))
        return Table(name, title, "\n".join([*lines, *own]), rows, in_order, folded=True)


def _unlike_devices(section: Section) -> list[str]:
    """Returns a note where costs were measured on devices of several kinds."""
    devices = sorted({run.device for run in section.runs if run.was_trained})
    return (
        [f"Costs are of different devices ({', '.join(devices)}): compare them with care."] if len(devices) > 1 else []
    )


def _heat_maps(section: Section) -> list[Figure]:
    """Returns the best validation score over any two settings in which the runs differ, for every model."""
    # Some runs have no validation: of splits without one, and of lists that others made.
    validated = [run for run in section.runs if run.valid_metric in run.valid]
    if not validated:
        return []
    metric, direction = validated[0].valid_metric, validated[0].valid[validated[0].valid_metric].direction
    runs = [run for run in validated if run.valid_metric == metric]
    columns, _ = setting_columns(runs)
    settings = pd.DataFrame(columns).map(_plain_value)
    scores = settings.assign(**{f"valid {metric}": [run.valid[metric].value for run in runs]})
    by_model = {str(model): own for model, own in scores.groupby([run.model for run in runs], sort=False)}
    return draw_heat_maps(
        by_model, {name: name for name in columns}, metric, "max" if direction == "higher" else "min", most=_MOST_MAPS
    )


def _training_curves(section: Section, looks: Mapping[str, Look]) -> list[Figure]:
    """Returns the curves of all runs with the metric that most were validated by, in colours of what was varied."""
    validated = [run for run in section.runs if run.valid_metric in run.valid]
    if not validated:
        return []
    metric = Counter(run.valid_metric for run in validated).most_common(1)[0][0]
    runs = [run for run in validated if run.valid_metric == metric]
    curves = [Curve(run.model, run.training_log()) for run in runs]
    columns, _ = setting_columns(runs, varied_settings(runs))
    frame = pd.DataFrame({"model": [run.model for run in runs], **columns}).map(_plain_value)
    varied = [name for name in columns if frame.groupby("model")[name].nunique().max() > 1]
    panels = {name: coloured_curves(curves, frame[name], looks) for name in varied[:_MOST_CURVES]}
    caption = f"Validation {metric} by epoch, a line a run."
    if varied:
        caption += " The same lines in each panel, in the colours of one setting; grey: without it."
    return [draw_training_curves(panels or {"": curves}, metric, looks, caption, shared=True)]


def _plain_value(value: object) -> object:
    """Returns a setting's value, lists and mappings as text."""
    return value if value is None or isinstance(value, int | float | str) else str(value)


def _unique(*names: str) -> list[str]:
    return list(dict.fromkeys(names))
