"""Run ids hash the identity of settings: what is in it, with which values and types, must not change by accident."""

import copy
from typing import Any

import pytest
import torch

from mos_recbole.settings import load_settings

COMMON: dict[str, Any] = {
    "ENTITY_ID_FIELD": "entity_id",
    "HEAD_ENTITY_ID_FIELD": "head_id",
    "ITEM_ID_FIELD": "item_id",
    "ITEM_LIST_LENGTH_FIELD": "item_length",
    "LABEL_FIELD": "label",
    "LIST_SUFFIX": "_list",
    "MAX_ITEM_LIST_LENGTH": 50,
    "NEG_PREFIX": "neg_",
    "POSITION_FIELD": "position_id",
    "RATING_FIELD": "rating",
    "RELATION_ID_FIELD": "relation_id",
    "TAIL_ENTITY_ID_FIELD": "tail_id",
    "TIME_FIELD": "timestamp",
    "USER_ID_FIELD": "user_id",
    "additional_feat_suffix": None,
    "alias_of_entity_id": None,
    "alias_of_item_id": None,
    "alias_of_relation_id": None,
    "alias_of_user_id": None,
    "benchmark_filename": None,
    "clip_grad_norm": None,
    "context_reach": "side",
    "dataset": "ml-100k",
    "discretization": None,
    "enable_amp": False,
    "encoding": "utf-8",
    "entity_kg_num_interval": None,
    "epochs": 300,
    "eval_args": {"group_by": "user", "mode": "full", "order": "TO", "split": {"LS": "valid_and_test"}},
    "eval_step": 1,
    "field_separator": "\t",
    "filter_inter_by_user_or_item": True,
    "filter_seen": "auto",
    "item_inter_num_interval": None,
    "kg_reverse_r": False,
    "learner": "adam",
    "load_col": {"inter": ["user_id", "item_id", "timestamp", "rating"]},
    "min_side_interactions": 1,
    "normalize_all": True,
    "normalize_field": None,
    "numerical_features": [],
    "preload_weight": None,
    "relation_kg_num_interval": None,
    "repeatable": True,
    "reproducibility": True,
    "require_pow": False,
    "rm_dup_inter": None,
    "seed": 2020,
    "seq_len": None,
    "seq_separator": " ",
    "shuffle": True,
    "split": "leave_one_out",
    "split_time": None,
    "stopping_step": 10,
    "tail_ratio": 0.1,
    "test_share": 0.1,
    "threshold": None,
    "tie_order": "file",
    "tie_rule": "mean",
    "train_batch_size": 2048,
    "transform": None,
    "unload_col": None,
    "unused_col": None,
    "user_inter_num_interval": None,
    "val_interval": None,
    "valid_metric": "NDCG@10",
    "valid_metric_bigger": True,
    "valid_share": 0.1,
    "weight_decay": 0.0,
}

OWN: dict[str, dict[str, Any]] = {
    "BPR": {
        "embedding_size": 64,
        "learning_rate": 0.001,
        "model": "BPR",
        "train_mode": "prefix",
        "train_neg_sample_args": {
            "alpha": 1.0,
            "candidate_num": 0,
            "distribution": "uniform",
            "dynamic": False,
            "sample_num": 1,
        },
    },
    "GRU4RecMoS": {
        "dropout_prob": 0.3,
        "embedding_size": 64,
        "hidden_size": 128,
        "item_bias": False,
        "loss_impl": "auto",
        "model": "GRU4RecMoS",
        "mos_activation": "tanh",
        "mos_dropout": 0.0,
        "mos_heads": 4,
        "n_negatives": 1024,
        "negative_sampling": "none",
        "num_layers": 1,
        "sampling_alpha": 0.75,
        "tie_weights": True,
        "train_mode": "all_positions",
        "train_neg_sample_args": None,
    },
    "NARMMixtape": {
        "dropout_probs": [0.25, 0.5],
        "embedding_size": 64,
        "hidden_size": 128,
        "item_bias": False,
        "loss_impl": "auto",
        "mixtape_gate_size": 16,
        "mixtape_heads": 4,
        "model": "NARMMixtape",
        "n_layers": 1,
        "n_negatives": 1024,
        "negative_sampling": "none",
        "sampling_alpha": 0.75,
        "tie_weights": True,
        "train_mode": "all_positions",
        "train_neg_sample_args": None,
    },
    "SASRecSoftmax": {
        "attn_dropout_prob": 0.2,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.2,
        "hidden_size": 64,
        "initializer_range": 0.02,
        "inner_size": 256,
        "item_bias": False,
        "layer_norm_eps": 1e-12,
        "loss_impl": "auto",
        "model": "SASRecSoftmax",
        "n_heads": 2,
        "n_layers": 2,
        "n_negatives": 1024,
        "negative_sampling": "none",
        "sampling_alpha": 0.75,
        "tie_weights": True,
        "train_mode": "all_positions",
        "train_neg_sample_args": None,
    },
}


