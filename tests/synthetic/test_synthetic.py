"""Planted logs: the rank, the entropy and the best that can be reached are what they are said to be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mos_recbole import cli
from mos_recbole.data import SequenceDataset
from mos_recbole.errors import InputError
from mos_recbole.experiment import load_settings, run_experiment
from mos_recbole.synthetic import best_achievable, draw_log, plant, read_truth, write_planted

SMALL = {"rank": 6, "n_users": 60, "n_items": 20}


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def stationary_by_eigenvector(chain: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eig(chain.T)
    share = np.real(vectors[:, np.argmax(np.real(values))])
    return share / share.sum()


# --------------------------------------------------------------------------------------------- the process


@pytest.mark.parametrize(
    ("rank", "n_items", "options"),
    [
        *((rank, 40, {}) for rank in (1, 2, 3, 4, 17, 39, 40)),
        (2, 40, {"noise": 0.5}),
        (12, 90, {"diversity": 0.0}),
        (3, 90, {"diversity": 0.4}),
        (30, 90, {"diversity": 0.4, "noise": 0.9, "entropy": 2.0}),
        (64, 300, {"entropy": 1.5}),
        (64, 300, {"decay": 1.0}),
        (2, 2, {}),
    ],
)
def test_the_rank_is_the_one_asked_for(rank: int, n_items: int, options: dict[str, float]) -> None:
    """Of the matrix of log-probabilities itself, in float64, popularity and normaliser included, by NumPy's SVD."""
    process = plant(rank, n_items, generator(), **options)
    log_prob = process.log_prob(np.arange(n_items))
    assert np.linalg.matrix_rank(log_prob) == rank == process.rank == process.numerical_rank
    singular = np.linalg.svd(log_prob, compute_uv=False)
    np.testing.assert_allclose(process.singular_values, singular[:rank], rtol=1e-8)
    # Well above what rounding makes of 0, not barely.
    assert singular[rank - 1] > 1e-6 * singular[0]
    np.testing.assert_allclose(np.exp(log_prob).sum(axis=1), 1.0, rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    n_items=st.integers(3, 40),
    share=st.floats(0, 1),
    diversity=st.floats(0, 1),
    noise=st.floats(0, 0.95),
    seed=st.integers(0, 1000),
)
def test_every_process_is_a_chain_of_its_rank(
    n_items: int, share: float, diversity: float, noise: float, seed: int
) -> None:
    rank = 3 + round(share * (n_items - 3))
    process = plant(rank, n_items, generator(seed), diversity=diversity, noise=noise)
    chain = np.exp(process.log_prob(np.arange(n_items)))
    assert process.numerical_rank == rank
    np.testing.assert_allclose(chain.sum(axis=1), 1.0, rtol=1e-10)
    np.testing.assert_allclose(process.stationary @ chain, process.stationary, atol=1e-10)
    assert process.stationary.sum() == pytest.approx(1.0)


def test_rank_1_is_popularity() -> None:
    process = plant(1, 30, generator())
    np.testing.assert_allclose(np.exp(process.log_prob(np.arange(30))), np.tile(process.popularity, (30, 1)))
    assert process.entropy == pytest.approx(process.popularity_loss)


def test_interaction_dimensions_matter_alike() -> None:
    """Of the 34 singular values all but the few that popularity and the normaliser mix with are of one size."""
    singular = plant(34, 200, generator(), entropy=3.0).singular_values
    assert singular[2] / singular[29] < 1.001


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.5])
def test_singular_values_decay(decay: float) -> None:
    """Those of the interaction, popularity and normaliser left out, by NumPy's SVD: in proportion to k^-a."""
    process = plant(34, 200, generator(), decay=decay)
    interaction = process.context_factors[:, 1:-1] @ process.item_factors[:, 1:-1].T
    singular = np.linalg.svd(interaction, compute_uv=False)[:32]
    np.testing.assert_allclose(singular / singular[0], np.arange(1, 33) ** -decay, rtol=1e-10)


