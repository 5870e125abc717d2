"""`mos-recbole prepare`: MovieLens out of archives and from a server, checked; nothing half-made is left."""

import hashlib
import http.server
import io
import itertools
import multiprocessing
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mos_recbole import cli
from mos_recbole.data.movielens import archive as ratings_archive
from mos_recbole.data.movielens import dat as ratings
from mos_recbole.data.movielens import download
from mos_recbole.data.movielens import folder as movielens
from mos_recbole.data.movielens.releases import RELEASES, Release
from mos_recbole.errors import InputError

CSV_HEADER = "userId,movieId,rating,timestamp"
INTER_HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
Call = Callable[..., tuple[int, str, str]]


def make_rows(n_users: int = 12) -> list[tuple[str, str, str, str]]:
    """Returns ratings of users who have 4 to 12 each, with ties in time."""
    generator = np.random.default_rng(3)
    return [
        (str(user), str(item), f"{generator.integers(1, 11) / 2}", str(1_500_000_000 + generator.integers(30)))
        for user in range(1, n_users + 1)
        for item in generator.choice(20, size=generator.integers(4, 13), replace=False) + 1
    ]


ROWS = make_rows()
CSV = "".join(f"{line}\n" for line in [CSV_HEADER, *map(",".join, ROWS)]).encode()
DAT = "".join(f"{'::'.join(row)}\n" for row in ROWS).encode()
INTER = "".join(f"{line}\n" for line in [INTER_HEADER, *map("\t".join, ROWS)]).encode()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def zip_of(members: dict[str, bytes]) -> bytes:
    """Returns an archive of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ARCHIVE = zip_of(
    {
        "ml-25m/": b"",
        "ml-25m/movies.csv": b"movieId,title,genres\n",
        "ml-25m/ratings.csv": CSV,
        "ml-25m/README.txt": b"terms",
        "ml-25m/extra/README.txt": b"another",
    }
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one; the releases ml-25m and ml-1m are small ones, published as made here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(RELEASES, "ml-25m", Release(md5(ARCHIVE), len(ROWS)))
    monkeypatch.setitem(RELEASES, "ml-1m", Release("0" * 32, len(ROWS)))
    return tmp_path


@pytest.fixture
def prepare(place: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Returns a function (arguments...) -> exit status, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = cli.main(["prepare", *map(str, arguments)])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return call


def files_below(folder: Path) -> dict[str, bytes]:
    """Returns all files but locks, and folders as empty names."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
        if path.suffix != ".lock"
    }


def refused(result: tuple[int, str, str]) -> str:
    """Returns the one message of a call that was refused."""
    status, out, error = result
    assert status == 2
    assert out == ""
    assert "Traceback" not in error
    assert error.count("error:") == 1
    return error.partition("error:")[2].strip()


def facts(out: str) -> dict[str, str]:
    """Returns the output's lines by their first word."""
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in out.splitlines()}


# ------------------------------------------------------------------------------------------------ lines of ratings


@given(
    rows=st.lists(st.tuples(*[st.integers(0, 10**9)] * 4, st.sampled_from(["", ".5"])), min_size=1, max_size=30),
    block=st.integers(110, 400),  # more than a line has
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
)
@settings(deadline=None)
def test_blocks_are_the_lines_whatever_the_size_of_blocks(rows: list[Any], block: int, end: str, last: bool) -> None:
    """A CSV comes out as it is; a DAT as an atomic file with plain line ends."""
    lines = [(str(user), str(item), f"{rating}{half}", str(time)) for user, item, rating, time, half in rows]
    csv = end.join([CSV_HEADER, *map(",".join, lines)]) + end * last
    dat = end.join(map("::".join, lines)) + end * last
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ratings, "_BLOCK_BYTES", block)
        read = b"".join(ratings.dat_blocks(io.BytesIO(dat.encode()), "x")).decode()
        assert read.splitlines() == [INTER_HEADER, *map("\t".join, lines)]
        assert "\r" not in read
        assert b"".join(ratings.csv_blocks(io.BytesIO(csv.encode()), "x")) == csv.encode()


@given(
    before=st.integers(0, 40),
    after=st.integers(0, 40),
    block=st.integers(60, 300),
    broken=st.sampled_from(
        ["1::2::3", "1::2::3::4::5", "1::2::3.::4", "1::2::x::4", "1:2:3:4", "", " 1::2::3::4", "1::2::-3::4", "é"]
    ),
)
@settings(deadline=None)
def test_a_broken_line_is_named_by_its_number(before: int, after: int, block: int, broken: str) -> None:
    """In whichever block it comes, and as the last one; an empty last line is only the end of the one before."""
    text = "\n".join(["1::2::3.5::4"] * before + [broken] + ["1::2::3::4"] * after) + "\n" * bool(broken or not after)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ratings, "_BLOCK_BYTES", block)
        with pytest.raises(
            InputError, match=re.escape(f"x, line {before + 1}: found {broken!r}; expected user, movie")
        ):
            list(ratings.dat_blocks(io.BytesIO(text.encode()), "x"))


