"""An archive of MovieLens: which of its members are taken, and as what."""

import fnmatch
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mos_recbole.data.movielens.dat import DAT_FILE, csv_blocks, dat_blocks
from mos_recbole.data.reading import RATINGS_FILE
from mos_recbole.errors import InputError
from mos_recbole.io import os_errors_as_input_errors, require_regular, write_blocks
from mos_recbole.progress import ProgressBar

# What is taken beside the ratings, in lower case.
_TEXTS = ("readme*", "licen?e*", "checksums.txt")
# Bytes of such a text at most; a longer one is none, or was made to fill the memory.
_LONGEST_TEXT = 1 << 20


class RatingsArchive:
    """A zip archive with one `ratings.csv` or `ratings.dat`.

    Members are written under their last name alone, so that none leaves the folder it is meant for.

    Raises:
        InputError: no file of ratings, several, or an encrypted one.
    """

    def __init__(self, path: Path, opened: zipfile.ZipFile) -> None:
        inside = [member for member in opened.infolist() if ".." not in PurePosixPath(member.filename).parts]
        ratings = [member for member in inside if _name(member) in (RATINGS_FILE, DAT_FILE)]
        if len(ratings) != 1:
            found = ", ".join(member.filename for member in ratings) or "neither"
            raise InputError(f"{path}: expected one {RATINGS_FILE} or {DAT_FILE} in the archive; found {found}")
        if ratings[0].flag_bits & 1:
            raise InputError(f"{path}: {ratings[0].filename} is encrypted; expected an archive as GroupLens has it")
        self._path, self._opened, self._ratings = path, opened, ratings[0]
        self._texts = [
            member
            for member in inside
            if PurePosixPath(member.filename).parent == PurePosixPath(ratings[0].filename).parent
            and not member.flag_bits & 1
            and member.file_size <= _LONGEST_TEXT
            and any(fnmatch.fnmatch(_name(member).lower(), pattern) for pattern in _TEXTS)
        ]
        self.place = f"{path}, {ratings[0].filename}"

    def file_name(self, name: str) -> str:
        """Returns what the file of interactions is called in the folder of the data set of that name."""
        return RATINGS_FILE if _name(self._ratings) == RATINGS_FILE else f"{name}.inter"

    def extract(self, file: Path) -> None:
        """Writes the file of interactions, and README, licence and checksums beside it.

        Raises:
            InputError: the ratings have an unknown header, or a line that is not four numbers.
        """
        for member in self._texts:
            with _faults_named(self._path), self._opened.open(member) as stream:
                text = stream.read(_LONGEST_TEXT)
            write_blocks(file.with_name(_name(member)), [text])
        write_blocks(file, self._blocks())

    def is_content_of(self, file: Path) -> bool:
        """Returns whether a file of interactions is what the archive has."""
        with file.open("rb") as other:
            return all(other.read(len(block)) == block for block in self._blocks()) and not other.read(1)

    def _blocks(self) -> Iterator[bytes]:
        size, name = self._ratings.file_size, _name(self._ratings)
        bar, done = ProgressBar(name, size, "bytes"), 0
        with _faults_named(self._path), bar, self._opened.open(self._ratings) as stream:
            for block in (csv_blocks if name == RATINGS_FILE else dat_blocks)(stream, self.place):
                yield block
                bar.advance(stream.tell() - done)
                done = stream.tell()


@contextmanager
def open_archive(path: Path) -> Iterator[RatingsArchive]:
    """Gives an archive opened for reading.

    Raises:
        InputError: no such file, no whole zip archive, or as `RatingsArchive`.
    """
    with os_errors_as_input_errors(path, "an archive of MovieLens"), _faults_named(path):
        require_regular(path)
        opened = zipfile.ZipFile(path)
    with opened:
        yield RatingsArchive(path, opened)


@contextmanager
def _faults_named(path: Path) -> Iterator[None]:
    """Turns what zipfile and its decompressors raise for a broken archive into an `InputError` that names it."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        raise InputError(f"{path}: not a whole zip archive ({error}); expected one as GroupLens has it") from error


def _name(member: zipfile.ZipInfo) -> str:
    return PurePosixPath(member.filename).name
