"""Models with their first weights, and what stands against building one as a message for the user."""

import contextlib
import io
import traceback
from collections.abc import Iterator
from typing import Any, Literal

import torch

from mos_recbole.errors import InputError, TrainingDiverged, told
from mos_recbole.experiment.run_data import RunData
from mos_recbole.models import PLUGINS, EncoderHeadRecommender, requirement_faults
from mos_recbole.settings import RecBoleConfig, Settings
from mos_recbole.training import RefusesTooLarge, model_data, require_training_memory

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
    with faults_of_others(model_class, "built"):
        # FEARec and LDiffRec print debugging output.
        with contextlib.redirect_stdout(io.StringIO()), RefusesTooLarge():
            model: torch.nn.Module = model_class(config, dataset)
        model = model.to(data.device)
        require_training_memory(model, config["learner"], data.device)
        return model


@contextlib.contextmanager
def faults_of_others(model_class: type, done: Literal["built", "trained", "used"]) -> Iterator[None]:
    """While it is entered, what plugins raise, and RecBole's models at settings that they do not take, is InputError.

    Args:
        model_class: of the model.
        done: what is being done with the model.
    """
    name = model_class.__name__
    try:
        yield
    except (KeyboardInterrupt, TrainingDiverged):
        raise
    except InputError as error:
        if done != "built":
            raise
        raise InputError(f"{name}: {error}") from error
    except BaseException as error:  # a plugin may raise anything
        if place := _place_in_plugin(model_class, error, built=done == "built"):
            raise InputError(f"{name}: {place}: {told(error)}") from error
        takes_none = _refuses_settings(error) if done == "built" else _fails_in_recbole(model_class, error)
        if takes_none:
            raise InputError(f"{name} cannot be {done} with these settings: {error!r}") from error
        raise


def count_trainable(model: torch.nn.Module) -> int:
    """Returns the number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _place_in_plugin(model_class: type, error: BaseException, *, built: bool) -> str | None:
    """Returns the file and line of a plugin where an error arose, or the file where no line of it was reached.

    None where the model is made of no plugin, or the error did not come through the plugin's code or its classes.
    """
    if not issubclass(model_class, EncoderHeadRecommender):
        return None
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_globals.get("__name__", "").startswith(PLUGINS):
            return f"{frame.f_code.co_filename}, line {line}"
    origins = [spec.origin for spec in (model_class.encoder_spec, model_class.head_spec) if spec.origin]
    # A class without one of its methods, or with other arguments, fails before any line of the plugin runs; what has
    # another shape than it should, after them.
    is_its = isinstance(error, (*_REFUSALS, *_OTHERS)) and not _is_outer(error)
    # A layer of PyTorch's that refuses a value as it is made has its own message.
    return str(origins[0][0]) if origins and is_its and not (built and _refuses_settings(error)) else None


def _is_outer(error: BaseException) -> bool:
    """Returns whether memory, or another process of the run, is at fault."""
    return any(text in told(error) for text in ("memory", "Connection ", "remote process"))


def _fails_in_recbole(model_class: type, error: BaseException) -> bool:
    """Returns whether one of RecBole's own models fails in RecBole's code."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return (
        not issubclass(model_class, EncoderHeadRecommender)
        and isinstance(error, (*_REFUSALS, *_OTHERS))
        and not _is_outer(error)
        # A backward pass has no frame of the model: its graph models mix numbers under enable_amp.
        and (any(module.startswith("recbole.model.") for module in modules) or "expected scalar type" in str(error))
    )


def _refuses_settings(error: BaseException) -> bool:
    """Returns whether an error of a constructor is about a setting; from elsewhere, such as NumPy, it is a defect.

    Values that make models fail in other ways are refused by `models.requirement_faults`.
    """
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    module = innermost.f_globals.get("__name__", "")
    return (isinstance(error, _REFUSALS) and module.startswith(_REFUSING_MODULES)) or (
        isinstance(error, _OTHERS) and module.startswith(_OTHERS_MODULES)
    )
