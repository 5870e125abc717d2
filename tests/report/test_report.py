"""The report of a study, made from runs whose files are fabricated: nothing is trained."""

import base64
import hashlib
import html
import html.parser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fabricated import ARTICLES, MOS, N_QUERIES, PROTOCOL, SOFTMAX, SPLIT, Maker, outcomes, recall
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Drawing
from matplotlib.patches import Rectangle

from mos_recbole import cli
from mos_recbole.analysis import metric_intervals
from mos_recbole.analysis.configurations import configuration_rows
from mos_recbole.analysis.reference import read_reference
from mos_recbole.analysis.slices import Cell, SliceBy, Slices
from mos_recbole.analysis.study import read_study
from mos_recbole.errors import InputError
from mos_recbole.evaluation import Interval
from mos_recbole.report import comparison_table, sections, write_report
from mos_recbole.report.figures import Figure, model_looks, save_figure
from mos_recbole.report.figures.maps import plot_difference_map
from mos_recbole.report.figures.slices import plot_relative_difference, plot_slices
from mos_recbole.report.figures.widths import plot_widths
from mos_recbole.report.folder import new_files
from mos_recbole.report.page import PageSection, render_page
from mos_recbole.report.reference import reference_tables
from mos_recbole.report.sections import section_contents
from mos_recbole.report.study import _require_own
from mos_recbole.report.table import Cell as TableCell
from mos_recbole.report.table import Table
from mos_recbole.results import RUNS_FOLDER, SweepPlan, Trial, find_records, read_record, setting_columns

REFERENCES = Path(__file__).parents[2] / "configs" / "references"
PUBLISHED = REFERENCES / "biarnes-ml-25m.yaml"


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "results")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study with two widths, by the article's protocol, with its numbers."""
    make = Maker(tmp_path_factory.mktemp("study") / "results")
    make.study((32, 64), **ARTICLES)
    make("Pop", None, **ARTICLES)
    page, *_ = write_report([make.folder], references=[PUBLISHED])
    return page.parent


def table(report: Path, name: str) -> pd.DataFrame:
    (path,) = report.glob(f"tables/*/{name}.csv")
    return pd.read_csv(path)


class Reader(html.parser.HTMLParser):
    """Reads a page: its elements in order, their attributes, its visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


# ---------------------------------------------------------------------------------------------------- numbers


def test_files_of_tables_say_of_what_they_are(report: Path) -> None:
    """They are read without the page: data, split and candidates, and what ± is."""
    (text,) = (path.read_text(encoding="utf-8") for path in report.glob("tables/*/models.tex"))
    assert "% ml-25m: 60 users; split temporal; items of the history are candidates." in text
    assert "± half the width of the 95 % interval" in text
    assert "items of the history are candidates." not in (report / "report.html").read_text(encoding="utf-8")


def test_a_model_without_probabilities_has_no_loss_and_stands_beside_others(make: Maker) -> None:
    """The loss of the others is shown all the same."""
    make(MOS, 8)
    make("Pop", None, change=lambda table: table.assign(log_probability=np.nan))
    table = comparison_table(find_records(make.folder), ["NDCG@10", "Loss"])
    shown = {row["model"].text: row["Loss ↓"].text for row in table.rows}
    assert shown == {MOS: "1.0000 ± 0.0000", "Pop": "-"}
    page, *_ = write_report([make.folder], metrics=["NDCG@10", "Loss"])
    assert page.is_file()


def test_models_without_the_shown_metric_are_last_and_not_compared(make: Maker) -> None:
    """The others are as they would be without them: in their order, on the front, compared."""
    for model, width, loss, seconds in ((SOFTMAX, 8, 3.0, 9), (SOFTMAX, 16, 1.0, 9), (MOS, 8, 2.0, 5)):
        if model == MOS:
            for other in ("Pop", "A", "GRU4Rec"):
                make(other, None, change=lambda table: table.assign(log_probability=np.nan), train_seconds=1)
        make(model, width, change=lambda table, loss=loss: table.assign(log_probability=-loss), train_seconds=seconds)
    page, *_ = write_report([make.folder], metric="Loss", metrics=["Loss"], baseline=SOFTMAX)
    rows = table(page.parent, "models")
    assert rows["model"].str.startswith((SOFTMAX, MOS)).tolist() == [True] * 3 + [False] * 3
    assert rows["Loss"][:3].tolist() == [1.0, 2.0, 3.0]
    assert rows["front"].tolist() == [True, True, False, False, False, False]
    text = Reader(page.read_text(encoding="utf-8")).text
    assert "Not compared by Loss, which they do not have: " in text


@pytest.mark.parametrize(("other", "drawn"), [(np.nan, False), (-2.0, True)])
def test_costs_are_drawn_where_two_models_have_the_metric(make: Maker, other: float, drawn: bool) -> None:
    """A lone point compares nothing."""
    for model, value in ((SOFTMAX, -1.0), (MOS, other)):
        make(model, change=lambda table, value=value: table.assign(log_probability=value), train_seconds=9)
    page, *_ = write_report([make.folder], metric="Loss", metrics=["Loss"])
    assert bool(list(page.parent.rglob("costs*"))) == drawn


def test_the_setting_of_epochs_and_the_trained_ones_have_columns_of_their_own(make: Maker, no_figures: None) -> None:
    for epochs in (60, 300):
        make("Pop", None, settings={"model": "Pop", "dataset": "toy", "seed": 1, "epochs": epochs})
    page, *_ = write_report([make.folder])
    (markdown,) = page.parent.glob("tables/*/models.md")
    lines = [[cell.strip() for cell in line.split("|")] for line in markdown.read_text(encoding="utf-8").splitlines()]
    header = next(line for line in lines if "model" in line)
    rows = [dict(zip(header, line, strict=True)) for line in lines if "Pop" in line]
    assert sorted((row["epochs"], row["trained epochs"]) for row in rows) == [("300", "3"), ("60", "3")]


def test_a_model_looks_the_same_in_all_sections(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever finished first there."""
    for dataset, models in (("a", ("Pop", "BPR", SOFTMAX)), ("b", ("BPR", SOFTMAX, "Pop"))):
        for model in models:
            make(model, None, dataset=dataset, data={"users": 60, "fingerprint": dataset}, protocol_hash=dataset * 10)
    seen: list[dict[str, object]] = []
    real = sections.draw_training_curves
    monkeypatch.setattr(
        sections, "draw_training_curves", lambda *given, **named: (seen.append(given[2]), real(*given, **named))[1]
    )
    write_report([make.folder])
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_the_main_table_has_the_means_of_the_outcomes(report: Path) -> None:
    """All configurations, a model without a dimension too, to full precision."""
    rows = table(report, "models").set_index("model")
    assert sorted(rows.index) == sorted(
        [*(f"{model} embedding_size={d}" for model in (SOFTMAX, MOS) for d in (32, 64)), "Pop"]
    )
    assert rows["Recall@100"].is_monotonic_decreasing
    for model in (SOFTMAX, MOS):
        for dimension in (32, 64):
            row = rows.loc[f"{model} embedding_size={dimension}"]
            assert row["Recall@100"] == pytest.approx(recall(model, dimension).mean())
            assert row["Recall@10"] == pytest.approx(recall(model, dimension, k=10).mean())
            assert row["Recall@100 low"] < row["Recall@100"] < row["Recall@100 high"]
            assert (row["seeds"], row["parameters"]) == (2, 1000 + dimension)


