"""A data set written for other libraries."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mos_recbole.experiment import RunData, load_settings


def write_steps(path: Path, dataset: str, **overrides: object) -> None:
    """Writes a data set's interactions with a user's steps for times, so that all libraries sort them alike."""
    data = RunData(load_settings("BPR", dataset, overrides=overrides), torch.device("cpu")).dataset
    flat = data.sequences
    columns = {
        "user_id:token": data.id2token(data.uid_field, np.repeat(flat.users, np.diff(flat.offsets))),
        "item_id:token": data.id2token(data.iid_field, flat.items),
        "timestamp:float": np.arange(len(flat.items)) - np.repeat(flat.offsets[:-1], np.diff(flat.offsets)),
    }
    pd.DataFrame(columns).to_csv(path, sep="\t", index=False)
