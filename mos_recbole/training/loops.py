"""The training loops of RecBole's models that have one of their own: what its special trainers do, on this trainer."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from recbole.model.loss import BPRLoss
from scipy.cluster.vq import kmeans2
from torch import nn
from torch.nn import functional

from mos_recbole.compat import is_recbole_model
from mos_recbole.training.loaders import TrainLoader, epoch_seed
from mos_recbole.training.parallel import ParallelTrainer
from mos_recbole.training.processes import SINGLE_PROCESS, Processes
from mos_recbole.training.trainer import BenchmarkTrainer, LossFunction


def make_trainer(
    config: Any,
    model: nn.Module,
    folder: Path,
    run_id: str,
    show_progress: bool,
    began: float,
    processes: Processes = SINGLE_PROCESS,
) -> BenchmarkTrainer:
    """Returns the trainer that a model needs; arguments as of `BenchmarkTrainer`, and the processes that train it.

    Raises:
        InputError: several processes, and a model that one must train alone.
    """
    if processes.world_size > 1:
        return ParallelTrainer(config, model, folder, run_id, show_progress, began, processes=processes)
    return _loop_of(type(model))(config, model, folder, run_id, show_progress, began)


def _loop_of(model_class: type) -> type[BenchmarkTrainer]:
    return next((loop for name, loop in LOOPS.items() if is_recbole_model(model_class, name)), BenchmarkTrainer)


def stage_epochs(model_class: type, values: Mapping[str, Any]) -> int:
    """Returns how many epochs of a model's training come before its `epochs`: those of pretraining, never validated.

    Args:
        model_class: of the model.
        values: its settings.
    """
    loop = _loop_of(model_class)
    return values["pretrain_epochs"] * (len(loop.stages) - 1) if issubclass(loop, StagedTrainer) else 0


class StagedTrainer(BenchmarkTrainer, ABC):
    """Trains in stages: each but the last for `pretrain_epochs`, then the last for `epochs`, with validation.

    In RecBole every stage is a program run of its own, handed on by files (`train_stage`, `pre_model_path`); here they
    are one run. The epochs are numbered through, and each stage starts with a new optimizer, as there, and goes through
    the whole schedule of the learning rate.
    """

    stages: ClassVar[tuple[str, ...]]

    def __init__(self, config: Any, *arguments: Any) -> None:
        super().__init__(config, *arguments)
        self.length = config["pretrain_epochs"]
        self.unvalidated_epochs = stage_epochs(type(self.model), config)
        self.epochs += self.unvalidated_epochs

    def _enter_epoch(self, epoch: int) -> None:
        last = len(self.stages) - 1
        stage = self.stages[min((epoch - 1) // self.length, last) if self.length else last]
        if stage != self.model.train_stage:
            self.model.train_stage = stage
            self._enter_stage(stage)
            self.optimizer = self._build_optimizer()

    def _done(self, number: int, part: float) -> float:
        number -= self.unvalidated_epochs
        if number > 0:
            return super()._done(number, part)
        return ((number - 1) % self.length + part) / self.length

    @abstractmethod
    def _enter_stage(self, stage: str) -> None:
        """Changes in the model what its constructor does otherwise in this stage."""


class S3RecTrainer(StagedTrainer):
    """S3-Rec: four self-supervised tasks, then the next item (Zhou et al., CIKM 2020)."""

    stages = ("pretrain", "finetune")

    def _enter_stage(self, stage: str) -> None:
        self.model.loss_fct = BPRLoss() if self.model.loss_type == "BPR" else nn.CrossEntropyLoss()


class RaCTTrainer(StagedTrainer):
    """RaCT: an autoencoder, a critic that learns its NDCG, then the autoencoder by the critic (Lobel et al., 2020)."""

    stages = ("actor_pretrain", "critic_pretrain", "finetune")

    def _enter_stage(self, stage: str) -> None:
        critic_learns = stage == "critic_pretrain"
        self.model.critic_net.requires_grad_(critic_learns)
        self.model.encoder.requires_grad_(not critic_learns)
        self.model.decoder.requires_grad_(not critic_learns)
        # The annealing of the KL term begins anew with every stage's model.
        self.model.update = 0


class RecVAETrainer(BenchmarkTrainer):
    """RecVAE: in every epoch some passes for the encoder, a new prior, some for the decoder (Shenbin et al., 2020)."""

    def __init__(self, config: Any, *arguments: Any) -> None:
        super().__init__(config, *arguments)
        self.encoder_passes, self.decoder_passes = config["n_enc_epochs"], config["n_dec_epochs"]
        self.passes = self.encoder_passes + self.decoder_passes
        self.encoder_optimizer = self._build_optimizer(params=self.model.encoder.parameters())
        self.optimizer = self._build_optimizer(params=self.model.decoder.parameters())

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {**super()._optimizers(), "encoder_optimizer": self.encoder_optimizer}

    def _train_epoch(self, train_loader: TrainLoader, epoch: int) -> float:
        """Returns the mean loss of the decoder's passes."""
        first = (epoch - 1) * self.passes + 1
        for number in range(first, first + self.encoder_passes):
            self._train_pass(train_loader, number, epoch, self._loss_of(True), self.encoder_optimizer)
        self.model.update_prior()
        losses = [
            self._train_pass(train_loader, number, epoch, self._loss_of(False), self.optimizer)
            for number in range(first + self.encoder_passes, first + self.passes)
        ]
        return float(np.mean(losses))

    def _loss_function(self, epoch: int) -> LossFunction:
        return self._loss_of(False)

    def _loss_of(self, encoder: bool) -> LossFunction:
        return lambda batch: self.model.calculate_loss(batch, encoder_flag=encoder)


