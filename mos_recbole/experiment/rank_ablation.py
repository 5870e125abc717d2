"""Trained runs whose log-probabilities are cut to lower ranks, and scored on the test."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mos_recbole.errors import InputError
from mos_recbole.evaluation import (
    LOSS,
    OVERLAP,
    RankCuts,
    cut_to_ranks,
    default_ranks,
    leading_directions,
    list_overlap,
    parse_metric,
    query_values,
    rank_targets_by_scores,
    seen_of,
)
from mos_recbole.experiment.load import TrainedRun, load_run
from mos_recbole.experiment.outputs import Outputs
from mos_recbole.experiment.spectra import DEFAULT_COMPONENTS, SpectrumPlan, validation_matrix
from mos_recbole.results import RunResult
from mos_recbole.training import make_query_set

_TOP = 10  # items of the lists whose overlap is measured


def ablate_run(
    record: RunResult,
    metrics: Sequence[str],
    plan: SpectrumPlan | None = None,
    ranks: Sequence[int] | None = None,
    *,
    device: str = "auto",
    data_path: str | Path | None = None,
) -> RankCuts:
    """Returns how a finished run's log-probabilities of all test queries fare when they are cut to lower ranks.

    The directions that are kept are those of N validation queries, so that no test query says what is left of it. All
    is over the candidates of all queries (`Outputs`): the uncut log-probabilities are renormalised over these, too.

    Args:
        record: of the run.
        metrics: of targets' ranks, in RecBole's spelling.
        plan: how the directions are computed.
        ranks: to cut to, in any order; None for 1, 2, 4, ... and d, d + 1.
        device, data_path: as of `load_run`.

    Raises:
        InputError: as `load_run` and `validation_matrix`; metrics of lists; or ranks that the matrix cannot have.
    """
    plan = plan or SpectrumPlan()
    if others := [metric for metric in metrics if parse_metric(metric)[0].kind not in ("rank", "auc")]:
        raise InputError(f"metric {others[0]}: not of targets' ranks; expected one that is, such as NDCG@10")
    run = load_run(record, device, data_path)
    valid, test = (
        Outputs(run, make_query_set(run.config, run.data, run.split, side, run.protocol, run.config["device"]))
        for side in ("valid", "test")
    )
    matrix_NV, method = validation_matrix(record, valid, plan)
    # One direction is the normaliser's.
    limit = min(len(matrix_NV), len(valid.item_V) - 1)
    if method == "randomised":
        limit = min(limit, plan.components or DEFAULT_COMPONENTS)
    if limit < 1:
        raise InputError(f"{record.folder}: ranks one item alone; there is no rank to cut")
    chosen = default_ranks(valid.width, limit) if ranks is None else tuple(sorted(set(ranks)))
    if chosen[0] < 1 or chosen[-1] > limit:
        raise InputError(
            f"--ranks {' '.join(map(str, ranks or ()))}: expected 1 to {limit}: {len(matrix_NV):,} validation queries "
            f"x {len(valid.item_V):,} items, {method}"
        )
    direction_Vn = leading_directions(matrix_NV, chosen[-1], method, plan.seed)
    n_queries = len(matrix_NV)
    del matrix_NV
    values, user_Q = _score(run, test, direction_Vn, chosen, metrics)
    return RankCuts(chosen, values, user_Q, n_queries, len(valid.item_V), valid.width, valid.probabilities)


def _score(
    run: TrainedRun, test: Outputs, direction_Vn: torch.Tensor, ranks: tuple[int, ...], metrics: Sequence[str]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns the values of `RankCuts`, and the queries' users."""
    rows, segment = run.split.test.targets()
    target_Q = torch.from_numpy(run.data.sequences.items[rows]).long().to(test.item_V.device)
    values = {name: np.empty((len(ranks) + 1, len(rows))) for name in (LOSS, OVERLAP, *metrics)}
    start = 0
    for block_bV in test.blocks(torch.arange(len(rows))):
        stop = start + len(block_bV)
        full_bV = block_bV.log_softmax(dim=1)
        best_bk: torch.Tensor | None = None
        answers = [(-1, full_bV), *enumerate(cut_to_ranks(full_bV, direction_Vn, ranks))]
        for number, log_prob_bV in answers:
            scores_bV = log_prob_bV.new_zeros(len(log_prob_bV), test.queries.n_items)
            scores_bV[:, test.item_V] = log_prob_bV
            seen = seen_of(test.queries.seen, start, stop)
            found = rank_targets_by_scores(scores_bV, target_Q[start:stop], seen, _TOP, test.queries.excluded_V)
            assert found.top_items is not None
            best_bk = found.top_items if best_bk is None else best_bk
            rank, mean_rank = (found.ranks(rule).cpu().numpy() for rule in (run.protocol.tie_rule, "mean"))
            row = {name: query_values(name, rank, mean_rank, found.n_candidates.cpu().numpy()) for name in metrics}
            row[LOSS] = -found.target_score.cpu().numpy()
            row[OVERLAP] = list_overlap(best_bk, found.top_items).cpu().numpy()
            for name, value_b in row.items():
                values[name][number, start:stop] = value_b
        start = stop
    return values, run.split.test.user[segment]
