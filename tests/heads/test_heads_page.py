"""What docs/heads.md says of the heads, against the heads."""

from pathlib import Path

import pandas as pd
import pytest

from mos_recbole.models import HEADS

_ROOT = Path(__file__).parents[2]


def rows() -> dict[str, list[str]]:
    """Returns the cells of the table of heads, by the head's name."""
    lines = (_ROOT / "docs" / "heads.md").read_text(encoding="utf-8").splitlines()
    tables = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    return {cells[0].strip("`"): cells for cells in tables if len(cells) == 9 and cells[0] != "`--head`"}


def built_in() -> list[str]:
    return [name for name, spec in HEADS.items() if spec.origin is None]


def papers_table() -> list[str]:
    """Returns the lines that the page must have on the heads' papers."""
    return [f"| {HEADS[name].label} | {HEADS[name].paper} |" for name in built_in() if HEADS[name].paper]


def test_papers_are_those_of_the_specs() -> None:
    """Every line of the table of papers follows from the heads' specs, and there are no others."""
    text = (_ROOT / "docs" / "heads.md").read_text(encoding="utf-8").split("## Papers\n")[1].split("\n## ")[0]
    assert [line for line in text.splitlines() if line.startswith("|")][2:] == papers_table()


def test_all_heads_are_there() -> None:
    assert sorted(rows()) == sorted(built_in())


@pytest.mark.parametrize("name", built_in())
def test_a_head_is_as_described(name: str) -> None:
    """Its label, whether it has a single logit, how many parameters it has, and the measured costs."""
    spec, cells = HEADS[name], rows()[name]
    head = spec.build({"item_bias": False, **spec.defaults}, 1683, 64, 2)
    assert cells[1] == spec.label
    assert cells[3] == f"{sum(parameter.numel() for parameter in head.parameters()):,}"
    assert cells[8] == ("yes" if head.single_logit else "no")
    measured = pd.read_csv(_ROOT / "results" / "head_speed" / "head_speed.csv").query("head == @name")
    for cell, loss, n_items in ((4, "full", 1683), (5, "full", 12_101), (6, "sampled", 1683)):
        (ratio,) = measured[(measured.loss == loss) & (measured["items"] == n_items)].over_softmax
        assert float(cells[cell]) == pytest.approx(ratio, rel=0.01)