def test_a_line_longer_than_a_block_is_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file without line ends is refused after a block or two, not collected."""
    monkeypatch.setattr(ratings, "_BLOCK_BYTES", 100)
    file = io.BytesIO(b"7" * 100_000)
    with pytest.raises(InputError, match=r"line 1: found '7{100}'"):
        list(ratings.dat_blocks(file, "x"))
    assert file.tell() <= 300


# ------------------------------------------------------------------------------------------------ out of an archive


def test_prepares_an_archive_and_says_what_is_in_it(prepare: Call, place: Path, cache_folder: Path) -> None:
    """The ratings as they come and the README, nothing else; counts as by hand; the entry is where it says."""
    (place / "ml-25m.zip").write_bytes(ARCHIVE)
    status, out, error = prepare("ml-25m", "--zip", "ml-25m.zip")
    assert (status, error) == (0, "")
    assert files_below(place / "dataset") == {"ml-25m": b"", "ml-25m/ratings.csv": CSV, "ml-25m/README.txt": b"terms"}
    times = [(user, time) for user, _, _, time in ROWS]
    tied = sum(times.count(time) > 1 for time in times) / len(ROWS)
    assert 0.1 < tied < 0.9
    said = facts(out)
    users, items = len({row[0] for row in ROWS}), len({row[1] for row in ROWS})
    assert said["ml-25m"].startswith(f"{users} users, {items} items, {len(ROWS)} interactions ({tied:.1%} share")
    assert f"{len(ROWS) - 3 * users} training, {users} validation, {users} test" in said["  targets"]
    assert said["file"] == "dataset/ml-25m/ratings.csv (the archive's MD5 is the published one)"
    entry = Path(said["prepared data"])
    assert entry.parent == cache_folder
    assert (entry / "entry.json").is_file()
    assert said["next"] == "mos-recbole run --model GRU4RecMoS --dataset ml-25m"


@pytest.mark.parametrize("inside", ["ml-1m/ratings.dat", "ml-10M100K/ratings.dat", "ratings.dat"])
def test_ratings_dat_becomes_an_atomic_file(prepare: Call, place: Path, inside: str) -> None:
    """Whatever the folder in the archive is called; the README is that beside the ratings."""
    (place / "a.zip").write_bytes(zip_of({inside: DAT, inside.replace("ratings.dat", "README"): b"terms"}))
    status, out, _ = prepare("ml-1m", "--zip", "a.zip", "--allow-modified")
    assert status == 0
    assert files_below(place / "dataset/ml-1m") == {"ml-1m.inter": INTER, "README": b"terms"}
    assert f"{len(ROWS)} interactions" in out
    assert "ml-1m.inter (modified: MD5 " in out


@pytest.mark.parametrize(("name", "members"), [("ml-25m", None), ("ml-1m", {"ml-1m/ratings.dat": DAT})])
def test_a_second_call_keeps_what_is_there(prepare: Call, place: Path, name: str, members: Any) -> None:
    """No file is written again, with the archive or without it, and the entry of the first call is used."""
    (place / "a.zip").write_bytes(zip_of(members) if members else ARCHIVE)
    arguments = [name, "--zip", "a.zip", "--allow-modified"]
    first = prepare(*arguments)

    def state() -> dict[Path, tuple[int, int]]:
        folder = place / "dataset" / name
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (folder, *folder.iterdir())}

    before = state()
    assert prepare(*arguments) == first
    assert prepare(name)[0] == 0
    assert state() == before


def test_the_next_command_runs_on_what_was_prepared(
    prepare: Call, place: Path, cache_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the settings of the preparation, which say what is in the data; no entry is added to the cache."""
    (place / "a.zip").write_bytes(ARCHIVE)
    (place / "my.yaml").write_text('load_col: {inter: "*"}\nepochs: 1\n', encoding="utf-8")
    chosen = '--val_interval={rating: "[2.0,inf)"}'
    status, out, _ = prepare("ml-25m", "--zip", "a.zip", "--data-path", "elsewhere", "--config", "my.yaml", chosen)
    assert status == 0
    kept = [row for row in ROWS if float(row[2]) >= 2]
    alone = sum(1 for user in {row[0] for row in kept} if [row[0] for row in kept].count(user) == 1)
    assert len(kept) < len(ROWS)
    assert f" {len(kept) - alone} interactions" in out
    command = shlex.split(facts(out)["next"])
    assert command[:2] == ["mos-recbole", "run"]
    assert command[command.index("--dataset") + 1] == "elsewhere/ml-25m"
    entries = set(cache_folder.glob("*/entry.json"))
    assert cli.main([*command[1:], "--device=cpu", "--quiet", "--embedding_size=8", "--hidden_size=8"]) == 0
    assert "GRU4RecMoS" in capsys.readouterr().out
    assert set(cache_folder.glob("*/entry.json")) == entries


