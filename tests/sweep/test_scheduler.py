"""Successive halving: the best trial of each model trains to its end, also after a restart."""

import math
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
from hypothesis import given, settings
from ray.tune.schedulers import TrialScheduler

from mos_recbole.sweep.scheduler import AshaPerModel
from mos_recbole.sweep.sweep_file import Stopping
from mos_recbole.sweep.trial import BEST, EPOCH, FINISHED


def ray_trial(run: str, model: str = "A") -> Any:
    """Returns what the scheduler looks at of one of Ray's trials."""
    return SimpleNamespace(config={"trial": {"model": model, "dataset": "toy", "run": run}})


NOBODY: Any = None


class Simulation:
    """Trials that report to a scheduler until it stops them, in any order.

    Args:
        curves: of each trial, the validation after each epoch.
        models: of each trial.
    """

    def __init__(
        self, scheduler: AshaPerModel, curves: dict[str, list[float]], mode: str, models: dict[str, str]
    ) -> None:
        self.scheduler, self.curves, self.models = scheduler, curves, models
        best_of = np.maximum if mode == "max" else np.minimum
        self.best = {run: best_of.accumulate(curve).tolist() for run, curve in curves.items()}
        self.epoch = dict.fromkeys(curves, 0)
        self.stopped: set[str] = set()
        for run in curves:
            scheduler.on_trial_add(NOBODY, ray_trial(run, models[run]))

    @property
    def running(self) -> list[str]:
        return [run for run, curve in self.curves.items() if self.epoch[run] < len(curve) and run not in self.stopped]

    def step(self, run: str) -> str:
        """Returns what the scheduler decides about the next epoch of a trial."""
        self.epoch[run] += 1
        epoch, trial = self.epoch[run], ray_trial(run, self.models[run])
        result = {EPOCH: epoch, BEST: self.best[run][epoch - 1]}
        decision = self.scheduler.on_trial_result(NOBODY, trial, result)
        if decision == TrialScheduler.STOP:
            self.stopped.add(run)
        elif epoch == len(self.curves[run]):
            result |= {FINISHED: True}
            assert self.scheduler.on_trial_result(NOBODY, trial, result) == TrialScheduler.CONTINUE
            self.scheduler.on_trial_complete(NOBODY, trial, result)
        return decision

    def reached(self, run: str) -> float:
        """Returns the best validation of what a trial has run."""
        return self.best[run][self.epoch[run] - 1]

    def log(self, run: str, metric: str) -> pd.DataFrame:
        """Returns a trial's training log so far."""
        epochs = self.epoch[run]
        return pd.DataFrame({"epoch": range(1, epochs + 1), metric: self.curves[run][:epochs]})


@st.composite
def races(draw_: st.DrawFn) -> tuple[dict[str, list[float]], int, Stopping, str, int]:
    """Curves of trials that end at the last epoch or before, the last epoch, a stopping, a mode and a seed."""
    last = draw_(st.integers(1, 30))
    values = st.sampled_from([0.0, 0.1, 0.2, 0.30000000000000004, 0.3, 0.7, 0.9])
    curve = st.lists(values, min_size=1, max_size=last)
    curves = draw_(st.lists(curve, min_size=1, max_size=10))
    stopping = Stopping(
        scheduler="asha", grace_epochs=draw_(st.integers(1, 5)), reduction_factor=draw_(st.integers(2, 4))
    )
    named = {f"run-{number}": curve for number, curve in enumerate(curves)}
    return named, last, stopping, draw_(st.sampled_from(["max", "min"])), draw_(st.integers(0, 2**32 - 1))


@settings(max_examples=150, deadline=None)
@given(races())
def test_the_best_trial_always_goes_on_to_its_end(race: Any) -> None:
    """In whatever order trials report: what is stopped is worse than something that was not."""
    curves, last, stopping, mode, seed = race
    simulation = Simulation(
        AshaPerModel(stopping, {("A", "toy"): last}, mode), curves, mode, dict.fromkeys(curves, "A")
    )
    generator = np.random.default_rng(seed)
    while simulation.running:
        simulation.step(str(generator.choice(simulation.running)))
    sign = 1 if mode == "max" else -1
    survivors = [sign * simulation.reached(run) for run in curves if run not in simulation.stopped]
    assert survivors
    for run in simulation.stopped:
        assert sign * simulation.reached(run) < max(survivors)
        assert stopping.grace_epochs <= simulation.epoch[run] < last


