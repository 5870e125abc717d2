"""Sweeps with Ray, as a user starts them: in processes of their own, interrupted, killed and started again."""

import contextlib
import csv
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock
import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from mos_recbole import cli
from mos_recbole.analysis import COST_COLUMNS
from mos_recbole.errors import InputError
from mos_recbole.results import RunResult, Trial, find_records, read_record, read_trials
from mos_recbole.sweep.cluster import ClusterOptions, cluster

ROOT = Path(__file__).parents[2]
# Trials that take a second or two, by many short epochs.
SETTINGS: dict[str, int] = {
    "embedding_size": 8,
    "hidden_size": 12,
    "mos_heads": 2,
    "MAX_ITEM_LIST_LENGTH": 10,
    "train_batch_size": 64,
    "epochs": 40,
    "stopping_step": 1000,
}
REPRODUCIBLE = ("best.md", "best.tex", "table.md", "table.csv", "table.tex")


def write_sweep(folder: Path, data: Path, **changes: Any) -> Path:
    """Returns the file of a sweep of six trials, two at a time."""
    content = {
        "name": "small",
        "models": ["GRU4RecSoftmax", "GRU4RecMoS"],
        "datasets": [str(data)],
        "space": {"learning_rate": {"grid": [0.003, 0.01, 0.03]}},
        "seeds": [1],
        "resources": {"max_concurrent": 2},
    } | changes
    content["settings"] = SETTINGS | content.get("settings", {})
    folder.mkdir(exist_ok=True)
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


class Sweep:
    """`mos-recbole sweep` in a process group of its own, as a shell starts it; ends all its processes at its own end.

    Args:
        arguments: of the command.
        network: how the command begins, to run in another network.
        environment: variables to set.
    """

    def __init__(self, *arguments: object, network: Sequence[str] = (), **environment: str) -> None:
        # Files and not pipes, which the processes of a killed driver would keep open.
        self._folder = tempfile.TemporaryDirectory()
        self._out, self._error = (Path(self._folder.name) / name for name in ("out", "error"))
        with self._out.open("w") as out, self._error.open("w") as error:
            self.process = subprocess.Popen(
                [*network, sys.executable, str(ROOT / "benchmarks" / "sweep.py"), *map(str, arguments)],
                stdout=out,
                stderr=error,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
                cwd=ROOT,
                start_new_session=True,
            )
        self._seen: dict[int, psutil.Process] = {}

    def __enter__(self) -> "Sweep":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.descendants()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for process in wait_until_gone(list(self._seen.values()), 1):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._folder.cleanup()

    def descendants(self) -> list[psutil.Process]:
        """Returns the processes below it, Ray's and its workers."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                self._seen[process.pid] = process
        return [process for process in self._seen.values() if process.is_running()]

    def workers(self) -> list[psutil.Process]:
        """Returns the processes that run trials."""
        found = []
        for process in self.descendants():
            with contextlib.suppress(psutil.NoSuchProcess):
                if any("ImplicitFunc" in part for part in process.cmdline()):
                    found.append(process)
        return found

    def wait_for(self, condition: Callable[[], Any], seconds: float = 300) -> None:
        """Returns as soon as the condition holds, which must be before the process ends."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.error}"
            assert time.monotonic() < deadline, f"waited in vain: {self.error}"
            time.sleep(0.02)

    def wait(self, seconds: float = 180) -> int:
        """Returns its exit status."""
        return self.process.wait(seconds)

    def kill(self) -> list[psutil.Process]:
        """Returns what is still there ten seconds after the driver was killed, Ray's idle agents apart.

        Those end by themselves too, after a minute.
        """
        agents = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
        others = [process for process in self.descendants() if process.name() not in agents]
        self.process.kill()
        self.process.wait()
        return wait_until_gone(others, 10)

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def error(self) -> str:
        return self._error.read_text()


