"""RecBole's own way from the files to a data set, its reader of interactions and its defects replaced."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource, FeatureType

from mos_recbole.data.cache import array_info
from mos_recbole.data.prepare import time_order
from mos_recbole.data.prepared import FLAT_ARRAYS, fingerprint, name_arrays
from mos_recbole.data.reading import (
    LogFile,
    SplitColumns,
    SplitRows,
    read_features,
    read_header,
    read_log,
    read_split_files,
)
from mos_recbole.data.sequences import Sequences, positions
from mos_recbole.errors import InputError
from mos_recbole.progress import ProgressBar

_log = logging.getLogger(__name__)


class DatasetByRecBole(Dataset):
    """A RecBole `Dataset` whose files are read by `read_log` and `read_features`, sorted by user and time.

    Attributes:
        sequences: the flat arrays, once `_by_recbole` was called.
    """

    sequences: Sequences
    time_field: str | None
    inter_feat: Any  # RecBole's: first a table of pandas, in the end an Interaction
    _file: LogFile
    _wanted: list[str]
    _incomplete_rows = 0
    _skipped_lines = 0
    _no_numbers: Mapping[str, int] = MappingProxyType({})
    _tied_share: float
    _preloaded_weight: dict[str, np.ndarray]
    _split_rows: SplitRows | None = None  # of data that come split

    def _by_recbole(self) -> None:
        with ProgressBar("preparing the data through RecBole"):
            super()._from_scratch()
            self._to_sequences()
            for name in self.feat_name_list:
                setattr(self, name, self._dataframe_to_interaction(getattr(self, name)))
            self._drop_unused_col()

    def _drop_unused_col(self) -> None:
        # RecBole's own fails where a file is missing, and takes what sequences are made of away from models too.
        for source, names in (self.config["unused_col"] or {}).items():
            features: Any = getattr(self, f"{source}_feat", None)
            there = [] if features is None else [name for name in names if name in features]
            for name in there:
                if name not in (self.uid_field, self.iid_field, self.time_field):
                    self._del_col(features, name)

    def _take_split_files(self) -> None:
        """Reads the files of training, validation and test (`split: files`)."""
        config, names = self.config, self.config["benchmark_filename"]
        paths = [Path(self.dataset_path) / f"{self.dataset_name}.{name}.inter" for name in names]
        for path in paths:
            if not path.is_file():
                raise InputError(f"{path}: no such file, which benchmark_filename names")
        headers = [read_header(path, config["field_separator"], config["encoding"]) for path in paths]
        header = list(dict.fromkeys(name for header in headers for name in header))
        self._require_columns(paths[0], "inter", header)
        aliases = config["alias_of_item_id"] or []
        lists = dict.fromkeys([self.iid_field + config["LIST_SUFFIX"], *(name for name in aliases if name in header)])
        limits = {name: limit for name, limit in (config["seq_len"] or {}).items() if name in lists}
        columns = SplitColumns(
            self.uid_field, self.iid_field, self.time_field, list(lists), config["seq_separator"], limits
        )
        separator, encoding = config["field_separator"], config["encoding"]
        skip = config["skip_bad_lines"]
        self._split_rows, self._skipped_lines = read_split_files(paths, columns, separator, encoding, skip)
        if not self._split_rows.is_timed:
            self.time_field = config["TIME_FIELD"] = None
        # Lists become rows, which need no alias.
        config["alias_of_item_id"] = [name for name in aliases if name not in lists] or None
        self._wanted = [self.uid_field, self.iid_field, *([self.time_field] if self.time_field else [])]
        self._say_what_is_left_out(paths[0], [name for name in header if name not in (*self._wanted, *lists)])
        self._file = LogFile(paths[0], dict.fromkeys(self._wanted, "token"), separator, encoding)
        self._by_recbole()

    def _say_what_is_left_out(self, path: Path, columns: Collection[str]) -> None:
        """Warns of columns of split files that are not read though `load_col` names them.

        Raises:
            InputError: a setting changes such a column.
        """
        why = "of split files users, items, times and the lists of items alone are read"
        for key in ("normalize_field", "numerical_features", "discretization"):
            for name in self.config[key] or ():
                if name in columns:
                    raise InputError(f"{path}: {key} names {name!r}, which is not read; {why}")
        load_col, _ = self._get_load_and_unload_col(FeatureSource.INTERACTION)
        by_default = self.config.internal_config_dict["load_col"]["inter"]
        if unread := [name for name in columns if name in (load_col or ()) and name not in by_default]:
            _log.warning(f"{path}: not read, though load_col names them: {', '.join(unread)}; {why}")

    def _get_preset(self) -> None:
        super()._get_preset()
        # RecBole's own way for data that come split; here they are rows like others, with sides.
        self.benchmark_filename_list = None

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
            return self._load_features(Path(filepath), source)
        if (split := self._split_rows) is not None:
            self._time_scale = split.time_scale
            for name in self._wanted:
                self._set_column(name)
            times = split.times if split.time_scale == 1 else split.times / split.time_scale
            return pd.DataFrame(dict(zip(self._wanted, (split.users, split.items, times), strict=False)))
        log = read_log(self._file, self._wanted, self.time_field, self.config["skip_bad_lines"])
        self._time_scale, self._skipped_lines = log.time_scale, log.skipped_lines
        self._no_numbers = log.no_numbers
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

    def _load_features(self, path: Path, source: FeatureSource | str) -> pd.DataFrame | None:
        """Returns the columns to load of a file beside the interactions, and tells RecBole of them."""
        load_col, unload_col = self._get_load_and_unload_col(source)
        if load_col == set():
            return None
        separator, encoding = self.config["field_separator"], self.config["encoding"]
        file = LogFile(path, read_header(path, separator, encoding), separator, encoding)
        wanted = [
            name for name in file.columns if (load_col is None or name in load_col) and name not in (unload_col or ())
        ]
        self._require_columns(path, getattr(source, "value", source), file.columns)
        key = {FeatureSource.USER: self.uid_field, FeatureSource.ITEM: self.iid_field}.get(source)
        if key is not None and key not in wanted:
            raise InputError(f"{path}: {key!r} is not loaded; expected it in the header and in load_col")
        table, skipped = read_features(file, wanted, key, self.config["seq_separator"], self.config["skip_bad_lines"])
        if skipped:
            _log.warning(f"{path}: bad lines left out: {skipped} (skip_bad_lines)")
        for name in wanted:
            kind = FeatureType(file.columns[name])
            if source != "link":  # as RecBole: these columns are known from other files
                self.field2source[name], self.field2type[name] = source, kind
                self.field2seqlen[name] = 1
                if kind in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
                    self.field2bucketnum[name] = 2
            if kind in (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ):
                limit = (self.config["seq_len"] or {}).get(name)
                table[name] = [values[:limit] for values in table[name]]
                self.field2seqlen[name] = max(map(len, table[name]), default=0)
        return table

    def _require_columns(self, path: Path, suffix: str, columns: Collection[str]) -> None:
        """Raises an InputError for a column of a file that `load_col` or its like names and the file does not have."""
        # What RecBole's own `load_col` names, whatever the columns are called.
        by_default = self.config.internal_config_dict["load_col"]["inter"] if suffix == "inter" else ()
        for key in ("load_col", "unload_col", "unused_col"):
            for name in (self.config[key] or {}).get(suffix) or ():
                is_all = name == "*" and key == "load_col"
                if name not in columns and not is_all and name not in by_default:
                    found = ", ".join(columns)
                    raise InputError(f"{path}, line 1: no column {name!r}, which {key} names; found {found}")

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        # RecBole's own asks for an atomic file.
        self.inter_feat = self._load_feat(str(self._file.path), FeatureSource.INTERACTION)

    def _filter_nan_user_or_item(self) -> None:
        # RecBole takes row numbers for places, and drops other rows once a user's row is gone.
        missing = self.inter_feat[[self.uid_field, self.iid_field]].isna().any(axis=1)
        self._incomplete_rows = int(missing.sum())
        self.inter_feat = self.inter_feat.drop(index=self.inter_feat.index[missing])
        super()._filter_nan_user_or_item()

    def _filter_by_field_value(self) -> None:
        # RecBole fails on names in the place of an interval, or drops other rows than asked for. Its own complaints are
        # ValueErrors too.
        for name, allowed in (self.config["val_interval"] or {}).items():
            kind = self.field2type.get(name)
            if kind is None:
                found = ", ".join(self.field2type)
                raise ValueError(f"val_interval names {name!r}, which is no column that is loaded; found {found}")
            expected = {FeatureType.FLOAT: "an interval, such as '[1,5]'", FeatureType.TOKEN: "a list of its names"}
            if kind not in expected:
                raise ValueError(f"val_interval names {name!r}, which holds lists; expected a column of single values")
            if isinstance(allowed, list) == (kind == FeatureType.FLOAT):
                raise ValueError(f"val_interval of {name!r} is {allowed!r}; expected {expected[kind]}")
        super()._filter_by_field_value()

    def _remove_duplication(self) -> None:
        # RecBole sorts by time with an unstable sort and leaves the rows in that order.
        keep = self.config["rm_dup_inter"]
        if keep is not None:
            by_time = self.inter_feat
            if self.time_field is not None:
                by_time = by_time.sort_values(self.time_field, kind="stable")
            self.inter_feat = by_time.drop_duplicates([self.uid_field, self.iid_field], keep=keep).sort_index()

    def _filter_inter_by_user_or_item(self) -> None:
        # RecBole drops the interactions of whoever has no features. Here only a filter on features does that.
        filtered = {self.field2source[field] for field in self.config["val_interval"] or {}}
        for name, field, *sources in (
            ("user_feat", self.uid_field, FeatureSource.USER, FeatureSource.USER_ID),
            ("item_feat", self.iid_field, FeatureSource.ITEM, FeatureSource.ITEM_ID),
        ):
            if filtered.intersection(sources) and getattr(self, name) is not None:
                stays = self.inter_feat[field].isin(getattr(self, name)[field])
                if self.config["filter_inter_by_user_or_item"]:
                    self.inter_feat = self.inter_feat[stays]

    def _data_filtering(self) -> None:
        if self._split_rows is None:
            super()._data_filtering()
        # A name that only features have would get an id: one more item, a candidate of every query.
        kept = {field: self.inter_feat[field] for field in (self.uid_field, self.iid_field)}
        kept |= dict.fromkeys(self.config["alias_of_item_id"] or (), kept[self.iid_field])
        kept |= dict.fromkeys(self.config["alias_of_user_id"] or (), kept[self.uid_field])
        whose = (("users", self.user_feat, self.uid_field), ("items", self.item_feat, self.iid_field))
        described = {what: (field, set(table[field])) for what, table, field in whose if table is not None}
        for name in set(self.feat_name_list) - {"inter_feat"}:
            features = getattr(self, name)
            for column in kept.keys() & set(features.columns):
                if self.field2type[column] == FeatureType.TOKEN:
                    features = features[features[column].isin(kept[column])]
                else:
                    names = set(kept[column])
                    lists = [np.array([one for one in row if one in names], dtype=object) for row in features[column]]
                    features = features.assign(**{column: pd.Series(lists, index=features.index, dtype=object)})
            setattr(self, name, features.reset_index(drop=True))
        for what, (field, names) in described.items():
            self._say_missing(names, self.inter_feat[field], what)

    def _say_missing(self, described: set[str], names: pd.Series, what: str) -> None:
        """Warns of users or items without features, and of features of none."""
        path = Path(self.dataset_path) / f"{self.dataset_name}.{what[:-1]}"
        present = dict.fromkeys(names)
        missing = [name for name in present if name not in described]
        if len(missing) == len(present):
            raise InputError(f"{path}: none of its {what} is in the interactions; expected their names as there")
        if missing:
            some = ", ".join(map(repr, missing[:3])) + (", ..." if len(missing) > 3 else "")
            _log.warning(f"{path}: {len(missing)} {what} without features ({some}); their interactions are kept")
        if unknown := len(described) - (len(present) - len(missing)):
            effect = "they are candidates with RecBole" if what == "items" else "RecBole keeps them"
            _log.warning(f"{path}: {unknown} {what} without interactions are left out; {effect}")

    def _init_alias(self) -> None:
        # Of further files RecBole numbers only the names that have an alias.
        if self.config["alias_of_relation_id"]:
            self._set_alias("relation_id", [])
        for key in ("alias_of_user_id", "alias_of_item_id"):
            for name in self.config[key] or ():
                if name not in self.field2type:
                    loaded = ", ".join(self.field2type)
                    raise InputError(f"{key} names {name!r}, which is not loaded by load_col; found {loaded}")
                if self.field2type[name] not in (FeatureType.TOKEN, FeatureType.TOKEN_SEQ):
                    kind = FeatureType(self.field2type[name]).value
                    raise InputError(f"{key} names {name!r}, a column of type {kind}; expected token or token_seq")
        super()._init_alias()

    def _discretization(self) -> None:
        # RecBole fails on names: by the dictionary that it changes, or as it makes tensors of them.
        for key in ("numerical_features", "discretization"):
            for name in self.config[key] or ():
                kind = self.field2type.get(name)
                if kind is not None and kind not in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
                    raise InputError(
                        f"{key} names {name!r}, a column of type {FeatureType(kind).value}; expected float or float_seq"
                    )
        super()._discretization()

    def _preload_weight_matrix(self) -> None:
        for name in self.config["preload_weight"] or ():
            if name in self.field2source and name not in self.field2token_id:
                raise InputError(
                    f"preload_weight names {name!r}, which has no numbers of its own; expected it in alias_of_item_id "
                    "or alias_of_user_id"
                )
        super()._preload_weight_matrix()
        # In the float64 that RecBole leaves them in, they do not multiply with KSR's own weights.
        self._preloaded_weight = {name: table.astype(np.float32) for name, table in self._preloaded_weight.items()}

    def _fill_nan(self) -> None:
        # The exact times, before RecBole may normalise the column.
        n_rows = len(self.inter_feat)
        times = np.arange(n_rows) if self.time_field is None else self.inter_feat[self.time_field].to_numpy()
        self._times = times if self._time_scale == 1 else np.rint(times * self._time_scale).astype(np.int64)
        super()._fill_nan()

    def _to_sequences(self) -> None:
        if self._split_rows is not None:
            self._to_split_sequences(self._split_rows)
            return
        users = self.inter_feat[self.uid_field].to_numpy()
        present, counts = np.unique(users, return_counts=True)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        order = np.argsort(users, kind="stable")
        if self.time_field is None:
            self._times = positions(offsets)
        else:
            order = order[time_order(self._times[order], offsets, self.config["tie_order"])]
            self._times = self._times[order]
        self.inter_feat = self.inter_feat.iloc[order].reset_index(drop=True)
        self.sequences = Sequences(
            items=self.inter_feat[self.iid_field].to_numpy(np.int32),
            times=self._times,
            offsets=offsets,
            users=present.astype(np.int32),
            time_scale=self._time_scale,
        )
        self._tied_share = self.sequences.tied_share()
        del self._times

    def _to_split_sequences(self, rows: SplitRows) -> None:
        users, times, sides = self.inter_feat[self.uid_field].to_numpy(), rows.times, rows.sides
        starts = rows.starts
        if starts is None:
            order = np.lexsort((sides, users))
            runs = np.flatnonzero(np.diff(3 * users[order].astype(np.int64) + sides[order], prepend=-1))
            order = order[time_order(times[order], np.append(runs, len(users)), self.config["tie_order"])]
            self.inter_feat = self.inter_feat.iloc[order].reset_index(drop=True)
            users, times, sides = users[order], times[order], sides[order]
            starts = np.flatnonzero(np.diff(users, prepend=-1))
            is_backwards = times[1:] < times[:-1]
            is_backwards[starts[1:] - 1] = False
            if n_backwards := int(is_backwards.sum()):
                _log.warning(
                    f"{self._file.path}: {n_backwards} interactions of other files are earlier than what their user "
                    "did in this or in validation's file; contexts are in the order of the files, then of time"
                )
        items = self.inter_feat[self.iid_field].to_numpy(np.int32)
        offsets = np.append(starts, len(users)).astype(np.int64)
        self.sequences = Sequences(items, times, offsets, users[starts].astype(np.int32), rows.time_scale, sides)
        self._tied_share = self.sequences.tied_share()

    def _fingerprint_by_recbole(self) -> str:
        flat = self.sequences
        names = (pa.array(self.field2id_token[name][1:]) for name in (self.uid_field, self.iid_field))
        arrays = {name: getattr(flat, name) for name in FLAT_ARRAYS} | name_arrays(*names)
        if flat.sides is not None:
            arrays["sides"] = flat.sides
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