@pytest.mark.parametrize("wanted", [1.0, 2.5, 3.5])
def test_entropy_by_brute_force(wanted: float) -> None:
    """Item by item, over contexts as the chain visits them; and it is the one that was asked for."""
    process = plant(20, 60, generator(), entropy=wanted)
    log_prob = process.log_prob(np.arange(60))
    share = stationary_by_eigenvector(np.exp(log_prob))
    brute = -sum(
        share[before] * np.exp(log_prob[before, after]) * log_prob[before, after]
        for before in range(60)
        for after in range(60)
    )
    assert process.entropy == pytest.approx(brute, rel=1e-9)
    assert process.entropy == pytest.approx(wanted, abs=1e-4)
    assert process.popularity_loss == pytest.approx(stats.entropy(share))
    likeliest = np.sort(np.exp(log_prob), axis=1)[:, ::-1]
    for k in (1, 10, 60, 100):
        assert process.expected_recall(k) == pytest.approx(share @ likeliest[:, :k].sum(axis=1))


def test_noise_is_the_weighted_geometric_mean_with_popularity() -> None:
    clean, noisy = (plant(9, 40, generator(), noise=noise) for noise in (0.0, 0.3))
    contexts = np.arange(40)
    mean = 0.7 * clean.log_prob(contexts) + 0.3 * np.log(clean.popularity)
    constant = noisy.log_prob(contexts) - mean
    np.testing.assert_allclose(constant - constant[:, :1], 0, atol=1e-9)
    assert noisy.entropy > clean.entropy


def test_large_catalogues_go_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = plant(7, 50, generator())
    monkeypatch.setattr("mos_recbole.synthetic.process._BLOCK_NUMBERS", 350)
    blocks = plant(7, 50, generator())
    np.testing.assert_allclose(blocks.log_prob(np.arange(50)), whole.log_prob(np.arange(50)), rtol=1e-9)
    assert blocks.entropy == pytest.approx(whole.entropy)
    assert blocks.expected_recall(10) == pytest.approx(whole.expected_recall(10))


# --------------------------------------------------------------------------------------------- the log


def test_transitions_have_the_true_probabilities() -> None:
    """Chi-squared tests, of all transitions and of first items; the same test refuses a process of another seed."""
    process, other = (plant(8, 15, generator(seed), entropy=1.8) for seed in (0, 1))
    log = draw_log(process, 20_000, generator(2))
    first = np.zeros(len(log.items), dtype=bool)
    first[log.offsets[:-1]] = True
    later = np.flatnonzero(~first)
    counts = np.zeros((15, 15))
    np.add.at(counts, (log.items[later - 1], log.items[later]), 1)

    def p_value(truth: Any) -> float:
        expected = counts.sum(axis=1, keepdims=True) * np.exp(truth.log_prob(np.arange(15)))
        enough = expected > 5
        surprise = ((counts - expected) ** 2 / expected)[enough].sum()
        return float(stats.chi2.sf(surprise, enough.sum() - 15))

    assert p_value(process) > 1e-3
    assert p_value(other) < 1e-12
    start = np.bincount(log.items[first], minlength=15)
    assert stats.chisquare(start, process.stationary * start.sum()).pvalue > 1e-3
    np.testing.assert_allclose(np.bincount(log.items) / len(log.items), process.stationary, atol=0.003)


def test_lengths_and_popularity_have_long_tails() -> None:
    process = plant(40, 400, generator())
    log = draw_log(process, 20_000, generator(1), mean_length=20)
    lengths = log.lengths
    assert lengths.min() == 4
    assert 19.5 < lengths.mean() < 20.5
    assert np.median(lengths) < 0.65 * lengths.mean()
    assert lengths.max() > 10 * lengths.mean()
    count = np.sort(np.bincount(log.items, minlength=400))[::-1]
    assert count[:20].sum() > 0.2 * count.sum()
    assert len(log.items) == log.offsets[-1]
    same_user = np.ones(len(log.items), dtype=bool)
    same_user[log.offsets[:-1]] = False
    assert (np.diff(log.times)[same_user[1:]] > 0).all()


