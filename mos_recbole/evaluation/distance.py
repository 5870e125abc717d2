"""How far items are from each other."""

import numpy as np
from scipy import sparse

# Pairs whose columns are multiplied at a time.
_BLOCK = 2**16


class ItemDistance:
    """1 - cosine similarity of the user columns of two items.

    An item's column has a 1 for every user who has the item in training. An item that training lacks has no column: its
    distance is 1.

    Source: the "diversity" of A. Biarnes, "Mixture-of-Softmaxes for Deep Session-based Recommender Systems", 2023.

    Args:
        user, item: int arrays [N], the training interactions, repeated or not.
        n_items: number of item ids.
    """

    def __init__(self, user: np.ndarray, item: np.ndarray, n_items: int) -> None:
        n_users = int(user.max()) + 1 if len(user) else 1
        self._columns = sparse.csr_array((np.ones(len(user)), (item, user)), shape=(n_items, n_users))
        self._columns.data[:] = 1.0  # the constructor has summed repetitions
        self._norm = np.sqrt(np.diff(self._columns.indptr))

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Returns the distances of pairs of items, int arrays [P], as float64 [P]; each pair is computed once."""
        n_items = len(self._norm)
        code, place = np.unique(first.astype(np.int64) * n_items + second, return_inverse=True)
        left, right = code // n_items, code % n_items
        similarity = np.empty(len(code))
        for start in range(0, len(code), _BLOCK):
            part = slice(start, start + _BLOCK)
            common = self._columns[left[part]].multiply(self._columns[right[part]]).sum(axis=1)
            similarity[part] = np.asarray(common).ravel()
        norms = self._norm[left] * self._norm[right]
        distance: np.ndarray = 1.0 - np.divide(similarity, norms, out=np.zeros_like(similarity), where=norms > 0)
        return distance[place]


def item_distance(
    user: np.ndarray, item: np.ndarray, first: np.ndarray, second: np.ndarray, n_items: int
) -> np.ndarray:
    """Returns the `ItemDistance` of each pair of items, float64 [P]."""
    return ItemDistance(user, item, n_items)(first, second)
