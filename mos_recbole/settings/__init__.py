"""Settings of a run: RecBole's YAML files and `key=value` arguments, checked as a whole before anything runs."""

from mos_recbole.settings.build import Settings, accepted_settings, known_settings, load_settings, named_model
from mos_recbole.settings.checks import settings_of_any_model
from mos_recbole.settings.fields import own_settings
from mos_recbole.settings.hints import hint
from mos_recbole.settings.recbole_config import RecBoleConfig
from mos_recbole.settings.sources import YamlLoader, given_settings

__all__ = [
    "RecBoleConfig",
    "Settings",
    "YamlLoader",
    "accepted_settings",
    "given_settings",
    "hint",
    "known_settings",
    "load_settings",
    "named_model",
    "own_settings",
    "settings_of_any_model",
]