def test_the_page_opens_with_the_finding(report: Path) -> None:
    """The best configurations of both heads as validation chose, difference, interval, p value and verdict."""
    page = Reader((report / "report.html").read_text(encoding="utf-8"))
    first, second = (recall(model, 32).mean() for model in (SOFTMAX, MOS))
    comparison = re.search(
        rf"(No difference shown between|{MOS} is (better|worse) than).*Recall@100 {second:.4f} against {first:.4f}, a "
        rf"difference of \{second - first:+.4f} \(95 % interval [-+.\d]+ to [-+.\d]+\), p ",
        page.text,
    )
    assert comparison is not None
    assert comparison.start() < page.text.index("Configurations")
    assert "K 4, d 32, 2 seeds" in page.text
    assert f"{SOFTMAX}, {MOS}, Pop on ml-25m" in page.text


def test_pairs_are_of_one_dimension_and_corrected_together(report: Path) -> None:
    """Model less baseline at the same settings; Holm's correction over all rows of the table, by hand."""
    rows = table(report, "paired")
    assert len(rows) == 2 * 4
    for row in rows[rows["metric"] == "Recall@100"].to_dict("records"):
        dimension = int(row["A"].rpartition("=")[2])
        assert row["A"] == f"{SOFTMAX} embedding_size={dimension}"
        assert row["B"] == f"{MOS} embedding_size={dimension}"
        expected = recall(MOS, dimension).mean() - recall(SOFTMAX, dimension).mean()
        assert row["B - A"] == pytest.approx(expected)
    in_order = rows.sort_values("p")
    by_hand = (in_order["p"] * np.arange(len(rows), 0, -1)).cummax().clip(upper=1)
    np.testing.assert_allclose(in_order["p (Holm)"], by_hand)
    (markdown,) = report.glob("tables/*/paired.md")
    text = markdown.read_text(encoding="utf-8")
    assert "null hypothesis" in text
    assert "Holm's method for the 8 comparisons of this table" in text
    header, _, *lines = ([cell.strip() for cell in line.split("|")] for line in text.splitlines() if line[:1] == "|")
    shown = [dict(zip(header, line, strict=True)) for line in lines]
    assert [(row["model"], row["baseline"]) for row in shown] == [(MOS, SOFTMAX)] * len(rows)


def test_slices_have_the_articles_bins_and_the_queries_in_them(report: Path) -> None:
    """By training count and crossed with the distance to the oldest item: counts, means and relative differences."""
    query = outcomes(SOFTMAX, 32, 1)
    rows = table(report, f"train_count-{MOS}")
    assert list(rows["train_count"][:2]) == ["[0, 814]", "(814, 4976]"]
    inside = (query["train_count"] <= 814).to_numpy()
    for dimension in (32, 64):
        row = rows[(rows["width"] == dimension) & (rows["train_count"] == "[0, 814]")].iloc[0]
        before, after = (recall(model, dimension)[inside].mean() for model in (SOFTMAX, MOS))
        assert (row["queries"], row["A"], row["B"]) == (inside.sum(), SOFTMAX, MOS)
        assert row["relative"] == pytest.approx(after / before - 1)
    crossed = table(report, f"train_count-oldest_distance-{MOS}")
    both = inside & query["oldest_distance"].between(0.66, 0.78, inclusive="right").to_numpy()
    chosen = (crossed["train_count"] == "[0, 814]") & (crossed["oldest_distance"] == "(0.66, 0.78]")
    assert list(crossed[chosen]["queries"]) == [both.sum()] * 2


def test_ties_are_a_slice_of_their_own(report: Path) -> None:
    """Of the queries whose previous interaction has the same time."""
    rows = table(report, f"time_gap-{MOS}")
    tied = (outcomes(SOFTMAX, 32, 1)["time_gap"] == 0).sum()
    of_first = rows[rows["width"] == 32].set_index("time_gap")["queries"]
    assert dict(of_first) == {"tied": tied, "not tied": N_QUERIES - tied}


def test_published_numbers_beside_ours(report: Path) -> None:
    """Those of the two widths that were run, with the difference; the source and what differs in the caption."""
    rows = table(report, "reference").set_index(["embedding_size", "model"])
    assert list(rows.index) == [(d, f"{model} embedding_size={d}") for d in (32, 64) for model in (SOFTMAX, MOS)]
    assert rows.loc[(32, f"{SOFTMAX} embedding_size=32"), "published"] == 0.836285
    expected = recall(MOS, 64).mean() - 0.856911
    assert rows.loc[(64, f"{MOS} embedding_size=64"), "here - published"] == pytest.approx(expected)
    assert set(rows["source"]) == {"Biarnes 2023"}
    assert set(rows["protocol"]) == {"the same"}
    (markdown,) = report.glob("tables/*/reference.md")
    assert re.search(r"Biarnes.*2023.*validation part is cut", markdown.read_text(encoding="utf-8"), re.DOTALL)


def test_published_differences_beside_ours(report: Path) -> None:
    """Of all targets and of frequent ones, in percent of the baseline."""
    rows = table(report, "reference-differences").set_index(["embedding_size", "queries"])
    frequent = "train_count>814"
    assert list(rows.index) == [(d, targets) for d in (32, 64) for targets in ("all", frequent)]
    assert rows.loc[(32, "all"), "published"] == pytest.approx(0.837041 / 0.836285 - 1, abs=1e-6)
    assert rows.loc[(64, frequent), "published"] == 0.00459
    chosen = outcomes(MOS, 64, 1)["train_count"] > 814
    means = [recall(model, 64)[chosen].mean() for model in (SOFTMAX, MOS)]
    assert rows.loc[(64, frequent), "here"] == pytest.approx(means[1] / means[0] - 1)


