"""Records of runs: written atomically, read back checked. All tables and figures are made from these."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import pyarrow.parquet
import pydantic

from mos_recbole.errors import InputError
from mos_recbole.io import atomic_write
from mos_recbole.results.top_items import DISTANCES_FILE, ITEMS_FILE, LIST_COLUMNS, TopItems, read_top_items

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

_Read = TypeVar("_Read")
_log = logging.getLogger(__name__)


class Document(pydantic.BaseModel):
    """What a JSON file of results holds.

    Attributes:
        schema_version: of the file. Files of newer versions are read too, without the fields that are unknown here.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    schema_version: int = pydantic.Field(default=1, ge=1)


class Metric(pydantic.BaseModel):
    """A metric's mean over queries, and which value is better."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

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
    """

    schema_version: int = pydantic.Field(default=2, ge=1)
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
    unknown_settings: dict[str, Any] = {}
    data: dict[str, Any]
    parameters: int
    epochs: int
    best_epoch: int
    final_fit: Literal["none", "train+valid"] = "none"
    stopped: Literal["epochs", "early_stopping"] | None = None
    valid_metric: str
    asked_metrics: list[str] = []
    valid: dict[str, Metric]
    test: dict[str, Metric]
    train_seconds: float
    eval_seconds: float
    train_processor_seconds: float | None = None
    eval_processor_seconds: float | None = None
    wall_seconds: float
    peak_memory_bytes: dict[str, int]
    energy_kwh: dict[str, float] = {}
    energy_by: str = ""
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

    @property
    def n_items(self) -> int:
        """V, the padding included."""
        return int(self.data["items"]) + 1

    def outcomes(self) -> pd.DataFrame:
        """Returns one row per test query, without the lists; the columns are described in docs/results.md.

        Raises:
            InputError: the file is missing or broken.
        """
        columns = [name for name in self.outcomes_columns() if name not in LIST_COLUMNS]
        return self._read(OUTCOMES_FILE, partial(pd.read_parquet, columns=columns))

    def top_items(self) -> TopItems:
        """Returns the recommended lists, in the order of the outcomes, of a run that `keeps_lists`.

        Raises:
            InputError: a file is missing or broken.
        """
        return self._read(OUTCOMES_FILE, read_top_items)

    def distance_sums(self) -> np.ndarray | None:
        """Returns `evaluation.distance_sums` of the recommended lists, [Q, k]; None where they were not computed.

        Raises:
            InputError: the file is broken.
        """
        if not (self.folder / DISTANCES_FILE).exists():
            return None
        return self._read(DISTANCES_FILE, pd.read_parquet).to_numpy()

    def keeps_lists(self) -> bool:
        """Returns whether the outcomes hold the recommended lists; those of earlier versions do not."""
        return set(LIST_COLUMNS).issubset(self.outcomes_columns())

    def outcomes_columns(self) -> list[str]:
        """Returns the names of the outcomes' columns, without reading the rest.

        Raises:
            InputError: the file is missing or broken.
        """
        return list(self._read(OUTCOMES_FILE, pyarrow.parquet.read_schema).names)

    def training_log(self) -> pd.DataFrame:
        """Returns one row per epoch: loss, seconds and validation metrics.

        Raises:
            InputError: the file is missing or broken.
        """
        return self._read(LOG_FILE, read_log)

    def _read(self, name: str, read: Callable[[Path], _Read]) -> _Read:
        """Returns what a file of the run holds. Raises InputError where it is missing or broken."""
        path = self.folder / name
        try:
            return read(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: {error}") from error

    def checkpoint(self) -> Path:
        """Returns the file with the model that was tested: at its best epoch, or of the final fit.

        Raises:
            InputError: it is missing.
        """
        path = self.folder / (BEST_CHECKPOINT if self.final_fit == "none" else FINAL_CHECKPOINT)
        if not path.is_file():
            raise InputError(f"{path}: no such file; expected the weights of run {self.run_id} at its best epoch")
        return path

    def write(self, folder: Path) -> None:
        """Writes the record, last of a run's files: a folder with a record is a finished run."""
        write_document(folder / RECORD_FILE, self)
        self._folder = folder


def read_log(path: Path) -> pd.DataFrame:
    """Returns a training log, every number to its last digit."""
    return pd.read_csv(path, float_precision="round_trip")


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


_Content = TypeVar("_Content", bound=Document)

# What was reported of files of other versions, so that a folder of them gives one warning.
_reported: set[str] = set()


def read_document(path: Path, kind: type[_Content], expected: str) -> _Content:
    """Returns what a file holds. Of a newer version it leaves out the fields that are unknown here, with a warning.

    Raises:
        InputError: the file is missing or broken.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected {expected}") from error
    unknown: list[tuple[int | str, ...]] = []
    try:
        document = kind.model_validate_json(text)
    except pydantic.ValidationError as error:
        for fault in error.errors():
            if fault["type"] != "extra_forbidden":
                where = ".".join(str(part) for part in fault["loc"])
                raise InputError(f"{path}: not {expected}: {where}: {fault['msg']}") from error
            unknown.append(fault["loc"])
        document = kind.model_validate_json(_without(text, unknown))
    newest = kind.model_fields["schema_version"].default
    faults = [f"schema version {document.schema_version}, newer than {newest}"] * (document.schema_version > newest)
    if unknown:
        fields = dict.fromkeys(".".join(map(str, location)) for location in unknown)
        faults.append(f"unknown fields ({', '.join(fields)}), which are ignored")
    found = f"{path.name}: {'; '.join(faults)}"
    if faults and found not in _reported:
        _reported.add(found)
        _log.warning(f"{path.parent / found}. Another version of mos_recbole wrote it; update to read all of it.")
    return document


def _without(text: bytes, locations: Sequence[tuple[int | str, ...]]) -> str:
    """Returns a JSON document without some of its fields."""
    document = json.loads(text)
    for *parents, field in locations:
        holder = document
        for parent in parents:
            holder = holder[parent]
        del holder[field]
    return json.dumps(document)


def write_document(path: Path, content: Document) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(content.model_dump_json(indent=1) + "\n", encoding="utf-8")
