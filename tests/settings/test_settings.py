"""Settings: what wins over what, and that every fault is refused before anything runs, by name and place."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mos_recbole import compat
from mos_recbole.errors import InputError
from mos_recbole.experiment import load_settings
from mos_recbole.models import own_model_names, resolve_model
from mos_recbole.models.shared_settings import RECIPE
from mos_recbole.settings.fields import OTHER_DEFAULTS, OWN

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}


def values(*arguments: str, model: str = "GRU4RecMoS", files: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Returns the checked settings for arguments as on the command line."""
    return load_settings(model, "ml-100k", files, arguments).values


def faults(*arguments: str, model: str = "GRU4RecMoS", files: tuple[Path, ...] = ()) -> list[str]:
    """Returns the lines of the error that refuses these settings."""
    with pytest.raises(InputError) as caught:
        load_settings(model, "ml-100k", files, arguments)
    return str(caught.value).splitlines()


@pytest.fixture
def yaml_file(tmp_path: Path):
    """Returns a function (content, name="settings.yaml") -> path of a file with that content."""

    def write(content: str | bytes, name: str = "settings.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


# ---------------------------------------------------------------------------------------------------- precedence


@pytest.mark.parametrize("model", own_model_names())
def test_defaults_hold_where_nothing_is_set(model: str) -> None:
    """What an encoder declares for training is over the recipe, that over the settings of its models, those over ours,
    these over RecBole's defaults: every key. An encoder with one state a sequence trains on prefixes."""
    model_class = resolve_model(model)
    expected = {setting.key: setting.default for setting in (*OWN, *OTHER_DEFAULTS)}
    expected |= {setting.key: setting.default for setting in model_class.setting_specs()}
    expected |= RECIPE | model_class.encoder_spec.training_defaults
    expected |= {"stopping_step": expected["epochs"], "chosen_epoch": "last"}
    expected["train_mode"] = "all_positions" if model_class.causal else "prefix"
    found = values(model=model)
    for key, value in expected.items():
        assert found[key] == value, key
    assert "loss_type" not in found
    assert (found["USER_ID_FIELD"], found["weight_decay"]) == ("user_id", 0.0)
    baseline = values(model="GRU4Rec")
    assert (baseline["train_mode"], baseline["hidden_size"]) == ("prefix", 128)


def test_later_files_are_over_earlier_ones_and_overrides_over_all(yaml_file) -> None:
    """defaults < first file < second file < overrides, key by key."""
    first = yaml_file("epochs: 5\nmos_heads: 6\nlearning_rate: 0.5\n", "first.yaml")
    second = yaml_file("mos_heads: 7\nlearning_rate: 0.25\n", "second.yaml")
    found = values("--learning_rate=0.125", files=(first, second))
    assert (found["epochs"], found["mos_heads"], found["learning_rate"]) == (5, 7, 0.125)
    assert found["embedding_size"] == values()["embedding_size"]
    assert values(files=(second, first))["mos_heads"] == 6


def test_overrides_are_a_mapping_or_texts() -> None:
    """Both forms of overrides give the same settings."""
    mapping = load_settings("GRU4RecMoS", "ml-100k", overrides={"mos_heads": 3, "clip_grad_norm": {"max_norm": 1.0}})
    texts = load_settings("GRU4RecMoS", "ml-100k", overrides=["--mos_heads=3", "clip_grad_norm={max_norm: 1.0}"])
    assert mapping == texts
    assert mapping.values["mos_heads"] == 3


def test_the_path_of_a_data_set_sets_its_name_and_data_path() -> None:
    """`--dataset some/where/beauty` is data_path some/where and data set beauty."""
    found = load_settings("GRU4RecMoS", "some/where/beauty/")
    assert (found.dataset, found.values["data_path"]) == ("beauty", "some/where")


def test_a_path_of_a_data_set_is_that_path(yaml_file) -> None:
    """Whatever data_path a file names; beside an argument it cannot be meant."""
    path = yaml_file("data_path: elsewhere/\n")
    found = load_settings("GRU4RecMoS", "some/where/beauty", [path])
    assert (found.dataset, found.values["data_path"]) == ("beauty", "some/where")
    assert found.warnings == (
        f"{path}, line 1: data_path is 'elsewhere/', without effect beside the path some/where/beauty, which is read",
    )
    same = load_settings("GRU4RecMoS", "some/where/beauty", [yaml_file("data_path: some/where/\n")])
    assert same.warnings == ()
    with pytest.raises(InputError, match=r"^--data_path: data_path is 'elsewhere', and some/where/beauty is a path"):
        load_settings("GRU4RecMoS", "some/where/beauty", overrides=["--data_path=elsewhere"])
    table = load_settings("GRU4RecMoS", "some/where/log.csv", [path])
    assert table.values["data_path"] == "some/where/log.csv"


@pytest.mark.parametrize("text", ["dataset/ml-100k", "./dataset/ml-100k/", "dataset/../dataset/ml-100k"])
def test_a_path_of_ml_100k_is_that_folder(text: str, yaml_file) -> None:
    """RecBole takes its own files for the name alone, also where data_path names the default."""
    config = load_settings("GRU4RecMoS", text).recbole_config(torch.device("cpu"))
    assert Path(config["data_path"]).resolve() == Path("dataset/ml-100k").resolve()
    for place in ("dataset", "dataset/", "./dataset/"):
        files = [yaml_file(f"data_path: {place}\n")]
        of_recbole = load_settings("GRU4RecMoS", "ml-100k", files).recbole_config(torch.device("cpu"))
        assert "dataset_example" in of_recbole["data_path"]


def test_columns_to_leave_out_alone() -> None:
    """All others are read, as RecBole would where no columns to read are named; both for one file cannot be meant."""
    found = values("--unload_col={inter: [tags]}")
    assert (found["load_col"], found["unload_col"]) == ({"inter": "*"}, {"inter": ["tags"]})
    both = ["--load_col={inter: [user_id, item_id, tags]}", "--unload_col={inter: [tags]}"]
    assert faults(*both) == ["--unload_col: unload_col and load_col both name columns of 'inter'; expected one of them"]


def test_a_blank_is_a_separator() -> None:
    assert values("--seq_separator= ")["seq_separator"] == " "
    assert load_settings("GRU4RecMoS", overrides=["--seq_separator= "]).warnings == ()


def test_what_cannot_change_numbers_is_no_part_of_the_identity() -> None:
    """Where the data lie, how many queries are encoded at a time, and keys without effect (all: test_identity.py)."""
    plain = load_settings("GRU4RecMoS", "ml-100k").identity()
    arguments = ["--data_path=elsewhere", "--eval_batch_size=3", "--gpu_id=5"]
    assert load_settings("GRU4RecMoS", "ml-100k", overrides=arguments).identity() == plain
    assert load_settings("GRU4RecMoS", "ml-100k", overrides=["--mos_dropout=0.1"]).identity() != plain


# ---------------------------------------------------------------------------------------------------- ready-made files


def test_there_are_ready_made_files() -> None:
    """configs/ holds base, ml-100k and one file for each model of this project."""
    assert {path.stem for path in CONFIGS} >= {
        "base",
        "ml-100k",
        "GRU4RecMoS",
        "GRU4RecSoftmax",
        "SASRecMoS",
        "SASRecSoftmax",
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_ready_made_file_loads_for_its_model(path: Path) -> None:
    """A file with a model's name loads for that model, any other one for all of ours, without a warning."""
    is_model = path.stem in own_model_names() or compat.recbole_model_class(path.stem)
    named = [path.stem] if is_model else own_model_names()
    given_keys = yaml.safe_load(path.read_text(encoding="utf-8"))
    for model in named:
        loaded = load_settings(model, "ml-100k", [path])
        assert loaded.warnings == ()
        assert given_keys.keys() - {"model", "dataset"} <= loaded.values.keys()


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("learnig_rate", "learning_rate"), ("mos_head", "mos_heads"), ("embeding_size", "embedding_size")],
)
def test_an_unknown_key_is_refused_with_the_nearest(key: str, nearest: str, yaml_file) -> None:
    """By its place, its name and the key that was probably meant."""
    path = yaml_file(f"epochs: 3\n\n{key}: 1\n")
    for found, place in ((faults(f"--{key}=1"), f"--{key}"), (faults(files=(path,)), f"{path}, line 3")):
        assert len(found) == 1
        assert found[0].startswith(place)
        assert repr(key) in found[0]
        assert nearest in found[0].split(";")[1]


