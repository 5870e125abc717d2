"""Measures what the output layer does to sequential recommenders, on RecBole's data, models and evaluation.

The names below are the public ones, and are imported when they are used: `import mos_recbole` loads no PyTorch.
`mos_recbole.models` has a class for every encoder with every head, such as `GRU4RecMoS`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mos_recbole.errors import InputError, TrainingDiverged
    from mos_recbole.experiment import load_run, run_experiment, run_fused
    from mos_recbole.experiment.spectra import SpectrumPlan, measure_run
    from mos_recbole.heads import HeadSpec, LogitHead
    from mos_recbole.losses import mixture_cross_entropy
    from mos_recbole.models import (
        CausalEncoder,
        EncoderSpec,
        RecBoleEncoder,
        load_plugin,
        register_encoder,
        register_head,
    )
    from mos_recbole.results import RunResult, find_records
    from mos_recbole.settings import load_settings
    from mos_recbole.specs import Setting

__version__ = "0.2.0"
__all__ = [
    "CausalEncoder",
    "EncoderSpec",
    "HeadSpec",
    "InputError",
    "LogitHead",
    "RecBoleEncoder",
    "RunResult",
    "Setting",
    "SpectrumPlan",
    "TrainingDiverged",
    "find_records",
    "load_plugin",
    "load_run",
    "load_settings",
    "measure_run",
    "mixture_cross_entropy",
    "register_encoder",
    "register_head",
    "run_experiment",
    "run_fused",
]

_HOMES = {
    "errors": ("InputError", "TrainingDiverged"),
    "experiment": ("load_run", "run_experiment", "run_fused"),
    "experiment.spectra": ("SpectrumPlan", "measure_run"),
    "heads": ("HeadSpec", "LogitHead"),
    "losses": ("mixture_cross_entropy",),
    "models": (
        *("CausalEncoder", "EncoderSpec", "RecBoleEncoder"),
        *("load_plugin", "register_encoder", "register_head"),
    ),
    "results": ("RunResult", "find_records"),
    "settings": ("load_settings",),
    "specs": ("Setting",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
