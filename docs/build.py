"""Builds the documentation as a site, offline: `make docs`, or `python docs/build.py --output FOLDER`.

The site has README.md and all that its pages link to. The pages of commands and of Python names are made from the
parser and the docstrings. `--settings` writes docs/settings.md anew from the specs of the settings.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ROOT / "docs" / "settings.md"
# What a page of HTML opens beside itself.
_HREF = re.compile(r'href="(?!\w+:)([^"#]+)"')
_LINK = re.compile(r"(\[([^][]*)\]\(([^)#\s]+)[^)\s]*\))")

_SETTINGS_PAGE = """# Settings

Settings have RecBole's names. They come from RecBole's YAML files (`--config`; later files win over earlier ones)
and from arguments, `--key=value` or `--key value`, which win over files. The rest are RecBole's defaults, and ours
below. All faults are reported at once; whether values go together is asked when each is right. An unknown key is
refused, with the nearest known one.

The tables are made from the code by `python docs/build.py --settings`.

## The recipe of training

Encoders with heads are trained by one recipe. The learning rate rises to its peak in the first 15 % of the steps
and falls to zero by the end. The budget ends the training: `stopping_step` is off unless you set it, and the last
epoch is the model. Other batches, rates, or sparser data want other `epochs`. {exceptions}

SASRec's encoder has dropouts of 0.2, where RecBole has a half. That costs much on dense data such as MovieLens, and
gains nothing in ten epochs of Amazon Beauty ([experiments.md](experiments.md)). On MovieLens-1M `SASRecSoftmax` had
`learning_rate: 0.003`, and `GRU4RecMoS` validated higher with `mos_activation: identity` (one seed with tanh, five
without).

{recipe}

RecBole's own classes keep RecBole's training: a constant rate of 0.001, batches of 2,048, until validation stops
improving. `--config configs/constant.yaml` has the training that was the default before
([experiments.md](experiments.md)).

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

{encoders}## RecBole's, with another default

{others}
"""


def settings_page() -> str:
    """Returns docs/settings.md, as the specs have it."""
    from mos_recbole.data import SPLITS
    from mos_recbole.models import HEADS
    from mos_recbole.models.encoders import BUILT_IN_ENCODERS
    from mos_recbole.models.shared_settings import RECIPE, SHARED_SETTINGS
    from mos_recbole.settings.fields import OTHER_DEFAULTS, OWN, RECBOLE_TYPES

    heads = [spec for spec in HEADS.values() if spec.origin is None]
    of_heads = {setting.key: setting for spec in heads for setting in spec.settings}
    of_splits = {setting.key: f"`{name}`" for name, spec in SPLITS.items() for setting in spec.settings}
    owners = {
        key: ", ".join(f"`{spec.name}`" for spec in heads if one in spec.settings) for key, one in of_heads.items()
    }
    exceptions = (
        f"Models of the encoder {spec.name} have "
        + ", ".join(f"`{key}: {value}`" for key, value in spec.training_defaults.items())
        + "."
        for spec in BUILT_IN_ENCODERS
        if spec.training_defaults
    )
    return _SETTINGS_PAGE.format(
        exceptions=" ".join(exceptions),
        recipe=_table([["key", "value"], *([f"`{key}`", f"`{value}`"] for key, value in RECIPE.items())]),
        own=_settings([one for one in OWN if one.key not in of_splits]),
        splits=_settings([one for one in OWN if one.key in of_splits], "split", of_splits),
        shared=_settings([one for one in SHARED_SETTINGS if one.key not in RECBOLE_TYPES]),
        heads=_settings(of_heads.values(), "heads", owners),
        encoders=_of_encoders(BUILT_IN_ENCODERS, {*RECBOLE_TYPES, *(one.key for one in SHARED_SETTINGS)}),
        others=_settings(OTHER_DEFAULTS),
    )


def _of_encoders(encoders: Iterable, known: Collection[str]) -> str:
    """Returns the section of encoders' own settings; nothing where they have none."""
    own = {one.key: one for spec in encoders for one in spec.settings if one.key not in known}
    if not own:
        return ""
    owners = {key: ", ".join(f"`{spec.name}`" for spec in encoders if one in spec.settings) for key, one in own.items()}
    return f"## Encoders\n\n{_settings(own.values(), 'encoders', owners)}\n\n"


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


def commands_page() -> str:
    """Returns a page with the help of every command."""
    from mos_recbole.cli import make_parser

    program = make_parser()
    (commands,) = (action for action in program._actions if isinstance(action, argparse._SubParsersAction))
    parts = ["# Commands", f"```text\n{program.format_help()}```"]
    parts += [f"## {name}\n\n```text\n{parser.format_help()}```" for name, parser in commands.choices.items()]
    return "\n\n".join(parts) + "\n"


def python_page() -> str:
    """Returns a page that mkdocstrings fills with the docstrings of the public names."""
    import mos_recbole

    homes = {name: home for home, names in mos_recbole._HOMES.items() for name in names}
    parts = [
        "# Python",
        "What `import mos_recbole` offers.",
        *(f"::: mos_recbole.{homes[n]}.{n}" for n in sorted(homes)),
    ]
    return "\n\n".join(parts) + "\n"


def stage(folder: Path) -> None:
    """Copies all pages to a folder, with the files that they link to; links to folders become plain text."""
    left = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
    done: set[Path] = set()
    while left:
        path = left.pop()
        if path in done:
            continue
        done.add(path)
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".md":
            shutil.copy(path, copy)
            if path.suffix == ".html":
                left += [_beside(path, link) for link in _HREF.findall(path.read_text(encoding="utf-8"))]
            continue
        text = path.read_text(encoding="utf-8")
        for whole, words, link in _LINK.findall(text):
            target = (path.parent / link).resolve()
            if target.is_file():
                left.append(target)
            elif target.is_dir():
                text = text.replace(whole, words)
        copy.write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "docs" / "site.css", folder / "docs")
    (folder / "docs" / "commands.md").write_text(commands_page(), encoding="utf-8")
    (folder / "docs" / "python.md").write_text(python_page(), encoding="utf-8")


def _beside(page: Path, link: str) -> Path:
    """Returns the file that a page of HTML opens."""
    target = (page.parent / link).resolve()
    if not target.is_file():
        sys.exit(f"{page}: opens {link}, which is not there")
    return target


def build(output: Path) -> None:
    """Writes the site to a folder; a broken link is an error."""
    with tempfile.TemporaryDirectory() as work:
        shutil.copy(ROOT / "docs" / "mkdocs.yml", work)
        stage(Path(work) / "pages")
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", output.resolve()]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
        # With --quiet, warnings would not count.
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)


def main() -> None:
    """Writes the page of settings, or builds the site."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", action="store_true", help="write docs/settings.md")
    parser.add_argument("--output", type=Path, default=ROOT / "site", help="folder of the site (default: site)")
    options = parser.parse_args()
    if options.settings:
        SETTINGS.write_text(settings_page(), encoding="utf-8")
    else:
        build(options.output)
        print(f"To read it: {sys.executable} -m http.server --bind 127.0.0.1 --directory {options.output}")


if __name__ == "__main__":
    main()
