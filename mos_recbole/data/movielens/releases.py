"""The releases of MovieLens, and whether an archive or a file is as GroupLens published it."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from mos_recbole.errors import InputError

_CHECKSUMS_FILE = "checksums.txt"


@dataclass(frozen=True)
class Release:
    """What GroupLens publishes about an archive.

    Attributes:
        md5: of the archive; None for the releases that GroupLens replaces from time to time.
        ratings: how many there are; None for those as well.
    """

    md5: str | None = None
    ratings: int | None = None


# MD5: https://files.grouplens.org/datasets/movielens/<name>.zip.md5.
# Numbers of ratings: https://files.grouplens.org/datasets/movielens/<name>-README.html.
RELEASES = {
    "ml-1m": Release("c4d9eecfca2ab87c1945afe126590906", 1_000_209),
    "ml-10m": Release("ce571fd55effeba0271552578f2648bd", 10_000_054),
    "ml-20m": Release("cd245b17a1ae2cc31bb14903e1204af3", 20_000_263),
    "ml-25m": Release("6b51fb2759a8657d3bfcbfc42b592ada", 25_000_095),
    "ml-32m": Release("d472be332d4daa821edc399621853b57", 32_000_204),
    "ml-latest-small": Release(),
    "ml-latest": Release(),
}


def check_archive(archive: Path, release: Release, allow_modified: bool, hint: str) -> str | None:
    """Returns how an archive was checked; None where there is nothing to check it against.

    Raises:
        InputError: it is not as published.
    """
    if release.md5 is None:
        return None
    found = _md5(archive)
    if found == release.md5:
        return "the archive's MD5 is the published one"
    return _differs(str(archive), f"MD5 {found}", f"MD5 {release.md5}", allow_modified, hint)


def check_file(path: Path, place: str, release: Release | None, allow_modified: bool) -> str | None:
    """Returns how a file of interactions was checked: by the checksums beside it, or by the number of ratings.

    Args:
        path: of the file.
        place: its name in messages.
        release: that it should be, or None where there is nothing to check it against.
        allow_modified: whether it may differ from it.

    Raises:
        InputError: it is not as published.
    """
    if release is None:
        return None
    checksums = path.with_name(_CHECKSUMS_FILE)
    published = _published_md5(checksums, path.name) if checksums.is_file() else None
    if published is not None:
        found = _md5(path)
        if found == published:
            return f"its MD5 is the one in {_CHECKSUMS_FILE}"
        return _differs(place, f"MD5 {found}", f"MD5 {published} of {_CHECKSUMS_FILE}", allow_modified)
    if release.ratings is None:
        return "not checked: GroupLens replaces this release from time to time, so that no checksum lasts"
    n_ratings = _count_ratings(path)
    if n_ratings == release.ratings:
        return f"{n_ratings:,} ratings, as published"
    return _differs(place, f"{n_ratings:,} ratings", f"{release.ratings:,} ratings", allow_modified)


def _differs(place: str, found: str, published: str, allow_modified: bool, hint: str = "") -> str:
    if allow_modified:
        return f"modified: {found}; published: {published}"
    raise InputError(f"{place}: {found}; expected {published}, as published (--allow-modified takes it as it is{hint})")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _published_md5(checksums: Path, name: str) -> str | None:
    """Returns a file's MD5 by a list of `md5sum`, or None where it does not name the file."""
    found = re.search(
        rf"^([0-9a-f]{{32}})\s+\*?(?:\./)?{re.escape(name)}$",
        checksums.read_text(encoding="utf-8", errors="replace"),
        flags=re.MULTILINE | re.IGNORECASE,
    )
    return found[1].lower() if found else None


def _count_ratings(path: Path) -> int:
    """Returns the number of lines below the header."""
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(2**20):
            lines, last = lines + block.count(b"\n"), block[-1:]
    return lines + (last != b"\n") - 1
