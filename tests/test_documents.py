"""The pages: links lead somewhere, sentences are short, and what is made from the code is as the code has it."""

import argparse
import importlib.util
import re
from pathlib import Path

import pytest

from mos_recbole import cli
from mos_recbole.settings import own_settings

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "results").rglob("README.md")])
# Records of measurements, and lists that are made by programs or are as long as what they list.
LONG = {"experiments", "models", "recbole", "settings"}
PLAIN = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.stem not in LONG)]
MOST_WORDS = 35
# As they are before another test loads a plugin.
OURS = own_settings()
LINK = re.compile(r"\]\(([^)\s]+)\)")


def without_code(text: str) -> str:
    """Returns a page's text without its blocks of code."""
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """Returns what the headings of a page are linked by: their words in lower case, with hyphens between them."""
    titles = re.findall(r"^#+ (.*)$", without_code(path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text; a cell of a table, an item of a list and a heading are some too."""
    text = LINK.sub("]", without_code(text))
    text = re.sub(r"<!--.*?-->", "", text)
    parts = re.split(r"\n\s*\n|\n\s*(?=[-*] |\d+\. |#)|\||(?<=[.:?!])\**\s+", text)
    return [" ".join(part.split()) for part in parts]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """To a file or folder of the repository, and to a heading of it, where they name one."""
    for link in LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT)
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PLAIN, ids=lambda page: page.name)
def test_sentences_are_short(page: Path) -> None:
    assert [one for one in sentences(page.read_text(encoding="utf-8")) if len(one.split()) > MOST_WORDS] == []


def test_sentences_of_the_help_are_short() -> None:
    """Of every command: what it does, its options and its examples."""
    program = cli.make_parser()
    (commands,) = (action for action in program._actions if isinstance(action, argparse._SubParsersAction))
    for parser in [program, *commands.choices.values()]:
        texts = [parser.description, parser.epilog, *(action.help for action in parser._actions)]
        parts = [one for text in texts for line in (text or "").split("\n  ") for one in sentences(line)]
        assert [one for one in parts if len(one.split()) > MOST_WORDS] == [], parser.prog


def test_the_readme_links_to_an_answer_to_each_question() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    asked = anchors(ROOT / "docs" / "questions.md") - {"questions"}
    assert len(asked) == 5
    assert {link.partition("#")[2] for link in LINK.findall(readme) if "questions.md#" in link} == asked


def test_the_page_of_settings_is_what_the_specs_say() -> None:
    """After a change of a setting: `python docs/build.py --settings`. Every setting of ours has a row."""
    spec = importlib.util.spec_from_file_location("build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    assert build.SETTINGS.read_text(encoding="utf-8") == build.settings_page()
    keys = re.findall(r"^\| `(\w+)` \|", build.SETTINGS.read_text(encoding="utf-8"), re.MULTILINE)
    assert {setting.key for setting in OURS} <= set(keys)
