"""The settings of one run: defaults, files and overrides together, checked as a whole before anything runs."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import ModelType
from recbole.utils.argument_list import dataset_arguments

from mos_recbole import compat
from mos_recbole.data import DATA_SETTINGS, SPLITS, SplitSpec, dataset_place
from mos_recbole.errors import InputError
from mos_recbole.evaluation import EvaluationProtocol, expand_metrics, needs_top_items, parse_metric
from mos_recbole.models import SHARED_SETTINGS, EncoderHeadRecommender, baseline_of, own_model_names, resolve_model
from mos_recbole.settings.checks import (
    WIDTHS,
    WITHOUT_PLACE,
    check_names,
    check_together,
    checked,
    declaration_faults,
    take_fixed,
    take_unknown,
    take_width,
    without_effect,
)
from mos_recbole.settings.fields import own_settings, setting_types
from mos_recbole.settings.recbole_config import RECBOLE_DATA_PATH, RecBoleConfig
from mos_recbole.settings.sources import Files, Findings, Given, Overrides, given_settings, read_given
from mos_recbole.settings.translate import TRANSLATIONS, WITHOUT_EFFECT, take_translated, translated_keys

# Settings that cannot change what a run learns, and so are no part of its identity. Metrics follow from the outcomes.
NOT_IDENTITY = (WITHOUT_EFFECT - {"valid_metric_bigger", "threshold"}) | {
    *("data_path", "eval_batch_size", "metrics", "topk", "kept_items")
}

# Where nothing else says how many.
_KEPT_ITEMS = 10

# Settings that decide about the prepared data and the targets in them.
_DATA_SETTINGS = frozenset(
    [
        *(*dataset_arguments, "data_path", "encoding", "tie_order", "split"),
        *(setting.key for setting in DATA_SETTINGS),
        *(setting.key for spec in SPLITS.values() for setting in spec.settings),
    ]
)


@dataclass(frozen=True)
class Settings:
    """Checked settings of one run.

    Attributes:
        model_class: of the model.
        dataset: name of the data set.
        values: every setting by RecBole's key, defaults included.
        warnings: what the user should know, one sentence each.
        unknown: keys of files that nothing here knows, with their values: for the record, without effect.
        asked_metrics: the metrics that the user asked for by `metrics` or `topk`; empty where neither is given.
    """

    model_class: type
    dataset: str
    values: dict[str, Any]
    warnings: tuple[str, ...] = ()
    unknown: dict[str, Any] = field(default_factory=dict)
    asked_metrics: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        return self.model_class.__name__

    @property
    def encoder(self) -> str | None:
        """The name of the model's encoder; None for RecBole's own classes."""
        known = self.model_class
        return known.encoder_spec.name if issubclass(known, EncoderHeadRecommender) else None

    @property
    def baseline(self) -> str | None:
        """The model of the same encoder with the baseline head; None if this is it, or one of RecBole's own."""
        return baseline_of(self.model_class)

    @property
    def metric_names(self) -> list[str]:
        """Metric names with cut-offs, in the order of the settings: Recall@10, Recall@100, NDCG@10, ...

        The one that selects is always among them.
        """
        names = expand_metrics(self.values["metrics"], self.values["topk"])
        return list(dict.fromkeys([*names, self.values["valid_metric"]]))

    @property
    def kept_items(self) -> int:
        """How many of the best items of each test query are kept: never fewer than the metrics of lists look at."""
        asked = self.values["kept_items"]
        names = [name for name in self.metric_names if asked is None or needs_top_items(name)]
        return max(asked or _KEPT_ITEMS, 1, *(parse_metric(name)[1] or 0 for name in names))

    @property
    def split(self) -> SplitSpec:
        """The split in force."""
        return SPLITS[self.values["split"]]

    @property
    def validates(self) -> bool:
        """Whether the split has a validation, which selection and early stopping need."""
        return self.split.validates(self.values)

    def protocol(self, *, has_repeats: bool) -> EvaluationProtocol:
        """Returns the way in which runs with these settings are evaluated.

        Args:
            has_repeats: whether users of the data have items more than once. Where none has, an item of the history
                can never be a target: `filter_seen: auto` leaves it out.
        """
        filter_seen = self.values["filter_seen"]
        return EvaluationProtocol(
            split=self._split_in_protocol,
            filter_seen=not has_repeats if filter_seen == "auto" else filter_seen,
            tie_rule=self.values["tie_rule"],
            candidates=self.split.candidates,
        )

    @property
    def _split_in_protocol(self) -> dict[str, Any]:
        final_fit = {} if self.values["final_fit"] == "none" else {"final_fit": self.values["final_fit"]}
        return self.split.protocol(self.values) | final_fit

    @property
    def data_settings(self) -> dict[str, Any]:
        """What decides about the prepared data: equal ones have equal fingerprints."""
        values = {key: value for key, value in self.values.items() if key in _DATA_SETTINGS}
        return {"dataset": self.dataset, **values}

    def identity(self) -> dict[str, Any]:
        """Returns what of the settings can change a run's numbers."""
        plugins = self.model_class.sources() if issubclass(self.model_class, EncoderHeadRecommender) else {}
        recent = {
            one.key: one.default for one in own_settings() if one.recent and one.key not in self._split_in_protocol
        }
        return {
            "model": self.model,
            "dataset": self.dataset,
            **({"plugins": plugins} if plugins else {}),
            **{
                key: value
                for key, value in sorted(self.values.items())
                if key not in NOT_IDENTITY and (key not in recent or value != recent[key])
            },
        }

    def recbole_config(self, device: torch.device) -> RecBoleConfig:
        """Returns RecBole's own configuration object for these settings."""
        return RecBoleConfig(self.model_class, self.dataset, self.values, device)


