"""Slices: bins and cells against plain loops, their properties, the command, what it refuses."""

import csv
import io
from collections.abc import Callable, Sequence
from itertools import product
from math import inf, isnan, log2, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fabricated import opposite
from hypothesis import given
from hypothesis import strategies as st

from mos_recbole import cli
from mos_recbole.analysis import (
    RunGroup,
    SliceBy,
    Slices,
    compare_groups,
    parse_condition,
    parse_slice_by,
    slice_groups,
)
from mos_recbole.errors import InputError
from mos_recbole.evaluation import Bins, compare_means, mean_interval, quantile_bins, relative_difference
from mos_recbole.report import comparisons_table, slices_table
from mos_recbole.report.formatting import format_p_value, format_relative
from mos_recbole.results import OUTCOMES_FILE, RUNS_FOLDER, Metric, RunResult

# ---------------------------------------------------------------------------------------------------- bins


def bin_by_hand(edges: Sequence[float], value: float) -> int:
    """Returns the number of the bin, -1 for none: [e0, e1], (e1, e2], ..."""
    for number in range(len(edges) - 1):
        above = value >= edges[0] if number == 0 else value > edges[number]
        if above and value <= edges[number + 1]:
            return number
    return -1


def test_the_articles_bins() -> None:
    """[0, 814], (814, 4976], ...: closed on the right, and on the left in the first."""
    bins = Bins((0, 814, 4976, 13865, 71317))
    assert bins.labels == ["[0, 814]", "(814, 4976]", "(4976, 13865]", "(13865, 71317]"]
    values = [0, 814, 814.5, 4976, 4977, 71317, 71318, -1, nan, inf, -inf]
    assert bins.place(np.array(values)).tolist() == [0, 0, 1, 1, 2, 3, -1, -1, -1, -1, -1]


def test_labels_tell_edges_apart() -> None:
    """Whole numbers as such, others short where that is exact, infinity."""
    assert Bins((-inf, 0.66, 1, inf)).labels == ["[-inf, 0.66]", "(0.66, 1]", "(1, inf]"]
    assert Bins((0.1 + 0.2, 1)).labels == ["[0.30000000000000004, 1]"]
    assert Bins((5, 5)).labels == ["[5, 5]"]


@pytest.mark.parametrize("edges", [(), (1.0,), (1, 1, 2), (2, 1), (0, nan), (nan, nan)])
def test_edges_that_are_none(edges: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="two or more, increasing"):
        Bins(edges)


numbers = st.one_of(
    st.integers(-3, 12).map(float),
    st.floats(-1e6, 1e6, allow_nan=False).filter(lambda value: value == 0 or abs(value) > 1e-100),
    st.sampled_from([nan, inf, -inf, 1 / 3, 0.1 + 0.2, 1e-12]),
)


@given(st.lists(numbers, min_size=1, max_size=40), st.lists(st.integers(-5, 12), min_size=2, max_size=6, unique=True))
def test_places_are_those_of_loops(values: list[float], edges: list[float]) -> None:
    """Ties on edges, NaN and infinities included."""
    bins = Bins(tuple(sorted(edges)))
    assert bins.place(np.array(values)).tolist() == [bin_by_hand(sorted(edges), value) for value in values]


@given(st.lists(numbers, min_size=1, max_size=60).filter(lambda values: not all(map(isnan, values))), st.integers(1, 6))
def test_quantile_bins_cover_all(values: list[float], n: int) -> None:
    """Every value that is not NaN is in a bin, every bin has one, and there are no more bins than asked for."""
    bins = quantile_bins(np.array(values), n)
    place = bins.place(np.array(values))
    assert [number == -1 for number in place] == [isnan(value) for value in values]
    assert 1 <= len(bins.labels) <= n
    assert set(place[place >= 0]) == set(range(len(bins.labels)))
    assert len(set(bins.labels)) == len(bins.labels)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(1, 6))
def test_quantiles_of_whole_numbers_are_whole(values: list[int], n: int) -> None:
    """Edges are the smallest and, of every share, the value that it does not exceed."""

    def reaching(share: int) -> int:
        return next(v for v in sorted(values) if n * sum(w <= v for w in values) >= share * len(values))

    expected = sorted({min(values), *map(reaching, range(1, n + 1))})
    assert quantile_bins(np.array(values), n).edges == tuple(expected if len(expected) > 1 else expected * 2)