def test_a_published_difference_of_what_our_runs_lack_is_said(make: Maker, no_figures: None) -> None:
    """Kept runs have no column train_count; the other numbers stand."""
    make.study((32,), change=lambda table: table.drop(columns="train_count"), **ARTICLES)
    page, *_ = write_report([make.folder], references=[PUBLISHED])
    rows = table(page.parent, "reference-differences").set_index("queries")
    assert rows["here"].notna().to_dict() == {"all": True, "train_count>814": False}
    (markdown,) = page.parent.glob("tables/*/reference-differences.md")
    assert "n/a: no column 'train_count'" in markdown.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"protocol": PROTOCOL | {"split": {"name": "leave_one_out"}}}, "name leave_one_out instead of temporal"),
        (
            {"protocol": PROTOCOL | {"split": SPLIT | {"split_time": 1499856235}}},
            "split_time 1499856235 instead of 1499856234",
        ),
        ({"protocol": PROTOCOL | {"split": SPLIT | {"context_reach": "past"}}}, "context_reach past instead of side"),
        ({"MAX_ITEM_LIST_LENGTH": 50}, "MAX_ITEM_LIST_LENGTH 50 instead of 10"),
        ({"val_interval": None}, "val_interval None instead of"),
        ({"item_inter_num_interval": "[5,inf)"}, r"item_inter_num_interval \[5,inf\) instead of None"),
        ({"tie_order": "random"}, "tie_order random instead of file"),
        ({"protocol": PROTOCOL | {"split": SPLIT, "filter_seen": True}}, "filter_seen True instead of False"),
        (
            {"data": {"targets_before_test": 20_278_780, "test_targets": 2_000_000}},
            "test_targets 2,000,000 instead of 2,982,077",
        ),
        ({"data": {}}, "test_targets 0 instead of"),
    ],
)
def test_where_the_protocol_differs_from_the_published_one(
    make: Maker, changes: dict[str, Any], difference: str
) -> None:
    """Another split, context, filter or order of ratings; a subset of the data."""
    published = read_reference(PUBLISHED)
    assert published.is_protocol_of(make(**ARTICLES))
    assert published.is_protocol_of(make(**ARTICLES, user_inter_num_interval="[0,inf)"))
    other = make(**(ARTICLES | changes))
    assert not published.is_protocol_of(other)
    assert re.search(difference, "; ".join(published.protocol.differences(other)))


def test_numbers_of_another_protocol_say_so(make: Maker, no_figures: None) -> None:
    """Of two window lengths in one protocol, validation chose another one for the model: its row says what differs.

    Baseline and model may then look at different windows, whose oldest items are no column to slice both by.
    """
    for seed in (1, 2):
        make(SOFTMAX, 32, seed, valid=0.5, **ARTICLES)
        make(MOS, 32, seed, valid=0.4, **ARTICLES)
        changed = ARTICLES | {"MAX_ITEM_LIST_LENGTH": 50}
        make(MOS, 32, seed, valid=0.5, change=lambda table: table.assign(oldest_distance=0.5), **changed)
    page, *_ = write_report([make.folder], references=[PUBLISHED])
    rows = table(page.parent, "reference")
    assert list(rows["protocol"]) == ["the same", "MAX_ITEM_LIST_LENGTH 50 instead of 10"]
    assert set(table(page.parent, "reference-differences")["protocol"]) == {"MAX_ITEM_LIST_LENGTH 50 instead of 10"}
    names = {path.stem for path in page.parent.glob("tables/*/*")}
    assert f"train_count-{MOS}" in names
    assert not {name for name in names if "oldest_distance" in name}
    assert table(page.parent, f"train_count-{MOS}")["train_count"].iloc[0] != "[0, 814]"
    assert "windows of different lengths" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(REFERENCES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_published_number_is_found_beside_a_run(path: Path, make: Maker) -> None:
    """A run by the publication's protocol, and one whose window differs, which the table says."""
    published = read_reference(path)
    known = published.protocol
    split = {"filter_seen": known.settings["filter_seen"]} if "filter_seen" in known.settings else {}
    fields = {"dataset": published.dataset, "protocol": PROTOCOL | split | {"split": known.split}, "data": known.data}
    runs = {(model, *row.settings.items()): row.settings for row in published.rows for model in row.models}
    for (model, *_), settings in runs.items():
        make(model, None, **fields, **known.settings, **settings)
    (section,) = read_study([make.folder]).sections
    rows = {row.label: row for row in configuration_rows(section.runs, [row.metric for row in published.rows])}
    found, *_ = reference_tables([published], section, rows)
    assert list(found.frame["published"]) == [row.value for row in published.rows for _ in row.models]
    assert set(found.frame["protocol"]) == {"the same"}
    other = section.runs[0].model_copy(update={"settings": known.settings | {"MAX_ITEM_LIST_LENGTH": 7}})
    assert known.differences(other) == [f"MAX_ITEM_LIST_LENGTH 7 instead of {known.settings['MAX_ITEM_LIST_LENGTH']}"]


def test_several_publications_share_a_table(make: Maker, no_figures: None) -> None:
    """Those on the page's data; of the configurations of a tuned model there is the one that validation chose."""
    for width, valid in ((8, 0.4), (16, 0.5)):
        make("SASRecSoftmax", width, dataset="beauty", valid=valid)
    files = [REFERENCES / f"{name}.yaml" for name in ("time-to-split-beauty", "s3-rec-rerun-beauty", "recbole-ml-100k")]
    page, *_ = write_report([make.folder], references=files)
    rows = table(page.parent, "reference")
    assert list(rows["source"]) == ["Time to Split"] * 2 + ["a re-run on S3-Rec's files"] * 2
    assert set(rows["model"]) == {"SASRecSoftmax embedding_size=16"}
    text = page.read_text(encoding="utf-8")
    assert "The numbers of RecBole, one run are about none of these configurations." in text
    assert "--reference " + " ".join(map(str, files)) in text


def test_without_a_reference_nothing_is_said_of_publications(make: Maker, no_figures: None) -> None:
    """Nor are there its bins; with one on another data set, the page says that it is about none of these."""
    make.study((32,), **ARTICLES)
    page, *others = write_report([make.folder])
    assert not [path for path in others if path.stem.startswith("reference")]
    assert "Biarnes" not in page.read_text(encoding="utf-8")
    assert "article" not in page.read_text(encoding="utf-8")
    assert table(page.parent, f"train_count-{MOS}")["train_count"].iloc[0] != "[0, 814]"
    other = Maker(make.folder.parent / "other")
    other.study((32,))
    page, *_ = write_report([other.folder], references=[PUBLISHED])
    assert "numbers of Biarnes 2023 are about none of these configurations" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: [", "not YAML"),
        ("source: x", "citation: Field required"),
        ("{source: x, citation: y, dataset: z, rows: [], row: []}", "row: Extra inputs"),
        (
            "{source: x, citation: y, dataset: z, rows: [], differences: "
            "[{baseline: a, model: b, metric: NDCG@10, where: often, relative: 0}]}",
            "condition 'often' not understood",
        ),
        ("{source: x, citation: y, dataset: z, rows: [{model: a, metric: NDCG, value: 1}]}", "metric 'NDCG'; expected"),
        ("{source: x, citation: y, dataset: z, rows: [], protocol: {data: {users: 0}}}", "greater than 0"),
    ],
)
def test_a_reference_that_is_not_understood(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "published.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_reference(path)
    with pytest.raises(InputError, match="no-such: No such file"):
        read_reference(tmp_path / "no-such")


def test_metrics_and_numbers_of_a_reference_are_written_as_elsewhere(make: Maker, tmp_path: Path, no_figures) -> None:
    make(SOFTMAX, 16, dataset="beauty", learning_rate=0.005)
    path = tmp_path / "published.yaml"
    row = f"{{model: {SOFTMAX}, settings: {{learning_rate: 5e-3}}, metric: ndcg@10, value: 0.2}}"
    path.write_text(f"{{source: x, citation: y, dataset: beauty, rows: [{row}]}}")
    page, *_ = write_report([make.folder], references=[path])
    rows = table(page.parent, "reference")
    assert list(rows["metric"]) == ["NDCG@10"]
    assert list(rows["published"]) == [0.2]


def test_the_margin_is_that_of_all_tables(make: Maker, no_figures: None) -> None:
    make.study((32,))
    page, *_ = write_report([make.folder], margin=0.6)
    assert set(re.findall(r"within ± ([\d.]+) %; else", page.read_text(encoding="utf-8"))) == {"60"}


def test_every_table_is_there_in_three_formats_and_every_figure_in_two(report: Path) -> None:
    """LaTeX has booktabs' rules and no sign that pdfLaTeX lacks; a caption comes as comments before it."""
    names = {path.stem for path in report.glob("tables/*/*")}
    single = {f"{column}-{MOS}" for column in ("train_count", "previous_distance", "oldest_distance")}
    crossed = {f"train_count-{column}-{MOS}" for column in ("previous_distance", "oldest_distance")}
    others = {f"context_length-{MOS}", f"time_gap-{MOS}", "reference-differences"}
    assert names == {"models", "paired", "reference"} | single | crossed | others
    assert all(len(list(report.glob(f"tables/*/{name}.*"))) == 3 for name in names)
    for path in report.glob("tables/*/*.tex"):
        text = path.read_text(encoding="utf-8")
        body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
        assert body.startswith("\\begin{tabular}")
        assert "\\toprule" in body
        assert body.isascii()
    figures = {path.stem for path in report.glob("figures/*/*")}
    maps = {f"{kind}-{name}" for kind in ("map", "cells") for name in crossed}
    assert figures == {"costs", "widths", "training_curves"} | single | maps
    assert all(len(list(report.glob(f"figures/*/{name}.*"))) == 2 for name in figures)


# ---------------------------------------------------------------------------------------------------- the page


def test_the_page_needs_nothing_but_itself(report: Path) -> None:
    """No address but its own parts; every figure embedded, with words for those who do not see it; facts in words."""
    text = (report / "report.html").read_text(encoding="utf-8")
    page = Reader(text)
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "data", "srcset"):
            address = attributes.get(name) or ""
            assert address == "" or address.startswith(("#", "data:image/svg+xml;base64,", "figures/")), (tag, address)
    links = {str(a["href"]) for tag, a in page.tags if tag == "a" and str(a.get("href")).startswith("figures/")}
    assert links == {path.relative_to(report).as_posix() for path in report.glob("figures/*/*.svg")}
    assert not re.search(r"url\(|@import|https?://", re.sub(r"base64,[\w+/=]+", "", text))
    images = [attributes for tag, attributes in page.tags if tag == "img" and attributes.get("src")]
    svgs = sorted(path.read_bytes() for path in report.glob("figures/*/*.svg"))
    assert sorted(base64.b64decode(str(one["src"]).partition(",")[2]) for one in images) == svgs
    assert all(len(str(one["alt"])) > 30 for one in images)
    for fact in ("ml-25m", "split_time 1499856234", "No model learns", "1, 2", "0.1+abc", "c0ffee", "2026-01-02"):
        assert fact in page.text
    assert "mos-recbole report" in page.text
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    referred = " ".join(str(a.get("aria-labelledby") or a.get("aria-describedby") or "") for _, a in page.tags).split()
    assert set(referred) <= set(ids)


