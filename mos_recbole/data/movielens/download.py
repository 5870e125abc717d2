"""A file from the web, in its place when it is whole; a download that broke off goes on where it stopped."""

import os
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from mos_recbole.errors import InputError

# Tries of a connection and of an answer, seconds between them (doubled each time), and seconds of silence.
_TRIES, _BACKOFF, _TIMEOUT = 4, 1.0, 30
# What is under way of a block is lost when an answer breaks off.
_BLOCK_BYTES = 2**16


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
                os.replace(part, path)
                return
    size = part.stat().st_size if part.exists() else 0
    raise InputError(f"{url}: broke off after {size:,} bytes; the same command goes on from there")


def _fetch_rest(session: requests.Session, url: str, part: Path) -> bool:
    """Returns whether the file is whole now; False: ask again.

    Raises:
        InputError: no answer, or one that is not the file.
    """
    start = part.stat().st_size if part.exists() else 0
    # Ranges count the bytes that are sent, so they must be the file's own.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        answer = session.get(url, headers=headers, stream=True, timeout=_TIMEOUT)
    except requests.RequestException as error:
        raise InputError(
            f"{url}: {_reason(error)}; expected an answer (the file, fetched in another way, is taken by --zip FILE)"
        ) from error
    with answer:
        content_range = answer.headers.get("Content-Range", "")
        if answer.status_code == requests.codes.requested_range_not_satisfiable and start:
            if content_range == f"bytes */{start}" and not _is_newer(answer, part):
                return True
            part.unlink()
            return False
        if answer.status_code == requests.codes.partial_content:
            if not content_range.startswith(f"bytes {start}-") or _is_newer(answer, part):
                part.unlink()
                return False
        elif answer.status_code == requests.codes.ok:
            start = 0
        else:
            raise InputError(f"{url}: the server answers {answer.status_code} {answer.reason}; expected the file")
        return _receive(answer, part, start)


def _is_newer(answer: requests.Response, part: Path) -> bool:
    """Returns whether the file on the server changed after the last byte of the part came."""
    modified = answer.headers.get("Last-Modified")
    return modified is not None and parsedate_to_datetime(modified).timestamp() > part.stat().st_mtime


def _receive(answer: requests.Response, part: Path, start: int) -> bool:
    """Returns whether all came of what was announced; what came is in the part from `start`."""
    length = answer.headers.get("Content-Length")
    total = None if length is None else start + int(length)
    name = part.name.removesuffix(".part")
    bar = tqdm(desc=name, total=total, initial=start, unit="B", unit_scale=True, dynamic_ncols=True, disable=None)
    with bar, part.open("ab" if start else "wb") as file:
        blocks = answer.iter_content(_BLOCK_BYTES)
        while True:
            try:
                block = next(blocks, None)
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                return False
            if block is None:
                break
            file.write(block)
            bar.update(len(block))
        file.flush()
        os.fsync(file.fileno())
    return True


def _reason(error: requests.RequestException) -> str:
    """Returns what went wrong, without the wrappings of the libraries."""
    cause = error.args[0] if error.args else error
    return str(getattr(cause, "reason", cause))