def test_quantiles_of_other_numbers_are_rounded() -> None:
    """To labels that are short and exact, with about as many values in every bin."""
    values = np.random.default_rng(1).random(4000)
    bins = quantile_bins(values, 4)
    assert all(len(label) <= len("(0.255, 0.755]") for label in bins.labels)
    assert np.bincount(bins.place(values)).tolist() == pytest.approx([1000] * 4, abs=20)


@pytest.mark.parametrize(("values", "n"), [([nan], 2), ([], 2), ([1.0], 0)])
def test_quantiles_of_nothing(values: list[float], n: int) -> None:
    with pytest.raises(ValueError, match=r"no values|expected 1 or more"):
        quantile_bins(np.array(values), n)


# ---------------------------------------------------------------------------------------------------- runs made by hand

FIELDS = {
    "protocol": {"split": {"name": "temporal"}, "filter_seen": False, "tie_rule": "mean", "candidates": "trained"},
    **{"protocol_hash": "feed", "data": {"fingerprint": "f00d"}, "dataset": "toy", "parameters": 9, "epochs": 2},
    **{"valid_metric": "NDCG@10", "train_seconds": 1.0, "eval_seconds": 1.0, "wall_seconds": 2.0, "resumed": False},
    **{"peak_memory_bytes": {}, "device": "cpu", "threads": 1, "versions": {}, "code": "0.1", "git_commit": None},
    **{"best_epoch": 1, "finished": "2026-01-01T00:00:00"},
}


def queries(n: int, users: int, seed: int = 0) -> pd.DataFrame:
    """The columns that all runs share: few values, so that many are on edges and many are equal; some without one."""
    generator = np.random.default_rng(seed)
    user = np.sort(generator.integers(users, size=n))
    return pd.DataFrame(
        {
            "user": [f"u{one}" for one in user],
            "position": np.arange(n),
            "target": [f"i{one}" for one in generator.integers(5, size=n)],
            "tied": 0,
            "candidates": 200,
            "train_count": generator.integers(0, 12, n),
            "previous_distance": np.where(generator.random(n) < 0.1, nan, np.round(generator.random(n), 1)),
            "empty": nan,
        }
    )


