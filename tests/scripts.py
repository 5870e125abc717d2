"""Scripts of benchmarks/ as modules."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load_script(path: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Returns a script, "studies/planted_map.py", imported anew, with the scripts beside it within its reach."""
    file = BENCHMARKS / path
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.delitem(sys.modules, file.stem, raising=False)
    return importlib.import_module(file.stem)
