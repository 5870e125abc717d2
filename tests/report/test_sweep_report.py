"""The report of a sweep and the selection in it, on sweeps whose files are fabricated: nothing is trained."""

import csv
import itertools
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mos_recbole.analysis import metric_intervals
from mos_recbole.analysis.selection import (
    best_trial_configurations,
    compare_configurations,
    group_configurations,
    validation_scores,
)
from mos_recbole.analysis.sweep_frame import COST_COLUMNS, pareto_frontier, read_sweep, trials_frame
from mos_recbole.cli.sweep import print_end
from mos_recbole.errors import InputError
from mos_recbole.evaluation import metric_direction
from mos_recbole.report import write_sweep_report
from mos_recbole.report.figures import model_looks
from mos_recbole.report.figures.heat import draw_heat_maps, plot_heat_map
from mos_recbole.report.figures.parallel import plot_parallel_coordinates
from mos_recbole.report.figures.sweep import distinct_parameters, draw_sweep, plot_parameter, plot_pareto
from mos_recbole.results import Metric, RunResult, SweepPlan, Trial, read_plan, read_record, read_trials

REPRODUCIBLE = ("best.md", "best.tex", "table.md", "table.csv", "table.tex")


class SweepWriter:
    """Writes a sweep's files as its runs would leave them."""

    def __init__(
        self,
        folder: Path,
        *,
        seeds: Sequence[int] = (1,),
        metric: str = "NDCG@10",
        users: int = 20,
        slowness: float = 1.0,
    ) -> None:
        folder.mkdir(parents=True)
        self.folder, self.metric, self.users, self.slowness, self.count = folder, metric, users, slowness, 0
        self.direction = metric_direction(metric)
        SweepPlan(
            name="small_sweep",
            models=["A", "B"],
            datasets=["toy"],
            seeds=list(seeds),
            metric=metric,
            mode="max" if self.direction == "higher" else "min",
            **{part: {} for part in ("search", "stopping", "space", "settings")},
        ).write(folder)

    def trial(
        self,
        model: str = "A",
        dataset: str = "toy",
        seed: int = 1,
        status: str = "finished",
        valid: float = 0.1,
        test: float = 0.05,
        curve: Sequence[float | None] | None = None,
        error: str | None = None,
        protocol: str = "p",
        ranks: int | None = None,
        **parameters: Any,
    ) -> Trial:
        """Returns a trial after writing its files; validation is `curve`, or reaches `valid` in two epochs."""
        self.count += 1
        trial = Trial(
            number=self.count,
            model=model,
            dataset=dataset,
            seed=seed,
            parameters=parameters,
            run=f"{model}-{dataset}-seed{seed}-{self.count:016x}",
            ended=status if status in ("stopped", "failed") else None,
            error=error,
            attempts=int(error is not None),
        )
        trial.write(self.folder)
        trial.folder(self.folder).mkdir(parents=True)
        curve = [valid / 2, valid] if curve is None else curve
        if curve:
            self._write_log(trial, curve)
        if status == "finished":
            outcomes = self._outcomes(dataset, self.count if ranks is None else ranks)
            outcomes.to_parquet(trial.folder(self.folder) / "outcomes.parquet", index=False)
            self._record(trial, len(curve), valid, test, protocol).write(trial.folder(self.folder))
        return trial

    def _write_log(self, trial: Trial, curve: Sequence[float | None]) -> None:
        sign = 1 if self.direction == "higher" else -1
        best = -np.inf
        with (trial.folder(self.folder) / "training_log.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", "loss", "train_seconds", "eval_seconds", "best", self.metric])
            for epoch, value in enumerate(curve, start=1):
                improved = value is not None and sign * value > best
                best = sign * value if improved and value is not None else best
                text = "" if value is None else value
                writer.writerow([epoch, 7.0, 2.0 * self.slowness, 0.5 * self.slowness, int(improved), text])

    def _outcomes(self, dataset: str, ranks: int) -> pd.DataFrame:
        n = self.users
        return pd.DataFrame(
            {
                "user": [f"{dataset}-{number}" for number in range(n)],
                "position": 5,
                "target": [f"i{number % 7}" for number in range(n)],
                "rank": np.random.default_rng(ranks).integers(1, 30, n).astype(float),
                "tied": 0,
                "candidates": 200,
            }
        )

    def _record(self, trial: Trial, epochs: int, valid: float, test: float, protocol: str) -> RunResult:
        return RunResult(
            run_id=trial.run_id,
            protocol_hash=protocol,
            protocol={"split": {"name": "leave_one_out"}, "filter_seen": False, "tie_rule": "mean"},
            model=trial.model,
            dataset=trial.dataset,
            seed=trial.seed,
            settings={**trial.parameters, "seed": trial.seed},
            data={},
            parameters=12345,
            epochs=epochs,
            best_epoch=epochs,
            valid_metric=self.metric,
            valid={self.metric: Metric(value=valid, direction=self.direction)},
            test={self.metric: Metric(value=test, direction=self.direction)},
            train_seconds=2.0 * self.slowness * epochs,
            eval_seconds=0.5 * self.slowness * epochs,
            wall_seconds=9.0 * self.slowness,
            train_processor_seconds=4.0 * self.slowness,
            peak_memory_bytes={"resident": int(1e9 * self.slowness)},
            resumed=False,
            device="cpu" if self.slowness == 1 else "another",
            threads=1,
            versions={},
            code="c",
            git_commit=None,
            finished=f"2026-01-01T00:00:{self.count % 60:02}",
        )


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def tables_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the figures, which take most of a report's time."""
    monkeypatch.setattr("mos_recbole.report.figures.sweep.draw_sweep", lambda *_: [])


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A sweep with trials of every kind: A was searched and its winner run with a second seed, of B none finished."""
    return write_small(tmp_path / "small")


def write_small(folder: Path, slowness: float = 1.0) -> Path:
    sweep = SweepWriter(folder, seeds=[1, 2], slowness=slowness)
    sweep.trial(valid=0.20, learning_rate=0.001, mos_heads=2)
    sweep.trial(valid=0.30, learning_rate=0.01, mos_heads=2)
    sweep.trial(status="stopped", curve=[0.05, 0.1, 0.08], learning_rate=0.1, mos_heads=4)
    error = "TrainingDiverged: the loss | became *nan*\nin epoch 2"
    sweep.trial("B", status="failed", curve=[], error=error, learning_rate=1.0)
    sweep.trial("B", status="unfinished", curve=[None], learning_rate=0.01)
    sweep.trial(seed=2, valid=0.10, learning_rate=0.01, mos_heads=2)
    return folder


BEST = """\
# Best configurations of small_sweep

