"""What a trained run recommends: the best items for users of its data and for new sequences."""

import copy
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import torch
from recbole.data.interaction import Interaction

from mos_recbole.data import Segments, Sequences
from mos_recbole.data.sequences import read_rows
from mos_recbole.errors import InputError, nearest
from mos_recbole.evaluation import top_lists, top_lists_by_scores
from mos_recbole.experiment.build import faults_of_others
from mos_recbole.heads import MixtureHead
from mos_recbole.io import atomic_write, os_errors_as_input_errors, require_regular
from mos_recbole.models import CausalEncoder, EncoderHeadRecommender
from mos_recbole.progress import ProgressBar
from mos_recbole.training import QuerySet, excluded_items, queries_of, query_scores, score_batch_size
from mos_recbole.training.prefixes import Fields

if TYPE_CHECKING:
    from mos_recbole.experiment.load import TrainedRun

_log = logging.getLogger(__name__)

SUFFIXES = (".csv", ".parquet", ".jsonl")
# Queries whose lists are made before the next are read.
_BLOCK = 2**13
# Sequences that an encoder is given at a time: it may need many times their memory.
_MOST_ENCODED = 2**10
# How many users a model is asked about, and how many items, to see whether it tells users apart.
_PROBED_USERS = 8
_PROBED_ITEMS = 8

Side = Literal["valid", "test"]
# Where a query comes from, for messages; its name; the names of its items.
NamedSequence = tuple[str, Any, Sequence[Any]]


@dataclass(frozen=True)
class QueryBlock:
    """Queries with what they have seen.

    Attributes:
        names: of the queries, as they are given out.
        user_B: int64 [B], users' ids; 0 for a new user.
        items: int32, the histories one after the other, the oldest item first.
        length_B: int64 [B], of the histories.
    """

    names: pa.Array
    user_B: np.ndarray
    items: np.ndarray
    length_B: np.ndarray


