"""Makes docs/settings.md from the specs of the settings: `python docs/build.py --settings`."""

import argparse
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ROOT / "docs" / "settings.md"

_SETTINGS_PAGE = """# Settings

Settings have RecBole's names. They come from RecBole's YAML files (`--config`; later files win over earlier ones)
and from arguments, `--key=value` or `--key value`, which win over files. The rest are RecBole's defaults, and ours
below. All faults are reported at once. An unknown key is refused, with the nearest known one.

The tables are made from the code by `python docs/build.py --settings`.

## The recipe of training

Encoders with heads are trained by one recipe. The learning rate rises to its peak in the first 15 % of the steps
and falls to zero by the end. The budget ends the training: `stopping_step` is off unless you set it. Other batches,
rates, or much less data want other `epochs`.

{recipe}

RecBole's own classes keep RecBole's training: a constant rate of 0.001, batches of 2,048, until validation stops
improving. `--config configs/constant.yaml` has the training that was the default before, by which the results here
were made ([experiments.md](experiments.md)).

## All models

Encoders with heads have the recipe's values instead of these.

{own}

## Splits

[data.md](data.md#splits) describes the splits, and where each leaks.

{splits}

## Encoders with heads

{shared}

## Heads

{heads}

## RecBole's, with another default

{others}
"""


def settings_page() -> str:
    """Returns docs/settings.md, as the specs have it."""
    from mos_recbole.data import SPLITS
    from mos_recbole.models import HEADS
    from mos_recbole.models.shared_settings import RECIPE, SHARED_SETTINGS
    from mos_recbole.settings.fields import OTHER_DEFAULTS, OWN, RECBOLE_TYPES

    heads = [spec for spec in HEADS.values() if spec.origin is None]
    of_heads = {setting.key: setting for spec in heads for setting in spec.settings}
    of_splits = {setting.key: f"`{name}`" for name, spec in SPLITS.items() for setting in spec.settings}
    owners = {
        key: ", ".join(f"`{spec.name}`" for spec in heads if one in spec.settings) for key, one in of_heads.items()
    }
    return _SETTINGS_PAGE.format(
        recipe=_table([["key", "value"], *([f"`{key}`", f"`{value}`"] for key, value in RECIPE.items())]),
        own=_settings([one for one in OWN if one.key not in of_splits]),
        splits=_settings([one for one in OWN if one.key in of_splits], "split", of_splits),
        shared=_settings([one for one in SHARED_SETTINGS if one.key not in RECBOLE_TYPES]),
        heads=_settings(of_heads.values(), "heads", owners),
        others=_settings(OTHER_DEFAULTS),
    )


def _settings(settings: Iterable, owner: str = "", owners: dict[str, str] | None = None) -> str:
    """Returns a table of settings, with a column of what has them."""
    rows = [["key", "default", "meaning", *([owner] if owner else [])]]
    for one in settings:
        default = "" if one.default is None else f"`{one.default}`"
        rows.append([f"`{one.key}`", default, one.help, *([owners[one.key]] if owners else [])])
    return _table(rows)


def _table(rows: list[list[str]]) -> str:
    """Returns rows in Markdown, the first one as the head."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (rows[0], ["---"] * len(rows[0]), *rows[1:]))


def main() -> None:
    """Writes the page of settings, or builds the site."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", action="store_true", help="write docs/settings.md")
    parser.parse_args()
    SETTINGS.write_text(settings_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
