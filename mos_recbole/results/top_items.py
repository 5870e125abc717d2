"""The recommended lists of a run: what its files keep of them."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mos_recbole.io import atomic_write, damaged, say_unsealed

if TYPE_CHECKING:  # imported where they are used, so that a list of runs does not wait for them
    import numpy as np
    import pandas as pd

ITEMS_FILE = "items.parquet"
LIST_COLUMNS = ("top_items", "top_in_history")
DISTANCES_FILE = "distances.parquet"
_KEPT = b"kept_items"
_SHA256, _OF = b"sha256", b"outcomes_sha256"


@dataclass(frozen=True)
class TopItems:
    """The best items of every test query, and the catalogue that they are from.

    Attributes:
        items: int32 [Q, k], numbers of items, the best first; 0 where a query has no further candidates.
        in_history: bool [Q, k], whether the user had the item before the target.
        names: [V], the items' names by number; that of 0, the padding, says nothing.
        train_counts: int64 [V], how often training holds each item.
    """

    items: "np.ndarray"
    in_history: "np.ndarray"
    names: "np.ndarray"
    train_counts: "np.ndarray"

    def rows(self, rows: "np.ndarray") -> "TopItems":
        """Returns the lists of some queries, in their order."""
        return replace(self, items=self.items[rows], in_history=self.in_history[rows])


def write_outcomes(path: Path, frame: "pd.DataFrame", top: TopItems) -> None:
    """Writes the outcomes with their lists, and the catalogue beside them.

    Lists are of dictionary-coded names: a name is in the file once, and its number in every list.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from pyarrow import parquet

    is_item = top.items > 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(is_item.sum(axis=1))]).astype(np.int32))
    names = pa.DictionaryArray.from_arrays(pa.array(top.items[is_item] - 1), pa.array(top.names[1:].astype(str)))
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for name, values in zip(LIST_COLUMNS, (names, pa.array(top.in_history[is_item])), strict=True):
        table = table.append_column(name, pa.ListArray.from_arrays(offsets, values))
    # How many were asked for, where no query has so many candidates.
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _KEPT: str(top.items.shape[1])})
    with atomic_write(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd")
    with atomic_write(path.with_name(ITEMS_FILE)) as temporary:
        catalogue = {"item": top.names[1:].astype(str), "train_count": top.train_counts[1:]}
        pd.DataFrame(catalogue).to_parquet(temporary, index=False)


def read_catalogue(path: Path) -> "pd.DataFrame":
    """Returns the items of a run: their names and how often training holds them.

    Raises:
        OSError, ValueError: the file is missing or broken.
    """
    import pandas as pd

    catalogue = pd.read_parquet(path, columns=["item", "train_count"])
    if catalogue["item"].isna().any() or catalogue["item"].duplicated().any():
        raise ValueError("column item holds a name twice, or none")
    if catalogue["train_count"].dtype.kind not in "iu" or (catalogue["train_count"] < 0).any():
        raise ValueError("column train_count holds what is no count")
    return catalogue


def read_top_items(path: Path, catalogue: "pd.DataFrame") -> TopItems:
    """Returns the lists of an outcomes file that has them.

    Raises:
        OSError, ValueError: the file is missing or broken.
    """
    import numpy as np
    import pandas as pd
    from pyarrow import parquet

    names = np.concatenate([[""], catalogue["item"].to_numpy(dtype=object)])
    table = parquet.read_table(path, columns=list(LIST_COLUMNS)).combine_chunks()
    chunks = table["top_items"].chunks
    lengths = np.concatenate([[0], *(chunk.value_lengths().to_numpy() for chunk in chunks)])[1:].astype(np.int64)
    shape = len(lengths), int((table.schema.metadata or {}).get(_KEPT, lengths.max(initial=0)))
    is_item = np.arange(shape[1]) < lengths[:, None]
    items, in_history = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=bool)
    numbers = pd.Index(catalogue["item"])
    coded = [chunk.flatten() for chunk in chunks]
    items[is_item] = np.concatenate(
        [np.zeros(0, np.int32)]
        + [1 + numbers.get_indexer(one.dictionary.to_pandas())[one.indices.to_numpy()] for one in coded]
    )
    if not items[is_item].all():
        raise ValueError(f"column top_items holds an item that {ITEMS_FILE} lacks")
    in_history[is_item] = table["top_in_history"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return TopItems(items, in_history, names, np.concatenate([[0], catalogue["train_count"].to_numpy(np.int64)]))


def write_distances(path: Path, sums_Qk: "np.ndarray", of: str) -> None:
    """Writes of a run's recommended items the distances to those before them in the list, added up.

    The checksum is of the numbers, in the file itself: the run's record was written before. Beside it stands the
    checksum of the outcomes whose lists these are (`of`).
    """
    import pandas as pd
    import pyarrow as pa
    from pyarrow import parquet

    columns = {str(place): sums_Qk[:, place] for place in range(sums_Qk.shape[1])}
    table = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _SHA256: _sha256(sums_Qk), _OF: of})
    with atomic_write(path) as temporary:
        parquet.write_table(table, temporary)


def read_distances(path: Path, of: str) -> "np.ndarray | None":
    """Returns what `write_distances` wrote; None where that is of other lists.

    Raises:
        InputError: the file is damaged.
        OSError, ValueError: it is missing or broken.
    """
    from pyarrow import parquet

    table = parquet.read_table(path)
    sums_Qk: np.ndarray = table.to_pandas().to_numpy()
    sha256 = (table.schema.metadata or {}).get(_SHA256)
    if sha256 is None:
        say_unsealed(path)
    elif sha256.decode() != _sha256(sums_Qk):
        raise damaged(path, "delete it: the same command computes it again")
    return sums_Qk if (table.schema.metadata or {}).get(_OF, b"").decode() == of else None


def _sha256(values: "np.ndarray") -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()
