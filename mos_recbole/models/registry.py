"""Encoders and heads by name: this project's, RecBole's as encoders, and those of plugins."""

from collections.abc import Collection

from mos_recbole import compat
from mos_recbole.errors import InputError
from mos_recbole.heads import BUILT_IN_HEADS, HeadSpec, OutputHead
from mos_recbole.models.encoders import BUILT_IN_ENCODERS, Encoder, EncoderSpec

ENCODERS: dict[str, EncoderSpec] = {}
HEADS: dict[str, HeadSpec] = {}


def register_encoder(spec: EncoderSpec) -> None:
    """Makes an encoder known, and with it its models with all heads.

    Raises:
        InputError: the class is no encoder, the name is taken or no identifier, or one of its models has the name of
            another model.
    """
    _check_class("encoder", spec.name, spec.encoder_class, Encoder)
    _check_name("encoder", spec.name, ENCODERS)
    _check_models(f"encoder {spec.name!r}", [f"{spec.name}{head.label}" for head in HEADS.values()])
    ENCODERS[spec.name] = spec


def register_head(spec: HeadSpec) -> None:
    """Makes a head known, and with it its models with all encoders.

    Raises:
        InputError: the class is no head, the name or the label is taken or no identifier, or one of its models has the
            name of another model.
    """
    _check_class("head", spec.name, spec.head_class, OutputHead)
    _check_name("head", spec.name, HEADS)
    if spec.name != spec.name.lower():
        raise InputError(f"head {spec.name!r}: the name is not in lower case; expected {spec.name.lower()!r}")
    _check_name("head", spec.label, [known.label for known in HEADS.values()])
    _check_models(f"head {spec.label!r}", [f"{encoder}{spec.label}" for encoder in ENCODERS])
    HEADS[spec.name] = spec


def _check_class(kind: str, name: str, its_class: object, base: type) -> None:
    if not (isinstance(its_class, type) and issubclass(its_class, base)):
        raise InputError(f"{kind} {name!r}: its class is {its_class!r}; expected one derived from {base.__name__}")


def _check_name(kind: str, name: str, taken: Collection[str]) -> None:
    if not name.isidentifier() or name in taken:
        raise InputError(f"{kind} {name!r}: the name is {'taken' if name in taken else 'no identifier'}")


def _check_models(what: str, names: Collection[str]) -> None:
    """Raises InputError if one of these names of models means another model already, such as GRU4Rec + "F"."""
    taken = {f"{name}{head.label}" for name in ENCODERS for head in HEADS.values()}
    if clash := [name for name in names if name in taken or compat.is_recbole_model_name(name)]:
        raise InputError(f"{what}: {clash[0]} is another model's name already; expected another name")


for _head in BUILT_IN_HEADS:
    register_head(_head)
for _encoder in BUILT_IN_ENCODERS:
    register_encoder(_encoder)
