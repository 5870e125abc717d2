"""Comparisons in pairs: the test's statistics against brute force and simulation, the command, what it refuses."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import astuple, replace
from itertools import permutations, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fabricated import opposite
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mos_recbole import cli
from mos_recbole.analysis import RunGroup, compare_groups, find_run_groups
from mos_recbole.analysis.compare import Comparison, Comparisons
from mos_recbole.analysis.outcomes import iterate_query_values
from mos_recbole.analysis.run_groups import best_on_validation
from mos_recbole.analysis.selection import rank_by_validation
from mos_recbole.errors import InputError
from mos_recbole.evaluation import (
    Difference,
    bootstrap_difference,
    compare_means,
    effect_size,
    holm,
    is_equivalent,
    relative_difference,
    sign_flip_test,
    sign_test,
)
from mos_recbole.report import comparisons_table
from mos_recbole.results import OUTCOMES_FILE, RUNS_FOLDER, Metric, RunResult, SweepPlan
from mos_recbole.results.top_items import TopItems, write_outcomes

# ---------------------------------------------------------------------------------------------------- statistics


def brute_force(first_SU: np.ndarray, second_RU: np.ndarray) -> tuple[float, float, float]:
    """Returns effect, standard error and degrees of freedom for one query a user, written down with loops."""
    n_users = first_SU.shape[1]
    effect = second_RU.mean() - first_SU.mean()
    per_user = [second_RU[:, user].mean() - first_SU[:, user].mean() for user in range(n_users)]
    users = np.var(per_user, ddof=1) / n_users
    parts, seeds, interaction = [(users, n_users - 1)], 0.0, 0.0
    for values in (first_SU, second_RU):
        n_seeds = len(values)
        if n_seeds > 1:
            of_seeds = np.var([row.mean() for row in values], ddof=1) / n_seeds
            squares = 0.0
            for seed, user in product(range(n_seeds), range(n_users)):
                expected = values[seed].mean() + values[:, user].mean() - values.mean()
                squares += (values[seed, user] - expected) ** 2
            freedom = (n_seeds - 1) * (n_users - 1)
            of_both = squares / freedom / (n_seeds * n_users)
            parts += [(of_seeds, n_seeds - 1), (of_both, freedom)]
            seeds, interaction = seeds + of_seeds, interaction + of_both
    variance = max(users, seeds, users + seeds - interaction)
    return effect, variance**0.5, variance**2 / sum(part**2 / freedom for part, freedom in parts)


@pytest.mark.parametrize(("n_first", "n_second"), [(1, 1), (1, 4), (3, 2), (5, 5)])
@pytest.mark.parametrize("spread", [0.0, 0.3, 5.0])
def test_against_the_formula_in_loops(n_first: int, n_second: int, spread: float) -> None:
    """Effect, standard error, degrees of freedom, and from these interval and p value."""
    generator = np.random.default_rng(1)
    users = generator.normal(size=12)
    sides = [
        users + spread * generator.normal(size=(n, 1)) + generator.normal(size=(n, 12)) for n in (n_first, n_second)
    ]
    found = compare_means(*sides, np.arange(12), level=0.9)
    effect, error, freedom = brute_force(*sides)
    assert (found.effect, found.standard_error) == pytest.approx((effect, error))
    assert found.degrees_of_freedom == pytest.approx(freedom)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(effect) / error, freedom))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.9, freedom, effect, error))
    assert found.over_seeds == (min(n_first, n_second) > 1)


def test_one_seed_each_and_one_query_a_user_is_the_paired_t_test() -> None:
    """SciPy's `ttest_rel`."""
    generator = np.random.default_rng(2)
    first, second = generator.normal(size=(2, 30))
    expected = stats.ttest_rel(second, first)
    found = compare_means(first[None], second[None], np.arange(30))
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.degrees_of_freedom == pytest.approx(29)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_users_that_are_all_alike_leave_welchs_test_over_seeds() -> None:
    """SciPy's `ttest_ind` with unequal variances, of the means per seed."""
    generator = np.random.default_rng(3)
    first, second = generator.normal(size=4), 1 + 3 * generator.normal(size=6)
    expected = stats.ttest_ind(second, first, equal_var=False)
    found = compare_means(*(np.repeat(seeds[:, None], 50, axis=1) for seeds in (first, second)), np.arange(50))
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.degrees_of_freedom == pytest.approx(expected.df)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_unequal_numbers_of_queries_are_jackknifed() -> None:
    """The standard error is that of leaving out one user at a time; the degrees of freedom count users by weight."""
    generator = np.random.default_rng(4)
    size = generator.integers(1, 9, 20)
    user = np.repeat(np.arange(20), size)
    first, second = generator.normal(size=(2, len(user))) + generator.normal(size=20)[user]
    without = np.array([(second - first)[user != one].mean() for one in range(20)])
    found = compare_means(first[None], second[None], user)
    effect = (second - first).mean()
    assert found.effect == pytest.approx(effect)
    assert found.standard_error == pytest.approx(np.sqrt(19 / 20 * ((without - effect) ** 2).sum()))
    assert found.degrees_of_freedom == pytest.approx(len(user) ** 2 / sum(n**2 for n in size) - 1)


def simulate(
    n_seeds: tuple[int, int], shares: tuple[float, float, float], *, effect: float, repeats: int
) -> tuple[float, float]:
    """Returns in what share of simulated comparisons the interval misses the effect, and its median half width.

    Users bring 1 to 7 queries. `shares` is what users, seeds and interaction contribute to the effect's variance.
    """
    generator = np.random.default_rng(5)
    size = generator.integers(1, 8, 80)
    user = np.repeat(np.arange(80), size)
    of_users, of_seeds, of_both = np.array(shares) / sum(shares)
    effective = len(user) ** 2 / (size**2).sum()
    missed, widths = 0, []
    for _ in range(repeats):
        base = 3 * generator.normal(size=80)
        means = (base, base + effect + generator.normal(size=80) * np.sqrt(of_users * effective))
        sides = [
            mean
            + generator.normal(size=(n, 1)) * np.sqrt(of_seeds / 2 * n)
            + generator.normal(size=(n, 80)) * np.sqrt(of_both / 2 * n * effective)
            for mean, n in zip(means, n_seeds, strict=True)
        ]
        found = compare_means(sides[0][:, user], sides[1][:, user], user)
        assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)
        missed += not found.low <= effect <= found.high
        widths.append((found.high - found.low) / 2)
    return missed / repeats, float(np.median(widths))


