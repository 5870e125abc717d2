"""Records of runs and sweeps: written atomically, read back checked. All tables and figures are made from these."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import pandas as pd
import pyarrow.parquet
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
            device, versions. (The number of threads, eval_batch_size, and the runs that this one was trained with as
            one can change the last digits, and are left out.)
        protocol_hash: equal for runs whose numbers may be compared.
        settings: the settings that can change the numbers.
        data: counts and the fingerprint of the prepared data.
        epochs: epochs trained; best_epoch is the one that validation chose, from 1.
        parameters: number of trainable numbers in the model.
        valid, test: metrics at the best epoch.
        train_seconds: spent in training, of runs that were trained as one each its share; eval_seconds: in validations;
            wall_seconds: all, loading included, over all sittings of a resumed run. On a GPU an epoch's time ends when
            the GPU is done, so it is device time too.
        peak_memory_bytes: the process's largest resident size during the run ("resident"; on macOS since the process
            began) and the run's largest GPU allocation ("gpu").
        resumed: whether the run was interrupted and went on.
        processes: that trained the model together, in the last sitting; times and memory are the first one's.
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
    processes: int = 1
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

    def outcomes_columns(self) -> list[str]:
        """Returns the names of the outcomes' columns, without reading the rest.

        Raises:
            InputError: the file is missing or broken.
        """
        path = self.folder / OUTCOMES_FILE
        try:
            return pyarrow.parquet.read_schema(path).names
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

    def checkpoint(self) -> Path:
        """Returns the file with the model at its best epoch.

        Raises:
            InputError: it is missing.
        """
        path = self.folder / BEST_CHECKPOINT
        if not path.is_file():
            raise InputError(f"{path}: no such file; expected the weights of run {self.run_id} at its best epoch")
        return path

    def write(self, folder: Path) -> None:
        """Writes the record, last of a run's files: a folder with a record is a finished run."""
        _write_json(folder / RECORD_FILE, self)
        self._folder = folder


def run_identity(settings: dict[str, Any], data_fingerprint: str, code: str, platform: dict[str, str]) -> str:
    """Returns the run id, 16 hexadecimal digits."""
    parts = {"settings": settings, "data": data_fingerprint, "code": code, "platform": platform}
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_record(folder: Path) -> RunResult:
    """Returns the record of a finished run.

    Raises:
        InputError: there is none, or it is broken.
    """
    record = _read_json(folder / RECORD_FILE, RunResult, "the record of a finished run")
    record._folder = folder
    return record


_Content = TypeVar("_Content", bound=_Record)


def _read_json(path: Path, kind: type[_Content], expected: str) -> _Content:
    """Returns what a file holds. Raises InputError where it is missing or broken."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected {expected}") from error
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: not {expected}: {where}: {first['msg']}") from error


def _write_json(path: Path, content: _Record) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(content.model_dump_json(indent=1) + "\n", encoding="utf-8")


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


# ------------------------------------------------------------------------------------------------- sweeps

SWEEP_FILE = "sweep.json"
TRIALS_FOLDER = "trials"

TrialStatus = Literal["finished", "stopped", "failed", "unfinished"]


class SweepPlan(_Record):
    """What a sweep is: all that decides which trials it has. `<sweep>/sweep.json` holds it.

    Attributes:
        metric: validation metric by which configurations are selected.
        search: method and its settings; stopping: the scheduler's, empty where every trial trains to its end.
        space: the swept parameters as the sweep file has them.
        settings: settings that all trials share, by key.
    """

    schema_version: Literal[1] = 1
    name: str
    models: list[str]
    datasets: list[str]
    seeds: list[int]
    metric: str
    mode: Literal["max", "min"]
    search: dict[str, Any]
    stopping: dict[str, Any]
    space: dict[str, Any]
    settings: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Writes the plan into a sweep's folder."""
        _write_json(folder / SWEEP_FILE, self)


class Trial(_Record):
    """One trial of a sweep: a run that was planned, and how it ended where it left no record.

    Attributes:
        number: from 1, in the order of the plan.
        parameters: the swept parameters that this trial has, by key; others of its model are the plan's or defaults.
        run: name of its run's folder below `runs/`; ends with the run id.
        ended: "stopped" by the scheduler, "failed" after all its attempts, or None: finished if there is a record, else
            still to be done.
        error: what the last failure said.
        attempts: how often it failed.
    """

    schema_version: Literal[1] = 1
    number: int
    model: str
    dataset: str
    seed: int
    parameters: dict[str, Any]
    run: str
    ended: Literal["stopped", "failed"] | None = None
    error: str | None = None
    attempts: int = 0

    @property
    def run_id(self) -> str:
        return self.run.rpartition("-")[2]

    def folder(self, sweep: Path) -> Path:
        """Returns the folder of its run."""
        return sweep / RUNS_FOLDER / self.run

    def status(self, sweep: Path) -> TrialStatus:
        """Returns how the trial stands by the files of its sweep."""
        if (self.folder(sweep) / RECORD_FILE).exists():
            return "finished"
        return self.ended or "unfinished"

    def training_log(self, sweep: Path) -> pd.DataFrame | None:
        """Returns one row per epoch of its run so far, or None before the first one ended; see `RunResult`."""
        path = self.folder(sweep) / LOG_FILE
        return pd.read_csv(path, float_precision="round_trip") if path.exists() else None

    def best_validation(self, sweep: Path, metric: str, mode: Literal["max", "min"]) -> float | None:
        """Returns the best validation of its run so far, or None before the first one."""
        log = self.training_log(sweep)
        values = pd.Series(dtype=float) if log is None or metric not in log else log[metric].dropna()
        return None if values.empty else float(values.max() if mode == "max" else values.min())

    def write(self, sweep: Path) -> None:
        """Writes the trial's file into its sweep's folder."""
        (sweep / TRIALS_FOLDER).mkdir(exist_ok=True)
        _write_json(sweep / TRIALS_FOLDER / f"{self.run_id}.json", self)


def read_plan(folder: Path) -> SweepPlan:
    """Returns the plan of the sweep in a folder.

    Raises:
        InputError: there is none, or it is broken.
    """
    return _read_json(folder / SWEEP_FILE, SweepPlan, "the folder of a sweep")


def read_trials(folder: Path) -> list[Trial]:
    """Returns the trials of the sweep in a folder, in the order of the plan.

    Raises:
        InputError: a file is broken.
    """
    paths = (folder / TRIALS_FOLDER).glob("*.json")
    return sorted((_read_json(path, Trial, "a trial") for path in paths), key=lambda trial: trial.number)
