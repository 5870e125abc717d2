"""One run from settings to record: read, split, train on training, select on validation, score the test set once."""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import platform
import re
import resource
import subprocess
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import init_seed

from mos_recbole import __version__
from mos_recbole.data import DataSummary, SequenceDataset, Split, interactions_fingerprint
from mos_recbole.errors import InputError, TrainingDiverged
from mos_recbole.evaluation import (
    CatalogueCounts,
    EvaluationProtocol,
    TargetRanks,
    compute_metrics,
    item_distance,
    metric_direction,
    needs_top_items,
    parse_metric,
)
from mos_recbole.experiment.facts import model_facts
from mos_recbole.io import atomic_write, require_writable
from mos_recbole.models import PLUGINS, EncoderHeadRecommender, requirement_faults
from mos_recbole.results import (
    OUTCOMES_FILE,
    RECORD_FILE,
    RUN_FILES,
    RUNS_FOLDER,
    Metric,
    RunResult,
    outcomes_frame,
    read_record,
    run_identity,
)
from mos_recbole.settings import RecBoleConfig, Settings, load_settings
from mos_recbole.training import (
    ALONE,
    BenchmarkTrainer,
    EpochReport,
    FusedTrial,
    Processes,
    QuerySet,
    TrainLoader,
    evaluate_model,
    join_processes,
    kept_apart_by,
    load_checkpoint,
    make_query_set,
    make_train_loader,
    make_trainer,
    model_data,
    not_fusable,
    random_state,
    train_fused,
)

# The rooms whose code can change a run's numbers; the rest only reads them, as do the parts below of these rooms.
_COMPUTING = ("losses", "heads", "evaluation", "models", "data", "settings", "training", "properties")
_NOT_COMPUTING = {
    *("data/movielens", "evaluation/__init__.py", "evaluation/intervals.py", "evaluation/resampling.py"),
    *("evaluation/significance.py", "evaluation/slices.py", "evaluation/spectrum.py"),
}
_COMPUTING_FILES = ("compat.py", "io.py", "experiment/__init__.py")


@dataclass(frozen=True)
class Messages:
    """What a run tells while it is under way; each is called with one line or one report.

    Attributes:
        show_progress: whether to draw progress bars on standard error.
        note: called with a sentence.
        epoch: called after every epoch.
    """

    show_progress: bool = False
    note: Callable[[str], None] = lambda text: None
    epoch: Callable[[EpochReport], None] = lambda report: None


def run_experiment(
    settings: Settings | str,
    dataset: str = "ml-100k",
    *,
    output: str | Path = "results",
    device: str = "auto",
    resume: bool = False,
    patience: float = 0.0,
    messages: Messages | None = None,
    **overrides: Any,
) -> RunResult:
    """Returns the record of one run, trained and evaluated; its files are in `RunResult.folder`.

    >>> from mos_recbole import run_experiment
    >>> record = run_experiment("GRU4RecMoS", "ml-100k", embedding_size=32, mos_heads=4, seed=1)
    >>> record.test["NDCG@10"].value, record.outcomes()

    Args:
        settings: of `load_settings`; or the name of a model, with `dataset` and `overrides` as its settings.
        dataset: name or folder of the data set.
        output: the results folder.
        device: "cpu", "cuda", "cuda:1", or "auto" for a GPU where there is one.
        resume: whether to go on from what an earlier run with the same settings left: a finished one is returned as it
            is, an unfinished one continues from its last epoch. Otherwise the run starts anew.
        patience: seconds to wait for another process that is at work on the same run, before refusing.
        messages: what to tell on the way.
        overrides: settings by RecBole's keys.

    Raises:
        InputError: anything the user gave that cannot be used; nothing was written over.
        TrainingDiverged: the training loss became NaN or infinite.
    """
    if isinstance(settings, str):
        settings = load_settings(settings, dataset, overrides=overrides)
    elif overrides:
        raise TypeError("overrides belong to load_settings where settings are given")
    chosen_device = _device(device)
    processes = join_processes(chosen_device.type)
    messages = messages if messages is not None and processes.first else Messages()
    run = _Run(settings, Path(output), processes.own_device(chosen_device), messages, processes=processes)
    processes.require_same("the run id", run.run_id)
    _forget_peak_memory()
    with _only_here(run.folder, patience) if processes.first else contextlib.nullcontext():
        record = processes.tell(run.finished(resume) if processes.first else None)
        if record is not None:
            return record
        trainer = run.open(resume)
        validate, valid_metric, higher_is_better = run.selection()
        trainer.fit(run.train_loader(), validate, valid_metric, higher_is_better, run.messages.epoch)
        return run.close()


