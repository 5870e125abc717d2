"""Spectra: ranks that theory gives, the randomised method against the exact one, finished runs, the command."""

import csv
import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fabricated import Maker
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from mos_recbole import cli
from mos_recbole.analysis import MeasuredGroup, RunGroup, Spectra, find_trained_groups
from mos_recbole.errors import InputError
from mos_recbole.evaluation import Bounds, OutputSpectra, Spectrum, centre_, exact_spectrum, randomised_spectrum
from mos_recbole.evaluation.spectrum import DOUBLE, SINGLE
from mos_recbole.experiment import load_run, outputs, spectra
from mos_recbole.experiment.spectra import SpectrumPlan, draw_queries, measure_run
from mos_recbole.heads import MoCHead, MoSHead, OutputHead, SoftmaxHead
from mos_recbole.report import spectra_table, write_spectra
from mos_recbole.report.figures.spectra import draw_spectra
from mos_recbole.results import BEST_CHECKPOINT, RunResult, find_records
from mos_recbole.training import evaluate_model, make_query_set
from mos_recbole.training.checkpoint import save_checkpoint

N, V, WIDTH = 150, 120, 8


def random_log_prob(head: OutputHead, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    """Returns the log-probabilities of a head with random weights, [N, V], float64 whatever they are computed in."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    state = torch.randn(N, WIDTH, generator=generator).to(dtype)
    table = torch.randn(V, WIDTH, generator=generator).to(dtype)
    with torch.no_grad():
        return head.to(dtype).log_prob(state, table).double()


def of_known_values(values: np.ndarray, n: int, v: int, seed: int = 0) -> torch.Tensor:
    """Returns a matrix [n, v] with these singular values."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(side, len(values), dtype=torch.float64, generator=generator)).Q for side in (n, v)
    )
    return (left * torch.from_numpy(values)) @ right.T


# ---------------------------------------------------------------------------------------------------- ranks by theory


@pytest.mark.parametrize("item_bias", [False, True])
@pytest.mark.parametrize("kind", ["softmax", "MoC"])
def test_rank_of_a_softmax(kind: str, item_bias: bool) -> None:
    """With random weights the bounds are reached: d + 1 (d + 2 with a bias), less by centring as documented."""
    head: OutputHead = SoftmaxHead(V, WIDTH, item_bias=item_bias)
    if kind == "MoC":
        head = MoCHead(V, WIDTH, n_components=4, item_bias=item_bias)
    raw = random_log_prob(head)
    by_column, by_row = raw - raw.mean(dim=0), raw - raw.mean(dim=1, keepdim=True)
    ranks = [exact_spectrum(one).rank().low for one in (raw, by_column, by_row, centre_(raw.clone()))]
    assert ranks == [WIDTH + 1 + item_bias, WIDTH + 1, WIDTH + item_bias, WIDTH]


def test_rank_of_a_mixture_of_softmaxes() -> None:
    """Far above d + 1, by every measure; with one component it is a softmax."""
    found = exact_spectrum(random_log_prob(MoSHead(V, WIDTH, n_components=4)))
    assert found.rank().low > 0.9 * V
    assert found.rank(1e-2).low > 2 * WIDTH
    assert found.energy_beyond(WIDTH + 1).low > 1e-3
    assert exact_spectrum(random_log_prob(MoSHead(V, WIDTH, n_components=1))).rank() == Bounds(WIDTH + 1, WIDTH + 1)


def test_float32_looks_like_full_rank() -> None:
    """Why the head is computed in float64: the rounding of float32 fills the tail of a softmax's spectrum."""
    single = random_log_prob(SoftmaxHead(V, WIDTH, item_bias=False), torch.float32)
    assert exact_spectrum(single).rank().low > V / 2
    assert exact_spectrum(single, precision=SINGLE).rank().low == WIDTH + 1


def test_rounding_of_a_matrix_without_context_is_no_rank() -> None:
    """All contexts alike, as of a model that counts: rank 1, and 0 once centred, whatever the rounding leaves."""
    raw = torch.log_softmax(torch.randn(V, dtype=torch.float64, generator=torch.Generator().manual_seed(3)), dim=0)
    matrix = raw.expand(N, V).clone()
    first = exact_spectrum(matrix)
    centred = exact_spectrum(centre_(matrix), scale=first.largest)
    assert (first.rank().low, centred.rank().low) == (1, 0)
    assert first.effective_rank().low == pytest.approx(1)
    assert (centred.effective_rank().low, centred.energy_beyond(1).low, centred.energy) == (0, 0, 0)


