"""Small sweeps that the tests share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mos_recbole.errors import InputError
from mos_recbole.sweep import Planner

SMALL = {"hidden_size": 12, "MAX_ITEM_LIST_LENGTH": 10, "train_batch_size": 64, "epochs": 1}
GRID = {"embedding_size": {"grid": [4, 8]}, "mos_heads": {"grid": [2, 3]}}

CONDITIONAL = {
    "embedding_size": {"choice": [4, 8, 16]},
    "hidden_size": {"same_as": "embedding_size"},
    "learning_rate": {"loguniform": [1e-3, 1e-1]},
    "dropout_prob": {"uniform": [0, 0.5], "when": {"embedding_size": [8, 16]}},
    "mos_heads": {"randint": [2, 5]},
}


MakePlanner = Callable[..., Planner]


def refused(call: Callable[[], Any]) -> str:
    """Returns the message with which a call refuses what the user gave."""
    with pytest.raises(InputError) as caught:
        call()
    return str(caught.value)


def written(folder: Path, content: Any) -> Path:
    """Returns a sweep file with this content."""
    path = folder / "small.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def random_search(space: dict[str, Any], method: str = "random") -> dict[str, Any]:
    return {"search": {"method": method, "samples": 2}, "space": space}


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
