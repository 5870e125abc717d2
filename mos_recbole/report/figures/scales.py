"""Where the values of a swept parameter are on an axis."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

# A parameter with more numbers than this was drawn at random; its scores are summed up in so many ranges.
_FEW_VALUES = 12
_RANGES = 8


@dataclass(frozen=True)
class Scale:
    """Where a parameter's values are on an axis.

    Attributes:
        kind: "linear" and "log" for numbers; "categorical" has a place for each value, evenly.
        values: all of them, in order.
    """

    kind: Literal["linear", "log", "categorical"]
    values: list[Any]

    @classmethod
    def of(cls, column: pd.Series) -> "Scale":
        """Returns the scale that suits a parameter's values."""
        given = column.dropna()
        values = list(given.unique())
        if not pd.api.types.is_numeric_dtype(given) or pd.api.types.is_bool_dtype(given):
            return cls("categorical", sorted(values, key=_natural))
        values = sorted(float(value) for value in values)
        if _log_like(values):
            return cls("log", values)
        # 0, 1e-5, 1e-4, ...: neither scale would tell the small ones apart.
        if 2 < len(values) <= _FEW_VALUES and values[0] == 0 and _log_like(values[1:]):
            return cls("categorical", values)
        return cls("linear", values)

    @property
    def continuous(self) -> bool:
        """Whether there are more numbers than are chosen by hand."""
        return self.kind != "categorical" and len(self.values) > _FEW_VALUES

    def places(self, column: pd.Series) -> np.ndarray:
        """Returns float64, where the values are in the coordinates of the axis."""
        if self.kind == "categorical":
            numbers = {value: number for number, value in enumerate(self.values)}
            return np.array([numbers[value] for value in column], dtype=np.float64)
        return column.to_numpy(np.float64)

    def heights(self, column: pd.Series) -> np.ndarray:
        """Returns the places scaled such that those of the scale's values are from 0 to 1."""
        low, high = self._ends()
        if low == high:
            return np.full(len(column), 0.5)
        return (self._linear(self.places(column)) - low) / (high - low)

    def group(self, place: pd.Series) -> np.ndarray:
        """Returns integers, equal for places that are summed up together."""
        if not self.continuous:
            return np.unique(place, return_inverse=True)[1]
        edges = np.linspace(*self._ends(), _RANGES + 1)
        return np.digitize(self._linear(place.to_numpy(np.float64)), edges[1:-1])

    def show(self, ax: Axes) -> None:
        """Sets the x axis up."""
        if self.kind == "categorical":
            labels = [value_label(value) for value in self.values]
            turned: Any = (
                {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if sum(map(len, labels)) > 40 else {}
            )
            ax.set_xticks(range(len(labels)), labels, **turned)
            ax.set_xlim(-0.5, len(labels) - 0.5)
            return
        if self.kind == "log":
            ax.set_xscale("log")
        if self.labels_fit():
            ax.xaxis.set_major_locator(FixedLocator(self.values))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: value_label(float(value))))
        elif self.kind == "log":
            label_log_axis(ax.xaxis)

    def labels_fit(self) -> bool:
        """Returns whether each value can have a label of its own."""
        if self.kind == "categorical":
            return True
        places = self._linear(np.array(self.values))
        return len(places) == 1 or (len(places) <= 8 and np.diff(places).min() >= 0.09 * np.ptp(places))

    def ticks(self) -> list[Any]:
        """Returns the values to label: each of them where that fits, else round numbers across the scale."""
        if self.labels_fit():
            return self.values
        low, high = self.values[0], self.values[-1]
        if self.kind == "log" and high / low >= 10:
            ticks = 10.0 ** np.arange(np.ceil(np.log10(low)), np.floor(np.log10(high)) + 1)
            if len(ticks) > 1:
                return ticks[:: 1 + len(ticks) // 6].tolist()
            return [low, *ticks.tolist(), high] if 2 * low < ticks[0] < high / 2 else [low, high]
        return _inside(MaxNLocator(5).tick_values(low, high), low, high) or [low, high]

    def _ends(self) -> tuple[float, float]:
        ends = np.array(
            [0.0, len(self.values) - 1.0] if self.kind == "categorical" else [self.values[0], self.values[-1]]
        )
        low, high = self._linear(ends)
        return float(low), float(high)

    def _linear(self, place: np.ndarray) -> np.ndarray:
        return np.log(place) if self.kind == "log" else place


def label_log_axis(axis: Axis) -> None:
    """Labels a logarithmic axis in plain numbers: powers of ten, and what is between where there are few of them."""
    low, high = sorted(axis.get_view_interval())
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    steps = [1.0, 2.0, 5.0] if high / low < 100 else [1.0]
    ticks = _inside(np.outer(10.0 ** decades[:: 1 + len(decades) // 8], steps).ravel(), low, high)
    if len(ticks) < 2:
        ticks = _inside(MaxNLocator(4).tick_values(low, high), low, high)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def value_label(value: Any) -> str:
    """Returns a value as text: whole numbers in full, others to four digits."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:.4g}"
    return str(value)


def _inside(ticks: Any, low: float, high: float) -> list[float]:
    return [float(tick) for tick in ticks if low <= tick <= high]


def _log_like(values: Sequence[float]) -> bool:
    """Returns whether sorted numbers are spread more evenly in their logarithms; two of them: a decade apart."""
    if len(values) < 2 or values[0] <= 0:
        return False
    if len(values) == 2:
        return values[1] >= 10 * values[0]

    def unevenness(places: np.ndarray) -> float:
        return float(np.abs((places - places[0]) / np.ptp(places) - np.linspace(0, 1, len(places))).max())

    # With a margin, by which 1, 2, 3, 5 stays linear.
    return unevenness(np.log(values)) < 0.9 * unevenness(np.array(values))


def _natural(value: Any) -> tuple[list[tuple[int, str]], str]:
    """Returns a sort key by which "2" comes before "16"."""
    parts = re.split(r"(\d+)", str(value))
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts], str(value)
