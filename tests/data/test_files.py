"""Files that users have: features of items and users, lines that are broken, other formats, no times."""

import csv
import gzip
import io
import re
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mos_recbole.cli import main
from mos_recbole.data import SequenceDataset
from mos_recbole.data.reading import LogFile, read_log
from mos_recbole.data.reading.rows import quoted_rows
from mos_recbole.errors import InputError
from mos_recbole.experiment import load_settings
from mos_recbole.experiment.identity import protocol_hash

HEADER = "user_id:token\titem_id:token\ttimestamp:float"
NAMES = ["NA", "nan", "None", "null", '"quoted', 'in"side', "7", " x"]
ITEM_HEADER = "item_id:token\tcat:token\ttags:token_seq\tprice:float\tvec:float_seq"
ITEMS = [f"{name}\tc{place % 3}\tt{place} t{place % 2}\t{place}.5\t0.5 {place}" for place, name in enumerate(NAMES)]
LOADED = {"item": ["item_id", "cat", "tags", "price", "vec"]}


def write(folder: Path, items: list[str] | None = None, name: str = "toy", end: str = "\n") -> Path:
    """Writes interactions of 8 users with all items, and the lines of an `.item` file; returns the folder."""
    dataset = folder / name
    dataset.mkdir(exist_ok=True)
    rows = [f"u{user}\t{NAMES[(user + step) % 8]}\t{step}" for user in range(8) for step in range(8)]
    (dataset / f"{name}.inter").write_bytes(end.join([HEADER, *rows, ""]).encode())
    if items is not None:
        (dataset / f"{name}.item").write_bytes(end.join([ITEM_HEADER, *items, ""]).encode())
    return dataset


def load(dataset: Path, **overrides: Any) -> SequenceDataset:
    """Returns a data set, read with these settings."""
    settings = load_settings("GRU4RecSoftmax", str(dataset), overrides=overrides)
    return SequenceDataset(settings.recbole_config(torch.device("cpu")))


# ---------------------------------------------------------------------------------------------------- features


