"""Encoders and heads by name: this project's, RecBole's as encoders, and those of plugins."""

import copy
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mos_recbole import compat
from mos_recbole.errors import InputError
from mos_recbole.heads import (
    CosineHead,
    DnDHead,
    DOCHead,
    MixtapeHead,
    MoCHead,
    MoLHead,
    MoSHead,
    MoSSHead,
    OutputHead,
    SigsoftmaxHead,
    SoftmaxHead,
)
from mos_recbole.models.encoders import Encoder, GRUEncoder, LayeredEncoder, SASRecEncoder
from mos_recbole.models.recbole_encoders import BERT4RecEncoder, NextItNetEncoder, RecBoleEncoder


@dataclass(frozen=True)
class EncoderEntry:
    """An encoder that models can be made of.

    Attributes:
        name: as it begins models' names, such as "NARM".
        make: returns the encoder, given RecBole's configuration and data set (of the training part).
        causal: whether it is a `CausalEncoder`.
        has_layers: whether it is a `LayeredEncoder`.
        defaults: its settings and their defaults, beside those in `properties/encoder/<name>.yaml`.
        width: the setting that is the width d of states and item table.
        recbole_settings: whether it has those of RecBole's model of its name.
        unread: of RecBole's settings, those that it does not read.
        origin: the file of a plugin and its SHA-256.
    """

    name: str
    make: Callable[[Any, Any], Encoder]
    causal: bool = False
    has_layers: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    width: str = "embedding_size"
    recbole_settings: bool = False
    unread: tuple[str, ...] = ()
    origin: tuple[Path, str] | None = None


@dataclass(frozen=True)
class HeadEntry:
    """A head that models can be made of.

    Attributes:
        name: as in `--head`, lower case, such as "mos".
        label: as it ends models' names, such as "MoS".
        head_class: takes `(n_items, width, *, item_bias, ...)`, and `n_layers` where it reads layers.
        arguments: the constructor's other arguments by the settings that they come from.
        defaults: its settings and their defaults, beside those in `properties/head/<name>.yaml`.
        origin: the file of a plugin and its SHA-256.
    """

    name: str
    label: str
    head_class: type[OutputHead]
    arguments: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    origin: tuple[Path, str] | None = None

    def make(self, config: Any, n_items: int, encoder: Encoder) -> OutputHead:
        """Returns the head that the settings describe.

        Raises:
            InputError: the head does not take them, or not with this encoder.
        """
        for key in self.arguments:
            if key not in config:
                raise InputError(f"head {self.label}: its setting {key!r} has no default; expected one in `defaults`")
        arguments = {argument: config[key] for key, argument in self.arguments.items()}
        if self.head_class.reads_layers:
            assert isinstance(encoder, LayeredEncoder)
            arguments["n_layers"] = encoder.n_layers
        try:
            return self.head_class(n_items, encoder.width, item_bias=config["item_bias"], **arguments)
        except ValueError as error:
            keys = {argument: key for key, argument in self.arguments.items()}
            text = re.sub(r"\w+", lambda word: keys.get(word[0], word[0]), str(error))
            raise InputError(f"head {self.label}: {text}") from error


def _make_gru4rec(config: Any, dataset: Any) -> Encoder:
    keys = ("embedding_size", "hidden_size", "num_layers", "dropout_prob")
    return GRUEncoder(dataset.num(config["ITEM_ID_FIELD"]), *(config[key] for key in keys))


def _make_sasrec(config: Any, dataset: Any) -> Encoder:
    keys = [
        *("hidden_size", "inner_size", "n_layers", "n_heads", "hidden_dropout_prob", "attn_dropout_prob"),
        *("hidden_act", "layer_norm_eps", "initializer_range"),
    ]
    n_items, length = dataset.num(config["ITEM_ID_FIELD"]), config["MAX_ITEM_LIST_LENGTH"]
    return SASRecEncoder(n_items, length, *(config[key] for key in keys))


def _of_recbole(
    name: str,
    unread: tuple[str, ...] = (),
    unused: tuple[str, ...] = (),
    overrides: Mapping[str, Any] = MappingProxyType({}),
    width: str = "embedding_size",
) -> EncoderEntry:
    """Returns an entry for RecBole's class of that name, whose forward pass gives the query vector.

    Args:
        name: of the class.
        unread: of its settings, those that only its own loss reads.
        unused: attributes that serve its own scores only.
        overrides: what its constructor is told instead of the settings.
        width: as of the entry.
    """

    def make(config: Any, dataset: Any) -> Encoder:
        changed = copy.copy(config)
        changed.final_config_dict = config.final_config_dict | overrides
        return RecBoleEncoder(_instance(name, changed, dataset), unused)

    return EncoderEntry(name, make, recbole_settings=True, unread=unread, width=width)


def _instance(name: str, config: Any, dataset: Any) -> Any:
    model_class = compat.recbole_model_class(name)
    assert model_class is not None, name
    return model_class(config, dataset)


