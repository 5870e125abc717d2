"""Somebody else's recommended lists, evaluated by our protocol: a record like that of a run."""

import csv
import hashlib
import logging
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mos_recbole.analysis import list_notes
from mos_recbole.errors import InputError
from mos_recbole.evaluation import TargetRanks, compute_metrics, metric_direction, needs_top_items, parse_metric
from mos_recbole.experiment.identity import code_version, git_commit, protocol_hash, versions
from mos_recbole.experiment.outcomes import outcomes_table
from mos_recbole.experiment.run_data import RunData, in_history
from mos_recbole.io import require_regular, require_writable
from mos_recbole.progress import ProgressBar, tracked
from mos_recbole.results import (
    NO_DEVICE,
    OUTCOMES_FILE,
    RUNS_FOLDER,
    Metric,
    RunResult,
    run_files_sha256,
    run_identity,
    write_outcomes,
)
from mos_recbole.settings import Settings

_log = logging.getLogger(__name__)

# Queries whose lists are in memory at a time.
_QUERIES = 2**12
_TREC = ["user", "_", "item", "rank", "score", "_tag"]
_ALIASES = {"user_id": "user", "query": "user", "qid": "user", "item_id": "item", "docid": "item"}
_MOST_POSITIONS = 2**31 - 1
# What of a run's settings says how lists are evaluated, beside what decides about the data.
_KEPT_SETTINGS = ("filter_seen", "tie_rule", "tail_ratio", "seed", "MAX_ITEM_LIST_LENGTH")


def read_lists(path: Path) -> pd.DataFrame:
    """Returns the rows of a file of lists: user and item as text, and rank or score or both; a position if it has one.

    Args:
        path: .csv, .tsv, .parquet or .jsonl with these columns, or a run file of TREC (user Q0 item rank score name).
            `position` is the target's number in the user's sequence, from 0, and makes a list that of one query.

    Raises:
        InputError: the file is missing, broken or empty, a column is missing, a list is empty or has an item twice.
    """
    text = dict.fromkeys(("user", "item", *_ALIASES), str)
    # Scores as they were written: what is equal is a tie.
    # Rows with more fields than the header are faults, and their first field is no index.
    options: dict[str, Any] = {"keep_default_na": False, "na_values": [""], "float_precision": "round_trip"}
    options |= {"index_col": False, "dtype": text}
    try:
        require_regular(path)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            match path.suffix:
                case ".parquet":
                    table = pd.read_parquet(path)
                case ".jsonl":
                    table = pd.read_json(path, lines=True, dtype=False, precise_float=True)
                case ".csv" | ".tsv":
                    table = pd.read_csv(path, sep="," if path.suffix == ".csv" else "\t", **options)
                case _:
                    table = pd.read_csv(path, sep=r"\s+", header=None, names=_TREC, quoting=csv.QUOTE_NONE, **options)
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise InputError(f"{path}: {error}; expected lists as .csv, .tsv, .parquet, .jsonl, or a TREC run") from error
    for name in ("user", "item"):
        if name not in table and len(found := [old for old in table if _ALIASES.get(str(old)) == name]) > 1:
            raise InputError(
                f"{path}: which is the {name}, {' or '.join(map(str, found))}? Expected one, or a column {name}"
            )
    table = table.rename(columns={old: new for old, new in _ALIASES.items() if new not in table})
    orders = [column for column in ("rank", "score") if column in table]
    query = ["user", *(["position"] if "position" in table else [])]
    if missing := [column for column in ("user", "item") if column not in table] or (
        [] if orders else ["rank or score"]
    ):
        raise InputError(f"{path}: no column {' and '.join(missing)}; it has {', '.join(map(str, table))}")
    if not len(table):
        raise InputError(f"{path}: no lists")
    if (empty := table["user"].notna() & table["item"].isna()).any():
        raise InputError(f"{path}: an empty list: {_examples(table['user'][empty])}")
    table = table[[*query, "item", *orders]]
    numbers = [*query[1:], *orders]
    if table.isna().any(axis=None) or not all(map(_is_number, (table[column] for column in numbers))):
        raise InputError(f"{path}: a user, position, rank or score is missing or no number")
    if "position" in table and (table["position"] % 1 != 0).any():
        raise InputError(f"{path}: a position is no whole number")
    if "position" in table and not table["position"].between(0, _MOST_POSITIONS).all():
        raise InputError(f"{path}: a position is not from 0 to {_MOST_POSITIONS:,}")
    table = table.astype({"user": str, "item": str})
    if (twice := table.duplicated([*query, "item"])).any():
        raise InputError(f"{path}: an item twice in the list of {_examples(table['user'][twice])}")
    return table