@pytest.mark.parametrize("model", ["GRU4RecSoftmax", "GRU4Rec"])
def test_a_key_of_another_model_is_refused(model: str) -> None:
    """`mos_heads` for a model without a mixture: taken silently, it would make two equal runs look different."""
    assert "'mos_heads'" in faults("--mos_heads=4", model=model)[0]


REFUSED = [
    ("mos_heads", "0"),
    ("mos_heads", "-1"),
    ("mos_heads", "2.5"),
    ("mos_heads", "true"),
    ("mos_heads", "many"),
    ("learning_rate", "fast"),
    ("learning_rate", "0"),
    ("learning_rate", "-0.1"),
    ("learning_rate", ".inf"),
    ("learning_rate", ".nan"),
    ("learning_rate", "true"),
    ("weight_decay", "-1"),
    ("topk", "0"),
    ("topk", "[10, 0]"),
    ("topk", "ten"),
    ("dropout_prob", "1.5"),
    ("dropout_prob", "1.0"),
    ("dropout_prob", "-0.1"),
    ("mos_dropout", "1"),
    ("epochs", "0"),
    ("epochs", "~"),
    ("train_batch_size", "0"),
    ("eval_step", "0"),
    ("stopping_step", "-1"),
    ("MAX_ITEM_LIST_LENGTH", "0"),
    ("embedding_size", "0"),
    ("hidden_size", "64.0"),
    ("seed", "-1"),
    ("seed", "4294967296"),
    ("learner", "adan"),
    ("tie_rule", "random"),
    ("split", "temporal_by_guess"),
    ("train_mode", "suffix"),
    ("mos_activation", "relu"),
    ("enable_amp", "1"),
    ("filter_seen", "maybe"),
    ("rm_dup_inter", "middle"),
    ("user_inter_num_interval", "5"),
    ("user_inter_num_interval", "5,inf"),
    ("user_inter_num_interval", "[a,b]"),
    ("val_interval", "3"),
    ("clip_grad_norm", "5"),
    ("clip_grad_norm", "{max: 5}"),
    ("clip_grad_norm", "{norm_type: 2}"),
    ("clip_grad_norm", "{max_norm: -1}"),
    ("field_separator", '"ab"'),
    ("encoding", "no-such-encoding"),
]