Make = Callable[..., RunResult]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Returns a function (model, seed, shared columns, ...) that writes a finished run below results/."""
    made = iter(range(1, 1000))

    def run(model: str, seed: int, shared: pd.DataFrame, better: float = 0.0, **changes) -> RunResult:
        number = next(made)
        generator = np.random.default_rng([*model.encode(), seed])
        rank = np.ceil(np.exp(generator.normal(2 - better, 1.5, len(shared))))
        rank[generator.random(len(shared)) < 0.1] = inf
        metrics = {"NDCG@10": Metric(value=0.5, direction="higher")}
        settings = {"model": model, "dataset": "toy", "seed": seed}
        own = {"run_id": f"{number:016x}", "model": model, "seed": seed, "settings": settings}
        record = RunResult(**{**FIELDS, **own, "valid": metrics, "test": opposite(metrics), **changes})
        folder = tmp_path / "results" / RUNS_FOLDER / f"{model}-toy-seed{seed}-{number:016x}"
        folder.mkdir(parents=True)
        table = shared.assign(rank=rank, log_probability=-np.abs(generator.normal(size=len(shared))))
        table.sample(frac=1, random_state=number).to_parquet(folder / OUTCOMES_FILE, index=False)
        record.write(folder)
        return record

    return run


def two_groups(make: Make, shared: pd.DataFrame, seeds: tuple[int, int] = (2, 3)) -> list[RunGroup]:
    """Alpha and Beta, which is a little better."""
    return [
        RunGroup(model, tuple(make(model, seed, shared, better) for seed in range(1, n + 1)))
        for model, n, better in zip(("Alpha", "Beta"), seeds, (0.0, 0.3), strict=True)
    ]


METRICS = {
    "Recall@5": lambda rank: float(rank <= 5),
    "NDCG@10": lambda rank: 1 / log2(rank + 1) if rank <= 10 else 0.0,
    "GAUC": lambda rank: max((200 - rank) / 199, -inf),
}

# ---------------------------------------------------------------------------------------------------- cells


def by_hand(side: RunGroup, metric: str, placed: Callable[[pd.Series], object], cell: object) -> list[list[float]]:
    """Returns a list a seed of the metric of the queries in a cell, in the order of user and position."""
    rows = []
    for run in side.runs:
        table = run.outcomes().sort_values(["user", "position"])
        rows.append([METRICS[metric](row["rank"]) for _, row in table.iterrows() if placed(row) == cell])
    return rows


@pytest.mark.parametrize("metric", ["Recall@5", "NDCG@10"])
@pytest.mark.parametrize("edges", [(0, 3, 6, 11), (2, 3, 9), (0, 5, 20, 30)])
def test_cells_are_those_of_loops(make: Make, metric: str, edges: tuple[float, ...]) -> None:
    """Means, numbers, differences; crossed, with ties on edges, missing values, infinite ranks and empty cells."""
    shared = queries(150, 12)
    sides = two_groups(make, shared)
    distances = (0.0, 0.5, 0.9)
    found = slice_groups(sides, metric, [SliceBy("train_count", edges), SliceBy("previous_distance", distances)])

    def placed(row: pd.Series) -> tuple[int, int]:
        return bin_by_hand(edges, row["train_count"]), bin_by_hand(distances, row["previous_distance"])

    combinations = list(product(range(len(edges) - 1), range(2)))
    assert [cell.labels for cell in found.cells] == list(product(*found.axes))
    ordered = shared.sort_values(["user", "position"])
    for cell, expected in zip(found.cells, combinations, strict=True):
        first, second = (np.array(by_hand(side, metric, placed, expected)) for side in sides)
        user = np.array([row["user"] for _, row in ordered.iterrows() if placed(row) == expected])
        assert (cell.n_queries, cell.n_users) == (len(user), len(set(user)))
        if not len(user):
            assert all(isnan(mean.mean) for mean in cell.means)
            assert (cell.difference, cell.relative, cell.small) == (None, None, False)
            continue
        assert [mean.mean for mean in cell.means] == pytest.approx([first.mean(), second.mean()])
        number = np.array([sorted(set(user)).index(one) for one in user])
        if len(set(user)) > 1:
            assert cell.difference is not None
            assert cell.difference.effect == pytest.approx(second.mean() - first.mean())
            assert cell.difference.p_value == pytest.approx(compare_means(first, second, number).p_value)
            assert cell.means[1].low == pytest.approx(mean_interval(second, number).low)
            relative = relative_difference(first, second, number)
            assert (cell.relative is None) == (relative is None)
            assert relative is None or cell.relative.low == pytest.approx(relative.low)
    outside = sum(-1 in placed(row) for _, row in shared.iterrows())
    assert sum(cell.n_queries for cell in found.cells) == len(shared) - outside
    assert found.total.n_queries == len(shared) - outside


@pytest.mark.parametrize("seed", range(8))
def test_cells_partition_the_queries(make: Make, seed: int) -> None:
    """Quantile bins hold every query once; the cells' means, weighted, are the mean over all of `compare`."""
    shared = queries(90, 9, seed)
    sides = two_groups(make, shared)
    for by in ([SliceBy("train_count", 1 + seed)], [SliceBy("train_count", 3), SliceBy("user", None)]):
        found = slice_groups(sides, "ndcg@10", by)
        assert found.metric == "NDCG@10"
        sizes = [cell.n_queries for cell in found.cells]
        assert sum(sizes) == 90
        filled = [cell for cell in found.cells if cell.n_queries]
        (whole,) = compare_groups(sides, ["NDCG@10"]).rows
        for side, mean in enumerate((whole.first_mean, whole.second_mean)):
            weighted = sum(cell.means[side].mean * cell.n_queries for cell in filled) / 90
            assert weighted == pytest.approx(mean)
            assert found.total.means[side].mean == pytest.approx(mean)
        assert found.total.difference == whole.difference


