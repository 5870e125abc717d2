"""The epochs of a training on a clock; for any library's Python, so without imports beyond the standard library."""

import csv
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Curve:
    """A training's epochs: when each ended, its validation, and the test where validation was the best so far.

    Args:
        path: a CSV file, made if missing, that gets each row as its epoch ends.
        labels: what stands in every row, as the entry and the seed.
    """

    def __init__(self, path: Path, **labels: object) -> None:
        self.path, self.labels = path, labels
        self.rows: list[dict[str, Any]] = []
        self._began = self._now()

    def note(self, valid: float, look: Callable[[], float]) -> None:
        """Adds an epoch; `look` returns the test's value."""
        times = dict(zip(("processor_seconds", "seconds"), self._passed(), strict=True))
        best = not self.rows or valid > max(row["valid"] for row in self.rows)
        with self._stopped():
            test = look() if best else ""
            self.rows.append(self.labels | {"epoch": len(self.rows) + 1, **times, "valid": valid, "test": test})
            written = {
                name: f"{value:.6g}" if isinstance(value, float) else value for name, value in self.rows[-1].items()
            }
            with self.path.open("a", newline="") as file:
                writer = csv.DictWriter(file, written)
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(written)

    def since_best(self) -> int:
        """Returns how many epochs ago validation was at its best."""
        return len(self.rows) - max(self.rows, key=lambda row: row["valid"])["epoch"]

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.process_time(), time.perf_counter()

    def _passed(self) -> tuple[float, float]:
        processor, seconds = self._now()
        return processor - self._began[0], seconds - self._began[1]

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        passed = self._passed()
        yield
        processor, seconds = self._now()
        self._began = processor - passed[0], seconds - passed[1]
