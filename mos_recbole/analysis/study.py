"""A study: the finished runs of results folders, a section a protocol, and which configurations are compared."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from mos_recbole.analysis.compare import MARGIN, Comparison, compare_groups, join_comparisons
from mos_recbole.analysis.configurations import group_by_configuration, labels
from mos_recbole.analysis.partners import Trained, partner_notes
from mos_recbole.analysis.run_groups import RunGroup, best_on_validation, planned_seeds
from mos_recbole.analysis.selection import newest_version
from mos_recbole.analysis.sweep_frame import last_words, plain
from mos_recbole.errors import InputError
from mos_recbole.results import (
    LOG_FILE,
    RECORD_FILE,
    RUNS_FOLDER,
    SWEEP_FILE,
    RunResult,
    code_name,
    find_records,
    read_plan,
    read_trials,
    results_folders,
    width,
)

# What identifies a configuration and is no setting of the experiment.
_NAMES = ("model", "seed")


@dataclass(frozen=True)
class Matchup:
    """A model against its baseline, at the widths that both have.

    Attributes:
        pairs: baseline and model by width, in ascending order.
    """

    baseline: str
    model: str
    pairs: dict[int, tuple[RunGroup, RunGroup]]

    @property
    def runs(self) -> list[RunResult]:
        """All runs of all pairs."""
        return [run for pair in self.pairs.values() for group in pair for run in group.runs]


@dataclass(frozen=True)
class Baseline:
    """What models are compared with: by default the same encoder with the softmax head.

    Attributes:
        name: of a head, for the same encoder with that head; or of a model, with which all others are compared.
    """

    name: str | None = None

    def is_it(self, run: RunResult) -> bool:
        """Returns whether a run is one of a baseline."""
        if self.name is None:
            return run.encoder is not None and run.baseline is None
        return self.name in (run.model, run.head)

    def is_of(self, baseline: RunResult, run: RunResult) -> bool:
        """Returns whether a model is the other one's baseline.

        It is also that of RecBole's own classes of this encoder, which have its name: GRU4Rec, GRU4RecCPR.
        """
        if not self.is_it(baseline) or self.is_it(run):
            return False
        if self.name == baseline.model:
            return True
        if run.encoder is None:
            return run.model.startswith(str(baseline.encoder))
        return run.encoder == baseline.encoder


@dataclass(frozen=True)
class Section:
    """The runs of one protocol.

    Attributes:
        title: the data set and the split, with what tells the section from others.
        name: for files.
        runs: oldest first.
        groups: every configuration, in the order in which tables have them.
        chosen: of every model with a width one configuration at each, by model and width: the only one, or the best on
            validation.
        best: of every model the one configuration that is best on validation.
        notes: which configurations were chosen by validation, and what could not be compared and why.
    """

    title: str
    name: str
    runs: tuple[RunResult, ...]
    groups: tuple[RunGroup, ...]
    chosen: dict[tuple[str, int], RunGroup]
    best: dict[str, RunGroup]
    notes: tuple[str, ...]
    baseline: Baseline = Baseline()

    @property
    def models(self) -> list[str]:
        """The models, in the order of their first runs, each baseline before what is compared with it."""
        seen = {run.model: run for run in self.runs[::-1]}
        order = list(dict.fromkeys(run.model for run in self.runs))
        return sorted(order, key=lambda model: not self.baseline.is_it(seen[model]))

    @cached_property
    def matched_pairs(self) -> list[tuple[RunGroup, RunGroup]]:
        """Every configuration after its baseline's with the same settings, where there is one."""
        pairs = []
        for group in self.groups:
            run = group.runs[0]
            same = [
                rival
                for rival in self.groups
                if self.baseline.is_of(rival.runs[0], run) and _same_settings(rival.runs[0], run)
            ]
            pairs += [(same[0], group)] if same else []
        return pairs

    @cached_property
    def rivals(self) -> list[tuple[str, str]]:
        """Every baseline with every model that is compared with it."""
        first = {run.model: run for run in self.runs[::-1]}
        pairs = product(self.models, self.models)
        return [(one, other) for one, other in pairs if self.baseline.is_of(first[one], first[other])]

    @cached_property
    def matchups(self) -> list[Matchup]:
        """The models that have a baseline at some width."""
        found = []
        for baseline, model in self.rivals:
            widths = sorted(d for name, d in self.chosen if name == model and (baseline, d) in self.chosen)
            if widths:
                pairs = {d: (self.chosen[baseline, d], self.chosen[model, d]) for d in widths}
                found.append(Matchup(baseline, model, pairs))
        return found

    def findings(
        self, metric: str, margin: float = MARGIN, lacking: Collection[str] = ()
    ) -> list[tuple[RunGroup, RunGroup, Comparison]]:
        """Returns the best configuration of every model after its baseline's, both as validation chose, and the test.

        p values are corrected for all of them. `lacking` are the labels of configurations that do not have the metric.
        """
        best = {model: group for model, group in self.best.items() if group.label not in lacking}
        pairs = [(best[one], best[other]) for one, other in self.rivals if {one, other} <= best.keys()]
        if not pairs:
            return []
        rows = join_comparisons([compare_groups(pair, [metric], margin=margin) for pair in pairs]).rows
        return [(first, second, row) for (first, second), row in zip(pairs, rows, strict=True)]


