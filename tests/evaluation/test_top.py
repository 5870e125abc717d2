"""The best items in the order of scores and names equal a sort of all of them."""

import numpy as np
import pytest
import torch

from mos_recbole.evaluation import ScoreIsNaN, top_lists_by_scores

NONE = (torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))


def brute_force(
    scores: np.ndarray, k: int, name_order: np.ndarray, seen: set[tuple[int, int]], excluded: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    items, best = np.zeros((len(scores), k), dtype=np.int64), np.full((len(scores), k), -np.inf)
    for query, row in enumerate(scores):
        candidates = [item for item in range(1, len(row)) if (query, item) not in seen and not excluded[item]]
        candidates.sort(key=lambda item: (-row[item], name_order[item]))
        for place, item in enumerate(candidates[:k]):
            items[query, place], best[query, place] = item, row[item]
    return items, best


@pytest.mark.parametrize(("n_items", "k"), [(6, 5), (20, 3), (300, 10), (1000, 1)])
@pytest.mark.parametrize("levels", [1, 3, 10**6])
@pytest.mark.parametrize("infinite", [False, True])
def test_equal_to_a_sort(n_items: int, k: int, levels: int, infinite: bool) -> None:
    """Scores of few values, whose ties go over the end of the lists, of all different ones, and -inf among them."""
    generator = np.random.default_rng(n_items + levels)
    scores = generator.integers(levels, size=(40, n_items)).astype(np.float32)
    if infinite:
        scores[generator.random(scores.shape) < 0.7] = -np.inf
    name_order = generator.permutation(n_items)
    excluded = generator.random(n_items) < 0.2
    pairs = np.argwhere(generator.random(scores.shape) < 0.2)
    seen = {(query, item) for query, item in pairs.tolist()}
    found = top_lists_by_scores(
        torch.from_numpy(scores.copy()),
        k,
        torch.from_numpy(name_order),
        (torch.from_numpy(pairs[:, 0].copy()), torch.from_numpy(pairs[:, 1].copy())),
        torch.from_numpy(excluded),
    )
    items, best = brute_force(scores, k, name_order, seen, excluded)
    np.testing.assert_array_equal(found[0].numpy(), items)
    np.testing.assert_array_equal(found[1].numpy(), best)


def test_nan_is_refused() -> None:
    """It would be the best of all."""
    scores = torch.zeros(3, 50)
    scores[1, 7] = torch.nan
    with pytest.raises(ScoreIsNaN, match="query 1 "):
        top_lists_by_scores(scores, 3, torch.arange(50), NONE)
