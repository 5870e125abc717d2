"""What an encoder declares about itself, beside its class."""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mos_recbole import compat
from mos_recbole.models.encoders.base import CausalEncoder, Encoder, LayeredEncoder
from mos_recbole.specs import Setting


@dataclass(frozen=True, eq=False)
class EncoderSpec:
    """An encoder that models can be made of.

    Attributes:
        name: how names of its models begin, such as "NARM".
        encoder_class: takes `(n_items, *, ...)` with the settings, and `max_length` if it has such an argument; or, if
            there is a `recbole_model`, an instance of that.
        settings: what users can set; each is an argument of the constructor.
        width: the key of the setting that is the width d of states and item table.
        training_defaults: defaults of other settings, by key, that suit this encoder.
        recbole_model: RecBole's class that this encoder wraps: its name, if the encoder has the settings of RecBole's
            file too, or a class derived from one.
        unread: of RecBole's settings, those that the encoder does not read.
        unused: attributes of the RecBole model that only its own scores need; they are taken away.
        told: values that the RecBole model is given instead of the settings.
        origin: a plugin's file and its SHA-256.
    """

    name: str
    encoder_class: type[Encoder]
    settings: tuple[Setting, ...] = ()
    width: str = "embedding_size"
    training_defaults: Mapping[str, Any] = field(default_factory=dict)
    recbole_model: str | type | None = None
    unread: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    told: Mapping[str, Any] = field(default_factory=dict)
    origin: tuple[Path, str] | None = None

    @property
    def causal(self) -> bool:
        """Whether a state knows nothing of later items, so that models train on whole windows."""
        return issubclass(self.encoder_class, CausalEncoder)

    @property
    def has_layers(self) -> bool:
        """Whether the encoder gives the states of all its layers."""
        return issubclass(self.encoder_class, LayeredEncoder)

    @property
    def recbole_settings(self) -> Path | None:
        """RecBole's file of settings that the encoder has beside its own."""
        return compat.recbole_model_settings(self.recbole_model) if isinstance(self.recbole_model, str) else None

    def build(self, config: Any, dataset: Any) -> Encoder:
        """Returns the encoder that RecBole's configuration describes, for the training part of a data set.

        Raises:
            ValueError: the class is no encoder.
        """
        if self.recbole_model is None:
            arguments = {setting.argument or setting.key: config[setting.key] for setting in self.settings}
            if "max_length" in inspect.signature(self.encoder_class).parameters:
                arguments["max_length"] = config["MAX_ITEM_LIST_LENGTH"]
            return self.encoder_class(dataset.num(config["ITEM_ID_FIELD"]), **arguments)
        recbole_class = self.recbole_model
        if isinstance(recbole_class, str):
            found = compat.recbole_model_class(recbole_class)
            assert found is not None, recbole_class
            recbole_class = found
        told = copy.copy(config)
        told.final_config_dict = config.final_config_dict | self.told
        model = recbole_class(told, dataset)
        for attribute in self.unused:
            delattr(model, attribute)
        return self.encoder_class(model)
