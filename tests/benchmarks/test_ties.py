"""The effect of the order of ties, against plain loops, on models that were trained on it."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fabricated import Maker
from tiny_data import write_inter

from mos_recbole import run_experiment
from mos_recbole.results import RunResult, find_records

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "studies"))
from ties import TieEffects, main, tie_effects, ties_table

ORDERS = ("file", "random", "reverse")
SETTINGS = {"hidden_size": 8, "embedding_size": 8, "epochs": 2, "split": "temporal", "test_share": 0.3}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[RunResult]:
    """Two seeds with ties in each order: users act three items at a time, which the file has by number."""
    generator = np.random.default_rng(5)
    rows = [
        (f"u{user}", f"i{item}", 10 * step + user % 3)
        for user in range(25)
        for step in range(int(generator.integers(3, 9)))
        for item in sorted(generator.choice(12, 3, replace=generator.random() < 0.3).tolist())
    ]
    folder = tmp_path_factory.mktemp("ties")
    data = write_inter(folder, "ties", sorted(rows, key=lambda row: (row[0], int(row[1][1:]))))
    return [
        run_experiment("GRU4RecSoftmax", str(data), output=folder, seed=seed, tie_order=order, **SETTINGS)
        for order in ORDERS
        for seed in (1, 2)
    ]


def hits(record: RunResult) -> dict[tuple[str, str, int], float]:
    """Returns whether each target is among the first 3, by user, target and which of the user's equal targets it is."""
    found: dict[tuple[str, str, int], float] = {}
    seen: Counter = Counter()
    for row in record.outcomes().sort_values(["user", "position"]).itertuples():
        seen[row.user, row.target] += 1
        found[row.user, row.target, seen[row.user, row.target]] = float(row.rank <= 3)
    return found


def test_means_and_differences_equal_plain_loops(records: list[RunResult]) -> None:
    """Of all queries, of tied and others, and the difference from the file's order on the targets in common."""
    (effects,) = tie_effects(records, "Recall@3")
    assert isinstance(effects, TieEffects)
    assert [row.order for row in effects.rows] == list(ORDERS)
    reference = [hits(record) for record in records[:2]]
    for number, row in enumerate(effects.rows):
        runs = records[2 * number : 2 * number + 2]
        tables = [run.outcomes() for run in runs]
        assert row.mean.mean == pytest.approx(np.mean([(table["rank"] <= 3).mean() for table in tables]))
        assert row.tied is not None
        tied = [(table.loc[table["time_gap"] == 0, "rank"] <= 3).mean() for table in tables]
        assert row.tied.mean == pytest.approx(np.mean(tied))
        if number == 0:
            assert row.difference is None
            assert row.adjusted_p_value is None
            continue
        ours = [hits(run) for run in runs]
        common = [key for key in ours[0] if key in reference[0]]
        assert 0 < len(common) < len(ours[0])  # the first of a user's side is another one
        assert row.n_common == len(common)
        means = [np.mean([one[key] for one in side for key in common]) for side in (reference, ours)]
        assert row.difference is not None
        assert row.difference.effect == pytest.approx(means[1] - means[0])
        assert row.adjusted_p_value is not None
        assert row.difference.p_value <= row.adjusted_p_value <= 2 * row.difference.p_value + 1e-12


def test_table_and_caption(records: list[RunResult]) -> None:
    (effects,) = tie_effects(records, "Recall@3")
    table = ties_table(effects)
    lines = table.grid("github").splitlines()
    assert len(lines) == 2 + 3
    assert [line.split("|")[2].strip() for line in lines[2:]] == list(ORDERS)
    share = records[0].data["tied_test_share"]
    assert f"{share:.1%} of the test's targets" in table.caption
    assert "null hypothesis" in table.caption
    frame = table.frame
    assert frame["Recall@3"].tolist() == [row.mean.mean for row in effects.rows]
    assert frame["p"].isna().tolist() == [True, False, False]


def test_runs_that_are_no_tie_study_give_nothing(records: list[RunResult]) -> None:
    """One order alone, or orders of different models' settings."""
    assert tie_effects(records[:2]) == []
    assert tie_effects(records[2:]) == []  # nothing to compare with
    assert tie_effects([]) == []


