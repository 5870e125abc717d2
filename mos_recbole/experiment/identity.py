"""What a run is known by: its id, its folder's name, and the versions of everything that can change its numbers."""

import importlib.metadata
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from mos_recbole import __version__
from mos_recbole.data import SequenceDataset, interactions_fingerprint
from mos_recbole.evaluation import EvaluationProtocol
from mos_recbole.experiment.source_hash import source_hash
from mos_recbole.results import run_identity
from mos_recbole.settings import Settings

_ROOT = Path(__file__).parent.parent


def run_name(settings: Settings, fingerprint: str, device_type: str) -> str:
    """Returns the name of a run's folder, which ends with the run id.

    Args:
        settings: of the run.
        fingerprint: of the prepared data (`data_facts`).
        device_type: "cpu" or "cuda".
    """
    # What decides how numbers are rounded, the number of threads apart.
    rounding = {"device": device_type} | {name: versions()[name] for name in ("torch", "recbole", "numpy")}
    run_id = run_identity(settings.identity(), fingerprint, code_version(), rounding)
    return f"{settings.model}-{settings.dataset}-seed{settings.values['seed']}-{run_id}"


@dataclass(frozen=True)
class DataFacts:
    """What of its data decides about a run's id and protocol.

    Attributes:
        fingerprint: SHA-256 of the prepared data.
        has_repeats: whether a user has an item more than once; False where the settings do not ask.
    """

    fingerprint: str
    has_repeats: bool


def data_facts(settings: Settings) -> DataFacts:
    """Returns the facts of the data that a run would learn from; prepares them where that was not done before.

    Raises:
        InputError: the data cannot be read, or the split leaves a side empty.
    """
    data = SequenceDataset(settings.recbole_config(torch.device("cpu")))
    data.split()
    return facts_of(settings, data)


def facts_of(settings: Settings, dataset: SequenceDataset) -> DataFacts:
    """Returns the facts of data that have been split."""
    asked = settings.values["filter_seen"] == "auto"
    return DataFacts(dataset.fingerprint(), asked and dataset.sequences.have_repeats())


def protocol_hash(protocol: EvaluationProtocol, fingerprint: str) -> str:
    """Returns what is equal for runs whose numbers may be compared."""
    return protocol.hash(interactions_fingerprint(fingerprint))


@cache
def versions() -> dict[str, str]:
    """Returns the versions of Python, this package and those that compute with it, by name."""
    packages = ("torch", "recbole", "numpy", "pandas", "scipy")
    return {"python": platform.python_version(), "mos_recbole": __version__} | {
        package: importlib.metadata.version(package) for package in packages
    }


def code_version() -> str:
    """Returns the package's version with a hash of the source that can change numbers."""
    return f"{__version__}+{source_hash(_ROOT)[:12]}"


@cache
def git_commit() -> str | None:
    """Returns the commit of the package's source, with "+changes" where it had some; None outside of git."""

    def git(*arguments: str) -> str:
        run = subprocess.run(["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, check=True)
        return run.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # or it is somebody else's repository
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", str(_ROOT)) else "")
    except (OSError, subprocess.CalledProcessError):
        return None
