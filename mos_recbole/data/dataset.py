"""RecBole's `Dataset` reads, filters and remaps; sequences and splits are ours."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource, FeatureType

from mos_recbole.data.atomic import parse_floats, parse_times, read_header, read_table
from mos_recbole.data.sequences import Sequences
from mos_recbole.data.splits import SPLITS, Split
from mos_recbole.errors import InputError


@dataclass(frozen=True)
class DataSummary:
    """Counts that belong beside every result."""

    users: int
    items: int
    interactions: int
    dropped_users: int
    tied_share: float
    train_targets: int
    valid_targets: int
    test_targets: int

    def describe(self) -> str:
        dropped = f", {self.dropped_users:,} users with one interaction dropped" if self.dropped_users else ""
        return (
            f"{self.users:,} users, {self.items:,} items, {self.interactions:,} interactions "
            f"({self.tied_share:.1%} share their time with another of the same user){dropped}; targets: "
            f"{self.train_targets:,} training, {self.valid_targets:,} validation, {self.test_targets:,} test"
        )

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


class SequenceDataset(Dataset):
    """A RecBole `Dataset` whose interactions are sorted by user and time, with the flat arrays beside them.

    RecBole's machinery does what its users know: `load_col`, `val_interval`, `rm_dup_inter`, the k-core filters,
    remapping. Three things differ: the atomic file is checked and its faults are named by line; times stay int64
    (RecBole's float32 merges times up to 128 s apart), and rows of equal time keep the order of the file; a user's
    prefixes are not materialised.

    Attributes:
        sequences: the flat arrays; row i of them is row i of `inter_feat`.
        dropped_users: users left out because they have a single interaction, which no model can learn from or predict.

    Raises:
        InputError: a missing or broken file, a missing column, or nothing left after filtering.
    """

    def __init__(self, config) -> None:
        try:
            super().__init__(config)
        except InputError:
            raise
        except ValueError as error:  # RecBole's own complaints about its data settings
            raise InputError(f"data set {config['dataset']!r}: {error}") from error
        self._to_sequences()
        for name in self.feat_name_list:
            setattr(self, name, self._dataframe_to_interaction(getattr(self, name)))

    def _load_data(self, token: str, dataset_path: str) -> None:
        # RecBole would offer to download, from an address that may be gone, and wait for an answer.
        if not Path(dataset_path).is_dir():
            raise InputError(
                f"data set {token!r}: no folder {dataset_path}; expected {token}.inter in it "
                "(data_path sets the folder above; ml-100k is built in)"
            )
        super()._load_data(token, dataset_path)

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        path = Path(dataset_path) / f"{token}.inter"
        columns = read_header(path, self.config["field_separator"], self.config["encoding"])
        for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"):
            if self.config[key] not in columns:
                raise InputError(
                    f"{path}, line 1: no column {self.config[key]!r}, which {key} names; found {', '.join(columns)}"
                )
        for key in ("USER_ID_FIELD", "ITEM_ID_FIELD"):
            if columns[self.config[key]] != "token":
                raise InputError(f"{path}, line 1: {self.config[key]} is {columns[self.config[key]]}; expected token")
        super()._load_inter_feat(token, dataset_path)

    def _load_feat(self, filepath: str, source) -> pd.DataFrame | None:
        if source != FeatureSource.INTERACTION:
            return super()._load_feat(filepath, source)
        path, separator, encoding = Path(filepath), self.config["field_separator"], self.config["encoding"]
        columns = read_header(path, separator, encoding)
        load_col, unload_col = self._get_load_and_unload_col(source)
        needed = {self.uid_field, self.iid_field, self.time_field}
        wanted = [
            name
            for name in columns
            if name in needed or ((load_col is None or name in load_col) and name not in (unload_col or ()))
        ]
        sequence_columns = [name for name in wanted if columns[name].endswith("_seq")]
        if sequence_columns:
            raise InputError(f"{path}, line 1: the column {sequence_columns[0]!r} holds lists; expected single values")
        table = read_table(path, columns, wanted, separator, encoding)
        for name in wanted:
            self.field2source[name] = source
            self.field2type[name] = FeatureType(columns[name])
            self.field2seqlen[name] = 1
            if columns[name] == "float":
                self.field2bucketnum[name] = 2
            if name == self.time_field:
                table[name], self._time_scale = parse_times(path, name, table[name])
                # A time is a number to RecBole, whatever the header calls it.
                self.field2type[name] = FeatureType.FLOAT
            elif columns[name] == "float":
                table[name] = parse_floats(path, name, table[name])
        return table.reset_index(drop=True)

    def _remove_duplication(self) -> None:
        # RecBole sorts by time with an unstable sort and leaves the rows in that order.
        keep = self.config["rm_dup_inter"]
        if keep is not None:
            by_time = self.inter_feat.sort_values(self.time_field, kind="stable")
            self.inter_feat: pd.DataFrame = by_time.drop_duplicates(
                [self.uid_field, self.iid_field], keep=keep
            ).sort_index()

    def _fill_nan(self) -> None:
        # The exact times, before RecBole may normalise the column.
        times = self.inter_feat[self.time_field].to_numpy()
        self._times = times if self._time_scale == 1 else np.rint(times * self._time_scale).astype(np.int64)
        super()._fill_nan()

    def _to_sequences(self) -> None:
        users = self.inter_feat[self.uid_field].to_numpy()
        order = np.lexsort((self._times, users))
        present, counts = np.unique(users, return_counts=True)
        single = present[counts == 1]
        order = order[~np.isin(users[order], single)]
        if not len(order):
            raise InputError(f"data set {self.dataset_name!r}: no user has two interactions")
        self.dropped_users = len(single)
        self.inter_feat = self.inter_feat.iloc[order].reset_index(drop=True)
        self.sequences = Sequences(
            items=self.inter_feat[self.iid_field].to_numpy(np.int32),
            times=self._times[order],
            offsets=np.concatenate([[0], np.cumsum(counts[counts > 1])]).astype(np.int64),
            users=present[counts > 1].astype(np.int32),
            time_scale=self._time_scale,
        )
        del self._times

    def fingerprint(self) -> str:
        """Returns a SHA-256 of what a model can learn from: the flat arrays, all loaded columns, the ids' names."""
        digest = hashlib.sha256(self.sequences.fingerprint().encode())
        for name in self.feat_name_list:
            for column, values in getattr(self, name).interaction.items():
                digest.update(f"{name} {column} {values.dtype} {tuple(values.shape)}".encode())
                digest.update(values.contiguous().numpy().data)
        for field in (self.uid_field, self.iid_field):
            digest.update("\0".join(self.field2id_token[field]).encode())
        return digest.hexdigest()

    def split(self) -> Split:
        """Returns the targets of the three sides by the split that the settings name.

        Raises:
            InputError: a side has no targets.
        """
        split = SPLITS[self.config["split"]](self.sequences)
        for side in ("train", "valid", "test"):
            if not getattr(split, side).n_targets:
                raise InputError(
                    f"data set {self.dataset_name!r}: the split {self.config['split']} leaves no {side} targets "
                    f"({self.sequences.n_users} users, {len(self.sequences.items)} interactions)"
                )
        return split

    def training_part(self, split: Split) -> "SequenceDataset":
        """Returns the data set as a model may see it: only the interactions of training are in `inter_feat`."""
        rows = torch.from_numpy(np.flatnonzero(split.train_rows(len(self.sequences.items))))
        return self.copy(self.inter_feat[rows])

    def train_counts(self, split: Split) -> np.ndarray:
        """Returns how often each item occurs in training, int64 [n_items]."""
        rows = split.train_rows(len(self.sequences.items))
        return np.bincount(self.sequences.items[rows], minlength=self.item_num)

    def summary(self, split: Split) -> DataSummary:
        return DataSummary(
            users=self.sequences.n_users,
            items=self.item_num - 1,
            interactions=len(self.sequences.items),
            dropped_users=self.dropped_users,
            tied_share=self.sequences.tied_share(),
            train_targets=split.train.n_targets,
            valid_targets=split.valid.n_targets,
            test_targets=split.test.n_targets,
        )
