"""Cutting answers to lower ranks: against NumPy by hand, what must not change, planted ranks, the command."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_data import write_inter

from mos_recbole import cli, run_experiment
from mos_recbole.analysis import AblatedGroup, RankAblation, RunGroup
from mos_recbole.errors import InputError
from mos_recbole.evaluation import (
    OVERLAP,
    RankCuts,
    cut_to_ranks,
    default_ranks,
    leading_directions,
    list_overlap,
    mean_interval,
)
from mos_recbole.experiment import load_run
from mos_recbole.experiment.rank_ablation import ablate_run
from mos_recbole.experiment.spectra import SpectrumPlan
from mos_recbole.heads import MoSHead, OutputHead, SoftmaxHead
from mos_recbole.report.figures.rank_ablation import draw_rank_ablation
from mos_recbole.results import RunResult, find_records
from mos_recbole.synthetic import write_planted
from mos_recbole.training import make_query_set
from mos_recbole.training.loaders import Fields

N, V, WIDTH = 90, 60, 5


def two_sides(head: OutputHead) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns log-probabilities [N, V] of other states each, by a head with random weights."""
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(V, WIDTH, dtype=torch.float64, generator=generator)
    head = head.double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        states = (torch.randn(N, WIDTH, dtype=torch.float64, generator=generator) for _ in range(2))
        first, second = (head.log_prob(state, table) for state in states)
    return first, second


@pytest.mark.parametrize("method", ["exact", "randomised"])
@pytest.mark.parametrize(("item_bias", "output_rank"), [(False, 0), (True, 0), (False, 3)])
def test_a_softmax_stays_as_it_is(item_bias: bool, output_rank: int, method: str) -> None:
    """Cut to d or its output rank, or to d + 1 with item biases, and to no less: its normaliser is no direction."""
    valid, test = two_sides(SoftmaxHead(V, WIDTH, item_bias=item_bias, output_rank=output_rank))
    n_directions = (output_rank or WIDTH) + item_bias
    directions = leading_directions(valid.clone(), n_directions + 3, method)  # type: ignore[arg-type]
    ranks = (n_directions - 1, n_directions, n_directions + 1, n_directions + 3)
    below, *others = ((cut - test).abs().max() for cut in cut_to_ranks(test, directions, ranks))
    assert below > 0.01
    assert max(others) < 1e-12


def test_a_mixture_changes_at_every_rank_but_the_last() -> None:
    valid, test = two_sides(MoSHead(V, WIDTH, n_components=4))
    changes = [
        float((cut - test).abs().max())
        for cut in cut_to_ranks(test, leading_directions(valid, V - 1, "exact"), (WIDTH + 1, 30, V - 2, V - 1))
    ]
    assert min(changes[:3]) > 1e-6
    assert changes[3] < 1e-11


@pytest.mark.parametrize("n", [40, 90])
def test_cuts_are_numpys(n: int) -> None:
    """Right singular vectors of rows less their means, of more queries than items and of fewer."""
    valid, test = (one.numpy() for one in two_sides(MoSHead(V, WIDTH, n_components=3)))
    _, _, right = np.linalg.svd(valid[:n] - valid[:n].mean(axis=1, keepdims=True), full_matrices=False)
    ranks = (1, 2, 7, 20)
    directions = leading_directions(torch.from_numpy(valid[:n].copy()), 25, "exact")
    for rank, cut in zip(ranks, cut_to_ranks(torch.from_numpy(test), directions, ranks), strict=True):
        logits = (test - test.mean(axis=1, keepdims=True)) @ right[:rank].T @ right[:rank]
        expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(cut.numpy(), expected, atol=1e-11)


def test_no_other_directions_are_nearer() -> None:
    valid, _ = two_sides(MoSHead(V, WIDTH, n_components=4))
    rows = valid - valid.mean(dim=1, keepdim=True)
    best = leading_directions(valid, 6, "exact")
    other = torch.linalg.qr(best + 0.02 * torch.randn(best.shape, generator=torch.Generator().manual_seed(2))).Q
    left = [(rows - rows @ one @ one.T).square().sum() for one in (best, other)]
    assert left[0] < left[1]


