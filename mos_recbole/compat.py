"""What newer packages removed and RecBole 1.2.1 still uses. Nothing outside this file patches another package."""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from mos_recbole.errors import NotInstalled
from mos_recbole.installation import RECBOLE, recbole_command

try:
    import recbole
    import recbole.utils
    from recbole.config import Config
except ModuleNotFoundError as error:
    if error.name != "recbole":
        raise
    raise NotInstalled(f"RecBole is not installed; expected: {recbole_command()}") from None
if f"recbole=={recbole.__version__}" != RECBOLE:
    raise NotInstalled(f"RecBole {recbole.__version__} is installed; expected: {recbole_command()}")

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


# Where this project's classes are found by name, as `pickle` does; a room above this one.
_OWN_MODELS = "mos_recbole.models"
_STOCK_GET_MODEL = recbole.utils.get_model
_STOCK_DEFAULTS = Config._load_internal_config_dict
_STOCK_TORCH_LOAD = torch.load


def apply() -> None:
    """Makes RecBole run on current packages and know this project's models. Safe to call repeatedly.

    - NumPy's and SciPy's names that RecBole reads are put back, and two warnings that it causes are silenced.
    - `torch.load` reads RecBole's checkpoints, which are pickles, where RecBole asks for them; nowhere else.
    - `recbole.utils.get_model` finds this project's models by name, in modules that have imported it already, too.
    - `recbole.config.Config` has the defaults of a class that declares some: `defaults()`, files or mappings.
    """
    for name, (scalar_type, _) in _NUMPY_ALIASES.items():
        if name not in np.__dict__:
            setattr(np, name, scalar_type)
    # SciPy 1.13 took dict's methods from its dictionary matrices; RecBole's graph models fill one with `_update`.
    if not hasattr(sparse.dok_matrix, "_update"):
        sparse.dok_matrix._update = lambda self, items: self._dict.update(items)
    torch.load = _torch_load
    Config._load_internal_config_dict = _load_defaults
    for name in [name for name in sys.modules if name.startswith("recbole.")]:
        if vars(sys.modules[name]).get("get_model") is _STOCK_GET_MODEL:
            sys.modules[name].get_model = _get_model  # type: ignore[attr-defined]
    # pandas 2 warns of each in-place column fill (the reason why pandas 3 is not supported).
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\..*")
    # RecBole 1.2.1 has invalid escape sequences in docstrings (a SyntaxWarning since Python 3.12).
    warnings.filterwarnings("ignore", category=SyntaxWarning, module=r"recbole\..*")


def _torch_load(*arguments: Any, **options: Any) -> Any:
    """Stands in for `torch.load`, which reads no pickles since PyTorch 2.6 unless it is told to."""
    if sys._getframe(1).f_globals["__name__"].partition(".")[0] == "recbole":
        options.setdefault("weights_only", False)
    return _STOCK_TORCH_LOAD(*arguments, **options)


def _get_model(name: str) -> type:
    """Stands in for `recbole.utils.get_model`: finds this project's models beside RecBole's."""
    is_stock = is_recbole_model_name(name, (*RECBOLE_MODEL_KINDS, "exlib_recommender"))
    with _autograd_left_alone():
        found: type = _STOCK_GET_MODEL(name) if is_stock else importlib.import_module(_OWN_MODELS).resolve_model(name)
    return found


def _load_defaults(self: Config, model: str, model_class: type, dataset: str) -> None:
    """Stands in for `Config._load_internal_config_dict`, which knows the defaults of RecBole's own models only."""
    _STOCK_DEFAULTS(self, model, model_class, dataset)
    if hasattr(model_class, "defaults"):
        add_defaults(self, model_class.defaults())


def add_defaults(config: Config, sources: Iterable[Path | Mapping[str, Any]]) -> None:
    """Puts defaults over those that a configuration has, later sources over earlier ones: YAML files or settings."""
    for source in sources:
        if isinstance(source, Path):
            config._update_internal_config_dict(str(source))
        else:
            config.internal_config_dict.update(source)


@contextmanager
def _autograd_left_alone() -> Iterator[None]:
    """Undoes what importing RecBole's sequential models does: SINE's file turns on autograd's anomaly detection.

    It stays on for the whole process and slows down the training of every model, small ones several times.
    """
    enabled = torch.is_anomaly_enabled()
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(enabled)


def recbole_model_class(name: str) -> type | None:
    """Returns RecBole's own class of that name, or None where it has none.

    Stands in for `recbole.utils.get_model`, which calls `importlib.util` without importing it and which turns a
    name that differs in case only into an AttributeError.
    """
    if not name.isidentifier():
        return None
    with _autograd_left_alone():
        for kind in RECBOLE_MODEL_KINDS:
            path = f"recbole.model.{kind}.{name.lower()}"
            if importlib.util.find_spec(path) is not None:
                model_class = getattr(importlib.import_module(path), name, None)
                if name == "Pop" and model_class is not None:
                    model_class.calculate_loss = _count_every_item
                return model_class
    return None


def _count_every_item(self: Any, interaction: Any) -> torch.Tensor:
    """Stands in for `Pop.calculate_loss`, which counts an item once per batch, however often the batch has it."""
    item = interaction[self.ITEM_ID]
    self.item_cnt.index_add_(0, item, torch.ones_like(item)[:, None])
    self.max_cnt = torch.max(self.item_cnt, dim=0)[0]
    zero: torch.Tensor = self.fake_loss.sum() * 0.0
    return zero


# Not "exlib_recommender": gradient boosting, whose packages RecBole does not install.
RECBOLE_MODEL_KINDS = (
    "general_recommender",
    "context_aware_recommender",
    "sequential_recommender",
    "knowledge_aware_recommender",
)


def recbole_model_settings(name: str) -> Path:
    """Returns the file of RecBole's defaults for a model of its own."""
    return Path(recbole.__file__).parent / "properties" / "model" / f"{name}.yaml"


def is_recbole_model_name(name: str, kinds: Iterable[str] = RECBOLE_MODEL_KINDS) -> bool:
    """Returns whether RecBole has a model of that name, or of one that differs in case only, without importing it."""
    folder = Path(recbole.__file__).parent / "model"
    return any((folder / kind / f"{name.lower()}.py").is_file() for kind in kinds)


def is_recbole_model(model_class: type, *names: str) -> bool:
    """Returns whether a class is one of these models of RecBole's, or is derived from one."""
    return any(base.__name__ in names and base.__module__.startswith("recbole.") for base in model_class.__mro__)


def recbole_model_names(kinds: Iterable[str] = RECBOLE_MODEL_KINDS) -> list[str]:
    """Returns the names of the model classes that RecBole 1.2.1 ships, without importing optional packages.

    Args:
        kinds: of `RECBOLE_MODEL_KINDS`; by default all.
    """
    names = []
    with _autograd_left_alone():
        for kind in kinds:
            package = importlib.import_module(f"recbole.model.{kind}")
            names += [name for name, value in vars(package).items() if isinstance(value, type)]
    return sorted(set(names))
