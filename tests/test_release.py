"""What is published: the wheel's files and metadata; and, slowly, that it installs and runs in an empty environment."""

import email
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from mos_recbole import __version__
from mos_recbole.installation import RECBOLE
from mos_recbole.results import find_records

ROOT = Path(__file__).parents[1]


def call(words: Sequence[str | Path], folder: Path, status: int = 0) -> str:
    """Returns what a command prints, in a folder, with this project on nobody's path."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        list(map(str, words)), cwd=folder, env=environment, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of the source archive, which is built of a copy of the source."""
    place = tmp_path_factory.mktemp("release")
    source = place / "source"
    shutil.copytree(ROOT / "mos_recbole", source / "mos_recbole", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
    call([sys.executable, "-c", build, "build_sdist", place], source)
    (archive,) = place.glob("*.tar.gz")
    shutil.unpack_archive(archive, place, filter="data")
    call([sys.executable, "-c", build, "build_wheel", place], place / archive.name.removesuffix(".tar.gz"))
    (found,) = place.glob("*.whl")
    return found


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    """Code, settings of RecBole's models, what a report is made of, and the mark that it is typed."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    files = (path for path in (ROOT / "mos_recbole").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert packed == {path.relative_to(ROOT).as_posix() for path in files}


def test_the_metadata_leave_recbole_to_its_own_command(wheel: Path) -> None:
    """No requirement is RecBole, whose own metadata contradict that of sweeps; what its modules import is required."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Version"] == __version__
    needed = {Requirement(text).name: Requirement(text).marker for text in metadata.get_all("Requires-Dist")}
    assert "recbole" not in needed
    always = {name for name, marker in needed.items() if marker is None}
    of_recbole = {"colorama", "colorlog", "psutil", "scikit-learn", "tensorboard", "texttable", "thop", "tqdm"}
    assert always >= {"torch", *of_recbole}


def test_recboles_version_is_the_same_everywhere() -> None:
    """Files that no code can read it from: the installation's pages, pinned packages, groups of uv, the container."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    assert groups["dev"] == [RECBOLE]
    for name in ("requirements.txt", "docs/install.md", "Containerfile"):
        assert set(re.findall(r"recbole==[\d.]+", (ROOT / name).read_text(encoding="utf-8"))) == {RECBOLE}, name


@pytest.mark.slow
@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_the_wheel_runs_in_an_empty_environment(installer: str, wheel: Path, tmp_path: Path) -> None:
    """Installed without RecBole it says the command that installs RecBole, with which it runs the main job."""
    if installer == "uv" and shutil.which("uv") is None:
        pytest.skip("needs uv")
    venv.create(tmp_path / "env", with_pip=installer == "pip")
    bin = tmp_path / "env" / "bin"
    install: list[str | Path] = [bin / "python", "-m", "pip", "install", "--quiet"]
    if installer == "uv":
        install = ["uv", "pip", "install", "--quiet", "--python", bin / "python"]
    pinned = f"torch=={torch.__version__.partition('+')[0]}"  # the build that suits this machine
    program = bin / "mos-recbole"
    run = [program, "run", "--model", "GRU4RecMoS", "--epochs=1", "--device", "cpu"]

    call([*install, pinned, wheel], tmp_path)
    assert "RecBole is not installed; expected: " in call(run, tmp_path, status=2)
    told = call([program, "doctor"], tmp_path, status=2).splitlines()
    assert told[-2] == "Missing, or of another version: recbole. To mend it:"
    call(shlex.split(told[-1]), tmp_path)
    assert "Everything that is needed is installed." in call([program, "doctor"], tmp_path)
    call(run, tmp_path)
    (record,) = find_records(tmp_path / "results")
    assert (record.model, record.epochs) == ("GRU4RecMoS", 1)

    call([*install, f"mos_recbole[report,sweep] @ {wheel.as_uri()}", pinned], tmp_path)
    assert not re.search(r"^  (report|sweep) ", call([program, "doctor"], tmp_path), re.MULTILINE)
    call([program, "report", "results", "--output", "report"], tmp_path)
    assert (tmp_path / "report" / "report.html").is_file()
    call([bin / "python", "-c", "from ray import tune; import mos_recbole.sweep"], tmp_path)

    checker = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "mypy"]
    call([*checker, "--python-executable", bin / "python", ROOT / "tests" / "typed_consumer.py"], tmp_path)
