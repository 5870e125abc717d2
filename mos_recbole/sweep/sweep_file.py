"""Sweep files: YAML that is checked as a whole before anything runs."""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import Field

from mos_recbole.errors import InputError
from mos_recbole.evaluation import canonical_metric, metric_direction
from mos_recbole.settings import YamlLoader
from mos_recbole.sweep.space import Parameter

Positive = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


class Search(_Part):
    """How configurations are chosen.

    Attributes:
        method: grid (every combination), random, or optuna (Optuna's TPE, Bergstra et al., NeurIPS 2011).
        samples: configurations for each model and data set, so that every model is tuned with the same budget; for
            random and optuna.
        seed: of the search.
    """

    method: Literal["grid", "random", "optuna"] = "grid"
    samples: Positive | None = None
    seed: Annotated[int, Field(ge=0)] = 0


class Stopping(_Part):
    """Which trials are ended before they end themselves by early stopping (`stopping_step`).

    Attributes:
        scheduler: none, or asha (asynchronous successive halving, Li et al., MLSys 2020): at grace_epochs times each
            power of reduction_factor, a trial whose best validation so far is not among the best 1 / reduction_factor
            of the trials of its model and data set that have come so far is ended.
        grace_epochs: epochs that every trial gets.
        reduction_factor: what fraction goes on, as its inverse.
    """

    scheduler: Literal["none", "asha"] = "none"
    grace_epochs: Positive = 3
    reduction_factor: Annotated[int, Field(ge=2)] = 3


class Resources(_Part):
    """What each trial holds.

    Attributes:
        cpus_per_trial: cores; PyTorch's threads are as many.
        gpus_per_trial: share of a GPU: at 0.25 four trials share one, at 0 they run on CPUs. A trial uses one at most.
        max_concurrent: most trials at a time; None for as many as fit.
        fuse: how many trials of equal shape are trained as one, at most, with what one trial holds.
    """

    cpus_per_trial: Positive = 1
    gpus_per_trial: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_concurrent: Positive | None = None
    fuse: Positive = 1

    @pydantic.field_validator("gpus_per_trial", mode="before")
    @classmethod
    def _as_number(cls, value: Any) -> Any:
        return float(value) if type(value) is int else value

    def fits(self, cpus: float, gpus: float) -> int:
        """Returns how many trials fit on a machine at a time."""
        by_cpu = int(cpus // self.cpus_per_trial)
        # Not gpus // share: 1 // 0.2 is 4 in floating point.
        return min(by_cpu, int(gpus) * int(1 / self.gpus_per_trial + 1e-9)) if self.gpus_per_trial else by_cpu


class SweepFile(_Part):
    """A sweep as its file describes it; docs/sweeps.md shows one.

    Attributes:
        name: of the sweep and its results folder; the file's name unless set.
        models, datasets: every model is run on every data set.
        plugins: files of your own heads and encoders, relative to the sweep file.
        config: RecBole YAML files, relative to the sweep file, later ones over earlier ones.
        settings: by RecBole's keys, over the files; those that a model lacks are passed over for it.
        space: the swept parameters, by RecBole's keys.
        seeds: each configuration is run with each. Where the search is adaptive (optuna or asha), configurations are
            compared by the first one, and the best of each model and data set is then run with the others.
        metric, mode: validation metric that selects, and its direction.
        search, stopping, resources: see there.
        retries: how often a trial that fails is tried again, from its last checkpoint.
    """

    name: Name
    models: Annotated[list[str], Field(min_length=1)]
    datasets: Annotated[list[str], Field(min_length=1)] = ["ml-100k"]
    plugins: list[str] = []
    config: list[str] = []
    settings: dict[str, Any] = {}
    space: Annotated[dict[str, Parameter], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)] = [2020]
    metric: str = "NDCG@10"
    mode: Literal["max", "min"] | None = None
    search: Search = Search()
    stopping: Stopping = Stopping()
    resources: Resources = Resources()
    retries: Annotated[int, Field(ge=0)] = 2

    @pydantic.field_validator("models", "datasets", "seeds")
    @classmethod
    def _once(cls, values: list[Any]) -> list[Any]:
        twice = [value for number, value in enumerate(values) if value in values[:number]]
        if twice:
            raise ValueError(f"{twice[0]!r} is listed twice")
        return values

    @pydantic.field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        return canonical_metric(metric)

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> "SweepFile":
        direction = "max" if metric_direction(self.metric) == "higher" else "min"
        if self.mode not in (None, direction):
            raise ValueError(f"mode is {self.mode!r}, but of {self.metric} the {direction}imum is best")
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
                f"resources.fuse: trials that are trained as one start together and end by themselves, which {chosen} "
                "has no place for; expected search.method grid or random and stopping.scheduler none"
            )
        if (self.search.method == "grid") != (self.search.samples is None):
            said = "needs" if self.search.samples is None else "has no place for"
            raise ValueError(f"search.method {self.search.method} {said} search.samples")
        return self

    @property
    def adaptive(self) -> bool:
        """Whether earlier trials decide about later ones."""
        return self.search.method == "optuna" or self.stopping.scheduler != "none"


def read_sweep_file(path: Path, changes: Mapping[str, Any] | None = None) -> SweepFile:
    """Returns the checked content of a sweep file.

    Args:
        path: of the file.
        changes: values over the file's; those of a part, such as resources, over single values of it.

    Raises:
        InputError: all its faults, one a line.
    """
    content: dict[str, Any] = {"name": path.stem, **_read(path)}
    for key, value in (changes or {}).items():
        if not isinstance(value, Mapping):
            content[key] = value
        elif isinstance(content.setdefault(key, {}), dict):  # or the file's value is a fault, told below
            content[key] = {**content[key], **value}
    for key in ("config", "plugins"):
        if isinstance(content.get(key), str):
            content[key] = [content[key]]
    try:
        return SweepFile.model_validate(content)
    except pydantic.ValidationError as error:
        raise InputError("\n".join(f"{path}: {fault}" for fault in _faults(error))) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=YamlLoader)  # a SafeLoader
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a sweep file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise InputError(f"{path}, line {line}: not YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys, such as models and space")
    return content


def _faults(error: pydantic.ValidationError) -> Iterable[str]:
    """Yields a sentence for each fault."""
    for problem in error.errors():
        place = [str(part) for part in problem["loc"]]
        where = ".".join(place)
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(place[-1], _keys_at(place[:-1]), n=1, cutoff=0.6)
            yield f"unknown key {where!r}; " + (
                f"did you mean {near[0]}?" if near else f"expected one of {', '.join(_keys_at(place[:-1]))}"
            )
        elif problem["type"] == "missing":
            yield f"{where} is missing"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            yield f"{where}: {message[0].lower()}{message[1:]}" if where else message


def _keys_at(place: list[str]) -> list[str]:
    """Returns the keys that a sweep file may have at a place."""
    kind: Any = SweepFile
    for part in place:
        if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
            kind = kind.model_fields[part].annotation
        elif typing.get_origin(kind) is dict:
            kind = typing.get_args(kind)[1]
        if isinstance(kind, types.GenericAlias) and typing.get_origin(kind) is Annotated:
            kind = typing.get_args(kind)[0]
    return sorted(kind.model_fields) if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel) else []