def run_fused(
    runs: Sequence[Settings],
    *,
    output: str | Path = "results",
    device: str = "auto",
    resume: bool = False,
    patience: float = 0.0,
    messages: Sequence[Messages] = (),
    ended: Callable[[int, RunResult | TrainingDiverged], None] = lambda place, outcome: None,
) -> list[RunResult | TrainingDiverged]:
    """Returns the records of runs that were trained as one; of one that diverged how it did, while the others went on.

    The numbers are those of `run_experiment` for each of them, up to rounding; so are the files, which either can go on
    from. What differs is the time: each run's `train_seconds` are its share of what the training of all took.

    Args:
        runs: of equal shape: they differ in `training.fusable.MAY_DIFFER` alone.
        output, device, resume, patience: as of `run_experiment`, for all runs.
        messages: for each run.
        ended: called as soon as a run has ended, with its place among the runs and what is returned of it.

    Raises:
        InputError: runs that cannot be trained as one, and what `run_experiment` raises of each.
    """
    _require_fusable(runs)
    chosen_device = _device(device)
    outcomes: dict[int, RunResult | TrainingDiverged] = {}

    def note(place: int, outcome: RunResult | TrainingDiverged) -> None:
        outcomes[place] = outcome
        ended(place, outcome)

    told = list(messages) or [Messages()] * len(runs)
    require_writable(Path(output))
    ground = _Ground(runs[0], chosen_device)
    opened = [
        _Run(settings, Path(output), chosen_device, own, ground) for settings, own in zip(runs, told, strict=True)
    ]
    _forget_peak_memory()
    with contextlib.ExitStack() as locks:
        # In one order, so that two processes with some of the same runs do not wait for each other.
        for run in sorted(opened, key=lambda run: run.folder.name):
            locks.enter_context(_only_here(run.folder, patience))
        trials: dict[FusedTrial, int] = {}
        loaders: dict[int, TrainLoader] = {}
        for place, run in enumerate(opened):
            if (record := run.finished(resume)) is not None:
                note(place, record)
                continue
            trainer, seed = run.open(resume), run.config["seed"]
            if seed not in loaders:
                loaders[seed] = run.train_loader()
            random = random_state(chosen_device)
            trials[FusedTrial(trainer, loaders[seed], *run.selection(), run.messages.epoch, random)] = place
        for trial, diverged in train_fused(list(trials), any(own.show_progress for own in told)):
            note(trials[trial], diverged or opened[trials[trial]].close())
    return [outcomes[place] for place in range(len(runs))]


def _require_fusable(runs: Sequence[Settings]) -> None:
    """Raises InputError where runs cannot be trained as one."""
    if faults := list(dict.fromkeys(fault for settings in runs if (fault := not_fusable(settings)) is not None)):
        raise InputError("\n".join(faults))
    if keys := kept_apart_by(runs):
        raise InputError(f"runs of different {', '.join(keys)} cannot be trained as one")
    if len({json.dumps(settings.identity(), sort_keys=True) for settings in runs}) < len(runs):
        raise InputError("two of the runs are the same run")


class _Ground:
    """What runs of the same data settings and protocol have in common, made once: the data and the queries.

    Raises:
        InputError: the data cannot be read, or the split leaves a side empty.
    """

    def __init__(self, settings: Settings, device: torch.device) -> None:
        self.config, self.device = settings.recbole_config(device), device
        self.data = SequenceDataset(self.config)
        self.split = self.data.split()
        self.protocol = settings.protocol
        self.fingerprint = self.data.fingerprint()

    @cached_property
    def summary(self) -> DataSummary:
        """Counts of the data."""
        return self.data.summary(self.split)

    @cached_property
    def valid_queries(self) -> QuerySet:
        """The queries that selection goes by."""
        return make_query_set(self.config, self.data, self.split, "valid", self.protocol, self.device)


