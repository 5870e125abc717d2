"""The numbers that the article published, for results that were measured by its protocol."""

from functools import cache
from importlib.resources import files
from typing import Any

import pydantic
import yaml

from mos_recbole.results import RunResult

# Counts that differ by a share of this are of the same data: how the article counted is not known to the last user.
_SAME = 0.05


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class FrequentTargets(_Part):
    """Relative differences by dimension, on the targets that training holds more often than `more_than` times."""

    more_than: int
    relative: dict[int, float]


class Article(_Part):
    """What `article.yaml` holds.

    Attributes:
        source: who published it, and how it was measured.
        dataset, split, settings, data: by which its protocol is known: the data set's name, the split's name and
            settings, settings of a run, and counts of its data, to within a twentieth.
        baseline, model: the names of its two models here.
        metric: of `results`, which are baseline and model by dimension.
        frequent: its relative differences without rare targets.
        bins: edges of its breakdowns, by column of the outcomes.
    """

    source: str
    dataset: str
    split: dict[str, Any]
    settings: dict[str, Any]
    data: dict[str, int]
    baseline: str
    model: str
    metric: str
    results: dict[int, tuple[float, float]]
    frequent: FrequentTargets
    bins: dict[str, tuple[float, ...]]

    def describes(self, run: RunResult) -> bool:
        """Returns whether a run was evaluated as the article's were: same data, same split, same context."""
        split = run.protocol["split"]
        return (
            run.dataset == self.dataset
            and all(split.get(key) == value for key, value in self.split.items())
            and all(run.settings.get(key) == value for key, value in self.settings.items())
            and all(abs(run.data.get(key, 0) / count - 1) <= _SAME for key, count in self.data.items())
        )


@cache
def read_article() -> Article:
    """Returns the published numbers."""
    text = (files(__package__) / "article.yaml").read_text(encoding="utf-8")
    return Article.model_validate(yaml.safe_load(text))
