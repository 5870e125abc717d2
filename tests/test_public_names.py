"""What users import: from the package itself, and as the documents show it."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mos_recbole

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", mos_recbole.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    """It is what its home has, is listed, and type checkers find it in the same place."""
    found = getattr(mos_recbole, name)
    (home,) = (home for home, names in mos_recbole._HOMES.items() if name in names)
    assert found is getattr(importlib.import_module(f"mos_recbole.{home}"), name)
    assert name in dir(mos_recbole)


def test_the_lists_of_public_names_agree() -> None:
    """`__all__`, the homes, and the imports that type checkers read."""
    tree = ast.parse(Path(mos_recbole.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    checked = {
        (node.module, name.name) for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names
    }
    homes = {(f"mos_recbole.{home}", name) for home, names in mos_recbole._HOMES.items() for name in names}
    assert checked == homes
    assert sorted(name for _, name in homes) == sorted(mos_recbole.__all__)


def test_an_unknown_name() -> None:
    """Is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = mos_recbole.nonsense  # type: ignore[attr-defined]


def test_the_package_is_imported_without_pytorch() -> None:
    """In less time than a user notices."""
    code = "import sys, mos_recbole; print({'torch', 'pandas', 'numpy', 'recbole'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_imports_in_documents_work(path: Path) -> None:
    """Every `from mos_recbole... import ...` that a document shows."""
    for module, names in re.findall(r"^from (mos_recbole\S*) import (.+)$", path.read_text(encoding="utf-8"), re.M):
        for name in names.strip("()").split(","):
            assert hasattr(importlib.import_module(module), name.strip()), f"{module}.{name.strip()}"