def test_a_cell_is_the_comparison_of_its_queries(make: Make) -> None:
    """--where with the cell's bounds gives the cell's difference."""
    sides = two_groups(make, queries(150, 12))
    found = slice_groups(sides, "Recall@5", [SliceBy("train_count", (0, 4, 8, 11))])
    where = [parse_condition("train_count > 4"), parse_condition("train_count<=8")]
    compared = compare_groups(sides, ["Recall@5"], where)
    assert compared.rows[0].difference == found.cells[1].difference
    assert compared.rows[0].relative == found.cells[1].relative
    assert (compared.n_queries, compared.n_left_out) == (found.cells[1].n_queries, 150 - found.cells[1].n_queries)
    assert f"Only the {compared.n_queries} of 150 queries with train_count > 4 and train_count <= 8." in (
        comparisons_table(compared).caption
    )
    subset = slice_groups(sides, "Recall@5", [SliceBy("train_count", 2)], where)
    assert subset.axes == (("[5, 6]", "(6, 8]"),)
    assert "train_count > 4" in slices_table(subset).caption


def test_conditions_on_text_and_missing_values(make: Make) -> None:
    """= and != compare text; a query without a value fulfils no condition."""
    shared = queries(120, 12)
    sides = two_groups(make, shared)
    for text, expected in (
        ("target=i3", (shared["target"] == "i3").sum()),
        ("target != i3", (shared["target"] != "i3").sum()),
        ("previous_distance>=0.5", (shared["previous_distance"] >= 0.5).sum()),
        ("previous_distance!=0.5", (shared["previous_distance"].notna() & (shared["previous_distance"] != 0.5)).sum()),
        ("train_count==3", (shared["train_count"] == 3).sum()),
    ):
        assert compare_groups(sides, ["Recall@5"], [parse_condition(text)]).n_queries == expected


def test_one_side(make: Make) -> None:
    """Means with intervals, no difference."""
    side = two_groups(make, queries(300, 60))[0]
    found = slice_groups([side], "Recall@5", [SliceBy("train_count", 3)])
    assert found.labels == ("Alpha",)
    assert all(cell.difference is None and cell.relative is None for cell in found.cells)
    assert all(cell.means[0].low < cell.means[0].mean < cell.means[0].high for cell in found.cells)
    assert not any(cell.small for cell in found.cells)
    assert "Recall@5 ± 95 %" in slices_table(found).text()
    assert "Holm" not in slices_table(found).caption


def test_gauc_of_targets_without_rivals(make: Make) -> None:
    """They have none, and the caption counts them."""
    shared = queries(80, 8)
    shared.loc[:6, "candidates"] = 1
    shared["rank"] = 1.0
    runs = []
    for model in ("Alpha", "Beta"):
        run = make(model, 1, shared)
        table = run.outcomes()
        table["rank"] = np.where(table["candidates"] == 1, 1.0, np.minimum(table["rank"], 200))
        table.to_parquet(run.folder / OUTCOMES_FILE)
        runs.append(run)
    found = slice_groups([RunGroup(run.model, (run,)) for run in runs], "GAUC", [SliceBy("train_count", 2)])
    assert found.total.n_queries == 73
    assert "7 queries, whose target is the only candidate, have no GAUC." in slices_table(found).caption
    assert "With one seed, nothing is said of other seeds of Alpha, Beta:" in slices_table(found).caption


def test_the_loss_of_targets_that_are_no_candidates(make: Make) -> None:
    """They have none, and the caption says why; where no target is one, that is said instead of a table."""
    shared = queries(80, 8)
    run = make("Alpha", 1, shared)
    table = run.outcomes()
    table["log_probability"] = np.where(np.arange(80) < 5, np.nan, -2.0)
    table.loc[:4, "rank"] = np.inf
    table.to_parquet(run.folder / OUTCOMES_FILE)
    found = slice_groups([RunGroup("Alpha", (run,))], "Loss", [SliceBy("train_count", 2)])
    assert "5 queries, whose target is no candidate, have no Loss." in slices_table(found).caption
    other = make("Beta", 1, shared)
    for one in (run, other):
        table["log_probability"], table["rank"] = np.nan, np.inf
        table.to_parquet(one.folder / OUTCOMES_FILE)
    pair = [RunGroup(one.model, (one,)) for one in (run, other)]
    with pytest.raises(InputError, match="Loss is defined for none of 80 queries"):
        compare_groups(pair, ["Loss"])
    compared = compare_groups(pair, ["NDCG@10", "Loss"])
    assert [row.metric for row in compared.rows] == ["NDCG@10"]
    assert "No query has Loss." in comparisons_table(compared).caption


