"""The tables of a study: each with its caption, as text for readers and in full precision for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from tabulate import tabulate

from mos_recbole.analysis import Comparison, Comparisons, ConfigurationRow
from mos_recbole.analysis import Slices as SliceResults
from mos_recbole.report import table as new
from mos_recbole.report.article import Article
from mos_recbole.report.comparisons import comparisons_table
from mos_recbole.report.formats import format_p_value, format_relative, interval_numbers
from mos_recbole.report.formatting import format_interval
from mos_recbole.report.markup import latex_table, markdown
from mos_recbole.report.runs import configurations_table
from mos_recbole.report.slices import slices_table as one_slices_table
from mos_recbole.report.study import DIMENSION

_TEXT_COLUMNS = ("model", "A", "B", "metric", "targets", "ties")


@dataclass(frozen=True)
class Table:
    """A table that knows what it shows.

    Attributes:
        name: of its files, without ending.
        header, rows: as text.
        frame: the same in full precision, intervals by their ends.
    """

    name: str
    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    frame: pd.DataFrame

    def markdown(self) -> str:
        """Returns title, table and caption in Markdown."""
        return f"# {markdown(self.title)}\n\n{self._tabulate('github')}\n\n{markdown(self.caption)}\n"

    def latex(self) -> str:
        """Returns a tabular for the package booktabs, title and caption before it as comments."""
        return latex_table(self._tabulate("latex_booktabs"), f"{self.title}\n{self.caption}")

    def csv(self) -> str:
        """Returns the table in full precision."""
        return self.frame.to_csv(index=False, lineterminator="\n")

    def is_text(self, column: int) -> bool:
        """Returns whether a column holds words, and is set to the left."""
        return self.header[column] in _TEXT_COLUMNS

    def _tabulate(self, tablefmt: str) -> str:
        alignment = ["left" if self.is_text(number) else "right" for number in range(len(self.header))]
        header, rows = self.header, self.rows
        if tablefmt == "github":
            header, rows = tuple(map(markdown, header)), tuple(tuple(map(markdown, row)) for row in rows)
        return tabulate(rows, headers=header, tablefmt=tablefmt, disable_numparse=True, colalign=alignment)


def main_table(rows: Sequence[ConfigurationRow]) -> Table:
    """Returns all configurations with their test metrics."""
    caption = (
        "Test metrics by full ranking: means over seeds and queries ± half the width of the 95 % bootstrap interval "
        "over users and, where there are several, seeds. Intervals of two rows that overlap say little of the "
        "difference between them, which the paired table tests. Training time is the median over seeds; in the CSV "
        "file, epochs and training time are means over seeds."
    )
    table = configurations_table(rows)
    return Table("models", "Models", caption, *_cells(table), table.frame)


def paired_table(comparisons: Comparisons) -> Table:
    """Returns the differences of the models from their baselines."""
    table = comparisons_table(comparisons)
    caption = (
        "A has the baseline head, B is another model of the same encoder, RecBole's own among them, in all settings "
        "that both have the same.\n"
        f"{table.caption}"
    )
    return Table("paired", "Differences from the baseline head", caption, *_cells(table), table.frame)


def slices_table(name: str, title: str, by_dimension: Mapping[int, SliceResults]) -> Table:
    """Returns the slices of a model and its baseline at all dimensions, below each other."""
    tables = {dimension: one_slices_table(slices) for dimension, slices in by_dimension.items()}
    cells = {dimension: _cells(table) for dimension, table in tables.items()}
    header = (DIMENSION, *next(iter(cells.values()))[0])
    rows = [(str(dimension), *row) for dimension, (_, rows) in cells.items() for row in rows]
    frames = [table.frame for table in tables.values()]
    for dimension, frame in zip(by_dimension, frames, strict=True):
        frame.insert(0, DIMENSION, dimension)
    # Of what the captions have in common once.
    lines = dict.fromkeys(line for table in tables.values() for line in table.caption.splitlines())
    own = [f"p values are corrected for each {DIMENSION} by itself."] if len(by_dimension) > 1 else []
    return Table(name, title, "\n".join([*lines, *own]), header, tuple(rows), pd.concat(frames, ignore_index=True))


def _cells(table: new.Table) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Returns the header and the rows of a table as text."""
    return table.header, tuple(tuple(cell.text for cell in row.values()) for row in table.rows)


def article_table(article: Article, chosen: Mapping[tuple[str, int], ConfigurationRow]) -> Table:
    """Returns the article's numbers beside ours, of the dimensions that both have.

    Args:
        article: its numbers.
        chosen: our configurations by model and dimension, measured by the article's protocol.
    """
    records: list[dict[str, object]] = []
    rows = []
    for dimension, pair in article.results.items():
        for model, published in zip((article.baseline, article.model), pair, strict=True):
            if (model, dimension) not in chosen:
                continue
            here = chosen[model, dimension].intervals[article.metric]
            difference = here.mean - published
            rows.append((str(dimension), model, f"{published:.4f}", format_interval(here), f"{difference:+.4f}"))
            ends = {"here": here.mean, "here low": here.low, "here high": here.high}
            own = {DIMENSION: dimension, "model": model, "article": published}
            records.append({**own, **ends, "here - article": difference})
    caption = (
        f"Test {article.metric}. Article: {article.source}. Here: mean over seeds and queries ± half the width of the "
        "95 % bootstrap interval. Same data, split and context; but here a validation part is cut from the end of "
        "training, which the models therefore do not learn from, and epochs are chosen on it."
    )
    header = (DIMENSION, "model", f"article {article.metric}", f"here {article.metric}", "here - article")
    return Table("article", "Beside the article", caption, header, tuple(rows), pd.DataFrame(records))


def article_differences_table(article: Article, ours: Mapping[tuple[int, bool], Comparison]) -> Table:
    """Returns the article's relative differences beside ours.

    Args:
        article: its numbers.
        ours: baseline and model compared, by dimension and by whether rare targets are left out.
    """
    frequent = f"in training more than {article.frequent.more_than} times"
    records: list[dict[str, object]] = []
    rows = []
    for (dimension, without_rare), comparison in ours.items():
        baseline, model = article.results[dimension]
        published = article.frequent.relative[dimension] if without_rare else model / baseline - 1
        targets = frequent if without_rare else "all"
        p_value = format_p_value(comparison.difference.p_value)
        rows.append(
            (str(dimension), targets, f"{100 * published:+.2f} %", format_relative(comparison.relative), p_value)
        )
        here = interval_numbers("here", comparison.relative)
        own = {DIMENSION: dimension, "targets": targets, "article": published, **here}
        records.append({**own, "p": comparison.difference.p_value})
    caption = (
        f"Relative difference of {article.model}'s {article.metric} from {article.baseline}'s. Article: "
        f"{article.source}. Here: with its 95 % interval over users and seeds; p: two-sided, not corrected, of the "
        "null hypothesis that both have the same mean over all users and seeds; users are the unit, seeds the second "
        "level."
    )
    header = (DIMENSION, "targets", "article", "here [95 %]", "p")
    frame = pd.DataFrame(records)
    return Table("article-differences", "The article's differences", caption, header, tuple(rows), frame)
