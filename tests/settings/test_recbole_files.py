"""Files that RecBole's users have: what is accepted, with which warnings, and what is refused with which sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mos_recbole.cli import main
from mos_recbole.errors import InputError
from mos_recbole.settings import load_settings

HERE = Path(__file__).parent
WILD = yaml.safe_load((HERE / "wild.yaml").read_text(encoding="utf-8"))
RECBOLES = [
    (model, settings)
    for models in yaml.safe_load((HERE / "recbole_tests.yaml").read_text(encoding="utf-8")).values()
    for model, cases in models.items()
    for settings in cases
]
IDS = [f"{model}-{number}" for number, (model, _) in enumerate(RECBOLES)]


def each_fragment_once(fragments: list[str], sentences: list[str]) -> None:
    """Fails unless every fragment is in a sentence of its own, and no sentence is left."""
    left = list(sentences)
    for fragment in fragments:
        matching = [sentence for sentence in left if fragment in sentence]
        assert matching, f"{fragment!r} is in none of {left}"
        left.remove(matching[0])
    assert not left


@pytest.mark.parametrize("case", WILD, ids=lambda case: case["name"])
def test_files_of_users(case: dict[str, Any], tmp_path: Path) -> None:
    """Every sentence is expected and names the file and a line."""
    path = tmp_path / "users.yaml"
    path.write_text(case["file"], encoding="utf-8")
    if "faults" in case:
        with pytest.raises(InputError) as caught:
            load_settings("GRU4RecMoS", "ml-100k", [path])
        sentences = str(caught.value).splitlines()
        each_fragment_once(case["faults"], sentences)
    else:
        found = load_settings("GRU4RecMoS", "ml-100k", [path])
        sentences = list(found.warnings)
        each_fragment_once(case.get("warnings", []), sentences)
        for key, value in case.get("values", {}).items():
            assert found.values[key] == value, key
    assert all(sentence.startswith(f"{path}") or "valid_metric is not set" in sentence for sentence in sentences)


def test_most_files_are_accepted() -> None:
    """The others are refused for the protocol, or for typing errors."""
    assert len(WILD) == 20
    assert sum("faults" not in case for case in WILD) >= 15


@pytest.mark.parametrize(("model", "settings"), RECBOLES, ids=IDS)
def test_settings_of_recboles_own_tests_are_accepted(model: str, settings: dict[str, Any]) -> None:
    assert load_settings(model, "ml-100k", [settings]).warnings == ()


# What keeps a case from training here, said before it trains.
NOT_RUN: dict[str, str] = {}


@pytest.fixture(scope="module")
def test_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder in the shape of RecBole's test data: ratings, times, labels, features of items."""
    folder = tmp_path_factory.mktemp("data") / "small"
    folder.mkdir()
    rng = np.random.default_rng(7)
    rows = [
        f"{user}\t{rng.integers(1, 151)}\t{rng.integers(1, 6)}\t{880000000 + 60 * user + 1000 * time}\t{rng.integers(2)}"
        for user in range(1, 121)
        for time in range(20)
    ]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\tlabel:float"
    (folder / "small.inter").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    items = [
        f'{item}\t"Great" film {item}\t{1990 + item % 9}\t{"Drama Comedy" if item % 2 else "War"}'
        for item in range(1, 201)
    ]
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
    (folder / "small.item").write_text("\n".join([header, *items]) + "\n", encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("model", "settings"), RECBOLES, ids=IDS)
def test_recboles_own_tests_pass_through_the_command_line(
    model: str, settings: dict[str, Any], test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One epoch each, but for those with a reason."""
    path = tmp_path / "settings.yaml"
    columns = {"inter": ["user_id", "item_id", "rating", "timestamp", "label"], "item": ["item_id", "class"]}
    content = {"model": model, "dataset": str(test_data), "epochs": 1, "load_col": columns, **settings}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    status = main(["run", "--config", str(path), "--output", str(tmp_path), "--device", "cpu", "--quiet"])
    error = capsys.readouterr().err
    assert (status, error if status else "") == ((2, NOT_RUN[model]) if model in NOT_RUN else (0, ""))