class Recommender:
    """Gives the best items of queries, and their scores: log-probabilities, or for RecBole's own classes what they say.

    Padding and items that the run's protocol takes out of the candidates are never recommended. Items with equal scores
    come in the order of their names.

    Args:
        run: the trained run.
        k: items a query.
        filter_seen: whether items of a query's history are left out; None for as in the run.

    Raises:
        InputError: k is not among 1 and the number of candidates; of all methods, a plugin's code that fails.
    """

    @torch.no_grad()
    def __init__(self, run: "TrainedRun", k: int, filter_seen: bool | None = None) -> None:
        self.run, self.k = run, k
        self.filter_seen = run.protocol.filter_seen if filter_seen is None else filter_seen
        self.device, self.fields = run.config["device"], Fields.of(run.config)
        self.excluded_V = excluded_items(run.data, run.split, run.protocol, self.device)
        n_candidates = run.data.item_num - 1 - (0 if self.excluded_V is None else int(self.excluded_V[1:].sum()))
        if not 1 <= k <= n_candidates:
            raise InputError(f"k is {k}; expected 1 to {n_candidates}, the number of items that can be recommended")
        names_V = run.data.field2id_token[run.data.iid_field]
        self.item_names = pa.array(names_V)
        self.name_order_V = torch.from_numpy(np.argsort(np.argsort(names_V))).to(self.device)
        self.scorer: Any = None
        if isinstance(run.model, EncoderHeadRecommender):
            head = run.model.head
            if isinstance(head, MixtureHead):
                head.loss_impl = "auto"  # Triton's counter of ranks has no log-probabilities of lists
            with self._faults():
                self.scorer = head.scorer(run.model.item_table)

    @torch.no_grad()
    def lists(self, block: QueryBlock) -> pa.RecordBatch:
        """Returns the columns query, rank from 1, item and score, query by query; fewer than k rows for a query with
        fewer candidates."""
        return self._table({"query": block.names}, *self._by_batches(block, self._lists))

    @torch.no_grad()
    def held_out_lists(self, side: Side) -> Iterator[pa.RecordBatch]:
        """Yields the lists of a side's queries, with a column `position` beside the user's name; see `recommend`."""
        run, segments = self.run, getattr(self.run.split, side)
        queries = queries_of(run.config, run.data, segments, self.filter_seen, self.excluded_V, self.device)
        rows, segment = segments.targets()
        if not len(rows):
            raise InputError(f"the split {run.protocol.split['name']!r} of the run holds out nothing for {side}")
        if queries.seen is not None:
            query, item = queries.seen
            is_other = item != torch.from_numpy(run.data.sequences.items[rows]).to(item)[query]
            queries = replace(queries, seen=(query[is_other], item[is_other]))
        user, position = segments.user[segment], rows - run.data.sequences.offsets[segments.user[segment]]
        names = np.asarray(run.data.id2token(run.data.uid_field, run.data.sequences.users[user]))
        # In the run's batches, so that scores are rounded as they were there.
        size = score_batch_size(run.model, run.config, queries.n_items)
        items_Nk, scores_Nk = queries.by_batches(size, partial(self._lists, queries))
        for index in torch.arange(len(queries)).split(size):
            named = {"query": pa.array(names[index]), "position": pa.array(position[index])}
            yield self._table(named, items_Nk[index], scores_Nk[index])

    def _table(self, named: dict[str, pa.Array], items: torch.Tensor, scores: torch.Tensor) -> pa.RecordBatch:
        """Returns lists [B, k], 0 where one is shorter, under what names their queries."""
        item_Bk, score_Bk = items.cpu().numpy(), scores.cpu().numpy()
        query, place = np.nonzero(item_Bk)
        return pa.record_batch(
            {name: column.take(pa.array(query)) for name, column in named.items()}
            | {
                "rank": (place + 1).astype(np.int32),
                "item": self.item_names.take(pa.array(item_Bk[query, place])),
                "score": score_Bk[query, place],
            }
        )

    def head_queries(self, block: QueryBlock) -> tuple[torch.Tensor, ...]:
        """Returns what the head's scorer takes of queries, see `heads.OutputHead.queries`."""
        return self._by_batches(block, lambda queries, index: self._head_queries(queries.batch(index, self.fields)))

    def _by_batches(
        self, block: QueryBlock, function: Callable[[QuerySet, torch.Tensor], tuple[torch.Tensor, ...]]
    ) -> tuple[torch.Tensor, ...]:
        """Returns a function of queries and their numbers, batch by batch."""
        queries = self._queries(block)
        step = min(score_batch_size(self.run.model, self.run.config, queries.n_items), _MOST_ENCODED)
        return queries.by_batches(step, partial(function, queries))

    def _faults(self) -> AbstractContextManager[None]:
        return faults_of_others(type(self.run.model), "used")

    def _head_queries(self, batch: Interaction) -> tuple[torch.Tensor, ...]:
        with self._faults():
            queries: tuple[torch.Tensor, ...] = self.run.model.head.queries(self.run.model(batch))
            return queries

    def _queries(self, block: QueryBlock) -> QuerySet:
        """Returns the queries as those of a side of a split, whose targets are not known: 0."""
        n_queries = len(block.length_B)
        offsets = np.concatenate([[0], np.cumsum(block.length_B + 1)])
        items = np.zeros(offsets[-1], dtype=np.int32)
        items[np.arange(len(block.items)) + np.repeat(np.arange(n_queries), block.length_B)] = block.items
        data = copy.copy(self.run.data)
        data.sequences = Sequences(items, np.zeros(0, dtype=np.int64), offsets, block.user_B)
        place = np.arange(n_queries, dtype=np.int32)
        segments = Segments(place, offsets[:-1], offsets[1:] - 1, offsets[1:])
        return queries_of(self.run.config, data, segments, self.filter_seen, self.excluded_V, self.device)

    def _lists(self, queries: QuerySet, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch = queries.batch(index, self.fields)
        seen = queries.seen_by(index)
        if self.scorer is None:
            scores_BV = query_scores(self.run.model, self.run.config, batch, queries.n_items)
            return top_lists_by_scores(scores_BV, self.k, self.name_order_V, seen, self.excluded_V)
        with self._faults():
            return top_lists(self.scorer, self._head_queries(batch), self.k, self.name_order_V, seen, self.excluded_V)

    @torch.no_grad()
    def require_no_user(self) -> None:
        """Checks that the model can answer for users that it does not know.

        Raises:
            InputError: the scores for one and the same sequence differ by user: of one item, or of several, which a
                user's vector can weigh.
        """
        model, n_users = self.run.model, min(_PROBED_USERS, self.run.data.user_num)
        if isinstance(model, EncoderHeadRecommender) and isinstance(model.encoder, CausalEncoder):
            return
        users = np.arange(n_users)
        for length in (1, min(_PROBED_ITEMS, self.run.data.item_num - 1)):
            items = np.tile(np.arange(1, length + 1, dtype=np.int32), n_users)
            queries = self._queries(QueryBlock(pa.array(users), users, items, np.full(n_users, length)))
            # One by one, because the rounding of a product may differ by row.
            scores = [self._scores(queries.batch(torch.tensor([user]), self.fields)) for user in range(n_users)]
            if not all(torch.equal(scores[0], other) for other in scores):
                raise InputError(
                    f"{self.run.config['model']} scores items for users that it knows, not for new users or sequences; "
                    "expected users of the run's data (--users or --all-users)"
                )

    def _scores(self, batch: Interaction) -> torch.Tensor:
        if self.scorer is None:
            return query_scores(self.run.model, self.run.config, batch, self.run.data.item_num)
        with self._faults():
            scores: torch.Tensor = self.run.model.full_sort_predict(batch)
            return scores


def recommend(
    run: "TrainedRun",
    sequences: Iterable[NamedSequence] | None = None,
    users: Sequence[str] | None = None,
    k: int = 10,
    filter_seen: bool | None = None,
    strict: bool = False,
    held_out: Side | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yields the lists of `Recommender.lists`, a few thousand queries at a time.

    Args:
        run, k, filter_seen: as of `Recommender`.
        sequences: new ones.
        users: names of users of the data, who are recommended what could follow their last item; without sequences,
            None for all.
        strict: whether an item that the run does not know is an error; else it is left out of its sequence, and how
            many they were is logged.

    Raises:
        InputError: k; users that are unknown or named twice; an empty sequence; a name twice; an unknown item and
            `strict`; sequences of which no item is known; new sequences and a model that has to know the user; a side
            without queries, or validation's where a final fit learned from it.
    """
    if held_out == "valid" and run.config["final_fit"] != "none":
        raise InputError(
            f"the run's final_fit is {run.config['final_fit']}: its model has learned from the targets of validation; "
            "expected test"
        )
    recommender = Recommender(run, k, filter_seen)
    if sequences is not None:
        recommender.require_no_user()
        blocks = _sequence_blocks(run, sequences, strict)
    else:
        blocks = user_blocks(run, users)
    lists = map(recommender.lists, blocks) if held_out is None else recommender.held_out_lists(held_out)
    with ProgressBar("recommending", None, "queries") as bar:
        for batch in lists:
            yield batch
            bar.advance(int((batch.column("rank").to_numpy() == 1).sum()))


def user_blocks(run: "TrainedRun", users: Sequence[str] | None) -> Iterator[QueryBlock]:
    """Yields all users of the data, or those of these names, with all their interactions.

    Of a user whose rows have lists, that is the list of the last row, and its target.
    """
    flat, names = run.data.sequences, pa.array(run.data.field2id_token[run.data.uid_field])
    place_U = _last_rows(flat.users)[1] if users is None else _places(run, users)
    for start in range(0, len(place_U), _BLOCK):
        place_B = place_U[start : start + _BLOCK]
        first_B, stop_B, user_B = flat.offsets[place_B], flat.offsets[place_B + 1], flat.users[place_B]
        if (first_B[1:] == stop_B[:-1]).all():
            items = read_rows(flat.items, int(first_B[0]), int(stop_B[-1]))
        else:
            items = np.concatenate([flat.items[first:stop] for first, stop in zip(first_B, stop_B, strict=True)])
        yield QueryBlock(names.take(pa.array(user_B)), user_B.astype(np.int64), items, stop_B - first_B)


def _places(run: "TrainedRun", users: Sequence[str]) -> np.ndarray:
    """Returns where the sequences of users are among those of the data, int64."""
    number_of, asked = run.data.field2token_id[run.data.uid_field], [str(user) for user in users]
    if not asked:
        raise InputError("no users; expected the name of a user or more, or None for all")
    unknown = [user for user in asked if not number_of.get(user)]
    if unknown:
        more = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        hint = (
            nearest(unknown[0], (name for name, number in number_of.items() if number))
            or "a new user's items are given by sequences"
        )
        raise InputError(f"user {unknown[0]!r}{more}: not in the data of the run; {hint}")
    if len(set(asked)) < len(asked):
        raise InputError(f"user {_first_repeated(asked)!r} is named twice; expected every user once")
    number_U, place_U = _last_rows(run.data.sequences.users)
    return place_U[np.searchsorted(number_U, [number_of[user] for user in asked])]


def _last_rows(users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the users, ascending, and where each one's last sequence is; only those of lists have several."""
    number_U, from_end_U = np.unique(users[::-1], return_index=True)
    return number_U, len(users) - 1 - from_end_U


def _first_repeated(names: Sequence[str]) -> str:
    known: set[str] = set()
    return next(name for name in names if name in known or known.add(name))  # type: ignore[func-returns-value]


def _sequence_blocks(run: "TrainedRun", sequences: Iterable[NamedSequence], strict: bool) -> Iterator[QueryBlock]:
    """Yields new sequences, without unknown items; those of which nothing is left have no list."""
    number_of, queries = run.data.field2token_id[run.data.iid_field], iter(sequences)
    given: set[int] = set()
    n_unknown, n_left_out, example, n_queries = 0, 0, "", 0
    while chunk := list(islice(queries, _BLOCK)):
        names, lengths, items = [], [], []
        for where, name, sequence in chunk:
            if isinstance(sequence, str) or not len(sequence):
                raise InputError(
                    f"{where}: {sequence!r} is no sequence; expected a list with the name of an item or more"
                )
            # A million names themselves would take too much memory; as numbers, -1 and -2 have one hash.
            if (key := hash(str(name))) in given:
                raise InputError(f"{where}: the query {name!r} comes twice; expected names that differ")
            given.add(key)
            given_items = [str(item) for item in sequence]
            numbers = [number_of.get(item, 0) for item in given_items]
            known = [number for number in numbers if number]
            if len(known) < len(numbers):
                example = example or f"{where}: item {given_items[numbers.index(0)]!r}"
                if strict:
                    raise InputError(f"{example} is not in the data of the run; without --strict it is left out")
                n_unknown += len(numbers) - len(known)
            if known:
                names.append(name)
                lengths.append(len(known))
                items.extend(known)
            else:
                n_left_out += 1
        n_queries += len(names)
        if names:
            length_B = np.array(lengths, dtype=np.int64)
            yield QueryBlock(_name_array(names), np.zeros_like(length_B), np.array(items, dtype=np.int32), length_B)
    if not n_queries:
        raise InputError(f"{example} and all others are not in the data of the run" if example else "no sequences")
    if n_unknown:
        none_left = f"; {n_left_out:,} sequences have no other and get no list" if n_left_out else ""
        _log.warning(f"{n_unknown:,} unknown items left out, the first in {example}{none_left}")


def _name_array(names: list[Any]) -> pa.Array:
    try:
        return pa.array(names)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        raise InputError("names of sequences are of several kinds; expected text alone, or numbers alone") from None
    except (UnicodeEncodeError, OverflowError) as error:
        raise InputError(f"a name of a sequence is neither text nor a number of 64 bits: {error}") from None


def named_sequences(sequences: Iterable[Sequence[Any]] | Mapping[Any, Sequence[Any]]) -> Iterator[NamedSequence]:
    """Yields sequences by the names of a mapping, or numbered from 0."""
    pairs = sequences.items() if isinstance(sequences, Mapping) else enumerate(sequences)
    return ((f"sequence {name!r}", name, sequence) for name, sequence in pairs)


def read_sequences(path: Path) -> Iterator[NamedSequence]:
    """Yields the sequences of a file, a line each, by their lines' numbers or their names.

    A line has items' names with spaces between them; in a file that ends in .jsonl, a list of names, or an object with
    the list as "items" and the query's name as "query".

    Raises:
        InputError: the file cannot be read, or a line is none of these.
    """
    with os_errors_as_input_errors(path, "a file with a sequence a line"):
        require_regular(path)
    with os_errors_as_input_errors(path, "a file with a sequence a line"), path.open(encoding="utf-8-sig") as file:
        try:
            for number, line in enumerate(file, start=1):
                where = f"{path}, line {number}"
                name, items = str(number), line.split()
                if path.suffix == ".jsonl":
                    name, items = _parse_json(where, name, line)
                yield where, name, items
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not text in UTF-8: {error.reason}; expected a sequence a line") from error


def _parse_json(where: str, name: str, line: str) -> tuple[str, list[Any]]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists in lists in lists
        raise InputError(f"{where}: not JSON: {getattr(error, 'msg', error)}") from error
    if isinstance(found, dict):
        name, found = str(found.get("query", name)), found.get("items")
    if not isinstance(found, list) or not all(isinstance(item, str | int) for item in found):
        raise InputError(f'{where}: expected ["item", ...] or {{"query": "name", "items": ["item", ...]}}')
    return name, found


def write_lists(lists: Iterable[pa.RecordBatch], path: Path) -> int:
    """Writes lists to a file as its ending says, as a whole or not at all; returns how many rows they have.

    Raises:
        InputError: the file system refuses; or the lists cannot be made.
    """
    place = os_errors_as_input_errors(path, "a place that can be written to")
    with place, atomic_write(path) as temporary, temporary.open("wb") as file:
        return write_rows(lists, file, path.suffix)


def write_rows(lists: Iterable[pa.RecordBatch], file: BinaryIO, suffix: str) -> int:
    """Writes lists in the format of a suffix, one of `SUFFIXES`, and returns how many rows they have."""
    writer: Any = None
    n_rows = 0
    for batch in lists:
        if suffix == ".csv":
            batch.to_pandas().to_csv(file, index=False, header=not n_rows)
        elif suffix == ".jsonl":
            batch.to_pandas().to_json(file, orient="records", lines=True, double_precision=15)
        else:
            writer = writer or pa.parquet.ParquetWriter(file, batch.schema)
            writer.write_batch(batch)
        n_rows += len(batch)
    if writer is not None:
        writer.close()
    return n_rows


def lists_frame(lists: Iterable[pa.RecordBatch]) -> pd.DataFrame:
    """Returns lists as one table with the columns query, rank, item and score."""
    return pa.Table.from_batches(lists).to_pandas()
