"""A user's own heads and encoders: the example of docs/plugins.md as it stands there, and files with faults."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from recbole.model.abstract_recommender import GeneralRecommender
from torch.nn import functional

from mos_recbole import cli
from mos_recbole.errors import InputError
from mos_recbole.experiment import load_settings
from mos_recbole.models import (
    ENCODERS,
    HEADS,
    SHARED_SETTINGS,
    load_plugin,
    model_name,
    own_model_names,
    resolve_model,
)
from mos_recbole.results import RECORD_FILE, find_records
from mos_recbole.settings import RecBoleConfig
from mos_recbole.settings.checks import NO_SETTINGS

DOC = Path(__file__).parents[2] / "docs" / "plugins.md"
SMALL = ["--embedding_size=8", "--epochs=2", "--MAX_ITEM_LIST_LENGTH=10"]


@contextlib.contextmanager
def forgetting() -> Iterator[None]:
    """Leaves the known encoders and heads as they were."""
    encoders, heads = dict(ENCODERS), dict(HEADS)
    yield
    ENCODERS.clear()
    HEADS.clear()
    ENCODERS.update(encoders)
    HEADS.update(heads)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    with forgetting():
        yield


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """The first example of the documentation, as a file."""
    path = tmp_path / "my_heads.py"
    path.write_text(re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)[0], encoding="utf-8")
    return path


def test_the_example_runs_as_the_documentation_says(
    plugin: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Head and encoder have models with all others by name; their settings are checked and shown."""
    place = ["--dataset", str(data), "--plugin", str(plugin)]
    common = ["--output", str(tmp_path / "out"), *place, *SMALL]
    heads = ["--head", "euclid", "softmax", "--euclid_scale=2.0", "--hidden_size=8"]
    assert cli.main(["run", "--model", "SASRec", "GRU4Rec", *heads, *common]) == 0
    assert "GRU4RecEuclid" in capsys.readouterr().out
    assert cli.main(["run", "--model", "DecayMoS", "DecayEuclid", "DecayMoT", "--decay=0.5", *common]) == 0
    records = {record.model: record for record in find_records(tmp_path / "out")}
    assert set(records) == {
        *("SASRecEuclid", "GRU4RecEuclid", "SASRecSoftmax", "GRU4RecSoftmax", "DecayMoS", "DecayEuclid"),
        "DecayMoT",
    }
    assert cli.main(["spectrum", "DecayEuclid", "--results", str(tmp_path / "out"), *place]) == 0
    plugin.write_text(plugin.read_text(encoding="utf-8") + "# edited", encoding="utf-8")
    assert cli.main(["spectrum", "DecayEuclid", "--results", str(tmp_path / "out"), *place]) == 2
    assert "has changed since; expected the same --plugin" in capsys.readouterr().err
    assert records["SASRecEuclid"].settings["euclid_scale"] == 2.0
    assert records["DecayMoS"].settings["train_mode"] == "all_positions"
    assert set(records["DecayEuclid"].settings["plugins"]) == {"Decay", "euclid"}
    assert "plugins" not in records["GRU4RecSoftmax"].settings
    assert np.isfinite(records["DecayEuclid"].outcomes()["log_probability"]).all()
    with pytest.raises(InputError, match=r"euclid_scale is 'much'"):
        load_settings("GRU4RecEuclid", overrides=["--euclid_scale=much"])


def test_the_examples_head_and_encoder_are_what_they_say(plugin: Path) -> None:
    """Log-probabilities and gradients of the head, and states of the encoder, against the formulas."""
    load_plugin(plugin)
    torch.manual_seed(0)
    head = HEADS["euclid"].build({"item_bias": True, "euclid_scale": 0.7}, 9, 4).double()
    torch.nn.init.normal_(head.item_bias)
    state, weight = torch.randn(5, 4, dtype=torch.float64), torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    logits = -0.7 * (state[:, None] - weight[None]).square().sum(-1) + head.item_bias
    expected = torch.log_softmax(logits, dim=-1)
    torch.testing.assert_close(head.log_prob(state, weight), expected.detach())
    target = torch.tensor([1, 8, 3, 0, 2])
    (by_hand,) = torch.autograd.grad(functional.nll_loss(expected, target), weight)
    (found,) = torch.autograd.grad(head.loss(state, weight, target), weight)
    torch.testing.assert_close(found, by_hand)

    encoder = ENCODERS["Decay"].build({"ITEM_ID_FIELD": "item_id", "embedding_size": 4, "decay": 0.5}, FakeData())
    items = torch.tensor([[3, 5, 1]])
    first, second, third = encoder.item_embedding(items)[0]
    torch.testing.assert_close(encoder(items)[0, 2], third + second / 2 + first / 4)