@pytest.mark.parametrize("missing", [[], [0, 2], [7]])
def test_features_change_neither_interactions_nor_protocol(
    missing: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Items that a file of features leaves out keep their interactions, and are counted."""
    folder = write(tmp_path, [line for place, line in enumerate(ITEMS) if place not in missing])
    without = load(folder)
    assert not caplog.records
    data = load(folder, load_col=LOADED)
    protocol = load_settings("GRU4RecSoftmax", str(folder)).protocol(has_repeats=False)
    assert data.fingerprint().startswith(without.fingerprint() + "+")
    assert protocol_hash(protocol, data.fingerprint()) == protocol_hash(protocol, without.fingerprint())
    assert data.id2token("item_id", np.arange(1, 9)).tolist() == without.id2token("item_id", np.arange(1, 9)).tolist()
    said = [record.getMessage() for record in caplog.records]
    names = ", ".join(repr(NAMES[place]) for place in missing)
    assert said == (
        [f"{folder}/toy.item: {len(missing)} items without features ({names}); their interactions are kept"]
        if missing
        else []
    )


@pytest.mark.parametrize("wanted", [None, "[1,inf)"])
def test_items_that_only_features_have_are_no_candidates(
    wanted: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Models without features would not have them. They are with RecBole, unless it filters by counts; it is said."""
    folder = write(tmp_path, [*ITEMS, "new\tc1\tt1\t9.5\t0.5 1", "other\tc1\tt1\t9.5\t0.5 1"])
    data = load(folder, load_col=LOADED, item_inter_num_interval=wanted)
    assert data.item_num - 1 == 8
    told = f"{folder}/toy.item: 2 items without interactions are left out; they are candidates with RecBole"
    assert caplog.messages == ([told] if wanted is None else [])


def test_features_are_as_the_file_has_them_and_gaps_are_filled(tmp_path: Path) -> None:
    """No quoting, no missing names; an item without features has padding, the mean, and empty lists."""
    lines = [ITEMS[0], "nan\t\t\t\t", *ITEMS[3:]]  # the third is missing, the second has nothing
    data = load(write(tmp_path, lines), load_col=LOADED)
    features = data.item_feat
    row = {name: data.token2id("item_id", name) for name in NAMES}
    assert data.id2token("cat", features["cat"][row["NA"]]) == "c0"
    assert features["vec"][row['"quoted']].tolist() == [0.5, 4.0]
    assert data.id2token("tags", features["tags"][row['in"side']]).tolist() == ["t5", "t1"]
    mean = np.mean([0.5, 3.5, 4.5, 5.5, 6.5, 7.5])
    for name in ("nan", "None"):
        assert features["cat"][row[name]] == 0
        assert features["price"][row[name]] == pytest.approx(mean)
        assert features["tags"][row[name]].tolist() == [0, 0]
        assert features["vec"][row[name]].tolist() == [0, 0]


def test_a_filter_on_features_drops_interactions(tmp_path: Path) -> None:
    """The user asks for it: items out of the interval, and those of which it is not known."""
    data = load(write(tmp_path, ITEMS[:6]), load_col=LOADED, val_interval={"price": "[2,inf)"})
    assert data.item_num - 1 == 4
    assert len(data.sequences.items) == 4 * 8


def test_lists_of_items_are_numbered_as_items(tmp_path: Path) -> None:
    """`alias_of_item_id`; names that no interaction has are left out, since they would be candidates."""
    folder = write(tmp_path)
    (folder / "toy.item").write_text("item_id:token\tlike:token_seq\nNA\t7 nowhere null\n7\t\n")
    options: dict[str, Any] = {"load_col": {"item": ["item_id", "like"]}, "alias_of_item_id": ["like"]}
    data = load(folder, **options)
    assert data.item_num - 1 == 8
    like = data.item_feat["like"][data.token2id("item_id", "NA")]
    assert data.id2token("item_id", like[:2]).tolist() == ["7", "null"]
    with pytest.raises(InputError, match=r"alias_of_item_id names 'lik', which is not loaded by load_col"):
        load(folder, **options | {"alias_of_item_id": ["lik"]})
    with pytest.raises(InputError, match=r"alias_of_item_id names 'price', a column of type float; expected token"):
        load(write(tmp_path, ITEMS, name="float"), load_col=LOADED, alias_of_item_id=["price"])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"numerical_features": ["tags"]}, "numerical_features names 'tags', a column of type token_seq; expected "),
        ({"numerical_features": ["cat"]}, "numerical_features names 'cat', a column of type token; expected float or"),
        (
            {"numerical_features": ["price"], "discretization": {"cat": {"method": "ED", "bucket": 3}}},
            "discretization names 'cat', a column of type token; expected float or float_seq",
        ),
    ],
)
def test_names_are_no_numbers(settings: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        load(write(tmp_path, ITEMS), load_col=LOADED, **settings)


def test_weights_of_names_without_numbers(tmp_path: Path) -> None:
    """Of a further file RecBole numbers the names that have an alias."""
    folder = write(tmp_path)
    (folder / "toy.vec").write_text("iid:token\tvec:float_seq\nNA\t1 2\n7\t3 4\n")
    options: dict[str, Any] = {"additional_feat_suffix": ["vec"], "load_col": {"vec": ["iid", "vec"]}}
    options["preload_weight"] = {"iid": "vec"}
    with pytest.raises(InputError, match="preload_weight names 'iid', which has no numbers of its own; expected it in"):
        load(folder, **options)
    assert load(folder, **options, alias_of_item_id=["iid"]).get_preload_weight("iid").shape[1] == 2


def test_a_column_of_lists_is_left_out_as_the_message_says(tmp_path: Path) -> None:
    folder = write(tmp_path)
    path = folder / "toy.inter"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0] + "\ttags:token_seq", *(f"{line}\ta b" for line in lines[1:]), ""]))
    with pytest.raises(InputError, match="'tags' holds lists, which are not read; take it out of load_col"):
        load(folder, load_col={"inter": ["user_id", "item_id", "timestamp", "tags"]})
    with pytest.raises(InputError, match=r"which are not read; leave it out by unload_col: {inter: \[tags\]}"):
        load(folder, load_col={"inter": "*"})
    assert load(folder, unload_col={"inter": ["tags"]}).fingerprint() == load(folder).fingerprint()