def test_small_cells_are_marked_and_not_hidden(make: Make) -> None:
    """Few users, few in whom the sides differ, or one user with most of the queries; the caption has the rule."""
    shared = queries(400, 80)
    sides = two_groups(make, shared)
    found = slice_groups(sides, "Recall@5", [SliceBy("train_count", (0, 10, 11))])
    assert [cell.small for cell in found.cells] == [False, found.cells[1].n_users < 30]
    worse = RunGroup("Worse", (make("Worse", 1, shared, -3.0),))
    (cell, _) = slice_groups([sides[0], worse], "Recall@5", [SliceBy("train_count", (0, 10, 11))]).cells
    assert not cell.small  # users in whom it is worse count as those in whom it is better
    few = slice_groups(sides, "Recall@5", [SliceBy("target", None), SliceBy("train_count", 4)])
    assert all(cell.small and cell.difference is not None for cell in few.cells)
    assert "users |" in slices_table(few).text()
    assert all(line.count("*") == 1 for line in slices_table(few).grid("github").splitlines()[2:-1])
    assert "fewer than 30 users" in slices_table(few).caption
    heavy = shared.assign(user=np.where(np.arange(400) % 5 > 0, "u0", shared["user"]))
    alone = slice_groups(two_groups(make, heavy), "Recall@5", [SliceBy("train_count", 1)])
    assert alone.cells[0].small
    assert alone.cells[0].n_users > 30
    twin = make("Twin", 1, shared)
    sides[0].runs[0].outcomes().to_parquet(twin.folder / OUTCOMES_FILE)
    alike = slice_groups(
        [RunGroup("Alpha", sides[0].runs[:1]), RunGroup("Twin", (twin,))], "Recall@5", [SliceBy("train_count")]
    )
    assert all(cell.small and cell.difference.effect == 0 for cell in alike.cells)


def test_the_frame_has_all_numbers(make: Make) -> None:
    """A row a cell; Holm's correction over the cells that are tested."""
    found = slice_groups(two_groups(make, queries(150, 12)), "Recall@5", [SliceBy("train_count", (0, 5, 11, 20))])
    frame = slices_table(found).frame
    assert frame.iloc[-1]["train_count"] == "all"
    frame = frame[:-1]
    assert frame["train_count"].tolist() == ["[0, 5]", "(5, 11]", "(11, 20]"]
    assert (frame["A"] + frame["B"] + frame["metric"]).unique().tolist() == ["AlphaBetaRecall@5"]
    for row, cell in zip(frame.to_dict("records"), found.cells, strict=True):
        if cell.n_queries:
            assert row["B - A"] == cell.difference.effect
            assert row["relative high"] == cell.relative.high
            assert row["mean B low"] == cell.means[1].low
    p = sorted(frame["p"].dropna())
    assert sorted(frame["p (Holm)"].dropna()) == pytest.approx([min(1, 2 * p[0]), max(min(1, 2 * p[0]), p[1])])
    assert np.isnan(frame["p"].iloc[2])
    assert "1 cell of 3 without queries." in slices_table(found).caption