def test_best_by_brute_force() -> None:
    """Loss, ranks and metrics of the true probabilities, query by query; items that the log lacks do not compete."""
    process = plant(5, 30, generator(), entropy=1.2)
    log = draw_log(process, 25, generator(3), mean_length=5)
    candidates = set(log.items.tolist())
    assert len(candidates) < 30
    for from_end in (1, 2):
        best = best_achievable(process, log, from_end)
        losses, ranks = [], []
        for start, stop in zip(log.offsets[:-1], log.offsets[1:], strict=True):
            sequence = log.items[start:stop]
            context, target = sequence[-from_end - 1], sequence[-from_end]
            row = process.log_prob(np.array([context]))[0]
            losses.append(-row[target])
            ranks.append(1 + sum(row[item] > row[target] for item in candidates))
        assert best.loss == pytest.approx(np.mean(losses))
        np.testing.assert_array_equal(best.rank, ranks)
        assert best.metrics["Recall@10"] == np.mean(np.array(ranks) <= 10)
        assert best.metrics["NDCG@10"] == pytest.approx(
            np.mean([1 / np.log2(rank + 1) if rank <= 10 else 0 for rank in ranks])
        )


def test_best_loss_is_the_entropy_on_average() -> None:
    process = plant(20, 100, generator(), entropy=2.5)
    best = best_achievable(process, draw_log(process, 20_000, generator(1), mean_length=8), 1)
    error = best.log_probability.std() / np.sqrt(20_000)
    assert best.loss == pytest.approx(process.entropy, abs=4 * error)
    assert best.metrics["Recall@10"] == pytest.approx(process.expected_recall(10), abs=0.015)


# --------------------------------------------------------------------------------------------- the data set


def test_the_package_reads_it_and_finds_the_truth(tmp_path: Path) -> None:
    """What truth.json says is what the outcomes of a run say, query by query."""
    folder = tmp_path / "planted"
    said = write_planted(folder, rank=10, n_users=200, n_items=60, mean_length=12, seed=5)
    truth, process, tokens = read_truth(folder)
    assert truth == json.loads(json.dumps(said))
    assert truth["rank"] == truth["numerical_rank"] == 10

    overrides = {"embedding_size": 4, "hidden_size": 4, "epochs": 1}
    config = load_settings("GRU4RecSoftmax", str(folder), [], overrides).recbole_config(torch.device("cpu"))
    data = SequenceDataset(config)
    assert data.item_num - 1 == truth["log"]["items"]
    assert len(data.sequences.items) == truth["log"]["interactions"]
    assert data.sequences.tied_share() == 0

    record = run_experiment("GRU4RecSoftmax", str(folder), **overrides, output=tmp_path / "results", device="cpu")
    outcomes = record.outcomes()
    log = pd.read_csv(folder / "planted.inter", sep="\t")
    log.columns = ["user", "item", "time"]
    number = {token: place for place, token in enumerate(tokens)}
    item_of = {(user, place): item for user, group in log.groupby("user") for place, item in enumerate(group["item"])}
    context = np.array(
        [number[item_of[user, at - 1]] for user, at in zip(outcomes["user"], outcomes["position"], strict=True)]
    )
    target = outcomes["target"].map(number).to_numpy()
    own = process.log_prob(context)[np.arange(len(target)), target]
    test = truth["leave_one_out"]["test"]
    assert len(outcomes) == 200
    assert -own.mean() == pytest.approx(test["loss"])
    assert (outcomes["candidates"] == truth["log"]["items"]).all()
    in_log = np.isin(np.arange(60), log["item"].map(number))
    rank = 1 + ((process.log_prob(context) > own[:, None]) & in_log).sum(axis=1)
    assert (rank <= 10).mean() == pytest.approx(test["Recall@10"])
    assert outcomes["previous_distance"].mean() == pytest.approx(truth["log"]["previous_distance"])


