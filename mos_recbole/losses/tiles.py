"""Logits of all items for a few queries at a time, in pieces that suit a CPU's caches and threads."""

import math
from collections.abc import Iterator

import torch

# Rows (queries x components) of a chunk: with fewer, the products with the item table run below their full rate.
_CHUNK_ROWS = 512
# A chunk's logits, over all items.
_CHUNK_BYTES = 128 * 2**20
# A CPU works on a chunk in tiles of items, one run of items a thread: this much of the logits stays in a core's cache
# from the product that makes it to the product with the items.
_TILE_BYTES = 2 * 2**20

# exp2 takes a third of exp's time on a CPU, so that logits are in bits.
NATS = math.log(2)
BITS = 1 / NATS
# Within ± this many bits, logits need no shift by their maximum: their exponentials, and sums of 2^24 of them, are
# normal numbers of float32.
_SAFE_BITS = 60.0


def chunk_size(device: torch.device, n_components: int, n_items: int, itemsize: int) -> int:
    """Returns how many queries' logits ([K, V] each) make one chunk."""
    within_memory = _CHUNK_BYTES // (n_components * n_items * itemsize)
    return max(1, min(_CHUNK_ROWS // n_components, within_memory) if device.type == "cpu" else within_memory)


class ItemTiles:
    """The items cut into tiles of `lanes` runs of `width` items, the last tile filled up with padding.

    Batched products over the lanes keep every run's logits with the thread that has made them.

    Args:
        n_items: V.
        lanes: how many runs a tile should have.
        widest: how many items a run may have, about.
    """

    # Shorter runs are not worth a thread.
    _NARROWEST = 64
    # Products are up to a tenth faster on rows that start where a vector register's load may.
    _ALIGNED = 8
    # At such distances, the rows' starts compete for the same places of a cache: the weight's product loses a quarter.
    _CONFLICTING = 512

    def __init__(self, n_items: int, lanes: int, widest: int) -> None:
        self.lanes = max(1, min(lanes, n_items // self._NARROWEST))
        n_tiles = -(-n_items // (self.lanes * max(widest, self._NARROWEST)))
        width = -(-n_items // (self.lanes * n_tiles))
        self.width = -(-width // self._ALIGNED) * self._ALIGNED
        if self.width % self._CONFLICTING == 0:
            self.width += self._ALIGNED
        # Wider runs may need fewer tiles.
        self.n_tiles = -(-n_items // (self.lanes * self.width))
        self.n_items, self.n_padded = n_items, self.n_tiles * self.lanes * self.width

    @classmethod
    def suited(cls, device: torch.device, n_items: int, n_rows: int, itemsize: int) -> "ItemTiles":
        """Returns tiles for n_rows logits an item: for a CPU's threads and caches; elsewhere one tile of one run."""
        if device.type != "cpu":
            return cls(n_items, 1, n_items)
        return cls(n_items, torch.get_num_threads(), _TILE_BYTES // (n_rows * itemsize))

    def cut(self, table: torch.Tensor) -> list[torch.Tensor]:
        """Returns the tiles of a tensor [V, ...], [lanes, width, ...]: views, and the last one with 0 as padding."""
        first = (self.n_tiles - 1) * self.lanes * self.width
        last = table.new_zeros(self.n_padded - first, *table.shape[1:])
        last[: self.n_items - first] = table[first:]
        shape = (-1, self.lanes, self.width, *table.shape[1:])
        return [*table[:first].view(shape), *last.view(shape)]

    def buffers(self, buffer: torch.Tensor, n_rows: int) -> list[torch.Tensor]:
        """Returns views [lanes, n_rows, width] of a flat buffer, one for the logits of each tile."""
        return list(buffer[: self.n_padded * n_rows].view(self.n_tiles, self.lanes, n_rows, self.width))

    def places(self, item_R: torch.Tensor, row_R: torch.Tensor) -> torch.Tensor:
        """Returns where a buffer of R rows has the logits of rows row_R for items item_R, int64 [R]."""
        column_R = item_R % self.width
        return (item_R - column_R) * len(item_R) + row_R * self.width + column_R

    def fill_padding(self, last_TRv: torch.Tensor, value: float) -> None:
        """Sets what the last tile has for padding."""
        first = self.n_padded - self.lanes * self.width
        for lane in range(self.lanes):
            used = max(0, self.n_items - first - lane * self.width)
            if used < self.width:
                last_TRv[lane, :, used:] = value


def largest_norm(vectors: torch.Tensor) -> float:
    """Returns the largest Euclidean norm of the vectors [..., d]; NaN if a number is NaN."""
    return float(torch.linalg.vector_norm(vectors, dim=-1).max()) if vectors.numel() else 0.0


def need_no_shift(largest_logit: float) -> bool:
    """Returns whether logits within ± a bound, in nats, can be exponentiated as they are."""
    return largest_logit * BITS <= _SAFE_BITS


def logit_tiles(
    row_Rd: torch.Tensor,
    weight_tiles: list[torch.Tensor],
    bias_tiles: list[torch.Tensor] | None,
    buffers: list[torch.Tensor],
    tiles: ItemTiles,
) -> Iterator[torch.Tensor]:
    """Yields the rows' logits, [lanes, R, width] a tile, -inf for padding; each tile is made when it is asked for."""
    rows_TRd = row_Rd.expand(tiles.lanes, -1, -1)
    for number, (weight_Tvd, logits_TRv) in enumerate(zip(weight_tiles, buffers, strict=True)):
        if weight_Tvd.dtype == logits_TRv.dtype:
            torch.bmm(rows_TRd, weight_Tvd.transpose(1, 2), out=logits_TRv)
        else:
            logits_TRv.copy_(torch.bmm(rows_TRd, weight_Tvd.transpose(1, 2)))
        if bias_tiles is not None:
            logits_TRv += bias_tiles[number][:, None, :]
        if logits_TRv is buffers[-1]:
            tiles.fill_padding(logits_TRv, -torch.inf)
        yield logits_TRv