def test_default_ranks() -> None:
    assert default_ranks(6, 40) == (1, 2, 4, 6, 7, 8, 16, 32)
    assert default_ranks(None, 8) == (1, 2, 4, 8)
    assert default_ranks(16, 16) == (1, 2, 4, 8, 16)


def test_overlap_by_hand() -> None:
    lists = torch.tensor([[3, 1, 2], [5, 4, 0]]), torch.tensor([[2, 9, 3], [4, 0, 0]])
    assert list_overlap(*lists).tolist() == pytest.approx([2 / 3, 1 / 2])


# ---------------------------------------------------------------------------------------------------- finished runs


def records(folder: Path, model: str) -> list[RunResult]:
    return [record for record in find_records(folder) if record.model == model]


def test_a_run_by_hand(trained_results: Path, data: Path) -> None:
    """The loss and the ranks of the cut predictions, query by query, with NumPy alone."""
    record = records(trained_results, "GRU4RecMoS")[1]
    run = load_run(record, "cpu", data.parent)
    fields, matrices, targets = Fields.of(run.config), [], []
    for side in ("valid", "test"):
        queries = make_query_set(run.config, run.data, run.split, side, run.protocol, run.config["device"])  # type: ignore[arg-type]
        batch = queries.batch(torch.arange(len(queries)), fields)
        with torch.no_grad():
            matrices.append(run.model.full_sort_predict(batch).double().numpy()[:, 1:])
        targets.append(batch[fields.item].numpy() - 1)
    valid, test = (one - one.mean(axis=1, keepdims=True) for one in matrices)
    _, _, right = np.linalg.svd(valid, full_matrices=False)
    found = ablate_run(record, ["NDCG@10", "Recall@5"], ranks=[9, 5], device="cpu", data_path=data.parent)
    assert found.ranks == (5, 9)
    for row, kept in enumerate((right[:5], right[:9], np.eye(test.shape[1]))):
        logits = test @ kept.T @ kept
        target = logits[np.arange(len(logits)), targets[1]]
        loss = np.log(np.exp(logits).sum(axis=1)) - target
        rank = 1 + (logits > target[:, None]).sum(axis=1)
        # The predictions are in float32.
        np.testing.assert_allclose(found.values["loss"][row], loss, atol=1e-5)
        np.testing.assert_allclose(found.values["NDCG@10"][row], np.where(rank <= 10, 1 / np.log2(rank + 1), 0))
        assert found.values["Recall@5"][row].tolist() == (rank <= 5).tolist()


def test_uncut_answers_are_the_runs_own(trained_results: Path, data: Path) -> None:
    """The record's metrics; RecBole's own classes too. A softmax stays so from d on, but not one below it."""
    for record in find_records(trained_results):
        found = ablate_run(record, ["NDCG@10", "Recall@10"], device="cpu", data_path=data.parent)
        for metric in ("NDCG@10", "Recall@10"):
            assert found.values[metric][-1].mean() == pytest.approx(record.test[metric].value, abs=1e-12)
        assert (found.values[OVERLAP][-1] == 1).all()
        if record.model == "GRU4RecSoftmax":
            loss = found.values["loss"].mean(axis=1)
            at_d = found.ranks.index(4)
            np.testing.assert_allclose(loss[at_d:], loss[-1], atol=1e-12)
            # The padding's share of the model's probabilities is divided among the candidates.
            assert loss[-1] < -record.outcomes()["log_probability"].mean() < loss[-1] + 0.1
            assert (found.values[OVERLAP][at_d:] == 1).all()
            assert abs(loss[at_d - 1] - loss[-1]) > 1e-6


@pytest.mark.parametrize(
    ("metrics", "ranks", "message"),
    [
        (["Novelty@10"], None, "metric Novelty@10: not of targets' ranks; expected one that is"),
        (["NDCG@10"], [4, 20], r"--ranks 4 20: expected 1 to 19: 30 validation queries x 20 items, exact"),
        (["NDCG@10"], [0], "--ranks 0: expected 1 to 19"),
    ],
)
def test_bad_input(
    trained_results: Path, data: Path, metrics: list[str], ranks: list[int] | None, message: str
) -> None:
    record = records(trained_results, "GRU4RecMoS")[0]
    with pytest.raises(InputError, match=message):
        ablate_run(record, metrics, SpectrumPlan(), ranks, device="cpu", data_path=data.parent)