HOSTILE = "</script><script>alert(1)</script>\"'&amp;<b>"


@pytest.mark.usefixtures("no_figures")
def test_names_and_settings_are_text(make: Maker) -> None:
    """Whatever a data set, a setting, a device or a failed trial is called, it adds no element to the page."""
    make.study((8,))
    (plain, *_) = write_report([make.folder])
    expected = Reader(plain.read_text(encoding="utf-8"))
    hostile = Maker(make.folder.parent / "hostile")
    hostile.study((8,), dataset=HOSTILE, note=HOSTILE, device=HOSTILE, git_commit=HOSTILE)
    (page, *others) = write_report([hostile.folder])
    text = page.read_text(encoding="utf-8")
    found = Reader(text)
    assert [tag for tag, _ in found.tags if tag != "tr"][:20] == [tag for tag, _ in expected.tags if tag != "tr"][:20]
    assert [found.count(tag) for tag in ("script", "b", "table")] == [
        expected.count(tag) for tag in ("script", "b", "table")
    ]
    assert HOSTILE in found.text
    assert {path.relative_to(page.parent).parts[1] for path in others} == {
        "__script__script_alert_1___script____amp__b_-leave_one_out-feedbeef"
    }


def test_the_same_results_give_the_same_bytes(report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page, tables and figures, in whatever order the runs are found; nothing is of today."""
    drawn: list[str] = []

    def save(figure: Figure, folder: Path) -> list[Path]:
        """Draws the first of each kind anew, which shows as much as all of them, and copies the others."""
        kind = figure.name.partition("-")[0]
        if kind not in drawn:
            drawn.append(kind)
            return save_figure(figure, folder)
        paths = [folder / f"{figure.name}.{ending}" for ending in ("png", "svg")]
        for path in paths:
            shutil.copy(report / "figures" / folder.name / path.name, path)
        return paths

    monkeypatch.setattr("mos_recbole.report.figures.save_figure", save)
    again = write_report([report.parent], tmp_path / "again", references=[PUBLISHED])
    assert len(again) > 30
    for path in again:
        assert path.read_bytes() == (report / path.relative_to(tmp_path / "again")).read_bytes(), path.name


# ---------------------------------------------------------------------------------------------------- sections


@pytest.mark.usefixtures("no_figures")
def test_protocols_have_sections_and_are_never_mixed(make: Maker) -> None:
    """Two data sets, and on one of them two orders of ties: three sections, each with its own runs alone."""
    make.study((8,), dataset="beauty", protocol_hash="b" * 12, tie_order="file")
    make.study((8,), tie_order="file")
    make.study((8,), protocol_hash="c" * 12, tie_order="reverse")
    study = read_study([make.folder])
    assert [section.title for section in study.sections] == [
        "beauty, leave_one_out",
        "toy, leave_one_out, tie_order file",
        "toy, leave_one_out, tie_order reverse",
    ]
    page, *_ = write_report([make.folder])
    folders = sorted(path.name for path in (page.parent / "tables").iterdir())
    assert folders == [
        f"{name}-leave_one_out-{key}" for name, key in (("beauty", "b" * 8), ("toy", "c" * 8), ("toy", "feedbeef"))
    ]
    for folder in folders:
        assert list(pd.read_csv(page.parent / "tables" / folder / "models.csv")["seeds"]) == [2, 2]
    text = Reader(page.read_text(encoding="utf-8")).text
    assert "numbers of different sections cannot be compared" in text


@pytest.mark.parametrize(("widths", "chosen"), [((1, 1), False), ((2, 1), True), ((1, 2), True), ((2, 2), True)])
def test_a_finding_says_where_validation_chose(widths: tuple[int, int], chosen: bool, make: Maker) -> None:
    """Where either model has more than one configuration."""
    for model, n in zip((SOFTMAX, MOS), widths, strict=True):
        for number in range(n):
            make(model, 8 << number, valid=0.5 - number / 10)
    (section,) = read_study([make.folder]).sections
    (found,) = section_contents(section, "Recall@100", model_looks(section.models)).findings
    assert ("Validation chose the settings." in found) == chosen


def test_models_of_different_code_are_no_pair(make: Maker) -> None:
    """Their difference may be the code's; findings and captions of other tables say which code it was."""
    make(SOFTMAX, code="0.1+aaaaaaaa")
    make(MOS, code="0.1+bbbbbbbb")
    (section,) = read_study([make.folder]).sections
    assert section.matched_pairs == []
    contents = section_contents(section, "Recall@100", model_looks(section.models))
    assert "No paired differences: no model has its baseline beside it in the same settings and code." in contents.notes
    assert "Computed by different code, which may be why they differ" in contents.findings[0]
    make(SOFTMAX, code="0.1+bbbbbbbb", finished="2026-03-01T00:00:00")
    (section,) = read_study([make.folder]).sections
    assert [[group.runs[0].code for group in pair] for pair in section.matched_pairs] == [["0.1+bbbbbbbb"] * 2]


def test_the_table_of_configurations_has_what_its_headers_say(make: Maker) -> None:
    """Means over seeds in the file, the mean of times and the range of epochs in the table."""
    for seed, (seconds, epochs) in enumerate([(10.0, 3), (20.0, 5), (90.0, 4)]):
        make(MOS, 8, seed, train_seconds=seconds, epochs=epochs, best_epoch=1, wall_seconds=500.0)
    table = comparison_table(find_records(make.folder), ["Recall@100", "NDCG@10"])
    (numbers,), (shown,) = table.frame.to_dict("records"), table.rows
    assert [numbers[key] for key in ("parameters", "seeds", "epochs", "train_seconds")] == [1008, 3, 4, 40]
    assert numbers["Recall@100"] == pytest.approx(recall(MOS, 8, (0, 1, 2)).mean())
    assert [shown[key].text for key in ("parameters", "seeds", "epochs", "training time")] == [
        "1,008",
        "3",
        "3-5",
        "40.0 s",
    ]
    intervals = metric_intervals(find_records(make.folder), ["Recall@100", "NDCG@10"])
    for metric, one in intervals.items():
        assert shown[f"{metric} ↑"].text == f"{one.mean:.4f} ± {one.half_width:.4f}"
        assert [numbers[f"{metric}{end}"] for end in ("", " low", " high")] == [one.mean, one.low, one.high]


@pytest.mark.usefixtures("no_figures")
def test_a_run_in_two_folders_counts_once(make: Maker, tmp_path: Path) -> None:
    make.study((8,))
    shutil.copytree(make.folder, tmp_path / "copy")
    page, *_ = write_report([make.folder, tmp_path / "copy"], tmp_path / "out")
    assert list(table(page.parent, "models")["seeds"]) == [2, 2]


@pytest.mark.usefixtures("no_figures")
def test_of_several_configurations_validation_chooses(make: Maker) -> None:
    """The one with the higher validation metric stands in figures and slices, and is named; the tables have both."""
    for rate, valid in ((0.1, 0.4), (0.3, 0.6)):
        for seed in (1, 2):
            make(SOFTMAX, 8, seed, learning_rate=rate, valid=valid)
            make(MOS, 8, seed, learning_rate=rate, valid=1 - valid)
    (section,) = read_study([make.folder]).sections
    chosen = {model: group.runs[0].settings["learning_rate"] for (model, _), group in section.chosen.items()}
    assert chosen == {SOFTMAX: 0.3, MOS: 0.1}
    assert all(group.by_validation for group in section.chosen.values())
    assert [(a.label, b.label) for a, b in section.matched_pairs] == [
        (f"{SOFTMAX} learning_rate={rate}", f"{MOS} learning_rate={rate}") for rate in (0.1, 0.3)
    ]
    page, *_ = write_report([make.folder])
    text = Reader(page.read_text(encoding="utf-8")).text
    assert f"of 2 configurations chosen by validation: {SOFTMAX} learning_rate=0.3" in text
    assert len(table(page.parent, "models")) == 4


@pytest.mark.usefixtures("no_figures")
def test_settings_are_short_columns_and_said_once(make: Maker) -> None:
    """K and d as the models have them; what says the same, or is the same in all runs, has no column."""
    for size in (8, 16):
        for rate in (0.1, 0.3):
            make(SOFTMAX, size, hidden_size=size, learning_rate=rate, dropout=0.5)
            make(MOS, size, hidden_size=size, learning_rate=rate, dropout=0.5)
    runs = sorted(find_records(make.folder), key=lambda run: run.run_id)
    columns, said = setting_columns(runs)
    assert columns == {
        "K": [None, 4] * 4,
        "d": [8] * 4 + [16] * 4,
        "learning rate": [0.1, 0.1, 0.3, 0.3] * 2,
    }
    assert said == "d is hidden_size and embedding_size."


@pytest.mark.usefixtures("no_figures")
def test_encoders_whose_width_is_hidden_size_have_every_figure(make: Maker) -> None:
    """SASRec has no embedding_size: its width is in the record."""
    for seed in (1, 2):
        for size in (8, 16):
            make("SASRecSoftmax", None, seed, hidden_size=size, learning_rate=0.1)
            make("SASRecMoS", None, seed, hidden_size=size, learning_rate=0.1, mos_heads=4)
            make("SASRecMoS", None, seed, hidden_size=size, learning_rate=0.3, mos_heads=4)
    _, *others = write_report([make.folder])
    figures = {path.stem for path in others if path.suffix == ".svg"}
    assert {"widths", "training_curves", "heat-d-learning_rate", "train_count-SASRecMoS"} <= figures
    assert "map-train_count-oldest_distance-SASRecMoS" in figures


def test_training_curves_are_told_apart_by_what_was_varied(make: Maker) -> None:
    """A panel a setting, whose values are colours, with the curves of all runs."""
    for rate in (0.1, 0.2, 0.3):
        make(SOFTMAX, 8, learning_rate=rate, layers=[rate])
        make(MOS, 16, learning_rate=rate, layers=[rate])
    (section,) = read_study([make.folder]).sections
    figures = [
        one
        for one in section_contents(section, "Recall@100", model_looks(section.models)).items
        if isinstance(one, Figure)
    ]
    (drawing,) = (figure.drawing for figure in figures if figure.name == "training_curves")
    panels = {ax.get_title(): ax for ax in drawing.axes}
    assert list(panels) == ["learning rate", "layers"]  # no model has two widths
    lines = [line for line in panels["learning rate"].lines if len(line.get_xdata()) > 1]
    assert len(lines) == 6
    assert len({line.get_color() for line in lines}) == 3
    assert [text.get_text() for text in panels["learning rate"].get_legend().texts] == ["0.1", "0.2", "0.3"]


@pytest.mark.usefixtures("no_figures")
def test_another_head_or_model_is_the_baseline(make: Maker) -> None:
    """A head is that of the same encoder; with a model all others are compared; an unknown one is named."""
    make.study((8,))
    for seed in (1, 2):
        make("GRU4RecMine", 8, seed, encoder="GRU4Rec", head="mine", baseline=SOFTMAX, width=8, n_components=3)
        make("SASRecMoS", None, seed, hidden_size=8, mos_heads=4)
    (section,) = read_study([make.folder], "mos").sections
    assert section.rivals == [(MOS, SOFTMAX), (MOS, "GRU4RecMine")]
    (section,) = read_study([make.folder], MOS).sections
    assert section.rivals == [(MOS, model) for model in (SOFTMAX, "GRU4RecMine", "SASRecMoS")]
    page, *_ = write_report([make.folder], baseline="mos")
    text = Reader(page.read_text(encoding="utf-8")).text
    assert re.search(rf"GRU4RecMine (is \w+ than|and) {MOS}", text)
    assert "--baseline mos" in text
    with pytest.raises(InputError, match=r"no finished runs of baseline 'moz'.*GRU4RecMoS.*mos"):
        read_study([make.folder], "moz")


@pytest.mark.usefixtures("no_figures")
def test_models_without_a_baseline_are_reported_without_pairs(make: Maker) -> None:
    """Another encoder's baseline is none, nor is one with other settings."""
    make("SASRecMoS", 8)
    make("GRU4RecMoS", 8, learning_rate=0.1)
    make(SOFTMAX, 16)
    page, *others = write_report([make.folder])
    assert not [path for path in others if path.stem == "paired"]
    assert "No paired differences" in Reader(page.read_text(encoding="utf-8")).text


@pytest.mark.usefixtures("no_figures")
def test_columns_that_older_outcomes_lack_are_named(make: Maker) -> None:
    """Slices by the others are there."""
    make.study((8,), change=lambda table: table.drop(columns=["oldest_distance", "time_gap"]))
    page, *_ = write_report([make.folder])
    assert "No slices by oldest_distance, time_gap" in Reader(page.read_text(encoding="utf-8")).text
    assert len(table(page.parent, f"previous_distance-{MOS}")) == 4


@pytest.mark.usefixtures("no_figures")
def test_what_has_not_finished_is_named(make: Maker, tmp_path: Path) -> None:
    """Trials of a sweep by how they stand, the last line of an error; runs without a record."""
    parts: dict[str, Any] = {part: {} for part in ("search", "stopping", "space", "settings")}
    plan = {"models": [SOFTMAX, MOS], "datasets": ["toy"], "seeds": [1], "metric": "Recall@100", "mode": "max"}
    make.study((8,), seeds=(1,))
    SweepPlan(name="grid <1>", **plan, **parts).write(make.folder)
    finished = [path.name for path in (make.folder / RUNS_FOLDER).iterdir()]
    for number, (run, ended, error) in enumerate(
        [
            *((name, None, None) for name in finished),
            ("a-b-0001", "failed", "Traceback\nValueError: no <b>"),
            ("a-b-0002", None, None),
        ],
        start=1,
    ):
        trial = {"model": MOS, "dataset": "toy", "seed": 1, "parameters": {"embedding_size": 8}}
        Trial(number=number, run=run, ended=ended, error=error, **trial).write(make.folder)
    other = Maker(tmp_path / "other")
    run = other(SOFTMAX, 16, 1)
    (run.folder / "record.json").unlink()
    other(SOFTMAX, 16, 2)
    study = read_study([make.folder, other.folder])
    assert study.missing == (
        "Sweep grid <1>: 2 of 4 trials have finished.",
        f"Sweep grid <1>, trial 3, failed: {MOS} on toy embedding_size=8 seed 1 (ValueError: no <b>)",
        f"Sweep grid <1>, trial 4, unfinished: {MOS} on toy embedding_size=8 seed 1",
        f"Run {run.folder.name}: unfinished.",
    )
    page, *_ = write_report([make.folder, other.folder])
    text = Reader(page.read_text(encoding="utf-8")).text
    assert all(line in text for line in study.missing)


# ---------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Returns a function (arguments...) -> exit status, standard output, standard error of `mos-recbole report`."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main(["report", *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


@pytest.mark.usefixtures("no_figures")
def test_the_command_says_where_the_report_is(call: Callable[..., tuple[int, str, str]], make: Maker) -> None:
    """In the first results folder, or where --output says; by another metric too, which the page's command has."""
    make.study((8,))
    status, out, error = call(make.folder, "--quiet")
    assert (status, error) == (0, "")
    assert out.startswith(f"{make.folder}/report/report.html\n")
    other = make.folder.parent / "other"
    status, out, _ = call(make.folder, "--metric", "ndcg@10", "--output", other)
    assert (status, out.splitlines()[0]) == (0, f"{other}/report.html")
    assert "--metric NDCG@10" in (other / "report.html").read_text(encoding="utf-8")
    assert set(table(other, f"train_count-{MOS}")["metric"]) == {"NDCG@10"}
    assert not list(other.glob(".*"))


@pytest.mark.usefixtures("no_figures")
def test_nothing_of_an_earlier_report_is_left(call: Callable[..., tuple[int, str, str]], make: Maker) -> None:
    """Its tables and figures are replaced; other files in the folder stay."""
    make.study((8,))
    out = make.folder.parent / "out"
    assert call(make.folder, "--output", out)[0] == 0
    stale = next(out.glob("tables/*/models.csv")).with_name("stale.csv")
    stale.touch()
    (out / "notes.txt").touch()
    assert call(make.folder, "--output", out)[0] == 0
    assert not stale.exists()
    assert sorted(path.name for path in out.iterdir()) == ["figures", "notes.txt", "report.html", "tables"]


def spoil_record(folder: Path) -> None:
    next(folder.glob("runs/*/record.json")).write_text("{", encoding="utf-8")


def spoil_outcomes(folder: Path) -> None:
    next(folder.glob("runs/*/outcomes.parquet")).write_bytes(b"PAR1")


def remove_outcomes(folder: Path) -> None:
    next(folder.glob("runs/*/outcomes.parquet")).unlink()


def other_queries(folder: Path) -> None:
    path = sorted(folder.glob("runs/*/outcomes.parquet"))[-1]
    pd.read_parquet(path).iloc[1:].to_parquet(path, index=False)


def remove_logs(folder: Path) -> None:
    for path in folder.glob("runs/*/training_log.csv"):
        path.unlink()


def remove_runs(folder: Path) -> None:
    shutil.rmtree(folder / "runs")


def seed_twice(folder: Path) -> None:
    path = next(folder.glob("runs/*/record.json"))
    copy = path.parent.with_name("copy")
    shutil.copytree(path.parent, copy)
    read_record(path.parent).model_copy(update={"run_id": "another"}).write(copy)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_record, r"record\.json: not the record of a finished run"),
        (spoil_outcomes, r"outcomes\.parquet"),
        (remove_outcomes, r"outcomes\.parquet"),
        (other_queries, "its outcomes are of other queries"),
        (remove_logs, r"training_log\.csv"),
        (remove_runs, "no finished runs in"),
        (shutil.rmtree, "no such folder"),
        (seed_twice, "seed 1 appears 2 times"),
    ],
)
def test_what_cannot_be_reported(
    call: Callable[..., tuple[int, str, str]], make: Maker, report: Path, spoil: Callable[[Path], None], message: str
) -> None:
    """Exit status 2 with one message; an earlier report is as it was, and nothing is half-written."""
    make.study((8,))
    out = make.folder.parent / "out"
    shutil.copytree(report, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    spoil(make.folder)
    status, printed, error = call(make.folder, "--output", out)
    assert (status, printed, error.count("error:")) == (2, "", 1)
    assert re.search(message, error)
    assert "Traceback" not in error
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "Recal@100"], "unknown metric"),
        (["--metric", "ItemCoverage@10"], "a number for all lists together"),
        (["--output", "taken"], "taken: has tables but no report.html"),
        (["--output", "file"], "file: .*expected a folder that can be written to"),
    ],
)
def test_options_that_are_refused(
    call: Callable[..., tuple[int, str, str]],
    make: Maker,
    monkeypatch: pytest.MonkeyPatch,
    no_figures: None,
    options: list[str],
    message: str,
) -> None:
    """A metric that ranks do not decide; a folder whose tables are somebody else's; a file."""
    make.study((8,))
    monkeypatch.chdir(make.folder.parent)
    Path("taken/tables").mkdir(parents=True)
    Path("file").touch()
    status, printed, error = call(make.folder, *options)
    assert (status, printed) == (2, "")
    assert re.search(message, error)
    assert not list(make.folder.parent.rglob("report.html"))


