"""Runs on a CUDA device: the CPU's numbers within rounding, resumed, in bfloat16: `pytest -m gpu`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import stop_after

from mos_recbole.experiment import run_experiment

pytestmark = pytest.mark.gpu

# Without dropout both devices compute the same, in another order.
SMALL = {"epochs": 4, "train_batch_size": 256, "embedding_size": 16, "hidden_size": 16, "dropout_prob": 0.0}


def run(model: str, device: str, output: Path, **options: Any) -> Any:
    """Returns the record of a short run on ml-100k."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    sizes = SMALL if model.startswith("GRU4Rec") else {**SMALL, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}
    if not model.startswith("GRU4Rec"):
        del sizes["embedding_size"], sizes["dropout_prob"]
    return run_experiment(model, "ml-100k", output=output, device=device, **{**sizes, **options})


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("GRU4RecMoS", {}),
        ("GRU4RecMoS", {"loss_impl": "triton"}),
        ("SASRecSoftmax", {}),
        ("GRU4RecSoftmax", {"negative_sampling": "uniform", "n_negatives": 100}),
    ],
)
def test_numbers_are_the_cpus(model: str, options: dict[str, Any], tmp_path: Path) -> None:
    """From the same start by the same batches; rounding grows in four epochs, to the fourth digit of a loss at most."""
    found = run(model, "cuda", tmp_path / "cuda", **options)
    options = {key: value for key, value in options.items() if key != "loss_impl"}
    expected = run(model, "cpu", tmp_path / "cpu", **options)
    if "negative_sampling" not in options:
        losses = (found.training_log()["loss"], expected.training_log()["loss"])
        assert losses[0].to_numpy() == pytest.approx(losses[1].to_numpy(), rel=1e-3)
    assert found.test["NDCG@10"] == pytest.approx(expected.test["NDCG@10"], abs=0.01)


def test_a_resumed_run_gives_the_numbers_of_an_undisturbed_one(tmp_path: Path) -> None:
    """Stopped after the second of four epochs."""
    undisturbed = run("GRU4RecMoS", "cuda", tmp_path / "whole", dropout_prob=0.2)
    with pytest.raises(KeyboardInterrupt):
        run("GRU4RecMoS", "cuda", tmp_path / "parts", dropout_prob=0.2, on_epoch=stop_after(2))
    resumed = run("GRU4RecMoS", "cuda", tmp_path / "parts", dropout_prob=0.2, resume=True)
    assert resumed.resumed
    assert resumed.test == pytest.approx(undisturbed.test, abs=1e-3)


def test_bfloat16_stays_near(tmp_path: Path) -> None:
    """Of mixed precision the metrics differ by noise of validation."""
    full, mixed = (run("GRU4RecMoS", "cuda", tmp_path / str(on), enable_amp=on) for on in (False, True))
    assert mixed.test["NDCG@10"] == pytest.approx(full.test["NDCG@10"], abs=0.015)