def test_what_has_no_rank_to_cut(data: Path, tmp_path: Path) -> None:
    """No validation queries to find directions by; one item."""
    settings = {"embedding_size": 4, "hidden_size": 4, "epochs": 1, "device": "cpu"}
    record = run_experiment("GRU4RecMoS", str(data), output=tmp_path / "out", held_out="test_only", **settings)
    for command in ("ablate-rank", "spectrum"):
        assert cli.main([command, str(record.folder), "--dataset", str(data)]) == 2
    with pytest.raises(InputError, match="its split has no validation, whose queries are decomposed"):
        ablate_run(record, ["NDCG@10"], data_path=data.parent)
    one = write_inter(tmp_path, "one", [(user, "a", step) for user in range(4) for step in range(5)])
    record = run_experiment("GRU4RecMoS", str(one), output=tmp_path / "out", **settings)
    with pytest.raises(InputError, match="ranks one item alone; there is no rank to cut"):
        ablate_run(record, ["NDCG@10"], data_path=tmp_path)


def test_items_that_are_no_candidates(data: Path, tmp_path: Path) -> None:
    """A target that training lacks is a miss and has no loss, at every rank."""
    rows = [line.split("\t") for line in (data / "toy.inter").read_text().splitlines()]
    late = [[f"u{user}", "unseen", str(10**6 + user)] for user in range(12)]
    folder = tmp_path / "late"
    folder.mkdir()
    (folder / "late.inter").write_text("\n".join("\t".join(row) for row in rows + late) + "\n")
    settings = {"split": "temporal", "context_reach": "past", "filter_seen": True, "epochs": 1, "embedding_size": 4}
    record = run_experiment("GRU4RecSoftmax", str(folder), output=tmp_path / "out", device="cpu", **settings)
    found = ablate_run(record, ["NDCG@10"], device="cpu", data_path=tmp_path)
    assert found.values["NDCG@10"][-1].mean() == pytest.approx(record.test["NDCG@10"].value)
    missing = np.isnan(found.values["loss"])
    assert missing[-1].sum() == (record.outcomes()["rank"] == np.inf).sum() > 0
    assert (missing == missing[-1]).all()
    (group,) = (AblatedGroup(RunGroup("GRU4RecSoftmax", (record,)), (found,)),)
    assert np.isfinite(group.cuts[0].changes["loss"].half_width)


# ---------------------------------------------------------------------------------------------------- over seeds


def fabricated(seed: int, worse: float) -> RankCuts:
    """Returns cuts of 40 queries whose loss is worse at rank 2, by the same in all, whatever the seed's level."""
    level = np.random.default_rng(seed).normal(3 * seed, 1, 40)
    loss = np.stack([level + worse + np.linspace(-0.01, 0.01, 40), level, level])
    values = {"loss": loss, OVERLAP: np.ones_like(loss), "NDCG@10": np.full_like(loss, 0.5)}
    return RankCuts((2, 4), values, np.arange(40), 30, 20, 4, True)


def test_each_seed_is_its_own_control(trained_results: Path) -> None:
    """Seeds whose losses are far apart do not widen the interval of a change."""
    group = AblatedGroup(
        RunGroup("GRU4RecSoftmax", tuple(records(trained_results, "GRU4RecSoftmax"))),
        (fabricated(1, 0.3), fabricated(2, 0.3)),
    )
    two, four, full = group.cuts
    change = two.changes["loss"]
    assert change.mean == pytest.approx(0.3)
    assert change.half_width == pytest.approx(
        mean_interval(np.linspace(-0.01, 0.01, 40)[None], np.arange(40)).half_width
    )
    assert (four.changes["loss"].mean, full.rank, full.changes["loss"].half_width) == (0, None, 0)
    frame = RankAblation((group,), 7).frame()
    assert frame["rank"].tolist()[:2] == [2, 4]
    assert frame["loss change low"][0] == pytest.approx(change.low)