@pytest.mark.parametrize(("key", "text"), REFUSED, ids=[f"{key}={text}" for key, text in REFUSED])
def test_a_wrong_type_or_range_is_refused(key: str, text: str, yaml_file) -> None:
    """From the command line and from a file: one fault, which begins with its place and names the key."""
    found = faults(f"--{key}={text}")
    assert len(found) == 1
    assert found[0].startswith(f"--{key}: ")
    path = yaml_file(f"# a comment\n{key}: {text}\n")
    found = faults(files=(path,))
    assert len(found) == 1
    assert found[0].startswith(f"{path}, line 2: ")
    assert key in found[0]


@pytest.mark.parametrize(
    ("key", "text", "named"),
    [
        ("metrics", "[Foo]", "'Foo'"),
        ("metrics", "[Recall, ndgc]", "'ndgc'"),
        ("metrics", "[Recall@10]", "'Recall@10'"),
        ("metrics", "[]", "metrics"),
        ("topk", "[]", "topk"),
        ("valid_metric", "Foo@10", "'Foo@10'"),
        ("valid_metric", "NDCG", "'NDCG'"),
        ("valid_metric", "ItemCoverage@10", "'ItemCoverage@10'"),
    ],
)
def test_metrics_that_cannot_be_computed_are_refused(key: str, text: str, named: str, yaml_file) -> None:
    """By the key and its place, the metric, and what was expected."""
    found = faults(f"--{key}={text}")
    assert len(found) == 1
    assert named in found[0]
    assert "expected" in found[0] or "set by topk" in found[0]
    assert f"--{key}" in found[0]
    path = yaml_file(f"\n\n{key}: {text}\n")
    assert f"{path}, line 3" in faults(files=(path,))[0]


def test_recboles_own_models_train_on_prefixes_only() -> None:
    """`train_mode: all_positions` needs a causal state at every position, which RecBole's GRU4Rec does not offer."""
    found = faults("--train_mode=all_positions", model="GRU4Rec")
    assert len(found) == 1
    assert "train_mode" in found[0]
    assert "GRU4Rec" in found[0]


def test_a_width_that_the_attention_heads_do_not_divide_is_refused() -> None:
    """hidden_size 10 with n_heads 3: both are named."""
    found = faults("--hidden_size=10", "--n_heads=3", model="SASRecMoS")
    assert len(found) == 1
    assert "hidden_size 10" in found[0]
    assert "n_heads 3" in found[0]


def test_eval_args_are_read_beside_the_split_of_their_name() -> None:
    """Shares and what is held out stay; a value of one's own is the stronger one; another split says what is lost."""
    ratios = "--eval_args={split: {RS: [0.5, 0.2, 0.3]}, order: TO, group_by: user}"
    for split in ([], ["--split=ratio"]):
        found = values(ratios, *split)
        assert (found["split"], found["valid_ratio"], found["test_ratio"]) == ("ratio", 0.2, 0.3)
    assert values(ratios, "--split=ratio", "--test_ratio=0.1")["test_ratio"] == 0.1
    without = values("--eval_args={split: {RS: [0.8, 0, 0.2]}, order: TO, group_by: user}")
    assert (without["split"], without["valid_ratio"], without["test_ratio"]) == ("ratio", 0, 0.2)
    by_time = values("--eval_args={split: {RS: [8, 1, 1]}, order: TO, group_by: none}", "--split=temporal")
    assert (by_time["test_share"], by_time["context_reach"]) == (0.1, "past")
    last = values("--eval_args={split: {LS: test_only}, order: TO}", "--split=leave_one_out")
    assert last["held_out"] == "test_only"


