"""The commands that read finished runs: what they show, where they find it, and where they write it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fabricated import MOS, SOFTMAX, Maker

from mos_recbole import cli

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "results")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Returns a function (arguments...) -> exit status, standard output, standard error, called beside `results`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run


COMMANDS = {
    "table": ["table"],
    "compare": ["compare", SOFTMAX, MOS],
    "slice": ["slice", SOFTMAX, MOS, "--by", "train_count:2"],
}

# ---------------------------------------------------------------------------------------------------- metrics, output


@pytest.mark.parametrize("command", COMMANDS)
def test_metrics_and_files_are_those_that_are_asked_for(command: str, call: Call, make: Maker) -> None:
    """Of finished runs, whatever they were trained with; the files hold what is printed."""
    make.study((8,))
    status, out, error = call(*COMMANDS[command], "--metrics", "map@7", "NDCG@3", "--output", "paper")
    assert status == 0, error
    assert "MAP@7" in out
    assert "NDCG@3" in out
    assert "Recall" not in out
    files = sorted(Path("paper").iterdir())
    assert {path.suffix for path in files} == {".md", ".tex", ".csv"}
    assert all(path.name in error for path in files)
    rows = call(*COMMANDS[command], "--metrics", "MAP@7", "NDCG@3", "--format", "csv")[1].splitlines()
    written = [path.read_text().splitlines() for path in files if path.suffix == ".csv"]
    assert rows == [written[0][0], *(row for name in ("MAP@7", "NDCG@3") for row in _rows_of(name, written))]


@pytest.mark.parametrize("command", ["table", "compare"])
def test_without_metrics_those_that_all_runs_were_asked_for(command: str, call: Call, make: Maker) -> None:
    """By `metrics` and `topk` when they were trained; runs that were asked for none have the usual ones."""
    make(SOFTMAX, asked_metrics=["NDCG@5", "MRR@5"])
    make(MOS, asked_metrics=["MRR@5"])
    out = call(*COMMANDS[command])[1]
    assert "MRR@5" in out
    assert "NDCG@5" not in out
    make(SOFTMAX, seed=2)
    assert "Recall@100" in call(*COMMANDS[command])[1]


def test_a_report_shows_the_metrics_that_are_asked_for(
    call: Call, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first in slices, all in tables; `--metric` is drawn instead, and shown too; the page has the command."""
    monkeypatch.setattr(
        "mos_recbole.report.figures.save_figure", lambda figure, folder: _two_files(folder, figure.name)
    )
    make.study((8,))
    assert call("report", "results", "--metrics", "MRR@7", "NDCG@3")[0] == 0
    (models,) = Path("results/report/tables").glob("*/models.md")
    assert "MRR@7" in models.read_text()
    assert "NDCG@3" in models.read_text()
    assert "Recall" not in models.read_text()
    page = Path("results/report/report.html").read_text()
    assert "mos-recbole report results --metrics MRR@7 NDCG@3" in page
    (slices,) = Path("results/report/tables").glob(f"*/train_count-{MOS}.md")
    assert "MRR@7 (higher is better)" in slices.read_text()
    assert call("report", "results", "--metric", "Hit@2", "--metrics", "MRR@7")[0] == 0
    assert "Hit@2 (higher is better)" in slices.read_text()
    assert "MRR@7" in models.read_text()


def _rows_of(metric: str, files: list[list[str]]) -> list[str]:
    """Returns the rows of a metric, where tables have one for each; all rows where a row has all metrics."""
    rows = [row for _, *of_file in files for row in of_file]
    if not any("MAP@7" in row for row in rows):
        return rows if metric == "MAP@7" else []
    return [row for row in rows if metric in row]


def _two_files(folder: Path, name: str) -> list[Path]:
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        path.write_text("<svg/>")
    return paths
