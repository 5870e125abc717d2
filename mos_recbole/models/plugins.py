"""Encoders and heads from a user's own file."""

import hashlib
import sys
import traceback
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

from mos_recbole.errors import InputError, told
from mos_recbole.io import require_regular
from mos_recbole.models.registry import ENCODERS, HEADS

# How the names of plugins' modules begin.
PLUGINS = "mos_recbole_plugin_"


def load_plugin(path: Path) -> None:
    """Runs a Python file that registers encoders or heads (`register_encoder`, `register_head`).

    The file's SHA-256 becomes part of the identity of the runs that use them. A file that was loaded before is not run
    again.

    Raises:
        InputError: no such file, an error in it, or nothing registered; nothing of it is then known.
    """
    path = path.expanduser().absolute()
    try:
        require_regular(path)
        source = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; expected a Python file that registers encoders or heads"
        ) from error
    origin = (path, hashlib.sha256(source).hexdigest())
    registries: tuple[dict[str, Any], ...] = (ENCODERS, HEADS)
    if any(spec.origin == origin for registry in registries for spec in registry.values()):
        return
    before = [dict(registry) for registry in registries]
    for registry in registries:
        # What the file registered before it was edited.
        for name in [name for name, spec in registry.items() if spec.origin is not None and spec.origin[0] == path]:
            del registry[name]
    kept = [set(registry) for registry in registries]
    try:
        _run(path, source)
        if kept == [set(registry) for registry in registries]:
            raise InputError(f"{path}: registers neither an encoder nor a head (docs/plugins.md has an example)")
    except InputError:
        for registry, known in zip(registries, before, strict=True):
            registry.clear()
            registry.update(known)
        raise
    for registry, names in zip(registries, kept, strict=True):
        registry |= {name: replace(spec, origin=origin) for name, spec in registry.items() if name not in names}


def _run(path: Path, source: bytes) -> None:
    name = f"{PLUGINS}{path.stem}"
    if path.suffix != ".py":
        raise InputError(f"{path}: expected a Python file, whose name ends with .py")
    module = types.ModuleType(name)
    module.__file__ = str(path)
    # As for any module, so that its classes can be found by name.
    sys.modules[name] = module
    try:
        # The source that was hashed. Python's own loader may take an older one's bytecode for it, which it tells by the
        # file's size and the second of its last change.
        exec(compile(source, path, "exec"), module.__dict__)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's code may raise anything
        line = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = [error.lineno] if isinstance(error, SyntaxError) else line
        raise InputError(f"{path}, line {line[-1] if line else '?'}: {told(error)}") from error
