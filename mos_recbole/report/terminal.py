"""Tables as wide as a terminal."""

import re
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from mos_recbole.report.table import Table


def print_fitted(table: Table, dispensable: Sequence[str], console: Console | None = None) -> list[str]:
    """Prints a table with its title, and returns the columns that it had no room for.

    Args:
        table: words wrap, numbers do not.
        dispensable: columns that may be left out, the first one first.
        console: by default of standard output.
    """
    console = console or Console(highlight=False)
    columns = {column: _least_width(table, column) for column in table.header}
    left_out: list[str] = []
    for column in dispensable:
        if sum(width + 2 for width in columns.values()) <= console.width:
            break
        if columns.pop(column, None) is not None:
            left_out.append(column)
    shown = RichTable(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    shown.title, shown.title_justify, shown.title_style = table.title, "left", "bold"
    for column in columns:
        if table.is_text(column):
            shown.add_column(column, min_width=columns[column], overflow="fold")
        else:
            shown.add_column(_heading(column), justify="right", width=columns[column])
    for row in table.rows:
        shown.add_row(*(row[column].text for column in columns))
    console.print(shown, markup=False)
    return [column for column in table.header if column in left_out]


def _heading(column: str) -> str:
    """Returns a column's heading whose arrow does not wrap."""
    return re.sub(" (?=[↑↓])", "", column)


def _least_width(table: Table, column: str) -> int:
    """Returns the width of a column's longest word, or of its longest number with its interval."""
    cells = [row[column].text for row in table.rows]
    words = _heading(column).split() + [
        part for text in cells for part in (text.split() if table.is_text(column) else [text])
    ]
    return max(map(len, words))
