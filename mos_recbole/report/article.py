"""The numbers that the article published, for results that were measured by its protocol."""

from functools import cache
from importlib.resources import files

import pydantic
import yaml

from mos_recbole.results import RunResult


class Article(pydantic.BaseModel):
    """What `article.yaml` holds.

    Attributes:
        source: who published it, and how it was measured.
        dataset, split, time, context: by which its protocol is known: the data set's name, the split's name and time,
            the number of items of the context that models see.
        baseline, model: the names of its two models here.
        metric: of `results`, which are baseline and model by dimension.
        bins: edges of its breakdowns, by column of the outcomes.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    source: str
    dataset: str
    split: str
    time: float
    context: int
    baseline: str
    model: str
    metric: str
    results: dict[int, tuple[float, float]]
    bins: dict[str, tuple[float, ...]]

    def describes(self, run: RunResult) -> bool:
        """Returns whether a run was evaluated as the article's were: same data, same split, same context."""
        split = run.protocol["split"]
        return (
            run.dataset == self.dataset
            and split["name"] == self.split
            and any(_is_number(value, self.time) for value in split.values())
            and run.settings.get("MAX_ITEM_LIST_LENGTH") == self.context
        )


def _is_number(text: object, number: float) -> bool:
    try:
        return float(str(text)) == number
    except ValueError:
        return False


@cache
def read_article() -> Article:
    """Returns the published numbers."""
    text = (files(__package__) / "article.yaml").read_text(encoding="utf-8")
    return Article.model_validate(yaml.safe_load(text))
