"""This project's classes in RecBole's own code: its configuration, data, trainer, evaluation and checkpoints."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from built import CPU
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model
from recbole.trainer import Trainer
from recbole.utils import get_model
from recbole.utils.case_study import full_sort_topk
from tiny_data import write_inter

from mos_recbole import compat, models
from mos_recbole.errors import InputError
from mos_recbole.evaluation import canonical_metric, compute_metrics
from mos_recbole.experiment import RunData, load_settings
from mos_recbole.training import evaluate_model

ROOT = Path(__file__).parents[2]
SMALL = {"embedding_size": 8, "hidden_size": 12, "MAX_ITEM_LIST_LENGTH": 6, "epochs": 1, "show_progress": False}
COLUMNS = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
METRICS: dict[str, Any] = {"metrics": ["Recall", "MRR", "NDCG"], "topk": [3, 10]}


@pytest.fixture
def stock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of 30 users, no two times equal and all below 2^24, which float32 holds; RecBole's working folder."""
    generator = np.random.default_rng(3)
    rows = [(f"u{user}", f"i{generator.integers(20)}") for user in range(30) for _ in range(generator.integers(4, 20))]
    times = generator.permutation(2**24)[: len(rows)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    return write_inter(
        tmp_path, "exact", [(user, item, int(time)) for (user, item), time in zip(rows, times, strict=True)]
    )


def configure(folder: Path, model: type | str, **settings: Any) -> Config:
    settings = SMALL | METRICS | COLUMNS | {"data_path": str(folder.parent), "metric_decimal_place": 15} | settings
    return Config(model, folder.name, config_dict=settings)


def trained(config: Config) -> tuple[Trainer, Any]:
    """Returns a trainer after an epoch, and the loader of the test."""
    train, valid, test = data_preparation(config, create_dataset(config))
    trainer = Trainer(config, config.model_class(config, train.dataset).to(config["device"]))
    trainer.fit(train, valid, saved=True)
    return trainer, test


@pytest.mark.filterwarnings("ignore::FutureWarning:recbole")
@pytest.mark.parametrize("name", ["GRU4RecMoS", "SASRecSigsoftmax", "NARMMixtape", "STAMPMoL"])
def test_recbole_trains_saves_loads_and_ranks(name: str, stock: Path) -> None:
    """Its metrics are ours for the same weights, its lists the same after loading."""
    config = configure(stock, getattr(models, name))
    trainer, test = trained(config)
    found = trainer.evaluate(test, load_best_model=True)
    settings = load_settings(name, str(stock), overrides=METRICS | {"MAX_ITEM_LIST_LENGTH": 6})
    data = RunData(settings, CPU)
    ranks = evaluate_model(trainer.model, config, data.test_queries())
    rank = ranks.ranks(data.protocol.tie_rule).numpy()
    ours, _ = compute_metrics(settings.metric_names, rank, rank, ranks.n_candidates.numpy(), None)
    assert {canonical_metric(metric): value for metric, value in found.items()} == pytest.approx(ours, abs=1e-12)
    loaded, model, dataset, *_, test = load_data_and_model(trainer.saved_model_file)
    assert type(model) is config.model_class is get_model(name)
    assert loaded.final_config_dict == config.final_config_dict
    users = dataset.token2id(dataset.uid_field, ["u3", "u1"])
    scores, items = full_sort_topk(users, model, test, k=5)
    expected, _ = full_sort_topk(users, trainer.model, test, k=5)
    torch.testing.assert_close(scores, expected)
    assert bool((items > 0).all())


def test_a_class_brings_its_defaults(stock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which a file, a dictionary and the command line override, in this order."""
    config = Config(models.GRU4RecMoS, "ml-100k")
    assert (config["mos_heads"], config["tie_weights"], config["loss_type"]) == (4, True, "CE")
    assert (config["train_neg_sample_args"]["distribution"], config["num_layers"]) == ("none", 1)
    (stock / "my.yaml").write_text("mos_heads: 5\nitem_bias: True\ntie_weights: False\n")
    monkeypatch.setattr(sys, "argv", ["train.py", "--mos_heads=7"])
    config = Config("GRU4RecMoS", "ml-100k", [str(stock / "my.yaml")], {"mos_heads": 6, "item_bias": False})
    assert (config["mos_heads"], config["item_bias"], config["tie_weights"]) == (7, False, False)
    assert pickle.loads(pickle.dumps(config)).model_class is models.GRU4RecMoS
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert "tie_weights" not in Config("GRU4Rec", "ml-100k", config_dict={"train_neg_sample_args": None})


@pytest.mark.parametrize("settings", [{"loss_type": "BPR"}, {"train_neg_sample_args": {"distribution": "uniform"}}])
def test_recboles_negatives_are_refused(settings: dict[str, Any], stock: Path) -> None:
    """They would be targets."""
    config = configure(stock, models.GRU4RecMoS, **settings)
    with pytest.raises(InputError, match="expected 'CE' and None: GRU4RecMoS learns by cross-entropy"):
        trained(config)


@pytest.mark.filterwarnings("ignore::FutureWarning:recbole")
@pytest.mark.parametrize("negatives", ["uniform", "popularity", "in_batch"])
def test_own_negatives_on_recboles_data(negatives: str, stock: Path) -> None:
    """The targets of training are counted as on our own data."""
    trainer, _ = trained(configure(stock, models.SASRecMoS, negative_sampling=negatives, n_negatives=8))
    assert np.isfinite(trainer.train_loss_dict[0])
    data = RunData(load_settings("SASRecMoS", str(stock)), CPU)
    counts = data.dataset.train_target_counts(data.split)
    theirs = create_dataset(trainer.config).build()[0]
    found = models.recommender._target_counts(theirs)
    assert found.tolist() == counts.tolist()


def test_what_is_patched(stock: Path, tmp_path: Path) -> None:
    """Once, however often; pickles are for RecBole alone."""
    before = (torch.load, Config._load_internal_config_dict, get_model)
    compat.apply()
    import recbole.config.configurator
    import recbole.quick_start.quick_start

    assert before == (torch.load, Config._load_internal_config_dict, recbole.utils.get_model)
    for module in (recbole.config.configurator, recbole.quick_start.quick_start, recbole.utils.utils):
        assert module.get_model is get_model
    torch.autograd.set_detect_anomaly(False)
    assert get_model("SASRec").__module__ == "recbole.model.sequential_recommender.sasrec"
    assert not torch.is_anomaly_enabled()
    with pytest.raises(ValueError, match="did you mean GRU4RecMoS"):
        get_model("GRU4RecMos")
    torch.save({"path": tmp_path}, tmp_path / "pickle.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "pickle.pt")


@pytest.mark.slow
def test_the_code_of_the_page(tmp_path: Path) -> None:
    """docs/recbole.md, block by block as it stands, in a process of its own."""
    section = (ROOT / "docs" / "recbole.md").read_text(encoding="utf-8").partition("## In RecBole's own code")[2]
    blocks = re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], flags=re.DOTALL)
    assert len(blocks) == 2
    (tmp_path / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "recall@10" in done.stdout
    assert "Error" not in done.stderr