@pytest.mark.parametrize(
    ("eval_args", "split", "told"),
    [
        ("{split: {RS: [0.5, 0.2, 0.3]}, order: TO, group_by: user}", "leave_one_out", ""),
        ("{split: {RS: [0.6, 0.2, 0.2]}, order: RO, group_by: user}", "ratio", "valid_ratio and test_ratio"),
        ("{split: {RS: [0.7, 0.3]}, order: TO, group_by: user}", "ratio", "valid_ratio and test_ratio"),
        ("{split: {RS: [0.7, 0.1, 0.2]}, order: TO, group_by: item}", "ratio", "valid_ratio and test_ratio"),
        ("{split: {TS: [0.6, 0.2, 0.2]}, order: TO}", "temporal", "valid_share and test_share"),
        ("{mode: full}", "temporal", "valid_share and test_share"),
    ],
)
def test_eval_args_beside_another_split_are_not_read_and_it_is_said(eval_args: str, split: str, told: str) -> None:
    """Also where they could not be had by themselves; a share of theirs is not the one that holds."""
    settings = load_settings("GRU4RecMoS", overrides=[f"--eval_args={eval_args}", f"--split={split}"])
    said = "--eval_args: eval_args: its split and order are not read, since split is set"
    assert settings.warnings == (said + (f"; the shares are {told}" if told else ""),)
    assert settings.values["valid_ratio"] == settings.values["test_ratio"] == 0.1


def test_a_data_set_without_a_name_is_a_fault() -> None:
    """As of a variable that is not set; it is not the default's data."""
    with pytest.raises(InputError, match="dataset is ''; expected a name"):
        load_settings("GRU4RecMoS", "")
    with pytest.raises(InputError, match="dataset is ''; expected a name"):
        load_settings("GRU4RecMoS", config_files=[{"dataset": ""}])


@pytest.mark.parametrize(("value", "seen"), [("True", False), ("False", True), ("None", "auto")])
def test_repeatable_is_filter_seen(value: str, seen: bool | str) -> None:
    assert values(f"--repeatable={value}")["filter_seen"] == seen
    for wrong in ("0", "maybe", "[False]"):
        (fault,) = faults(f"--repeatable={wrong}")
        assert "expected True or False; write filter_seen" in fault


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--encoding=utf-16", "expected an encoding in which a line end is one byte"),
        ("--encoding=utf-16-be", "expected an encoding in which a line end is one byte"),
        ("--clip_grad_norm=1.0", "expected a mapping, whose keys may be max_norm, norm_type"),
        ("--discretization={rating: {bucket: 3}}", "discretization"),
        ("--discretization={rating: {method: XX, bucket: 3}}", "'ED' or 'LD'"),
    ],
)
def test_what_could_not_be_read_or_done_is_refused(argument: str, message: str) -> None:
    (fault,) = faults(argument)
    assert message in fault


@pytest.mark.parametrize("interval", ["(.5,inf)", "[-.5,2.)", "(0,1];[3,4)"])
def test_intervals_as_recbole_reads_them(interval: str) -> None:
    assert values(f"--user_inter_num_interval={interval}")["user_inter_num_interval"] == interval


def test_encodings_that_write_a_mark_first() -> None:
    assert values("--encoding=utf-8-sig")["encoding"] == "utf-8-sig"


def test_a_text_stands_for_a_list_of_one() -> None:
    assert values("--numerical_features=rating")["numerical_features"] == ["rating"]
    assert values("--normalize_field=[a, b]")["normalize_field"] == ["a", "b"]


@pytest.mark.parametrize(
    "evaluation",
    [
        "{split: {RS: [0.8, 0.2]}}",
        "{split: {RS: [0.8, 0.2, 0]}}",
        "{split: {RS: [0, 0.8, 0.2]}}",
        "{split: {RS: [0.8, 0, 0.2]}, group_by: none}",
        "{split: {LS: valid_only}}",
        "{order: RO}",
        "{mode: uni100}",
        "{mode: {valid: uni100, test: full}}",
        "{group_by: item}",
        "{splt: {LS: valid_and_test}}",
    ],
)
def test_eval_args_of_another_protocol_are_refused(evaluation: str, yaml_file) -> None:
    """All models of a comparison share one split and one full ranking."""
    assert faults(f"--eval_args={evaluation}")[0].startswith("--eval_args: ")
    path = yaml_file(f"eval_args: {evaluation}\n")
    assert faults(files=(path,))[0].startswith(f"{path}, line 1: ")