def _is_number(column: pd.Series) -> bool:
    types = pd.api.types
    return types.is_numeric_dtype(column) and not types.is_bool_dtype(column)


@dataclass(frozen=True)
class _Lists:
    """Lists one after the other, the best item first: test query number q has the rows start[q] to stop[q].

    Attributes:
        n_lists, n_unused: how many there are, and how many of them are of no test query.
        shared: whether there are lists of users, which stand for all of their queries.
    """

    start: np.ndarray
    stop: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    n_lists: int
    n_unused: int
    shared: bool


def score_lists(path: Path, name: str, settings: Settings, output: Path = Path("results")) -> RunResult:
    """Returns the record of lists, evaluated like a run's; it is written among the runs of a results folder.

    Where there are scores, lists are ordered by them, and equal ones are ties; else by their ranks. Items that the
    protocol rules out are passed over. A target that its list lacks is a miss, at every cut-off.

    Args:
        path: of the lists (`read_lists`).
        name: that tables call the model.
        settings: of a run of any model with the data, the split and the protocol. The setting `seed` tells lists of one
            model apart.
        output: the results folder.

    Raises:
        InputError: as `read_lists`; unknown users or items; a name that no file can have; no query with a list; or a
            metric of lists that are shorter than its cut-off.
    """
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise InputError(f"--name {name!r}: expected letters, digits and . + - _, as in SASRec-RecTools")
    if "Loss" in settings.metric_names:
        raise InputError(f"{path}: lists have no log-probabilities, of which Loss is; expected metrics of ranks alone")
    require_writable(output)
    with ProgressBar(f"reading {path.name}"):
        table = read_lists(path)
    data = RunData(settings, torch.device("cpu"))
    if settings.values["final_fit"] != "none":
        data = data.for_final_fit()
    lists = _numbered(path, table, data)
    cut_offs = {metric: parse_metric(metric)[1] or 0 for metric in settings.metric_names}
    ranks, list_length = _ranks(path, lists, data, max(settings.kept_items, *cut_offs.values()))
    assert ranks.top_items is not None
    longest = ranks.top_items.shape[1]
    if of_lists := [metric for metric, k in cut_offs.items() if k > longest and needs_top_items(metric)]:
        raise InputError(f"{path}: no list has more than {longest} items; {', '.join(of_lists)} need more")
    rank, mean_rank = (ranks.ranks(rule).numpy() for rule in (data.protocol.tie_rule, "mean"))
    top = data.lists("test", ranks.top_items.numpy(), settings.metric_names)
    test, _ = compute_metrics(settings.metric_names, rank, mean_rank, ranks.n_candidates.numpy(), top)
    recorded = {**settings.data_settings, **{key: settings.values[key] for key in _KEPT_SETTINGS}}
    recorded |= {"model": name, "dataset": settings.dataset, **data.protocol.split}
    recorded = {key: value for key, value in recorded.items() if key not in ("data_path", "name")}
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    run_id = run_identity(recorded, data.fingerprint, content, {"name": name})
    folder = output / RUNS_FOLDER / f"{name}-{settings.dataset}-seed{recorded['seed']}-{run_id}"
    require_writable(folder)
    outcomes, top_items = outcomes_table(data, recorded["MAX_ITEM_LIST_LENGTH"], ranks, False)
    outcomes["list_length"] = list_length
    for note in list_notes(outcomes, settings.metric_names):
        _log.warning(note)
    write_outcomes(folder / OUTCOMES_FILE, outcomes, top_items)
    record = _record(run_id, recorded, settings, data, test, run_files_sha256(folder))
    record.write(folder)
    return record


