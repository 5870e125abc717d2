"""What people read of a run: its model, the settings that vary, its seed."""

from collections.abc import Mapping


def run_label(model: str, settings: Mapping[str, object], seed: int | None = None) -> str:
    """Returns a run's name for people.

    Args:
        model: its name.
        settings: those that tell the run from others.
        seed: its seed, where that is to be named.

    >>> run_label("GRU4RecMoS", {"learning_rate": 0.0012345, "mos_heads": 4}, 1)
    'GRU4RecMoS learning_rate=0.001234 mos_heads=4 seed 1'
    """
    varied = (f"{key}={format_parameter(value)}" for key, value in settings.items())
    return " ".join([model, *varied, *([] if seed is None else [f"seed {seed}"])])


def format_parameter(value: object) -> str:
    """Returns a setting's value for people: floats with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