@pytest.mark.parametrize("argument", ["--benchmark_filename=[train, test]", "--transform=mask", "--split=files"])
def test_what_would_change_the_meaning_of_a_result_is_refused(argument: str) -> None:
    """Keys that hold one value here, set to another one; files that are no three."""
    assert faults(argument)[0].startswith(argument.partition("=")[0])


def test_a_file_for_another_model_or_data_set_gives_way_with_a_warning(yaml_file) -> None:
    """`model:` and `dataset:` in a file hold where the caller names none; else the caller's, and a warning says so."""
    path = yaml_file("model: SASRecMoS\ndataset: beauty\n")
    found = load_settings("GRU4RecMoS", "ml-100k", [path])
    assert (found.model, found.dataset) == ("GRU4RecMoS", "ml-100k")
    assert [line.startswith(f"{path}, line {number}") for number, line in enumerate(found.warnings, 1)] == [True, True]
    found = load_settings(config_files=[path])
    assert (found.model, found.dataset, found.warnings) == ("SASRecMoS", "beauty", ())
    assert load_settings("SASRecMoS", None, [path], beside=["GRU4RecMoS"]).dataset == "beauty"
    assert values(files=(yaml_file("model: GRU4RecMoS\ndataset: ml-100k\n"),)) == values()
    with pytest.raises(InputError, match="no model is named"):
        load_settings(config_files=[yaml_file("dataset: beauty\n")])


def test_all_faults_are_reported_at_once(yaml_file) -> None:
    """Faults of every sort in two files and four arguments: one line each, each with its place."""
    first = yaml_file("epochs: 3\nlearnig_rate: 0.1\nepochs: 3\neval_args: {order: RO}\n", "first.yaml")
    second = yaml_file("topk: [10,\n", "second.yaml")
    missing = first.with_name("missing.yaml")
    found = faults("--mos_heads=0", "--nonsense=1", "stray", "--learner=adan", files=(first, second, missing))
    places = [
        f"{first}, line 2: ",
        f"{first}, line 4: ",
        f"{second}, line 2: ",
        f"{missing}: ",
        "--mos_heads: ",
        "--nonsense: ",
        "argument 'stray': ",
        "--learner: ",
    ]
    for place in places:
        assert sum(line.startswith(place) for line in found) == 1, place
    assert len(found) == len(places)


def test_faults_of_single_values_and_of_metrics_are_reported_at_once() -> None:
    """An unknown metric is not held back until the number of heads is right."""
    text = "\n".join(faults("--mos_heads=0", "--metrics=[Foo]", "--nonsense=1"))
    assert "mos_heads" in text
    assert "'nonsense'" in text
    assert "'Foo'" in text
    text = "\n".join(faults("--negative_sampling=in_batch", "--train_batch_size=1", "--metrics=[Foo]", "--nonsense=1"))
    assert "train_batch_size is 1" in text
    assert "'nonsense'" in text
    assert "'Foo'" in text


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("GRU4RecMoS", ["--benchmark_filename=[1]"]),
        ("GRU4RecMoS", ["--split=files", "--benchmark_filename=[1]"]),
        ("GRU4RecMoS", ["--negative_sampling=in_batch", "--train_batch_size=1", "--n_negatives=x"]),
        ("GRU4Rec", ["--loss_type=BPR", "--train_neg_sample_args={sample_num: x}"]),
    ],
)
def test_a_refused_value_is_not_blamed_for_the_default_in_its_place(model: str, arguments: list[str]) -> None:
    """Whether values go together is asked where each is right by itself."""
    (line,) = faults(*arguments, model=model)
    assert line.startswith(arguments[-1].partition("=")[0])


# ---------------------------------------------------------------------------------------------------- accepted values


@pytest.mark.parametrize("text", ["1e-3", "0.001", "1.0e-3", "1E-3", "+1e-3", "10e-4"])
def test_numbers_with_exponents_are_numbers(text: str, yaml_file) -> None:
    """YAML 1.1 would make a text of 1e-3."""
    assert values(f"--learning_rate={text}")["learning_rate"] == 0.001
    assert values(files=(yaml_file(f"learning_rate: {text}\n"),))["learning_rate"] == 0.001


@hypothesis_settings(max_examples=25, deadline=None)
@given(st.floats(min_value=1e-12, max_value=1e12, allow_nan=False))
def test_every_float_as_python_prints_it_is_read_back_exactly(value: float) -> None:
    """`--learning_rate=<repr of a float>` is that float."""
    assert values(f"--learning_rate={value!r}")["learning_rate"] == value


