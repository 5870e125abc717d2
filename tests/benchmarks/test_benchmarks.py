"""The benchmark scripts as a user calls them, on sizes that say nothing about speed."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from scripts import load_script

_ROOT = Path(__file__).parents[2]


def run(script: str, *arguments: str) -> str:
    """Returns what a script prints."""
    command = [sys.executable, str(_ROOT / "benchmarks" / "speed" / script), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_loss_speed(tmp_path: Path) -> None:
    """A row an implementation and size, every one with its floor and memory; a second call replaces a place's rows."""
    sizes = ["--queries", "40", "--items", "130", "--widths", "8", "--rounds", "1", "--output", str(tmp_path)]
    run("loss_speed.py", "--components", "4", *sizes)
    assert "over_plain" in run("loss_speed.py", "--components", "1", "2", *sizes)
    table = pd.read_csv(tmp_path / "loss_speed.csv")
    assert sorted(zip(table.implementation, table.components, strict=True)) == [
        ("linear", 1),
        ("naive", 1),
        ("naive", 2),
        ("ours", 1),
        ("ours", 2),
        ("plain", 1),
    ]
    assert (table.seconds > 0).all()
    assert (table.memory_bytes >= 0).all()
    assert table.floor_share.between(0, 2).all()
    assert (tmp_path / "loss_speed.png").stat().st_size > 0


@pytest.mark.slow
def test_ranking_speed(tmp_path: Path) -> None:
    """Ranks agree with the plain way's but for rounding."""
    sizes = ["--queries", "300", "--reference-queries", "256", "--items", "500", "--width", "8"]
    run("ranking_speed.py", *sizes, "--components", "1", "4", "--top-k", "10", "--output", str(tmp_path))
    table = pd.read_csv(tmp_path / "ranking_speed.csv")
    assert table.components.tolist() == [1, 4]
    assert (table.ranks_that_differ < 0.02).all()


@pytest.mark.slow
def test_data_scale(tmp_path: Path) -> None:
    """Both formats, cold and warm, and RecBole beside them, whose windows are equal."""
    printed = run("data_scale.py", "--rows", "20000", "--output", str(tmp_path))
    assert "windows are equal to RecBole's" in printed
    table = pd.read_csv(tmp_path / "data_scale.csv")
    assert table.way.tolist() == ["imports", "cold", "warm", "RecBole", "cold", "warm"]


@pytest.mark.slow
def test_fused_speed(tmp_path: Path) -> None:
    """A row for each model, batch size, number of trials and way of their seeds."""
    sizes = ["--models", "GRU4RecSoftmax, d = 16", "--batch-sizes", "256", "--trials", "2", "3"]
    assert "fused_over_in_turn" in run(
        "fused_speed.py", *sizes, "--rounds", "2", "--targets", "512", "--output", str(tmp_path)
    )
    table = pd.read_csv(tmp_path / "fused_speed.csv")
    assert list(zip(table.trials, table.seeds, strict=True)) == [
        (2, "equal"),
        (2, "different"),
        (3, "equal"),
        (3, "different"),
    ]
    assert (table.rounds == 2).all()
    assert ((table.lowest <= table.fused_over_in_turn) & (table.fused_over_in_turn <= table.highest)).all()


