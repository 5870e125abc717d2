"""Models that look like partners and are not: RecBole's own class beside models of the same encoder."""

from collections.abc import Iterable
from typing import NamedTuple

from mos_recbole.results import RunResult

_LEARNS_FROM = {"prefix": "prefixes", "all_positions": "whole windows"}


class Trained(NamedTuple):
    """How a model is trained; the fields are those of a `RunResult`, and its setting `train_mode`, None if unknown."""

    model: str
    encoder: str | None
    baseline: str | None
    train_mode: str | None

    @classmethod
    def of(cls, run: RunResult) -> "Trained":
        """Returns what a record says."""
        return cls(run.model, run.encoder, run.baseline, run.settings.get("train_mode"))


def partner_notes(models: Iterable[Trained]) -> list[str]:
    """Returns a sentence for every class of RecBole's whose encoder others have and train otherwise: the fair partner.

    Without it the difference of `GRU4RecMoS` from `GRU4Rec` would be read as that of the head.
    """
    known = list(dict.fromkeys(models))
    notes = []
    for own in known:
        if own.encoder is not None or own.train_mode is None:
            continue
        others = [
            one
            for one in known
            if one.encoder is not None
            and own.model.startswith(one.encoder)
            and one.train_mode not in (None, own.train_mode)
        ]
        if not others:
            continue
        names = " and ".join(dict.fromkeys(one.model for one in others))
        modes = [_LEARNS_FROM.get(str(one.train_mode), str(one.train_mode)) for one in (own, others[0])]
        partners = [f"the fair partner of {one.model} is {one.baseline}" for one in others if one.baseline]
        advice = "; ".join(dict.fromkeys(partners)) or f"--train_mode={own.train_mode} trains {names} as RecBole does"
        notes.append(
            f"{own.model} is RecBole's own class and trains on {modes[0]}, {names} on {modes[1]}: what they differ in "
            f"is not the head alone; {advice}"
        )
    return notes
