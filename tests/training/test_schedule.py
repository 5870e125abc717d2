"""Learning rates over a training."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mos_recbole import run_experiment
from mos_recbole.settings import load_settings
from mos_recbole.training import BenchmarkTrainer
from mos_recbole.training.schedule import Schedule


@pytest.mark.parametrize(
    ("shape", "after"),
    [("constant", [1, 1, 1]), ("linear", [0.75, 0.5, 0]), ("cosine", [0.853553, 0.5, 0])],
)
def test_a_rate_rises_to_its_peak_and_then_has_its_shape(shape: Any, after: list[float]) -> None:
    """By hand: a warm-up of a fifth; then a quarter, a half and all of the rest."""
    schedule = Schedule(shape, 0.2)
    assert [schedule.rate(done) for done in (0, 0.1, 0.2, 0.4, 0.6, 1)] == pytest.approx([0, 0.5, 1, *after])
    assert Schedule(shape).rate(0.0) == 1
    assert Schedule(shape).varies == (shape != "constant")


@pytest.fixture
def rates(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Returns a function (model, ...) -> the learning rates of the steps of each pass of a run on the toy data."""

    def of(model: str, **options: Any) -> list[list[float]]:
        found: list[list[float]] = []
        train, step = BenchmarkTrainer._train_pass, BenchmarkTrainer._step

        def passing(self: BenchmarkTrainer, *arguments: Any) -> float:
            found.append([])
            return train(self, *arguments)

        def stepping(self: BenchmarkTrainer, batch: Any, loss: Any, optimizer: torch.optim.Optimizer) -> torch.Tensor:
            found[-1].append(optimizer.param_groups[0]["lr"])
            return step(self, batch, loss, optimizer)

        with monkeypatch.context() as patch:
            patch.setattr(BenchmarkTrainer, "_train_pass", passing)
            patch.setattr(BenchmarkTrainer, "_step", stepping)
            common = {"device": "cpu", "learning_rate": 0.01, "train_batch_size": 64, "MAX_ITEM_LIST_LENGTH": 10}
            run_experiment(model, str(toy), output=tmp_path / model, **common, **options)
        return found

    return of


SMALL = {"embedding_size": 8, "hidden_size": 8}


@pytest.mark.parametrize("model", ["GRU4RecSoftmax", "GRU4Rec"])
def test_steps_have_the_rates_of_the_schedule(model: str, rates) -> None:
    """Of our models and RecBole's: to the peak in half of the steps, then to zero; none has the rate zero."""
    passes = rates(model, epochs=4, lr_schedule="linear", warmup=0.5, **SMALL)
    steps = [rate for one in passes for rate in one]
    assert len(passes) == 4
    assert steps[: len(steps) // 2] == sorted(steps[: len(steps) // 2])
    assert steps[len(steps) // 2 :] == sorted(steps[len(steps) // 2 :], reverse=True)
    assert 0 < min(steps) < 0.001
    assert 0.009 < max(steps) <= 0.01
    assert sum(steps) / len(steps) == pytest.approx(0.005, rel=0.02)


def test_a_constant_rate_is_left_alone(rates) -> None:
    passes = rates("GRU4RecSoftmax", epochs=2, lr_schedule="constant", warmup=0.0, **SMALL)
    assert {rate for one in passes for rate in one} == {0.01}


def test_every_stage_goes_through_the_schedule_and_passes_share_one(rates) -> None:
    """RaCT has two stages of one epoch before the last one's two; RecVAE's passes and optimizers go through one."""
    small = {"latent_dimension": 8, "lr_schedule": "linear", "epochs": 2}
    *before, third, fourth = rates("RaCT", mlp_hidden_size=[16], metrics_k=5, pretrain_epochs=1, **small)
    passes = rates("RecVAE", hidden_dimension=16, n_enc_epochs=2, n_dec_epochs=1, **small)
    assert (len(before), len(passes)) == (2, 6)
    for stage in (*before, third + fourth, [rate for one in passes for rate in one]):
        assert stage == sorted(stage, reverse=True)
        assert sum(stage) / len(stage) == pytest.approx(0.005)


def test_a_schedule_to_zero_goes_to_its_end_unless_something_else_is_asked_for() -> None:
    def ending(**options: Any) -> tuple[int, str]:
        values = load_settings("GRU4RecMoS", overrides={"epochs": 40, **options}).values
        return values["stopping_step"], values["chosen_epoch"]

    assert ending(lr_schedule="linear") == ending(lr_schedule="cosine", warmup=0.1) == (40, "last")
    assert ending(lr_schedule="linear", chosen_epoch="best") == (40, "best")
    assert ending(lr_schedule="linear", stopping_step=3) == (3, "best")
    assert ending(lr_schedule="constant", warmup=0.1) == (10, "best")
    assert ending(lr_schedule="constant", chosen_epoch="last") == (10, "last")
