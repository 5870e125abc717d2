"""Accuracy against cost: what is counted, its interval over seeds, and the front of both."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from fabricated import MOS, SOFTMAX, Maker, recall

from mos_recbole import cli
from mos_recbole.analysis import COSTS, configuration_rows, on_front, usual_cost
from mos_recbole.evaluation import Interval
from mos_recbole.report import comparison_table, write_report
from mos_recbole.results import NO_DEVICE, find_records

METRIC = "Recall@100"


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """Makes runs in a folder: both heads at two widths with two seeds, wider ones dearer, mixtures most of all."""
    make = Maker(tmp_path / "results")
    for model, factor in ((SOFTMAX, 1.0), (MOS, 3.0)):
        for width in (8, 16):
            for seed in (1, 2):
                seconds = factor * width + seed
                energy = {"cpu": seconds / 1e6, "memory": 1e-6, "gpu": 0.0}
                make(model, width, seed, train_processor_seconds=seconds, energy_kwh=energy, energy_by="codecarbon")
    return make


def test_costs_have_intervals_over_seeds(make: Maker) -> None:
    rows = {row.label: row for row in configuration_rows(find_records(make.folder))}
    interval = COSTS["processor"].interval(rows[f"{SOFTMAX} embedding_size=8"].runs)
    assert interval is not None
    # 9 and 10 seconds: Student's quantile with one degree of freedom is 12.706, the standard error is 0.5.
    assert (interval.mean, interval.half_width) == (9.5, pytest.approx(12.7062 * 0.5, rel=1e-5))
    energy = COSTS["energy"].interval(rows[f"{SOFTMAX} embedding_size=8"].runs[:1])
    assert energy is not None
    assert (energy.mean, energy.half_width) == (pytest.approx(1000 * (9e-6 + 1e-6)), 0.0)
    assert COSTS["memory"].interval(rows[f"{SOFTMAX} embedding_size=8"].runs) is None
    counted, other = rows[f"{SOFTMAX} embedding_size=8"].runs
    assert COSTS["energy"].interval([counted, other.model_copy(update={"energy_kwh": {}})]) is None


def test_the_front_has_what_nothing_beats_in_both(make: Maker) -> None:
    rows = configuration_rows(find_records(make.folder))
    reached = {row.label: recall(row.runs[0].model, row.runs[0].settings["embedding_size"]).mean() for row in rows}
    spent = {row.label: sum(run.train_processor_seconds or 0 for run in row.runs) for row in rows}
    expected = [
        not any(reached[other] >= reached[one] and spent[other] <= spent[one] and other != one for other in reached)
        for one in reached
    ]
    assert on_front(rows, METRIC, COSTS["processor"]) == expected
    assert 0 < sum(expected) < len(expected)


def test_lists_of_another_program_have_no_costs(make: Maker) -> None:
    """They are neither on a front nor counted in what is usual, and tables say nothing of their training."""
    make("Theirs", None, device=NO_DEVICE, parameters=0, epochs=0, train_seconds=0.0)
    runs = find_records(make.folder)
    assert usual_cost(runs).name == "processor"
    rows = configuration_rows(runs)
    place = [row.label for row in rows].index("Theirs")
    for name in ("time", "processor", "parameters"):
        assert COSTS[name].interval(rows[place].runs) is None
        assert not on_front(rows, METRIC, COSTS[name])[place]
    table = comparison_table(runs, [METRIC])
    cells = table.rows[place]
    assert [cells[name].text for name in ("parameters", "epochs", "training time")] == ["-"] * 3
    assert table.frame.loc[place, ["parameters", "epochs", "train_seconds"]].isna().all()


def test_what_has_no_cost_is_not_on_the_front(make: Maker) -> None:
    make("Pop", None)
    rows = configuration_rows(find_records(make.folder))
    assert not on_front(rows, METRIC, COSTS["processor"])[-1]
    text = comparison_table(find_records(make.folder), [METRIC], "processor").text()
    assert "Student's 95 % interval" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| Pop ")]
    assert [cell.strip() for cell in line.split("|")][5] == "-"


def test_the_front_of_a_metric_of_which_less_is_better() -> None:
    """Less of it, or less of the cost; three configurations, of which the last has neither."""
    rows: list[Any] = [
        SimpleNamespace(
            runs=[SimpleNamespace(train_seconds=seconds, was_trained=True)],
            intervals={"GiniIndex@10": Interval(gini, 0, 1)},
        )
        for seconds, gini in ((1.0, 0.9), (2.0, 0.5), (3.0, 0.7))
    ]
    assert on_front(rows, "GiniIndex@10", COSTS["time"]) == [True, True, False]


def test_the_usual_cost_counts_all_of_the_work(make: Maker) -> None:
    records = find_records(make.folder)
    assert usual_cost(records).name == "processor"
    on_gpu = make(SOFTMAX, 32, train_processor_seconds=1.0, peak_memory_bytes={"resident": 1, "gpu": 2})
    assert usual_cost([*records, on_gpu]).name == "time"
    assert usual_cost([*records, make("Pop", None)]).name == "time"


@pytest.mark.parametrize(
    ("name", "column", "text"),
    [("processor", "processor time [s]", "9.5 ± 6.4"), ("energy", "energy [Wh]", "0.0105 ± 0.0064")],
)
def test_a_table_by_a_cost(name: str, column: str, text: str, make: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["table", "--results", str(make.folder), "--cost", name, "--metrics", METRIC]) == 0
    out = capsys.readouterr().out
    head = [cell.strip() for cell in out.splitlines()[0].split("|")]
    assert column in head
    assert "training time" not in head
    assert text in out
    assert out.count("★") == 1 + sum(
        on_front(configuration_rows(find_records(make.folder)), METRIC, COSTS[name])
    )  # the caption has one
    assert cli.main(["table", "--results", str(make.folder), "--cost", "money"]) == 2
    assert "cost 'money'; expected time, processor, energy, memory, parameters" in capsys.readouterr().err


@pytest.mark.usefixtures("no_figures")
def test_a_report_has_the_front_as_a_figure_and_in_its_table(make: Maker) -> None:
    page, *_ = write_report([make.folder], cost="energy")
    (table,) = page.parent.glob("tables/*/models.csv")
    frame = pd.read_csv(table)
    assert frame["front"].any()
    assert (frame["energy cost low"] < frame["energy cost"]).all()
    assert len(list(page.parent.glob("figures/*/costs.*"))) == 2
    text = page.read_text(encoding="utf-8")
    assert "energy [Wh]" in text
    assert "--cost energy" in text
    assert "Recall@100 and energy" in text
