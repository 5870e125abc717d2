"""What figures draw: the numbers that their axes are given are those that they are of, in the right places."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from fabricated import MOS, SOFTMAX, Maker
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure as Drawing

from mos_recbole.analysis import MeasuredGroup, RunGroup
from mos_recbole.analysis.slices import Cell, SliceBy, Slices
from mos_recbole.evaluation import OVERLAP, Interval, OutputSpectra, Spectrum
from mos_recbole.report.figures import model_looks
from mos_recbole.report.figures.costs import Point, plot_costs
from mos_recbole.report.figures.heat import draw_heat_maps, plot_heat_map
from mos_recbole.report.figures.maps import (
    draw_cell_maps,
    draw_difference_maps,
    plot_difference_map,
    plot_mean_map,
    plot_query_map,
)
from mos_recbole.report.figures.parallel import plot_parallel_coordinates
from mos_recbole.report.figures.rank_ablation import plot_cuts
from mos_recbole.report.figures.ranks import plot_ranks
from mos_recbole.report.figures.slices import draw_slices, plot_relative_difference, plot_slices
from mos_recbole.report.figures.spectra import mark_width, plot_singular_values
from mos_recbole.report.figures.sweep import draw_sweep, plot_parameter, plot_pareto
from mos_recbole.report.figures.training import Curve, coloured_curves, plot_training_curves
from mos_recbole.report.figures.widths import draw_widths, plot_widths

LOOKS = model_looks([SOFTMAX, MOS])
COUNT, OLDEST = "how often training holds the target", "distance of the target to the oldest item of the context"


def axes() -> Axes:
    return Drawing().add_subplot()


def named(ax: Axes) -> tuple[str, str]:
    """Returns what the axes say they have: across, and upwards."""
    return ax.get_xlabel(), ax.get_ylabel()


class Bars(NamedTuple):
    """A series of means with intervals as drawn, places in whole steps."""

    colour: str
    hollow: bool
    points: list[tuple[float, float, float, float]]


def bars(ax: Axes) -> list[Bars]:
    """Returns the series of means of axes: place, mean and both ends of each."""
    found = []
    for container in ax.containers:
        line, _, (ends,) = container.lines
        points = [
            (round(x), y, *segment[:, 1])
            for x, y, segment in zip(line.get_xdata(), line.get_ydata(), ends.get_segments(), strict=True)
        ]
        hollow = to_hex(line.get_markerfacecolor()) == "#ffffff"
        found.append(Bars(to_hex(line.get_color()).upper(), hollow, points))
    return found


def interval(mean: float) -> Interval:
    """An interval that is longer above than below."""
    return Interval(mean, mean - 0.01, mean + 0.03)


def ends(*means: float) -> list[Any]:
    return [pytest.approx((place, mean, mean - 0.01, mean + 0.03)) for place, mean in enumerate(means)]


def cells(first: Sequence[float], second: Sequence[float], shape: Sequence[int], small: Sequence[int] = ()) -> Slices:
    """Slices whose cells have these means, and relative differences of a tenth of the second one's."""
    parts = [
        Cell(
            ("a",) * len(shape),
            *(10 + number, 5 + number),
            (interval(one), interval(other)),
            None,
            interval(other / 10),
            number in small,
        )
        for number, (one, other) in enumerate(zip(first, second, strict=True))
    ]
    labels = tuple(tuple(f"{'xy'[axis]}{number}" for number in range(size)) for axis, size in enumerate(shape))
    by = tuple(SliceBy(column) for column in ("train_count", "oldest_distance")[: len(shape)])
    return Slices("Recall@100", by, labels, (SOFTMAX, MOS), tuple(parts))


# ---------------------------------------------------------------------------------------------------- slices


