"""Records of sweeps: the plan and a file for each trial."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import pydantic

from mos_recbole.errors import InputError
from mos_recbole.results.documents import Document, read_document, write_document
from mos_recbole.results.labels import run_label
from mos_recbole.results.records import LOG_FILE, RECORD_FILE, RUNS_FOLDER, read_log

if TYPE_CHECKING:
    import pandas as pd

SWEEP_FILE = "sweep.json"
TRIALS_FOLDER = "trials"

TrialStatus = Literal["finished", "stopped", "failed", "unfinished"]


class SweepPlan(Document):
    """What a sweep is: all that decides which trials it has. `<sweep>/sweep.json` holds it.

    Attributes:
        metric: validation metric by which configurations are selected.
        search: method and its settings; stopping: the scheduler's, empty where every trial trains to its end.
        space: the swept parameters as the sweep file has them.
        settings: settings that all trials share, by key.
    """

    INSTEAD: ClassVar[str] = "the sweep in another folder"

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
        write_document(folder / SWEEP_FILE, self)


class Trial(Document):
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

    INSTEAD: ClassVar[str] = "delete it, and the sweep plans the trial anew"

    number: int = pydantic.Field(ge=1)
    model: str
    dataset: str
    seed: int
    parameters: dict[str, Any]
    run: Annotated[str, pydantic.Field(pattern=r"^[^/\x00]+$")]
    ended: Literal["stopped", "failed"] | None = None
    error: str | None = None
    attempts: int = pydantic.Field(default=0, ge=0)

    @property
    def label(self) -> str:
        """For example "GRU4RecMoS embedding_size=64 mos_heads=4 seed 1"."""
        return run_label(self.model, self.parameters, self.seed)

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

    def training_log(self, sweep: Path) -> "pd.DataFrame | None":
        """Returns one row per epoch of its run so far, or None before the first one ended; see `RunResult`."""
        path = self.folder(sweep) / LOG_FILE
        return read_log(path) if path.exists() else None

    def best_validation(self, sweep: Path, metric: str, mode: Literal["max", "min"]) -> float | None:
        """Returns the validation of its run's chosen epoch, or the best so far; None before the first one."""
        log = self.training_log(sweep)
        row = None if log is None else best_row(log, metric, mode)
        return None if row is None else float(row[metric])

    def path(self, sweep: Path) -> Path:
        """Returns its own file."""
        return sweep / TRIALS_FOLDER / f"{self.run_id}.json"

    def write(self, sweep: Path) -> None:
        """Writes the trial's file into its sweep's folder."""
        (sweep / TRIALS_FOLDER).mkdir(exist_ok=True)
        write_document(self.path(sweep), self)


def best_row(log: "pd.DataFrame", metric: str, mode: Literal["max", "min"]) -> "pd.Series | None":
    """Returns a training log's row of the chosen epoch, or of the best so far; None before the first validation."""
    if metric not in log:
        return None
    values, chosen = log[metric].dropna(), log["best"] == 1
    if chosen[values.index].any():
        values = values[chosen]
    elif mode == "max":
        values = values[values == values.max()]
    else:
        values = values[values == values.min()]
    return None if values.empty else log.loc[values.index[-1]]


def read_plan(folder: Path) -> SweepPlan:
    """Returns the plan of the sweep in a folder.

    Raises:
        InputError: there is none, or it is broken.
    """
    return read_document(folder / SWEEP_FILE, SweepPlan, "the folder of a sweep")


def read_trials(folder: Path) -> list[Trial]:
    """Returns the trials of the sweep in a folder, in the order of the plan.

    Raises:
        InputError: a file is broken.
    """
    trials = []
    for path in (folder / TRIALS_FOLDER).glob("*.json"):
        trial = read_document(path, Trial, "a trial")
        if path.stem != trial.run_id:
            raise InputError(f"{path}: holds the trial {trial.run_id}, which has a file of its own; delete this one")
        trials.append(trial)
    return sorted(trials, key=lambda trial: trial.number)
