"""What trained runs recommend, and what they leave to other programs."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from built import redraw
from recbole.data.interaction import Interaction

from mos_recbole import load_run, run_experiment
from mos_recbole.errors import InputError
from mos_recbole.experiment import TrainedRun
from mos_recbole.experiment.export import export_onnx, export_vectors
from mos_recbole.training import query_scores
from mos_recbole.training.prefixes import Fields

L = 6
SMALL = {"embedding_size": 8, "hidden_size": 8, "MAX_ITEM_LIST_LENGTH": L, "epochs": 1}
RUNS: dict[str, dict[str, Any]] = {
    "GRU4RecMoS": {},
    "SASRecMixtape": {"inner_size": 16, "split": "temporal", "test_share": 0.3},
    "STAMPSoftmax": {"item_bias": True},
    "GRU4Rec": {"train_batch_size": 512},
    "Pop": {},
    "BPR": {},
    "FPMC": {"train_batch_size": 512},
    "SHAN": {"train_batch_size": 512},
}


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedRun]:
    """One trained run a model, by its name."""
    output, found = tmp_path_factory.mktemp("runs"), {}
    for name, settings in RUNS.items():
        small = {key: value for key, value in SMALL.items() if name.startswith("GRU4Rec") or key == "epochs"}
        record = run_experiment(name, str(data), output=output, device="cpu", **small, **settings)
        found[name] = load_run(record, "cpu", data.parent)
        redraw(found[name].model)  # scores after an epoch differ by little more than rounding
    return found


def score(run: TrainedRun, items: list[int], user: int) -> np.ndarray:
    """Returns the scores of all items, asked for by themselves."""
    fields, length = Fields.of(run.config), run.config["MAX_ITEM_LIST_LENGTH"]
    window = torch.zeros(1, length, dtype=torch.int64)
    window[0, : len(items[-length:])] = torch.tensor(items[-length:])
    columns = {
        fields.user: torch.tensor([user]),
        fields.item_seq: window,
        fields.item_seq_len: torch.tensor([min(length, len(items))]),
    }
    with torch.no_grad():
        if run.config["MODEL_TYPE"].name == "SEQUENTIAL" and hasattr(run.model, "head"):
            return run.model.full_sort_predict(Interaction(columns))[0].double().numpy()
        return query_scores(run.model, run.config, Interaction(columns), run.data.item_num)[0].double().numpy()


def brute_force(run: TrainedRun, queries: dict[Any, tuple[list[int], int]], k: int, filter_seen: bool) -> pd.DataFrame:
    """Returns the lists of queries, name -> (items, user), by a sort of all items."""
    names = run.data.field2token_id[run.data.iid_field]
    trained = run.data.train_counts(run.split)
    rows = []
    for query, (items, user) in queries.items():
        scores = score(run, items, user)
        candidates = [name for name, item in names.items() if item and not (filter_seen and item in items)]
        if run.protocol.candidates == "trained":
            candidates = [name for name in candidates if trained[names[name]]]
        candidates.sort(key=lambda name: (-scores[names[name]], name))
        rows += [(query, rank, name, scores[names[name]]) for rank, name in enumerate(candidates[:k], start=1)]
    return pd.DataFrame(rows, columns=["query", "rank", "item", "score"])


def assert_equal(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(found.columns) == ["query", "rank", "item", "score"]
    for column in ("query", "rank", "item"):
        assert found[column].tolist() == expected[column].tolist(), column
    np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-5, atol=1e-5)


def of_users(run: TrainedRun) -> dict[Any, tuple[list[int], int]]:
    flat, names = run.data.sequences, run.data.field2id_token[run.data.uid_field]
    parts = np.split(flat.items, flat.offsets[1:-1])
    return {names[user]: (part.tolist(), int(user)) for user, part in zip(flat.users, parts, strict=True)}


@pytest.mark.parametrize("filter_seen", [False, True])
@pytest.mark.parametrize("name", RUNS)
def test_users_get_the_best_items(runs: dict[str, TrainedRun], name: str, filter_seen: bool) -> None:
    """All users and some, as a sort of all items has them: ties by name, no padding, candidates only."""
    run = runs[name]
    k = run.data.item_num // 2
    expected = brute_force(run, of_users(run), k, filter_seen)
    assert_equal(run.recommend(k=k, filter_seen=filter_seen), expected)
    some = ["u7", "u3"]
    wanted = pd.concat([expected[expected["query"] == user] for user in some])
    assert_equal(run.recommend(users=some, k=k, filter_seen=filter_seen), wanted)
    assert not expected["item"].isin(["[PAD]"]).any()


def test_ties_are_ordered_by_name(runs: dict[str, TrainedRun]) -> None:
    """Pop has many of them."""
    run = runs["Pop"]
    run.model.item_cnt[:] = torch.arange(len(run.model.item_cnt))[:, None] % 3
    assert_equal(run.recommend(k=9), brute_force(run, of_users(run), 9, False))


@pytest.mark.parametrize("name", ["GRU4RecMoS", "SASRecMixtape", "STAMPSoftmax", "GRU4Rec", "Pop"])
def test_new_sequences(runs: dict[str, TrainedRun], name: str, caplog: pytest.LogCaptureFixture) -> None:
    """By number or by name; what is unknown is left out and counted; the padding's name is unknown too."""
    run = runs[name]
    number_of = run.data.field2token_id[run.data.iid_field]
    sequences = {"ann": ["i3", "i5", "i3"], "bob": [f"i{item % 20}" for item in range(30)]}
    queries = {name: ([number_of[item] for item in items], 0) for name, items in sequences.items()}
    for filter_seen in (False, True):
        found = run.recommend(sequences, k=5, filter_seen=filter_seen)
        assert_equal(found, brute_force(run, queries, 5, filter_seen))
    numbered = run.recommend(list(sequences.values()), k=5)
    assert numbered["query"].tolist() == [0] * 5 + [1] * 5
    assert not caplog.records
    odd = {"ann": ["nonsense", "i3", "[PAD]", "i5", "i3"], "bob": sequences["bob"], "eve": ["none"]}
    pd.testing.assert_frame_equal(run.recommend(odd, k=5), run.recommend(sequences, k=5))
    assert caplog.messages == [
        "3 unknown items left out, the first in sequence 'ann': item 'nonsense'; 1 sequences have no other and get no "
        "list"
    ]
    with pytest.raises(InputError, match="sequence 'ann': item 'nonsense' is not in the data"):
        run.recommend(odd, k=5, strict=True)
    by_user = {name: pd.Series(items, index=range(7, 7 + len(items))) for name, items in odd.items()}
    pd.testing.assert_frame_equal(run.recommend(by_user, k=5), run.recommend(odd, k=5))


