"""Which configuration of a sweep is best: decided on validation alone.

The comparison is given validation scores and nothing else, so the test set can have no part in it.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from mos_recbole.errors import InputError
from mos_recbole.results import RunResult, SweepPlan, Trial, attributes, read_plan, read_record, read_trials


@dataclass(frozen=True)
class Configuration:
    """A model with its swept parameters on a data set.

    Attributes:
        trials: in the order of the plan; they differ in the seed only.
    """

    trials: tuple[Trial, ...]

    @property
    def number(self) -> int:
        """The number of its first trial, by which configurations can be told apart."""
        return self.trials[0].number

    @property
    def model(self) -> str:
        return self.trials[0].model

    @property
    def dataset(self) -> str:
        return self.trials[0].dataset

    @property
    def parameters(self) -> dict[str, Any]:
        return self.trials[0].parameters


@dataclass(frozen=True)
class Comparison:
    """The configurations of one model on one data set, compared by their validation scores.

    Attributes:
        configurations: all that the sweep has so far, in the order of the plan.
        seeds: that the scores are of, the same for all that are ranked; empty where no trial finished.
        ranked: the comparable configurations, each with its mean validation score over `seeds`, best first.
    """

    dataset: str
    model: str
    configurations: tuple[Configuration, ...]
    seeds: tuple[int, ...]
    ranked: tuple[tuple[Configuration, float], ...]


def best_trial_configurations(folder: Path) -> list[Trial]:
    """Returns the selected trial of every data set and model of which a trial finished.

    It is the best configuration's trial with the first of the seeds that were compared: the plan's first seed, unless
    no trial finished with that. Running the configuration with further seeds does not change the selection, as long as
    another configuration has finished with the first seed only.

    Args:
        folder: of the sweep.

    Raises:
        InputError: the sweep's files are broken, or its scores cannot be compared; see `validation_scores`.
    """
    plan, trials = read_plan(folder), read_trials(folder)
    scores = validation_scores(finished_runs(folder, trials), plan.metric)
    return [
        next(trial for trial in comparison.ranked[0][0].trials if trial.seed == comparison.seeds[0])
        for comparison in compare_configurations(plan, trials, scores)
        if comparison.ranked
    ]


def finished_runs(folder: Path, trials: Sequence[Trial]) -> dict[int, RunResult]:
    """Returns the records of the finished trials of a sweep, by the trial's number.

    Raises:
        InputError: a record is broken.
    """
    return {trial.number: read_record(trial.folder(folder)) for trial in trials if trial.status(folder) == "finished"}


def validation_scores(runs: Mapping[int, RunResult], metric: str) -> dict[int, float]:
    """Returns the runs' validation scores, under the same keys.

    Raises:
        InputError: a run was not validated by the metric, or runs on one data set are of different protocols.
    """
    protocols: dict[str, dict[str, RunResult]] = {}
    for run in runs.values():
        if metric not in run.valid:
            raise InputError(f"{run.folder}: no validation {metric}; it has {', '.join(run.valid)}")
        protocols.setdefault(run.dataset, {}).setdefault(run.protocol_hash, run)
    for dataset, examples in protocols.items():
        if len(examples) > 1:
            differ = "\n".join(f"{key}: {run.protocol}, {run.folder}" for key, run in sorted(examples.items()))
            raise InputError(f"runs of different protocols on {dataset} cannot be compared:\n{differ}")
    return {number: run.valid[metric].value for number, run in runs.items()}


def compare_configurations(plan: SweepPlan, trials: Sequence[Trial], scores: Mapping[int, float]) -> list[Comparison]:
    """Returns a comparison for every data set and model, in the order in which the trials name them.

    By `rank_by_validation`, on the plan's first seed with which any configuration finished: where only the winners of a
    search were run with all seeds, a mean over all of them would be a bias against the winners.

    Args:
        plan: says which seed is first and whether a higher or a lower score is better.
        trials: of the sweep, in the order of the plan.
        scores: validation scores of finished trials, by the trial's number.
    """
    groups: dict[tuple[str, str], list[Configuration]] = {}
    for configuration in group_configurations(trials):
        groups.setdefault((configuration.dataset, configuration.model), []).append(configuration)
    datasets = list(dict.fromkeys(trial.dataset for trial in trials))
    models = list(dict.fromkeys(trial.model for trial in trials))
    return [
        _compare(plan, groups[dataset, model], scores)
        for dataset in datasets
        for model in models
        if (dataset, model) in groups
    ]


def group_configurations(trials: Sequence[Trial]) -> list[Configuration]:
    """Returns the trials grouped by model, data set and swept parameters, in the order of their first trials."""
    groups: dict[tuple[str, str, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault(configuration_key(trial), []).append(trial)
    return [Configuration(tuple(group)) for group in groups.values()]


def configuration_key(trial: Trial) -> tuple[str, str, str]:
    """Returns what the trials of a configuration share: model, data set and parameters. 0 and 0.0 are the same."""
    numbers = {key: float(value) if type(value) is int else value for key, value in trial.parameters.items()}
    return trial.model, trial.dataset, json.dumps(numbers, sort_keys=True)


def rank_by_validation(
    scores: Sequence[Mapping[int, float]],
    run_ids: Sequence[Mapping[int, str]],
    seeds: Iterable[int],
    mode: Literal["max", "min"],
) -> tuple[tuple[int, ...], list[tuple[int, float]]]:
    """Returns the seeds that were compared, and which configurations by their mean over them, best first.

    A mean over three seeds and the score of one cannot be compared: the fewer the seeds, the higher the best of many
    equal configurations. So the comparison is among those that have the first seed which any has, on that and on all
    further seeds that all of those have. NaN is the worst. Of equal scores the one with more seeds wins, as a sweep's
    winner has, then the smaller run id: the order in which runs ended decides nothing.

    Args:
        scores: of each configuration, the validation score by seed.
        run_ids: of each configuration, the run id by seed.
        seeds: in the order in which to look for one.
        mode: whether the highest or the lowest is best.
    """
    in_order = [seed for seed in dict.fromkeys(seeds) if any(seed in by_seed for by_seed in scores)]
    comparable = [index for index, by_seed in enumerate(scores) if in_order and in_order[0] in by_seed]
    shared = tuple(seed for seed in in_order if all(seed in scores[index] for index in comparable))
    means = {index: fmean(scores[index][seed] for seed in shared) for index in comparable}
    sign = -1 if mode == "max" else 1

    def place(index: int) -> tuple[bool, float, int, str]:
        mean = means[index]
        return math.isnan(mean), 0 if math.isnan(mean) else sign * mean, -len(scores[index]), run_ids[index][shared[0]]

    ranking = sorted(comparable, key=place)
    return shared, [(index, means[index]) for index in ranking]


def newest_version(configurations: Sequence[list[RunResult]]) -> tuple[list[list[RunResult]], str]:
    """Returns the configurations of the code and plugins whose run finished last, and in words what others there are.

    Two versions give different numbers for reasons that are no setting, so the best of both would be a choice among
    versions. The newest is the one with which work goes on. To refuse instead would end each selection in a folder
    after an update; the words say how the others are named.
    """
    newest = max((run for runs in configurations for run in runs), key=lambda run: (run.finished, run.run_id))
    kept = [runs for runs in configurations if _version(runs[0]) == _version(newest)]
    left_out = Counter(version_name(runs[0]) for runs in configurations if _version(runs[0]) != _version(newest))
    if not left_out:
        return kept, ""
    named = ", ".join(f"{count} of {name} ({newest.model}:{name})" for name, count in left_out.items())
    return kept, f"the newest, {version_name(newest)}, is chosen from; left out, because their code differs: {named}"


def version_name(run: RunResult) -> str:
    """Returns the code of a run, and its plugins if there are any: "code=30374a,plugin=c0ffee"."""
    values = attributes(run)
    return ",".join(f"{key}={values[key]}" for key in ("code", "plugin") if key in values)


def _version(run: RunResult) -> tuple[str, str]:
    return run.code, str(run.settings.get("plugins"))


def _compare(plan: SweepPlan, configurations: list[Configuration], scores: Mapping[int, float]) -> Comparison:
    finished = [
        {trial.seed: scores[trial.number] for trial in configuration.trials if trial.number in scores}
        for configuration in configurations
    ]
    run_ids = [{trial.seed: trial.run_id for trial in configuration.trials} for configuration in configurations]
    known = sorted({seed for by_seed in finished for seed in by_seed})
    seeds, ranking = rank_by_validation(finished, run_ids, [*plan.seeds, *known], plan.mode)
    return Comparison(
        dataset=configurations[0].dataset,
        model=configurations[0].model,
        configurations=tuple(configurations),
        seeds=seeds,
        ranked=tuple((configurations[index], mean) for index, mean in ranking),
    )
