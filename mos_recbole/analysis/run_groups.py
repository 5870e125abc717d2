"""Groups of runs, found by the names that a user gives them."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from mos_recbole.analysis.configurations import describe, group_by_configuration, require_one_run_a_seed
from mos_recbole.analysis.selection import newest_version, rank_by_validation
from mos_recbole.errors import InputError, nearest
from mos_recbole.results import (
    RECORD_FILE,
    SWEEP_FILE,
    RunResult,
    attributes,
    differing_settings,
    fewest_settings,
    find_records,
    folders_below,
    read_plan,
    read_record,
    results_folders,
)

_log = logging.getLogger(__name__)

_LISTED = 20  # lines of what to choose from


@dataclass(frozen=True)
class RunGroup:
    """The runs of one configuration, one per seed: what is compared with another.

    Attributes:
        label: what tables call it.
        runs: in any order.
        by_validation: whether the configuration was chosen among others by its validation metric.

    Raises:
        InputError: no runs, runs of several configurations, or a seed that appears twice.
    """

    label: str
    runs: tuple[RunResult, ...]
    by_validation: bool = False

    def __post_init__(self) -> None:
        if not self.runs:
            raise InputError(f"{self.label}: no runs")
        configurations = group_by_configuration(self.runs)
        if len(configurations) > 1:
            count = len(configurations)
            raise InputError(f"{self.label}: runs of {count} configurations; choose one of\n{_choices(configurations)}")
        require_one_run_a_seed(self.label, self.runs)


@dataclass(frozen=True)
class _Pick:
    """What a name stands for, and the attributes by which it was picked among others."""

    runs: list[RunResult]
    keys: tuple[str, ...]
    by_validation: bool = False


def find_run_groups(
    names: Sequence[str],
    folders: Sequence[Path],
    *,
    dataset: str | None = None,
    best: bool | None = False,
    every: bool = False,
) -> list[RunGroup]:
    """Returns a group of runs for every name, with labels that tell them apart.

    Args:
        names: each the folder of a run; a run id, or six or more of its first digits; a model, for all its runs; or
            "model:key=value,key=value" for its runs with these settings.
        folders: results folders in which ids and models are looked up.
        dataset: only runs on this data set.
        best: of a name with several configurations take the one that is best on validation; None where that cannot be
            asked for.
        every: of such a name take all configurations, each as a group.

    Raises:
        InputError: a name that is unknown or that fits several runs or configurations.
    """
    results = _Results(folders, dataset)
    picks = [pick for name in names for pick in (results.picks(name) if every else [results.pick(name, best)])]
    labels = []
    for pick in picks:
        rivals = [other.runs[0] for other in picks if other.runs[0].model == pick.runs[0].model]
        labels.append(describe(pick.runs[0], dict.fromkeys([*pick.keys, *differing_settings(rivals)])))
    # The same settings and seed a second time: on another device, say.
    repeated = {label for label in labels if labels.count(label) > 1}
    return [
        RunGroup(
            f"{label} run={pick.runs[0].run_id}" if label in repeated else label, tuple(pick.runs), pick.by_validation
        )
        for label, pick in zip(labels, picks, strict=True)
    ]


@dataclass(frozen=True)
class _Results:
    """The finished runs of results folders, read when a name needs them."""

    folders: Sequence[Path]
    dataset: str | None

    @cached_property
    def records(self) -> list[RunResult]:
        """The runs, on the data set if one was named.

        Raises:
            InputError: there are none, or a folder is missing or broken.
        """
        records = [record for folder in self.folders for record in find_records(folder)]
        if not records:
            raise InputError(f"no finished runs in {self._where}")
        of_dataset = [record for record in records if self.dataset in (None, record.dataset)]
        if not of_dataset:
            raise InputError(
                f"no finished runs on {self.dataset!r} in {self._where}; there are runs on "
                + ", ".join(sorted({record.dataset for record in records}))
            )
        return of_dataset

    @property
    def _not_read(self) -> str:
        """Says which results folders one level down were passed over for the runs beside them."""
        read = {place for folder in self.folders for place in results_folders(folder)}
        below = [place for folder in self.folders for place in folders_below(folder) if place not in read]
        return f". There are runs in {', '.join(map(str, below))} too: name them by --results" if below else ""

    @property
    def _where(self) -> str:
        return ", ".join(str(folder) for folder in self.folders)

    def pick(self, name: str, best: bool | None) -> _Pick:
        """Returns what a name stands for. Raises InputError where that is nothing or several things."""
        if (Path(name) / RECORD_FILE).is_file():
            record = read_record(Path(name))
            if self.dataset not in (None, record.dataset):
                raise InputError(f"{name}: a run on {record.dataset}, not on {self.dataset}")
            return _Pick([record], ("seed",))
        if Path(name).is_dir():
            raise InputError(
                f"{name}: a folder without a {RECORD_FILE}; a folder with several runs is given by --results"
            )
        model, _, settings = name.partition(":")
        of_model = [record for record in self.records if record.model == model]
        if of_model:
            return self._pick_configuration(name, of_model, settings, best)
        if re.fullmatch("[0-9a-f]{6,}", name):
            runs = {record.run_id: record for record in self.records if record.run_id.startswith(name)}
            if len(runs) > 1:
                listed = _lines(f"{record.run_id}  {record.folder}" for record in runs.values())
                raise InputError(f"{name}: {len(runs)} runs begin so; choose one of\n{listed}")
            if runs:
                return _Pick(list(runs.values()), ("seed",))
        models, ids = {record.model for record in self.records}, {record.run_id for record in self.records}
        raise InputError(
            f"{name!r}: no folder of a run, nor a model or run id in {self._where}; "
            f"{nearest(model, models | ids, most=3) or 'none is near'} "
            f"(models: {', '.join(sorted(models))}; run ids have six digits or more){self._not_read}"
        )

    def picks(self, name: str) -> list[_Pick]:
        """Returns a pick for each configuration that a name stands for. Raises InputError where that is nothing."""
        model, _, settings = name.partition(":")
        if Path(name).is_dir():
            return [self.pick(name, best=False)]
        of_model = [record for record in self.records if record.model == model]
        wanted = _parse_settings(name, settings, of_model) if of_model else {}
        configurations = group_by_configuration(record for record in of_model if _has(record, wanted))
        if not configurations:
            return [self.pick(name, best=False)]
        differing = differing_settings([runs[0] for runs in configurations])
        return [_Pick(runs, (*wanted, *differing)) for runs in configurations]

    def _pick_configuration(self, name: str, of_model: list[RunResult], settings: str, best: bool | None) -> _Pick:
        """Returns the runs of the one configuration of a model that has these settings, or of the best of several."""
        wanted = _parse_settings(name, settings, of_model)
        matching = [record for record in of_model if _has(record, wanted)]
        if not matching:
            listed = _choices(group_by_configuration(of_model))
            raise InputError(f"{name}: no such runs in {self._where}; choose one of\n{listed}")
        configurations = group_by_configuration(matching)
        differing = differing_settings([runs[0] for runs in configurations])
        keys = (*wanted, *differing)
        if len(configurations) == 1:
            return _Pick(configurations[0], keys)
        comparable = len({record.protocol_hash for record in matching}) == 1
        if best and comparable:
            configurations, others = newest_version(configurations)
            if others:
                _log.warning(f"{name}: {others}")
            if len(configurations) == 1:
                return _Pick(configurations[0], keys)
            chosen, others = best_on_validation(name, configurations, planned_seeds(self.folders, matching))
            if others:
                _log.warning(f"{name}: {others}")
            return _Pick(chosen, keys, by_validation=True)
        ways = ["by its settings as below"]
        if "dataset" in differing:
            ways.append("a data set by --dataset")
        if comparable and best is not None:
            ways.append("for each model the best on validation by --best")
        raise InputError(
            f"{name}: runs of {len(configurations)} configurations"
            + (" of different protocols" if not comparable else "")
            + f"; choose one {', or '.join(ways)}\n{_choices(configurations)}"
        )


def _parse_settings(name: str, text: str, records: Sequence[RunResult]) -> dict[str, str]:
    """Returns the settings of "key=value,key=value". Raises InputError for other text and keys that no run has."""
    wanted = {}
    known = {key for record in records for key in attributes(record)}
    for part in re.split(r",(?=\w+=)", text) if text else []:
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"{name}: {part!r} not understood; expected Model:key=value,key=value")
        if key not in known:
            hint = nearest(key, known, most=3) or "none is near"
            raise InputError(f"{name}: unknown setting {key!r}; {hint}")
        wanted[key] = value
    return wanted


def _has(record: RunResult, wanted: dict[str, str]) -> bool:
    """Returns whether a run has these settings: 1e-3 is 0.001, true is True, and spaces do not matter.

    One that it does not have is None, as lists of configurations say.
    """
    values = attributes(record)
    # A record's code may be given in full.
    return all(
        canonical(values.get(key)) == canonical(text) or (key == "code" and text == record.code)
        for key, text in wanted.items()
    )


def canonical(value: object) -> str:
    """Returns a value of a setting as text, the same for all its spellings."""
    text = "".join(str(value).split()).lower()
    try:
        return str(float(text))
    except ValueError:
        return text


def planned_seeds(folders: Sequence[Path], runs: Sequence[RunResult]) -> list[int]:
    """Returns the seeds of the sweep that runs are of, in its order.

    None where they are of no sweep, or of several that begin with different seeds.

    Args:
        folders: of results, which the sweeps are in.
        runs: found in them.
    """
    places = [place for folder in folders for place in results_folders(folder) if (place / SWEEP_FILE).exists()]
    plans = [read_plan(place) for place in places if any(place in run.folder.parents for run in runs)]
    return plans[0].seeds if len({plan.seeds[0] for plan in plans}) == 1 else []


def best_on_validation(
    name: str, configurations: Sequence[list[RunResult]], planned: Sequence[int]
) -> tuple[list[RunResult], str]:
    """Returns the runs of the configuration with the best mean of the validation metric; in words which had no part.

    They are compared on the first of the planned seeds that any has, else on the seed that most have
    (`selection.rank_by_validation`).

    Raises:
        InputError: no two configurations share a seed, or the validation metrics differ.
    """
    metrics = sorted({runs[0].valid_metric for runs in configurations})
    if len(metrics) > 1:
        raise InputError(f"{name}: configurations validated by {' and '.join(metrics)}; choose by valid_metric=")
    if any(metrics[0] not in run.valid for runs in configurations for run in runs):
        raise InputError(f"{name}: runs without validation, from which none can be chosen\n" + _choices(configurations))
    scores = [{run.seed: run.valid[metrics[0]].value for run in runs} for runs in configurations]
    having = Counter(seed for by_seed in scores for seed in by_seed)
    seeds = sorted(having, key=lambda seed: (-having[seed], seed))
    if having[seeds[0]] == 1:
        raise InputError(
            f"{name}: the best on validation is chosen on the same seeds, and no two of these share one\n"
            + _choices(configurations)
        )
    higher = configurations[0][0].valid[metrics[0]].direction == "higher"
    mode: Literal["max", "min"] = "max" if higher else "min"
    run_ids = [{run.seed: run.run_id for run in runs} for runs in configurations]
    shared, ranking = rank_by_validation(scores, run_ids, [*planned, *seeds], mode)
    left_out = len(configurations) - len(ranking)
    words = f"{left_out} of {len(configurations)} configurations left out, which have no run with seed {shared[0]}"
    return configurations[ranking[0][0]], words if left_out else ""


def _choices(configurations: Sequence[list[RunResult]]) -> str:
    """Returns a line a configuration: the name that stands for it, and the seeds it has."""
    keys = fewest_settings([runs[0] for runs in configurations])
    lines = []
    for runs in configurations:
        values = attributes(runs[0])
        settings = ",".join(f"{key}={values.get(key)}" for key in keys)
        seeds = ", ".join(str(run.seed) for run in runs)
        lines.append(f"{runs[0].model}{':' if settings else ''}{settings}  (seeds {seeds})")
    return _lines(lines)


def _lines(texts: Iterable[str]) -> str:
    texts = list(texts)
    more = [f"and {len(texts) - _LISTED} more"] if len(texts) > _LISTED else []
    return "\n".join(f"  {text}" for text in [*texts[:_LISTED], *more])
