"""The commands that read finished runs: what they show, where they find it, and where they write it."""

import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from fabricated import MOS, SOFTMAX, Maker
from filelock import FileLock

from mos_recbole.analysis import read_study
from mos_recbole.report.comparisons import finding

ROOT = Path(__file__).parents[2]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "results")


@pytest.fixture(autouse=True)
def _beside_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are called where `results` is."""
    monkeypatch.chdir(tmp_path)


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


@pytest.mark.usefixtures("no_figures")
def test_a_report_shows_the_metrics_that_are_asked_for(call: Call, make: Maker) -> None:
    """The first in slices, all in tables; `--metric` is drawn instead, and shown too; the page has the command."""
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


# ---------------------------------------------------------------------------------------------------- where runs are


@pytest.mark.usefixtures("no_figures")
def test_the_lines_of_the_page_work_on_the_results_of_the_repository(call: Call) -> None:
    """docs/comparing.md as it stands, in a fresh clone, beside `results`; its Python code too."""
    Path("results").symlink_to(ROOT / "results")
    page = (ROOT / "docs" / "comparing.md").read_text(encoding="utf-8")
    lines = re.findall(r"^mos-recbole (?:ls|table|compare|slice|report) .*", page, re.M)
    assert len(lines) >= 9
    for line in lines:
        status, out, error = call(*shlex.split(line, comments=True)[1:])
        assert status == 0, line + error
        assert "GRU4RecMoS" in out or line.startswith("mos-recbole report")
    assert Path("report/report.html").is_file()
    (python,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    exec(python, {})


def test_runs_one_level_down_are_found(call: Call, tmp_path: Path) -> None:
    """In folders of sweeps and studies, where the folder that is named holds none itself; else it is said."""
    below = [Maker(tmp_path / "results" / name) for name in ("first", "second")]
    for make, model in zip(below, (SOFTMAX, MOS), strict=True):
        make(model, run_id=model.encode().hex()[-16:])
        (make.folder / "report").mkdir()
    for arguments in COMMANDS.values():
        status, out, error = call(*arguments)
        assert status == 0, error
        assert SOFTMAX in out
        assert MOS in out
    Maker(tmp_path / "results")(SOFTMAX, run_id="f" * 16)
    status, _, error = call("compare", SOFTMAX, MOS)
    assert status == 2
    assert "There are runs in results/first, results/second too: name them by --results" in error
    assert MOS not in call("table")[1]
    assert call("compare", SOFTMAX, MOS, "--results", *(make.folder for make in below))[0] == 0


# ---------------------------------------------------------------------------------------------------- code

OLD, NEW = "0.1.0+aaaaaaaaaaaa", "0.1.0+bbbbbbbbbbbb"


def test_runs_of_two_versions_have_short_names(call: Call, make: Maker) -> None:
    """The kind: settings are equal, code or a plugin's file differs. Each version is a row, and can be named."""
    make(SOFTMAX, code=OLD)
    make(SOFTMAX, code=NEW)
    make(MOS, code=NEW, plugins={"MoS": "c0ffee" + "0" * 58})
    make(MOS, code=NEW, plugins={"MoS": "facade" + "0" * 58})
    out = call("table")[1]
    for name in (f"{SOFTMAX} code=aaaaaa", f"{SOFTMAX} code=bbbbbb", f"{MOS} plugin=c0ffee", f"{MOS} plugin=facade"):
        assert f"| {name} " in out
    status, out, _ = call("compare", f"{SOFTMAX}:code=aaaaaa", f"{MOS}:plugin=facade")
    assert status == 0
    assert f"may be why they differ: {SOFTMAX} code=aaaaaa, {MOS} plugin=facade code=bbbbbb." in out
    assert "different code" not in call("compare", f"{SOFTMAX}:code={NEW}", f"{MOS}:plugin=facade")[1]
    assert f"{SOFTMAX}:code=aaaaaa" in call("compare", SOFTMAX, MOS)[2]


