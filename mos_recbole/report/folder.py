"""Folders of files that are replaced together, or not at all."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from mos_recbole.io import require_writable
from mos_recbole.report.table import Table


def write_tables(tables: Sequence[Table], output: Path) -> list[Path]:
    """Returns the files of tables that were written into a folder; after an error all are as before.

    Raises:
        InputError: the folder cannot be written to.
    """
    with new_files(output) as temporary:
        names = [path.name for table in tables for path in table.write(temporary)]
    return [output / name for name in names]


@contextmanager
def new_files(output: Path) -> Iterator[Path]:
    """Gives a temporary folder; what is in it at the end takes its place in `output`. After an error all is as before.

    A folder or file of an earlier call is replaced by the new one of that name; others stay. Files come first and each
    in one step: at no moment is a page away or half there, and a killed process leaves one that the next call replaces.

    Raises:
        InputError: the output cannot be written to.
    """
    require_writable(output)
    for left in output.glob(_TEMPORARY.format("*")):
        process = left.name.split(".")[2]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    temporary = output / _TEMPORARY.format(os.getpid())
    made, earlier = temporary / "made", temporary / "earlier"
    try:
        made.mkdir(parents=True)
        yield made
        earlier.mkdir()
        for path in sorted(made.iterdir(), key=lambda path: (path.is_dir(), path.name)):
            if path.is_dir() and (output / path.name).exists():
                os.replace(output / path.name, earlier / path.name)
            os.replace(path, output / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


_TEMPORARY = ".new.{}.tmp"
