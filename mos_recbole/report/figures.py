"""Figures of a sweep. Plot functions take data and axes, return the axes and never save.

They take the table of trials that `sweep_report.trials_frame` makes. A trial's score is its validation metric: of the
best epoch, or of the best so far where the scheduler stopped the trial. Failed and unfinished trials have no place in
figures of scores; their training curves are shown.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from mos_recbole.report.style import GREY, PANEL, STYLE, Look, add_legend, model_looks, say_empty

Mode = Literal["max", "min"]

_COLUMNS = 3
# A parameter with more values than this was drawn at random; its scores are summed up in so many ranges.
_FEW_VALUES = 12
_RANGES = 8
_THICK, _THIN = 1.8, 0.8  # lines through best and mean scores
_HOLLOW: Any = {"linestyle": "", "marker": "o", "markerfacecolor": "none"}
_END_MARKERS = {"stopped": "o", "failed": "x"}
# Height of "none" in parallel coordinates, where axes are from 0 to 1.
_NO_VALUE = -0.15


def sweep_figures(
    frame: pd.DataFrame, parameters: Mapping[str, str], logs: Mapping[int, pd.DataFrame], metric: str, mode: Mode
) -> dict[str, Figure]:
    """Returns the figures of a sweep by name: a panel per data set, a colour per model.

    Args:
        frame: of `trials_frame`.
        parameters: the swept parameters, each with its column in `frame`.
        logs: training logs by the trial's number.
        metric: validation metric that selects.
        mode: whether its maximum or its minimum is best.
    """
    figures = {}
    looks = model_looks(frame["model"])
    with matplotlib.rc_context(STYLE):
        for key, column in parameters.items():
            figure, panels = _panels(frame)
            for axes, of_dataset in panels:
                plot_parameter(of_dataset, key, column, metric, mode, looks, axes)
            there = {model: looks[model] for model in frame.loc[frame[column].notna(), "model"].unique()}
            add_legend(figure, there, [*_stopped(frame, **_HOLLOW), *_summaries(frame[column])])
            figures["parameter-" + re.sub(r"[^A-Za-z0-9_.-]", "_", key)] = figure
        if parameters:
            # One below the other: lines between many axes need the width.
            n_axes = len(parameters) + 1 + (len(looks) > 1)
            figure, panels = _panels(frame, columns=1, size=(max(PANEL[0], 1.5 * n_axes), PANEL[1]))
            for axes, of_dataset in panels:
                plot_parallel_coordinates(of_dataset, parameters, metric, mode, axes)
            add_legend(figure, {}, _stopped(frame, linestyle=":"))
            figures["parallel_coordinates"] = figure
        figure, panels = _panels(frame)
        for axes, of_dataset in panels:
            plot_training_curves(of_dataset, logs, metric, looks, axes)
        add_legend(figure, looks, _curve_ends(frame), lines=True)
        figures["training_curves"] = figure
        figure, panels = _panels(frame)
        for axes, of_dataset in panels:
            plot_pareto(of_dataset, metric, mode, looks, axes)
        frontier = Line2D([], [], color=GREY, linewidth=1.2, label="frontier")
        add_legend(figure, looks, [*_stopped(frame, **_HOLLOW), frontier])
        figures["pareto"] = figure
    return figures


# ------------------------------------------------------------------------------------------------- plots


def plot_parameter(
    frame: pd.DataFrame, key: str, column: str, metric: str, mode: Mode, looks: Mapping[str, Look], ax: Axes
) -> Axes:
    """Returns the axes with the validation metric against one swept parameter.

    A point is a trial, hollow where the scheduler stopped it. Each model's thick line runs through its best score at
    each value, the thin one through the mean score; where values were drawn at random, at each of eight ranges.

    Args:
        frame: trials of one data set.
        key: the parameter's name; its column in `frame` is `column`.
        metric, mode: which metric, and whether its maximum or its minimum is best.
        looks: of the models.
        ax: where to draw.
    """
    data = _scored(frame, metric).dropna(subset=[column])
    ax.set(xlabel=key, ylabel=_metric_label(metric, mode))
    if data.empty:
        return say_empty(ax)
    scale = _Scale.of(data[column])
    data = data.assign(place=scale.places(data[column]), score=data[f"valid {metric}"])
    figure = ax.get_figure(root=True)
    assert figure is not None
    models = [model for model in looks if (data["model"] == model).any()]
    for number, model in enumerate(models):
        look, of_model = looks[model], data[data["model"] == model]
        # Beside each other where models share values.
        shift = 0.0 if scale.continuous else min(6.0, 18 / len(models)) * (number - (len(models) - 1) / 2)
        beside = ax.transData + ScaledTranslation(shift / 72, 0, figure.dpi_scale_trans)
        groups = of_model.groupby(scale.group(of_model["place"]))
        best = groups["score"].max() if mode == "max" else groups["score"].min()
        place = groups["place"].median()
        lines = _points(ax, of_model["place"], of_model["score"], of_model["status"], look)
        lines += ax.plot(place, best, color=look.colour, linewidth=_THICK)
        lines += ax.plot(place, groups["score"].mean(), color=look.colour, linewidth=_THIN)
        # Not before: the limits of the axes are those of the data.
        for line in lines:
            line.set_transform(beside)
    ax.margins(x=0.08)
    scale.show(ax)
    return ax


def plot_parallel_coordinates(
    frame: pd.DataFrame, parameters: Mapping[str, str], metric: str, mode: Mode, ax: Axes
) -> Axes:
    """Returns the axes with a line per trial across the swept parameters to its score, which is also its colour.

    Where there are several models the first axis is the model. A parameter that a trial lacks is "none", below its
    axis. Lines that share a value that is no number are spread a little; those of stopped trials are dotted.

    Args:
        frame: trials of one data set.
        parameters: names, each with its column in `frame`.
        metric, mode: which metric, and whether its maximum or its minimum is best.
        ax: where to draw; it shows no coordinates of its own.
    """
    data = _scored(frame, metric)
    data = data.sort_values(f"valid {metric}", ascending=mode == "max", kind="stable")  # the best on top
    ax.set_yticks([])
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    if data.empty:
        ax.set_xticks([])
        return say_empty(ax)
    columns = {"model": "model"} if frame["model"].nunique() > 1 else {}
    columns |= {**parameters, _metric_label(metric, mode, "\n"): f"valid {metric}"}
    score = data[f"valid {metric}"]
    last = len(columns) - 1
    heights = np.empty((len(data), len(columns)))
    for number, column in enumerate(list(columns.values())[:last]):
        heights[:, number] = _draw_vertical_axis(ax, number, data[column], _Scale.of(data[column]), "left")
    linear = _Scale("linear", sorted(score.unique()), continuous=False)
    heights[:, last] = _draw_vertical_axis(ax, last, score, linear, "right")
    # Not up to the end of the colours, a yellow that is faint on white.
    shades = matplotlib.colormaps["viridis" if mode == "max" else "viridis_r"](
        np.linspace(0, 0.9, 256) if mode == "max" else np.linspace(0.1, 1, 256)
    )
    for line, status in zip(heights, data["status"], strict=True):
        stopped = status == "stopped"
        ax.plot(
            range(len(columns)),
            line,
            color=shades[round(255 * line[last])],
            alpha=_few_to_many(len(data), 0.9, 0.3 if stopped else 0.55),
            linewidth=_few_to_many(len(data), 1.6, 0.9),
            linestyle=":" if stopped else "-",
        )
    # The metric's axis is the key of the colours.
    ax.imshow(shades[:, None], extent=(last, last + 0.06, 0, 1), origin="lower", aspect="auto", zorder=2.5)
    ax.set_xticks(range(len(columns)), list(columns))
    ax.tick_params(axis="x", length=0, pad=6)
    lacking = data[list(columns.values())].isna().any(axis=None)
    ax.set(xlim=(-0.3, last + 0.5), ylim=(_NO_VALUE - 0.05 if lacking else -0.05, 1.05))
    return ax


def plot_training_curves(
    frame: pd.DataFrame, logs: Mapping[int, pd.DataFrame], metric: str, looks: Mapping[str, Look], ax: Axes
) -> Axes:
    """Returns the axes with the validation metric by epoch, a line per trial.

    Args:
        frame: trials of one data set, of any status; curves of stopped and of failed ones end in a mark.
        logs: training logs by the trial's number.
        metric: which one.
        looks: of the models.
        ax: where to draw.
    """
    ax.set(xlabel="epoch", ylabel=f"validation {metric}")
    thin = _few_to_many(len(frame), 1.2, 0.5)
    empty = True
    for number, model, status in zip(frame["number"], frame["model"], frame["status"], strict=True):
        log = logs.get(number)
        if log is None or metric not in log or log[metric].isna().all():
            continue
        empty = False
        curve, look = log[["epoch", metric]].dropna(), looks[model]
        only_one = look.marker if len(curve) == 1 else ""
        ax.plot(
            curve["epoch"],
            curve[metric],
            color=look.colour,
            linewidth=thin,
            alpha=_few_to_many(len(frame), 0.9, 0.5),
            marker=only_one,
            markersize=3,
        )
        if status in _END_MARKERS:
            ax.plot(*curve.iloc[-1], color=look.colour, linestyle="", marker=_END_MARKERS[status], markersize=3)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return say_empty(ax) if empty else ax


def plot_pareto(frame: pd.DataFrame, metric: str, mode: Mode, looks: Mapping[str, Look], ax: Axes) -> Axes:
    """Returns the axes with the validation metric against training time, and the frontier of all models.

    On the frontier are the trials than which none was trained faster with a better score.

    Args:
        frame: trials of one data set.
        metric, mode: which metric, and whether its maximum or its minimum is best.
        looks: of the models.
        ax: where to draw.
    """
    data = _scored(frame, metric).dropna(subset=["train_seconds"])
    ax.set(xlabel="training time [s]", ylabel=_metric_label(metric, mode))
    if data.empty:
        return say_empty(ax)
    # Counting models train in no time that the clock tells; the axis is logarithmic.
    data = data.assign(seconds=data["train_seconds"].clip(lower=1e-3), score=data[f"valid {metric}"])
    for model in data["model"].unique():
        of_model = data[data["model"] == model]
        _points(ax, of_model["seconds"], of_model["score"], of_model["status"], looks[model])
    frontier = data.loc[pareto_frontier(data["seconds"], data["score"], mode)]
    ax.plot(frontier["seconds"], frontier["score"], color=GREY, linewidth=1.2, drawstyle="steps-post", zorder=1.5)
    ax.set_xscale("log")
    _label_log_axis(ax)
    return ax


def pareto_frontier(seconds: pd.Series, score: pd.Series, mode: Mode) -> list[Any]:
    """Returns the index labels of the trials that no other trial beats in time and score, fastest first."""
    signed = score if mode == "max" else -score
    in_order = pd.DataFrame({"seconds": seconds, "signed": signed}).sort_values(
        ["seconds", "signed"], ascending=[True, False], kind="stable"
    )
    best_before = in_order["signed"].cummax().shift(fill_value=-np.inf)
    return in_order.index[in_order["signed"] > best_before].tolist()


# ------------------------------------------------------------------------------------------------- scales


@dataclass(frozen=True)
class _Scale:
    """Where a parameter's values are on an axis.

    Attributes:
        kind: "linear" and "log" for numbers; "categorical" has a place for each value, evenly.
        values: all of them, in order.
        continuous: whether they are numbers too many to be chosen by hand.
    """

    kind: Literal["linear", "log", "categorical"]
    values: list[Any]
    continuous: bool

    @classmethod
    def of(cls, column: pd.Series) -> "_Scale":
        """Returns the scale that suits a parameter's values."""
        given = column.dropna()
        values = list(given.unique())
        if not pd.api.types.is_numeric_dtype(given) or pd.api.types.is_bool_dtype(given):
            return cls("categorical", sorted(values, key=_natural), continuous=False)
        values = sorted(float(value) for value in values)
        if _log_like(values):
            return cls("log", values, _is_continuous(given))
        # 0, 1e-5, 1e-4, ...: neither scale would tell the small ones apart.
        if 2 < len(values) <= _FEW_VALUES and values[0] == 0 and _log_like(values[1:]):
            return cls("categorical", values, continuous=False)
        return cls("linear", values, _is_continuous(given))

    def places(self, column: pd.Series) -> np.ndarray:
        """Returns float64, where the values are in the coordinates of the axis."""
        if self.kind == "categorical":
            numbers = {value: number for number, value in enumerate(self.values)}
            return np.array([numbers[value] for value in column], dtype=np.float64)
        return column.to_numpy(np.float64)

    def heights(self, column: pd.Series) -> np.ndarray:
        """Returns the places scaled such that those of the scale's values are from 0 to 1."""
        low, high = self._linear(np.array(self._ends()))
        if low == high:
            return np.full(len(column), 0.5)
        return (self._linear(self.places(column)) - low) / (high - low)

    def group(self, place: pd.Series) -> np.ndarray:
        """Returns integers, equal for places that are summed up together."""
        if not self.continuous:
            return np.unique(place, return_inverse=True)[1]
        low, high = self._linear(np.array(self._ends()))
        edges = np.linspace(low, high, _RANGES + 1)
        return np.digitize(self._linear(place.to_numpy(np.float64)), edges[1:-1])

    def show(self, ax: Axes) -> None:
        """Sets the x axis up."""
        if self.kind == "categorical":
            labels = [_label(value) for value in self.values]
            ax.set_xticks(range(len(labels)), labels)
            if sum(map(len, labels)) > 40:
                ax.tick_params(axis="x", rotation=30)
                for label in ax.get_xticklabels():
                    label.set(horizontalalignment="right", rotation_mode="anchor")
            ax.set_xlim(-0.5, len(labels) - 0.5)
            return
        if self.kind == "log":
            ax.set_xscale("log")
        if self.labels_fit():
            ax.xaxis.set_major_locator(FixedLocator(self.values))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _label(float(value))))
        elif self.kind == "log":
            _label_log_axis(ax)

    def labels_fit(self) -> bool:
        """Returns whether each value can have a label of its own."""
        if self.kind == "categorical":
            return True
        places = self._linear(np.array(self.values))
        return len(places) == 1 or (len(places) <= 8 and np.diff(places).min() >= 0.09 * np.ptp(places))

    def _ends(self) -> tuple[float, float]:
        return (0.0, len(self.values) - 1.0) if self.kind == "categorical" else (self.values[0], self.values[-1])

    def _linear(self, place: np.ndarray) -> np.ndarray:
        return np.log(place) if self.kind == "log" else place


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


