"""Mean ranks of models over data sets, and how far apart they have to be."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MeanRanks:
    """The mean ranks of models over data sets, 1 for the best.

    Attributes:
        rank_DM: ranks on each data set; models of equal score share the mean of their ranks.
        mean_M: means over data sets.
        critical_difference: two models whose mean ranks differ by it or more are told apart by Nemenyi's test.
        p_value: of the null hypothesis that all models are alike (Friedman's test, as Iman and Davenport's F).
    """

    rank_DM: np.ndarray
    mean_M: np.ndarray
    critical_difference: float
    p_value: float


def mean_ranks(score_DM: np.ndarray, *, level: float = 0.95) -> MeanRanks:
    """Returns the mean ranks of models by their scores, of which higher ones are better.

    Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006, section 3.2. Data sets are
    the unit: what is uncertain about a score on one of them has no part in it.

    Args:
        score_DM: of two or more models on two or more data sets.
        level: of Nemenyi's test.
    """
    from scipy import stats  # not above: it takes longer to load than all else that commands need of SciPy

    n_datasets, n_models = score_DM.shape
    assert n_datasets > 1, "ranks on one data set have no mean"
    assert n_models > 1, "one model has no rank"
    rank_DM = stats.rankdata(-score_DM, axis=1)
    mean_M = rank_DM.mean(axis=0)
    spread = n_models * (n_models + 1)
    critical = stats.studentized_range.ppf(level, n_models, np.inf) / np.sqrt(2) * np.sqrt(spread / (6 * n_datasets))
    chi_square = 12 * n_datasets / spread * ((mean_M - (n_models + 1) / 2) ** 2).sum()
    left = n_datasets * (n_models - 1) - chi_square
    # All data sets have the same order: the statistic is infinite.
    statistic = (n_datasets - 1) * chi_square / left if left > 1e-9 else np.inf
    p_value = stats.f.sf(statistic, n_models - 1, (n_models - 1) * (n_datasets - 1))
    return MeanRanks(rank_DM, mean_M, float(critical), float(p_value))
