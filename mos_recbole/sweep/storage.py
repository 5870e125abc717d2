"""Where runs are kept that are trained on other machines: a folder that all of them reach, or a URI."""

from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from mos_recbole.errors import InputError
from mos_recbole.results import BEST_CHECKPOINT, LAST_CHECKPOINT, LOG_FILE, OUTCOMES_FILE, RECORD_FILE

# In the order in which a run writes them, so that a copy that was cut short is a run that was cut short.
_IN_ORDER = (BEST_CHECKPOINT, LAST_CHECKPOINT, LOG_FILE, OUTCOMES_FILE, RECORD_FILE)


class Storage:
    """Copies of runs' files below a folder or URI, one folder a run.

    Args:
        place: a path, or a URI that PyArrow knows (file, s3, gs, hdfs).
        sweep: name of the sweep, a folder below the place.

    Raises:
        InputError: a place that PyArrow does not know, or that cannot be written to.
    """

    def __init__(self, place: str, sweep: str) -> None:
        try:
            if "://" in place:
                self._files, root = fs.FileSystem.from_uri(place)
            else:
                self._files, root = fs.LocalFileSystem(), str(Path(place).resolve())
            self._root = f"{root.rstrip('/')}/{sweep}"
            self._files.create_dir(self._root, recursive=True)
            with self._files.open_output_stream(f"{self._root}/.write-test") as stream:
                stream.write(b"")
            self._files.delete_file(f"{self._root}/.write-test")
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"storage {place}: {error}; expected a folder or URI that can be written to") from error
        self._sent: dict[Path, int] = {}

    def push(self, folder: Path) -> None:
        """Copies what is new of a run's folder. A copy appears under its name once it is complete."""
        self._files.create_dir(f"{self._root}/{folder.name}", recursive=True)
        for name in _IN_ORDER:
            path = folder / name
            if not path.exists() or self._sent.get(path) == path.stat().st_mtime_ns:
                continue
            written = path.stat().st_mtime_ns
            target = f"{self._root}/{folder.name}/{name}"
            fs.copy_files(str(path), f"{target}.part", fs.LocalFileSystem(), self._files)
            self._files.move(f"{target}.part", target)
            self._sent[path] = written

    def fetch(self, folder: Path, *, checkpoints: bool) -> None:
        """Copies what there is of a run into its folder, with its checkpoints or without."""
        for name in _IN_ORDER:
            source = f"{self._root}/{folder.name}/{name}"
            if not checkpoints and name in (BEST_CHECKPOINT, LAST_CHECKPOINT):
                continue
            if self._files.get_file_info(source).type == fs.FileType.File:
                folder.mkdir(parents=True, exist_ok=True)
                part = folder / f".{name}.part"
                fs.copy_files(source, str(part), self._files, fs.LocalFileSystem())
                part.replace(folder / name)
