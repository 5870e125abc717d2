"""Growing a sweep: what its folder holds and what its file asks for, together, unless that would mix results."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mos_recbole.errors import InputError
from mos_recbole.experiment import code_version, versions
from mos_recbole.results import RunResult, SweepPlan
from mos_recbole.sweep.plan import PlannedTrial, Planner

_WAY_OUT = "give this one a folder of its own, by --name or --output"
# Versions that are part of a run's id.
_PACKAGES = ("torch", "recbole", "numpy")


def grown_plan(there: SweepPlan, planner: Planner, folder: Path) -> SweepPlan:
    """Returns the plan of a folder's trials together with those of a sweep file.

    What is there comes first, so that the same file again gives the same plan.

    Args:
        there: the folder's plan.
        planner: of the sweep file.
        folder: of the sweep, for messages.

    Raises:
        InputError: the trials would be selected, searched or stopped in different ways.
    """
    # As a file has it, so that the two can be compared.
    ours = SweepPlan.model_validate_json(planner.plan().model_dump_json())
    if reasons := _other_ways(there, ours, planner):
        raise InputError(f"{folder}: holds another sweep: {'; '.join(reasons)}; {_WAY_OUT}")
    space = there.space | {key: _both(there.space.get(key, {}), spec) for key, spec in ours.space.items()}
    samples = [search["samples"] for search in (there.search, ours.search) if "samples" in search]
    return ours.model_copy(
        update={
            "models": _union(there.models, ours.models),
            "datasets": _union(there.datasets, ours.datasets),
            "seeds": _union(there.seeds, ours.seeds),
            "search": ours.search | ({"samples": max(samples)} if samples else {}),
            "space": space,
            "settings": {key: value for key, value in ours.settings.items() if key not in space},
        }
    )


def refusal(folder: Path, earlier: RunResult | None, there: SweepPlan, now: PlannedTrial, planner: Planner) -> str:
    """Returns why a trial of a folder is not the run that the sweep file would make of it, and what to do.

    Args:
        folder: of the sweep.
        earlier: the trial's record, if it has finished.
        there: the folder's plan.
        now: what the sweep file makes of the trial.
        planner: of the sweep file.
    """
    fingerprint = planner.facts(now.settings).fingerprint
    if earlier is None:
        old, new = there.settings, planner.plan().settings
    else:
        old, new = earlier.settings, json.loads(json.dumps(now.settings.identity(), default=str))
    keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key) and key not in there.space]
    if "epochs" in keys and all(one.get("stopping_step") == one["epochs"] for one in (old, new)):
        # Where the learning rate has a schedule it follows from the epochs.
        keys = [key for key in keys if key != "stopping_step"]
    causes = [f"{key} ({old.get(key, 'not set')}, now {new.get(key, 'not set')})" for key in keys]
    comparable = earlier is None or earlier.protocol_hash == planner.protocol_hash(now.settings)
    if earlier is not None:
        versions_differ = any(earlier.versions.get(name) != versions()[name] for name in _PACKAGES)
        others = {
            "data": earlier.data.get("fingerprint") != fingerprint,
            "code of mos_recbole": earlier.code != code_version(),
            f"versions of {', '.join(_PACKAGES)}": versions_differ,
            "kind of device": not earlier.device.startswith(planner.device_type),
        }
        causes += [name for name, differs in others.items() if differs]
    message = f"{folder}: its trials have other {', '.join(causes) or 'code, package versions, data or device'}; "
    # Without a record, what a key was that the plan did not set is not known.
    known = all(key in one for key in keys for one in (old, new))
    if not (keys and len(keys) == len(causes) and comparable and known):
        return message + _WAY_OUT
    grids = ", ".join(f"{key}: {{grid: {json.dumps([old.get(key), new.get(key)])}}}" for key in keys)
    return f"{message}to have both in this sweep, write {grids} into its space; or {_WAY_OUT}"


def _other_ways(there: SweepPlan, ours: SweepPlan, planner: Planner) -> list[str]:
    """Returns in what the sweeps differ that decides how trials are selected, searched or stopped."""
    method, other = (plan.search["method"] for plan in (there, ours))
    reasons = [
        f"{name} is {before or 'none'}, and in the file {now or 'none'}"
        for name, before, now in (
            ("metric", there.metric, ours.metric),
            ("stopping", there.stopping, ours.stopping),
            ("search.method", method, other),
            ("search.first", there.search.get("first"), ours.search.get("first")),
            ("search.further_seeds", _further_seeds(there), _further_seeds(ours)),
        )
        if before != now
    ]
    if method == other != "grid":
        if there.search["seed"] != ours.search["seed"]:
            reasons.append(f"search.seed is {there.search['seed']}; a larger search.samples adds trials")
        old, new = (_space_of(plan, there, planner) for plan in (there, ours))
        if old != new:
            reasons.append(f"its trials were drawn from another space, and search.method is {method}")
    if planner.sweep.only_best_again and there.seeds[0] != ours.seeds[0]:
        reasons.append(f"its configurations are compared by seed {there.seeds[0]}, which must be the first of seeds")
    return reasons


def _further_seeds(plan: SweepPlan) -> str:
    adaptive = plan.search["method"] == "optuna" or plan.stopping
    return plan.search.get("further_seeds") or ("best" if adaptive else "all")


def _space_of(plan: SweepPlan, there: SweepPlan, planner: Planner) -> list[tuple[str, Any]]:
    """Returns the parameters, in order, that those models have of which a folder holds trials."""
    known: Collection[str] = {
        key for (model, _), keys in planner.known.items() if model in there.models for key in keys
    }
    return [(key, spec) for key, spec in plan.space.items() if key in known]


def _both(there: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Returns a parameter with the values of two grids; of other kinds the second one."""
    both = "grid" in there and "grid" in ours
    return ours | ({"grid": _union(there["grid"], ours["grid"])} if both else {})


def _union(first: list[Any], second: list[Any]) -> list[Any]:
    return [*first, *(value for value in second if value not in first)]
