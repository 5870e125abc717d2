"""What the tests of sweeps share."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from mos_recbole.sweep import Planner
from mos_recbole.sweep.sweep_file import SweepFile
from tests.sweeps import SMALL, MakePlanner


@pytest.fixture
def planner(data: Path, tmp_path: Path) -> MakePlanner:
    """Returns a function (space, overrides=..., keys of a sweep file=...) -> planner of a small sweep."""

    def make(space: dict[str, Any], overrides: Iterable[str] = (), **content: Any) -> Planner:
        content = {"models": ["GRU4RecSoftmax", "GRU4RecMoS"], "datasets": [str(data)], "space": space} | content
        content["settings"] = SMALL | content.get("settings", {})
        return Planner(SweepFile.model_validate({"name": "small"} | content), tmp_path / "small.yaml", list(overrides))

    return make