@pytest.mark.parametrize("name", ["BPR", "FPMC", "SHAN"])
def test_models_that_have_to_know_the_user_say_so(runs: dict[str, TrainedRun], name: str) -> None:
    """In one sentence; SHAN's user weighs items, of which a sequence of one has nothing to weigh."""
    with pytest.raises(InputError, match=f"^{name} scores items for users that it knows, not for new users"):
        runs[name].recommend([["i3"]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sequences": []}, "no sequences"),
        ({"sequences": [["i3"], []]}, r"sequence 1: \[\] is no sequence"),
        ({"sequences": ["i3"]}, "sequence 0: 'i3' is no sequence"),
        ({"sequences": [["none"]]}, "sequence 0: item 'none' and all others are not in the data"),
        ({"users": ["u1", "U2"]}, "user 'U2': not in the data of the run; did you mean u2"),
        ({"users": ["u1", "u2", "u1"]}, "user 'u1' is named twice"),
        (
            {"users": ["[PAD]"]},
            r"user '\[PAD\]': not in the data of the run; a new user's items are given by sequences",
        ),
        ({"users": []}, "no users; expected the name of a user or more"),
        ({"sequences": {1: ["i3"], "a": ["i4"]}}, "names of sequences are of several kinds"),
        ({"k": 0}, "k is 0; expected 1 to 20"),
        ({"k": 21}, "k is 21; expected 1 to 20"),
    ],
)
def test_bad_input(runs: dict[str, TrainedRun], arguments: dict[str, Any], message: str) -> None:
    """One message."""
    with pytest.raises(InputError, match=message):
        runs["GRU4RecMoS"].recommend(**arguments)


def test_names_that_are_numbers_differ(runs: dict[str, TrainedRun]) -> None:
    """In Python, -1 and -2 have one hash."""
    assert runs["GRU4RecMoS"].recommend({-1: ["i3"], -2: ["i4"]}, k=1)["query"].tolist() == [-1, -2]


def test_a_final_fit_has_learned_from_validation(data: Path, tmp_path: Path) -> None:
    """So that its lists for these queries would be no validation."""
    record = run_experiment("GRU4RecMoS", str(data), output=tmp_path, device="cpu", final_fit="train+valid", **SMALL)
    run = load_run(record, "cpu", data.parent)
    with pytest.raises(InputError, match=r"final_fit is train\+valid: its model has learned from the targets of valid"):
        run.recommend(held_out="valid")
    assert len(run.recommend(held_out="test", k=1)) == len(record.outcomes())