def _record(
    run_id: str,
    recorded: dict[str, Any],
    settings: Settings,
    data: RunData,
    test: dict[str, float],
    files: dict[str, str],
) -> RunResult:
    """Returns the record; nothing is known of how the lists were made."""
    return RunResult(
        run_id=run_id,
        protocol_hash=protocol_hash(data.protocol, data.fingerprint),
        protocol=vars(data.protocol),
        model=recorded["model"],
        split_leakage=settings.split.leakage,
        dataset=settings.dataset,
        seed=recorded["seed"],
        settings=recorded,
        data=data.summary.as_dict() | {"fingerprint": data.fingerprint},
        parameters=0,
        epochs=0,
        best_epoch=0,
        final_fit=settings.values["final_fit"],
        valid_metric=settings.values["valid_metric"],
        asked_metrics=list(settings.asked_metrics),
        valid={},
        test={key: Metric(value=value, direction=metric_direction(key)) for key, value in test.items()},
        train_seconds=0.0,
        eval_seconds=0.0,
        wall_seconds=0.0,
        peak_memory_bytes={},
        resumed=False,
        device=NO_DEVICE,
        threads=1,
        versions=versions(),
        code=code_version(),
        git_commit=git_commit(),
        files=files,
        finished=datetime.now(UTC).isoformat(timespec="microseconds"),
    )


def _numbered(path: Path, table: pd.DataFrame, data: RunData) -> _Lists:
    """Returns the lists of the test queries by the data's numbers of users and items."""
    dataset, numbers = data.dataset, {}
    table = _with_positions(table, dataset.field2token_id[dataset.uid_field])
    for column, field in (("user", dataset.uid_field), ("item", dataset.iid_field)):
        numbers[column] = table[column].map(dataset.field2token_id[field])
        if (unknown := numbers[column].isna() | (numbers[column] == 0)).any():
            examples = _examples(table[column][unknown])
            raise InputError(f"{path}: the data {dataset.dataset_name} have no {column} {examples}")
    # Only their order counts. As places in it, unsigned numbers have negatives, and large ones differ.
    places, _ = pd.factorize(table["score" if "score" in table else "rank"], sort=True)
    scores = places if "score" in table else -places
    beside = table["rank"] if "rank" in table else np.arange(len(table))
    user, item = numbers["user"].to_numpy(int), numbers["item"].to_numpy(int)
    rows, segment = data.split.test.targets()
    number = data.split.test.user[segment]
    key, key_Q = user, dataset.sequences.users[number].astype(np.int64)
    if "position" in table:
        position, position_Q = table["position"].to_numpy(int), rows - dataset.sequences.offsets[number]
        length = 1 + max(position.max(), position_Q.max())
        key, key_Q = key * length + position, key_Q * length + position_Q
    order = np.lexsort((beside, -scores, key))
    start, stop = (np.searchsorted(key[order], key_Q, side=side) for side in ("left", "right"))
    lists = np.unique(key)
    n_unused = len(np.setdiff1d(lists, key_Q))
    return _Lists(start, stop, item[order], scores[order], len(lists), n_unused, "position" not in table)


def _with_positions(table: pd.DataFrame, users: Mapping[str, int]) -> pd.DataFrame:
    """Returns the table with the positions that stand behind the users' names, "196:12", where all are so."""
    if "position" in table or not table["user"].str.fullmatch(r".+:\d{1,10}").all() or table["user"].isin(users).all():
        return table
    parts = table["user"].str.rpartition(":")
    return table.assign(user=parts[0], position=parts[2].astype(int))


