"""Data sets and runs that the tests share. Everything is made here or comes with RecBole's wheel."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from tiny_data import write_inter, write_toy

from mos_recbole import compat, io, progress

compat.apply()

# Triton looks at it when it is imported, by whichever test comes first. A machine with a GPU says 0.
os.environ.setdefault("TRITON_INTERPRET", "1")


# The same examples in every run, so that a failure can be repeated and a pass means something.
hypothesis.settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("repeatable")

# The suite runs one process per core (pytest -n); threads on top of them would only wait for each other.
torch.set_num_threads(1)

# What a test writes need not outlive the machine; to wait for the disk takes a tenth of the suite's time.
os.fsync = lambda _: None

# Tests compare what is printed, on machines where anything can take seconds.
progress._FIRST_LINE = 3600.0
# Many read records of the first version; that such have no checksum is said once a process, in whichever comes first.
io._said_unsealed.append(Path("a record of the tests"))


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Prepared data of the tests, kept apart from the user's; processes that tests start inherit it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOS_RECBOLE_CACHE", str(folder))
        yield folder


@pytest.fixture
def no_hang() -> Iterator[Callable[[], object]]:
    """Ends a test in which something waits for ever; returns what gives it another minute."""

    def stop(*_: object) -> None:
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield lambda: signal.alarm(60)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def inter(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function (rows, header=..., name="toy") -> folder of an atomic data set."""

    def write(rows: Sequence[Sequence[object]], name: str = "toy", **options: str) -> Path:
        return write_inter(tmp_path, name, rows, **options)

    return write


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """What `write_toy` writes."""
    return write_toy(tmp_path)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small data set for command lines: 30 users with 4 to 25 of 20 items; not to be changed."""
    generator = np.random.default_rng(7)
    rows = [
        (f"u{user}", f"i{generator.integers(20)}", generator.integers(10**6))
        for user in range(30)
        for _ in range(generator.integers(4, 26))
    ]
    return write_inter(tmp_path_factory.mktemp("data"), "toy", rows)


@pytest.fixture(scope="session")
def trained_results(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with softmax (two seeds), MoS of two and of three, and RecBole's own; not to be changed."""
    from mos_recbole import cli

    output = tmp_path_factory.mktemp("trained") / "results"
    common = ["--dataset", str(data), "--output", str(output), "--device", "cpu", "--quiet", "--epochs=2"]
    common += ["--train_batch_size=64", "--MAX_ITEM_LIST_LENGTH=10"]
    ours = ["--embedding_size=4", "--hidden_size=6", "--learning_rate=0.05"]
    calls = [
        ["--model", "GRU4RecSoftmax", "--seeds", "1", "2", *ours],
        *(["--model", "GRU4RecMoS", "--seeds", "1", *ours, f"--mos_heads={k}"] for k in (2, 3)),
        ["--model", "GRU4Rec", "--embedding_size=4", "--hidden_size=6"],
        ["--model", "Pop"],
    ]
    for call in calls:
        assert cli.main(["run", *call, *common]) == 0
    return output


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves figures undrawn, which take most of a report's time."""

    def save(figure: Any, folder: Path) -> list[Path]:
        paths = [folder / f"{figure.name}.{kind}" for kind in ("png", "svg")]
        for path in paths:
            path.write_text("<svg/>")
        return paths

    monkeypatch.setattr("mos_recbole.report.figures.save_figure", save)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Returns a function (arguments...) -> exit status, standard output, standard error, of a call in this process."""
    from mos_recbole import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run
