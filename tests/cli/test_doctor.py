"""`mos-recbole doctor`, and what commands say where a package is missing."""

import subprocess
import sys

import pytest

from mos_recbole import cli, installation
from mos_recbole.installation import RECBOLE, needed_packages

# Makes packages look as if they were not there; the first argument names them.
WITHOUT = """
import sys
class Missing:
    names = sys.argv.pop(1).split(",")
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_everything_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    """As in the environment of these tests."""
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    for text in ("mos_recbole ", "Python ", "PyTorch ", "devices ", "threads ", "cache ", "recbole ", "ray "):
        assert f"\n{text}" in f"\n{out}"
    assert out.endswith("Everything that is needed is installed.\n")


def test_what_is_missing_and_what_mends_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A command for RecBole, one for the rest of what is needed, one for each extra; another version is told too."""
    versions = {"torch": None, "recbole": None, "pandas": "3.0", "ray": "2.6.3"}
    installed = installation._installed
    monkeypatch.setattr(installation, "_installed", lambda name: versions.get(name, installed(name)))
    assert cli.main(["doctor"]) == 2
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    torch, pandas, ray = (
        next(one.requirement for one in needed_packages() if one.requirement.name == name)
        for name in ("torch", "pandas", "ray")
    )
    pip = f"{sys.executable} -m pip install"
    assert lines[-3:] == [
        "Missing, or of another version: recbole, torch, pandas. To mend it:",
        f"{pip} '{torch}' '{pandas}'",
        f"{pip} --no-deps {RECBOLE}",
    ]
    assert f"{pip} 'ray[tune]{ray.specifier}'" in next(line for line in lines if line.startswith("sweep "))


def test_the_command_of_an_environment_without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """As uv makes them."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert installation.recbole_command() == f"uv pip install --python {sys.executable} --no-deps {RECBOLE}"


def test_doctor_works_without_pytorch_and_recbole() -> None:
    """It tells what PyTorch's import says."""
    done = python(f"{WITHOUT}\nfrom mos_recbole.cli import main\nsys.exit(main(['doctor']))", "torch,recbole,pandas")
    assert done.returncode == 2, done.stderr
    assert "cannot be loaded: No module named 'torch'" in done.stdout


def test_every_room_says_what_installs_recbole() -> None:
    """Whichever is imported first, and in the same words."""
    rooms = ("compat", "data", "models", "settings", "training", "experiment", "data.reading")
    code = f"""{WITHOUT}
import importlib
for room in {rooms}:
    try:
        importlib.import_module(f"mos_recbole.{{room}}")
    except ImportError as error:
        print(error)
"""
    done = python(code, "recbole")
    expected = f"RecBole is not installed; expected: {installation.recbole_command()}"
    assert done.stdout.splitlines() == [expected] * len(rooms), done.stderr


@pytest.mark.parametrize(
    ("package", "message"),
    [("recbole", installation.recbole_command()), ("torch", "the package torch is not installed")],
)
def test_a_command_that_cannot_run(package: str, message: str) -> None:
    """Ends with a message, and what mends it."""
    code = f"{WITHOUT}\nfrom mos_recbole.cli import main\nsys.exit(main(['run', '--model', 'Pop']))"
    done = python(code, package)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
