"""Models by name: any encoder with any head, and RecBole's own classes."""

from collections.abc import Iterable, Iterator
from functools import cache

from mos_recbole import compat
from mos_recbole.errors import InputError, nearest
from mos_recbole.heads import HeadSpec
from mos_recbole.models.encoders import EncoderSpec
from mos_recbole.models.recommender import EncoderHeadRecommender
from mos_recbole.models.registry import ENCODERS, HEADS


@cache  # a class is one object, so that it can be pickled by its name
def combine(encoder: EncoderSpec, head: HeadSpec) -> type[EncoderHeadRecommender]:
    """Returns the model class of an encoder with a head, named after both.

    Raises:
        InputError: the head reads what the encoder does not give.
    """
    fault = _misfit(encoder, head)
    if fault is not None:
        raise InputError(fault)
    name = f"{encoder.name}{head.label}"
    facts = {
        "__doc__": f"The encoder of {encoder.name} with the head {head.label}.",
        # Where `models.__getattr__` finds it.
        "__module__": __package__,
        "encoder_spec": encoder,
        "head_spec": head,
        "causal": encoder.causal,
    }
    return type(name, (EncoderHeadRecommender,), facts)


def _misfit(encoder: EncoderSpec, head: HeadSpec) -> str | None:
    """Returns why a head does not fit an encoder, and what does; None where it does."""
    if not head.head_class.reads_layers or encoder.has_layers:
        return None
    fitting = [f"{spec.name}{head.label}" for spec in ENCODERS.values() if spec.has_layers]
    return (
        f"{encoder.name}{head.label}: the head {head.label} reads the states of all layers, and {encoder.name} gives "
        f"those of the last one only; expected one of {', '.join(fitting)}, or {encoder.name}MoS"
    )


def own_model_names() -> list[str]:
    """Returns the names of all models that are an encoder with a head."""
    return [f"{encoder.name}{head.label}" for encoder, head in _pairs() if _misfit(encoder, head) is None]


def _pairs() -> Iterator[tuple[EncoderSpec, HeadSpec]]:
    return ((encoder, head) for encoder in ENCODERS.values() for head in HEADS.values())


def own_model_class(name: str) -> type[EncoderHeadRecommender] | None:
    """Returns the class of that name if it is an encoder with a head; None if it is not.

    Raises:
        InputError: the head reads what the encoder does not give.
    """
    return next((combine(encoder, head) for encoder, head in _pairs() if name == f"{encoder.name}{head.label}"), None)


def model_name(encoder: str, head: str) -> str:
    """Returns the name of the model of an encoder, "NARM", with a head by its name, "mos".

    Raises:
        InputError: an unknown encoder or head, or two that do not fit; the message names the nearest.
    """
    entry = HEADS.get(head.lower())
    if entry is None:
        raise InputError(f"unknown head {head!r}; {_near(head, HEADS)} (heads: {', '.join(HEADS)})")
    if encoder not in ENCODERS:
        raise InputError(f"{encoder!r} is no encoder; {_near(encoder, ENCODERS)} (encoders: {', '.join(ENCODERS)})")
    return combine(ENCODERS[encoder], entry).__name__


def resolve_model(name: str) -> type:
    """Returns the model class of that name: an encoder with a head, or RecBole's own; no name is both.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    found = own_model_class(name) or compat.recbole_model_class(name)
    if found is not None:
        return found
    hint = _near(name, [*own_model_names(), *compat.recbole_model_names()])
    raise InputError(
        f"unknown model {name!r}; {hint} (any sequential or general model of RecBole; or an encoder, "
        f"{', '.join(ENCODERS)}, with a head, {', '.join(head.label for head in HEADS.values())}: GRU4RecMoS)"
    )


def _near(name: str, known: Iterable[str]) -> str:
    return nearest(name, known, most=3) or "none is near"