def test_members_that_leave_the_archive_are_passed_over(prepare: Call, place: Path) -> None:
    """Neither a README with such a path is written, nor are ratings read from one."""
    inner = place / "a/b"
    inner.mkdir(parents=True)
    evil = dict.fromkeys(("ml-25m/../../../README.txt", "/README.txt", f"{place}/licence", "../README"), b"evil")
    (inner / "good.zip").write_bytes(zip_of({"ml-25m/ratings.csv": CSV, **evil}))
    (inner / "bad.zip").write_bytes(zip_of({"../../ratings.csv": CSV}))
    assert prepare("ml-25m", "--data-path", inner, "--zip", inner / "good.zip", "--allow-modified")[0] == 0
    assert set(files_below(place)) == {"a", "a/b", *(f"a/b/{name}" for name in ("good.zip", "bad.zip", "ml-25m"))} | {
        "a/b/ml-25m/ratings.csv"
    }
    shutil.rmtree(inner / "ml-25m")
    message = refused(prepare("ml-25m", "--data-path", inner, "--zip", inner / "bad.zip", "--allow-modified"))
    assert "expected one ratings.csv or ratings.dat in the archive; found neither" in message


def bad_crc() -> bytes:
    """Returns an archive in which a byte of the ratings was changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("ml-25m/ratings.csv", CSV)
    content = bytearray(buffer.getvalue())
    content[content.index(b"1500000") + 3] ^= 1
    return bytes(content)


def bad_lzma() -> bytes:
    """Returns an archive packed by LZMA in which a byte was changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("ml-25m/ratings.csv", CSV)
    content = bytearray(buffer.getvalue())
    content[content.index(b"ratings.csv") + 60] ^= 0xFF
    return bytes(content)


def encrypted() -> bytes:
    """Returns an archive that says that its ratings are encrypted."""
    content = bytearray(zip_of({"ml-25m/ratings.csv": CSV}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    return bytes(content)


def with_csv(content: bytes) -> bytes:
    return zip_of({"ml-25m/ratings.csv": content})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", "not a whole zip archive", id="empty archive"),
        pytest.param(b"<html>Not Found</html>", "not a whole zip archive", id="not a zip"),
        pytest.param(ARCHIVE[:-300], "not a whole zip archive", id="truncated"),
        pytest.param(bad_crc(), "Bad CRC-32", id="changed byte"),
        pytest.param(bad_lzma(), "not a whole zip archive (Corrupt", id="changed byte of LZMA"),
        pytest.param(encrypted(), "ml-25m/ratings.csv is encrypted", id="encrypted"),
        pytest.param(zip_of({"ml-25m/movies.csv": CSV}), "found neither", id="no ratings"),
        pytest.param(
            zip_of({"a/ratings.csv": CSV, "b/ratings.dat": DAT}), "found a/ratings.csv, b/ratings.dat", id="two"
        ),
        pytest.param(with_csv(b""), f"line 1: found ''; expected '{CSV_HEADER}'", id="empty file"),
        pytest.param(with_csv(f"{CSV_HEADER}\n".encode()), "no ratings in the file", id="header only"),
        pytest.param(zip_of({"ml-1m/ratings.dat": b""}), "no ratings in the file", id="empty dat"),
        pytest.param(with_csv(CSV.replace(b"userId", b"user")), "line 1: found 'user,movieId", id="renamed column"),
        pytest.param(
            with_csv(CSV.replace(b"userId,movieId", b"movieId,userId")), "line 1: found 'movieId,userId", id="reordered"
        ),
        pytest.param(
            with_csv(b"".join(b"0," + line for line in CSV.splitlines(True))), "line 1: found '0,userId", id="added"
        ),
        pytest.param(with_csv(CSV + b"1,2,3\n1,2,3,4\n"), f"line {len(ROWS) + 2}: found '1,2,3'", id="broken line"),
        pytest.param(
            zip_of({"ml-1m/ratings.dat": DAT + b"1::2\n"}), f"line {len(ROWS) + 1}: found '1::2'", id="broken dat"
        ),
    ],
)
@pytest.mark.parametrize("there", [False, True], ids=["new", "there"])
def test_bad_archives_are_refused(prepare: Call, place: Path, content: bytes, expected: str, there: bool) -> None:
    """One message that names the archive; no folder, or the one that is there as it was."""
    (place / "a.zip").write_bytes(content)
    if there:
        (place / "dataset/ml-25m").mkdir(parents=True)
        (place / "dataset/ml-25m/ratings.csv").write_bytes(CSV)
    before = files_below(place) | {"dataset": b""}
    message = refused(prepare("ml-25m", "--zip", "a.zip", "--allow-modified"))
    # What is there is compared up to the first difference.
    assert message.startswith("a.zip") or (there and "other data than in a.zip" in message)
    assert expected in message or (there and "other data than in a.zip" in message)
    assert files_below(place) == before


