"""From a sweep file to trials: checked settings, and the name of the run that each of them is."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mos_recbole.errors import InputError
from mos_recbole.evaluation import metric_direction
from mos_recbole.experiment import (
    data_fingerprint,
    protocol_hash,
    run_name,
)
from mos_recbole.models import load_plugin
from mos_recbole.results import SweepPlan, Trial
from mos_recbole.settings import Settings, given_settings, known_settings, load_settings
from mos_recbole.sweep.space import draw, expand_grid, walk
from mos_recbole.sweep.sweep_file import SweepFile

# Settings that a sweep has another place for.
_ELSEWHERE = {"seed": "seeds", "valid_metric": "metric", "model": "models", "dataset": "datasets"}

# An epoch takes about as long as the product of these is large.
_SIZES = {"embedding_size", "hidden_size", "inner_size", "num_layers", "n_layers", "mos_heads", "MAX_ITEM_LIST_LENGTH"}


@dataclass(frozen=True)
class PlannedTrial:
    """A trial with the checked settings of its run."""

    trial: Trial
    settings: Settings

    @property
    def work(self) -> float:
        """How long it may take at most beside other trials of its model: a rule of thumb, in no unit."""
        sizes = [value for key, value in self.trial.parameters.items() if key in _SIZES]
        return math.prod(float(size) for size in sizes if isinstance(size, int | float)) * self.epochs

    @property
    def epochs(self) -> int:
        """The epoch after which it ends at the latest."""
        return self.settings.values["epochs"]


class Planner:
    """Makes trials of parameters. Trials of equal data share one reading of the data.

    Args:
        sweep: the sweep.
        path: of its file, for the RecBole YAML files named in it.
        overrides: settings as "key=value", over those of the sweep.

    Raises:
        InputError: all faults that do not depend on a trial.
    """

    def __init__(self, sweep: SweepFile, path: Path, overrides: Sequence[str]) -> None:
        self.sweep, self.overrides = sweep, list(overrides)
        self.device_type = "cuda" if sweep.resources.gpus_per_trial else "cpu"
        # Absolute, for workers elsewhere; links are not followed, since a folder's name is its data set's.
        self.datasets = [str(Path(name).expanduser().absolute()) if "/" in name else name for name in sweep.datasets]
        self.plugins = [(path.parent / name).expanduser().absolute() for name in sweep.plugins]
        for plugin in self.plugins:
            load_plugin(plugin)
        self._config_files = [path.parent / name for name in sweep.config]
        self._fingerprints: dict[str, str] = {}
        self.keys = {
            (model, dataset): known_settings(model, dataset) for model in sweep.models for dataset in self.datasets
        }
        given = given_settings(overrides=self.overrides)
        faults = [
            f"{path}: {place}.{key}: a sweep sets it by {_ELSEWHERE[key]}"
            for place, keys in (("settings", sweep.settings), ("space", sweep.space), ("arguments", given))
            for key in keys
            if key in _ELSEWHERE
        ]
        faults += [
            f"--{key}: this sweep varies {key}; expected a setting that is not in its space"
            for key in given
            if key in sweep.space
        ]
        faults += [
            f"{path}: space.{key}: no model of this sweep has such a setting"
            for key in sweep.space
            if not any(key in keys for keys in self.keys.values())
        ]
        faults += [f"{path}: {fault}" for fault in self._faulty_conditions()]
        names = [Path(dataset).name for dataset in self.datasets]
        if len(set(names)) < len(names):
            faults.append(f"{path}: datasets: two of them have the same name")
        if faults:
            raise InputError("\n".join(faults))

    def _faulty_conditions(self) -> list[str]:
        """Returns a sentence for each condition that names something unknown or can never hold."""
        faults = []
        values: dict[str, list[Any]] = {
            "model": list(self.sweep.models),
            "dataset": [Path(dataset).name for dataset in self.datasets],
        }
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
                    if values.get(name) and value not in values[name]
                ]
            # Values from a range cannot be listed.
            values[key] = list(parameter.values) if parameter.kind in ("grid", "choice") else []
        return faults

    def epochs(self, model: str, dataset: str) -> int:
        """Returns the last epoch of a model's trials, where epochs are not swept."""
        # Without swept parameters the settings of a model need not fit together.
        first = walk(
            self.sweep.space,
            model,
            Path(dataset).name,
            self.keys[model, dataset],
            lambda _, parameter: parameter.values[0],
        )
        return self.trial(0, model, dataset, self.sweep.seeds[0], first).epochs

    def plan(self) -> SweepPlan:
        """Returns what decides about the sweep's trials."""
        sweep = self.sweep
        return SweepPlan(
            name=sweep.name,
            models=sweep.models,
            datasets=[Path(dataset).name for dataset in self.datasets],
            seeds=sweep.seeds,
            metric=sweep.metric,
            mode="max" if metric_direction(sweep.metric) == "higher" else "min",
            search=sweep.search.model_dump(exclude_none=True),
            stopping=sweep.stopping.model_dump() if sweep.stopping.scheduler != "none" else {},
            space={key: parameter.model_dump(exclude_defaults=True) for key, parameter in sweep.space.items()},
            settings=given_settings([*self._config_files, sweep.settings], self.overrides),
        )

    def configurations(self, model: str, dataset: str) -> list[dict[str, Any]]:
        """Returns the parameters of a model's configurations; for Optuna random ones in place of what it suggests."""
        space, search, keys = self.sweep.space, self.sweep.search, self.keys[model, dataset]
        name = Path(dataset).name
        if search.method == "grid":
            return expand_grid(space, model, name, keys)
        assert search.samples is not None
        return draw(space, model, name, keys, search.samples, search.seed)

    def trials(self) -> list[PlannedTrial]:
        """Returns the trials that are known before anything has run, in the order of models, data sets and the space.

        With Optuna there are none, but its space is checked.

        Raises:
            InputError: as `preview`.
        """
        trials = self.preview()
        return trials if self.sweep.search.method != "optuna" else []

    def preview(self) -> list[PlannedTrial]:
        """Returns the trials of `trials`, and random ones in place of those that Optuna would suggest.

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
        self._check_together(trials)
        return trials

    def trial(self, number: int, model: str, dataset: str, seed: int, parameters: dict[str, Any]) -> PlannedTrial:
        """Returns one trial.

        Raises:
            InputError: all faults of its settings, or data that cannot be read.
        """
        chosen = {**parameters, "seed": seed, "valid_metric": self.sweep.metric}
        settings = load_settings(
            model,
            dataset,
            [*self._config_files, {**self.sweep.settings, **chosen}],
            self.overrides,
            beside=self.sweep.models,
        )
        name = run_name(settings, self.fingerprint(settings), self.device_type)
        trial = Trial(number=number, model=model, dataset=settings.dataset, seed=seed, parameters=parameters, run=name)
        return PlannedTrial(trial, settings)

    def fingerprint(self, settings: Settings) -> str:
        """Returns the fingerprint of the data of a trial."""
        key = json.dumps(settings.data_settings, sort_keys=True, default=str)
        if key not in self._fingerprints:
            self._fingerprints[key] = data_fingerprint(settings)
        return self._fingerprints[key]

    def _check_together(self, trials: list[PlannedTrial]) -> None:
        """Raises InputError where two trials are one run, or results of a data set could not be compared."""
        first_of_run: dict[str, PlannedTrial] = {}
        first_of_data: dict[str, PlannedTrial] = {}
        for planned in trials:
            trial = planned.trial
            twin = first_of_run.setdefault(trial.run, planned).trial
            if twin is not trial:
                without = [key for key, value in trial.parameters.items() if twin.parameters.get(key) != value]
                raise InputError(f"space: {' and '.join(without)} cannot change the results of {trial.model}")
            other = first_of_data.setdefault(trial.dataset, planned)
            if self._protocol(planned) != self._protocol(other):
                differing = [key for key, value in trial.parameters.items() if other.trial.parameters.get(key) != value]
                raise InputError(
                    f"space: {' or '.join(differing)} changes what is measured, so that trials cannot be compared; "
                    "expected a sweep for each value"
                )

    def _protocol(self, planned: PlannedTrial) -> str:
        return protocol_hash(planned.settings, self.fingerprint(planned.settings))