ENCODERS: dict[str, EncoderEntry] = {
    entry.name: entry
    for entry in (
        EncoderEntry("GRU4Rec", _make_gru4rec, causal=True, has_layers=True),
        EncoderEntry("SASRec", _make_sasrec, causal=True, has_layers=True, width="hidden_size"),
        _of_recbole("NARM"),
        _of_recbole("STAMP"),
        _of_recbole("Caser", unread=("reg_weight",)),
        EncoderEntry(
            "NextItNet",
            lambda config, dataset: NextItNetEncoder(_instance("NextItNet", config, dataset)),
            causal=True,
            recbole_settings=True,
            unread=("reg_weight",),
        ),
        _of_recbole("LightSANs", width="hidden_size"),
        _of_recbole("CORE", unread=("temperature", "item_dropout")),
        _of_recbole("SINE", unread=("reg_loss_ratio",)),
        _of_recbole("GCSAN", unread=("reg_weight",), width="hidden_size"),
        _of_recbole("SRGNN"),
        EncoderEntry(
            "BERT4Rec",
            lambda config, dataset: BERT4RecEncoder(_instance("BERT4Rec", config, dataset)),
            recbole_settings=True,
            unread=("mask_ratio", "ft_ratio", "transform"),
            width="hidden_size",
        ),
        _of_recbole(
            "FEARec",
            unread=("lmd", "lmd_sem", "contrast", "tau", "sim"),
            # For its contrastive loss it makes a mask of (2 x batch)^2.
            overrides={"train_batch_size": 1},
            width="hidden_size",
        ),
        _of_recbole("HGN", unread=("reg_weight",), unused=("item_embedding_for_prediction",)),
        _of_recbole("HRM"),
        _of_recbole("FOSSIL", unread=("reg_weight",)),
    )
}

_MIXTURE = {"mos_heads": "n_components", "mos_activation": "activation", "mos_dropout": "dropout"}

HEADS: dict[str, HeadEntry] = {
    entry.name: entry
    for entry in (
        HeadEntry("softmax", "Softmax", SoftmaxHead),
        HeadEntry("cosine", "Cosine", CosineHead, {"cosine_temperature": "temperature", "cosine_learned": "learned"}),
        HeadEntry("moc", "MoC", MoCHead, _MIXTURE),
        HeadEntry("mos", "MoS", MoSHead, _MIXTURE),
        HeadEntry("sigsoftmax", "Sigsoftmax", SigsoftmaxHead),
        HeadEntry("moss", "MoSS", MoSSHead, _MIXTURE),
        HeadEntry(
            "doc",
            "DOC",
            DOCHead,
            {
                "doc_heads": "components_of_layers",
                "doc_balance": "balance",
                "mos_activation": "activation",
                "mos_dropout": "dropout",
            },
        ),
        HeadEntry(
            "mixtape", "Mixtape", MixtapeHead, {"mixtape_heads": "n_components", "mixtape_gate_size": "gate_size"}
        ),
        HeadEntry(
            "mol",
            "MoL",
            MoLHead,
            {
                "mol_query_vectors": "query_vectors",
                "mol_item_vectors": "item_vectors",
                "mol_vector_size": "vector_size",
                "mol_temperature": "temperature",
                "mol_gate_size": "gate_size",
                "mol_pair_gate_size": "pair_gate_size",
                "mol_gate_dropout": "gate_dropout",
            },
        ),
        HeadEntry("dnd", "DnD", DnDHead, {"dnd_dropout": "dropout"}),
    )
}


def register_encoder(entry: EncoderEntry) -> None:
    """Makes an encoder known, and with it its models with all heads.

    Raises:
        InputError: the name is taken or is none, or a model's name with it is.
    """
    _check_name("encoder", entry.name, ENCODERS)
    _check_models(f"encoder {entry.name!r}", [f"{entry.name}{head.label}" for head in HEADS.values()])
    ENCODERS[entry.name] = entry


def register_head(entry: HeadEntry) -> None:
    """Makes a head known, and with it its models with all encoders.

    Raises:
        InputError: the name or the label is taken or is none, or a model's name with it is.
    """
    _check_name("head", entry.name, HEADS)
    if entry.name != entry.name.lower():
        raise InputError(f"head {entry.name!r}: the name is not in lower case; expected {entry.name.lower()!r}")
    _check_name("head", entry.label, [known.label for known in HEADS.values()])
    _check_models(f"head {entry.label!r}", [f"{encoder}{entry.label}" for encoder in ENCODERS])
    HEADS[entry.name] = entry


def _check_name(kind: str, name: str, taken: Collection[str]) -> None:
    if not name.isidentifier() or name in taken:
        raise InputError(f"{kind} {name!r}: the name is {'taken' if name in taken else 'no identifier'}")


def _check_models(what: str, names: Collection[str]) -> None:
    """Raises InputError where one of these names of models means another model already, such as GRU4Rec + "F"."""
    taken = {*compat.recbole_model_names(), *(f"{name}{head.label}" for name in ENCODERS for head in HEADS.values())}
    if clash := [name for name in names if name in taken]:
        raise InputError(f"{what}: {clash[0]} is another model's name already; expected another name")