def test_an_archive_that_is_not_as_published_is_refused(prepare: Call, place: Path) -> None:
    """Both checksums are named; --allow-modified takes it, and every later call needs to say so too."""
    content = with_csv(CSV.partition(b"\n")[0] + b"\n" + b"".join(CSV.splitlines(True)[1:40]))
    (place / "a.zip").write_bytes(content)
    message = refused(prepare("ml-25m", "--zip", "a.zip"))
    for part in ("a.zip: ", f"MD5 {md5(content)}", f"expected MD5 {md5(ARCHIVE)}", "--allow-modified"):
        assert part in message
    assert not (place / "dataset/ml-25m").exists()
    status, out, _ = prepare("ml-25m", "--zip", "a.zip", "--allow-modified")
    assert status == 0
    assert f"(modified: MD5 {md5(content)}; published: MD5 {md5(ARCHIVE)})" in out
    message = refused(prepare("ml-25m"))
    assert message.startswith(f"dataset/ml-25m/ratings.csv: 39 ratings; expected {len(ROWS)} ratings, as published")
    assert "(modified: 39 ratings; published:" in prepare("ml-25m", "--allow-modified")[1]


@pytest.mark.parametrize("form", ["{}  ratings.csv", "{} *ratings.csv", "{}  ./ratings.csv", "{}  ratings.csv\r"])
def test_checksums_in_the_archive_are_held_against_the_ratings(prepare: Call, place: Path, form: str) -> None:
    """For a release without a published checksum of the archive: before the folder is there, and later beside it."""
    for line, status in ((form.format(md5(CSV)), 0), (form.format("a" * 32), 2)):
        sums = f"{'b' * 32}  movies.csv\n{line}\n".encode()
        members = {"ml-latest/checksums.txt": sums, "ml-latest/ratings.csv": CSV}
        (place / "a.zip").write_bytes(zip_of(members))
        result = prepare("ml-latest", "--zip", "a.zip")
        assert result[0] == status
        if status:
            assert f"a.zip, ml-latest/ratings.csv: MD5 {md5(CSV)}; expected MD5 {'a' * 32}" in refused(result)
            assert not (place / "dataset/ml-latest").exists()
        else:
            assert "ratings.csv (its MD5 is the one in checksums.txt)" in result[1]
            assert files_below(place / "dataset/ml-latest") == {"checksums.txt": sums, "ratings.csv": CSV}
            with (place / "dataset/ml-latest/ratings.csv").open("ab") as file:
                file.write(b"1,1,1.0,1\n")
            message = refused(prepare("ml-latest"))
            assert message.startswith("dataset/ml-latest/ratings.csv: MD5 ")
            assert f"expected MD5 {md5(CSV)} of checksums.txt" in message
            assert prepare("ml-latest", "--allow-modified")[0] == 0
            shutil.rmtree(place / "dataset/ml-latest")


def test_a_release_without_checksums_says_so(prepare: Call, place: Path) -> None:
    (place / "a.zip").write_bytes(zip_of({"ml-latest-small/ratings.csv": CSV}))
    status, out, _ = prepare("ml-latest-small", "--zip", "a.zip")
    assert status == 0
    assert "ratings.csv (not checked: GroupLens replaces this release from time to time" in out


def test_other_data_are_left_as_they_are(prepare: Call, place: Path) -> None:
    """Another ratings.csv, a longer or shorter one, and a folder with anything else in it; an empty one is filled."""
    (place / "a.zip").write_bytes(ARCHIVE)
    folder = place / "dataset/ml-25m"
    folder.mkdir(parents=True)
    for content in (CSV[:-1], CSV + b"1,1,1.0,1\n", CSV.replace(b"1", b"2", 1)):
        (folder / "ratings.csv").write_bytes(content)
        message = refused(prepare("ml-25m", "--zip", "a.zip"))
        assert message.startswith("dataset/ml-25m/ratings.csv: other data than in a.zip")
        assert files_below(folder) == {"ratings.csv": content}
    (folder / "ratings.csv").rename(folder / "movies.csv")
    assert "dataset/ml-25m: has files but no interactions" in refused(prepare("ml-25m", "--zip", "a.zip"))
    (folder / "movies.csv").unlink()
    assert prepare("ml-25m", "--zip", "a.zip")[0] == 0
    assert (folder / "ratings.csv").read_bytes() == CSV


