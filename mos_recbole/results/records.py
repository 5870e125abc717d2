"""Records of runs: written atomically, read back checked. All tables and figures are made from these."""

import hashlib
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar

import pydantic

from mos_recbole.errors import InputError
from mos_recbole.io import file_sha256, say_unsealed
from mos_recbole.results.documents import Document, read_checked, read_document, write_document
from mos_recbole.results.nested import DataDict, ProtocolDict, SettingsDict
from mos_recbole.results.outcomes import check_outcomes
from mos_recbole.results.top_items import (
    DISTANCES_FILE,
    ITEMS_FILE,
    LIST_COLUMNS,
    TopItems,
    read_catalogue,
    read_distances,
    read_top_items,
    write_distances,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

RECORD_FILE = "record.json"
OUTCOMES_FILE = "outcomes.parquet"
LOG_FILE = "training_log.csv"
BEST_CHECKPOINT = "best.pt"
LAST_CHECKPOINT = "last.pt"
FINAL_CHECKPOINT = "final.pt"
RUN_FILES = (
    RECORD_FILE,
    OUTCOMES_FILE,
    ITEMS_FILE,
    DISTANCES_FILE,
    LOG_FILE,
    BEST_CHECKPOINT,
    LAST_CHECKPOINT,
    FINAL_CHECKPOINT,
)
RUNS_FOLDER = "runs"
NO_DEVICE = "none"
"""The device of lists that another program made."""

_Read = TypeVar("_Read")


class Metric(pydantic.BaseModel):
    """A metric's mean over queries, and which value is better. NaN, in files null, where no query has the metric."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    value: Annotated[float, pydantic.BeforeValidator(lambda value: math.nan if value is None else value)]
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
        settings: the settings that can change the numbers. Metrics are none of them: they follow from the outcomes.
        unknown_settings: keys of the configuration files that nothing here reads, with their values.
        data: counts and the fingerprint of the prepared data.
        epochs: epochs trained; best_epoch is the one that validation chose, from 1, or without validation the last.
        stopped: why training ended: all "epochs" were done, or "early_stopping"; None in older records.
        final_fit: "train+valid" where the tested model was trained on both for `best_epoch` epochs; then training's
            counts in `data` are of both.
        parameters: number of trainable numbers in the model.
        asked_metrics: those that the user asked for by `metrics` or `topk`, which tables show; else empty.
        valid, test: metrics at the best epoch, those that the run was asked for; `valid` is empty where the split has
            no validation.
        train_seconds: spent in training, of runs that were trained as one each its share; eval_seconds: in validations;
            wall_seconds: all, loading included, over all sessions of a resumed run. On a GPU an epoch's time ends when
            the GPU is done, so it is device time too.
        train_processor_seconds, eval_processor_seconds: train_seconds and eval_seconds by the processor's time: of all
            cores together that the process used, whatever else the machine did. None in older records.
        peak_memory_bytes: the process's largest resident size during the run ("resident"; on macOS since the process
            began) and the run's largest GPU allocation ("gpu").
        energy_kwh: what the process used for training, validation and test: "cpu", "memory" and "gpu"; empty where that
            was not asked for. energy_by: how that is known.
        resumed: whether the run was interrupted and went on.
        processes: that trained the model together, in the last session; times and memory are the first one's.
        files: checksums (SHA-256) of the run's outcomes, items and training log by name; empty in older records.
    """

    SEALED_SINCE: ClassVar[int] = 3

    schema_version: int = pydantic.Field(default=3, ge=1)
    run_id: str
    protocol_hash: str
    protocol: ProtocolDict
    model: str
    encoder: str | None = None
    head: str | None = None
    n_components: int | None = None
    width: int | None = None
    baseline: str | None = None
    split_leakage: str = ""
    dataset: str
    seed: int
    settings: SettingsDict
    unknown_settings: dict[str, Any] = pydantic.Field(default={})
    data: DataDict
    parameters: int
    epochs: int
    best_epoch: int
    final_fit: Literal["none", "train+valid"] = "none"
    stopped: Literal["epochs", "early_stopping"] | None = None
    valid_metric: str
    asked_metrics: list[str] = pydantic.Field(default=[])
    valid: dict[str, Metric]
    test: dict[str, Metric]
    train_seconds: float
    eval_seconds: float
    train_processor_seconds: float | None = None
    eval_processor_seconds: float | None = None
    wall_seconds: float
    peak_memory_bytes: dict[str, int]
    energy_kwh: dict[str, float] = pydantic.Field(default={})
    energy_by: str = ""
    resumed: bool
    device: str
    threads: int
    processes: int = 1
    versions: dict[str, str]
    code: str
    git_commit: str | None
    finished: str
    files: dict[str, str] = pydantic.Field(default={})

    _folder: Path | None = pydantic.PrivateAttr(default=None)

    @pydantic.model_validator(mode="after")
    def _selected_by_what_it_has(self) -> Self:
        if self.valid and self.valid_metric not in self.valid:
            raise ValueError(f"valid has no {self.valid_metric}, the valid_metric")
        return self

    @property
    def folder(self) -> Path:
        """Where the run's files are."""
        assert self._folder is not None, "a record that was neither written nor read"
        return self._folder

    @property
    def was_trained(self) -> bool:
        """Whether a model was trained here; of lists that another program made, no costs are known."""
        return self.device != NO_DEVICE

    @property
    def n_items(self) -> int:
        """V, the padding included."""
        return int(self.data["items"]) + 1

    def outcomes(self) -> "pd.DataFrame":
        """Returns one row per test query, without the lists; the columns are described in docs/results.md.

        Raises:
            InputError: the file is missing or broken.
        """
        import pandas as pd  # here and not above, so that a list of runs does not wait for it

        columns = [name for name in self.outcomes_columns() if name not in LIST_COLUMNS]
        return self._read(OUTCOMES_FILE, lambda path: check_outcomes(pd.read_parquet(path, columns=columns)))

    def top_items(self) -> TopItems:
        """Returns the recommended lists, in the order of the outcomes, of a run that `keeps_lists`.

        Raises:
            InputError: a file is missing or broken.
        """
        catalogue = self._read(ITEMS_FILE, read_catalogue)
        return self._read(OUTCOMES_FILE, partial(read_top_items, catalogue=catalogue))

    def distance_sums(self) -> "np.ndarray | None":
        """Returns `evaluation.distance_sums` of the recommended lists, [Q, k]; None where they were not computed yet.

        Raises:
            InputError: the file is broken.
        """
        if not (self.folder / DISTANCES_FILE).exists():
            return None
        return self._read(DISTANCES_FILE, partial(read_distances, of=self.files.get(OUTCOMES_FILE, "")))

    def write_distance_sums(self, sums_Qk: "np.ndarray") -> None:
        """Writes them beside the outcomes."""
        write_distances(self.folder / DISTANCES_FILE, sums_Qk, self.files.get(OUTCOMES_FILE, ""))

    def keeps_lists(self) -> bool:
        """Returns whether the outcomes hold the recommended lists; those of earlier versions do not."""
        return set(LIST_COLUMNS).issubset(self.outcomes_columns())

    def outcomes_columns(self) -> list[str]:
        """Returns the names of the outcomes' columns, without reading the rest, which is checked where it is read.

        Raises:
            InputError: the file is missing or broken.
        """
        from pyarrow import parquet

        return list(read_checked(self.folder / OUTCOMES_FILE, parquet.read_schema).names)

    def training_log(self) -> "pd.DataFrame":
        """Returns one row per epoch: loss, seconds and validation metrics.

        Raises:
            InputError: the file is missing or broken.
        """
        return self._read(LOG_FILE, _read_log)

    def _read(self, name: str, read: Callable[[Path], _Read]) -> _Read:
        """Returns what a file of the run holds. Raises InputError where it is missing, damaged or broken."""
        if not self.files:
            say_unsealed(self.folder / name)
        return read_checked(self.folder / name, read, self.files.get(name))

    def checkpoint(self) -> Path:
        """Returns the file with the model that was tested: at its best epoch, or of the final fit.

        Raises:
            InputError: it is missing, or there is no model: lists of another program.
        """
        if not self.was_trained:
            raise InputError(
                f"{self.folder}: lists of another program, so there is no model; expected a run of a model"
            )
        path = self.folder / (BEST_CHECKPOINT if self.final_fit == "none" else FINAL_CHECKPOINT)
        if not path.is_file():
            raise InputError(f"{path}: no such file; expected the weights of run {self.run_id} at its best epoch")
        return path

    def write(self, folder: Path) -> None:
        """Writes the record, last of a run's files: a folder with a record is a finished run."""
        write_document(folder / RECORD_FILE, self)
        self._folder = folder


def run_files_sha256(folder: Path) -> dict[str, str]:
    """Returns the checksums of a run's files that its record is to hold, by name."""
    names = (OUTCOMES_FILE, ITEMS_FILE, LOG_FILE)
    return {name: file_sha256(folder / name) for name in names if (folder / name).is_file()}


def read_log(path: Path) -> "pd.DataFrame":
    """Returns a training log, every number to its last digit.

    Raises:
        InputError: the file is missing or broken.
    """
    return read_checked(path, _read_log)


def _read_log(path: Path) -> "pd.DataFrame":
    import numpy as np
    import pandas as pd

    log = pd.read_csv(path, float_precision="round_trip")
    if missing := [name for name in ("epoch", "loss", "best") if name not in log]:
        raise ValueError(f"no column {' and '.join(missing)}")
    if text := [name for name in log if not pd.api.types.is_numeric_dtype(log[name])]:
        raise ValueError(f"column {text[0]} holds what is no number")
    if (log["epoch"] != np.arange(1, len(log) + 1)).any():
        raise ValueError("column epoch does not count from 1")
    if not np.isfinite(log["loss"]).all():
        raise ValueError("column loss holds what is no finite number")
    return log


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
    record = with_model_facts(read_document(folder / RECORD_FILE, RunResult, "the record of a finished run"))
    record._folder = folder
    return record


# The heads that there were when records did not name them: the ending of models' names, and the name of the head.
_HEADS = {
    **{"Softmax": "softmax", "Cosine": "cosine", "MoC": "moc", "MoS": "mos", "Sigsoftmax": "sigsoftmax"},
    **{"MoSS": "moss", "DOC": "doc", "Mixtape": "mixtape", "MoL": "mol", "DnD": "dnd"},
}
_HIDDEN_SIZE_ENCODERS = ("SASRec", "LightSANs", "GCSAN", "BERT4Rec", "FEARec")


def with_model_facts(record: RunResult) -> RunResult:
    """Returns a record with `encoder`, `head`, `n_components`, `width` and `baseline`, whatever its schema version.

    Version 1 had none of them: there, they follow from the name of the model and from its settings.
    """
    ending = next((one for one in _HEADS if record.model.endswith(one) and record.model != one), None)
    if record.schema_version > 1 or ending is None:
        return record
    encoder, head, settings = record.model.removesuffix(ending), _HEADS[ending], record.settings
    if head in ("mos", "moss"):
        n_components = settings.get("mos_heads")
    else:
        n_components = sum(settings.get("doc_heads", ())) if head == "doc" else 1
    return record.model_copy(
        update={
            "encoder": encoder,
            "head": head,
            "n_components": n_components,
            "width": settings.get("hidden_size" if encoder in _HIDDEN_SIZE_ENCODERS else "embedding_size"),
            "baseline": None if head == "softmax" else f"{encoder}Softmax",
        }
    )
