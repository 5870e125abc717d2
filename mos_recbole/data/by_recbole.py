"""RecBole's own way from the files to a data set, its reader of interactions and its defects replaced."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource, FeatureType

from mos_recbole.data.cache import array_info
from mos_recbole.data.prepare import time_order
from mos_recbole.data.prepared import FLAT_ARRAYS, fingerprint, name_arrays
from mos_recbole.data.reading import LogFile, read_log
from mos_recbole.data.sequences import Sequences


class DatasetByRecBole(Dataset):
    """A RecBole `Dataset` whose interactions are read by `read_log` and sorted by user and time.

    Attributes:
        sequences: the flat arrays, once `_by_recbole` was called.
    """

    sequences: Sequences
    inter_feat: Any  # RecBole's: first a table of pandas, in the end an Interaction
    _file: LogFile
    _wanted: list[str]
    _incomplete_rows = 0
    _tied_share: float
    _preloaded_weight: dict[str, np.ndarray]

    def _by_recbole(self) -> None:
        super()._from_scratch()
        self._to_sequences()
        for name in self.feat_name_list:
            setattr(self, name, self._dataframe_to_interaction(getattr(self, name)))

    def _set_column(self, name: str) -> None:
        """Tells RecBole of a column of the interactions."""
        kind = FeatureType(self._file.columns[name])
        self.field2source[name] = FeatureSource.INTERACTION
        # A time is a number to RecBole, whatever the header calls it.
        self.field2type[name] = FeatureType.FLOAT if name == self.time_field else kind
        self.field2seqlen[name] = 1
        if kind == FeatureType.FLOAT:
            self.field2bucketnum[name] = 2

    def _load_feat(self, filepath: str, source: FeatureSource | str) -> pd.DataFrame | None:
        if source != FeatureSource.INTERACTION:
            return super()._load_feat(filepath, source)
        log = read_log(self._file, self._wanted, self.time_field)
        self._time_scale = log.time_scale
        table = {}
        for name in self._wanted:
            self._set_column(name)
            if name == self.time_field:
                table[name] = log.times
            elif name in log.tokens:
                # Code -1 is the last name: none.
                names = np.array([*log.tokens[name].names.to_pylist(), None], dtype=object)
                table[name] = names[log.tokens[name].codes]
            else:
                table[name] = log.floats[name]
        return pd.DataFrame(table)

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        # RecBole's own asks for an atomic file.
        self.inter_feat = self._load_feat(str(self._file.path), FeatureSource.INTERACTION)

    def _filter_nan_user_or_item(self) -> None:
        # RecBole takes row numbers for places, and drops other rows once a user's row is gone.
        missing = self.inter_feat[[self.uid_field, self.iid_field]].isna().any(axis=1)
        self._incomplete_rows = int(missing.sum())
        self.inter_feat = self.inter_feat.drop(index=self.inter_feat.index[missing])
        super()._filter_nan_user_or_item()

    def _remove_duplication(self) -> None:
        # RecBole sorts by time with an unstable sort and leaves the rows in that order.
        keep = self.config["rm_dup_inter"]
        if keep is not None:
            by_time = self.inter_feat.sort_values(self.time_field, kind="stable")
            self.inter_feat = by_time.drop_duplicates([self.uid_field, self.iid_field], keep=keep).sort_index()

    def _data_filtering(self) -> None:
        super()._data_filtering()
        # A name that only features have would get an id: one more item, a candidate of every query.
        kept = {field: self.inter_feat[field] for field in (self.uid_field, self.iid_field)}
        kept |= dict.fromkeys(self.config["alias_of_item_id"] or (), kept[self.iid_field])
        kept |= dict.fromkeys(self.config["alias_of_user_id"] or (), kept[self.uid_field])
        for name in set(self.feat_name_list) - {"inter_feat"}:
            features = getattr(self, name)
            for column in kept.keys() & set(features.columns):
                features = features[features[column].isin(kept[column])]
            setattr(self, name, features.reset_index(drop=True))

    def _init_alias(self) -> None:
        # Of further files RecBole numbers only the names that have an alias.
        if self.config["alias_of_relation_id"]:
            self._set_alias("relation_id", [])
        super()._init_alias()

    def _preload_weight_matrix(self) -> None:
        super()._preload_weight_matrix()
        # In the float64 that RecBole leaves them in, they do not multiply with KSR's own weights.
        self._preloaded_weight = {name: table.astype(np.float32) for name, table in self._preloaded_weight.items()}

    def _fill_nan(self) -> None:
        # The exact times, before RecBole may normalise the column.
        times = self.inter_feat[self.time_field].to_numpy()
        self._times = times if self._time_scale == 1 else np.rint(times * self._time_scale).astype(np.int64)
        super()._fill_nan()

    def _to_sequences(self) -> None:
        users = self.inter_feat[self.uid_field].to_numpy()
        present, counts = np.unique(users, return_counts=True)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        order = np.argsort(users, kind="stable")
        order = order[time_order(self._times[order], offsets, self.config["tie_order"])]
        self.inter_feat = self.inter_feat.iloc[order].reset_index(drop=True)
        self.sequences = Sequences(
            items=self.inter_feat[self.iid_field].to_numpy(np.int32),
            times=self._times[order],
            offsets=offsets,
            users=present.astype(np.int32),
            time_scale=self._time_scale,
        )
        self._tied_share = self.sequences.tied_share()
        del self._times

    def _fingerprint_by_recbole(self) -> str:
        flat = self.sequences
        names = (pa.array(self.field2id_token[name][1:]) for name in (self.uid_field, self.iid_field))
        arrays = {name: getattr(flat, name) for name in FLAT_ARRAYS} | name_arrays(*names)
        # The flat arrays hold these columns already; but not times that RecBole changed.
        left_out = {self.uid_field, self.iid_field}
        if not (self._time_scale != 1 or self.config["normalize_all"] or self.config["normalize_field"]):
            left_out.add(self.time_field)
        beside = {
            column: array_info(values.numpy())
            for column, values in self.inter_feat.interaction.items()
            if column not in left_out
        }
        flat_arrays = {name: array_info(array) for name, array in arrays.items()}
        interactions = fingerprint(flat_arrays, beside, flat.time_scale)
        features = {
            f"{name} {column}": array_info(values.numpy())
            for name in self.feat_name_list
            if name != "inter_feat"
            for column, values in getattr(self, name).interaction.items()
        }
        return interactions + (f"+{fingerprint({}, features, 1)}" if features else "")
