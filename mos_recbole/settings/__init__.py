"""Settings of a run: RecBole's YAML files and `key=value` arguments, checked as a whole before anything runs."""

from mos_recbole import compat  # noqa: F401 – first: says what to do where RecBole is missing
from mos_recbole.settings.build import (
    NOT_IDENTITY,
    Settings,
    accepted_settings,
    known_settings,
    load_data_settings,
    load_settings,
    named_model,
)
from mos_recbole.settings.checks import WIDTHS, settings_of_any_model
from mos_recbole.settings.fields import own_settings
from mos_recbole.settings.hints import hint, meant
from mos_recbole.settings.recbole_config import RecBoleConfig
from mos_recbole.settings.sources import Findings, Given, YamlLoader, given_settings, key_lines, read_given

__all__ = [
    "NOT_IDENTITY",
    "WIDTHS",
    "Findings",
    "Given",
    "RecBoleConfig",
    "Settings",
    "YamlLoader",
    "accepted_settings",
    "given_settings",
    "hint",
    "key_lines",
    "known_settings",
    "load_data_settings",
    "load_settings",
    "meant",
    "named_model",
    "own_settings",
    "read_given",
    "settings_of_any_model",
]
