"""The best configuration of every model on a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mos_recbole.analysis.compare import Comparisons, compare_groups
from mos_recbole.analysis.configurations import ConfigurationRow, best_first, metric_intervals
from mos_recbole.analysis.run_groups import RunGroup
from mos_recbole.analysis.study import Section


@dataclass(frozen=True)
class BestModels:
    """The best configuration of every model by one protocol, as validation chose it, with its test metrics.

    Attributes:
        section: the runs.
        name: the data set, with what tells its protocol from another one.
        metrics: of the test; models are ordered and compared by the first one.
    """

    section: Section
    name: str
    metrics: Sequence[str]

    @property
    def dataset(self) -> str:
        return self.section.runs[0].dataset

    @cached_property
    def rows(self) -> dict[str, ConfigurationRow]:
        """The configurations by model, the best on test first.

        Raises:
            InputError: as `metric_intervals`.
        """
        best = {model: self.section.best[model].runs for model in self.section.models if model in self.section.best}
        rows = [ConfigurationRow(model, runs, metric_intervals(runs, self.metrics)) for model, runs in best.items()]
        return {row.label: row for row in best_first(rows, self.metrics[0])}

    @cached_property
    def comparisons(self) -> Comparisons | None:
        """All pairs of the models by the first metric; None for a single one."""
        groups = [RunGroup(model, row.runs) for model, row in self.rows.items()]
        return compare_groups(groups, self.metrics[:1]) if len(groups) > 1 else None

    @cached_property
    def p_from_best(self) -> dict[str, float | None]:
        """By model, p of its difference from the best one, corrected for all pairs; without the best."""
        rows = self.comparisons.rows if self.comparisons else ()
        return {row.second: row.adjusted_p_value for row in rows if row.first == next(iter(self.rows))}
