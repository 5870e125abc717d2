"""Settings of how data are read, beside RecBole's."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from mos_recbole.specs import Setting, Text


def _as_columns(value: Any) -> Any:
    """Returns "user=a,item=b,time=c" as a mapping."""
    if isinstance(value, str):
        parts = [part.partition("=") for part in value.split(",")]
        value = {kind.strip(): column.strip() for kind, _, column in parts}
    if isinstance(value, Mapping) and not value.keys() <= {"user", "item", "time"}:
        raise ValueError("expected user=...,item=...,time=..., with columns of the file")
    return value


Columns = Annotated[dict[Literal["user", "item", "time"], Text], BeforeValidator(_as_columns)]

DATA_SETTINGS = (
    Setting(
        "columns",
        Columns | None,
        None,
        "Columns of a .csv, .tsv or .parquet file: user=...,item=...,time=...; without a time, the order of the file.",
        recent=True,
    ),
    Setting(
        "skip_bad_lines",
        bool,
        False,
        "Whether lines that are not as they should be are left out and counted.",
        recent=True,
    ),
)
