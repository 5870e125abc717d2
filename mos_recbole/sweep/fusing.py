"""Which trials of a sweep are trained as one."""

import json
from collections.abc import Sequence
from itertools import pairwise

from mos_recbole.settings import Settings
from mos_recbole.sweep.plan import PlannedTrial
from mos_recbole.training import kept_apart_by, not_fusable, shape_of


def fused_groups(trials: Sequence[PlannedTrial], most: int) -> list[list[PlannedTrial]]:
    """Returns the trials in groups of equal shape, each of `most` trials at most, the longest group first.

    Groups of one shape are about equally large. Trials of one seed, which share their batches, are put together.
    """
    of_shape: dict[str, list[PlannedTrial]] = {}
    for planned in trials:
        alone = not_fusable(planned.settings) is not None
        key = planned.trial.run if alone else json.dumps(shape_of(planned.settings), sort_keys=True, default=str)
        of_shape.setdefault(key, []).append(planned)
    groups: list[list[PlannedTrial]] = []
    for members in of_shape.values():
        members.sort(key=lambda planned: planned.trial.seed)
        n_groups = -(-len(members) // most)
        borders = [len(members) * number // n_groups for number in range(n_groups + 1)]
        groups += [members[start:stop] for start, stop in pairwise(borders)]
    return sorted(groups, key=lambda group: -sum(planned.work for planned in group))


def describe_fusing(trials: Sequence[PlannedTrial], most: int) -> list[str]:
    """Returns sentences: how many groups there are, which settings separate them, and why some trials run alone."""
    groups = fused_groups(trials, most)
    fused = [group for group in groups if len(group) > 1]
    sizes = sorted({len(group) for group in fused})
    text = f"{sum(map(len, fused))} trials are trained as one in {len(fused)} group{'s' if len(fused) != 1 else ''}"
    if fused:
        text += f" of {' or '.join(map(str, sizes))}"
    lines = [f"{text}, {len(trials) - sum(map(len, fused))} alone."]
    of_model: dict[tuple[str, str], list[Settings]] = {}
    reasons: dict[str, None] = {}
    for planned in trials:
        if (reason := not_fusable(planned.settings)) is not None:
            reasons[f"{planned.trial.model}: {reason}."] = None
        else:
            of_model.setdefault((planned.trial.model, planned.trial.dataset), []).append(planned.settings)
    keys = dict.fromkeys(key for runs in of_model.values() for key in kept_apart_by(runs))
    if keys:
        lines.append(f"Trials of one model are kept apart by {', '.join(keys)}.")
    return [*lines, *reasons]
