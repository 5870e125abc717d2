"""Optuna as the search algorithm, for each model and data set by itself."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from ray.tune.search import Searcher

from mos_recbole.errors import InputError
from mos_recbole.sweep.plan import PlannedTrial, Planner
from mos_recbole.sweep.space import Parameter, walk
from mos_recbole.sweep.trial import BEST, describe

# After so many suggestions in a row that have run already, what has not is looked for otherwise.
_MISSES = 100

# Of every study it would say that it was created.
optuna.logging.set_verbosity(optuna.logging.WARNING)


class OptunaPerModel(Searcher):
    """Hands out unfinished trials of earlier sittings, then what Optuna suggests, the same number for each model.

    Every model and data set has a study of its own, so that each is tuned with the same budget. Ray's own wrapper of
    Optuna knows one study, and cannot be told of earlier trials where parameters have conditions.

    Args:
        planner: of the sweep.
        unfinished: trials to go on with.
        ended: trials that have ended, with their best validation; None for those without any.
        number: of the next new trial.
        register: called with every new trial before it runs.
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
        self._unfinished = list(unfinished)
        # Whether there is nothing left to suggest.
        self.exhausted = False
        # By Ray's id of the trial: the trial, and Optuna's where that suggested it in this sitting.
        self._running: dict[str, tuple[PlannedTrial, optuna.Trial | None]] = {}
        # Best validation by run; None as long as there is none.
        self._values: dict[str, float | None] = {planned.trial.run: None for planned in unfinished}
        self._left: dict[tuple[str, str], int] = {}
        self._studies: dict[tuple[str, str], optuna.Study] = {}
        for key in planner.keys:
            known = sum(_key(planner, planned) == key for planned in [*unfinished, *(one for one, _ in ended)])
            self._left[key] = search.samples - known
            # The seed is shifted by what is known, or a restart would draw its first suggestions anew.
            sampler = optuna.samplers.TPESampler(seed=search.seed + known, constant_liar=True)
            direction = (
                optuna.study.StudyDirection.MAXIMIZE if plan.mode == "max" else optuna.study.StudyDirection.MINIMIZE
            )
            self._studies[key] = optuna.create_study(sampler=sampler, direction=direction)
        for planned, value in ended:
            self._add(planned, value)

    def __getstate__(self) -> dict[str, Any]:
        # Ray pickles the search for its own way of going on; studies are rebuilt from the trials' files.
        return {}

    def suggest(self, trial_id: str) -> Any:
        """Returns the configuration of the next trial, or that there is none left."""
        if self._unfinished:
            return self._hand_out(trial_id, self._unfinished.pop(0), None)
        # The model that is furthest behind goes first.
        for key in sorted(self._left, key=lambda key: -self._left[key]):
            if self._left[key] <= 0:
                break
            planned, suggestion = self._new_trial(*key)
            if planned is not None:
                self._left[key] -= 1
                self._number += 1
                self._register(planned)
                return self._hand_out(trial_id, planned, suggestion)
            self._left[key] = 0
        self.exhausted = True
        return Searcher.FINISHED

    def _new_trial(self, model: str, dataset: str) -> tuple[PlannedTrial | None, optuna.Trial | None]:
        """Returns a trial that Optuna suggests and that has not been handed out; None where the space has no other."""
        study, space = self._studies[model, dataset], self._planner.sweep.space
        for _ in range(_MISSES):
            suggestion = study.ask()
            parameters = walk(
                space,
                model,
                Path(dataset).name,
                self._planner.keys[model, dataset],
                partial(_ask, suggestion),
            )
            try:
                planned = self._plan(model, dataset, parameters)
            except InputError:  # values that are good each for itself, such as a width that the heads do not divide
                study.tell(suggestion, state=optuna.trial.TrialState.FAIL)
                continue
            if planned.trial.run not in self._values:
                return planned, suggestion
            value = self._values[planned.trial.run]
            study.tell(suggestion, value, optuna.trial.TrialState.PRUNED if value is None else None)
        # What is left of a small space may be what Optuna thinks little of.
        for parameters in self._planner.configurations(model, dataset):
            with contextlib.suppress(InputError):
                planned = self._plan(model, dataset, parameters)
                if planned.trial.run not in self._values:
                    return planned, None
        return None, None

    def _plan(self, model: str, dataset: str, parameters: dict[str, Any]) -> PlannedTrial:
        return self._planner.trial(self._number, model, dataset, self._planner.sweep.seeds[0], parameters)

    def _hand_out(self, trial_id: str, planned: PlannedTrial, suggestion: optuna.Trial | None) -> dict[str, Any]:
        self._running[trial_id] = planned, suggestion
        self._values[planned.trial.run] = None
        return {"trial": describe(planned)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells Optuna how a trial ended."""
        if trial_id not in self._running:  # Ray may tell twice
            return
        planned, suggestion = self._running.pop(trial_id)
        value = None if error else (result or {}).get(BEST)
        self._values[planned.trial.run] = value
        if suggestion is None:
            self._add(planned, value)
        elif value is None:
            self._studies[_key(self._planner, planned)].tell(suggestion, state=optuna.trial.TrialState.FAIL)
        else:
            self._studies[_key(self._planner, planned)].tell(suggestion, value)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Does nothing: Optuna hears of a trial when it ends."""

    def _add(self, planned: PlannedTrial, value: float | None) -> None:
        """Tells Optuna of a trial that it did not suggest in this sitting."""
        self._values[planned.trial.run] = value
        if value is None:
            return
        space = self._planner.sweep.space
        parameters = {key: chosen for key, chosen in planned.trial.parameters.items() if space[key].same_as is None}
        self._studies[_key(self._planner, planned)].add_trial(
            optuna.trial.create_trial(
                params=parameters, distributions={key: _distribution(space[key]) for key in parameters}, value=value
            )
        )

    def save(self, checkpoint_path: str) -> None:
        """Leaves an empty file, for the same reason."""
        Path(checkpoint_path).touch()


def _key(planner: Planner, planned: PlannedTrial) -> tuple[str, str]:
    """Returns the model and the data set, as the sweep names it, of a trial."""
    trial = planned.trial
    return next(key for key in planner.keys if key[0] == trial.model and Path(key[1]).name == trial.dataset)


def _ask(trial: optuna.Trial, key: str, parameter: Parameter) -> Any:
    distribution = _distribution(parameter)
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(key, distribution.choices)
    if isinstance(distribution, optuna.distributions.IntDistribution):
        return trial.suggest_int(key, distribution.low, distribution.high)
    return trial.suggest_float(key, distribution.low, distribution.high, log=distribution.log)


def _distribution(
    parameter: Parameter,
) -> (
    optuna.distributions.CategoricalDistribution
    | optuna.distributions.IntDistribution
    | optuna.distributions.FloatDistribution
):
    if parameter.kind == "choice":
        return optuna.distributions.CategoricalDistribution(parameter.values)
    low, high = parameter.values
    if parameter.kind == "randint":
        return optuna.distributions.IntDistribution(low, high - 1)
    return optuna.distributions.FloatDistribution(low, high, log=parameter.kind == "loguniform")