def test_every_column_of_the_table_has_what_its_header_says(make: Make) -> None:
    """Of two groups against the cells; the row of all is not corrected."""
    slices = slice_groups(two_groups(make, queries(400, 60)), "NDCG@10", [SliceBy("train_count", (0, 3, 11))])
    table = slices_table(slices)
    assert slices.total is not None
    for cell, p_holm, verdict, numbers, shown in zip(
        (*slices.cells, slices.total),
        (*slices.adjusted_p_values, None),
        (*slices.verdicts, None),
        table.frame.to_dict("records"),
        table.rows,
        strict=True,
    ):
        a, b = cell.means
        assert cell.difference is not None
        assert cell.relative is not None
        test, p = cell.difference, cell.difference.p_value
        assert {name: one.text for name, one in shown.items()} == {
            "train_count": cell.labels[0],
            **{"queries": f"{cell.n_queries:,}", "users": f"{cell.n_users:,}{' *' * cell.small}"},
            **{"mean A": f"{a.mean:.4f}", "mean B": f"{b.mean:.4f}"},
            "B - A [95 % interval]": f"{test.effect:+.4f} [{test.low:+.4f}, {test.high:+.4f}]",
            "relative [95 % interval]": format_relative(cell.relative),
            **{"p": format_p_value(p), "p (Holm)": "-" if p_holm is None else format_p_value(p_holm)},
            "verdict": "-" if verdict is None else verdict,
        }
        expected = {
            **{"train_count": cell.labels[0], "metric": "NDCG@10", "A": "Alpha", "B": "Beta"},
            **{"queries": cell.n_queries, "users": cell.n_users},
            **{"mean A": a.mean, "mean A low": a.low, "mean A high": a.high},
            **{"mean B": b.mean, "mean B low": b.low, "mean B high": b.high},
            **{"B - A": test.effect, "B - A low": test.low, "B - A high": test.high},
            "standard error": test.standard_error,
            **{"relative": cell.relative.mean, "relative low": cell.relative.low, "relative high": cell.relative.high},
            **{"p": p, "p (Holm)": nan if p_holm is None else p_holm},
            **{"equivalent": cell.equivalent, "verdict": verdict, "small": cell.small},
        }
        assert numbers.keys() == expected.keys()
        pd.testing.assert_series_equal(pd.Series(numbers), pd.Series(expected))


def test_verdicts_of_slices_are_those_of_compare(make: Make) -> None:
    """In one cell with all queries, the comparison's own; with a margin that everything is within, equivalent."""
    groups = two_groups(make, queries(150, 12))
    for margin in (0.01, 0.99):
        (row,) = compare_groups(groups, ["NDCG@10"], margin=margin).rows
        (verdict,) = slice_groups(groups, "NDCG@10", [SliceBy("train_count", 1)], margin=margin).verdicts
        assert verdict == row.verdict
    with pytest.raises(InputError, match="--margin 100; expected a percentage"):
        slice_groups(groups, "NDCG@10", [SliceBy("train_count", 1)], margin=1.0)


def test_what_is_in_no_cell_is_told(make: Make) -> None:
    """Queries outside of bins, without a value, and bins that ties merged."""
    shared = queries(100, 12)
    sides = two_groups(make, shared)
    missing = shared["previous_distance"].isna().sum()
    caption = slices_table(slice_groups(sides, "Recall@5", [SliceBy("previous_distance", (0.2, 0.5))])).caption
    outside = 100 - missing - shared["previous_distance"].between(0.2, 0.5).sum()
    assert f"{missing} of 100 queries have no previous_distance." in caption
    assert f"{outside} of 100 queries are outside of the bins of previous_distance." in caption
    merged = slice_groups(sides, "Recall@5", [SliceBy("train_count", 20)])
    assert (
        f"train_count: {len(merged.cells)} of 20 bins, since many queries have equal values."
        in slices_table(merged).caption
    )


# ---------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ([], "expected one column"),
        ([SliceBy("train_count"), SliceBy("train_count", 2)], "two different"),
        ([SliceBy("train_count"), SliceBy("user", None), SliceBy("target", None)], "expected one column or two"),
        ([SliceBy("train_cout")], "did you mean train_count?"),
        ([SliceBy("target")], "target:each"),
        ([SliceBy("train_count", (3, 1))], "increasing"),
        ([SliceBy("train_count", (3,))], "two or more"),
        ([SliceBy("train_count", 0)], "expected 1 to 100"),
        ([SliceBy("train_count", 814)], "train_count:0,814,inf"),
        ([SliceBy("train_count", (50, 60))], "from 0 to 11"),
        ([SliceBy("empty")], "no query has a value"),
        ([SliceBy("rank")], "a model's answer"),
        ([SliceBy("log_probability")], "a model's answer"),
        ([SliceBy("position", None), SliceBy("user", None)], "at most 1,000"),
    ],
)
def test_columns_and_bins_that_cannot_be(make: Make, by: list[SliceBy], message: str) -> None:
    with pytest.raises(InputError, match=message):
        slice_groups(two_groups(make, queries(110, 12)), "Recall@5", by)


