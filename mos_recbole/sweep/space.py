"""The space of a sweep: its parameters, the values each may take, and the conditions under which a trial has them."""

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated, Any

import numpy as np
import pydantic
from pydantic import Field

Scalar = bool | int | float | str | None
Bounds = Annotated[list[float], Field(min_length=2, max_length=2)]
WholeBounds = Annotated[list[int], Field(min_length=2, max_length=2)]


class Parameter(pydantic.BaseModel):
    """One swept parameter: one way of saying which values it may take, and when it is there at all.

    Attributes:
        grid: every one of these values.
        choice: one of these values, each as likely.
        uniform, loguniform: [low, high], a number between them; its logarithm is what is uniform for the latter.
        randint: [low, high], a whole number, high left out (as in Ray Tune).
        same_as: the value of an earlier parameter, such as hidden_size of embedding_size.
        when: values, one or a list, that `model`, `dataset` or earlier parameters must have. A trial whose model has no
            such setting never has the parameter.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)

    grid: Annotated[list[Any], Field(min_length=1)] | None = None
    choice: Annotated[list[Any], Field(min_length=1)] | None = None
    uniform: Bounds | None = None
    loguniform: Bounds | None = None
    randint: WholeBounds | None = None
    same_as: str | None = None
    when: dict[str, Scalar | list[Scalar]] = {}

    @pydantic.field_validator("uniform", "loguniform", mode="before")
    @classmethod
    def _as_numbers(cls, bounds: Any) -> Any:
        # YAML reads 1 as a whole number, which strict floats refuse.
        if isinstance(bounds, list):
            return [float(bound) if type(bound) is int else bound for bound in bounds]
        return bounds

    @pydantic.model_validator(mode="after")
    def _one_kind(self) -> "Parameter":
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(f"expected one of {', '.join(KINDS)}, found {' and '.join(kinds) or 'none'}")
        values = getattr(self, kinds[0])
        if kinds[0] == "same_as":
            return self
        if kinds[0] in ("grid", "choice"):
            twice = [value for number, value in enumerate(values) if value in values[:number]]
            if twice:
                raise ValueError(f"{kinds[0]} lists {twice[0]!r} twice")
        elif not (all(math.isfinite(bound) for bound in values) and values[0] < values[1]):
            raise ValueError(f"{kinds[0]} is {values}; expected two numbers, the lower one first")
        elif kinds[0] == "loguniform" and values[0] <= 0:
            raise ValueError(f"loguniform is {values}; expected positive numbers")
        return self

    @property
    def kind(self) -> str:
        """The one of `KINDS` that is set."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def values(self) -> list[Any]:
        """The list behind the kind: of values, or of the two bounds; empty for `same_as`."""
        return [] if self.kind == "same_as" else getattr(self, self.kind)

    def holds(self, facts: Mapping[str, Any]) -> bool:
        """Returns whether the condition holds for a trial with these values so far."""
        return all(
            key in facts and facts[key] in (wanted if isinstance(wanted, list) else [wanted])
            for key, wanted in self.when.items()
        )


KINDS = ("grid", "choice", "uniform", "loguniform", "randint", "same_as")
Space = Mapping[str, Parameter]


def walk(
    space: Space, model: str, dataset: str, known: Collection[str], pick: Callable[[str, Parameter], Any]
) -> dict[str, Any]:
    """Returns the parameters of one trial, in the order of the space.

    Args:
        space: of the sweep.
        model, dataset: of the trial.
        known: the settings that the model has.
        pick: returns the value of a parameter that the trial has.
    """
    chosen: dict[str, Any] = {}
    for key, parameter in space.items():
        if key in known and parameter.holds({"model": model, "dataset": dataset, **chosen}):
            if parameter.same_as is None:
                chosen[key] = pick(key, parameter)
            elif parameter.same_as in chosen:
                chosen[key] = chosen[parameter.same_as]
    return chosen


def expand_grid(space: Space, model: str, dataset: str, known: Collection[str]) -> list[dict[str, Any]]:
    """Returns every combination of a space of grids, the last parameter fastest; arguments as of `walk`."""
    found: list[dict[str, Any]] = []
    # Positions in the grids met on the way, counted up like the digits of a number: conditions decide which are met.
    path: list[list[int]] = []
    while True:
        met = iter(range(len(space)))

        def pick(_: str, parameter: Parameter, met: Iterator[int] = met) -> Any:
            place = next(met)
            if place == len(path):
                path.append([0, len(parameter.values)])
            return parameter.values[path[place][0]]

        found.append(walk(space, model, dataset, known, pick))
        while path and path[-1][0] + 1 == path[-1][1]:
            path.pop()
        if not path:
            return found
        path[-1][0] += 1


def draw(
    space: Space, model: str, dataset: str, known: Collection[str], samples: int, seed: int
) -> list[dict[str, Any]]:
    """Returns as many different combinations as asked for, drawn at random; fewer where the space has not as many.

    The same arguments give the same combinations; a model's are drawn apart from another's.
    """
    generator = np.random.default_rng([seed, *f"{model}/{dataset}".encode()])

    def pick(_: str, parameter: Parameter) -> Any:
        values = parameter.values
        if parameter.kind == "choice":
            return values[int(generator.integers(len(values)))]
        if parameter.kind == "randint":
            return int(generator.integers(values[0], values[1]))
        if parameter.kind == "uniform":
            return float(generator.uniform(values[0], values[1]))
        return float(math.exp(generator.uniform(math.log(values[0]), math.log(values[1]))))

    drawn: list[dict[str, Any]] = []
    # A small space of choices runs out; this many misses in a row mean that it has, for all practical purposes.
    misses = itertools.count()
    while len(drawn) < samples:
        chosen = walk(space, model, dataset, known, pick)
        if chosen not in drawn:
            drawn.append(chosen)
        elif next(misses) > 100 * samples:
            break
    return drawn