@pytest.mark.parametrize("interval", ["[5,inf)", "[5,10]", "(0,1];[3,4)", "[5, inf)"])
def test_intervals_are_texts_as_recbole_writes_them(interval: str, yaml_file) -> None:
    """Although "[5,inf)" is no YAML and "[5,10]" a YAML list."""
    assert values(f"--user_inter_num_interval={interval}")["user_inter_num_interval"] == interval
    path = yaml_file(f'item_inter_num_interval: "{interval}"\nval_interval: {{rating: "{interval}"}}\n')
    found = values(files=(path,))
    assert found["item_inter_num_interval"] == interval
    assert found["val_interval"] == {"rating": interval}


@pytest.mark.parametrize("text", ["None", "~", "null"])
@pytest.mark.parametrize("key", ["user_inter_num_interval", "clip_grad_norm", "rm_dup_inter", "val_interval"])
def test_none_in_yaml_and_in_pythons_spelling(key: str, text: str, yaml_file) -> None:
    """From the command line and from a file that sets it back, over a file that sets something."""
    something = {
        "user_inter_num_interval": '"[5,inf)"',
        "clip_grad_norm": "{max_norm: 5}",
        "rm_dup_inter": "first",
        "val_interval": '{rating: "[3,inf)"}',
    }
    path = yaml_file(f"{key}: {something[key]}\n")
    assert values(files=(path,))[key] is not None
    assert values(f"--{key}={text}", files=(path,))[key] is None
    assert values(files=(path, yaml_file(f"{key}: {text}\n", "back.yaml")))[key] is None


def test_metrics_in_any_spelling(yaml_file) -> None:
    """RecBole's names in any case, a single cut-off without brackets; the selection metric in RecBole's spelling."""
    loaded = load_settings(
        "GRU4RecMoS", "ml-100k", overrides=["--metrics=[recall, GAUC]", "--topk=5", "--valid_metric=recall@5"]
    )
    assert loaded.metric_names == ["Recall@5", "GAUC"]
    assert loaded.values["valid_metric"] == "Recall@5"


def test_a_pairwise_loss_brings_its_negative() -> None:
    """RecBole's GRU4Rec samples no negatives with a cross-entropy, and one per target with loss_type BPR."""
    assert values(model="GRU4Rec")["train_neg_sample_args"] is None
    sampled = values("--loss_type=BPR", model="GRU4Rec")["train_neg_sample_args"]
    assert (sampled["distribution"], sampled["sample_num"]) == ("uniform", 1)


def test_documented_values_of_recboles_own_keys_are_accepted() -> None:
    """`reranker_CAN_NUM` is a text "500,100,20" or one number in RecBole's documentation of GRU4RecCPR."""
    assert str(values("--reranker_CAN_NUM=20", model="GRU4RecCPR")["reranker_CAN_NUM"]) == "20"
    assert values("--reranker_CAN_NUM=20,10", model="GRU4RecCPR")["reranker_CAN_NUM"] == "20,10"


RECBOLE_YAML = """\
# A RecBole configuration as its users have it.
gpu_id: '0'
show_progress: False
state: INFO
checkpoint_dir: saved
worker: 0
USER_ID_FIELD: user_id
ITEM_ID_FIELD: item_id
TIME_FIELD: timestamp
load_col:
  inter: [user_id, item_id, timestamp]
val_interval: ~
user_inter_num_interval: "[5,inf)"
train_neg_sample_args: ~
benchmark_filename: ~
epochs: 20
train_batch_size: 256
eval_args:
  split: {'LS': 'valid_and_test'}
  group_by: user
  order: TO
  mode: full
metrics: ["Recall", "MRR", "NDCG", "Hit", "Precision"]
topk: [10]
valid_metric: MRR@10
"""


@pytest.mark.parametrize("model", ["GRU4RecMoS", "GRU4Rec", "SASRec"])
def test_recbole_yaml_is_accepted_as_it_is(model: str, yaml_file) -> None:
    """Keys that do nothing here are said to have no effect, once each and with their lines; the rest holds."""
    path = yaml_file(RECBOLE_YAML)
    loaded = load_settings(model, "ml-100k", [path])
    without_effect = {2: "gpu_id", 3: "show_progress", 4: "state", 5: "checkpoint_dir", 6: "worker"}
    assert len(loaded.warnings) == len(without_effect)
    for (line, key), warning in zip(without_effect.items(), loaded.warnings, strict=True):
        assert warning.startswith(f"{path}, line {line}: {key} ")
        assert "no effect" in warning
    assert (loaded.values["epochs"], loaded.values["valid_metric"]) == (20, "MRR@10")
    config = loaded.recbole_config(torch.device("cpu"))
    assert (config["epochs"], config["topk"], config["train_batch_size"]) == (20, [10], 256)
    assert config["eval_args"]["split"] == {"LS": "valid_and_test"}