class _Run:
    """A run from its settings to its record, step by step: `finished`, `open`, training, `close`.

    Args:
        settings: of the run.
        output: the results folder.
        device: that it runs on.
        messages: what to tell on the way.
        ground: shared with other runs; None for its own.
        processes: that do the run together.

    Raises:
        InputError: the output cannot be written to, or the data cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        output: Path,
        device: torch.device,
        messages: Messages,
        ground: _Ground | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.started = time.perf_counter()
        require_writable(output)
        self.settings, self.device, self.messages, self.processes = settings, device, messages, processes
        self.config = settings.recbole_config(device)
        self.ground = ground or _Ground(settings, device)
        name = run_name(settings, self.ground.fingerprint, device.type)
        self.run_id = name.rpartition("-")[2]
        self.folder = output / RUNS_FOLDER / name
        require_writable(self.folder)

    def finished(self, resume: bool) -> RunResult | None:
        """Returns the record where the run is to go on and is finished."""
        if not resume or not (self.folder / RECORD_FILE).exists():
            return None
        self.messages.note(f"already finished: {self.folder}")
        return read_record(self.folder)

    def open(self, resume: bool) -> BenchmarkTrainer:
        """Returns the trainer of the model, at its first weights or where it is to go on."""
        config, ground = self.config, self.ground
        self.messages.note(f"{self.settings.dataset}: {ground.summary.describe()}")
        init_seed(config["seed"], config["reproducibility"])
        self.model = _build_model(self.settings, config, model_data(config, ground.data, ground.split)).to(self.device)
        self.trainer = make_trainer(
            config, self.model, self.folder, self.run_id, self.messages.show_progress, self.started, self.processes
        )
        self.resumed = resume and self.trainer.resume_checkpoint()
        if self.resumed:
            self.messages.note(f"resumed after epoch {self.trainer.start_epoch}: {self.folder}")
        elif self.processes.first:
            for name in RUN_FILES:
                (self.folder / name).unlink(missing_ok=True)
        self.evaluation = _Evaluation(
            self.model,
            config,
            ground.data,
            ground.split,
            ground.protocol,
            self.settings.metric_names,
            self.messages.show_progress,
            self.processes,
        )
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        return self.trainer

    def train_loader(self) -> TrainLoader:
        """Returns the batches of each epoch."""
        return make_train_loader(self.config, self.ground.data, self.ground.split, self.processes.share)

    def selection(self) -> tuple[Callable[[], dict[str, float]], str, bool]:
        """Returns what epochs are chosen by: the validation of the model as it stands, its metric, whether higher is
        better."""
        metric, queries = self.config["valid_metric"], self.ground.valid_queries
        return partial(self._metrics, queries), metric, metric_direction(metric) == "higher"

    def _metrics(self, queries: QuerySet) -> dict[str, float]:
        # The first process's, on which selection and stopping hang: they must be one decision.
        return self.processes.tell(self.evaluation.metrics(queries)[0])

    def close(self) -> RunResult:
        """Returns the record of the trained run, written with its outcomes."""
        config, ground, trainer, model = self.config, self.ground, self.trainer, self.model
        valid = self._metrics(ground.valid_queries)
        test_queries = make_query_set(config, ground.data, ground.split, "test", ground.protocol, self.device)
        test, ranks = self.evaluation.metrics(test_queries)
        if not self.processes.first:
            return self.processes.hear()
        with atomic_write(self.folder / OUTCOMES_FILE) as temporary:
            length = config["MAX_ITEM_LIST_LENGTH"]
            _outcomes(ground.data, ground.split, length, ranks, ground.protocol, model).to_parquet(
                temporary, index=False
            )
        record = RunResult(
            run_id=self.run_id,
            protocol_hash=protocol_hash(self.settings, ground.fingerprint),
            protocol=vars(ground.protocol),
            model=self.settings.model,
            **model_facts(self.settings.model_class, model),
            split_leakage=self.settings.split.leakage,
            dataset=self.settings.dataset,
            seed=config["seed"],
            settings=self.settings.identity(),
            data=ground.summary.as_dict() | {"fingerprint": ground.fingerprint},
            parameters=_n_parameters(model),
            epochs=len(trainer.reports),
            best_epoch=trainer.best_epoch,
            valid_metric=config["valid_metric"],
            valid=_directed(valid),
            test=_directed(test),
            train_seconds=sum(report.train_seconds for report in trainer.reports),
            eval_seconds=sum(report.eval_seconds for report in trainer.reports),
            wall_seconds=trainer.earlier_seconds + time.perf_counter() - self.started,
            peak_memory_bytes=_peak_memory(self.device),
            resumed=self.resumed,
            device=_device_name(self.device),
            threads=torch.get_num_threads(),
            processes=self.processes.number,
            versions=_versions(),
            code=_code_hash(),
            git_commit=_git_commit(),
            finished=datetime.now(UTC).isoformat(timespec="microseconds"),
        )
        record.write(self.folder)
        return self.processes.tell(record)


@dataclass(frozen=True)
class TrainedRun:
    """A finished run made ready to answer again.

    Attributes:
        model: at its best epoch, in evaluation mode, on the configuration's device.
        config: RecBole's configuration object.
        data, split, protocol: those of the run.
    """

    model: AbstractRecommender
    config: RecBoleConfig
    data: SequenceDataset
    split: Split
    protocol: EvaluationProtocol


def load_run(record: RunResult, device: str = "auto", data_path: str | Path | None = None) -> TrainedRun:
    """Returns a finished run's model as it was at the best epoch, with the data that it learned from.

    Args:
        record: of the run.
        device: as of `run_experiment`; it need not be the run's.
        data_path: the folder that the data set's folder is in, which records do not tell; None for the default.

    Raises:
        InputError: no checkpoint or that of another run, data that are missing or no longer what they were, or settings
            that this version does not know.
    """
    path = record.checkpoint()
    chosen_device = _device(device)
    place = {} if data_path is None else {"data_path": str(data_path)}
    recorded = dict(record.settings)
    plugins = recorded.pop("plugins", {})
    settings = load_settings(record.model, record.dataset, [recorded], place)
    if settings.identity().get("plugins", {}) != plugins:
        raise InputError(f"run {record.run_id}: {' or '.join(plugins)} is not what it was; expected the same --plugin")
    config = settings.recbole_config(chosen_device)
    if not Path(config["data_path"]).is_dir():
        raise InputError(
            f"{config['data_path']}: no such folder; expected the data of run {record.run_id}, of which the record has "
            "the name alone: --dataset FOLDER tells where they are"
        )
    data = SequenceDataset(config)
    split = data.split()
    if data.fingerprint() != record.data["fingerprint"]:
        raise InputError(
            f"{config['data_path']}: not the data of run {record.run_id}, or they were changed since; expected those "
            f"with the fingerprint {record.data['fingerprint'][:16]}..."
        )
    model: AbstractRecommender = (
        _build_model(settings, config, model_data(config, data, split)).to(chosen_device).eval()
    )
    state = load_checkpoint(path, record.run_id, record.model, chosen_device)["model"]
    try:
        model.load_state_dict(state["state_dict"])
        model.load_other_parameter(state["other_parameter"])
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: does not fit {record.model} as it is in this version: {reason}") from error
    return TrainedRun(model, config, data, split, settings.protocol)


def run_name(settings: Settings, fingerprint: str, device_type: str) -> str:
    """Returns the name of a run's folder, which ends with the run id.

    Args:
        settings: of the run.
        fingerprint: of the prepared data (`data_fingerprint`).
        device_type: "cpu" or "cuda".
    """
    run_id = run_identity(settings.identity(), fingerprint, _code_hash(), _platform(device_type))
    return f"{settings.model}-{settings.dataset}-seed{settings.values['seed']}-{run_id}"


def data_fingerprint(settings: Settings) -> str:
    """Returns the SHA-256 of the data that a run would learn from; prepares them where that was not done before.

    Raises:
        InputError: the data cannot be read, or the split leaves a side empty.
    """
    data = SequenceDataset(settings.recbole_config(torch.device("cpu")))
    data.split()
    return data.fingerprint()


def protocol_hash(settings: Settings, fingerprint: str) -> str:
    """Returns what is equal for runs whose numbers may be compared."""
    return settings.protocol.hash(interactions_fingerprint(fingerprint))


def time_training(settings: Settings, device: str = "cpu", seconds: float = 1.0) -> float:
    """Returns about how long training to the last epoch takes, in seconds, judged by a few steps; writes no files.

    Args:
        settings: of the run.
        device: as of `run_experiment`.
        seconds: how long to measure, at least one step.

    Raises:
        InputError: as `run_experiment`.
    """
    chosen_device = _device(device)
    config = settings.recbole_config(chosen_device)
    data = SequenceDataset(config)
    split = data.split()
    init_seed(config["seed"], config["reproducibility"])
    model = _build_model(settings, config, model_data(config, data, split)).to(chosen_device)
    trainer = make_trainer(config, model, Path(), "", False, time.perf_counter())
    return trainer.epochs * trainer.time_epoch(make_train_loader(config, data, split), seconds)


def count_parameters(settings: Settings) -> int:
    """Returns the number of trainable parameters of a model with these settings, as the records of runs have it.

    Raises:
        InputError: as `run_experiment`.
    """
    config = settings.recbole_config(torch.device("cpu"))
    data = SequenceDataset(config)
    return _n_parameters(_build_model(settings, config, model_data(config, data, data.split())))


def _n_parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _build_model(settings: Settings, config: RecBoleConfig, data: SequenceDataset) -> torch.nn.Module:
    """Returns the model with its first weights.

    Raises:
        InputError: the data lack what the model needs; or the model, its encoder or its head refuses the settings, of
            which it alone knows what it takes.
    """
    model_class: Any = settings.model_class
    if faults := requirement_faults(config, data):
        raise InputError("\n".join(faults))
    try:
        # FEARec and LDiffRec print what they were debugged by.
        with contextlib.redirect_stdout(io.StringIO()):
            return model_class(config, data)
    except InputError:
        raise
    except (ValueError, NotImplementedError, AssertionError) as error:
        if not _refuses_settings(error):
            raise
        raise InputError(f"{settings.model} cannot be built from these settings: {error!r}") from error


def _refuses_settings(error: Exception) -> bool:
    """Returns whether an error of a constructor is about a setting.

    RecBole's models and PyTorch's layers refuse values by ValueError, NotImplementedError and AssertionError, and heads
    and encoders do alike; raised from anywhere else, such as NumPy or the data, these are defects. What fails in other
    ways for want of a right value is in `models.requirement_faults`.
    """
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    module = innermost.f_globals.get("__name__", "")
    return module.startswith(("recbole.model.", "torch.nn.", "mos_recbole.heads.", "mos_recbole.models.", PLUGINS))


class _Evaluation:
    """Metrics of a model as it stands, on any side, by one protocol."""

    def __init__(
        self,
        model: torch.nn.Module,
        config: RecBoleConfig,
        data: SequenceDataset,
        split: Split,
        protocol: EvaluationProtocol,
        metric_names: list[str],
        show_progress: bool,
        processes: Processes,
    ) -> None:
        self.show_progress, self.processes = show_progress, processes
        self.model, self.config, self.protocol, self.metric_names = model, config, protocol, metric_names
        self.catalogue = CatalogueCounts(data.train_counts(split), config["tail_ratio"])
        self.top_k = max((parse_metric(name)[1] or 0 for name in metric_names if needs_top_items(name)), default=0)

    def metrics(self, queries: QuerySet) -> tuple[dict[str, float], TargetRanks]:
        """Returns the metrics, and what they were computed from."""
        ranks = evaluate_model(self.model, self.config, queries, self.top_k, self.show_progress, self.processes)
        values, _ = compute_metrics(
            self.metric_names,
            ranks.ranks(self.protocol.tie_rule).numpy(),
            ranks.ranks("mean").numpy(),
            ranks.n_candidates.numpy(),
            None if ranks.top_items is None else ranks.top_items.numpy(),
            self.catalogue,
        )
        return values, ranks


def _outcomes(
    data: SequenceDataset,
    split: Split,
    max_length: int,
    ranks: TargetRanks,
    protocol: EvaluationProtocol,
    model: torch.nn.Module,
) -> pd.DataFrame:
    """Returns one row per test query, of which models see the last `max_length` items of the context."""
    sequences = data.sequences
    rows, segment = split.test.targets()
    user_number, context_start = split.test.user[segment], split.test.context_start[segment]
    target = sequences.items[rows]
    time_gap = sequences.times[rows] - sequences.times[rows - 1]
    in_training = split.train_rows(len(sequences.items))
    row_user = np.repeat(np.arange(sequences.n_users, dtype=np.int32), np.diff(sequences.offsets))
    distance = partial(item_distance, row_user[in_training], sequences.items[in_training], n_items=data.item_num)
    # Only a model of ours gives probabilities; another's scores may be anything.
    probabilistic = isinstance(model, EncoderHeadRecommender)
    return outcomes_frame(
        {
            "user": data.id2token(data.uid_field, sequences.users[user_number]),
            "position": rows - sequences.offsets[user_number],
            "target": data.id2token(data.iid_field, target),
            "rank": ranks.ranks(protocol.tie_rule).numpy(),
            "tied": ranks.tied.numpy(),
            "candidates": ranks.n_candidates.numpy(),
            "log_probability": ranks.target_score.double().numpy() if probabilistic else np.nan,
            "context_length": rows - context_start,
            "time_gap": time_gap if sequences.time_scale == 1 else time_gap / sequences.time_scale,
            "train_count": data.train_counts(split)[target],
            "previous_distance": distance(sequences.items[rows - 1], target),
            "oldest_distance": distance(sequences.items[np.maximum(rows - max_length, context_start)], target),
        }
    )


def _directed(values: Mapping[str, float]) -> dict[str, Metric]:
    return {name: Metric(value=value, direction=metric_direction(name)) for name, value in values.items()}


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r}; expected auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device {name!r}; expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r}: this machine shows PyTorch {torch.cuda.device_count()} GPUs")
    return device


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()})"


def _only_here(folder: Path, patience: float) -> filelock.AcquireReturnProxy:
    """Returns the run's lock, held until the end of a `with`; waits for it as many seconds.

    Raises:
        InputError: another process has it.
    """
    try:
        return filelock.FileLock(folder / ".lock").acquire(timeout=patience)
    except filelock.Timeout:
        raise InputError(f"{folder}: another process is at work on this run") from None


def _forget_peak_memory() -> None:
    """Makes Linux count this process's peak memory from now on; elsewhere it counts from the process's start."""
    if Path("/proc/self/clear_refs").exists():
        with contextlib.suppress(OSError):  # not allowed in some containers; the peak is then the process's
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_memory(device: torch.device) -> dict[str, int]:
    status = Path("/proc/self/status")
    if status.exists():
        # In KiB; Linux's getrusage would count the parent process's peak too.
        resident = int(re.search(r"VmHWM:\s+(\d+)", status.read_text(encoding="ascii", errors="replace"))[1]) * 1024  # type: ignore[index]
    else:
        # macOS counts in bytes.
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = {"resident": resident}
    if device.type == "cuda":
        peak["gpu"] = torch.cuda.max_memory_allocated(device)
    return peak


def _platform(device_type: str) -> dict[str, str]:
    """Returns what decides how numbers are rounded, the number of threads apart."""
    return {"device": device_type} | {name: _versions()[name] for name in ("torch", "recbole", "numpy")}


@cache
def _versions() -> dict[str, str]:
    packages = ("torch", "recbole", "numpy", "pandas", "scipy")
    return {"python": platform.python_version(), "mos_recbole": __version__} | {
        package: importlib.metadata.version(package) for package in packages
    }


@cache
def _code_hash() -> str:
    """Returns the package's version with a hash of the source that can change numbers."""
    root = Path(__file__).parent.parent
    files = [root / name for name in _COMPUTING_FILES]
    files += [path for room in _COMPUTING for path in (root / room).rglob("*") if path.suffix in (".py", ".yaml")]
    digest = hashlib.sha256()
    for path in sorted(files):
        name = path.relative_to(root)
        if not any(part.as_posix() in _NOT_COMPUTING for part in (name, *name.parents)):
            digest.update(f"{name.as_posix()}\0".encode() + path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"


@cache
def _git_commit() -> str | None:
    """Returns the commit that the package's source was at, with "+changes" where it had some; None outside of git."""
    root = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        run = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
        return run.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # or it is somebody else's repository
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", str(root)) else "")
    except (OSError, subprocess.CalledProcessError):
        return None
