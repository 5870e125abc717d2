"""The commands of the pages run as they stand, in short, and so does their Python code.

A block of commands that cannot run here has a comment before it, such as `<!-- needs a GPU -->`. Others are run page by
page in an empty folder, with one epoch in place of many.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from mos_recbole import cli

ROOT = Path(__file__).parents[1]
PAGES = {page.stem: page for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]}
NEEDS = {"a GPU", "a download", "a GPU and a download", "hours", "two machines"}
BLOCK = re.compile(r"(?:^ *<!-- needs ([^>]*) -->\n)?^( *)```(bash|python)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)

# What a page takes for granted, as commands.
TRAIN = "mos-recbole run --model GRU4RecSoftmax GRU4RecMoS"
BEAUTY = "mos-recbole synth --rank 8 --users 9000 --items 1200 --length 6 --out data/beauty"
LOG = "customer,product,bought\\n" + "".join(f"{n % 9},{n % 7},{n}\\n" for n in range(90))
PLUGIN = """python -c 'import re, pathlib, os; text = pathlib.Path(os.environ["PAGES"], "plugins.md").read_text()
pathlib.Path("my_heads.py").write_text(re.findall(r"```python\\n(.*?)```", text, re.DOTALL)[0])'"""
BEFORE = {
    "CONTRIBUTING": "ln -s numbers-after numbers-before",
    "ablate_rank": f"{TRAIN}; {BEAUTY}; mos-recbole run --model SASRecMoS --dataset data/beauty",
    "after-training": "printf '242 302 377\\n51\\n' > new.txt",
    "data": f"printf '{LOG}' > log.csv; {BEAUTY.replace('data/', 'dataset/')}",
    "heads": "",
    "parallel": "",
    "planted_rank": "",
    "plugins": PLUGIN,
    "questions": f"{PLUGIN}; printf 'user,item,rank\\n196,242,1\\n196,302,2\\n' > lists.csv",
    "report": f"ln -s $ROOT/results results; {TRAIN} --output my-results",
    "spectrum": f"{TRAIN}; {TRAIN} SASRecSoftmax --output my-results; {BEAUTY}; "
    "mos-recbole run --model SASRecMoS --dataset data/beauty",
    "sweeps": "printf 'embedding_size choice [8,16]\\n' > hyper.test; printf 'n_layers: 1\\n' > my_settings.yaml",
    "tutorial": "",
}
# A page that another test runs.
ELSEWHERE = {"comparing"}
# Python code that other tests run, or that needs names which it does not make.
CODE = {"CONTRIBUTING", "ablate_rank", "after-training", "spectrum", "sweeps"}
# Fewer trials of the example on the page.
FEWER = {"[256, 1024]": "[256]", "[0.003, 0.01]": "[0.01]", "[8, 16, 32]": "[8]"}
PROGRAM = """#!{python}
import re, sys
from mos_recbole.cli import main
if __name__ == "__main__":  # processes that a command starts import this file
    words = re.sub(r"\\0--epochs[=\\0][0-9]+", "", "\\0".join(sys.argv[1:])).split("\\0")
    sys.exit(main(words + ["--epochs=1"] * (words[0] in ("run", "sweep"))))
"""


class Block(NamedTuple):
    """Lines of a page between fences; `needs` is what they need that is not here."""

    needs: str | None
    language: str
    text: str


def blocks(name: str) -> list[Block]:
    found = BLOCK.findall(PAGES[name].read_text(encoding="utf-8"))
    return [
        Block(needs or None, language, re.sub(f"^{indent}", "", text, flags=re.M))
        for needs, indent, language, text in found
    ]


def lines(text: str) -> list[list[str]]:
    """Returns the words of the commands of a block, without what stands in a here document."""
    text = re.sub(r"<<(\w+)\n.*?^\1$", "", text.replace("\\\n", " "), flags=re.DOTALL | re.MULTILINE)
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_commands_of_a_page_are_known(name: str) -> None:
    """To the parser, or to make; pages with commands that nothing forbids to run here are run by the test below."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    left = False
    for block in blocks(name):
        assert block.needs is None or block.needs in NEEDS
        for words in lines(block.text) if block.language == "bash" else []:
            if words[0] == "mos-recbole":
                assert cli.make_parser().parse_args(words[1:]).command == words[1]
            assert words[0] != "make" or words[1] in targets
            left |= block.needs is None and words[0] != "make"
    assert left == (name in BEFORE.keys() | ELSEWHERE)


@pytest.mark.slow
@pytest.mark.parametrize("name", BEFORE)
def test_a_page_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its first command to its last, with its Python code where that stands for itself."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "mos-recbole").write_text(PROGRAM.format(python=sys.executable), encoding="utf-8")
    for program in programs.iterdir():
        program.chmod(0o755)
    (programs / "python").symlink_to(sys.executable)
    place = tmp_path / "work"
    place.mkdir()
    for folder in ("configs", "benchmarks"):
        (place / folder).symlink_to(ROOT / folder)
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PAGES": str(ROOT / "docs"),
        "ROOT": str(ROOT),
    }
    page = [block.text for block in blocks(name) if block.needs is None and block.language == "bash"]
    page = [text for text in page if not text.startswith("make ")]
    script = "\n".join(["set -e", BEFORE[name], *page])
    for many, few in FEWER.items():
        script = script.replace(many, few)
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run([bash, "-c", script], cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    monkeypatch.chdir(place)
    item_seq = np.zeros((2, 50), dtype=np.int64)
    item_seq[:, 0] = 7
    names = {"item_seq": item_seq, **{one: pytest.importorskip(one) for one in ("json", "onnxruntime")}}
    for block in blocks(name) if name in CODE else []:
        if block.language == "python":
            exec(block.text, names)