def test_memory_is_bounded_by_blocks(runs: dict[str, TrainedRun], monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks and batches give what one block gives."""
    run = runs["GRU4RecMoS"]
    expected = run.recommend(filter_seen=True)
    monkeypatch.setattr("mos_recbole.experiment.recommend._BLOCK", 7)
    monkeypatch.setattr("mos_recbole.experiment.recommend._MOST_ENCODED", 3)
    found = run.recommend(filter_seen=True)
    assert found["item"].tolist() == expected["item"].tolist()
    np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-5, atol=1e-5)


def test_vectors_give_the_scores(runs: dict[str, TrainedRun], tmp_path: Path) -> None:
    """The formula of the docstring on what the file holds gives what is recommended."""
    for name in ("GRU4RecMoS", "STAMPSoftmax"):
        run = runs[name]
        export_vectors(run, tmp_path / "vectors.npz")
        held = np.load(tmp_path / "vectors.npz")
        logits_UKV = torch.from_numpy(held["component_vectors"] @ held["item_vectors"].T + held["item_bias"])
        log_prob_UKV = torch.log_softmax(logits_UKV, dim=-1) + torch.from_numpy(held["log_mixture_weights"])[:, :, None]
        score_UV = log_prob_UKV.logsumexp(dim=1).numpy()
        score_UV[:, ~held["is_candidate"]] = -np.inf
        found = run.recommend(k=1)
        assert held["user_names"].tolist() == found["query"].tolist()
        assert held["item_names"][score_UV.argmax(axis=1)].tolist() == found["item"].tolist()
        np.testing.assert_allclose(score_UV.max(axis=1), found["score"], rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="its scores are no dot products"):
        export_vectors(runs["SASRecMixtape"], tmp_path / "none.npz")
    with pytest.raises(InputError, match="RecBole's own class"):
        export_vectors(runs["BPR"], tmp_path / "none.npz")


needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs onnx, onnxscript and onnxruntime",
)


@needs_onnx
@pytest.mark.parametrize("name", ["GRU4RecMoS", pytest.param("SASRecMixtape", marks=pytest.mark.slow)])
def test_onnx_gives_the_same_lists(runs: dict[str, TrainedRun], name: str, tmp_path: Path) -> None:
    """For 1,000 sequences, from ids and names that the model brings along."""
    import onnxruntime

    run, path, generator = runs[name], tmp_path / "model.onnx", np.random.default_rng(3)
    export_onnx(run, path, k=10)
    session = onnxruntime.InferenceSession(path)
    names = json.loads(session.get_modelmeta().custom_metadata_map["item_names"])
    length = run.config["MAX_ITEM_LIST_LENGTH"]
    item_seq = generator.integers(1, len(names), size=(1000, length))
    length_B = generator.integers(1, length + 1, size=1000)
    item_seq[np.arange(length) >= length_B[:, None]] = 0
    items, scores = session.run(None, {"item_seq": item_seq})
    found = run.recommend([[names[item] for item in row if item] for row in item_seq.tolist()], k=10)
    assert [names[item] for item in items.ravel()] == found["item"].tolist()
    np.testing.assert_allclose(scores.ravel(), found["score"], rtol=1e-4, atol=1e-5)


@needs_onnx
def test_what_cannot_be_exported(runs: dict[str, TrainedRun], tmp_path: Path) -> None:
    """One message, and no file."""
    for name in ("GRU4Rec", "BPR"):
        with pytest.raises(InputError, match=f"{name} is RecBole's own class"):
            export_onnx(runs[name], tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@needs_onnx
@pytest.mark.slow
def test_an_encoder_for_batches_of_one_size_is_not_exported(runs: dict[str, TrainedRun], tmp_path: Path) -> None:
    """The code of RecBole's STAMP makes a constant of the number of sequences."""
    with pytest.raises(InputError, match="STAMPSoftmax cannot be written as ONNX"):
        export_onnx(runs["STAMPSoftmax"], tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_lists_of_a_model_that_draws_when_it_is_built(data: Path, tmp_path: Path) -> None:
    """NNCF's neighbours are drawn and no weights: those of training come back."""
    record = run_experiment("NNCF", str(data), output=tmp_path, device="cpu", epochs=1)
    torch.rand(1)
    np.random.rand(1)  # noqa: NPY002 – the source that RecBole draws from
    found = load_run(record, "cpu", data.parent).recommend(k=3, held_out="test")
    kept = record.top_items()
    expected = [kept.names[items[:3]].tolist() for items in kept.items]
    assert found["item"].to_numpy().reshape(-1, 3).tolist() == expected


def test_users_whose_rows_have_lists_are_recommended_once(tmp_path: Path) -> None:
    """What follows their last row: its list and its target."""
    folder, sides = tmp_path / "rows", ("train", "valid", "test")
    folder.mkdir()
    for number, side in enumerate(sides):
        lines = ["user_id:token\titem_id_list:token_seq\titem_id:token"]
        for user in range(8):
            items = [f"i{(user + step) % 9}" for step in range(5)]
            places = range(1 + number, 3 + number)
            lines += [f"u{user}\t{' '.join(items[:place])}\t{items[place]}" for place in places]
        (folder / f"rows.{side}.inter").write_text("\n".join(lines) + "\n")
    settings = {"benchmark_filename": [*sides], "alias_of_item_id": ["item_id_list"]}
    record = run_experiment("GRU4RecMoS", str(folder), output=tmp_path / "out", device="cpu", **SMALL, **settings)
    run = load_run(record, "cpu", tmp_path)
    redraw(run.model)
    sequences = {f"u{user}": [f"i{(user + step) % 9}" for step in range(5)] for user in range(8)}
    expected = run.recommend(sequences, k=4)
    assert_equal(run.recommend(k=4), expected)
    some = ["u5", "u2"]
    assert_equal(run.recommend(users=some, k=4), pd.concat([expected[expected["query"] == user] for user in some]))
    export_vectors(run, tmp_path / "vectors.npz")
    assert np.load(tmp_path / "vectors.npz")["user_names"].tolist() == [*sequences]