# ---------------------------------------------------------------------------------------------------- measures


def test_values_and_threshold_are_numpys() -> None:
    matrix = random_log_prob(MoSHead(V, WIDTH, n_components=3))
    found = exact_spectrum(matrix)
    np.testing.assert_allclose(found.values, np.linalg.svd(matrix.numpy(), compute_uv=False), atol=1e-10)
    assert found.threshold == found.values[0] * max(N, V) * np.finfo(np.float64).eps
    assert found.rank().low == np.linalg.matrix_rank(matrix.numpy())
    assert found.energy == pytest.approx(float(matrix.square().sum()))


def test_measures_by_hand() -> None:
    """σ = 4, 2, 2 in a matrix of 5 x 3."""
    found = exact_spectrum(of_known_values(np.array([4.0, 2, 2]), 5, 3))
    assert found.effective_rank().low == pytest.approx(np.exp(0.5 * np.log(2) + 0.5 * np.log(4)))
    assert [found.energy_beyond(rank).low for rank in range(4)] == pytest.approx([1, 8 / 24, 4 / 24, 0])
    assert found.distance_beyond(1).low == pytest.approx(np.sqrt(8 / 15))
    assert [found.rank(relative).low for relative in (0.0, 0.4, 0.6)] == [3, 3, 1]


def test_beyond_is_the_error_of_the_best_approximation() -> None:
    """Against a truncated decomposition by NumPy."""
    matrix = random_log_prob(MoSHead(V, WIDTH, n_components=4)).numpy()
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    error = matrix - (left[:, :9] * values[:9]) @ right[:9]
    found = exact_spectrum(torch.from_numpy(matrix))
    assert found.energy_beyond(9).low == pytest.approx(np.square(error).sum() / np.square(matrix).sum())
    assert found.distance_beyond(9).low == pytest.approx(np.sqrt(np.square(error).mean()))


def test_a_value_that_may_be_larger_may_count() -> None:
    """σ = 1 and .099, each found within a residual of .05: the second may exceed a tenth of the first, or not."""
    found = Spectrum(np.array([1.0, 0.099]), 0.05, (20, 10), 1e-13, "randomised")
    assert found.rank(0.1) == Bounds(1, 2)


def test_centring_leaves_no_sums_and_no_more_than_the_interaction() -> None:
    generator = torch.Generator().manual_seed(5)
    matrix = torch.randn(30, 20, dtype=torch.float64, generator=generator)
    shifted = matrix + torch.randn(30, 1, generator=generator) + torch.randn(20, generator=generator)
    centred = centre_(shifted.clone())
    assert centred.sum(dim=0).abs().max() < 1e-12
    assert centred.sum(dim=1).abs().max() < 1e-12
    torch.testing.assert_close(centred, centre_(matrix.clone()))


sizes = st.integers(2, 12)


@st.composite
def matrices(draw: st.DrawFn) -> torch.Tensor:
    """Matrices of some rank."""
    n, v, rank, seed = draw(sizes), draw(sizes), draw(st.integers(1, 8)), draw(st.integers(0, 2**16))
    generator = torch.Generator().manual_seed(seed)
    factors = [torch.randn(side, rank, dtype=torch.float64, generator=generator) for side in (n, v)]
    return factors[0] @ factors[1].T


@given(matrices(), st.floats(1e-6, 1e6))
def test_measures_do_not_depend_on_scale(matrix: torch.Tensor, scale: float) -> None:
    first, other = exact_spectrum(matrix), exact_spectrum(matrix * scale)
    assert first.rank() == other.rank()
    assert first.effective_rank().low == pytest.approx(other.effective_rank().low)
    assert first.energy_beyond(2).low == pytest.approx(other.energy_beyond(2).low, abs=1e-12)
    assert other.distance_beyond(2).low == pytest.approx(scale * first.distance_beyond(2).low, abs=1e-12 * scale)


@given(matrices(), st.integers(0, 99))
def test_measures_do_not_depend_on_rotations_nor_order(matrix: torch.Tensor, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(len(matrix), len(matrix), dtype=torch.float64, generator=generator)).Q
    columns = torch.randperm(matrix.shape[1], generator=generator)
    first, other = exact_spectrum(matrix), exact_spectrum((rotation @ matrix)[:, columns].T.contiguous())
    np.testing.assert_allclose(first.values, other.values, atol=1e-12 * first.largest)
    assert first.rank() == other.rank()


