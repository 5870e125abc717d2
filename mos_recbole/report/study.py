"""A study: the finished runs of results folders, a section a protocol, and which configurations are compared."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mos_recbole.analysis import RunGroup, best_on_validation, group_by_configuration, labels
from mos_recbole.errors import InputError
from mos_recbole.results import (
    LOG_FILE,
    RECORD_FILE,
    RUNS_FOLDER,
    SWEEP_FILE,
    RunResult,
    Trial,
    find_records,
    read_plan,
    read_trials,
)

BASELINE_HEAD = "Softmax"
DIMENSION = "embedding_size"
# What identifies a configuration and is no setting of the experiment.
_NAMES = ("model", "seed")


@dataclass(frozen=True)
class Matchup:
    """A model against its baseline, the same encoder with the baseline head, at the dimensions that both have.

    Attributes:
        pairs: baseline and model by dimension, in ascending order.
    """

    baseline: str
    model: str
    pairs: dict[int, tuple[RunGroup, RunGroup]]


@dataclass(frozen=True)
class Section:
    """The runs of one protocol.

    Attributes:
        title: the data set and the split, with what tells the section from others.
        name: for files.
        runs: oldest first.
        sides: every configuration, in the order in which tables have them.
        chosen: of every model with a dimension one configuration at each, by model and dimension: the only one, or the
            best on validation.
        notes: which configurations were chosen by validation, and what could not be compared and why.
    """

    title: str
    name: str
    runs: tuple[RunResult, ...]
    sides: tuple[RunGroup, ...]
    chosen: dict[tuple[str, int], RunGroup]
    notes: tuple[str, ...]

    @property
    def models(self) -> list[str]:
        """The models, in the order of their first runs, each baseline before what is compared with it."""
        seen = list(dict.fromkeys(run.model for run in self.runs))
        return sorted(seen, key=lambda model: not model.endswith(BASELINE_HEAD))

    @cached_property
    def matched_pairs(self) -> list[tuple[RunGroup, RunGroup]]:
        """Every configuration after the baseline head's with the same settings, where there is one."""
        pairs = []
        for side in self.sides:
            rivals = [other for other in self.sides if _is_baseline_of(other.runs[0].model, side.runs[0].model)]
            same = [rival for rival in rivals if _same_settings(rival.runs[0], side.runs[0])]
            pairs += [(same[0], side)] if same else []
        return pairs

    @cached_property
    def matchups(self) -> list[Matchup]:
        """The models that have a baseline at some dimension."""
        found = []
        for baseline in self.models:
            for model in self.models:
                if not _is_baseline_of(baseline, model):
                    continue
                dimensions = sorted(d for name, d in self.chosen if name == model and (baseline, d) in self.chosen)
                if dimensions:
                    pairs = {d: (self.chosen[baseline, d], self.chosen[model, d]) for d in dimensions}
                    found.append(Matchup(baseline, model, pairs))
        return found


@dataclass(frozen=True)
class Study:
    """What results folders hold.

    Attributes:
        sections: by data set, each data set's in the order of their first runs.
        missing: what was begun or planned and has not finished, a line each.
    """

    sections: tuple[Section, ...]
    missing: tuple[str, ...]


def read_study(folders: Sequence[Path]) -> Study:
    """Returns the finished runs below results folders, of runs or of sweeps; a run in two of them counts once.

    Raises:
        InputError: a folder is missing, a record is broken, there are no finished runs, or two runs of a configuration
            have the same seed.
    """
    found = [record for folder in folders for record in find_records(folder)]
    if not found:
        raise InputError(f"no finished runs in {', '.join(str(folder) for folder in folders)}")
    records = sorted(
        {record.run_id: record for record in found}.values(), key=lambda record: (record.finished, record.run_id)
    )
    protocols = list(dict.fromkeys((record.dataset, record.protocol_hash) for record in records))
    groups = [
        [record for record in records if (record.dataset, record.protocol_hash) == protocol]
        for protocol in sorted(protocols, key=lambda protocol: protocol[0])
    ]
    plans = [read_plan(folder) for folder in folders if (folder / SWEEP_FILE).exists()]
    seeds = [seed for plan in plans for seed in plan.seeds]
    sections = [_section(title, runs, seeds) for title, runs in zip(_titles(groups), groups, strict=True)]
    return Study(tuple(sections), tuple(line for folder in folders for line in _missing(folder)))


