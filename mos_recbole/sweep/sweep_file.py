"""Sweep files: YAML that is checked as a whole before anything runs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from mos_recbole.errors import InputError, nearest
from mos_recbole.evaluation import canonical_metric, metric_direction
from mos_recbole.settings import given_settings
from mos_recbole.sweep.space import Distinct, Parameter

Positive = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

# Settings that a sweep file has keys of its own for.
ELSEWHERE = {"seed": "seeds", "valid_metric": "metric", "model": "models", "dataset": "datasets"}


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


class Search(_Part):
    """How configurations are chosen.

    Attributes:
        method: grid (every combination), random, or optuna (Optuna's TPE, Bergstra et al., NeurIPS 2011).
        samples: number of configurations of each model on each data set, for random and optuna.
        seed: of the random numbers of the search.
    """

    method: Literal["grid", "random", "optuna"] = "grid"
    samples: Positive | None = None
    seed: Annotated[int, Field(ge=0)] = 0


class Stopping(_Part):
    """Which trials are stopped before their own early stopping (`stopping_step`) ends them.

    Attributes:
        scheduler: none, or asha (asynchronous successive halving, Li et al., MLSys 2020). At grace_epochs times each
            power of reduction_factor, a trial goes on only if its best validation so far is among the best
            1 / reduction_factor of the trials of its model and data set that have reached that epoch.
        grace_epochs: epochs that every trial gets.
        reduction_factor: the inverse of the fraction of trials that goes on.
    """

    scheduler: Literal["none", "asha"] = "none"
    grace_epochs: Positive = 3
    reduction_factor: Annotated[int, Field(ge=2)] = 3


class Resources(_Part):
    """The resources of each trial.

    Attributes:
        cpus_per_trial: cores, and PyTorch threads.
        gpus_per_trial: share of one GPU: at 0.25 four trials share it, at 0 trials run on CPUs.
        max_concurrent: maximum number of trials at a time; None for as many as fit.
        fuse: maximum number of trials of equal shape that are trained as one, with the resources of one trial.
    """

    cpus_per_trial: Positive = 1
    gpus_per_trial: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_concurrent: Positive | None = None
    fuse: Positive = 1

    def fits(self, cpus: float, gpus: float) -> int:
        """Returns how many trials fit on a machine at a time."""
        by_cpu = int(cpus // self.cpus_per_trial)
        # Not gpus // share: 1 // 0.2 is 4 in floating point.
        return min(by_cpu, int(gpus) * int(1 / self.gpus_per_trial + 1e-9)) if self.gpus_per_trial else by_cpu


class SweepFile(_Part):
    """A sweep as its file describes it; docs/sweeps.md shows one.

    Attributes:
        name: of the sweep and its results folder; the file's name by default.
        models, datasets: every model is run on every data set.
        plugins: files of the user's own heads and encoders, relative to the sweep file.
        config: RecBole YAML files, relative to the sweep file; later ones override earlier ones.
        settings: by RecBole's keys; override the files. Models without a setting ignore it.
        space: the swept parameters, by RecBole's keys.
        seeds: every configuration is run with every seed. An adaptive search (optuna or asha) compares configurations
            by the first seed, and runs the best one of each model and data set with the others.
        metric, mode: the validation metric that selects, and its direction.
        search, stopping, resources: see their classes.
        retries: how often a failed trial is tried again, from its last checkpoint.
    """

    name: Name
    models: Annotated[list[str], Field(min_length=1), Distinct]
    datasets: Annotated[list[str], Field(min_length=1), Distinct] = ["ml-100k"]
    plugins: list[str] = []
    config: list[str] = []
    settings: dict[str, Any] = {}
    space: Annotated[dict[str, Parameter], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1), Distinct] = [2020]
    metric: str = "NDCG@10"
    mode: Literal["max", "min"] | None = None
    search: Search = Search()
    stopping: Stopping = Stopping()
    resources: Resources = Resources()
    retries: Annotated[int, Field(ge=0)] = 2

    @pydantic.field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        return canonical_metric(metric)

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> "SweepFile":
        if self.mode not in (None, self.direction):
            raise ValueError(f"mode is {self.mode!r}, but of {self.metric} the {self.direction}imum is best")
        for key, parameter in self.space.items():
            if parameter.kind != "same_as" and (self.search.method == "grid") != (parameter.kind == "grid"):
                instead = "grid" if self.search.method == "grid" else "choice, uniform, loguniform or randint"
                raise ValueError(
                    f"space.{key} is a {parameter.kind}, but search.method is {self.search.method}; expected {instead}"
                )
        if self.stopping.scheduler == "asha" and "epochs" in self.space:
            raise ValueError("space.epochs: stopping.scheduler asha decides how many epochs a trial gets")
        if self.search.method == "optuna":
            for key, parameter in self.space.items():
                if parameter.kind == "choice" and any(isinstance(value, list | dict) for value in parameter.values):
                    raise ValueError(f"space.{key}: optuna chooses among single values only")
        if self.adaptive and self.resources.fuse > 1:
            chosen = "search.method optuna" if self.search.method == "optuna" else "stopping.scheduler asha"
            raise ValueError(
                f"resources.fuse: {chosen} starts and stops trials one by one, so they cannot be trained as one; "
                "expected search.method grid or random and stopping.scheduler none"
            )
        if (self.search.method == "grid") != (self.search.samples is None):
            verb = "needs" if self.search.samples is None else "does not take"
            raise ValueError(f"search.method {self.search.method} {verb} search.samples")
        return self

    @property
    def direction(self) -> Literal["max", "min"]:
        """Whether the highest or the lowest value of the metric is best."""
        return "max" if metric_direction(self.metric) == "higher" else "min"

    @property
    def adaptive(self) -> bool:
        """Whether the results of earlier trials decide about later ones."""
        return self.search.method == "optuna" or self.stopping.scheduler != "none"


def read_sweep_file(path: Path, changes: Mapping[str, Any] | None = None) -> SweepFile:
    """Returns the checked content of a sweep file.

    Args:
        path: of the file.
        changes: values that override the file's; those of a part, such as resources, override single values of it.

    Raises:
        InputError: all its faults, one per line.
    """
    content: dict[str, Any] = {"name": path.stem, **given_settings([path], strict=True)}
    for key, value in (changes or {}).items():
        if not isinstance(value, Mapping):
            content[key] = value
        elif isinstance(content.setdefault(key, {}), dict):  # else the validation below reports the file's value
            content[key] = {**content[key], **value}
    for key in ("config", "plugins"):
        if isinstance(content.get(key), str):
            content[key] = [content[key]]
    return checked_sweep(content, path)


def checked_sweep(content: Mapping[str, Any], path: Path) -> SweepFile:
    """Returns the checked content of a sweep file.

    Args:
        content: by the keys of a sweep file.
        path: of the file that it comes from.

    Raises:
        InputError: all its faults, one per line.
    """
    try:
        return SweepFile.model_validate(content)
    except pydantic.ValidationError as error:
        raise InputError("\n".join(f"{path}: {fault}" for fault in _faults(error))) from error


def _faults(error: pydantic.ValidationError) -> Iterator[str]:
    """Yields a sentence for each fault."""
    for problem in error.errors():
        place = [str(part) for part in problem["loc"]]
        where = ".".join(place)
        if problem["type"] == "extra_forbidden":
            part = _PARTS[place[0]] if len(place) > 1 else SweepFile
            expected = f"expected one of {', '.join(sorted(part.model_fields))}"
            hint = nearest(place[-1], part.model_fields) or expected
            yield f"unknown key {where!r}; {hint}"
        elif problem["type"] == "missing":
            yield f"{where} is missing"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            yield f"{where}: {message[0].lower()}{message[1:]}" if where else message


_PARTS: dict[str, type[pydantic.BaseModel]] = {
    "search": Search,
    "stopping": Stopping,
    "resources": Resources,
    "space": Parameter,
}
