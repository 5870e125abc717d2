"""Models of equal size."""

from pathlib import Path

import pytest

from mos_recbole import cli
from mos_recbole.errors import InputError
from mos_recbole.experiment import count_parameters, load_settings
from mos_recbole.experiment.matching import match_parameters
from mos_recbole.results import find_records

SMALL = {"hidden_size": 12, "embedding_size": 12, "inner_size": 16}


def settings_of(model: str, data: Path, **overrides: object):
    known = load_settings(model).values
    sizes = {key: value for key, value in SMALL.items() if key in known}
    return load_settings(model, str(data), overrides={**sizes, **overrides})


@pytest.mark.parametrize("encoder", ["GRU4Rec", "SASRec", "NARM", "CORE"])
def test_no_width_comes_nearer(encoder: str, data: Path) -> None:
    """The wider softmax has about the mixture's number of parameters: one step more or less is farther from it."""
    mixture = settings_of(f"{encoder}MoS", data, mos_heads=6)
    wanted = count_parameters(mixture)
    softmax = settings_of(f"{encoder}Softmax", data)
    matched = match_parameters(softmax, wanted)
    key = softmax.model_class.encoder_spec.width
    step = softmax.values.get("n_heads", 1)
    width = matched.values[key]
    assert width > softmax.values[key]
    assert width % step == 0
    distance = [
        abs(count_parameters(settings_of(f"{encoder}Softmax", data, **{key: width + change})) - wanted)
        for change in (-step, 0, step)
    ]
    assert distance[1] == min(distance)
    assert {**matched.values, key: 0} == {**softmax.values, key: 0}


def test_a_run_with_matched_parameters(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first model keeps its size, the second one's is made equal; records tell the widths."""
    arguments = ["--model", "GRU4RecMoS", "GRU4RecSoftmax", "--dataset", str(data), "--output", str(tmp_path)]
    sizes = ["--embedding_size=8", "--hidden_size=8", "--epochs=1"]
    assert cli.main(["run", *arguments, *sizes, "--match-parameters"]) == 0
    mixture, softmax = sorted(find_records(tmp_path), key=lambda record: record.model)
    assert (mixture.model, mixture.settings["embedding_size"]) == ("GRU4RecMoS", 8)
    assert softmax.settings["embedding_size"] > 8
    assert softmax.parameters == pytest.approx(mixture.parameters, rel=0.05)
    capsys.readouterr()
    assert cli.main(["run", *arguments, "--model", "GRU4RecMoS", "GRU4Rec", "--match-parameters"]) == 2
    assert "GRU4Rec is RecBole's own; widths are matched for an encoder with a head" in capsys.readouterr().err


def test_a_size_below_the_narrowest(data: Path) -> None:
    """A model cannot be made smaller than width 1."""
    with pytest.raises(
        InputError, match=r"GRU4RecSoftmax: has \d+ parameters at embedding_size 1, its narrowest; expected 10"
    ):
        match_parameters(settings_of("GRU4RecSoftmax", data), 10)
