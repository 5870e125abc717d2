"""The training loop, on RecBole's trainer."""

import csv
import time
from collections.abc import Callable
from contextlib import nullcontext
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.trainer.trainer import AbstractTrainer, Trainer
from torch import nn
from torch.nn.utils import clip_grad_norm_

from mos_recbole.compat import is_recbole_model
from mos_recbole.errors import InputError, TrainingDiverged
from mos_recbole.evaluation import ScoreIsNaN
from mos_recbole.io import atomic_write
from mos_recbole.progress import ProgressBar
from mos_recbole.results import BEST_CHECKPOINT, LAST_CHECKPOINT, LOG_FILE
from mos_recbole.training.checkpoint import load_checkpoint, random_state, restore_random_state, save_checkpoint
from mos_recbole.training.epoch import EpochReport, Moment, Selection
from mos_recbole.training.loaders import RecBoleLoader, TrainLoader
from mos_recbole.training.memory import step_must_fit
from mos_recbole.training.schedule import Schedule

LossFunction = Callable[[Any], torch.Tensor | tuple[torch.Tensor, ...]]

# What training changes in RecBole's models beside their parameters, buffers and `other_parameter`: counters of
# annealing, past losses that steps are drawn by, places in lists of random numbers, clusters.
_STATE_OF_TRAINING: dict[str, tuple[str, ...]] = {
    "MultiVAE": ("update",),
    "MacridVAE": ("update",),
    "RaCT": ("update",),
    "DiffRec": ("Lt_history", "Lt_count"),
    "LDiffRec": ("update_count", "update_count_vae"),
    "LINE": ("random_list", "random_pr"),
    "NCL": ("user_centroids", "user_2cluster", "item_centroids", "item_2cluster"),
}

# Reading the running loss makes a GPU's host wait, so it is read this often, in seconds.
READ_LOSS_EVERY = 0.5


