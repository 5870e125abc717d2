"""What people read of a run: its model, the settings that vary, its seed; and its code where that varies."""

from collections import Counter
from collections.abc import Mapping, Sequence

from mos_recbole.results.records import RunResult

_DIGITS = 6  # of a hash, as a short name


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


def code_name(run: RunResult) -> str:
    """Returns a short name of the code that computed a run: six digits of its hash."""
    return run.code.rpartition("+")[2][:_DIGITS]


def attributes(record: RunResult) -> dict[str, object]:
    """Returns what a run may be told apart by: its settings, and its seed, code, protocol and run id.

    Code, and the files of plugins under "plugin", have short names.
    """
    settings = {key: value for key, value in record.settings.items() if key != "plugins"}
    if files := dict.fromkeys(record.settings.get("plugins", {}).values()):
        settings["plugin"] = "+".join(str(file)[:_DIGITS] for file in files)
    others = {"seed": record.seed, "code": code_name(record), "protocol": record.protocol_hash, "run": record.run_id}
    return settings | others


def differing_settings(records: Sequence[RunResult]) -> list[str]:
    """Returns the settings in which configurations differ; "code" where the code does.

    Settings that some records lack, as those of older code do, and "protocol" are among them only where nothing else
    tells configurations apart: settings say more than a hash.
    """
    candidates = [attributes(record) for record in records]
    keys = list(dict.fromkeys(key for one in candidates for key in one if key not in ("model", "seed", "run")))
    differing = [key for key in keys if len({str(one.get(key)) for one in candidates}) > 1]
    given = [key for key in differing if len({str(one[key]) for one in candidates if key in one}) > 1]
    for chosen in ([key for key in given if key != "protocol"], [key for key in differing if key != "protocol"]):
        if _told_apart(candidates, chosen) == _told_apart(candidates, differing):
            return chosen
    return differing


def fewest_settings(records: Sequence[RunResult]) -> list[str]:
    """Returns as few of `differing_settings` as tell configurations apart, the first ones if possible."""
    candidates = [attributes(record) for record in records]
    keys = differing_settings(records)
    n_apart = _told_apart(candidates, keys)
    for key in keys[::-1]:
        fewer = [one for one in keys if one != key]
        if _told_apart(candidates, fewer) == n_apart:
            keys = fewer
    return keys


def _told_apart(candidates: Sequence[Mapping[str, object]], keys: Sequence[str]) -> int:
    return len({tuple(str(one.get(key)) for key in keys) for one in candidates})


def components(run: RunResult) -> int | None:
    """Returns K as recorded, 1 for a head of one distribution; None for the softmax and RecBole's own classes."""
    return run.n_components if run.baseline is not None else None


def short_name(key: str) -> str:
    """Returns what a column calls a setting."""
    return "batch size" if key == "train_batch_size" else key.replace("_", " ")


def varied_settings(runs: Sequence[RunResult]) -> list[str]:
    """Returns the settings in which runs of one model differ, those first that differ in most models.

    What differs in the same data, code and protocol was varied; it counts before what differs between studies.
    """
    studies: dict[tuple[str, str, str], list[RunResult]] = {}
    models: dict[str, list[RunResult]] = {}
    for run in runs:
        studies.setdefault((run.model, run.code, run.protocol_hash), []).append(run)
        models.setdefault(run.model, []).append(run)
    within = Counter(key for alike in studies.values() for key in differing_settings(alike))
    across = Counter(key for alike in models.values() for key in differing_settings(alike))
    return sorted(across, key=lambda key: (-within[key], -across[key]))


def setting_columns(
    runs: Sequence[RunResult], keys: Sequence[str] | None = None
) -> tuple[dict[str, list[object]], str]:
    """Returns the settings in which runs differ as short columns, and in words which settings a column stands for.

    K and d are those that models have, whatever their settings are called. What is the same in all runs that have it
    has no column, nor has a setting that says the same as another.

    Args:
        runs: to be told apart.
        keys: settings to show; by default all in which the runs differ.
    """
    columns: dict[str, list[object]] = {"K": [components(run) for run in runs], "d": [width(run) for run in runs]}
    stands_for: dict[str, list[str]] = {}
    for key in differing_settings(runs) if keys is None else keys:
        given = [attributes(run).get(key) for run in runs]
        if len({str(value) for value in given if value is not None}) < 2:
            continue
        for name, values in columns.items():
            if all(value is None or value == other for value, other in zip(given, values, strict=True)):
                stands_for.setdefault(name, []).append(key)
                break
        else:
            name = short_name(key)
            columns[name] = given
    if len(set(columns["d"])) < 2:
        del columns["d"]
    shown = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    said = "; ".join(f"{name} is {' and '.join(keys)}" for name, keys in stands_for.items() if name in shown)
    return shown, f"{said}." if said else ""


def width(run: RunResult) -> int | None:
    """Returns d: as recorded, or of RecBole's own classes, whose records have none, their setting."""
    own = run.settings.get("embedding_size", run.settings.get("hidden_size"))
    found = run.width if run.encoder is not None else own
    return None if found is None else int(found)