# ------------------------------------------------------------------------------------------------ what is there


def test_prepares_any_data_set_that_is_there(prepare: Call, place: Path, toy: Path, data: Path) -> None:
    """By name below a data path, given as option or setting, and by folder; nothing is checked but the file itself."""
    for arguments in (
        ["toy", "--data-path", toy.parent],
        ["toy", f"--data-path={toy.parent}"],
        ["toy", f"--data_path={toy.parent}"],
        [toy],
        ["./toy/"],
    ):
        status, out, error = prepare(*arguments)
        assert (status, error) == (0, "")
        assert out.startswith("toy: 30 users, 20 items, ")
        assert Path(facts(out)["file"]).resolve() == toy / "toy.inter"
    # Where a run would find it too.
    assert "--dataset " + str(toy) in prepare("toy", "--data-path", toy.parent)[1]
    assert f"--dataset toy --data_path={toy.parent}" in prepare("toy", f"--data_path={toy.parent}")[1]
    assert "1,682 items" in prepare("ml-100k")[1]


def test_an_unpacked_ratings_dat_is_converted_beside_itself(prepare: Call, place: Path) -> None:
    """Once; a broken line leaves nothing."""
    folder = place / "dataset/ml-1m"
    folder.mkdir(parents=True)
    (folder / "ratings.dat").write_bytes(DAT + b"oh\n")
    message = refused(prepare("ml-1m"))
    assert message.startswith(f"dataset/ml-1m/ratings.dat, line {len(ROWS) + 1}: found 'oh'")
    assert set(files_below(folder)) == {"ratings.dat"}
    (folder / "ratings.dat").write_bytes(DAT)
    status, out, error = prepare("ml-1m")
    assert (status, error) == (0, "dataset/ml-1m/ratings.dat: converted to ml-1m.inter beside it\n")
    assert f"ml-1m.inter ({len(ROWS)} ratings, as published)" in out
    assert files_below(folder) == {"ratings.dat": DAT, "ml-1m.inter": INTER}
    assert prepare("ml-1m") == (0, out, "")
    (folder / "ml-1m.inter").write_bytes(INTER.removesuffix(b"\n"))
    assert prepare("ml-1m")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ml-25m"], ["no folder dataset/ml-25m", "--download", "--zip FILE"]),
        (["ml-25"], ["unknown data set 'ml-25'", "did you mean ml-25m?"]),
        (["ML-25M"], ["did you mean ml-25m?"]),
        (["toi"], ["unknown data set 'toi'", "did you mean toy?"]),
        (["zzz"], ["unknown data set 'zzz'", "(of MovieLens: ml-1m, ml-10m,"]),
        (["toy", "--zip", "a.zip"], ["are for MovieLens' ml-1m,", "'toy': dataset/toy is there already"]),
        (["ml-2m", "--download"], ["are for MovieLens' ml-1m,", "'ml-2m': did you mean ml-"]),
        (["ml-25m", "--zip", "a.zip", "--download"], ["--download", "not allowed with argument --zip"]),
        (["ml-25m", "--zip", "none.zip"], ["none.zip: No such file", "expected an archive"]),
        (["ml-25m", "--zip", "dataset"], ["dataset: a folder; expected a file"]),
        (["dataset/toy", "--data-path", "x"], ["dataset/toy is a folder already"]),
        (["empty"], ["dataset/empty: no file of interactions; expected empty.inter, ratings.csv or ratings.dat"]),
        (["toy", "--vall_interval=1"], ["unknown key 'vall_interval'; did you mean val_interval?"]),
        (["toy", "--user_inter_num_interval=[99,inf)"], ["data set 'toy'"]),
        (["ml-25m", "--data-path", "file"], ["no folder file/ml-25m"]),
        (["ml-25m", "--data-path", "file", "--download"], ["file: File exists; expected files that can be read"]),
        ([], ["required: NAME"]),
    ],
)
def test_what_cannot_be_prepared_is_refused(prepare: Call, place: Path, arguments: list[str], expected: Any) -> None:
    """One message with what was expected; nothing is written."""
    (place / "dataset/toy").mkdir(parents=True)
    (place / "dataset/empty").mkdir()
    (place / "dataset/toy/toy.inter").write_text(
        "user_id:token\titem_id:token\ttimestamp:float\nu\ti\t1\nu\tj\t2\nu\tk\t3\n", encoding="utf-8"
    )
    (place / "file").touch()
    before = files_below(place)
    message = refused(prepare(*arguments))
    for part in expected:
        assert part in message
    assert files_below(place) == before


