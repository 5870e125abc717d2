"""Runs without models and names: the same answers, query by query."""

from dataclasses import astuple
from pathlib import Path

import pandas as pd
import pytest
from fabricated import MOS, SOFTMAX, Maker

from mos_recbole.analysis import compare_groups, find_run_groups
from mos_recbole.errors import InputError
from mos_recbole.results import OUTCOMES_FILE, RUNS_FOLDER, RunResult, keep_run, read_record, run_files_sha256

ANSWERS = ["rank", "tied", "candidates", "log_probability"]


@pytest.fixture
def runs(tmp_path: Path) -> list[RunResult]:
    """Two models' runs, each with its rows in another order, and with checksums."""
    make = Maker(tmp_path / "work")
    made = []
    for number, model in enumerate((SOFTMAX, MOS)):
        run = make(model, change=lambda table, number=number: table.sample(frac=1, random_state=number))  # type: ignore[misc]
        sealed = run.model_copy(update={"files": run_files_sha256(run.folder)})
        sealed.write(run.folder)
        (run.folder / "best.pt").touch()
        made.append(sealed)
    return made


def kept(run: RunResult, tmp_path: Path) -> RunResult:
    folder = tmp_path / "kept" / RUNS_FOLDER / run.folder.name
    keep_run(run, folder)
    return read_record(folder)


def test_answers_stay_and_names_do_not(runs: list[RunResult], tmp_path: Path) -> None:
    """Users have numbers in the order of their names, positions begin at 0; the model stays behind."""
    for run in runs:
        theirs = run.outcomes().sort_values(["user", "position"], ignore_index=True)
        ours = kept(run, tmp_path).outcomes()
        pd.testing.assert_frame_equal(ours[ANSWERS], theirs[ANSWERS])
        number = {user: str(number) for number, user in enumerate(sorted(set(theirs["user"])))}
        assert ours["user"].tolist() == theirs["user"].map(number).tolist()
        assert ours["position"].tolist() == [0, 1, 2, 3] * len(number)
        assert set(ours["target"]) == {""}
        assert set(ours) == {"user", "position", "target", *ANSWERS}
        folder = tmp_path / "kept" / RUNS_FOLDER / run.folder.name
        assert {path.name for path in folder.iterdir()} == {"record.json", "outcomes.parquet", "training_log.csv"}


def test_comparisons_are_the_same(runs: list[RunResult], tmp_path: Path) -> None:
    copies = [kept(run, tmp_path) for run in runs]
    of_all, of_kept = (
        compare_groups(find_run_groups([SOFTMAX, MOS], [place]), ["NDCG@10", "Loss"]).rows
        for place in (tmp_path / "work", tmp_path / "kept")
    )
    for one, other in zip(of_all, of_kept, strict=True):
        assert (one.first_mean, one.second_mean) == pytest.approx((other.first_mean, other.second_mean))
        assert astuple(one.difference) == pytest.approx(astuple(other.difference))
    assert [run.run_id for run in copies] == [run.run_id for run in runs]


def test_kept_files_have_checksums(runs: list[RunResult], tmp_path: Path) -> None:
    copy = kept(runs[0], tmp_path)
    copy.outcomes().assign(rank=1.0).to_parquet(copy.folder / OUTCOMES_FILE, index=False)
    with pytest.raises(InputError, match=OUTCOMES_FILE):
        copy.outcomes()


def test_a_column_that_old_results_lack(tmp_path: Path) -> None:
    run = Maker(tmp_path / "work")(change=lambda table: table.drop(columns="log_probability"))
    assert "log_probability" not in kept(run, tmp_path).outcomes()
