"""What a sweep file holds."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from mos_recbole.evaluation import canonical_metric, metric_direction
from mos_recbole.specs import Positive
from mos_recbole.sweep.space import Distinct, Parameter

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

# Settings that a sweep file has keys of its own for.
ELSEWHERE = {"seed": "seeds", "valid_metric": "metric", "model": "models", "dataset": "datasets"}

# Context of a validation that lets contradictions pass, so that more faults can be found.
TOLERANT = "tolerant"


def _counted_by_ray(share: float) -> float:
    if 0 < share < 0.0001:
        raise ValueError("expected 0, or 0.0001 or more, which Ray can count")
    return share


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


class Search(_Part):
    """How configurations are chosen.

    Attributes:
        method: grid (every combination), random, or optuna (Optuna's TPE, Bergstra et al., NeurIPS 2011).
        samples: number of configurations of each model on each data set, for random and optuna.
        first: "defaults" for a random search whose first configuration is what a model has without the sweep, inside
            the space or not.
        seed: of the random numbers of the search.
        further_seeds: which configurations run with the seeds after the first, all of them, or the best one of each
            model and data set on the first seed; None for best with optuna and asha, and for all otherwise.
    """

    method: Literal["grid", "random", "optuna"] = "grid"
    samples: Positive | None = None
    first: Literal["defaults"] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    further_seeds: Literal["all", "best"] | None = None


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
    reduction_factor: Annotated[int, Field(ge=2, lt=2**31)] = 3


class Resources(_Part):
    """The resources of each trial.

    Attributes:
        cpus_per_trial: cores, and PyTorch threads.
        gpus_per_trial: share of one GPU: at 0.25 four trials share it, at 0 trials run on CPUs.
        max_concurrent: maximum number of trials at a time; None for as many as fit.
        fuse: maximum number of trials of equal shape that are trained as one, with the resources of one trial.
    """

    cpus_per_trial: Positive = 1
    gpus_per_trial: Annotated[float, Field(ge=0, le=1), pydantic.AfterValidator(_counted_by_ray)] = 0.0
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
        seeds: every configuration is run with every seed, or all with the first and the best of each model and data set
            with the others: `Search.further_seeds`.
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
    retries: Annotated[int, Field(ge=0, le=1000)] = 2
    _lines: Mapping[tuple[str, ...], int] = pydantic.PrivateAttr(default_factory=dict)
    _left_out: frozenset[str] = pydantic.PrivateAttr(default=frozenset())

    @pydantic.field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        return canonical_metric(metric)

    @pydantic.model_validator(mode="after")
    def _fits_together(self, info: pydantic.ValidationInfo) -> "SweepFile":
        if info.context != TOLERANT and (faults := self.contradictions()):
            raise ValueError("\n".join(faults))
        return self

    def contradictions(self) -> list[str]:
        """Returns what no single key shows, each with its key first."""
        faults, method = [], self.search.method
        if self.mode not in (None, self.direction):
            faults.append(f"mode is {self.mode!r}, but of {self.metric} the {self.direction}imum is best")
        for key, parameter in self.space.items():
            if parameter.kind != "same_as" and (method == "grid") != (parameter.kind == "grid"):
                instead = "grid" if method == "grid" else "choice, uniform, loguniform or randint"
                faults.append(f"space.{key} is a {parameter.kind}, but search.method is {method}; expected {instead}")
            is_choice = method == "optuna" and parameter.kind == "choice"
            if is_choice and any(isinstance(value, list | dict) for value in parameter.values):
                faults.append(f"space.{key}: optuna chooses among single values only; expected text or numbers")
        if self.stopping.scheduler == "asha" and "epochs" in self.space:
            faults.append("space.epochs: stopping.scheduler asha decides how many epochs a trial gets; leave it out")
        if self.adaptive and self.resources.fuse > 1:
            chosen = "search.method optuna" if method == "optuna" else "stopping.scheduler asha"
            faults.append(
                f"resources.fuse: {chosen} starts and stops trials one by one, so they cannot be trained as one; "
                "expected search.method grid or random and stopping.scheduler none"
            )
        if self.adaptive and self.search.further_seeds == "all":
            faults.append(
                "search.further_seeds: optuna and asha compare configurations on the first seed; leave it out"
            )
        if (method == "grid") != (self.search.samples is None):
            verb, what = (
                ("needs", "write samples: 32, say")
                if self.search.samples is None
                else ("does not take", "leave it out")
            )
            faults.append(f"search.method {method} {verb} search.samples; {what}")
        if self.stopping.scheduler == "none":
            faults += [
                f"stopping.{key} goes with stopping.scheduler asha, and there is none; leave it out"
                for key in sorted(self.stopping.model_fields_set - {"scheduler"})
            ]
            if method == "grid" and "seed" in self.search.model_fields_set:
                faults.append("search.seed: a grid draws no random numbers; leave it out")
        if self.search.first is not None and method != "random":
            faults.append(f"search.first goes with search.method random, and search.method is {method}; leave it out")
        return faults

    def read_from(self, lines: Mapping[tuple[str, ...], int], left_out: Collection[str] = ()) -> "SweepFile":
        """Returns itself, knowing where its keys are and which parameters of its space were left out as faulty."""
        self._lines, self._left_out = lines, frozenset(left_out)
        return self

    def place(self, path: Path, *keys: str) -> str:
        """Returns the file, and the line of the innermost of the keys that has one."""
        return place_in(path, self._lines, keys)

    def by_option(self, key: str) -> bool:
        """Returns whether an option has taken the place of the file's value."""
        return self._lines.get((key,)) == 0

    @property
    def left_out(self) -> frozenset[str]:
        """Parameters of the file's space that are not in this one, since they are faulty."""
        return self._left_out

    @property
    def direction(self) -> Literal["max", "min"]:
        """Whether the highest or the lowest value of the metric is best."""
        return "max" if metric_direction(self.metric) == "higher" else "min"

    @property
    def adaptive(self) -> bool:
        """Whether the results of earlier trials decide about later ones."""
        return self.search.method == "optuna" or self.stopping.scheduler != "none"

    @property
    def only_best_again(self) -> bool:
        """Whether only the best configuration of each model and data set runs with the seeds after the first."""
        return self.adaptive or self.search.further_seeds == "best"


def place_in(path: Path, lines: Mapping[tuple[str, ...], int], keys: tuple[str, ...]) -> str:
    """Returns the file, and the line of the innermost of the keys that has one; line 0 is of the command line."""
    line = next((lines[keys[:depth]] for depth in range(len(keys), 0, -1) if keys[:depth] in lines), 0)
    return f"{path}, line {line}" if line else str(path)
