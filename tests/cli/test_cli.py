"""The command line: what it prints and writes, how it refuses bad input, and that a killed run can go on."""

import csv
import importlib
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mos_recbole import cli
from mos_recbole.cli.progress import EpochProgress
from mos_recbole.results import find_records
from mos_recbole.settings import load_settings
from mos_recbole.training import EpochReport

ROOT = Path(__file__).parents[2]
HEADER = "user_id:token\titem_id:token\ttimestamp:float"
SMALL = ["--embedding_size=8", "--hidden_size=12", "--MAX_ITEM_LIST_LENGTH=10", "--train_batch_size=64"]
RUN = ["--model", "GRU4RecMoS", "--device", "cpu", *SMALL, "--epochs=2"]
TIMES = re.compile(r"[\d.]+ s\b|\d+ min \d+ s")


@pytest.fixture(autouse=True)
def _no_anomaly_detection() -> None:
    """A module of RecBole's turns it on (see test_training.py), which would make these tests several times slower."""
    importlib.import_module("recbole.model.sequential_recommender")
    torch.autograd.set_detect_anomaly(False)


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with one finished run; not to be changed."""
    output = tmp_path_factory.mktemp("finished") / "results"
    assert cli.main(["run", *RUN, "--dataset", str(data), "--output", str(output), "--quiet"]) == 0
    return output


@pytest.fixture
def results(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished results."""
    return Path(shutil.copytree(finished, tmp_path / "results"))


def table_of(text: str) -> list[str]:
    """Returns the lines of the table in an output."""
    return [line for line in text.splitlines() if line.startswith("|")]


def cells(text: str) -> list[list[str]]:
    """Returns the table's cells, without the line below its head."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table_of(text)]
    return [rows[0], *rows[2:]]


def without_times(text: str) -> str:
    """Returns a table without what a clock decides."""
    return "\n".join(re.sub(r"\s+", " ", TIMES.sub("<time>", line)) for line in table_of(text) if "---" not in line)


def contents(folder: Path) -> dict[str, bytes]:
    """Returns all files below a folder that hold results or data."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def one_error(error: str) -> str:
    """Returns the message, after checking that it is the only one and no traceback."""
    assert "Traceback" not in error
    assert error.count("error:") == 1
    return error.partition("error:")[2]


# ---------------------------------------------------------------------------------------------------- run


def test_run_prints_a_table_and_the_files(call, data: Path, tmp_path: Path) -> None:
    """Exit status 0; every column that the table promises; the run's folder, where its files are."""
    status, out, error = call("run", *RUN, "--dataset", data, "--output", tmp_path / "results")
    assert status == 0
    head, row = cells(out)
    assert head[:5] == ["model", "parameters", "seeds", "epochs", "training time"]
    assert [name.split()[0] for name in head[5:]] == ["Recall@10", "NDCG@10", "MRR@10", "Recall@100"]
    assert row[0] == "GRU4RecMoS"
    assert row[2:4] == ["1", "2"]
    assert all(re.fullmatch(r"\d\.\d{4} ± \d\.\d{4}", cell) for cell in row[5:])
    (record,) = find_records(tmp_path / "results")
    assert row[1] == f"{record.parameters:,}"
    assert row[6].startswith(f"{record.test['NDCG@10'].value:.4f} ")
    assert row[8].startswith("1.0000 ")  # 20 items
    assert str(record.folder) in out
    assert out.index("|") < out.index(str(record.folder))
    assert "toy" in out
    assert "leave_one_out" in out
    # A log has a line per epoch with loss and validation, and what the data are.
    assert "30 users, 20 items" in error
    for epoch in (1, 2):
        assert re.search(rf"epoch {epoch}: loss \d\.\d+, valid NDCG@10 0\.\d+", error)


