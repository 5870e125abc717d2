"""Target ranks against loops, metrics against RecBole's own evaluator, intervals against simulated data."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.evaluator import Collector, Evaluator

from mos_recbole.evaluation import (
    METRICS,
    ItemDistance,
    Lists,
    TargetRanks,
    compare_counts,
    compute_metrics,
    counts_interval,
    distance_sums,
    expand_metrics,
    item_distance,
    metric_of_counts,
    query_values,
    rank_targets,
    rank_targets_by_scores,
    ranks,
)
from mos_recbole.evaluation.ranks import best_items
from mos_recbole.experiment import load_settings

Seen = tuple[torch.Tensor, torch.Tensor]
RECBOLES = [name for name, spec in METRICS.items() if not spec.source]


def ranks_by_hand(scores: np.ndarray, target: list[int], seen: set[tuple[int, int]]) -> list[dict[str, Any]]:
    """Returns better, tied, n_candidates, target_score and the candidates' scores in descending order, per query."""
    found = []
    for query, row in enumerate(scores):
        candidates = [
            item for item in range(1, len(row)) if item == target[query] or (query, item) not in seen
        ]  # item 0 is padding
        own = row[target[query]]
        found.append(
            {
                "better": sum(row[item] > own for item in candidates),
                "tied": sum(row[item] == own for item in candidates if item != target[query]),
                "n_candidates": len(candidates),
                "target_score": own,
                "candidates": candidates,
            }
        )
    return found


def seen_tensors(pairs: list[tuple[int, int]]) -> Seen:
    rows = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    return rows[:, 0].contiguous(), rows[:, 1].contiguous()


def assert_ranks(found: TargetRanks, expected: list[dict[str, Any]]) -> None:
    """Asserts the counts, and the rank under each tie rule as its definition says."""
    for name in ("better", "tied", "n_candidates", "target_score"):
        assert getattr(found, name).tolist() == [row[name] for row in expected], name
    for query, row in enumerate(expected):
        places = range(1 + row["better"], 2 + row["better"] + row["tied"])
        assert found.ranks("optimistic")[query] == places[0]
        assert found.ranks("pessimistic")[query] == places[-1]
        assert found.ranks("mean")[query] == sum(places) / len(places)
    assert found.ranks("mean").dtype == torch.float64


def assert_top_items(found: TargetRanks, scores: np.ndarray, expected: list[dict[str, Any]], top_k: int) -> None:
    """Asserts that the lists hold distinct candidates, and the best scores in their order (ties in any order)."""
    assert found.top_items is not None
    for items, row, query in zip(found.top_items.tolist(), scores, expected, strict=True):
        best = sorted((row[item] for item in query["candidates"]), reverse=True)[:top_k]
        listed = items[: len(best)]
        assert len(set(listed)) == len(listed)
        assert set(listed) <= set(query["candidates"])
        assert [row[item] for item in listed] == best
        assert items[len(best) :] == [0] * (len(items) - len(best))


