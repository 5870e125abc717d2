"""Storages: interrupted copies are not seen."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from mos_recbole.errors import InputError
from mos_recbole.sweep.storage import Storage
from mos_recbole.sweep.trial import private_folder
from tests.sweeps import names_in, refused

FILES = ("best.pt", "last.pt", "training_log.csv", "outcomes.parquet", "items.parquet", "record.json")


def a_run(folder: Path) -> Path:
    """Returns the folder of a run with files."""
    run = folder / "runs" / "GRU4Rec-toy-seed1-0123456789abcdef"
    run.mkdir(parents=True)
    for name in FILES:
        (run / name).write_text(f"content of {name}")
    return run


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_runs_come_back_from_a_storage(scheme: str, tmp_path: Path) -> None:
    """A path or a URI; with checkpoints or without; nothing else is left there."""
    run = a_run(tmp_path / "there")
    storage = Storage(f"{scheme}{tmp_path}/kept", "small")
    storage.push(run)
    assert names_in(tmp_path / "kept" / "small" / run.name) == set(FILES)
    assert names_in(tmp_path / "kept" / "small") == {run.name}
    other = Storage(f"{scheme}{tmp_path}/kept", "small")
    other.fetch(tmp_path / "here" / run.name, checkpoints=True)
    assert {name: (tmp_path / "here" / run.name / name).read_text() for name in FILES} == {
        name: f"content of {name}" for name in FILES
    }
    other.fetch(tmp_path / "results" / run.name, checkpoints=False)
    assert names_in(tmp_path / "results" / run.name) == set(FILES[2:])


def test_what_is_not_in_a_storage_leaves_nothing(tmp_path: Path) -> None:
    """Not even a folder, by which the results folder would be taken for another's."""
    Storage(str(tmp_path / "kept"), "small").fetch(tmp_path / "results" / "runs" / "none", checkpoints=True)
    assert not (tmp_path / "results").exists()


def test_only_what_is_new_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After every epoch a run's folder is pushed; what has not changed is not sent again."""
    copied: list[str] = []
    copy = fs.copy_files

    def counting(source: str, *rest: Any) -> None:
        copied.append(Path(source).name)
        copy(source, *rest)

    monkeypatch.setattr(fs, "copy_files", counting)
    run = a_run(tmp_path)
    storage = Storage(str(tmp_path / "kept"), "small")
    storage.push(run)
    assert copied == list(FILES)
    storage.push(run)
    assert copied == list(FILES)
    (run / "last.pt").write_text("the next epoch")
    storage.push(run)
    assert copied == [*FILES, "last.pt"]
    assert (tmp_path / "kept" / "small" / run.name / "last.pt").read_text() == "the next epoch"


@pytest.mark.parametrize("broken", FILES)
def test_a_copy_that_was_cut_short_is_not_seen(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is a run that was cut short itself: no record without all that belongs to it."""
    copy = fs.copy_files

    def dying(source: str, target: str, *rest: Any) -> None:
        if Path(source).name == broken:
            Path(target).write_text(Path(source).read_text()[:5])
            raise KeyboardInterrupt
        copy(source, target, *rest)

    run = a_run(tmp_path)
    storage = Storage(str(tmp_path / "kept"), "small")
    with monkeypatch.context() as patch:
        patch.setattr(fs, "copy_files", dying)
        with pytest.raises(KeyboardInterrupt):
            storage.push(run)
    there = tmp_path / "fetched" / run.name
    Storage(str(tmp_path / "kept"), "small").fetch(there, checkpoints=True)
    complete = FILES[: FILES.index(broken)]
    assert (names_in(there) if there.exists() else set()) == set(complete)
    assert all((there / name).read_text() == f"content of {name}" for name in complete)
    storage.push(run)
    Storage(str(tmp_path / "kept"), "small").fetch(there, checkpoints=True)
    assert names_in(there) == set(FILES)


def test_a_fetch_that_was_cut_short_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half record would be a broken one."""
    run = a_run(tmp_path)
    storage = Storage(str(tmp_path / "kept"), "small")
    storage.push(run)

    def dying(source: str, target: str, *rest: Any) -> None:
        Path(target).write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fs, "copy_files", dying)
        with pytest.raises(KeyboardInterrupt):
            storage.fetch(tmp_path / "here" / run.name, checkpoints=True)
    assert not any((tmp_path / "here" / run.name / name).exists() for name in FILES)


def test_storages_that_are_refused(tmp_path: Path) -> None:
    """An unknown scheme, and places that cannot be written to."""
    (tmp_path / "file").write_text("precious")
    places = ("gopher://somewhere", str(tmp_path / "file"), f"file://{tmp_path}/file/below")
    for place in places:
        message = refused(lambda place=place: Storage(place, "small").require_writable())  # type: ignore[misc]
        assert f"storage {place}: " in message
        assert "expected a folder or URI" in message
        assert len(message.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "precious"


def test_scratch_folders_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody else put in their place is not used; an open one of ours is closed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "open").mkdir(mode=0o777)
    for name in ("new", "open"):
        assert private_folder(name).stat().st_mode & 0o777 == 0o700
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(InputError, match="belongs to somebody else"):
            private_folder(name)
