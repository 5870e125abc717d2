"""The report of a study, from the files of runs alone: tables, figures and one page."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mos_recbole.analysis.compare import MARGIN
from mos_recbole.analysis.costs import cost_named
from mos_recbole.analysis.outcomes import asked_metrics, checked_metrics, leading_metric, mean_metric
from mos_recbole.analysis.reference import Reference, read_reference
from mos_recbole.analysis.study import Section, Study, read_study
from mos_recbole.errors import InputError
from mos_recbole.progress import ProgressBar
from mos_recbole.report.folder import new_files
from mos_recbole.report.provenance import moment, protocol_line, section_facts, section_settings
from mos_recbole.report.table import Table

if TYPE_CHECKING:
    from mos_recbole.report.figures import Figure
    from mos_recbole.report.page import PageSection

PAGE_FILE = "report.html"
_TABLES, _FIGURES = "tables", "figures"
_MOST_NAMED = 6  # models in the title


def write_report(
    folders: Sequence[Path],
    output: Path | None = None,
    metric: str | None = None,
    references: Sequence[Path] = (),
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
    cost: str | None = None,
    margin: float = MARGIN,
) -> list[Path]:
    """Returns the files of the report: the page, then tables and figures of every protocol.

    All is made before anything is written. Nothing of an earlier report in the same folder is left. The same results
    give the same bytes.

    Args:
        folders: of results, by runs or sweeps, which may be under way.
        output: folder of the report; by default `report` in the first of `folders`.
        metric: which one findings, slices and figures show; any that is the mean of a value a query. By default the
            first such of `metrics`, or what all runs were selected by.
        references: files of published numbers to show beside ours.
        baseline: the head or the model that others are compared with; by default the softmax head.
        metrics: that tables of models and of differences show; by default those that the runs were asked for.
        cost: one of `analysis.COSTS`, which the metric is set against; by default the processor's time, or the training
            time where it is not all or not known.
        margin: of relative differences that count as equivalent.

    Raises:
        InputError: no finished runs, a folder that is missing, a record or outcomes that are broken, outcomes of one
            protocol that are not of the same queries, an unknown metric or cost, a broken reference, or an output that
            cannot be written to or that has folders of the report's names without a report.
    """
    # Here and not above, so that tables do not wait for matplotlib.
    from mos_recbole.report.figures import model_looks
    from mos_recbole.report.page import PageSection
    from mos_recbole.report.sections import count_steps, section_contents

    published = [read_reference(path) for path in references]
    study = read_study(folders, baseline)
    kind = None if cost is None else cost_named(cost)
    command = _command(folders, metric, references, baseline, metrics, cost, margin)
    runs = [run for section in study.sections for run in section.runs]
    shown = checked_metrics(metrics or asked_metrics(runs))
    metric = mean_metric(metric or leading_metric(runs, metrics or ()))
    output = folders[0] / "report" if output is None else output
    _require_own(output)
    looks = model_looks(sorted({run.model for run in runs}))
    with ProgressBar("report", sum(map(count_steps, study.sections)), "steps") as bar:
        step = partial(bar.advance, 1)
        contents = [
            section_contents(one, metric, looks, _about(one, study, published), step, shown, kind, margin)
            for one in study.sections
        ]
    newest = max(run.finished for section in study.sections for run in section.runs)
    parts = [
        PageSection(
            *(section.title, section.name, section_facts(section), section_settings(section)),
            *(content.notes, content.items, content.findings, protocol_line(section.runs[0])),
        )
        for section, content in zip(study.sections, contents, strict=True)
    ]
    return write_page(output, parts, study.missing, command, moment(newest), _title(study))


def write_page(
    output: Path, sections: Sequence["PageSection"], missing: Sequence[str], command: str, newest: str, title: str
) -> list[Path]:
    """Returns the files of a page: itself, then tables and figures of every section. They replace earlier ones.

    Args:
        output: folder of the page.
        sections: with figures that are not saved yet.
        missing, command, newest, title: as of `render_page`.

    Raises:
        InputError: an output that cannot be written to or that has folders of the page's names without a page.
    """
    from mos_recbole.report.page import render_page

    _require_own(output)
    n_items = sum(len(section.items) for section in sections)
    with new_files(output) as temporary, ProgressBar("report", n_items, "tables and figures") as bar:
        paths, parts = [temporary / PAGE_FILE], []
        for section in sections:
            written, items = _write_items(section, temporary, bar)
            paths += written
            parts.append(replace(section, items=items))
        page = render_page(parts, missing, command, newest, title)
        paths[0].write_text(page, encoding="utf-8", newline="\n")
    return [output / path.relative_to(temporary) for path in paths]


def _about(section: Section, study: Study, references: Sequence[Reference]) -> list[Reference]:
    """Returns what was published on a section's data set, and what is on none of the study's, to be named there."""
    datasets = {one.runs[0].dataset for one in study.sections}
    return [one for one in references if one.dataset == section.runs[0].dataset or one.dataset not in datasets]


def _write_items(
    section: "PageSection", folder: Path, bar: ProgressBar
) -> tuple[list[Path], list["Table | tuple[Figure, bytes]"]]:
    """Returns the files of a section's tables and figures, and these, figures each with its SVG file."""
    from mos_recbole.report import figures

    tables, drawings = (folder / kind / section.name for kind in (_TABLES, _FIGURES))
    tables.mkdir(parents=True)
    drawings.mkdir(parents=True)
    paths: list[Path] = []
    items: list[Table | tuple[Figure, bytes]] = []
    for item in section.items:
        if isinstance(item, Table):
            paths += replace(item, caption="\n".join(filter(None, [section.about, item.caption]))).write(tables)
            items.append(item)
            bar.advance(1, item.title)
        elif isinstance(item, figures.Figure):
            png, svg = figures.save_figure(item, drawings)
            paths += [png, svg]
            items.append((item, svg.read_bytes()))
            bar.advance(1, item.title)
    return paths, items


def _title(study: Study) -> str:
    """Returns the page's title: models and data."""
    models = list(dict.fromkeys(model for section in study.sections for model in section.models))
    datasets = list(dict.fromkeys(section.runs[0].dataset for section in study.sections))
    named = ", ".join(models) if len(models) <= _MOST_NAMED else f"{len(models)} models"
    return f"{named} on {', '.join(datasets)}"


def _command(
    folders: Sequence[Path],
    metric: str | None,
    references: Sequence[Path],
    baseline: str | None,
    metrics: Sequence[str] | None,
    cost: str | None,
    margin: float,
) -> str:
    """Returns what a user types to get this report."""
    options = [] if metric is None else ["--metric", mean_metric(metric)]
    options += ["--metrics", *checked_metrics(metrics)] if metrics else []
    options += ["--reference", *map(str, references)] if references else []
    options += [] if baseline is None else ["--baseline", baseline]
    options += [] if cost is None else ["--cost", cost]
    options += [] if margin == MARGIN else ["--margin", f"{100 * margin:g}"]
    return shlex.join(["mos-recbole", "report", *map(str, folders), *options])


def _require_own(output: Path) -> None:
    """Raises InputError if writing the report would replace folders of something else."""
    foreign = [folder for folder in (_TABLES, _FIGURES) if (output / folder).exists()]
    if foreign and not (output / PAGE_FILE).is_file():
        raise InputError(
            f"{output}: has {' and '.join(foreign)} but no {PAGE_FILE}; expected a new folder or one with a report"
        )