@dataclass(frozen=True)
class Study:
    """What results folders hold.

    Attributes:
        sections: by data set, each data set's in the order of their first runs.
        missing: what was begun or planned and has not finished, a line each.
    """

    sections: tuple[Section, ...]
    missing: tuple[str, ...]


def read_study(folders: Sequence[Path], baseline: str | None = None) -> Study:
    """Returns the finished runs below results folders, of runs or of sweeps; a run in two of them counts once.

    Args:
        folders: of results.
        baseline: the head or the model that others are compared with; by default the softmax head.

    Raises:
        InputError: a folder is missing, a record is broken, there are no finished runs, none of the baseline, or two
            runs of a configuration have the same seed.
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
    places = [place for folder in folders for place in results_folders(folder)]
    compared_with = Baseline(baseline)
    if baseline is not None and not any(map(compared_with.is_it, records)):
        known = sorted({name for record in records for name in (record.model, record.head) if name})
        raise InputError(f"no finished runs of baseline {baseline!r}; expected a head or a model: {', '.join(known)}")
    sections = [
        _section(title, runs, folders, compared_with) for title, runs in zip(_titles(groups), groups, strict=True)
    ]
    return Study(tuple(sections), tuple(line for place in places for line in _missing(place)))


def _section(title: str, runs: list[RunResult], folders: Sequence[Path], baseline: Baseline) -> Section:
    configurations = group_by_configuration(runs)
    groups = [RunGroup(label, tuple(own)) for label, own in zip(labels(configurations), configurations, strict=True)]
    by_width: dict[tuple[str, int], list[RunGroup]] = {}
    by_model: dict[str, list[RunGroup]] = {}
    for group in groups:
        by_model.setdefault(group.runs[0].model, []).append(group)
        if (d := width(group.runs[0])) is not None:
            by_width.setdefault((group.runs[0].model, d), []).append(group)
    chosen, best = {}, {}
    notes: list[str] = []
    for (model, d), rivals in sorted(by_width.items()):
        try:
            chosen[model, d] = _best(f"{model} of width {d}", rivals, folders, notes)
        except InputError as error:
            notes.append(f"Left out of figures and slices: {error}")
            continue
        if len(rivals) > 1:
            label = chosen[model, d].label
            notes.append(f"In figures and slices, of {len(rivals)} configurations chosen by validation: {label}.")
    if len(codes := Counter(map(code_name, runs))) > 1:
        named = ", ".join(f"{number} by {code}" for code, number in codes.items())
        notes.append(f"Different code computed these runs: {named}. What validation chooses is of the newest only.")
    notes += [f"{note}." for note in partner_notes(map(Trained.of, runs))]
    for model, rivals in by_model.items():
        try:
            best[model] = _best(model, rivals, folders, notes)
        except InputError as error:
            notes.append(f"Left out of the findings: {error}")
    name = f"{runs[0].dataset}-{runs[0].protocol['split']['name']}-{runs[0].protocol_hash[:8]}"
    return Section(title, slug(name), tuple(runs), tuple(groups), chosen, best, tuple(notes), baseline)


def _best(name: str, rivals: Sequence[RunGroup], folders: Sequence[Path], notes: list[str]) -> RunGroup:
    """Returns the one of some configurations that is best on validation. Raises InputError where that is not known.

    `notes` get what is to be said of runs that had no part in the choice.
    """
    runs = [list(group.runs) for group in rivals]
    newest, others = newest_version(runs)
    if others:
        notes.append(f"{name}: {others}.")
    if len(newest) == 1:
        return rivals[runs.index(newest[0])]
    seeds = planned_seeds(folders, [run for own in newest for run in own])
    chosen, others = best_on_validation(name, newest, seeds)
    if others:
        notes.append(f"{name}: {others}.")
    return replace(rivals[runs.index(chosen)], by_validation=True)


def slug(text: str) -> str:
    """Returns text as part of a file's name: letters, digits, points, hyphens and underscores."""
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_.") else "_" for sign in text).lstrip(".")


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns nested values by keys of several words: {"split": {"name": "temporal"}} -> {"split name": "temporal"}."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key} ") if isinstance(value, dict) else {prefix + key: plain(value)}
    return flat


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
            settings = "".join(f" {key}={plain(value)}" for key, value in trial.parameters.items())
            reason = f" ({last_words(trial.error)})" if trial.error else ""
            what = f"{trial.model} on {trial.dataset}{settings} seed {trial.seed}{reason}"
            yield f"Sweep {name}, trial {trial.number}, {status}: {what}"
        return
    runs = folder / RUNS_FOLDER if (folder / RUNS_FOLDER).is_dir() else folder
    for log in sorted(runs.glob(f"*/{LOG_FILE}")):
        if not (log.parent / RECORD_FILE).exists():
            yield f"Run {log.parent.name}: unfinished."