def _is_continuous(column: pd.Series) -> bool:
    """Returns whether a parameter has more numbers than are chosen by hand."""
    given = column.dropna()
    numeric = pd.api.types.is_numeric_dtype(given) and not pd.api.types.is_bool_dtype(given)
    return bool(numeric and given.nunique() > _FEW_VALUES)


def _label_log_axis(ax: Axes) -> None:
    """Labels a logarithmic x axis in plain numbers: powers of ten, and what is between where there are few of them."""
    low, high = ax.get_xlim()
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    steps = [1.0, 2.0, 5.0] if high / low < 100 else [1.0]
    ticks = np.outer(10.0 ** decades[:: 1 + len(decades) // 8], steps).ravel()
    if ((ticks >= low) & (ticks <= high)).sum() < 2:
        ticks = np.asarray(MaxNLocator(4).tick_values(low, high))
    ax.xaxis.set_major_locator(FixedLocator(ticks[(ticks >= low) & (ticks <= high)].tolist()))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _label(float(value))))
    ax.xaxis.set_minor_formatter(NullFormatter())


# ------------------------------------------------------------------------------------------------- parts


def _scored(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Returns the trials that have a score and did not fail, with the numbering from 0."""
    kept = frame["status"].isin(["finished", "stopped"]) & np.isfinite(frame[f"valid {metric}"])
    return frame[kept].reset_index(drop=True)


def _points(ax: Axes, x: pd.Series, y: pd.Series, status: pd.Series, look: Look) -> list[Line2D]:
    """Draws a point per trial, hollow where it was stopped; returns the two series."""
    lines = []
    for stopped in (True, False):
        chosen = (status == "stopped") == stopped
        lines += ax.plot(
            x[chosen],
            y[chosen],
            linestyle="",
            marker=look.marker,
            markersize=_few_to_many(len(x), 5.5, 3.5),
            markerfacecolor="none" if stopped else look.colour,
            markeredgecolor=look.colour,
            markeredgewidth=0.8 if stopped else 0.0,
            alpha=_few_to_many(len(x), 0.85, 0.5),
        )
    return lines


def _draw_vertical_axis(
    ax: Axes, x: int, column: pd.Series, scale: "_Scale", labels: Literal["left", "right"]
) -> np.ndarray:
    """Returns float64, at which height of a vertical axis at x each value is; draws the axis with its labels."""
    missing = column.isna().to_numpy()
    heights = np.full(len(column), _NO_VALUE)
    shown = [(_NO_VALUE, "none")] if missing.any() else []
    if scale.values:
        ticks: list[Any] = scale.values if scale.labels_fit() else _round_ticks(scale)
        places = scale.heights(pd.Series(ticks, dtype="object" if scale.kind == "categorical" else "float64"))
        given = scale.heights(column.dropna())
        if scale.kind == "categorical":
            # Room beside each value, over which the lines that share it are spread.
            room = 0.06 if len(ticks) < 4 else 0.2 / len(ticks)
            places, given = room + (1 - 2 * room) * places, room + (1 - 2 * room) * given
            given += np.linspace(-room, room, len(given) + 2)[1:-1]
        heights[~missing] = given
        shown += [(float(place), _label(tick)) for place, tick in zip(places, ticks, strict=True)]
    ax.plot([x, x], [0, 1], color="black", linewidth=0.8, zorder=3)
    side = -1 if labels == "left" else 1
    for place, text in shown:
        ax.annotate(
            text,
            (x, place),
            xytext=(side * (4 if labels == "left" else 12), 0),
            textcoords="offset points",
            ha="right" if labels == "left" else "left",
            va="center",
            fontsize=8,
            bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
            zorder=4,
        )
        ax.plot(x, place, color="black", marker="_", markersize=5, zorder=3)
    return heights


def _round_ticks(scale: _Scale) -> list[float]:
    """Returns round numbers across a scale of numbers."""
    low, high = scale.values[0], scale.values[-1]
    if scale.kind == "log" and high / low >= 10:
        ticks = 10.0 ** np.arange(np.ceil(np.log10(low)), np.floor(np.log10(high)) + 1)
        if len(ticks) > 1:
            return ticks[:: 1 + len(ticks) // 6].tolist()
        return [low, *ticks.tolist(), high] if 2 * low < ticks[0] < high / 2 else [low, high]
    ticks = np.asarray(MaxNLocator(5).tick_values(low, high))
    return ticks[(ticks >= low) & (ticks <= high)].tolist() or [low, high]


def _panels(
    frame: pd.DataFrame, columns: int = _COLUMNS, size: tuple[float, float] = PANEL
) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """Returns a figure, and the axes of each data set with its trials."""
    groups = [(str(name), of_dataset) for name, of_dataset in frame.groupby("dataset", sort=False)] or [("", frame)]
    n_columns = min(columns, len(groups))
    n_rows = -(-len(groups) // n_columns)
    figure = Figure(figsize=(size[0] * n_columns, size[1] * n_rows), layout="constrained")
    panels = []
    for number, (name, of_dataset) in enumerate(groups, start=1):
        axes = figure.add_subplot(n_rows, n_columns, number)
        axes.set_title(name)
        panels.append((axes, of_dataset))
    return figure, panels


def _stopped(frame: pd.DataFrame, **look: Any) -> list[Line2D]:
    """Returns the legend's entry for stopped trials, where there are any."""
    return [Line2D([], [], color=GREY, label="stopped", **look)] if (frame["status"] == "stopped").any() else []


def _summaries(column: pd.Series) -> list[Line2D]:
    """Returns the legend's lines for a model's best and mean scores."""
    where = "per range" if _is_continuous(column) else "per value"
    return [
        Line2D([], [], color=GREY, linewidth=width, label=f"{which} {where}")
        for which, width in (("best", _THICK), ("mean", _THIN))
    ]


def _curve_ends(frame: pd.DataFrame) -> list[Line2D]:
    """Returns the legend's lines for the marks at the ends of curves, of those that there are."""
    return [
        Line2D([], [], color=GREY, linestyle="", marker=marker, markersize=4, label=status)
        for status, marker in _END_MARKERS.items()
        if (frame["status"] == status).any()
    ]


def _metric_label(metric: str, mode: Mode, separator: str = " ") -> str:
    return f"validation {metric}{separator}({'higher' if mode == 'max' else 'lower'} is better)"


def _few_to_many(n: int, few: float, many: float) -> float:
    """Returns a size between that for ten trials and that for three hundred."""
    return float(np.interp(np.log(max(n, 1)), np.log([10, 300]), [few, many]))


def _label(value: Any) -> str:
    """Returns a value as text: whole numbers in full, others to four digits."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:.4g}"
    return str(value)


def _natural(value: Any) -> tuple[list[tuple[int, str]], str]:
    """Returns a sort key by which "2" comes before "16"."""
    parts: Iterable[str] = re.split(r"(\d+)", str(value))
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts], str(value)
