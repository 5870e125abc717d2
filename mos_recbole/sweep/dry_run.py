"""What a sweep would do: its trials and about how long they take, before anything starts."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import fsum
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from mos_recbole.experiment import Estimate, Span, earlier_epochs, estimate_cost, forecast
from mos_recbole.progress import ProgressBar
from mos_recbole.results import RECORD_FILE, RUNS_FOLDER, SWEEP_FILE, Trial, format_parameter
from mos_recbole.sweep.cluster import trials_at_a_time
from mos_recbole.sweep.fusing import describe_fusing, fused_groups
from mos_recbole.sweep.ledger import Ledger
from mos_recbole.sweep.plan import PlannedTrial, Planner

# About how many units are measured, and for how many seconds of training all together.
_MEASURED, _SECONDS = 12, 8.0


@dataclass(frozen=True)
class Unit:
    """A trial, or several that are trained as one, with what it will cost."""

    trials: tuple[PlannedTrial, ...]
    estimate: Estimate

    def seconds(self, earlier: Sequence[int]) -> Span:
        """Returns how long it takes at least and at most."""
        return self.estimate.seconds([planned.settings for planned in self.trials], earlier)


def estimate_units(units: Sequence[Sequence[PlannedTrial]], device: str) -> list[Unit]:
    """Returns trials, or groups that are trained as one, with what each will cost on this machine.

    Of each model, data set and batch size up to three are measured: the smallest, a middle and the largest one. The
    others are interpolated.
    """
    kinds: dict[tuple[str, str, int], list[Sequence[PlannedTrial]]] = {}
    for unit in units:
        kinds.setdefault((*unit[0].key, unit[0].settings.values["train_batch_size"]), []).append(unit)
    most = min(3, max(1, _MEASURED // len(kinds)))
    picked = {kind: _spread({_work(unit): unit for unit in members}, most) for kind, members in kinds.items()}
    n_measured = sum(map(len, picked.values()))
    found = []
    with ProgressBar("measuring", n_measured, "trials") as bar:
        for kind, members in kinds.items():
            measured = {}
            for work, unit in picked[kind].items():
                settings = [planned.settings for planned in unit]
                measured[work] = estimate_cost(settings, device, _SECONDS / n_measured)
                bar.advance(1)
            found += [Unit(tuple(unit), _between(measured, _work(unit))) for unit in members]
    return found


def _work(unit: Sequence[PlannedTrial]) -> float:
    """Returns about how long an epoch of a unit may take, relative to others of its kind."""
    return fsum(planned.work / planned.epochs for planned in unit)


def _spread(by_work: dict[float, Sequence[PlannedTrial]], most: int) -> dict[float, Sequence[PlannedTrial]]:
    """Returns so many of the units, evenly spread by their work."""
    works = sorted(by_work)
    places = np.linspace(0, len(works) - 1, most) if most > 1 else [len(works) // 2]
    return {works[round(place)]: by_work[works[round(place)]] for place in places}


def _between(measured: dict[float, Estimate], work: float) -> Estimate:
    """Returns what lies between the estimates of less and of more work."""
    some, works = next(iter(measured.values())), sorted(measured)

    def at(values: Sequence[float]) -> float:
        return float(np.interp(work, works, values))

    def span(spans: Sequence[Span]) -> Span:
        return Span(at([one.quiet for one in spans]), at([one.busy for one in spans]))

    in_order = [measured[one] for one in works]
    return replace(
        some,
        parameters=round(at([one.parameters for one in in_order])),
        memory_bytes={kind: round(at([one.memory_bytes[kind] for one in in_order])) for kind in some.memory_bytes},
        once=span([one.once for one in in_order]),
        epoch=span([one.epoch for one in in_order]),
        validation=span([one.validation for one in in_order]),
    )


def preview(planner: Planner, *, local: bool, folder: Path) -> str:
    """Returns a table of a sweep's configurations, the number of trials, and about how long they take.

    Args:
        planner: of the sweep.
        local: whether the sweep would run on this machine; the capacity of a cluster is not known before it is joined.
        folder: of the sweep's results: finished trials there cost nothing more.

    Raises:
        InputError: as the sweep itself would.
    """
    sweep, trials, resources = planner.sweep, planner.preview(), planner.sweep.resources
    ledger = None
    if (folder / SWEEP_FILE).exists():  # whose trials these may not belong to
        ledger = Ledger(planner, trials if sweep.search.method != "optuna" else [], folder)
    machine = {"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count()}
    at_a_time = trials_at_a_time([machine], resources) if local else None
    torch.set_num_threads(resources.cpus_per_trial)
    device = "cuda" if resources.gpus_per_trial and torch.cuda.is_available() else "cpu"
    of_runs = (warning for planned in trials for warning in planned.settings.warnings)
    warnings = dict.fromkeys([*planner.warnings(), *of_runs])
    lines = [*(f"warning: {warning}" for warning in warnings), _table(planner, [planned.trial for planned in trials])]
    if sweep.search.method == "optuna":
        lines.append("These are random examples: Optuna suggests configurations by the results of earlier ones.")
    lines += ["", _count(planner, trials)]
    if resources.fuse > 1:
        lines += describe_fusing(trials, resources.fuse)
    if ledger is None:
        left = [one for one in trials if not (folder / RUNS_FOLDER / one.trial.run / RECORD_FILE).exists()]
        ended = Counter(finished=len(trials) - len(left))
    else:
        left = [*ledger.unfinished(), *(trials[: ledger.to_suggest()] if sweep.search.method == "optuna" else [])]
        ended = Counter(ledger.status(one) for one in ledger.trials.values())
    counts = [f"{ended[status]} {status}" for status in ("finished", "stopped", "failed") if ended[status]]
    if counts:
        lines.append(f"Trials in {folder} that have ended: {', '.join(counts)}; left: {len(left)}.")
    if left:
        units = fused_groups(left, resources.fuse) if resources.fuse > 1 else [[one] for one in left]
        lines += _costs(estimate_units(units, device), folder, at_a_time, device)
    if sweep.adaptive:
        lines.append("The search stops most trials early or chooses them as it goes, which the times leave out.")
    elif sweep.only_best_again and len(sweep.seeds) > 1:
        lines.append("The times leave out the further seeds of the best.")
    return "\n".join(lines)


def _costs(units: Sequence[Unit], folder: Path, at_a_time: int | None, device: str) -> list[str]:
    """Returns sentences: how long trials take in all and so many at a time, until when, and in how much memory."""
    one_of = {unit.trials[0].key: unit for unit in units}
    earlier = {key: earlier_epochs(unit.trials[0].settings, folder) for key, unit in one_of.items()}
    spans = [unit.seconds(earlier[unit.trials[0].key]) for unit in units]
    total = sum(spans, Span())
    longest = Span(max(one.quiet for one in spans), max(one.busy for one in spans))
    lines = [
        f"One after the other they take {forecast.time_in_words(total)}; the longest {forecast.time_in_words(longest)}."
    ]
    largest = max((unit.estimate for unit in units), key=lambda one: one.memory_bytes["resident"])
    if at_a_time is not None:
        took = Span(max(total.quiet / at_a_time, longest.quiet), max(total.busy / at_a_time, longest.busy))
        lines.append(
            f"With {at_a_time} at a time: {forecast.time_in_words(took)}. Started now, they end "
            f"{forecast.end_in_words(took, datetime.now())}; the start of Ray is not counted."
        )
    lines.append(f"Memory of one at a time: up to {forecast.memory_in_words(largest)}.")
    if at_a_time is not None and (warning := forecast.too_much_memory(largest, at_a_time)):
        lines.append(warning)
    lines += [
        forecast.epochs_in_words(unit.trials[0].settings, unit.estimate, earlier[key]) for key, unit in one_of.items()
    ]
    return [*lines, *forecast.circumstances([unit.estimate for unit in units], device)]


def _table(planner: Planner, trials: Sequence[Trial]) -> str:
    """Returns a row for each configuration."""
    rows: dict[tuple, dict[str, str]] = {}
    for trial in trials:
        row = {"model": trial.model, "data": trial.dataset}
        row |= {
            key: format_parameter(trial.parameters[key]) if key in trial.parameters else ""
            for key in planner.sweep.space
        }
        seeds = rows.setdefault(tuple(row.values()), row | {"seeds": ""})
        seeds["seeds"] = f"{seeds['seeds']} {trial.seed}".strip()
    return tabulate(rows.values(), headers="keys", tablefmt="simple", disable_numparse=True)


def _count(planner: Planner, trials: Sequence[PlannedTrial]) -> str:
    """Returns a sentence: how many trials there are."""
    seeds, configurations = len(planner.sweep.seeds), len({(*one.key, str(one.trial.parameters)) for one in trials})
    counted = f"{len(trials)} trials: {configurations} configurations"
    if not planner.sweep.only_best_again:
        return f"{counted}, {seeds} seed{'s' if seeds > 1 else ''}."
    further = (seeds - 1) * len(planner.known)
    winners = f", and then {further} with further seeds of the best of each model and data set" if further else ""
    return f"{counted}{winners}."