@pytest.mark.parametrize("n_seeds", [(2, 2), (3, 5), (5, 5)])
@pytest.mark.parametrize(
    ("shares", "least"),
    [
        ((1, 0, 0), 0.035),
        ((0, 1, 0), 0.02),
        ((1, 1, 0), 0.03),
        ((1, 1, 1), 0.02),
        ((1, 0, 1), 0.01),
        ((0, 0, 1), 0.005),
    ],
)
def test_the_interval_misses_rarely_whatever_varies(
    n_seeds: tuple[int, int], shares: tuple[float, float, float], least: float
) -> None:
    """Nominal are 5 %; 600 repetitions have a standard error of 0.9 %. It is conservative where seeds interact."""
    missed, width = simulate(n_seeds, shares, effect=2.0, repeats=600)
    assert least <= missed <= 0.05 + 2.5 * 0.009
    if n_seeds == (5, 5):
        assert width <= 1.3 * 1.96


def test_the_null_hypothesis_is_rejected_at_the_nominal_rate_for_hits() -> None:
    """Recall: hits and misses, users who differ much, two models that hit equally often; 2,000 repetitions."""
    generator = np.random.default_rng(6)
    user, rejected = np.arange(300), 0
    for _ in range(2000):
        chance = generator.beta(0.5, 2, size=300)
        first, second = (generator.random((3, 300)) < chance).astype(float), (generator.random((3, 300)) < chance) * 1.0
        rejected += compare_means(first, second, user).p_value < 0.05
    assert 0.005 <= rejected / 2000 <= 0.06


values = st.integers(-50, 50).map(lambda value: value / 8)


@st.composite
def crossed(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two sides with 1 to 3 seeds on the queries of two and more users."""
    user = draw(st.lists(st.integers(0, 3), min_size=2, max_size=9).filter(lambda users: len(set(users)) > 1))
    row = st.lists(values, min_size=len(user), max_size=len(user))
    first, second = (np.array(draw(st.lists(row, min_size=1, max_size=3))) for _ in range(2))
    return first, second, np.array(user)


@given(crossed())
def test_sides_may_be_exchanged(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """The difference changes its sign and nothing else."""
    first, second, user = case
    there, back = compare_means(first, second, user), compare_means(second, first, user)
    assert astuple(back) == pytest.approx((-there.effect, -there.high, -there.low, *astuple(there)[3:]))
    assert there.low <= there.effect <= there.high
    assert 0 <= there.p_value <= 1


@given(crossed(), st.randoms(use_true_random=False))
def test_the_order_of_queries_and_seeds_does_not_matter(case: tuple[np.ndarray, ...], random) -> None:
    """Neither do the numbers by which users are called."""
    first, second, user = case
    order = random.sample(range(len(user)), len(user))
    other = compare_means(first[::-1, order], second[::-1, order], 7 - 3 * user[order])
    assert astuple(other) == pytest.approx(astuple(compare_means(first, second, user)), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("n_first", "n_second"), [(1, 1), (3, 3), (1, 3), (3, 7)])
def test_equal_values_are_no_difference(n_first: int, n_second: int) -> None:
    """Effect 0, p value 1: the rounding error of a mean of equal numbers is not tested."""
    row = np.random.default_rng(7).random(100) / 3
    found = compare_means(np.tile(row, (n_first, 1)), np.tile(row, (n_second, 1)), np.arange(100))
    assert (found.effect, found.low, found.high, found.p_value, found.standard_error) == (0, 0, 0, 1, 0)


def test_a_difference_without_any_variation_is_certain() -> None:
    """The interval is a point, p is 0."""
    found = compare_means(np.full((2, 9), 0.1), np.full((2, 9), 0.4), np.arange(9))
    assert (found.low, found.high, found.p_value) == (pytest.approx(0.3), pytest.approx(0.3), 0)


@pytest.mark.parametrize(
    ("first", "second", "user", "message"),
    [
        ([[1.0, 2.0]], [[1.0, 3.0]], [4, 4], "two users"),
        ([[1.0, np.nan]], [[1.0, 3.0]], [0, 1], "not finite"),
        ([[1.0, 2.0]], [[1.0, np.inf]], [0, 1], "not finite"),
        ([[1.0, 2.0]], [[1.0, 3.0, 4.0]], [0, 1], "expected a row a seed"),
        ([1.0, 2.0], [[1.0, 3.0]], [0, 1], "expected a row a seed"),
        (np.empty((0, 2)), [[1.0, 3.0]], [0, 1], "expected a row a seed"),
    ],
)
def test_values_that_cannot_be_compared(first: object, second: object, user: object, message: str) -> None:
    """One user, NaN, infinity, shapes that do not fit, no seed: refused."""
    with pytest.raises(ValueError, match=message):
        compare_means(np.array(first), np.array(second), np.array(user))


# ---------------------------------------------------------------------------------------------------- runs made by hand

PROTOCOL = {"split": {"name": "leave_one_out"}, "filter_seen": False, "tie_rule": "mean", "candidates": "all"}
DATA = {"users": 40, "items": 200, "interactions": 900, "fingerprint": "f00d"}

FIELDS = {
    **{"protocol_hash": "feed", "protocol": PROTOCOL, "data": DATA, "parameters": 9, "epochs": 2, "best_epoch": 1},
    **{"valid_metric": "NDCG@10", "train_seconds": 1.0, "eval_seconds": 1.0, "wall_seconds": 2.0, "resumed": False},
    **{"peak_memory_bytes": {}, "device": "cpu", "threads": 1, "versions": {}, "code": "0.1", "git_commit": None},
}


class Maker:
    """Writes finished runs into a results folder, 16 digits of id counted up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = 0

    def __call__(
        self,
        model: str = "Alpha",
        seed: int = 1,
        *,
        shift: float = 0.0,
        valid: float | dict[str, Metric] = 0.5,
        run_id: str | None = None,
        users: int = 40,
        table: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table,
        output: Path | None = None,
        **changes,
    ) -> RunResult:
        """Returns the run of a model; `changes` are settings, or fields of the record."""
        self.made += 1
        fields = {key: changes.pop(key) for key in list(changes) if key in RunResult.model_fields}
        dataset = fields.get("dataset", "toy")
        settings = {"model": model, "dataset": dataset, "learning_rate": 0.001, "seed": seed} | changes
        run_id = run_id or f"{self.made:016x}"
        own = {"run_id": run_id, "model": model, "dataset": dataset, "seed": seed, "settings": settings}
        if isinstance(valid, float):
            valid = {"NDCG@10": Metric(value=valid, direction="higher")}
        metrics = {"valid": valid, "test": opposite(valid)}
        record = RunResult(**{**FIELDS, **own, **metrics, "finished": f"2026-01-01T00:00:{self.made:02}", **fields})
        generator = np.random.default_rng([*model.encode(), seed])
        rank = np.clip(generator.integers(1, 60, users) + shift, 1, 200).astype(float)
        queries = {
            "user": [f"u{user}" for user in range(users)],
            "position": 5,
            "target": [f"i{q}" for q in range(users)],
        }
        outcomes = pd.DataFrame(queries | {"rank": rank, "tied": 0, "candidates": 200})
        folder = (output or self.folder) / RUNS_FOLDER / f"{model}-{dataset}-seed{seed}-{run_id}"
        folder.mkdir(parents=True)
        table(outcomes.sample(frac=1, random_state=self.made)).to_parquet(folder / OUTCOMES_FILE, index=False)
        record.write(folder)
        return record


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "results")


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Returns a function (arguments...) -> exit status, standard output, standard error of `mos-recbole compare`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = cli.main(["compare", *map(str, arguments)])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run


