"""From a sweep file to trials: checked settings, and the name of the run of each."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from mos_recbole.analysis.selection import configuration_key
from mos_recbole.data import dataset_name, is_table
from mos_recbole.errors import InputError, nearest
from mos_recbole.experiment import (
    DataFacts,
    data_facts,
    protocol_hash,
    run_name,
)
from mos_recbole.models import load_plugin
from mos_recbole.progress import tracked
from mos_recbole.results import SweepPlan, Trial
from mos_recbole.settings import (
    WIDTHS,
    Findings,
    Given,
    Settings,
    accepted_settings,
    given_settings,
    hint,
    load_settings,
    read_given,
    settings_of_any_model,
)
from mos_recbole.sweep.space import MOST_TRIALS, TooManyTrials, combinations, draw, expand_grid
from mos_recbole.sweep.sweep_file import ELSEWHERE, SweepFile
from mos_recbole.training import stage_epochs

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

    @cached_property
    def epochs(self) -> int:
        """The epoch after which it ends at the latest."""
        return self.settings.values["epochs"] + stage_epochs(self.settings.model_class, self.settings.values)


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
        self._facts: dict[str, DataFacts] = {}
        self._own: dict[Key, tuple[dict[str, Any], Settings]] = {}
        self._place = partial(sweep.place, path)
        self._of_file = {key: self._given(value, "settings", key) for key, value in sweep.settings.items()}
        faults = self._faults_of_keys()
        self.known: dict[Key, set[str]] = {}
        for number, model in enumerate(sweep.models):
            try:
                for name in self.datasets:
                    self.known[model, name] = self._accepted(model, name)
            except InputError as error:
                faults.append(f"{self._place('models', str(number))}: {error}")
        faults += self._faults_of_space()
        if len(self.datasets) < len(places):
            faults.append(f"{self._place('datasets')}: datasets: two of them have the same name; rename a folder")
        too_many = self._faults_of_size()
        if faults or too_many:
            raise InputError("\n".join([*faults, *(too_many or self.setting_faults())]))

    def _given(self, value: Any, *keys: str) -> Given:
        """Returns a value of the sweep file with its line."""
        return Given(value, self._place(*keys))

    def _keys(self, facts: Mapping[str, str]) -> set[str]:
        """Returns the keys of all settings that are given, or swept where a trial has these facts."""
        given = given_settings([*self._config_files, self.sweep.settings], self.overrides)
        swept = (key for key, one in self.sweep.space.items() if one.same_as is None and one.may_hold(facts))
        return {*given, *swept}

    def _accepted(self, model: str, dataset: str) -> set[str]:
        """Returns the keys by which a model's settings can be given on a data set.

        Raises:
            InputError: as `accepted_settings`.
        """
        return accepted_settings(model, dataset, self._keys({"model": model, "dataset": dataset}))

    def _faults_of_keys(self) -> list[str]:
        """Returns a sentence for each setting that is given where it must not be, and each file that cannot be read."""
        try:
            self._keys({})
            given = given_settings(overrides=self.overrides)
        except InputError as error:
            # What can be read is checked all the same.
            self._config_files, self.overrides = [], []
            return str(error).splitlines()
        faults = [
            f"{self._place(place, key)}: {place}.{key}: a sweep sets it by {ELSEWHERE[key]}; write it there"
            for place, keys in (("settings", self.sweep.settings), ("space", self.sweep.space))
            for key in keys
            if key in ELSEWHERE
        ]
        for key in given:
            if key in ELSEWHERE:
                faults.append(f"--{key}: a sweep sets it by {ELSEWHERE[key]}; write it there")
            if key in self.sweep.space:
                faults.append(f"--{key}: this sweep varies {key}; expected a setting that is not in its space")
        return faults

    def warnings(self) -> list[str]:
        """Returns a sentence for each setting of a RecBole YAML file that the sweep has by a key of its own."""
        given = read_given(self._config_files, (), Findings())
        return [
            f"{given[key].origin}: {key} is left out; a sweep sets it by {ELSEWHERE[key]}"
            for key in ("seed", "valid_metric")  # of models and data sets, each trial's settings say it
            if key in given
        ]

    def _faults_of_space(self) -> list[str]:
        """Returns a sentence for each parameter that no model has, and each condition that can never hold."""
        known, sweep = {key for keys in self.known.values() for key in keys}, self.sweep
        # A file is for all of its models and data sets; an option may choose some of them.
        fewer = settings_of_any_model() if sweep.by_option("models") else ()
        faults = [
            f"{self._place('space', key)}: space.{key}: no model of this sweep has such a setting; {hint(key, known)}"
            for key in sweep.space
            if known and key not in known and key not in ELSEWHERE and key not in fewer
        ]
        # Of the model, the data set and earlier parameters; empty where they cannot be listed.
        values: dict[str, list[Any]] = {
            "model": [] if sweep.by_option("models") else list(sweep.models),
            "dataset": [] if sweep.by_option("datasets") else list(self.datasets),
        }
        values |= {key: [] for key in sweep.left_out}
        for key, parameter in sweep.space.items():
            other, where = parameter.same_as, f"{self._place('space', key, 'same_as')}: space.{key}.same_as"
            if other is not None and other not in list(values)[2:]:
                instead = nearest(other, list(values)[2:]) or f"write it before {key}"
                faults.append(f"{where}: {other!r} is no earlier parameter; {instead}")
            for name, wanted in parameter.when.items():
                where = f"{self._place('space', key, 'when', name)}: space.{key}.when"
                if name not in values:
                    faults.append(f"{where}: {name!r} is neither model, dataset nor an earlier parameter")
                    continue
                faults += [
                    f"{where}: {name} is never {value!r} in this sweep; it is one of {values[name]}"
                    for value in (wanted if isinstance(wanted, list) else [wanted])
                    if values[name] and value not in values[name]
                ]
            values[key] = list(parameter.values) if parameter.kind in ("grid", "choice") else []
        return faults

    def _faults_of_size(self) -> list[str]:
        """Returns a sentence where there are more trials than a sweep can have."""
        sweep, samples = self.sweep, self.sweep.search.samples
        seeds = 1 if sweep.only_best_again else len(sweep.seeds)
        keys = "search.samples" if samples is not None else "space"
        if samples is not None:
            number = samples * len(self.known)
        else:
            try:
                number = sum(len(expand_grid(sweep.space, *key, known)) for key, known in self.known.items())
            except TooManyTrials:
                grids = [len(one.values) for one in sweep.space.values() if one.kind == "grid"]
                number = math.prod(grids) * len(self.known)
        if number * seeds <= MOST_TRIALS:
            return []
        return [
            f"{self._place(*keys.split('.'))}: {keys}: up to {number * seeds:,} trials; expected at most "
            f"{MOST_TRIALS:,} in a sweep"
        ]

    def setting_faults(self) -> list[str]:
        """Returns the faults of all trials' settings, each once, without reading any data."""
        if any(fault.startswith(("space.", "search.")) for fault in self.sweep.contradictions()):
            return []  # its configurations cannot be listed
        faults: dict[str, None] = {}
        for model, dataset in self.known:
            for parameters in self._configurations(model, dataset, faults):
                try:
                    self._settings_of(model, dataset, self.sweep.seeds[0], parameters)
                except InputError as error:
                    faults |= dict.fromkeys(str(error).splitlines())
        return list(faults)

    def epochs(self, model: str, dataset: str) -> int:
        """Returns the last epoch of a model's trials, where epochs are not swept."""
        # Of one configuration: without the swept parameters, the settings of a model need not fit together.
        return self.trial(1, model, dataset, self.sweep.seeds[0], self.configurations(model, dataset)[0]).epochs

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
        """Returns the parameters of a model's configurations; for Optuna, random examples.

        Raises:
            InputError: the defaults, which should be the first, do not fit together.
        """
        space, search, known = self.sweep.space, self.sweep.search, self.known[model, dataset]
        if search.method == "grid":
            return expand_grid(space, model, dataset, known)
        assert search.samples is not None
        drawn = draw(space, model, dataset, known, search.samples, search.seed)
        if search.first is None:
            return drawn
        defaults, own = self._defaults(model, dataset)
        others = [one for one in drawn if one != defaults and not self._is_run_of(own, model, dataset, one)]
        return [defaults, *others][: search.samples]

    def _configurations(self, model: str, dataset: str, faults: dict[str, None]) -> list[dict[str, Any]]:
        """Returns the parameters of a model's configurations; adds to the faults why there are none."""
        try:
            return self.configurations(model, dataset)
        except InputError as error:
            faults |= dict.fromkeys(str(error).splitlines())
            return []

    def _defaults(self, model: str, dataset: str) -> tuple[dict[str, Any], Settings]:
        """Returns the parameters that a model has without the sweep, and its settings then.

        Raises:
            InputError: its settings do not fit together.
        """
        if (model, dataset) in self._own:
            return self._own[model, dataset]
        try:
            own = self._load(model, dataset, self.sweep.seeds[0], {})
        except InputError as error:
            raise InputError(f"search.first: {model} without the space: {error}; leave first out") from error
        values = dict(own.values)
        # A width goes by either name.
        values |= {other: values[key] for other, key in (WIDTHS, WIDTHS[::-1]) if other not in values and key in values}
        # A trial that is there already may be of a model that is not among those of now.
        known = (self.known.get((model, dataset)) or self._accepted(model, dataset)) & values.keys()
        (found,) = combinations(self.sweep.space, model, dataset, known, lambda key, _: [values[key]])
        self._own[model, dataset] = {key: values[key] for key in found}, own
        return self._own[model, dataset]

    def _is_run_of(self, settings: Settings, model: str, dataset: str, parameters: dict[str, Any]) -> bool:
        """Returns whether parameters, which may be spelled in another way, give the run of these settings."""
        try:
            return self._load(model, dataset, self.sweep.seeds[0], parameters).identity() == settings.identity()
        except InputError:  # told where all trials are checked
            return False

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
        seeds = self.sweep.seeds[:1] if self.sweep.only_best_again else self.sweep.seeds
        trials: list[PlannedTrial] = []
        faults: dict[str, None] = {}
        wanted = [
            (model, dataset, seed, parameters)
            for dataset in self.datasets
            for model in self.sweep.models
            for parameters in self._configurations(model, dataset, faults)
            for seed in seeds
        ]
        for one in tracked(wanted, "checking", "trials"):
            try:
                trials.append(self.trial(len(trials) + 1, *one))
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
        settings = self._settings_of(model, dataset, seed, parameters)
        if not settings.validates:
            raise InputError(f"{model}: split {settings.split.name!r} has no validation, by which a sweep chooses")
        name = run_name(settings, self.facts(settings).fingerprint, self.device_type)
        trial = Trial(number=number, model=model, dataset=dataset, seed=seed, parameters=parameters, run=name)
        planned = PlannedTrial(trial, settings)
        if self.sweep.stopping.scheduler == "asha" and planned.epochs != settings.values["epochs"]:
            # Its rungs are epochs, and those of pretraining have no validation.
            raise InputError(f"{model}: is pretrained, which stopping.scheduler asha cannot judge; expected none")
        return planned

    def _settings_of(self, model: str, dataset: str, seed: int, parameters: dict[str, Any]) -> Settings:
        """Returns the settings of a trial. Its defaults are not given to a model: some have effects by being given.

        Raises:
            InputError: all their faults.
        """
        is_default = self.sweep.search.first is not None and parameters == self._defaults(model, dataset)[0]
        return self._load(model, dataset, seed, {} if is_default else parameters)

    def _load(self, model: str, dataset: str, seed: int, parameters: dict[str, Any]) -> Settings:
        """Returns the settings of a trial.

        Raises:
            InputError: all their faults.
        """
        chosen = {key: self._given(value, "space", key) for key, value in parameters.items()}
        chosen |= {"seed": self._given(seed, "seeds"), "valid_metric": self._given(self.sweep.metric, "metric")}
        # A trial of an earlier session may have swept what an argument now sets.
        others = [one for one in self.overrides if one.removeprefix("--").partition("=")[0] not in parameters]
        of_file = self._of_file
        if self.sweep.by_option("models"):  # the file is for other models too
            known = {key for keys in self.known.values() for key in keys}
            others_own = settings_of_any_model() - known
            of_file = {key: value for key, value in of_file.items() if key not in others_own}
        files: list[Path | dict[str, Given]] = [*self._config_files, of_file | chosen]
        try:
            beside = dict.fromkeys(known for known, _ in self.known)
            return load_settings(model, self.datasets[dataset], files, others, beside)
        except InputError as error:
            lists = [key for key, value in self.sweep.settings.items() if isinstance(value, list)]
            faults = [
                f"{fault}; to sweep it, write {key}: {{grid: {self.sweep.settings[key]}}} into space"
                if (key := next((one for one in lists if f": {one} is [" in fault), None))
                else fault
                for fault in str(error).splitlines()
            ]
            raise InputError("\n".join(faults)) from error

    def facts(self, settings: Settings) -> DataFacts:
        """Returns the facts of the data of a trial."""
        asked = {"filter_seen": settings.values["filter_seen"]}
        key = json.dumps(settings.data_settings | asked, sort_keys=True, default=str)
        if key not in self._facts:
            self._facts[key] = data_facts(settings)
        return self._facts[key]

    def protocol_hash(self, settings: Settings) -> str:
        """Returns what is equal for trials whose numbers may be compared."""
        facts = self.facts(settings)
        return protocol_hash(settings.protocol(has_repeats=facts.has_repeats), facts.fingerprint)

    def check_together(self, trials: list[PlannedTrial]) -> None:
        """Raises InputError where two trials are one run, no table could tell two apart, or results on a data set could
        not be compared."""
        first_of_run: dict[str, Trial] = {}
        first_of_key: dict[tuple[Any, ...], PlannedTrial] = {}
        first_of_data: dict[str, tuple[Trial, str]] = {}
        for planned in trials:
            trial = planned.trial
            twin = first_of_run.setdefault(trial.run, trial)
            if twin is not trial:
                keys = " and ".join(_differing(trial, twin))
                raise InputError(f"space: {keys} cannot change the results of {trial.model}")
            rival = first_of_key.setdefault((*configuration_key(trial), trial.seed), planned)
            if rival is not planned:
                old, new = rival.settings.identity(), planned.settings.identity()
                keys = ", ".join(f"{key} ({old.get(key)}, {new.get(key)})" for key in new if old.get(key) != new[key])
                raise InputError(
                    f"space: two trials of {trial.model} have the same parameters, {trial.parameters}, and differ in "
                    f"{keys}; expected these in settings, or in space"
                )
            protocol = self.protocol_hash(planned.settings)
            other, expected = first_of_data.setdefault(trial.dataset, (trial, protocol))
            if protocol != expected:
                raise InputError(
                    f"space: {' or '.join(_differing(trial, other))} changes what is measured, so that trials cannot "
                    "be compared; expected a sweep for each value"
                )


def _differing(trial: Trial, other: Trial) -> list[str]:
    """Returns the parameters of a trial that the other has not, or with another value."""
    return [key for key, value in trial.parameters.items() if other.parameters.get(key) != value]
