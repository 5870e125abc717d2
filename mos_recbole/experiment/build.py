"""Models with their first weights, and what stands against building one as a message for the user."""

import contextlib
import io
import traceback
from typing import Any

import torch

from mos_recbole.errors import InputError
from mos_recbole.experiment.memory import RefusesTooLarge, require_training_memory
from mos_recbole.experiment.run_data import RunData
from mos_recbole.models import PLUGINS, EncoderHeadRecommender, requirement_faults
from mos_recbole.settings import RecBoleConfig, Settings
from mos_recbole.training import model_data

# RecBole's models, PyTorch's layers, and heads and encoders refuse values by these exceptions.
_REFUSALS = (ValueError, NotImplementedError, AssertionError)
# Of code that is not ours, any error may be about a setting.
_OTHERS = (TypeError, IndexError, KeyError, OverflowError, ZeroDivisionError, AttributeError, RuntimeError)
_OTHERS_MODULES = ("recbole.model.", "torch.nn.")
_REFUSING_MODULES = ("recbole.model.", "torch.nn.", "mos_recbole.heads.", "mos_recbole.models.")


def build_model(settings: Settings, config: RecBoleConfig, data: RunData) -> torch.nn.Module:
    """Returns the model with its first weights, on the device of the data.

    Args:
        settings: of the run.
        config: RecBole's, of the same settings.
        data: of the run.

    Raises:
        InputError: the data lack what the model needs; the model, its encoder or its head refuses the settings; or a
            plugin's code fails.
    """
    model_class: Any = settings.model_class
    dataset = model_data(config, data.dataset, data.split)
    if faults := requirement_faults(config, dataset):
        raise InputError("\n".join(faults))
    try:
        # FEARec and LDiffRec print debugging output.
        with contextlib.redirect_stdout(io.StringIO()), RefusesTooLarge():
            model: torch.nn.Module = model_class(config, dataset)
        model = model.to(data.device)
        require_training_memory(model, config["learner"], data.device)
        return model
    except InputError as error:
        raise InputError(f"{settings.model}: {error}") from error
    except Exception as error:  # a plugin's constructor may raise anything
        if place := _place_in_plugin(model_class, error):
            raise InputError(f"{settings.model}: {place}: {type(error).__name__}: {error}") from error
        if not _refuses_settings(error):
            raise
        raise InputError(f"{settings.model} cannot be built from these settings: {error!r}") from error


def count_trainable(model: torch.nn.Module) -> int:
    """Returns the number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _place_in_plugin(model_class: type, error: Exception) -> str | None:
    """Returns the file and line of a plugin where an error arose, or the file where no line of it was reached.

    None where the model is made of no plugin, or the error did not come through the plugin's code or its classes.
    """
    if not issubclass(model_class, EncoderHeadRecommender):
        return None
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_globals.get("__name__", "").startswith(PLUGINS):
            return f"{frame.f_code.co_filename}, line {line}"
    origins = [spec.origin for spec in (model_class.encoder_spec, model_class.head_spec) if spec.origin]
    # A class without one of its methods, or with other arguments, fails before any line of the plugin runs.
    return str(origins[0][0]) if origins and isinstance(error, TypeError) else None


def _refuses_settings(error: Exception) -> bool:
    """Returns whether an error of a constructor is about a setting; from elsewhere, such as NumPy, it is a defect.

    Values that make models fail in other ways are refused by `models.requirement_faults`.
    """
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    module = innermost.f_globals.get("__name__", "")
    return (isinstance(error, _REFUSALS) and module.startswith(_REFUSING_MODULES)) or (
        isinstance(error, _OTHERS) and module.startswith(_OTHERS_MODULES)
    )
