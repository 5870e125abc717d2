"""Configurations: runs that differ in the seed only, and how they are told apart in words."""

from collections.abc import Iterable, Sequence

from mos_recbole.results import RunResult


def group_by_configuration(records: Iterable[RunResult]) -> list[list[RunResult]]:
    """Returns the runs of every configuration, by seed; a run given twice is no second observation.

    A configuration is a model with its settings, the seed apart, its code and its protocol.
    """
    groups: dict[tuple, list[RunResult]] = {}
    # By seed, so that the same runs are resampled in the same order whatever order they were given in.
    for record in sorted({record.run_id: record for record in records}.values(), key=lambda record: record.seed):
        settings = tuple((key, str(value)) for key, value in record.settings.items() if key != "seed")
        groups.setdefault((record.model, record.code, record.protocol_hash, settings), []).append(record)
    return list(groups.values())


def attributes(record: RunResult) -> dict[str, object]:
    """Returns what a run may be told apart by: its settings, and its seed, code, protocol and run id."""
    others = {"seed": record.seed, "code": record.code, "protocol": record.protocol_hash, "run": record.run_id}
    return record.settings | others


def differing_settings(records: Sequence[RunResult]) -> list[str]:
    """Returns the settings in which configurations differ; "code" where the code does.

    "protocol" is among them only where nothing else tells them apart: settings say more than a hash.
    """
    candidates = [attributes(record) for record in records]
    keys = list(dict.fromkeys(key for one in candidates for key in one if key not in ("model", "seed", "run")))
    differing = [key for key in keys if len({str(one.get(key)) for one in candidates}) > 1]
    without_protocol = [key for key in differing if key != "protocol"]

    def told_apart_by(keys: list[str]) -> int:
        return len({tuple(str(one.get(key)) for key in keys) for one in candidates})

    return without_protocol if told_apart_by(without_protocol) == told_apart_by(differing) else differing


def describe(record: RunResult, keys: Iterable[str]) -> str:
    """Returns "GRU4RecMoS mos_heads=4 code=0.1.0": the model and some of its `attributes`."""
    values = attributes(record)
    return " ".join([record.model, *(f"{key}={values.get(key)}" for key in keys)])


def labels(groups: Sequence[Sequence[RunResult]]) -> list[str]:
    """Returns the configurations' names: the model, with the settings in which those of the same model differ."""
    names = []
    for runs in groups:
        rivals = [other[0] for other in groups if other[0].model == runs[0].model]
        names.append(describe(runs[0], differing_settings(rivals)))
    return names
