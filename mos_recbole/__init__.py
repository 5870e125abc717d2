"""Measures what the output layer does to sequential recommenders, on RecBole's data, models and evaluation."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["RunResult", "run_experiment"]

if TYPE_CHECKING:
    from mos_recbole.experiment import run_experiment
    from mos_recbole.results import RunResult


def __getattr__(name: str) -> Any:
    # Lazily, so that `mos-recbole --help` does not wait for PyTorch.
    if name == "run_experiment":
        from mos_recbole.experiment import run_experiment

        return run_experiment
    if name == "RunResult":
        from mos_recbole.results import RunResult

        return RunResult
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
