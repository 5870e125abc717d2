"""The studies of what rank is good for: their own computations, by hand on small cases."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull
from scripts import load_script
from tiny_data import write_inter


@pytest.mark.parametrize("width", [2, 3])
def test_argmaxable_items_are_the_corners_of_their_hull(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By SciPy's convex hull; items known to be first are not asked for."""
    study = load_script("studies/reachable_items.py", monkeypatch)
    items = np.random.default_rng(width).standard_normal((40, width))
    corners = set(ConvexHull(items).vertices.tolist())
    assert {place for place in range(40) if study.is_argmaxable(items, place)} == corners
    assert set(study.unreached(items, np.array([], dtype=int)).tolist()) == set(range(40)) - corners
    inner = min(set(range(40)) - corners)
    assert inner not in study.unreached(items, np.array([inner]))


def test_pairs_of_frequent_items_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours in a user's sequence, never across users or across a rare item; every user is in one fold."""
    study = load_script("studies/free_contexts.py", monkeypatch)
    rows = [(user, item, time) for user in range(10) for time, item in enumerate("abca")] + [(10, "z", 0), (10, "a", 1)]
    data = write_inter(tmp_path, "toy", rows)
    pairs = study.read_pairs(str(data), 5, 1)
    assert pairs.n_items == 3
    found = torch.stack([pairs.counts([fold]) for fold in range(study.FOLDS)])
    assert found.sum() == 30
    assert sorted(found.sum(dim=0).flatten().tolist()) == [0.0] * 6 + [10.0] * 3
    assert all(len(set(pairs.fold[pairs.user == user])) == 1 for user in set(pairs.user))
    monkeypatch.setattr(study, "STEPS", 5)
    monkeypatch.setattr(study, "K", 3)
    losses, loss, hit = study.fit("MoS", 2, 1.0, pairs, 0)
    assert loss.shape == hit.shape == (int((pairs.fold == 0).sum()),)
    assert set(losses) == {"train loss", "valid loss"}
    assert hit.all()  # all three items are among the best three


def test_the_slope_is_the_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_script("studies/planted_decay.py", monkeypatch)
    assert study.slope(3.0 * np.arange(1, 100) ** -0.7) == pytest.approx(0.7)
    truth = study.Truth.draw(8, 40, 1.0, 1)
    np.testing.assert_allclose(np.exp(truth.log_prob).sum(axis=1), 1)
    assert np.linalg.matrix_rank(truth.log_prob) == 8