# How our models are trained; RecBole's own have its values, which are COMMON's.
RECIPE: dict[str, Any] = {
    "chosen_epoch": "last",
    "epochs": 10,
    "learning_rate": 0.005,
    "lr_schedule": "linear",
    "stopping_step": 10,
    "train_batch_size": 512,
    "warmup": 0.15,
}
GRU: dict[str, Any] = {"epochs": 7, "learning_rate": 0.0075, "stopping_step": 7}


def typed(value: Any) -> Any:
    """Returns nested values with their types, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return {key: typed(inner) for key, inner in value.items()}
    return [typed(inner) for inner in value] if isinstance(value, list) else (type(value), value)


@pytest.mark.parametrize("model", OWN)
def test_the_identity_is_what_it_was(model: str) -> None:
    """Keys, values and types."""
    training = {} if model == "BPR" else RECIPE | GRU if model.startswith("GRU4Rec") else RECIPE
    assert typed(load_settings(model).identity()) == typed(COMMON | OWN[model] | training)


# Keys that no identity has, and those that it has where they are not at their defaults, with such values.
NEVER = {
    *("checkpoint_dir", "data_path", "dataloaders_save_path", "dataset_save_path", "enable_scaler", "eval_batch_size"),
    *("gpu_id", "kept_items", "log_wandb", "loss_decimal_place", "metric_decimal_place", "metrics", "save_dataloaders"),
    *("save_dataset", "show_progress", "state", "topk", "use_gpu", "wandb_project", "worker"),
}
WHERE_CHANGED: dict[str, dict[str, Any]] = {
    "final_fit": {"final_fit": "train+valid"},
    "held_out": {"held_out": "test_only"},
    "output_rank": {"output_rank": 2},
    "skip_bad_lines": {"skip_bad_lines": True},
    "test_ratio": {"split": "ratio", "test_ratio": 0.3},
    "valid_ratio": {"split": "ratio", "valid_ratio": 0.3},
    "valid_time": {"split": "temporal", "valid_time": 7},
}


def test_every_key_has_its_place() -> None:
    """In the identity, in none, or in that of runs that changed it; `columns` are for files of other kinds."""
    settings = load_settings("GRU4RecMoS")
    assert settings.values.keys() - settings.identity().keys() == NEVER | WHERE_CHANGED.keys() | {"columns"}


@pytest.mark.parametrize("key", WHERE_CHANGED)
def test_a_recent_key_counts_where_it_was_changed(key: str) -> None:
    assert load_settings("GRU4RecMoS", overrides=WHERE_CHANGED[key]).identity()[key] == WHERE_CHANGED[key][key]


@pytest.mark.parametrize("model", OWN)
def test_a_constant_rate_is_no_part_of_the_identity(model: str) -> None:
    """So that results from before there were schedules keep theirs."""
    identity = load_settings(model, overrides={"lr_schedule": "constant", "warmup": 0.0}).identity()
    assert not identity.keys() & {"lr_schedule", "warmup", "chosen_epoch"}


@pytest.mark.parametrize("model", ["BPR", "Caser", "FPMC", "GRU4RecMoS", "ItemKNN", "NARM", "NeuMF", "SASRec"])
def test_the_identity_stays_when_recbole_reads_the_settings(model: str) -> None:
    """A sweep's driver names a trial before its data are prepared, its worker afterwards."""
    changes = {"loss_type": "BPR"} if model == "NARM" else {}
    settings = load_settings(model, overrides=changes)
    before = copy.deepcopy(settings.identity())
    config = settings.recbole_config(torch.device("cpu"))
    config["load_col"]["inter"].append("rating")
    assert settings.identity() == before


def test_arguments_of_negatives_are_complete() -> None:
    """RecBole completes them; so they were in the ids of runs before the settings were kept from it."""
    settings = load_settings("FPMC")
    config = settings.recbole_config(torch.device("cpu"))
    assert settings.values["train_neg_sample_args"] == config["train_neg_sample_args"]
