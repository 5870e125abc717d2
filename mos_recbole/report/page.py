"""The report as one page that needs nothing but itself."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import jinja2

from mos_recbole.report.study_tables import Table


@dataclass(frozen=True)
class PageFigure:
    """A figure on the page.

    Attributes:
        name: of its files.
        caption: in words, for those who do not see it too.
        svg: the file.
        size: width and height on a screen, in CSS pixels.
    """

    name: str
    title: str
    caption: str
    svg: bytes
    size: tuple[int, int]

    @property
    def source(self) -> str:
        """The figure as an address."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode("ascii")


@dataclass(frozen=True)
class PageSection:
    """A section of the page.

    Attributes:
        name: by which links find it.
        facts, settings: names and texts.
        notes: what is not shown, and why.
        items: tables and figures.
    """

    title: str
    name: str
    facts: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]
    notes: Sequence[str]
    items: Sequence[Table | PageFigure]


def render_page(sections: Sequence[PageSection], missing: Sequence[str], command: str, newest: str) -> str:
    """Returns the page, in HTML.

    Args:
        sections: one a protocol.
        missing: what was begun and has not finished.
        command: that makes the page.
        newest: when the newest run finished.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files(__package__) / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["sort_value"] = sort_value
    environment.tests["table"] = lambda item: isinstance(item, Table)
    return environment.get_template("page.html.jinja").render(
        sections=sections, missing=missing, command=command, newest=newest
    )


def sort_value(text: str) -> float | None:
    """Returns the number by which a table's cell is sorted, or None for text.

    A mean with an interval, a bin and a range are sorted by the first number in them, a length of time by its seconds:

    >>> [sort_value(text) for text in ("0.0712 ± 0.0131", "+1.4 %", "<0.0001", "1,204 *", "(814, 4976]", "3 min 20 s")]
    [0.0712, 1.4, 0.0001, 1204.0, 814.0, 200.0]
    """
    time = re.fullmatch(r"(?:(\d+) h)? ?(?:(\d+) min)? ?(?:([\d.]+) s)?", text)
    if text and time is not None:
        return sum(float(part or 0) * unit for part, unit in zip(time.groups(), (3600, 60, 1), strict=True))
    number = re.match(r"[<\[(]?([+-]?)(\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(\.\d+)?(e[+-]?\d+)?(?![\w=])", text)
    if number is None or not (number[2] or number[3]):
        return float("-inf") if text.startswith("[-inf") else None
    return float("".join((part or "") for part in number.groups()).replace(",", ""))