def test_a_failure_while_writing_leaves_the_earlier_report(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that cannot be saved: the exception comes through, the folder is as before."""
    make.study((8,))
    out = make.folder.parent / "out"
    out.mkdir()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("mos_recbole.report.figures.save_figure", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report([make.folder], out)
    assert not list(out.iterdir())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork
@pytest.mark.parametrize(("there", "renamings"), [(False, 3), (True, 5)])
def test_a_report_that_is_killed_is_whole_and_replaced_by_the_next(there: bool, renamings: int, tmp_path: Path) -> None:
    """At any of its renamings: the page is the earlier or the new one, and nothing of the killed process stays."""

    def write(output: Path, content: str) -> None:
        with new_files(output) as made:
            for name in ("figures", "tables"):
                (made / name).mkdir()
                (made / name / content).touch()
            (made / "report.html").write_text(content)

    def write_and_die(output: Path, after: int) -> None:
        replace, left = os.replace, iter(range(after))

        def dying(*places: Any) -> None:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(*places)

        os.replace = dying
        write(output, "second")
        os._exit(0)

    for after in range(renamings + 1):
        output = tmp_path / str(after)
        if there:
            write(output, "first")
        if (child := os.fork()) == 0:
            write_and_die(output, after)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == (0 if after == renamings else -signal.SIGKILL)
        page = output / "report.html"
        assert [one.read_text() for one in output.glob("report.html")] == (["second"] if after else ["first"] * there)
        _require_own(output)
        write(output, "third")
        assert page.read_text() == "third"
        assert sorted(path.name for path in output.iterdir()) == ["figures", "report.html", "tables"]
        assert [path.name for path in (output / "tables").iterdir()] == ["third"]


def test_report_imports_neither_training_nor_figures() -> None:
    """No RecBole and no Ray for a report; no matplotlib for a table."""
    program = (
        "import sys, mos_recbole.report; early = set(sys.modules)\n"
        "import mos_recbole.report.sections\n"
        "print(sorted({'recbole', 'ray', 'mos_recbole.training'} & set(sys.modules)))\n"
        "print(sorted({'matplotlib', 'jinja2'} & early))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


# ---------------------------------------------------------------------------------------------------- in a browser

# Does what a reader does, and writes down what it saw.
ACTIONS = """
<pre id="seen"></pre>
<script>
"use strict";
addEventListener("load", async () => {
  const seen = {};
  const column = (table, number) => [...table.tBodies[0].rows].map((row) => row.cells[number].textContent);
  try {
    await Promise.all([...document.images].filter((image) => image.src).map((image) => image.decode()));
    seen.figures = [...document.querySelectorAll("figure img")].map((image) => image.naturalWidth);
    const table = document.querySelector("table[data-sortable]");
    const heads = [...table.tHead.rows[0].cells];
    const number = heads.findIndex((head) => head.textContent.startsWith("Recall@100"));
    seen.before = column(table, number);
    for (const order of ["up", "down"]) {
      heads[number].querySelector("button").click();
      seen[order] = [heads[number].getAttribute("aria-sort"), column(table, number)];
    }
    heads[0].querySelector("button").click();
    seen.model = [heads[number].getAttribute("aria-sort"), column(table, 0)];
    const labels = [...document.querySelectorAll(".choices label")];
    const choice = labels.find((label) => label.textContent.startsWith("model"));
    const select = choice.querySelector("select");
    seen.choices = [...select.options].map((option) => option.text);
    const visible = () => [...table.tBodies[0].rows].filter((row) => row.offsetHeight > 0);
    const shown = () => visible().map((row) => row.cells[0].textContent);
    for (const number of [1, 0]) {
      select.selectedIndex = number;
      select.dispatchEvent(new Event("change"));
      seen[`shown${number}`] = shown();
    }
    seen.links = [...document.querySelectorAll("figure a")].map((link) => link.getAttribute("href"));
    seen.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  } catch (error) {
    seen.error = String(error);
  }
  document.getElementById("seen").textContent = JSON.stringify(seen);
});
</script>
"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on the PATH")
def test_the_page_in_a_browser(report: Path, tmp_path: Path) -> None:
    """Figures are shown and link to their files; tables sort by value both ways, and show the rows of a model alone."""
    text = (report / "report.html").read_text(encoding="utf-8")
    copy = tmp_path / "copy.html"
    # The page lets its own script run only; this copy lets the test's run too.
    actions = ACTIONS.split("<script>")[1].split("</script>")[0]
    allowed = base64.b64encode(hashlib.sha256(actions.encode()).digest()).decode()
    text = text.replace("script-src '", f"script-src 'sha256-{allowed}' '")
    copy.write_text(text.replace("</body>", f"{ACTIONS}</body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=10000"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        ["chromium", *options, profile, "--window-size=1200,900", "--dump-dom", copy.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None
    seen = json.loads(html.unescape(found[1]))
    assert "error" not in seen
    assert len(seen["figures"]) == len(list(report.glob("figures/*/*.svg")))
    assert min(seen["figures"]) > 300
    values = sorted(seen["before"], key=lambda cell: float(cell.split()[0]))
    assert (seen["up"], seen["down"]) == (["ascending", values], ["descending", values[::-1]])
    models = [MOS, MOS, SOFTMAX, SOFTMAX, "Pop"]
    assert seen["model"] == [None, models]
    assert sorted(seen["choices"]) == sorted(["every row", MOS, SOFTMAX, "Pop"])
    assert set(seen["shown1"]) == {seen["choices"][1]}
    assert len(seen["shown1"]) == models.count(seen["choices"][1])
    assert seen["shown0"] == models
    assert len(seen["links"]) == len(seen["figures"])
    assert seen["wide"] == 0


# ---------------------------------------------------------------------------------------------------- parts


def test_cells_are_sorted_by_the_numbers_that_the_table_has() -> None:
    """An infinite one as a number that scripts read; words and missing numbers have none."""
    cells = [
        TableCell("0.07 ± 0.01", 0.0712),
        TableCell("[-inf, 3]", -np.inf),
        TableCell("n/a", np.nan),
        TableCell("x"),
    ]
    found = Table("t", "T", "", [{"a": one} for one in cells], pd.DataFrame())
    page = render_page([PageSection("s", "s", [], [], [], [found])], [], "", "")
    values = [attributes.get("data-value") for tag, attributes in Reader(page).tags if tag == "td"]
    assert values == ["0.0712", f"{-sys.float_info.max}", None, None]


def cell(mean: float | None, *, small: bool = False, high: float = 0.1, queries: int = 50) -> Cell:
    """A cell of two sides with a relative difference."""
    means = (Interval(0.5, 0.4, 0.6), Interval(0.55, 0.45, 0.65))
    relative = None if mean is None else Interval(mean, mean - 0.05, mean + high)
    return Cell(("a", "b"), queries, min(queries, 9), means, None, relative, small)


def slices(cells: Sequence[Cell], *shape: int) -> Slices:
    axes = tuple(tuple(f"{'ab'[axis]}{number}" for number in range(size)) for axis, size in enumerate(shape))
    by = tuple(SliceBy(column) for column in ("train_count", "oldest_distance")[: len(shape)])
    return Slices("Recall@100", by, axes, (SOFTMAX, MOS), tuple(cells))


def test_points_of_small_cells_are_hollow_and_none_is_hidden() -> None:
    """Means with their intervals, every cell with queries; an infinite end is left open."""
    looks = model_looks([SOFTMAX, MOS])
    found = slices([cell(0.2), cell(-0.1, small=True), cell(0.3, high=np.inf), cell(None, queries=0)], 4)
    ax = plot_relative_difference(found, looks[MOS], Drawing().add_subplot())
    filled, hollow = (container.lines[0] for container in ax.containers)
    assert (list(filled.get_ydata()), list(hollow.get_ydata())) == ([0.2, 0.3], [-0.1])
    assert to_hex(hollow.get_markerfacecolor()) == "#ffffff"
    assert np.isfinite(np.concatenate([line.get_ydata() for line in ax.lines]).astype(float)).all()
    ax = plot_slices(found, list(looks.values()), Drawing().add_subplot())
    assert sum(len(container.lines[0].get_ydata()) for container in ax.containers) == 2 * 3
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a0\n50", "a1\n50", "a2\n50", "a3\n0"]


def test_an_interval_without_an_end_is_an_arrow_and_shares_are_not_below_0() -> None:
    """The arrow begins at the point and leaves the picture; nothing is drawn at the point as if it were the end."""
    looks = model_looks([SOFTMAX, MOS])
    ax = plot_relative_difference(slices([cell(0.2), cell(0.3, high=np.inf)], 2), looks[MOS], Drawing().add_subplot())
    (arrow,) = ax.texts
    assert (arrow.xy, arrow.xyann) == ((1.0, 1), (1.0, 0.3))
    caps = [list(line.get_ydata()) for line in ax.lines if line.get_marker() == "_"]
    assert caps == [[pytest.approx(0.15), pytest.approx(0.25)], [pytest.approx(0.3)]]
    wide = Cell(("a",), 50, 9, (Interval(0.1, -0.2, 0.4), Interval(0.9, 0.7, 1.1)), None, None, small=False)
    ax = plot_slices(slices([wide], 1), list(looks.values()), Drawing().add_subplot())
    drawn = np.concatenate([line.get_ydata() for line in ax.lines]).astype(float)
    assert (drawn.min(), drawn.max()) == (0, 1)
    assert "below each bin: its number of queries" in ax.get_xlabel()


def test_cells_of_a_map_are_in_their_places_and_small_ones_hatched() -> None:
    """Rows from below to above; a cell without queries says so; bold where the interval excludes 0."""
    found = slices([cell(0.2), cell(0.01), cell(-0.3, small=True), cell(None, queries=0)], 2, 2)
    ax = plot_difference_map(found, 0.3, Drawing().add_subplot())
    (image,) = ax.images
    np.testing.assert_array_equal(np.asarray(image.get_array().filled(9.0)), [[0.2, 0.01], [-0.3, 9.0]])
    assert image.origin == "lower"
    hatched = [patch.get_xy() for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_hatch()]
    assert hatched == [(-0.5, 0.5)]
    texts = {text.get_position(): (text.get_text().split("\n")[0], text.get_fontweight()) for text in ax.texts}
    assert texts == {
        (0, 0): ("+20.0 %", "bold"),
        (1, 0): ("+1.0 %", "normal"),
        (0, 1): ("-30.0 %", "bold"),
        (1, 1): ("none", "normal"),
    }


def test_a_model_looks_the_same_in_all_figures() -> None:
    """Softmax, MoS and MoC whatever stands beside them; no two models of a figure look alike, nor without colours."""
    few, many = model_looks([MOS, SOFTMAX]), model_looks(["Pop", "GRU4RecSigsoftmax", "SASRecSoftmax", SOFTMAX, MOS])
    assert few[MOS] == many[MOS] == model_looks([f"{MOS}, K = 4"])[f"{MOS}, K = 4"]
    assert few[SOFTMAX] == many["SASRecSoftmax"]
    for looks in (few, many):
        for part in ("colour", "marker", "line"):
            assert len({str(getattr(look, part)) for look in looks.values()}) == len(looks)


def test_widths_have_a_line_a_model_at_even_distances() -> None:
    """A model that lacks a width has a gap there."""
    means = {(SOFTMAX, 8): 0.1, (SOFTMAX, 64): 0.3, (MOS, 64): 0.2, ("Other", 16): 0.5}
    intervals = {key: Interval(mean, mean - 0.01, mean + 0.02) for key, mean in means.items()}
    ax = plot_widths(intervals, model_looks([SOFTMAX, MOS, "Other"]), Drawing().add_subplot())
    assert [label.get_text() for label in ax.get_xticklabels()] == ["8", "16", "64"]
    drawn = [([round(x) for x in c.lines[0].get_xdata()], list(c.lines[0].get_ydata())) for c in ax.containers]
    assert drawn == [([0, 2], [0.1, 0.3]), ([2], [0.2]), ([1], [0.5])]
