"""The hand-written GRU: PyTorch's values and gradients, of one model and of several."""

import pytest
import torch
from torch import nn

from mos_recbole.models import gru
from mos_recbole.models.gru import GRU, gru_states, stacked_gru


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("rows", "length"), [(1, 1), (3, 1), (1, 6), (4, 6)])
def test_a_gru_is_pytorchs(bias: bool, layers: int, rows: int, length: int) -> None:
    """Its states and all gradients, for gradients of the states that do not lie as the states do."""
    torch.manual_seed(1)
    ours = GRU(5, 7, layers, bias=bias, batch_first=True).double()
    theirs = nn.GRU(5, 7, layers, bias=bias, batch_first=True).double()
    theirs.load_state_dict(ours.state_dict())
    input_BLi = torch.randn(rows, length, 5, dtype=torch.double, requires_grad=True)
    upstream_BLh = torch.randn(length, rows, 7, dtype=torch.double).transpose(0, 1)
    found, expected = ours(input_BLi)[0], theirs(input_BLi)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    for gradient, other in zip(
        torch.autograd.grad(found, [input_BLi, *ours.parameters()], upstream_BLh),
        torch.autograd.grad(expected, [input_BLi, *theirs.parameters()], upstream_BLh),
        strict=True,
    ):
        torch.testing.assert_close(gradient, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "grad", "autocast", "ours"),
    [
        (64, True, False, True),
        (65, True, False, False),
        (0, True, False, False),
        (4, False, False, False),
        (4, True, True, False),
    ],
)
def test_pytorchs_recurrence_where_it_is_no_slower(
    rows: int, grad: bool, autocast: bool, ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many sequences, without gradients, and in mixed precision."""
    calls: list[int] = []
    real = gru.stacked_gru
    monkeypatch.setattr(gru, "stacked_gru", lambda given, members: (calls.append(1), real(given, members))[1])
    torch.manual_seed(1)
    layer, input_BLi = GRU(5, 7, bias=False, batch_first=True), torch.randn(rows, 3, 5)
    with torch.set_grad_enabled(grad), torch.autocast("cpu", enabled=autocast):
        state_BLh = gru_states(layer, input_BLi)
    assert (len(calls), state_BLh.shape) == (int(ours), (rows, 3, 7))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_stacked_grus_are_grus(bias: bool, layers: int) -> None:
    torch.manual_seed(1)
    members = [nn.GRU(5, 7, layers, bias=bias, batch_first=True).double() for _ in range(3)]
    input_TBLi = torch.randn(3, 4, 6, 5, dtype=torch.double, requires_grad=True)
    upstream = torch.randn(3, 4, 6, 7, dtype=torch.double)
    leaves = [input_TBLi, *(parameter for member in members for parameter in member.parameters())]
    found, expected = (
        stacked_gru(input_TBLi, members),
        torch.stack([member(own)[0] for member, own in zip(members, input_TBLi, strict=True)]),
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    for gradient, other in zip(
        torch.autograd.grad(found, leaves, upstream), torch.autograd.grad(expected, leaves, upstream), strict=True
    ):
        torch.testing.assert_close(gradient, other, rtol=0, atol=1e-12)


def test_members_of_a_stack_end_at_their_own_steps() -> None:
    """States and gradients are those of the own parts; there is nothing beyond, whatever is in the padding."""
    torch.manual_seed(1)
    members = [nn.GRU(5, 7, 2, batch_first=True).double() for _ in range(3)]
    shapes = [(2, 6), (4, 5), (3, 1)]
    input_TBLi = torch.randn(3, 4, 6, 5, dtype=torch.double, requires_grad=True)
    found = stacked_gru(input_TBLi, members, shapes)
    owns = [input_TBLi[place, :rows, :steps] for place, (rows, steps) in enumerate(shapes)]
    expected = [member(own)[0] for member, own in zip(members, owns, strict=True)]
    upstream = [torch.randn_like(state) for state in expected]
    parts = [found[place, :rows, :steps] for place, (rows, steps) in enumerate(shapes)]
    leaves = [input_TBLi, *(parameter for member in members for parameter in member.parameters())]
    for part, state in zip(parts, expected, strict=True):
        torch.testing.assert_close(part, state, rtol=0, atol=1e-12)
    for gradient, other in zip(
        torch.autograd.grad(parts, leaves, upstream), torch.autograd.grad(expected, leaves, upstream), strict=True
    ):
        torch.testing.assert_close(gradient, other, rtol=0, atol=1e-12)


def test_gradients_of_gradients_are_refused() -> None:
    """Instead of a gradient penalty that is silently a constant."""
    layer, input_BLi = GRU(5, 7, bias=False, batch_first=True), torch.randn(4, 3, 5, requires_grad=True)
    with pytest.raises(RuntimeError, match="gradients of gradients are not available"):
        torch.autograd.grad(layer(input_BLi)[0].sum(), input_BLi, create_graph=True)