def test_an_archive_that_lies_beside_is_named(prepare: Call, place: Path) -> None:
    (place / "dataset").mkdir()
    (place / "dataset/ml-25m.zip").write_bytes(ARCHIVE)
    assert "--zip dataset/ml-25m.zip takes" in refused(prepare("ml-25m"))


def test_the_settings_are_those_of_our_models(prepare: Call, toy: Path) -> None:
    """A file for a run may be given as it is; what has no effect is said as it is in `run`."""
    (toy.parent / "run.yaml").write_text("mos_heads: 8\nn_heads: 2\nhidden_size: 8\nseed: 4\n", encoding="utf-8")
    status, out, error = prepare("toy", "--data-path", toy.parent, "--config", "run.yaml", "--gpu_id=0")
    assert (status, error) == (0, "warning: --gpu_id: gpu_id has no effect here; write --device cuda:0\n")
    assert "--config run.yaml --gpu_id=0" in facts(out)["next"]


def test_settings_of_a_model_that_is_named_are_its_own(prepare: Call, toy: Path) -> None:
    """RecBole's models too; the next command is theirs."""
    (toy.parent / "run.yaml").write_text("model: SASRec\nloss_type: BPR\nn_heads: 1\n", encoding="utf-8")
    status, out, error = prepare(toy, "--config", toy.parent / "run.yaml")
    assert (status, error) == (0, "")
    assert "--model" not in facts(out)["next"]
    status, out, error = prepare(toy, "--model=ItemKNN", "--k=3")
    assert (status, error) == (0, "")
    assert facts(out)["next"].endswith("--model=ItemKNN --k=3")


def test_data_that_are_not_kept_prepared_are_said_to_be(prepare: Call, inter: Callable[..., Path]) -> None:
    """Other columns of names, which RecBole reads in every run."""
    rows = [("u", item, time, "red") for time, item in enumerate("abcd")]
    folder = inter(rows, header="user_id:token\titem_id:token\ttimestamp:float\tcolour:token")
    assert (
        "prepared data: none; with these settings every run prepares them through RecBole"
        in prepare(folder, '--load_col={inter: "*"}')[1]
    )
    assert Path(facts(prepare(folder)[1])["prepared data"]).is_dir()


# ------------------------------------------------------------------------------------------------ faults on the way


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Lets no file of this process grow beyond a size: writing then fails, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing(prepare: Call, place: Path) -> None:
    """While an archive is unpacked and while a file is converted; with room, the same command goes through."""
    (place / "a.zip").write_bytes(ARCHIVE)
    (place / "dataset/ml-1m").mkdir(parents=True)
    (place / "dataset/ml-1m/ratings.dat").write_bytes(DAT)
    before = files_below(place)
    for arguments in (["ml-25m", "--zip", "a.zip"], ["ml-1m"]):
        with room_for(500):
            message = refused(prepare(*arguments))
        assert message.startswith(f"dataset/{arguments[0]}: the disk is full")
        assert files_below(place) == before
    for arguments in (["ml-25m", "--zip", "a.zip"], ["ml-1m"]):
        assert prepare(*arguments)[0] == 0


def test_a_process_killed_while_it_unpacks_leaves_no_folder(prepare: Call, place: Path) -> None:
    """The next one removes what it left, and its lock does not stay."""
    (place / "a.zip").write_bytes(ARCHIVE)

    def work() -> None:
        def blocks(*_: object) -> Iterator[bytes]:
            yield CSV[:500]
            os.kill(os.getpid(), signal.SIGKILL)

        ratings_archive.csv_blocks = blocks
        movielens.obtain(place / "dataset/ml-25m", archive=place / "a.zip")

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert not (place / "dataset/ml-25m").exists()
    assert (place / "dataset/.ml-25m.unfinished").is_dir()
    assert prepare("ml-25m", "--zip", "a.zip")[0] == 0
    assert set(files_below(place / "dataset")) == {"ml-25m", "ml-25m/ratings.csv", "ml-25m/README.txt"}


def test_two_at_a_time_are_refused(prepare: Call, place: Path) -> None:
    (place / "a.zip").write_bytes(ARCHIVE)
    (place / "dataset").mkdir()
    with filelock.FileLock(place / "dataset/.ml-25m.lock"):
        assert refused(prepare("ml-25m", "--zip", "a.zip")) == "dataset/ml-25m: another process is making it"
    assert prepare("ml-25m", "--zip", "a.zip")[0] == 0


