"""What a sweep would do: its trials and about how long they take, before anything starts."""

import math
import os
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import torch
from tabulate import tabulate

from mos_recbole.experiment import time_training
from mos_recbole.results import Trial, format_parameter
from mos_recbole.sweep.cluster import trials_at_a_time
from mos_recbole.sweep.fusing import describe_fusing
from mos_recbole.sweep.plan import PlannedTrial, Planner

# How many trials of each model and batch size are timed; the others are interpolated.
_TIMED_TRIALS = 3


def training_seconds(trials: Sequence[PlannedTrial], device: str) -> list[float]:
    """Returns how long each trial trains at most on this machine, to its last epoch and without validation.

    Of each model and batch size the smallest, a middle and the largest trial are timed for a second each.
    """
    groups: dict[tuple[str, str, int], list[PlannedTrial]] = {}
    for planned in trials:
        groups.setdefault((*planned.key, planned.settings.values["train_batch_size"]), []).append(planned)
    seconds: list[float] = []
    for members in groups.values():
        by_work = {planned.work: planned for planned in members}
        works = sorted(by_work)
        picked = sorted({works[round(place)] for place in np.linspace(0, len(works) - 1, _TIMED_TRIALS)})
        timed = [time_training(by_work[work].settings, device) for work in picked]
        seconds += np.interp([planned.work for planned in members], picked, timed).tolist()
    return seconds


def preview(planner: Planner, *, local: bool) -> str:
    """Returns a table of a sweep's configurations, the number of trials, and about how long they take.

    Args:
        planner: of the sweep.
        local: whether the sweep would run on this machine; the capacity of a cluster is not known before it is joined.

    Raises:
        InputError: as the sweep itself would.
    """
    sweep, trials, resources = planner.sweep, planner.preview(), planner.sweep.resources
    machine = {"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count()}
    at_a_time = trials_at_a_time([machine], resources) if local else None
    torch.set_num_threads(resources.cpus_per_trial)
    device = "cuda" if resources.gpus_per_trial and torch.cuda.is_available() else "cpu"
    warnings = dict.fromkeys(warning for planned in trials for warning in planned.settings.warnings)
    lines = [*(f"warning: {warning}" for warning in warnings), _table(planner, [planned.trial for planned in trials])]
    if sweep.search.method == "optuna":
        lines.append("These are random examples: Optuna suggests configurations by the results of earlier ones.")
    lines += [
        "",
        _count(planner, trials),
        _duration(training_seconds(trials, device), at_a_time, device),
    ]
    if resources.fuse > 1:
        lines += [*describe_fusing(trials, resources.fuse), "The times are of trials that are trained alone."]
    if sweep.adaptive:
        lines.append("The search stops most trials early or chooses them as it goes, which the times leave out.")
    return "\n".join(lines)


def _duration(seconds: Sequence[float], at_a_time: int | None, device: str) -> str:
    """Returns sentences: how long training takes in all, and with so many trials at a time."""
    total, longest = math.fsum(seconds), max(seconds)
    text = f"Training takes at most about {_clock(total)} in all, {_clock(longest)} for the longest trial"
    if at_a_time is not None:
        text += f", {_clock(max(total / at_a_time, longest))} with {at_a_time} at a time"
    return (
        f"{text} (h:mm:ss; by a few steps on this machine's {'GPU' if device == 'cuda' else 'CPU'}). "
        "Early stopping makes it shorter, validation a little longer."
    )


def _clock(seconds: float) -> timedelta:
    return timedelta(seconds=math.ceil(seconds))


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
    if not planner.sweep.adaptive:
        return f"{counted}, {seeds} seed{'s' if seeds > 1 else ''}."
    further = (seeds - 1) * len(planner.known)
    winners = f", and then {further} with further seeds of the best of each model and data set" if further else ""
    return f"{counted}{winners}."
