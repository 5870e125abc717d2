"""What a setting says of itself, wherever it is declared: beside its head, its encoder, its split."""

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import Field

Spec = TypeVar("Spec")

# What tensors can be indexed by, and what a 32-bit float can hold.
_MOST, _LARGEST = 2**31 - 1, 3e38

Positive = Annotated[int, Field(ge=1, le=_MOST)]
Count = Annotated[int, Field(ge=0, le=_MOST)]
Layers = Annotated[int, Field(ge=1, le=1000)]
Rate = Annotated[float, Field(gt=0, le=_LARGEST)]
NonNegative = Annotated[float, Field(ge=0, le=_LARGEST)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Number = Annotated[int | float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class Setting:
    """A setting that users can give, by its key.

    Attributes:
        key: as in YAML files and in --key=value.
        type: as pydantic checks it, with its range.
        default: its value where none is given.
        help: what it sets, in one line.
        argument: of the constructor or function that it becomes; None for the key itself.
        recent: whether results were written before there was the setting. Identities and protocols name it only where
            it is not at its default, so that those results keep theirs.
    """

    key: str
    type: Any
    default: Any
    help: str
    argument: str | None = None
    recent: bool = False


def declared(package: str, kind: type[Spec]) -> list[Spec]:
    """Returns what a package's modules declare of a kind, alone or in tuples, in the order of the modules' names."""
    found: dict[int, Spec] = {}
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        for value in vars(importlib.import_module(f"{package}.{info.name}")).values():
            members = value if isinstance(value, tuple) else (value,)
            found |= {id(member): member for member in members if isinstance(member, kind)}
    return list(found.values())
