"""How far a target is from the item before it."""

import numpy as np
from scipy import sparse


def item_distance(
    user: np.ndarray, item: np.ndarray, first: np.ndarray, second: np.ndarray, n_items: int
) -> np.ndarray:
    """Returns 1 - cosine similarity of the user columns of two items, for each pair, float64 [P].

    An item's column has a 1 for every user who has the item in training. Only the pairs that occur are computed. An
    item that training lacks has no column: its distance is 1.

    Source: the "diversity" of A. Biarnes, "Mixture-of-Softmaxes for Deep Session-based Recommender Systems", 2023.

    Args:
        user, item: int arrays [N], the training interactions, repeated or not.
        first, second: int arrays [P], the pairs.
        n_items: number of item ids.
    """
    n_users = int(user.max()) + 1 if len(user) else 1
    columns = sparse.csr_array((np.ones(len(user)), (item, user)), shape=(n_items, n_users))
    columns.data[:] = 1.0  # the constructor has summed repetitions
    norm = np.sqrt(np.diff(columns.indptr))
    code, place = np.unique(first.astype(np.int64) * n_items + second, return_inverse=True)
    left, right = code // n_items, code % n_items
    similarity = np.empty(len(code))
    block = 2**16
    for start in range(0, len(code), block):
        part = slice(start, start + block)
        common = columns[left[part]].multiply(columns[right[part]]).sum(axis=1)
        similarity[part] = np.asarray(common).ravel()
    norms = norm[left] * norm[right]
    distance: np.ndarray = 1.0 - np.divide(similarity, norms, out=np.zeros_like(similarity), where=norms > 0)
    return distance[place]
