"""How tables write numbers: as text, as cells, and as columns of a frame in full precision."""

from collections.abc import Sequence

import numpy as np

from mos_recbole.evaluation import Difference, Interval, metric_direction
from mos_recbole.report.table import Cell

NOTHING = Cell("-", np.nan)


def format_interval(interval: Interval) -> str:
    """Returns "0.0712 ± 0.0131", or "-" where no query has the metric."""
    if np.isnan(interval.mean):
        return NOTHING.text
    return f"{interval.mean:.4f} ± {interval.half_width:.4f}"


def format_difference(difference: Difference) -> str:
    """Returns "+0.0046 [-0.0017, +0.0110]"."""
    return f"{difference.effect:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def format_relative(relative: Interval | None) -> str:
    """Returns "+0.33 % [+0.12, +0.55]", or "n/a" for None."""
    if relative is None:
        return "n/a"
    high = "∞" if np.isinf(relative.high) else f"{100 * relative.high:+.2f}"
    return f"{100 * relative.mean:+.2f} % [{100 * relative.low:+.2f}, {high}]"


def format_p_value(p_value: float) -> str:
    """Returns "0.0310", or "<0.0001"."""
    return "<0.0001" if p_value < 0.0001 else f"{p_value:.4f}"


def format_count(number: int, name: str, plural: str | None = None) -> str:
    """Returns "1 user", "1,204 users"."""
    return f"{number:,} {name if number == 1 else plural or name + 's'}"


def format_range(values: Sequence[int]) -> str:
    """Returns "20", or "18-20" for the first and the last of sorted values that are not all equal."""
    return str(values[0]) if min(values) == max(values) else f"{min(values)}-{max(values)}"


def arrow(metric: str) -> str:
    """Returns "↑" for a metric of which a higher value is better, else "↓"."""
    return "↑" if metric_direction(metric) == "higher" else "↓"


def words(text: str, value: float | None = None) -> Cell:
    """Returns a cell that holds words. It is sorted by its text, or by `value` where that is given."""
    return Cell(text, value, is_text=True)


def number_cell(value: float, form: str) -> Cell:
    """Returns a cell with a number in a format of Python: ".4f"."""
    return Cell(f"{value:{form}}", value)


def interval_cell(interval: Interval) -> Cell:
    """Returns `format_interval` as a cell."""
    return Cell(format_interval(interval), interval.mean)


def difference_cell(difference: Difference | None) -> Cell:
    """Returns `format_difference` as a cell, or "-" for None."""
    return NOTHING if difference is None else Cell(format_difference(difference), difference.effect)


def relative_cell(relative: Interval | None) -> Cell:
    """Returns `format_relative` as a cell."""
    return Cell(format_relative(relative), np.nan if relative is None else relative.mean)


def p_value_cell(p_value: float | None) -> Cell:
    """Returns `format_p_value` as a cell, or "-" for None."""
    return NOTHING if p_value is None else Cell(format_p_value(p_value), p_value)


def interval_columns(name: str, interval: Interval | None) -> dict[str, float]:
    """Returns the columns "name", "name low" and "name high" of a frame; NaN for None."""
    if interval is None:
        return dict.fromkeys((name, f"{name} low", f"{name} high"), np.nan)
    return {name: interval.mean, f"{name} low": interval.low, f"{name} high": interval.high}