def test_slices_have_each_groups_means_and_intervals() -> None:
    ax = plot_slices(cells([0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [3], small=[1]), list(LOOKS.values()), axes())
    expected = [
        (LOOKS[model].colour, hollow, [ends(*means)[place] for place in places])
        for model, means in ((SOFTMAX, (0.1, 0.2, 0.3)), (MOS, (0.4, 0.5, 0.6)))
        for hollow, places in ((False, (0, 2)), (True, (1,)))
    ]
    assert bars(ax) == expected
    assert named(ax) == (f"{COUNT}\nbelow each bin: its number of queries", "test Recall@100")


def test_a_cell_without_queries_has_no_point() -> None:
    slices = cells([0.1, 0.2], [0.4, 0.5], [2])
    empty = Cell(("a",), 0, 0, (interval(0.9), interval(0.9)), None, None, False)
    slices = Slices("Recall@100", slices.by, slices.axes, slices.labels, (slices.cells[0], empty))
    assert [len(one.points) for one in bars(plot_slices(slices, list(LOOKS.values()), axes()))] == [1, 1]
    nothing = replace(empty, n_queries=3, means=(Interval(np.nan, -np.inf, np.inf),) * 2)
    ax = plot_slices(replace(slices, cells=(slices.cells[0], nothing)), list(LOOKS.values()), axes())
    assert [len(one.points) for one in bars(ax)] == [1, 1]
    assert [one.points for one in bars(plot_relative_difference(slices, LOOKS[MOS], axes()))] == [ends(0.04)]


def test_relative_differences_have_their_intervals() -> None:
    ax = plot_relative_difference(cells([0.1, 0.2], [0.4, 0.5], [2]), LOOKS[MOS], axes())
    assert bars(ax) == [(LOOKS[MOS].colour, False, ends(0.04, 0.05))]
    assert named(ax) == (f"{COUNT}\nbelow each bin: its number of queries", "relative difference")
    caps = [sorted(line.get_ydata()) for line in ax.lines if line.get_marker() == "_"]
    assert caps == [pytest.approx([0.03, 0.04]), pytest.approx([0.07, 0.08])]


def test_every_width_has_its_own_slices() -> None:
    by_width = {8: cells([0.1], [0.4], [1]), 16: cells([0.2], [0.6], [1])}
    drawing = draw_slices("train_count", (SOFTMAX, MOS), by_width, LOOKS).drawing
    above, below = drawing.axes[:2], drawing.axes[2:]
    assert [ax.get_title() for ax in above] == ["d = 8", "d = 16"]
    assert [[(one.colour, one.points[0][1]) for one in bars(ax)] for ax in above] == [
        [(LOOKS[SOFTMAX].colour, 0.1), (LOOKS[MOS].colour, 0.4)],
        [(LOOKS[SOFTMAX].colour, 0.2), (LOOKS[MOS].colour, 0.6)],
    ]
    assert [[(one.colour, one.points[0][1]) for one in bars(ax)] for ax in below] == [
        [(LOOKS[MOS].colour, pytest.approx(0.04))],
        [(LOOKS[MOS].colour, pytest.approx(0.06))],
    ]


def test_widths_have_each_models_means_and_intervals() -> None:
    means = {(model, d): interval(d / 100 + (model == MOS) / 10) for model in LOOKS for d in (8, 16, 32)}
    found = bars(plot_widths(means, LOOKS, axes()))
    assert found == [
        (LOOKS[SOFTMAX].colour, False, ends(0.08, 0.16, 0.32)),
        (LOOKS[MOS].colour, False, ends(0.18, 0.26, 0.42)),
    ]


# ---------------------------------------------------------------------------------------------------- maps


def grid(ax: Axes) -> list[list[float]]:
    (image,) = ax.images
    assert image.origin == "lower"
    return np.asarray(image.get_array().filled(-1.0)).tolist()


def first_lines(ax: Axes) -> dict[tuple[float, float], str]:
    return {text.get_position(): text.get_text().split("\n")[0] for text in ax.texts}


def test_maps_have_queries_means_and_differences_in_their_cells() -> None:
    slices = cells([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.6, 0.5, 0.4, -0.3, -0.2, -0.05], [2, 3])
    queries, means = plot_query_map(slices, axes()), plot_mean_map(slices, axes())
    assert grid(queries) == [[10, 11, 12], [13, 14, 15]]
    assert queries.texts[4].get_text() == "14\n9 users"
    assert grid(means) == [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    assert first_lines(means)[1, 1] == "0.500"
    assert means.texts[4].get_text() == "0.500\n[0.490, 0.530]"
    differences = plot_difference_map(slices, 0.06, axes())
    np.testing.assert_allclose(grid(differences), [[0.06, 0.05, 0.04], [-0.03, -0.02, -0.005]])
    assert differences.texts[0].get_text() == "+6.0 %\n[+5.0, +9.0]"
    # Bold where the interval excludes 0: from a hundredth below to three above.
    bold = [text.get_fontweight() == "bold" for text in differences.texts]
    assert bold == [True, True, True, False, False, False]
    low, high = differences.images[0].get_clim()
    assert (low, high) == (-0.06, 0.06)
    assert named(means) == named(queries) == named(differences) == (OLDEST, COUNT)
    assert [label.get_text() for label in differences.get_xticklabels()] == ["y0", "y1", "y2"]
    assert [label.get_text() for label in differences.get_yticklabels()] == ["x0", "x1"]


def test_a_map_of_losses_has_the_colours_of_its_values() -> None:
    """Up to the largest of them; shares have one scale in all maps."""
    slices = cells([2.0, 4.0], [2.0, 4.0], [1, 2])
    assert plot_mean_map(slices, axes()).images[0].get_clim() == (0, 1)
    ax = plot_mean_map(replace(slices, metric="Loss"), axes())
    assert ax.images[0].get_clim() == (0, 4)
    assert ax.texts[1].get_text() == "4.000\n[3.990, 4.030]"


def test_maps_of_every_width_are_its_own_in_one_scale() -> None:
    by_width = {8: cells([0.1] * 4, [0.4] * 4, [2, 2]), 16: cells([0.2] * 4, [-0.6, 0.1, 0.1, 0.9], [2, 2], small=[3])}
    columns = ("train_count", "oldest_distance")
    first, second, _ = draw_difference_maps(columns, (SOFTMAX, MOS), by_width).drawing.axes
    assert (grid(first)[0][0], grid(second)[0][0]) == (pytest.approx(0.04), pytest.approx(-0.06))
    # The largest of the cells that are not small.
    assert [ax.images[0].get_clim() for ax in (first, second)] == [pytest.approx((-0.06, 0.06))] * 2
    queries, *means = draw_cell_maps(columns, (SOFTMAX, MOS), by_width).drawing.axes
    assert grid(queries) == [[10, 11], [12, 13]]
    assert [(ax.get_title(), grid(ax)[0][0]) for ax in means] == [
        (f"test Recall@100 of {SOFTMAX}, d = 8", 0.1),
        (f"test Recall@100 of {SOFTMAX}, d = 16", 0.2),
    ]


def test_heat_maps_have_the_best_score_by_its_direction() -> None:
    frame = pd.DataFrame({"d": [8, 8, 8, 16], "k": [2, 2, 4, 4], "valid m": [0.3, 0.2, 0.5, 0.4]})
    for mode, best in (("max", [[0.3, 0.5], [-1, 0.4]]), ("min", [[0.2, 0.5], [-1, 0.4]])):
        assert grid(plot_heat_map(frame, ["d", "k"], "m", mode, Normalize(0, 1), axes())) == best  # type: ignore[arg-type]
    (figure,) = draw_heat_maps({"A": frame}, {"d": "d", "k": "k"}, "m", "max")
    (ax,) = figure.drawing.axes
    assert ax.images[0].get_clim() == (0.2, 0.5)
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("d", "k")


# ---------------------------------------------------------------------------------------------------- sweeps


def trials(n: int = 3) -> pd.DataFrame:
    """Trials whose scores are in another order than their parameters; the second one was stopped."""
    return pd.DataFrame(
        {
            **{"number": [1, 2, 3], "model": "A", "dataset": "toy", "status": ["finished", "stopped", "finished"]},
            **{"size": [1.0, 2.0, 3.0], "kind": ["x", "y", "x"], "train_seconds": [5.0, 1.0, 2.0]},
            "valid m": [0.2, 0.1, 0.4],
        }
    ).head(n)


def lines_across(ax: Axes, n: int) -> list[Any]:
    return [line for line in ax.lines if list(line.get_xdata()) == list(range(n))]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_parallel_lines_go_through_their_own_trials_values(mode: Any) -> None:
    """From each value of a trial to its score; the best on top, colours by the score, dotted where it was stopped."""
    ax = plot_parallel_coordinates(trials(), {"size": "size", "kind": "kind"}, "m", mode, axes())
    lines = lines_across(ax, 3)
    worst_first = [1, 0, 2] if mode == "max" else [2, 0, 1]
    heights = {0: [0, 0, 1 / 3], 1: [0.5, 1, 0], 2: [1, 0, 1]}
    assert [list(line.get_ydata()) for line in lines] == [pytest.approx(heights[trial]) for trial in worst_first]
    assert [line.get_linestyle() == ":" for line in lines] == [trial == 1 for trial in worst_first]
    (key,) = ax.images
    shades = np.asarray(key.get_array())[:, 0]
    for line in lines:
        assert to_hex(line.get_color()) == to_hex(shades[round(255 * line.get_ydata()[-1])])


def test_a_value_that_a_trial_lacks_is_below_the_axis() -> None:
    frame = trials().assign(size=[np.nan, 1.0, 2.0])
    lines = lines_across(plot_parallel_coordinates(frame, {"size": "size"}, "m", "max", axes()), 2)
    assert [line.get_ydata()[0] for line in lines] == [0.0, pytest.approx(-0.15), 1.0]


def series(ax: Axes) -> dict[bool, list[tuple[float, float]]]:
    """Returns the points of trials, by whether they are hollow."""
    found: dict[bool, list[tuple[float, float]]] = {}
    for line in ax.lines:
        if line.get_linestyle() == "None" and len(line.get_xdata()):
            hollow = line.get_markerfacecolor() == "none"
            found[hollow] = list(zip(line.get_xdata(), line.get_ydata(), strict=True))
    return found


@pytest.mark.parametrize(("mode", "best"), [("max", [0.2, 0.1, 0.5]), ("min", [0.2, 0.1, 0.4])])
def test_points_of_a_parameter_are_the_trials(mode: Any, best: list[float]) -> None:
    """Stopped ones hollow; the thick line through the best, the thin one through the mean."""
    more = trials(1).assign(number=4, size=3.0, **{"valid m": 0.5})
    ax = plot_parameter(pd.concat([trials(), more]), "size", "size", "m", mode, model_looks(["A"]), axes())
    assert series(ax) == {True: [(2.0, 0.1)], False: [(1.0, 0.2), (3.0, 0.4), (3.0, 0.5)]}
    assert named(ax) == ("size", f"validation m ({'higher' if mode == 'max' else 'lower'} is better)")
    thick, thin = (line for line in ax.lines if line.get_linestyle() != "None")
    assert thick.get_linewidth() > thin.get_linewidth()
    assert list(thick.get_ydata()) == best
    assert list(thin.get_ydata()) == pytest.approx([0.2, 0.1, 0.45])


def test_the_frontier_runs_through_the_trials_that_nothing_beats() -> None:
    slow = trials(1).assign(number=4, train_seconds=9.0, **{"valid m": 0.3})
    ax = plot_pareto(pd.concat([trials(), slow]), "m", "max", model_looks(["A"]), axes())
    assert series(ax) == {True: [(1.0, 0.1)], False: [(5.0, 0.2), (2.0, 0.4), (9.0, 0.3)]}
    (frontier,) = (line for line in ax.lines if line.get_drawstyle() == "steps-post")
    assert list(zip(frontier.get_xdata(), frontier.get_ydata(), strict=True)) == [(1.0, 0.1), (2.0, 0.4)]
    assert ax.get_xscale() == "log"
    assert named(ax) == ("training time [s]", "validation m (higher is better)")


def log(*scores: float | None, first: int = 1) -> pd.DataFrame:
    return pd.DataFrame({"epoch": range(first, first + len(scores)), "m": np.array(scores, dtype=float)})


def test_training_curves_are_the_logs() -> None:
    """By the epochs that were validated; stopped and failed ones end in a mark at their last one."""
    looks = model_looks(["A", "B"])
    curves = [Curve("A", log(0.1, None, 0.3)), Curve("B", log(0.2, 0.4), "stopped"), Curve("B", log(0.5), "failed")]
    ax = plot_training_curves(curves, "m", looks, axes())
    drawn = [(list(line.get_xdata()), list(line.get_ydata()), line.get_marker(), line.get_color()) for line in ax.lines]
    a, b = looks["A"].colour, looks["B"].colour
    assert drawn == [
        ([1, 3], [0.1, 0.3], "", a),
        ([1, 2], [0.2, 0.4], "", b),
        ([2], [0.4], "o", b),
        ([1], [0.5], looks["B"].marker, b),
        ([1], [0.5], "x", b),
    ]
    assert named(ax) == ("epoch", "validation m")


def test_colours_of_curves_are_of_their_own_values() -> None:
    """In the order of the values; grey without one."""
    curves = [Curve("A", log(number / 10), label=str(number)) for number in (1, 2, 3)]
    found = coloured_curves(curves, pd.Series([16, np.nan, 8]), model_looks(["A"]))
    assert [(one.log["m"][0], one.label) for one in found] == [(0.2, ""), (0.3, "8"), (0.1, "16")]
    colours = [one.colour for one in found]
    assert len(set(colours)) == 3
    assert [one.colour for one in coloured_curves(curves[:1], pd.Series([8]), model_looks(["A"]))] == colours[1:2]


def test_a_sweeps_figures_are_of_its_own_trials_and_logs() -> None:
    logs = {1: log(0.1, 0.2), 2: log(0.1), 3: log(0.3, 0.4)}
    figures = {one.name: one for one in draw_sweep(trials(), {"size": "size"}, logs, "m", "max")}
    (curves,) = figures["training_curves"].drawing.axes
    drawn = [list(line.get_ydata()) for line in curves.lines if line.get_marker() != "o" or len(line.get_ydata()) > 1]
    assert sorted(map(tuple, drawn)) == [(0.1,), (0.1, 0.2), (0.3, 0.4)]
    (parallel,) = figures["parallel_coordinates"].drawing.axes
    assert len(lines_across(parallel, 2)) == 3


# ---------------------------------------------------------------------------------------------------- costs, ranks


def test_costs_have_points_with_both_intervals_and_the_front() -> None:
    """What is not on the front is hollow; the front is a line from the least cost on."""
    points = [
        Point(SOFTMAX, Interval(20.0, 15.0, 30.0), interval(0.4), True),
        Point(SOFTMAX, Interval(10.0, 8.0, 11.0), interval(0.3), True),
        Point(MOS, Interval(40.0, 30.0, 50.0), interval(0.2), False),
    ]
    ax = plot_costs(points, LOOKS, axes())
    assert bars(ax) == [
        (LOOKS[point.model].colour, hollow, [pytest.approx((x, mean, mean - 0.01, mean + 0.03))])
        for point, hollow, x, mean in zip(points, (False, False, True), (20, 10, 40), (0.4, 0.3, 0.2), strict=True)
    ]
    across = [segment.tolist() for lines in ax.collections[1::1] for segment in lines.get_segments()]
    for point in points:
        assert [[point.cost.low, point.score.mean], [point.cost.high, point.score.mean]] in across
    (front,) = (line for line in ax.lines if line.get_drawstyle() == "steps-post")
    assert list(zip(front.get_xdata(), front.get_ydata(), strict=True)) == [(10.0, 0.3), (20.0, 0.4)]


def test_ranks_have_half_the_critical_difference_to_both_sides() -> None:
    """The first model is on top."""
    ax = plot_ranks([MOS, SOFTMAX], np.array([1.5, 2.0]), 0.8, LOOKS, axes())
    assert [one.get_text() for one in ax.get_yticklabels()] == [MOS, SOFTMAX]
    assert ax.yaxis_inverted()
    drawn = [(one.get_color(), list(one.get_xdata()), list(one.get_ydata())) for one in ax.lines]
    assert drawn == [
        (LOOKS[MOS].colour, pytest.approx([1.1, 1.9]), [0, 0]),
        (LOOKS[MOS].colour, [1.5], [0]),
        (LOOKS[SOFTMAX].colour, pytest.approx([1.6, 2.4]), [1, 1]),
        (LOOKS[SOFTMAX].colour, [2.0], [1]),
    ]


def test_singular_values_are_relative_and_of_the_view(tmp_path: Path) -> None:
    """Over the largest; raw and centred ones apart; d + 1 marked."""
    run = Maker(tmp_path / "results")(SOFTMAX, 3)
    raw, centred = (Spectrum(np.array(one), 0.0, (4, 4), 1e-9, "exact") for one in ([8.0, 4, 2, 1], [6.0, 3, 3, 3]))
    group = MeasuredGroup(RunGroup("one", (run,)), (OutputSpectra(raw, centred, 3, True),))
    for view, expected in (("raw", [1, 0.5, 0.25, 0.125]), ("centred", [1, 0.5, 0.5, 0.5])):
        ax = plot_singular_values([group], [{"color": "black", "linestyle": "-"}], view, axes())  # type: ignore[arg-type]
        (line,) = (one for one in ax.lines if len(one.get_xdata()) == 4)
        assert (list(line.get_xdata()), list(line.get_ydata())) == ([1, 2, 3, 4], expected)
        assert named(ax) == ("number of the singular value", "singular value / largest")
    ax = axes()
    mark_width(3, ax)
    assert list(ax.lines[0].get_xdata()) == [4, 4]


def test_cuts_are_drawn_at_their_ranks() -> None:
    """Changes with their intervals; of the lists what is left, which is the change and 1."""
    cuts = [
        SimpleNamespace(rank=rank, changes={"loss": interval(rank / 100), OVERLAP: interval(-rank / 100)})
        for rank in (4, 8)
    ]
    full = SimpleNamespace(rank=None, changes={"loss": interval(0.9), OVERLAP: interval(0.0)})
    group: Any = SimpleNamespace(cuts=[*cuts, full], width=3)
    look = LOOKS[MOS]
    ax = plot_cuts([group], [look], "loss", axes())
    (found,) = bars(ax)
    assert (ax.get_xlabel(), ax.get_title()) == ("rank r", "loss, cut to r less full, nats, logarithmic beyond 0.01")
    # Points between powers of ten stand between labels.
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "0.01", "0.02", "0.05", "0.1"]
    assert found.points == [pytest.approx((rank, rank / 100, rank / 100 - 0.01, rank / 100 + 0.03)) for rank in (4, 8)]
    (found,) = bars(plot_cuts([group], [look], OVERLAP, axes()))
    assert found.points == [
        pytest.approx((rank, 1 - rank / 100, 0.99 - rank / 100, min(1, 1.03 - rank / 100))) for rank in (4, 8)
    ]


@pytest.mark.parametrize("n_models", [2, 12])
def test_a_models_point_stays_nearer_to_its_own_width(n_models: int) -> None:
    """However many models there are at it; those of other widths take no room."""
    names = [f"M{number}" for number in range(n_models)]
    means = {(name, 32): interval(0.5) for name in names} | {("alone", 64): interval(0.5)}
    ax = plot_widths(means, model_looks([*names, "alone"]), axes())
    places = [container.lines[0].get_xdata()[0] for container in ax.containers]
    assert places[-1] == 1
    assert max(abs(place) for place in places[:-1]) < 0.4
    assert np.diff(places[:-1]) == pytest.approx(np.diff(places[:-1])[0])


def test_intervals_end_where_the_metric_does() -> None:
    """Shares at 1; a loss has no end; a model without the metric has no point."""
    nothing = Interval(np.nan, -np.inf, np.inf)
    for metric, top in (("NDCG@10", 1.0), ("Loss", 5.9)):
        means = {(SOFTMAX, 8): Interval(top - 0.1, top - 0.2, top + 0.2), (MOS, 8): nothing}
        (ax,) = draw_widths(means, metric, LOOKS).drawing.axes
        ((_, mean, low, high),) = bars(ax)[0].points
        assert (len(bars(ax)), mean, low, high) == (1, top - 0.1, top - 0.2, 1.0 if top == 1 else top + 0.2)


def test_twelve_models_have_curves_of_their_own() -> None:
    """No two have the same colour and dashes, or the same colour and marker."""
    looks = list(model_looks([f"M{number}" for number in range(12)]).values())
    assert (
        len({(look.colour, look.line) for look in looks}) == len({(look.colour, look.marker) for look in looks}) == 12
    )