For every data set and model the configuration with the best mean validation NDCG@10 (higher is better); the test set \
had no part in the choice. Configurations are compared on the same seeds, those under *compared on*: the plan's first \
seed with which any finished, and the others with which all that finished with it did. Test metrics are those of the \
chosen configuration over all its *seeds*, ± half the width of the 95 % interval over users and, where there \
are several, seeds.

6 trials: 3 finished, 1 stopped, 1 failed, 1 unfinished.

**Caveat.** The best of n validation scores is optimistic, the more so the larger n (*tried*): it is the extreme of \
n scores with noise in them. The test score of the configuration so chosen is not, as long as nothing is chosen by \
test scores, this sweep over another one included.

## toy

| model | configuration | trial | tried | compared | compared on | valid NDCG@10 ↑ | seeds | parameters | epochs \
| test Recall@10 ↑ | test NDCG@10 ↑ | test MRR@10 ↑ | test Recall@100 ↑ |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
| A | learning_rate=0.01, mos_heads=2 | 2 | 3 | 2 | seed 1 | 0.3000 | 2 | 12,345 | 2 \
| (Recall@10) | (NDCG@10) | (MRR@10) | (Recall@100) |

No trial has finished of B.

## Failed trials

- trial 4, B on toy, learning_rate=1.0, seed 1: TrainingDiverged: the loss \\| became \\*nan\\* in epoch 2
"""

LATEX_ROWS = r"""
\begin{tabular}{llrrrrrrrrrr}
\toprule
 model & data set & learning\_rate & mos\_heads & seeds & status & epochs & valid NDCG@10 $\uparrow$ & test Recall@10 $\uparrow$ & test NDCG@10 $\uparrow$ & test MRR@10 $\uparrow$ & test Recall@100 $\uparrow$ \\
