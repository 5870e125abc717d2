"""Sweep files out of RecBole's tuning files."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mos_recbole import cli
from mos_recbole.settings import YamlLoader
from mos_recbole.sweep import Planner, read_sweep_file, sweep_from_recbole
from mos_recbole.sweep.from_recbole import _multiples
from tests.sweeps import refused

# In the shape of the file that comes with RecBole's source, and of those in its documents of models.
TUNING = """learning_rate loguniform -8,0
embedding_size choice [64, 96, 128]
train_batch_size choice [512,1024,2048]
hidden_size choice [128]
"""


def made(folder: Path, text: str, overrides: tuple[str, ...] = (), **changes: Any) -> str:
    """Returns the sweep file of a tuning file."""
    path = folder / "hyper.test"
    path.write_text(text, encoding="utf-8")
    changes = {key: value for key, value in ({"models": ["GRU4Rec"]} | changes).items() if value}
    return sweep_from_recbole(path, changes, overrides, folder)


def content_of(*arguments: Any, **changes: Any) -> dict[str, Any]:
    content = yaml.load(made(*arguments, **changes), Loader=YamlLoader)
    assert isinstance(content, dict)
    return content


def test_a_seed_that_is_varied_and_given(tmp_path: Path) -> None:
    """As of any other key: one of the two cannot be meant."""
    message = refused(partial(made, tmp_path, f"{TUNING}seed choice [1,2]\n", ("seed=5",)))
    assert message == f"--seed: {tmp_path}/hyper.test, line 5 varies seed; expected one of the two"


def test_a_range_makes_a_random_search(tmp_path: Path) -> None:
    """Bounds are natural logarithms; one value is a setting; RecBole's number of configurations and text."""
    content = content_of(tmp_path, TUNING)
    assert content["space"] == {
        "learning_rate": {"loguniform": [pytest.approx(math.exp(-8), rel=1e-12), 1.0]},
        "embedding_size": {"choice": [64, 96, 128]},
        "train_batch_size": {"choice": [512, 1024, 2048]},
    }
    assert content["settings"] == {"hidden_size": 128}
    assert content["search"] == {"method": "random", "samples": 100}
    assert "# loguniform -8,0" in made(tmp_path, TUNING)
    few = content_of(tmp_path, "embedding_size choice [64, 96]", search={"samples": 3})
    assert few["search"] == {"method": "random", "samples": 3}
    assert few["space"] == {"embedding_size": {"choice": [64, 96]}}


@pytest.mark.parametrize(
    ("line", "parameter"),
    [
        ("learning_rate choice [1e-2,0.001]", {"grid": [0.01, 0.001]}),
        ("embedding_size choice (64, 32)", {"grid": [64, 32]}),
        ("embedding_size\tchoice  [64,  32]", {"grid": [64, 32]}),
        ("embedding_size choice ['64','32']", {"grid": [64, 32]}),
        ('numerical_features choice [\'["a"]\',\'["b", "c"]\']', {"grid": [["a"], ["b", "c"]]}),
        ("numerical_features choice [['a'],('b','c')]", {"grid": [["a"], ["b", "c"]]}),
        ("numerical_features choice \"['a']\"", {"grid": [["a"]]}),
        ("loss_type choice ['CE','BPR']", {"grid": ["CE", "BPR"]}),
        ("shuffle choice ['True','False']", {"grid": [True, False]}),
        ("rm_dup_inter choice ['None', 'first']", {"grid": [None, "first"]}),
        ("embedding_size choice [64,64,32]", {"grid": [64, 32]}),
        ("num_layers quniform 1,4,1", {"grid": [1, 2, 3, 4]}),
        ("embedding_size quniform 16,64,16", {"grid": [16, 32, 48, 64]}),
        ("dropout_prob quniform 0,0.5,0.1", {"grid": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]}),
        ("embedding_size quniform 1,500,1", {"randint": [1, 501]}),
        ("num_layers quniform 0.5,3.5,1", {"grid": [1, 2, 3]}),
        ("num_layers quniform 0.6,3.4,1", {"grid": [1, 2, 3]}),
        ("num_layers quniform 1.2,1.3,1", {"grid": [1]}),
        ("embedding_size quniform 0.5,500.5,1", {"randint": [1, 501]}),
        ("dropout_prob quniform 0.05,0.35,0.1", {"grid": [0.1, 0.2, 0.3]}),
        ("dropout_prob uniform 0.1, 0.5", {"uniform": [0.1, 0.5]}),
        ("weight_decay loguniform -9.5,-1e0", {"loguniform": [math.exp(-9.5), math.exp(-1)]}),
    ],
)
def test_ranges(line: str, parameter: dict[str, Any], tmp_path: Path) -> None:
    """As RecBole reads them: text that is a value is that value, and all choices together are a grid."""
    assert content_of(tmp_path, f"# a comment\n\n  {line} \n")["space"] == {line.split()[0]: parameter}


