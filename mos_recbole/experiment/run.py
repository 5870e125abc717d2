"""One run from settings to record: read, split, train on training, select on validation, score the test set once."""

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from recbole.utils import ModelType, init_seed

from mos_recbole.errors import TrainingDiverged
from mos_recbole.evaluation import (
    ScoreIsNaN,
    TargetRanks,
    compute_metrics,
    metric_direction,
    needs_top_items,
    parse_metric,
)
from mos_recbole.experiment.build import build_model, count_trainable, faults_of_others
from mos_recbole.experiment.energy import EnergyMeter
from mos_recbole.experiment.identity import code_version, git_commit, protocol_hash, run_name, versions
from mos_recbole.experiment.machine import choose_device, device_name, peak_memory, reset_peak_memory
from mos_recbole.experiment.outcomes import outcomes_table
from mos_recbole.experiment.run_data import RunData
from mos_recbole.io import exclusive_lock, require_writable
from mos_recbole.models import EncoderHeadRecommender, model_facts
from mos_recbole.results import (
    BEST_CHECKPOINT,
    FINAL_CHECKPOINT,
    LAST_CHECKPOINT,
    OUTCOMES_FILE,
    RECORD_FILE,
    RUN_FILES,
    RUNS_FOLDER,
    Metric,
    RunResult,
    files_of_writers,
    read_record,
    run_files_sha256,
    write_outcomes,
)
from mos_recbole.settings import Settings, load_settings
from mos_recbole.training import (
    SINGLE_PROCESS,
    BenchmarkTrainer,
    EpochReport,
    Moment,
    Processes,
    Selection,
    TrainLoader,
    evaluate_model,
    join_processes,
    make_train_loader,
    make_trainer,
)

_log = logging.getLogger(__name__)

_FINAL_FOLDER = "final_fit"  # of a run, while its last fit is under way


def run_experiment(
    settings: Settings | str,
    dataset: str = "ml-100k",
    *,
    output: str | Path = "results",
    device: str = "auto",
    resume: bool = False,
    patience: float = 0.0,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
    show_progress: bool = False,
    energy: bool = False,
    **overrides: Any,
) -> RunResult:
    """Returns the record of one run, trained and evaluated; its files are in `RunResult.folder`.

    >>> from mos_recbole import run_experiment
    >>> record = run_experiment("GRU4RecMoS", "ml-100k", embedding_size=32, seed=1)  # doctest: +SKIP
    >>> record.test["NDCG@10"].value, record.outcomes()  # doctest: +SKIP

    Args:
        settings: of `load_settings`; or the name of a model, with `dataset` and `overrides` as its settings.
        dataset: name or folder of the data set.
        output: the results folder.
        device: "cpu", "cuda", "cuda:1", or "auto" for a GPU where there is one.
        resume: whether to go on from what an earlier run with the same settings left: a finished one is returned as it
            is, an unfinished one continues from its last epoch. Otherwise the run starts anew.
        patience: seconds to wait for another process that is at work on the same run, before refusing.
        on_epoch: called after every epoch, once its checkpoint is on disk.
        show_progress: whether to draw progress bars on standard error.
        energy: whether to record how much the run uses, as codecarbon estimates it; not of runs that are resumed.
        overrides: settings by RecBole's keys.

    Raises:
        InputError: anything the user gave that cannot be used; nothing was written over.
        TrainingDiverged: the training loss became NaN or infinite.
    """
    if isinstance(settings, str):
        settings = load_settings(settings, dataset, overrides=overrides)
    elif overrides:
        raise TypeError("overrides belong to load_settings where settings are given")
    chosen_device, meter = choose_device(device), EnergyMeter() if energy else None
    processes = join_processes(chosen_device.type)
    run = Run(settings, Path(output), processes.local_device(chosen_device), show_progress, processes=processes)
    processes.require_same("the run id", run.run_id)
    reset_peak_memory()
    with exclusive_lock(run.folder, patience) if processes.is_main else contextlib.nullcontext():
        record = processes.broadcast(run.finished(resume) if processes.is_main else None)
        if record is not None:
            return record
        trainer = run.open(resume, meter)
        callback = on_epoch if processes.is_main else lambda report: None
        with faults_of_others(settings.model_class, "trained"):
            trainer.fit(run.train_loader(), run.selection(), callback)
            return run.close()