def wait_until_gone(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Returns those that are there after so many seconds; those that nobody has reaped yet have ended."""

    def there(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if there(process)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def run(*arguments: object, **environment: str) -> tuple[int, str, str]:
    """Returns exit status, standard output and standard error of a sweep."""
    with Sweep(*arguments, **environment) as sweep:
        return sweep.wait(), sweep.out, sweep.error


def table(folder: Path) -> list[dict[str, str]]:
    """Returns trials.csv without the costs, which a clock decides."""
    with (folder / "trials.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows
    return [{key: cell for key, cell in row.items() if key not in COST_COLUMNS} for row in rows]


def assert_same_tables(folder: Path, other: Path) -> None:
    """All that a report says but for the costs is the same."""
    assert table(folder) == table(other)
    for name in REPRODUCIBLE:
        assert (folder / name).read_text() == (other / name).read_text()


def state(folder: Path, *patterns: str) -> dict[str, tuple[int, bytes]]:
    """Returns the content of files below a folder, and when they were written."""
    paths = (path for pattern in patterns for path in folder.glob(pattern) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def finished_state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Returns the state of all files of the finished runs."""
    return state(folder, *(f"runs/{path.parent.name}/*" for path in folder.glob("runs/*/record.json")))


def count(folder: Path, name: str) -> int:
    return len(list(folder.glob(f"runs/*/{name}")))


def half_trained(folder: Path) -> bool:
    """Returns whether a run has trained at least one of its epochs, and at most half of them."""
    logs = (path for path in folder.glob("runs/*/training_log.csv") if not (path.parent / "record.json").exists())
    epochs = (len(path.read_text().splitlines()) - 1 for path in logs)
    return any(1 <= trained <= SETTINGS["epochs"] // 2 for trained in epochs)


def one_error(error: str) -> str:
    """Returns the message, the only one and no traceback; before it there may be progress."""
    assert "\nmos-recbole: error: " in f"\n{error}", error
    assert "Traceback" not in error
    assert error.count("error:") == 1, error
    return error.partition("error: ")[2]


@pytest.fixture(scope="module")
def file(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("sweep"), data)


@dataclass
class Undisturbed:
    """A sweep that was run in one go; not to be changed.

    Attributes:
        folder: of the sweep.
        output: the folder above it.
        out, error: what it printed.
        listened: the addresses at which its processes listened.
        commands: of its processes.
        left: processes that were there after it had ended.
    """

    folder: Path
    output: Path
    out: str
    error: str
    listened: set[tuple[str, int]]
    commands: set[str]
    left: list[psutil.Process]


def test_a_ray_that_does_not_start_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine Ray gives up with a bare exception."""

    def gives_up(*arguments: object, **options: object) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen because of this and that.")

    import ray

    monkeypatch.setattr(ray, "init", gives_up)
    message = "Ray at this machine: The current node timed out during startup.$"
    with pytest.raises(InputError, match=message), cluster(ClusterOptions()):
        pass


@pytest.fixture(scope="module")
def undisturbed(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A Ray elsewhere, of which the environment tells, is not asked: it would be joined by --address only.

    The folder for temporary files has a path of 98 characters, which leaves no room for the names of sockets.
    """
    output = tmp_path_factory.mktemp("undisturbed")
    temporary = output / ("t" * (97 - len(str(output))))
    temporary.mkdir()
    listened: set[tuple[str, int]] = set()
    commands: set[str] = set()
    with Sweep(file, "--output", output, RAY_ADDRESS="127.0.0.1:9", TMPDIR=str(temporary)) as sweep:
        while sweep.process.poll() is None:
            for process in sweep.descendants():
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    commands.add(" ".join(process.cmdline()))
                    connections = process.net_connections("inet")
                    listened |= {tuple(one.laddr) for one in connections if one.status == psutil.CONN_LISTEN}  # type: ignore[misc]
            time.sleep(1)
        assert sweep.wait() == 0, sweep.error
        left = wait_until_gone(sweep.descendants(), 15)
        return Undisturbed(output / "small", output, sweep.out, sweep.error, listened, commands, left)


# ---------------------------------------------------------------------------------------------------- end to end


def logged(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Returns the scalars that TensorBoard shows, by the name of the run and the tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, dict[str, list[float]]] = {}
    for path in (folder / "tensorboard").glob("*"):
        events = EventAccumulator(str(path), size_guidance={"scalars": 0})
        events.Reload()
        tags = events.Tags()["scalars"]
        found[path.name] = {tag: [event.value for event in events.Scalars(tag)] for tag in tags}
    return found


def test_a_sweep_from_end_to_end(file: Path, undisturbed: Undisturbed) -> None:
    """Status 0, all files, a table; loopback only, no dashboard; again: the same without Ray, nothing is touched."""
    folder, out, error = undisturbed.folder, undisturbed.out, undisturbed.error
    assert undisturbed.left == []
    assert undisturbed.listened
    addresses = {ipaddress.ip_address(address) for address, _ in undisturbed.listened}
    addresses = {getattr(address, "ipv4_mapped", None) or address for address in addresses}
    assert all(address.is_loopback for address in addresses), addresses
    (head,) = [command for command in undisturbed.commands if "dashboard/dashboard.py" in command]
    assert "--disable-frontend" in head or "--minimal" in head
    (session,) = {word for word in " ".join(undisturbed.commands).split() if word.startswith("--temp-dir=")}
    assert not Path(session.partition("=")[2]).parent.exists()

    trials = read_trials(folder)
    assert [(trial.number, trial.status(folder), trial.attempts) for trial in trials] == [
        (number, "finished", 0) for number in range(1, 7)
    ]
    assert len(find_records(folder)) == 6
    for name in (*REPRODUCIBLE, "trials.csv", "trials.parquet", "sweep.json"):
        assert (folder / name).stat().st_size > 0
        assert name in out or name == "sweep.json"
    assert list((folder / "figures").iterdir())
    assert (folder / "best.md").read_text() in out
    lines = [line for line in error.splitlines() if not line.startswith(("checking", "starting", "drawing"))]
    assert lines[0] == f"{file}: loading PyTorch and RecBole"
    assert lines[1:3] == [f"Sweep {folder.name}: results go to {folder}", "2 trials at a time"]
    assert [line.partition(" ")[0] for line in lines[3:]] == [f"[{number}/6]" for number in range(1, 7)]
    assert f"mos-recbole report {folder}" in out.splitlines()[-1]
    for trial in trials:
        record, log = read_record(trial.folder(folder)), trial.training_log(folder)
        assert log is not None
        assert (record.epochs, record.resumed) == (SETTINGS["epochs"], False)
        assert record.settings["learning_rate"] == trial.parameters["learning_rate"]
    _assert_logged(folder)

    before = state(folder, "**/*")
    with Sweep(file, "--output", undisturbed.output, "--quiet") as again:
        names = set()
        while again.process.poll() is None:
            names |= {process.name() for process in again.descendants() if process.is_running()}
        assert (again.wait(), again.out) == (0, out)
        assert again.error == ""
    assert not {name for name in names if "gcs_server" in name or "raylet" in name}
    after = state(folder, "**/*")
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    # The report is written anew, to the same content but for figures' dates.
    assert not {name for name in changed if name.startswith(("runs", "trials/", "ray", "tensorboard", "sweep.json"))}
    assert all(before[name][1] == after[name][1] for name in (*REPRODUCIBLE, "trials.csv"))


def _assert_logged(folder: Path) -> None:
    """After every epoch the loss and the validation of that epoch; at the end the best one, and the test metrics."""
    found = logged(folder)
    trials = read_trials(folder)
    assert set(found) == {trial.label for trial in trials}
    for trial in trials:
        record, log = read_record(trial.folder(folder)), trial.training_log(folder)
        assert log is not None
        expected = {"loss": log["loss"]} | {f"valid/{name}": log[name] for name in record.valid}
        expected |= {f"best_valid/{name}": [metric.value] for name, metric in record.valid.items()}
        expected |= {f"test/{name}": [metric.value] for name, metric in record.test.items()}
        assert set(found[trial.label]) == set(expected)
        for tag, values in expected.items():
            assert found[trial.label][tag] == pytest.approx(list(values), rel=1e-6), tag


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_and_kill_9_of_the_driver(number: int, file: Path, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Started again by the same command, the sweep ends with the table of an undisturbed one.

    Ctrl-C, which a terminal sends to all its processes, and SIGTERM, which job schedulers send to one: status 130, one
    line on standard error with a hint. Killed at
    once, Ray's processes end by themselves. No finished run is touched, unfinished ones go on.
    """
    output, folder = tmp_path / "results", tmp_path / "results" / "small"
    arguments = [file, "--output", output, "--quiet"]
    with Sweep(*arguments) as interrupted:
        interrupted.wait_for(lambda: count(folder, "record.json") >= 1 and half_trained(folder))
        interrupted.descendants()
        kill = os.killpg if number == signal.SIGINT else os.kill
        kill(interrupted.process.pid, number)
        assert interrupted.wait(90) == 130
        assert interrupted.out == ""
        assert interrupted.error == ("mos-recbole: interrupted; the same command continues after the last epoch\n")
        assert wait_until_gone(interrupted.descendants(), 20) == []
    kept = finished_state(folder)
    done = count(folder, "record.json")
    assert 1 <= done < 6
    assert (folder / "trials.csv").read_text().count(",finished,") == done  # the tables so far, without figures
    assert not (folder / "figures").exists()

    with Sweep(*arguments) as killed:
        killed.wait_for(lambda: count(folder, "record.json") > done and half_trained(folder))
        assert killed.kill() == []
    kept = finished_state(folder) | kept
    assert done < count(folder, "record.json") < 6

    status, _, error = run(*arguments)
    assert (status, error) == (0, "")
    assert_same_tables(folder, undisturbed.folder)
    now = state(folder, "runs/*/*")
    assert {name: now[name] for name in kept} == kept
    records = find_records(folder)
    assert len({record.run_id for record in records}) == 6
    assert any(record.resumed for record in records)
    for one, other in zip(sorted_records(folder), sorted_records(undisturbed.folder), strict=True):
        assert one.outcomes().equals(other.outcomes())


def sorted_records(folder: Path) -> list[RunResult]:
    return sorted(find_records(folder), key=lambda record: record.run_id)


# ---------------------------------------------------------------------------------------------------- bad input


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Returns a function (arguments...) -> status, standard output and error of a sweep that does not come to Ray."""
    environment = dict(os.environ)

    def run_here(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main(["sweep", *map(str, arguments)])
        return status, *capsys.readouterr()

    yield run_here
    os.environ.clear()
    os.environ.update(environment)


BAD_FILES: dict[str, tuple[dict[str, Any], list[object], list[str]]] = {
    "unknown key": ({"modles": ["Pop"]}, [], ["small.yaml, line 17: unknown key 'modles'; did you mean models?"]),
    "empty space": ({"space": {}}, [], ["small.yaml, line 7: space is empty"]),
    "a parameter that no model has": ({"space": {"n_heads": {"grid": [1]}}}, [], ["space.n_heads: no model"]),
    "a misspelt setting": ({"settings": {"learnig_rate": 1}}, [], ["learnig_rate", "learning_rate"]),
    "unknown model": ({"models": ["GRU4RecMos"]}, [], ["'GRU4RecMos'", "GRU4RecMoS"]),
    "unknown data set": ({}, ["--dataset", "no-such-data"], ["no-such-data.inter"]),
    "swept key as argument": ({}, ["--learning_rate=0.1"], ["--learning_rate: this sweep varies learning_rate"]),
    "seed as argument": ({}, ["--seed=3"], ["seed", "by seeds"]),
    "no seeds of this kind": ({}, ["--seeds", "-3"], ["seeds.0 is -3", "0"]),
    "a name elsewhere": ({}, ["--name", "../other"], ["name"]),
    "two GPUs a trial": ({}, ["--gpus-per-trial", "2"], ["resources.gpus_per_trial"]),
    "no cores": ({}, ["--cpus-per-trial", "0"], ["resources.cpus_per_trial"]),
    "unknown storage": ({}, ["--storage", "gopher://place"], ["storage gopher://place"]),
    "storage in a file": ({}, ["--storage", __file__], [f"storage {__file__}"]),
    "no address": ({}, ["--address", "nonsense"], ["Ray at nonsense: "]),
    "another kind of address": ({}, ["--address", "ray://127.0.0.1:1"], ["address 'ray://127.0.0.1:1'"]),
    "a tracker that is not installed": ({}, ["--wandb", "project"], ["--wandb: the package wandb is not installed"]),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_input_is_refused(case: str, call, data: Path, tmp_path: Path, monkeypatch) -> None:
    """Status 2 and one message, and no results."""
    changes, arguments, fragments = BAD_FILES[case]
    if "--wandb" in arguments:
        monkeypatch.setitem(sys.modules, "wandb", None)
        monkeypatch.setattr(
            "mos_recbole.sweep.loggers.importlib.util.find_spec", lambda name: None if name == "wandb" else 1
        )
    path = write_sweep(tmp_path / "file", data, **changes)
    status, out, error = call(path, "--output", tmp_path / "results", *arguments)
    assert (status, out) == (2, "")
    message = one_error(error)
    for fragment in fragments:
        assert fragment in message
    assert not list((tmp_path / "results").rglob("*.json"))


def test_folders_of_something_else_are_refused(call, file: Path, data: Path, tmp_path: Path, monkeypatch) -> None:
    """Other results, another sweep, the same with other trials, broken files, one that is under way; all stay."""
    from mos_recbole.sweep import Planner, driver, read_sweep_file

    output, folder = tmp_path / "results", tmp_path / "results" / "small"

    def refusal(*arguments: object) -> str:
        before = state(output, "**/*")
        status, out, error = call(*arguments, "--output", output)
        assert (status, out) == (2, "")
        assert state(output, "**/*") == before
        return one_error(error)

    (folder / "runs" / "other").mkdir(parents=True)
    (folder / "runs" / "other" / "record.json").write_text("{}")
    assert "holds other results than a sweep's" in refusal(file)
    (folder / "runs" / "other" / "record.json").unlink()
    (folder / "runs" / "other").rmdir()
    (folder / "runs").rmdir()

    planner = Planner(read_sweep_file(file), file, [])
    planner.plan().write(folder)
    trials = [one.trial for one in planner.trials()]
    for trial in trials:
        trial.write(folder)
    other = write_sweep(tmp_path / "other", data, metric="MRR@10")
    assert "holds another sweep: metric is NDCG@10, and in the file MRR@10" in refusal(other)
    for trial in trials:
        trial.model_copy(update={"ended": "stopped"}).write(folder)
    assert "its trials have other epochs (40, now 3); to have both in this sweep" in refusal(file, "--epochs=3")
    for trial in trials:
        trial.write(folder)

    with filelock.FileLock(folder / ".lock"):
        assert "another process is at work on this sweep" in refusal(file)

    run = trials[0].run[:-16] + "0123456789abcdef"
    of_other_code = trials[0].model_copy(update={"run": run, "number": 9, "ended": "stopped"})
    of_other_code.write(folder)
    assert "its trials have other code, package versions, data or device; give this one a folder of its own" in refusal(
        file
    )
    path = folder / "trials" / "0123456789abcdef.json"
    path.write_text("{")
    assert f"{path}: not a trial" in refusal(file)
    path.unlink()
    (folder / "sweep.json").write_text("{}")
    assert "sweep.json: not the folder of a sweep" in refusal(file)
    assert driver  # was imported, but no cluster was started


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["nobody answers", "GPUs"])
def test_what_ray_knows_better_is_refused_soon(case: str, file: Path, tmp_path: Path) -> None:
    """An address at which nobody answers, and more GPUs than there are: status 2, one message, the folder is as new."""
    address = f"127.0.0.1:{free_port()}"
    cases: dict[str, tuple[list[object], list[str]]] = {
        "nobody answers": (["--address", address, "--storage", tmp_path / "kept"], [f"Ray at {address}"]),
        "GPUs": (["--gpus-per-trial", "1"], ["gpus_per_trial is 1, but no machine has more than 0 GPUs"]),
    }
    arguments, fragments = cases[case]
    status, out, error = run(file, "--output", tmp_path / "results", *arguments, CUDA_VISIBLE_DEVICES="")
    assert (status, out) == (2, "")
    message = one_error(error)
    assert len(message.splitlines()) == 1
    for fragment in fragments:
        assert fragment in message
    assert {path.name for path in (tmp_path / "results").rglob("*")} <= {"small", ".lock"}


# ---------------------------------------------------------------------------------------------------- more kills


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_kill_9_at_random_moments(seed: int, file: Path, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """The driver, a worker, the driver: the sweep ends with the same table, and no trial finishes twice."""
    output, folder = tmp_path / "results", tmp_path / "results" / "small"
    generator = np.random.default_rng(seed)
    kept: dict[str, tuple[int, bytes]] = {}

    def epochs() -> int:
        return sum(len(log) for trial in read_trials(folder) if (log := trial.training_log(folder)) is not None)

    def reached(moment: int) -> bool:
        return (folder / "sweep.json").exists() and epochs() >= moment

    moments = sorted(generator.integers(1, 6 * SETTINGS["epochs"], size=3).tolist())
    with contextlib.ExitStack() as sweeps:
        sweep = sweeps.enter_context(Sweep(file, "--output", output, "--quiet"))
        for number, moment in enumerate(moments):
            sweep.wait_for(partial(reached, moment))
            time.sleep(float(generator.uniform(0, 0.3)))
            kept = finished_state(folder) | kept
            if number == 1:
                for worker in sweep.workers()[:1]:
                    worker.kill()
            else:
                # The same command at once, while workers of the killed driver may still be there.
                sweep.descendants()
                sweep.process.kill()
                sweep = sweeps.enter_context(Sweep(file, "--output", output, "--quiet"))
        assert sweep.wait() == 0, sweep.error
    assert_same_tables(folder, undisturbed.folder)
    now = state(folder, "runs/*/*")
    assert {name: now[name] for name in kept} == kept


@pytest.mark.slow
def test_trials_that_are_trained_as_one(file: Path, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Killed and started again, and at the end alone: the numbers are those of a sweep that trained each alone."""
    output, folder = tmp_path / "results", tmp_path / "results" / "small"
    arguments = [file, "--output", output, "--quiet", "--fuse", "3"]
    with Sweep(*arguments) as killed:
        killed.wait_for(lambda: half_trained(folder), 600)
        assert killed.kill() == []
    kept = finished_state(folder)
    with Sweep(*arguments) as again:
        again.wait_for(lambda: count(folder, "record.json") >= 3, 600)
        for worker in again.workers():
            worker.kill()
        assert again.wait(600) == 0, again.error
    now = state(folder, "runs/*/*")
    assert {name: now[name] for name in kept} == kept
    assert [trial.status(folder) for trial in read_trials(folder)] == ["finished"] * 6
    for one, other in zip(sorted_records(folder), sorted_records(undisturbed.folder), strict=True):
        assert one.run_id == other.run_id
        losses, expected = (record.training_log()["loss"].tolist() for record in (one, other))
        assert losses == pytest.approx(expected, rel=1e-3)
        assert one.valid["NDCG@10"].value == pytest.approx(other.valid["NDCG@10"].value, rel=0.05)


# ---------------------------------------------------------------------------------------------------- failures


@pytest.mark.slow
def test_a_trial_that_diverges_is_recorded_and_the_others_go_on(data: Path, tmp_path: Path) -> None:
    """Status 1, the error in its file after as many attempts; left alone by the same command, unless asked for."""
    space = {"learning_rate": {"grid": [0.01, 1e30]}}
    file = write_sweep(tmp_path / "file", data, models=["GRU4RecMoS"], space=space, retries=1, settings={"epochs": 5})
    arguments = [file, "--output", tmp_path / "results", "--quiet"]
    folder = tmp_path / "results" / "small"

    def failed(status: int, error: str) -> Trial:
        assert status == 1
        good, bad = read_trials(folder)
        assert (good.status(folder), bad.status(folder)) == ("finished", "failed")
        assert bad.attempts == 2
        assert bad.error is not None
        assert bad.error.startswith("TrainingDiverged: ")
        assert "nan" in bad.error
        assert error == f"trial 2 failed 2 times: {bad.error}\n"
        return bad

    status, out, error = run(*arguments)
    bad = failed(status, error)
    assert "Failed trials" in out
    kept = finished_state(folder)
    path = folder / "trials" / f"{bad.run_id}.json"
    written = path.stat().st_mtime_ns

    status, again, error = run(*arguments)
    assert failed(status, error) == bad
    assert again == out
    assert path.stat().st_mtime_ns == written

    status, _, error = run(*arguments, "--retry-failed")
    assert failed(status, error) == bad
    assert path.stat().st_mtime_ns > written
    assert finished_state(folder) == kept


# ---------------------------------------------------------------------------------------------------- clusters

_CLUSTER = """
import sys
from ray.cluster_utils import Cluster

node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 100 * 2**20}
head = node | {"node_ip_address": "127.0.0.2", "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head)
other = cluster.add_node(node_ip_address="127.0.0.3", **node)
print(cluster.address, *(one.node_ip_address for one in cluster.list_all_nodes()), flush=True)
for line in sys.stdin:
    if line == "remove\\n":
        cluster.remove_node(other, allow_graceful=False)
        print("removed", flush=True)
    else:
        break
cluster.shutdown()
"""


class Cluster:
    """Two nodes with addresses of their own, in a process of their own.

    Ray would listen on all networks for them, so they have a network of their own where that is allowed.

    Attributes:
        network: how a command begins that runs in the nodes' network.
        address: of the cluster.
        nodes: the nodes' addresses.
    """

    def __init__(self) -> None:
        self.network: list[str] = []
        self._namespace = None
        if os.geteuid() == 0 and all(map(shutil.which, ("unshare", "nsenter", "ip"))):
            command = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 3600"]
            self._namespace = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert self._namespace.stdout is not None
            assert self._namespace.stdout.readline() == "up\n"
            self.network = ["nsenter", f"--net=/proc/{self._namespace.pid}/ns/net"]
        self._process = subprocess.Popen(
            [*self.network, sys.executable, "-c", _CLUSTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
        )
        self.address, *self.nodes = self._line().split()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def remove_node(self) -> None:
        """Removes a node as if its machine was switched off."""
        self._say("remove")
        assert self._line() == "removed"

    def end(self) -> None:
        processes = psutil.Process(self._process.pid).children(recursive=True)
        with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
            self._say("end")
            self._process.wait(30)
        self._process.kill()
        for process in wait_until_gone(processes, 10):
            process.kill()
        if self._namespace is not None:
            self._namespace.kill()
            self._namespace.wait()


def under_way(runs: Path) -> list[Path]:
    """Returns the folders of runs that have a checkpoint, but no record."""
    folders = [path.parent for path in runs.glob("*/last.pt")]
    return [folder for folder in folders if not (folder / "record.json").exists()]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_machine_that_is_lost(scheme: str, file: Path, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Its trials go on on another one, from what they left in the storage; tables and outcomes are the same."""
    folder = tmp_path / "results" / "small"
    cluster = Cluster()
    try:
        assert cluster.nodes == ["127.0.0.2", "127.0.0.3"]
        with Sweep(
            *(file, "--output", tmp_path / "results", "--address", cluster.address),
            *("--storage", f"{scheme}{tmp_path}/kept", "--quiet"),
            network=cluster.network,
        ) as sweep:
            # Both nodes are at work on a trial that can go on.
            sweep.wait_for(lambda: len(under_way(tmp_path / "kept" / "small")) == 2)
            cluster.remove_node()
            assert sweep.wait() == 0, sweep.error
            assert sweep.error == ""
    finally:
        cluster.end()
    assert_same_tables(folder, undisturbed.folder)
    assert sum(trial.attempts for trial in read_trials(folder)) == 1
    assert any(record.resumed for record in find_records(folder))
    for one, other in zip(sorted_records(folder), sorted_records(undisturbed.folder), strict=True):
        assert one.outcomes().equals(other.outcomes())
    assert count(folder, "*.pt") == 0, "checkpoints stay in the storage"


@pytest.mark.slow
def test_a_storage_holds_what_a_lost_results_folder_did(file: Path, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """A sweep whose driver was killed goes on from the storage alone; nothing that is finished there runs again."""
    arguments = [file, "--storage", tmp_path / "kept", "--quiet", "--output"]
    kept = tmp_path / "kept" / "small"
    with Sweep(*arguments, tmp_path / "lost") as killed:
        killed.wait_for(lambda: len(list(kept.glob("*/record.json"))) >= 2)
        assert killed.kill() == []
    records = state(kept, "*/record.json")
    assert 2 <= len(records) < 6
    status, _, error = run(*arguments, tmp_path / "results")
    assert (status, error) == (0, "")
    now = state(kept, "*/record.json")
    assert {name: now[name] for name in records} == records
    assert_same_tables(tmp_path / "results" / "small", undisturbed.folder)


# ---------------------------------------------------------------------------------------------------- adaptive


@pytest.mark.slow
def test_optuna(data: Path, tmp_path: Path) -> None:
    """As many trials of each model, then the further seeds of the best; again: nothing is left to do."""
    file = write_sweep(
        tmp_path / "file",
        data,
        space={"learning_rate": {"loguniform": [1e-3, 1e-1]}, "mos_heads": {"choice": [2, 3]}},
        search={"method": "optuna", "samples": 3},
        seeds=[1, 2],
        settings={"epochs": 8},
    )
    arguments = [file, "--output", tmp_path / "results", "--quiet"]
    folder = tmp_path / "results" / "small"
    with Sweep(*arguments) as killed:
        killed.wait_for(lambda: count(folder, "record.json") >= 2)
        assert killed.kill() == []
    kept = finished_state(folder)
    status, out, error = run(*arguments)
    assert (status, error) == (0, "")
    _assert_searched(folder, 3)
    now = state(folder, "runs/*/*")
    assert {name: now[name] for name in kept} == kept
    before = state(folder, "runs/*/*", "trials/*", "ray/*")
    assert run(*arguments) == (0, out, "")
    assert state(folder, "runs/*/*", "trials/*", "ray/*") == before


def _assert_searched(folder: Path, samples: int) -> None:
    """So many trials of each model with seed 1; the best of the finished ones with seed 2 too, to its end."""
    trials = read_trials(folder)
    assert [trial.number for trial in trials] == list(range(1, len(trials) + 1))
    for model in ("GRU4RecSoftmax", "GRU4RecMoS"):
        first = [trial for trial in trials if (trial.model, trial.seed) == (model, 1)]
        (second,) = [trial for trial in trials if (trial.model, trial.seed) == (model, 2)]
        assert len(first) == samples
        scores = {trial.number: trial.best_validation(folder, "NDCG@10", "max") or 0.0 for trial in first}
        best = max(first, key=lambda trial: scores[trial.number])
        assert best.status(folder) == "finished"
        assert second.parameters in [one.parameters for one in first if scores[one.number] == scores[best.number]]
        assert second.status(folder) == "finished"
        assert read_record(second.folder(folder)).epochs == read_record(best.folder(folder)).epochs


@pytest.mark.slow
def test_asha(data: Path, tmp_path: Path) -> None:
    """Bad trials are stopped early and have no test metrics; the best of each model trains to its end."""
    rates = [1e-5, 3e-5, 1e-4, 1e-3, 1e-2, 3e-2]
    file = write_sweep(
        tmp_path / "file",
        data,
        space={"learning_rate": {"grid": rates}},
        stopping={"scheduler": "asha", "grace_epochs": 2, "reduction_factor": 2},
        seeds=[1, 2],
        settings={"epochs": 20},
    )
    status, _, error = run(file, "--output", tmp_path / "results", "--quiet")
    assert (status, error) == (0, "")
    folder = tmp_path / "results" / "small"
    _assert_searched(folder, len(rates))
    stopped = [trial for trial in read_trials(folder) if trial.status(folder) == "stopped"]
    assert stopped
    rows = pd.read_csv(folder / "trials.csv").set_index("number")
    for trial in stopped:
        log = trial.training_log(folder)
        assert log is not None
        assert 2 <= len(log) < 20
        assert not (trial.folder(folder) / "outcomes.parquet").exists()
        assert rows.loc[trial.number].filter(like="test ").isna().all()
