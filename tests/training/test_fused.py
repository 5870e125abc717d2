"""Trials that are trained as one: each as if it had been alone."""

import importlib
import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from mos_recbole import RunResult
from mos_recbole.errors import InputError, TrainingDiverged
from mos_recbole.experiment import load_settings, run_experiment, run_fused
from mos_recbole.settings import Settings
from mos_recbole.training import BenchmarkTrainer, EpochReport, kept_apart_by, not_fusable
from mos_recbole.training.checkpoint import load_checkpoint
from mos_recbole.training.epoch import Moment
from mos_recbole.training.loaders import WindowLoader

GRU = {"embedding_size": 8, "hidden_size": 12}
TRANSFORMER = {"hidden_size": 8, "inner_size": 16, "n_layers": 2, "n_heads": 2}
SMALL: dict[str, dict[str, Any]] = {
    "GRU4RecSoftmax": GRU,
    "GRU4RecMoS": {**GRU, "mos_heads": 2, "output_rank": 3},
    "GRU4RecMoC": {**GRU, "mos_heads": 2, "num_layers": 2, "item_bias": True, "tie_weights": False},
    "SASRecMoS": {**TRANSFORMER, "mos_heads": 2},
    "SASRecSoftmax": TRANSFORMER,
}
DROPOUTS = ("dropout_prob", "hidden_dropout_prob", "attn_dropout_prob", "mos_dropout")


@pytest.fixture(autouse=True)
def _no_anomaly_detection() -> None:
    """A module of RecBole's turns it on, which makes training several times slower."""
    importlib.import_module("recbole.model.sequential_recommender")
    torch.autograd.set_detect_anomaly(False)


@pytest.fixture
def trial(toy: Path) -> Callable[..., Settings]:
    """Returns a function (model, dropout=0.3, ...) -> settings of a small run on the toy data for three epochs."""

    def make(model: str = "GRU4RecMoS", dropout: float = 0.3, **options: Any) -> Settings:
        arguments = {"epochs": 3, "train_batch_size": 64, "MAX_ITEM_LIST_LENGTH": 10, **SMALL[model]}
        known = load_settings(model, str(toy)).values
        arguments |= {key: dropout for key in DROPOUTS if key in known}
        return load_settings(model, str(toy), overrides={**arguments, **options})

    return make


def singly(runs: Sequence[Settings], output: Path) -> list[RunResult]:
    """Returns the records of runs that were trained one after the other."""
    return [run_experiment(settings, output=output, device="cpu") for settings in runs]


def last_weights(record: RunResult) -> dict[str, torch.Tensor]:
    path = record.folder / "last.pt"
    return load_checkpoint(path, record.run_id, record.model, "cpu")["model"]["state_dict"]


def numbers(record: RunResult) -> dict[str, Any]:
    """Returns what a run found, to the last digit."""
    return {
        "valid": record.valid,
        "test": record.test,
        "loss": record.training_log()["loss"].tolist(),
        "outcomes": record.outcomes().fillna(-1).to_dict("list"),
    }


def assert_equal(found: RunResult | TrainingDiverged, single: RunResult, tolerance: float = 1e-5) -> None:
    """Requires of a run that was trained with others what it is alone, up to rounding."""
    assert isinstance(found, RunResult)
    assert found.run_id == single.run_id
    assert (found.epochs, found.best_epoch) == (single.epochs, single.best_epoch)
    assert found.training_log()["loss"].tolist() == pytest.approx(single.training_log()["loss"].tolist(), rel=tolerance)
    for side in ("valid", "test"):
        values, expected = ({name: one.value for name, one in getattr(run, side).items()} for run in (found, single))
        assert values == pytest.approx(expected, rel=1e-6)
    assert found.outcomes()["log_probability"].tolist() == pytest.approx(
        single.outcomes()["log_probability"].tolist(), rel=20 * tolerance
    )
    theirs = last_weights(single)
    for name, weight in last_weights(found).items():
        # Attention's softmax undoes the bias of keys, whose gradient is rounding, which Adam scales up.
        if name.endswith("key.bias"):
            continue
        torch.testing.assert_close(weight, theirs[name], rtol=0, atol=20 * tolerance)


# -------------------------------------------------------------------------------------------------- as if it were alone