def test_quiet_prints_the_table_only(call, data: Path, tmp_path: Path) -> None:
    """Nothing on standard error; on standard output the table with its caption and the files, no progress."""
    status, out, error = call("run", *RUN, "--dataset", data, "--output", tmp_path / "results", "--quiet")
    assert (status, error) == (0, "")
    lines = [line for line in out.splitlines() if line]
    assert len(table_of(out)) == 3
    assert len(lines) == 3 + 4  # the table, two lines of caption, a heading, one folder
    assert "epoch 1" not in out


def test_several_models_and_seeds(call, data: Path, tmp_path: Path) -> None:
    """One run per model and seed, one row per model over its seeds, in the order of the command."""
    output = tmp_path / "results"
    models = ["GRU4RecSoftmax", "Pop", "GRU4RecMoS"]
    arguments = ["--dataset", data, "--output", output, "--device", "cpu", "--epochs=1", "--quiet"]
    status, out, _ = call("run", "--model", *models, "--seeds", 3, 1, *arguments)
    assert status == 0
    assert [row[0] for row in cells(out)[1:]] == models
    assert {row[2] for row in cells(out)[1:]} == {"2"}
    records = find_records(output)
    assert sorted((record.model, record.seed) for record in records) == sorted((m, s) for m in models for s in (1, 3))
    assert all(str(record.folder) in out for record in records)
    by_model = {row[0]: row for row in cells(out)[1:]}
    for model in models:
        mean = np.mean([record.test["MRR@10"].value for record in records if record.model == model])
        assert by_model[model][7].startswith(f"{mean:.4f} ")


@pytest.mark.parametrize("seeds", [["1", "1"], ["1", "01"]])
def test_a_seed_given_twice_counts_once(seeds: list[str], call, data: Path, tmp_path: Path) -> None:
    """A repeated run is no second observation: it would narrow the interval. Refused or counted once."""
    status, out, _ = call("run", *RUN, "--seeds", *seeds, "--dataset", data, "--output", tmp_path / "results")
    assert status in (0, 2)
    if status == 0:
        assert cells(out)[1][2] == "1"


def test_a_model_given_twice_is_one_row(call, data: Path, tmp_path: Path) -> None:
    """Refused or counted once, as with seeds."""
    arguments = ["--device", "cpu", "--epochs=1", "--dataset", data, "--output", tmp_path / "results"]
    status, out, _ = call("run", "--model", "Pop", "Pop", *arguments)
    assert status in (0, 2)
    if status == 0:
        assert [row[:1] + row[2:3] for row in cells(out)[1:]] == [["Pop", "1"]]


def test_settings_from_files_and_arguments(call, data: Path, tmp_path: Path) -> None:
    """`--config` files, later over earlier, and `--key=value` over all; the record says what held."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("epochs: 5\nmos_heads: 3\nlearning_rate: 0.5\ngpu_id: 0\n")
    second.write_text("epochs: 1\nlearning_rate: 0.25\n")
    status, _, error = call(
        *("run", "--model", "GRU4RecMoS", "--dataset", data, "--output", tmp_path / "results", "--device", "cpu"),
        *("--config", first, second, *SMALL, "--learning_rate=1e-2"),
    )
    assert status == 0
    (record,) = find_records(tmp_path / "results")
    found = [record.settings[key] for key in ("epochs", "mos_heads", "learning_rate", "embedding_size")]
    assert found == [1, 3, 0.01, 8]
    assert f"warning: {first}, line 4: gpu_id" in error


@pytest.mark.parametrize(
    ("argument", "key", "value"),
    [
        (
            "--load_col={inter: [user_id, item_id, timestamp]}",
            "load_col",
            {"inter": ["user_id", "item_id", "timestamp"]},
        ),
        ("--clip_grad_norm={max_norm: 5, norm_type: 2}", "clip_grad_norm", {"max_norm": 5.0, "norm_type": 2.0}),
        ("--eval_args={split: {LS: valid_and_test}, order: TO, mode: full}", "split", "leave_one_out"),
        ("--user_inter_num_interval=[5, inf)", "user_inter_num_interval", "[5, inf)"),
    ],
)
def test_settings_may_hold_spaces(argument: str, key: str, value: object, call, data: Path, tmp_path: Path) -> None:
    """One shell word with spaces in it is a setting, wherever it stands: not the name of another model."""
    output = ["--dataset", data, "--output", tmp_path / "results"]
    for place in ([*RUN, argument, *output], ["--model", "GRU4RecMoS", argument, *RUN[2:], *output]):
        status, _, error = call("run", *place)
        assert (status, "error" in error) == (0, False)
    assert find_records(tmp_path / "results")[0].settings[key] == value


def test_run_main_is_run(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What benchmarks/run.py calls: the arguments without the word `run`."""
    assert cli.run_main([*RUN, "--dataset", str(data), "--output", str(tmp_path / "results"), "--quiet"]) == 0
    assert table_of(capsys.readouterr().out)


