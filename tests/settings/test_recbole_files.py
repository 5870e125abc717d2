"""Files that RecBole's users have: what is accepted, with which warnings, and what is refused with which sentence."""

import contextlib
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mos_recbole.cli import main
from mos_recbole.errors import InputError
from mos_recbole.settings import load_settings
from mos_recbole.settings.translate import TRANSLATIONS, WITHOUT_EFFECT, translated_keys

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
    assert len(WILD) >= 20
    assert sum("faults" not in case for case in WILD) >= 15


@pytest.mark.parametrize(("model", "settings"), RECBOLES, ids=IDS)
def test_settings_of_recboles_own_tests_are_accepted(model: str, settings: dict[str, Any]) -> None:
    assert load_settings(model, "ml-100k", [settings]).warnings == ()


INNER = [
    ("BPR", "train_neg_sample_args: {distribution: uniform, sampel_num: 5}", "sample_num"),
    ("BPR", "train_neg_sample_args: {uniform: 0}", "greater than"),
    ("BPR", "train_neg_sample_args: {distribution: uniform, dynamic: True}", "candidate_num"),
    ("BPR", "train_neg_sample_args: {distribution: gauss}", "distribution"),
    ("BPR", "train_neg_sample_args: {distribution: uniform, alpha: high}", "alpha"),
    ("BPR", "load_col: {itme: [item_id]}", "did you mean item?"),
    ("BPR", "load_col: {inter: [user_id, item_id, timestmp]}", "did you mean timestamp?"),
    ("BPR", "eval_args: {splt: {LS: valid_and_test}}", "did you mean split?"),
    ("BPR", "eval_args: {order: TO, split: {RS: 0.8}}", "three shares"),
    ("BPR", "val_interval: {rating: 3}", "val_interval"),
    ("BPR", "alias_of_item_id: 3", "alias_of_item_id"),
    ("BPR", "train_neg_sample_args: None", "BPR learns from negatives"),
    ("NeuMF", "train_neg_sample_args: ~", "NeuMF learns from negatives"),
    ("SASRec", "train_neg_sample_args: {uniform: 1}", "loss_type CE and train_neg_sample_args"),
    ("SASRec", "{loss_type: BPR, train_neg_sample_args: ~}", "loss_type BPR and train_neg_sample_args None"),
    ("FPMC", "train_neg_sample_args: {uniform: 2}", "one negative per target"),
    ("SASRec", "loss_type: NLL", "loss_type"),
    ("SASRecMoS", "loss_type: BPR", "negative_sampling"),
    ("SASRec", "transform: mask_itemseq", "transform"),
    ("SASRec", "min_user_inter_num: [5]", "user_inter_num_interval"),
    ("SASRec", "eval_setting: random", "TO_LS,full"),
]


@pytest.mark.parametrize(("model", "text", "fragment"), INNER, ids=[text for _, text, _ in INNER])
def test_what_would_run_another_experiment_is_refused(model: str, text: str, fragment: str, tmp_path: Path) -> None:
    """Keys within values, and settings that do not go together: one sentence."""
    path = tmp_path / "users.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=fragment) as caught:
        load_settings(model, "ml-100k", [path])
    assert str(caught.value).startswith(f"{path}, line 1: ")
    assert len(str(caught.value).splitlines()) == 1


def test_negatives_in_older_words() -> None:
    """`{uniform: 5}` and `neg_sampling` mean today's dictionary; a distribution of none means no negatives."""
    today = {"distribution": "uniform", "sample_num": 5}
    for older in ({"train_neg_sample_args": {"uniform": 5}}, {"neg_sampling": {"uniform": 5}}):
        assert load_settings("BPR", overrides=older).values["train_neg_sample_args"] == today
    none = {"train_neg_sample_args": {"distribution": "none"}}
    assert load_settings("SASRec", overrides=none).values["train_neg_sample_args"] is None


@pytest.mark.parametrize(("model", "width"), [("SASRecMoS", "hidden_size"), ("STAMPMoS", "embedding_size")])
def test_the_width_has_either_name(model: str, width: str) -> None:
    """Also beside a model whose width has the other name; the model's own name counts where both are given."""
    names = {"embedding_size": 16, "hidden_size": 32}
    (other,) = names.keys() - {width}
    for beside in ([], ["GRU4RecMoS", model]):
        assert load_settings(model, overrides={other: 48}, beside=beside).values[width] == 48
        assert load_settings(model, overrides=names, beside=beside).values[width] == names[width]