@pytest.mark.parametrize("mode", ["full", "{valid: full, test: full}"])
def test_eval_args_that_say_what_is_in_force_are_accepted(mode: str) -> None:
    """The leave-one-out split with a full ranking, in both of RecBole's spellings."""
    found = values(f"--eval_args={{split: {{LS: valid_and_test}}, order: TO, mode: {mode}}}")
    assert found["eval_args"] == LEAVE_ONE_OUT


@pytest.mark.parametrize(
    ("evaluation", "taken"),
    [
        (
            "{order: TO, mode: full}",
            ["split is not given and is taken as {LS: valid_and_test}, where RecBole takes RS"],
        ),
        ("{split: {LS: valid_and_test}}", ["order is not given and is taken as TO: a sequence is ordered by time"]),
        ("{split: {RS: [8, 1, 1]}}", ["order is not given and is taken as TO: a sequence is ordered by time"]),
        ("{split: {LS: valid_and_test}, order: TO}", []),
    ],
)
def test_what_eval_args_leave_out_is_said(evaluation: str, taken: list[str]) -> None:
    """RecBole would take {RS: [0.8, 0.1, 0.1]} and order: RO."""
    found = load_settings("BPR", overrides=[f"--eval_args={evaluation}"])
    assert list(found.warnings) == [f"--eval_args: eval_args: {one}" for one in taken]


def test_a_loss_of_models_beside_is_no_fault(yaml_file) -> None:
    """It is said that the model does not learn by it; alone it is refused."""
    path = yaml_file("loss_type: BPR\n")
    found = load_settings("GRU4RecMoS", config_files=[path], beside=["SASRec", "GRU4RecMoS"])
    (warning,) = found.warnings
    assert "loss_type BPR is for other models; GRU4RecMoS learns by cross-entropy" in warning
    assert "loss_type is 'BPR'; expected CE" in faults(files=(path,))[0]


def test_a_folder_by_its_place_and_a_file_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "toy.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n")
    monkeypatch.chdir(folder)
    for place in (".", "./", "../toy"):
        found = load_settings("Pop", place)
        assert (found.dataset, Path(found.values["data_path"]).resolve()) == ("toy", tmp_path.resolve())
    with pytest.raises(InputError, match=f"toy.inter: an atomic file; expected its folder, {folder}"):
        load_settings("Pop", "toy.inter")


# ---------------------------------------------------------------------------------------------------- broken YAML


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("epochs: 1\nmos_heads: [1,\n", 3),
        ("epochs: 1\n- a\n", 2),
        ("\tepochs: 3\n", 1),
        ("epochs: 1\n---\nepochs: 2\n", 2),
        ("- epochs\n- 3\n", 1),
        ("just text\n", 1),
        ("epochs: *unknown\n", 1),
        ("epochs: 3\nseed: !!int abc\n", 2),
        ("epochs: 3\ndata_path: 2020-13-45\n", 2),
        ("epochs: 3\nseed: !!python/name:os.system\n", 2),
    ],
)
def test_broken_yaml_is_refused_with_its_line(content: str, line: int, yaml_file) -> None:
    """Bad syntax, several documents, no mapping, values that are none of their tag."""
    path = yaml_file(content)
    found = faults(files=(path,))
    assert len(found) == 1
    assert found[0].startswith(f"{path}, line {line}: ")


@pytest.mark.parametrize("content", [b"epochs: \xff\xfe\n", b"epochs: 1\x00\n", b"encoding: caf\xe9\n"])
def test_a_file_that_is_no_text_is_refused(content: bytes, yaml_file) -> None:
    """Bytes that are not UTF-8, and control characters."""
    path = yaml_file(content)
    assert faults(files=(path,))[0].startswith(str(path))


def test_of_a_key_that_occurs_twice_the_last_one_counts(yaml_file) -> None:
    """As in RecBole, at the top and within a value; a warning names the line. What `<<` merges may be overridden."""
    path = yaml_file("epochs: 3\nclip_grad_norm: {max_norm: 1, max_norm: 2}\nepochs: 4\n")
    found = load_settings("GRU4RecMoS", "ml-100k", [path])
    assert (found.values["epochs"], found.values["clip_grad_norm"]) == (4, {"max_norm": 2})
    assert sorted(line.partition(": ")[0] for line in found.warnings) == [f"{path}, line {line}" for line in (2, 3)]
    merged = yaml_file("clip_grad_norm: &norm {max_norm: 1}\nval_interval: {<<: {a: '[1,2]'}, a: '[2,3]'}\n")
    found = load_settings("GRU4RecMoS", "ml-100k", [merged])
    assert (found.values["val_interval"], found.warnings) == ({"a": "[2,3]"}, ())


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    """By their paths."""
    for path in (tmp_path / "missing.yaml", tmp_path):
        assert faults(files=(path,))[0].startswith(str(path))


