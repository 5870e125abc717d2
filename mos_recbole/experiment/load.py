"""Finished runs as models that can answer again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import init_seed

from mos_recbole.data import SequenceDataset, Split
from mos_recbole.errors import InputError
from mos_recbole.evaluation import EvaluationProtocol
from mos_recbole.experiment.build import build_model
from mos_recbole.experiment.machine import choose_device
from mos_recbole.experiment.recommend import Side, lists_frame, named_sequences, recommend
from mos_recbole.experiment.run_data import RunData
from mos_recbole.results import RunResult
from mos_recbole.settings import RecBoleConfig, load_settings
from mos_recbole.training import load_checkpoint


@dataclass(frozen=True)
class TrainedRun:
    """A finished run's model with what it needs to answer.

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

    def recommend(
        self,
        sequences: Iterable[Sequence[Any]] | Mapping[Any, Sequence[Any]] | None = None,
        users: Sequence[str] | None = None,
        k: int = 10,
        filter_seen: bool | None = None,
        strict: bool = False,
        held_out: Side | None = None,
    ) -> pd.DataFrame:
        """Returns the k best items of every query, with the columns query, rank, item and score.

        Args:
            sequences: lists of names of items, the oldest first, of new users; a mapping names them, else they are
                numbered from 0.
            users: instead of sequences, names of users of the data; if there are neither, all users.
            k, filter_seen, strict, held_out: as of `experiment.recommend.recommend`, which has the errors too.
        """
        named = None if sequences is None else named_sequences(sequences)
        return lists_frame(recommend(self, named, users, k, filter_seen, strict, held_out))


def load_run(record: RunResult, device: str = "auto", data_path: str | Path | None = None) -> TrainedRun:
    """Returns a finished run's model as it was at the best epoch, with the data that it learned from.

    Args:
        record: of the run.
        device: as of `run_experiment`; it need not be the run's.
        data_path: the folder that holds the data set's folder, or the file that is the data set, which records do not
            name; None for the default.

    Raises:
        InputError: no checkpoint or that of another run, data that are missing or no longer what they were, or settings
            that this version does not know.
    """
    path = record.checkpoint()
    chosen_device = choose_device(device)
    place = {} if data_path is None else {"data_path": str(data_path)}
    recorded = dict(record.settings)
    plugins = recorded.pop("plugins", {})
    settings = load_settings(record.model, record.dataset, [recorded], place)
    if settings.identity().get("plugins", {}) != plugins:
        raise InputError(f"run {record.run_id}: {' or '.join(plugins)} has changed since; expected the same --plugin")
    data = RunData.of_run(record, settings, chosen_device, "--dataset")
    # Some of RecBole's models draw what is no weight of theirs when they are built, such as NNCF's neighbours.
    init_seed(data.config["seed"], data.config["reproducibility"])
    model: AbstractRecommender = build_model(settings, data.config, data).eval()
    state = load_checkpoint(path, record.run_id, record.model, chosen_device)["model"]
    try:
        model.load_state_dict(state["state_dict"])
        model.load_other_parameter(state["other_parameter"])
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: does not fit {record.model} as it is in this version: {reason}") from error
    return TrainedRun(model, data.config, data.dataset, data.split, data.protocol)