def test_training_that_diverges_ends_with_status_1(call, data: Path, tmp_path: Path) -> None:
    """One message that names the epoch and the learning rate; no record, no table."""
    arguments = ["--learner=sgd", "--learning_rate=1e30", "--train_batch_size=16", "--output", tmp_path / "results"]
    status, out, error = call("run", "--model", "GRU4RecMoS", *arguments, "--dataset", data, "--quiet")
    assert (status, out) == (1, "")
    assert error.startswith("mos-recbole: training failed: ")
    assert "epoch" in error
    assert "learning_rate" in error
    assert find_records(tmp_path / "results") == []


# ---------------------------------------------------------------------------------------------------- ls and table


def test_table_is_rebuilt_from_the_files_alone(call, data: Path, tmp_path: Path) -> None:
    """The identical table, to the character, also after the results were moved and without the data set."""
    output = tmp_path / "results"
    models = ["SASRecSoftmax", "GRU4RecMoS", "BPR", "GRU4RecSoftmax"]
    common = ["--dataset", data, "--output", output, "--device", "cpu", "--epochs=1", "--quiet"]
    status, out, _ = call("run", "--model", *models, "--seeds", 2, 1, *common)
    assert status == 0
    assert [row[0] for row in cells(out)[1:]] == models
    moved = output.rename(tmp_path / "moved")
    for arguments in ([moved], [moved, "--dataset", "toy"], [moved / "runs"], sorted((moved / "runs").iterdir())):
        status, again, error = call("table", *arguments)
        assert (status, error) == (0, "")
        assert sorted(table_of(again)) == sorted(table_of(out))
    assert table_of(call("table", moved)[1]) == table_of(out)


def test_table_as_csv(call, results: Path) -> None:
    """All numbers in full precision, intervals by their ends; rounded, they are the cells of the printed table."""
    status, out, error = call("table", results, "--format", "csv")
    assert status == 0
    assert error.startswith("toy: 30 users, ")  # the caption, apart from the numbers
    rows = list(csv.DictReader(io.StringIO(out)))
    header, *printed = cells(call("table", results)[1])
    for row, texts in zip(rows, printed, strict=True):
        assert row["model"] == texts[0]
        assert f"{int(row['parameters']):,}" == texts[1]
        for column, text in zip(header[5:], texts[5:], strict=True):
            mean, low, high = (float(row[column.split()[0] + end]) for end in ("", " low", " high"))
            assert f"{mean:.4f} ± {(high - low) / 2:.4f}" == text


def test_table_as_latex(call, results: Path) -> None:
    """A tabular with nine columns; what is special to LaTeX in a label is escaped."""
    shutil.copytree(results, results.with_name("more"))
    status, out, _ = call("table", results, "--format", "latex")
    assert status == 0
    assert out.count(r"\begin{tabular}") == out.count(r"\end{tabular}") == 1
    (row,) = (line for line in out.splitlines() if "GRU4RecMoS" in line)
    assert row.count("&") == 8
    assert row.rstrip().endswith(r"\\")


