"""What a run will cost, before it runs: its parameters and its time."""

import time
from pathlib import Path

import torch
from recbole.utils import init_seed

from mos_recbole.experiment.build import build_model, count_trainable
from mos_recbole.experiment.machine import choose_device
from mos_recbole.experiment.run_data import RunData
from mos_recbole.settings import Settings
from mos_recbole.training import make_train_loader, make_trainer


def time_training(settings: Settings, device: str = "cpu", seconds: float = 1.0) -> float:
    """Returns about how long training to the last epoch takes, in seconds, from a few steps; writes no files.

    Args:
        settings: of the run.
        device: as of `run_experiment`.
        seconds: how long to measure, at least one step.

    Raises:
        InputError: as `run_experiment`.
    """
    data = RunData(settings, choose_device(device))
    config = data.config
    init_seed(config["seed"], config["reproducibility"])
    trainer = make_trainer(config, build_model(settings, config, data), Path(), "", False, time.perf_counter())
    return trainer.epochs * trainer.time_epoch(make_train_loader(config, data.dataset, data.split), seconds)


def count_parameters(settings: Settings) -> int:
    """Returns the number of trainable parameters of a model with these settings, as records have it.

    Raises:
        InputError: as `run_experiment`.
    """
    data = RunData(settings, torch.device("cpu"))
    return count_trainable(build_model(settings, data.config, data))
