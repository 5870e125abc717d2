"""Batches, the training loop, checkpoints, and the evaluation of a trained model."""

from mos_recbole.training.checkpoint import load_checkpoint
from mos_recbole.training.evaluate import QuerySet, evaluate_model, make_query_set, query_scores
from mos_recbole.training.loaders import make_train_loader, model_data
from mos_recbole.training.loops import LOOPS, make_trainer
from mos_recbole.training.processes import ALONE, Processes, join_processes
from mos_recbole.training.trainer import BenchmarkTrainer, EpochReport

__all__ = [
    "ALONE",
    "LOOPS",
    "BenchmarkTrainer",
    "EpochReport",
    "Processes",
    "QuerySet",
    "evaluate_model",
    "join_processes",
    "load_checkpoint",
    "make_query_set",
    "make_train_loader",
    "make_trainer",
    "model_data",
    "query_scores",
]
