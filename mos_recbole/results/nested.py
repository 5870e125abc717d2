"""The types of what is nested in the record of a run."""

from typing import Annotated, Any, Literal

import pydantic


class _Nested(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", strict=True)


class _Split(_Nested):
    name: str


class _Protocol(_Nested):
    split: _Split
    filter_seen: bool
    tie_rule: Literal["mean", "optimistic", "pessimistic"]
    candidates: Literal["all", "trained"] = "all"


class _Settings(_Nested):
    """The settings that results are chosen, ordered and drawn by; the others are checked where a run is loaded."""

    embedding_size: pydantic.PositiveInt | None = None
    hidden_size: pydantic.PositiveInt | None = None
    mos_heads: pydantic.PositiveInt | None = None
    doc_heads: list[int] = []
    tail_ratio: float | None = None


class _Data(_Nested):
    fingerprint: str = ""
    users: pydantic.NonNegativeInt = 0
    items: pydantic.NonNegativeInt = 0
    interactions: pydantic.NonNegativeInt = 0
    tied_share: float = 0.0


def _checked(kind: type[_Nested]) -> pydantic.AfterValidator:
    """Returns what checks a dictionary as a type says, and leaves it as it is."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        try:
            kind.model_validate(value)
        except pydantic.ValidationError as error:
            fault = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None
        return value

    return pydantic.AfterValidator(check)


ProtocolDict = Annotated[dict[str, Any], _checked(_Protocol)]
SettingsDict = Annotated[dict[str, Any], _checked(_Settings)]
DataDict = Annotated[dict[str, Any], _checked(_Data)]