def test_settings_that_older_code_has_not_are_no_difference(call: Call, make: Maker) -> None:
    """A new setting with its default would else stand in each label beside the code."""
    make(SOFTMAX, code=OLD)
    make(SOFTMAX, code=NEW, tie_order="file")
    out = call("table")[1]
    assert f"{SOFTMAX} code=bbbbbb" in out
    assert "tie_order" not in out


def test_best_is_of_the_newest_code_and_says_what_it_leaves_out(call: Call, make: Maker) -> None:
    """Whatever the validation of the others; those are named as they can be asked for."""
    make(SOFTMAX, code=OLD, learning_rate=1, valid=0.9)
    make(SOFTMAX, code=OLD, learning_rate=2, valid=0.8)
    for rate, valid in ((1, 0.3), (2, 0.4)):
        make(SOFTMAX, code=NEW, learning_rate=rate, valid=valid)
        make(MOS, code=NEW, learning_rate=rate, valid=valid)
    status, out, error = call("compare", SOFTMAX, MOS, "--best")
    assert status == 0
    assert f"| {SOFTMAX} learning_rate=2 code=bbbbbb " in out
    assert error.count("warning") == 1
    assert f"{SOFTMAX}: the newest, code=bbbbbb, is chosen from; left out" in error
    assert f"2 of code=aaaaaa ({SOFTMAX}:code=aaaaaa)" in error
    assert f"{SOFTMAX} code=aaaaaa learning_rate=1 " in call("compare", f"{SOFTMAX}:code=aaaaaa", MOS, "--best")[1]


def test_best_is_of_the_newest_file_of_a_plugin(call: Call, make: Maker) -> None:
    """The kind: the package's code is the same, and the file of the head was edited."""
    make(SOFTMAX)
    make(MOS, plugins={"MoS": "c0ffee" + "0" * 58}, valid=0.9)
    make(MOS, plugins={"MoS": "facade" + "0" * 58}, valid=0.1)
    status, out, error = call("compare", SOFTMAX, MOS, "--best")
    assert (status, f"| {MOS} plugin=facade " in out) == (0, True)
    assert f"1 of code=abc,plugin=c0ffee ({MOS}:code=abc,plugin=c0ffee)" in error
    assert call("compare", SOFTMAX, f"{MOS}:code=abc,plugin=c0ffee")[0] == 0


def test_a_report_chooses_from_the_newest_code(make: Maker) -> None:
    """In its findings, slices and figures, and its notes say so."""
    make(SOFTMAX, code=OLD, valid=0.9)
    make(SOFTMAX, code=NEW, valid=0.1)
    make(MOS, code=OLD, valid=0.5)
    (section,) = read_study([make.folder]).sections
    assert section.best[SOFTMAX].runs[0].code == NEW
    assert section.chosen[SOFTMAX, 8].runs[0].code == NEW
    assert any(f"{SOFTMAX}: the newest, code=bbbbbb, is chosen from" in note for note in section.notes)
    assert any("Different code computed these runs: 2 by aaaaaa, 1 by bbbbbb." in note for note in section.notes)
    (found,) = section.findings("Recall@100")
    assert f"{MOS} code=aaaaaa" in finding(*found, {group.label: "" for group in section.groups})


# ---------------------------------------------------------------------------------------------------- ls and rm


