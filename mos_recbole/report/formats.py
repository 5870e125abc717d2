"""How tables write differences, p values and counts."""

import numpy as np

from mos_recbole.evaluation import Difference, Interval


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


def interval_numbers(name: str, interval: Interval | None) -> dict[str, float]:
    """Returns the columns "name", "name low", "name high"; NaN for None."""
    if interval is None:
        return dict.fromkeys((name, f"{name} low", f"{name} high"), np.nan)
    return {name: interval.mean, f"{name} low": interval.low, f"{name} high": interval.high}
