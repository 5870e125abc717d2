"""The time that a sweep has left, against the truth of sweeps with a clock of their own."""

import heapq
import itertools
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from mos_recbole.results import Trial
from mos_recbole.sweep import pace
from mos_recbole.sweep.pace import Pace
from mos_recbole.sweep.plan import PlannedTrial

AT_A_TIME, LOADING = 2, 6.0


def trials_of(model: str, cost: Callable[[int, int], float], epochs: int = 20) -> dict[str, tuple[PlannedTrial, float]]:
    """Returns a grid of trials by run, the longest first, as a sweep starts them, each with the seconds of an epoch."""
    found = {}
    grid = itertools.product((256, 2048), (16, 32, 64), (0.001, 0.01, 0.1, 0.3))
    for number, (batch, d, rate) in enumerate(sorted(grid, key=lambda one: -one[1])):
        parameters = {"train_batch_size": batch, "embedding_size": d, "learning_rate": rate}
        trial = Trial(
            number=number + 1, model=model, dataset="toy", seed=1, parameters=parameters, run=f"{model}-{number}"
        )
        one = PlannedTrial(trial, SimpleNamespace(model_class=object, values={"epochs": epochs}))  # type: ignore[arg-type]
        found[trial.run] = (one, cost(batch, d))
    return found


def play(trials: dict[str, tuple[PlannedTrial, float]], took: int, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Returns the estimates after each epoch of a sweep beside the seconds that were left in truth."""
    clock = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: clock[0])
    watched = Pace(AT_A_TIME, {})
    ended: dict[str, tuple[PlannedTrial, int]] = {}
    running: dict[str, tuple[PlannedTrial, int]] = {}
    waiting = list(trials)
    events: list[tuple[float, str]] = []

    def begin(loading: float) -> None:
        if waiting:
            run = waiting.pop(0)
            watched.start(run, 0)
            running[run] = (trials[run][0], 0)
            heapq.heappush(events, (clock[0] + loading + trials[run][1], run))

    for _ in range(AT_A_TIME):
        begin(LOADING)
    rows = []
    while events:
        clock[0], run = heapq.heappop(events)
        one, epoch = running[run]
        watched.report(run, epoch + 1)
        running[run] = (one, epoch + 1)
        if epoch + 1 == took:
            watched.end(run)
            ended[run] = running.pop(run)
            begin(0.5)
        else:
            heapq.heappush(events, (clock[0] + trials[run][1], run))
        left = watched.seconds_left(ended, running, [(trials[run][0], 0) for run in waiting])
        rows.append((clock[0], left))
    return np.array([(end - at, left) for at, left in rows for end in rows[-1][:1]], dtype=float)


def test_the_time_left_is_about_right_from_the_first_trials_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 2048 take a third of the time, d = 16 a third of that of 64: the first trials are no examples."""
    trials = trials_of("A", lambda batch, d: 0.1 * d**0.8 * (256 / batch) ** 0.5)
    truth, left = play(trials, 20, monkeypatch).T
    total = truth[0]
    known = (truth < 0.8 * total) & (truth > 0.1 * total)
    assert np.all(np.abs(np.log(left[known] / truth[known])) < np.log(1.7))
    assert left[-1] == 0


def test_early_stopping_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials that may take 20 epochs and take 5: after the first ones have ended, the others are judged by them."""
    truth, left = play(trials_of("A", lambda batch, d: 3.0), 5, monkeypatch).T
    known = (truth < 0.8 * truth[0]) & (truth > 0.1 * truth[0])
    assert np.all(np.abs(np.log(left[known] / truth[known])) < np.log(1.7))


def test_a_trial_that_took_all_its_epochs_says_nothing_of_a_larger_budget() -> None:
    """Epochs may be swept: after 10 of 10, one of 40 is to take 40; after one that stopped in 10 of 20, 10 too."""
    short, middle, long = (trials_of("A", lambda *_: 1.0, epochs)["A-0"][0] for epochs in (10, 20, 40))
    assert Pace(1, {"A-0": 2.0}).seconds_left({"A-0": (short, 10)}, {}, [(long, 0)]) == pytest.approx(40 * 2.0)
    assert Pace(1, {"A-0": 2.0}).seconds_left({"A-0": (middle, 10)}, {}, [(long, 0)]) == pytest.approx(10 * 2.0)


def test_short_trials_are_judged_by_those_that_have_nothing_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before one of them has ended, nothing is said; an earlier session's trials say it too."""
    truth, left = play(trials_of("A", lambda batch, d: 0.1), 20, monkeypatch).T
    assert np.isnan(left[truth > truth[0] * 0.88]).all()
    known = (truth < 0.6 * truth[0]) & (truth > 0.1 * truth[0])
    assert np.all(np.abs(np.log(left[known] / truth[known])) < np.log(1.7))
    one = trials_of("A", lambda *_: 1.0)["A-0"][0]
    assert Pace(1, {"A-0": 0.1}, [3.0]).seconds_left({"A-0": (one, 20)}, {}, [(one, 0)]) == pytest.approx(5.0)


def test_before_the_first_epoch_and_of_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said without any time; a model without times is judged by the others; earlier sessions count."""
    trials = {run: one for run, (one, _) in (trials_of("A", lambda *_: 1.0) | trials_of("B", lambda *_: 1.0)).items()}
    a, b = trials["A-0"], trials["B-0"]
    assert Pace(1, {}).seconds_left({}, {"A-0": (a, 0)}, [(b, 0)]) is None
    assert Pace(1, {"A-0": 2.0}).seconds_left({"A-0": (a, 10)}, {}, [(b, 0)]) == pytest.approx(20 * 2.0)
    assert Pace(1, {"A-0": 2.0}).seconds_left({"A-0": (a, 10)}, {}, [(trials["A-0"], 0)]) == pytest.approx(10 * 2.0)
    assert Pace(1, {"A-0": 2.0}).seconds_left({"A-0": (a, 10)}, {}, [], 3) == 0.0


def test_the_time_between_trials_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """From when a trial made room for the next one, which begins later."""
    clock = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: clock[0])
    trials = {run: one for run, (one, _) in trials_of("A", lambda *_: 1.0, epochs=2).items()}
    watched = Pace(1, {})
    for run in ("A-0", "A-1", "A-2"):
        clock[0] += 7.0  # until it begins
        watched.start(run, 0)
        for epoch in (1, 2):
            clock[0] += 1.0
            watched.report(run, epoch)
        watched.end(run)
    ended = {run: (trials[run], 2) for run in ("A-0", "A-1", "A-2")}
    assert watched.seconds_left(ended, {}, [(trials["A-2"], 0)]) == pytest.approx(9.0)


def test_the_work_of_an_estimate_grows_with_the_number_of_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not with its square, of which a sweep of thousands would feel the third power."""
    terms = []
    monkeypatch.setattr(pace, "fmean", lambda values: terms.extend(values := list(values)) or np.mean(values))
    counts = []
    for size in (20, 40):
        terms.clear()
        made = [PlannedTrial(one.trial, one.settings) for one, _ in trials_of("A", lambda batch, d: 1.0).values()]
        ended = {f"ended-{number}": (made[number % len(made)], 20) for number in range(size)}
        waiting = [(made[number % len(made)], 0) for number in range(size)]
        assert Pace(1, dict.fromkeys(ended, 1.0)).seconds_left(ended, {}, waiting) == pytest.approx(
            size * 20.0, rel=0.01
        )
        counts.append(len(terms))
    assert counts[1] <= 2 * counts[0] > 0
