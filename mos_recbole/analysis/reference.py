"""Published numbers beside ours: what a reference file holds, and where its protocol differs from that of our runs."""

from pathlib import Path
from typing import Annotated, Any

import pydantic
import yaml

from mos_recbole.analysis.queries import Condition, parse_condition
from mos_recbole.analysis.run_groups import RunGroup, canonical
from mos_recbole.analysis.study import Section
from mos_recbole.errors import InputError
from mos_recbole.evaluation import canonical_metric
from mos_recbole.io import require_regular
from mos_recbole.results import RunResult

MetricName = Annotated[str, pydantic.AfterValidator(canonical_metric)]

# Counts that differ by less than this share are of the same data: publications count in different ways.
_SAME = 0.05


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class ReferenceProtocol(_Part):
    """How the published numbers were measured: whatever of it is known.

    Attributes:
        split: name and settings of the split, as in the protocol of a run.
        settings: settings of a run.
        data: counts of the data, which a run's have to match to within a twentieth.
    """

    split: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    data: dict[str, pydantic.PositiveInt] = {}

    def differences(self, run: RunResult) -> list[str]:
        """Returns where a run was measured in another way, a phrase each."""
        differ = [
            f"{key} {here} instead of {published}"
            for known, own in ((self.split, run.protocol["split"]), (self.settings, run.settings | _settled(run)))
            for key, published in known.items()
            if canonical(here := own.get(key)) != canonical(published)
        ]
        for key, count in self.data.items():
            here = run.data.get(key, 0)
            if abs(here / count - 1) > _SAME:
                differ.append(f"{key} {here:,} instead of {count:,}")
        return differ


def _settled(run: RunResult) -> dict[str, Any]:
    """Returns what the settings leave to the data, as the data settled it, and no filter for one that keeps all."""
    filters = ("user_inter_num_interval", "item_inter_num_interval")
    none = {key: None for key in filters if run.settings.get(key) == "[0,inf)"}
    return {"filter_seen": run.protocol["filter_seen"], **none}


class ReferenceRow(_Part):
    """One published number: a metric of a model.

    Attributes:
        model: name of ours, or names of all that are the published one, as RecBole's class and our encoder with a head.
        settings: by which the configuration is found among ours.
    """

    model: str | tuple[str, ...]
    settings: dict[str, Any] = {}
    metric: MetricName
    value: float

    @property
    def models(self) -> tuple[str, ...]:
        """Our models that the number is of."""
        return (self.model,) if isinstance(self.model, str) else self.model


class ReferenceDifference(_Part):
    """One published relative difference of a model from its baseline.

    Attributes:
        settings: by which both configurations are found among ours.
        where: a condition on the queries, such as "train_count>814"; None for all.
    """

    baseline: str
    model: str
    settings: dict[str, Any] = {}
    metric: MetricName
    where: str | None = None
    relative: float

    @property
    def conditions(self) -> list[Condition]:
        """The condition, if there is one."""
        return [] if self.where is None else [parse_condition(self.where)]


class Reference(_Part):
    """What a reference file holds.

    Attributes:
        source: short name of the publication, for the heads of columns.
        citation: the publication, and how it measured.
        notes: what a reader should know when comparing.
        dataset: name of the data set.
        bins: edges of the publication's breakdowns, by column of the outcomes; used for runs by its protocol.
    """

    source: str
    citation: str
    notes: str = ""
    dataset: str
    protocol: ReferenceProtocol = ReferenceProtocol()
    rows: tuple[ReferenceRow, ...]
    differences: tuple[ReferenceDifference, ...] = ()
    bins: dict[str, tuple[float, ...]] = {}

    def is_protocol_of(self, run: RunResult) -> bool:
        """Returns whether a run is on the reference's data set and measured in its way, as far as that is known."""
        return run.dataset == self.dataset and not self.protocol.differences(run)

    def find(self, section: Section, row: ReferenceRow) -> list[RunGroup]:
        """Returns our configurations that a published number is about; of a model's, the best on validation.

        Where that one has other settings than the published one, they are those that validation chose at each width.
        """
        found: list[RunGroup] = []
        for model in row.models:
            best, chosen, own = (
                [group for group in groups if _matches(group, model, row.settings)]
                for groups in (section.best.values(), section.chosen.values(), section.groups)
            )
            found += best or chosen or own
        return found

    def find_pair(self, section: Section, difference: ReferenceDifference) -> tuple[RunGroup, RunGroup] | None:
        """Returns our baseline and model that a published difference is about, or None."""
        for matchup in section.matchups:
            if (matchup.baseline, matchup.model) == (difference.baseline, difference.model):
                for pair in matchup.pairs.values():
                    if all(_matches(group, group.runs[0].model, difference.settings) for group in pair):
                        return pair
        return None


def read_reference(path: Path) -> Reference:
    """Returns what a reference file holds.

    Raises:
        InputError: the file is missing, is no YAML, or has a key or value that is not understood.
    """
    try:
        require_regular(path)
        reference = Reference.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        for difference in reference.differences:
            parse_condition(difference.where) if difference.where is not None else None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a YAML file of published numbers") from error
    except pydantic.ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:3])
        raise InputError(f"{path}: not a file of published numbers: {faults}") from error
    except InputError:
        raise
    except Exception as error:  # PyYAML's constructors fail in arbitrary ways on what their tags cannot have
        raise InputError(f"{path}: not YAML: {error}") from error
    return reference


def _matches(group: RunGroup, model: str, settings: dict[str, Any]) -> bool:
    run = group.runs[0]
    return run.model == model and all(
        canonical(run.settings.get(key)) == canonical(value) for key, value in settings.items()
    )