@pytest.mark.parametrize("content", ["", "# nothing but a comment\n"])
def test_an_empty_file_sets_nothing(content: str, yaml_file) -> None:
    """It is no fault either."""
    assert values(files=(yaml_file(content),)) == values()


@pytest.mark.parametrize("argument", ["--data_path=2020-13-45", "--data_path=!!int abc", "--data_path=a: b: c"])
def test_a_text_setting_is_the_text_as_typed(argument: str) -> None:
    """Also where the text looks like YAML that cannot be read: a folder may be called 2020-13-45."""
    assert values(argument)["data_path"] == argument.partition("=")[2]


# ---------------------------------------------------------------------------------------------------- nothing is run


def code_texts(target: Path) -> list[str]:
    """Returns texts that create the target if anything evaluates them as Python or as a YAML tag."""
    return [
        f"__import__('os').system('touch {target}')",
        f"[__import__('pathlib').Path('{target}').touch()]",
        f"!!python/object/apply:os.system ['touch {target}']",
        f"!!python/object/new:os.system ['touch {target}']",
    ]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("key", ["mos_heads", "learning_rate", "metrics", "user_inter_num_interval", "seed"])
def test_code_as_a_value_is_refused_and_not_run(key: str, number: int, tmp_path: Path, yaml_file) -> None:
    """From the command line, from a mapping and from a file."""
    target = tmp_path / "touched"
    text = code_texts(target)[number]
    sources: list[dict[str, Any]] = [
        {"overrides": [f"--{key}={text}"]},
        {"overrides": {key: text}},
        {"config_files": [yaml_file(f"{key}: {text}\n")]},
    ]
    for source in sources:
        with pytest.raises(InputError):
            load_settings("GRU4RecMoS", "ml-100k", **source)
        assert not target.exists()


@pytest.mark.parametrize("number", range(4))
def test_code_in_a_text_setting_stays_text(number: int, tmp_path: Path) -> None:
    """Also once RecBole's own configuration object is made of it."""
    target = tmp_path / "touched"
    text = code_texts(target)[number]
    for overrides in ([f"--data_path={text}"], {"data_path": text}):
        loaded = load_settings("GRU4RecMoS", "toy", overrides=overrides)
        assert loaded.values["data_path"] == text
        assert text in loaded.recbole_config(torch.device("cpu"))["data_path"]
        assert not target.exists()


def test_keys_are_never_evaluated(tmp_path: Path) -> None:
    """Python as a key is an unknown key."""
    target = tmp_path / "touched"
    with pytest.raises(InputError, match="unknown key"):
        load_settings("GRU4RecMoS", "ml-100k", overrides=[f"--__import__('os').system('touch {target}')=1"])
    assert not target.exists()


def test_the_command_line_of_the_process_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole's Config would take `--key=value` from sys.argv, behind the back of whoever calls."""
    expected = load_settings("GRU4RecMoS", "ml-100k")
    monkeypatch.setattr(sys, "argv", ["notebook", "--learning_rate=0.5", "--epochs=1", "--nonsense=1"])
    loaded = load_settings("GRU4RecMoS", "ml-100k")
    assert loaded == expected
    config = loaded.recbole_config(torch.device("cpu"))
    for key in ("learning_rate", "epochs"):
        assert config[key] == expected.values[key]
    assert expected.values["learning_rate"] != 0.5
    assert expected.values["epochs"] != 1
    assert config["nonsense"] is None
    assert sys.argv == ["notebook", "--learning_rate=0.5", "--epochs=1", "--nonsense=1"]


@pytest.mark.parametrize("visible", ["7", "", None])
def test_the_environment_is_left_alone(visible: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole's Config sets CUDA_VISIBLE_DEVICES from gpu_id, for the whole process."""
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    before = dict(os.environ)
    load_settings("GRU4RecMoS", "ml-100k", overrides=["--gpu_id=3"]).recbole_config(torch.device("cpu"))
    assert dict(os.environ) == before


# ---------------------------------------------------------------------------------------------------- models by name


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("GRU4RecMos", "GRU4RecMoS"), ("gru4rec", "GRU4Rec"), ("SASRek", "SASRec"), ("ItemKnn", "ItemKNN")],
)
def test_an_unknown_model_is_refused_with_the_nearest(name: str, nearest: str) -> None:
    """Names that differ in case or a letter."""
    with pytest.raises(InputError, match=f"(?s){name}.*did you mean.*{nearest}"):
        load_settings(name)


@pytest.mark.parametrize("name", ["XGBoost", "DeepFM", "../GRU4Rec", "", "GRU4Rec.GRU4Rec", "os"])
def test_what_is_no_recommender_of_interactions_is_refused(name: str) -> None:
    """Decision trees, models that need features, and what is no name at all."""
    with pytest.raises(InputError):
        load_settings(name)
