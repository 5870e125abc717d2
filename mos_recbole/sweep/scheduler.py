"""Asynchronous successive halving, separately for each model and data set."""

from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from mos_recbole.sweep.plan import Key
from mos_recbole.sweep.sweep_file import Stopping
from mos_recbole.sweep.trial import BEST, EPOCH, FINISHED


class AshaPerModel(FIFOScheduler):
    """Ray's ASHA on the best validation so far, one for each model and data set.

    With one for all models, trials of the best model would stop those of the others, whose best configuration would
    then not be found. The best value so far never falls, unlike the last one, so a trial that is ahead of all others is
    never stopped: a trial is stopped only if another one was better at the same epoch.

    Args:
        stopping: of the sweep.
        last_epoch: of the trials of each model and data set.
        mode: "max" or "min".
    """

    def __init__(self, stopping: Stopping, last_epoch: dict[Key, int], mode: str) -> None:
        super().__init__()
        self._last_epoch = last_epoch
        self._halving = {
            key: ASHAScheduler(
                time_attr=EPOCH,
                metric=BEST,
                mode=mode,
                max_t=last,
                # Ray refuses a grace period longer than the trials, such as those of models with one epoch.
                grace_period=min(stopping.grace_epochs, last),
                reduction_factor=stopping.reduction_factor,
                # Ray would stop a trial in its last epoch, before it is evaluated.
                stop_last_trials=False,
            )
            for key, last in last_epoch.items()
        }

    def remember(self, key: Key, run: str, log: pd.DataFrame, metric: str, mode: str) -> None:
        """Repeats the reports of a run of an earlier session, from its training log."""
        if metric not in log:  # no epoch was validated yet
            return
        best = log[metric].cummax() if mode == "max" else log[metric].cummin()
        halving, trial, nobody = self._halving[key], _named(run), cast(Any, None)
        halving.on_trial_add(nobody, trial)
        for epoch, value in zip(log["epoch"], best.ffill(), strict=True):
            if pd.notna(value):
                halving.on_trial_result(nobody, trial, {EPOCH: int(epoch), BEST: float(value)})

    def on_trial_add(self, tune_controller: Any, trial: RayTrial) -> None:
        self._halving[_key(trial)].on_trial_add(tune_controller, _run(trial))

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        if result.get(FINISHED):
            return TrialScheduler.CONTINUE
        key = _key(trial)
        decision = self._halving[key].on_trial_result(tune_controller, _run(trial), result)
        # Stopping a trial in its last epoch would save nothing but its evaluation.
        return TrialScheduler.CONTINUE if result[EPOCH] >= self._last_epoch[key] else decision

    def on_trial_complete(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> None:
        self._halving[_key(trial)].on_trial_complete(tune_controller, _run(trial), result)

    def on_trial_remove(self, tune_controller: Any, trial: RayTrial) -> None:
        self._halving[_key(trial)].on_trial_remove(tune_controller, _run(trial))


def _key(trial: RayTrial) -> Key:
    return trial.config["trial"]["model"], trial.config["trial"]["dataset"]


def _run(trial: RayTrial) -> Any:
    return _named(trial.config["trial"]["run"])


def _named(run: str) -> Any:
    """Returns all that Ray's scheduler reads of a trial: its id. The run's name stays the same after a restart."""
    return SimpleNamespace(trial_id=run)