def test_ls_shows_what_differs(call: Call, make: Maker, tmp_path: Path) -> None:
    """Settings that vary within a model as short columns, and the code; constants once; newest or best first."""
    for number, (dimension, valid) in enumerate(((8, 0.1), (16, 0.3), (32, 0.2))):
        make(
            SOFTMAX, dimension, valid=valid, epochs=3, run_id=f"{number:08x}" + "0" * 8, layers=[1, 2] * 10, n_layers=7
        )
    out = call("ls")[1]
    head, _, *rows = out.splitlines()
    assert re.split(r"  +", head.strip()) == ["run", "model", "d", "epochs", "valid Recall@100", "finished"]
    assert [row.split()[0] for row in rows[:3]] == ["00000002", "00000001", "00000000"]
    assert "The same in all: data toy, seed 1, code abc, protocol feedbeef12, folder results." in out
    assert "n layers" not in out
    by_metric = call("ls", "--sort", "metric")[1].splitlines()[2:5]
    assert [row.split()[2] for row in by_metric] == ["16", "32", "8"]
    other = make(MOS, code=NEW, dataset="other", protocol_hash="cafe")
    refused = call("table")[2]
    assert f"cafe: other, {other.protocol}, 1 of the runs, such as {other.folder.relative_to(tmp_path)}" in refused
    Maker(tmp_path / "results" / "more")(MOS)
    out = call("ls")[1]
    assert {"data", "code"} <= set(out.splitlines()[0].split())
    assert "More runs are in results/more." in out
    assert call("ls", "--dataset", "other")[1].count(MOS) == 1
    assert "no finished runs in results on 'nope'; there are runs on other, toy" in call("ls", "--dataset", "nope")[1]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_rm_removes_a_run_and_nothing_else(
    call: Call, make: Maker, answers: Callable[[str], None], tmp_path: Path
) -> None:
    """After yes: what a run leaves behind. What others put beside it stays, with its folder, and what links name."""
    first, second, kept = make(SOFTMAX, seed=1), make(SOFTMAX, seed=2), make(SOFTMAX, seed=3)
    (second.folder / "notes.txt").write_text("mine")
    target = tmp_path / "weights.pt"
    target.write_bytes(b"12345")
    (first.folder / "best.pt").symlink_to(target)
    (first.folder / ".best.pt.77.tmp").touch()
    before = {path: path.read_bytes() for path in kept.folder.iterdir()}
    for answer in ("n\n", "\n"):
        answers(answer)
        status, out, _ = call("rm", first.folder, second.run_id)
        assert (status, first.folder.exists()) == (0, True)
        assert "Nothing was removed." in out
    answers("y\n")
    status, out, error = call("rm", first.folder, second.run_id, f"{first.folder}/")
    assert (status, error) == (0, "")
    assert "Remove 2 runs, " in out
    assert re.search(r"record.json \d\.\d kB, outcomes.parquet [\d.]+ kB", out)
    assert not first.folder.exists()
    assert [path.name for path in second.folder.iterdir()] == ["notes.txt"]
    assert f"runs/{second.folder.name} stays, with notes.txt" in out
    assert target.read_bytes() == b"12345"
    assert {path: path.read_bytes() for path in kept.folder.iterdir()} == before