class FakeData:
    """As much of a data set as the example reads."""

    def num(self, field: str) -> int:
        return 9


def test_an_edited_file_makes_new_runs(plugin: Path, data: Path, tmp_path: Path) -> None:
    """The file is part of a run's identity, for the models that use it and for those only."""
    load_plugin(plugin)
    before = {name: load_settings(name).identity() for name in ("GRU4RecEuclid", "GRU4RecMoS")}
    load_plugin(plugin)
    assert load_settings("GRU4RecEuclid").identity() == before["GRU4RecEuclid"]
    plugin.write_text(plugin.read_text(encoding="utf-8").replace("Rate, 1.0", "Rate, 1.5"), encoding="utf-8")
    load_plugin(plugin)
    edited = load_settings("GRU4RecEuclid")
    assert edited.values["euclid_scale"] == 1.5
    assert edited.identity()["plugins"] != before["GRU4RecEuclid"]["plugins"]
    assert load_settings("GRU4RecMoS").identity() == before["GRU4RecMoS"]


FAULTS = {
    "x = 1\n": r"registers neither an encoder nor a head",
    "import torch\n\ndef (\n": r"line 3: SyntaxError",
    "import torch\nx = 1 / 0\n": r"line 2: ZeroDivisionError",
    "import no_such_package_anywhere\n": r"line 1: ModuleNotFoundError",
    "from mos_recbole.heads import MoSHead\nfrom mos_recbole.models import HeadSpec, register_head\n"
    "register_head(HeadSpec('new', 'New', MoSHead))\nregister_head(HeadSpec('mos', 'Other', MoSHead))\n": (
        r"head 'mos': the name is taken"
    ),
    "from mos_recbole.heads import MoSHead\nfrom mos_recbole.models import HeadSpec, register_head\n"
    "register_head(HeadSpec('a b', 'Other', MoSHead))\n": r"head 'a b': the name is no identifier",
    "from mos_recbole.heads import MoSHead\nfrom mos_recbole.models import HeadSpec, register_head\n"
    "register_head(HeadSpec('Other', 'Other', MoSHead))\n": r"head 'Other': the name is not in lower case",
    "from mos_recbole.heads import MoSHead\nfrom mos_recbole.models import HeadSpec, register_head\n"
    "register_head(HeadSpec('f', 'F', MoSHead))\n": r"head 'F': GRU4RecF is another model's name already",
    "from mos_recbole.models import Encoder, EncoderSpec, register_encoder\n"
    "register_encoder(EncoderSpec('GRU4RecMo', Encoder))\n"
    "from mos_recbole.models import HeadSpec, register_head\nfrom mos_recbole.heads import MoSHead\n"
    "register_head(HeadSpec('s', 'S', MoSHead))\n": r"head 'S': GRU4RecMoS is another model's name already",
    "import sys\nsys.exit(3)\n": r"line 2: SystemExit: 3",
}