@st.composite
def ranking_problems(draw: st.DrawFn, lowest: float) -> tuple[np.ndarray, list[int], list[tuple[int, int]]]:
    """Draws scores with many ties, targets, and seen pairs: repeated, padding and targets among them, unsorted."""
    n_queries, n_items = draw(st.integers(1, 7)), draw(st.integers(2, 9))
    score = st.sampled_from([lowest, -2.5, 0.0, 1.0, 1.0, 3.25])
    scores = np.array(draw(st.lists(score, min_size=n_queries * n_items, max_size=n_queries * n_items)))
    target = draw(st.lists(st.integers(1, n_items - 1), min_size=n_queries, max_size=n_queries))
    pair = st.tuples(st.integers(0, n_queries - 1), st.integers(0, n_items - 1))
    return scores.reshape(n_queries, n_items), target, draw(st.lists(pair, max_size=30))


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(problem=ranking_problems(lowest=-np.inf))
def test_ranks_equal_the_loops(problem: tuple[np.ndarray, list[int], list[tuple[int, int]]]) -> None:
    """Counts and ranks equal the loops' with ties, scores of -inf (the target's too), and seen pairs in any order."""
    scores, target, pairs = problem
    expected = ranks_by_hand(scores, target, set(pairs))
    found = rank_targets_by_scores(torch.tensor(scores), torch.tensor(target), seen_tensors(pairs))
    assert_ranks(found, expected)
    assert found.top_items is None


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(problem=ranking_problems(lowest=-1e30), top_k=st.integers(1, 12))
def test_top_items_equal_the_loops(problem: tuple[np.ndarray, list[int], list[tuple[int, int]]], top_k: int) -> None:
    """The top items are the best candidates in order; the counts are the same with the lists as without."""
    scores, target, pairs = problem
    expected = ranks_by_hand(scores, target, set(pairs))
    found = rank_targets_by_scores(torch.tensor(scores), torch.tensor(target), seen_tensors(pairs), top_k)
    assert found.top_items.shape == (len(target), min(top_k, scores.shape[1]))
    assert_ranks(found, expected)
    assert_top_items(found, scores, expected, top_k)


def test_top_items_where_candidates_score_minus_infinity() -> None:
    """A score of -inf is legal: such a candidate still comes before items that are no candidates at all."""
    scores = np.array([[5.0, -np.inf, 2.0, -np.inf, 9.0, -np.inf, -np.inf, 1.0]])
    pairs = [(0, 4), (0, 6)]
    expected = ranks_by_hand(scores, [7], set(pairs))
    found = rank_targets_by_scores(torch.tensor(scores), torch.tensor([7]), seen_tensors(pairs), top_k=5)
    assert_ranks(found, expected)
    assert_top_items(found, scores, expected, 5)


def test_without_seen_items_all_but_the_padding_compete() -> None:
    """With no seen items V - 1 items are candidates; the padding's score, even the best, does not count."""
    scores = torch.tensor([[9.0, 1.0, 2.0, 3.0]])
    found = rank_targets_by_scores(scores, torch.tensor([2]), None, top_k=3)
    assert found.n_candidates.tolist() == [3]
    assert found.ranks("mean").tolist() == [2.0]
    assert found.top_items.tolist() == [[3, 2, 1]]


@pytest.mark.parametrize("place", [1, 2, 3])
def test_nan_is_refused(place: int) -> None:
    """A NaN, the target's (item 2) or another's, raises and names the query."""
    scores = torch.zeros(3, 4)
    scores[1, place] = torch.nan
    with pytest.raises(ValueError, match=r"query 1 .*NaN"):
        rank_targets_by_scores(scores.clone(), torch.tensor([2, 2, 2]))
    with pytest.raises(ValueError, match="NaN"):
        rank_targets(ListedScores(scores, 2), (torch.arange(3),), torch.tensor([2, 2, 2]))


class ListedScores:
    """A scorer whose query b, given as the number b, has the scores of row b."""

    def __init__(self, scores: torch.Tensor, n_queries: int) -> None:
        self.scores, self.n_queries, self.sizes = scores, n_queries, []

    def __call__(self, *queries: torch.Tensor):
        (number_b,) = queries
        self.sizes.append(len(number_b))
        rows = self.scores[number_b].clone()
        return rows, lambda score_b: score_b


