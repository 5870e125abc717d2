"""Run records and their files: written atomically, read back checked. All tables and figures are made from these."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pydantic

from mos_recbole.errors import InputError

RECORD_FILE = "record.json"
OUTCOMES_FILE = "outcomes.parquet"
LOG_FILE = "training_log.csv"
BEST_CHECKPOINT = "best.pt"
LAST_CHECKPOINT = "last.pt"
RUN_FILES = (RECORD_FILE, OUTCOMES_FILE, LOG_FILE, BEST_CHECKPOINT, LAST_CHECKPOINT)
RUNS_FOLDER = "runs"


class _Record(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Metric(_Record):
    """A metric's mean over the queries of one side, and which value is better."""

    value: float
    direction: Literal["higher", "lower"]


class RunResult(_Record):
    """One run: what was run, on what, what came out and what it cost. `run_experiment` returns it.

    Attributes:
        run_id: 16 hexadecimal digits: a hash of everything that can change the numbers: settings, data, code, kind of
            device, versions. (The number of threads and eval_batch_size can change the last digits, and are left out.)
        protocol_hash: equal for runs whose numbers may be compared.
        settings: the settings that can change the numbers.
        data: counts and the fingerprint of the prepared data.
        epochs: epochs trained; best_epoch is the one that validation chose, from 1.
        parameters: number of trainable numbers in the model.
        valid, test: metrics at the best epoch.
        train_seconds: spent in training; eval_seconds: in validations; wall_seconds: all, loading included, over all
            sittings of a resumed run. On a GPU an epoch's time ends when the GPU is done, so it is device time too.
        peak_memory_bytes: the process's largest resident size so far ("resident", earlier runs of the process included)
            and the run's largest GPU allocation ("gpu").
        resumed: whether the run was interrupted and went on.
    """

    schema_version: Literal[1] = 1
    run_id: str
    protocol_hash: str
    protocol: dict[str, Any]
    model: str
    dataset: str
    seed: int
    settings: dict[str, Any]
    data: dict[str, Any]
    parameters: int
    epochs: int
    best_epoch: int
    valid_metric: str
    valid: dict[str, Metric]
    test: dict[str, Metric]
    train_seconds: float
    eval_seconds: float
    wall_seconds: float
    peak_memory_bytes: dict[str, int]
    resumed: bool
    device: str
    threads: int
    versions: dict[str, str]
    code: str
    git_commit: str | None
    finished: str

    _folder: Path | None = pydantic.PrivateAttr(default=None)

    @property
    def folder(self) -> Path:
        """Where the run's files are."""
        assert self._folder is not None, "a record that was neither written nor read"
        return self._folder

    def outcomes(self) -> pd.DataFrame:
        """Returns one row per test query; the columns are described in docs/results.md.

        Raises:
            InputError: the file is missing or broken.
        """
        path = self.folder / OUTCOMES_FILE
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: {error}") from error

    def training_log(self) -> pd.DataFrame:
        """Returns one row per epoch: loss, seconds and validation metrics.

        Raises:
            InputError: the file is missing or broken.
        """
        path = self.folder / LOG_FILE
        try:
            return pd.read_csv(path, float_precision="round_trip")
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: {error}") from error

    def write(self, folder: Path) -> None:
        """Writes the record, last of a run's files: a folder with a record is a finished run."""
        with atomic_write(folder / RECORD_FILE) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        self._folder = folder


def run_identity(settings: dict[str, Any], data_fingerprint: str, code: str, platform: dict[str, str]) -> str:
    """Returns the run id, 16 hexadecimal digits."""
    parts = {"settings": settings, "data": data_fingerprint, "code": code, "platform": platform}
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_folder(output: Path, model: str, dataset: str, seed: int, run_id: str) -> Path:
    """Returns the folder of a run: readable, and unique by the id at its end."""
    return output / RUNS_FOLDER / f"{model}-{dataset}-seed{seed}-{run_id}"


def read_record(folder: Path) -> RunResult:
    """Returns the record of a finished run.

    Raises:
        InputError: there is none, or it is broken.
    """
    path = folder / RECORD_FILE
    try:
        record = RunResult.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected the record of a finished run") from error
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: not a run record: {where}: {first['msg']}") from error
    record._folder = folder
    return record


def find_records(output: Path) -> list[RunResult]:
    """Returns the records of all finished runs below a results folder, oldest first.

    Raises:
        InputError: the folder does not exist, or a record is broken.
    """
    if not output.is_dir():
        raise InputError(f"{output}: no such folder; expected a results folder")
    runs = output / RUNS_FOLDER if (output / RUNS_FOLDER).is_dir() else output
    folders = [path.parent for path in (*runs.glob(RECORD_FILE), *sorted(runs.glob(f"*/{RECORD_FILE}")))]
    return sorted((read_record(folder) for folder in folders), key=lambda record: (record.finished, record.run_id))


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` and moves it into place at the end; after an error `path` is as before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Creates the folder where it is missing.

    Raises:
        InputError: it cannot be created or written to.
    """
    probe = folder / f".write-test.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; expected a folder that can be written to") from error
