"""The benchmark's script: its files, its steps, and the page over all data sets, without any training."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fabricated import MOS, PROTOCOL, SOFTMAX, Maker
from scripts import load_script

from mos_recbole.analysis import compare_groups, find_run_groups, read_reference, swept_columns
from mos_recbole.errors import InputError
from mos_recbole.experiment import load_settings
from mos_recbole.results import RunResult, SweepPlan, Trial, find_records
from mos_recbole.sweep import plan_sweep

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
DATASETS = ("ml-100k", "ml-1m", "beauty", "sports", "diginetica", "ml-25m")
# Model, width, seed and validation; the second configuration of the softmax lost.
RUNS = [(SOFTMAX, 8, 1, 0.4), (SOFTMAX, 16, 1, 0.3), (SOFTMAX, 8, 2, 0.4), (MOS, 8, 1, 0.5), (MOS, 8, 2, 0.5)]


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        yield load_script("benchmark.py", patch)


class Commands:
    """Stands for the program: a sweep writes as many runs as it may before it is killed."""

    def __init__(self, output: Path) -> None:
        self.output, self.most, self.given = output, 100, list[list[str]]()

    def __call__(self, command: list[str]) -> int:
        self.given.append(command)
        if command[0] != "sweep":
            return 0
        dataset = Path(command[command.index("--dataset") + 1]).name
        make = Maker(Path(command[command.index("--output") + 1]) / "models")
        runs = [*RUNS, *([("Pop", None, 1, 0.2)] if dataset == "beauty" else [])]
        for number, (model, width, seed, valid) in enumerate(runs):
            run_id = f"{dataset}-{number}"
            if list(make.folder.glob(f"runs/*-{run_id}")):
                continue
            if not self.most:
                return 130
            self.most -= 1
            self._run(make, dataset, run_id, model, width, seed, valid)
        return 0

    def _run(self, make: Maker, dataset: str, run_id: str, model: str, *others: object) -> RunResult:
        width, seed, valid = others
        shift = 40 if model == MOS else 0
        return make(
            *(model, width, seed),
            **{"valid": valid, "run_id": run_id, "finished": "2026-01-02T03:04:05+00:00", "dataset": dataset},
            **{"train_seconds": 10.0 + shift, "protocol": PROTOCOL, "train_mode": "all_positions"},
            change=lambda table: table.assign(rank=np.maximum(1, table["rank"] - shift)),
        )


@pytest.fixture
def call(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, Commands]]:
    """Returns a function (name of the output, arguments, most=...) -> exit status and what was called.

    The searches of an output "out" are in "out-work".
    """
    (tmp_path / "data" / "beauty").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def run(output: str, *arguments: str, most: int = 100) -> tuple[int, Commands]:
        commands = Commands(tmp_path / output)
        commands.most = most
        monkeypatch.setattr(benchmark, "mos_recbole", commands)
        given = ["benchmark.py", "--data-path", "data", "--work", f"{output}-work", "--output", output, *arguments]
        monkeypatch.setattr(sys, "argv", given)
        return benchmark.main(), commands

    return run


@pytest.mark.parametrize("name", ["models", "recbole"])
def test_the_files_of_models_can_be_run(name: str) -> None:
    """With one configuration of each model; all models are tuned with the same budget."""
    changes = {"search": {"samples": 1}, "resources": {"gpus_per_trial": 0.0}}
    changes |= {"config": [str(CONFIGS / "benchmark" / "ml-100k.yaml")]}  # type: ignore[dict-item]
    planner = plan_sweep(CONFIGS / "benchmark" / f"{name}.yaml", changes)
    trials = planner.preview()
    assert [one.trial.model for one in trials] == planner.sweep.models
    assert planner.sweep.only_best_again
    assert planner.sweep.seeds == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("dataset", DATASETS)
def test_protocols_are_those_of_published_figures(dataset: str) -> None:
    """Of each data set those of at least one publication, but for RecBole's candidates on ml-100k."""
    settings = load_settings("SASRecSoftmax", dataset, [CONFIGS / "benchmark" / f"{dataset}.yaml"])
    known = [read_reference(path) for path in (CONFIGS / "references").glob("*.yaml")]
    published = [one.protocol for one in known if one.dataset == dataset]
    told = {"filter_seen"} if dataset == "ml-100k" else set()
    assert any(
        all(
            settings.values.get(key) == value
            for key, value in one.settings.items()
            if value is not None and key not in told
        )
        and settings.values["split"] == one.split["name"]
        for one in published
    )


