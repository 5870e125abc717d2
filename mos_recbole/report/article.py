"""The numbers that the article published, for results that were measured by its protocol."""

from functools import cache
from importlib.resources import files
from typing import Any

import pydantic
import yaml

from mos_recbole.results import RunResult


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
        dataset, split, settings: by which its protocol is known: the data set's name, the split's name and settings,
            and settings of a run.
        baseline, model: the names of its two models here.
        metric: of `results`, which are baseline and model by dimension.
        frequent: its relative differences without rare targets.
        bins: edges of its breakdowns, by column of the outcomes.
    """

    source: str
    dataset: str
    split: dict[str, Any]
    settings: dict[str, Any]
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
        )


@cache
def read_article() -> Article:
    """Returns the published numbers."""
    text = (files(__package__) / "article.yaml").read_text(encoding="utf-8")
    return Article.model_validate(yaml.safe_load(text))