@pytest.mark.slow
def test_a_model_can_learn_the_order_of_the_file(records: list[RunResult], tmp_path: Path) -> None:
    """Where tied items always ascend, the file's order is easier to predict than the random one."""
    generator = np.random.default_rng(8)
    rows = []
    for user in range(150):
        for step in range(8):
            first = int(generator.integers(20))
            rows += [(f"u{user}", f"i{first + place}", 100 * step) for place in range(3)]
    data = write_inter(tmp_path, "chains", rows)
    settings = {"hidden_size": 16, "embedding_size": 16, "epochs": 12, "train_batch_size": 128, "learning_rate": 0.01}
    settings |= {"lr_schedule": "constant", "warmup": 0.0}
    found = [
        run_experiment("GRU4RecSoftmax", str(data), output=tmp_path, seed=1, tie_order=order, **settings)
        for order in ("file", "random")
    ]
    (effects,) = tie_effects(found, "Recall@1")
    in_file, at_random = effects.rows
    # Of the last three of a user the last one is predicted: certain in the file's order, one of several at random.
    assert in_file.mean.mean > 0.9
    assert at_random.mean.mean < 0.7


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "results")


def in_orders(make: Maker, seeds: tuple[int, ...] = (1, 2), **changes: Any) -> None:
    """Writes runs in the file's order and in a random one."""
    for order, protocol_hash in (("file", "f" * 10), ("random", "a" * 10)):
        for seed in seeds:
            make(seed=seed, tie_order=order, protocol_hash=protocol_hash, **changes)


def test_window_lengths_share_a_table(make: Maker) -> None:
    """They are of one protocol, and their targets the same; each is compared with itself in the file's order."""
    for length in (10, 20):
        in_orders(make, MAX_ITEM_LIST_LENGTH=length)
    (effects,) = tie_effects(find_records(make.folder))
    assert [row.order for row in effects.rows] == ["file", "random"] * 2
    assert {row.label for row in effects.rows} == {f"GRU4RecSoftmax MAX_ITEM_LIST_LENGTH={n}" for n in (10, 20)}


def test_data_of_one_name_that_changed_are_apart(make: Maker) -> None:
    """An order is compared with the file's order of the same data."""
    in_orders(make, data={"users": 60, "tied_share": 0.3})
    for order, protocol_hash in (("file", "e" * 10), ("random", "b" * 10)):
        data = {"users": 50, "tied_share": 0.4}
        make(tie_order=order, protocol_hash=protocol_hash, data=data, change=lambda table: table.head(200))
    first, second = tie_effects(find_records(make.folder))
    assert (first.tied_share, second.tied_share) == (0.3, 0.4)
    assert {row.n_common for row in second.rows if row.order == "random"} == {200}


@pytest.mark.parametrize("metric", ["Recall@100", "GAUC"])
def test_without_two_users_in_common_there_is_no_test(make: Maker, metric: str) -> None:
    """One user, of whom one query has no rival; the means are there, the difference is not."""

    def one_user(table: pd.DataFrame) -> pd.DataFrame:
        alone = np.arange(len(table)) == 0
        table = table.assign(user="u", position=np.arange(len(table)))
        return table.assign(candidates=np.where(alone, 1, 400), rank=np.where(alone, 1, table["rank"]))

    in_orders(make, change=one_user)
    (effects,) = tie_effects(find_records(make.folder), metric)
    assert [row.difference for row in effects.rows] == [None, None]
    assert all(np.isfinite(row.mean.mean) for row in effects.rows)


def test_every_row_of_the_table_has_every_column(make: Maker) -> None:
    """Of the file's own order too, of which there is no difference: the page sorts by all columns."""
    in_orders(make)
    shown = ties_table(tie_effects(find_records(make.folder))[0])
    assert {len(row) for row in shown.rows} == {len(shown.header)}


def test_the_script_prints_a_table(make: Maker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    in_orders(make)
    monkeypatch.setattr("sys.argv", ["ties.py", str(make.folder)])
    assert main() == 0
    expected = ties_table(tie_effects(find_records(make.folder))[0]).text()
    assert capsys.readouterr().out == f"{expected}\n"


def test_the_script_says_what_is_missing(
    make: Maker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    make(tie_order="file")
    monkeypatch.setattr("sys.argv", ["ties.py", str(make.folder)])
    assert main() == 2
    assert "no configuration has runs with tie_order: file and with another order" in capsys.readouterr().err