def test_a_label_names_the_settings_in_which_rows_differ(call, data: Path, tmp_path: Path) -> None:
    """Two runs of one model with different numbers of heads: two rows, told apart; escaped in LaTeX."""
    output = tmp_path / "results"
    for heads in (1, 3):
        common = ["--dataset", data, "--output", output, "--quiet", f"--mos_heads={heads}"]
        assert call("run", *RUN, *common)[0] == 0
    labels = [row[0] for row in cells(call("table", output)[1])[1:]]
    assert labels == ["GRU4RecMoS mos_heads=1", "GRU4RecMoS mos_heads=3"]
    assert r"mos\_heads=3" in call("table", output, "--format", "latex")[1]


def test_a_folder_given_twice_counts_once(call, results: Path) -> None:
    """The same runs are no second observation."""
    once = call("table", results)
    twice = call("table", results, results)
    assert twice[0] in (0, 2)
    if twice[0] == 0:
        assert twice[1] == once[1]


def test_runs_of_different_protocols_cannot_share_a_table(call, data: Path, results: Path) -> None:
    """Seen items filtered in one run and not in the other: refused, with what differs."""
    assert call("run", *RUN, "--dataset", data, "--output", results, "--filter_seen=True", "--quiet")[0] == 0
    status, out, error = call("table", results)
    assert (status, out) == (2, "")
    assert "filter_seen" in one_error(error)


def test_ls_lists_the_finished_runs(call, data: Path, results: Path) -> None:
    """A row each with id, model and what differs, the newest first; the rest is said once; unfinished ones are none."""
    assert call("run", *RUN, "--seeds", 5, "--dataset", data, "--output", results, "--quiet")[0] == 0
    (results / "runs" / "GRU4RecMoS-toy-seed9-0123456789abcdef").mkdir()
    status, out, error = call("ls", results)
    assert (status, error) == (0, "")
    records = find_records(results)
    head, _, *rows, empty, same = out.splitlines()
    assert head.split()[:4] == ["run", "model", "seed", "epochs"]
    assert len(rows) == len(records) == 2
    for row, record in zip(rows, records[::-1], strict=True):
        assert row.split()[:3] == [record.run_id[:8], "GRU4RecMoS", str(record.seed)]
    assert records[0].seed == 2020
    assert (empty, same.startswith("The same in all: data toy, code ")) == ("", True)


def test_ls_of_an_empty_folder_says_so(call, tmp_path: Path) -> None:
    """No error: there is just nothing yet."""
    status, out, error = call("ls", tmp_path)
    assert (status, error) == (0, "")
    assert "no finished runs" in out


# ---------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_is_printed(arguments: list[str], call) -> None:
    """With status 0, and where to begin; for the commands see test_parser.py."""
    status, out, error = call(*arguments)
    assert (status, error) == (0, "")
    assert out.startswith("usage: mos-recbole")
    assert "begin here" in out


def examples(text: str) -> list[list[str]]:
    """Returns the commands below "examples:" in a help text."""
    lines = text.partition("examples:")[2].splitlines()
    return [shlex.split(line) for line in lines if line.strip().startswith("mos-recbole run")]


def test_the_help_of_run_has_worked_examples(call) -> None:
    """Every example is a command that parses; they show settings, files, seeds, own data and --resume."""
    found = examples(call("run", "--help")[1])
    assert len(found) >= 5
    for _, _, *arguments in found:
        options = cli.make_parser().parse_args(["run", *arguments])
        assert options.model
    text = " ".join(" ".join(words) for words in found)
    for shown in ("--seeds", "--config", "--dataset", "--resume", "--learning_rate=", "GRU4RecMoS", " GRU4Rec "):
        assert shown in text


