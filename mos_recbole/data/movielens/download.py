"""A file from the web, in its place when it is whole; a download that broke off goes on where it stopped.

Not by pooch, which discards what came of a download that broke off.
"""

import os
import zipfile
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from mos_recbole.errors import InputError
from mos_recbole.progress import ProgressBar

# Tries of a connection and of an answer, seconds between them (doubled each time), and seconds of silence.
_TRIES, _BACKOFF, _TIMEOUT = 4, 1.0, 30
# What is under way of a block is lost when an answer breaks off.
_BLOCK_BYTES = 2**16
# The largest archive of MovieLens is a tenth of it.
_LARGEST = 8 << 30
_OTHER_WAY = "if you fetched the file in another way, --zip FILE takes it"


def download(url: str, path: Path) -> None:
    """Puts the file of an address at `path`.

    What has come is kept in `<path>.part`. The next call asks for the rest (HTTP Range), unless the file changed on the
    server since, and starts over where the server sends whole files only.

    Raises:
        InputError: no answer, another answer than the file, or it broke off several times.
        OSError: `path` cannot be written to.
    """
    part = path.with_name(f"{path.name}.part")
    retry = Retry(total=_TRIES, backoff_factor=_BACKOFF, status_forcelist=(429, 500, 502, 503, 504))
    # A server that gives up in the end is named by its last answer.
    retry.raise_on_status = False
    with requests.Session() as session:
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        for _ in range(_TRIES):
            if _fetch_rest(session, url, part):
                if not zipfile.is_zipfile(part):
                    part.unlink()
                    raise InputError(f"{url}: the server sends no archive, perhaps a page to log in; {_OTHER_WAY}")
                os.replace(part, path)
                return
    raise InputError(f"{url}: broke off after {_size(part):,} bytes; the same command goes on from there")


def _fetch_rest(session: requests.Session, url: str, part: Path) -> bool:
    """Returns whether the file is whole now; False: ask again."""
    start = _size(part)
    # Ranges count the bytes that are sent, so they must be the file's own.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        answer = session.get(url, headers=headers, stream=True, timeout=_TIMEOUT)
    except requests.RequestException as error:
        cause = error.args[0] if error.args else error
        raise InputError(f"{url}: {getattr(cause, 'reason', cause)}; expected an answer ({_OTHER_WAY})") from error
    with answer:
        sent = answer.headers.get("Content-Range", "")
        modified = answer.headers.get("Last-Modified")
        changed = bool(
            start and modified and parsedate_to_datetime(modified).timestamp() > part.stat().st_mtime
        )  # on the server, after the last byte of the part came
        if answer.status_code == requests.codes.ok:
            return _receive(answer, part, 0)
        if answer.status_code == requests.codes.partial_content and sent.startswith(f"bytes {start}-") and not changed:
            return _receive(answer, part, start)
        if not start or answer.status_code not in (
            requests.codes.partial_content,
            requests.codes.requested_range_not_satisfiable,
        ):
            raise InputError(f"{url}: the server answers {answer.status_code} {answer.reason}; expected the file")
        if sent == f"bytes */{start}" and not changed:
            return True
        part.unlink()
        return False


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _receive(answer: requests.Response, part: Path, start: int) -> bool:
    """Returns whether all came of what was announced; what came is in the part from `start`."""
    length = answer.headers.get("Content-Length")
    name = part.name.removesuffix(".part")
    if length is not None and not (length.isascii() and length.isdecimal() and int(length[:20]) <= _LARGEST):
        raise InputError(f"{answer.url}: the server says Content-Length: {length}; expected at most {_LARGEST:,} bytes")
    total = None if length is None else start + int(length)
    with ProgressBar(name, total, "bytes") as bar, part.open("ab" if start else "wb") as file:
        bar.advance(start)
        try:
            for block in answer.iter_content(_BLOCK_BYTES):
                file.write(block)
                bar.advance(len(block))
                if file.tell() > _LARGEST:
                    raise InputError(f"{answer.url}: no end after {file.tell():,} bytes; expected an archive")
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            return False
        file.flush()
        os.fsync(file.fileno())
    return True
