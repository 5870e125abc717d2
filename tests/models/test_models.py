"""Every model of RecBole's: that it trains and resumes, sees training alone, and gets from us what RecBole gives it."""

import importlib
import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recbole.trainer
import torch
from recbole.data.interaction import Interaction
from recbole.data.transform import construct_transform
from recbole.model.loss import BPRLoss
from scipy import sparse

from mos_recbole import RunResult, cli, compat, run_experiment
from mos_recbole.data import SequenceDataset
from mos_recbole.errors import InputError
from mos_recbole.experiment import load_settings
from mos_recbole.models import ENCODERS, HEADS, resolve_model
from mos_recbole.settings import Settings
from mos_recbole.training import LOOPS, evaluate_model, make_query_set, make_train_loader, make_trainer, model_data
from mos_recbole.training.checkpoint import load_checkpoint
from mos_recbole.training.loaders import PrefixLoader, epoch_seed, prefix_gatherer
from mos_recbole.training.prefixes import Fields, PrefixTable

WIDTH, LENGTH, ITEMS, USERS, RELATIONS = 8, 6, 24, 20, 3
FEATURES = {"load_col": {"item": ["item_id", "class"]}}
TRANSFORMER = {"hidden_size": WIDTH, "inner_size": 16, "n_layers": 1, "n_heads": 2}
MLP = {"mlp_hidden_size": [8, 4]}
# What a model needs beside the data, or to be small; all others have an embedding_size.
SMALL: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("BERT4Rec", "SASRec", "LightSANs"), TRANSFORMER),
    **{key: {**TRANSFORMER, **FEATURES} for key in ("FDSA", "SASRecF")},
    "FEARec": {**TRANSFORMER, "n_layers": 2, "contrast": "us_x"},
    "S3Rec": {**TRANSFORMER, **FEATURES, "pretrain_epochs": 1},
    "SASRecCPR": {**TRANSFORMER, "reranker_CAN_NUM": 5},
    "GCSAN": {"hidden_size": WIDTH, "inner_size": 16, "n_layers": 1, "n_heads": 1},
    "GRU4RecF": {**FEATURES, "hidden_size": 12},
    "GRU4RecCPR": {"hidden_size": 12, "reranker_CAN_NUM": 5},
    "KSR": {"kg_embedding_size": WIDTH, "hidden_size": 12},
    **{key: {**FEATURES, **MLP} for key in ("DIN", "DIEN")},
    **dict.fromkeys(("NeuMF", "NNCF"), MLP),
    "ConvNCF": {"embedding_size": 64, "cnn_channels": [1, 4, 4, 4, 4]},
    "NAIS": {"weight_size": WIDTH},
    "NCL": {"num_clusters": 4, "m_step": 2, "warm_up_step": 1},
    "RaCT": {"mlp_hidden_size": [16], "latent_dimension": 8, "metrics_k": 5, "pretrain_epochs": 1},
    "RecVAE": {"hidden_dimension": 16, "latent_dimension": 8},
    "DGCF": {"embedding_size": WIDTH, "n_factors": 2},
}
MODELS = compat.recbole_model_names(["sequential_recommender", "general_recommender"])


@pytest.fixture(autouse=True)
def _no_anomaly_detection() -> None:
    """A module of RecBole's turns it on, which makes training several times slower."""
    importlib.import_module("recbole.model.sequential_recommender")
    torch.autograd.set_detect_anomaly(False)


def write_data(folder: Path, seed: int) -> Path:
    """Writes a data set with features and vectors; the seed decides about each user's last two items alone."""
    shared, own = np.random.default_rng(1), np.random.default_rng(seed)
    folder = folder / "toy"
    folder.mkdir(parents=True)
    first, last = [], []
    for user in range(USERS):
        # Every item is in the training data of somebody.
        items = [*range(user, ITEMS, USERS), *shared.integers(0, ITEMS, shared.integers(4, 12))]
        first += [f"u{user}\ti{item}\t{place}" for place, item in enumerate(items)]
        last += [f"u{user}\ti{own.integers(ITEMS)}\t{1000 + place}" for place in range(2)]

    def write(suffix: str, header: str, lines: list[str]) -> None:
        (folder / f"toy.{suffix}").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")

    def vector() -> str:
        return " ".join(f"{value:.3f}" for value in shared.normal(size=WIDTH))

    write("inter", "user_id:token\titem_id:token\ttimestamp:float", first + last)
    genres = [["drama"], ["comedy", "war"], ["war", "noir", "drama"]]
    # One item that nobody has.
    write("item", "item_id:token\tclass:token_seq", [f"i{i}\t{' '.join(genres[i % 3])}" for i in range(ITEMS + 1)])
    write("ent", "ent_id:token\tent_emb:float_seq", [f"i{i}\t{vector()}" for i in range(ITEMS + 1)])
    write("rel", "rel_id:token\trel_emb:float_seq", [f"r{i}\t{vector()}" for i in range(RELATIONS)])
    return folder


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("one"), 2)


