"""Dropout by 16 bits an entry: shares, independence, gradients, where it stands in models."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from mos_recbole.heads.mol import MoLHead
from mos_recbole.models.dropout import Dropout, dropout, replace_dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_entries_are_dropped_with_their_probability_and_the_expectation_stays(p: float) -> None:
    torch.manual_seed(0)
    found = dropout(torch.ones(1000, 1001), p)
    values = found.unique().tolist()
    assert values == [0.0, pytest.approx(1 / (1 - p), rel=1e-4)]
    error = (p * (1 - p) / found.numel()) ** 0.5
    assert abs(float((found == 0).float().mean()) - p) < 4 * error
    # The four entries of one draw are as independent as those of two.
    dropped = (found == 0).flatten()[: 4 * (found.numel() // 4)].view(-1, 4).float()
    covariance = torch.cov(dropped.T)
    assert (covariance - torch.diag(covariance.diagonal())).abs().max() < 5 * p * (1 - p) / len(dropped) ** 0.5
    assert (dropped.mean(dim=0) - p).abs().max() < 5 * (p * (1 - p) / len(dropped)) ** 0.5


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, 7), (2, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_gradients_are_those_of_the_entries_that_stay(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    value = torch.randn(shape, dtype=dtype, requires_grad=True)
    found = dropout(value, 0.25)
    found.sum().backward()
    assert found.dtype == dtype
    assert found.shape == value.shape
    assert value.grad is not None
    torch.testing.assert_close(value.grad * value.detach(), found.detach())


@pytest.mark.parametrize("p", [0.0, 1.0, 1e-9, 1 - 1e-9])
def test_nothing_and_everything_are_dropped_as_by_pytorch(p: float) -> None:
    value = torch.randn(100)
    torch.testing.assert_close(dropout(value, p), functional.dropout(value, round(p)))


def test_the_seed_decides() -> None:
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(dropout(torch.ones(64), 0.5))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_all_layers_of_a_model_are_replaced_and_rest_in_evaluation() -> None:
    model = nn.Sequential(nn.Dropout(0.2), nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.4)))
    replace_dropout(model)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Dropout)]
    assert [(type(layer), layer.p) for layer in layers] == [(Dropout, 0.2), (Dropout, 0.4)]
    value = torch.randn(4, 3)
    assert torch.equal(layers[0].eval()(value), value)
    torch.manual_seed(0)
    assert (layers[1].train()(torch.ones(1000)) == 0).float().mean() == pytest.approx(0.4, abs=0.08)


def test_heads_of_logits_draw_as_pytorch_does() -> None:
    """They go over pairs by `torch.vmap`, which refuses the cheaper draws."""
    head = MoLHead(9, 4)
    model = nn.Sequential(nn.Dropout(0.2), head)
    replace_dropout(model)
    assert type(model[0]) is Dropout
    layers = [layer for layer in head.modules() if isinstance(layer, nn.Dropout)]
    assert layers
    assert {type(layer) for layer in layers} == {nn.Dropout}