def test_no_query_in_bins_of_both(make: Make) -> None:
    shared = queries(60, 6).assign(one=np.arange(60), two=np.arange(60))
    with pytest.raises(InputError, match="both one and two"):
        slice_groups(two_groups(make, shared), "Recall@5", [SliceBy("one", (0, 9)), SliceBy("two", (20, 30))])


def test_sides_that_cannot_be_compared(make: Make) -> None:
    """None, other queries, another protocol, a run twice: as `compare` refuses them."""
    shared = queries(60, 6)
    alpha, beta = two_groups(make, shared)
    by = [SliceBy("train_count")]
    with pytest.raises(InputError, match="0 groups of runs; expected 1 to 26"):
        slice_groups([], "Recall@5", by)
    with pytest.raises(InputError, match="in two groups"):
        slice_groups([alpha, beta, alpha], "Recall@5", by)
    with pytest.raises(InputError, match="in two groups"):
        slice_groups([alpha, alpha], "Recall@5", by)
    for other in (shared.iloc[:-1], shared.assign(target="i9")):
        with pytest.raises(InputError, match="other queries"):
            slice_groups([alpha, RunGroup("Gamma", (make("Gamma", 1, other),))], "Recall@5", by)
    with pytest.raises(InputError, match="different protocols"):
        slice_groups([alpha, RunGroup("Delta", (make("Delta", 1, shared, protocol_hash="beef"),))], "Recall@5", by)
    with pytest.raises(InputError, match="a number for all lists together"):
        slice_groups([alpha], "ItemCoverage@10", by)


def test_a_metric_that_no_query_has(make: Make) -> None:
    """GAUC has no value where the target is the one candidate."""
    run = make("Alpha", 1, queries(60, 6).assign(candidates=1))
    run.outcomes().assign(rank=1.0).to_parquet(run.folder / OUTCOMES_FILE)
    alone = RunGroup("Alpha", (run,))
    with pytest.raises(InputError, match="GAUC is defined for none of 60 queries"):
        slice_groups([alone], "GAUC", [SliceBy("train_count")])


@pytest.mark.parametrize(("values", "other"), [(["a", "b", None], "b"), ([1.0, 2.0, nan], 2.0), ([1, 2, 3], 2)])
def test_a_column_is_the_same_in_all_runs(values: list[Any], other: Any, make: Make) -> None:
    """Numbers but for rounding; a value that is missing in all is the same."""
    shared = queries(60, 6).assign(own=values * 20)
    by = [SliceBy("own", None)]
    alpha = RunGroup("Alpha", (make("Alpha", 1, shared),))

    def sliced(table: pd.DataFrame) -> Slices:
        return slice_groups([alpha, RunGroup("Beta", (make("Beta", 1, table),))], "Recall@5", by)

    assert sum(cell.n_queries for cell in sliced(shared).cells) == 60 - 20 * (values[2] is None or isnan(values[2]))
    if not isinstance(values[0], str):
        sliced(shared.assign(own=shared["own"] * (1 + 1e-12)))
    for place in (0, 59):
        changed = shared["own"].tolist()
        changed[place] = other
        with pytest.raises(InputError, match=r"column own differs between .*Alpha.* and .*Beta"):
            sliced(shared.assign(own=changed))


def test_three_groups_are_beside_each_other_without_a_test(make: Make) -> None:
    """Their means are those of each alone."""
    shared = queries(60, 6)
    groups = [*two_groups(make, shared), RunGroup("Gamma", (make("Gamma", 1, shared),))]
    by = [SliceBy("train_count")]
    found = slice_groups(groups, "Recall@5", by)
    alone = [slice_groups([group], "Recall@5", by) for group in groups]
    for number, cell in enumerate(found.cells):
        assert cell.means == tuple(one.cells[number].means[0] for one in alone)
        assert cell.difference is None
    table = slices_table(found)
    assert list(table.header[-3:]) == ["mean A ± 95 %", "mean B ± 95 %", "mean C ± 95 %"]
    assert "C: Gamma" in table.caption
    assert list(table.frame["mean C"]) == [cell.means[2].mean for cell in (*found.cells, found.total)]