def test_an_interruption_leaves_nothing(prepare: Call, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while it unpacks: exit status 130, one line, no folder."""
    (place / "a.zip").write_bytes(ARCHIVE)

    def blocks(*_: object) -> Iterator[bytes]:
        yield CSV[:500]
        raise KeyboardInterrupt

    monkeypatch.setattr(ratings_archive, "csv_blocks", blocks)
    status, out, error = prepare("ml-25m", "--zip", "a.zip")
    assert (status, out) == (130, "")
    assert error == ("mos-recbole: interrupted; no partial data are left, and the same command continues a download\n")
    assert files_below(place) == {"a.zip": ARCHIVE, "dataset": b""}


# ------------------------------------------------------------------------------------------------ downloads


class Server:
    """What a server on this machine has, does and was asked.

    Attributes:
        files: content by path.
        ranges: whether it knows of ranges; shift: how much earlier than asked its ranges start.
        breaks: after how many bytes each answer breaks off, then not any more.
        statuses: which it answers with at first; modified: Last-Modified of all files, seconds since 1970.
        asked: path and Range of each request.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.shift = 0
        self.breaks: Iterator[int] = iter(())
        self.statuses: Iterator[int] = iter(())
        self.modified = 1_000_000_000
        self.asked: list[tuple[str, str | None]] = []

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append((handler.path, wanted))
        content = self.files.get(handler.path)
        status = next(self.statuses, None) or (200 if content is not None else 404)
        if status != 200 or content is None:
            handler.send_error(status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start >= len(content) and start:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.send_header("Content-Length", "0")
            handler.send_header("Last-Modified", formatdate(self.modified, usegmt=True))
            handler.end_headers()
            return
        start -= self.shift if start else 0
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - start))
        handler.send_header("Last-Modified", formatdate(self.modified, usegmt=True))
        handler.end_headers()
        rest = content[start:]
        handler.wfile.write(rest[: next(self.breaks, len(rest))])
        handler.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that the program takes for GroupLens', with ml-25m.zip."""
    served = Server()
    served.files["/movielens/ml-25m.zip"] = ARCHIVE

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "_BACKOFF", 0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        monkeypatch.setattr(movielens, "BASE_URL", f"http://127.0.0.1:{running.server_port}/movielens")
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        running.shutdown()
        thread.join()


def test_downloads_checks_and_prepares(prepare: Call, place: Path, server: Server) -> None:
    """One request; the archive is kept; the terms are said; a second call asks for nothing."""
    status, out, error = prepare("ml-25m", "--download")
    assert status == 0
    assert server.asked == [("/movielens/ml-25m.zip", None)]
    assert error.startswith(f"downloading {movielens.BASE_URL}/ml-25m.zip; by this you agree to GroupLens's terms")
    assert files_below(place / "dataset") == {
        "ml-25m": b"",
        "ml-25m.zip": ARCHIVE,
        "ml-25m/ratings.csv": CSV,
        "ml-25m/README.txt": b"terms",
    }
    assert "the archive's MD5 is the published one" in out
    status, again, error = prepare("ml-25m", "--download")
    assert (status, error) == (0, "")
    assert again == out.replace("the archive's MD5 is the published one", f"{len(ROWS)} ratings, as published")
    shutil.rmtree(place / "dataset/ml-25m")
    status, _, error = prepare("ml-25m", "--download")
    assert (status, error) == (0, "dataset/ml-25m.zip is there already, not downloaded again\n")
    assert len(server.asked) == 1


