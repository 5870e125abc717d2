"""What newer packages removed and RecBole 1.2.1 still uses. Nothing outside this file patches another package."""

import importlib
import importlib.util
import warnings

import numpy as np

# Aliases that RecBole reads, the type they stood for, and the NumPy version that removed each.
_NUMPY_ALIASES = {
    "bool": (np.bool_, "1.24, came back in 2.0 as the scalar type"),
    "int": (np.int_, "1.24"),
    "float": (np.float64, "1.24"),
    "complex": (np.complex128, "1.24"),
    "object": (np.object_, "1.24"),
    "str": (np.str_, "1.24"),
    "long": (np.int_, "1.24, came back in 2.0 as the C type"),
    "float_": (np.float64, "2.0"),
    "complex_": (np.complex128, "2.0"),
    "unicode_": (np.str_, "2.0"),
    "unicode": (np.str_, "1.24"),
}


def apply() -> None:
    """Sets the missing NumPy aliases and silences two warnings that RecBole itself causes. Safe to call repeatedly."""
    for name, (scalar_type, _) in _NUMPY_ALIASES.items():
        if name not in np.__dict__:
            setattr(np, name, scalar_type)
    # pandas 2 warns of each in-place column fill (the reason why pandas 3 is not supported).
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\..*")
    # RecBole 1.2.1 has invalid escape sequences in docstrings (a SyntaxWarning since Python 3.12).
    warnings.filterwarnings("ignore", category=SyntaxWarning, module=r"recbole\..*")


def recbole_model_class(name: str) -> type | None:
    """Returns RecBole's own class of that name, or None where it has none.

    Stands in for `recbole.utils.get_model`, which calls `importlib.util` without importing it and which turns a
    name that differs in case only into an AttributeError.
    """
    for kind in RECBOLE_MODEL_KINDS:
        path = f"recbole.model.{kind}.{name.lower()}"
        if importlib.util.find_spec(path) is not None:
            return getattr(importlib.import_module(path), name, None)
    return None


RECBOLE_MODEL_KINDS = (
    "general_recommender",
    "context_aware_recommender",
    "sequential_recommender",
    "knowledge_aware_recommender",
    "exlib_recommender",
)


def recbole_model_names() -> list[str]:
    """Returns the names of all model classes that RecBole 1.2.1 ships, without importing optional packages."""
    names = []
    for kind in RECBOLE_MODEL_KINDS[:4]:
        package = importlib.import_module(f"recbole.model.{kind}")
        names += [name for name, value in vars(package).items() if isinstance(value, type)]
    return sorted(set(names))
