"""RecBole's `Config`, made of settings that are already checked, and the defaults of settings."""

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from recbole.config import Config
from recbole.data.transform import construct_transform
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import ModelType

from mos_recbole import compat
from mos_recbole.data import is_table
from mos_recbole.models import EncoderHeadRecommender
from mos_recbole.settings.fields import OTHER_DEFAULTS, OWN
from mos_recbole.settings.sources import YamlLoader

_RECBOLE_PROPERTIES = Path(__file__).parent.parent / "properties" / "recbole"

# Where RecBole looks for data sets unless told otherwise.
RECBOLE_DATA_PATH = "dataset/"


@cache  # most are asked for by every model
def settings_in(file: str) -> dict[str, Any]:
    """Returns what a file of RecBole or of this package holds."""
    values: dict[str, Any] | None = yaml.load(Path(file).read_text(encoding="utf-8"), Loader=YamlLoader)
    return values or {}


class RecBoleConfig(Config):  # type: ignore[misc]  # RecBole has no types
    """RecBole's `Config` out of a model class, a data set and values that are already checked.

    Leaves out of RecBole's constructor the reading of `sys.argv`, the `eval` of strings, and the setting of
    `CUDA_VISIBLE_DEVICES`; adds this project's own defaults.
    """

    def __init__(self, model_class: type, dataset: str, values: Mapping[str, Any], device: torch.device) -> None:
        compat.apply()
        self._init_parameters_category()
        self.model, self.model_class, self.dataset = model_class.__name__, model_class, dataset
        # RecBole completes nested values in place; a run's id is made of the settings as they are.
        self.external_config_dict = copy.deepcopy(dict(values))
        self._load_internal_config_dict(self.model, model_class, dataset)
        self.final_config_dict = self._get_final_config_dict()
        # RecBole refuses metrics that are not its own; it computes none of them here.
        metrics, self.final_config_dict["metrics"] = self.final_config_dict["metrics"], ["NDCG"]
        self._set_default_parameters()
        self.final_config_dict["metrics"] = metrics
        if is_table(values["data_path"]):
            self.final_config_dict["data_path"] = values["data_path"]
        elif values["data_path"].rstrip("/") != RECBOLE_DATA_PATH.rstrip("/"):
            # RecBole takes ml-100k from its own files, whatever the data_path.
            self.final_config_dict["data_path"] = str(Path(values["data_path"]) / dataset)
        self.final_config_dict |= {
            "device": device,
            "single_spec": True,
            "local_rank": 0,
            "model_class": model_class,
        }
        self._set_train_neg_sample_args()
        self._set_eval_neg_sample_args("valid")
        self._set_eval_neg_sample_args("test")
        # RecBole's transforms write into the configuration under which names models find what they make of a batch.
        construct_transform(self)

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        super()._load_internal_config_dict("", GeneralRecommender, dataset)
        columns = self.internal_config_dict["load_col"]["inter"]
        super()._load_internal_config_dict(model, model_class, dataset)
        self.internal_config_dict |= copy.deepcopy(
            {setting.key: setting.default for setting in (*OWN, *OTHER_DEFAULTS)}
        )
        if not getattr(model_class, "causal", False):
            self.internal_config_dict["train_mode"] = "prefix"
        if issubclass(model_class, EncoderHeadRecommender):
            sources = model_class.defaults()
        else:
            path = _RECBOLE_PROPERTIES / f"{model}.yaml"
            sources = [path] if path.is_file() else []
        compat.add_defaults(self, sources)
        # Every model sees the same interactions; RecBole's general models would load no times, some more columns.
        needed = [self.internal_config_dict[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")]
        load_col = self.internal_config_dict["load_col"]
        load_col["inter"] = list(dict.fromkeys(needed + list(columns)))
        self.internal_config_dict |= {
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
            "repeatable": True,
        }

    def _update_internal_config_dict(self, file: str) -> dict[str, Any]:
        values = copy.deepcopy(settings_in(file))
        self.internal_config_dict.update(values)
        return values

    @classmethod
    def defaults(cls, model_class: type, dataset: str) -> dict[str, Any]:
        """Returns the settings that hold where nothing is set."""
        return copy.deepcopy(cls._read_defaults(model_class, dataset))

    @classmethod
    @cache  # a sweep asks for the same ones hundreds of times
    def _read_defaults(cls, model_class: type, dataset: str) -> dict[str, Any]:
        bare = cls.__new__(cls)
        bare._init_parameters_category()
        bare._load_internal_config_dict(model_class.__name__, model_class, dataset)
        values: dict[str, Any] = bare.internal_config_dict
        kind = values.pop("MODEL_TYPE")
        values |= {"clip_grad_norm": values.get("clip_grad_norm"), "tail_ratio": 0.1}
        if issubclass(model_class, EncoderHeadRecommender):
            values = {key: value for key, value in values.items() if key not in model_class.unread_settings()}
        # RecBole's sequential models with a cross-entropy refuse its own default of one negative per target, and its
        # traditional ones have no use for it (Pop would count the negatives).
        if values.get("loss_type") == "CE" or kind == ModelType.TRADITIONAL:
            values["train_neg_sample_args"] = None
        return values