def test_diversity_moves_the_distance_of_consecutive_items(tmp_path: Path) -> None:
    """The article's measure, over seeds; the entropy stays where it is."""
    found = {}
    for diversity in (0.0, 0.4, 1.0):
        truths = [
            write_planted(
                tmp_path / f"{diversity}-{seed}", rank=20, n_users=2000, n_items=200, entropy=3.0, diversity=diversity,
                mean_length=15, seed=seed,
            )
            for seed in range(3)
        ]  # fmt: skip
        found[diversity] = np.mean([truth["log"]["previous_distance"] for truth in truths])
        assert all(truth["entropy"] == pytest.approx(3.0, abs=1e-4) for truth in truths)
        assert all(truth["numerical_rank"] == 20 for truth in truths)
    assert found[0.0] + 0.02 < found[0.4]
    assert found[0.4] + 0.05 < found[1.0]


def test_the_same_arguments_give_the_same_files(tmp_path: Path) -> None:
    """Byte for byte; another seed gives others; and the sequence of a seed is for ever."""
    for name, seed in (("a/log", 3), ("b/log", 3), ("c/log", 4)):
        write_planted(tmp_path / name, **SMALL, seed=seed)
    texts = {
        name: [(tmp_path / name / "log" / file).read_bytes() for file in ("log.inter", "truth.json")] for name in "abc"
    }
    assert texts["a"] == texts["b"]
    assert texts["a"] != texts["c"]
    lines = texts["a"][0].decode().splitlines()
    assert lines[0] == "user_id:token\titem_id:token\ttimestamp:float"
    assert lines[1:5] == ["u0\ti17\t1326528113", "u0\ti6\t1326528976", "u0\ti19\t1326530037", "u0\ti6\t1326530146"]


@pytest.mark.parametrize(
    ("file", "spoilt"),
    [
        ("truth.npz", lambda whole: b"no archive"),
        ("truth.npz", lambda whole: b""),
        ("truth.npz", lambda whole: whole[:200]),
        ("truth.npz", lambda whole: whole[:-200]),
        ("truth.json", lambda whole: b"[]"),
        ("truth.json", lambda whole: whole[:-20]),
        ("truth.json", None),
    ],
)
def test_a_broken_truth_is_named(file: str, spoilt: Callable[[bytes], bytes] | None, tmp_path: Path) -> None:
    write_planted(tmp_path / "log", **SMALL)
    path = tmp_path / "log" / file
    whole = path.read_bytes()
    path.unlink()
    if spoilt is not None:
        path.write_bytes(spoilt(whole))
    with pytest.raises(InputError, match="expected a data set that mos-recbole synth wrote"):
        read_truth(tmp_path / "log")


# --------------------------------------------------------------------------------------------- the command


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Returns a function (arguments...) -> exit status, standard output, standard error, of `mos-recbole synth`."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = cli.main(["synth", *(str(argument) for argument in arguments)])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run


ARGUMENTS = ("--rank", 6, "--users=60", "--items", 20)


def test_the_command_writes_a_data_set_and_says_what_is_true(call, tmp_path: Path) -> None:
    out = tmp_path / "new" / "log"
    status, text, error = call(
        *ARGUMENTS,
        "--out",
        out,
        "--diversity=0.5",
        "--noise=0.1",
        "--decay=0.5",
        "--entropy=1.5",
        "--length=9",
        "--seed=3",
    )
    assert (status, error) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == ["log.inter", "truth.json", "truth.npz"]
    truth = json.loads((out / "truth.json").read_text())
    assert truth["asked"] == {
        **{"rank": 6, "users": 60, "items": 20, "diversity": 0.5, "noise": 0.1, "decay": 0.5, "entropy": 1.5},
        **{"mean_length": 9.0, "seed": 3},
    }
    assert "rank 6" in text
    assert f"{truth['entropy']:.4f}" in text
    assert f"{truth['leave_one_out']['test']['loss']:.4f}" in text
    assert f"--dataset {out}" in text


