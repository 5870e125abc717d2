"""Lists of others: by our protocol, as records; what a run itself ranked gives the run's own metrics."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct

from mos_recbole.analysis import RunGroup, compare_groups, configuration_rows, find_run_groups
from mos_recbole.analysis.trained_groups import find_trained_groups
from mos_recbole.cli import main
from mos_recbole.errors import InputError
from mos_recbole.evaluation import canonical_metric
from mos_recbole.experiment import load_run, load_settings, run_experiment, score_lists
from mos_recbole.report import comparisons_table
from mos_recbole.results import RunResult, find_records
from mos_recbole.training import evaluate_model, make_query_set

OPTIONS = {"metrics": ["Recall", "NDCG", "MRR", "ItemCoverage", "Novelty", "RepeatShare"], "topk": [5, 10]}


def lists_of(record: RunResult) -> pd.DataFrame:
    """Returns the lists that a run keeps, by rank."""
    top = record.top_items()
    query, place = np.nonzero(top.items)
    return pd.DataFrame(
        {
            "user": record.outcomes()["user"].to_numpy()[query],
            "item": top.names[top.items[query, place]],
            "rank": place + 1,
        }
    )


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    output = tmp_path_factory.mktemp("runs")
    return run_experiment("GRU4RecSoftmax", str(data), output=output, device="cpu", epochs=1, **OPTIONS)


def write(lists: pd.DataFrame, path: Path) -> None:
    """Writes lists as the file's ending says; in a run file of TREC, positions stand behind users: USER:POSITION."""
    match path.suffix:
        case ".parquet":
            lists.to_parquet(path)
        case ".jsonl":
            lists.to_json(path, orient="records", lines=True)
        case ".run":
            user = lists["user"] + (":" + lists["position"].astype(str) if "position" in lists else "")
            columns = zip(user, lists["item"], lists["rank"], lists.get("score", -lists["rank"]), strict=True)
            path.write_text("".join(f"{user} Q0 {item} {rank} {score} me\n" for user, item, rank, score in columns))
        case suffix:
            lists.to_csv(path, index=False, sep="," if suffix == ".csv" else "\t")


def values_of(record: RunResult) -> dict[str, float]:
    return {name: metric.value for name, metric in record.test.items()}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl", "run"])
def test_lists_of_a_run_have_its_metrics(run: RunResult, data: Path, tmp_path: Path, suffix: str) -> None:
    """In every format; the record stands beside the run's in tables and comparisons."""
    path = tmp_path / f"lists.{suffix}"
    write(lists_of(run).sample(frac=1, random_state=1), path)
    settings = load_settings("BPR", str(data), overrides=OPTIONS)
    record = score_lists(path, f"Theirs-{suffix}", settings, run.folder.parent.parent)
    assert values_of(record) == pytest.approx(values_of(run), abs=1e-12)
    assert (record.model, record.encoder, record.head, record.valid) == (f"Theirs-{suffix}", None, None, {})
    assert record.protocol_hash == run.protocol_hash
    assert record.files.keys() == {"outcomes.parquet", "items.parquet"}
    theirs, ours = record.top_items(), run.top_items()
    assert (theirs.items == ours.items[:, :10]).all()
    assert (theirs.in_history == ours.in_history).all()


@pytest.mark.parametrize(
    ("column", "kind", "first"),
    [
        ("rank", "uint8", 1),
        ("rank", "uint32", 0),
        ("rank", "uint64", 1),
        ("rank", "int8", -128),
        ("rank", "UInt16", 1),
        ("rank", "float32", 0),
        ("score", "int64", 2**60),
        ("score", "uint64", 2**63),
        ("score", "float32", 5),
    ],
)
def test_numbers_of_any_type_order_lists(
    column: str, kind: str, first: int, run: RunResult, data: Path, tmp_path: Path
) -> None:
    """Unsigned ones have no negatives, and float64 takes neighbours above 2^53 for equal."""
    lists, path = lists_of(run), tmp_path / "lists.parquet"
    places = [first + place if column == "rank" else first + 10 - place for place in range(10)]
    numbers = pd.Series([places[rank - 1] for rank in lists.pop("rank")]).astype(kind)
    write(lists.assign(**{column: numbers}).sample(frac=1, random_state=1), path)
    record = score_lists(path, "Theirs", load_settings("BPR", str(data), overrides=OPTIONS), tmp_path)
    assert values_of(record) == pytest.approx(values_of(run), abs=1e-12)
    write(lists.assign(**{column: True}), path)
    with pytest.raises(InputError, match="rank or score is missing or no number"):
        score_lists(path, "Theirs", load_settings("BPR", str(data), overrides=OPTIONS), tmp_path)