class NCLTrainer(BenchmarkTrainer):
    """NCL: clusters users and items before every `m_step`th epoch; their loss counts after `warm_up_step` epochs.

    Lin et al., "Improving Graph Collaborative Filtering with Neighborhood-enriched Contrastive Learning", WWW 2022.

    RecBole clusters with faiss, which it does not install; here SciPy does, with as many iterations (25) of Lloyd's
    algorithm from points drawn by the seed and the epoch.
    """

    _ITERATIONS = 25

    def _enter_epoch(self, epoch: int) -> None:
        if (epoch - 1) % self.config["m_step"] == 0:
            model, seed = self.model, epoch_seed(self.config["seed"], epoch)
            model.user_centroids, model.user_2cluster = self._clusters(model.user_embedding.weight, seed)
            model.item_centroids, model.item_2cluster = self._clusters(model.item_embedding.weight, seed)

    def _clusters(self, table_Nd: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the centroids, scaled to length 1, and each row's cluster."""
        points = table_Nd.detach().cpu().numpy()
        with warnings.catch_warnings():
            # A cluster that lost its members stays where it was.
            warnings.filterwarnings("ignore", message="One of the clusters is empty")
            centroids, cluster = kmeans2(
                points, self.config["num_clusters"], self._ITERATIONS, minit="points", seed=np.random.default_rng(seed)
            )
        unit = functional.normalize(torch.from_numpy(centroids), dim=1)
        return unit.to(table_Nd), torch.from_numpy(cluster).long().to(table_Nd.device)

    def _loss_function(self, epoch: int) -> LossFunction:
        if epoch <= self.config["warm_up_step"]:
            return lambda batch: self.model.calculate_loss(batch)[:-1]
        return self.model.calculate_loss


# By the names of RecBole's models.
LOOPS: dict[str, type[BenchmarkTrainer]] = {
    "S3Rec": S3RecTrainer,
    "RaCT": RaCTTrainer,
    "RecVAE": RecVAETrainer,
    "NCL": NCLTrainer,
}
