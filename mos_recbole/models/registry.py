"""Model names and what they stand for."""

import difflib

from mos_recbole import compat
from mos_recbole.errors import InputError
from mos_recbole.models.combinations import GRU4RecMoS, GRU4RecSoftmax, SASRecMoS, SASRecSoftmax

OWN_MODELS: dict[str, type] = {cls.__name__: cls for cls in (GRU4RecSoftmax, GRU4RecMoS, SASRecSoftmax, SASRecMoS)}


def resolve_model(name: str) -> type:
    """Returns the model class of that name: this project's, else RecBole's own.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    found = OWN_MODELS.get(name) or compat.recbole_model_class(name)
    if found is None:
        names = [*OWN_MODELS, *compat.recbole_model_names()]
        by_lower = {known.lower(): known for known in names}
        near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(by_lower[match] for match in near)}?" if near else "none is near"
        raise InputError(f"unknown model {name!r}; {hint} (ours: {', '.join(OWN_MODELS)}; or any RecBole model)")
    return found


def is_recbole_model(model_class: type, *names: str) -> bool:
    """Returns whether a class is one of these models of RecBole's, or is derived from one."""
    return any(base.__name__ in names and base.__module__.startswith("recbole.") for base in model_class.__mro__)
