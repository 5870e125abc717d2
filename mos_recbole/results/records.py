"""Records of runs: written atomically, read back checked. All tables and figures are made from these."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, TypeVar

import pandas as pd
import pyarrow.parquet
import pydantic

from mos_recbole.errors import InputError
from mos_recbole.io import atomic_write

RECORD_FILE = "record.json"
OUTCOMES_FILE = "outcomes.parquet"
LOG_FILE = "training_log.csv"
BEST_CHECKPOINT = "best.pt"
LAST_CHECKPOINT = "last.pt"
RUN_FILES = (RECORD_FILE, OUTCOMES_FILE, LOG_FILE, BEST_CHECKPOINT, LAST_CHECKPOINT)
RUNS_FOLDER = "runs"


class Document(pydantic.BaseModel):
    """What a JSON file of results holds."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Metric(Document):
    """A metric's mean over the queries of one side, and which value is better."""

    value: float
    direction: Literal["higher", "lower"]


class RunResult(Document):
    """One run: what was run, on what, what came out and what it cost. `run_experiment` returns it.

    Attributes:
        run_id: 16 hexadecimal digits: a hash of everything that can change the numbers: settings, data, code, kind of
            device, versions. (The number of threads, eval_batch_size, and the runs that this one was trained with as
            one can change the last digits, and are left out.)
        protocol_hash: equal for runs whose numbers may be compared.
        encoder, head: names of the model's parts, such as "GRU4Rec" and "mos"; None for RecBole's own classes.
        n_components: K of the head; None for RecBole's own classes.
        width: d of states and item table; None for RecBole's own classes.
        baseline: the model of the same encoder with the softmax head; None if this is it, or one of RecBole's own.
        split_leakage: what training knows under this split that could not have been known then, in a sentence or two.
        settings: the settings that can change the numbers.
        data: counts and the fingerprint of the prepared data.
        epochs: epochs trained; best_epoch is the one that validation chose, from 1.
        parameters: number of trainable numbers in the model.
        valid, test: metrics at the best epoch.
        train_seconds: spent in training, of runs that were trained as one each its share; eval_seconds: in validations;
            wall_seconds: all, loading included, over all sessions of a resumed run. On a GPU an epoch's time ends when
            the GPU is done, so it is device time too.
        peak_memory_bytes: the process's largest resident size during the run ("resident"; on macOS since the process
            began) and the run's largest GPU allocation ("gpu").
        resumed: whether the run was interrupted and went on.
        processes: that trained the model together, in the last session; times and memory are the first one's.
    """

    schema_version: Literal[1, 2] = 2
    run_id: str
    protocol_hash: str
    protocol: dict[str, Any]
    model: str
    encoder: str | None = None
    head: str | None = None
    n_components: int | None = None
    width: int | None = None
    baseline: str | None = None
    split_leakage: str = ""
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
        write_document(folder / RECORD_FILE, self)
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
    record = read_document(folder / RECORD_FILE, RunResult, "the record of a finished run")
    record._folder = folder
    return record


_Content = TypeVar("_Content", bound=Document)


def read_document(path: Path, kind: type[_Content], expected: str) -> _Content:
    """Returns what a file holds. Raises InputError where it is missing or broken."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected {expected}") from error
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: not {expected}: {where}: {first['msg']}") from error


def write_document(path: Path, content: Document) -> None:
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
