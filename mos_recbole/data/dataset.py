"""RecBole's data set, with sequences and splits of ours; read through RecBole or, where that is possible, beside it."""

import copy
import logging
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from mos_recbole.data.cache import array_info
from mos_recbole.data.prepare import Filters, time_order
from mos_recbole.data.prepared import PreparedLog, fingerprint, name_arrays, prepared_log
from mos_recbole.data.reading import LogFile, read_log
from mos_recbole.data.sequences import Sequences, blocks, read_rows
from mos_recbole.data.splits import SPLITS, Split
from mos_recbole.errors import InputError

_log = logging.getLogger(__name__)

# RecBole's settings that ask for more than `prepare` does.
_BEYOND_PREPARATION = (
    *("benchmark_filename", "additional_feat_suffix", "alias_of_user_id", "alias_of_item_id", "threshold"),
    *("normalize_field", "discretization", "numerical_features", "preload_weight"),
)


def interactions_fingerprint(whole: str) -> str:
    """Returns what of a `SequenceDataset.fingerprint` is of the interactions, which decide about what is measured.

    A model that looks at features of the items besides is compared on the same queries as one that does not.
    """
    return whole.partition("+")[0]


@dataclass(frozen=True)
class DataSummary:
    """Counts that belong beside every result.

    Attributes:
        users, items, interactions: of the data after its filters.
        users_without_targets: users of whom no side has a target.
        tied_share: share of interactions that share their time with another of the same user.
        train_targets, valid_targets, test_targets: of the sides.
        train_users, valid_users, test_users: users with targets there.
        trained_items: items that training sees.
        tied_test_share: share of the test targets whose time is that of the interaction before them.
        unseen_test_share: share of the test targets whose item training never saw.
        new_test_share: share of the test targets whose user training never saw.
        split_facts: what the split says of itself.
    """

    users: int
    items: int
    interactions: int
    users_without_targets: int
    tied_share: float
    train_targets: int
    valid_targets: int
    test_targets: int
    train_users: int
    valid_users: int
    test_users: int
    trained_items: int
    tied_test_share: float
    unseen_test_share: float
    new_test_share: float
    split_facts: dict[str, int | float] = field(default_factory=dict)

    def describe(self) -> str:
        """Returns the counts in a few lines."""
        without = f" ({self.users_without_targets:,} without a target)" if self.users_without_targets else ""
        lines = [
            f"{self.users:,} users{without}, {self.items:,} items, {self.interactions:,} interactions "
            f"({self.tied_share:.1%} share their time with another of the same user)",
            f"targets: {self.train_targets:,} training, {self.valid_targets:,} validation, {self.test_targets:,} test; "
            f"of the test's {self.tied_test_share:.1%} are tied with the item before, {self.unseen_test_share:.1%} are "
            f"items that training never saw, {self.new_test_share:.1%} of users that training never saw",
        ]
        if facts := self.split_facts:
            lines.append(
                f"validation from time {facts['valid_from']}, test from {facts['test_from']}; before the test "
                f"{facts['users_before_test']:,} users, {facts['items_before_test']:,} items, "
                f"{facts['targets_before_test']:,} targets"
            )
        return "\n  ".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Returns the counts by name, those of the split among them."""
        counts = asdict(self)
        return counts | counts.pop("split_facts")


class SequenceDataset(Dataset):
    """A RecBole `Dataset` whose interactions are sorted by user and time, with the flat arrays beside them.

    What RecBole's users know holds: `load_col`, `val_interval`, `rm_dup_inter`, the k-core filters, remapping. Four
    things differ: the file is checked and its faults are named by line; times stay int64 (RecBole's float32 merges
    times up to 128 s apart), and rows of equal time come in the order that `tie_order` names, by default the file's; a
    user's prefixes are not materialised;
    all rows whose user or item is missing are dropped (RecBole drops others where both occur).

    There are two ways from the file to the same data. Interactions with nothing but numbers beside them are prepared
    once, without RecBole and without its memory, and mapped from the store (`prepared_log`); `inter_feat` and the
    names of users and items are then made when they are asked for. Features of users and items, other columns of names,
    and the settings of RecBole that change columns go through RecBole's own machinery.

    Attributes:
        sequences: the flat arrays; row i of them is row i of `inter_feat`.

    Raises:
        InputError: a missing or broken file, a missing column, or nothing left after filtering.
    """

    sequences: Sequences
    _preloaded_weight: dict[str, np.ndarray]
    _prepared: PreparedLog | None = None
    # Of a part: the whole, and a mask of the rows in the part.
    _part_of: tuple["SequenceDataset", np.ndarray] | None = None

    def __init__(self, config: Any) -> None:
        try:
            super().__init__(config)
        except InputError:
            raise
        except ValueError as error:  # RecBole's own complaints about its data settings
            raise InputError(f"data set {config['dataset']!r}: {error}") from error

    def _from_scratch(self) -> None:
        self._get_preset()
        self._get_field_from_config()
        self._file = self._find_file()
        self._wanted = self._wanted_columns()
        if self._can_be_prepared():
            self._take_prepared()
        else:
            super()._from_scratch()
            self._to_sequences()
            for name in self.feat_name_list:
                setattr(self, name, self._dataframe_to_interaction(getattr(self, name)))
        # A model of RecBole's asks for the length of the sequences that it will be given.
        self.field2seqlen[self.iid_field + self.config["LIST_SUFFIX"]] = self.config["MAX_ITEM_LIST_LENGTH"]
        if self._incomplete_rows:
            _log.warning(f"{self._file.path}: {self._incomplete_rows} rows without a user or an item left out")

    def _find_file(self) -> LogFile:
        # RecBole would offer to download, from an address that may be gone, and wait for an answer.
        if not Path(self.dataset_path).is_dir():
            raise InputError(
                f"data set {self.dataset_name!r}: no folder {self.dataset_path}; expected {self.dataset_name}.inter "
                "in it, or MovieLens' ratings.csv (data_path sets the folder above; ml-100k is built in)"
            )
        return LogFile.find(
            Path(self.dataset_path),
            self.dataset_name,
            self.uid_field,
            self.iid_field,
            self.time_field,
            self.config["field_separator"],
            self.config["encoding"],
        )

    def _wanted_columns(self) -> list[str]:
        columns = self._file.columns
        load_col, unload_col = self._get_load_and_unload_col(FeatureSource.INTERACTION)
        # What rows are filtered by is read, whether or not `load_col` names it.
        needed = {self.uid_field, self.iid_field, self.time_field, *(self.config["val_interval"] or {})}
        wanted = [
            name
            for name in columns
            if name in needed or ((load_col is None or name in load_col) and name not in (unload_col or ()))
        ]
        for name in wanted:
            if columns[name].endswith("_seq"):
                raise InputError(f"{self._file.path}, line 1: the column {name!r} holds lists; expected single values")
        return wanted

    # ------------------------------------------------------------------------------------------- beside RecBole

    def _can_be_prepared(self) -> bool:
        """Returns whether `prepare` does all that the settings ask for."""
        if any(self.config[key] for key in _BEYOND_PREPARATION):
            return False
        for source in (FeatureSource.USER, FeatureSource.ITEM):
            path = Path(self.dataset_path) / f"{self.dataset_name}.{source.value}"
            if path.is_file() and self._get_load_and_unload_col(source)[0] != set():
                return False
        names, numbers = {self.uid_field, self.iid_field}, set(self._wanted) - {self.uid_field, self.iid_field}
        if any(self._file.columns[name] != "float" for name in numbers - {self.time_field}):
            return False
        return all(
            isinstance(allowed, list) if name in names else name in numbers and isinstance(allowed, str)
            for name, allowed in (self.config["val_interval"] or {}).items()
        )

    def _take_prepared(self) -> None:
        intervals = self._parse_intervals_str
        filters = Filters(
            user=self.uid_field,
            item=self.iid_field,
            time=self.time_field,
            duplicates=self.config["rm_dup_inter"],
            values={
                name: allowed if isinstance(allowed, list) else intervals(allowed)
                for name, allowed in (self.config["val_interval"] or {}).items()
            },
            user_interactions=intervals(self.config["user_inter_num_interval"]),
            item_interactions=intervals(self.config["item_inter_num_interval"]),
            normalize=bool(self.config["normalize_all"]),
            tie_order=self.config["tie_order"],
        )
        self._prepared = prepared_log(self._file, self._wanted, filters)
        self.sequences = self._prepared.sequences
        self._tied_share, self._incomplete_rows = self._prepared.tied_share, self._prepared.incomplete_rows
        for name in self._wanted:
            is_name = name in (self.uid_field, self.iid_field)
            self._set_column(name, FeatureType.TOKEN if is_name else FeatureType.FLOAT)
        self.field2source[self.uid_field] = FeatureSource.USER_ID
        self.field2source[self.iid_field] = FeatureSource.ITEM_ID
        self.user_feat = self.item_feat = None
        self._init_alias()
        self.feat_name_list = ["inter_feat"]
        # What RecBole has just set to nothing; from here on they are made when they are asked for.
        del self.field2id_token, self.field2token_id

    def _set_column(self, name: str, kind: FeatureType) -> None:
        self.field2source[name] = FeatureSource.INTERACTION
        self.field2type[name] = kind
        self.field2seqlen[name] = 1
        if self._file.columns[name] == "float":
            self.field2bucketnum[name] = 2

    @cached_property
    def field2id_token(self) -> dict[str, np.ndarray]:
        """RecBole's mapping of fields to names by id."""
        assert self._prepared is not None
        return {self.uid_field: self._prepared.id_user, self.iid_field: self._prepared.id_item}

    @cached_property
    def field2token_id(self) -> dict[str, dict[str, int]]:
        """RecBole's mapping of fields to ids by name."""
        return {
            field: {name: number for number, name in enumerate(names)} for field, names in self.field2id_token.items()
        }

    @cached_property
    def inter_feat(self) -> Interaction:
        """RecBole's interactions: ids int64, numbers float32."""
        if self._part_of is not None:
            whole, rows = self._part_of
            return whole.inter_feat[torch.from_numpy(np.flatnonzero(rows))]
        assert self._prepared is not None
        flat = self.sequences
        columns = {}
        for name in self._wanted:
            if name == self.uid_field:
                columns[name] = torch.from_numpy(np.repeat(flat.users.astype(np.int64), np.diff(flat.offsets)))
            elif name == self.iid_field:
                columns[name] = torch.from_numpy(flat.items).long()
            elif name in self._prepared.columns:
                columns[name] = torch.from_numpy(self._prepared.columns[name])
            else:
                columns[name] = torch.from_numpy(flat.times).float()
        return Interaction(columns)

    def num(self, field: str) -> int:
        """Returns the number of ids of a column of names, the padding's included; 1 for a column of numbers."""
        if self._prepared is not None and field in (self.uid_field, self.iid_field):
            return self._prepared.user_num if field == self.uid_field else self._prepared.item_num
        if field == self.config["RELATION_ID_FIELD"]:
            # RecBole's knowledge graphs have a relation more than their file, of users and items; KSR counts on it.
            return super().num(field) + 1
        return super().num(field)

    # ------------------------------------------------------------------------------------------- through RecBole

    def _load_feat(self, filepath: str, source: FeatureSource | str) -> pd.DataFrame | None:
        if source != FeatureSource.INTERACTION:
            return super()._load_feat(filepath, source)
        log = read_log(self._file, self._wanted, self.time_field)
        self._time_scale = log.time_scale
        table = {}
        for name in self._wanted:
            # A time is a number to RecBole, whatever the header calls it.
            self._set_column(name, FeatureType.FLOAT if name == self.time_field else self._type_of(name))
            if name == self.time_field:
                table[name] = log.times
            elif name in log.tokens:
                # Code -1 is the last name: none.
                names = np.array([*log.tokens[name].names.to_pylist(), None], dtype=object)
                table[name] = names[log.tokens[name].codes]
            else:
                table[name] = log.floats[name]
        return pd.DataFrame(table)

    def _type_of(self, name: str) -> FeatureType:
        return FeatureType(self._file.columns[name])

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

    # ------------------------------------------------------------------------------------------- either way

    def fingerprint(self) -> str:
        """Returns a SHA-256 of what a model can learn from: the flat arrays, all other columns, the ids' names.

        Where features of users and items are loaded, theirs follows after a "+": see `interactions_fingerprint`.
        """
        if self._prepared is not None:
            return self._prepared.fingerprint
        flat = self.sequences
        arrays = {"items": flat.items, "times": flat.times, "offsets": flat.offsets, "users": flat.users}
        arrays |= name_arrays(*(pa.array(self.field2id_token[name][1:]) for name in (self.uid_field, self.iid_field)))
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

    def split(self) -> Split:
        """Returns the targets of the three sides by the split that the settings name.

        Raises:
            InputError: a side has no targets.
        """
        name = self.config["split"]
        split = SPLITS[name].apply(self.sequences, self.config)
        for side in ("train", "valid", "test"):
            if not getattr(split, side).n_targets:
                scale, times = self.sequences.time_scale, self.sequences.times
                borders = "".join(f", {key} {split.facts[key]}" for key in ("valid_from", "test_from") if split.facts)
                raise InputError(
                    f"data set {self.dataset_name!r}: the split {name} leaves no {side} targets "
                    f"({self.sequences.n_users} users, {len(self.sequences.items)} interactions, times "
                    f"{times.min() / scale:.16g} to {times.max() / scale:.16g}{borders})"
                )
        return split

    def training_part(self, split: Split) -> "SequenceDataset":
        """Returns the data set as a model may see it: only the interactions of training are in `inter_feat`."""
        part = copy.copy(self)
        part.__dict__.pop("inter_feat", None)
        part._part_of = (self, split.train_rows(len(self.sequences.items)))
        return part

    def train_counts(self, split: Split) -> np.ndarray:
        """Returns how often each item occurs in training, int64 [n_items]."""
        return self._item_counts(split.train_rows(len(self.sequences.items)))

    def train_target_counts(self, split: Split) -> np.ndarray:
        """Returns how often each item is a target of training, int64 [n_items]."""
        return self._item_counts(split.train_target_rows(len(self.sequences.items)))

    def _item_counts(self, rows: np.ndarray) -> np.ndarray:
        counts = np.zeros(self.item_num, dtype=np.int64)
        for chunk, items in blocks(self.sequences.items):
            counts += np.bincount(items[rows[chunk]], minlength=self.item_num)
        return counts

    def summary(self, split: Split) -> DataSummary:
        """Returns the counts of the data and of a split of them."""
        flat = self.sequences
        is_trained = self.train_counts(split) > 0
        is_target = split.test_target_rows(len(flat.items))
        tied = unseen = 0
        for rows, items in blocks(flat.items):
            # The row before is of the same user, where a row is a target.
            first = max(rows.start, 1)
            gaps = np.diff(read_rows(flat.times, first - 1, rows.stop))
            tied += int((gaps[is_target[first : rows.stop]] == 0).sum())
            unseen += int((~is_trained[items[is_target[rows]]]).sum())
        has_target = np.zeros(flat.n_users, dtype=bool)
        in_training = np.zeros(flat.n_users, dtype=bool)
        in_training[split.train.user] = True
        for side in (split.train, split.valid, split.test):
            has_target[side.user] = True
        return DataSummary(
            users=flat.n_users,
            items=self.item_num - 1,
            interactions=len(flat.items),
            users_without_targets=int((~has_target).sum()),
            tied_share=self._tied_share,
            train_targets=split.train.n_targets,
            valid_targets=split.valid.n_targets,
            test_targets=split.test.n_targets,
            train_users=len(split.train.user),
            valid_users=len(split.valid.user),
            test_users=len(split.test.user),
            trained_items=int(is_trained.sum()),
            tied_test_share=tied / split.test.n_targets,
            unseen_test_share=unseen / split.test.n_targets,
            new_test_share=int(split.test.counts[~in_training[split.test.user]].sum()) / split.test.n_targets,
            split_facts=split.facts,
        )