@given(sizes, sizes, sizes, st.integers(0, 2**16))
def test_rank_of_products(n: int, inner: int, v: int, seed: int) -> None:
    """At most that of the factors; of random ones exactly. The effective rank is no larger, and no less than 1."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((n, inner), (inner, v)))
    found = exact_spectrum(left @ right)
    assert found.rank().low == min(n, inner, v)
    assert 1 <= found.effective_rank().low <= found.rank().low + 1e-9


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.zeros(3, 3), "expected float64"),
        (torch.full((3, 3), np.nan, dtype=torch.float64), "infinite or NaN"),
        (torch.full((3, 3), -np.inf, dtype=torch.float64), "infinite or NaN"),
    ],
)
def test_matrices_without_a_spectrum(matrix: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        exact_spectrum(matrix)
    with pytest.raises(ValueError, match=message):
        randomised_spectrum(matrix, 2)


# ---------------------------------------------------------------------------------------------------- randomised

DECAYS = {
    "low rank": np.concatenate([np.linspace(9, 1, 12), np.zeros(108)]),
    "fast": 0.7 ** np.arange(120),
    "slow": 1 / (1 + np.arange(120)) ** 0.5,
    "flat": np.ones(120),
    "a cliff": np.concatenate([np.ones(20), np.full(100, 1e-6)]),
}


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("components", [1, 15, 40, 119, 500])
def test_randomised_values_are_within_their_bounds(decay: str, components: int) -> None:
    """Of spectra that are known: each value, rank, effective rank and energy is between what is said of it."""
    values = DECAYS[decay]
    matrix = of_known_values(values, 180, 120)
    found, exact = randomised_spectrum(matrix, components), exact_spectrum(matrix)
    known = values[: len(found.values)]
    assert len(found.values) == min(components, 120)
    assert (found.values <= known + 1e-12).all()
    assert (np.hypot(found.values, found.residual) >= known - 1e-12).all()
    for relative in (0.0, 1e-2, 0.5):
        rank = found.rank(relative)
        assert rank.low <= exact.rank(relative).low <= rank.high
    pairs = [(found.effective_rank(), exact.effective_rank())]
    pairs += [(getattr(found, f"{what}_beyond")(n), getattr(exact, f"{what}_beyond")(n))
              for what in ("energy", "distance") for n in (1, 9, 13, 60, 120)]  # fmt: skip
    for bounds, truth in pairs:
        assert bounds.low - 1e-9 <= truth.low <= bounds.high + 1e-9


def test_randomised_residual_is_what_is_left() -> None:
    """Of a spectrum that decays fast, all that is beyond the components, and no more than rounding at its end."""
    matrix = of_known_values(DECAYS["fast"], 180, 120)
    for components in (10, 30, 60):
        best = np.sqrt(np.square(DECAYS["fast"][components:]).sum())
        assert randomised_spectrum(matrix, components).residual == pytest.approx(best, rel=1e-6)
    assert randomised_spectrum(matrix, 120).residual < 1e-13


def test_randomised_finds_the_rank_of_a_softmax_for_certain() -> None:
    """Rank d + 1 with both bounds equal; of a mixture's only that it is no less than the components."""
    softmax = randomised_spectrum(random_log_prob(SoftmaxHead(V, WIDTH, item_bias=False)), 20)
    assert softmax.rank() == Bounds(WIDTH + 1, WIDTH + 1)
    assert softmax.energy_beyond(WIDTH + 1) == Bounds(0, 0)
    assert softmax.effective_rank().low == softmax.effective_rank().high
    assert randomised_spectrum(random_log_prob(MoSHead(V, WIDTH, n_components=4)), 20).rank() == Bounds(20, V)


def test_randomised_is_repeatable_and_needs_a_component() -> None:
    matrix = of_known_values(DECAYS["slow"], 180, 120)
    first, same, other = (randomised_spectrum(matrix, 10, seed) for seed in (1, 1, 2))
    assert (first.values == same.values).all()
    assert (first.values != other.values).any()
    with pytest.raises(ValueError, match="0 components; expected 1 or more"):
        randomised_spectrum(matrix, 0)


# ---------------------------------------------------------------------------------------------------- plans


