"""The report as one page that needs nothing but itself."""

import base64
import hashlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import jinja2

from mos_recbole.report.figures import Figure
from mos_recbole.report.table import Cell, Table


@dataclass(frozen=True)
class PageSection:
    """A section of the page.

    Attributes:
        name: by which links find it.
        facts, settings: names and texts.
        notes: what is not shown, and why.
        items: tables and figures; to be rendered, each figure with its SVG file.
        findings: what comparisons say, first of all.
        about: what the numbers are of, in a sentence for files of tables, which are read without the page.
    """

    title: str
    name: str
    facts: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]
    notes: Sequence[str]
    items: Sequence[Table | Figure | tuple[Figure, bytes]]
    findings: Sequence[str] = ()
    about: str = ""


def render_page(
    sections: Sequence[PageSection], missing: Sequence[str], command: str, newest: str, title: str = "Results"
) -> str:
    """Returns the page, in HTML.

    Args:
        sections: one a protocol.
        missing: what was begun and has not finished.
        command: that makes the page.
        newest: when the newest run finished.
        title: of the page.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files(__package__) / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    environment.filters["sort_key"] = _sort_key
    environment.tests["table"] = lambda item: isinstance(item, Table)
    # The page's own script is the only one that a browser runs, whatever labels hold.
    script = (files(__package__) / "page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.jinja").render(
        sections=sections,
        missing=missing,
        command=command,
        newest=newest,
        title=title,
        script=script,
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _sort_key(cell: Cell) -> float | None:
    """Returns the number by which a cell is sorted, finite as scripts expect it, or None."""
    if cell.value is None or math.isnan(cell.value):
        return None
    return math.copysign(sys.float_info.max, cell.value) if math.isinf(cell.value) else cell.value