MEANINGS = {
    "lr": "learning_rate",
    "batch_size": "train_batch_size",
    "hidden_dim": "hidden_size",
    "dropout": "dropout_prob",
    "max_len": "MAX_ITEM_LIST_LENGTH",
    "negative_sample": "train_neg_sample_args",
    "patience": "stopping_step",
}


@pytest.mark.parametrize(("key", "expected"), MEANINGS.items())
def test_hints_go_by_meaning(key: str, expected: str) -> None:
    """An unknown argument is refused with the key that means the same, whatever its letters."""
    with pytest.raises(InputError, match=f"did you mean {expected}"):
        load_settings("GRU4RecMoS", overrides=[f"--{key}=1"])


def test_strict_refuses_what_a_file_has_too_much(tmp_path: Path) -> None:
    """Unknown keys and those of other models; without it they are warnings, and unknown ones are kept."""
    path = tmp_path / "users.yaml"
    path.write_text("my_key: [1, 2]\nn_layers: 3\n", encoding="utf-8")
    found = load_settings("GRU4RecMoS", config_files=[path])
    assert (len(found.warnings), found.unknown) == (2, {"my_key": "[1, 2]"})
    assert found.identity() == load_settings("GRU4RecMoS").identity()
    with pytest.raises(InputError, match=r"(?s)'my_key'.*'n_layers'"):
        load_settings("GRU4RecMoS", config_files=[path], strict=True)


KEYS = sorted(
    {
        *load_settings("SASRec").values,
        *load_settings("GRU4RecMoS").values,
        *translated_keys(),
        *("model", "dataset", "loss_type", "train_stage", "lr", "wandb_entity"),
    }
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.dates()
INNER_KEYS = st.sampled_from(
    ["split", "LS", "RS", "mode", "order", "uniform", "distribution", "inter", "rating", "None"]
)
VALUES = st.recursive(
    SCALARS | st.sampled_from(["None", "full", "TO", "TO_LS,full", "[5,inf)", "NDCG@10"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(INNER_KEYS | SCALARS, inner, max_size=3),
    max_leaves=5,
)


@hypothesis_settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=4), st.sampled_from(["SASRec", "GRU4RecMoS"])
)
def test_no_value_ends_in_a_traceback(content: dict[str, Any], model: str) -> None:
    """Any value of any key is accepted, or refused with a sentence; what is accepted is a configuration of RecBole."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "users.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        with contextlib.suppress(InputError):
            load_settings(model, config_files=[path]).recbole_config(torch.device("cpu"))


def test_the_page_for_recboles_users_has_every_translated_key() -> None:
    """The table of translations row by row, and every key without effect."""
    page = (HERE.parents[1] / "docs" / "recbole.md").read_text(encoding="utf-8")
    table = page.partition("| key | is taken as | why |")[2].partition("\n\n")[0]
    rows = [re.findall(r"`([a-z_]+)`", line.rpartition("|")[0].rpartition("|")[0]) for line in table.splitlines()[2:]]
    assert rows == [[*one.keys, one.target] for one in TRANSLATIONS]
    listed = page.partition("Without effect, with a warning")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+)`", listed)) == WITHOUT_EFFECT


# What keeps a case from training here, said before it trains.
NOT_RUN: dict[str, str] = {}


@pytest.fixture(scope="module")
def test_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder in the shape of RecBole's test data: ratings, times, labels, features of items."""
    folder = tmp_path_factory.mktemp("data") / "small"
    folder.mkdir()
    rng = np.random.default_rng(7)
    rows = [
        f"{user}\t{rng.integers(1, 151)}\t{rng.integers(1, 6)}\t{60 * user + 1000 * time}\t{rng.integers(2)}"
        for user in range(1, 121)
        for time in range(20)
    ]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\tlabel:float"
    (folder / "small.inter").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    items = [
        f"{item}\tFilm {item}\t{1990 + item % 9}\t{'Drama Comedy' if item % 2 else 'War'}" for item in range(1, 201)
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