@pytest.mark.parametrize(
    ("model", "train_mode"),
    [*((model, "all_positions") for model in SMALL), ("GRU4RecMoS", "prefix"), ("SASRecSoftmax", "prefix")],
)
def test_trials_trained_as_one_are_those_trained_alone(model: str, train_mode: str, trial, tmp_path: Path) -> None:
    """Other seeds (and so other batches, of other shapes), rates, schedules, optimizers, clips and dropouts."""
    own = {"train_mode": train_mode}
    runs = [
        trial(model, 0.3, seed=1, **own),
        trial(model, 0.1, seed=2, learning_rate=0.01, weight_decay=0.01, lr_schedule="linear", **own),
        trial(model, 0.0, seed=1, learner="adamw", warmup=0.4, **own),
        trial(model, 0.5, seed=3, clip_grad_norm={"max_norm": 0.1}, **own),
    ]
    found = run_fused(runs, output=tmp_path / "fused", device="cpu")
    for one, single in zip(found, singly(runs, tmp_path / "single"), strict=True):
        assert_equal(one, single)


def test_trials_of_equal_seed_share_their_batches(trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered = []
    gather = WindowLoader._gather

    def counted(self: WindowLoader, *arguments: Any) -> Any:
        gathered.append(self.seed)
        return gather(self, *arguments)

    monkeypatch.setattr(WindowLoader, "_gather", counted)
    rates = (0.001, 0.003, 0.01)
    run_fused([trial(seed=5, epochs=1, learning_rate=rate) for rate in rates], output=tmp_path / "three", device="cpu")
    together = len(gathered)
    run_experiment(trial(seed=5, epochs=1), output=tmp_path / "one", device="cpu")
    assert len(gathered) == 2 * together


def test_the_order_of_trials_and_the_callers_random_numbers_do_not_matter(trial, tmp_path: Path) -> None:
    runs = [trial(seed=1), trial(seed=2)]
    torch.manual_seed(123)
    first = run_fused(runs, output=tmp_path / "first", device="cpu")
    torch.manual_seed(321)
    again = run_fused(runs[::-1], output=tmp_path / "again", device="cpu")
    for one, other in zip(first, again[::-1], strict=True):
        assert_equal(one, other)


def test_a_trial_that_stops_early_leaves_the_others(trial, tmp_path: Path) -> None:
    """One stops by validation, one has fewer epochs, one goes on alone at the end."""
    runs = [
        trial(epochs=9, stopping_step=0, learning_rate=0.1),
        trial(epochs=2),
        trial(epochs=12, stopping_step=100, eval_step=5),
    ]
    ended: list[int] = []
    found = run_fused(runs, output=tmp_path / "fused", device="cpu", on_end=lambda place, _: ended.append(place))
    singles = singly(runs, tmp_path / "single")
    assert singles[0].epochs < 9
    for one, single in zip(found, singles, strict=True):
        assert_equal(one, single)
    assert ended == sorted(range(3), key=lambda place: (singles[place].epochs, place))


def test_times_are_shares_of_what_the_training_of_all_took(trial, tmp_path: Path) -> None:
    runs = [trial(seed=1), trial(seed=2), trial(seed=3)]
    began = Moment.now()
    found = run_fused(runs, output=tmp_path, device="cpu")
    passed = began.passed()
    assert len({(record.train_seconds, record.train_processor_seconds) for record in found}) == 1
    assert sum(record.train_seconds + record.eval_seconds for record in found) < passed.seconds
    spent = sum(record.train_processor_seconds + record.eval_processor_seconds for record in found)
    assert 0 < spent < passed.processor_seconds


# -------------------------------------------------------------------------------------------------- when one goes wrong


@pytest.mark.parametrize("look_every", [0.0, math.inf])
def test_a_trial_that_diverges_leaves_the_others(look_every: float, trial, tmp_path: Path, monkeypatch) -> None:
    """Told at once where the loss is looked at in every step, else at the end of the epoch."""
    monkeypatch.setattr("mos_recbole.training.fused.READ_LOSS_EVERY", look_every)
    runs = [trial(seed=1), trial(seed=1, learning_rate=1e30, epochs=50), trial(seed=2)]
    found = run_fused(runs, output=tmp_path / "fused", device="cpu")
    assert isinstance(found[1], TrainingDiverged)
    assert "learning_rate 1e+30" in str(found[1])
    for place in (0, 2):
        assert_equal(found[place], run_experiment(runs[place], output=tmp_path / "single", device="cpu"))
    with pytest.raises(TrainingDiverged) as alone:
        run_experiment(runs[1], output=tmp_path / "single", device="cpu")
    assert str(alone.value).replace("single", "fused") == str(found[1])


class Killed(BaseException):
    """Stands in for `kill -9`, which no handler sees."""


def killed_in(place: str, times: int) -> Callable[..., Any]:
    """Returns a method in place of a trainer's that ends the process after some calls."""
    method, calls = getattr(BenchmarkTrainer, place), iter(range(times))

    def call(self: BenchmarkTrainer, *arguments: Any) -> Any:
        if next(calls, None) is None:
            raise Killed
        return method(self, *arguments)

    return call


@pytest.mark.parametrize(("place", "times"), [("update", 40), ("_save_last", 4), ("_write_log", 5)])
def test_a_killed_training_goes_on_to_the_same_numbers(place: str, times: int, trial, tmp_path: Path) -> None:
    """Killed amid a pass; and between trials' checkpoints, so that they go on from different epochs."""
    runs = [trial(seed=1), trial(seed=2, dropout=0.5), trial(seed=1, lr_schedule="cosine", warmup=0.2)]
    undisturbed = run_fused(runs, output=tmp_path / "undisturbed", device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BenchmarkTrainer, place, killed_in(place, times))
        with pytest.raises(Killed):
            run_fused(runs, output=tmp_path / "killed", device="cpu", resume=True)
    found = run_fused(runs, output=tmp_path / "killed", device="cpu", resume=True)
    for one, other in zip(found, undisturbed, strict=True):
        assert_equal(one, other)
        assert isinstance(one, RunResult)
        assert one.resumed
        if place == "update":
            assert numbers(one) == numbers(other)


def stop(epoch: int, report: EpochReport) -> None:
    """Interrupts a run when an epoch is done."""
    if report.epoch == epoch:
        raise KeyboardInterrupt


def test_a_run_goes_on_alone_or_together_as_it_began_the_other_way(trial, tmp_path: Path) -> None:
    def stop_second(index: int, report: EpochReport) -> None:
        if index == 1:
            stop(2, report)

    runs = [trial(seed=1), trial(seed=2)]
    expected = singly(runs, tmp_path / "single")
    with pytest.raises(KeyboardInterrupt):
        run_fused(runs, output=tmp_path / "work", device="cpu", on_epoch=stop_second)
    record = run_experiment(runs[1], output=tmp_path / "work", device="cpu", resume=True)
    assert record.resumed
    assert_equal(record, expected[1])
    again = run_fused(runs, output=tmp_path / "work", device="cpu", resume=True)
    assert_equal(again[0], expected[0])
    assert again[1] == record
    with pytest.raises(KeyboardInterrupt):
        run_experiment(runs[0], output=tmp_path / "other", device="cpu", on_epoch=partial(stop, 1))
    together = run_fused(runs, output=tmp_path / "other", device="cpu", resume=True)
    for one, single in zip(together, expected, strict=True):
        assert_equal(one, single)


# ---------------------------------------------------------------------------------------------------------- what is fit


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("NARMMoS", {}, "the encoder NARM has no stacked form; expected one of GRU4Rec, SASRec"),
        ("GRU4RecMixtape", {}, "the head Mixtape has no stacked form; expected one of softmax, moc, mos"),
        ("GRU4Rec", {}, "GRU4Rec is RecBole's own class; expected an encoder with a head"),
        (
            "GRU4RecMoS",
            {"negative_sampling": "uniform"},
            "negative_sampling uniform has no stacked form; expected none",
        ),
        ("GRU4RecMoS", {"enable_amp": True}, "enable_amp has no stacked form; expected False"),
    ],
)
def test_what_has_no_stacked_form_is_refused(
    model: str, options: dict[str, Any], said: str, toy: Path, tmp_path: Path
) -> None:
    runs = [load_settings(model, str(toy), overrides={**options, "seed": seed}) for seed in (1, 2)]
    assert not_fusable(runs[0]) == said
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        run_fused(runs, output=tmp_path / "results", device="cpu")
    assert not (tmp_path / "results").exists()


def test_runs_of_different_shape_are_refused(trial, tmp_path: Path) -> None:
    runs = [trial(), trial(hidden_size=16), trial(mos_heads=3, seed=2)]
    assert kept_apart_by(runs) == ["hidden_size", "mos_heads"]
    with pytest.raises(InputError, match="runs of different hidden_size, mos_heads cannot be trained as one"):
        run_fused(runs, output=tmp_path, device="cpu")
    with pytest.raises(InputError, match="two of the runs are the same run"):
        run_fused([trial(), trial()], output=tmp_path, device="cpu")
