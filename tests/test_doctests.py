"""The examples in docstrings run, and give what they show."""

import doctest
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

import mos_recbole

PACKAGE = Path(mos_recbole.__file__).parent
MODULES = [
    ".".join(["mos_recbole", *path.relative_to(PACKAGE).with_suffix("").parts])
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def a_mixture() -> dict[str, Any]:
    """Returns the arguments of a loss, by the names that examples have for them."""
    B, K, d, V, M = 5, 3, 4, 7, 6
    random = torch.Generator().manual_seed(1)
    return {
        "B": B,
        "components": torch.randn(B, K, d, generator=random),
        "log_prior": torch.log_softmax(torch.randn(B, K, generator=random), -1),
        "weight": torch.randn(V, d, generator=random),
        "bias": torch.randn(V, generator=random),
        "target": torch.randint(V, (B,), generator=random),
        "sampled": torch.randint(V, (M,), generator=random),
        "log_expected_count": torch.randn(M, generator=random),
        "torch": torch,
        "arange": torch.arange,
        "inf": torch.inf,
        "assert_close": torch.testing.assert_close,
    }


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    """Of every module that has any; at least one of them is run."""
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs=a_mixture())
    assert result.failed == 0