def test_the_next_command_finds_the_data(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in the working directory is named so that it is not looked for in dataset/."""
    monkeypatch.chdir(tmp_path)
    _, text, _ = call(*ARGUMENTS, "--out", "here")
    assert "--dataset ./here\n" in text


def test_data_that_are_there_are_left_alone(call, tmp_path: Path) -> None:
    """A folder with anything in it is refused and stays as it was; an empty one is taken."""
    full, empty, file = (tmp_path / name for name in ("full", "empty", "file"))
    full.mkdir()
    empty.mkdir()
    file.touch()
    (full / "mine").write_text("mine")
    for place in (full, file, file / "below"):
        status, _, error = call(*ARGUMENTS, "--out", place)
        assert status == 2
        assert error.count("error:") == 1
        assert "expected" in error
    assert call(*ARGUMENTS, "--out", empty)[0] == 0
    assert call(*ARGUMENTS, "--out", empty)[0] == 2
    assert [path.name for path in full.iterdir()] == ["mine"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full"]


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_half_written_is_left(fault: BaseException, call, tmp_path: Path, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(np, "savez", fail)
    status, _, error = call(*ARGUMENTS, "--out", tmp_path / "log")
    assert status == (2 if isinstance(fault, OSError) else 130)
    assert "--resume" not in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 21}, "matrix of 20 x 20"),
        ({"rank": 21}, "at most 20, or 21 items or more"),
        ({"rank": 0}, "expected 1"),
        ({"rank": -3}, "expected 1"),
        ({"users": 2}, "expected 3 or more"),
        ({"items": 1, "rank": 1}, "expected 2 to"),
        ({"items": 10**6}, "expected 2 to 16,384"),
        ({"diversity": 1.1}, "expected 0"),
        ({"diversity": "nan"}, "expected 0"),
        ({"noise": 1}, "to below 1"),
        ({"noise": -0.1}, "to below 1"),
        ({"decay": -0.5}, "decay -0.5; expected 0"),
        ({"noise": 1 - 1e-13}, "rank 6: in float64 the log-probabilities have rank"),
        ({"noise": 1 - 1e-15, "rank": 2}, "rank 2: in float64 the log-probabilities have rank 1"),
        ({"entropy": 0}, "above 0"),
        ({"entropy": 9}, "popularity alone has"),
        ({"entropy": "nan"}, "above 0"),
        ({"entropy": 1e-9, "rank": 3}, "too low for these items; expected 0.0"),
        ({"rank": 2, "entropy": 1}, "rank of 3 or more"),
        ({"rank": 2, "diversity": 0.5}, "rank of 3 or more"),
        ({"length": 4}, "more than 4"),
        ({"length": "inf"}, "more than 4"),
        ({"length": 1e12}, "too many"),
        ({"users": 10**15}, "too many"),
        ({"seed": -1}, "expected 0 or more"),
        ({"rank": "six"}, "invalid int value"),
    ],
)
def test_bad_input_is_one_message(changes: dict[str, object], message: str, call, tmp_path: Path) -> None:
    """Exit status 2, what was expected, no traceback, and no folder."""
    values = {"rank": 6, "users": 60, "items": 20, "out": tmp_path / "below" / "log"} | changes
    status, out, error = call(*(f"--{key}={value}" for key, value in values.items()))
    assert (status, out) == (2, "")
    assert error.count("error:") == 1
    assert message in error
    assert list(tmp_path.iterdir()) == []