@pytest.fixture(scope="module")
def other_targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training data with other targets of validation and test."""
    return write_data(tmp_path_factory.mktemp("other"), 3)


def settings_of(model: str, data: Path, **options: Any) -> Settings:
    chosen = {
        "epochs": 2,
        "train_batch_size": 32,
        "MAX_ITEM_LIST_LENGTH": LENGTH,
        "topk": [5, 10],
        **SMALL.get(model, {}),
    }
    if "embedding_size" in load_settings(model, str(data)).values:
        chosen.setdefault("embedding_size", WIDTH)
    return load_settings(model, str(data), overrides={**chosen, **options})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunResult]:
    """Returns a function (model, data, ...) that runs a small model for two epochs and remembers what it gave."""

    @cache
    def start(model: str, data: Path, **options: Any) -> RunResult:
        return run_experiment(settings_of(model, data, **options), output=tmp_path_factory.mktemp(model), device="cpu")

    return start


def built(settings: Settings) -> tuple[Any, SequenceDataset, Any, Any]:
    """Returns RecBole's configuration, the data, their split and the model of a run."""
    config = settings.recbole_config(torch.device("cpu"))
    data = SequenceDataset(config)
    split = data.split()
    torch.manual_seed(5)
    model: Any = settings.model_class
    return config, data, split, model(config, model_data(config, data, split))


def checkpoint(record: RunResult, name: str = "last.pt") -> dict[str, Any]:
    return load_checkpoint(record.folder / name, record.run_id, record.model, "cpu")["model"]


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yields what a checkpoint holds, as numbers and arrays by their places."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{place}.{key}")
    elif sparse.issparse(value):
        yield place, value.toarray()
    else:
        yield (
            place,
            value.coalesce().to_dense().numpy() if isinstance(value, torch.Tensor) and value.is_sparse else value,
        )


def assert_same(one: Any, other: Any) -> None:
    left, right = dict(leaves(one)), dict(leaves(other))
    assert left.keys() == right.keys()
    for place in left:
        np.testing.assert_array_equal(left[place], right[place], err_msg=place)


# ---------------------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_and_a_stopped_run_resumes_exactly(model: str, run, toy: Path, tmp_path: Path) -> None:
    """Finite metrics, of the epoch that validation chose; the same numbers and weights where it was stopped between."""
    whole = run(model, toy)
    log = whole.training_log()
    assert all(np.isfinite(metric.value) for metric in [*whole.valid.values(), *whole.test.values()])
    assert np.isfinite(log["loss"]).all()
    if model != "Random":  # which draws its scores
        chosen = log.set_index("epoch").loc[whole.best_epoch]
        assert {name: metric.value for name, metric in whole.valid.items()} == chosen[list(whole.valid)].to_dict()

    def interrupt(report: Any) -> None:
        raise KeyboardInterrupt

    # After every epoch, so that each stage of those that have some is left and entered again.
    for _ in range(whole.epochs):
        with pytest.raises(KeyboardInterrupt):
            run_experiment(settings_of(model, toy), output=tmp_path, device="cpu", resume=True, on_epoch=interrupt)
    parts = run_experiment(settings_of(model, toy), output=tmp_path, device="cpu", resume=True)
    assert parts.resumed
    assert parts.run_id == whole.run_id
    assert parts.training_log()["loss"].tolist() == log["loss"].tolist()
    assert_same(checkpoint(parts), checkpoint(whole))
    assert_same(checkpoint(parts, "best.pt"), checkpoint(whole, "best.pt"))
    if model != "Random":
        assert (parts.valid, parts.test) == (whole.valid, whole.test)