@pytest.mark.parametrize(
    ("line", "fragments"),
    [
        ("lerning_rate choice [1]", ["unknown key 'lerning_rate'", "did you mean learning_rate?"]),
        ("lr choice [1,2]", ["unknown key 'lr'", "did you mean learning_rate?"]),
        ("batch_size choice [1,2]", ["did you mean train_batch_size?"]),
        ("valid_metric choice ['MRR@10']", ["valid_metric", "a sweep sets it by metric"]),
        ("seed uniform 1,2", ["seed", "choice [a, b, c]"]),
        ("learning_rate in [1,2]", ["unknown kind 'in'", "choice, uniform, quniform, loguniform"]),
        ("learning_rate logunifrom -8,0", ["did you mean loguniform?"]),
        ("learning_rate choice", ["'learning_rate choice'", "KEY choice"]),
        ("embedding_size choice [4, 8. 16]", ["embedding_size", "'[4, 8. 16]'", "no list of values"]),
        ("embedding_size choice [64，128]", ["no list of values"]),
        ("embedding_size choice range(3)", ["no list of values"]),
        ("embedding_size choice __import__('os').getcwd()", ["no list of values"]),
        ("embedding_size choice []", ["is empty"]),
        ("learning_rate uniform 1", ["no range", "uniform LOW,HIGH"]),
        ("learning_rate uniform 2,1", ["the lower bound first"]),
        ("learning_rate loguniform [-8,0]", ["no range", "natural logarithms"]),
        ("learning_rate loguniform nan,0", ["no range"]),
        ("learning_rate loguniform 1,1000", ["too large"]),
        ("learning_rate quniform 0,1", ["quniform LOW,HIGH,STEP"]),
        ("learning_rate quniform 0,1,0", ["no range"]),
        ("learning_rate quniform 0,1,1e-6", ["1000001 steps of 1e-06"]),
    ],
)
def test_lines_that_are_refused(line: str, fragments: list[str], tmp_path: Path) -> None:
    """With file and line, all at once, and no code is run."""
    text = f"embedding_size choice [8,16]\n{line}\nnum_layers choose [1]\n"
    lines = refused(partial(made, tmp_path, text)).splitlines()
    (fault,) = [one for one in lines if one.startswith(f"{tmp_path / 'hyper.test'}, line 2: ")]
    assert [one for one in lines if one.startswith(f"{tmp_path / 'hyper.test'}, line 3: ")]
    assert len(lines) == 2
    for fragment in fragments:
        assert fragment in fault


def test_files_that_are_no_tuning_files(tmp_path: Path) -> None:
    assert "nothing to search" in refused(lambda: made(tmp_path, "# nothing\n"))
    assert "expected --model too" in refused(lambda: made(tmp_path, TUNING, models=[]))
    missing = partial(sweep_from_recbole, tmp_path / "none", {"models": ["Pop"]}, [], tmp_path)
    assert "No such file" in refused(missing)
    (tmp_path / "latin").write_bytes(b"learning_rate choice [\xff]")
    assert "not UTF-8" in refused(partial(sweep_from_recbole, tmp_path / "latin", {"models": ["Pop"]}, [], tmp_path))


def test_seeds_and_metric(tmp_path: Path) -> None:
    """From the tuning file, the arguments, or RecBole's files, in the sweep's own words; options win."""
    config = tmp_path / "my.yaml"
    config.write_text("valid_metric: Recall@10\nseed: 7\n")
    content = content_of(tmp_path, TUNING, config=[str(config)])
    assert (content["seeds"], content["metric"], content["config"]) == ([7], "Recall@10", ["my.yaml"])
    content = content_of(tmp_path, TUNING + "seed choice [1,2]\n", ("--valid_metric=MRR@10", "--epochs=3"))
    assert (content["seeds"], content["metric"]) == ([1, 2], "MRR@10")
    assert content["settings"] == {"epochs": 3, "hidden_size": 128}
    assert content_of(tmp_path, TUNING + "seed choice [1,2]\n", seeds=[3])["seeds"] == [3]
    fault = refused(lambda: made(tmp_path, TUNING, ("--learning_rate=1",)))
    assert fault.startswith("--learning_rate: ")
    assert "hyper.test, line 1" in fault


def test_settings_of_other_models_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With a warning, as RecBole's own example has one of a context-aware model; the width has its name everywhere."""
    text = "mlp_hidden_size choice ['[64,64,64]','[128,128]']\nembedding_size choice [64,96]\nn_layers choice [1,2]\n"
    assert list(content_of(tmp_path, text, models=["SASRecMoS"])["space"]) == ["embedding_size", "n_layers"]
    (message,) = [record.getMessage() for record in caplog.records]
    assert "line 1: mlp_hidden_size is left out" in message
    nothing = refused(lambda: made(tmp_path, "mlp_hidden_size choice ['[64,64]']\n"))
    assert "nothing to search; GRU4Rec has none of its settings" in nothing


