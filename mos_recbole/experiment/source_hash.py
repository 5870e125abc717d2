"""A hash of the code that can change a run's numbers: all that runs import, without comments and docstrings."""

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

import yaml

_PACKAGE = __name__.partition(".")[0]
# Runs that are trained as one have the ids of the same runs alone.
_STARTS = (f"{_PACKAGE}.experiment.run", f"{_PACKAGE}.experiment.fused")
# Reached by runs, but they only write down final numbers, draw, or say what to install.
_WITHOUT_NUMBERS = tuple(f"{_PACKAGE}.{room}." for room in ("results", "progress", "installation"))


@cache
def source_hash(root: Path) -> str:
    """Returns the SHA-256 of the modules that a run imports, and of the YAML files of their rooms.

    Modules count by their syntax tree, so that comments, docstrings and layout do not; YAML files by what they hold.

    Args:
        root: the package's folder.
    """
    modules = imported_modules(root)
    rooms = {module.split(".")[1] for module in modules} | {"properties"}
    digest = hashlib.sha256()
    for module, tree in sorted(modules.items()):
        digest.update(f"{module}\0{ast.unparse(_without_docstrings(tree))}\0".encode())
    for path in sorted(root.rglob("*.yaml")):
        name = path.relative_to(root)
        if name.parts[0] in rooms:
            content = json.dumps(yaml.safe_load(path.read_bytes()), sort_keys=True, default=str)
            digest.update(f"{name.as_posix()}\0{content}\0".encode())
    return digest.hexdigest()


def imported_modules(root: Path) -> dict[str, ast.Module]:
    """Returns the syntax trees of the package's modules that a run imports, directly or not, by their names.

    A name that comes from a package's `__init__` leads to the module that defines it; what else the `__init__` imports
    does not count. Nor do results, which are written down when numbers are final, progress bars, and what to install.
    """
    source = _Source(root)
    found: dict[str, ast.Module] = {}
    waiting = list(_STARTS)
    while waiting:
        module = waiting.pop()
        if module not in found and not f"{module}.".startswith(_WITHOUT_NUMBERS):
            found[module] = source.tree(module)
            waiting += source.imports(module)
    return found


class _Source:
    """The package's source files by the names of their modules."""

    def __init__(self, root: Path) -> None:
        self._paths = {_module(path.relative_to(root)): path for path in root.rglob("*.py")}
        self._trees: dict[str, ast.Module] = {}

    def path(self, module: str) -> Path | None:
        """Returns a module's file; None where there is no such module in the package."""
        return self._paths.get(module)

    def tree(self, module: str) -> ast.Module:
        """Returns a module's syntax tree."""
        if module not in self._trees:
            path = self.path(module)
            assert path is not None, module
            self._trees[module] = ast.parse(path.read_bytes())
        return self._trees[module]

    def imports(self, module: str) -> Iterator[str]:
        """Yields the modules that a module imports, at its top or within its functions.

        An `__init__` counts if it defines names itself. It may look for modules in its folder, so these count too.
        """
        path = self.path(module)
        if path is not None and path.name == "__init__.py":
            yield from (f"{module}.{name}" for name in self._submodules(path.parent))
        for node in _statements(self.tree(module)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if self.path(alias.name) is not None)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(module, node)
                if self.path(base) is not None:
                    yield from filter(None, (self._defining(base, alias.name) for alias in node.names))

    @staticmethod
    def _submodules(folder: Path) -> Iterator[str]:
        for path in sorted(folder.iterdir()):
            if (path.suffix == ".py" and path.name != "__init__.py") or (path / "__init__.py").is_file():
                yield path.stem

    def _base(self, module: str, node: ast.ImportFrom) -> str:
        """Returns the absolute name of the module that names are imported from."""
        path = self.path(module)
        assert path is not None, module
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        return resolve_name("." * node.level + (node.module or ""), package)

    def _defining(self, module: str, name: str) -> str | None:
        """Returns the module that defines a name, which may be a module itself; None for the package's own names."""
        if self.path(f"{module}.{name}") is not None:
            return f"{module}.{name}"
        if module == _PACKAGE:  # its version, which stands beside the hash; its other names are for users
            return None
        for node in self.tree(module).body:
            if isinstance(node, ast.ImportFrom) and self.path(base := self._base(module, node)) is not None:
                for alias in node.names:
                    if name == (alias.asname or alias.name):
                        return self._defining(base, alias.name)
        return module


def _module(path: Path) -> str:
    """Returns the name of the module of a file, whose path is relative to the package's folder."""
    parts = path.parent.parts if path.name == "__init__.py" else path.with_suffix("").parts
    return ".".join((_PACKAGE, *parts))


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yields the statements within a node, at any depth: a hundredth of the time of `ast.walk`."""
    for part in ("body", "orelse", "finalbody", "handlers", "cases"):
        for statement in getattr(node, part, ()):
            yield statement
            yield from _statements(statement)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """Returns the tree, from which docstrings are removed."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in [tree, *_statements(tree)]:
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return tree