@pytest.mark.parametrize("model", MODELS)
def test_no_model_learns_from_targets_of_validation_or_test(model: str, run, toy: Path, other_targets: Path) -> None:
    """With other targets there, the weights after training are the same to the last bit."""
    assert_same(checkpoint(run(model, toy)), checkpoint(run(model, other_targets)))


@pytest.mark.parametrize("model", ["FDSA", "S3Rec", "DIN", "GRU4RecKG", "KSR", "BERT4Rec", "EASE"])
def test_models_with_features_are_compared_on_the_same_protocol(model: str, run, toy: Path) -> None:
    """The same queries and candidates as for SASRec; an item that only features name is none."""
    record, other = run(model, toy), run("SASRec", toy)
    assert record.protocol_hash == other.protocol_hash
    assert record.data["items"] == ITEMS
    outcomes, others = record.outcomes(), other.outcomes()
    for column in ("user", "position", "target", "candidates"):
        assert outcomes[column].tolist() == others[column].tolist()


def test_another_file_of_features_is_another_run_of_the_same_protocol(toy: Path, tmp_path: Path) -> None:
    changed = tmp_path / "toy"
    changed.mkdir()
    for file in toy.iterdir():
        (changed / file.name).write_text(
            file.read_text().replace("comedy", "war") if file.suffix == ".item" else file.read_text()
        )
    fingerprints = [
        SequenceDataset(settings_of("FDSA", data).recbole_config(torch.device("cpu"))).fingerprint()
        for data in (toy, changed)
    ]
    assert fingerprints[0] != fingerprints[1]
    assert fingerprints[0].partition("+")[0] == fingerprints[1].partition("+")[0]
    plain = SequenceDataset(settings_of("SASRec", toy).recbole_config(torch.device("cpu"))).fingerprint()
    assert fingerprints[0].partition("+")[0] == plain


def test_every_trainer_of_recboles_has_its_counterpart() -> None:
    own = {name for name in MODELS if hasattr(recbole.trainer, f"{name}Trainer")}
    assert own == set(LOOPS)


def test_the_page_lists_what_runs_and_what_is_refused() -> None:
    """docs/models.md: a row for each model that runs, in the order of its kinds, and the names of all others."""
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    runs, refused = text.split("## What runs")[1].split("## Refused")
    rows = [re.split(r"\s*\|\s*", line)[1:3] for line in runs.splitlines() if line.startswith("| `")]
    kinds = {"sequential_recommender": "sequential", "general_recommender": "general"}
    expected = [[f"`{name}`", kind] for folder, kind in kinds.items() for name in compat.recbole_model_names([folder])]
    assert [row for row in rows if row[1] != "ours"] == expected
    named = set(re.findall(r"`(\w+)`", refused)) - {"XGBoost", "LightGBM"}
    assert named == set(compat.recbole_model_names()) - set(MODELS)
    for name in named:
        with pytest.raises(InputError):
            load_settings(name)


