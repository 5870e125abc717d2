"""Generated files of data, settings, sweeps and results: read as they say, or one message that names the file.

GENERATED_MINUTES and GENERATED_SEED in the environment: files for so long, seed after seed (CONTRIBUTING.md).
"""

import copy
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from fabricated import MOS, Maker
from hypothesis import strategies as st

from mos_recbole.data.reading import LogFile, read_log, table_file
from mos_recbole.errors import InputError
from mos_recbole.results import RECORD_FILE, read_record
from mos_recbole.results.documents import sealed
from mos_recbole.settings import load_settings
from mos_recbole.sweep import plan_sweep

SEED = int(os.environ.get("GENERATED_SEED", "20261129"))
MINUTES = float(os.environ.get("GENERATED_MINUTES", "0"))
FIELDS = ("user_id", "item_id", "timestamp")

# ------------------------------------------------------------------------------------------------ interactions

CELLS = [
    *("1", "2", "u1", "i7", "", " ", "0x1F", "1e3", "1.", ".5", "-0", "+7", "inf", "nan", "NA", "1_000", "é", "\x00"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "1e400", "1.0000001", '"', "'", "a b"),
    *("978300760", "978300760.5", "1,5", "#", "\\N", "=1+1", "\x1b[31m", "x" * 300, "1E5", "00012", "\ufeff1", "1\r"),
]
KINDS = ["token", "float", "token_seq", "float_seq", "token", "float", "int", ""]
NAMES = ["user_id", "item_id", "timestamp", "rating", "item_id", "x", "", "a:b"]


FEW = st.sampled_from([0, 0, 0, 1, 3])


@st.composite
def interactions(draw: st.DrawFn) -> bytes:
    """Returns a file of interactions: three right columns, odd cells, at times an odd header or odd bytes."""
    header = ["user_id:token", "item_id:token", "timestamp:float"]
    for _ in range(draw(FEW)):
        header.insert(
            draw(st.integers(0, len(header))), f"{draw(st.sampled_from(NAMES))}:{draw(st.sampled_from(KINDS))}"
        )
    names, numbers = st.sampled_from(["1", "2", "u1", "i7", "5"]), st.sampled_from(["1", "2", "978300760", "-5", "2.5"])
    plain = st.tuples(*(numbers if name.endswith(":float") else names for name in header))
    rows = [list(row) for row in draw(st.lists(plain, max_size=8))]
    odd = st.sampled_from(CELLS) | st.floats().map(repr) | st.integers(-(2**65), 2**65).map(str)
    for number in draw(st.lists(st.integers(0, 99), max_size=draw(FEW))):
        for row in rows[number % 8 : number % 8 + 1]:
            row[number % len(row)] = draw(odd)
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n"]))
    content = end.join(["\t".join(header), *map("\t".join, rows), *draw(st.sampled_from([[""], []]))])
    data = bytearray(content.encode("utf-8", "surrogatepass"))
    for place in draw(st.lists(st.integers(0, max(len(data) - 1, 0)), max_size=draw(FEW))):
        data[place] = draw(st.sampled_from(b'\t\n\x00\xff\r":,9\x80'))
    return draw(st.sampled_from([b""] * 9 + [b"\xef\xbb\xbf", b"\xff\xfe", b"\n", b"\x1f\x8b", b"PK\x03\x04"])) + bytes(
        data
    )


def said_by(file: LogFile) -> list[tuple[str, str, float]]:
    """Returns users, items and times of a file, read line by line in the plainest way."""
    places = [list(file.columns).index(name) for name in FIELDS]
    lines = [line for line in file.path.read_bytes().split(b"\n")[1:] if line.strip(b"\r")]
    # Bytes that are no text may be in a column that is not read.
    cells = [line.removesuffix(b"\r").decode(errors="replace").split("\t") for line in lines]
    rows = [[one[place] for place in places] for one in cells]
    return sorted((user, item, float(time)) for user, item, time in rows if user and item)


