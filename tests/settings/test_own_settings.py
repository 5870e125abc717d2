"""Settings that are not RecBole's: each is declared once, with a help text, and documented with its default."""

from pathlib import Path

import pydantic
import pytest

from mos_recbole.data import SPLITS
from mos_recbole.settings import load_settings, own_settings
from mos_recbole.settings.fields import OTHER_DEFAULTS, RECBOLE_TYPES
from mos_recbole.specs import Setting

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HEADS = (ROOT / "docs" / "heads.md").read_text(encoding="utf-8")


def documented() -> dict[str, str]:
    """Returns the defaults in README's table of settings, by key."""
    table = README.partition("| key | default | meaning |\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]
    return {key.strip("` "): default.strip("`") for keys, default, *_ in rows for key in keys.split(",")}


@pytest.mark.parametrize("setting", [*own_settings(), *OTHER_DEFAULTS], ids=lambda setting: setting.key)
def test_a_default_is_of_the_type_and_the_help_is_a_sentence(setting: Setting) -> None:
    assert pydantic.TypeAdapter(setting.type).validate_python(setting.default, strict=True) == setting.default
    assert setting.help.endswith(".")


@pytest.mark.parametrize("setting", own_settings(), ids=lambda setting: setting.key)
def test_a_setting_is_documented(setting: Setting) -> None:
    """In README's table, or beside its head in docs/heads.md."""
    assert f"| `{setting.key}`" in README or f"`{setting.key}`" in README + HEADS
    if setting.key in documented():
        assert documented()[setting.key] == ("" if setting.default is None else str(setting.default))


def test_the_table_has_no_other_settings() -> None:
    assert documented().keys() <= {setting.key for setting in own_settings()}
    assert len(documented()) >= 20


def test_a_key_is_declared_once() -> None:
    """Not both as one of ours and as one of RecBole's; a split's settings belong to it alone."""
    ours = [setting.key for setting in (*own_settings(), *OTHER_DEFAULTS)]
    assert len(set(ours)) == len(ours)
    assert not RECBOLE_TYPES.keys() & set(ours)
    of_splits = [setting.key for spec in SPLITS.values() for setting in spec.settings]
    assert len(set(of_splits)) == len(of_splits)


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_says_where_it_leaks_and_is_in_the_protocol(name: str) -> None:
    """With its name, the settings that it reads and its candidates; other splits' settings are not there."""
    settings = load_settings("GRU4RecSoftmax", overrides={"split": name})
    spec = SPLITS[name]
    assert spec.leakage.endswith(".")
    assert settings.protocol.split == {"name": name, **{setting.key: setting.default for setting in spec.settings}}
    assert settings.protocol.candidates == spec.candidates
    assert settings.data_settings["split"] == name
    assert {setting.key for setting in spec.settings} <= settings.data_settings.keys()
