"""Ray Tune's callbacks for experiment trackers."""

import importlib.util

from ray.tune import Callback

from mos_recbole.errors import InputError


def make_loggers(wandb_project: str | None, mlflow_experiment: str | None) -> list[Callback]:
    """Returns callbacks that log every trial's settings and validation to the trackers that are named.

    Raises:
        InputError: the tracker's package is not installed.
    """
    loggers: list[Callback] = []
    if wandb_project is not None:
        _require("wandb")
        from ray.air.integrations.wandb import WandbLoggerCallback

        loggers.append(WandbLoggerCallback(project=wandb_project))
    if mlflow_experiment is not None:
        _require("mlflow")
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        loggers.append(MLflowLoggerCallback(experiment_name=mlflow_experiment))
    return loggers


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise InputError(f"--{package}: the package {package} is not installed; expected pip install {package}")
