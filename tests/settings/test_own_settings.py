"""Settings that are not RecBole's: each is declared once, with a help text, and documented with its default."""

from pathlib import Path

import pydantic
import pytest

from mos_recbole.data import SPLITS
from mos_recbole.models import HEADS
from mos_recbole.settings import load_settings, own_settings
from mos_recbole.settings.fields import OTHER_DEFAULTS, RECBOLE_TYPES
from mos_recbole.specs import Setting

ROOT = Path(__file__).parents[2]
# As they are before another test loads a plugin.
OURS = own_settings()


def rows(page: str) -> dict[str, list[str]]:
    """Returns the cells after the key in a page's table of settings, by key."""
    text = (ROOT / page).read_text(encoding="utf-8")
    table = text.partition("| key | default | meaning |")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {key.strip("` "): others for keys, *others in cells for key in keys.split(",")}


HEADS_PAGE = rows("docs/heads.md")
DOCUMENTED = HEADS_PAGE | rows("README.md")


@pytest.mark.parametrize("setting", [*OURS, *OTHER_DEFAULTS], ids=lambda setting: setting.key)
def test_a_default_is_of_the_type_and_the_help_is_a_sentence(setting: Setting) -> None:
    assert pydantic.TypeAdapter(setting.type).validate_python(setting.default, strict=True) == setting.default
    assert setting.help.endswith(".")


@pytest.mark.parametrize("setting", OURS, ids=lambda setting: setting.key)
def test_a_setting_is_documented_with_its_default(setting: Setting) -> None:
    """In README's table, or with those of the heads."""
    assert DOCUMENTED[setting.key][0].strip("`") == ("" if setting.default is None else str(setting.default))


def test_no_other_settings_are_documented() -> None:
    assert DOCUMENTED.keys() == {setting.key for setting in OURS}


def test_the_settings_of_heads_are_those_of_their_specs() -> None:
    """Key, help and which heads have it."""
    described = {key: (help_, set(heads.replace("`", "").split(", "))) for key, (_, help_, heads) in HEADS_PAGE.items()}
    built_in = [spec for spec in HEADS.values() if spec.origin is None]
    assert described == {
        setting.key: (setting.help, {spec.name for spec in built_in if setting in spec.settings})
        for head in built_in
        for setting in head.settings
    }


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
    assert settings.protocol.split == {"name": name, **{setting.key: setting.default for setting in named}, **given}
    assert settings.protocol.candidates == spec.candidates
    assert settings.data_settings["split"] == name
    assert {setting.key for setting in spec.settings} <= settings.data_settings.keys()
