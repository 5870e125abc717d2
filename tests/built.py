"""Models built by way of the settings, for tests that look at their parts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import nn

from mos_recbole.data import SequenceDataset, Sequences, Split
from mos_recbole.experiment import load_settings
from mos_recbole.training import make_train_loader
from mos_recbole.training.prefixes import Fields

CPU = torch.device("cpu")
L = 6
FIELDS = Fields("user_id", "item_id", "item_id_list", "item_length", "neg_item_id")


class Built(NamedTuple):
    """A model with what it was built from."""

    model: nn.Module
    config: Any
    data: SequenceDataset
    split: Split

    def train_batch(self) -> Interaction:
        """Returns all training targets in one batch, in the order of the data."""
        self.config["shuffle"] = False
        ((batch, _),) = make_train_loader(self.config, self.data, self.split).epoch(0)
        return batch


def build(name: str, folder: Path, **overrides: Any) -> Built:
    """Returns a model of that name in evaluation mode, by way of the settings, with batches of all targets."""
    overrides = {"MAX_ITEM_LIST_LENGTH": L, "train_batch_size": 10**6, "train_mode": "prefix"} | overrides
    config = load_settings(name, str(folder), overrides=overrides).recbole_config(CPU)
    data = SequenceDataset(config)
    split = data.split()
    torch.manual_seed(1)
    return Built(config["model_class"](config, data.training_part(split)).eval(), config, data, split)


def flat(counts: Sequence[int]) -> Sequences:
    """Returns users with these numbers of interactions, whose items are numbered by row from 1."""
    n = sum(counts)
    return Sequences(
        items=np.arange(1, n + 1, dtype=np.int32),
        times=np.arange(n, dtype=np.int64),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        users=np.arange(1, len(counts) + 1, dtype=np.int32),
    )


def redraw(model: nn.Module, std: float = 0.5) -> None:
    """Draws all weights anew, so large that predictions are far from uniform (the models' own start is not)."""
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            gain = "LayerNorm.weight" in name
            parameter.normal_(float(gain), 0.2 if gain else std, generator=generator)
