"""Where the runs of several machines are kept: a folder that all of them reach, or a URI."""

import uuid
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from mos_recbole.errors import InputError
from mos_recbole.results import (
    BEST_CHECKPOINT,
    FINAL_CHECKPOINT,
    ITEMS_FILE,
    LAST_CHECKPOINT,
    LOG_FILE,
    OUTCOMES_FILE,
    RECORD_FILE,
)

# In the order in which a run writes them: a copy that was interrupted looks like a run that was interrupted.
_PUSHED = (BEST_CHECKPOINT, LAST_CHECKPOINT, FINAL_CHECKPOINT, LOG_FILE, OUTCOMES_FILE, ITEMS_FILE, RECORD_FILE)
# The worker of a killed driver may push between two copies. A run can resume from a best epoch that is newer than its
# last one, since it reaches that again, but not from one that is older than its last one says.
_FETCHED = (LAST_CHECKPOINT, BEST_CHECKPOINT, FINAL_CHECKPOINT, LOG_FILE, OUTCOMES_FILE, ITEMS_FILE, RECORD_FILE)


class Storage:
    """Copies of runs' files below a folder or URI, with a folder for each run.

    Args:
        place: a path, or a URI that PyArrow knows (file, s3, gs, hdfs).
        sweep: name of the sweep, a folder below the place.

    Attributes:
        place: the absolute path, or the URI.

    Raises:
        InputError: a place that PyArrow does not know.
    """

    def __init__(self, place: str, sweep: str) -> None:
        self.place = place if "://" in place else str(Path(place).expanduser().absolute())
        try:
            if "://" in place:
                self._files, root = fs.FileSystem.from_uri(place)
            else:
                self._files, root = fs.LocalFileSystem(), self.place
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"storage {place}: {error}; expected a folder or URI") from error
        self._root = f"{root.rstrip('/')}/{sweep}"
        self._sent: dict[Path, int] = {}

    def require_writable(self) -> None:
        """Raises InputError where the place cannot be written to."""
        probe = f"{self._root}/.write-test.{uuid.uuid4().hex}"
        try:
            self._files.create_dir(self._root, recursive=True)
            with self._files.open_output_stream(probe) as stream:
                stream.write(b"")
            self._files.delete_file(probe)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"storage {self.place}: {error}; expected a folder or URI that can be written to"
            ) from error

    def push(self, folder: Path) -> None:
        """Copies new and changed files of a run's folder. A copy gets its name only when it is complete."""
        self._files.create_dir(f"{self._root}/{folder.name}", recursive=True)
        for name in _PUSHED:
            path = folder / name
            if not path.exists() or self._sent.get(path) == path.stat().st_mtime_ns:
                continue
            written = path.stat().st_mtime_ns
            target = f"{self._root}/{folder.name}/{name}"
            # The worker of a killed driver may still be writing the same file.
            part = f"{target}.{uuid.uuid4().hex}.part"
            fs.copy_files(str(path), part, fs.LocalFileSystem(), self._files)
            self._files.move(part, target)
            self._sent[path] = written

    def fetch(self, folder: Path, *, checkpoints: bool) -> None:
        """Copies the files of a run into its folder, with or without its checkpoints."""
        left_out = () if checkpoints else (BEST_CHECKPOINT, LAST_CHECKPOINT, FINAL_CHECKPOINT)
        wanted = [name for name in _FETCHED if name not in left_out]
        sources = [f"{self._root}/{folder.name}/{name}" for name in wanted]
        # All are looked up before the first is copied, the record first: a record that appears later is left for the
        # next time, since it might come without its outcomes.
        found = [info.type == fs.FileType.File for info in reversed(self._files.get_file_info(sources[::-1]))]
        for name, source, there in zip(wanted, sources, found, strict=True):
            if there:
                folder.mkdir(parents=True, exist_ok=True)
                part = folder / f".{name}.part"
                fs.copy_files(source, str(part), self._files, fs.LocalFileSystem())
                part.replace(folder / name)
