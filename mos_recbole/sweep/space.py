"""The search space of a sweep: its parameters, their values, and the conditions under which a trial has them."""

import contextlib
import math
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any

import numpy as np
import pydantic
from pydantic import Field


def _distinct(values: list[Any]) -> list[Any]:
    for number, value in enumerate(values):
        if value in values[:number]:
            raise ValueError(f"{value!r} is listed twice")
    return values


def _ascending(bounds: list[Any]) -> list[Any]:
    if bounds[0] >= bounds[1]:
        raise ValueError(f"{bounds} are no bounds; expected the lower one first")
    return bounds


Distinct = pydantic.AfterValidator(_distinct)
Scalar = bool | int | float | str | None
_Values = Annotated[list[Any], Field(min_length=1), Distinct]
_TWO = Field(min_length=2, max_length=2)
_ASCENDING = pydantic.AfterValidator(_ascending)
_Bounds = Annotated[list[Annotated[float, Field(ge=-3e38, le=3e38, allow_inf_nan=False)]], _TWO, _ASCENDING]
_PositiveBounds = Annotated[list[Annotated[float, Field(gt=0, le=3e38, allow_inf_nan=False)]], _TWO, _ASCENDING]
_WholeBounds = Annotated[list[Annotated[int, Field(ge=-(2**31), le=2**31)]], _TWO, _ASCENDING]


MOST_TRIALS = 10_000
"""Of a sweep: more could not be checked in minutes, nor trained in days."""


class TooManyTrials(Exception):
    """A space has more combinations than `MOST_TRIALS`."""


class Parameter(pydantic.BaseModel):
    """One swept parameter: its values, of exactly one kind, and the condition under which a trial has it.

    Attributes:
        grid: every one of these values.
        choice: one of these values, all equally likely.
        uniform, loguniform: [low, high], a number between them, uniform or on a logarithmic scale.
        randint: [low, high], an integer from low to high - 1, as in Ray Tune.
        same_as: the value of an earlier parameter, for example hidden_size: {same_as: embedding_size}.
        when: required values, one or a list, of `model`, `dataset` or earlier parameters. A trial also lacks the
            parameter where its model has no such setting.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)

    grid: _Values | None = None
    choice: _Values | None = None
    uniform: _Bounds | None = None
    loguniform: _PositiveBounds | None = None
    randint: _WholeBounds | None = None
    same_as: str | None = None
    when: dict[str, Scalar | list[Scalar]] = {}

    @pydantic.model_validator(mode="after")
    def _one_kind(self) -> "Parameter":
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(f"expected one of {', '.join(KINDS)}, found {' and '.join(kinds) or 'none'}")
        return self

    @property
    def kind(self) -> str:
        """Which of `KINDS` is set."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def values(self) -> list[Any]:
        """The values or the two bounds; empty for `same_as`."""
        return [] if self.kind == "same_as" else getattr(self, self.kind)

    def holds(self, facts: Mapping[str, Any]) -> bool:
        """Returns whether `when` holds for a trial with these values so far."""
        return all(
            key in facts and facts[key] in (wanted if isinstance(wanted, list) else [wanted])
            for key, wanted in self.when.items()
        )

    def may_hold(self, facts: Mapping[str, Any]) -> bool:
        """Returns whether `when` may hold for a trial with these values and others."""
        return self.model_copy(update={"when": {key: self.when[key] for key in self.when if key in facts}}).holds(facts)


KINDS = ("grid", "choice", "uniform", "loguniform", "randint", "same_as")
Space = Mapping[str, Parameter]


def combinations(
    space: Space, model: str, dataset: str, known: Collection[str], choices: Callable[[str, Parameter], list[Any]]
) -> list[dict[str, Any]]:
    """Returns the parameters of trials, in the order of the space, the last parameter fastest.

    Args:
        space: of the sweep.
        model, dataset: of the trials.
        known: the settings that the model has.
        choices: returns the values to try for a parameter; called once for each combination of the earlier ones.

    Raises:
        TooManyTrials: there are more combinations than a sweep can have.
    """
    found: list[dict[str, Any]] = [{}]
    for key, parameter in space.items():
        if key not in known:
            continue
        longer: list[dict[str, Any]] = []
        for chosen in found:
            if len(longer) > MOST_TRIALS:
                raise TooManyTrials
            same_as = parameter.same_as
            if not parameter.holds({"model": model, "dataset": dataset, **chosen}) or (
                same_as is not None and same_as not in chosen
            ):
                longer.append(chosen)
                continue
            values = choices(key, parameter) if same_as is None else [chosen[same_as]]
            longer += [{**chosen, key: value} for value in values]
        found = longer
    return found


def expand_grid(space: Space, model: str, dataset: str, known: Collection[str]) -> list[dict[str, Any]]:
    """Returns every combination of a space of grids; arguments as of `combinations`."""
    return combinations(space, model, dataset, known, lambda _, parameter: parameter.values)


def draw(
    space: Space, model: str, dataset: str, known: Collection[str], samples: int, seed: int
) -> list[dict[str, Any]]:
    """Returns `samples` different combinations, drawn at random; fewer where the space has fewer.

    The same arguments give the same combinations. Each model and data set has random numbers of its own.
    """
    generator = np.random.default_rng([seed, *f"{model}/{dataset}".encode()])

    def pick(_: str, parameter: Parameter) -> list[Any]:
        if parameter.kind == "choice":
            return [parameter.values[int(generator.integers(len(parameter.values)))]]
        low, high = parameter.values
        if parameter.kind == "randint":
            return [int(generator.integers(low, high))]
        if parameter.kind == "uniform":
            return [float(generator.uniform(low, high))]
        return [math.exp(generator.uniform(math.log(low), math.log(high)))]

    def listed(_: str, parameter: Parameter) -> list[Any]:
        values = parameter.values if parameter.kind == "choice" else range(*parameter.values)
        if len(values) > MOST_TRIALS:
            raise TooManyTrials
        return list(values)

    there_are = samples
    if all(parameter.kind in ("choice", "randint", "same_as") for parameter in space.values()):
        with contextlib.suppress(TooManyTrials):
            there_are = min(samples, len(combinations(space, model, dataset, known, listed)))
    drawn: list[dict[str, Any]] = []
    seen: set[str] = set()
    # So many combinations that were drawn before mean that a small space has, in practice, no other.
    repeats = 0
    while len(drawn) < there_are and repeats <= 100 * samples:
        (chosen,) = combinations(space, model, dataset, known, pick)
        if (text := repr(chosen)) in seen:
            repeats += 1
        else:
            seen.add(text)
            drawn.append(chosen)
    return drawn
