"""Data-parallel training: the batches of one process, divided among several."""

from typing import Any

import numpy as np
import torch
from torch import nn

from mos_recbole.errors import InputError
from mos_recbole.heads.mixture import MixtureHead
from mos_recbole.models import EncoderHeadRecommender
from mos_recbole.training.processes import Processes
from mos_recbole.training.trainer import BenchmarkTrainer, LossFunction


class ParallelTrainer(BenchmarkTrainer):
    """Trains one model by several processes: the same batches, steps and numbers as by one, but for rounding.

    `train_batch_size` is that of all processes. Each has its shard of every batch's sequences, adds up the losses of
    its targets and their gradients; one sum over the processes, of gradients, losses and numbers of targets, then
    gives all of them the batch's mean. So their weights stay the same. The main process writes the files.

    Every process draws masks of dropout and sampled negatives of its own, by the seed, the epoch and its number: with
    either, another number of processes is another random number. Resuming is exact for the same number.

    Args:
        arguments: as of `BenchmarkTrainer`.
        processes: of the run.

    Raises:
        InputError: a model whose loss of a batch is no mean over its targets.
    """

    def __init__(self, config: Any, model: nn.Module, *arguments: Any, processes: Processes) -> None:
        super().__init__(config, model, *arguments)
        self.processes = processes
        fault = _indivisible(config, model)
        if fault is not None:
            raise InputError(f"{config['model']} cannot be trained by {processes.world_size} processes: {fault}")

    def fit(self, *arguments: Any, **keywords: Any) -> None:
        """Trains as `BenchmarkTrainer.fit`; all processes end with the same weights.

        Raises:
            InputError: the processes do not begin at the same epoch.
        """
        self.processes.require_same("the epoch to go on from", self.start_epoch)
        self.processes.broadcast_tensors(self.model.state_dict().values())
        super().fit(*arguments, **keywords)

    def _enter_epoch(self, epoch: int) -> None:
        # Not from the checkpoint, which has the main process's state alone. (A 0 at the end would count for nothing.)
        source = np.random.SeedSequence([self.config["seed"], epoch, 1 + self.processes.rank])
        torch.manual_seed(int(source.generate_state(1, np.uint64)[0] >> 1))

    def _gradients(self, batch: Any, loss_function: LossFunction) -> torch.Tensor:
        """Returns the mean loss of all processes' targets, and leaves its gradients in the parameters."""
        # A batch's length is its number of targets, windows' too. Of a batch of few sequences, one may have none.
        n_targets, loss = len(batch), torch.zeros((), device=self.device)
        if n_targets:
            loss = super()._gradients(batch, lambda batch: n_targets * loss_function(batch))
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        # Who has no target has no gradients, others have: zeros. A parameter without any in all processes gets zeros
        # too, which only an optimizer's decay of weights could tell from none.
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
        totals = [loss.reshape(1), loss.new_full((1,), n_targets)]
        # One message instead of many: a message takes its time, however short it is.
        flat = torch.cat([part.flatten() for part in (*gradients, *totals)])
        self.processes.all_reduce([flat])
        flat[:-1] /= flat[-1]
        *summed, mean_loss, _ = flat.split([one.numel() for one in (*gradients, *totals)])
        for parameter, gradient in zip(parameters, summed, strict=True):
            parameter.grad = gradient.view_as(parameter)
        return mean_loss.reshape(())

    def _running_loss(self, mean_loss: torch.Tensor, epoch: int) -> float:
        # Other processes may not read it now; whether it is finite, all check at the epoch's end.
        return mean_loss.item()

    def _save_checkpoint(self, name: str, state: dict[str, Any]) -> None:
        if self.processes.is_main:
            super()._save_checkpoint(name, state)

    def _write_log(self) -> None:
        if self.processes.is_main:
            super()._write_log()

    def load_best(self) -> None:
        if self.processes.is_main:
            super().load_best()
        self.processes.broadcast_tensors(self.model.state_dict().values())


def _indivisible(config: Any, model: nn.Module) -> str | None:
    """Returns why a model's loss of a batch is not the mean of the losses of its parts; None where it is."""
    if not isinstance(model, EncoderHeadRecommender):
        return "it is RecBole's own; expected an encoder with a head, such as GRU4RecSoftmax, or one process"
    if config["negative_sampling"] == "in_batch":
        return "in_batch takes all of a batch's targets; expected negative_sampling none, uniform or popularity"
    head = model.head
    if isinstance(head, MixtureHead) and type(head).penalty is not MixtureHead.penalty:
        return f"{type(head).__name__} adds a penalty on a batch as a whole; expected another head, or one process"
    return None