@pytest.mark.parametrize("text", ["train_count", "", ">5", "train_count>", "train_count 5", "a b > 3"])
def test_conditions_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="in quotation marks"):
        parse_condition(text)


@pytest.mark.parametrize(("text", "expected"), [("True", 2), ("false", 1), ("1", 2), ("!=True", 1)])
def test_conditions_on_flags(text: str, expected: int) -> None:
    condition = parse_condition(f"flag{text}" if text.startswith("!") else f"flag={text}")
    assert condition.holds(np.array([True, False, True])).sum() == expected
    with pytest.raises(InputError, match="holds true and false"):
        parse_condition("flag=yes").holds(np.array([True, False]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train_count>many", "holds numbers"),
        ("target>i3", "holds text"),
        ("train_count>99", "none of 60 queries"),
        ("train_cont>3", "did you mean train_count?"),
        ("rank<5", "a model's answer"),
    ],
)
def test_conditions_that_cannot_be(make: Make, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare_groups(two_groups(make, queries(60, 6)), ["Recall@5"], [parse_condition(text)])


# ---------------------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train_count", SliceBy("train_count", 4)),
        ("train_count:7", SliceBy("train_count", 7)),
        ("train_count:0,814,4976", SliceBy("train_count", (0.0, 814.0, 4976.0))),
        ("train_count: -inf, .5,inf", SliceBy("train_count", (-inf, 0.5, inf))),
        ("user:each", SliceBy("user", None)),
    ],
)
def test_slices_by_text(text: str, expected: SliceBy) -> None:
    assert parse_slice_by(text) == expected


@pytest.mark.parametrize("text", ["", ":4", "train_count:", "train_count:a,b", "train_count:1,", "train_count:-3"])
def test_slices_by_text_that_is_none(text: str) -> None:
    with pytest.raises(InputError, match="not understood"):
        parse_slice_by(text)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Returns a function (arguments...) -> exit status, standard output, standard error of `mos-recbole slice`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return cli.main(["slice", *arguments]), *capsys.readouterr()

    return run


def test_the_command(call: Callable, make: Make) -> None:
    """Prints the table and its caption; CSV and LaTeX; options with = too."""
    sides = two_groups(make, queries(150, 40))
    by = ["--by", "train_count:0,5,11", "--by=previous_distance:2"]
    status, out, error = call("Alpha", "Beta", *by, "--metric=recall@5", "--where=train_count<=9")
    assert (status, error) == (0, "")
    expected: Slices = slice_groups(
        sides,
        "Recall@5",
        [SliceBy("train_count", (0, 5, 11)), SliceBy("previous_distance", 2)],
        [parse_condition("train_count<=9")],
    )
    assert out == f"{slices_table(expected).text()}\n"
    assert "A: Alpha, B: Beta" in out
    status, out, error = call("Alpha", "Beta", *by, "--format", "csv")
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["train_count"] for row in rows] == ["[0, 5]", "[0, 5]", "(5, 11]", "(5, 11]", "all"]
    assert "Holm" in error
    status, out, _ = call("Alpha", *by, "--format", "latex")
    assert status == 0
    assert out.startswith("% NDCG@10 by train_count and previous_distance\n")
    assert out.endswith("\\end{tabular}\n")
    status, out, _ = call("Alpha", "--by", "target:each")
    assert (status, out.count("| i")) == (0, 5)


def test_the_command_refuses(call: Callable, make: Make) -> None:
    """With exit status 2, one message and nothing printed."""
    two_groups(make, queries(60, 6))
    for arguments in (
        ["Alpha", "--by", "train_cout"],
        ["Alpha", "Beta", "--by", "train_count", "--where", "train_count"],
        ["Alpha", "Gamma", "--by", "train_count"],
        ["Alpha", "Beta", "Alpha", "--by", "train_count"],
        ["Alpha", "--by", "train_count:x"],
    ):
        status, out, error = call(*arguments)
        assert (status, out) == (2, "")
        assert error.count("error:") == 1
