"""The report of a study, from the files of runs alone: tables, figures and one page."""

import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mos_recbole.analysis import rank_metrics
from mos_recbole.errors import InputError
from mos_recbole.io import require_writable
from mos_recbole.report.facts import moment, section_facts, section_settings
from mos_recbole.report.study import read_study

if TYPE_CHECKING:
    from mos_recbole.report.contents import Contents

PAGE_FILE = "report.html"
REPORT_METRIC = "Recall@100"
_FOLDERS = ("tables", "figures")


@dataclass(frozen=True)
class _Part:
    """What becomes a section of the page, and a folder of tables and figures.

    Attributes:
        name: for files and links.
        facts, settings: what a reader must know, as names and texts.
    """

    title: str
    name: str
    contents: "Contents"
    facts: Sequence[tuple[str, str]] = ()
    settings: Sequence[tuple[str, str]] = ()


def write_report(folders: Sequence[Path], output: Path | None = None, metric: str = REPORT_METRIC) -> list[Path]:
    """Returns the files of the report: the page, then tables and figures of every protocol.

    All is made before anything is written. Of an earlier report in the same folder nothing is left. The same results
    give the same bytes.

    Args:
        folders: of results, by runs or sweeps, which may be under way.
        output: folder of the report; by default `report` in the first of `folders`.
        metric: which one slices and figures show; any that is computed from target ranks.

    Raises:
        InputError: no finished runs, a folder that is missing, a record or outcomes that are broken, outcomes of one
            protocol that are not of the same queries, an unknown metric, or an output that cannot be written to or
            that has folders of the report's names without a report.
    """
    # Here and not above, so that tables do not wait for matplotlib.
    from mos_recbole.report.contents import section_contents
    from mos_recbole.report.page import PageFigure, PageSection, render_page
    from mos_recbole.report.study_tables import Table
    from mos_recbole.report.style import save_figure

    (metric,) = rank_metrics([metric])
    study = read_study(folders)
    output = folders[0] / "report" if output is None else output
    _require_own(output)
    parts = [
        _Part(one.title, one.name, section_contents(one, metric), section_facts(one), section_settings(one))
        for one in study.sections
    ]
    with _replacing(output) as temporary:
        paths, sections = [], []
        for part in parts:
            tables, figures = (temporary / folder / part.name for folder in _FOLDERS)
            tables.mkdir(parents=True)
            figures.mkdir(parents=True)
            items: list[Table | PageFigure] = []
            for item in part.contents.items:
                if isinstance(item, Table):
                    for ending, text in (("md", item.markdown()), ("tex", item.latex()), ("csv", item.csv())):
                        paths.append(tables / f"{item.name}.{ending}")
                        paths[-1].write_text(text, encoding="utf-8", newline="\n")
                    items.append(item)
                else:
                    png, svg = save_figure(item.figure, figures, item.name)
                    paths += [png, svg]
                    items.append(PageFigure(item.name, item.title, item.caption, svg.read_bytes(), item.size))
            notes = part.contents.notes
            sections.append(PageSection(part.title, part.name, part.facts, part.settings, notes, items))
        newest = max(run.finished for section in study.sections for run in section.runs)
        page = render_page(sections, study.missing, _command(folders, metric), moment(newest))
        (temporary / PAGE_FILE).write_text(page, encoding="utf-8", newline="\n")
    return [output / path.relative_to(temporary) for path in (temporary / PAGE_FILE, *paths)]


def _command(folders: Sequence[Path], metric: str) -> str:
    """Returns what a user types to get this report."""
    options = [] if metric == REPORT_METRIC else ["--metric", metric]
    return shlex.join(["mos-recbole", "report", *map(str, folders), *options])


def _require_own(output: Path) -> None:
    """Raises InputError if writing the report would replace what is none."""
    foreign = [folder for folder in _FOLDERS if (output / folder).exists()]
    if foreign and not (output / PAGE_FILE).is_file():
        raise InputError(
            f"{output}: has {' and '.join(foreign)} but no {PAGE_FILE}; expected a new folder or one with a report"
        )


@contextmanager
def _replacing(output: Path) -> Iterator[Path]:
    """Gives a temporary folder and puts what is in it into place at the end; after an error all is as before."""
    require_writable(output)
    temporary = output / f".report.{os.getpid()}.tmp"
    earlier = temporary / "earlier"
    try:
        temporary.mkdir()
        yield temporary
        earlier.mkdir()
        for name in (*_FOLDERS, PAGE_FILE):
            if (output / name).exists():
                os.replace(output / name, earlier / name)
            os.replace(temporary / name, output / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
