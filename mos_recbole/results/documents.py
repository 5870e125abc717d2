"""JSON files of results: typed, written with their checksum, read back checked; and other files of results, checked."""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

import pydantic
from pydantic_core import ErrorDetails

from mos_recbole.errors import InputError
from mos_recbole.io import RUN_AGAIN, atomic_write, damaged, file_sha256, require_regular, say_unsealed

_log = logging.getLogger(__name__)

_SEAL = re.compile(rb'\{\s*"sha256": "([0-9a-f]{64})",')
_LARGEST = 64 << 20


class Document(pydantic.BaseModel):
    """What a JSON file of results holds. The file's first field is the checksum of what follows it.

    Attributes:
        schema_version: of the file. Files of newer versions are read too, without the fields that are unknown here.
        SEALED_SINCE: the first version that has the checksum.
        INSTEAD: of a copy of a damaged file, this helps.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    SEALED_SINCE: ClassVar[int] = 2
    INSTEAD: ClassVar[str] = RUN_AGAIN

    schema_version: int = pydantic.Field(default=2, ge=1)


_Content = TypeVar("_Content", bound=Document)
_Read = TypeVar("_Read")

# What was reported of files of other versions, so that a folder of them gives one warning.
_reported: set[str] = set()


def read_document(path: Path, kind: type[_Content], expected: str) -> _Content:
    """Returns what a file holds. Of a newer version it leaves out the fields that are unknown here, with a warning.

    Raises:
        InputError: the file is missing, damaged or broken.
    """
    text, sealed = _unsealed(path, kind, expected)
    unknown: list[tuple[int | str, ...]] = []
    try:
        document = kind.model_validate_json(text)
    except pydantic.ValidationError as error:
        for fault in error.errors():
            if fault["type"] != "extra_forbidden":
                raise _not_as_expected(path, kind, expected, fault) from error
            unknown.append(fault["loc"])
        try:
            document = kind.model_validate_json(_without(text, unknown))
        except pydantic.ValidationError as other:  # what is checked of all fields together
            raise _not_as_expected(path, kind, expected, other.errors()[0]) from other
    if not sealed:
        if document.schema_version >= kind.SEALED_SINCE:
            raise damaged(path, kind.INSTEAD)
        say_unsealed(path)
    newest = kind.model_fields["schema_version"].default
    faults = [f"schema version {document.schema_version}, newer than {newest}"] * (document.schema_version > newest)
    if unknown:
        fields = dict.fromkeys(".".join(map(str, location)) for location in unknown)
        faults.append(f"unknown fields ({', '.join(fields)}), which are ignored")
    found = f"{path.name}: {'; '.join(faults)}"
    if faults and found not in _reported:
        _reported.add(found)
        _log.warning(f"{path.parent / found}. Another version of mos_recbole wrote it; update to read all of it.")
    return document


def _not_as_expected(path: Path, kind: type[Document], expected: str, fault: ErrorDetails) -> InputError:
    where = "".join(f"{part}." for part in fault["loc"])[:-1]
    what = f"{where}: {fault['msg']}" if where else fault["msg"]
    return InputError(f"{path}: not {expected}: {what}; expected it from a copy, or {kind.INSTEAD}")


def _unsealed(path: Path, kind: type[Document], expected: str) -> tuple[bytes, bool]:
    """Returns the JSON document of a file without its checksum, and whether it had one."""
    try:
        require_regular(path)
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path}: {path.stat().st_size:,} bytes; expected {expected}, which is small")
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected {expected}") from error
    seal = _SEAL.match(text)
    if seal is None:
        return text, False
    content = text[seal.end() :]
    if hashlib.sha256(content).hexdigest().encode() != seal[1]:
        raise damaged(path, kind.INSTEAD)
    return b"{" + content, True


def _without(text: bytes, locations: Sequence[tuple[int | str, ...]]) -> str:
    """Returns a JSON document without some of its fields."""
    document = json.loads(text)
    for *parents, field in locations:
        holder = document
        for parent in parents:
            holder = holder[parent]
        del holder[field]
    return json.dumps(document)


def write_document(path: Path, content: Document) -> None:
    """Writes a document with its checksum."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(sealed(content.model_dump_json(indent=1) + "\n"))


def sealed(document: str) -> bytes:
    """Returns a JSON document with the checksum of what follows it as its first field."""
    content = document.removeprefix("{").encode()
    return b'{\n "sha256": "' + hashlib.sha256(content).hexdigest().encode() + b'",' + content


def read_checked(path: Path, read: Callable[[Path], _Read], sha256: str | None = None) -> _Read:
    """Returns what another file of results holds.

    Args:
        path: of the file.
        read: reads it; any error of it says that the file is broken.
        sha256: the checksum that the file must have; None for any.

    Raises:
        InputError: the file is missing, damaged or broken.
    """
    try:
        require_regular(path)
        if sha256 is not None and file_sha256(path) != sha256:
            raise damaged(path)
        return read(path)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; expected a file of a run") from error
    except Exception as error:  # on arbitrary bytes, PyArrow and pandas fail in arbitrary ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not as a run writes it: {reason[:200]}; expected {RUN_AGAIN}") from error