def test_the_settings_of_the_worked_examples_hold(call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models, files and keys of the examples exist and belong together (nothing is trained)."""

    monkeypatch.chdir(ROOT)
    for _, _, *arguments in examples(call("run", "--help")[1]):
        options = cli.make_parser().parse_args(["run", *arguments])
        for model in options.model:
            assert load_settings(model, options.dataset, options.config, options.settings).model == model


def test_version(call) -> None:
    """`--version` prints the package's."""
    from mos_recbole import __version__

    assert call("--version")[:2] == (0, f"mos-recbole {__version__}\n")


def test_the_script_shows_the_same_help() -> None:
    """`python benchmarks/run.py --help`, started as a user does."""
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "examples:" in done.stdout


# ---------------------------------------------------------------------------------------------------- bad input


def write(folder: Path, content: str | bytes | None) -> Path:
    """Writes a data set with this content of its file, or without one, and returns its folder."""
    folder.mkdir()
    if content is not None:
        (folder / f"{folder.name}.inter").write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


GOOD = [HEADER, *(f"u{user}\ti{item}\t{item}" for user in range(4) for item in range(5))]


def changed(line: int, text: str) -> str:
    return "\n".join([*GOOD[: line - 1], text, *GOOD[line:]]) + "\n"


BAD_DATA = {
    "missing file": (None, ["toy.inter", "no such file"]),
    "empty file": ("", ["toy.inter", "empty"]),
    "header only": (HEADER + "\n", ["toy.inter", "no interactions"]),
    "wrong header": (changed(1, "user_id\titem_id\ttimestamp"), ["toy.inter, line 1, column 1", "name:type"]),
    "wrong separator": ("\n".join(GOOD).replace("\t", ","), ["toy.inter, line 1, column 1", "field_separator"]),
    "no user column": (changed(1, HEADER.replace("user_id", "who")), ["toy.inter, line 1", "'user_id'"]),
    "no item column": (changed(1, HEADER.replace("item_id", "what")), ["toy.inter, line 1", "'item_id'"]),
    "no time column": (changed(1, HEADER.replace("timestamp", "when")), ["toy.inter, line 1", "'timestamp'"]),
    "time is text": (changed(9, "u1\ti9\tnoon"), ["toy.inter, line 9, column timestamp", "'noon'"]),
    "time is NaN": (changed(3, "u1\ti9\tnan"), ["toy.inter, line 3, column timestamp", "'nan'"]),
    "no time": (changed(3, "u1\ti9\t"), ["toy.inter, line 3, column timestamp"]),
    "too many fields": (changed(7, "u1\ti9\t5\t6"), ["toy.inter", "line 7"]),
    "no text": (b"\xff\xfe\x00", ["toy.inter"]),
    "single interactions": ("\n".join([HEADER, "a\tx\t1", "b\ty\t2"]), ["'toy'", "leaves no train targets"]),
    "too few interactions": ("\n".join([HEADER, "a\tx\t1", "a\ty\t2"]), ["'toy'", "valid targets"]),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_broken_data_are_refused(case: str, call, results: Path, tmp_path: Path) -> None:
    """Status 2, one message with the place; the finished run of the same name in the same output is unharmed."""
    content, fragments = BAD_DATA[case]
    (tmp_path / "broken").mkdir()
    folder = write(tmp_path / "broken" / "toy", content)
    before = contents(results)
    status, out, error = call("run", *RUN, "--dataset", folder, "--output", results, "--quiet")
    assert (status, out) == (2, "")
    message = one_error(error)
    for fragment in fragments:
        assert fragment in message
    assert contents(results) == before


BAD_ARGUMENTS = {
    "unknown model": (["--model", "GRU4RecMos"], ["'GRU4RecMos'", "GRU4RecMoS"]),
    "unknown RecBole model": (["--model", "gru4rec"], ["'gru4rec'", "GRU4Rec"]),
    "one unknown model of two": (["--model", "GRU4RecMoS", "Nonsense"], ["'Nonsense'"]),
    "a model of features": (["--model", "DeepFM"], ["DeepFM", "context"]),
    "unknown data set": (["--dataset", "no-such-data"], ["'no-such-data'", "no-such-data.inter"]),
    "unknown key": (["--learnig_rate=0.1"], ["--learnig_rate", "learning_rate"]),
    "unknown metric": (["--metrics=[Recal]"], ["'Recal'", "Recall"]),
    "metric without cut-off": (["--valid_metric=NDCG"], ["valid_metric", "NDCG@10"]),
    "no heads": (["--mos_heads=0"], ["--mos_heads", "0", "1"]),
    "wrong type": (["--learning_rate=fast"], ["--learning_rate", "'fast'", "number"]),
    "two faults": (["--learning_rate=fast", "--mos_heads=0"], ["--learning_rate", "--mos_heads"]),
    "stray argument": (["--epochs=1", "stray"], ["'stray'", "--key=value"]),
    "a value of two words": (["--topk", "5", "10"], ["'10'", "'--key=[1, 2]'"]),
    "no value": (["--learning_rate"], ["'--learning_rate'", "no value", "--key=value"]),
    "a misspelt option": (["--resum"], ["'--resum'", "--resume"]),
    "missing file of settings": (["--config", "missing.yaml"], ["missing.yaml"]),
    "unknown device": (["--device", "gpu7"], ["'gpu7'", "cuda"]),
    "seed is text": (["--seeds", "one"], ["--seeds", "'one'"]),
    "seed is negative": (["--seeds", "-1"], ["seed", "-1"]),
    "seed is too large": (["--seeds", "4294967296"], ["seed", "4294967296"]),
    "a loss of another model": (["--loss_type=BPR"], ["--loss_type", "negative_sampling"]),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_wrong_arguments_are_refused(case: str, call, data: Path, results: Path) -> None:
    """Status 2, one message that names the thing and what was expected; nothing is written."""
    arguments, fragments = BAD_ARGUMENTS[case]
    before = contents(results)
    run = ["run", *RUN] if "--device" not in arguments else ["run", *RUN[:2], *RUN[4:]]
    run += [] if "--dataset" in arguments else ["--dataset", data]
    status, out, error = call(*run, "--output", results, "--quiet", *arguments)
    assert (status, out) == (2, "")
    message = one_error(error)
    for fragment in fragments:
        assert fragment in message
    assert contents(results) == before


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["train"], "'train'"),
        (["run"], "--model"),
        (["ls", "--epochs=3"], "'--epochs=3'"),
        (["table", "--format", "word"], "'word'"),
        (["ls", "no/such/folder"], "no/such/folder"),
        (["table", "no/such/folder"], "no/such/folder"),
    ],
)
def test_wrong_commands_are_refused(arguments: list[str], fragment: str, call) -> None:
    """Status 2 and one message."""
    status, out, error = call(*arguments)
    assert (status, out) == (2, "")
    assert fragment in one_error(error)


