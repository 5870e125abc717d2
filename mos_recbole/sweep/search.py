"""Optuna as the search algorithm, separately for each model and data set."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from ray.tune.search import Searcher

from mos_recbole.errors import InputError
from mos_recbole.sweep.plan import Key, PlannedTrial, Planner
from mos_recbole.sweep.space import Parameter, combinations
from mos_recbole.sweep.trial import BEST, describe

# How many suggestions in a row may repeat earlier ones before a configuration is chosen without Optuna.
_MAX_REPEATS = 100

# Optuna logs the creation of every study at the level INFO.
optuna.logging.set_verbosity(optuna.logging.WARNING)


class OptunaPerModel(Searcher):
    """First hands out unfinished trials of earlier sessions, then Optuna's suggestions, equally many for each model.

    Every model and data set has its own study, so that each is tuned with the same budget. Ray's own wrapper of Optuna
    has one study, and cannot be given earlier trials where parameters have conditions.

    Args:
        planner: of the sweep.
        unfinished: trials to resume.
        ended: trials that have ended, each with its best validation; None for those without any.
        number: of the next new trial.
        register: called with every new trial before it runs.

    Attributes:
        exhausted: whether there is nothing left to suggest.
    """

    def __init__(
        self,
        planner: Planner,
        unfinished: Sequence[PlannedTrial],
        ended: Sequence[tuple[PlannedTrial, float | None]],
        number: int,
        register: Callable[[PlannedTrial], None],
    ) -> None:
        plan, search = planner.plan(), planner.sweep.search
        super().__init__(metric=BEST, mode=plan.mode)
        assert search.samples is not None
        self._planner, self._register, self._number = planner, register, number
        self._unfinished, self.exhausted = list(unfinished), False
        self._known = {planned.trial.run for planned in unfinished}
        # By Ray's id of the trial.
        self._running: dict[str, tuple[PlannedTrial, optuna.Trial]] = {}
        self._left: dict[Key, int] = {}
        self._studies: dict[Key, optuna.Study] = {}
        for key in planner.known:
            known = sum(planned.key == key for planned in [*unfinished, *(planned for planned, _ in ended)])
            self._left[key] = search.samples - known
            # The seed is shifted by what is known, or a restart would draw its first suggestions anew.
            sampler = optuna.samplers.TPESampler(seed=search.seed + known, constant_liar=True)
            direction: Literal["maximize", "minimize"] = "maximize" if plan.mode == "max" else "minimize"
            self._studies[key] = optuna.create_study(sampler=sampler, direction=direction)
        for planned, value in ended:
            self._tell(planned, self._adopt(planned), value)

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles the search for its own way of resuming; studies are rebuilt from the trials' files instead.
        return {}

    def suggest(self, trial_id: str) -> Any:
        """Returns the configuration of the next trial, or that there is none left."""
        if self._unfinished:
            planned = self._unfinished.pop(0)
            return self._hand_out(trial_id, planned, self._adopt(planned))
        # The model that is furthest behind goes first.
        for key in sorted(self._left, key=lambda key: -self._left[key]):
            if self._left[key] <= 0:
                break
            if (new := self._new_trial(*key)) is not None:
                self._left[key] -= 1
                self._number += 1
                self._known.add(new[0].trial.run)
                self._register(new[0])
                return self._hand_out(trial_id, *new)
            self._left[key] = 0
        self.exhausted = True
        return Searcher.FINISHED

    def _new_trial(self, model: str, dataset: str) -> tuple[PlannedTrial, optuna.Trial] | None:
        """Returns a new trial and Optuna's trial of it; None where the space has no other configuration."""
        study = self._studies[model, dataset]
        for _ in range(_MAX_REPEATS):
            suggestion = study.ask()
            planned = self._plan(model, dataset, self._parameters(suggestion, model, dataset))
            if planned is not None:
                return planned, suggestion
            study.tell(suggestion, state=optuna.trial.TrialState.FAIL)
        # In a small space Optuna may never suggest the configurations that it expects to be bad.
        for parameters in self._planner.configurations(model, dataset):
            planned = self._plan(model, dataset, parameters)
            if planned is not None:
                return planned, self._adopt(planned)
        return None

    def _parameters(self, suggestion: optuna.Trial, model: str, dataset: str) -> dict[str, Any]:
        """Returns the parameters that Optuna suggests."""
        planner = self._planner
        (parameters,) = combinations(
            planner.sweep.space,
            model,
            dataset,
            planner.known[model, dataset],
            lambda key, parameter: [_ask(suggestion, key, parameter)],
        )
        return parameters

    def _plan(self, model: str, dataset: str, parameters: dict[str, Any]) -> PlannedTrial | None:
        """Returns the trial; None where it is known, or its values do not fit together, as 30 units and 4 heads."""
        try:
            planned = self._planner.trial(self._number, model, dataset, self._planner.sweep.seeds[0], parameters)
        except InputError:
            return None
        return planned if planned.trial.run not in self._known else None

    def _adopt(self, planned: PlannedTrial) -> optuna.Trial:
        """Returns Optuna's trial of one that Optuna did not suggest in this session."""
        study = self._studies[planned.key]
        study.enqueue_trial(planned.trial.parameters)
        suggestion = study.ask()
        self._parameters(suggestion, *planned.key)
        self._known.add(planned.trial.run)
        return suggestion

    def _hand_out(self, trial_id: str, planned: PlannedTrial, suggestion: optuna.Trial) -> dict[str, Any]:
        self._running[trial_id] = planned, suggestion
        return {"trial": describe(planned)}

    def _tell(self, planned: PlannedTrial, suggestion: optuna.Trial, value: float | None) -> None:
        self._studies[planned.key].tell(suggestion, value, optuna.trial.TrialState.FAIL if value is None else None)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Reports to Optuna how a trial ended."""
        if trial_id in self._running:  # Ray may report it twice
            self._tell(*self._running.pop(trial_id), None if error else (result or {}).get(BEST))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Does nothing: Optuna gets the result of a trial when it ends."""

    def save(self, checkpoint_path: str) -> None:
        """Leaves an empty file; see `__getstate__`."""
        Path(checkpoint_path).touch()


def _ask(trial: optuna.Trial, key: str, parameter: Parameter) -> Any:
    """Returns the value that Optuna suggests for a parameter."""
    if parameter.kind == "choice":
        return trial.suggest_categorical(key, parameter.values)
    low, high = parameter.values
    if parameter.kind == "randint":
        return trial.suggest_int(key, low, high - 1)
    return trial.suggest_float(key, low, high, log=parameter.kind == "loguniform")