@pytest.mark.slow
def test_time_to_quality(data: Path, tmp_path: Path) -> None:
    """An epoch a row; the test is looked at where validation is the best so far; what nobody reaches takes forever."""
    entries = ["--entries", "RecBole GRU4Rec", "GRU4RecSoftmax", "--seeds", "1", "--other-epochs", "2"]
    place = ["--dataset", data.name, "--data-path", str(data.parent), "--output", str(tmp_path)]
    printed = run("time_to_quality.py", *entries, *place, "--reference", "0.99")
    table = pd.read_csv(tmp_path / "time_to_quality.csv")
    assert table["entry"].unique().tolist() == ["RecBole GRU4Rec", "GRU4RecSoftmax"]
    for _, rows in table.groupby("entry"):
        assert (rows["test"].notna() == (rows["valid"] > rows["valid"].cummax().shift(fill_value=-1))).all()
        assert rows["processor_seconds"].is_monotonic_increasing
    assert printed.count("inf") == 4
    assert (tmp_path / "time_to_quality.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("script", "draw", "folder"),
    [
        ("time_to_quality", "draw", "time_to_quality/ml-1m"),
        ("time_to_quality", "draw", "time_to_quality/recbole"),
        ("loss_speed", "plot", "loss_speed"),
        ("data_scale", "plot", "data_scale"),
    ],
)
def test_axes_are_labelled_in_plain_numbers(
    script: str, draw: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In figures of the kept results: no markup of Matplotlib's, and at least two labels on an axis."""
    plt.close("all")
    monkeypatch.setattr(plt, "close", lambda *_: None)
    table = pd.read_csv(_ROOT / "results" / folder / f"{script}.csv")
    if script == "loss_speed":
        table = table[table["dtype"] == "float32"]
    given = {"time_to_quality": [table, 0.1], "data_scale": [table.to_dict("records")]}.get(script, [table])
    getattr(load_script(f"speed/{script}.py", monkeypatch), draw)(*given, tmp_path / "figure.png")
    for ax in plt.gcf().axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            inside = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            assert len([tick for tick in inside if tick.label1.get_text()]) >= 2
        labels = [*ax.get_xticklabels(which="both"), *ax.get_yticklabels(which="both")]
        assert not any("mathdefault" in label.get_text() for label in labels)


# In the place of RecTools' Python: keeps what it is called with.
_STUB = """#!{python}
import json, os, pathlib, shutil, sys
script, interactions, folder, *options = sys.argv[1:]
kept = pathlib.Path(__file__).parent
shutil.copy(interactions, kept / "interactions")
(kept / "call.json").write_text(json.dumps([pathlib.Path(script).is_file(), options, os.environ["OMP_NUM_THREADS"]]))
rows = "epoch,processor_seconds,seconds,valid,test\\n1,2.5,3,0.1,0.2\\n2,5,6,0.05,\\n"
pathlib.Path(folder, "curve.csv").write_text(rows)
"""


def test_rectools_is_called_in_its_own_environment(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the split, the filter and the thread of the others; its epochs become rows beside theirs."""
    script = load_script("speed/time_to_quality.py", monkeypatch)
    stub = tmp_path / "python"
    stub.write_text(_STUB.format(python=sys.executable))
    stub.chmod(0o755)
    options = argparse.Namespace(
        **{"dataset": data.name, "data_path": data.parent, "rectools_python": stub},
        **{"other_epochs": 7, "filter_seen": True, "output": tmp_path},
    )
    (tmp_path / "work").mkdir()
    for seed in (3, 4):
        script.train_rectools("RecTools SASRec", seed, options, str(tmp_path / "work"))
    rows = pd.read_csv(tmp_path / "time_to_quality.csv")
    called = [True, ["--curve", "--seed", "4", "--epochs", "7", "--filter-viewed"], "1"]
    assert json.loads((tmp_path / "call.json").read_text()) == called
    assert rows.columns.tolist() == ["entry", "seed", "epoch", "processor_seconds", "seconds", "valid", "test"]
    assert rows["seed"].tolist() == [3, 3, 4, 4]
    assert rows["test"].isna().tolist() == [False, True, False, True]
    written = pd.read_csv(tmp_path / "interactions", sep="\t")
    log = pd.read_csv(data / f"{data.name}.inter", sep="\t").sort_values("timestamp:float", kind="stable")
    for user, items in log.groupby("user_id:token")["item_id:token"]:
        of_user = written[written["user_id:token"] == user]
        assert of_user["item_id:token"].tolist() == items.tolist()
        assert of_user["timestamp:float"].tolist() == list(range(len(items)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--filter-seen"], "no --filter-seen with 'RecBole GRU4Rec'"),
        (["--entries", "RecTools SASRec"], "'RecTools SASRec' needs --rectools-python"),
    ],
)
def test_what_time_to_quality_cannot_compare_is_refused(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_script("speed/time_to_quality.py", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["time_to_quality.py", *arguments])
    with pytest.raises(SystemExit):
        script.main()
    assert message in capsys.readouterr().err


def test_the_clock_stands_still_while_the_test_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load_script("speed/curve.py", monkeypatch)
    now = [100.0]
    monkeypatch.setattr(module.Curve, "_now", staticmethod(lambda: (now[0], 2 * now[0])))
    curve = module.Curve(tmp_path / "curve.csv", entry="a")

    def look() -> float:
        now[0] += 50
        return 0.5

    for valid in (0.2, 0.1, 0.3, 0.3):
        now[0] += 1
        curve.note(valid, look)
        rows = pd.read_csv(tmp_path / "curve.csv")
        assert rows["epoch"].iloc[-1] == len(rows)
    assert rows["processor_seconds"].tolist() == [1, 2, 3, 4]
    assert rows["seconds"].tolist() == [2, 4, 6, 8]
    assert rows["test"].notna().tolist() == [True, False, True, False]
    assert curve.since_best() == 1