@pytest.mark.parametrize("command", ["table", "ls"])
def test_nothing_to_show_and_broken_records(command: str, call, results: Path) -> None:
    """A record that was cut short is named; for the table so is a missing outcomes file."""
    (folder,) = (results / "runs").iterdir()
    record = folder / "record.json"
    content = record.read_bytes()
    record.write_bytes(content[: len(content) // 2])
    status, out, error = call(command, results)
    assert (status, out) == (2, "")
    assert str(record) in one_error(error)
    record.write_bytes(content)
    (folder / "outcomes.parquet").unlink()
    status, out, error = call("table", results)
    assert (status, out) == (2, "")
    assert "outcomes.parquet" in one_error(error)


@pytest.mark.parametrize("place", ["file", "file/x", "file/x/y"])
def test_an_output_that_cannot_be_written_to_is_refused(place: str, call, data: Path, tmp_path: Path) -> None:
    """A regular file and paths below it: status 2, the path is named, the file is as it was."""
    (tmp_path / "file").write_text("precious")
    status, out, error = call("run", *RUN, "--dataset", data, "--output", tmp_path / place, "--quiet")
    assert (status, out) == (2, "")
    assert str(tmp_path / "file") in one_error(error)
    assert (tmp_path / "file").read_text() == "precious"


def interrupted(call, data: Path, output: Path, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Path:
    """Returns the folder of a run that was interrupted after its first epoch, as Ctrl-C does."""

    def interrupt(self: EpochProgress, report: EpochReport) -> None:
        raise KeyboardInterrupt

    model = [] if "--model" in arguments else RUN[:2]
    with monkeypatch.context() as patch:
        patch.setattr(EpochProgress, "epoch", interrupt)
        common = [*model, *RUN[2:], "--dataset", data, "--output", output, "--quiet"]
        status, out, error = call("run", *common, *arguments)
    assert (status, out) == (130, "")
    assert "--resume" in error
    assert len(error.splitlines()) == 1
    (folder,) = (output / "runs").iterdir()
    return folder


def test_lines_of_epochs_name_the_best_validation_so_far(capsys: pytest.CaptureFixture[str]) -> None:
    """Whichever epoch is chosen in the end; of equals the first."""
    scores = [0.2, 0.5, 0.5, None, 0.4]
    with EpochProgress("GRU4RecMoS seed 1", load_settings("GRU4RecMoS"), quiet=False) as progress:
        for number, score in enumerate(scores, start=1):
            valid = None if score is None else {"NDCG@10": score}
            so_far = max(one for one in scores[:number] if one is not None)
            progress.epoch(EpochReport(number, 1.5, 1.0, 0.5, 1.0, 0.5, valid, number == len(scores), so_far))
    assert [line.split("epoch ", 1)[1] for line in capsys.readouterr().err.splitlines()] == [
        "1: loss 1.5000, valid NDCG@10 0.2000 (best 0.2000 in epoch 1), 1.5 s",
        "2: loss 1.5000, valid NDCG@10 0.5000 (best 0.5000 in epoch 2), 1.5 s",
        "3: loss 1.5000, valid NDCG@10 0.5000 (best 0.5000 in epoch 2), 1.5 s",
        "4: loss 1.5000, not validated (best 0.5000 in epoch 2), 1.5 s",
        "5: loss 1.5000, valid NDCG@10 0.4000 (best 0.5000 in epoch 2), 1.5 s",
    ]


def test_ctrl_c_and_resume(call, data: Path, finished: Path, tmp_path: Path, monkeypatch) -> None:
    """Status 130 and a hint; with --resume the run goes on to the table of an undisturbed one."""
    output = tmp_path / "results"
    interrupted(call, data, output, monkeypatch)
    status, out, error = call("run", *RUN, "--dataset", data, "--output", output, "--resume")
    assert status == 0
    assert "resumed after epoch 1" in error
    assert without_times(out) == without_times(call("table", finished)[1])


def test_resume_keeps_what_is_finished(call, data: Path, results: Path) -> None:
    """Not a byte of a finished run changes, and the table is its own."""
    before = contents(results)
    status, out, error = call("run", *RUN, "--dataset", data, "--output", results, "--resume")
    assert status == 0
    assert "already finished" in error
    assert contents(results) == before
    assert table_of(out) == table_of(call("table", results)[1])


@pytest.mark.parametrize("damage", ["truncated", "another model", "another run", "text"])
def test_a_checkpoint_that_cannot_be_used_is_refused(
    damage: str, call, data: Path, tmp_path: Path, monkeypatch
) -> None:
    """Status 2, the file is named and left as it is, as is all else."""
    path = interrupted(call, data, tmp_path / "results", monkeypatch) / "last.pt"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "text":
        path.write_text("not a checkpoint")
    elif damage == "another run":
        other = interrupted(call, data, tmp_path / "other", monkeypatch, "--mos_heads=3") / "last.pt"
        path.write_bytes(other.read_bytes())
    else:
        other = interrupted(call, data, tmp_path / "other", monkeypatch, "--model", "GRU4RecSoftmax") / "last.pt"
        path.write_bytes(other.read_bytes())
    before = contents(tmp_path / "results")
    arguments = [*RUN, "--dataset", data, "--output", tmp_path / "results", "--resume", "--quiet"]
    status, out, error = call("run", *arguments)
    assert (status, out) == (2, "")
    assert str(path) in one_error(error)
    assert contents(tmp_path / "results") == before


def test_a_refusal_as_a_user_sees_it(tmp_path: Path) -> None:
    """In a process of its own: the exit status, one line on standard error, nothing else, no results folder."""
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--model", "GRU4RecMoS", "--mos_heads=0"]
    command.append("--quiet")  # on a busy machine, loading takes seconds and is shown
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mos-recbole: error: --mos_heads")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------- processes


# Long enough to be killed in the middle: some seconds, by many small batches.
LONG = [*RUN[:-2], "--train_batch_size=8", "--epochs=20", "--stopping_step=20", "--quiet"]


def start(*arguments: object) -> subprocess.Popen:
    """Starts benchmarks/run.py."""
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )


def wait_for_checkpoint(process: subprocess.Popen, output: Path) -> Path:
    """Returns the run's folder once it has a checkpoint of whole epochs."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        found = list(output.glob("runs/*/last.pt"))
        if found:
            return found[0].parent
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint appeared (exit status {process.poll()})")


@pytest.mark.slow
def test_kill_9_and_resume_give_the_table_of_an_undisturbed_run(call, data: Path, tmp_path: Path) -> None:
    """While a run is at work, a second process on it ends with status 2; killed, it goes on to the same numbers.

    The resumed run, in a process of its own, says nothing on standard error with --quiet.
    """
    killed = [*LONG, "--dataset", data, "--output", tmp_path / "killed"]
    victim = start(*killed)
    try:
        folder = wait_for_checkpoint(victim, tmp_path / "killed")
        status, out, error = call("run", *killed)
        assert (status, out) == (2, "")
        assert str(folder) in one_error(error)
        assert victim.poll() is None, "the run ended before it could be killed"
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    assert not (folder / "record.json").exists()
    assert find_records(tmp_path / "killed") == []
    resumed = start(*killed, "--resume")
    try:
        status, undisturbed_out, _ = call("run", *LONG, "--dataset", data, "--output", tmp_path / "whole")
        resumed_out, resumed_error = resumed.communicate()
    finally:
        resumed.kill()
    assert (status, resumed.returncode, resumed_error) == (0, 0, "")
    assert without_times(resumed_out) == without_times(undisturbed_out)
    (one,), (other,) = find_records(tmp_path / "whole"), find_records(tmp_path / "killed")
    assert one.run_id == other.run_id
    assert (one.resumed, other.resumed) == (False, True)
    assert (one.test, one.valid, one.best_epoch) == (other.test, other.valid, other.best_epoch)
    columns = ["epoch", "loss", "best", *one.valid]
    assert one.training_log()[columns].equals(other.training_log()[columns])
    assert one.outcomes().equals(other.outcomes())


def test_a_setting_of_one_model_is_passed_over_by_the_others(call, data: Path, tmp_path: Path) -> None:
    """`--mos_heads` beside the softmax control holds for the mixture; a key that no named model has is refused."""
    names = ["--model", "GRU4RecMoS", "GRU4RecSoftmax", *RUN[2:]]
    common = ["--dataset", data, "--output", tmp_path / "results", "--quiet"]
    assert call("run", *names, *common, "--mos_heads=3")[0] == 0
    heads = {record.model: record.settings.get("mos_heads") for record in find_records(tmp_path / "results")}
    assert heads == {"GRU4RecMoS": 3, "GRU4RecSoftmax": None}
    status, _, error = call("run", *names, *common, "--n_heads=3")
    assert status == 2
    assert "GRU4RecMoS has no such setting" in one_error(error)