@pytest.mark.parametrize("step", [1, 2, 3, 7, 9, 50])
@pytest.mark.parametrize("seen_share", [0.0, 0.4])
def test_chunks_of_queries(step: int, seen_share: float) -> None:
    """Ranks do not depend on how many queries are scored at a time."""
    generator = np.random.default_rng(step)
    n_queries, n_items = 9, 12
    scores = generator.integers(-3, 3, (n_queries, n_items)).astype(float)
    target = generator.integers(1, n_items, n_queries).tolist()
    pairs = [(q, i) for q in range(n_queries) for i in range(n_items) if generator.random() < seen_share]
    pairs = sorted(pairs + pairs[::2])
    # No pair for two of the queries, so that a chunk can be without any.
    pairs = [pair for pair in pairs if pair[0] not in (0, 4)]
    scorer = ListedScores(torch.tensor(scores), step)
    queries = ((torch.arange(n_queries),), torch.tensor(target))
    found = rank_targets(scorer, *queries, seen_tensors(pairs), top_k=5)
    assert scorer.sizes == [step] * (n_queries // step) + [n_queries % step] * bool(n_queries % step)
    expected = ranks_by_hand(scores, target, set(pairs))
    assert_ranks(found, expected)
    assert_top_items(found, scores, expected, 5)
    without = rank_targets(scorer, *queries)
    assert_ranks(without, ranks_by_hand(scores, target, set()))
    assert without.top_items is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_counts_in_pieces(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counts are exact in whatever pieces and precision the scores are compared."""
    scores = torch.randn(6, 5000, generator=torch.Generator().manual_seed(1)).to(dtype)
    target = torch.tensor([1, 4999, 7, 2500, 13, 4096])
    monkeypatch.setattr(ranks, "_COMPARED", 6 * 301)
    found = rank_targets_by_scores(scores.clone(), target)
    for query, item in enumerate(target.tolist()):
        row = scores[query, 1:].double()
        assert found.better[query] == (row > scores[query, item]).sum()
        assert found.tied[query] == (row == scores[query, item]).sum() - 1


def test_no_queries() -> None:
    """A batch without queries has results without rows."""
    scorer = ListedScores(torch.zeros(0, 5), 3)
    found = rank_targets(scorer, (torch.zeros(0, dtype=torch.int64),), torch.zeros(0, dtype=torch.int64), top_k=2)
    assert found.better.shape == (0,)
    assert found.top_items.shape == (0, 2)


@pytest.mark.parametrize("n_items", [63, 64, 65, 1000, 1601, 4007])
def test_top_items_of_large_catalogues(n_items: int) -> None:
    """The selection by blocks gives topk's scores in topk's order, whatever is left over of the last block."""
    scores = torch.randn(5, n_items, generator=torch.Generator().manual_seed(n_items))
    scores[0, -1], scores[1, 1] = 9.0, 9.0
    target = torch.full((5,), n_items // 2)
    found = rank_targets_by_scores(scores.clone(), target, top_k=10)
    expected = scores[:, 1:].topk(10, dim=1)
    assert torch.equal(found.top_items.long(), expected.indices + 1)


def test_excluded_items_are_nobodys_candidates() -> None:
    """Ranks, ties and counts by hand, with seen items among the excluded, and a target that is no candidate."""
    scores = torch.tensor([[9.0, 5.0, 4.0, 4.0, 3.0, 8.0], [9.0, 1.0, 2.0, 3.0, 4.0, 5.0]])
    excluded = torch.tensor([False, False, False, False, False, True])
    seen = (torch.tensor([0, 0, 0]), torch.tensor([1, 5, 5]))
    found = rank_targets_by_scores(scores, torch.tensor([2, 5]), seen, top_k=2, excluded_V=excluded)
    assert found.ranks("mean").tolist() == [1.5, float("inf")]
    assert found.tied.tolist() == [1, 0]
    assert found.n_candidates.tolist() == [3, 4]
    assert found.target_score[0] == 4
    assert found.target_score[1].isnan()
    assert found.top_items is not None
    assert set(found.top_items[0].tolist()) == {2, 3}
    assert found.top_items[1].tolist() == [4, 3]


def test_a_target_that_is_no_candidate_is_a_miss_by_every_metric() -> None:
    names = ["Recall@10", "Hit@10", "NDCG@10", "MRR@10", "MAP@10", "Precision@10", "GAUC"]
    rank, candidates = np.array([np.inf, 1.0]), np.array([5, 5])
    values, per_query = compute_metrics(names, rank, rank, candidates)
    assert all(per_query[name][0] == 0 for name in names)
    assert all(np.isfinite(value) for value in values.values())


# --- Metrics -----------------------------------------------------------------------------------------------------


def recbole_metrics(
    scores: np.ndarray,
    target: list[int],
    history: set[tuple[int, int]],
    topk: list[int],
    counts: np.ndarray,
    tail_ratio: float,
    metrics: list[str],
) -> dict[str, float]:
    """Returns what RecBole's own Collector and Evaluator make of these scores, by the names it gives.

    RecBole's trainer sets the padding's and the history's scores to -inf before; so it does here. The scores are
    float64, because RecBole's GAUC computes in the scores' precision.
    """
    config = load_settings("GRU4Rec").recbole_config(torch.device("cpu"))
    for key, value in {
        "metrics": metrics,
        "topk": topk,
        "metric_decimal_place": 17,
        "tail_ratio": tail_ratio,
    }.items():
        config[key] = value
    collector = Collector(config)
    trained = Counter({int(item): int(counts[item]) for item in np.flatnonzero(counts)})
    dataset = SimpleNamespace(num=lambda field: len(counts), item_counter=trained)
    collector.data_collect(SimpleNamespace(dataset=dataset))
    masked = torch.tensor(scores)
    masked[:, 0] = -torch.inf
    for query, item in history:
        if item != target[query]:
            masked[query, item] = -torch.inf
    # Two batches, as an evaluation has several.
    half = len(target) // 2
    for part in (slice(0, half), slice(half, None)):
        positives = torch.tensor(target[part])
        collector.eval_batch_collect(masked[part], None, torch.arange(len(positives)), positives)
    # Not get_data_struct(), which calls `.cpu()` on the number of items and so fails for ItemCoverage and GiniIndex.
    return dict(Evaluator(config).evaluate(collector.data_struct))


def our_metrics(
    scores: np.ndarray,
    target: list[int],
    history: set[tuple[int, int]],
    topk: list[int],
    counts: np.ndarray,
    tail_ratio: float,
    metrics: list[str],
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    found = rank_targets_by_scores(
        torch.tensor(scores), torch.tensor(target), seen_tensors(sorted(history)) if history else None, max(topk)
    )
    return compute_metrics(
        expand_metrics(metrics, topk),
        found.ranks("mean").numpy(),
        found.ranks("mean").numpy(),
        found.n_candidates.numpy(),
        Lists(found.top_items.numpy(), counts, tail_ratio),
    )


def metric_problem(seed: int, with_history: bool) -> dict[str, Any]:
    """Returns distinct scores of 37 queries over 60 items; targets score above the average; some items untrained."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(37, 60))
    target = generator.integers(1, 60, 37).tolist()
    scores[np.arange(37), target] += 1.5
    counts = np.where(generator.random(60) < 0.15, 0, generator.integers(1, 7, 60))
    counts[0] = 0
    history = {(q, int(i)) for q in range(37) for i in generator.integers(1, 60, 8)} if with_history else set()
    return {"scores": scores, "target": target, "history": history, "counts": counts}


@pytest.mark.parametrize("with_history", [False, True])
@pytest.mark.parametrize("tail_ratio", [0, 0.1, 0.5, 1.0, 3])
def test_metrics_equal_recboles_evaluator(with_history: bool, tail_ratio: float) -> None:
    """Every ranking metric that RecBole has, at five cut-offs, equals its evaluator's on the same scores to 1e-12."""
    problem = metric_problem(int(tail_ratio * 10), with_history)
    options = {"topk": [1, 3, 5, 10, 25], "tail_ratio": tail_ratio, "metrics": RECBOLES}
    expected = recbole_metrics(**problem, **options)
    found, _ = our_metrics(**problem, **options)
    assert len(expected) == 11 * 5 + 1
    assert [name.lower() for name in found] == list(expected)
    for name, value in found.items():
        assert value == pytest.approx(expected[name.lower()], abs=1e-12, rel=1e-12), name
    # The data must tell the metrics apart.
    assert len({round(value, 9) for value in expected.values()}) > 25


def test_gauc_equals_recboles_where_scores_are_tied() -> None:
    """GAUC takes ties at their mean rank, whatever the protocol's tie rule is, as RecBole does."""
    problem = metric_problem(3, with_history=True)
    problem["scores"] = np.round(problem["scores"])
    expected = recbole_metrics(**problem, topk=[5], tail_ratio=0.1, metrics=["GAUC"])["gauc"]
    found = rank_targets_by_scores(
        torch.tensor(problem["scores"]), torch.tensor(problem["target"]), seen_tensors(sorted(problem["history"]))
    )
    assert found.tied.sum() > 37
    for rule in ("optimistic", "pessimistic", "mean"):
        values, _ = compute_metrics(
            ["GAUC"], found.ranks(rule).numpy(), found.ranks("mean").numpy(), found.n_candidates.numpy()
        )
        assert values["GAUC"] == pytest.approx(expected, rel=1e-12)


def test_the_gauc_of_a_target_that_is_no_candidate() -> None:
    """A miss, with one candidate as with several."""
    missed = np.array([np.inf, np.inf])
    assert query_values("GAUC", missed, missed, np.array([1, 2])).tolist() == [0, 0]


def test_gauc_equals_recboles_where_only_the_target_is_left() -> None:
    """A query whose target is its only candidate has no pair to order: like RecBole, GAUC leaves it out."""
    problem = metric_problem(4, with_history=True)
    problem["history"] |= {(5, item) for item in range(1, 60)}
    options = {"topk": [5], "tail_ratio": 0.1, "metrics": ["GAUC"]}
    expected = recbole_metrics(**problem, **options)["gauc"]
    found, _ = our_metrics(**problem, **options)
    assert found["GAUC"] == pytest.approx(expected, rel=1e-12)


def test_the_loss_of_targets_that_are_no_candidates() -> None:
    """They have none. Where none is a candidate, the loss is undefined; a candidate without one has a model without."""
    ranks, nothing = np.array([np.inf, 2.0]), np.array([np.nan, np.nan])
    candidates = np.array([9, 9])
    values, _ = compute_metrics(["Loss"], ranks, ranks, candidates, None, np.array([np.nan, -1.5]))
    assert values["Loss"] == 1.5
    values, _ = compute_metrics(["Loss"], ranks[[0, 0]], ranks[[0, 0]], candidates, None, nothing)
    assert np.isnan(values["Loss"])
    with pytest.raises(ValueError, match="a model without a head does not give"):
        compute_metrics(["Loss"], ranks, ranks, candidates, None, nothing)


def test_metrics_by_hand() -> None:
    """Ranks 1, 4 and 11 at cut-off 10: the metrics' textbook values, per query and on the average."""
    rank = np.array([1.0, 4.0, 11.0])
    names = ["NDCG@10", "Recall@10", "Hit@10", "MRR@10", "MAP@10", "Precision@10", "GAUC"]
    values, per_query = compute_metrics(names, rank, rank, np.array([21, 21, 21]))
    assert list(values) == names
    expected = {
        "NDCG@10": [1, 1 / np.log2(5), 0],
        "Recall@10": [1, 1, 0],
        "Hit@10": [1, 1, 0],
        "MRR@10": [1, 0.25, 0],
        "MAP@10": [1, 0.25, 0],
        "Precision@10": [0.1, 0.1, 0],
        "GAUC": [1, 17 / 20, 0.5],
    }
    for name, array in expected.items():
        np.testing.assert_allclose(per_query[name], array, rtol=1e-14)
        assert values[name] == pytest.approx(np.mean(array), rel=1e-14)


def test_metrics_of_lists_that_are_longer_than_the_candidates() -> None:
    """Neither padding nor excluded items count: of six items seven were asked for."""
    scores = torch.arange(7.0).expand(3, 7).clone()
    pairs = [(1, 6), (1, 5), (2, 1), (2, 2), (2, 4), (2, 5), (2, 6)]
    found = rank_targets_by_scores(scores, torch.tensor([3, 3, 3]), seen_tensors(pairs), top_k=7)
    assert found.top_items is not None
    assert found.top_items.tolist() == [[6, 5, 4, 3, 2, 1, 0], [4, 3, 2, 1, 0, 0, 0], [3, 0, 0, 0, 0, 0, 0]]
    lists = Lists(found.top_items.numpy(), np.array([99, 1, 1, 1, 7, 7, 7]), tail_ratio=2)
    names = ["AveragePopularity@7", "TailPercentage@7", "ItemCoverage@7", "ShannonEntropy@7", "GiniIndex@7"]
    ranks_B = found.ranks("mean").numpy()
    values, per_query = compute_metrics(names, ranks_B, ranks_B, found.n_candidates.numpy(), lists)
    assert per_query["AveragePopularity@7"].tolist() == [4.0, 10 / 4, 1.0]
    assert per_query["TailPercentage@7"].tolist() == [0.5, 0.75, 1.0]
    assert values["ItemCoverage@7"] == 6 / 7
    share = np.array([1, 1, 2, 2, 2, 3]) / 11
    assert values["ShannonEntropy@7"] == pytest.approx(-(share * np.log(share)).sum() / 6)
    # RecBole's formula: the k-th smallest of V counts weighs 2 k - V - 1.
    weight = 2 * np.arange(2, 8) - 7 - 1
    assert values["GiniIndex@7"] == pytest.approx((weight * np.array([1, 1, 2, 2, 2, 3])).sum() / 11 / 7)


def test_per_query_arrays_are_what_the_means_are_of() -> None:
    """Each metric that is a mean comes with its array of one value a query; the properties of all lists have none."""
    problem = metric_problem(6, with_history=False)
    values, per_query = our_metrics(**problem, topk=[3, 8], tail_ratio=0.1, metrics=RECBOLES)
    without = {f"{name}@{k}" for name in ("ItemCoverage", "ShannonEntropy", "GiniIndex") for k in (3, 8)}
    assert set(values) - set(per_query) == without
    for name, array in per_query.items():
        assert array.shape == (37,)
        assert values[name] == array.mean()


def test_of_which_metrics_less_is_better() -> None:
    """The loss, and what is of the popular, the few or the known; of all others, more."""
    lower = {"Loss", "AveragePopularity", "GiniIndex", "RepeatShare"}
    assert {spec.name for spec in METRICS.values() if spec.direction == "lower"} == lower


def test_metrics_refuse_what_they_cannot_compute() -> None:
    """No queries, and metrics of lists without lists, with short lists or without counts, raise a ValueError."""
    rank, n_candidates, counts = np.ones(2), np.full(2, 9), np.ones(10, dtype=np.int64)
    with pytest.raises(ValueError, match="no queries"):
        compute_metrics(["NDCG@10"], np.ones(0), np.ones(0), np.ones(0))
    for lists in (None, Lists(np.ones((2, 4), dtype=int), counts)):
        with pytest.raises(ValueError, match="ItemCoverage@5"):
            compute_metrics(["ItemCoverage@5"], rank, rank, n_candidates, lists)
    for metric in ("RepeatShare@5", "IntraListDiversity@5"):
        with pytest.raises(ValueError, match=metric):
            compute_metrics([metric], rank, rank, n_candidates, Lists(np.ones((2, 5), dtype=int), counts))


def test_metrics_beyond_accuracy_by_hand() -> None:
    """Novelty, repeats and diversity of a full list, of one with an untrained item, and of one with a single item."""
    items = np.array([[1, 2, 3], [3, 4, 0], [2, 0, 0]])
    users, held = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([1, 2, 1, 2, 1, 3, 1, 3])
    distance = ItemDistance(users, held, 5)
    lists = Lists(
        items,
        np.bincount(held, minlength=5),
        in_history=np.array([[True, False, True], [False, True, False], [True, False, False]]),
        distance_sums=distance_sums(items, distance),
    )
    names = [
        f"{name}@{k}" for name in ("Novelty", "RepeatShare", "ExplorationShare", "IntraListDiversity") for k in (2, 3)
    ]
    ones = np.ones(3)
    values, per_query = compute_metrics(names, ones, ones, np.full(3, 4), lists)
    # Of 8 interactions items 1, 2, 3 have 4, 2, 2; item 4 has none and counts as if it had one.
    np.testing.assert_allclose(per_query["Novelty@3"], [(1 + 2 + 2) / 3, (2 + 3) / 2, 2])
    np.testing.assert_allclose(per_query["Novelty@2"], [1.5, 2.5, 2])
    np.testing.assert_allclose(per_query["RepeatShare@3"], [2 / 3, 1 / 2, 1])
    np.testing.assert_allclose(per_query["ExplorationShare@2"], [1 / 2, 1 / 2, 0])
    near = 1 - 2 / np.sqrt(8)  # items 1 and 2, or 1 and 3, share two of four and two users
    np.testing.assert_allclose(per_query["IntraListDiversity@2"], [near, 1, np.nan])
    np.testing.assert_allclose(per_query["IntraListDiversity@3"], [(2 * near + 1) / 3, 1, np.nan])
    assert values["IntraListDiversity@2"] == pytest.approx((near + 1) / 2)


@pytest.mark.parametrize("metric", ["ItemCoverage@4", "GiniIndex@4"])
def test_intervals_of_metrics_of_all_lists_hold_the_truth(metric: str) -> None:
    """Over repeated draws of users, intervals hold the mean of the metric, and a difference of none is rarely found."""
    generator = np.random.default_rng(5)
    share = 1 / np.arange(1, 61)

    def draw() -> np.ndarray:
        order = np.argsort(generator.gumbel(size=(120, 60)) + np.log(share), axis=1)[:, ::-1]
        return 1 + order[None, :, :4]

    truth = np.mean([metric_of_counts(metric, draw(), 61) for _ in range(400)])
    users = np.arange(120)
    intervals = [counts_interval(metric, draw(), users, 61) for _ in range(60)]
    held = sum(one.low <= truth <= one.high for one in intervals)
    assert 52 <= held <= 60
    same = [compare_counts(metric, draw(), draw(), users, 61)[1].p_value for _ in range(40)]
    assert sum(p_value < 0.05 for p_value in same) <= 6
    (first, second), found = compare_counts(
        metric, np.full((1, 120, 4), 3), np.concatenate([draw(), draw()]), users, 61
    )
    assert found.effect == pytest.approx(second - first)
    assert found.p_value < 0.05
    assert not found.over_seeds


def test_one_user_says_nothing_of_the_lists_of_others() -> None:
    found = counts_interval("ItemCoverage@2", np.array([[[1, 2], [2, 3]], [[1, 2], [1, 2]]]), np.zeros(2, int), 11)
    assert (found.mean, found.low, found.high) == (pytest.approx(2.5 / 11), -np.inf, np.inf)


# --- Distance ----------------------------------------------------------------------------------------------------


def distance_by_hand(interactions: list[tuple[int, int]], one: int, other: int) -> float:
    left = {user for user, item in interactions if item == one}
    right = {user for user, item in interactions if item == other}
    if not left or not right:
        return 1.0
    return 1.0 - len(left & right) / (len(left) * len(right)) ** 0.5


@pytest.mark.parametrize("seed", range(4))
def test_item_distance_equals_the_sets(seed: int) -> None:
    """Distances equal those from sets of users, with repeated interactions, repeated pairs, pairs of an item with
    itself, and items that training lacks (the padding among them)."""
    generator = np.random.default_rng(seed)
    user, item = generator.integers(0, 9, 60), generator.integers(1, 12, 60)
    user, item = np.append(user, user[:20]), np.append(item, item[:20])
    first, second = generator.integers(0, 16, 300), generator.integers(0, 16, 300)
    found = item_distance(user, item, first, second, 16)
    interactions = list(zip(user.tolist(), item.tolist(), strict=True))
    expected = [distance_by_hand(interactions, a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(found, item_distance(user, item, second, first, 16))
    trained = (first == second) & np.isin(first, item)
    assert trained.any()
    np.testing.assert_allclose(found[trained], 0, atol=1e-15)


def test_item_distance_of_int32_ids() -> None:
    """Ids as the data room has them (int32), with so many items that a pair's number does not fit into 32 bits."""
    n_items = 70_000
    ids = np.array([n_items - 1, n_items - 2, n_items - 1, 5], dtype=np.int32)
    found = item_distance(np.array([0, 0, 1, 1]), ids, ids[[0, 0, 1]], ids[[1, 3, 3]], n_items)
    np.testing.assert_allclose(found, [1 - 1 / 2**0.5, 1 - 1 / 2**0.5, 1.0], atol=1e-15)


def test_item_distance_of_nothing() -> None:
    """No pairs give no distances; without any training interaction every distance is 1."""
    nothing = np.array([], dtype=np.int64)
    assert item_distance(np.array([0]), np.array([1]), nothing, nothing, 3).shape == (0,)
    assert item_distance(nothing, nothing, np.array([1, 2]), np.array([1, 1]), 3).tolist() == [1.0, 1.0]


class Compared:
    """Items compared with targets by scores that are the queries themselves, as a `TargetCounter` does it."""

    n_queries = 2

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items

    def count(self, queries, target_b, ruled_out_V, seen_bV, with_scores):
        (own_bV,) = queries
        none_bV = ruled_out_V.expand_as(own_bV) if seen_bV is None else ruled_out_V | seen_bV
        scores_bV, target_b1 = own_bV.masked_fill(none_bV, -torch.inf), target_b[:, None]
        target_score_b1 = own_bV.gather(1, target_b1)
        others_bV = scores_bV.scatter(1, target_b1, -torch.inf)
        better_b, tied_b = (others_bV > target_score_b1).sum(dim=1), (others_bV == target_score_b1).sum(dim=1)
        return better_b, tied_b, target_score_b1[:, 0], scores_bV if with_scores else None


@pytest.mark.parametrize("excludes", [False, True])
@pytest.mark.parametrize("seeing", [False, True])
def test_counted_ranks_are_those_of_scores(seeing: bool, excludes: bool) -> None:
    """Also where the user had the target before, which stays a candidate, or nobody trained on it, which does not."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randint(0, 5, (7, 12), generator=generator).float()
    target = torch.randint(1, 12, (7,), generator=generator)
    query = torch.arange(7).repeat_interleave(4)
    seen = (query, torch.where(torch.arange(28) % 4 == 0, target[query], torch.arange(28) * 5 % 12)) if seeing else None
    excluded = torch.zeros(12, dtype=torch.bool)
    excluded[[0, 3, int(target[2])]] = excludes
    expected = rank_targets_by_scores(scores.clone(), target, seen, 3, excluded if excludes else None)
    found = rank_targets(Compared(12), (scores,), target, seen, 3, excluded if excludes else None)
    for name in ("better", "tied", "n_candidates", "target_score"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
    outside = excluded[target] if excludes else torch.zeros(7, dtype=torch.bool)
    assert found.ranks("mean").isinf().tolist() == outside.tolist()
    assert found.top_items is not None
    assert expected.top_items is not None
    best = [scores[row][items.long()].tolist() for row, items in enumerate(found.top_items)]
    assert best == [scores[row][items.long()].tolist() for row, items in enumerate(expected.top_items)]


def test_the_tail_has_one_item_at_least() -> None:
    """The rarest of the trained ones, where a tenth of them is less than one."""
    assert Lists(np.ones((1, 1), dtype=int), np.array([9, 0, 3, 2, 2])).in_tail().tolist() == [0, 0, 0, 1, 0]


def test_a_list_has_zeros_where_candidates_are_few_among_many_items() -> None:
    """In the search by blocks too, which large catalogues go through."""
    scores = torch.full((1, 1001), -torch.inf)
    scores[0, [7, 900]] = torch.tensor([1.0, 2.0])
    assert best_items(scores, 4).tolist() == [[900, 7, 0, 0]]
