"""Configurations whose trained models are asked something: which runs, and what tables call them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mos_recbole.analysis.queries import require_distinct_runs, require_one_protocol
from mos_recbole.analysis.run_groups import RunGroup, find_run_groups
from mos_recbole.results import attributes, components

_WIDTHS = ("embedding_size", "hidden_size")


@dataclass(frozen=True)
class TrainedGroup(ABC):
    """A configuration with what was measured of its runs' models.

    Attributes:
        group: the runs.
    """

    group: RunGroup

    @property
    @abstractmethod
    def width(self) -> int | None:
        """d; None for a model without states and an item table."""

    @property
    def model(self) -> str:
        return self.group.runs[0].model

    @property
    def n_components(self) -> int | None:
        """K; None for a model that is no mixture."""
        return components(self.group.runs[0])

    @property
    def label(self) -> str:
        """The model, with the settings that tell it from others beside d and K."""
        values = attributes(self.group.runs[0])
        shown = {"mos_heads", *(key for key in _WIDTHS if values.get(key) == self.width)}
        words = self.group.label.split(" ")
        return " ".join(word for word in words if word.partition("=")[0] not in shown)


def find_trained_groups(names: Sequence[str], folders: Sequence[Path], dataset: str | None = None) -> list[RunGroup]:
    """Returns a group for every configuration that the names stand for, as `find_run_groups`.

    Raises:
        InputError: as there; a run in two groups; different protocols, which have different queries; or a run without
            its checkpoint.
    """
    groups = find_run_groups(names, folders, dataset=dataset, every=True)
    require_distinct_runs(groups)
    require_one_protocol(groups)
    for run in (run for group in groups for run in group.runs):
        run.checkpoint()
    return groups
