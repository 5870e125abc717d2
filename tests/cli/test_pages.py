"""The commands of the pages: all of them are known to the parser, and those of docs/after-training.md run."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from mos_recbole import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """Returns the words behind `mos-recbole` of every such line in the page's blocks."""
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("mos-recbole ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_are_known(page: Path) -> None:
    for words in commands(page):
        assert cli.make_parser().parse_args(words).command == words[0]


@pytest.mark.slow
def test_the_page_about_finished_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/after-training.md from its first command to its last, in an empty folder, and its Python code."""
    page = ROOT / "docs" / "after-training.md"
    monkeypatch.chdir(tmp_path)
    Path("new.txt").write_text("242 302 377\n51\n", encoding="utf-8")
    for words in commands(page):
        assert cli.main([*words, *(["--device", "cpu"] if words[0] in ("run", "recommend", "export") else [])]) == 0
    python = blocks(page, "python")
    assert len(python) == 2
    onnxruntime = pytest.importorskip("onnxruntime")
    item_seq = np.zeros((2, 50), dtype=np.int64)
    item_seq[:, 0] = 7
    names = {"onnxruntime": onnxruntime, "json": json, "item_seq": item_seq}
    for code in python:
        exec(code, names)
    assert names["items"].shape == (2, 10)
