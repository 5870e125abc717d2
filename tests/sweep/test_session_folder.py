"""The folder of Ray's session: short, private, removed."""

import stat
import tempfile
from pathlib import Path

import pytest

from mos_recbole.sweep import session_folder as module
from mos_recbole.sweep.session_folder import session_folder
from tests.sweeps import refused

SOCKET = "session_2026-11-28_23-59-59_999999_4194304/sockets/plasma_store"


@pytest.fixture
def long_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files with a path of 98 characters or more."""
    folder = tmp_path / ("t" * max(1, 97 - len(str(tmp_path))))
    folder.mkdir()
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_long_folder_for_temporary_files_is_not_used(long_folder: Path) -> None:
    """Another one is, which fits a socket, belongs to this user alone and is gone afterwards, with what is in it."""
    with session_folder() as folder:
        assert len(f"{folder}/{SOCKET}") <= 107
        private = Path(folder).parent
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        (Path(folder) / "logs").mkdir(parents=True)
        (Path(folder) / "logs" / "raylet.out").write_text("started\n")
    assert not private.exists()
    assert not list(long_folder.iterdir())


def test_the_users_folder_is_used_where_it_is_short(monkeypatch: pytest.MonkeyPatch, long_folder: Path) -> None:
    """RAY_TMPDIR goes before TMPDIR."""
    with tempfile.TemporaryDirectory(dir="/tmp") as wanted:
        monkeypatch.setenv("RAY_TMPDIR", wanted)
        with session_folder() as folder:
            assert Path(folder).parents[1] == Path(wanted)


@pytest.mark.parametrize("trouble", ["too long", "not writable"])
def test_no_folder_is_short_enough(trouble: str, monkeypatch: pytest.MonkeyPatch, long_folder: Path) -> None:
    """One sentence that says how long it may be and how to name one."""
    if trouble == "too long":
        monkeypatch.setattr(module, "_LONGEST_PLACE", 1)
    else:
        monkeypatch.setattr(tempfile, "mkdtemp", lambda *_: (_ for _ in ()).throw(PermissionError()))
    message = refused(lambda: session_folder().__enter__())
    assert str(long_folder) in message
    assert "RAY_TMPDIR" in message
    assert "bytes" in message