@settings(max_examples=100, deadline=None)
@given(races(), st.floats(0, 1))
def test_reports_of_earlier_sessions_are_remembered(race: Any, share: float) -> None:
    """A scheduler that was given the logs decides like the one that got the reports."""
    curves, last, stopping, mode, seed = race
    lasts, models = {("A", "toy"): last}, dict.fromkeys(curves, "A")
    live = Simulation(AshaPerModel(stopping, lasts, mode), curves, mode, models)
    generator = np.random.default_rng(seed)
    for _ in range(int(share * sum(map(len, curves.values())))):
        if live.running:
            live.step(str(generator.choice(live.running)))
    scheduler = AshaPerModel(stopping, lasts, mode)
    for run in curves:
        scheduler.remember(("A", "toy"), run, live.log(run, "MRR@10"), "MRR@10", mode)
    again = Simulation(scheduler, curves, mode, models)
    again.epoch, again.stopped = dict(live.epoch), set(live.stopped)
    while live.running:
        run = str(generator.choice(live.running))
        assert live.step(run) == again.step(run)
    assert live.stopped == again.stopped


def test_epochs_without_validation_are_remembered() -> None:
    """Logs have gaps where not every epoch is validated, and no metric before the first validation."""
    stopping = Stopping(scheduler="asha", grace_epochs=2, reduction_factor=2)
    scheduler = AshaPerModel(stopping, {("A", "toy"): 8}, "max")
    scheduler.remember(("A", "toy"), "new", pd.DataFrame({"epoch": [1], "loss": [7.0]}), "MRR@10", "max")
    gaps = pd.DataFrame({"epoch": [1, 2, 3], "MRR@10": [math.nan, 0.5, math.nan]})
    scheduler.remember(("A", "toy"), "good", gaps, "MRR@10", "max")
    scheduler.on_trial_add(NOBODY, ray_trial("bad"))
    assert scheduler.on_trial_result(NOBODY, ray_trial("bad"), {EPOCH: 2, BEST: 0.4}) == TrialScheduler.STOP
    scheduler.on_trial_add(NOBODY, ray_trial("new"))
    assert scheduler.on_trial_result(NOBODY, ray_trial("new"), {EPOCH: 2, BEST: 0.6}) == TrialScheduler.CONTINUE


def test_models_do_not_stop_each_other() -> None:
    """However good another model is, and in whatever order they come, the decisions are those of the model alone."""
    generator = np.random.default_rng(0)
    weak = {f"weak-{number}": generator.uniform(0.0, 0.1, 9).tolist() for number in range(9)}
    strong = {f"strong-{number}": generator.uniform(0.8, 0.9, 9).tolist() for number in range(9)}
    stopping = Stopping(scheduler="asha", grace_epochs=1, reduction_factor=3)

    def stopped(curves: dict[str, list[float]]) -> set[str]:
        models = {run: run.partition("-")[0] for run in curves}
        scheduler = AshaPerModel(stopping, {("weak", "toy"): 9, ("strong", "toy"): 9}, "max")
        simulation = Simulation(scheduler, curves, "max", models)
        while simulation.running:
            for run in simulation.running:
                simulation.step(run)
        return simulation.stopped

    assert stopped(strong | weak) == stopped(weak) | stopped(strong)
    assert 0 < len(stopped(weak)) < 9


def test_models_with_fewer_epochs_than_the_grace() -> None:
    """Such as Pop, which has one: nothing is stopped."""
    stopping = Stopping(scheduler="asha", grace_epochs=3)
    scheduler = AshaPerModel(stopping, {("A", "toy"): 1}, "max")
    curves = {f"run-{number}": [1.0 - number] for number in range(5)}
    simulation = Simulation(scheduler, curves, "max", dict.fromkeys(curves, "A"))
    assert {simulation.step(run) for run in curves} == {TrialScheduler.CONTINUE}
