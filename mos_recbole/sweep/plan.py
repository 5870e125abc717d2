"""From a sweep file to trials: checked settings, and the name of the run of each."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mos_recbole.data import dataset_name, is_table
from mos_recbole.errors import InputError
from mos_recbole.experiment import (
    data_fingerprint,
    protocol_hash,
    run_name,
)
from mos_recbole.models import load_plugin
from mos_recbole.results import SweepPlan, Trial
from mos_recbole.settings import Settings, accepted_settings, given_settings, hint, load_settings
from mos_recbole.sweep.space import draw, expand_grid
from mos_recbole.sweep.sweep_file import ELSEWHERE, SweepFile

# A model on a data set, by its name. A sweep compares and selects configurations within one.
Key = tuple[str, str]


@dataclass(frozen=True)
class PlannedTrial:
    """A trial with the checked settings of its run."""

    trial: Trial
    settings: Settings

    @property
    def key(self) -> Key:
        """Its model and data set."""
        return self.trial.model, self.trial.dataset

    @property
    def work(self) -> float:
        """About how long it may take, relative to other trials of its model.

        A rule of thumb: swept integers are numbers of layers, components or units; a larger batch takes no longer.
        """
        sizes = [
            value
            for key, value in self.trial.parameters.items()
            if type(value) is int and key != "epochs" and not key.endswith("batch_size")
        ]
        return float(math.prod(sizes) * self.epochs)

    @property
    def epochs(self) -> int:
        """The epoch after which it ends at the latest."""
        return self.settings.values["epochs"]


class Planner:
    """Makes trials from parameters. Trials of the same data share one reading of the data.

    Args:
        sweep: the sweep.
        path: of its file; paths of plugins and RecBole YAML files are relative to it.
        overrides: settings as "key=value", which override those of the sweep.

    Attributes:
        datasets: where each data set is, by its name.
        known: the keys by which a model's settings on a data set can be given.

    Raises:
        InputError: all faults that do not depend on a trial.
    """

    def __init__(self, sweep: SweepFile, path: Path, overrides: Sequence[str]) -> None:
        self.sweep, self.overrides = sweep, list(overrides)
        self.device_type = "cuda" if sweep.resources.gpus_per_trial else "cpu"
        # Absolute, for workers elsewhere; links are not followed, since a folder's name is its data set's.
        places = [
            str(Path(name).expanduser().absolute()) if "/" in name or is_table(name) else name
            for name in sweep.datasets
        ]
        self.datasets = {dataset_name(place): place for place in places}
        self.plugins = [(path.parent / name).expanduser().absolute() for name in sweep.plugins]
        for plugin in self.plugins:
            load_plugin(plugin)
        self._config_files = [path.parent / name for name in sweep.config]
        self._fingerprints: dict[str, str] = {}
        given = given_settings(overrides=self.overrides)
        keys = {*given_settings([*self._config_files, sweep.settings], self.overrides)}
        keys |= {key for key, parameter in sweep.space.items() if parameter.same_as is None}
        self.known = {
            (model, name): accepted_settings(model, name, keys) for model in sweep.models for name in self.datasets
        }
        faults = [
            f"{path}: {place}.{key}: a sweep sets it by {ELSEWHERE[key]}"
            for place, keys in (("settings", sweep.settings), ("space", sweep.space), ("arguments", given))
            for key in keys
            if key in ELSEWHERE
        ]
        faults += [
            f"--{key}: this sweep varies {key}; expected a setting that is not in its space"
            for key in given
            if key in sweep.space
        ]
        faults += [f"{path}: {fault}" for fault in self._faults_of_space()]
        if len(self.datasets) < len(places):
            faults.append(f"{path}: datasets: two of them have the same name")
        if faults:
            raise InputError("\n".join(faults))

    def _faults_of_space(self) -> list[str]:
        """Returns a sentence for each parameter that no model has, and each condition that can never hold."""
        known = {key for keys in self.known.values() for key in keys}
        faults = [
            f"space.{key}: no model of this sweep has such a setting; {hint(key, known)}"
            for key in self.sweep.space
            if key not in known
        ]
        # Of the model, the data set and earlier parameters; empty for a range, whose values cannot be listed.
        values: dict[str, list[Any]] = {"model": list(self.sweep.models), "dataset": list(self.datasets)}
        for key, parameter in self.sweep.space.items():
            if parameter.same_as is not None and parameter.same_as not in list(values)[2:]:
                faults.append(f"space.{key}.same_as: {parameter.same_as!r} is no earlier parameter")
            for name, wanted in parameter.when.items():
                if name not in values:
                    faults.append(f"space.{key}.when: {name!r} is neither model, dataset nor an earlier parameter")
                    continue
                faults += [
                    f"space.{key}.when: {name} is never {value!r} in this sweep"
                    for value in (wanted if isinstance(wanted, list) else [wanted])
                    if values[name] and value not in values[name]
                ]
            values[key] = list(parameter.values) if parameter.kind in ("grid", "choice") else []
        return faults

    def epochs(self, model: str, dataset: str) -> int:
        """Returns the last epoch of a model's trials, where epochs are not swept."""
        # Of one configuration: without the swept parameters, the settings of a model need not fit together.
        return self.trial(0, model, dataset, self.sweep.seeds[0], self.configurations(model, dataset)[0]).epochs

    def plan(self) -> SweepPlan:
        """Returns everything that decides which trials the sweep has."""
        sweep = self.sweep
        return SweepPlan(
            name=sweep.name,
            models=sweep.models,
            datasets=list(self.datasets),
            seeds=sweep.seeds,
            metric=sweep.metric,
            mode=sweep.direction,
            search=sweep.search.model_dump(exclude_none=True),
            stopping=sweep.stopping.model_dump() if sweep.stopping.scheduler != "none" else {},
            space={key: parameter.model_dump(exclude_defaults=True) for key, parameter in sweep.space.items()},
            settings=given_settings([*self._config_files, sweep.settings], self.overrides),
        )

    def configurations(self, model: str, dataset: str) -> list[dict[str, Any]]:
        """Returns the parameters of a model's configurations; for Optuna, random examples."""
        space, search, known = self.sweep.space, self.sweep.search, self.known[model, dataset]
        if search.method == "grid":
            return expand_grid(space, model, dataset, known)
        assert search.samples is not None
        return draw(space, model, dataset, known, search.samples, search.seed)

    def trials(self) -> list[PlannedTrial]:
        """Returns the trials that are known before anything has run, in the order of data sets, models and the space.

        With Optuna there are none, but its space is checked.

        Raises:
            InputError: as `preview`.
        """
        trials = self.preview()
        return trials if self.sweep.search.method != "optuna" else []

    def preview(self) -> list[PlannedTrial]:
        """Returns the trials of `trials`; for Optuna, random examples of what it could suggest.

        Raises:
            InputError: all faults of all trials, each once; two trials that are the same run; trials whose results
                could not be compared.
        """
        seeds = self.sweep.seeds[:1] if self.sweep.adaptive else self.sweep.seeds
        trials: list[PlannedTrial] = []
        faults: dict[str, None] = {}
        for dataset in self.datasets:
            for model in self.sweep.models:
                for parameters in self.configurations(model, dataset):
                    for seed in seeds:
                        try:
                            trials.append(self.trial(len(trials) + 1, model, dataset, seed, parameters))
                        except InputError as error:
                            faults |= dict.fromkeys(str(error).splitlines())
        if faults:
            raise InputError("\n".join(faults))
        self.check_together(trials)
        return trials

    def trial(self, number: int, model: str, dataset: str, seed: int, parameters: dict[str, Any]) -> PlannedTrial:
        """Returns one trial.

        Raises:
            InputError: all faults of its settings, or data that cannot be read.
        """
        chosen = {**parameters, "seed": seed, "valid_metric": self.sweep.metric}
        # A trial of an earlier session may have swept what an argument now sets.
        others = [one for one in self.overrides if one.removeprefix("--").partition("=")[0] not in parameters]
        settings = load_settings(
            model,
            self.datasets[dataset],
            [*self._config_files, {**self.sweep.settings, **chosen}],
            others,
            beside=self.sweep.models,
        )
        if not settings.validates:
            raise InputError(f"{model}: split {settings.split.name!r} has no validation, by which a sweep chooses")
        name = run_name(settings, self.fingerprint(settings), self.device_type)
        trial = Trial(number=number, model=model, dataset=dataset, seed=seed, parameters=parameters, run=name)
        return PlannedTrial(trial, settings)

    def fingerprint(self, settings: Settings) -> str:
        """Returns the fingerprint of the data of a trial."""
        key = json.dumps(settings.data_settings, sort_keys=True, default=str)
        if key not in self._fingerprints:
            self._fingerprints[key] = data_fingerprint(settings)
        return self._fingerprints[key]

    def check_together(self, trials: list[PlannedTrial]) -> None:
        """Raises InputError where two trials are one run, or results on a data set could not be compared."""
        first_of_run: dict[str, Trial] = {}
        first_of_data: dict[str, tuple[Trial, str]] = {}
        for planned in trials:
            trial = planned.trial
            twin = first_of_run.setdefault(trial.run, trial)
            if twin is not trial:
                keys = " and ".join(_differing(trial, twin))
                raise InputError(f"space: {keys} cannot change the results of {trial.model}")
            protocol = protocol_hash(planned.settings, self.fingerprint(planned.settings))
            other, expected = first_of_data.setdefault(trial.dataset, (trial, protocol))
            if protocol != expected:
                raise InputError(
                    f"space: {' or '.join(_differing(trial, other))} changes what is measured, so that trials cannot "
                    "be compared; expected a sweep for each value"
                )


def _differing(trial: Trial, other: Trial) -> list[str]:
    """Returns the parameters of a trial that the other has not, or with another value."""
    return [key for key, value in trial.parameters.items() if other.parameters.get(key) != value]