class Run:
    """A run from its settings to its record, step by step: `finished`, `open`, training, `close`.

    Args:
        settings: of the run.
        output: the results folder.
        device: that it runs on.
        show_progress: whether to draw progress bars.
        data: shared with other runs; None for its own.
        processes: that do the run together.

    Raises:
        InputError: the output cannot be written to, or the data cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        output: Path,
        device: torch.device,
        show_progress: bool = False,
        data: RunData | None = None,
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        self.started = time.perf_counter()
        require_writable(output)
        self.settings, self.device, self.processes = settings, device, processes
        self.show_progress = show_progress and processes.is_main
        self.final_fit: list[EpochReport] = []
        self.meter: EnergyMeter | None = None
        self.config = settings.recbole_config(device)
        self.data = data or RunData(settings, device)
        name = run_name(settings, self.data.fingerprint, device.type)
        self.run_id = name.rpartition("-")[2]
        self.folder = output / RUNS_FOLDER / name
        require_writable(self.folder)

    def finished(self, resume: bool) -> RunResult | None:
        """Returns the record where the run is to go on and is finished."""
        if not resume or not (self.folder / RECORD_FILE).exists():
            return None
        self._note(f"already finished: {self.folder}")
        return read_record(self.folder)

    def open(self, resume: bool, meter: EnergyMeter | None = None) -> BenchmarkTrainer:
        """Returns the trainer of the model, at its first weights or where it is to go on.

        From here on the meter measures, since building may be training; not where a part of the run is over already.
        """
        if self.processes.is_main:  # the same for all runs of a command, which says it once
            seen = _seen_items(self.settings, self.data.protocol.filter_seen)
            said = f"{self.data.summary.describe()}\n  {seen}"
            _log.info(f"{self.settings.dataset}: {said}", extra={"once": True})
        if meter is not None:
            meter.start()
        try:
            self.trainer = self._begin(self.folder)
            self.resumed = resume and self.trainer.resume_checkpoint()
        except BaseException:
            if meter is not None:
                meter.stop()
            raise
        if self.resumed:
            self._note(f"resumed after epoch {self.trainer.start_epoch}: {self.folder}")
            if meter is not None:
                meter.stop()
                self._note("energy is not recorded: the run was resumed")
        else:
            self.meter = meter
        if self.processes.is_main:
            for path in files_of_writers(self.folder):  # that were killed, since this process holds the lock
                path.unlink(missing_ok=True)
        if self.processes.is_main and not self.resumed:
            for name in RUN_FILES:
                (self.folder / name).unlink(missing_ok=True)
            shutil.rmtree(self.folder / _FINAL_FOLDER, ignore_errors=True)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        return self.trainer

    def train_loader(self) -> TrainLoader:
        """Returns the batches of each epoch."""
        return make_train_loader(self.config, self.data.dataset, self.data.split, self.processes.shard)

    def selection(self) -> Selection | None:
        """Returns what the chosen epoch and early stopping go by: `valid_metric`; None without validation.

        Nothing is ever selected on the test.
        """
        if not self.settings.validates:
            return None
        metric = self.config["valid_metric"]
        last = self.config["chosen_epoch"] == "last"
        return Selection(partial(self.metrics, "valid"), metric, metric_direction(metric) == "higher", last)

    def close(self) -> RunResult:
        """Returns the record of the trained run, written with its outcomes.

        Raises:
            TrainingDiverged: a score of the test set is NaN, where no validation of this model told it.
        """
        self._note(self._training_ended())
        # Of the chosen epoch, as the model that is in place now was validated.
        valid = self.trainer.reports[self.trainer.best_epoch - 1].valid or {}
        if self.settings.values["final_fit"] != "none":
            self._fit_again()
        try:
            test, ranks = self._evaluate("test", self.settings.kept_items)
        except ScoreIsNaN as error:
            rate = self.config["learning_rate"]
            raise TrainingDiverged(f"{error}, in the test set (learning_rate {rate:g})") from error
        record: Any = self._write(valid, test, ranks) if self.processes.is_main else None
        return self.processes.broadcast(record)

    def _begin(self, folder: Path) -> BenchmarkTrainer:
        """Returns the trainer of a new model, which is put in place."""
        config = self.config
        init_seed(config["seed"], config["reproducibility"])
        began = Moment.now()
        self.model = build_model(self.settings, config, self.data)
        trainer = make_trainer(
            config, self.model, folder, self.run_id, self.show_progress, self.started, self.processes
        )
        if config["MODEL_TYPE"] == ModelType.TRADITIONAL:
            trainer.solved = began.passed()
        return trainer

    def _fit_again(self) -> None:
        """Trains a new model on training and validation for the chosen number of epochs, and puts it in place."""
        folder, epochs = self.folder / _FINAL_FOLDER, self.trainer.best_epoch
        self.data = self.data.for_final_fit()
        n_targets = self.data.split.train.n_targets
        self._note(f"final fit: {n_targets:,} targets of training and validation, {epochs} epochs")
        folder.mkdir(parents=True, exist_ok=True)
        final = self._begin(folder)
        final.epochs, final.earlier_seconds = epochs, self.trainer.earlier_seconds
        if self.resumed and final.resume_checkpoint():
            self._note(f"resumed after epoch {final.start_epoch} of the final fit")
            self.trainer.earlier_seconds = final.earlier_seconds
        final.fit(self.train_loader(), None)
        self.final_fit = final.reports
        if self.processes.is_main:
            # Without this, what was interrupted here would seem to be ready.
            (folder / LAST_CHECKPOINT).unlink()
            (folder / BEST_CHECKPOINT).replace(self.folder / FINAL_CHECKPOINT)
            shutil.rmtree(folder)

    def _training_ended(self) -> str:
        """Returns why and when training ended, in a sentence."""
        trainer, metric = self.trainer, self.config["valid_metric"]
        done = f"{len(trainer.reports)} of {trainer.epochs} epochs"
        if not self.settings.validates:
            return f"trained {done}; the split has no validation, so the last epoch is the model"
        best = f"best {metric} {trainer.reports[-1].best_score:.4f}"
        if self.config["chosen_epoch"] == "best":
            best += f" in epoch {trainer.best_epoch}"
        else:
            chosen = (trainer.reports[-1].valid or {})[metric]
            best = f"{metric} {chosen:.4f} in the last epoch, which is chosen ({best})"
        if trainer.stopped:
            return f"stopped early after {done}: {best}, {trainer.cur_step} validations without a better one since"
        return f"trained {done}: {best}"

    def _write(self, valid: Mapping[str, float], test: Mapping[str, float], ranks: TargetRanks) -> RunResult:
        """Returns the record; it is written last, so that a folder with a record is a finished run."""
        probabilistic = isinstance(self.model, EncoderHeadRecommender)
        outcomes = outcomes_table(self.data, self.config["MAX_ITEM_LIST_LENGTH"], ranks, probabilistic)
        write_outcomes(self.folder / OUTCOMES_FILE, *outcomes)
        record = self._record(valid, test)
        record.write(self.folder)
        return record

    def _record(self, valid: Mapping[str, float], test: Mapping[str, float]) -> RunResult:
        config, data, trainer = self.config, self.data, self.trainer
        trained = [*trainer.reports, *self.final_fit]
        energy_kwh, energy_by = self.meter.stop() if self.meter else ({}, "")
        return RunResult(
            run_id=self.run_id,
            protocol_hash=protocol_hash(data.protocol, data.fingerprint),
            protocol=vars(data.protocol),
            model=self.settings.model,
            **model_facts(self.model),
            split_leakage=self.settings.split.leakage,
            dataset=self.settings.dataset,
            seed=config["seed"],
            settings=self.settings.identity(),
            unknown_settings=self.settings.unknown,
            data=data.summary.as_dict() | {"fingerprint": data.fingerprint},
            parameters=count_trainable(self.model),
            epochs=len(trainer.reports),
            best_epoch=trainer.best_epoch,
            stopped="early_stopping" if trainer.stopped else "epochs",
            valid_metric=config["valid_metric"],
            asked_metrics=list(self.settings.asked_metrics),
            valid=_directed(valid),
            test=_directed(test),
            final_fit=self.settings.values["final_fit"],
            train_seconds=sum(report.train_seconds for report in trained),
            eval_seconds=sum(report.eval_seconds for report in trainer.reports),
            train_processor_seconds=sum(report.train_processor_seconds for report in trained),
            eval_processor_seconds=sum(report.eval_processor_seconds for report in trainer.reports),
            wall_seconds=trainer.earlier_seconds + time.perf_counter() - self.started,
            peak_memory_bytes=peak_memory(self.device),
            energy_kwh=energy_kwh,
            energy_by=energy_by,
            resumed=self.resumed,
            device=device_name(self.device),
            threads=torch.get_num_threads(),
            processes=self.processes.world_size,
            versions=versions(),
            code=code_version(),
            git_commit=git_commit(),
            files=run_files_sha256(self.folder),
            finished=datetime.now(UTC).isoformat(timespec="microseconds"),
        )

    def metrics(self, side: Literal["valid", "test"]) -> dict[str, float]:
        # The main process's numbers, so that all processes select and stop alike.
        return self.processes.broadcast(self._evaluate(side)[0])

    def _evaluate(self, side: Literal["valid", "test"], top_k: int = 0) -> tuple[dict[str, float], TargetRanks]:
        """Returns the metrics of the model as it stands, and the ranks that they were computed from.

        Args:
            side: of the split.
            top_k: how many of the best items of every query to return, if the metrics need no more.
        """
        names, data = self.settings.metric_names, self.data
        queries = data.valid_queries if side == "valid" else data.test_queries()
        top_k = max([top_k, *(parse_metric(name)[1] or 0 for name in names if needs_top_items(name))])
        ranks = evaluate_model(self.model, self.config, queries, top_k, self.show_progress, self.processes)
        values, _ = compute_metrics(
            names,
            ranks.ranks(data.protocol.tie_rule).numpy(),
            ranks.ranks("mean").numpy(),
            ranks.n_candidates.numpy(),
            None if ranks.top_items is None else data.lists(side, ranks.top_items.numpy(), names),
            ranks.target_score.numpy() if isinstance(self.model, EncoderHeadRecommender) else None,
        )
        return values, ranks

    def _note(self, text: str) -> None:
        if self.processes.is_main:
            _log.info(text)


def _directed(values: Mapping[str, float]) -> dict[str, Metric]:
    return {name: Metric(value=value, direction=metric_direction(name)) for name, value in values.items()}


def _seen_items(settings: Settings, left_out: bool) -> str:
    """Returns what becomes of the items of a query's history, and why, in a sentence."""
    done = "left out of the candidates" if left_out else "candidates too"
    if settings.values["filter_seen"] != "auto":
        return f"items of the history: {done} (filter_seen: {left_out})"
    why = "no user has an item twice" if left_out else "users have items more than once"
    return f"items of the history: {done}, since {why} (filter_seen: auto)"
