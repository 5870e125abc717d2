"""Model classes by name: imported, pickled, and their facts."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from built import build
from tiny_data import write_inter

from mos_recbole import compat, models
from mos_recbole.models import HEADS, model_facts, own_model_names, resolve_model


@pytest.mark.parametrize("name", own_model_names())
def test_a_model_class_is_found_and_pickled_by_its_name(name: str) -> None:
    """`from mos_recbole.models import NAME` gives the one class of that name."""
    model_class = getattr(models, name)
    assert model_class is resolve_model(name)
    assert (model_class.__name__, model_class.__qualname__) == (name, name)
    assert pickle.loads(pickle.dumps(model_class)) is model_class


def test_a_model_class_is_unpickled_in_a_fresh_process() -> None:
    program = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()).__name__)"
    pickled = pickle.dumps(models.GRU4RecMoS)
    done = subprocess.run([sys.executable, "-c", program], input=pickled, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "GRU4RecMoS"


def test_a_name_that_is_no_model() -> None:
    """Other names are answered as Python does."""
    for name in ("GRU4RecNone", "NARMDOC", "GRU4Rec"):
        with pytest.raises(AttributeError):
            getattr(models, name)
    with pytest.raises(ImportError):
        exec("from mos_recbole.models import SASRecSoftmacks")


def test_no_name_means_two_models() -> None:
    """RecBole's names are none of ours."""
    assert not set(own_model_names()) & set(compat.recbole_model_names())
    assert all(compat.is_recbole_model_name(name) for name in ("GRU4Rec", "BPR", "KGAT", "LR"))
    assert not compat.is_recbole_model_name("GRU4RecMoS")


def test_one_head_is_the_baseline() -> None:
    assert [spec.name for spec in HEADS.values() if spec.baseline] == ["softmax"]


def test_facts_of_a_model(tmp_path: Path) -> None:
    """The record's words for a model, and none for RecBole's own."""
    folder = write_inter(
        tmp_path, "small", [(f"u{user}", f"i{place}", place) for user in range(5) for place in range(6)]
    )
    mixture = build("GRU4RecMoS", folder, embedding_size=6, mos_heads=3).model
    assert model_facts(mixture) == {
        "encoder": "GRU4Rec",
        "head": "mos",
        "n_components": 3,
        "width": 6,
        "baseline": "GRU4RecSoftmax",
    }
    assert model_facts(build("SASRecSoftmax", folder, hidden_size=8).model)["baseline"] is None
    assert set(model_facts(build("BPR", folder, embedding_size=6).model).values()) == {None}
