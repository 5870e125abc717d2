"""Triton's kernels on a CUDA device, compiled and not interpreted: `TRITON_INTERPRET=0 pytest -m gpu`."""

import pytest
import torch
from test_losses import Inputs, evaluate, random_inputs

pytest.importorskip("triton", reason="Triton is there for Linux on x86-64 only")

from test_triton import assert_as_good_as_naive, lower, ranks_by_hand

from mos_recbole.evaluation import rank_targets
from mos_recbole.heads.counter import MixtureCounter
from mos_recbole.heads.scorer import MixtureScorer
from mos_recbole.losses import need_triton

pytestmark = pytest.mark.gpu


@pytest.fixture
def cuda() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda")
    need_triton(device)
    return device


def moved(inputs: Inputs, dtype: torch.dtype, device: torch.device) -> Inputs:
    """Returns the inputs of a loss on a device, the factors of the logits in a type, the rest in float32."""
    components, log_prior, weight, bias = lower(inputs, dtype)
    return components.to(device), log_prior.to(device), weight.to(device), None if bias is None else bias.to(device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "sizes",
    [(1, 1, 2, 1), (37, 1, 53, 8), (300, 4, 1001, 64), (65, 3, 700, 100), (130, 2, 4097, 128), (64, 2, 333, 264)],
)
def test_loss_and_gradients(sizes: tuple[int, int, int, int], dtype: torch.dtype, cuda: torch.device) -> None:
    """B, K, V and d below, at and beyond a tile's; every query with an upstream gradient of its own."""
    inputs, target = random_inputs(*sizes, scale=3.0)
    upstream = torch.linspace(-1, 2, sizes[0], device=cuda)
    assert_as_good_as_naive(moved(inputs, dtype, cuda), target.to(cuda), units=4.0, reduction="none", upstream=upstream)


def test_every_run_gives_the_same_bits(cuda: torch.device) -> None:
    """No two programs add to one number."""
    inputs, target = random_inputs(500, 4, 3000, 64)
    low, target = moved(inputs, torch.bfloat16, cuda), target.to(cuda)
    first, second = (evaluate(low, target, impl="triton") for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kernels", [True, False])
def test_ranks(kernels: bool, cuda: torch.device) -> None:
    """Ranks are those of the definition in float64, but where rounding decides: by one place, for one target in 100."""
    inputs, target = random_inputs(400, 4, 2003, 64)
    target = target.clamp(min=1)
    expected = ranks_by_hand(inputs, target)
    components, log_prior, weight, bias = moved(inputs, torch.float32, cuda)
    scorer = MixtureCounter(weight, bias) if kernels else MixtureScorer(weight, bias, 4)
    found = rank_targets(scorer, (components, log_prior), target.to(cuda))
    off = (found.better.cpu() - expected.better).abs()
    assert off.max() <= 1
    assert (off > 0).double().mean() <= 0.01
    torch.testing.assert_close(found.target_score.cpu().double(), expected.target_score, rtol=1e-4, atol=1e-4)
