"""What the package needs installed, by its own metadata, and the commands that install it."""

import importlib.util
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement

RECBOLE = "recbole==1.2.1"
"""Not among the dependencies: its metadata caps Ray at 2.6.3, which no longer imports, and brings it along."""
_RECBOLE = Requirement(RECBOLE).name
# What developers need is none of a user's business.
_NOT_SHOWN = ("dev", "docs")


@dataclass(frozen=True)
class Package:
    """A package that is needed.

    Attributes:
        requirement: its name and versions, as pip takes them.
        extra: of this package, that needs it; None where everything does.
        installed: its version; None where there is none.
    """

    requirement: Requirement
    extra: str | None
    installed: str | None

    @property
    def fits(self) -> bool:
        """Whether it is installed, in a version that is asked for."""
        return self.installed is not None and self.requirement.specifier.contains(self.installed, prereleases=True)


def needed_packages() -> list[Package]:
    """Returns RecBole, the package's dependencies and those of its extras, as far as they are for this machine."""
    found = [Requirement(RECBOLE)]
    extras: list[str | None] = [None]
    try:
        declared = metadata.metadata("mos_recbole")
    except metadata.PackageNotFoundError:  # a folder with the source on Python's path
        declared = None
    if declared is not None:
        found += [Requirement(text) for text in declared.get_all("Requires-Dist") or ()]
        extras += [extra for extra in declared.get_all("Provides-Extra") or () if extra not in _NOT_SHOWN]
    needed: dict[tuple[str, str | None], Package] = {}
    for requirement in found:
        for extra in extras:
            # A dependency of everything is one of every extra too, where it is left out.
            asked = requirement.marker is None or requirement.marker.evaluate({"extra": extra or ""})
            if asked and (requirement.name, None) not in needed:
                package = Package(requirement, extra, _installed(requirement.name))
                needed.setdefault((requirement.name, extra), package)
    return list(needed.values())


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def install_commands(packages: Iterable[Package]) -> list[str]:
    """Returns the commands that install packages in this environment; RecBole has one of its own."""
    asked = [one.requirement for one in packages]
    others = [f"{one.name}{_extras(one)}{one.specifier}" for one in asked if one.name != _RECBOLE]
    return [*([_install(others)] if others else []), *([recbole_command()] if len(others) < len(asked) else [])]


def recbole_command() -> str:
    """Returns the command that installs RecBole in this environment."""
    return _install(["--no-deps", RECBOLE])


def _extras(requirement: Requirement) -> str:
    return f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""


def _install(arguments: Iterable[str]) -> str:
    pip = [sys.executable, "-m", "pip", "install"]
    if importlib.util.find_spec("pip") is None:  # as in environments that uv makes
        pip = ["uv", "pip", "install", "--python", sys.executable]
    return shlex.join([*pip, *arguments])
