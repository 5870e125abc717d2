"""Settings that are not RecBole's: each is declared once, with a help text."""

import pydantic
import pytest

from mos_recbole.data import SPLITS
from mos_recbole.settings import load_settings, own_settings
from mos_recbole.settings.fields import OTHER_DEFAULTS, RECBOLE_TYPES
from mos_recbole.specs import Setting

# As they are before another test loads a plugin.
OURS = own_settings()


@pytest.mark.parametrize("setting", [*OURS, *OTHER_DEFAULTS], ids=lambda setting: setting.key)
def test_a_default_is_of_the_type_and_the_help_is_a_sentence(setting: Setting) -> None:
    assert pydantic.TypeAdapter(setting.type).validate_python(setting.default, strict=True) == setting.default
    assert setting.help.endswith(".")


def test_a_key_is_declared_once() -> None:
    """Not both as one of ours and as one of RecBole's; a split's settings belong to it alone."""
    ours = [setting.key for setting in (*OURS, *OTHER_DEFAULTS)]
    assert len(set(ours)) == len(ours)
    assert not RECBOLE_TYPES.keys() & set(ours)
    of_splits = [setting.key for spec in SPLITS.values() for setting in spec.settings]
    assert len(set(of_splits)) == len(of_splits)


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_says_where_it_leaks_and_is_in_the_protocol(name: str) -> None:
    """With its name, the settings that it reads and its candidates; other splits' settings are not there."""
    given = {"benchmark_filename": ["a", "b", "c"]} if name == "files" else {}
    settings = load_settings("GRU4RecSoftmax", overrides={"split": name} | given)
    spec = SPLITS[name]
    assert spec.leakage.endswith(".")
    named = [setting for setting in spec.settings if spec.recent or not setting.recent]
    assert settings.protocol(has_repeats=True).split == {
        "name": name,
        **{setting.key: setting.default for setting in named},
        **given,
    }
    assert settings.protocol(has_repeats=True).candidates == spec.candidates
    assert settings.data_settings["split"] == name
    assert {setting.key for setting in spec.settings} <= settings.data_settings.keys()
