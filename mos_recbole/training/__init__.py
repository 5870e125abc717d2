"""Batches, the training loop, checkpoints, and the evaluation of a trained model."""

from mos_recbole import compat  # noqa: F401 – first: says what to do where RecBole is missing
from mos_recbole.training.checkpoint import load_checkpoint, random_state
from mos_recbole.training.epoch import EpochReport, Moment, Selection
from mos_recbole.training.evaluate import (
    QuerySet,
    evaluate_model,
    excluded_items,
    make_query_set,
    queries_of,
    query_scores,
    score_batch_size,
)
from mos_recbole.training.fusable import kept_apart_by, not_fusable, shape_of
from mos_recbole.training.fused import FusedTrial, train_fused
from mos_recbole.training.loaders import TrainLoader, make_train_loader, model_data
from mos_recbole.training.loops import LOOPS, make_trainer, stage_epochs
from mos_recbole.training.memory import RefusesTooLarge, require_training_memory
from mos_recbole.training.processes import SINGLE_PROCESS, Processes, join_processes
from mos_recbole.training.trainer import BenchmarkTrainer

__all__ = [
    "LOOPS",
    "SINGLE_PROCESS",
    "BenchmarkTrainer",
    "EpochReport",
    "FusedTrial",
    "Moment",
    "Processes",
    "QuerySet",
    "RefusesTooLarge",
    "Selection",
    "TrainLoader",
    "evaluate_model",
    "excluded_items",
    "join_processes",
    "kept_apart_by",
    "load_checkpoint",
    "make_query_set",
    "make_train_loader",
    "make_trainer",
    "model_data",
    "not_fusable",
    "queries_of",
    "query_scores",
    "random_state",
    "require_training_memory",
    "score_batch_size",
    "shape_of",
    "stage_epochs",
    "train_fused",
]
