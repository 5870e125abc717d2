"""What configurations cost beside what they reach, and which of them are on the front of both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mos_recbole.analysis.configurations import ConfigurationRow
from mos_recbole.analysis.sweep_frame import pareto_frontier
from mos_recbole.errors import InputError
from mos_recbole.evaluation import Interval, metric_direction, student_interval
from mos_recbole.results import RunResult


@dataclass(frozen=True)
class Cost:
    """A kind of cost, by which accuracy is compared.

    Attributes:
        name: what an option calls it.
        label: what columns and axes call it.
        unit: of the numbers.
        help: what is counted.
        of: returns it of a run; None where the record does not have it.
    """

    name: str
    label: str
    unit: str
    help: str
    of: Callable[[RunResult], float | None]

    @property
    def header(self) -> str:
        """The label with the unit."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label

    def interval(self, runs: Sequence[RunResult]) -> Interval | None:
        """Returns the mean with Student's interval over seeds, of no width for one seed; None where a run lacks it."""
        values = [value for run in runs if (value := self.of(run)) is not None]
        return student_interval(np.array(values)) if len(values) == len(runs) else None


def _energy(run: RunResult) -> float | None:
    return 1000 * sum(run.energy_kwh.values()) if run.energy_kwh else None


def _memory(run: RunResult) -> float | None:
    peak = run.peak_memory_bytes
    return max(peak.values()) / 1e9 if peak else None


COSTS: Mapping[str, Cost] = {
    cost.name: cost
    for cost in (
        Cost("time", "training time", "s", "by the clock", lambda run: run.train_seconds if run.was_trained else None),
        Cost(
            "processor",
            "processor time",
            "s",
            "of training, of all cores together",
            lambda run: run.train_processor_seconds,
        ),
        Cost("energy", "energy", "Wh", "of training, validation and test, as estimated", _energy),
        Cost("memory", "memory", "GB", "its peak, on the GPU where that is larger", _memory),
        Cost(
            "parameters",
            "parameters",
            "",
            "trainable ones",
            lambda run: float(run.parameters) if run.was_trained else None,
        ),
    )
}


def cost_named(name: str) -> Cost:
    """Returns a kind of cost.

    Raises:
        InputError: there is none of this name.
    """
    if name not in COSTS:
        raise InputError(f"cost {name!r}; expected {', '.join(COSTS)}")
    return COSTS[name]


def usual_cost(runs: Sequence[RunResult]) -> Cost:
    """Returns the processor's time where all runs have it and none had a GPU, whose time it is not; else the time.

    Lists that another program made have neither, and do not count.
    """
    trained = [run for run in runs if run.was_trained]
    counted = all(run.train_processor_seconds is not None and "gpu" not in run.peak_memory_bytes for run in trained)
    return COSTS["processor" if counted else "time"]


def on_front(rows: Sequence[ConfigurationRow], metric: str, cost: Cost) -> list[bool]:
    """Returns of every configuration whether no other one reaches as much for as little; intervals have no part in it.

    Args:
        rows: of one protocol, with the metric.
        metric: its mean over seeds and queries counts.
        cost: its mean over seeds counts. Configurations without it or without the metric are not on the front.
    """
    means = [cost.interval(row.runs) for row in rows]
    known = [number for number, mean in enumerate(means) if mean is not None]
    costs = pd.Series([mean.mean for mean in means if mean is not None], index=known, dtype="float64")
    scores = pd.Series([rows[number].intervals[metric].mean for number in known], index=known, dtype="float64")
    front = pareto_frontier(costs, scores, "max" if metric_direction(metric) == "higher" else "min")
    return [number in front for number in range(len(rows))]