def load_settings(
    model: str | type | None = None,
    dataset: str | None = None,
    config_files: Files = (),
    overrides: Overrides = (),
    beside: Iterable[str] = (),
    strict: bool = False,
) -> Settings:
    """Returns the checked settings of a run: defaults, then each file, then the overrides.

    Args:
        model: name or class of the model; None for the one that the files name.
        dataset: name of a data set, a folder `<data_path>/<name>` with `<name>.inter`; the path of such a folder; or
            that of a file of interactions (.csv, .tsv, .parquet, .gz). None for the one that the files name, or else
            ml-100k.
        config_files: RecBole YAML files, or mappings in their place; later ones over earlier ones.
        overrides: a mapping, or texts "key=value" whose values are YAML.
        beside: names of other models that the same files and overrides are for: a key of theirs, such as `mos_heads`
            beside a softmax, is passed over where this model has no such setting.
        strict: whether keys of files that this model does not read are faults.

    Raises:
        InputError: an unknown model, or all faults of the settings, one a line, each with its file and line or its
            argument.
    """
    compat.apply()
    found = Findings()
    given = read_given(config_files, overrides, found)
    name = model if model is None or isinstance(model, str) else model.__name__
    name = _named("model", name, given, beside, found)
    if name is None:
        raise InputError("\n".join([*found.faults, _NO_MODEL]))
    model_class = _recommender(name) if model is None or isinstance(model, str) else model
    dataset = _named("dataset", dataset, given, (), found)
    if dataset == "":
        found.faults.append("dataset is ''; expected a name, a folder or a file")
    dataset = dataset or "ml-100k"
    dataset = _at_home(dataset, found)
    if Path(dataset).name in ("", ".."):  # "." and the like
        dataset = str(Path(dataset).resolve())
    if Path(dataset).suffix == ".inter" and Path(dataset).is_file():
        found.faults.append(f"{dataset}: an atomic file; expected its folder, {Path(dataset).resolve().parent}")
    for_others = {key for other in beside for key in known_settings(other, dataset)}
    place, (dataset, data_path) = dataset, dataset_place(dataset)
    _take_data_path(given, place, data_path, found)
    values = RecBoleConfig.defaults(model_class, dataset) | ({} if data_path is None else {"data_path": data_path})
    if issubclass(model_class, EncoderHeadRecommender):
        common = {*RecBoleConfig.defaults(GeneralRecommender, dataset), *(one.key for one in SHARED_SETTINGS)}
        common |= translated_keys()
        found.faults += declaration_faults(model_class, common)
    take_translated(given, found)
    take_width(given, values, name, found)
    take_fixed(given, values, issubclass(model_class, EncoderHeadRecommender), name, for_others, found)
    given = {key: item for key, item in given.items() if key in values or key not in for_others}
    unknown = take_unknown(given, values, name, strict, found)
    types = setting_types(model_class)
    refused = []
    for key in given:
        n_faults = len(found.faults)
        values[key] = checked(key, types.get(key), given[key], values[key], found)
        if len(found.faults) > n_faults:
            refused.append(key)
    values["data_path"] = _at_home(values["data_path"], found)
    if "load_col" not in given and isinstance(values["load_col"], dict):
        # RecBole would refuse columns to leave out beside its default of columns to load.
        left_out = values["load_col"].keys() & (values["unload_col"] or {}).keys()
        values["load_col"] = values["load_col"] | dict.fromkeys(left_out, "*")
    if values.get("loss_type") == "BPR" and "train_neg_sample_args" not in given:
        values["train_neg_sample_args"] = {
            **{"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0},
        }
    if values["split"] == "files" and "train_mode" not in given:
        # Their rows may be lists, of which no other targets are made.
        values["train_mode"] = "prefix"
    if values["lr_schedule"] != "constant" and "stopping_step" not in given:
        # A training that was stopped early would not get to the small rates, where a model is best; which of the epochs
        # before the end had luck with the validation's queries says little.
        values["stopping_step"] = values["epochs"]
        if "chosen_epoch" not in given:
            values["chosen_epoch"] = "last"
    if getattr(model_class, "type", None) == ModelType.TRADITIONAL:
        # Models that are only counted or solved for are done after one pass (RecBole's TraditionalTrainer).
        values["epochs"] = 1
    check_names(model_class, values, given, found)
    if not refused:  # else defaults stand in their places, which are not to blame
        check_together(model_class, values, given, found)
    if found.faults:
        raise InputError("\n".join(found.faults))
    found.warnings += without_effect(values, given)
    asked = expand_metrics(values["metrics"], values["topk"]) if given.keys() & {"metrics", "topk"} else []
    return Settings(model_class, dataset, values, tuple(dict.fromkeys(found.warnings)), unknown, tuple(asked))


def _take_data_path(given: dict[str, Given], place: str, parent: str | None, found: Findings) -> None:
    """Takes `data_path` out of `given` where the data set is named by its path; RecBole's default gets one spelling.

    Args:
        given: the settings.
        place: what names the data set.
        parent: the `data_path` that follows from it, or None.
        found: what is wrong so far.
    """
    item = given.get("data_path")
    if item is None or not isinstance(item.value, str):
        return
    if parent is None:
        if item.in_file and Path(item.value) == Path(RECBOLE_DATA_PATH):
            given["data_path"] = replace(item, value=RECBOLE_DATA_PATH)
        return
    del given["data_path"]
    if Path(item.value) == Path(parent):
        return
    what = f"{item.origin}: data_path is {item.value!r}"
    if item.in_file:
        found.warnings.append(f"{what}, without effect beside the path {place}, which is read")
    else:
        found.faults.append(f"{what}, and {place} is a path already; expected a name")


def _at_home(place: str, found: Findings) -> str:
    """Returns a path with the user's home for ~, also where no shell has seen it."""
    if not place.startswith("~"):
        return place
    try:
        return str(Path(place).expanduser())
    except RuntimeError:
        found.faults.append(f"{place}: no such user's home; expected a path, such as ./{place}")
        return place


def _named(
    what: str, chosen: str | None, given: dict[str, Given], beside: Iterable[str], found: Findings
) -> str | None:
    """Returns the model or data set that was chosen, or else the one that the files name."""
    item = given.pop(what, None)
    if item is None or item.value is None:
        return chosen
    if not isinstance(item.value, str) or not item.value:
        found.faults.append(f"{item.origin}: {what} is {item.value!r}; expected a name")
    elif chosen is None:
        return item.value
    elif item.value not in (chosen, Path(chosen).name, *beside):
        found.warnings.append(f"{item.origin}: {what} is {item.value!r}; {chosen!r} is run, as the command line says")
    return chosen


_NO_MODEL = "no model is named; write --model GRU4RecMoS, or model: GRU4RecMoS in a file of --config"


def named_model(config_files: Files, overrides: Overrides = ()) -> str:
    """Returns the model that files or overrides name.

    Raises:
        InputError: none is named, or a file cannot be read.
    """
    name = given_settings(config_files, overrides).get("model")
    if not isinstance(name, str):
        raise InputError(_NO_MODEL)
    return name


def load_data_settings(dataset: str, config_files: Files, overrides: Overrides) -> Settings:
    """Returns settings for what is done to the data alone: those of the model that is named, or else of any.

    Raises:
        InputError: as `load_settings`.
    """
    if given_settings(config_files, overrides).get("model") is not None:
        return load_settings(None, dataset, config_files, overrides)
    model, *others = own_model_names()
    return load_settings(model, dataset, config_files, overrides, beside=[*others, "SASRec"])


def known_settings(model: str, dataset: str) -> set[str]:
    """Returns the keys of a model's settings.

    Raises:
        InputError: an unknown model, or one of a kind that is not supported.
    """
    return set(RecBoleConfig.defaults(_recommender(model), Path(dataset).name))


# What models that are only counted or solved for have no use for: two values of it would be the same run twice.
_OF_TRAINING = {
    *("learner", "learning_rate", "lr_schedule", "warmup", "weight_decay", "clip_grad_norm", "enable_amp"),
    *("train_batch_size", "epochs", "eval_step", "stopping_step", "chosen_epoch"),
}


def accepted_settings(model: str, dataset: str, given: Collection[str] = ()) -> set[str]:
    """Returns the keys by which a model's settings can be given.

    Beside their own these are RecBole's older ones, and the width by the name that other models have for it, where it
    is not among the `given` keys by its own. Models that are not trained by steps have none of those of training.

    Raises:
        InputError: as `known_settings`.
    """
    known = known_settings(model, dataset)
    model_class = _recommender(model)
    if issubclass(model_class, EncoderHeadRecommender):
        known -= WITHOUT_PLACE
    if getattr(model_class, "type", None) == ModelType.TRADITIONAL:
        known -= _OF_TRAINING
    widths = {other for other, own in (WIDTHS, WIDTHS[::-1]) if own in known and own not in given}
    return known | widths | {key for one in TRANSLATIONS if one.target in known for key in one.keys}


def _recommender(model: str) -> type:
    """Returns a model class of a kind that learns from interactions alone.

    Raises:
        InputError: an unknown model, or another kind.
    """
    model_class = resolve_model(model)
    kind = getattr(model_class, "type", None)
    if kind not in (ModelType.SEQUENTIAL, ModelType.GENERAL, ModelType.TRADITIONAL):
        described = kind.name.lower() if isinstance(kind, ModelType) else "different"
        raise InputError(f"{model} is a {described} model in RecBole; expected a sequential or a general recommender")
    return model_class
