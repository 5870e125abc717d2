"""What cutting trained models' log-probabilities to lower ranks costs, over users and seeds."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mos_recbole.analysis.trained_groups import TrainedGroup
from mos_recbole.errors import InputError
from mos_recbole.evaluation import OVERLAP, Interval, RankCuts, mean_interval


@dataclass(frozen=True)
class Cut:
    """What is left of a configuration's answers at a rank.

    Attributes:
        rank: r; None for the answers as they are.
        means: by name, over seeds and queries: the loss in nats, metrics, and the overlap of top lists.
        changes: the same less the answers as they are, each seed's and query's from its own, with intervals.
    """

    rank: int | None
    means: dict[str, float]
    changes: dict[str, Interval]


@dataclass(frozen=True)
class AblatedGroup(TrainedGroup):
    """A configuration with the cuts of its runs.

    Attributes:
        runs_cuts: of each run, in their order, with the same ranks and queries.
    """

    runs_cuts: tuple[RankCuts, ...]

    @property
    def width(self) -> int | None:
        return self.runs_cuts[0].width

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """One a rank, ascending; the last is of the answers as they are.

        Raises:
            InputError: test queries of one user alone, who has no interval.
        """
        found = []
        for row, rank in enumerate((*self.runs_cuts[0].ranks, None)):
            means, changes = {}, {}
            for name in self.runs_cuts[0].values:
                cut_SQ, full_SQ = (np.stack([one.values[name][at] for one in self.runs_cuts]) for at in (row, -1))
                there = ~np.isnan(cut_SQ).any(axis=0)
                means[name] = float(cut_SQ[:, there].mean())
                change_SQ = (cut_SQ - full_SQ)[:, there]
                try:
                    changes[name] = mean_interval(change_SQ, self.runs_cuts[0].user_Q[there])
                except ValueError as error:
                    raise InputError(f"{self.group.label}, {name}: {error}") from error
            found.append(Cut(rank, means, changes))
        return tuple(found)


@dataclass(frozen=True)
class RankAblation:
    """Some configurations, cut on the same queries.

    Attributes:
        query_seed: by which the validation queries were drawn.
    """

    groups: tuple[AblatedGroup, ...]
    query_seed: int

    @property
    def metrics(self) -> list[str]:
        """The loss and the metrics, whose changes are of interest; the overlap is one in itself."""
        return [name for name in self.groups[0].runs_cuts[0].values if name != OVERLAP]

    def frame(self) -> pd.DataFrame:
        """Returns a row a configuration and rank, with all numbers as they are."""
        return pd.DataFrame([row for group in self.groups for row in self._rows(group)])

    def _rows(self, group: AblatedGroup) -> Iterator[dict[str, Any]]:
        first = group.runs_cuts[0]
        for cut in group.cuts:
            row: dict[str, Any] = {
                **{"model": group.model, "label": group.group.label, "d": group.width, "K": group.n_components},
                **{"seeds": len(group.group.runs), "rank": cut.rank, "V": first.n_items, "Q": len(first.user_Q)},
                **{"N": first.n_directions_from, "query seed": self.query_seed, "probabilities": first.probabilities},
            }
            for name, mean in cut.means.items():
                change = cut.changes[name]
                row |= {name: mean, f"{name} change": change.mean}
                row |= {f"{name} change low": change.low, f"{name} change high": change.high}
            yield row
