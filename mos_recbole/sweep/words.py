"""Trials, values and lengths of time as text."""

from mos_recbole.results import Trial


def name_trial(trial: Trial) -> str:
    """Returns "GRU4RecMoS embedding_size=64 mos_heads=4 seed 1"."""
    return " ".join(
        [trial.model, *(f"{key}={show(value)}" for key, value in trial.parameters.items()), f"seed {trial.seed}"]
    )


def show(value: object) -> str:
    """Returns a parameter's value as tables show it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def in_words(seconds: float) -> str:
    """Returns a length of time: "40 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
