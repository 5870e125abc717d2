"""The one table: typed numbers and formatted cells, as Markdown, LaTeX, CSV or text for the terminal."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from mos_recbole.errors import presentable
from mos_recbole.report.latex import latex_tabular

TABLE_FORMATS = ("github", "simple", "latex", "csv")


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: as readers see it, not escaped.
        value: the number by which the cell is sorted; None or NaN where there is none.
        is_text: whether the cell holds words and not a number. A column of such cells is set to the left.
    """

    text: str
    value: float | None = None
    is_text: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption.

    Attributes:
        name: of its files, without ending.
        caption: what the numbers mean, in one or more lines; "" for a table that needs none.
        rows: the cells of each row by the header of their column; all rows have the same columns.
        frame: the numbers in full precision, intervals by their ends, for CSV files and programs.
        folded: whether a page shows it on demand only.
    """

    name: str
    title: str
    caption: str
    rows: Sequence[Mapping[str, Cell]]
    frame: pd.DataFrame
    folded: bool = False

    @property
    def header(self) -> tuple[str, ...]:
        """The headers of the columns; empty for a table without rows."""
        return tuple(self.rows[0]) if self.rows else ()

    def is_text(self, column: str) -> bool:
        """Returns whether a column holds words, which are set to the left, and not numbers."""
        return all(row[column].is_text for row in self.rows)

    def markdown(self) -> str:
        """Returns title, table and caption in Markdown."""
        parts = [f"# {escape_markdown(self.title)}", self.grid("github", escape_markdown)]
        if self.caption:
            parts.append(" ".join(map(escape_markdown, self.caption.splitlines())))
        return "\n\n".join(parts) + "\n"

    def latex(self) -> str:
        """Returns a tabular for the package booktabs, after title and caption as comments."""
        rows = [[_one_line(row[column].text) for column in self.header] for row in self.rows]
        tabular = latex_tabular(self.header, rows, list(map(self.is_text, self.header))) if rows else ""
        lines = [_one_line(self.title), *self.caption.splitlines(), "Needs \\usepackage{booktabs}."]
        return "\n".join([*(f"% {line}" for line in lines if line), tabular]) + "\n"

    def csv(self) -> str:
        """Returns the numbers in full precision. A text that a spreadsheet would take for a formula begins with '."""
        frame = self.frame.rename(columns=_no_formula)
        return frame.map(_no_formula).to_csv(index=False, lineterminator="\n")

    def write(self, folder: Path) -> list[Path]:
        """Returns the files that were written into a folder, over earlier ones: Markdown, LaTeX and CSV."""
        paths = []
        for ending, text in (("md", self.markdown()), ("tex", self.latex()), ("csv", self.csv())):
            paths.append(folder / f"{self.name}.{ending}")
            paths[-1].write_text(text, encoding="utf-8", newline="\n")
        return paths

    def text(self, tablefmt: str = "github") -> str:
        """Returns the table for the terminal, without an end of line.

        Args:
            tablefmt: one of `TABLE_FORMATS`. "csv" has no caption; the others have it.
        """
        if tablefmt == "csv":
            return self.csv().rstrip("\n")
        if tablefmt == "latex":
            return self.latex().rstrip("\n")
        escape = _escape_bars if tablefmt == "github" else _one_line
        return self.grid(tablefmt, escape) + (f"\n\n{presentable(self.caption)}" if self.caption else "")

    def grid(self, tablefmt: str, escape: Callable[[str], str] = str) -> str:
        """Returns the cells alone in one of tabulate's formats.

        Args:
            tablefmt: tabulate's name of the format.
            escape: applied to every header and cell.
        """
        rows = [[escape(row[column].text) for column in self.header] for row in self.rows]
        return tabulate(
            rows,
            headers=[escape(column) for column in self.header],
            tablefmt=tablefmt,
            disable_numparse=True,
            colalign=["left" if self.is_text(column) else "right" for column in self.header],
        )


def join_frames(tables: Sequence[Table]) -> Table:
    """Returns a table with the numbers of several that have the same columns, and what their captions say."""
    lines = dict.fromkeys(line for table in tables for line in table.caption.splitlines())
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    return replace(tables[0], caption="\n".join(lines), frame=frame)


def escape_markdown(text: str) -> str:
    """Returns text that Markdown shows as it is, in one line; an underscore within a word needs no escape."""
    one_line = _one_line(text)
    return re.sub(r"[\\`*|<>\[\]$~]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", one_line)


def _escape_bars(text: str) -> str:
    """Returns text that does not end a cell of a table in Markdown, and is else as it was."""
    return _one_line(text).replace("|", "\\|")


def _one_line(text: str) -> str:
    return presentable(" ".join(text.split()))


def _no_formula(value: Any) -> Any:
    """Returns a value of a CSV file; a text that begins as a formula does, with ' before it, unless it is a number."""
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