# ---------------------------------------------------------------------------------------------------- the command


def test_command(trained_results: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Table, caption, files and figure agree."""
    output = tmp_path / "cut"
    arguments = ["GRU4RecSoftmax", "GRU4RecMoS:mos_heads=2", "--results", str(trained_results), "--dataset", str(data)]
    more = ["--metrics", "NDCG@10", "Recall@10", "--device", "cpu", "--output", str(output)]
    assert cli.main(["ablate-rank", *arguments, *more]) == 0
    out, err = capsys.readouterr()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line[0:1] == "|"]
    header, rows = lines[0], lines[2:]
    assert header[:7] == ["model", "d", "K", "seeds", "r", "loss", "loss, r - full"]
    assert [row[4] for row in rows[:7]] == ["1", "2", "4 = d", "5 = d + 1", "8", "16", "full"]
    softmax = rows[3]
    assert softmax[6] in ("+0.0000 ± 0.0000", "-0.0000 ± 0.0000")
    assert softmax[-1] == "1.000 ± 0.000"
    assert re.fullmatch(r"[+-]0\.\d{4} ± 0\.\d{4}", rows[7][6])
    for text in ("20 items for 30 test queries", "With one seed, the interval is given this trained model: GRU4RecMoS",
                 "given this training set", "d + 1 with item biases"):  # fmt: skip
        assert text in out
    names = {f"ablate_rank.{ending}" for ending in ("md", "tex", "csv", "png", "svg")}
    assert {path.name for path in output.iterdir()} == names
    assert "ablate_rank.csv" in err
    numbers = pd.read_csv(output / "ablate_rank.csv")
    assert len(numbers) == len(rows) == 14
    assert numbers["seeds"].tolist() == [2] * 7 + [1] * 7


def test_figure(trained_results: Path) -> None:
    """A line a configuration in each panel, d + 1 marked."""
    group = AblatedGroup(
        RunGroup("GRU4RecSoftmax", tuple(records(trained_results, "GRU4RecSoftmax"))),
        (fabricated(1, 0.3), fabricated(2, 0.3)),
    )
    figure = draw_rank_ablation(RankAblation((group,), 0)).drawing
    loss, metric, overlap = figure.axes
    assert [ax.get_title() for ax in (loss, metric)] == [
        "loss, cut to r less full, nats, logarithmic beyond 0.01",
        "NDCG@10, cut to r less full",
    ]
    (line, *_) = [line for line in loss.get_lines() if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    assert list(line.get_xdata()) == [2, 4]
    np.testing.assert_allclose(line.get_ydata(), [0.3, 0], atol=1e-12)
    assert loss.yaxis.get_major_formatter()(0.01, 0) == "0.01"  # $ in texts is a dollar
    assert {text.get_text() for text in overlap.texts} == {"d + 1 = 5"}


@pytest.mark.slow
@pytest.mark.parametrize(("times", "low", "high"), [(4, 0.3, 2.0), (1, -0.01, 0.02)])
def test_planted_ranks(tmp_path: Path, times: int, low: float, high: float) -> None:
    """A mixture that learned a truth of rank 4 d loses above .3 nats by a cut to d + 1; one of rank d next to none."""
    width = 4
    folder = tmp_path / "data" / f"rank{times * width}"
    write_planted(folder, rank=times * width, n_users=6400, n_items=64, mean_length=10, seed=1)
    settings = {
        **{"embedding_size": width, "hidden_size": 32, "tie_weights": False, "dropout_prob": 0.0, "mos_heads": 4},
        **{"MAX_ITEM_LIST_LENGTH": 1, "epochs": 60, "train_batch_size": 1024, "learning_rate": 0.03},
        **{"valid_metric": "NDCG@100", "seed": 1},
    }
    record = run_experiment("GRU4RecMoS", str(folder), output=tmp_path / "out", device="cpu", **settings)
    found = ablate_run(record, ["NDCG@10"], ranks=[width + 1], device="cpu", data_path=folder.parent)
    cut, full = found.values["loss"].mean(axis=1)
    assert low < cut - full < high