def test_quotation_marks_in_a_run_file_of_trec(run: RunResult, data: Path, tmp_path: Path) -> None:
    """Fields have blanks between them, and no quoting."""
    path = tmp_path / "lists.run"
    write(lists_of(run), path)
    path.write_text(path.read_text().replace(" me\n", ' "mine\n'))
    record = score_lists(path, "Theirs", load_settings("BPR", str(data), overrides=OPTIONS), tmp_path)
    assert values_of(record) == pytest.approx(values_of(run), abs=1e-12)


@pytest.mark.parametrize("options", [{"valid_metric": "Loss"}, {"metrics": ["Loss", "NDCG"], "topk": [5]}])
def test_lists_have_no_loss(options: dict[str, object], run: RunResult, data: Path, tmp_path: Path) -> None:
    write(lists_of(run), tmp_path / "lists.csv")
    settings = load_settings("GRU4RecSoftmax", str(data), overrides=options)
    with pytest.raises(InputError, match=r"lists.csv: lists have no log-probabilities, of which Loss is"):
        score_lists(tmp_path / "lists.csv", "Theirs", settings, tmp_path)


FINAL: dict[str, object] = {"final_fit": "train+valid"}
HELD_OUT: list[tuple[str, str, dict[str, object]]] = [
    ("GRU4RecMoS", "csv", {}),
    ("SASRecSoftmax", "parquet", {"filter_seen": True}),
    ("NARMMixtape", "jsonl", {"split": "temporal", "test_share": 0.3}),
    ("GRU4RecMoS", "run", {"split": "ratio", "test_ratio": 0.4, "filter_seen": True, "tie_rule": "pessimistic"}),
    ("Pop", "csv", {"split": "ratio", "test_ratio": 0.4, "filter_seen": True}),
    (
        "GRU4RecMoS",
        "csv",
        {"split": "temporal", "test_share": 0.3, "context_reach": "past", "final_fit": "train+valid"},
    ),
    (
        "GRU4RecSoftmax",
        "parquet",
        {"final_fit": "train+valid", "metrics": ["NDCG", "TailPercentage", "AveragePopularity"]},
    ),
]


@pytest.mark.parametrize(("model", "suffix", "options"), HELD_OUT)
def test_what_a_run_recommends_for_its_queries_has_its_metrics(
    model: str, suffix: str, options: dict[str, object], data: Path, tmp_path: Path
) -> None:
    """`score` takes what `recommend --held-out test` writes, ties and several queries a user included."""
    settings = OPTIONS | options | ({"metrics": ["Recall", "NDCG", "MRR"]} if model == "Pop" else {})
    record = run_experiment(model, str(data), output=tmp_path, device="cpu", epochs=1, **settings)
    written = tmp_path / ("lists.csv" if suffix == "run" else f"lists.{suffix}")
    command = ["recommend", str(record.folder), "--held-out", "test", "--k", "15", "--output", str(written)]
    assert main([*command, "--dataset", str(data), "--device", "cpu"]) == 0
    if suffix == "run":
        lists = pd.read_csv(written, float_precision="round_trip").rename(columns={"query": "user"})
        write(lists, tmp_path / "lists.run")
    found = score_lists(
        tmp_path / f"lists.{suffix}", "Theirs", load_settings("BPR", str(data), overrides=settings), tmp_path
    )
    assert values_of(found) == pytest.approx(values_of(record), abs=1e-12)
    assert found.protocol_hash == record.protocol_hash
    mine, own = found.outcomes(), record.outcomes()
    assert mine["train_count"].tolist() == own["train_count"].tolist()
    assert found.final_fit == record.final_fit
    in_list = mine["rank"] <= 10
    assert mine["rank"][in_list].tolist() == own["rank"][in_list].tolist()
    assert in_list.sum() == (own["rank"] <= 10).sum() > 0


def test_a_side_without_queries(data: Path, tmp_path: Path) -> None:
    """One message, and no file."""
    record = run_experiment("Pop", str(data), output=tmp_path, device="cpu", epochs=1, held_out="test_only")
    with pytest.raises(InputError, match="the split 'leave_one_out' of the run holds out nothing for valid"):
        load_run(record, "cpu", data.parent).recommend(held_out="valid")