def _section(title: str, runs: list[RunResult], planned_seeds: Sequence[int]) -> Section:
    groups = group_by_configuration(runs)
    sides = {label: RunGroup(label, tuple(group)) for label, group in zip(labels(groups), groups, strict=True)}
    by_dimension: dict[tuple[str, int], list[str]] = {}
    for label, side in sides.items():
        dimension = side.runs[0].settings.get(DIMENSION)
        if dimension is not None:
            by_dimension.setdefault((side.runs[0].model, int(dimension)), []).append(label)
    chosen, notes = {}, []
    for (model, dimension), rivals in sorted(by_dimension.items()):
        if len(rivals) == 1:
            chosen[model, dimension] = sides[rivals[0]]
            continue
        configurations = [list(sides[label].runs) for label in rivals]
        try:
            best = best_on_validation(f"{model} at {DIMENSION} {dimension}", configurations, planned_seeds)
        except InputError as error:
            notes.append(f"Left out of figures and slices: {error}")
            continue
        label = rivals[configurations.index(best)]
        chosen[model, dimension] = RunGroup(label, tuple(best), by_validation=True)
        notes.append(f"In figures and slices, of {len(rivals)} configurations chosen by validation: {label}.")
    name = f"{runs[0].dataset}-{runs[0].protocol['split']['name']}-{runs[0].protocol_hash[:8]}"
    return Section(title, slug(name), tuple(runs), tuple(sides.values()), chosen, tuple(notes))


def slug(text: str) -> str:
    """Returns text as part of a file's name: letters, digits, points, hyphens and underscores."""
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_.") else "_" for sign in text).lstrip(".")


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns nested values by keys of several words: {"split": {"name": "temporal"}} -> {"split name": "temporal"}."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key} ") if isinstance(value, dict) else {prefix + key: _text(value)}
    return flat


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _titles(groups: Sequence[Sequence[RunResult]]) -> list[str]:
    """Returns a title for the runs of each protocol: data set and split, and what else tells them apart."""
    names = [(runs[0].dataset, runs[0].protocol["split"]["name"]) for runs in groups]
    facts = [
        flatten(runs[0].protocol | {key: runs[0].settings.get(key) for key in ("tie_order",)} | {"data": runs[0].data})
        for runs in groups
    ]
    titles = []
    for name, own, runs in zip(names, facts, groups, strict=True):
        rivals = [other for other_name, other in zip(names, facts, strict=True) if other_name == name]
        keys = [key for key in own if not key.startswith("data ") and len({other.get(key) for other in rivals}) > 1]
        told_apart = len({tuple(other.get(key) for key in keys) for other in rivals}) == len(rivals)
        details = [f"{key} {own[key]}" for key in keys]
        details += [] if told_apart else [f"protocol {runs[0].protocol_hash}"]
        titles.append(", ".join([*name, *details]))
    return titles


def _is_baseline_of(baseline: str, model: str) -> bool:
    """Returns whether a model is the other one's encoder with the baseline head."""
    encoder = baseline.removesuffix(BASELINE_HEAD)
    return baseline.endswith(BASELINE_HEAD) and model != baseline and model.startswith(encoder)


def _same_settings(first: RunResult, second: RunResult) -> bool:
    """Returns whether two models' runs agree in code and in all settings that both have."""
    shared = (first.settings.keys() & second.settings.keys()) - set(_NAMES)
    return first.code == second.code and all(first.settings[key] == second.settings[key] for key in shared)


def _missing(folder: Path) -> Iterable[str]:
    """Yields what a results folder holds that has not finished."""
    if (folder / SWEEP_FILE).exists():
        name, trials = read_plan(folder).name, read_trials(folder)
        statuses = [trial.status(folder) for trial in trials]
        left = [(status, trial) for status, trial in zip(statuses, trials, strict=True) if status != "finished"]
        if left:
            yield f"Sweep {name}: {len(trials) - len(left)} of {len(trials)} trials have finished."
        for status, trial in left:
            yield f"Sweep {name}, trial {trial.number}, {status}: {_name(trial)}{_reason(trial)}"
        return
    runs = folder / RUNS_FOLDER if (folder / RUNS_FOLDER).is_dir() else folder
    for log in sorted(runs.glob(f"*/{LOG_FILE}")):
        if not (log.parent / RECORD_FILE).exists():
            yield f"Run {log.parent.name}: unfinished."


def _name(trial: Trial) -> str:
    settings = "".join(f" {key}={_text(value)}" for key, value in trial.parameters.items())
    return f"{trial.model} on {trial.dataset}{settings} seed {trial.seed}"


def _reason(trial: Trial) -> str:
    """Returns what a trial's error says, a traceback's last line."""
    lines = [line.strip() for line in (trial.error or "").splitlines() if line.strip()]
    return f" ({lines[-1]})" if lines else ""