def refusal(answer: tuple[int, str, str]) -> str:
    """Returns the message, after checking that it is the only one, with exit status 2 and nothing printed."""
    status, out, error = answer
    assert (status, out) == (2, "")
    assert "Traceback" not in error
    assert error.count("error:") == 1
    return error.partition("error: ")[2]


def cells(text: str) -> list[list[str]]:
    """Returns the cells of a table in GitHub's format, without the line below its head."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [rows[0], *rows[2:]]


# ---------------------------------------------------------------------------------------------------- the table


def test_the_table_and_its_caption(call, make: Maker) -> None:
    """A row a metric; means, difference with interval, relative difference, p values; below it what they are."""
    for model, seed in product(("Alpha", "Alphabet"), (1, 2, 3)):
        make(model, seed, shift=0 if model == "Alpha" else 15)
    status, out, error = call("Alpha", "Alphabet")
    assert (status, error) == (0, "")
    head, *rows = cells(out)
    expected = ["A", "B", "metric", "mean A", "mean B", "B - A [95 % interval]", "relative", "d_z"]
    assert head == [*expected, "p", "p (Holm)", "p (flips)", "detectable", "verdict"]
    assert [row[:3] for row in rows] == [
        ["Alpha", "Alphabet", f"{metric} ↑"] for metric in ("Recall@10", "NDCG@10", "MRR@10", "Recall@100")
    ]
    recall = rows[0]
    first, second = float(recall[3]), float(recall[4])
    found = re.fullmatch(r"([+-]0\.\d{4}) \[([+-]\d\.\d{4}), ([+-]\d\.\d{4})\]", recall[5])
    assert found is not None
    effect, low, high = map(float, found.groups())
    assert low < effect < high < 0  # ranks that are 15 worse
    assert effect == pytest.approx(second - first, abs=2e-4)
    assert float(recall[6].removesuffix(" %")) == pytest.approx(100 * effect / first, abs=0.5)
    assert float(recall[7]) < 0
    assert rows[3][5:] == [
        "+0.0000 [+0.0000, +0.0000]",
        "+0.00 %",
        "+0.000",
        *["1.0000"] * 3,
        "0.0 %",
        "equivalent",
    ]  # all are among the first 100
    caption = " ".join(line for line in out.splitlines() if not line.startswith("|"))
    for said in ("3 seeds", "40 queries", "40 users", "not adjusted", "null hypothesis", "Student's t", "Holm"):
        assert said in caption
    assert "4 comparisons" in caption
    assert "With one seed" not in caption
    assert "validation" not in caption


def test_the_numbers_are_those_of_compare_means(make: Maker) -> None:
    """On the metric's values by query, aligned whatever the order of rows in the files; Holm by hand."""
    models = ("Alpha", "Alphabet", "Beta")
    sides = [RunGroup(model, tuple(make(model, seed) for seed in (1, 2))) for model in models]
    result = compare_groups(sides, ["Recall@5", "mrr@20"])
    assert [(row.first, row.second, row.metric) for row in result.rows] == [
        (*pair, metric)
        for pair in (("Alpha", "Alphabet"), ("Alpha", "Beta"), ("Alphabet", "Beta"))
        for metric in ("Recall@5", "MRR@20")
    ]

    def ranks(group: RunGroup) -> np.ndarray:
        return np.stack([run.outcomes().sort_values("user")["rank"].to_numpy() for run in group.runs])

    recall = [(ranks(side) <= 5).astype(float) for side in sides]
    row = result.rows[2]
    assert astuple(row.difference) == pytest.approx(astuple(compare_means(recall[0], recall[2], np.arange(40))))
    assert (row.first_mean, row.second_mean) == pytest.approx((recall[0].mean(), recall[2].mean()))
    tested = [row for row in result.rows if row.difference.over_seeds]
    p_values = [row.difference.p_value for row in tested]
    largest = 0.0
    for place, index in enumerate(np.argsort(p_values)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        assert tested[index].adjusted_p_value == pytest.approx(largest)
    assert all(row.adjusted_p_value is None and row.verdict is None for row in result.rows if row not in tested)


def test_lists_and_distances_follow_the_queries(make: Maker) -> None:
    """Whatever the order of rows in the files; of lists shorter than the cut-off too."""
    groups, expected = [], []
    for model, n in (("Alpha", 2), ("Beta", 4)):
        run = make(model)
        table = run.outcomes()
        number = table["user"].str[1:].astype(int).to_numpy()
        generator = np.random.default_rng(len(groups))
        items, had, far = np.zeros((40, 4), np.int32), np.zeros((40, 4), bool), np.zeros((40, 4))
        items[:, :n] = np.argsort(generator.random((40, n)), axis=1) + 1
        had[:, :n], far[:, :n] = generator.random((40, n)) < 0.5, generator.random((40, n))
        top = TopItems(items[number], had[number], np.arange(5).astype(str), np.array([0, 9, 4, 3, 2]))
        write_outcomes(run.folder / OUTCOMES_FILE, table, top)
        run.write_distance_sums(far[number])
        groups.append(RunGroup(model, (run,)))
        # The distances to those before add up over the pairs of a list.
        expected.append([had.sum(axis=1) / n, far.sum(axis=1) / (n * (n - 1) / 2)])
    values = iterate_query_values([group.runs[0] for group in groups], ["RepeatShare@9", "IntraListDiversity@9"])
    for (table, found), by_hand in zip(values, expected, strict=True):
        number = table["user"].str[1:].astype(int).to_numpy()
        for of_metric, of_users in zip(found.values(), by_hand, strict=True):
            np.testing.assert_allclose(of_metric, of_users[number])
    rows = compare_groups(groups, ["IntraListDiversity@9", "ItemCoverage@9"], margin=0.9).rows
    assert rows[0].difference.effect == pytest.approx(np.mean(expected[1][1]) - np.mean(expected[0][1]))
    # Two and four items of 201: 100 % more, which is not within 90 %.
    assert (rows[1].first_mean, rows[1].difference.effect) == pytest.approx((2 / 201, 2 / 201))
    assert not rows[1].equivalent


def test_every_column_has_what_its_header_says(make: Maker) -> None:
    """Of the file against the functions of `evaluation`; of the table against the file."""
    sides = [
        RunGroup(one, tuple(make(one, seed, shift=s) for seed in (1, 2, 3))) for one, s in (("Alpha", 0), ("Beta", 9))
    ]
    found = compare_groups(sides, ["NDCG@10", "Recall@20"], margin=0.02)
    table = comparisons_table(found)
    values = [np.stack([run.outcomes().sort_values("user")["rank"].to_numpy() for run in one.runs]) for one in sides]
    user = pd.factorize(sides[0].runs[0].outcomes().sort_values("user")["user"])[0]
    rows = {
        "NDCG@10": [np.where(one <= 10, 1 / np.log2(one + 1), 0.0) for one in values],
        "Recall@20": [(one <= 20).astype(float) for one in values],
    }
    corrected = holm([compare_means(*of_metric, user).p_value for of_metric in rows.values()])
    for (metric, (a, b)), p_holm, numbers, shown in zip(
        rows.items(), corrected, table.frame.to_dict("records"), table.rows, strict=True
    ):
        difference, boot, signs = compare_means(a, b, user), bootstrap_difference(a, b, user), sign_test(a, b, user)
        relative, size = relative_difference(a, b, user), effect_size(a, b, user)
        assert relative is not None
        detectable = difference.detectable / a.mean()
        expected = {
            **{"A": "Alpha", "B": "Beta", "metric": metric, "mean A": a.mean(), "mean B": b.mean()},
            **{"B - A": difference.effect, "B - A low": difference.low, "B - A high": difference.high},
            **{"standard error": difference.standard_error, "degrees of freedom": difference.degrees_of_freedom},
            **{"bootstrap low": boot.low, "bootstrap high": boot.high},
            **{"relative": relative.mean, "relative low": relative.low, "relative high": relative.high},
            **{"d_z": size.mean, "d_z low": size.low, "d_z high": size.high},
            **{"p": difference.p_value, "p (Holm)": p_holm, "p (flips)": sign_flip_test(a, b, user)},
            **{"p (signs)": signs.p_value, "detectable": detectable, "margin": 0.02},
            **{"equivalent": is_equivalent(a, b, user, 0.02), "verdict": numbers["verdict"]},
            **{"users better": signs.higher, "users worse": signs.lower},
        }
        assert numbers == {key: pytest.approx(one) if isinstance(one, float) else one for key, one in expected.items()}
        assert len({round(one, 9) for one in expected.values() if isinstance(one, float)}) > 15
        assert {name: cell.text for name, cell in shown.items()} == {
            **{"A": "Alpha", "B": "Beta", "metric": f"{metric} ↑"},
            **{"mean A": f"{a.mean():.4f}", "mean B": f"{b.mean():.4f}"},
            "B - A [95 % interval]": f"{difference.effect:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]",
            **{"relative": f"{100 * relative.mean:+.2f} %", "d_z": f"{size.mean:+.3f}"},
            **{"p": f"{difference.p_value:.4f}", "p (Holm)": f"{p_holm:.4f}"},
            **{"p (flips)": f"{expected['p (flips)']:.4f}", "detectable": f"{100 * detectable:.1f} %"},
            "verdict": numbers["verdict"],
        }


def test_arrows_and_verdicts_are_by_the_metrics_direction() -> None:
    """Of a metric of which less is better, less is better, and the arrow points down."""
    lower = Difference(-0.1, -0.2, -0.05, 0.001, 0.02, 30.0, True)
    row = Comparison("A", "B", "GiniIndex@10", 0.5, 0.4, lower, None, 0.01, False, adjusted_p_value=0.001)
    result = compare_result(row)
    (cells_of_row,) = comparisons_table(result).rows
    assert cells_of_row["metric"].text == "GiniIndex@10 ↓"
    assert cells_of_row["verdict"].text == row.verdict == "better"
    assert replace(row, metric="ItemCoverage@10").verdict == "worse"
    assert replace(row, adjusted_p_value=0.06).verdict == "undecided"
    assert row.detectable == pytest.approx(lower.detectable / 0.5)


def compare_result(row: Comparison) -> Comparisons:
    """Returns a comparison of two groups that have no files."""
    groups: Any = tuple(
        SimpleNamespace(label=one, runs=[SimpleNamespace(code="c")] * 2, by_validation=False) for one in "AB"
    )
    return Comparisons(groups, (row,), 10, 5)


def test_holm_of_a_textbook_example(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """p = .01, .04, .03, .005 become .03, .06, .06, .02."""
    sides = [RunGroup(model, (make(model),)) for model in ("Alpha", "Alphabet")]
    p_values = iter([0.01, 0.04, 0.03, 0.005])

    def with_p(*_: object) -> Difference:
        return compare_means(np.zeros((1, 2)), np.eye(1, 2), np.arange(2)).__class__(
            0, 0, 0, next(p_values), 1, 1, True
        )

    monkeypatch.setattr("mos_recbole.analysis.compare.compare_means", with_p)
    adjusted = [row.adjusted_p_value for row in compare_groups(sides).rows]
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_formats(call, make: Maker) -> None:
    """CSV has all numbers in full and nothing else on standard output; LaTeX is escaped and captioned."""
    for model, seed in product(("Alpha", "Beta_2"), (1, 2)):
        make(model, seed)
    table = cells(call("Alpha", "Beta_2")[1])
    status, out, error = call("Alpha", "Beta_2", "--format", "csv")
    assert status == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [[row["A"], row["B"], f"{row['metric']} ↑", f"{float(row['mean A']):.4f}"] for row in rows] == [
        row[:4] for row in table[1:]
    ]
    assert [f"{float(row['p (Holm)']):.4f}" for row in rows] == [row[9] for row in table[1:]]
    assert all(float(row["relative low"]) <= float(row["relative"]) <= float(row["relative high"]) for row in rows)
    assert all(float(row["users better"]) + float(row["users worse"]) <= 40 for row in rows)
    assert "Holm" in error
    status, out, error = call("Alpha", "Beta_2", "--format=latex")
    assert (status, error) == (0, "")
    assert r"Beta\_2" in out
    assert r"95 \% interval" in out
    before, _, table = out.partition("% Needs \\usepackage{booktabs}.\n")
    assert before.splitlines()[-1].startswith("% p (flips)")
    assert table.startswith("\\begin{tabular}")
    assert "mean A" in call("Alpha", "Beta_2", "--format", "simple")[1]


def test_metrics_are_chosen(call, make: Maker) -> None:
    """Any cut-off, in any case, with = too; one named twice is one comparison."""
    for model, seed in product(("Alpha", "Beta"), (1, 2)):
        make(model, seed)
    status, out, _ = call("Alpha", "Beta", "--metrics", "ndcg@7", "NDCG@7", "GAUC")
    assert status == 0
    assert [row[2] for row in cells(out)[1:]] == ["NDCG@7 ↑", "GAUC ↑"]
    assert "2 comparisons" in out
    status, out, _ = call("Alpha", "Beta", "--metrics=Hit@3")
    assert (status, [row[2] for row in cells(out)[1:]]) == (0, ["Hit@3 ↑"])
    assert "1 comparison of" in out


@pytest.mark.parametrize("rule", ["optimistic", "mean", "pessimistic"])
def test_gauc_is_of_the_mean_rank_of_ties(rule: str, make: Maker) -> None:
    """Whatever the protocol's rule; queries without a rival are left out."""

    def tied(table: pd.DataFrame) -> pd.DataFrame:
        above = {"optimistic": 0, "mean": 2, "pessimistic": 4}[rule]
        table = table.assign(rank=10.0 + above, tied=4)
        table.loc[table["user"] == "u3", ["rank", "tied", "candidates"]] = [1.0, 0, 1]
        return table

    protocol = PROTOCOL | {"tie_rule": rule}
    sides = [RunGroup(model, (make(model, table=tied, protocol=protocol),)) for model in ("Alpha", "Beta")]
    (row,) = compare_groups(sides, ["GAUC"]).rows
    assert row.first_mean == pytest.approx((200 - 12) / 199)
    assert row.difference.effect == 0


def test_one_seed_says_nothing_of_others(call, make: Maker) -> None:
    """The caption names the groups with one seed."""
    for seed in (1, 2):
        make("Alpha", seed)
    make("Beta", 1)
    _, out, _ = call("Alpha", "Beta")
    assert "With one seed, nothing is said of other seeds of Beta: there is no p, and intervals are given" in out
    assert "seeds (Alpha: 2, Beta: 1)" in out
    head, *rows = cells(out)
    for row in rows:
        cell = dict(zip(head, row, strict=True))
        assert {cell[name] for name in ("p", "p (Holm)", "p (flips)", "verdict")} == {"-"}
        assert re.fullmatch(r"[+-]0\.\d{4} \[.*\]", cell["B - A [95 % interval]"])
    assert "null hypothesis" not in out


def test_verdicts(make: Maker) -> None:
    """Better or worse by p; equivalent within a margin that the data bear out; else undecided."""
    sides = [RunGroup(model, tuple(make(model, seed) for seed in (1, 2, 3))) for model in ("Alpha", "Alphabet")]
    (undecided,) = compare_groups(sides, ["GAUC"]).rows
    (within,) = compare_groups(sides, ["GAUC"], margin=0.9).rows
    assert (undecided.verdict, within.verdict) == ("undecided", "equivalent")
    better = RunGroup("Beta", tuple(make("Beta", seed, shift=-15) for seed in (1, 2, 3)))
    assert compare_groups([sides[0], better], ["GAUC"], margin=0.9).rows[0].verdict == "better"
    assert compare_groups([better, sides[0]], ["GAUC"]).rows[0].verdict == "worse"
    quantiles = stats.t.ppf([0.975, 0.8], undecided.difference.degrees_of_freedom)
    detectable = quantiles.sum() * undecided.difference.standard_error / undecided.first_mean
    assert undecided.detectable == pytest.approx(detectable)


@pytest.mark.parametrize("margin", ["0", "-1", "100"])
def test_margins_that_are_none(call, make: Maker, margin: str) -> None:
    for model in ("Alpha", "Beta"):
        make(model)
    assert f"--margin {margin}; expected a percentage above 0" in refusal(call("Alpha", "Beta", f"--margin={margin}"))


# ---------------------------------------------------------------------------------------------------- naming groups


def test_groups_by_folder_and_by_id(call, make: Maker) -> None:
    """A run's folder needs no results folder; an id may be cut to six digits, and the labels tell the runs apart."""
    one, two = make("Alpha", 1, run_id="abcdef0000000001"), make("Alpha", 2, run_id="abcdee0000000002")
    by_folder = call(one.folder, two.folder, "--results", "no-such-folder")
    by_id = call("abcdef", "abcdee00")
    assert by_folder == by_id
    assert [cells(by_id[1])[1][column] for column in (0, 1)] == ["Alpha seed=1", "Alpha seed=2"]
    same = make("Alpha", 1, run_id="0123456789abcdef", device="cuda")
    (row, *_) = cells(call(one.folder, same.folder)[1])[1:]
    assert row[:2] == ["Alpha seed=1 run=abcdef0000000001", "Alpha seed=1 run=0123456789abcdef"]


def test_settings_narrow_a_model(call, make: Maker) -> None:
    """Model:key=value,key=value; numbers as numbers, lists with commas; labels say what differs."""
    for heads, rate, seed in product((2, 4), (0.001, 0.01), (1, 2)):
        make("Alpha", seed, heads=heads, learning_rate=rate, topk=[5, heads])
    status, out, _ = call("Alpha:heads=2,learning_rate=1e-3", "Alpha:heads=4.0,learning_rate=.01")
    assert status == 0
    labels = cells(out)[1][:2]
    assert labels[0].startswith("Alpha heads=2 learning_rate=0.001")
    assert "learning_rate=0.01" in labels[1]
    assert call("Alpha:topk=[5,2],learning_rate=0.01", "Alpha:topk=[5, 4],learning_rate=0.01")[0] == 0
    assert call("Alpha:heads=2,learning_rate=1e-3,seed=1", "Alpha:heads=2,learning_rate=1e-3,seed=2")[0] == 0


def test_results_folders(call, make: Maker, tmp_path: Path) -> None:
    """Several; a run found twice counts once; --dataset narrows."""
    make("Alpha")
    make("Beta", output=tmp_path / "others")
    make("Beta", output=tmp_path / "others", dataset="tiny", protocol_hash="dead")
    status, out, _ = call("Alpha", "Beta", "--results", "results", "others", "results/runs", "--dataset", "toy")
    assert status == 0
    assert "40 queries" in out


def test_best_is_chosen_by_validation(call, make: Maker) -> None:
    """The mean of the validation metric decides, by its direction, on seeds that the configurations share."""
    for heads, seed in product((1, 2, 3), (1, 2)):
        make("Alpha", seed, heads=heads, valid={1: 0.3, 2: 0.6, 3: 0.4}[heads] + 0.25 * (heads == 3 and seed == 1))
    make("Alpha", 3, heads=1, valid=9.0)  # no other has seed 3
    make("Alpha", 3, heads=4, valid=9.0)
    for decay, loss in ((0.1, 2.0), (0.2, 1.0)):
        lower = {"Loss": Metric(value=loss, direction="lower")}
        make("Beta", 1, decay=decay, valid_metric="Loss", valid=lower)
    ambiguous = refusal(call("Alpha", "Beta:decay=0.2"))
    assert "--best" in ambiguous
    status, out, _ = call("Alpha", "Beta", "--best")
    assert status == 0
    assert cells(out)[1][:2] == ["Alpha heads=2", "Beta decay=0.2"]
    assert "Configurations chosen by validation: Alpha heads=2, Beta decay=0.2." in out
    # What is named in full is not chosen.
    assert "chosen by validation: Beta decay=0.2." in call("Alpha:heads=3", "Beta", "--best")[1]


def test_of_several_versions_the_newest_is_chosen_from(call, make: Maker) -> None:
    """Of the code, and of plugins: an older run of a better score is left out, which is said."""
    make("Beta")
    for number, (heads, valid, version) in enumerate([(1, 0.9, "a"), (2, 0.3, "b"), (3, 0.4, "b")]):
        make("Alpha", heads=heads, valid=valid, plugins={"head": version}, finished=f"2026-02-01T00:00:0{number}")
    status, out, error = call("Alpha", "Beta", "--best")
    assert status == 0, error
    assert cells(out)[1][0].startswith("Alpha heads=3")
    assert "left out, because their code differs: 1 of" in error


# ---------------------------------------------------------------------------------------------------- refusals


def test_unknown_names(call, make: Maker, tmp_path: Path) -> None:
    """The nearest names, or what there is instead."""
    make("GRU4RecMoS")
    make("GRU4RecSoftmax", dataset="tiny")
    assert "did you mean GRU4RecMoS" in refusal(call("GRU4RecMos", "GRU4RecSoftmax"))
    assert "none is near (models: GRU4RecMoS, GRU4RecSoftmax;" in refusal(call("Quux", "GRU4RecMoS"))
    assert "'000000000000000f'" in refusal(call("000000000000000f", "GRU4RecMoS"))
    assert "'00000'" in refusal(call("00000", "GRU4RecMoS"))  # too short
    assert "--results" in refusal(call(tmp_path / "results", "GRU4RecMoS"))
    assert "no-such-folder" in refusal(call("A", "B", "--results", "no-such-folder"))
    message = refusal(call("GRU4RecMoS", "GRU4RecSoftmax", "--dataset", "big"))
    assert "'big'" in message
    assert "tiny, toy" in message
    (tmp_path / "empty").mkdir()
    assert "no finished runs in empty" in refusal(call("A", "B", "--results", "empty"))
    folder = next((tmp_path / "results" / "runs").glob("GRU4RecMoS*"))
    assert "a run on toy, not on tiny" in refusal(call(folder, "GRU4RecSoftmax", "--dataset", "tiny"))


def test_ambiguous_names(call, make: Maker) -> None:
    """What to choose from, as it can be typed, and --best."""
    one = make("Alpha", heads=2, run_id="abcdef0000000001")
    make("Alpha", heads=4, run_id="abcdef0000000002")
    make("Alpha", 2, heads=4, code="0.2")
    make("Beta")
    message = refusal(call("Alpha", "Beta"))
    assert "--best" in message
    assert "Alpha:heads=2,code=0.1  (seeds 1)" in message
    assert "Alpha:heads=4,code=0.2  (seeds 2)" in message
    assert call("Alpha:heads=4,code=0.2", "Beta")[0] == 0
    message = refusal(call("abcdef", "Beta"))
    assert str(one.folder.relative_to(Path.cwd())) in message
    assert "abcdef0000000002" in message
    message = refusal(call("Alpha:heads=3", "Beta"))
    assert "no such runs" in message
    assert "Alpha:heads=2" in message
    assert "did you mean heads?" in refusal(call("Alpha:head=3", "Beta"))
    assert "'heads'" in refusal(call("Alpha:heads", "Beta"))


def test_many_configurations_are_not_all_listed(call, make: Maker) -> None:
    """Twenty, and how many more."""
    for heads in range(25):
        make("Alpha", heads=heads)
    message = refusal(call("Alpha", "Alpha:heads=3"))
    assert "heads=19" in message
    assert "heads=20" not in message
    assert "and 5 more" in message


def test_a_model_on_several_data_sets(call, make: Maker) -> None:
    """--dataset is named; --best does not choose between protocols."""
    for model, dataset in product(("Alpha", "Beta"), ("toy", "tiny")):
        make(model, dataset=dataset, protocol_hash=f"of {dataset}")
    for best in ([], ["--best"]):
        message = refusal(call("Alpha", "Beta", *best))
        assert "--dataset" in message
        assert "Alpha:dataset=tiny" in message
        assert "by --best" not in message
    assert call("Alpha", "Beta", "--dataset", "tiny")[0] == 0


@pytest.mark.parametrize(
    ("planned", "best", "left_out"),
    [([], 1, ""), ([1], 0, "1 of 3, 1"), ([2], 1, ""), ([9, 3], 2, "2 of 3, 3"), ([1, 2], 0, "1 of 3, 1")],
    ids=["the seed that most have", "a plan's", "another plan's", "the first that any has", "in the plan's order"],
)
def test_the_best_is_compared_on_one_seed(planned: list[int], best: int, left_out: str) -> None:
    """By seed: without a plan on 2, which all have."""

    def runs(scores: dict[int, float]) -> list[Any]:
        return [
            SimpleNamespace(
                seed=seed, run_id="a", valid_metric="MRR", valid={"MRR": Metric(value=value, direction="higher")}
            )
            for seed, value in scores.items()
        ]

    configurations = [runs({1: 0.9, 2: 0.25}), runs({1: 0.8, 2: 0.3}), runs({2: 0.2, 3: 0.7})]
    chosen, others = best_on_validation("A", configurations, planned)
    assert chosen is configurations[best]
    assert others == left_out.replace(", ", " configurations left out, which have no run with seed ")


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_a_sweep_without_these_runs_has_no_part_in_the_choice(names: tuple[str, str], call, tmp_path: Path) -> None:
    """Whatever the folders are called; two sweeps that begin with different seeds decide by what most have."""
    parts: dict[str, Any] = {part: {} for part in ("search", "stopping", "space", "settings")}
    plan = {"datasets": ["toy"], "metric": "NDCG@10", "mode": "max"}
    results = tmp_path / "results"
    other, own = (Maker(results / name) for name in names)
    for maker, seeds, model in ((other, [7], "Beta"), (own, [1, 2], "Alpha")):
        maker.folder.mkdir(parents=True)
        SweepPlan(name="s", models=[model], seeds=seeds, **plan, **parts).write(maker.folder)
    for seed, dimensions in ((1, (8, 16, 32)), (7, (4, 8, 16, 64))):
        for dimension in dimensions:
            valid, run_id = 0.1 + dimension / 100, f"{seed:08}{dimension:08}"
            own("Alpha", seed, valid=valid, run_id=run_id, embedding_size=dimension)
    other("Beta", 7, run_id=f"{8:016}")
    assert find_run_groups(["Alpha"], [results], best=True)[0].runs[0].settings["embedding_size"] == 32
    SweepPlan(name="s", models=["Alpha"], seeds=[7], **plan, **parts).write(other.folder)
    other("Alpha", 7, valid=0.9, run_id=f"{9:016}", embedding_size=128)
    status, out, error = call("Alpha", "Beta", "--results", results, "--best")
    assert status == 0
    assert "embedding_size=128" in out
    assert "Alpha: 1 of 6 configurations left out, which have no run with seed 7" in error


def test_users_are_better_where_the_metric_is(make: Maker) -> None:
    """With a lower loss, not a higher one."""
    groups = [RunGroup(model, (make(model),)) for model in ("Alpha", "Beta")]
    for group, loss in zip(groups, (2.0, 3.0), strict=True):
        table = group.runs[0].outcomes()
        no_candidate = table["user"].isin([f"u{number}" for number in range(10)])
        table["log_probability"] = np.where(no_candidate, np.nan, -loss)
        table["rank"] = np.where(no_candidate, np.inf, loss)
        table.to_parquet(group.runs[0].folder / OUTCOMES_FILE)
    found = compare_groups(groups, ["Loss", "MRR@10"])
    rows = comparisons_table(found).frame.set_index("metric")
    assert rows.loc["Loss", ["users better", "users worse"]].tolist() == [0, 30]
    assert rows.loc["MRR@10", ["users better", "users worse"]].tolist() == [0, 30]
    assert found.n_undefined == {"Loss": 10}
    assert "Loss: without 10 of the queries, for which not all have it." in comparisons_table(found).caption


def test_a_model_without_a_metric_takes_it_from_no_other(make: Maker) -> None:
    """RecBole's own classes have no loss; the others are compared in it."""
    groups = [RunGroup(model, (make(model),)) for model in ("Alpha", "Beta", "Pop")]
    for group, log_probability in zip(groups, (-2.0, -3.0, np.nan), strict=True):
        table = group.runs[0].outcomes()
        table["log_probability"] = log_probability - 0.01 * table["rank"]
        table.to_parquet(group.runs[0].folder / OUTCOMES_FILE)
    found = compare_groups(groups, ["Loss", "Recall@10"])
    pairs = [(row.first, row.second, row.metric) for row in found.rows]
    assert [pair for pair in pairs if pair[2] == "Loss"] == [("Alpha", "Beta", "Loss")]
    assert len(pairs) == 4
    assert found.undefined == {"Loss": ("Pop",)}
    alone = compare_groups(groups[:2], ["Loss"]).rows[0]
    assert alone.difference == next(row for row in found.rows if row.metric == "Loss").difference
    assert "Without Loss, and so left out there: Pop." in comparisons_table(found).caption
    with pytest.raises(InputError, match="Loss is defined for none of 40 queries of Beta and Pop"):
        compare_groups(groups[1:], ["Loss"])


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_of_equal_scores_the_order_decides_nothing(order: tuple[int, ...]) -> None:
    """The one with more seeds wins, as the winner of a sweep has; then the smaller run id."""
    scores: list[dict[int, float]] = [{1: 0.5}, {1: 0.5, 2: 0.1}, {1: 0.5, 2: 0.9}]
    run_ids = [{1: "a"}, {1: "c", 2: "d"}, {1: "b", 2: "e"}]
    _, ranking = rank_by_validation([scores[one] for one in order], [run_ids[one] for one in order], [1], "max")
    assert [order[index] for index, _ in ranking] == [2, 1, 0]


def test_best_needs_common_seeds_and_one_metric(call, make: Maker) -> None:
    """A choice on different seeds, or by different metrics, is none."""
    make("Beta")
    for seed in (1, 2):
        make("Alpha", seed, heads=seed)
    assert "no two of these share" in refusal(call("Alpha", "Beta", "--best"))
    other = {"MRR@10": Metric(value=0.1, direction="higher")}
    make("Alpha", 1, heads=3, valid_metric="MRR@10", valid=other)
    message = refusal(call("Alpha", "Beta", "--best"))
    assert "MRR@10 and NDCG@10" in message


def test_a_seed_twice_and_several_configurations_on_a_side(call, make: Maker) -> None:
    """One seed is one observation; the runs to choose from are listed."""
    runs = [make("Alpha", 1), make("Alpha", 1, device="cuda"), make("Alpha", 2)]
    make("Beta")
    message = refusal(call("Alpha", "Beta"))
    assert "seed 1 appears 2 times" in message
    assert all((run.run_id in message) == (run.seed == 1) for run in runs)
    with pytest.raises(InputError, match="2 configurations"):
        RunGroup("mixed", (make("Alpha", 5, heads=1), make("Alpha", 6, heads=2)))
    with pytest.raises(InputError, match="no runs"):
        RunGroup("none", ())


def test_a_run_in_two_groups(call, make: Maker) -> None:
    """A model against itself, or against one of its runs."""
    run = make("Alpha", 1)
    make("Alpha", 2)
    assert run.run_id in refusal(call("Alpha", "Alpha"))
    assert "in two groups" in refusal(call("Alpha", run.run_id))


def test_one_side_is_no_comparison(call, make: Maker) -> None:
    """A second one is asked for."""
    make("Alpha")
    assert "two or more groups" in refusal(call("Alpha"))


def test_different_protocols(call, make: Maker) -> None:
    """Said in words: the data set, each key of the protocol, the data's fingerprint and counts; nothing that agrees."""
    make("Alpha")
    make("Beta", protocol_hash="1", protocol=PROTOCOL | {"filter_seen": True})
    make("Gamma", protocol_hash="2", dataset="tiny", data=DATA | {"users": 39, "fingerprint": "cafe"})
    make("Delta", protocol_hash="3", protocol=PROTOCOL | {"split": {"name": "temporal"}, "tie_rule": "optimistic"})
    message = refusal(call("Alpha", "Beta"))
    assert message.splitlines()[1:] == ["Alpha and Beta: filter_seen: False and True"]
    message = refusal(call("Alpha", "Beta", "Gamma", "Delta"))
    assert message.splitlines()[2:] == [
        "Alpha and Gamma: data set: toy and tiny; data users: 40 and 39; data fingerprint: f00d and cafe",
        "Alpha and Delta: split name: leave_one_out and temporal; tie_rule: mean and optimistic",
    ]


def test_different_queries(call, make: Maker) -> None:
    """One protocol hash, and yet other users, positions or targets, or fewer of them: refused."""
    make("Alpha")
    others = {
        "Fewer": lambda table: table[table["user"] != "u7"],
        "Targets": lambda table: table.assign(target=table["target"].replace("i7", "i8")),
        "Positions": lambda table: table.assign(position=6),
    }
    for model, change in others.items():
        run = make(model, table=change)
        message = refusal(call("Alpha", model))
        assert "other queries" in message
        assert str(run.folder.name) in message


def test_metrics_that_ranks_do_not_decide(call, make: Maker) -> None:
    """Those of the recommended lists, and unknown ones."""
    make("Alpha")
    make("Beta")
    message = refusal(call("Alpha", "Beta", "--metrics", "NDCG@10", "ItemCoverage@10", "giniindex@5"))
    assert "ItemCoverage@10, GiniIndex@5" in message
    assert "'Recal@10'" in refusal(call("Alpha", "Beta", "--metrics", "Recal@10"))
    assert "Recall@10" in refusal(call("Alpha", "Beta", "--metrics", "Recall"))


def test_missing_files_and_one_user(call, make: Maker) -> None:
    """Outcomes that are gone are named; a test over one user is refused."""
    make("Alpha", users=1)
    run = make("Beta", users=1)
    assert "two users" in refusal(call("Alpha", "Beta"))
    (run.folder / OUTCOMES_FILE).unlink()
    assert str(OUTCOMES_FILE) in refusal(call("Alpha", "Beta"))


def test_help(call) -> None:
    """It has examples."""
    status, out, error = call("--help")
    assert (status, error) == (0, "")
    assert "mos-recbole compare GRU4RecSoftmax GRU4RecMoS" in out


def test_settings_are_no_arguments_of_compare(call) -> None:
    """As with every command but run."""
    assert "--learning_rate=0.1" in refusal(call("A", "B", "--learning_rate=0.1"))


def test_the_function_takes_names_too(make: Maker) -> None:
    """What the command does, from Python."""
    make("Alpha")
    make("Beta")
    result = compare_groups(find_run_groups(["Alpha", "Beta"], [make.folder]), ["NDCG@10"])
    assert len(result.rows) == 1
    assert result.n_users == 40
