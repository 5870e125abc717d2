"""RecBole's data set, with sequences and splits of ours; read through RecBole or, where that is possible, beside it."""

import copy
import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, ModelType

from mos_recbole.data.by_recbole import DatasetByRecBole
from mos_recbole.data.prepare import Filters
from mos_recbole.data.prepared import PreparedLog, prepared_log
from mos_recbole.data.reading import LogFile, is_cut_off, is_table, table_file
from mos_recbole.data.sequences import blocks
from mos_recbole.data.splits import SPLITS, Split
from mos_recbole.data.summary import DataSummary, summarise
from mos_recbole.errors import InputError

_log = logging.getLogger(__name__)

# RecBole's settings that ask for more than `prepare` does.
_BEYOND_PREPARATION = (
    *("additional_feat_suffix", "alias_of_user_id", "alias_of_item_id"),
    *("normalize_field", "discretization", "numerical_features", "preload_weight"),
)


def interactions_fingerprint(whole: str) -> str:
    """Returns the part of a `SequenceDataset.fingerprint` for the interactions, which decide what is measured.

    So a model that uses features of items is compared on the same queries as one that does not.
    """
    return whole.partition("+")[0]


class SequenceDataset(DatasetByRecBole):
    """A RecBole `Dataset` whose interactions are sorted by user and time, with the flat arrays beside them.

    RecBole's `load_col`, `val_interval`, `rm_dup_inter`, k-core filters and remapping hold. Four things differ: faults
    of the file are named by line; times stay int64 (RecBole's float32 merges times up to 128 s apart) and rows of equal
    time come in the order that `tie_order` names; a user's prefixes are not materialised; all rows whose user or item
    is missing are dropped (RecBole drops others where both occur).

    There are two ways from the file to the same data. Interactions with nothing but numbers beside them are prepared
    once, without RecBole and its memory, and mapped from the cache (`prepared_log`); `inter_feat` and the names of
    users and items are made when they are asked for. Features of users and items, other columns of names, and the
    settings of RecBole that change columns go through RecBole's own code (`DatasetByRecBole`).

    Attributes:
        sequences: the flat arrays; row i of them is row i of `inter_feat`.

    Raises:
        InputError: a missing or broken file, a missing column, or nothing left after filtering.
    """

    _prepared: PreparedLog | None = None
    # Of training's part: the whole, and its split.
    _part_of: tuple["SequenceDataset", Split] | None = None

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
        if self.config["split"] == "files":
            self._take_split_files()
        else:
            self._file = self._find_file()
            self._wanted = self._wanted_columns()
            if self._can_be_prepared():
                self._take_prepared()
            else:
                self._by_recbole()
        self._say_what_is_not_read()
        # A model of RecBole's asks for the length of the sequences that it will be given.
        self.field2seqlen[self.iid_field + self.config["LIST_SUFFIX"]] = self.config["MAX_ITEM_LIST_LENGTH"]
        if self._incomplete_rows:
            _log.warning(f"{self._file.path}: {self._incomplete_rows} rows without a user or an item left out")
        if self._skipped_lines:
            _log.warning(f"{self._file.path}: bad lines left out: {self._skipped_lines} (skip_bad_lines)")
        for name, count in self._no_numbers.items():
            _log.warning(f"{self._file.path}: {count} values of {name} are no numbers; the column is not loaded")
        if is_cut_off(self._file.path):
            _log.warning(f"{self._file.path}: the last line has no line end, as where a file was cut off; it is read")
        if self.time_field is None:
            _log.warning(f"{self._file.path}: no times are read; each user's interactions are in the order of the file")

    def _say_what_is_not_read(self) -> None:
        """Warns of files that `load_col` names and that are not there, or are of no use to the model.

        Raises:
            InputError: `seq_len` names no column.
        """
        added = self.config["additional_feat_suffix"] or ()
        for suffix in self.config["load_col"] or ():
            path = Path(self.dataset_path) / f"{self.dataset_name}.{suffix}"
            if suffix == FeatureSource.INTERACTION.value:
                continue
            if not path.is_file():
                _log.warning(f"{path}: no such file, though load_col names it")
            elif suffix not in ("user", "item", *([added] if isinstance(added, str) else added)):
                _log.warning(f"{path} is not read: {self.config['model']} uses none, nor does additional_feat_suffix")
        for name in self.config["seq_len"] or ():
            lists = [] if self._split_rows is None or self._split_rows.lists is None else [self._split_rows.lists]
            if name not in self.field2type and name not in lists:
                found = ", ".join([*self.field2type, *lists])
                raise InputError(f"seq_len names {name!r}, which is no column that is loaded; found {found}")

    def _find_file(self) -> LogFile:
        fields = self.uid_field, self.iid_field, self.time_field
        separator, encoding = self.config["field_separator"], self.config["encoding"]
        if is_table(self.dataset_path):
            chosen = self.config["columns"] or {}
            file, self.time_field = table_file(Path(self.dataset_path), fields, chosen, encoding, separator)
            return file
        if self.config["columns"]:
            raise InputError(
                "columns is for a --dataset that is a .csv, .tsv or .parquet file; the columns of "
                f"{self.dataset_name}.inter are named by USER_ID_FIELD, ITEM_ID_FIELD and TIME_FIELD"
            )
        # RecBole would offer to download, from an address that may be gone, and wait for an answer.
        if not Path(self.dataset_path).is_dir():
            raise InputError(
                f"data set {self.dataset_name!r}: no folder {self.dataset_path}; expected {self.dataset_name}.inter "
                "in it, or MovieLens' ratings.csv (data_path sets the folder above; ml-100k is built in)"
            )
        return LogFile.find(Path(self.dataset_path), self.dataset_name, fields, separator, encoding)

    def _wanted_columns(self) -> list[str]:
        columns = self._file.columns
        load_col, unload_col = self._get_load_and_unload_col(FeatureSource.INTERACTION)
        self._require_columns(self._file.path, "inter", columns)
        # What rows are filtered by is read, whether or not `load_col` names it.
        needed = {self.uid_field, self.iid_field, self.time_field, *(self.config["val_interval"] or {})}
        wanted = [
            name
            for name in columns
            if name in needed or ((load_col is None or name in load_col) and name not in (unload_col or ()))
        ]
        for name in wanted:
            if columns[name].endswith("_seq"):
                how = "take it out of load_col" if load_col else f"leave it out by unload_col: {{inter: [{name}]}}"
                raise InputError(
                    f"{self._file.path}, line 1: the column {name!r} holds lists, which are not read; {how}"
                )
        return wanted

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
        self._prepared = prepared_log(self._file, self._wanted, filters, self.config["skip_bad_lines"])
        self.sequences = self._prepared.sequences
        self._tied_share, self._incomplete_rows = self._prepared.tied_share, self._prepared.incomplete_rows
        self._skipped_lines, self._no_numbers = self._prepared.skipped_lines, self._prepared.no_numbers
        for name in self._wanted:
            self._set_column(name)
        self.field2source[self.uid_field] = FeatureSource.USER_ID
        self.field2source[self.iid_field] = FeatureSource.ITEM_ID
        self.user_feat = self.item_feat = None
        self._init_alias()
        self.feat_name_list = ["inter_feat"]
        # What RecBole has just set to nothing; from here on they are made when they are asked for.
        del self.field2id_token, self.field2token_id

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
            whole, split = self._part_of
            is_general = self.config["MODEL_TYPE"] in (ModelType.GENERAL, ModelType.TRADITIONAL)
            offsets = self.sequences.offsets
            rows = split.train_interactions(offsets) if is_general else split.train_rows(int(offsets[-1]))
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

    def fingerprint(self) -> str:
        """Returns a SHA-256 of what a model can learn from: the flat arrays, all other columns, the ids' names.

        If features of users and items are loaded, their hash follows after a "+": see `interactions_fingerprint`.
        """
        return self._fingerprint_by_recbole() if self._prepared is None else self._prepared.fingerprint

    def split(self) -> Split:
        """Returns the targets of the three sides by the split that the settings name.

        Raises:
            InputError: a side has no targets, or the split is by time and the data have none.
        """
        name = self.config["split"]
        if SPLITS[name].by_time and self.sequences.times_are_positions():
            what = "no times are read; positions" if self.time_field is None else f"the times in {self.time_field!r}"
            raise InputError(
                f"data set {self.dataset_name!r}: split is {name!r}, but {what} number each user's interactions "
                "(0, 1, 2, ...) and say nothing of other users'; write split: ratio or split: leave_one_out"
            )
        split = SPLITS[name].apply(self.sequences, self.config)
        if split.own_contexts and self.config["train_mode"] == "all_positions":
            raise InputError(
                f"data set {self.dataset_name!r}: its files hold lists of items, of which train_mode: all_positions "
                "would make further targets; write train_mode: prefix"
            )
        for side in ("train", "valid", "test") if SPLITS[name].validates(self.config) else ("train", "test"):
            if not getattr(split, side).n_targets:
                scale, times = self.sequences.time_scale, self.sequences.times
                facts = "".join(f", {key} {value}" for key, value in split.facts.items())
                raise InputError(
                    f"data set {self.dataset_name!r}: the split {name} leaves no {side} targets "
                    f"({self.sequences.n_users} users, {len(self.sequences.items)} interactions, times "
                    f"{times.min() / scale:.16g} to {times.max() / scale:.16g}{facts})"
                )
        return split

    def training_part(self, split: Split) -> "SequenceDataset":
        """Returns the data set as a model may see it: only the interactions of training are in `inter_feat`.

        General models see all of them, as in RecBole; sequential ones those that are targets or in their contexts.
        """
        part = copy.copy(self)
        part.__dict__.pop("inter_feat", None)
        part._part_of = (self, split)
        return part

    @property
    def trained_split(self) -> Split:
        """The split whose training a model sees: of a part its own, which in a final fit has validation in training."""
        return self.split() if self._part_of is None else self._part_of[1]

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
        return summarise(
            self.sequences,
            split,
            n_items=self.item_num - 1,
            tied_share=self._tied_share,
            is_trained=self.train_counts(split) > 0,
            in_file_order=self.time_field is None,
        )