def test_rm_from_within_a_run(call: Call, make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder one stands in goes too, and the others, which are named from there."""
    first, second, third = (make(SOFTMAX, seed=seed).folder for seed in (1, 2, 3))
    (third / "notes.txt").write_text("mine")
    monkeypatch.chdir(first)
    status, out, error = call("rm", ".", f"../{second.name}", f"../{third.name}", "--yes")
    assert (status, error) == (0, "")
    assert (first.exists(), second.exists(), [path.name for path in third.iterdir()]) == (False, False, ["notes.txt"])
    assert f"{third.name} stays, with notes.txt" in out
    assert "Removed 3 runs" in out


def test_rm_without_standard_input(call: Call, make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed, as by <&- in a shell, which Python has as None."""
    run = make(SOFTMAX)
    monkeypatch.setattr("sys.stdin", None)
    status, _, error = call("rm", run.run_id)
    assert (status, run.folder.exists()) == (2, True)
    assert "nothing was removed; expected an answer, or --yes" in error


def test_rm_knows_the_id_of_a_renamed_folder(call: Call, make: Maker) -> None:
    """As all other commands."""
    run = make(SOFTMAX, run_id="abcdef0000000001")
    renamed = run.folder.rename(run.folder.parent / "my best")
    assert call("rm", "abcdef00", "--yes")[0] == 0
    assert not renamed.exists()


def test_rm_says_that_a_sweep_trains_a_trial_again(call: Call, make: Maker) -> None:
    """Unfinished runs are removed too; the trial's own file stays."""
    run = make(SOFTMAX)
    (make.folder / "sweep.json").touch()
    trial = make.folder / "trials" / f"{run.run_id}.json"
    trial.parent.mkdir()
    trial.touch()
    (run.folder / "record.json").unlink()
    status, out, _ = call("rm", run.run_id, "--yes")
    assert (status, run.folder.exists(), trial.exists()) == (0, False, True)
    assert "a trial of the sweep results, which trains it again" in out


@pytest.mark.parametrize("case", ["results", "no such", "id", "several", "link", "out", "own", "busy", "nobody"])
def test_rm_refuses_what_is_no_run(
    case: str, call: Call, make: Maker, answers: Callable[[str], None], tmp_path: Path
) -> None:
    """Status 2 and one message, and of the runs that are named none is removed."""
    run, other = make(SOFTMAX, run_id="abcdef0000000001"), make(SOFTMAX, seed=2, run_id="abcdef0000000002")
    link, foreign = tmp_path / "results" / "link", tmp_path / "elsewhere"
    foreign.mkdir()
    (foreign / "best.pt").touch()
    if case == "link":
        link.symlink_to(run.folder)
    elif case == "out":
        moved = Maker(foreign)(SOFTMAX, run_id="feedfeedfeedfeed")
        link.symlink_to(foreign)
    answers("")
    named, words = {
        "results": (make.folder, "no run; expected a folder with a record.json"),
        "no such": ("quux", "expected the folder of a run, or six digits"),
        "id": ("1234567", "no run in results"),
        "several": ("abcdef", "several runs; expected one of"),
        "link": (link, "a link, to "),
        "out": ("feedfeed", "a link leads to it out of results"),
        "own": (foreign, "no run; expected a folder with a record.json"),
        "busy": (other.run_id, "another process is at work"),
        "nobody": (other.run_id, "nothing was removed; expected an answer, or --yes"),
    }[case]
    with FileLock(other.folder / ".lock"):
        status, _, error = call("rm", run.run_id, named, *([] if case == "nobody" else ["--yes"]))
    assert status == 2
    assert error.count("error:") == 1
    assert words in error
    for there in (run.folder, other.folder, *([moved.folder] if case == "out" else [])):
        assert (there / "record.json").exists()
    assert (foreign / "best.pt").exists()


@pytest.mark.parametrize("command", [["recommend", "--users", "u1"], ["export", "--format", "npz"]])
def test_one_run_is_wanted(command: list[str], call: Call, make: Maker) -> None:
    """A model stands for all its seeds: they are listed; no option is named that there is not."""
    ids = [make(MOS, seed=seed).run_id for seed in (1, 2)]
    name, *options = command
    for width in (8, 16):
        make(SOFTMAX, width)
    _, _, error = call(name, SOFTMAX, *options)
    assert f"{SOFTMAX}: runs of 2 configurations; choose one by its settings as below\n" in error
    make(SOFTMAX, 8, held_out="test_only")  # which the others' records do not name
    listed = re.findall(rf"^  ({SOFTMAX}:\S+)", call(name, SOFTMAX, *options)[2], re.MULTILINE)
    assert len(listed) == 3
    for choice in listed:
        assert f"{choice.partition(':')[0]}: runs of" not in (error := call(name, choice, *options)[2])
        assert "no such runs" not in error
    status, _, error = call(name, MOS, *options)
    assert status == 2
    assert f"{MOS}: 2 runs, of different seeds; choose one of" in error
    assert all(run_id in error for run_id in ids)