\midrule
""".strip()  # noqa: E501


def squeeze(text: str) -> str:
    """Returns text without the padding of table cells and rules."""
    return "\n".join(" ".join(re.sub(":?--+:?", "", line).split()) for line in text.splitlines())


def shown(runs: list[RunResult]) -> dict[str, str]:
    """Returns the test metrics of a configuration as tables show them."""
    intervals = metric_intervals(runs, ["Recall@10", "NDCG@10", "MRR@10", "Recall@100"])
    return {metric: f"{one.mean:.4f} ± {one.half_width:.4f}" for metric, one in intervals.items()}


def records(folder: Path, *numbers: int) -> list[RunResult]:
    trials = {trial.number: trial for trial in read_trials(folder)}
    return [read_record(trials[number].folder(folder)) for number in numbers]


# ------------------------------------------------------------------------------------------------- content


@pytest.mark.usefixtures("tables_only")
def test_best_has_the_configuration_of_the_best_validation_with_all_its_seeds(small: Path) -> None:
    """Trial 2 and its second seed are worse on average than trial 1, but better on the seed that both have."""
    write_sweep_report(small)
    expected = BEST
    for metric, text in shown(records(small, 2, 6)).items():
        expected = expected.replace(f"({metric})", text)
    assert squeeze((small / "best.md").read_text()) == squeeze(expected)


@pytest.mark.usefixtures("tables_only")
def test_table_has_every_configuration_best_first(small: Path) -> None:
    write_sweep_report(small)
    lines = [squeeze(line) for line in (small / "table.md").read_text().splitlines() if line.startswith("| ")]
    first, second = (" | ".join(shown(records(small, *numbers)).values()) for numbers in ((2, 6), (1,)))
    dashes = " | ".join(["–"] * 4)
    assert lines[1:] == [
        f"| A | toy | 0.01 | 2 | 2 | finished | 2 | 0.3000 | {first} |",
        f"| A | toy | 0.001 | 2 | 1 | finished | 2 | 0.2000 | {second} |",
        f"| A | toy | 0.1 | 4 | 0 of 1 | stopped | 3 | 0.1000 | {dashes} |",
        f"| B | toy | 1 | – | 0 of 1 | failed | – | – | {dashes} |",
        f"| B | toy | 0.01 | – | 0 of 1 | unfinished | 1 | – | {dashes} |",
    ]


@pytest.mark.usefixtures("tables_only")
def test_table_in_latex_can_be_pasted(small: Path) -> None:
    write_sweep_report(small)
    text = (small / "table.tex").read_text()
    content = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert " ".join(content.split()).startswith(" ".join(LATEX_ROWS.split()))
    assert content.isascii()
    assert content.count(r"\\") == 6
    assert content.rstrip().endswith("\\bottomrule\n\\end{tabular}")


@pytest.mark.usefixtures("tables_only")
def test_table_in_csv_has_intervals_as_numbers(small: Path) -> None:
    write_sweep_report(small)
    table = pd.read_csv(small / "table.csv")
    interval = metric_intervals(records(small, 2, 6), ["NDCG@10"])["NDCG@10"]
    row = table.iloc[0]
    found = [row["test NDCG@10"], row["test NDCG@10 low"], row["test NDCG@10 high"]]
    assert found == pytest.approx([interval.mean, interval.low, interval.high], abs=1e-12)
    assert table["seeds_finished"].tolist() == [2, 1, 0, 0, 0]


@pytest.mark.usefixtures("tables_only")
def test_trials_are_one_row_each(small: Path) -> None:
    write_sweep_report(small)
    frame = trials_frame(small)
    assert list(frame.columns) == [
        *("number", "model", "dataset", "seed", "learning_rate", "mos_heads", "status", "run_id", "epochs"),
        *("best_epoch", "model_parameters", "valid NDCG@10", "test NDCG@10", "error", *COST_COLUMNS),
    ]
    assert frame["number"].tolist() == [1, 2, 3, 4, 5, 6]
    assert frame["status"].tolist() == ["finished", "finished", "stopped", "failed", "unfinished", "finished"]
    assert frame["mos_heads"].dtype == "Int64"
    assert frame["mos_heads"].isna().tolist() == [False, False, False, True, True, False]
    stopped = frame.iloc[2]
    assert (stopped["epochs"], stopped["best_epoch"], stopped["valid NDCG@10"]) == (3, 2, 0.1)
    assert (stopped["train_seconds"], stopped["eval_seconds"]) == (6.0, 1.5)
    assert frame["test NDCG@10"].notna().tolist() == [True, True, False, False, False, True]
    assert (frame["peak_resident_MB"].iloc[0], frame["train_processor_seconds"].iloc[0]) == (1000, 4)
    assert frame["epochs"].isna().tolist() == [False, False, False, True, False, False]
    pd.testing.assert_frame_equal(pd.read_parquet(small / "trials.parquet"), frame)
    read = pd.read_csv(small / "trials.csv", float_precision="round_trip")
    np.testing.assert_array_equal(read["learning_rate"], frame["learning_rate"])
    assert (small / "trials.csv").read_text().splitlines()[1].split(",")[5] == "2"


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1, 2], "Int64", [1, 2, None]),
        ([1, 0.5], "float64", [1.0, 0.5, None]),
        ([True, False], "boolean", [True, False, None]),
        (["tanh", "1"], "object", ["tanh", "1", None]),
        ([None, 1], "object", ["null", "1", None]),
        ([[64, 32], "x"], "object", ["[64, 32]", "x", None]),
    ],
)
def test_columns_keep_the_kind_of_their_values(tmp_path: Path, values: list, dtype: str, expected: list) -> None:
    sweep = SweepWriter(tmp_path / "sweep")
    for value in values:
        sweep.trial(status="unfinished", curve=[], swept=value)
    sweep.trial(status="unfinished", curve=[])
    column = trials_frame(sweep.folder)["swept"]
    assert column.dtype == dtype
    assert [None if pd.isna(value) else value for value in column] == expected


def test_a_parameter_with_the_name_of_a_column_has_a_column_of_its_own(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "sweep")
    sweep.trial(epochs=50)
    write_sweep_report(sweep.folder)
    frame = trials_frame(sweep.folder)
    assert (frame["epochs (swept)"].item(), frame["epochs"].item()) == (50, 2)
    assert (tmp_path / "sweep/figures/parameter-epochs.png").exists()


@pytest.mark.usefixtures("tables_only")
def test_special_characters_are_shown_as_they_are(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "sweep")
    value = r"a|b_*c* <i> $x$ \d_ 50% & #`"
    sweep.trial(odd=value, key_with_parts=1)
    sweep.trial(odd=[1, "|"], key_with_parts=2)
    write_sweep_report(sweep.folder)
    escaped = r"a\|b\_\*c\* \<i\> \$x\$ \\d\_ 50% & #\`"
    for name in ("best.md", "table.md"):
        text = (sweep.folder / name).read_text()
        assert escaped in text
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.replace(r"\|", "").count("|") for line in rows}) == 1
    assert "key_with_parts=1" in (sweep.folder / "best.md").read_text()
    assert r"50\% \& \#" in (sweep.folder / "table.tex").read_text()
    assert pd.read_csv(sweep.folder / "table.csv")["odd"].tolist() == [value, '[1, "|"]']


@pytest.mark.usefixtures("tables_only")
def test_intervals_of_the_table_are_those_of_metric_intervals(tmp_path: Path) -> None:
    """Over one and several seeds, two data sets and users with several queries; one set of draws gives all."""
    sweep = SweepWriter(tmp_path / "sweep", seeds=[1, 2, 3])
    for dataset, width, seed in itertools.product(["toy", "other"], [8, 16, 32], [1, 2, 3]):
        if (width, seed) != (32, 3):
            sweep.trial(dataset=dataset, seed=seed, width=width)
    for trial in read_trials(sweep.folder):
        path = trial.folder(sweep.folder) / "outcomes.parquet"
        outcomes = pd.read_parquet(path)
        outcomes.loc[:4, "user"] = outcomes["user"].iloc[0]
        outcomes.assign(position=range(len(outcomes))).sample(frac=1, random_state=0).to_parquet(path, index=False)
    write_sweep_report(sweep.folder)
    table = pd.read_csv(sweep.folder / "table.csv")
    assert len(table) == 6
    for row in table.to_dict("records"):
        alike = (trial for trial in read_trials(sweep.folder) if trial.parameters["width"] == row["width"])
        runs = [read_record(trial.folder(sweep.folder)) for trial in alike if trial.dataset == row["dataset"]]
        for metric, interval in metric_intervals(runs, ["Recall@10", "NDCG@10", "MRR@10"]).items():
            found = [row[f"test {metric}{end}"] for end in ("", " low", " high")]
            assert found == pytest.approx([interval.mean, interval.low, interval.high], abs=1e-12)


def test_outcomes_of_other_queries_are_refused(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "sweep")
    sweep.trial(width=1)
    sweep.users = 19
    sweep.trial(width=2)
    with pytest.raises(InputError, match="other queries"):
        write_sweep_report(sweep.folder)


# ------------------------------------------------------------------------------------------------- reproducible


@pytest.mark.usefixtures("tables_only")
def test_all_but_costs_is_the_same_when_times_differ(tmp_path: Path) -> None:
    first, second = write_small(tmp_path / "one"), write_small(tmp_path / "two", slowness=3.7)
    write_sweep_report(first)
    write_sweep_report(second)
    for name in REPRODUCIBLE:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    one, two = trials_frame(first), trials_frame(second)
    pd.testing.assert_frame_equal(one.drop(columns=list(COST_COLUMNS)), two.drop(columns=list(COST_COLUMNS)))
    assert not one[["train_seconds", "device"]].equals(two[["train_seconds", "device"]])


def test_the_same_sweep_gives_the_same_bytes(small: Path) -> None:
    paths = write_sweep_report(small).files
    before = {path: path.read_bytes() for path in paths}
    assert write_sweep_report(small).files == paths
    assert {path: path.read_bytes() for path in paths} == before
    assert sorted(path for path in small.glob("*") if path.is_file()) == sorted(
        [small / "sweep.json", *(path for path in paths if path.parent == small)]
    )


@pytest.mark.usefixtures("tables_only")
@pytest.mark.parametrize("width", [60, 200])
def test_the_end_of_a_sweep_on_a_terminal(width: int, small: Path, monkeypatch, capsys) -> None:
    """The best configurations fit the terminal; what is left out is named, and so are the next commands."""
    report = write_sweep_report(small)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    print_end(small, report)
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    table = out[out.index("toy") : out.index("best.md says")].splitlines()
    assert max(map(len, table)) <= width
    assert "0.3000" in " ".join(table)
    assert "0.1215 ± 0.6318" in " ".join(table)
    assert ("It also has: trial, tried, compared" in out) == (width == 60)
    assert out.splitlines()[-2:] == [
        f"  mos-recbole compare A B --results {small} --best",
        f"  mos-recbole report {small}",
    ]


def test_tables_do_not_import_matplotlib() -> None:
    code = "import sys, mos_recbole.report; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------------------------------------------- partly done


def test_a_sweep_without_trials_has_a_report(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "sweep")
    paths = write_sweep_report(sweep.folder).files
    assert all(path.exists() for path in paths)
    assert "No trial has finished" in (sweep.folder / "best.md").read_text()
    assert best_trial_configurations(sweep.folder) == []


def test_a_sweep_without_finished_trials_has_a_report(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "sweep")
    sweep.trial(status="failed", curve=[], error="Traceback (most recent call last):\n  File x\nKeyError: 'y'", size=1)
    sweep.trial(status="unfinished", curve=[None, None], size=2)
    sweep.trial(status="stopped", curve=[0.1], size=3)
    write_sweep_report(sweep.folder)
    best = (sweep.folder / "best.md").read_text()
    assert "No trial has finished, so there is nothing to choose from." in best
    assert "size=1, seed 1: KeyError: 'y'" in best
    assert best_trial_configurations(sweep.folder) == []


@pytest.mark.parametrize(("metric", "best"), [("NDCG@10", 0.3), ("GiniIndex@10", 0.1)])
def test_trials_whose_last_epoch_is_to_be_chosen_have_a_best_one_so_far(
    metric: str, best: float, tmp_path: Path
) -> None:
    """Where the rate has a schedule, as by default, no epoch is the chosen one before the last."""
    writer = SweepWriter(tmp_path / "sweep", metric=metric)
    trial = writer.trial(status="stopped", curve=[None, 0.2, 0.3, 0.1, 0.2])
    path = trial.folder(writer.folder) / "training_log.csv"
    pd.read_csv(path).assign(best=0).to_csv(path, index=False)
    (row,) = trials_frame(writer.folder).to_dict("records")
    assert (row[f"valid {metric}"], row["best_epoch"], row["epochs"]) == (best, 3 if best == 0.3 else 4, 5)
    assert trial.best_validation(writer.folder, metric, read_plan(writer.folder).mode) == best
    assert f"{best:.4f}" in write_sweep_report(writer.folder, figures=False).files[0].with_name("table.md").read_text()


def test_a_log_without_a_column_is_refused(tmp_path: Path) -> None:
    writer = SweepWriter(tmp_path / "sweep")
    path = writer.trial(status="stopped").folder(writer.folder) / "training_log.csv"
    pd.read_csv(path).drop(columns="best").to_csv(path, index=False)
    with pytest.raises(InputError, match=r"training_log.csv: .*no column best; expected the run again"):
        trials_frame(writer.folder)


def test_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sweep\.json"):
        write_sweep_report(tmp_path)


# ------------------------------------------------------------------------------------------------- selection


def plan_of(mode: str, seeds: Sequence[int]) -> SweepPlan:
    parts = {part: {} for part in ("search", "stopping", "space", "settings")}
    return SweepPlan(name="s", models=["A"], datasets=["toy"], seeds=list(seeds), metric="NDCG@10", mode=mode, **parts)


def make_trials(*rows: tuple[str, str, int, int]) -> list[Trial]:
    """Returns trials of rows (model, data set, configuration, seed)."""
    return [
        Trial(number=number, model=model, dataset=dataset, seed=seed, parameters={"size": size}, run=f"r-{number}")
        for number, (model, dataset, size, seed) in enumerate(rows, start=1)
    ]


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("attempt", range(30))
def test_selection_agrees_with_brute_force(mode: str, attempt: int) -> None:
    generator = np.random.default_rng(attempt)
    seeds = [5, 1, 3]
    rows = list(itertools.product(["A", "B"], ["toy", "other"], range(4), seeds))
    trials = make_trials(*rows)
    scores = {trial.number: float(generator.integers(8)) for trial in trials if generator.random() < 0.6}
    for comparison in compare_configurations(plan_of(mode, seeds), trials, scores):
        by_size: dict[int, dict[int, float]] = {}
        for trial in trials:
            if (trial.model, trial.dataset) == (comparison.model, comparison.dataset) and trial.number in scores:
                by_size.setdefault(trial.parameters["size"], {})[trial.seed] = scores[trial.number]
        anchors = [seed for seed in seeds if any(seed in found for found in by_size.values())]
        rivals = {size: found for size, found in by_size.items() if anchors and anchors[0] in found}
        shared = [seed for seed in seeds if all(seed in found for found in rivals.values())] if rivals else []
        means = {size: fmean(found[seed] for seed in shared) for size, found in rivals.items()}
        assert list(comparison.seeds) == shared
        assert {one.parameters["size"]: score for one, score in comparison.ranked} == means
        if means:
            target = max(means.values()) if mode == "max" else min(means.values())
            chosen, score = comparison.ranked[0]
            assert score == target
            run_id = {
                trial.parameters["size"]: trial.run_id
                for trial in trials
                if (trial.model, trial.dataset, trial.seed) == (comparison.model, comparison.dataset, shared[0])
            }
            equal = [size for size, mean in means.items() if mean == target]
            assert chosen.parameters["size"] == min(equal, key=lambda size: (-len(rivals[size]), run_id[size]))


def test_winners_with_more_seeds_are_compared_on_the_first_seed_alone() -> None:
    """A second seed that turned out bad takes nothing from the winner, and the selection stays after it was run."""
    trials = make_trials(("A", "toy", 1, 7), ("A", "toy", 2, 7), ("A", "toy", 2, 8))
    plan = plan_of("max", [7, 8])
    before = compare_configurations(plan, trials[:2], {1: 0.2, 2: 0.3})[0]
    after = compare_configurations(plan, trials, {1: 0.2, 2: 0.3, 3: 0.0})[0]
    assert before.seeds == after.seeds == (7,)
    assert before.ranked[0][0].number == after.ranked[0][0].number == 2
    assert after.ranked[0][1] == 0.3


def test_without_the_first_seed_the_next_one_is_compared() -> None:
    trials = make_trials(("A", "toy", 1, 7), ("A", "toy", 1, 8), ("A", "toy", 2, 8))
    comparison = compare_configurations(plan_of("max", [7, 8]), trials, {2: 0.2, 3: 0.3})[0]
    assert (comparison.seeds, comparison.ranked[0][0].number) == ((8,), 3)


def test_nan_is_never_the_best() -> None:
    trials = make_trials(("A", "toy", 1, 1), ("A", "toy", 2, 1))
    for mode in ("max", "min"):
        comparison = compare_configurations(plan_of(mode, [1]), trials, {1: float("nan"), 2: 0.1})[0]
        assert comparison.ranked[0][0].number == 2


def test_configurations_differ_in_more_than_the_seed() -> None:
    trials = make_trials(("A", "toy", 1, 1), ("B", "toy", 1, 1), ("A", "other", 1, 1), ("A", "toy", 1, 2))
    assert [[trial.number for trial in one.trials] for one in group_configurations(trials)] == [[1, 4], [2], [3]]


@pytest.mark.usefixtures("tables_only")
def test_test_metrics_have_no_part_in_the_selection(tmp_path: Path) -> None:
    """Whatever the test metrics and outcomes are, the same trials are chosen and the table is in the same order."""
    chosen, orders = [], []
    for attempt, tests in enumerate(itertools.permutations([0.1, 0.2, 0.9])):
        sweep = SweepWriter(tmp_path / str(attempt))
        for size, (valid, test) in enumerate(zip([0.2, 0.4, 0.3], tests, strict=True)):
            sweep.trial(valid=valid, test=test, ranks=int(test * 10), size=size)
        write_sweep_report(sweep.folder)
        chosen.append([trial.number for trial in best_trial_configurations(sweep.folder)])
        orders.append(pd.read_csv(sweep.folder / "table.csv")["size"].tolist())
        assert "size=1" in (sweep.folder / "best.md").read_text()
    assert chosen == [[2]] * 6
    assert orders == [[1, 2, 0]] * 6


def test_a_metric_of_which_less_is_better(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "sweep", metric="AveragePopularity@10")
    sweep.trial(valid=30.0, size=1)
    sweep.trial(valid=10.0, size=2)
    sweep.trial(valid=20.0, status="stopped", curve=[40.0, 20.0, 25.0], size=3)
    write_sweep_report(sweep.folder)
    best = (sweep.folder / "best.md").read_text()
    assert "lower is better" in best
    assert "valid AveragePopularity@10 ↓" in best
    assert [trial.parameters for trial in best_trial_configurations(sweep.folder)] == [{"size": 2}]
    assert pd.read_csv(sweep.folder / "table.csv")["size"].tolist() == [2, 1, 3]
    assert trials_frame(sweep.folder)["valid AveragePopularity@10"].tolist() == [30.0, 10.0, 20.0]


def test_the_first_of_the_compared_seeds_stands_for_a_configuration(tmp_path: Path) -> None:
    """In the order of the plan, not of the numbers."""
    sweep = SweepWriter(tmp_path / "sweep", seeds=(7, 3))
    for size, valid in ((1, 0.1), (2, 0.2)):
        for seed in (3, 7):
            sweep.trial(valid=valid, seed=seed, size=size)
    (chosen,) = best_trial_configurations(sweep.folder)
    assert (chosen.parameters, chosen.seed) == ({"size": 2}, 7)


@pytest.mark.usefixtures("tables_only")
def test_several_data_sets_and_models_are_chosen_apart(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "sweep")
    rows = itertools.product(["toy", "other"], ["B", "A"], [1, 2])
    for valid, (dataset, model, size) in zip([0.1, 0.2, 0.4, 0.3, 0.5, 0.6, 0.8, 0.7], rows, strict=True):
        sweep.trial(model, dataset, valid=valid, size=size)
    write_sweep_report(sweep.folder)
    assert [trial.number for trial in best_trial_configurations(sweep.folder)] == [2, 3, 6, 7]
    headings = [line for line in (sweep.folder / "best.md").read_text().splitlines() if line.startswith("## ")]
    assert headings == ["## toy", "## other"]


def test_scores_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "sweep")
    sweep.trial(size=1)
    sweep.trial(size=2, protocol="q")
    with pytest.raises(InputError, match="different protocols on toy"):
        best_trial_configurations(sweep.folder)
    with pytest.raises(InputError, match="no validation MRR@10; it has NDCG@10"):
        validation_scores(dict(enumerate(records(sweep.folder, 1))), "MRR@10")


# ------------------------------------------------------------------------------------------------- figures


def write_many(folder: Path, n: int) -> Path:
    """Writes a sweep with parameters of every kind and trials of every status."""
    generator = np.random.default_rng(n)
    sweep = SweepWriter(folder, users=5)
    for number in range(n):
        parameters: dict[str, Any] = {
            "learning_rate": float(np.exp(generator.uniform(-9, -3))),
            "dropout_prob": float(generator.uniform(0, 0.5)),
            "weight_decay": float(generator.choice([0, 1e-5, 1e-4, 1e-3])),
            "tie_weights": bool(number % 2),
            "constant": 3,
        }
        model = "ABC"[number % 3]
        if model == "A":
            parameters |= {"mos_heads": int(generator.choice([1, 2, 4])), "act$ivation$": ["tanh", None][number % 2]}
        status = "finished" if number == 0 else ["finished", "stopped", "failed", "unfinished"][generator.integers(4)]
        curve = list(np.sort(generator.uniform(0, 0.2, generator.integers(1, 6))))
        dataset = "toy" if n < 100 or number % 2 else "other"
        sweep.trial(model, dataset, status=status, valid=float(curve[-1]), curve=curve, **parameters)
    return folder


@pytest.mark.parametrize("n", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (8, 300))])
def test_figures_are_pictures(tmp_path: Path, n: int) -> None:
    folder = write_many(tmp_path / "sweep", n)
    paths = [path for path in write_sweep_report(folder).files if path.parent.name == "figures"]
    names = {path.stem for path in paths}
    assert {"parallel_coordinates", "training_curves", "pareto", "parameter-learning_rate"} <= names
    assert "parameter-act_ivation_" in names
    assert sorted(paths) == sorted((folder / "figures").iterdir())
    for path in paths:
        if path.suffix == ".svg":
            assert "dc:date" not in path.read_text()
            continue
        picture = matplotlib.image.imread(path)[..., :3]
        height, width, _ = picture.shape
        assert height >= 500
        assert width >= 700
        coloured = np.ptp(picture, axis=2) > 0.2
        assert coloured.mean() > 1e-5, f"{path.name} shows no data"


def frame_of(column: Sequence[Any], score: Sequence[float], status: str = "finished") -> pd.DataFrame:
    n = len(column)
    return pd.DataFrame(
        {
            "number": range(1, n + 1),
            "model": "A",
            "dataset": "toy",
            "status": status,
            "size": column,
            "valid NDCG@10": score,
            "train_seconds": np.arange(n, dtype=float),
        }
    )


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1e-4, 1e-3, 1e-2], "log"),
        ([16, 32, 64, 128], "log"),
        ([1, 2, 3, 4], "linear"),
        ([0.0, 0.1, 0.2], "linear"),
        ([0.1, 0.2], "linear"),
        ([0.001, 0.1], "log"),
        ([1000, 16384, 131072], "log"),
        ([5], "linear"),
    ],
)
def test_axes_suit_the_values(values: list[float], scale: str) -> None:
    axes = Figure().add_subplot()
    frame = frame_of(values, [0.1] * len(values))
    assert plot_parameter(frame, "size", "size", "NDCG@10", "max", model_looks(["A"]), axes) is axes
    assert axes.get_xscale() == scale
    axes.get_figure(root=True).canvas.draw()
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == [f"{value:g}" for value in values]


def test_values_that_are_no_numbers_are_categories() -> None:
    axes = Figure().add_subplot()
    frame = frame_of(["tanh", "identity", "tanh", None], [0.3, 0.1, 0.2, 0.9])
    plot_parameter(frame, "size", "size", "NDCG@10", "max", model_looks(["A"]), axes)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["identity", "tanh"]
    best, mean = axes.get_lines()[-2:]
    assert list(best.get_ydata()) == [0.1, 0.3]
    assert list(mean.get_ydata()) == [0.1, 0.25]


def test_the_best_is_the_least_where_less_is_better() -> None:
    axes = Figure().add_subplot()
    frame = frame_of([1, 1, 2], [0.3, 0.1, 0.2])
    plot_parameter(frame, "size", "size", "NDCG@10", "min", model_looks(["A"]), axes)
    assert list(axes.get_lines()[-2].get_ydata()) == [0.1, 0.2]


def test_failed_and_nan_trials_are_left_out_of_scores() -> None:
    frame = pd.concat([frame_of([1, 2], [0.3, np.nan]), frame_of([3], [0.9], "failed")], ignore_index=True)
    axes = Figure().add_subplot()
    plot_pareto(frame, "NDCG@10", "max", model_looks(["A"]), axes)
    assert {float(y) for line in axes.get_lines() for y in line.get_ydata()} == {0.3}


@pytest.mark.parametrize("seconds", [(12.0, 18.0), (1.0, 90.0), (1e-5, 1e5), (3.0, 3.0)])
def test_times_are_labelled_in_plain_numbers(seconds: tuple[float, float]) -> None:
    axes = Figure().add_subplot()
    plot_pareto(frame_of([1, 2], [0.1, 0.2]).assign(train_seconds=seconds), "NDCG@10", "max", model_looks(["A"]), axes)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert len(labels) >= 2
    assert [float(label.replace(",", "")) for label in labels] == pytest.approx(axes.get_xticks())


def test_a_parameter_that_no_scored_trial_has_is_drawn_empty(tmp_path: Path) -> None:
    sweep = SweepWriter(tmp_path / "sweep")
    sweep.trial("A", status="failed", curve=[], only_of_a=1, also="x")
    sweep.trial("B", size=1)
    sweep.trial("B", status="stopped", curve=[None], size=2)
    paths = write_sweep_report(sweep.folder).files
    assert {"parameter-only_of_a.png", "parameter-also.png"} <= {path.name for path in paths}


@pytest.mark.parametrize("mode", ["max", "min"])
def test_frontier_agrees_with_brute_force(mode: Any) -> None:
    generator = np.random.default_rng(3)
    for _ in range(50):
        seconds = pd.Series(generator.integers(1, 6, 8).astype(float))
        score = pd.Series(generator.integers(1, 6, 8).astype(float))
        # What lacks a number takes no part; nothing is less or more than NaN.
        seconds[generator.random(8) < 0.1] = np.nan
        score[generator.random(8) < 0.1] = np.nan
        signed = score if mode == "max" else -score
        expected = {
            (seconds[one], score[one])
            for one in range(8)
            if not np.isnan(seconds[one] + score[one])
            and not any(
                seconds[other] <= seconds[one]
                and signed[other] >= signed[one]
                and (seconds[other] < seconds[one] or signed[other] > signed[one])
                for other in range(8)
            )
        }
        found = pareto_frontier(seconds, score, mode)
        assert {(seconds[one], score[one]) for one in found} == expected
        assert seconds[found].is_monotonic_increasing


def test_a_heat_map_has_the_best_score_of_any_two_values() -> None:
    """Whatever the other settings; rows from below; a cell without a trial says so."""
    frame = pd.DataFrame(
        {"train_batch_size": [64, 64, 256, 256], "rate": [0.1, 0.1, 0.1, 0.01], "valid NDCG@10": [0.2, 0.3, 0.1, 0.4]}
    )
    keys = ["train_batch_size", "rate"]
    ax = plot_heat_map(frame, keys, "NDCG@10", "max", Normalize(0, 1), Figure().add_subplot())
    (image,) = ax.images
    np.testing.assert_array_equal(np.asarray(image.get_array().filled(9.0)), [[9.0, 0.3], [0.4, 0.1]])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.01", "0.1"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["64", "256"]
    assert [text.get_text() for text in ax.texts] == ["none", "0.3000", "0.4000", "0.1000"]
    maps = draw_heat_maps({"A": frame, "B": frame.head(1)}, dict(zip(keys, keys, strict=True)), "NDCG@10", "max")
    assert [(one.name, len(one.drawing.axes)) for one in maps] == [("heat-train_batch_size-rate", 1)]


def test_a_parameter_that_says_the_same_as_another_is_shown_once() -> None:
    """Also where only some trials have it."""
    frame = pd.DataFrame({"d": [8, 16, 16], "h": [8, pd.NA, 16], "k": [8, 8, 16]}, dtype="Int64")
    assert distinct_parameters(frame, {"size": "d", "hidden": "h", "other": "k"}) == {"size": "d", "other": "k"}


def test_parallel_lines_meet_their_ticks() -> None:
    """Trials that share a value that is no number meet in the same place."""
    frame = pd.DataFrame(
        {"model": "A", "kind": ["x", "x", "y"], "valid m": [0.1, 0.2, 0.3], "status": ["finished"] * 3, "number": 0}
    )
    ax = plot_parallel_coordinates(frame, {"kind": "kind"}, "m", "max", Figure().add_subplot())
    lines = [line for line in ax.lines if len(line.get_xdata()) == 2 and list(line.get_xdata()) == [0, 1]]
    ticks = {text.get_text(): text.xy[1] for text in ax.texts}
    assert [line.get_ydata()[0] for line in lines] == [ticks["x"], ticks["x"], ticks["y"]]


def test_training_curves_are_told_apart_by_what_was_swept(small: Path) -> None:
    """A panel a parameter with its values as colours; trials without it are grey."""
    sweep = read_sweep(small)
    figures = draw_sweep(sweep.frame, sweep.columns, sweep.logs, "NDCG@10", "max")
    (drawing,) = (figure.drawing for figure in figures if figure.name == "training_curves")
    panels = {ax.get_title(): ax for ax in drawing.axes}
    assert set(panels) == {"learning_rate", "mos_heads"}
    legend = panels["mos_heads"].get_legend()
    colours = {text.get_text(): line.get_color() for text, line in zip(legend.texts, legend.get_lines(), strict=True)}
    assert list(colours) == ["2", "4"]
    drawn = [line.get_color() for line in panels["mos_heads"].lines if len(line.get_xdata()) > 1]
    assert [drawn.count(colours[value]) for value in ("2", "4")] == [3, 1]