def read_interactions(content: bytes, folder: Path) -> str | None:
    """Returns the message with which a file is refused; None where it is read, and as it says."""
    (folder / "toy").mkdir(exist_ok=True)
    path = folder / "toy" / "toy.inter"
    path.write_bytes(content)
    try:
        file = LogFile.find(folder / "toy", "toy", FIELDS, "\t", "utf-8")
        if any(file.columns[name].endswith("_seq") for name in FIELDS):
            return "lists"  # refused by the data set
        log = read_log(file, list(FIELDS), "timestamp")
    except InputError as error:
        return str(error)
    if b"\r" in content.replace(b"\r\n", b"\n"):
        return None  # a line may end with it, or not
    names = {name: [*column.names.to_pylist(), None] for name, column in log.tokens.items()}
    found = zip(*(log.tokens[name].codes for name in FIELDS[:2]), log.times, strict=True)
    rows = [(names["user_id"][user], names["item_id"][item], float(time)) for user, item, time in found]
    assert sorted(row for row in rows if None not in row) == said_by(file)
    return None


def read_table(content: bytes, folder: Path) -> str | None:
    """Returns the message with which the same with commas is refused; None where it is read."""
    path = folder / "toy.csv"
    path.write_bytes(content.replace(b"\t", b","))
    try:
        file, time_field = table_file(path, FIELDS, {}, "utf-8", "\t")
        read_log(file, list(FIELDS), time_field)
    except InputError as error:
        return str(error)
    return None


# ------------------------------------------------------------------------------------------------ settings

YAML = [
    *("{[1]: 2}", "a: {[1]: 2}", 'embedding_size: !!int ""', "shuffle: !!bool maybe", "a: !!timestamp x"),
    *("a: 99999999999999999999999999:59:59.5", "2020-13-45: 1", "a: " + "[" * 1000, "a: " + "[" * 200 + "]" * 200),
    *("a: &a [*a]", "? {a: b}\n: c", "!!python/object:os.system x", "a: !!binary x", 'a: !!float ""', "<<: 3"),
    "x0: &x0 [1, 1]\n" + "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 60)),
    *(
        "a: *nope",
        "\0",
        'a: "\\ud800"',
        "a: !!set {b, c}",
        "a: !!omap [1]",
        "- 1",
        "seed: 1e400",
        "epochs: " + "9" * 5000,
    ),
    *("a: 0b", "embedding_size: {1: 2, [3]: 4}", "~: 1", "seed: .nan", 'a: "' + "x" * (2 << 20) + '"'),
]
VALUES = [
    *("true", "1", "-1", "2147483648", "1" + "0" * 23, "1e300", ".inf", ".nan", "''", "x", "[]", "[0]", "[nosuch]"),
    *("[[1]]", "{}", "{a: 1}", "{timestamp: [a]}", "{inter: [nosuch]}", "rot13", "1e-320", "'=1+1'", '"\\e[31m"'),
]
KEYS = sorted(load_settings("GRU4RecMoS").values)


TAGS = [
    *(
        "!!int",
        "!!float",
        "!!bool",
        "!!null",
        "!!str",
        "!!timestamp",
        "!!binary",
        "!!set",
        "!!omap",
        "!!pairs",
        "!!map",
    ),
    *(
        "!!seq",
        "!!python/name:os.system",
        "!",
        "!x",
        "&a",
        "&b",
        "*a",
        "*b",
        "? ",
        "- ",
        "<<: ",
        "|",
        ">-",
        "%",
        "@",
        "#",
    ),
]
NODES: st.SearchStrategy[str] = st.recursive(
    st.sampled_from([*VALUES, *TAGS, "2020-02-30", "1:60", "0o8", "1_0", "~", "'", '"', '"\\ud800"', "\x85", "\ufeff"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]")
        | st.lists(st.tuples(inner, inner), max_size=3).map(
            lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
        )
        | st.tuples(st.sampled_from(TAGS), inner).map(" ".join)
    ),
    max_leaves=8,
)