@pytest.mark.parametrize("argument", ["--samples=3", "--seeds=1", "--recbole", "--model=Pop", "--epochs=1"])
def test_what_is_for_searches_is_refused_where_none_is_made(
    argument: str, call: Callable[..., tuple[int, Commands]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call("out", "--finished", argument)
    assert "--finished shows what there is; --" in capsys.readouterr().err


def test_every_step_is_a_command(call: Callable[..., tuple[int, Commands]], capsys: pytest.CaptureFixture[str]) -> None:
    """Of the data sets that are there; sweeps with the protocol and the budget, reports with published figures."""
    status, commands = call("out", "--recbole", "--samples", "3", "--seeds", "1", "2", "--epochs=1", "--dry-run")
    assert status == 0
    assert [command[0] for command in commands.given] == ["sweep"] * 4
    assert all("--dry-run" in command and "--epochs=1" in command for command in commands.given)
    models, recbole = commands.given[2:]
    assert [Path(command[1]).name for command in (models, recbole)] == ["models.yaml", "recbole.yaml"]
    assert models[models.index("--config") + 1] == str(CONFIGS / "benchmark" / "beauty.yaml")
    assert models[models.index("--dataset") + 1] == "data/beauty"
    assert models[models.index("--samples") + 1] == "3"
    assert models[models.index("--seeds") + 1 :][:2] == ["1", "2"]
    assert (
        "Left out, since there is no such folder in data: ml-1m, sports, diginetica, ml-25m" in capsys.readouterr().err
    )

    _, commands = call("out", "--dataset", "beauty")
    report = commands.given[-1]
    named = [Path(one).stem for one in report if one.endswith(".yaml")]
    assert named == ["s3-rec-rerun-beauty", "time-to-split-beauty"]
    with pytest.raises(SystemExit):
        call("out", "--dataset", "sports")
    assert "no folder sports in data;" in capsys.readouterr().err


def test_killed_twice_it_ends_with_the_same_tables(call: Callable[..., tuple[int, Commands]], tmp_path: Path) -> None:
    """In the sweep of the first data set, and in that of the second; nothing is run twice."""
    assert call("quiet")[0] == 0
    statuses = [call("killed", most=most)[0] for most in (2, 6, 100)]
    assert statuses == [130, 130, 0]
    files = sorted(path.relative_to(tmp_path / "quiet") for path in (tmp_path / "quiet").glob("[tf]*/all/*"))
    assert {path.stem for path in files} == {"best", "ranks", "costs", "published", "differences", "metrics"}
    assert len(files) == 6 * 3 + 2 * 2
    for path in files:
        assert (tmp_path / "quiet" / path).read_bytes() == (tmp_path / "killed" / path).read_bytes()
    assert call("killed", "--finished")[1].given[0][0] == "report"


def test_the_page_over_all_data_sets(call: Callable[..., tuple[int, Commands]], tmp_path: Path) -> None:
    """Validation chose; ranks are of models that all data sets have; a star where nothing is as good for as little."""
    call("out")
    tables = {path.stem: pd.read_csv(path) for path in (tmp_path / "out" / "tables" / "all").glob("*.csv")}
    best = tables["best"].set_index(["dataset", "model"])
    assert len(best) == 5
    assert best.loc[("beauty", SOFTMAX), "seeds"] == 2
    assert best.loc[("beauty", MOS), "trained on"] == "whole windows"
    assert best.loc[("beauty", "Pop"), "trained on"] == "RecBole's own"
    assert best.loc[("beauty", MOS), "NDCG@10"] > best.loc[("beauty", SOFTMAX), "NDCG@10"]
    assert list(tables["ranks"]["model"]) == [MOS, SOFTMAX]
    assert list(tables["ranks"]["mean rank"]) == [1.0, 2.0]
    fronts = tables["costs"].set_index(["dataset", "model"])["front"]
    assert fronts["ml-100k"].all()
    assert fronts["beauty"].to_dict() == {MOS: True, SOFTMAX: True, "Pop": False}
    assert len(tables["metrics"]) == 5 * 4
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "ml-100k lacks Pop." in page
    assert "(without Pop)" in page
    # The command reads what this page was made of.
    assert "--finished --output out</code>" in page


def test_kept_runs_are_enough_for_the_page(call: Callable[..., tuple[int, Commands]], tmp_path: Path) -> None:
    """Only the chosen configurations' are kept, without the data's names; the searches may go."""
    call("out")
    tables = {path: path.read_bytes() for path in (tmp_path / "out" / "tables" / "all").iterdir()}
    kept = find_records(tmp_path / "out" / "beauty")
    assert sorted((run.model, run.seed) for run in kept) == sorted(
        [(SOFTMAX, 1), (SOFTMAX, 2), (MOS, 1), (MOS, 2), ("Pop", 1)]
    )
    assert {run.settings["embedding_size"] for run in kept if run.model != "Pop"} == {8}
    (original,) = [run for run in find_records(tmp_path / "out-work" / "beauty") if run.run_id == kept[0].run_id]
    assert set(original.outcomes()["user"]).isdisjoint(kept[0].outcomes()["user"])
    assert set(kept[0].outcomes()["target"]) == {""}
    shutil.rmtree(tmp_path / "out-work")
    assert call("out", "--finished")[1].given == []
    assert tables == {path: path.read_bytes() for path in (tmp_path / "out" / "tables" / "all").iterdir()}


def test_searches_of_different_times_join(call: Callable[..., tuple[int, Commands]], tmp_path: Path) -> None:
    """What is searched anew takes the place of the model's runs; the others stay."""
    call("out", "--dataset", "ml-100k")
    shutil.rmtree(tmp_path / "out-work")
    make = Maker(tmp_path / "out-work" / "ml-100k" / "models")
    for seed in (1, 2, 3):
        changes = {"dataset": "ml-100k", "protocol": PROTOCOL, "code": "later"}
        make(MOS, 16, seed, run_id=f"new-{seed}", finished="2026-02-02T03:04:05+00:00", **changes)
    call("out", "--finished")
    best = pd.read_csv(tmp_path / "out" / "tables" / "all" / "best.csv").set_index("model")
    assert dict(best["seeds"]) == {MOS: 3, SOFTMAX: 2}
    assert {run.run_id for run in find_records(tmp_path / "out" / "ml-100k") if run.model == MOS} == {
        "new-1",
        "new-2",
        "new-3",
    }
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Computed by different code" in page


def test_nothing_is_replaced_by_less(
    benchmark: ModuleType,
    call: Callable[..., tuple[int, Commands]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Runs of more seeds stay, and newer ones; and all do where a file of the new ones is broken."""
    call("out", "--dataset", "ml-100k")
    runs = tmp_path / "out" / "ml-100k" / "runs"
    before = {path.name for path in runs.iterdir()}
    make = Maker(tmp_path / "search" / "models")
    later = {"dataset": "ml-100k", "protocol": PROTOCOL, "finished": "2026-02-02T03:04:05+00:00"}
    one = make(MOS, 16, 1, run_id="a1", **later)
    (line,) = benchmark.keep_chosen(tmp_path / "search", runs.parent)
    assert f"the runs of {MOS} stay, since they are of more seeds than those in {tmp_path / 'search'}" in line
    two = make(MOS, 16, 2, run_id="a2", **later | {"finished": "2026-02-03T03:04:05+00:00"})
    outcomes = (two.folder / "outcomes.parquet").read_bytes()
    (two.folder / "outcomes.parquet").write_bytes(outcomes[:50])
    with pytest.raises(InputError, match=re.escape(str(two.folder))):
        benchmark.keep_chosen(tmp_path / "search", runs.parent)
    assert {path.name for path in runs.iterdir()} == before | {one.folder.name}
    (two.folder / "outcomes.parquet").write_bytes(outcomes)
    log = (two.folder / "training_log.csv").rename(tmp_path / "log.csv")
    with pytest.raises(InputError, match=r"training_log\.csv: No such file"):
        benchmark.keep_chosen(tmp_path / "search", runs.parent)
    log.rename(two.folder / "training_log.csv")
    assert benchmark.keep_chosen(tmp_path / "search", runs.parent) == []
    others = {run.folder.name for run in find_records(runs.parent) if run.model != MOS}
    ours = {one.folder.name, two.folder.name}
    assert {path.name for path in runs.iterdir()} == others | ours
    capsys.readouterr()
    assert call("out", "--finished")[0] == 0
    assert f"the runs of {MOS} stay, since they are newer than those in out-work/ml-100k" in capsys.readouterr().err
    assert {path.name for path in runs.iterdir()} == others | ours


def test_an_unfinished_search_has_not_chosen(benchmark: ModuleType, tmp_path: Path) -> None:
    """Of its model nothing is kept; others are. A trial that failed ends it too."""
    make = Maker(tmp_path / "search" / "models")
    for model in (SOFTMAX, MOS):
        make(model, 8, 1, dataset="ml-100k", protocol=PROTOCOL)
    plan: dict[str, Any] = {"models": [SOFTMAX, MOS], "datasets": ["ml-100k"], "seeds": [1], "metric": "Recall@100"}
    plan |= {part: {} for part in ("search", "stopping", "space", "settings")}
    SweepPlan(name="models", mode="max", **plan).write(make.folder)
    trial = Trial(number=1, model=MOS, dataset="ml-100k", seed=1, parameters={}, run="run-abcdef")
    trial.write(make.folder)
    (make.folder / "trials.csv").write_text(f"model,seed,size,status\n{MOS},1,8,\n{SOFTMAX},1,8,\n")
    other = trial.model_copy(update={"model": SOFTMAX, "run": "run-fedcba"})
    other.write(make.folder)
    assert len(benchmark.keep_chosen(tmp_path / "search", tmp_path / "kept")) == 2
    assert not (tmp_path / "kept").exists()
    other.path(make.folder).unlink()
    (line,) = benchmark.keep_chosen(tmp_path / "search", tmp_path / "kept")
    assert line.startswith(f"{tmp_path / 'search'}: the search of {MOS} has not ended, so that none of its runs is ")
    assert "1 trials are to be done" in line
    assert line.endswith(f"remove the files, such as {trial.path(make.folder)}")
    assert {run.model for run in find_records(tmp_path / "kept")} == {SOFTMAX}
    trial.model_copy(update={"ended": "failed"}).write(make.folder)
    assert benchmark.keep_chosen(tmp_path / "search", tmp_path / "kept") == []
    assert {run.model for run in find_records(tmp_path / "kept")} == {SOFTMAX, MOS}


def test_remains_of_an_interruption_go(call: Callable[..., tuple[int, Commands]], tmp_path: Path) -> None:
    """A run without its record was being written, or removed."""
    call("out", "--dataset", "ml-100k")
    runs = tmp_path / "out" / "ml-100k" / "runs"
    half = shutil.copytree(next(runs.iterdir()), runs / f"{SOFTMAX}-ml-100k-seed9-0123456789abcdef")
    (half / "record.json").unlink()
    call("out", "--finished")
    assert not half.exists()
    assert "unfinished" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_searches_and_results_have_their_own_folders(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else runs of the search that were not chosen would be removed."""
    monkeypatch.chdir(tmp_path)
    for work, output in (("a", "a"), ("a/b", "a"), ("a", "./a/b")):
        monkeypatch.setattr(sys, "argv", ["benchmark.py", "--work", work, "--output", output])
        with pytest.raises(SystemExit):
            benchmark.main()
        assert "--work and --output are one in the other" in capsys.readouterr().err


def test_the_page_has_all_data_sets_whatever_was_searched(
    call: Callable[..., tuple[int, Commands]], tmp_path: Path
) -> None:
    call("out")
    page = (tmp_path / "out" / "report.html").read_bytes()
    call("out", "--dataset", "beauty", "--finished")
    assert (tmp_path / "out" / "report.html").read_bytes() == page


def test_trials_of_different_searches_join(benchmark: ModuleType, tmp_path: Path) -> None:
    """Those of a model that is searched again are replaced, without those of models that have no runs yet.

    No number changes on the way.
    """
    first, again, kept = (tmp_path / name for name in ("first.csv", "again.csv", "kept.csv"))
    first.write_text("model,seed,learning_rate,status\nA,1,0.10000000000000003,finished\nB,1,0.2,failed\n")
    again.write_text("model,seed,k,status\nB,1,7,finished\nC,1,7,unfinished\n")
    for searched, models in (([first], {"A", "B"}), ([again, tmp_path / "absent.csv"], {"B"})):
        benchmark._keep_trials(searched, kept, models)
    joined = pd.read_csv(kept, dtype=str)
    assert swept_columns(joined) == ["learning_rate", "k"]
    joined = joined.set_index("model")
    assert joined.loc["A", "learning_rate"] == "0.10000000000000003"
    assert joined.loc["B", ["k", "status"]].tolist() == ["7", "finished"]
    assert len(joined) == 2


def test_what_validation_chose(call: Callable[..., tuple[int, Commands]], tmp_path: Path) -> None:
    """Two widths of the softmax were tried; the mixture's runs are of another search than is known."""
    call("out", "--dataset", "beauty")
    trials = pd.DataFrame(
        [
            *((SOFTMAX, seed, width, f"beauty-{number}") for number, (_, width, seed, _) in enumerate(RUNS[:3])),
            *((MOS, seed, 8, f"earlier-{seed}") for seed in (1, 2)),
            ("Pop", 1, None, "beauty-5"),
        ],
        columns=["model", "seed", "embedding_size", "run_id"],
    )
    trials.insert(3, "status", "finished")
    trials.to_csv(tmp_path / "out" / "beauty" / "trials.csv", index=False)
    call("out", "--finished")
    chosen = pd.read_csv(tmp_path / "out" / "tables" / "all" / "chosen.csv").set_index("model")
    assert chosen["tried"].to_dict() == {SOFTMAX: 2, "Pop": 1}
    assert chosen.loc[SOFTMAX, "configuration"] == "embedding_size=8"
    assert chosen.loc[SOFTMAX, "validation"] == pytest.approx(0.4)


def test_differences_are_those_of_compare(call: Callable[..., tuple[int, Commands]], tmp_path: Path) -> None:
    call("out", "--dataset", "beauty")
    tables = {path.stem: pd.read_csv(path) for path in (tmp_path / "out" / "tables" / "all").glob("*.csv")}
    differences = tables["differences"]
    assert len(differences) == 3
    best = tables["best"].set_index("model")
    groups = find_run_groups([MOS, SOFTMAX, "Pop"], [tmp_path / "out" / "beauty"])
    rows = compare_groups(groups, ["NDCG@10"]).rows
    expected = {(row.first, row.second): row for row in rows}
    for row in differences.to_dict("records"):
        same = expected[row["A"], row["B"]]
        assert row["B - A"] == pytest.approx(same.difference.effect)
        untested = same.adjusted_p_value is None
        assert np.isnan(row["p (Holm)"]) if untested else row["p (Holm)"] == pytest.approx(same.adjusted_p_value)
    assert best.loc[SOFTMAX, "p (best)"] == pytest.approx(expected[MOS, SOFTMAX].adjusted_p_value)
    assert np.isnan(best.loc[MOS, "p (best)"])


def test_what_has_no_runs_is_left_out_and_named(
    call: Callable[..., tuple[int, Commands]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    call("out", "--dataset", "ml-100k")
    for name in ("beauty", "sports"):
        (tmp_path / "out" / name).mkdir(exist_ok=True)
    capsys.readouterr()
    status, commands = call("out", "--finished")
    assert (status, len(commands.given)) == (0, 1)
    assert "No finished runs, so no pages: beauty, sports\n" in capsys.readouterr().err
    (tmp_path / "empty" / "beauty").mkdir(parents=True)
    assert call("empty", "--finished")[0] == 2


def test_published_figures_are_read_before_anything_is_trained(
    benchmark: ModuleType,
    call: Callable[..., tuple[int, Commands]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of all data sets."""
    monkeypatch.setattr(benchmark, "CONFIGS", tmp_path)
    (tmp_path / "references").mkdir()
    (tmp_path / "references" / "own.yaml").write_text("{source: x, citation: y, dataset: other, rows: [{model: a}]}")
    with pytest.raises(InputError, match=r"own\.yaml: not a file of published numbers: rows\.0\.metric"):
        call("out", "--dataset", "ml-100k")
    assert not (tmp_path / "out").exists()


def test_two_protocols_of_a_data_set_are_not_ranked_as_two_data_sets(
    call: Callable[..., tuple[int, Commands]], tmp_path: Path
) -> None:
    call("out")
    make = Maker(tmp_path / "out-work" / "beauty" / "other")
    for model in (SOFTMAX, MOS):
        make(model, 8, 1, dataset="beauty", protocol=PROTOCOL | {"filter_seen": False}, protocol_hash="feedbeef13")
    temporal = PROTOCOL | {"split": {"name": "temporal"}}
    make = Maker(tmp_path / "out-work" / "ml-100k" / "other")
    for number, model in enumerate((SOFTMAX, MOS)):
        make(model, 8, 1, dataset="ml-100k", run_id=f"c{number}", protocol=temporal, protocol_hash="feedbeef14")
    call("out", "--finished")
    best = pd.read_csv(tmp_path / "out" / "tables" / "all" / "best.csv")
    assert len(set(best["dataset"])) == 4
    assert {"ml-100k, leave_one_out", "ml-100k, temporal"} < set(best["dataset"])
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "No mean ranks: beauty is here by more than one protocol." in page
    assert "critical difference" not in page