def test_what_changes_no_training_is_left_out(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With a warning: a sweep over it would be the same run twice, which plans refuse."""
    text = "topk choice ['[5,10]','[10, 20]']\nmetrics choice [['NDCG']]\nembedding_size choice [4,8]\n"
    content = content_of(tmp_path, text, datasets=[str(data)])
    assert list(content["space"]) == ["embedding_size"]
    assert [record.getMessage().split(": ")[1].split()[0] for record in caplog.records] == ["topk", "metrics"]
    file = tmp_path / "new.yaml"
    file.write_text(yaml.safe_dump(content))
    assert len(Planner(read_sweep_file(file), file, []).trials()) == 2


@pytest.mark.parametrize("bounds", [(0.5, 3.5, 1), (0.6, 3.4, 1), (1, 4, 1), (0.05, 0.35, 0.1), (1.2, 1.3, 1)])
def test_multiples_are_those_that_recbole_draws(bounds: tuple[float, float, float]) -> None:
    """Its quniform is hyperopt's: a uniform number, rounded to a multiple."""
    low, high, step = bounds
    drawn = np.round(np.random.default_rng(0).uniform(low, high, 10_000) / step) * step
    assert _multiples(*bounds)[1] == pytest.approx(np.unique(drawn.round(6)))


def test_model_and_data_of_recboles_files(tmp_path: Path) -> None:
    """Where no option names them."""
    config = tmp_path / "my.yaml"
    config.write_text("model: SASRec\ndataset: ml-1m\n")
    content = content_of(tmp_path, TUNING, models=[], config=[str(config)])
    assert (content["models"], content["datasets"]) == (["SASRec"], ["ml-1m"])
    assert content_of(tmp_path, TUNING, config=[str(config)])["models"] == ["GRU4Rec"]


def test_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key twice, as RecBole: the last one; bounds that are hardly meant as logarithms; a value twice."""
    text = "learning_rate choice [1]\nlearning_rate loguniform 0.001,0.01\nembedding_size choice [8,8,16]\n"
    assert list(content_of(tmp_path, text)["space"]["learning_rate"]) == ["loguniform"]
    messages = [record.getMessage() for record in caplog.records]
    assert any("line 2: the key 'learning_rate' occurs twice" in message for message in messages)
    assert any("line 2: loguniform 0.001,0.01 is from 1.001 to 1.01005" in message for message in messages)
    assert any("8 is listed twice" in message for message in messages)


def test_from_the_command_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file that is written, or printed, is a sweep file whose trials can be planned; no file is written over."""
    tuning, file = tmp_path / "hyper.test", tmp_path / "sweeps" / "new.yaml"
    tuning.write_text("learning_rate choice [0.01,0.001]\nembedding_size choice [4, 8]\nhidden_size choice [12]\n")
    (tmp_path / "base.yaml").write_text("epochs: 1\nvalid_metric: MRR@10\n")
    arguments = ["--from-recbole", tuning, "--model", "GRU4RecSoftmax", "GRU4RecMoS", "--dataset", data]
    arguments += ["--config", tmp_path / "base.yaml", "--MAX_ITEM_LIST_LENGTH=10"]
    assert cli.main(["sweep", *map(str, arguments)]) == 0
    printed = capsys.readouterr().out
    file.parent.mkdir()
    assert cli.main(["sweep", str(file), *map(str, arguments)]) == 0
    assert f"mos-recbole sweep {file} --dry-run" in capsys.readouterr().out
    assert {**yaml.safe_load(printed), "config": ["../base.yaml"]} == yaml.safe_load(file.read_text())
    sweep = read_sweep_file(file)
    assert (sweep.name, sweep.metric, sweep.config) == ("new", "MRR@10", ["../base.yaml"])
    trials = Planner(sweep, file, []).trials()
    assert len(trials) == 8
    for planned in trials:
        values = planned.settings.values
        assert (values["hidden_size"], values["epochs"], values["MAX_ITEM_LIST_LENGTH"]) == (12, 1, 10)
    before = file.read_text()
    for option in (["--dry-run"], ["--retry-failed"], ["--storage", "place"]):
        assert cli.main(["sweep", *map(str, arguments), *option]) == 2
        captured = capsys.readouterr()
        assert f"{option[0]}: goes with a sweep" in captured.err
        assert captured.out == ""
    assert cli.main(["sweep", str(file), *map(str, arguments)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert file.read_text() == before


def test_a_sweep_needs_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sweep", "--dry-run"]) == 2
    assert "no sweep file; expected FILE" in capsys.readouterr().err