def _ranks(path: Path, lists: _Lists, data: RunData, top_k: int) -> tuple[TargetRanks, np.ndarray]:
    """Returns the targets' ranks in the lists of their queries, with the lists without what is no candidate, and how
    many candidates these hold, int64 [Q]."""
    sequences, queries = data.dataset.sequences, data.test_queries()
    rows, segment = data.split.test.targets()
    number = data.split.test.user[segment]
    user, target = sequences.users[number], sequences.items[rows].astype(np.int64)
    length = lists.stop - lists.start
    _tell(path, lists, user, length)
    is_excluded = np.zeros(data.dataset.item_num, dtype=bool)
    if queries.excluded_V is not None:
        is_excluded |= queries.excluded_V.numpy()
    n_candidates = np.full(len(rows), (~is_excluded[1:]).sum(), dtype=np.int64)
    if queries.seen is not None:
        query, item = (tensor.numpy() for tensor in queries.seen)
        counted = (item != target[query]) & ~is_excluded[item] & (item != 0)
        pair = np.unique(query[counted] * len(is_excluded) + item[counted])
        n_candidates -= np.bincount(pair // len(is_excluded), minlength=len(rows))
    width = min(top_k, int(length.max()))
    better, tied, list_length = n_candidates.copy(), np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    top = np.zeros((len(rows), width), dtype=np.int32)
    for begin in tracked(range(0, len(rows), _QUERIES), "ranking", f"blocks of {_QUERIES:,} queries"):
        part = slice(begin, begin + _QUERIES)
        place = np.arange(int(length[part].max()))
        there = place < length[part][:, None]
        at = np.where(there, lists.start[part][:, None] + place, 0)
        item, score, own = np.where(there, lists.items[at], 0), lists.scores[at], target[part][:, None]
        ruled_out = ~there | is_excluded[item]
        if data.protocol.filter_seen:
            ruled_out |= in_history(sequences, rows[part], number[part], item) & (item != own)
        is_target = (item == own) & ~ruled_out
        found, own_score = is_target.any(axis=1), np.where(is_target, score, 0).sum(axis=1)[:, None]
        n_better = (~ruled_out & (score > own_score)).sum(axis=1)
        n_tied = (~ruled_out & (score == own_score)).sum(axis=1) - 1
        better[part], tied[part] = np.where(found, n_better, better[part]), np.where(found, n_tied, 0)
        list_length[part] = (~ruled_out).sum(axis=1)
        in_order = np.argsort(ruled_out, axis=1, kind="stable")[:, :width]
        top[part, : in_order.shape[1]] = np.take_along_axis(np.where(ruled_out, 0, item), in_order, axis=1)
    ranks = TargetRanks(
        better=torch.from_numpy(better),
        tied=torch.from_numpy(tied),
        n_candidates=torch.from_numpy(n_candidates),
        target_score=torch.full((len(rows),), torch.nan),
        top_items=torch.from_numpy(top),
    )
    return ranks, np.where(is_excluded[target], n_candidates, list_length)


def _tell(path: Path, lists: _Lists, user: np.ndarray, length: np.ndarray) -> None:
    """Says which queries have no list and which lists have no query, and whether one serves several."""
    if not length.any():
        raise InputError(f"{path}: no test query has a list")
    if without := int((length == 0).sum()):
        _log.warning(f"{without:,} of {len(user):,} test queries have no list and count as misses")
    if lists.n_unused:
        _log.info(f"{lists.n_unused:,} of {lists.n_lists:,} lists are of no test query")
    if lists.shared and len(np.unique(user)) < len(user):
        _log.warning(
            "users have several test queries; each user's list stands for all of them. A column position, as in "
            f"{OUTCOMES_FILE}, gives a query its own"
        )


def _examples(names: Iterable[Any]) -> str:
    """Returns the first few of some names and how many more there are."""
    distinct = list(dict.fromkeys(map(str, names)))
    more = f" and {len(distinct) - 3:,} more" if len(distinct) > 3 else ""
    return ", ".join(map(repr, distinct[:3])) + more
