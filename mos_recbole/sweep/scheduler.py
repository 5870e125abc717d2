"""Asynchronous successive halving, for each model and data set by itself."""

from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from mos_recbole.sweep.sweep_file import Stopping
from mos_recbole.sweep.trial import BEST, EPOCH, FINISHED

Group = tuple[str, str]


class AshaPerModel(FIFOScheduler):
    """Ray's ASHA on the best validation so far, one for each model and data set.

    All models together would let the best model's trials end those of the others, whose best configuration would then
    not be found. By the best value so far, which never falls, instead of the last one, the trial that is best on
    validation is always among those that go on to their end: a trial is ended only beside one that was better at the
    same epoch.

    Args:
        stopping: of the sweep.
        last_epoch: of trials, by model and data set.
        mode: "max" or "min".
    """

    def __init__(self, stopping: Stopping, last_epoch: dict[Group, int], mode: str) -> None:
        super().__init__()
        self._last_epoch = last_epoch
        self._halving = {
            group: ASHAScheduler(
                time_attr=EPOCH,
                metric=BEST,
                mode=mode,
                max_t=last,
                # Ray refuses a grace that is longer than the trials, such as those of models with one epoch.
                grace_period=min(stopping.grace_epochs, last),
                reduction_factor=stopping.reduction_factor,
                # Ray would end a trial in its last epoch, before it is evaluated.
                stop_last_trials=False,
            )
            for group, last in last_epoch.items()
        }

    def remember(self, group: Group, run: str, log: pd.DataFrame, metric: str, mode: str) -> None:
        """Takes in what a run of an earlier sitting reported, from its training log."""
        if metric not in log:  # no epoch was validated yet
            return
        best = log[metric].cummax() if mode == "max" else log[metric].cummin()
        halving, trial, nobody = self._halving[group], _named(run), cast(Any, None)
        halving.on_trial_add(nobody, trial)
        for epoch, value in zip(log["epoch"], best.ffill(), strict=True):
            if pd.notna(value):
                halving.on_trial_result(nobody, trial, {EPOCH: int(epoch), BEST: float(value)})

    def on_trial_add(self, tune_controller: Any, trial: RayTrial) -> None:
        self._halving[_group(trial)].on_trial_add(tune_controller, _run(trial))

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        if result.get(FINISHED):
            return TrialScheduler.CONTINUE
        group = _group(trial)
        decision = self._halving[group].on_trial_result(tune_controller, _run(trial), result)
        # A trial in its last epoch has nothing left to save but its evaluation.
        return TrialScheduler.CONTINUE if result[EPOCH] >= self._last_epoch[group] else decision

    def on_trial_complete(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> None:
        self._halving[_group(trial)].on_trial_complete(tune_controller, _run(trial), result)

    def on_trial_remove(self, tune_controller: Any, trial: RayTrial) -> None:
        self._halving[_group(trial)].on_trial_remove(tune_controller, _run(trial))


def _group(trial: RayTrial) -> Group:
    return trial.config["trial"]["model"], trial.config["trial"]["dataset"]


def _run(trial: RayTrial) -> Any:
    return _named(trial.config["trial"]["run"])


def _named(run: str) -> Any:
    """Returns what Ray's scheduler looks at of a trial: its id, here the run's, which stays after a restart."""
    return SimpleNamespace(trial_id=run)
