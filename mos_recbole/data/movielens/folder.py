"""MovieLens as GroupLens publishes it: its releases, how they are checked, and a data set's folder made of one."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock

from mos_recbole.data.movielens.archive import open_archive
from mos_recbole.data.movielens.dat import DAT_FILE, dat_blocks
from mos_recbole.data.movielens.download import download as download_file
from mos_recbole.data.movielens.releases import RELEASES, Release, check_archive, check_file
from mos_recbole.data.reading import RATINGS_FILE, is_table
from mos_recbole.errors import InputError, nearest
from mos_recbole.io import atomic_folder, os_errors_as_input_errors, write_blocks

_log = logging.getLogger(__name__)

BASE_URL = "https://files.grouplens.org/datasets/movielens"


@dataclass(frozen=True)
class DataFile:
    """A data set's file of interactions.

    Attributes:
        path: of the file.
        check: how it was checked against what GroupLens publishes, in a few words; None where it is not MovieLens.
    """

    path: Path
    check: str | None


def obtain(
    folder: Path, *, archive: Path | None = None, download: bool = False, allow_modified: bool = False
) -> DataFile:
    """Returns the file of interactions in a data set's folder, checked; the folder is made where it is asked for.

    A `ratings.dat` that is alone in the folder is converted to `<name>.inter`. What is there is never written over, and
    what is made is put in its place whole.

    Args:
        folder: of the data set, which is named as it is; or a file of interactions, which is taken as it is.
        archive: of the release of MovieLens that has the folder's name.
        download: whether to fetch that archive, to `<folder>.zip`, where there is neither it nor the folder.
        allow_modified: whether data that are not as published are taken.

    Raises:
        InputError: no data, a broken archive or file, data that are not as published, a folder with other data than
            the archive's, a download that failed, or a place that cannot be written to.
    """
    if is_table(folder):
        return DataFile(folder, None)
    release = RELEASES.get(folder.name)
    expected = "files that can be read, and a place for the data that can be written to and has room"
    with os_errors_as_input_errors(folder, expected):
        if archive is not None or download:
            if release is None:
                raise _no_release(folder)
            with _only_here(folder):
                return _from_archive(folder, archive, release, allow_modified)
        found = _file_in(folder)
        if found is None:
            raise _missing(folder)
        return DataFile(found, check_file(found, str(found), release, allow_modified))


def _from_archive(folder: Path, archive: Path | None, release: Release, allow_modified: bool) -> DataFile:
    """Returns the file of interactions that an archive has, downloaded if it is None, in the folder of its release."""
    found, hint = _file_in(folder), ""
    if archive is None:
        if found is not None:
            return DataFile(found, check_file(found, str(found), release, allow_modified))
        archive = _downloaded(folder)
        hint = f"; or delete {archive} to have it downloaded again"
    with open_archive(archive) as opened:
        check = check_archive(archive, release, allow_modified, hint)
        if found is not None:
            if not opened.is_content_of(found):
                raise InputError(f"{found}: other data than in {archive}; left as it is, move it away first")
            return DataFile(found, check or check_file(found, str(found), release, allow_modified))
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder}: has files but no interactions; expected no folder, or an empty one")
        name = opened.file_name(folder.name)
        with atomic_folder(folder, folder.with_name(f".{folder.name}.unfinished")) as unfinished:
            opened.extract(unfinished / name)
            check = check or check_file(unfinished / name, opened.place, release, allow_modified)
        return DataFile(folder / name, check)


@contextmanager
def _only_here(folder: Path) -> Iterator[None]:
    """Keeps other processes from making the folder.

    Raises:
        InputError: another process is making it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder.with_name(f".{folder.name}.lock")).acquire(blocking=False):
            yield
    except filelock.Timeout:
        raise InputError(f"{folder}: another process is making it") from None


def _file_in(folder: Path) -> Path | None:
    """Returns the file that a data set's folder is read from, converted where it has to be; None where it has none."""
    atomic, ratings, dat = folder / f"{folder.name}.inter", folder / RATINGS_FILE, folder / DAT_FILE
    if not atomic.exists() and not ratings.exists() and dat.exists():
        with dat.open("rb") as stream:
            write_blocks(atomic, dat_blocks(stream, str(dat)))
        _log.info(f"{dat}: converted to {atomic.name} beside it")
    # In the order in which `LogFile.find` looks.
    return next((path for path in (atomic, ratings) if path.exists()), None)


def _downloaded(folder: Path) -> Path:
    """Returns the archive of a folder's release, which is fetched if it is not there."""
    archive = folder.with_name(f"{folder.name}.zip")
    if archive.exists():
        _log.info(f"{archive} is there already, not downloaded again")
    else:
        url = f"{BASE_URL}/{archive.name}"
        _log.info(f"downloading {url}; by this you agree to GroupLens's terms, in the README that comes with it")
        download_file(url, archive)
    return archive


def _missing(folder: Path) -> InputError:
    """Returns the error that says how a data set can be had."""
    name = folder.name
    if folder.is_dir():
        return InputError(f"{folder}: no file of interactions; expected {name}.inter, {RATINGS_FILE} or {DAT_FILE}")
    if name in RELEASES:
        archive = folder.with_name(f"{name}.zip")
        return InputError(
            f"no folder {folder}; --download fetches {name} from GroupLens (whose terms you then agree to), "
            f"--zip {archive if archive.is_file() else 'FILE'} takes an archive that is there"
        )
    beside = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    known = [*RELEASES, *(other for other in beside if not other.startswith("."))]
    return InputError(f"unknown data set {name!r}: no folder {folder}; {_nearest(name, known)}")


def _no_release(folder: Path) -> InputError:
    """Returns the error that says which data sets are made from archives."""
    found = f"{folder} is there already" if folder.is_dir() else _nearest(folder.name, RELEASES)
    return InputError(f"--zip and --download are for MovieLens' {', '.join(RELEASES)}; {folder.name!r}: {found}")


def _nearest(name: str, known: Iterable[str]) -> str:
    return nearest(name, known) or f"no similar one (of MovieLens: {', '.join(RELEASES)})"
