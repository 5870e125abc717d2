"""Mean ranks over data sets, beside what Demšar (2006) published."""

import numpy as np
import pytest
from scipy import stats

from mos_recbole.evaluation import mean_ranks


@pytest.mark.parametrize(("n_models", "q"), [(2, 1.960), (4, 2.569), (7, 2.949), (10, 3.164)])
def test_the_critical_difference_is_demsars(n_models: int, q: float) -> None:
    """By his table 5a of critical values."""
    found = mean_ranks(np.random.default_rng(0).random((14, n_models)))
    assert found.critical_difference == pytest.approx(q * np.sqrt(n_models * (n_models + 1) / (6 * 14)), abs=1e-3)


def test_ranks_and_friedmans_test() -> None:
    """The best model has rank 1, equal ones share their ranks; the same order everywhere leaves no doubt."""
    found = mean_ranks(np.array([[0.3, 0.1, 0.3], [0.2, 0.1, 0.4]]))
    assert found.rank_DM.tolist() == [[1.5, 3.0, 1.5], [2.0, 3.0, 1.0]]
    assert found.mean_M.tolist() == [1.75, 3.0, 1.25]
    assert mean_ranks(np.tile([0.3, 0.2, 0.1], (4, 1))).p_value == 0
    score_DM = np.random.default_rng(1).random((8, 4))
    chi_square = stats.friedmanchisquare(*score_DM.T).statistic
    expected = stats.f.sf(7 * chi_square / (8 * 3 - chi_square), 3, 3 * 7)
    assert mean_ranks(score_DM).p_value == pytest.approx(expected)
