"""Which code a run's identity is made of: all that can change its numbers, and nothing else."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import mos_recbole
from mos_recbole.experiment.source_hash import imported_modules, source_hash

PACKAGE = Path(mos_recbole.__file__).parent
YAML = min((PACKAGE / "properties").rglob("*.yaml")).relative_to(PACKAGE).as_posix()
Changed = Callable[..., bool]


@pytest.fixture(scope="module")
def module_files() -> set[str]:
    """The files of the modules that count."""
    found = set()
    for module in imported_modules(PACKAGE):
        place = PACKAGE.joinpath(*module.split(".")[1:])
        path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        found.add(path.relative_to(PACKAGE).as_posix())
    return found


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Changed:
    """Returns a function (file, old, new, ...) that tells whether other texts in files are another hash.

    Without an old text the new one is put at the end.
    """
    copy = tmp_path_factory.mktemp("copy") / "mos_recbole"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = source_hash(PACKAGE)

    def change(*changes: str) -> bool:
        texts = {file: (copy / file).read_text() for file in changes[::3]}
        for file, old, new in zip(changes[::3], changes[1::3], changes[2::3], strict=True):
            text = (copy / file).read_text()
            assert old in text
            (copy / file).write_text(text.replace(old, new, 1) if old else text + new)
        source_hash.cache_clear()
        found = source_hash(copy) != before
        for file, text in texts.items():
            (copy / file).write_text(text)
        return found

    return change


def test_comments_docstrings_and_layout_do_not_count(changed: Changed) -> None:
    """Nor does where the package lies."""
    assert not changed(
        *("losses/reference.py", "import torch\n", "import torch\n\n# A comment.\n"),
        *("losses/reference.py", '"""', '"""Another docstring. '),
        *("training/prefixes.py", "(self) -> int:", "(\n        self,\n    ) -> int:"),
        *(YAML, "", "\n# A comment.\n"),
    )


def test_constants_of_losses_count(changed: Changed) -> None:
    """A number in a loss that every model trains by."""
    assert changed("losses/tiles.py", "2**20", "2**19")


def test_default_settings_count(changed: Changed) -> None:
    """They stand in YAML files beside the code."""
    assert changed(YAML, "", "\na_setting: 1\n")


def test_code_that_reads_results_does_not_count(changed: Changed) -> None:
    """What is computed from finished runs, or written about them."""
    files = ("report/__init__.py", "results/records.py", "evaluation/intervals.py", "cli/__init__.py")
    assert not changed(*(part for file in files for part in (file, "", "\nX = 1\n")))


@pytest.mark.parametrize("room", ["losses", "heads", "models", "training", "settings", "data/splits", "data/reading"])
def test_whole_rooms_count(room: str, module_files: set[str]) -> None:
    """Every file, so that none is forgotten; what an `__init__` hands on counts where it is defined."""
    files = {path.relative_to(PACKAGE).as_posix() for path in (PACKAGE / room).rglob("*.py")}
    assert {file for file in files - module_files if not file.endswith("__init__.py")} == set()


def test_rooms_that_only_read_do_not_count(module_files: set[str]) -> None:
    """Statistics, spectra, downloads, and all that is above runs."""
    for prefix in ("analysis/", "report/", "sweep/", "cli/", "results/", "data/movielens/", "experiment/spectra"):
        assert not [file for file in module_files if file.startswith(prefix)]
    for module in ("intervals", "significance", "slices", "spectrum"):
        assert f"evaluation/{module}.py" not in module_files
