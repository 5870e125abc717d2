"""A training step asks its device for no value: shown without a GPU, on the device that has none to give."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from built import L
from torch.utils._python_dispatch import TorchDispatchMode

from mos_recbole.data import SequenceDataset
from mos_recbole.experiment import load_settings
from mos_recbole.models import HEADS, EncoderHeadRecommender
from mos_recbole.training import make_train_loader, make_trainer

# Tensors without numbers: reading one raises, and so does every operation whose result's shape hangs on its numbers
# (`nonzero`, `unique`, boolean masks), as it would make a GPU's host wait. The code takes the paths of a GPU on it.
META = torch.device("meta")
GRU = {"embedding_size": 8, "hidden_size": 12}
TRANSFORMER = {"hidden_size": 8, "inner_size": 16, "n_layers": 1, "n_heads": 2}


@pytest.fixture(autouse=True)
def _autocast_knows_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch refuses to make the context for this device, though it has nothing to do in it."""
    honest = torch.autocast
    contexts = {"cpu": honest, "meta": lambda device, **options: nullcontext()}
    monkeypatch.setattr(torch, "autocast", lambda device, **options: contexts[device](device, **options))
    enabled = torch.is_autocast_enabled
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device != "meta" and enabled(device))


class NoWaitingCopies(TorchDispatchMode):
    """Raises where the host waits for a copy of its own to the device to arrive."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: tuple = (), keywords: dict | None = None
    ) -> Any:
        keywords = keywords or {}
        result = operation(*arguments, **keywords)
        moved = operation is torch.ops.aten._to_copy.default and result.device == META != arguments[0].device
        if moved and not keywords.get("non_blocking"):
            raise AssertionError("the host waits for a copy")
        return result


def steps(folder: Path, model: str, device: torch.device = META, **overrides: Any) -> int:
    """Returns the number of batches of an epoch, once a model has been trained on all of them."""
    overrides = {"MAX_ITEM_LIST_LENGTH": L, "train_batch_size": 96, "clip_grad_norm": {"max_norm": 1.0}} | overrides
    config = load_settings(model, str(folder), overrides=overrides).recbole_config(device)
    data = SequenceDataset(config)
    split = data.split()
    net = config["model_class"](config, data.training_part(split)).to(device)
    trainer = make_trainer(config, net, folder, "run", False, 0.0)
    loader = make_train_loader(config, data, split)
    net.train()
    with NoWaitingCopies():
        done = 0
        for batch, _ in loader.epoch(1):
            loss = trainer._step(batch, net.calculate_loss, trainer.optimizer)
            assert (loss.device, loss.shape) == (device, ())
            done += 1
    assert all(parameter.grad is not None for parameter in net.parameters())
    return done


@pytest.mark.parametrize("train_mode", ["all_positions", "prefix"])
@pytest.mark.parametrize("sampling", ["none", "uniform", "popularity", "in_batch"])
def test_a_step_asks_for_no_value(toy: Path, sampling: str, train_mode: str) -> None:
    """Batch, loss, gradients, clipping and optimizer, over an epoch whose batches have many shapes."""
    options = {**GRU, "mos_heads": 2, "mos_dropout": 0.1, "item_bias": True, "tie_weights": False}
    assert steps(toy, "GRU4RecMoS", negative_sampling=sampling, train_mode=train_mode, **options) > 3


@pytest.mark.parametrize("train_mode", ["all_positions", "prefix"])
def test_a_step_of_a_transformer_asks_for_no_value(toy: Path, train_mode: str) -> None:
    assert steps(toy, "SASRecMoS", train_mode=train_mode, **TRANSFORMER) > 3


@pytest.mark.parametrize("head", HEADS)
def test_a_step_of_any_head_asks_for_no_value(toy: Path, head: str) -> None:
    """All that models by name can have."""
    assert steps(toy, f"GRU4Rec{HEADS[head].label}", **GRU) > 3


@pytest.mark.parametrize("learner", ["adam", "sgd", "adagrad", "rmsprop"])
def test_a_step_of_any_optimizer_asks_for_no_value(toy: Path, learner: str) -> None:
    assert steps(toy, "GRU4RecMoS", learner=learner, weight_decay=0.01, **GRU) > 3


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda net, batch: net(batch).sum().item(), "item\\(\\) cannot be called on meta"),
        (lambda net, batch: bool((batch["item_id"] != 0).any()), "item\\(\\) cannot be called on meta"),
        (lambda net, batch: batch["item_id"][batch["item_id"] != 0], "nonzero"),
        (lambda net, batch: batch["item_id"].unique(), "_unique2"),
        (lambda net, batch: batch["item_length"].tolist(), "Cannot copy out of meta"),
        (lambda net, batch: batch["item_id"].cpu(), "Cannot copy out of meta"),
        (lambda net, batch: torch.arange(3).to(batch["item_id"].device), "the host waits for a copy"),
    ],
    ids=["item", "bool", "mask", "unique", "tolist", "copy from", "copy to"],
)
def test_asking_for_a_value_is_noticed(toy: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable, said: str) -> None:
    """That the tests above can fail: a loss that asks in one of the ways that make a host wait."""
    honest = EncoderHeadRecommender.calculate_loss

    def asking(self: EncoderHeadRecommender, batch: Any) -> torch.Tensor:
        ask(self, batch)
        return honest(self, batch)

    monkeypatch.setattr(EncoderHeadRecommender, "calculate_loss", asking)
    with pytest.raises((RuntimeError, AssertionError), match=said):  # NotImplementedError is a RuntimeError
        steps(toy, "GRU4RecSoftmax", **GRU)