@pytest.mark.parametrize("source", FAULTS, ids=range(len(FAULTS)))
def test_a_file_with_a_fault_is_one_message(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, one message with the file, and nothing of it is known."""
    path = tmp_path / "broken.py"
    path.write_text(source, encoding="utf-8")
    known = {*ENCODERS, *HEADS}
    arguments = ["run", "--model", "GRU4RecMoS", "--plugin", str(path), "--output", str(tmp_path / "out")]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert re.search(rf"broken\.py.*{FAULTS[source]}", error), error
    assert "Traceback" not in error
    assert {*ENCODERS, *HEADS} == known
    assert not (tmp_path / "out").exists()


ENCODER = """
from torch import nn
from mos_recbole.heads import MoSHead
from mos_recbole.models import CausalEncoder, EncoderSpec, HeadSpec, RecBoleEncoder, register_encoder, register_head
from mos_recbole.specs import Positive, Setting
from recbole.model.sequential_recommender import NARM

class Plain(CausalEncoder):
    def __init__(self, n_items, width):
        super().__init__()
        self.width, self.item_embedding = width, nn.Embedding(n_items, width)

    def forward(self, item_seq_BL):
        return self.item_embedding(item_seq_BL)

class NoQuery(NARM):
    def forward(self, item_seq, item_seq_len):
        return self.item_embedding(item_seq)

SIZE = (Setting("size", Positive, 4, "Width.", "width"),)
register_encoder(EncoderSpec("Plain", Plain, SIZE, width="size"))
register_encoder(EncoderSpec("Unnamed", Plain, SIZE))
NARMS = {"embedding_size": 8, "hidden_size": 8, "n_layers": 1, "dropout_probs": [0.1, 0.1]}
register_encoder(EncoderSpec("NoQuery", RecBoleEncoder, tuple(Setting(key, object, value, "Of NARM.")
                 for key, value in NARMS.items()), recbole_model=NoQuery))
register_head(HeadSpec("vague", "Vague", MoSHead))
"""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("PlainMoS", None),
        ("UnnamedMoS", "encoder Unnamed has no setting 'embedding_size'; expected its EncoderSpec's width to name"),
        ("NoQueryMoS", r"NoQuery.forward gives \(\d+, \d+, 8\); an encoder's states are"),
        ("PlainVague", "own.py: TypeError: .*missing 1 required keyword-only argument: 'n_components'"),
    ],
)
def test_entries_that_do_not_fit_are_one_message(
    model: str, message: str | None, plugin: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What can be seen of an entry with its models only is told when one is run. Every --plugin counts."""
    path = tmp_path / "own.py"
    path.write_text(ENCODER, encoding="utf-8")
    place = ["--plugin", str(path), "--plugin", str(plugin), "--dataset", str(data), "--output", str(tmp_path / "out")]
    status = cli.main(["run", "--model", model, *place, "--epochs=1", "--quiet"])
    error = capsys.readouterr().err
    if message is None:
        assert status == 0, error
        return
    assert status == 2
    assert re.search(message, error), error
    assert not list(tmp_path.rglob(RECORD_FILE))


GOOD = {
    "components": "def components(self, state):\n"
    "        return state[:, None].expand(-1, 2, -1) * 1.0, self.prior(state).log_softmax(-1)",
    "n_components": "n_components = 2",
    "forward": "def forward(self, items):\n        return self.item_embedding(items).cumsum(1)",
    "table": "nn.Embedding(n_items, width)",
    "width": "self.width",
}
CHECKED = """
import torch
from torch import nn
from mos_recbole.heads import MixtureHead
from mos_recbole.models import CausalEncoder, EncoderSpec, HeadSpec, register_encoder, register_head
from mos_recbole.specs import Positive, Setting

class Own(MixtureHead):
    def __init__(self, n_items, width, *, item_bias=False):
        super().__init__(n_items, width, item_bias=item_bias)
        self.prior = nn.Linear(width, 2)
    {n_components}
    {components}

class Sum(CausalEncoder):
    def __init__(self, n_items, width):
        super().__init__()
        {width}, self.item_embedding = width, {table}
    {forward}

register_head(HeadSpec("own", "Own", Own))
register_encoder(EncoderSpec("Sum", Sum, (Setting("size", Positive, 4, "Width.", "width"),), width="size"))
"""
WRONG = {
    "fine": ({}, None),
    "weights in place of log weights": (
        {"components": GOOD["components"].replace("log_softmax", "softmax")},
        r"head Own: components gives log weights whose exponentials sum to \d.*; expected 1: the logarithms",
    ),
    "K forgotten": (
        {"n_components": ""},
        r"components gives vectors of shape \(5, 2, 4\); expected \[N, K, d\] = \(5, 1, 4\)",
    ),
    "one weight": (
        {"components": GOOD["components"].replace("(-1)", "(-1)[:, :1]")},
        r"components gives log weights of shape \(5, 1\); expected \[N, K\] = \(5, 2\)",
    ),
    "infinite": (
        {"components": GOOD["components"].replace("1.0", "torch.inf")},
        "components gives vectors that are not finite",
    ),
    "no components": ({"components": ""}, r"TypeError: .*abstract.*components"),
    "later items": (
        {"forward": GOOD["forward"].replace("cumsum(1)", "flip(1).cumsum(1)")},
        "encoder Sum: its states change with later items",
    ),
    "whether more items follow": (
        {"forward": GOOD["forward"] + " + (items > 0).sum(1)[:, None, None]"},
        "encoder Sum: its states change if the items after them are padding",
    ),
    "the next item, in short sequences": (
        {
            "forward": "def forward(self, items):\n        found = self.item_embedding(items)\n"
            "        short = (items == 0).any(1)[:, None, None]\n        return found + short * found.roll(-1, 1)"
        },
        "encoder Sum: its states change if the items after them are padding",
    ),
    "places from the end": (
        {
            "forward": "def forward(self, items):\n        place = torch.arange(items.shape[1]).flip(0)[None, :, None]"
            "\n        return self.item_embedding(items) + place"
        },
        "encoder Sum: its states change with the length of the batch",
    ),
    "other sequences": (
        {"forward": GOOD["forward"] + " - self.item_embedding(items).mean(0)"},
        "encoder Sum: its states change with the other sequences of a batch",
    ),
    "other states": (
        {"components": GOOD["components"].replace("1.0", "1.0 - state.mean(0)")},
        "head Own: log_prob changes with the other states of a batch",
    ),
    "one state": (
        {"forward": GOOD["forward"].replace("cumsum", "sum")},
        r"encoder Sum: forward gives states of shape \(2, 4\)",
    ),
    "few items": (
        {"table": "nn.Embedding(3, width)"},
        r"encoder Sum: item_embedding is 3 x 4; expected at least \d+ rows",
    ),
    "no table": ({"table": "None"}, r"encoder Sum: it has no item_embedding"),
    "no width": ({"width": "self.w"}, "encoder Sum: it has no width"),
    "later items, in tiny states": (
        {
            "table": "nn.Embedding(n_items, width, _weight=torch.randn(n_items, width) * 1e-4)",
            "forward": GOOD["forward"].replace("cumsum(1)", "mean(1, keepdim=True) + self.item_embedding(items)"),
        },
        "encoder Sum: its states change with later items",
    ),
    "later items, in training": (
        {"forward": GOOD["forward"] + " + self.training * self.item_embedding(items).mean(1, keepdim=True)"},
        "encoder Sum: while it is trained, its states change with later items",
    ),
    "infinite in training": (
        {"forward": GOOD["forward"] + " / (not self.training)"},
        "encoder Sum: forward gives states that are not finite while it is trained",
    ),
    "dropout": (
        {
            "forward": "def forward(self, items):\n        found = self.item_embedding(items).cumsum(1)\n"
            "        return nn.functional.dropout(found, 0.5, self.training)"
        },
        None,
    ),
    "double": ({"forward": GOOD["forward"] + ".double()"}, "encoder Sum: forward gives states of torch.float64"),
    "half": ({"forward": GOOD["forward"] + ".bfloat16()"}, "encoder Sum: forward gives states of torch.bfloat16"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_would_train_on_wrong_numbers_is_refused(
    name: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence with the file, before anything is trained; what is right trains."""
    changed, message = WRONG[name]
    path = tmp_path / "own.py"
    path.write_text(CHECKED.format(**GOOD | changed), encoding="utf-8")
    place = ["--plugin", str(path), "--dataset", str(data), "--output", str(tmp_path / "out"), "--epochs=1", "--quiet"]
    status = cli.main(["run", "--model", "SumOwn", *place])
    error = capsys.readouterr().err
    if message is None:
        assert status == 0, error
        return
    assert status == 2
    assert re.search(rf"own\.py: .*{message}", error), error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob(RECORD_FILE))


SHORT = """
import torch
from torch import nn
from mos_recbole.models import EncoderSpec, QueryEncoder, register_encoder
from mos_recbole.specs import Positive, Setting

class Spread(QueryEncoder):
    def __init__(self, n_items, width):
        super().__init__()
        self.width, self.item_embedding = width, nn.Embedding(n_items, width)

    def forward(self, items, length, user):
        spread = (length - 1).sqrt()[:, None]  # of no spread, where there is one item
        return self.item_embedding(items).sum(1) / spread

register_encoder(EncoderSpec("Spread", Spread, (Setting("size", Positive, 4, "Width.", "width"),), width="size"))
"""


def test_states_of_short_sequences_are_looked_at(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else training would fail as by too large a rate."""
    path = tmp_path / "short.py"
    path.write_text(SHORT, encoding="utf-8")
    place = ["--plugin", str(path), "--dataset", str(data), "--output", str(tmp_path / "out"), "--epochs=1", "--quiet"]
    assert cli.main(["run", "--model", "SpreadSoftmax", *place]) == 2
    assert "encoder Spread: forward gives states that are not finite" in capsys.readouterr().err


WRAPPED = """
from mos_recbole.models import CausalEncoder, EncoderSpec, register_encoder
from mos_recbole.specs import Positive, Setting

class Bi(CausalEncoder):
    def __init__(self, model):
        super().__init__()
        self.model, self.width = model, model.item_embedding.embedding_dim

    @property
    def item_embedding(self):
        return self.model.item_embedding

    def forward(self, items):
        state = self.item_embedding(items)
        return state + {more}

size = (Setting("hidden_size", Positive, 8, "Width."),)
register_encoder(EncoderSpec("Bi", Bi, size, width="hidden_size", recbole_model="SASRec"))
"""


@pytest.mark.parametrize(("more", "fault"), [("state.cumsum(1)", False), ("state.roll(-1, 1)", True)])
def test_layers_of_recbole_are_checked_too(
    more: str, fault: bool, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A causal encoder made of them would be trained on the targets that it reads."""
    path = tmp_path / "bi.py"
    path.write_text(WRAPPED.format(more=more), encoding="utf-8")
    place = ["--plugin", str(path), "--dataset", str(data), "--output", str(tmp_path / "out"), "--epochs=1", "--quiet"]
    status = cli.main(["run", "--model", "BiSoftmax", *place])
    error = capsys.readouterr().err
    assert status == (2 if fault else 0), error
    assert not fault or "bi.py: encoder Bi: its states change with later items" in error


def test_two_files_of_one_name_are_both_in_the_identity(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an encoder and a head; of one file it is there once."""
    encoder, head = replace(ENCODERS["GRU4Rec"], name="foo"), replace(HEADS["softmax"], name="foo")
    model = resolve_model("GRU4RecSoftmax")
    one, other = (Path("one.py"), "1" * 64), (Path("other.py"), "2" * 64)
    for origins, expected in (
        ((one, other), {"foo": one[1], "head foo": other[1]}),
        ((one, one), {"foo": one[1]}),
        ((None, other), {"foo": other[1]}),
    ):
        for key, spec, origin in zip(("encoder_spec", "head_spec"), (encoder, head), origins, strict=True):
            monkeypatch.setattr(model, key, replace(spec, origin=origin))
        assert model.sources() == expected


DECLARED = """
from mos_recbole.heads import MoSHead
from mos_recbole.models import HeadSpec, register_head
from mos_recbole.specs import Count, Positive, Probability, Rate, Setting

class Own(MoSHead):
    def __init__(self, n_items, width, *, item_bias=False, value):
        super().__init__(n_items, width, item_bias=item_bias, n_components=2)

register_head(HeadSpec("own", "Own", Own, (Setting({setting}, "A setting.", "value"),)))
"""


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("'epochs', Positive, 1", "own declares epochs, which all models have; expected another key: own_epochs"),
        ("'MAX_ITEM_LIST_LENGTH', Positive, 1", "own declares MAX_ITEM_LIST_LENGTH, which all models have"),
        ("'tie_weights', bool, True", "own declares tie_weights, which all models have"),
        ("'offset', Rate, 2.0", "own declares offset, which all models have; expected another key: own_offset"),
        ("'min_user_inter_num', Count, 0", "own declares min_user_inter_num, which all models have"),
        ("'wandb_rate', Rate, 1.0", "own declares wandb_rate, which means something else"),
        ("'energy', bool, True", "own declares energy, which means something else"),
        ("'loss_type', str, 'CE'", "own declares loss_type, which means something else"),
        ("'dropout_prob', Probability, 0.0", "own declares dropout_prob, which GRU4Rec has with another meaning"),
        ("'mos_heads', float, 0.5", "own declares mos_heads, which other heads have with another type"),
        ("'own_value', Positive, -3", "own, default: own_value is -3; expected greater than or equal to 1"),
        ("'mos_heads', Positive, 4", None),
        ("'own_value', Count, 0", None),
    ],
)
def test_a_setting_has_one_meaning(setting: str, message: str | None, tmp_path: Path) -> None:
    """A key that the encoder or all models have would change them; one of another type, the record."""
    path = tmp_path / "own.py"
    path.write_text(DECLARED.format(setting=setting), encoding="utf-8")
    load_plugin(path)
    if message is None:
        load_settings("GRU4RecOwn")
        return
    with pytest.raises(InputError, match=rf"own\.py: {message}"):
        load_settings("GRU4RecOwn")


def test_options_of_commands_are_no_settings() -> None:
    """Else a plugin could declare what its users cannot set."""
    (commands,) = (action for action in cli.make_parser()._actions if action.dest == "command")
    for command in ("run", "sweep"):
        actions = commands.choices[command]._actions
        names = {option.removeprefix("--") for action in actions for option in action.option_strings}
        options = {name.replace("-", "_") for name in names - {"-h", "key=value"}}
        common = {*RecBoleConfig.defaults(GeneralRecommender, "ml-100k"), *(one.key for one in SHARED_SETTINGS)}
        assert options <= NO_SETTINGS | common, options - NO_SETTINGS - common


def test_no_two_settings_of_ours_have_one_key() -> None:
    """What is asked of plugins holds for all encoders with all heads: with an origin, none is refused."""
    for registry in (ENCODERS, HEADS):
        for name, spec in registry.items():
            registry[name] = replace(spec, origin=(Path("ours.py"), ""))
    for name in own_model_names():
        load_settings(name)


SAMPLED = """
from mos_recbole.heads import LogitHead
from mos_recbole.models import HeadSpec, register_head

class Own(LogitHead):
    def logits(self, state, items):
        found = state @ items[0].T
        return (found {less})[:, None]

register_head(HeadSpec("own", "Own", Own))
"""


@pytest.mark.parametrize(
    ("less", "sampling", "fault"),
    [("", "uniform", False), ("/ found.shape[1]", "uniform", True), ("/ found.shape[1]", "none", False)],
)
def test_a_loss_over_sampled_items_is_checked_where_it_is_used(
    less: str, sampling: str, fault: bool, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.py"
    path.write_text(SAMPLED.format(less=less), encoding="utf-8")
    place = ["--plugin", str(path), "--dataset", str(data), "--output", str(tmp_path / "out"), "--quiet"]
    status = cli.main(["run", "--model", "GRU4RecOwn", *place, *SMALL, f"--negative_sampling={sampling}"])
    error = capsys.readouterr().err
    assert status == (2 if fault else 0), error
    if fault:
        assert re.search(r"own\.py: head Own: sampled_loss of all items gives", error), error


ODD = """
import os
import torch
from mos_recbole.heads import SoftmaxHead
from mos_recbole.models import HeadSpec, register_head

class Strange(BaseException):
    def __str__(self):
        raise ValueError("no words")

class Odd(SoftmaxHead):
    def components(self, state_Nd):
        vector_NKd, log_weight_NK = super().components(state_Nd)
        match os.environ.get("ODD"):
            case "raises":
                raise Strange
            case "stops":
                raise StopIteration
            case "none":
                return None
            case "shape":
                return vector_NKd[:-1, :, :3], log_weight_NK
            case "kind":
                return vector_NKd.to(torch.complex64), log_weight_NK
        return vector_NKd, log_weight_NK

register_head(HeadSpec("odd", "Odd", Odd))
"""


@pytest.fixture(scope="module")
def odd(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """Arguments of commands, and the folder of a finished run whose head may behave in odd ways since."""
    folder = tmp_path_factory.mktemp("odd")
    path = folder / "odd.py"
    path.write_text(ODD, encoding="utf-8")
    arguments = ["--plugin", str(path), "--dataset", str(data)]
    small = ["--epochs=1", "--embedding_size=8", "--hidden_size=8", "--quiet", "--output", str(folder / "results")]
    with forgetting():
        assert cli.main(["run", "--model", "GRU4RecOdd", *arguments, *small]) == 0
    return arguments, find_records(folder / "results")[0].folder


COMMANDS = {
    "spectrum": ["--output", "out"],
    "ablate-rank": ["--output", "out"],
    "recommend": ["--all-users"],
    "export": ["--format", "npz", "--output", "out.npz"],
    "run": [],
}


@pytest.mark.parametrize("behaviour", ["raises", "stops", "none", "shape", "kind"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_plugin_that_behaves_oddly_later_is_one_message(
    command: str,
    behaviour: str,
    odd: tuple[list[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """When it answers or trains, and not when it is checked: with the plugin's file, and status 2."""
    arguments, run = odd
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ODD", behaviour)
    monkeypatch.setattr("mos_recbole.models.recommender.head_fault", lambda *_, **__: None)
    named = ["--model", "GRU4RecOdd"] if command == "run" else [str(run)]
    assert cli.main([command, *named, *arguments, *COMMANDS[command]]) == 2
    error = capsys.readouterr().err
    assert re.search(r"error: GRU4RecOdd: .*odd\.py", error), error
    assert error.count("error:") == 1
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("record.json"))
    assert not (tmp_path / "out.npz").exists()


def test_other_models_of_the_command_run(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fault of a plugin's head ends the runs with that head alone."""
    path = tmp_path / "own.py"
    path.write_text(CHECKED.format(**GOOD | {"n_components": ""}), encoding="utf-8")
    place = ["--plugin", str(path), "--dataset", str(data), "--output", str(tmp_path / "out"), "--epochs=1", "--quiet"]
    assert cli.main(["run", "--model", "SumOwn", "SumMoS", *place]) != 0
    assert "head Own: components gives" in capsys.readouterr().err
    assert [record.model for record in find_records(tmp_path / "out")] == ["SumMoS"]


def test_the_examples_mixture_is_what_it_says(plugin: Path) -> None:
    """Log-probabilities of the mixture of temperatures against its formula."""
    load_plugin(plugin)
    spec, values = HEADS["mot"], {"item_bias": False, **HEADS["mot"].defaults}
    state, weight = torch.randn(6, 4), torch.randn(9, 4)
    head = spec.build(values, 9, 4)
    scale = head.log_scale_K.exp()[:, None, None]
    each = torch.log_softmax(scale * (state @ weight.T), dim=-1)
    mixed = torch.logsumexp(each + torch.log_softmax(head.prior(state), dim=-1).T[..., None], dim=0)
    torch.testing.assert_close(head.log_prob(state, weight), mixed)


def test_heads_that_are_named_one_by_one(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every --head counts, not the last alone."""
    heads = ["--head", "moc", "--head", "softmax", "--hidden_size=8", "--embedding_size=8", "--epochs=1"]
    assert cli.main(["run", "--model", "GRU4Rec", *heads, "--dataset", str(data), "--output", str(tmp_path)]) == 0
    assert {record.model for record in find_records(tmp_path)} == {"GRU4RecMoC", "GRU4RecSoftmax"}


def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file is named."""
    assert cli.main(["run", "--model", "GRU4RecMoS", "--plugin", str(tmp_path / "none.py")]) == 2
    assert "none.py: No such file" in capsys.readouterr().err


def test_names_that_are_near() -> None:
    """An unknown head, encoder or model is answered with what is near."""
    with pytest.raises(InputError, match=r"unknown head 'mo'; did you mean .*mos"):
        model_name("NARM", "mo")
    with pytest.raises(InputError, match=r"'NARN' is no encoder; did you mean NARM"):
        model_name("NARN", "mos")
    with pytest.raises(InputError, match=r"unknown model 'NARMMos'; did you mean NARMMoS"):
        resolve_model("NARMMos")
    assert model_name("NARM", "MoS") == "NARMMoS"
    assert resolve_model("GRU4Rec").__module__.startswith("recbole")


@pytest.mark.slow
def test_a_sweep_with_a_plugin(plugin: Path, data: Path, tmp_path: Path) -> None:
    """Ray's workers know the head, too. In a process of its own, since Ray is imported once."""
    sweep = {
        "models": ["GRU4RecEuclid"],
        "datasets": [str(data)],
        "plugins": [plugin.name],
        "space": {"euclid_scale": {"grid": [0.5, 2.0]}},
        "settings": {"embedding_size": 8, "hidden_size": 8, "epochs": 2, "MAX_ITEM_LIST_LENGTH": 10},
    }
    path = plugin.parent / "own.yaml"
    path.write_text(yaml.safe_dump(sweep), encoding="utf-8")
    program = "import sys; from mos_recbole.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["sweep", str(path), "--output", str(tmp_path / "out"), "--quiet"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records = find_records(tmp_path / "out" / "own")
    assert sorted(record.settings["euclid_scale"] for record in records) == [0.5, 2.0]
