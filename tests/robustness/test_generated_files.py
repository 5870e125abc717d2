"""Generated files of data, sweeps and results: read as they say, or one message that names the file."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from fabricated import MOS, Maker
from hypothesis import strategies as st

from mos_recbole.data.reading import LogFile, read_log
from mos_recbole.errors import InputError
from mos_recbole.results import RECORD_FILE, read_record
from mos_recbole.results.documents import sealed
from mos_recbole.sweep import plan_sweep

SEED = 20261129
FIELDS = ("user_id", "item_id", "timestamp")

# ------------------------------------------------------------------------------------------------ interactions

CELLS = [
    *("1", "2", "u1", "i7", "", " ", "0x1F", "1e3", "1.", ".5", "-0", "+7", "inf", "nan", "NA", "1_000", "é", "\x00"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "1e400", "1.0000001", '"', "'", "a b"),
    *("978300760", "978300760.5", "1,5", "#", "\\N", "=1+1", "\x1b[31m", "x" * 300, "1E5", "00012", "\ufeff1", "1\r"),
]
KINDS = ["token", "float", "token_seq", "float_seq", "token", "float", "int", ""]
NAMES = ["user_id", "item_id", "timestamp", "rating", "item_id", "x", "", "a:b"]


@st.composite
def interactions(draw: st.DrawFn) -> bytes:
    """Returns a file of interactions: three right columns, odd cells, at times an odd header or odd bytes."""
    header = ["user_id:token", "item_id:token", "timestamp:float"]
    for _ in range(draw(st.integers(0, 2))):
        header.insert(
            draw(st.integers(0, len(header))), f"{draw(st.sampled_from(NAMES))}:{draw(st.sampled_from(KINDS))}"
        )
    plain = st.sampled_from(["1", "2", "u1", "i7", "5"])
    row = st.lists(plain | plain | st.sampled_from(CELLS), min_size=len(header), max_size=len(header))
    rows = draw(st.lists(row, max_size=8))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n"]))
    content = end.join(["\t".join(header), *map("\t".join, rows), *draw(st.sampled_from([[""], []]))])
    data = bytearray(content.encode("utf-8", "surrogatepass"))
    for place in draw(st.lists(st.integers(0, max(len(data) - 1, 0)), max_size=draw(st.sampled_from([0, 0, 3])))):
        data[place] = draw(st.sampled_from(b'\t\n\x00\xff\r":,9\x80'))
    return bytes(data)


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


@st.composite
def records(draw: st.DrawFn) -> Callable[[Any], bytes]:
    """Returns a function of a right record: the same with odd values in it, with the checksum of what it then says."""
    odd = st.sampled_from([*ODD, "leave out"])
    changes = draw(st.lists(st.tuples(st.integers(0, 10**6), odd), min_size=1, max_size=3))

    def damaged(record: Any) -> bytes:
        document = json.loads(record)
        for number, value in changes:
            holders = [(document, key) for key in document]
            for holder, key in holders:
                if isinstance(holder[key], dict):
                    holders += [(holder[key], inner) for inner in holder[key]]
            holder, key = holders[number % len(holders)]
            holder.pop(key) if value == "leave out" else holder.update({key: copy.deepcopy(value)})
        return sealed(json.dumps(document))

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


# ------------------------------------------------------------------------------------------------ both


def run(what: Any, read: Callable[[Any, Path], str | None], name: str, folder: Path, number: int) -> None:
    """Reads so many generated files; a message names the file and is short."""
    counts = {"read": 0, "refused": 0}

    @hypothesis.seed(SEED)
    @hypothesis.given(what)
    @hypothesis.settings(max_examples=number, suppress_health_check=list(hypothesis.HealthCheck))
    def check(content: Any) -> None:
        message = read(content, folder)
        counts["read" if message is None else "refused"] += 1
        assert message is None or message == "lists" or name in message or str(folder) in message
        assert message is None or len(max(message.splitlines(), key=len)) < 4000

    check()
    print(f"seed {SEED}, {number} files of {name}: {counts}")
    assert min(counts.values()) > 0.02 * number


@pytest.mark.parametrize("number", [120, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("what", "read", "name"),
    [
        pytest.param(interactions(), read_interactions, "toy.inter", id="interactions"),
        pytest.param(sweeps(), plan, "sweep.yaml", id="sweeps"),
    ],
)
def test_generated_files_are_read_or_refused(what: Any, read: Any, name: str, number: int, tmp_path: Path) -> None:
    run(what, read, name, tmp_path, number)


@pytest.mark.parametrize("number", [120, pytest.param(2000, marks=pytest.mark.slow)])
def test_generated_records_are_read_or_refused(number: int, tmp_path: Path) -> None:
    record = Maker(tmp_path)(MOS)
    run(records(), lambda change, folder: read_back(change, record.folder), RECORD_FILE, tmp_path, number)