def test_carriage_returns_and_encodings(tmp_path: Path) -> None:
    """As of the interactions."""
    folder = write(tmp_path, ITEMS, end="\r\n")
    path = folder / "toy.item"
    path.write_bytes(path.read_text(encoding="utf-8").replace("c0", "é").encode("latin-1"))
    data = load(folder, load_col=LOADED, encoding="latin-1")
    assert "é" in data.field2token_id["cat"]
    assert load(write(tmp_path, ITEMS, name="same"), load_col=LOADED).item_feat["price"].tolist() == (
        data.item_feat["price"].tolist()
    )


FAULTS = {
    "NA\tc0\tt0": "line 2: found 3 fields; expected the header's 5 fields, item_id, cat, tags, price, vec",
    "NA\tc0\tt0\tcheap\t1": "line 2, column price: found 'cheap'; expected a number",
    "NA\tc0\tt0\t1\t1 two": "line 2, column vec: found 'two'; expected numbers",
    "\tc0\tt0\t1\t1": "line 2, column item_id: found nothing; expected a name",
    "nan\tc0\tt0\t1\t1": "line 3, column item_id: found 'nan'; expected a name that no line before has",
}


@pytest.mark.parametrize("line", FAULTS)
def test_a_broken_line_of_features_is_named_or_skipped(
    line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The message, with the remedy; and with it, a count and all interactions."""
    folder = write(tmp_path, [line, *ITEMS[1:]])
    with pytest.raises(InputError) as caught:
        load(folder, load_col=LOADED)
    message = f"{folder}/toy.item, {FAULTS[line]}; or leave such lines out with --skip_bad_lines=True"
    assert str(caught.value) == message
    data = load(folder, load_col=LOADED, skip_bad_lines=True)
    assert len(data.sequences.items) == 64
    assert f"{folder}/toy.item: bad lines left out: 1 (skip_bad_lines)" in caplog.messages


def test_a_byte_order_mark_of_features_is_named(tmp_path: Path) -> None:
    """And the encoding that reads it does."""
    folder = write(tmp_path, ITEMS)
    path = folder / "toy.item"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    with pytest.raises(InputError, match=r"toy.item, line 1: begins with a byte order mark; .*--encoding=utf-8-sig"):
        load(folder, load_col=LOADED)
    assert load(folder, load_col=LOADED, encoding="utf-8-sig").item_num == 9


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With those that are."""
    with pytest.raises(InputError, match=r"toy.item, line 1: no column 'color', which load_col names; found item_id, "):
        load(write(tmp_path, ITEMS), load_col={"item": ["item_id", "color"]})


@pytest.mark.parametrize(("features", "problem"), [("[cat, price]", "float; "), ("[cat, vec]", "float_seq; ")])
def test_features_that_a_model_cannot_take_are_one_sentence(
    features: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before training; other models of the command run."""
    folder = write(tmp_path, ITEMS)
    loaded = "--load_col={item: [item_id, cat, price, vec]}"
    run = ["run", "--model", "SASRecF", "Pop", "--dataset", str(folder), loaded, f"--selected_features={features}"]
    assert main([*run, "--epochs=1", "--output", str(tmp_path), "--device", "cpu"]) == 2
    shown = capsys.readouterr()
    assert f"a column of type {problem}expected a column of names" in shown.err
    assert "| Pop " in shown.out


# ---------------------------------------------------------------------------------------------------- broken lines


@pytest.mark.parametrize("line", ["u0\tNA", "u0\tNA\t1\t2", "u0\tNA\tsoon", "u0\tNA\t", "u0\tNA\tinf", "u0\t\xff\t3"])
def test_broken_interactions_are_skipped_and_counted(
    line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each kind of fault, twice; again from the cache."""
    folder = write(tmp_path)
    whole = load(folder).fingerprint()
    path = folder / "toy.inter"
    lines = path.read_bytes().splitlines(keepends=True)
    broken = line.encode("latin-1") + b"\n"
    path.write_bytes(b"".join([lines[0], broken, *lines[1:], broken]))
    with pytest.raises(InputError, match=r"toy.inter, line 2.*; or leave such lines out with --skip_bad_lines=True"):
        load(folder)
    for _ in range(2):
        caplog.clear()
        assert load(folder, skip_bad_lines=True).fingerprint() == whole
        assert caplog.messages == [f"{path}: bad lines left out: 2 (skip_bad_lines)"]


def test_a_last_line_that_is_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in RecBole's own test data; the option stands for the setting."""
    folder = write(tmp_path)
    path = folder / "toy.inter"
    path.write_bytes(path.read_bytes() + b"u7\tNA")
    with pytest.raises(InputError, match=r"line 66: found 2 fields; .*--skip_bad_lines=True"):
        load(folder)
    assert main(["prepare", str(folder), "--skip-bad-lines"]) == 0
    shown = capsys.readouterr()
    assert "bad lines left out: 1" in shown.err
    assert f"--dataset {folder} --skip_bad_lines=True" in shown.out


# ---------------------------------------------------------------------------------------------------- other formats

COLUMNS = "user=who,item=what,time=when"


def table(folder: Path) -> pd.DataFrame:
    """Returns the interactions of `write` under other names, with a column that is not read."""
    frame = pd.read_csv(folder / "toy.inter", sep="\t", quoting=3, keep_default_na=False)
    frame.columns = ["who", "what", "when"]
    return frame.assign(item_id="other")[["when", "item_id", "what", "who"]]


def write_table(frame: pd.DataFrame, path: Path) -> Path:
    """Writes a frame in the format of the name; returns the path."""
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(
            path, index=False, sep="\t" if ".tsv" in path.name else ",", quoting=3 if ".tsv" in path.name else 0
        )
    return path


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.parquet", "log.csv.gz", "log.tsv.gz"])
def test_a_file_in_another_format_is_the_same_data(name: str, tmp_path: Path) -> None:
    """Any header, by `columns`, as text or as a mapping."""
    folder = write(tmp_path)
    path = write_table(table(folder), tmp_path / name)
    for columns in (COLUMNS, {"user": "who", "item": "what", "time": "when"}):
        settings = load_settings("GRU4RecSoftmax", str(path), overrides=[f"columns={columns}"])
        assert settings.dataset == "log"
        data = SequenceDataset(settings.recbole_config(torch.device("cpu")))
        assert data.fingerprint() == load(folder).fingerprint()


def test_an_atomic_file_that_is_compressed(tmp_path: Path) -> None:
    """Its columns have RecBole's names."""
    folder = write(tmp_path)
    path = tmp_path / "zipped.inter.gz"
    path.write_bytes(gzip.compress((folder / "toy.inter").read_bytes()))
    assert load(path).fingerprint() == load(folder).fingerprint()


def test_moments_in_a_parquet_file(tmp_path: Path) -> None:
    """They are numbers in their own unit."""
    frame = table(write(tmp_path))
    frame["when"] = pd.to_datetime(frame["when"] * 1000, unit="ms").astype("datetime64[ms]")
    data = load(write_table(frame, tmp_path / "log.parquet"), columns=COLUMNS)
    assert data.sequences.times[:3].tolist() == [0, 1000, 2000]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("log.csv", {}, "no column 'user_id' for the user; found when, item_id, what, who; --columns user=..."),
        ("log.csv", {"columns": "user=who,item=it,time=when"}, "no column 'it' for the item; found when, item_id"),
        ("no.csv", {"columns": COLUMNS}, "no.csv: no such file; expected .csv, .tsv or .parquet"),
        ("toy", {"columns": COLUMNS}, "columns is for a --dataset that is a .csv, .tsv or .parquet file"),
        ("log.csv", {"columns": "user=who,item=who,time=when"}, "--columns has the column 'who' for two of user, item"),
        ("log.csv", {"columns": "usr=who"}, "expected user=...,item=...,time=..."),
    ],
)
def test_columns_that_do_not_fit_are_said(name: str, settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    """One sentence, with what there is."""
    write_table(table(write(tmp_path)), tmp_path / "log.csv")
    with pytest.raises(InputError) as caught:
        load(tmp_path / name, **settings)
    assert message in str(caught.value)


def test_a_separator_of_ones_own(tmp_path: Path) -> None:
    """What field_separator says, with quotation marks as in any .csv file."""
    frame = table(write(tmp_path))
    frame.to_csv(tmp_path / "log.csv", index=False, sep=";")
    assert (
        load(tmp_path / "log.csv", columns=COLUMNS, field_separator=";").fingerprint()
        == load(tmp_path / "toy").fingerprint()
    )


def test_a_column_of_lists_in_a_parquet_file_is_named(tmp_path: Path) -> None:
    frame = table(write(tmp_path))
    frame["what"] = [[name] for name in frame["what"]]
    with pytest.raises(InputError, match=r"log.parquet: the column 'what' has list<.*>; expected names or numbers"):
        load(write_table(frame, tmp_path / "log.parquet"), columns=COLUMNS)


def test_the_model_of_a_run_on_a_file_is_asked_with_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lists and exports, by the path that the run was given."""
    path = write_table(table(write(tmp_path)), tmp_path / "log.csv")
    place = ["--dataset", str(path), "--device", "cpu"]
    run = ["run", "--model", "GRU4RecSoftmax", "--columns", COLUMNS, "--output", str(tmp_path), "--epochs=1"]
    assert main([*run, *place]) == 0
    asked = ["GRU4RecSoftmax", "--results", str(tmp_path), *place]
    assert main(["recommend", *asked, "--all-users", "--k", "2", "--output", str(tmp_path / "lists.csv")]) == 0
    assert (tmp_path / "lists.csv").read_text().startswith("query,rank,item,score")
    assert main(["export", *asked, "--format", "npz", "--output", str(tmp_path / "model.npz")]) == 0


def test_values_in_quotation_marks(tmp_path: Path) -> None:
    """In .csv files they may hold the separator; faults are named by line there too."""
    path = tmp_path / "log.csv"
    rows = [f'{step},"u,{user}",i{(user + step) % 5}' for user in range(4) for step in range(5)]
    path.write_text("\n".join(["when,who,what", *rows, ""]))
    assert load(path, columns=COLUMNS).token2id("user_id", "u,1") == 2
    path.write_text("\n".join(["when,who,what", *rows, '9,"u,1"', ""]))
    with pytest.raises(InputError, match=r"log.csv, line 22: found 2 fields"):
        load(path, columns=COLUMNS)


def test_prepare_and_run_take_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Printed: the same data, and a command that works."""
    path = write_table(table(write(tmp_path)), tmp_path / "log.csv")
    assert main(["prepare", str(path), "--columns", COLUMNS]) == 0
    shown = capsys.readouterr().out
    assert "log: 8 users, 8 items, 64 interactions" in shown
    assert f"--dataset {path} --columns={COLUMNS}" in shown
    run = ["run", "--model", "Pop", "--dataset", str(path), "--columns", COLUMNS, "--output", str(tmp_path)]
    assert main([*run, "--device", "cpu"]) == 0
    assert "log: " in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------- quotation marks

BLOCK = 2**23  # in which pyarrow reads a file


@pytest.mark.parametrize(
    "review", ["Good.\nBuy it", "Size: L\nred,blue,7,green\nok", 'a ""word""\r\nof it', "one\rtwo"]
)
@pytest.mark.parametrize("n_rows", [60, BLOCK // 60])
def test_line_ends_within_quotation_marks(review: str, n_rows: int, tmp_path: Path) -> None:
    """Across the blocks of a large file too; no line of a value is an interaction."""
    path = tmp_path / "log.csv"
    rows = [f'u{row % 5},i{row % 11},{row},"{review + 40 * "."}"\n' for row in range(n_rows)]
    path.write_text("".join(["user_id,item_id,timestamp,review\n", *rows]), newline="")
    assert n_rows == 60 or path.stat().st_size > BLOCK
    data = load(path)
    assert (data.user_num, data.item_num, len(data.sequences.items)) == (6, 12, n_rows)
    assert data.sequences.times.sum() == n_rows * (n_rows - 1) // 2


def test_a_bad_line_among_values_of_several_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is named by its own line, and left out alone."""
    path = tmp_path / "log.csv"
    rows = [f'u{row % 5},i{row % 11},{row},"Size: L\nred,blue,7,green"\n' for row in range(60)]
    header = "user_id,item_id,timestamp,review\n"
    for bad, message, n_lines in (
        ("u1,i1\n", "line 42: found 2 fields", 1),
        ('u1,i1,"7\n8"\n', "line 42: found 3 fields", 2),
        ("u1,i1,never,x\n", "line 42, column timestamp: found 'never'", 1),
        ('u1,i1,9,"x" y\n', "line 42: ',' expected after '\"'; expected quotation marks", 1),
        ('u1,i1,9,"x\n', "line 42: ',' expected after '\"'; expected quotation marks", 1),
    ):
        path.write_text("".join([header, *rows[:20], bad, *rows[20:]]))
        with pytest.raises(InputError, match=f"log.csv, {message}"):
            load(path)
        caplog.clear()
        assert len(load(path, skip_bad_lines=True).sequences.items) == 60, bad
        assert caplog.messages == [f"{path}: bad lines left out: {n_lines} (skip_bad_lines)"]


def test_the_rows_of_a_file_with_quotation_marks() -> None:
    """Each with its lines. A mark that nothing closes is a fault of its own line, and takes no row below with it."""
    text = 'a,"b\nc"\n\nd,"e\nf,g\nh,"i"\nj,"k"l\nm,n\r\no,"p\n'
    lines = enumerate(text.encode().splitlines(keepends=True), start=2)
    rows = list(quoted_rows(Path("x.csv"), lines, ",", "utf-8"))
    assert [list(numbers) for numbers, _ in rows] == [[2, 3], [5], [6], [7], [8], [9], [10]]
    fields = [row if isinstance(row, list) else str(row).partition(";")[0] for _, row in rows]
    assert fields == [
        ["a", "b\nc"],
        "x.csv, line 5: ',' expected after '\"'",
        ["f", "g"],
        ["h", "i"],
        "x.csv, line 8: ',' expected after '\"'",
        ["m", "n"],
        "x.csv, line 10: unexpected end of data",
    ]


def test_a_good_and_a_bad_row_that_share_a_line(tmp_path: Path) -> None:
    """Carriage returns alone end rows too: with the bad row, part of the good one goes, and is bad then."""
    path = tmp_path / "log.csv"
    columns = dict.fromkeys(("user_id", "item_id", "note"), "token")
    path.write_text('user_id,item_id,note\nu,i,"1\n2"\nu,j,"3\n4"\ru,j\nu,k,5\n', newline="")
    log = read_log(LogFile(path, columns, ",", "utf-8", quoting=True), list(columns), None, skip_bad_lines=True)
    assert log.tokens["note"].names.to_pylist() == ["1\n2", "5"]
    assert log.skipped_lines == 2


VALUES = st.sampled_from(["a", "7", '"', 'x"y', "l\nm", "c,d", " q", "\n\n", ""])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=30),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    damage=st.none() | st.tuples(st.integers(0, 200), st.sampled_from(['"', ",", "\n", "\r", '""', "x"])),
)
def test_values_are_those_that_were_written(
    rows: list[tuple[str, str, str]], quoting: int, end: str, damage: tuple[int, str] | None, tmp_path_factory: Any
) -> None:
    """Whatever the blocks are cut at; and of a damaged file, what is left without bad lines can be read."""
    path = tmp_path_factory.mktemp("csv") / "log.csv"
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting, lineterminator=end)
    writer.writerows([("user_id", "item_id", "note"), ("u", "i", "n"), *rows])
    content = text.getvalue()
    if damage is not None:
        place = max(len("user_id,item_id,note\r\n") + 6, min(damage[0], len(content)))
        content = content[:place] + damage[1] + content[place:]
    path.write_text(content, newline="")
    file = LogFile(path, dict.fromkeys(("user_id", "item_id", "note"), "token"), ",", "utf-8", quoting=True)
    with mock.patch("mos_recbole.data.reading.batches._BLOCK_BYTES", 200):
        log = read_log(file, list(file.columns), None, skip_bad_lines=damage is not None)
    if damage is None:
        names = [np.array([*column.names.to_pylist(), ""])[column.codes].tolist() for column in log.tokens.values()]
        assert list(zip(*names, strict=True)) == [("u", "i", "n"), *(row for row in rows if any(row))]


@pytest.mark.parametrize("value", ['"x\n', '"x'])
def test_quotation_marks_that_nothing_closes(value: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The rest of the file is no part of the value."""
    path = tmp_path / "log.csv"
    rows = [f"u{row % 5},i{row % 11},{row},x\n" for row in range(60)]
    path.write_text("".join(["user_id,item_id,timestamp,review\n", *rows, f"u1,i1,99,{value}", *rows[: "\n" in value]]))
    with pytest.raises(InputError, match=r"log.csv, line 62: unexpected end of data; expected quotation marks"):
        load(path)
    assert len(load(path, skip_bad_lines=True).sequences.items) == 60 + ("\n" in value)
    assert f"{path}: bad lines left out: 1 (skip_bad_lines)" in caplog.messages


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('user_id,item_id,timestamp,"a, b"', None),
        ('"user_id","item_id", "timestamp",c: d', None),
        ("user_id:token,item_id:token,timestamp:float,c:token_seq", None),
        ("user_id,timestamp: read,item_id,timestamp", None),
        ('user_id,item_id,timestamp,"a', "line 1: unexpected end of data; expected a header in one line"),
        ("user_id;item_id;timestamp;a", "fields are not separated by ',': --field_separator says by what"),
        ("user,item_id,timestamp,a", "no column 'user_id' for the user; found user, item_id, timestamp, a; --columns"),
    ],
)
def test_headers_of_files_with_commas(header: str, found: str | None, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = [f"u{row % 5},i{row % 11},{row},{row}\n" for row in range(60)]
    path.write_text("".join([f"{header}\n", *rows]))
    if found is None:
        assert len(load(path).sequences.items) == 60
    else:
        with pytest.raises(InputError, match=re.escape(found)):
            load(path)


@pytest.mark.parametrize("place", ["item_id", "user_id", "described", "feature"])
def test_names_with_nul_bytes_are_faults(place: str, tmp_path: Path) -> None:
    """As in a file that was not written to its end. NumPy would take them for the name before the NUL."""
    folder = write(tmp_path, ITEMS)
    inter, item = folder / "toy.inter", folder / "toy.item"
    path = item if place in ("described", "feature") else inter
    lines = path.read_text().splitlines()
    number = {"item_id": 1, "user_id": 0, "described": 0, "feature": 1}[place]
    fields = lines[4].split("\t")
    fields[number] += "\0\0"
    path.write_text("\n".join([*lines[:4], "\t".join(fields), *lines[5:], ""]))
    with pytest.raises(InputError, match=r"line 5, column \w+: found .*x00.*; expected a name without NUL bytes"):
        load(folder, load_col=LOADED)
    load(folder, load_col=LOADED, skip_bad_lines=True)


# ---------------------------------------------------------------------------------------------------- no times


@pytest.mark.parametrize("features", [None, ITEMS])
@pytest.mark.parametrize("order", ["file", "random", "reverse"])
def test_without_times_the_order_is_that_of_the_file(
    order: str, features: list[str] | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By either way of reading; said in a warning and among the counts."""
    folder = write(tmp_path, features)
    path = folder / "toy.inter"
    lines = [line.rpartition("\t")[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join([lines[0], *lines[:0:-1], ""]))
    with pytest.raises(InputError, match=r"no column 'timestamp', .*--TIME_FIELD=null takes the order of the file"):
        load(folder)
    loaded = {} if features is None else {"load_col": LOADED}
    data = load(folder, TIME_FIELD=None, tie_order=order, **loaded)
    first = data.id2token("item_id", data.sequences.items[:8]).tolist()
    assert first == [NAMES[(7 + step) % 8] for step in reversed(range(8))]
    assert data.sequences.times[:9].tolist() == [*range(8), 0]
    assert any("in the order of the file" in message for message in caplog.messages)
    summary = data.summary(data.split())
    assert summary.as_dict()["in_file_order"] is True
    assert "(without times, in the order of the file)" in summary.describe()


def test_without_times_there_is_no_split_by_time(tmp_path: Path) -> None:
    """Positions within a user say nothing across users."""
    with pytest.raises(InputError, match=r"split is 'temporal', but no times are read"):
        load(write(tmp_path), TIME_FIELD=None, split="temporal").split()


@pytest.mark.parametrize("text", ["null", "~", "None"])
def test_no_times_as_an_argument(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As YAML and RecBole's users write it; by `columns`, a time is left out."""
    folder = write(tmp_path)
    assert main(["prepare", str(folder), f"--TIME_FIELD={text}"]) == 0
    assert "without times" in capsys.readouterr().out
    path = write_table(table(folder), tmp_path / "log.csv")
    assert main(["prepare", str(path), "--columns=user=who,item=what"]) == 0
    assert "without times" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"load_col": {"inter": ["nosuch"]}}, "toy.inter, line 1: no column 'nosuch', which load_col names; found "),
        ({"load_col": None, "unload_col": {"inter": ["nosuch"]}}, "no column 'nosuch', which unload_col names"),
        ({"unused_col": {"inter": ["nosuch"]}}, "no column 'nosuch', which unused_col names"),
        ({"val_interval": {"timestamp": ["a"]}}, "val_interval of 'timestamp' is .'a'.; expected an interval"),
        ({"val_interval": {"user_id": "[1,2]"}}, "val_interval of 'user_id' is '.1,2.'; expected a list of its names"),
        ({"val_interval": {"nosuch": "[1,2]"}}, "val_interval names 'nosuch', which is no column that is loaded"),
        ({"val_interval": {"vec": "[1,2]"}, "load_col": LOADED}, "val_interval names 'vec', which holds lists"),
        ({"val_interval": {"timestamp": "[2,1]"}}, "expected the smaller number first in .2,1."),
        ({"user_inter_num_interval": "[2,inf);(9,8]"}, "expected the smaller number first in .9,8."),
        ({"seq_len": {"nosuch": 3}}, "seq_len names 'nosuch', which is no column that is loaded"),
    ],
)
def test_names_and_intervals_that_would_be_passed_over(settings: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        load(write(tmp_path, ITEMS), **settings)


def test_files_that_are_not_read_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write(tmp_path, ITEMS)
    (folder / "toy.net").write_text("source_id:token\ttarget_id:token\nu1\tu2\n")
    load(folder, load_col={"inter": None, "net": "*", "user": "*"})
    net, user = caplog.messages
    assert "toy.net is not read: GRU4RecSoftmax uses none" in net
    assert "toy.user: no such file, though load_col names it" in user


@pytest.mark.parametrize("settings", [{}, {"alias_of_user_id": None, "load_col": {"inter": ["kind"]}}])
def test_what_is_not_loaded_and_what_is_cut_off_are_told(
    settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By both ways from the file; each time, also where the data come from the cache."""
    folder = tmp_path / "toy"
    folder.mkdir()
    rows = [f"u{row % 9}\ti{row % 7}\t{'good' if row < 3 else row}\tk\t{row}" for row in range(60)]
    header = "user_id:token\titem_id:token\trating:float\tkind:token\ttimestamp:float"
    (folder / "toy.inter").write_text("\n".join([header, *rows]))
    for _ in range(2):
        caplog.clear()
        load(folder, **settings)
        rating, end = caplog.messages
        assert "3 values of rating are no numbers; the column is not loaded" in rating
        assert "the last line has no line end" in end
    (folder / "toy.inter").write_text("\n".join([header, *rows, ""]))
    caplog.clear()
    load(folder, **settings)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("name", ["cut.csv.gz", "none.csv.gz", "none.parquet"])
def test_compressed_files_that_are_not_whole_are_named(name: str, tmp_path: Path) -> None:
    whole = gzip.compress(b"user_id,item_id,timestamp\n" + b"1,2,3\n" * 1000)
    content = {"cut.csv.gz": whole[:-20], "none.csv.gz": b"text", "none.parquet": b"PAR1" + bytes(50) + b"PAR1"}
    (tmp_path / name).write_bytes(content[name])
    with pytest.raises(InputError, match=name):
        load(tmp_path / name)