@st.composite
def settings_files(draw: st.DrawFn) -> bytes:
    """Returns a file of settings with odd values, at times with odd bytes; or signs of YAML in any order."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.text(st.sampled_from("ab:-[]{}&*!#|>'\"%@`\n\t ,?0123e.~<="), max_size=60)).encode()
    keys = st.sampled_from(KEYS)
    lines = draw(
        st.lists(st.tuples(keys | keys | keys | NODES, st.sampled_from(VALUES) | NODES), min_size=1, max_size=4)
    )
    data = bytearray("".join(f"{key}: {value}\n" for key, value in lines).encode("utf-8", "surrogatepass"))
    for place in draw(st.lists(st.integers(0, len(data) - 1), max_size=draw(FEW))):
        data[place] = draw(st.sampled_from(b'\t\n\x00\xff\r":,-{}[]&*!?|>%\x80'))
    return bytes(data)


def read_settings(content: bytes, folder: Path) -> str | None:
    """Returns the message with which a file of settings is refused; None where it is taken."""
    path = folder / "settings.yaml"
    path.write_bytes(content)
    try:
        load_settings("GRU4RecMoS", None, [path])
    except InputError as error:
        return str(error)
    return None


@pytest.mark.usefixtures("no_hang")
@pytest.mark.parametrize("document", YAML, ids=lambda text: text[:30])
def test_yaml_that_breaks_constructors(document: str, tmp_path: Path) -> None:
    message = read_settings(document.encode("utf-8", "surrogatepass"), tmp_path)
    assert message is None or (str(tmp_path) in message and len(message) < 4000)


# ------------------------------------------------------------------------------------------------ sweeps

ODD: list[Any] = [
    *(None, True, 0, -1, 1, 2**31, 10**23, 0.5, 1e300, float("inf"), float("nan"), "", "x", "1", "=1+1", "\x1b[31m"),
    *([], [[]], [1, 1], ["x"], [None], [1, 2, 3], [10**23], {}, {"a": 1}, {"grid": [1]}, {"grid": []}),
    *({"choice": [1, 2]}, {"uniform": [0.1, 0.2]}, {"randint": [1, 5]}, {"loguniform": [0, 1]}, {"same_as": "x"}),
    *({"grid": [1], "when": {"x": 1}}, {"method": "random", "samples": 3}, {"scheduler": "asha"}, {"1": [{}]}),
    *(["GRU4RecMoS"], ["Pop"], ["ml-100k"]),
]
SWEEP: dict[str, Any] = {"models": ["GRU4RecMoS"], "space": {"mos_heads": {"grid": [1, 2]}}}
SWEEP_KEYS = [
    *("models", "space", "datasets", "seeds", "search", "stopping", "resources", "settings", "metric", "mode"),
    *("retries", "config", "plugins", "name", "nosuch"),
]
SPACE_KEYS = ["mos_heads", "learning_rate", "embedding_size", "epochs", "split", "nosuch", "seed"]


@st.composite
def sweeps(draw: st.DrawFn) -> bytes:
    """Returns a sweep file with odd values of keys, of parameters or of parts."""
    content = copy.deepcopy(SWEEP)
    odd = st.sampled_from(ODD).map(copy.deepcopy)
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(SWEEP_KEYS))
        if draw(st.booleans()):
            content[key] = draw(odd)
        elif isinstance(content.setdefault(key, {}), dict):
            inner = SPACE_KEYS if key in ("space", "settings") else ["method", "samples", "seed", "scheduler", "fuse"]
            content[key][draw(st.sampled_from(inner))] = draw(odd)
    return json.dumps(content).encode()  # JSON is YAML


def plan(content: bytes, folder: Path) -> str | None:
    """Returns the message with which a sweep file is refused; None where it is planned."""
    path = folder / "sweep.yaml"
    path.write_bytes(content)
    try:
        plan_sweep(path)
    except InputError as error:
        return str(error)
    return None


# ------------------------------------------------------------------------------------------------ records


JSON = [
    *(
        '"new": NaN,',
        '"new": ' + "9" * 5000 + ",",
        '"new": "\\ud800",',
        '"new": 1e999,',
        '"new": "\x00",',
        '"seed": 7,',
    ),
    *('"new": ' + "[" * 3000 + "]" * 3000 + ",", "[", "{", '"', ",", "\\", "-", "é"),
]


@st.composite
def records(draw: st.DrawFn) -> Callable[[Any], bytes]:
    """Returns a function of a right record: the same with odd values in it, with the checksum of what it then says."""
    odd = st.sampled_from([*ODD, "leave out"])
    changes = draw(st.lists(st.tuples(st.integers(0, 10**6), odd), max_size=draw(st.sampled_from([0, 1, 1, 3]))))
    inserted = draw(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(JSON)), max_size=draw(st.integers(0, 2))))

    def damaged(record: Any) -> bytes:
        document = json.loads(record)
        del document["sha256"]
        for number, value in changes:
            holders = [(document, key) for key in document]
            for holder, key in holders:
                if isinstance(holder[key], dict):
                    holders += [(holder[key], inner) for inner in holder[key]]
            holder, key = holders[number % len(holders)]
            holder.pop(key) if value == "leave out" else holder.update({key: copy.deepcopy(value)})
        text = json.dumps(document)
        for number, part in inserted:
            # Most often where a field begins, so that the rest can be read.
            starts = [1, *(match.end() for match in re.finditer(', (?=")', text)), number % len(text)]
            place = starts[number % len(starts)]
            text = text[:place] + part + text[place:]
        return sealed(text)

    return damaged


def read_back(change: Callable[[Any], bytes], record: Path) -> str | None:
    """Returns the message with which a record is refused; None where it is read, and shown."""
    before = (record / RECORD_FILE).read_bytes()
    try:
        (record / RECORD_FILE).write_bytes(change(before))
        found = read_record(record)
        assert found.model_dump_json()
    except InputError as error:
        return str(error)
    finally:
        (record / RECORD_FILE).write_bytes(before)
    return None


# ------------------------------------------------------------------------------------------------ all of them


def run(
    what: Any,
    read: Callable[[Any, Path], str | None],
    name: str,
    folder: Path,
    number: int,
    rearm: Callable[[], object],
) -> None:
    """Reads so many generated files, or files for so many minutes; a message names the file and is short."""
    counts = {"read": 0, "refused": 0}

    @hypothesis.given(what)
    @hypothesis.settings(max_examples=number, suppress_health_check=list(hypothesis.HealthCheck))
    def check(content: Any) -> None:
        rearm()
        message = read(content, folder)
        counts["read" if message is None else "refused"] += 1
        assert message is None or message == "lists" or name in message or str(folder) in message
        assert message is None or len(max(message.splitlines(), key=len)) < 4000

    ends = time.monotonic() + 60 * MINUTES
    seed = SEED
    hypothesis.seed(seed)(check)()
    while time.monotonic() < ends:
        seed += 1
        hypothesis.seed(seed)(check)()
    total = sum(counts.values())
    print(f"seeds {SEED} to {seed}, {total} files of {name}: {counts}")
    assert min(counts.values()) > 0.02 * total


@pytest.mark.parametrize("number", [120, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("what", "read", "name"),
    [
        pytest.param(interactions(), read_interactions, "toy.inter", id="interactions"),
        pytest.param(interactions(), read_table, "toy.csv", id="tables"),
        pytest.param(settings_files(), read_settings, "settings.yaml", id="settings"),
        pytest.param(sweeps(), plan, "sweep.yaml", id="sweeps"),
    ],
)
def test_generated_files_are_read_or_refused(
    what: Any, read: Any, name: str, number: int, tmp_path: Path, no_hang: Callable[[], object]
) -> None:
    run(what, read, name, tmp_path, number, no_hang)


@pytest.mark.parametrize("number", [120, pytest.param(2000, marks=pytest.mark.slow)])
def test_generated_records_are_read_or_refused(number: int, tmp_path: Path, no_hang: Callable[[], object]) -> None:
    record = Maker(tmp_path)(MOS)
    run(records(), lambda change, _: read_back(change, record.folder), RECORD_FILE, tmp_path, number, no_hang)
