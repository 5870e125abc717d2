"""Which wrong code the tests see: a table of single mutations, each tried against the tests of its room.

    python tests/robustness/mutations.py [ROOM ...] [--most N]

Every mutation of mutations.yaml is made in a copy of the package, and the room's tests must then fail. Printed are the
score by room and what no test saw. One process that has imported the large packages forks for each mutation, since
importing them takes longer than most tests.
"""

import argparse
import compileall
import importlib
import os
import py_compile
import resource
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_suffix(".yaml")
_PASSED, _FAILED, _NO_TESTS = 0, 1, 5  # pytest's exit status
_MOST_SECONDS = 300  # of a processor
_LARGE = ("torch", "torch.distributed.nn", "pandas", "pyarrow.parquet", "scipy.stats", "scipy.sparse", "scipy.optimize")
_LARGE += ("matplotlib.figure", "matplotlib.backends.backend_agg", "hypothesis", "pydantic", "pytest")
_LARGE += ("recbole.config", "recbole.data", "recbole.trainer.trainer", "recbole.data.transform", "filelock", "yaml")


@dataclass(frozen=True)
class Mutation:
    """One change of one file.

    Attributes:
        equal: why it changes nothing that a test could see; such are not tried and do not count.
        tests: what should see it, paths and pytest's other arguments.
    """

    room: str
    file: str
    old: str
    new: str
    equal: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {' '.join(self.old.split())!r} -> {' '.join(self.new.split())!r}"

    def text(self, package: Path) -> str | None:
        """Returns the file's text with the change; None where the old text is not there once."""
        path = package / self.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        return text.replace(self.old, self.new) if text.count(self.old) == 1 else None


def read_mutations(table: Path = TABLE) -> Iterator[Mutation]:
    """Yields the mutations of a table: rooms with `tests` and files, each with [old, new] or mappings of more."""
    for room, content in yaml.safe_load(table.read_text(encoding="utf-8")).items():
        for file, changes in content["files"].items():
            for change in changes:
                fields = dict(zip(("old", "new"), change, strict=True)) if isinstance(change, list) else change
                tests = fields.get("tests", content["tests"])
                yield Mutation(
                    room, file, fields["old"], fields["new"], fields.get("equal", ""), tuple(shlex.split(tests))
                )


class Laboratory:
    """A copy of the project in which one file at a time is changed."""

    def __init__(self, folder: Path) -> None:
        self.root, self.package = folder, folder / "mos_recbole"
        for name in ("mos_recbole", "tests", "benchmarks", "configs", "results", "docs"):
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for path in [path for path in ROOT.iterdir() if path.is_file()]:
            shutil.copy(path, folder)
        # By content, since a change may keep the size and the second.
        mode = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(self.package, quiet=1, invalidation_mode=mode)
        os.environ |= {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}

    def status(self, tests: Sequence[str], mutation: Mutation | None = None) -> int:
        """Returns the exit status of tests, with a mutation or without."""
        path = self.package / mutation.file if mutation else None
        before = path.read_bytes() if path else b""
        if path and mutation:
            path.write_text(mutation.text(self.package) or "", encoding="utf-8")
        try:
            child = os.fork()
            if child == 0:
                self._test(tests)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        finally:
            if path:
                path.write_bytes(before)

    def _test(self, tests: Sequence[str]) -> None:
        # Wrong code may never end.
        resource.setrlimit(resource.RLIMIT_CPU, (_MOST_SECONDS, _MOST_SECONDS))
        log = os.open(self.root / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(self.root)
        here = Path(__file__).parent
        sys.path[:] = [str(self.root), *(path for path in sys.path if Path(path or ".").resolve() != here)]
        import pytest

        # The rest by name: `-k` and what follows it.
        arguments = [one if one.startswith("-") or "/" not in one else f"tests/{one}" for one in tests]
        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments])))


def main() -> int:
    """Tries the mutations of the rooms that are named, or of all; returns 1 where tests fail without a mutation."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rooms", nargs="*")
    parser.add_argument("--table", type=Path, default=TABLE, help="the mutations, by default those beside this file")
    parser.add_argument("--most", type=int, default=10**6, help="of each room so many at most, spread over its files")
    options = parser.parse_args()
    by_room: dict[str, list[Mutation]] = {}
    gone: list[str] = []
    for one in read_mutations(options.table):
        if one.equal or (options.rooms and one.room not in options.rooms):
            continue
        if one.text(ROOT / "mos_recbole") is None:
            gone.append(f"{one.room}: {one}")
        else:
            by_room.setdefault(one.room, []).append(one)
    chosen = [one for own in by_room.values() for one in own[:: -(-len(own) // options.most)]]
    for name in _LARGE:
        importlib.import_module(name)
    seen: dict[str, list[bool]] = {}
    survivors: list[str] = []
    passed: dict[tuple[str, ...], bool] = {}
    with tempfile.TemporaryDirectory() as folder:
        laboratory = Laboratory(Path(folder))
        for mutation in chosen:
            started = time.perf_counter()
            status = laboratory.status(mutation.tests, mutation)
            if status == _NO_TESTS:
                raise ValueError(f"{mutation}: none of the tests {shlex.join(mutation.tests)} is there")
            found = status != _PASSED
            seen.setdefault(mutation.room, []).append(found)
            word = "seen" if status == _FAILED else f"status {status}" if found else "NOT SEEN"
            print(f"{word:8} {time.perf_counter() - started:5.1f} s  {mutation.room}  {mutation}", flush=True)
            if not found:
                survivors.append(f"{mutation.room}: {mutation}")
            passed[mutation.tests] = passed.get(mutation.tests, False) or not found
        # What failed each time must not be what fails anyway.
        for tests in [tests for tests, once in passed.items() if not once]:
            if laboratory.status(tests) != _PASSED:
                print((laboratory.root / "log.txt").read_text()[-2000:], f"fails without a mutation: {tests}", sep="\n")
                return 1
    rows = [f"| {room} | {sum(one)} | {len(one)} | {sum(one) / len(one):.0%} |" for room, one in seen.items()]
    lines = ["| room | seen | tried | share |", "| --- | --- | --- | --- |", *rows, ""]
    lines += [f"- not seen: {one}" for one in survivors]
    lines += [f"- no longer in the code, to be written anew: {one}" for one in gone]
    print("\n".join(["", *lines]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
