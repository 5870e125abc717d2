"""Models that cannot be built: one message with the place, for this run alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mos_recbole import run_experiment
from mos_recbole.errors import InputError
from mos_recbole.experiment import load_settings, run_fused
from mos_recbole.models import ENCODERS, HEADS, load_plugin
from mos_recbole.training import memory

PLUGIN = """
from mos_recbole.heads import HeadSpec, SoftmaxHead
from mos_recbole.models import register_head

class Odd(SoftmaxHead):
    def __init__(self, n_items, width, *, item_bias):
        super().__init__(n_items, width, item_bias=item_bias)
        self.scale = {}["scale"]


register_head(HeadSpec("odd", "Odd", Odd))
"""


@pytest.fixture(autouse=True)
def _known_models() -> Iterator[None]:
    """Leaves the known encoders and heads as they were."""
    before = dict(ENCODERS), dict(HEADS)
    yield
    for known, entries in zip((ENCODERS, HEADS), before, strict=True):
        known.clear()
        known.update(entries)


def test_an_odd_error_of_a_plugin_is_an_input_error(toy: Path, tmp_path: Path) -> None:
    """Whatever a constructor raises; the message has the file, the line and the error."""
    path = tmp_path / "odd.py"
    path.write_text(PLUGIN, encoding="utf-8")
    load_plugin(path)
    line = 1 + PLUGIN.splitlines().index('        self.scale = {}["scale"]')
    with pytest.raises(InputError, match=rf"GRU4RecOdd: .*odd\.py, line {line}: KeyError: 'scale'"):
        run_experiment("GRU4RecOdd", str(toy), output=tmp_path / "results", device="cpu", epochs=1)


LATER = """
from mos_recbole.heads import HeadSpec, SoftmaxHead
from mos_recbole.models import register_head
import torch

class Stop(BaseException):
    pass

class Odd(SoftmaxHead):
    def loss(self, state, weight, target, **others):
        loss = super().loss(state, weight, target, **others)
        if self.training:
            {}
        return loss


register_head(HeadSpec("odd", "Odd", Odd))
"""


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("raise Stop('enough')", r"GRU4RecOdd: .*odd\.py, line 13: Stop: enough"),
        ("raise type('E', (Stop,), {'__str__': lambda self: 1 / 0})", r"odd\.py, line 13: E$"),
        ("raise SystemExit(3)", r"GRU4RecOdd: .*odd\.py, line 13: SystemExit: 3"),
        ("loss = 'none'", r"GRU4RecOdd: .*odd\.py: \w+Error: "),
        ("loss = loss * torch.ones(3)", r"GRU4RecOdd: .*odd\.py: RuntimeError: "),
    ],
)
def test_a_plugin_that_goes_wrong_in_training_is_an_input_error(
    does: str, told: str, toy: Path, tmp_path: Path
) -> None:
    """Whatever it raises or returns, once its shapes have been looked at."""
    path = tmp_path / "odd.py"
    path.write_text(LATER.replace("{}", does), encoding="utf-8")
    load_plugin(path)
    with pytest.raises(InputError, match=told):
        run_experiment("GRU4RecOdd", str(toy), output=tmp_path / "results", device="cpu", epochs=1)


def test_a_model_of_recbole_that_fails_in_training_is_an_input_error(toy: Path, tmp_path: Path) -> None:
    """Settings that its constructor takes and its layers do not."""
    with pytest.raises(InputError, match=r"ConvNCF cannot be trained with these settings: RuntimeError.*padded input"):
        run_experiment("ConvNCF", str(toy), output=tmp_path, device="cpu", epochs=1, embedding_size=4)


def test_what_cannot_fit_is_refused_before_it_is_allocated(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"GRU4RecMoS: a tensor of 21 x 2147483647 needs 180.4 GB of memory; "):
        run_experiment("GRU4RecMoS", str(toy), output=tmp_path, device="cpu", embedding_size=2**31 - 1)
    monkeypatch.setattr(memory, "free_memory", lambda device: 10**8)
    layer = torch.nn.Linear(1000, 10_000)
    memory.require_training_memory(layer, "sgd", torch.device("cpu"))
    with pytest.raises(InputError, match=r"gradients and optimizer need 0.1 GB of memory; 0.1 GB are free"):
        memory.require_training_memory(layer, "adam", torch.device("cpu"))


def test_a_step_that_would_fill_the_memory_is_refused(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the layer at which this process has taken most of what was free."""
    taken = [0]

    def take_a_tenth() -> int:
        taken[0] += 10**11
        return taken[0]

    monkeypatch.setattr(memory, "free_memory", lambda device: 10**12 - taken[0])
    monkeypatch.setattr(memory, "own_memory", take_a_tenth)
    with pytest.raises(InputError, match=r"^a training step had taken [\d,.]+ of 1,000.0 GB of free memory before its"):
        run_experiment("SASRec", str(toy), output=tmp_path, device="cpu", epochs=1)
    with pytest.raises(InputError, match=r"^a training step had .* or fewer trials as one$"):
        run_fused(
            [load_settings("GRU4RecMoS", str(toy), overrides={"seed": seed}) for seed in (1, 2)],
            output=tmp_path,
            device="cpu",
        )
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.parametrize(
    ("left", "before", "own"),
    [(1, 0, 0), (1, 10**12, 10**12), (10**10, 0, 10**12)],
    ids=["others took it", "it had it before", "enough is left"],
)
def test_a_step_is_refused_for_what_it_takes_alone(
    left: int, before: int, own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = torch.nn.Linear(2, 2)
    free, taken = iter([2 * 10**10, *[left] * 9]), iter([before, *[own] * 9])
    monkeypatch.setattr(memory, "free_memory", lambda device: next(free))
    monkeypatch.setattr(memory, "own_memory", lambda: next(taken))
    with memory.step_must_fit(torch.device("cpu")):
        assert layer(torch.ones(2)).shape == (2,)
    assert not torch.nn.modules.module._global_forward_pre_hooks
