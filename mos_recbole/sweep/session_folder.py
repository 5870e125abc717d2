"""A folder for Ray's session whose path is short enough for the sockets in it."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from mos_recbole.errors import InputError

_PREFIX, _WITHIN = "mos-ray-", "r"
# What Ray appends to the folder, with the date and its process; the name of a temporary folder ends in 8 letters.
_BELOW = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
# In bytes: the place of an AF_UNIX address, without its closing zero.
_LONGEST_SOCKET = (104 if sys.platform == "darwin" else 108) - 1
_LONGEST_PLACE = _LONGEST_SOCKET - len(f"/{_PREFIX}12345678/{_WITHIN}{_BELOW}")


@contextlib.contextmanager
def session_folder() -> Iterator[str]:
    """Gives the path of a new folder, in one that only this user can enter and that is removed at the end.

    They are in the folder for temporary files (`RAY_TMPDIR`, else `TMPDIR`), or where that has too long a path, in
    `/tmp`, `/var/tmp` or `/dev/shm`.

    Raises:
        InputError: none of these is short enough and can be written to.
    """
    wanted = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    for place in dict.fromkeys([os.path.abspath(wanted), "/tmp", "/var/tmp", "/dev/shm"]):
        if len(os.fsencode(place)) > _LONGEST_PLACE:
            continue
        try:
            folder = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=place, ignore_cleanup_errors=True)
        except OSError:
            continue
        with folder as path:
            # Ray opens its own folder to everybody, so it has one within.
            yield os.path.join(path, _WITHIN)
        return
    raise InputError(
        f"Ray needs a folder for its sockets, and {wanted} is too long or cannot be written to; "
        f"expected RAY_TMPDIR to name a folder whose path has at most {_LONGEST_PLACE} bytes"
    )
