"""The epochs of a training on a clock; for any library's Python, so without imports beyond the standard library."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Curve:
    """A training's epochs: when each ended, its validation, and the test where validation was the best so far.

    Args:
        labels: what stands in every row, as the entry and the seed.
    """

    def __init__(self, **labels: object) -> None:
        self.labels, self.rows = labels, []
        self._began = self._now()

    def note(self, valid: float, look: Callable[[], float]) -> None:
        """Adds an epoch; `look` returns the test's value."""
        times = dict(zip(("processor_seconds", "seconds"), self._passed(), strict=True))
        best = not self.rows or valid > max(row["valid"] for row in self.rows)
        with self._stopped():
            test = look() if best else float("nan")
        self.rows.append(self.labels | {"epoch": len(self.rows) + 1, **times, "valid": valid, "test": test})

    def since_best(self) -> int:
        """Returns how many epochs ago validation was at its best."""
        return len(self.rows) - max(self.rows, key=lambda row: row["valid"])["epoch"]

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.process_time(), time.perf_counter()

    def _passed(self) -> list[float]:
        return [now - began for now, began in zip(self._now(), self._began, strict=True)]

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        passed = self._passed()
        yield
        self._began = tuple(now - before for now, before in zip(self._now(), passed, strict=True))