class BenchmarkTrainer(Trainer):
    """RecBole's `Trainer` with its optimizers, and a loop of its own.

    What differs: no `.item()` per step for the loss; bf16 mixed precision whose log-sum-exp stays in
    float32; checkpoints without pickled objects; exact resume: a run that was stopped at any moment and resumed gives
    the numbers of one that was not, except for the times. Early stopping counts an equal score as no improvement, where
    RecBole begins to count anew: a metric that stays flat ends the training.

    RecBole's constructor opens a TensorBoard folder in the working directory and W&B, so it is not called; the
    attributes that RecBole's methods read are set here.

    Args:
        config: RecBole's.
        model: any RecBole model.
        folder: where checkpoints and the training log go.
        run_id: of the run.
        show_progress: whether to draw progress bars.
        began: `time.perf_counter()` when the run began, loading included.
    """

    def __init__(
        self, config: Any, model: torch.nn.Module, folder: Path, run_id: str, show_progress: bool, began: float
    ) -> None:
        AbstractTrainer.__init__(self, config, model)
        self.logger = getLogger()
        self.device = config["device"]
        self.learner, self.learning_rate = config["learner"], config["learning_rate"]
        self.weight_decay, self.clip_grad_norm = config["weight_decay"], config["clip_grad_norm"]
        self.epochs = config["epochs"]
        # Epochs of the schedule: a final fit, which has fewer, repeats the part of it that was chosen.
        self.schedule, self.budget = Schedule(config["lr_schedule"], config["warmup"]), self.epochs
        self.eval_step = min(config["eval_step"], self.epochs)
        self.stopping_step = config["stopping_step"]
        self.enable_amp = config["enable_amp"]
        self.optimizer = self._build_optimizer()

        self.folder, self.run_id, self.show_progress = folder, run_id, show_progress
        # Wall time of earlier sessions, where the run was resumed.
        self.earlier_seconds, self.began = 0.0, began
        # Passes over the training data an epoch, and epochs at the beginning that are not validated.
        self.passes, self.unvalidated_epochs = 1, 0
        # Time of training before the first epoch: RecBole's traditional models are solved as they are built.
        self.solved = Moment(0.0, 0.0)
        self.start_epoch = 0
        self.cur_step = 0
        self.best_valid_score = -np.inf
        self.best_epoch = 0
        self.stopped = False
        self.reports: list[EpochReport] = []

    def fit(
        self,
        train_loader: TrainLoader,
        selection: Selection | None,
        on_epoch: Callable[[EpochReport], None] = lambda report: None,
    ) -> None:
        """Trains to the end or until validation stops improving, and leaves the model at the chosen epoch.

        Args:
            train_loader: the batches of each epoch.
            selection: what the chosen epoch and early stopping go by; None for all epochs, of which the last is chosen.
            on_epoch: called after every epoch, once its checkpoint is on disk.

        Raises:
            TrainingDiverged: the loss became NaN or infinite.
        """
        self.introduce(train_loader)
        while (epoch := self.next_epoch) is not None:
            started = Moment.now()
            self._enter_epoch(epoch)
            loss = self._train_epoch(train_loader, epoch)
            trained = started.passed() + self.solved if epoch == 1 else started.passed()
            self.close_epoch(epoch, loss, trained, selection, on_epoch)
        self.load_best()

    def introduce(self, train_loader: TrainLoader) -> None:
        """Lets a loader know the model, whose scores choose among candidates where the settings say so."""
        if isinstance(train_loader, RecBoleLoader) and self.config["train_neg_sample_args"]["dynamic"]:
            train_loader.loader.get_model(self.model)

    @property
    def next_epoch(self) -> int | None:
        """The epoch that training goes on with, or None where it has ended."""
        epoch = len(self.reports) + 1
        return None if self.stopped or epoch > self.epochs else epoch

    def close_epoch(
        self,
        epoch: int,
        loss: float,
        trained: Moment,
        selection: Selection | None,
        on_epoch: Callable[[EpochReport], None] = lambda report: None,
    ) -> None:
        """Validates a trained epoch, decides whether it is the chosen one and the last, and writes its files.

        Args:
            epoch: its number.
            loss: its mean over the targets.
            trained: how long.
            selection, on_epoch: as of `fit`.

        Raises:
            TrainingDiverged: a score or a weight became NaN or infinite.
            InputError: no query of the validation has the metric that counts.
        """
        if not all(torch.isfinite(parameter).all() for parameter in self.model.parameters()):
            raise self._diverged("a weight became NaN or infinite", epoch)
        began = Moment.now()
        metrics, best = None, False
        if selection is not None and self._is_validated(epoch):
            try:
                metrics = selection.validate()
            except ScoreIsNaN as error:
                raise self._diverged(str(error), epoch) from error
            if np.isnan(metrics[selection.metric]):
                raise InputError(f"no query of the validation has {selection.metric}; expected another valid_metric")
            best = self._note_score(metrics[selection.metric], selection.higher_is_better)
        if selection is None or selection.last:
            best = self.stopped or epoch == self.epochs
        if best:
            self.best_epoch = epoch
        evaluated = began.passed()
        score = self.best_valid_score if selection is None or selection.higher_is_better else -self.best_valid_score
        report = EpochReport(
            epoch=epoch,
            loss=loss,
            train_seconds=trained.seconds,
            eval_seconds=evaluated.seconds,
            train_processor_seconds=trained.processor_seconds,
            eval_processor_seconds=evaluated.processor_seconds,
            valid=metrics,
            best=best,
            best_score=float(score) if np.isfinite(score) else None,
        )
        self.reports.append(report)
        if best:
            self._save_checkpoint(BEST_CHECKPOINT, {"model": self._model_state(), "epoch": epoch})
        self._save_last(epoch)
        self._write_log()
        on_epoch(report)

    def _enter_epoch(self, epoch: int) -> None:
        """Brings the model to where this epoch begins; where it goes on from a checkpoint, to where that epoch ended,
        before the checkpoint is read."""

    def _loss_function(self, epoch: int) -> LossFunction:
        """Returns what gives the loss of a batch, or its parts."""
        return self.model.calculate_loss

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        """Returns RecBole's optimizer; Adam in one kernel, by which a step takes a fifth to a half of the time."""
        optimizer: torch.optim.Optimizer = super()._build_optimizer(**kwargs)
        for group in optimizer.param_groups:
            possible = (one.is_floating_point() and one.device.type in ("cpu", "cuda") for one in group["params"])
            if isinstance(optimizer, torch.optim.Adam) and all(possible):
                group["fused"] = True
        return optimizer

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Returns the optimizers by their names in a checkpoint."""
        return {"optimizer": self.optimizer}

    def _is_validated(self, epoch: int) -> bool:
        validated = epoch - self.unvalidated_epochs
        return validated > 0 and (validated % self.eval_step == 0 or epoch == self.epochs)

    def _note_score(self, score: float, higher_is_better: bool) -> bool:
        """Returns whether the score is the best so far; ends the training after too many that are not."""
        signed = score if higher_is_better else -score
        if signed > self.best_valid_score:
            self.best_valid_score, self.cur_step = signed, 0
            return True
        self.cur_step += 1
        self.stopped = self.cur_step > self.stopping_step
        return False

    def _train_epoch(self, train_loader: TrainLoader, epoch: int) -> float:
        """Returns the mean loss of an epoch over its targets, in nats."""
        return self._train_pass(train_loader, epoch, epoch, self._loss_function(epoch), self.optimizer)

    def _train_pass(
        self,
        train_loader: TrainLoader,
        number: int,
        epoch: int,
        loss_function: LossFunction,
        optimizer: torch.optim.Optimizer,
    ) -> float:
        """Returns the mean loss of a pass over the training data, which is the pass of this number since the start."""
        self.model.train()
        total = torch.zeros((), device=self.device, dtype=torch.float64)
        done, last_read = 0, time.perf_counter()
        name, state = f"epoch {epoch}/{self.epochs}", None
        with ProgressBar(name, train_loader.n_targets, "targets", show=self.show_progress) as bar:
            for batch, n_targets in train_loader.epoch(number):
                self.set_rate(optimizer, number, (done + n_targets / 2) / train_loader.n_targets)
                with nullcontext() if done else step_must_fit(self.device):
                    total += self._step(batch, loss_function, optimizer).double() * n_targets
                done += n_targets
                if time.perf_counter() - last_read > READ_LOSS_EVERY:
                    last_read = time.perf_counter()
                    state = f"loss {self._running_loss(total / done, epoch):.4f}"
                bar.advance(n_targets, state)
        # On a GPU this waits for the epoch's last step, so that the epoch's time is complete.
        return self.finite(total / max(done, 1), epoch)

    def set_rate(self, optimizer: torch.optim.Optimizer, number: int, part: float) -> None:
        """Sets the learning rate of a step.

        Args:
            optimizer: that takes the step.
            number: of the pass over the training data.
            part: share of the pass that is done in the middle of the step, so that no step has the rate zero.
        """
        if self.schedule.varies:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * self.schedule.rate(self._done(number, part))

    def _done(self, number: int, part: float) -> float:
        """Returns how much of the training is done where this share of a pass is."""
        return (number - 1 + part) / (self.budget * self.passes)

    def _step(self, batch: Any, loss_function: LossFunction, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        """Returns the loss of one batch after one step of the optimizer."""
        self.model.zero_grad(set_to_none=True)
        loss = self._gradients(batch, loss_function)
        self.update(optimizer)
        return loss

    def _gradients(self, batch: Any, loss_function: LossFunction) -> torch.Tensor:
        """Returns the loss of one batch, and leaves its gradients in the parameters."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.enable_amp):
            losses = loss_function(batch)
        # Some of RecBole's models return their loss in parts, and some parts in one dimension.
        parts = losses if isinstance(losses, tuple) else (losses,)
        loss = torch.stack([part.reshape(()) for part in parts]).sum()
        loss.backward()
        return loss.detach()

    def _running_loss(self, mean_loss: torch.Tensor, epoch: int) -> float:
        """Returns the loss so far, read within an epoch."""
        return self.finite(mean_loss, epoch)

    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """Changes the weights by their gradients."""
        if self.clip_grad_norm:
            clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
        optimizer.step()

    def finite(self, mean_loss: torch.Tensor, epoch: int) -> float:
        """Returns an epoch's mean loss so far, for which a GPU's host waits.

        Raises:
            TrainingDiverged: it is NaN or infinite.
        """
        value = mean_loss.item()
        if not np.isfinite(value):
            raise self._diverged(f"the training loss became {value}", epoch)
        return value

    def _diverged(self, what: str, epoch: int) -> TrainingDiverged:
        kept = [f"{self.folder / BEST_CHECKPOINT} (epoch {self.best_epoch})"] if self.best_epoch else []
        kept += [f"{self.folder / LAST_CHECKPOINT} (epoch {self.reports[-1].epoch})"] if self.reports else []
        return TrainingDiverged(
            f"{what} in epoch {epoch} (learning_rate {self.learning_rate:g}); "
            f"good checkpoints: {', '.join(kept) or 'none yet'}"
        )

    def _model_state(self) -> dict[str, Any]:
        # RecBole also names some modules here, whose weights are in the state dict already.
        named = self.model.other_parameter()
        other = {name: value for name, value in named.items() if not isinstance(value, nn.Module)}
        for model, names in _STATE_OF_TRAINING.items():
            if is_recbole_model(type(self.model), model):
                other |= {name: getattr(self.model, name) for name in names}
        return {"state_dict": dict(self.model.state_dict()), "other_parameter": other}

    def _load_model_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["state_dict"])
        self.model.load_other_parameter(state["other_parameter"])

    def _save_checkpoint(self, name: str, state: dict[str, Any]) -> None:
        save_checkpoint(self.folder / name, self.run_id, self.config["model"], state)

    def _save_last(self, epoch: int) -> None:
        self._save_checkpoint(
            LAST_CHECKPOINT,
            {
                "model": self._model_state(),
                **{name: optimizer.state_dict() for name, optimizer in self._optimizers().items()},
                "random": random_state(self.device),
                "epoch": epoch,
                "cur_step": self.cur_step,
                "best_valid_score": float(self.best_valid_score),
                "best_epoch": self.best_epoch,
                "stopped": self.stopped,
                "seconds": self.earlier_seconds + time.perf_counter() - self.began,
                "reports": [vars(report) for report in self.reports],
            },
        )

    def resume_checkpoint(self) -> bool:
        """Returns whether there was a checkpoint to go on from, and goes on from it.

        Raises:
            InputError: the checkpoint is broken or of another run.
        """
        if not (self.folder / LAST_CHECKPOINT).exists():
            return False
        state = load_checkpoint(self.folder / LAST_CHECKPOINT, self.run_id, self.config["model"], self.device)
        self._enter_epoch(state["epoch"])
        try:
            self._load_model_state(state["model"])
            for name, optimizer in self._optimizers().items():
                optimizer.load_state_dict(state[name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise InputError(f"{self.folder / LAST_CHECKPOINT}: does not fit the model: {error}") from error
        restore_random_state(state["random"], self.device)
        self.start_epoch, self.cur_step = state["epoch"], state["cur_step"]
        self.best_valid_score, self.best_epoch = state["best_valid_score"], state["best_epoch"]
        self.stopped, self.earlier_seconds = state["stopped"], state["seconds"]
        self.reports = [EpochReport(**report) for report in state["reports"]]
        self._write_log()  # which may lack the last epoch, if the process ended between the two files
        return True

    def load_best(self) -> None:
        """Puts the model at the chosen epoch.

        Raises:
            InputError: the checkpoint is missing, broken or of another run.
        """
        state = load_checkpoint(self.folder / BEST_CHECKPOINT, self.run_id, self.config["model"], self.device)
        if state["epoch"] != self.best_epoch:
            raise InputError(f"{self.folder / BEST_CHECKPOINT}: of epoch {state['epoch']}; expected {self.best_epoch}")
        self._load_model_state(state["model"])

    def _write_log(self) -> None:
        metrics = next((list(report.valid) for report in self.reports if report.valid), [])
        with atomic_write(self.folder / LOG_FILE) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", "loss", "train_seconds", "eval_seconds", "best", *metrics])
            for report in self.reports:
                values = [(report.valid or {}).get(name, "") for name in metrics]
                times = [f"{report.train_seconds:.4f}", f"{report.eval_seconds:.4f}"]
                writer.writerow([report.epoch, report.loss, *times, int(report.best), *values])
