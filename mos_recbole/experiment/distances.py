"""Distances within the recommended lists of finished runs, for metrics of diversity: from the data, when asked for."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from mos_recbole.evaluation import distance_sums, parse_metric
from mos_recbole.experiment.run_data import RunData
from mos_recbole.models import own_model_names
from mos_recbole.progress import tracked
from mos_recbole.results import RunResult
from mos_recbole.settings import load_settings


def add_distances(records: Iterable[RunResult], metrics: Sequence[str], data_path: str | Path | None = None) -> None:
    """Writes beside the outcomes of runs the distances that metrics need, where they are not there yet.

    Args:
        records: of runs that keep recommended lists; others are passed over.
        metrics: names, in RecBole's spelling.
        data_path: the folder that holds the data set's folder, or the file that is the data set, which records do not
            name; None for the default.

    Raises:
        InputError: the data are missing or no longer what they were, or a run's folder cannot be written to.
    """
    needing = [spec_k for spec_k in map(parse_metric, metrics) if spec_k[0].needs == "distance_sums"]
    k = max((cut_off or 0 for _, cut_off in needing), default=0)
    known: dict[str, RunData] = {}
    for record in tracked(records if k else (), "measuring distances", "runs"):
        there = record.distance_sums()
        if not record.keeps_lists() or (there is not None and there.shape[1] >= k):
            continue
        if record.protocol_hash not in known:
            known[record.protocol_hash] = _data(record, data_path)
        sums = distance_sums(record.top_items().items[:, :k], known[record.protocol_hash].distance)
        record.write_distance_sums(sums)


def _data(record: RunResult, data_path: str | Path | None) -> RunData:
    """Returns the data of a run, whatever its model. Raises InputError where they are missing or were changed."""
    model = own_model_names()[0]
    keys = load_settings(model, record.dataset).data_settings.keys() & record.settings.keys() - {"dataset"}
    place = {} if data_path is None else {"data_path": str(data_path)}
    settings = load_settings(model, record.dataset, [{key: record.settings[key] for key in keys}], place)
    return RunData.of_run(record, settings, torch.device("cpu"), "--data-path")
