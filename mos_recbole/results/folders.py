"""Results folders: where runs are found, and how one is removed."""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from mos_recbole.errors import InputError
from mos_recbole.io import exclusive_lock, os_errors_as_input_errors
from mos_recbole.progress import tracked
from mos_recbole.results.records import RECORD_FILE, RUN_FILES, RUNS_FOLDER, RunResult, read_record


def find_records(output: Path) -> list[RunResult]:
    """Returns the records of all finished runs in `results_folders`, oldest first.

    Raises:
        InputError: the folder does not exist, or a record is broken.
    """
    folders = [run for folder in results_folders(output) for run in _finished(folder)]
    records = map(read_record, tracked(folders, "reading records", "runs"))
    return sorted(records, key=lambda record: (record.finished, record.run_id))


def results_folders(output: Path) -> list[Path]:
    """Returns the folder itself where finished runs are in it, or else those one level down that hold runs.

    Raises:
        InputError: the folder does not exist.
    """
    if not output.is_dir():
        raise InputError(f"{output}: no such folder; expected a results folder")
    below = [] if _finished(output) else folders_below(output)
    return [*([output] if not below or (output / RUNS_FOLDER).is_dir() else []), *below]


def folders_below(output: Path) -> list[Path]:
    """Returns the results folders one level down, such as those of sweeps."""
    return [folder for folder in sorted(output.iterdir()) if (folder / RUNS_FOLDER).is_dir()]


def _finished(folder: Path) -> list[Path]:
    """Returns the folders of the finished runs that are in a results folder itself, or the folder of a run."""
    runs = folder / RUNS_FOLDER if (folder / RUNS_FOLDER).is_dir() else folder
    return [path.parent for path in (*runs.glob(RECORD_FILE), *sorted(runs.glob(f"*/{RECORD_FILE}")))]


_RUN_NAME = re.compile(r".+-seed\d+-([0-9a-f]{16})")


def find_run_folder(name: str, outputs: Sequence[Path]) -> Path:
    """Returns the folder of one run, finished or not.

    Args:
        name: the folder, or six digits or more of the run's id.
        outputs: results folders, in which and one level below which ids are looked up.

    Raises:
        InputError: no run, several, or one to which a link leads.
    """
    if Path(name).is_dir():
        _require_run(Path(name))
        return Path(name)
    if not re.fullmatch("[0-9a-f]{6,16}", name):
        raise InputError(f"{name}: no run; expected the folder of a run, or six digits or more of its id")
    found = {
        folder: output
        for output in outputs
        for place in (output, *(folders_below(output) if output.is_dir() else []))
        for folder in (place / RUNS_FOLDER).glob(f"*-{name}*")
        if _run_id(folder).startswith(name)
    }
    if not found:  # a folder may have been renamed; its record keeps the id
        records = ((record, output) for output in outputs if output.is_dir() for record in find_records(output))
        found = {record.folder: output for record, output in records if record.run_id.startswith(name)}
    if len(found) != 1:
        what = "\n".join(["several runs; expected one of", *map(str, found)]) if found else "no run"
        raise InputError(f"{name}: {what}{'' if found else ' in ' + ', '.join(map(str, outputs))}")
    ((folder, output),) = found.items()
    _require_run(folder)
    if not folder.resolve().is_relative_to(output.resolve()):
        raise InputError(f"{folder}: a link leads to it out of {output}; expected a run in its own folder")
    return folder


def files_of_run(folder: Path) -> list[Path]:
    """Returns the files in a run's folder that are a run's, the record first; others are somebody's own."""
    files = [*(folder / name for name in RUN_FILES), *files_of_writers(folder)]
    return [path for path in files if path.is_file() or path.is_symlink()]


def files_of_writers(folder: Path) -> list[Path]:
    """Returns the temporary files in a run's folder of processes that ended before one was whole, or are at work."""
    return [path for name in RUN_FILES for path in sorted(folder.glob(f".{name}.*.tmp"))]


def remove_runs(folders: Sequence[Path]) -> list[Path]:
    """Removes the files of runs, and their folders. Returns the folders that stay, because something else is in them.

    The record goes first: what is left after an interruption is an unfinished run. Links are removed, not followed.

    Raises:
        InputError: another process is at work on a run, and all are as before; or files cannot be removed.
    """
    folders = [folder.resolve() for folder in folders]  # one of them may be where the process stands
    with os_errors_as_input_errors(folders[0], "a folder that can be written to"):
        with ExitStack() as locks:
            for folder in folders:
                locks.enter_context(exclusive_lock(folder, 0))
            for path in (path for folder in folders for path in files_of_run(folder)):
                path.unlink()
        for folder in folders:
            (folder / ".lock").unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()
    return [folder for folder in folders if folder.exists()]


def _require_run(folder: Path) -> None:
    """Raises InputError for a folder that is no run's."""
    if folder.is_symlink():
        raise InputError(f"{folder}: a link, to {folder.resolve()}; expected the run's own folder")
    named = folder.resolve().parent.name == RUNS_FOLDER and _run_id(folder)
    if not named and not (folder / RECORD_FILE).is_file():
        raise InputError(f"{folder}: no run; expected a folder with a {RECORD_FILE}, or {RUNS_FOLDER}/<run>")
    if not named:
        read_record(folder)


def _run_id(folder: Path) -> str:
    """Returns the id with which the name of a run's folder ends; "" for other names."""
    found = _RUN_NAME.fullmatch(folder.resolve().name)
    return found[1] if found else ""
