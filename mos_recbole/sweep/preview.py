"""What a sweep would do: its trials and what they cost, before anything starts."""

import os
from collections.abc import Sequence

import torch
from tabulate import tabulate

from mos_recbole.errors import InputError
from mos_recbole.results import SweepPlan, Trial
from mos_recbole.sweep.cost import estimate_cost
from mos_recbole.sweep.fusing import describe_fusing
from mos_recbole.sweep.plan import PlannedTrial, Planner
from mos_recbole.sweep.sweep_file import Resources
from mos_recbole.sweep.words import in_words, show


def preview(planner: Planner, *, local: bool) -> str:
    """Returns a table of a sweep's configurations, the number of trials, and about how long they take.

    Args:
        planner: of the sweep.
        local: whether the sweep would run on this machine; on a cluster nothing is said of how many run at a time.

    Raises:
        InputError: as the sweep itself would.
    """
    sweep, plan, trials = planner.sweep, planner.plan(), planner.preview()
    resources = sweep.resources
    at_a_time = _trials_at_a_time(resources) if local else 1
    at_a_time = min(at_a_time, resources.max_concurrent or at_a_time)
    torch.set_num_threads(resources.cpus_per_trial)
    on_gpu = resources.gpus_per_trial > 0 and torch.cuda.is_available()
    cost = estimate_cost(trials, at_a_time, "cuda" if on_gpu else "cpu")
    warnings = dict.fromkeys(warning for planned in trials for warning in planned.settings.warnings)
    lines = [*(f"warning: {warning}" for warning in warnings), _table(plan, [planned.trial for planned in trials])]
    if sweep.search.method == "optuna":
        lines.append("These are random examples: Optuna suggests configurations by what earlier ones have shown.")
    lines += ["", _count(planner, plan, trials)]
    device = "GPU" if on_gpu else "CPU"
    together = f"; with {at_a_time} trials at a time {in_words(cost.elapsed)}" if local else ""
    lines.append(
        f"About {in_words(cost.total)} of training at most (every trial to its last epoch, by a few steps of some "
        f"on this machine's {device}), the longest trial {in_words(cost.longest)}{together}. "
        "Early stopping makes it less, validation a little more."
    )
    if resources.fuse > 1:
        lines += [*describe_fusing(trials, resources.fuse), "The times are of trials that are trained alone."]
    if sweep.adaptive:
        lines.append("The search ends most trials early or chooses them as it goes, which is not counted in.")
    return "\n".join(lines)


def _trials_at_a_time(resources: Resources) -> int:
    """Returns how many trials fit on this machine. Raises InputError where none does."""
    cores, gpus = os.cpu_count() or 1, torch.cuda.device_count()
    if resources.cpus_per_trial > cores:
        raise InputError(f"cpus_per_trial is {resources.cpus_per_trial}, but this machine has {cores} CPUs")
    if resources.gpus_per_trial > gpus:
        raise InputError(f"gpus_per_trial is {resources.gpus_per_trial:g}, but this machine shows PyTorch {gpus} GPUs")
    return resources.fits(cores, gpus)


def _table(plan: SweepPlan, trials: Sequence[Trial]) -> str:
    """Returns a row for each configuration."""
    rows: dict[tuple, dict[str, str]] = {}
    for trial in trials:
        row = {"model": trial.model, "data": trial.dataset}
        row |= {key: show(trial.parameters[key]) if key in trial.parameters else "" for key in plan.space}
        seeds = rows.setdefault(tuple(row.values()), row | {"seeds": ""})
        seeds["seeds"] = f"{seeds['seeds']} {trial.seed}".strip()
    return tabulate(rows.values(), headers="keys", tablefmt="simple", disable_numparse=True)


def _count(planner: Planner, plan: SweepPlan, trials: Sequence[PlannedTrial]) -> str:
    """Returns a sentence: how many trials there are."""
    configurations = len({(one.trial.model, one.trial.dataset, str(one.trial.parameters)) for one in trials})
    said = f"{len(trials)} trials: {configurations} configurations"
    if not planner.sweep.adaptive:
        return f"{said}, {len(plan.seeds)} seed{'s' if len(plan.seeds) > 1 else ''}."
    further = (len(plan.seeds) - 1) * len(planner.keys)
    return said + (
        f", and then {further} with further seeds of the best of each model and data set." if further else "."
    )