def test_the_page_lists_the_encoders_with_what_they_do_not_read() -> None:
    """docs/models.md: a row for each encoder, as its spec has it."""
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    part = text.split("## Encoders and heads")[1].split("## What runs")[0]
    rows = [re.split(r"\s*\|\s*", line)[1:6] for line in part.splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(
        [
            f"`{name}`",
            "whole windows, or prefixes" if encoder.causal else "prefixes",
            f"`{encoder.width}`",
            "all" if encoder.has_layers else "all but DOC",
            ", ".join(f"`{key}`" for key in encoder.unread if key != "transform"),
        ]
        for name, encoder in ENCODERS.items()
    )
    assert all(f"`{head.label}`" in part for head in HEADS.values())


# ---------------------------------------------------------------------------------------------------- transforms


def test_bert4rec_is_trained_on_what_recboles_transform_makes(toy: Path) -> None:
    """The same columns as RecBole's own on the same prefixes and random numbers; the global ones are left alone."""
    config, data, split, _ = built(settings_of("BERT4Rec", toy))
    loader = make_train_loader(config, data, split)
    assert isinstance(loader, PrefixLoader)
    random.seed(11)
    before = random.getstate()
    batches = [batch for batch, _ in loader.epoch(3)]
    assert random.getstate() == before
    again = [batch for batch, _ in loader.epoch(3)]
    other = [batch for batch, _ in loader.epoch(4)]

    theirs = construct_transform(config)
    plain = PrefixLoader(loader.gatherer, loader.fields, loader.batch_size, loader.seed, loader.shuffle)
    random.seed(epoch_seed(config["seed"], 3))
    for (expected, _), batch, same, different in zip(plain.epoch(3), batches, again, other, strict=True):
        expected = theirs(data, expected)
        assert set(batch.columns) == set(expected.columns)
        for column in expected.columns:
            assert torch.equal(batch[column], expected[column])
            assert torch.equal(batch[column], same[column])
        assert not torch.equal(batch["Mask_item_id_list"], different["Mask_item_id_list"])
        masked = batch["Mask_item_id_list"] == data.item_num
        assert masked.any()
        assert torch.equal(batch["Mask_item_id_list"][~masked], batch["item_id_list"][~masked])


def test_a_batch_without_a_mask_is_passed_over(toy: Path) -> None:
    """RecBole's loss of it is 0 / 0: batches of one short prefix are left out, and training goes on."""
    config, data, split, model = built(settings_of("BERT4Rec", toy, train_batch_size=1))
    given = list(make_train_loader(config, data, split).epoch(1))
    assert 0 < len(given) < split.train.n_targets
    assert all(torch.isfinite(model.calculate_loss(batch)) for batch, _ in given)


def test_shan_is_asked_with_reversed_sequences(toy: Path) -> None:
    """Right-aligned, in training and in ranking."""
    config, data, split, _ = built(settings_of("SHAN", toy))
    queries = make_query_set(
        config, data, split, "test", settings_of("SHAN", toy).protocol(has_repeats=True), config["device"]
    )
    batch = queries.batch(torch.arange(len(queries)), Fields.of(config))
    training, _ = next(iter(make_train_loader(config, data, split).epoch(1)))
    for given in (batch, training):
        for sequence, length, aligned in zip(
            given["item_id_list"], given["item_length"], given["Inverse_item_id_list"], strict=True
        ):
            assert aligned.tolist() == [0] * (LENGTH - int(length)) + sequence[: int(length)].tolist()


# ---------------------------------------------------------------------------------------------------- loops


def trainer_of(model: str, toy: Path, tmp_path: Path, **options: Any) -> tuple[Any, Any, Any, Any]:
    config, data, split, net = built(settings_of(model, toy, **options))
    return make_trainer(config, net, tmp_path, "run", False, 0.0), make_train_loader(config, data, split), net, config


def test_s3rec_is_pretrained_then_finetuned(run, toy: Path) -> None:
    """Two epochs of the one, without validation, then two of the other."""
    record = run("S3Rec", toy, pretrain_epochs=2)
    log = record.training_log()
    assert log["NDCG@10"].isna().tolist() == [True, True, False, False]
    assert record.best_epoch in (3, 4)
    # The self-supervised losses are sums over many terms, the other is at most a little above log V.
    assert (log["loss"] > 2 * np.log(ITEMS)).tolist() == [True, True, False, False]


def test_no_pretraining_is_finetuning_at_once(run, toy: Path) -> None:
    assert run("S3Rec", toy, pretrain_epochs=0).training_log()["NDCG@10"].notna().all()


@pytest.mark.parametrize(("model", "loss"), [("S3Rec", "CE"), ("S3Rec", "BPR"), ("RaCT", None)])
def test_stages_are_what_recboles_constructor_makes_of_a_file(
    model: str, loss: str | None, toy: Path, tmp_path: Path
) -> None:
    """Loss, frozen weights and the new optimizer of each stage, beside the model that RecBole builds for it."""
    options = {"loss_type": loss} if loss else {}
    trainer, loader, net, config = trainer_of(model, toy, tmp_path, **options)
    batch, _ = next(iter(loader.epoch(1)))
    optimizers = [trainer.optimizer]
    for number, stage in enumerate(trainer.stages[1:], 2):
        trainer._enter_epoch(number)
        optimizers.append(trainer.optimizer)
        torch.save({"state_dict": net.state_dict()}, tmp_path / "pretrained.pth")
        config["train_stage"], config["pre_model_path"] = stage, str(tmp_path / "pretrained.pth")
        _, data, split, _ = built(settings_of(model, toy, **options))
        theirs = type(net)(config, model_data(config, data, split))
        assert {name: tensor.requires_grad for name, tensor in net.named_parameters()} == {
            name: tensor.requires_grad for name, tensor in theirs.named_parameters()
        }
        torch.manual_seed(1)
        ours = net.calculate_loss(batch)
        torch.manual_seed(1)
        assert torch.equal(ours, theirs.calculate_loss(batch))
    assert len(set(map(id, optimizers))) == len(trainer.stages)
    if model == "S3Rec":
        assert isinstance(net.loss_fct, BPRLoss) == (loss == "BPR")


def test_recvae_alternates(toy: Path, tmp_path: Path) -> None:
    """Three passes of the encoder's optimizer and one of the decoder's an epoch, over differently shuffled users."""
    trainer, loader, net, _config = trainer_of("RecVAE", toy, tmp_path, train_batch_size=8)
    order: list[tuple[bool, tuple[int, ...]]] = []
    calculate = net.calculate_loss
    net.calculate_loss = lambda batch, encoder_flag: (
        order.append((encoder_flag, tuple(batch["user_id"].tolist()))),
        calculate(batch, encoder_flag),
    )[1]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    trainer._train_epoch(loader, 1)
    batches = len(order) // 4
    assert [flag for flag, _ in order] == [True] * 3 * batches + [False] * batches
    passes = [tuple(order[start : start + batches]) for start in range(0, len(order), batches)]
    assert len(set(passes)) == 4
    steps = [
        {int(state["step"]) for state in optimizer.state.values()}
        for optimizer in (trainer.encoder_optimizer, trainer.optimizer)
    ]
    assert steps == [{3 * batches}, {batches}]
    # The prior's old encoder is the encoder as it stood between.
    assert not torch.equal(before["encoder.fc1.weight"], net.state_dict()["encoder.fc1.weight"])
    assert torch.equal(net.state_dict()["prior.encoder_old.fc1.weight"], net.state_dict()["encoder.fc1.weight"])


def test_ncl_clusters_before_every_mth_epoch(toy: Path, tmp_path: Path) -> None:
    """Each row in the cluster of its nearest centroid, all of length 1; the prototypes' loss after the warm-up."""
    trainer, loader, net, _config = trainer_of("NCL", toy, tmp_path, num_clusters=4, m_step=2, warm_up_step=1)
    batch, _ = next(iter(loader.epoch(1)))
    seen = []
    for epoch in (1, 2, 3):
        trainer._enter_epoch(epoch)
        seen.append(net.user_centroids)
        parts = trainer._loss_function(epoch)(batch)
        assert len(parts) == (2 if epoch == 1 else 3)
        trainer._train_epoch(loader, epoch)
    assert seen[0] is seen[1]
    assert seen[1] is not seen[2]
    trainer._enter_epoch(5)
    for table, centroids, cluster in (
        (net.user_embedding.weight, net.user_centroids, net.user_2cluster),
        (net.item_embedding.weight, net.item_centroids, net.item_2cluster),
    ):
        assert torch.allclose(centroids.norm(dim=1), torch.ones(4))
        means = torch.stack([table[cluster == number].mean(0) for number in range(4)])
        assert torch.equal(torch.cdist(table, means).argmin(1), cluster)
        assert torch.allclose(torch.nn.functional.normalize(means, dim=1), centroids, atol=1e-5)


# ---------------------------------------------------------------------------------------------------- samples


def test_fearec_looks_up_the_samples_that_it_is_trained_on(toy: Path) -> None:
    """Row by row what the loader gives, and of the targets of training alone."""
    config, data, split, model = built(settings_of("FEARec", toy))
    table = model.dataset.inter_feat
    assert isinstance(table, PrefixTable)
    gatherer = prefix_gatherer(config, data, split.train)
    everything = gatherer.batch(torch.arange(len(gatherer)), Fields.of(config))
    assert len(table) == split.train.n_targets
    for column in ("item_id", "item_length"):
        assert torch.equal(table[column], everything[column])
    assert torch.equal(
        torch.stack([table["item_id_list"][np.int64(row)] for row in range(len(table))]), everything["item_id_list"]
    )


def test_din_learns_from_targets_and_labelled_negatives(toy: Path) -> None:
    """As many of the one as of the other, with the same histories."""
    config, data, split, _ = built(settings_of("DIN", toy))
    batches = list(make_train_loader(config, data, split).epoch(1))
    assert sum(n_targets for _, n_targets in batches) == split.train.n_targets
    for batch, n_targets in batches:
        assert len(batch) == 2 * n_targets <= config["train_batch_size"]
        assert batch["label"].tolist() == [1.0] * n_targets + [0.0] * n_targets
        assert torch.equal(batch["item_id_list"][:n_targets], batch["item_id_list"][n_targets:])
        assert (batch["item_id"][:n_targets] != batch["item_id"][n_targets:]).all()


def test_models_do_not_see_columns_that_are_not_to_be_used(toy: Path) -> None:
    """RecBole's unused_col: read, as a filter may need it, and taken away; ids stay, whatever it says."""
    settings = settings_of("DIN", toy)
    unused = settings_of("DIN", toy, unused_col={"item": ["class", "item_id"], "user": ["age"]})
    sizes = [sum(parameter.numel() for parameter in built(one)[3].parameters()) for one in (settings, unused)]
    _, data, _, _ = built(unused)
    assert list(data.item_feat.columns) == ["item_id"]
    assert sizes[1] < sizes[0]


def test_dien_has_another_item_for_every_place_of_the_history(toy: Path) -> None:
    """Never the same, never padding, and the same ones for the same place in training and in ranking."""
    settings = settings_of("DIEN", toy)
    config, data, split, _ = built(settings)
    sides = [next(iter(make_train_loader(config, data, split).epoch(1)))[0]]
    queries = make_query_set(config, data, split, "test", settings.protocol(has_repeats=True), config["device"])
    sides.append(queries.batch(torch.arange(len(queries)), Fields.of(config)))
    drawn = set()
    for batch in sides:
        real = batch["item_id_list"] != 0
        assert torch.equal(real, batch["neg_item_id_list"] != 0)
        assert (batch["item_id_list"][real] != batch["neg_item_id_list"][real]).all()
        drawn |= set(batch["neg_item_id_list"][real].tolist())
    assert drawn <= set(range(1, ITEMS + 1))
    assert len(drawn) > ITEMS // 2
    again = prefix_gatherer(config, data, split.test).batch(torch.arange(len(queries)), Fields.of(config))
    assert torch.equal(again["neg_item_id_list"], sides[1]["neg_item_id_list"])


@pytest.mark.parametrize("model", ["DIN", "DIEN", "NeuMF"])
def test_pairs_are_scored_in_parts(model: str, toy: Path) -> None:
    """Seven pairs at a time or all at once, against one query and one item after the other."""
    settings = settings_of(model, toy)
    config, data, split, net = built(settings)
    net.eval()
    queries = make_query_set(config, data, split, "test", settings.protocol(has_repeats=True), config["device"])
    found = {}
    for size in (7, 10_000):
        config["eval_batch_size"] = size
        found[size] = evaluate_model(net, config, queries, top_k=3)
    assert torch.equal(found[7].top_items, found[10_000].top_items)
    query = queries.batch(torch.tensor([3]), Fields.of(config))
    scores = []
    with torch.no_grad():
        for item in range(data.item_num):
            query.update(Interaction({"item_id": torch.tensor([item])}))
            scores.append(net.predict(query).reshape(()))
    best = torch.stack(scores[1:]).argsort(descending=True, stable=True)[:3] + 1
    assert found[7].top_items[3].tolist() == best.tolist()


def test_ksr_has_all_relations_and_vectors(toy: Path) -> None:
    """The padding's and every row of the file, by name."""
    _, data, _, model = built(settings_of("KSR", toy))
    rows = [line.split("\t") for line in (toy / "toy.rel").read_text().splitlines()[1:]]
    assert model.relation_Matrix.shape == (RELATIONS + 1, WIDTH)
    for name, text in rows:
        vector = torch.tensor([float(value) for value in text.split()])
        assert torch.allclose(model.relation_Matrix[data.token2id("rel_id", name)], vector)
    name, text = (toy / "toy.ent").read_text().splitlines()[5].split("\t")
    vector = torch.tensor([float(value) for value in text.split()])
    assert torch.allclose(model.entity_embedding.weight[data.token2id("item_id", name)], vector)


# ---------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        ("FDSA", {"load_col": {"inter": ["user_id"]}}, "selected_features names 'class'.*load_col"),
        ("GRU4RecF", {"selected_features": ["year"]}, "selected_features names 'year'.*has class"),
        ("S3Rec", {"item_attribute": "year"}, "item_attribute names 'year'"),
        (
            "S3Rec",
            {"MAX_ITEM_LIST_LENGTH": 50},
            "MAX_ITEM_LIST_LENGTH is 50; expected less than the number of items, 24",
        ),
        ("BERT4Rec", {"MAX_ITEM_LIST_LENGTH": 4}, "mask_ratio 0.2 of MAX_ITEM_LIST_LENGTH 4"),
        (
            "KSR",
            {"preload_weight": {"ent_id": "ent_emb"}},
            "preload_weight has no 'rel_id'.*rel_emb:float_seq of toy.rel",
        ),
        ("GRU4RecKG", {"embedding_size": 16}, "embedding_size is 16; expected 8"),
        (
            "SASRecCPR",
            {"reranker_CAN_NUM": "100,5"},
            "reranker_CAN_NUM is 100; expected at most the number of items, 24",
        ),
        ("NCL", {"num_clusters": 1000}, "num_clusters is 1000; expected at most 20"),
        ("FEARec", {"MAX_ITEM_LIST_LENGTH": 2}, "topk_factor 1 times the logarithm of MAX_ITEM_LIST_LENGTH 2"),
        ("FEARecMoS", {"MAX_ITEM_LIST_LENGTH": 1}, "topk_factor 1 times the logarithm of MAX_ITEM_LIST_LENGTH 1"),
        ("FEARec", {"n_layers": 1}, "FEARec: n_layers is 1; expected 2 or more"),
        ("FEARecMoS", {"n_layers": 1}, "FEARecMoS: n_layers is 1; expected 2 or more"),
        ("NARM", {"dropout_probs": [0.1]}, r"dropout_probs is \[0.1\]; expected at least 2 items"),
        ("NARMMoS", {"dropout_probs": [0.1, 0.2, 0.3]}, "dropout_probs is .*; expected at most 2 items"),
        ("SINE", {"interest_size": 51}, "interest_size is 51; expected at most prototype_size, 50"),
        ("SINEMoS", {"prototype_size": 2}, "interest_size is 3; expected at most prototype_size, 2"),
        ("RaCT", {"metrics_k": 100}, "metrics_k is 100; expected at most the number of items, 24"),
        ("S3Rec", {"train_stage": "finetune"}, "train_stage.*pretrain_epochs"),
        ("GRU4Rec", {"transform": "mask_itemseq"}, "transform.*comes with"),
    ],
)
def test_what_a_model_lacks_is_said(
    model: str, options: dict[str, Any], expected: str, toy: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=re.compile(expected, re.DOTALL)):
        run_experiment(settings_of(model, toy, **options), output=tmp_path, device="cpu")


def test_a_missing_file_of_vectors_is_named(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "toy.inter").write_text((toy / "toy.inter").read_text())
    assert cli.main(["run", "--model", "KSR", "--dataset", str(folder), "--output", str(tmp_path / "results")]) == 2
    assert "toy.ent" in capsys.readouterr().err


class Flat(resolve_model("Pop")):  # type: ignore[misc]
    """A model whose scores have a wrong shape."""

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        return super().full_sort_predict(interaction)[:-1]


def test_scores_of_a_wrong_shape_are_refused(toy: Path, tmp_path: Path) -> None:
    settings = load_settings(Flat, str(toy))
    with pytest.raises(InputError, match=r"Flat gives scores of shape .* expected one for each of 25 items"):
        run_experiment(settings, output=tmp_path, device="cpu")


@pytest.mark.parametrize(("model", "kind"), [("FM", "context"), ("KGAT", "knowledge")])
def test_other_kinds_are_refused(model: str, kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{model} is a {kind} model in RecBole; expected a sequential or a general"):
        run_experiment(model, output=tmp_path)
