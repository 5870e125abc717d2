"""Results folders: where finished runs are found."""

from pathlib import Path

from mos_recbole.errors import InputError
from mos_recbole.progress import tracked
from mos_recbole.results.records import RECORD_FILE, RUNS_FOLDER, RunResult, read_record


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