def test_number_of_queries() -> None:
    plan = SpectrumPlan()
    assert plan.n_queries(943, 1682) == 943
    assert plan.n_queries(100_000, 50) == 100
    assert plan.n_queries(100_000, 12_000) == 2048
    assert plan.n_queries(100_000, 10**6) == 2**32 // (8 * 10**6)
    assert SpectrumPlan(queries=6000).n_queries(7000, 1682) == 6000


def test_method_by_size() -> None:
    """Exact where that takes seconds; what is asked for elsewhere, unless it is too large."""
    assert SpectrumPlan().method_for(4096, 10**6) == "exact"
    assert SpectrumPlan().method_for(4097, 4097) == "randomised"
    assert SpectrumPlan(method="randomised").method_for(10, 10) == "randomised"
    assert SpectrumPlan(method="exact").method_for(16_384, 30_000) == "exact"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SpectrumPlan(queries=0), "--queries 0; expected 1 or more"),
        (lambda: SpectrumPlan(seed=-1), "--seed -1; expected 0 or more"),
        (lambda: SpectrumPlan(components=0, method="randomised"), "--components 0; expected 1 or more"),
        (lambda: SpectrumPlan(components=9), "--components 9 is for --method randomised"),
        (lambda: SpectrumPlan(queries=944).n_queries(943, 1682), "--queries 944: there are 943 validation queries"),
        (
            lambda: SpectrumPlan(queries=10_000).n_queries(10**5, 10**5),
            r"take 7\.5 GiB; expected no more than 4\.0 GiB: --queries 5368",
        ),
        (
            lambda: SpectrumPlan(method="exact").method_for(20_000, 25_000),
            "20,000 queries x 25,000 items is too large for all of its singular values; what works: --queries 16384, "
            "or --method randomised --components 512",
        ),
    ],
)
def test_plans_that_do_not_work(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_draws_of_queries() -> None:
    """Without repetition, in order, the same by the seed."""
    first = draw_queries(50, 20, 1)
    assert sorted(set(first.tolist())) == first.tolist()
    assert (first == draw_queries(50, 20, 1)).all()
    assert (first != draw_queries(50, 20, 2)).any()
    assert draw_queries(7, 7, 3).tolist() == list(range(7))


# ---------------------------------------------------------------------------------------------------- finished runs

SMALL = ["--device", "cpu", "--quiet", "--train_batch_size=64", "--MAX_ITEM_LIST_LENGTH=10", "--epochs=2"]
OURS = ["--embedding_size=4", "--hidden_size=6", "--learning_rate=0.05"]
TOY_V = 20


@pytest.fixture(scope="module")
def results(trained_results: Path) -> Path:
    """A results folder that is not to be changed."""
    return trained_results


def records(folder: Path, model: str) -> list[RunResult]:
    return [record for record in find_records(folder) if record.model == model]


def test_a_loaded_run_answers_as_it_did(results: Path, data: Path) -> None:
    """Its validation metrics are those of its record."""
    for record in find_records(results):
        run = load_run(record, "cpu", data.parent)
        queries = make_query_set(run.config, run.data, run.split, "valid", run.protocol, run.config["device"])
        rank = evaluate_model(run.model, run.config, queries).ranks("mean").numpy()
        assert (rank <= 10).mean() == pytest.approx(record.valid["Recall@10"].value)
        assert not run.model.training


@pytest.mark.parametrize("model", ["GRU4RecSoftmax", "GRU4RecMoS"])
def test_spectrum_of_a_run_is_that_of_its_predictions(results: Path, data: Path, model: str) -> None:
    """Against the model's own predictions for the queries, one by one, and NumPy's decomposition."""
    record = records(results, model)[0]
    run = load_run(record, "cpu", data.parent)
    queries = make_query_set(run.config, run.data, run.split, "valid", run.protocol, run.config["device"])
    chosen = torch.from_numpy(draw_queries(len(queries), 25, 4))
    fields = outputs.Fields.of(run.config)
    with torch.no_grad():
        rows = [run.model.full_sort_predict(queries.gatherer.batch(one[None], fields)) for one in chosen]
    matrix = torch.cat(rows).double().numpy()[:, 1:]
    centred = matrix - matrix.mean(axis=0)
    centred -= centred.mean(axis=1, keepdims=True)
    found = measure_run(record, SpectrumPlan(queries=25, seed=4), device="cpu", data_path=data.parent)
    assert found.raw.shape == (25, TOY_V)
    # The predictions are in float32.
    np.testing.assert_allclose(found.raw.values, np.linalg.svd(matrix, compute_uv=False), atol=1e-5)
    np.testing.assert_allclose(found.centred.values, np.linalg.svd(centred, compute_uv=False), atol=1e-5)
    assert (found.width, found.probabilities) == (4, True)


def test_ranks_of_runs(results: Path, data: Path) -> None:
    """Trained, too: the softmax d + 1 and d, MoS more; by either method."""
    for plan in (SpectrumPlan(), SpectrumPlan(method="randomised", components=12)):
        for record in records(results, "GRU4RecSoftmax"):
            found = measure_run(record, plan, device="cpu", data_path=data.parent)
            assert (found.raw.rank(), found.centred.rank()) == (Bounds(5, 5), Bounds(4, 4))
        for record in records(results, "GRU4RecMoS"):
            found = measure_run(record, plan, device="cpu", data_path=data.parent)
            assert found.raw.rank().low > 10
            assert found.centred.energy_beyond(5).low > 0


def test_scores_that_are_no_probabilities(results: Path, data: Path) -> None:
    """RecBole's own: rank by float32's rounding; all contexts alike have none once centred."""
    own = measure_run(records(results, "GRU4Rec")[0], device="cpu", data_path=data.parent)
    assert (own.raw.rank().low, own.probabilities, own.width) == (5, False, None)
    assert own.raw.threshold == pytest.approx(own.raw.largest * 30 * SINGLE)
    popular = measure_run(records(results, "Pop")[0], device="cpu", data_path=data.parent)
    assert (popular.raw.rank().low, popular.centred.rank().low) == (1, 0)


def test_items_that_are_no_candidates_are_left_out(data: Path, tmp_path: Path) -> None:
    """In the split by time: items that training lacks."""
    rows = [line.split("\t") for line in (data / "toy.inter").read_text().splitlines()]
    late = [[f"u{user}", "unseen", str(10**6 + user)] for user in range(12)]
    folder = tmp_path / "other" / "late"
    folder.mkdir(parents=True)
    (folder / "late.inter").write_text("\n".join("\t".join(row) for row in rows + late) + "\n")
    call = ["run", "--model", "GRU4RecSoftmax", "--dataset", str(folder), "--output", str(tmp_path / "out"), *SMALL]
    assert cli.main([*call, *OURS, "--split=temporal", "--context_reach=past"]) == 0
    (record,) = find_records(tmp_path / "out")
    found = measure_run(record, device="cpu", data_path=folder.parent)
    trained = load_run(record, "cpu", folder.parent)
    n_trained = int((trained.data.train_counts(trained.split) > 0).sum())
    assert found.raw.shape[1] == n_trained < record.data["items"]


# ---------------------------------------------------------------------------------------------------- the command

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Returns a function (arguments...) -> exit status, standard output, standard error of `mos-recbole spectrum`."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = cli.main(["spectrum", "--device", "cpu", *map(str, arguments)])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def copied(results: Path, tmp_path: Path) -> Path:
    """The results folder, to be spoilt."""
    return shutil.copytree(results, tmp_path / "results")


def cells(table: str) -> list[dict[str, str]]:
    """Returns the rows of a Markdown table."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_command(results: Path, data: Path, call: Call, tmp_path: Path) -> None:
    """Table, caption and files agree; a model stands for all of its configurations."""
    output = tmp_path / "spectrum"
    status, out, err = call("GRU4RecSoftmax", "GRU4RecMoS", "GRU4Rec", "--results", results, "--dataset", data,
                            "--queries", 25, "--seed", 4, "--output", output)  # fmt: skip
    assert status == 0, err
    rows = cells(out)
    assert [(row["model"], row["d"], row["K"], row["seeds"]) for row in rows] == [
        ("GRU4RecSoftmax", "4", "-", "2"),
        ("GRU4RecMoS", "4", "2", "1"),
        ("GRU4RecMoS", "4", "3", "1"),
        ("GRU4Rec †", "-", "-", "1"),
    ]
    assert {(row["N"], row["V"], row["method"]) for row in rows} == {("25", "20", "exact")}
    assert (rows[0]["rank"], rows[0]["rank, centred"], rows[0]["beyond d+1"], rows[0]["nats"]) == ("5", "4", "0", "0")
    assert int(rows[1]["rank"]) > 10
    assert re.fullmatch(r"\d\.\d ± \d\.\d", rows[0]["eff. rank"])
    for text in ("20 items (V) for 25 validation queries", "seed 4", "5.6e-15 σ₁", "†: RecBole's own class", "exact:"):
        assert text in out
    assert {path.name for path in output.iterdir()} == {
        *("spectrum.md", "spectrum.tex", "spectrum.csv", "singular_values.parquet", "spectrum.png", "spectrum.svg")
    }
    assert cells((output / "spectrum.md").read_text().replace("\\>", ">")) == rows  # Markdown's escape
    numbers = pd.read_csv(output / "spectrum.csv", float_precision="round_trip")
    assert numbers["raw rank"].tolist()[:2] == [5, 5]
    assert set(numbers["run"]) == {record.run_id for record in find_records(results) if record.model != "Pop"}
    assert (numbers[["N", "V", "query seed"]] == [25, 20, 4]).all(axis=None)
    values = pd.read_parquet(output / "singular_values.parquet")
    for row in numbers.to_dict("records"):
        of_run = values[(values["run"] == row["run"]) & (values["view"] == "centred")]
        assert of_run["number"].tolist() == list(range(1, 21))
        assert (of_run["value"] > row["centred threshold"]).sum() == row["centred rank"]
        share = of_run["value"] / of_run["value"].sum()
        assert np.exp(-(share * np.log(share)).sum()) == pytest.approx(row["centred effective rank"], rel=1e-3)


def test_formats_and_the_default_folder(copied: Path, data: Path, call: Call) -> None:
    common = ("GRU4RecMoS:mos_heads=2", "--results", copied, "--dataset", data)
    status, out, err = call(*common, "--format", "csv")
    assert status == 0
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["K"], row["N"]) == ("2", "30")
    assert "rank: singular values above" in err
    assert (copied / "spectrum" / "spectrum.svg").is_file()
    assert "% rank: singular values above" in call(*common, "--format", "latex")[1]
    # A folder of spectra among the results disturbs nobody.
    assert len(find_records(copied)) == 6


def test_same_command_same_bytes(results: Path, data: Path, call: Call, tmp_path: Path) -> None:
    for name in ("a", "b"):
        arguments = ("GRU4RecMoS", "--results", results, "--dataset", data, "--output", tmp_path / name)
        assert call(*arguments, "--method", "randomised", "--components", 3)[0] == 0
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert "≥ 3" in (tmp_path / "a" / "spectrum.md").read_text()
    assert "randomised: the 3 largest singular values" in (tmp_path / "a" / "spectrum.md").read_text()


def test_one_run_by_its_folder(results: Path, data: Path, call: Call, tmp_path: Path) -> None:
    folder = records(results, "GRU4RecSoftmax")[1].folder
    status, out, _ = call(folder, "--dataset", data, "--output", tmp_path)
    assert status == 0
    assert [row["model"] for row in cells(out)] == ["GRU4RecSoftmax seed=2"]
    assert "Of several seeds" not in out


def test_auto_says_that_it_is_randomised(
    results: Path, data: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectra, "AUTO_EXACT", 10)
    arguments = ("GRU4RecMoS:mos_heads=2", "--results", results, "--dataset", data, "--output", tmp_path)
    status, out, err = call(*arguments, "--queries", 25)
    assert status == 0
    assert "25 queries x 20 items, randomised, since the smaller side is over 10" in err
    assert cells(out)[0]["method"] == "randomised"


Spoil = Callable[[Path], object]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("GRU4RecMoS", "--queries", 31), "--queries 31: there are 30 validation queries"),
        (("GRU4RecMoS", "--components", 3), "--components 3 is for --method randomised"),
        (("GRU4RecMos",), "did you mean GRU4RecMoS"),
        (("GRU4RecMoS", "GRU4RecMoS:mos_heads=3"), "is in two groups"),
        (("GRU4RecMoS:mos_heads=5",), "no such runs"),
        (("GRU4RecMoS:mos_hats=5",), "unknown setting 'mos_hats'; did you mean mos_heads?"),
        (("GRU4RecMoS", "--embedding_size=3"), "spectrum takes no settings"),
    ],
)
def test_bad_input(
    results: Path, data: Path, call: Call, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    output = tmp_path / "out"
    status, out, err = call(*arguments, "--results", results, "--dataset", data, "--output", output)
    assert (status, out) == (2, "")
    assert message in err
    assert not output.exists() or not list(output.iterdir())


def test_exact_that_is_too_large(
    results: Path, data: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectra, "MOST_EXACT", 10)
    common = ("GRU4RecMoS", "--results", results, "--dataset", data, "--output", tmp_path)
    status, _, err = call(*common, "--method", "exact")
    assert status == 2
    assert "too large for all of its singular values; what works: --queries 10, or --method randomised" in err
    # What it says works, does.
    assert call(*common, "--method", "exact", "--queries", 10)[0] == 0
    assert call(*common, "--method", "randomised", "--components", 512)[0] == 0


def test_checkpoints_that_do_not_serve(copied: Path, data: Path, call: Call) -> None:
    """Missing, of another run, broken: one message, and nothing is written."""
    first, second = (record.folder / BEST_CHECKPOINT for record in records(copied, "GRU4RecSoftmax"))
    first.rename(first.with_suffix(".kept"))
    common = ("GRU4RecSoftmax", "--results", copied, "--dataset", data)
    status, _, err = call(*common)
    assert (status, err.count("\n")) == (2, 1)
    assert f"{first}: no such file; expected the weights of run" in err
    shutil.copy(second, first)
    assert "a checkpoint of run" in call(*common)[2]
    first.write_bytes(second.read_bytes()[:500])
    assert "a truncated checkpoint" in call(*common)[2]
    assert not list((copied / "spectrum").iterdir())


def test_weights_of_another_shape(copied: Path, data: Path, call: Call) -> None:
    """As after a change of the model's code."""
    record = records(copied, "GRU4RecMoS")[0]
    content = torch.load(record.folder / BEST_CHECKPOINT, weights_only=True)
    content["state"]["model"]["state_dict"].popitem()
    save_checkpoint(record.folder / BEST_CHECKPOINT, record.run_id, record.model, content["state"])
    status, _, err = call(record.folder, "--results", copied, "--dataset", data)
    assert status == 2
    assert "does not fit GRU4RecMoS as it is in this version" in err


def test_data_that_are_elsewhere_or_other_ones(copied: Path, data: Path, call: Call, tmp_path: Path) -> None:
    status, _, err = call("GRU4RecMoS", "--results", copied)
    assert status == 2
    assert "dataset/toy: no such folder" in err
    assert "--dataset tells where they are" in err
    changed = tmp_path / "changed" / "toy"
    shutil.copytree(data, changed)
    with (changed / "toy.inter").open("a") as file:
        file.write("u1\ti3\t5\n")
    status, _, err = call("GRU4RecMoS", "--results", copied, "--dataset", changed)
    assert status == 2
    assert "not the data of run" in err


def test_different_protocols(copied: Path, data: Path, call: Call) -> None:
    common = ["--dataset", str(data), "--output", str(copied), *SMALL, *OURS]
    assert cli.main(["run", "--model", "GRU4RecMoS", "--filter_seen=True", *common]) == 0
    status, _, err = call("GRU4RecMoS", "--results", copied, "--dataset", data)
    assert status == 2
    assert "filter_seen: False and True" in err


def test_nothing_half_written(
    copied: Path, data: Path, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """When a figure cannot be made, the files of before are as they were, and no other is there."""
    common = ("GRU4RecMoS:mos_heads=2", "--results", copied, "--dataset", data, "--output", tmp_path / "out")
    assert call(*common)[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("mos_recbole.report.figures.save_figure", fail)
    status, _, err = call(*common, "--queries", 20)
    assert status == 70
    assert "a defect of the program: OSError" in err
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_infinite_scores(results: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one of RecBole's own models that takes items out by itself."""
    monkeypatch.setattr(
        outputs, "query_scores", lambda model, config, batch, n_items: torch.full((len(batch), n_items), -np.inf)
    )
    with pytest.raises(InputError, match="GRU4Rec has scores that are infinite or NaN"):
        measure_run(records(results, "GRU4Rec")[0], device="cpu", data_path=data.parent)


# ---------------------------------------------------------------------------------------------------- table, figure


def fabricated(values: np.ndarray, width: int | None, residual: float = 0.0) -> OutputSpectra:
    """Returns spectra of a matrix of 200 x 100 with these values, centred and not."""
    method = "randomised" if residual else "exact"
    spectrum = Spectrum(values, residual, (200, 100), values[0] * 200 * DOUBLE, method)  # type: ignore[arg-type]
    return OutputSpectra(spectrum, spectrum, width, True)


@pytest.fixture
def measured(tmp_path: Path) -> Spectra:
    """Softmax at two widths and MoS at one, two seeds each."""
    make = Maker(tmp_path / "made")
    groups = []
    for model, width, tail in (("GRU4RecSoftmax", 8, 0.0), ("GRU4RecSoftmax", 16, 0.0), ("GRU4RecMoS", 8, 1e-4)):
        runs = tuple(make(model, width, seed) for seed in (1, 2))
        values = [
            np.concatenate([np.geomspace(1, 0.1 / seed, width + 1), np.full(99 - width, tail)]) for seed in (1, 2)
        ]
        groups.append(MeasuredGroup(RunGroup(f"{model} embedding_size={width}", runs),
                                  tuple(fabricated(one, width) for one in values)))  # fmt: skip
    return Spectra(tuple(groups), 0)


def test_figure(measured: Spectra) -> None:
    """A line a run, down to just below the threshold, looks by head and width; d + 1 marked."""
    figure = draw_spectra(measured).drawing
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 2
    for ax in figure.axes:
        lines = [line for line in ax.get_lines() if len(line.get_xdata()) > 2]
        assert [len(line.get_xdata()) for line in lines] == [10, 10, 18, 18, 100, 100]
        np.testing.assert_allclose(lines[1].get_ydata()[:9], np.geomspace(1, 0.05, 9))
        assert lines[1].get_ydata()[9] == pytest.approx(0.1 * 200 * DOUBLE)
        assert len({line.get_color() for line in lines[:4]}) == len({line.get_color() for line in lines[4:]}) == 1
        assert lines[0].get_color() != lines[4].get_color()
        assert lines[0].get_linestyle() == lines[1].get_linestyle() != lines[2].get_linestyle()
        assert {text.get_text() for text in ax.texts} == {"d + 1 = 9", "d + 1 = 17"}
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["GRU4RecSoftmax", "GRU4RecMoS, K = 4", "d = 8", "d = 16"]


def test_seeds_are_shown_by_mean_and_standard_deviation(measured: Spectra) -> None:
    """Of the sample, as in every table."""
    (row, *_) = spectra_table(measured).rows
    ranks = np.array([one.raw.effective_rank().low for one in measured.groups[0].spectra])
    assert f"{ranks.std(ddof=1):.1f}" != f"{ranks.std():.1f}"
    assert row["eff. rank"].text == f"{ranks.mean():.1f} ± {ranks.std(ddof=1):.1f}"


def test_rows_that_are_not_certain(measured: Spectra, tmp_path: Path) -> None:
    """≥ where more may be there; two numbers where the truth is between; a dash without d."""
    run = Maker(tmp_path / "other")("GRU4RecMoS", 8, 1)
    group = MeasuredGroup(RunGroup("GRU4RecMoS", (run,)), (fabricated(np.geomspace(1, 0.1, 20), None, residual=0.05),))
    table = spectra_table(Spectra((group,), 0))
    (row,) = cells(table.grid("github"))
    assert (row["rank"], row["> 1 %"], row["d"], row["beyond d+1"]) == ("≥ 20", "≥ 20", "-", "-")
    assert re.fullmatch(r"[\d.]+–[\d.]+", row["eff. rank"])
    assert "the residual r at most 0.05 σ₁" in table.caption


def test_components_of_layers_are_components(tmp_path: Path) -> None:
    """K of a Direct Output Connection is how many softmaxes it mixes, whichever layers they read."""
    run = Maker(tmp_path / "doc")("GRU4RecDOC", 8, 1, doc_heads=[1, 2])
    group = MeasuredGroup(RunGroup("GRU4RecDOC", (run,)), (fabricated(np.geomspace(1, 0.1, 20), 8),))
    assert group.n_components == 3


def test_files_of_spectra(measured: Spectra, tmp_path: Path) -> None:
    written = write_spectra(measured, tmp_path / "new" / "folder")
    assert all(path.is_file() for path in written)
    assert len(measured.frame()) == 6
    assert len(measured.singular_values()) == 6 * 2 * 100


def test_an_output_that_is_no_folder(measured: Spectra, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected a folder that can be written to"):
        write_spectra(measured, tmp_path / "file")


def test_groups_are_all_configurations(results: Path) -> None:
    """Of a model, or of those with a setting; labels tell them apart."""
    labels = [group.label for group in find_trained_groups(["GRU4RecMoS"], [results])]
    assert labels == ["GRU4RecMoS mos_heads=2", "GRU4RecMoS mos_heads=3"]
    groups = find_trained_groups(["GRU4RecMoS:seed=1,mos_heads=3", "GRU4RecSoftmax"], [results])
    assert [len(group.runs) for group in groups] == [1, 2]