def test_a_download_that_breaks_off_goes_on(
    prepare: Call, place: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a call as often as is sensible, and in the next call from where the last one ended."""
    monkeypatch.setattr(download, "_BLOCK_BYTES", 5)
    server.breaks = iter([100, 50, 0, 25, 10])
    message = refused_download(prepare("ml-25m", "--download"))
    assert message.endswith("ml-25m.zip: broke off after 175 bytes; the same command goes on from there")
    assert files_below(place / "dataset") == {"ml-25m.zip.part": ARCHIVE[:175]}
    assert prepare("ml-25m", "--download")[0] == 0
    starts = [None, 100, 150, 150, 175, 185]
    assert [wanted for _, wanted in server.asked] == [start and f"bytes={start}-" for start in starts]
    assert (place / "dataset/ml-25m.zip").read_bytes() == ARCHIVE
    assert not (place / "dataset/ml-25m.zip.part").exists()


def refused_download(result: tuple[int, str, str]) -> str:
    """Returns the one message of a call that was refused after it said that it downloads."""
    status, out, error = result
    note, _, rest = error.partition("\n")
    assert note.startswith("downloading ")
    return refused((status, out, rest))


@pytest.mark.parametrize(
    ("part", "change"),
    [
        pytest.param(ARCHIVE[:100], {"ranges": False}, id="no ranges"),
        pytest.param(b"x" * 100, {"modified": 4_000_000_000}, id="the file changed since"),
        pytest.param(b"x" * len(ARCHIVE), {"modified": 4_000_000_000}, id="the file changed since it was whole"),
        pytest.param(b"x" * (len(ARCHIVE) + 1), {}, id="longer than the file"),
        pytest.param(ARCHIVE[:100], {"shift": 10}, id="another range"),
        pytest.param(ARCHIVE, {}, id="whole already"),
        pytest.param(b"", {}, id="nothing yet"),
    ],
)
def test_what_is_there_of_a_download_is_used_only_if_it_fits(
    prepare: Call, place: Path, server: Server, part: bytes, change: dict[str, Any]
) -> None:
    """The archive is whole in the end."""
    (place / "dataset").mkdir()
    (place / "dataset/ml-25m.zip.part").write_bytes(part)
    vars(server).update(change)
    assert prepare("ml-25m", "--download")[0] == 0
    assert (place / "dataset/ml-25m.zip").read_bytes() == ARCHIVE
    assert len(server.asked) <= 2


def test_answers_that_are_not_the_file_are_named(prepare: Call, place: Path, server: Server) -> None:
    """404; errors of the server, which are asked again, as often as is sensible; nobody there."""
    server.files.clear()
    assert "ml-25m.zip: the server answers 404 Not Found" in refused_download(prepare("ml-25m", "--download"))
    assert len(server.asked) == 1
    server.statuses = itertools.repeat(503)
    assert "the server answers 503 Service Unavailable" in refused_download(prepare("ml-25m", "--download"))
    assert len(server.asked) == 1 + 1 + download._TRIES
    server.files["/movielens/ml-25m.zip"] = ARCHIVE
    server.statuses = iter([503, 500])
    assert prepare("ml-25m", "--download")[0] == 0


def test_no_network_is_named(prepare: Call, place: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason without the libraries' wrappings, and the other way to the data."""
    monkeypatch.setattr(movielens, "BASE_URL", "http://127.0.0.1:1")
    message = refused_download(prepare("ml-25m", "--download"))
    assert message.startswith("http://127.0.0.1:1/ml-25m.zip: ")
    assert "Connection refused" in message
    assert "Max retries" not in message
    assert "--zip FILE" in message
    assert files_below(place) == {"dataset": b""}


def test_a_wrong_download_says_how_to_go_on(prepare: Call, place: Path, server: Server) -> None:
    """The archive stays, for it may be right; once it is deleted, it is fetched again."""
    server.files["/movielens/ml-25m.zip"] = other = zip_of({"ml-25m/ratings.csv": CSV})
    message = refused_download(prepare("ml-25m", "--download"))
    assert f"dataset/ml-25m.zip: MD5 {md5(other)}; expected MD5 {md5(ARCHIVE)}, as published" in message
    assert "or delete dataset/ml-25m.zip to have it downloaded again" in message
    assert files_below(place / "dataset") == {"ml-25m.zip": other}
    server.files["/movielens/ml-25m.zip"] = ARCHIVE
    (place / "dataset/ml-25m.zip").unlink()
    assert prepare("ml-25m", "--download")[0] == 0


def test_a_disk_that_is_full_while_downloading(prepare: Call, place: Path, server: Server) -> None:
    """What fitted is kept for the next call."""
    with room_for(200):
        message = refused_download(prepare("ml-25m", "--download"))
    assert message.startswith("dataset/ml-25m: the disk is full")
    assert set(files_below(place / "dataset")) == {"ml-25m.zip.part"}
    assert prepare("ml-25m", "--download")[0] == 0


# ------------------------------------------------------------------------------------------------ help


def test_help_comes_without_pytorch_and_names_releases_and_terms() -> None:
    code = (
        "import sys; from mos_recbole import cli\n"
        "try: cli.main(['prepare', '--help'])\n"
        "except SystemExit: print(sorted({'torch', 'recbole', 'requests'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.endswith("[]\n")
    for part in (*RELEASES, "--zip", "--download", "--allow-modified", "not be redistributed"):
        assert part in out


def test_published_checksums_are_checksums() -> None:
    """Each is one of its own; the releases that change have neither checksum nor number."""
    published = [release for release in RELEASES.values() if release.md5]
    assert len({release.md5 for release in published}) == len(published) == 5
    assert all(re.fullmatch("[0-9a-f]{32}", release.md5 or "") for release in published)
    assert all(name in ("ml-latest", "ml-latest-small") for name, one in RELEASES.items() if one == Release())


@pytest.mark.parametrize("kind", [EOFError, NotImplementedError])
def test_a_defect_while_an_archive_is_open_is_no_broken_archive(place: Path, kind: type[Exception]) -> None:
    """What zipfile raises of a broken archive comes through as it is where somebody else raises it."""
    (place / "a.zip").write_bytes(ARCHIVE)
    with pytest.raises(kind, match="a defect"), ratings_archive.open_archive(place / "a.zip"):
        raise kind("a defect")