def test_lists_of_the_queries_of_validation(run: RunResult, data: Path) -> None:
    """Are those of the contexts that validation has: without the last two items of a user."""
    loaded = load_run(run, "cpu", data.parent)
    frame = loaded.recommend(k=4, held_out="valid")
    outcomes = run.outcomes().set_index("user")
    assert frame.columns.tolist() == ["query", "position", "rank", "item", "score"]
    assert (frame["position"].to_numpy() == outcomes.loc[frame["query"], "position"].to_numpy() - 1).all()
    names, flat = np.asarray(loaded.data.field2id_token["item_id"]), loaded.data.sequences
    users = np.asarray(loaded.data.field2id_token["user_id"])[flat.users]
    contexts = {
        user: names[part[:-2]].tolist()
        for user, part in zip(users, np.split(flat.items, flat.offsets[1:-1]), strict=True)
        if len(part) > 3
    }
    expected = loaded.recommend(contexts, k=4)
    pd.testing.assert_frame_equal(
        frame.drop(columns="position").sort_values(["query", "rank"], ignore_index=True),
        expected.sort_values(["query", "rank"], ignore_index=True),
    )


def test_records_of_lists_are_runs_like_any_other(run: RunResult, data: Path, tmp_path: Path, capsys) -> None:
    path, output = tmp_path / "lists.csv", str(run.folder.parent.parent)
    lists_of(run).to_csv(path, index=False)
    assert main(["score", str(path), "--name", "Other", "--dataset", str(data), "--output", output]) == 0
    groups = find_run_groups(["GRU4RecSoftmax", "Other"], [Path(output)])
    for row in compare_groups(groups, ["Recall@10", "MAP@7", "GiniIndex@5", "Novelty@10"]).rows:
        assert row.difference.effect == pytest.approx(0, abs=1e-12), row.metric
    names = ["NDCG@3", "ItemCoverage@10"]
    rows = configuration_rows([one for group in groups for one in group.runs], names)
    assert rows[0].intervals == rows[1].intervals
    by = ["--by", "train_count:2", "--metric", "AveragePopularity@10"]
    assert main(["slice", "GRU4RecSoftmax", "Other", *by, "--results", output]) == 0
    assert main(["ls", output]) == 0
    assert main(["report", output, "--output", str(tmp_path / "report"), "--metric", "Novelty@10"]) == 0
    assert "Other" in capsys.readouterr().out


def test_distances_are_of_a_run_s_own_lists(data: Path, tmp_path: Path) -> None:
    """Those of another run, copied there, are computed again; a report computes what runs were asked for."""
    options = {"metrics": ["NDCG", "IntraListDiversity"], "topk": [5], "output": tmp_path / "results", "device": "cpu"}
    one, other = (run_experiment(model, str(data), **options) for model in ("Pop", "EASE"))
    arguments = ["report", str(tmp_path / "results"), "--data-path", str(data.parent)]
    assert main(arguments) == 0
    own = one.distance_sums()
    assert own is not None
    shutil.copy(other.folder / "distances.parquet", one.folder)
    assert one.distance_sums() is None
    assert main(["table", *arguments[1:], "--metrics", "IntraListDiversity@5"]) == 0
    np.testing.assert_array_equal(one.distance_sums(), own)


def test_how_many_items_are_kept(run: RunResult, data: Path, tmp_path: Path) -> None:
    """As asked for, but never fewer than metrics of lists need; the run is the same."""
    rank_metrics = {"metrics": ["Recall"], "topk": [5, 15], "device": "cpu", "epochs": 1, "output": tmp_path}
    for options, kept in (({}, 15), ({"kept_items": 3}, 3), ({"kept_items": 17}, 17)):
        record = run_experiment("GRU4RecSoftmax", str(data), **rank_metrics | options)
        assert record.run_id == run.run_id
        assert record.top_items().items.shape[1] == kept
    assert load_settings("Pop", overrides=OPTIONS | {"kept_items": 3}).kept_items == 10


