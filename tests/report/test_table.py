"""The one table: alignment by what cells hold, escapes, numbers in full precision."""

import io
from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console

from mos_recbole.evaluation import Interval
from mos_recbole.progress import format_duration
from mos_recbole.report import print_fitted
from mos_recbole.report.formatting import format_p_value, format_range, interval_cell, number_cell, words
from mos_recbole.report.latex import Kind, latex_tabular, latex_text
from mos_recbole.report.table import Table, escape_markdown


@pytest.fixture
def table() -> Table:
    interval = Interval(0.07123, 0.06, 0.0825)
    return Table(
        name="models",
        title="Models_of|mine",
        caption="First line [a].\nSecond line.",
        rows=[
            {"model": words("A_B|C"), "Recall@10 ↑": interval_cell(interval)},
            {"model": words("Longer_name"), "Recall@10 ↑": number_cell(1204.0, ",.0f")},
        ],
        frame=pd.DataFrame({"model": ["A_B|C", "Longer_name"], "Recall@10": [0.07123, 1204.0]}),
    )


def test_columns_of_words_are_left_and_of_numbers_right(table: Table) -> None:
    assert table.header == ("model", "Recall@10 ↑")
    assert [table.is_text(column) for column in table.header] == [True, False]
    assert table.text("simple").splitlines()[2:4] == [
        "A_B|C        0.0712 ± 0.0113",
        "Longer_name            1,204",
    ]


def test_cells_know_their_numbers(table: Table) -> None:
    assert [row["Recall@10 ↑"].value for row in table.rows] == [0.07123, 1204.0]


def test_markdown_shows_every_sign_as_it_is(table: Table) -> None:
    assert table.markdown() == (
        "# Models_of\\|mine\n\n"
        "| model       |     Recall@10 ↑ |\n"
        "|-------------|-----------------|\n"
        "| A_B\\|C      | 0.0712 ± 0.0113 |\n"
        "| Longer_name |           1,204 |\n\n"
        "First line \\[a\\]. Second line.\n"
    )


def test_latex_has_title_and_caption_as_comments_and_only_signs_of_its_fonts(table: Table) -> None:
    lines = table.latex().splitlines()
    assert lines[:4] == [
        "% Models_of|mine",
        "% First line [a].",
        "% Second line.",
        "% Needs \\usepackage{booktabs}.",
    ]
    body = "\n".join(lines[4:])
    assert "A\\_B\\textbar{}C" in body
    assert "0.0712 $\\pm$ 0.0113" in body
    assert "Recall@10 $\\uparrow$" in body
    assert body.isascii()


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("-0.0031 [-0.0089, +0.0027]", "number", "$-$0.0031 [$-$0.0089, +0.0027]"),
        ("+0.33 % [-0.12, ∞]", "number", r"+0.33 \% [$-$0.12, $\infty$]"),
        ("<0.0001", "number", "$<$0.0001"),
        ("31-44", "number", "31--44"),
        ("1.2e-05 ± 3e-06", "number", r"$1.2\times10^{-5}$ $\pm$ $3\times10^{-6}$"),
        ("-", "number", "--"),
        ("≥ 512", "number", r"$\ge$ 512"),
        ("p (Holm)", "heading", "$p$ (Holm)"),
        ("d_z", "heading", "$d_z$"),
        ("B - A [95 % interval]", "heading", r"B $-$ A [95 \% interval]"),
        ("beyond d+1, centred", "heading", "beyond $d+1$, centred"),
        ("K", "heading", "$K$"),
        ("learning_rate=1e-05 on ml-100k", "words", r"learning\_rate=1e-05 on ml-100k"),
        ("2026-01-02", "words", "2026-01-02"),
        ("NDCG@10 ↑", "heading", r"NDCG@10 $\uparrow$"),
        (r"a|b_*c* $x$ \d 50% & #", "words", r"a\textbar{}b\_*c* \$x\$ \textbackslash{}d 50\% \& \#"),
    ],
)
def test_signs_of_mathematics_in_latex(text: str, kind: Kind, expected: str) -> None:
    """Minus, powers, relations and symbols; hyphens of names and dates stay."""
    assert latex_text(text, kind) == expected


def test_a_row_of_latex_does_not_begin_like_an_argument() -> None:
    """A bin [0, 5] behind the end of a line or a rule would be its optional argument."""
    cells = latex_tabular(["bin", "n"], [["[0, 5]", "1"], ["(5, 9]", "2"], ["*", "3"]], [True, False]).splitlines()
    assert cells[4:7] == [r"{}[0, 5] & 1 \\", r"(5, 9] & 2 \\", r"{}* & 3 \\"]


def test_csv_has_full_precision(table: Table) -> None:
    assert table.csv() == "model,Recall@10\nA_B|C,0.07123\nLonger_name,1204.0\n"
    assert table.text("csv") == table.csv().rstrip("\n")


def test_no_text_of_a_csv_table_is_a_formula() -> None:
    """Text that begins as one has ' before it; numbers are numbers."""
    texts = ["=1+1", "+a", "-a", "@a", "\ta", "a=1", "-3.5", "+4"]
    frame = pd.DataFrame({"name": texts, "number": [-1.5] * len(texts)})
    lines = Table("t", "T", "", [], frame).csv().splitlines()[1:]
    assert [line.rpartition(",")[0].strip('"') for line in lines] == [*(f"'{one}" for one in texts[:5]), *texts[5:]]
    assert {line.rpartition(",")[2] for line in lines} == {"-1.5"}


def test_p_values_in_a_table_have_four_digits() -> None:
    assert [format_p_value(p) for p in (0.00009, 0.0001, 0.0004, 1.0)] == ["<0.0001", "0.0001", "0.0004", "1.0000"]


def test_text_for_the_terminal_has_the_caption_and_escapes_what_ends_a_cell_alone(table: Table) -> None:
    text = table.text("github")
    assert "| A_B\\|C " in text
    assert "\nA_B|C " in table.text("simple")
    assert text.endswith("\n\nFirst line [a].\nSecond line.")


def test_a_table_without_rows_or_caption() -> None:
    empty = Table("none", "None", "", [], pd.DataFrame())
    assert empty.header == ()
    assert empty.text("simple") == ""
    assert empty.latex().startswith("% None\n% Needs")


@pytest.mark.parametrize(("text", "escaped"), [("a_b", "a_b"), ("_a", "\\_a"), ("p < 1", "p \\< 1"), ("x\ny", "x y")])
def test_escapes_of_markdown(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped


def test_durations_and_ranges() -> None:
    assert [format_duration(seconds) for seconds in (9.25, 200, 7500)] == ["9.2 s", "3 min 20 s", "2 h 05 min"]
    assert [format_range(values) for values in ([20, 20], [18, 20, 19])] == ["20", "18-20"]


@pytest.mark.parametrize(("width", "left_out"), [(80, []), (38, ["seeds"]), (24, ["Recall@10 ↑", "seeds"])])
def test_a_table_as_wide_as_the_terminal(width: int, left_out: list[str], table: Table) -> None:
    """Columns that may be left out are, until the others have room; words wrap, numbers and brackets are kept."""
    rows = [{**row, "seeds": number_cell(3, "d"), "mean [p]": number_cell(0.5, ".3f")} for row in table.rows]
    shown = io.StringIO()
    wide = replace(table, title="toy", rows=rows)
    assert print_fitted(wide, ["seeds", "Recall@10 ↑"], Console(file=shown, width=width)) == left_out
    text = shown.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "0.500" in text
    assert "[p]" in text
    assert ("0.0712 ± 0.01" in text) == ("Recall@10 ↑" not in left_out)
