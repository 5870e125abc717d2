"""Batches of prefixes, and the table of all of them that is never made."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction

from mos_recbole.data import Segments, Sequences


@dataclass(frozen=True)
class Fields:
    """RecBole's names of what a batch holds."""

    user: str
    item: str
    item_seq: str
    item_seq_len: str
    negative_item: str
    label: str = "label"

    @classmethod
    def of(cls, config: Any) -> "Fields":
        item = config["ITEM_ID_FIELD"]
        return cls(
            config["USER_ID_FIELD"],
            item,
            item + config["LIST_SUFFIX"],
            config["ITEM_LIST_LENGTH_FIELD"],
            config["NEG_PREFIX"] + item,
            config["LABEL_FIELD"],
        )


def to_device(device: torch.device, *arrays: torch.Tensor) -> Iterator[torch.Tensor]:
    """Returns arrays of the host on the device; the host does not wait for the copies."""
    return (array.to(device, non_blocking=True) for array in arrays)


# Of a batch on a CPU, padding included: what an encoder makes of them stays in the cache.
_CPU_POSITIONS = 2**13


class PrefixGatherer:
    """Batches of prefixes: the last L items before each target, 0-padded on the right, as RecBole's models expect.

    Args:
        sequences: the flat arrays.
        segments: where the targets are.
        max_length: L.
        device: where batches are made.
        crop: whether a batch is as wide as its longest prefix instead of L wide.
        beside: more flat arrays of ids, by the names of the columns [B, L] that are gathered from them like the items.
    """

    def __init__(
        self,
        sequences: Sequences,
        segments: Segments,
        max_length: int,
        device: torch.device,
        *,
        crop: bool,
        beside: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.items = torch.from_numpy(sequences.items).to(device)
        self.beside = {name: torch.from_numpy(array).to(device) for name, array in (beside or {}).items()}
        # Per user and not per target: a target is found when its batch is made.
        self.stop_S = torch.from_numpy(np.cumsum(segments.counts))
        self.user_S = torch.from_numpy(sequences.users[segments.user].astype(np.int64))
        self.context_start_S = torch.from_numpy(segments.context_start)
        self.target_stop_S = torch.from_numpy(segments.target_stop)
        self.max_length, self.crop, self.device = max_length, crop, device

    def __len__(self) -> int:
        return int(self.stop_S[-1]) if len(self.stop_S) else 0

    def batches(self, size: int) -> list[torch.Tensor]:
        """Returns the numbers of all samples in batches of at most so many; of no samples one batch, of none.

        In their order; where batches are cropped, from the shortest to the longest, with little padding in any.
        """
        index_N = torch.arange(len(self))
        if not self.crop or not len(self):
            return list(index_N.split(size))
        length_N, index_N = self._place(index_N)[2].sort(stable=True)
        # The longest of a batch is at most a quarter and 4 items longer than its shortest.
        width_N = length_N + length_N // 4 + 4
        stop_N = torch.searchsorted(length_N, width_N, right=True)
        if self.device.type == "cpu":
            size_N = (_CPU_POSITIONS // width_N).clamp(1, size)
        else:
            size_N = torch.full_like(width_N, size)
        starts = [0]
        while starts[-1] < len(self):
            starts.append(starts[-1] + int(min(size_N[starts[-1]], stop_N[starts[-1]] - starts[-1])))
        return [index_N[start:stop] for start, stop in pairwise(starts)]

    def _place(self, index_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns the segments of samples, the rows of their targets, and how many items come before these."""
        segment_B = torch.searchsorted(self.stop_S, index_B, right=True)
        row_B = self.target_stop_S[segment_B] - self.stop_S[segment_B] + index_B
        return segment_B, row_B, (row_B - self.context_start_S[segment_B]).clamp(max=self.max_length)

    def batch(self, index: torch.Tensor, fields: Fields) -> Interaction:
        """Returns samples by their numbers, given on the host: user, item_seq [B, L], item_seq_len, target as item."""
        segment_B, row_B, length_B = self._place(index)
        # Known on the host, so that nobody waits for a GPU to say how wide the batch is.
        width = int(length_B.max()) if self.crop and len(index) else self.max_length
        user_B, row_B, length_B = to_device(self.device, self.user_S[segment_B], row_B, length_B)
        position_L = torch.arange(width, device=self.device)
        within_BL = position_L < length_B[:, None]
        source_BL = ((row_B - length_B)[:, None] + position_L).clamp(max=len(self.items) - 1)
        columns = {
            fields.user: user_B,
            fields.item_seq: torch.where(within_BL, self.items[source_BL], 0).long(),
            fields.item_seq_len: length_B,
            fields.item: self.items[row_B].long(),
        }
        for name, array in self.beside.items():
            columns[name] = torch.where(within_BL, array[source_BL], 0).long()
        return Interaction(columns)


class PrefixTable:
    """What RecBole's `SequentialDataset.inter_feat` is for a model that looks samples up: a row per training target.

    Columns of single values are made as a whole; of a column of sequences, the row that is asked for. All on the host,
    as RecBole's.

    Args:
        gatherer: of the samples, on the host, not cropped.
        fields: RecBole's names.
    """

    def __init__(self, gatherer: PrefixGatherer, fields: Fields) -> None:
        self._gatherer, self._fields = gatherer, fields

    def __len__(self) -> int:
        return len(self._gatherer)

    def __getitem__(self, field: str) -> "torch.Tensor | _SequenceColumn":
        if field == self._fields.item_seq:
            return _SequenceColumn(self._gatherer, self._fields)
        # In parts, since the gatherer makes the sequences too.
        parts = torch.arange(len(self)).split(2**14)
        return torch.cat([self._gatherer.batch(part, self._fields)[field] for part in parts])


@dataclass(frozen=True)
class _SequenceColumn:
    gatherer: PrefixGatherer
    fields: Fields

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.gatherer.batch(torch.tensor([int(row)]), self.fields)[self.fields.item_seq][0]