def test_diversity_of_finished_runs(run: RunResult, data: Path, tmp_path: Path, capsys) -> None:
    """Computed from the data once, as for a run that was asked for it; refused for other data."""
    folder = shutil.copytree(run.folder, tmp_path / "runs" / run.folder.name)
    asked = run_experiment(
        "GRU4RecSoftmax", str(data), output=tmp_path, device="cpu", epochs=1, metrics=["IntraListDiversity"], topk=[5]
    )
    assert asked.run_id == run.run_id
    expected = f"{asked.test['IntraListDiversity@5'].value:.4f}"
    command = ["table", str(tmp_path), "--metrics", "intralistdiversity@5"]
    assert main([*command, "--data-path", str(tmp_path)]) == 2
    assert main([*command, "--data-path", str(data.parent)]) == 0
    assert main(command) == 0
    assert capsys.readouterr().out.count(expected) == 2
    assert (folder / "distances.parquet").is_file()


def test_diversity_of_a_run_on_a_file(data: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file is, no record says."""
    table = pd.read_csv(data / f"{data.name}.inter", sep="\t").rename(columns=lambda name: name.partition(":")[0][:4])
    monkeypatch.chdir(tmp_path)
    table.to_csv("log.csv", index=False)
    columns = "user=user,item=item,time=time"
    run_experiment("Pop", "log.csv", output=tmp_path, device="cpu", columns=columns, topk=[5])
    command = ["table", str(tmp_path), "--metrics", "IntraListDiversity@5"]
    assert main(command) == 2
    assert "dataset/log: no such folder or file; expected the data of run" in (said := capsys.readouterr().err)
    assert "--data-path tells where they are" in said
    assert main([*command, "--data-path", "log.csv"]) == 0


@pytest.mark.parametrize("options", [{"filter_seen": True}, {"tie_rule": "pessimistic"}])
def test_whole_rankings_have_the_metrics_of_recboles_evaluator(
    options: dict[str, object], data: Path, tmp_path: Path
) -> None:
    """Scores of all items, some of them equal: ranks and GAUC are the run's own; without ties also RecBole's."""
    record = run_experiment("BPR", str(data), output=tmp_path, device="cpu", epochs=1, **OPTIONS | options)
    loaded = load_run(record, "cpu", data.parent)
    queries = make_query_set(loaded.config, loaded.data, loaded.split, "test", loaded.protocol, torch.device("cpu"))
    n_items = loaded.data.item_num
    ranks = evaluate_model(loaded.model, loaded.config, queries, n_items)
    top = ranks.top_items.numpy()
    users = record.outcomes()["user"].to_numpy()
    query, place = np.nonzero(top)
    item = loaded.data.id2token(loaded.data.iid_field, top[query, place])
    path = tmp_path / "all.csv"
    pd.DataFrame({"user_id": users[query], "item_id": item, "score": 1 / (1 + place)}).to_csv(path, index=False)
    found = score_lists(path, "All", load_settings("Pop", str(data), overrides=OPTIONS | options), tmp_path / "scored")
    mine, own = found.outcomes(), record.outcomes()
    assert (mine["candidates"] == own["candidates"]).all()
    assert (mine["rank"] == own["rank"]).all()
    target = loaded.data.token2id(loaded.data.iid_field, own["target"].to_numpy())
    hits = (top[:, :10] == target[:, None]).astype(int)
    struct = DataStruct()
    struct.set("rec.topk", torch.tensor(np.column_stack([hits, np.ones(len(hits), int)])))
    settings = load_settings("Pop", str(data), overrides={"metrics": ["Recall", "NDCG", "MRR"], "topk": [5, 10]})
    config = settings.recbole_config(torch.device("cpu"))
    config["metric_decimal_place"] = 15
    expected = Evaluator(config).evaluate(struct)
    for name, value in expected.items():
        assert found.test[canonical_metric(name)].value == pytest.approx(value, abs=1e-12), name


def test_queries_without_lists_are_misses_and_short_lists_are_said(
    run: RunResult, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lists = lists_of(run)
    lists = lists[(lists["rank"] <= 3) & (lists["user"] != "u4")]
    lists.to_csv(tmp_path / "lists.csv", index=False)
    with caplog.at_level(logging.INFO, "mos_recbole"):
        record = score_lists(tmp_path / "lists.csv", "Short", load_settings("Pop", str(data)), tmp_path)
    said = "\n".join(caplog.messages)
    assert "1 of 30 test queries have no list" in said
    assert "no list is long enough for Recall@10, Recall@100" in said
    outcomes, own = record.outcomes().set_index("user"), run.outcomes().set_index("user")
    assert np.isinf(outcomes.loc["u4", "rank"])
    expected = own["rank"].where(own["rank"] <= 3, np.inf)
    expected["u4"] = np.inf
    pd.testing.assert_series_equal(outcomes["rank"], expected)
    settings = load_settings("Pop", str(data), overrides={"metrics": ["ItemCoverage"], "topk": [5]})
    with pytest.raises(InputError, match="ItemCoverage@5"):
        score_lists(tmp_path / "lists.csv", "Short", settings, tmp_path)


def test_a_model_is_no_worse_than_its_own_lists(
    run: RunResult, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beyond their end nothing is known of them: no value, no difference, and the caption says so."""
    settings = load_settings("Pop", str(data), overrides={"metrics": ["Recall", "GAUC"], "topk": [5, 10]})
    path = tmp_path / "lists.csv"
    lists = lists_of(run)
    lists[lists["rank"] <= 5].to_csv(path, index=False)
    record = score_lists(path, "Mine", settings, tmp_path)
    metrics = ["Recall@5", "Recall@10", "GAUC"]
    compared = compare_groups([RunGroup("run", (run,)), RunGroup("Mine", (record,))], metrics)
    assert [(row.metric, row.difference.effect) for row in compared.rows] == [("Recall@5", 0)]
    assert compared.undefined == {"Recall@10": ("Mine",), "GAUC": ("Mine",)}
    assert "Without GAUC, and so left out there: Mine." in comparisons_table(compared).caption
    (row,) = configuration_rows([record], metrics)
    assert np.isnan([row.intervals["Recall@10"].mean, row.intervals["GAUC"].mean]).all()
    assert main(["table", str(tmp_path), "--metrics", *metrics]) == 0
    told = "Mine seed 2020: no list is long enough for Recall@10, GAUC: lower bounds, which tables leave out"
    assert told in capsys.readouterr().err


def test_some_lists_that_are_too_short_are_counted(
    run: RunResult, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where items of the history are passed over; lists whose target stands before their end are not among them."""
    lists = lists_of(run)
    target = lists["user"].map(run.outcomes().set_index("user")["target"])
    users = sorted(set(lists["user"]))[:4]
    without = sorted(set(lists["user"]))[-1]
    left = lists[~lists["user"].isin([*users, without]) | (lists["user"].isin(users) & (lists["rank"] <= 4))]
    left.to_csv(tmp_path / "lists.csv", index=False)
    settings = load_settings("Pop", str(data), overrides=OPTIONS)
    with caplog.at_level(logging.INFO, "mos_recbole"):
        record = score_lists(tmp_path / "lists.csv", "Some", settings, tmp_path)
    found = set(left["user"][left["item"] == target[left.index]])
    n_cut = len(set(users) - found)
    assert f"{n_cut} of 30 lists are too short for Recall@10, which is a lower bound" in caplog.messages
    outcomes = record.outcomes().set_index("user")
    assert (outcomes.loc[users, "list_length"] == 4).all()
    assert outcomes.loc[without, "list_length"] == 0
    assert (outcomes["list_length"].drop([*users, without]) == 10).all()
    (row,) = configuration_rows([record], ["Recall@10"])
    assert row.intervals["Recall@10"].mean == pytest.approx(record.test["Recall@10"].value)


def test_the_length_of_a_list_is_of_its_candidates(run: RunResult, data: Path, tmp_path: Path) -> None:
    """Items of the history are none by this protocol; a target that the user had before is one."""
    lists_of(run).to_csv(tmp_path / "lists.csv", index=False)
    settings = load_settings("Pop", str(data), overrides={"filter_seen": True})
    record = score_lists(tmp_path / "lists.csv", "Filtered", settings, tmp_path)
    top, outcomes = run.top_items(), run.outcomes()
    is_target = top.names[top.items] == outcomes["target"].to_numpy()[:, None]
    expected = (~top.in_history | is_target).sum(axis=1)
    assert 0 < expected.min() < expected.max() <= 10
    found = record.outcomes().set_index("user")["list_length"]
    assert found[outcomes["user"]].tolist() == expected.tolist()


def test_no_list_could_hold_a_target_that_is_no_candidate(tmp_path: Path) -> None:
    """It is a miss, whatever the list's length; so that no list is too short for it."""
    rows = [(f"u{user}", f"i{(user + step) % 9}", 10 * step + user) for user in range(8) for step in range(10)]
    rows.append(("u0", "new", 1000))
    lines = ["user_id:token\titem_id:token\ttimestamp:float", *("\t".join(map(str, row)) for row in rows), ""]
    folder = tmp_path / "timed"
    folder.mkdir()
    (folder / "timed.inter").write_text("\n".join(lines))
    split = {"split": "temporal", "test_share": 0.3, "valid_share": 0.3}
    settings = load_settings("Pop", str(folder), overrides=split)
    lists = pd.DataFrame([(f"u{user}", f"i{item}", item) for user in range(8) for item in (1, 2, 3)])
    lists.columns = ["user", "item", "rank"]
    lists.to_csv(tmp_path / "lists.csv", index=False)
    outcomes = score_lists(tmp_path / "lists.csv", "Mine", settings, tmp_path).outcomes().set_index("target")
    assert outcomes.loc["new", "list_length"] == outcomes.loc["new", "candidates"] > 3
    assert (outcomes["list_length"].drop("new") == 3).all()


def test_lists_scored_again_are_no_second_seed(run: RunResult, data: Path, tmp_path: Path) -> None:
    lists, settings = lists_of(run), load_settings("Pop", str(data))
    for number, chosen in enumerate((lists, lists[lists["rank"] != 2])):
        chosen.to_csv(tmp_path / f"{number}.csv", index=False)
        score_lists(tmp_path / f"{number}.csv", "Mine", settings, tmp_path)
    with pytest.raises(InputError, match="Mine: seed 2020 appears 2 times, and one seed is one observation"):
        configuration_rows(find_records(tmp_path))


def test_lists_have_no_model(run: RunResult, data: Path, tmp_path: Path) -> None:
    lists_of(run).to_csv(tmp_path / "lists.csv", index=False)
    record = score_lists(tmp_path / "lists.csv", "Mine", load_settings("Pop", str(data)), tmp_path)
    with pytest.raises(InputError, match="lists of another program, so there is no model"):
        load_run(record, "cpu", data.parent)
    with pytest.raises(InputError, match="lists of another program, so there is no model"):
        find_trained_groups(["Mine"], [tmp_path])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("user_id,query,item,rank\nu1,1,i1,1\n", "which is the user, user_id or query"),
        ("user,item_id,docid,rank\nu1,i1,d1,1\n", "which is the item, item_id or docid"),
        ("user,item,rank\nu1,i1,1\nnobody,i2,1\n", "no user 'nobody'"),
        ("user,item,rank\nu1,i1,1\nu1,i99,2\n", "no item 'i99'"),
        ("user,item,rank\nu1,i1,1\nu1,i1,2\n", "twice in the list of 'u1'"),
        ("user,item,rank\nu1,i1,1\nu2,,\n", "an empty list: 'u2'"),
        ("user,item\nu1,i1\n", "no column rank or score"),
        ("user,item,rank\n", "no lists"),
        ("user,item,score\nu1,i1,high\n", "no number"),
        ("user,item,score,position\nu1,i1,2,0.5\n", "a position is no whole number"),
        ("user,item,score,position\nu1,i1,2,-1\n", "a position is not from 0 to 2,147,483,647"),
        (f"user,item,score,position\nu1,i1,2,{10**10}\n", "a position is not from 0 to 2,147,483,647"),
        (f"user,item,score\nu1:{10**25},i1,2\n", f"no user 'u1:{10**25}'"),
        (f"user,item,score\nu1:{12:011},i1,2\n", "no user 'u1:00000000012'"),
        ("user,item,score,position\nu1,i1,2,1\nu1,i1,1,1\n", "twice in the list of 'u1'"),
        ("user,item,score,position\nu1,i1,2,1000\n", "no test query has a list"),
        ('user,item,rank\n"u1,i1,1\n', "expected lists as"),
        ("user,item,rank\nu9,u1,i1,1\nu9,u2,i2,1\n", "expected lists as"),
        ("user,item,rank\nu1,i1,1\nu9,u2,i2,1\n", "expected lists as"),
    ],
)
def test_bad_lists_are_one_message(text: str, named: str, data: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "lists.csv"
    path.write_text(text)
    output = tmp_path / "results"
    arguments = ["score", str(path), "--name", "Bad", "--dataset", str(data), "--output", str(output)]
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert named in message
    assert str(path) in message
    assert not list(output.glob("runs/*/*"))


def test_a_name_that_is_none(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--name"):
        score_lists(tmp_path / "x.csv", "../x", load_settings("Pop", str(data)), tmp_path)
    with pytest.raises(InputError, match="expected lists as"):
        score_lists(tmp_path / "x.csv", "x", load_settings("Pop", str(data)), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file"):
        score_lists(tmp_path / "x.csv", "x", load_settings("Pop", str(data)), tmp_path / "file")
